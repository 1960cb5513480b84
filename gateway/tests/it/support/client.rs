//! One connection as a client sees it.

use std::{fmt, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{PATIENCE, Request};

/// An answer, its body without framing.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case, in the order of the wire.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:?}\n{}",
            self.status,
            self.headers,
            String::from_utf8_lossy(&self.body)
        )
    }
}

impl Answer {
    /// The value of a header that may be there once.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, value)| &**value);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} twice: {self:?}");
        value
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// The text of the first element of that name.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.body);
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    }

    /// `<Code>` of an error.
    pub(crate) fn code(&self) -> Option<String> {
        self.element("Code")
    }

    pub(crate) fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// An answer that has not come, or not all of it.
#[derive(Debug)]
pub(crate) enum Cut {
    Before,
    /// All of it but its body, of which so many bytes came.
    Amid(Answer, usize),
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TlsStream<TcpStream>,
    host: String,
    patience: Duration,
    /// Read and not yet part of an answer.
    read: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: TlsStream<TcpStream>, host: String) -> Self {
        Self {
            stream,
            host,
            patience: PATIENCE,
            read: Vec::new(),
        }
    }

    /// Waits longer, for a gateway that has many to serve.
    pub(crate) fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sends what the gateway takes: once it has refused, it need not take the rest.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        drop(
            timeout(self.patience, sent)
                .await
                .expect("the gateway takes or refuses in time"),
        );
    }

    /// Puts back what was read of an answer.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        self.read.splice(..0, bytes.iter().copied());
    }

    /// Sends a signed request and gives its answer.
    pub(crate) async fn ask(&mut self, request: &Request) -> Answer {
        let bytes = request.bytes(&self.host);
        self.send(&bytes).await;
        self.answer_to(&request.method).await
    }

    /// The same. `Err` where the gateway breaks the connection off.
    pub(crate) async fn try_ask(&mut self, request: &Request) -> Result<Answer, Cut> {
        let bytes = request.bytes(&self.host);
        self.send(&bytes).await;
        self.next_answer(&request.method).await
    }

    /// The next answer, to a request of that method. An answer of 1xx is given as it comes.
    pub(crate) async fn answer_to(&mut self, method: &str) -> Answer {
        self.try_answer(method)
            .await
            .expect("an answer, not a closed connection")
    }

    /// The same; `None` where the connection is closed without one.
    pub(crate) async fn try_answer(&mut self, method: &str) -> Option<Answer> {
        match self.next_answer(method).await {
            Ok(answer) => Some(answer),
            Err(Cut::Before) => None,
            Err(Cut::Amid(answer, read)) => panic!("a body is cut off after {read} bytes: {answer:?}"),
        }
    }

    async fn next_answer(&mut self, method: &str) -> Result<Answer, Cut> {
        timeout(self.patience, self.read_answer(method))
            .await
            .expect("an answer in time")
    }

    async fn read_answer(&mut self, method: &str) -> Result<Answer, Cut> {
        let head = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break self.read.drain(..at + 4).collect::<Vec<_>>();
            }
            if !self.fill().await {
                assert!(
                    self.read.is_empty(),
                    "half an answer: {}",
                    String::from_utf8_lossy(&self.read)
                );
                return Err(Cut::Before);
            }
        };
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.").expect(&head)[2..5]
            .parse()
            .unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap_or((line, "")))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        let bodiless = method == "HEAD" || status < 200 || matches!(status, 204 | 304);
        if !bodiless {
            match self.read_body(&answer).await {
                Ok(body) => answer.body = body,
                Err(read) => return Err(Cut::Amid(answer, read)),
            }
        }
        Ok(answer)
    }

    /// `Err`: how many bytes came before it was cut off.
    async fn read_body(&mut self, answer: &Answer) -> Result<Vec<u8>, usize> {
        if let Some(length) = answer.header("content-length") {
            return self.take(length.parse().unwrap()).await;
        }
        if answer.header("transfer-encoding").is_none() {
            while self.fill().await {}
            return Ok(std::mem::take(&mut self.read));
        }
        let mut body = Vec::new();
        loop {
            let line = loop {
                match self.read.windows(2).position(|window| window == b"\r\n") {
                    Some(at) => break self.take(at + 2).await?,
                    None if self.fill().await => {}
                    None => return Err(body.len()),
                }
            };
            let size = usize::from_str_radix(str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            let mut chunk = self.take(size + 2).await.map_err(|read| body.len() + read)?;
            chunk.truncate(size);
            if chunk.is_empty() {
                return Ok(body);
            }
            body.extend(chunk);
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, usize> {
        while self.read.len() < length {
            if !self.fill().await {
                return Err(self.read.len());
            }
        }
        Ok(self.read.drain(..length).collect())
    }

    /// Reads some more; false at the end.
    async fn fill(&mut self) -> bool {
        let mut some = vec![0; 64 * 1024];
        match self.stream.read(&mut some).await {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.read.extend_from_slice(&some[..read]);
                true
            }
        }
    }

    /// After an answer: it announces that the connection ends, and it does; or there is none, and the connection is
    /// good for another request.
    #[track_caller]
    pub(crate) fn ends_well(&mut self, answer: &Answer) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        let closes = answer.closes();
        async move {
            if closes {
                assert!(self.is_closed().await, "{place}: announced to close, and stays");
            } else {
                let next = self.ask(&Request::get("/")).await;
                assert_eq!(next.status, 200, "{place}: the connection is in disorder: {next:?}");
            }
        }
    }

    /// Whether the gateway closes the connection, without another word.
    pub(crate) async fn is_closed(&mut self) -> bool {
        !timeout(PATIENCE, self.fill()).await.unwrap_or(true)
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_silent(&mut self, for_a_while: Duration) -> bool {
        timeout(for_a_while, self.fill()).await.is_err()
    }
}
