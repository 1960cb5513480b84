//! Finds the one host that a request is for, and with it the bucket and the key. The same host is signed and routed
//! by; a second one is never tried.

use http::{HeaderMap, header::HOST};
use ipnet::IpNet;

use super::{
    respond::Received,
    step::{Step, StepLayer},
};
use crate::{
    s3::{S3Error, S3ErrorCode, target::Target},
    server::ConnectionInfo,
};

/// A request whose host, bucket and key are known.
#[derive(Debug)]
pub struct Routed {
    pub received: Received,
    /// As the client sent it, with the port if it came with one: it is part of what was signed.
    pub host: String,
    pub target: Target,
}

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct Route {
    /// A host `<bucket>.<base domain>` names a bucket; any other host is path style. Lower case, without a port.
    pub base_domains: Vec<Box<str>>,
    /// Peers whose `X-Forwarded-Host` counts.
    pub trusted_proxies: Vec<IpNet>,
}

pub fn layer(route: Route) -> StepLayer<Route> {
    StepLayer::new(route)
}

impl Step<Received> for Route {
    type Next = Routed;

    fn step(&self, received: Received) -> Result<Routed, S3Error> {
        let host = self.effective_host(&received)?;
        let bucket = self.virtual_host_bucket(&host);
        let target = Target::parse(received.parts.uri.path(), bucket)?;
        if let Some(bucket) = &target.bucket {
            received.record.set_bucket(bucket.as_str().into());
        }
        if let Some(key) = &target.key {
            received.record.set_key(key.as_str().into());
        }
        Ok(Routed { received, host, target })
    }
}

fn bad_host(message: &'static str) -> S3Error {
    S3Error::new(S3ErrorCode::InvalidRequest, message)
}

impl Route {
    fn effective_host(&self, received: &Received) -> Result<String, S3Error> {
        let parts = &received.parts;
        let sent = single(&parts.headers, HOST.as_str())?;
        // The authority of an absolute target, or of HTTP/2.
        let authority = parts.uri.authority().map(http::uri::Authority::as_str);
        let host = match (sent, authority) {
            (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
                return Err(bad_host("The Host header and the request target name different hosts."));
            }
            (Some(host), _) => host,
            (None, Some(authority)) => authority,
            (None, None) => return Err(bad_host("Missing required header for this request: Host")),
        };
        let trusted = parts.extensions.get::<ConnectionInfo>().is_some_and(|connection| {
            let peer = connection.peer.ip().to_canonical();
            self.trusted_proxies.iter().any(|net| net.contains(&peer))
        });
        let forwarded = if trusted {
            single(&parts.headers, "x-forwarded-host")?
        } else {
            None
        };
        let host = forwarded.unwrap_or(host);
        let valid = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\\,".contains(&b));
        if valid {
            Ok(host.to_owned())
        } else {
            Err(bad_host("The Host header is not valid."))
        }
    }

