//! `t2gate health`: what a running gateway says of itself, for health checks where there is no other client.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use super::{failed, say, wrong_configuration};
use crate::config::{Config, Overrides};

/// For each step: connecting, sending, and each piece of the answer.
const TIMEOUT: Duration = Duration::from_secs(6);
/// Reasons are a line or two.
const MOST: u64 = 64 * 1024;

/// Asks the admin listener at `address`, or else at the one of the configuration.
pub(super) fn run(file: Option<&Path>, address: Option<&str>, ready: bool) -> ExitCode {
    let address = match address {
        Some(address) => address.to_owned(),
        None => match Config::load(file, &Overrides::default()) {
            Ok(config) => reachable(config.listen.admin_address).to_string(),
            Err(error) => return wrong_configuration(&error),
        },
    };
    let path = if ready { "/readyz" } else { "/healthz" };
    match ask(&address, path) {
        Ok(answer) => match parse(&answer) {
            Some((200, body)) => {
                say(format_args!("{body}\n"));
                ExitCode::SUCCESS
            }
            Some((status, body)) => failed(format_args!("{address}{path}: {status}: {body}")),
            None => failed(format_args!("{address}{path}: the answer is not HTTP")),
        },
        Err(error) => failed(format_args!("{address}{path}: {error}")),
    }
}

/// Where a listener on every address is reached from the same machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The whole answer, head and body. HTTP/1.0, so that it ends with the connection and has no framing.
fn ask(address: &str, path: &str) -> io::Result<String> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Status and body.
fn parse(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    Some((words.next()?.parse().ok()?, body.trim()))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    fn listener_that_answers(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /readyz HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn an_answer_is_its_status_and_what_it_says() {
        let address = listener_that_answers("HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\ndraining\n");
        assert_eq!(parse(&ask(&address, "/readyz").unwrap()), Some((503, "draining")));
    }

    #[test]
    fn nonsense_is_no_answer() {
        for nonsense in [
            "",
            "\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "SSH-2.0-x y\r\n\r\n",
            "HTTP/1.1 x\r\n\r\n",
        ] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn nobody_listening_is_an_error() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(ask(&address.to_string(), "/healthz").is_err());
    }

    #[test]
    fn every_address_is_asked_on_loopback() {
        for (listen, expected) in [
            ("0.0.0.0:8444", "127.0.0.1:8444"),
            ("[::]:1", "[::1]:1"),
            ("10.1.2.3:4", "10.1.2.3:4"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
        }
    }
}
