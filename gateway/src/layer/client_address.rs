//! Which address a request comes from, where proxies stand between.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// How many proxies in a row are believed. The headers are bounded, but a long list of trusted addresses in them is
/// nothing that occurs.
const MAX_PROXIES: usize = 32;

/// The peer, unless that is a trusted proxy: then the last address in `X-Forwarded-For` that is none.
///
/// Every proxy adds the address of its own peer at the end. So the list is read from there, for as long as whoever
/// wrote an entry is trusted; what stands before that may be anything, for the client itself may have sent it. An entry
/// that is no address ends the reading, and the proxy that passed it on counts as the client.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    // A second header continues the first.
    let entries = headers.get_all(X_FORWARDED_FOR).iter().rev().flat_map(|value| {
        // Bytes that are no text are no address either.
        let text = value.to_str().unwrap_or("?");
        text.rsplit(',').map(str::trim)
    });
    for entry in entries.take(MAX_PROXIES) {
        let Some(address) = parse(entry) else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// An address, with a port or without: some proxies write `192.0.2.1:4711` or `[2001:db8::1]:4711`.
fn parse(entry: &str) -> Option<IpAddr> {
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(entry);
    let address = bare
        .parse()
        .ok()
        .or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_stranger_is_himself_whatever_he_says() {
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("::ffff:192.0.2.1", &[]), "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_tells_for_whom_it_asks() {
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("fd00::1", &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(
            client("10.0.0.1", &["198.51.100.7, 10.0.0.9 ,10.0.0.8"]),
            "198.51.100.7"
        );
        assert_eq!(client("10.0.0.1", &["198.51.100.7", "10.0.0.9"]), "198.51.100.7");
    }

    #[test]
    fn what_the_client_sent_ahead_does_not_count() {
        assert_eq!(client("10.0.0.1", &["203.0.113.5, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            client("10.0.0.1", &["203.0.113.5", "198.51.100.7, 10.0.0.2"]),
            "198.51.100.7"
        );
        assert_eq!(client("10.0.0.1", &["10.0.0.5, 198.51.100.7"]), "198.51.100.7");
    }

    #[test]
    fn addresses_may_have_ports() {
        assert_eq!(client("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(client("10.0.0.1", &["[2001:db8::7]"]), "2001:db8::7");
    }

    #[test]
    fn nonsense_ends_the_reading() {
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[""]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7, unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7, \u{e9}", "10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &["10.0.0.7, 10.0.0.3"]), "10.0.0.7");
    }

    proptest! {
        #[test]
        fn never_panics(values in prop::collection::vec("\\PC{0,40}", 0..4)) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            client("10.0.0.1", &values);
        }
    }
}