    fn virtual_host_bucket<'a>(&self, host: &'a str) -> Option<&'a str> {
        let name = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(host, |(name, _)| name);
        let bucket_below = |domain: &str| {
            let split = name.len().checked_sub(domain.len())?;
            let (front, back) = (name.get(..split)?, name.get(split..)?);
            back.eq_ignore_ascii_case(domain).then_some(front)
        };
        // Of domains below each other the longest counts; one that is the host itself leaves the bucket to the path.
        let front = self
            .base_domains
            .iter()
            .filter_map(|domain| bucket_below(domain))
            .filter(|front| front.is_empty() || front.ends_with('.'))
            .min_by_key(|front| front.len())?;
        front.strip_suffix('.').filter(|bucket| !bucket.is_empty())
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, S3Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad_host("The request names its host more than once."));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| bad_host("The Host header is not valid."))
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use http::Request;
    use http_body_util::{BodyExt as _, Empty};

    use super::*;
    use crate::body::{BodyPace, BoxBody, RequestBody};

    fn routed(
        peer: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Result<(String, Option<String>, Option<String>), S3ErrorCode> {
        let route = Route {
            base_domains: vec!["s3.localhost".into(), "example.org".into(), "s3.example.org".into()],
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        };
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let peer: SocketAddr = peer.parse().unwrap();
        parts.extensions.insert(ConnectionInfo {
            peer,
            local: peer,
            tls_version: "TLSv1_3",
        });
        let pace = BodyPace {
            idle_timeout: Duration::from_secs(1),
            grace: Duration::from_secs(1),
            min_bytes_per_second: 0,
        };
        let body = RequestBody::new(BoxBody::new(Empty::new().map_err(|never| match never {})), pace);
        let received = Received {
            parts,
            body,
            record: crate::layer::record::RequestRecord::default(),
        };
        let routed = route.step(received).map_err(|error| error.code())?;
        Ok((routed.host, routed.target.bucket, routed.target.key))
    }

    fn some(host: &str, bucket: &str, key: &str) -> Result<(String, Option<String>, Option<String>), S3ErrorCode> {
        Ok((host.into(), Some(bucket.into()), Some(key.into())))
    }

    const STRANGER: &str = "192.0.2.1:1234";
    const PROXY: &str = "10.1.2.3:1234";

    #[test]
    fn a_bucket_comes_from_the_path_or_from_a_known_domain() {
        let host = |host| routed(STRANGER, "/bucket/key", &[("host", host)]);
        assert_eq!(host("127.0.0.1:8443"), some("127.0.0.1:8443", "bucket", "key"));
        assert_eq!(host("s3.localhost:8443"), some("s3.localhost:8443", "bucket", "key"));
        assert_eq!(host("my.other.host"), some("my.other.host", "bucket", "key"));
        assert_eq!(
            host("abc.s3.localhost:8443"),
            some("abc.s3.localhost:8443", "abc", "bucket/key")
        );
        assert_eq!(host("abc.Example.ORG"), some("abc.Example.ORG", "abc", "bucket/key"));
        assert_eq!(host("abcs3.localhost"), some("abcs3.localhost", "bucket", "key"));
    }

    #[test]
    fn of_base_domains_below_each_other_the_longest_counts() {
        let host = |host| routed(STRANGER, "/bkt/key", &[("host", host)]);
        assert_eq!(host("s3.example.org"), some("s3.example.org", "bkt", "key"));
        assert_eq!(host("S3.Example.org:443"), some("S3.Example.org:443", "bkt", "key"));
        assert_eq!(host("abc.s3.example.org"), some("abc.s3.example.org", "abc", "bkt/key"));
        assert_eq!(host("abc.example.org"), some("abc.example.org", "abc", "bkt/key"));
    }

    #[test]
    fn one_request_has_one_host() {
        let invalid = Err(S3ErrorCode::InvalidRequest);
        assert_eq!(routed(STRANGER, "/b/k", &[]), invalid);
        assert_eq!(routed(STRANGER, "/b/k", &[("host", "")]), invalid);
        assert_eq!(routed(STRANGER, "/b/k", &[("host", "a"), ("host", "a")]), invalid);
        assert_eq!(routed(STRANGER, "/b/k", &[("host", "a, b")]), invalid);
        assert_eq!(routed(STRANGER, "https://a/b/k", &[("host", "b")]), invalid);
        assert_eq!(
            routed(STRANGER, "https://a/bkt/k", &[("host", "a")]),
            some("a", "bkt", "k")
        );
        assert_eq!(routed(STRANGER, "https://a/bkt/k", &[]), some("a", "bkt", "k"));
    }

    #[test]
    fn only_a_trusted_peer_may_say_that_it_forwards() {
        let forwarded = [("host", "inner"), ("x-forwarded-host", "abc.example.org")];
        assert_eq!(routed(STRANGER, "/bkt/k", &forwarded), some("inner", "bkt", "k"));
        assert_eq!(
            routed(PROXY, "/bkt/k", &forwarded),
            some("abc.example.org", "abc", "bkt/k")
        );
        let twice = [("host", "inner"), ("x-forwarded-host", "a"), ("x-forwarded-host", "b")];
        assert_eq!(routed(PROXY, "/bkt/k", &twice), Err(S3ErrorCode::InvalidRequest));
        let listed = [("host", "inner"), ("x-forwarded-host", "a, b")];
        assert_eq!(routed(PROXY, "/bkt/k", &listed), Err(S3ErrorCode::InvalidRequest));
    }
}
