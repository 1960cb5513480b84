//! A TCP proxy before a store that speaks HTTP, which breaks what passes as it is told: never by time, always by which
//! request it is.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use t2gate_backends::OpendalOptions;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection ends, and the store has seen nothing.
    CutRequest,
    /// The connections end when the store has seen half of the body, or of the head where there is no body.
    CutBody,
    /// The store has done it, and has answered, and the connection ends.
    LoseReply,
    /// Half of the answer's body arrives, or of its head where there is no body.
    TruncateReply,
    /// The answer stops in the middle for a while, and goes on.
    Delay,
    /// The request arrives, nothing answers it, and the connection stays. The store has seen nothing.
    Stall,
    /// The request waits until it is [released](Proxy::release), and passes.
    Hold,
    /// Bodies pass in pieces, both ways, with a pause before each piece.
    Trickle,
    /// The proxy answers with this status, and the store has seen nothing.
    Answer(u16),
}

/// A request that has arrived.
#[derive(Debug)]
pub(super) struct Seen {
    /// Without the query.
    pub(super) path: String,
    /// The method and the names of the query: what kind of request it is.
    pub(super) kind: String,
    /// How many there were since the plan was made, this one among them.
    pub(super) number: u64,
    /// The same of this kind.
    pub(super) of_kind: u64,
}

type Plan = Box<dyn FnMut(&Seen) -> Option<Fault> + Send>;
type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    /// Called when the first fault takes place, before anybody can notice.
    hook: Option<Hook>,
    number: u64,
    kinds: HashMap<String, u64>,
    /// The kinds of the requests that were broken, with how.
    broken: Vec<(String, Fault)>,
}

/// Goes with the runtime that it was made in.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// How many connections there are.
    open: watch::Receiver<usize>,
    released: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub(super) async fn before(store: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let (counter, open) = watch::channel(0);
        let counter = Arc::new(counter);
        let (released, held) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let (counter, held) = (Arc::clone(&counter), held.clone());
                counter.send_modify(|open| *open += 1);
                tokio::spawn(async move {
                    // Whoever went away, went away.
                    serve(client, store, &state, held).await.ok();
                    counter.send_modify(|open| *open -= 1);
                });
            }
        });
        Self {
            address,
            state,
            open,
            released,
            accepting,
        }
    }

    /// Waits until all that its clients, which are gone, had sent has reached the store.
    pub(super) async fn delivered(&self) {
        // Connections are accepted in turn: when this one has ended, all before it are counted.
        let mut last = TcpStream::connect(self.address).await.unwrap();
        last.shutdown().await.unwrap();
        assert_eq!(last.read(&mut [0]).await.unwrap(), 0);
        self.open.clone().wait_for(|open| *open == 0).await.unwrap();
    }

    /// The store that these options name, by way of this proxy.
    pub(super) fn on_the_way(&self, store: SocketAddr, mut options: OpendalOptions) -> OpendalOptions {
        for (name, value) in &mut options.options {
            if name == "endpoint" {
                *value = value.replace(&store.to_string(), &self.address.to_string());
            }
        }
        options
    }

    /// From now on what `plan` says is broken. Counting begins anew.
    pub(super) fn plan(&self, plan: impl FnMut(&Seen) -> Option<Fault> + Send + 'static) {
        *self.state.lock().unwrap() = State {
            plan: Some(Box::new(plan)),
            ..State::default()
        };
    }

    /// The request of this number, counted from now, is broken.
    pub(super) fn break_one(&self, number: u64, fault: Fault) {
        self.plan(move |seen| (seen.number == number).then_some(fault));
    }

    /// The same, and `hook` is called when that takes place.
    pub(super) fn break_one_and(&self, number: u64, fault: Fault, hook: impl FnOnce() + Send + 'static) {
        self.break_one(number, fault);
        self.hook(hook);
    }

    /// Calls `hook` when the first fault of the plan takes place.
    pub(super) fn hook(&self, hook: impl FnOnce() + Send + 'static) {
        self.state.lock().unwrap().hook = Some(Box::new(hook));
    }

    /// All requests are broken in this way.
    pub(super) fn break_all(&self, fault: Fault) {
        self.plan(move |_| Some(fault));
    }

    /// One in `of` requests is broken, in any way. Which ones follows from the seed, and from how many of their kind there
    /// were before: so not from the order in which requests of different kinds happen to arrive.
    pub(super) fn break_some(&self, seed: u64, of: u64) {
        const FAULTS: [Fault; 7] = [
            Fault::CutRequest,
            Fault::CutBody,
            Fault::LoseReply,
            Fault::TruncateReply,
            Fault::Delay,
            Fault::Answer(503),
            Fault::Answer(429),
        ];
        self.plan(move |seen| {
            let mut hasher = DefaultHasher::new();
            (seed, &seen.kind, seen.of_kind).hash(&mut hasher);
            let chance = hasher.finish();
            let fault = usize::try_from(chance / of).unwrap() % FAULTS.len();
            chance.is_multiple_of(of).then_some(FAULTS[fault])
        });
    }

    /// What is [held](Fault::Hold) goes on, for good.
    pub(super) fn release(&self) {
        self.released.send_replace(true);
    }

    /// Nothing is broken from now on. Gives what was.
    pub(super) fn heal(&self) -> Vec<(String, Fault)> {
        std::mem::take(&mut *self.state.lock().unwrap()).broken
    }
}

fn decide(state: &Mutex<State>, head: &str) -> Option<Fault> {
    let kind = kind(head);
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let mut state = state.lock().unwrap();
    state.number += 1;
    let of_kind = state.kinds.entry(kind.clone()).or_default();
    *of_kind += 1;
    let seen = Seen {
        path,
        of_kind: *of_kind,
        number: state.number,
        kind,
    };
    let fault = state.plan.as_mut().and_then(|plan| plan(&seen))?;
    state.broken.push((seen.kind, fault));
    Some(fault)
}

fn take_place(state: &Mutex<State>) {
    let hook = state.lock().unwrap().hook.take();
    if let Some(hook) = hook {
        hook();
    }
}

/// How [`Fault::Trickle`] lets pass what it does.
const PIECE_BYTES: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(200);

async fn serve(
    client: TcpStream,
    store: SocketAddr,
    state: &Mutex<State>,
    mut held: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut client = BufReader::new(client);
    while let Some(head) = head(&mut client).await? {
        let method = head.split(' ').next().unwrap_or_default().to_owned();
        let fault = decide(state, &head);
        let body = body(&mut client, framing(&head, true), fault == Some(Fault::Trickle)).await?;
        match fault {
            Some(Fault::Stall) => {
                take_place(state);
                // Until the client goes away.
                client.read_to_end(&mut Vec::new()).await?;
                return Ok(());
            }
            Some(Fault::Hold) => {
                take_place(state);
                held.wait_for(|released| *released).await.ok();
            }
            Some(Fault::CutRequest) => {
                take_place(state);
                return Ok(());
            }
            Some(Fault::Answer(status)) => {
                take_place(state);
                let answer = format!("HTTP/1.1 {status} Broken\r\ncontent-length: 0\r\n\r\n");
                client.write_all(answer.as_bytes()).await?;
                continue;
            }
            _ => {}
        }
        // One for each request, so that none of the store's own is reused when it has ended.
        let mut store = BufReader::new(TcpStream::connect(store).await?);
        if fault == Some(Fault::CutBody) {
            if body.is_empty() {
                store.write_all(half(head.as_bytes())).await?;
            } else {
                store.write_all(head.as_bytes()).await?;
                store.write_all(half(&body)).await?;
            }
            take_place(state);
            return Ok(());
        }
        store.write_all(head.as_bytes()).await?;
        store.write_all(&body).await?;
        let (head, body) = answer(&mut store, &method).await?;
        match fault {
            Some(Fault::LoseReply) => {
                take_place(state);
                return Ok(());
            }
            Some(Fault::TruncateReply) => {
                if body.is_empty() {
                    client.write_all(half(head.as_bytes())).await?;
                } else {
                    client.write_all(head.as_bytes()).await?;
                    client.write_all(half(&body)).await?;
                }
                client.flush().await?;
                take_place(state);
                return Ok(());
            }
            Some(Fault::Delay) => {
                let (first, second) = head.as_bytes().split_at(head.len() / 2);
                client.write_all(first).await?;
                client.flush().await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
                client.write_all(second).await?;
            }
            _ => client.write_all(head.as_bytes()).await?,
        }
        let slowly = fault == Some(Fault::Trickle);
        for piece in body.chunks(PIECE_BYTES) {
            if slowly {
                tokio::time::sleep(PAUSE).await;
            }
            client.write_all(piece).await?;
            client.flush().await?;
        }
        client.flush().await?;
        if header(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return Ok(());
        }
    }
    Ok(())
}

fn half(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() / 2]
}

/// `PUT partNumber uploadId`
fn kind(head: &str) -> String {
    let mut words = head.split(' ');
    let mut kind = words.next().unwrap_or_default().to_owned();
    let query = words.next().and_then(|target| target.split_once('?'));
    for pair in query.map_or("", |(_, query)| query).split('&') {
        let name = pair.split('=').next().unwrap_or_default();
        // Azure's say by values what they are.
        let name = if name == "comp" { pair } else { name };
        if !name.is_empty() {
            kind.push(' ');
            kind.push_str(name);
        }
    }
    if header(head, "x-amz-copy-source").is_some() {
        kind.push_str(" copy");
    }
    kind
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.split("\r\n").skip(1);
    let mut pairs = lines.filter_map(|line| line.split_once(':'));
    let found = pairs.find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

enum Framing {
    Length(u64),
    Chunked,
    ToTheEnd,
}

fn framing(head: &str, is_request: bool) -> Framing {
    if header(head, "transfer-encoding").is_some() {
        Framing::Chunked
    } else if let Some(length) = header(head, "content-length") {
        Framing::Length(length.parse().unwrap())
    } else if is_request {
        Framing::Length(0)
    } else {
        Framing::ToTheEnd
    }
}

/// With the empty line. `None` where the peer has ended.
async fn head(from: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut head = String::new();
    loop {
        if from.read_line(&mut head).await? == 0 {
            return if head.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        if head.ends_with("\r\n\r\n") {
            return Ok(Some(head));
        }
    }
}

/// As it is on the wire. Only what has a length can be read `slowly`.
async fn body(from: &mut BufReader<TcpStream>, framing: Framing, slowly: bool) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    match framing {
        Framing::Length(length) => {
            while slowly && length - body.len() as u64 > PIECE_BYTES as u64 {
                tokio::time::sleep(PAUSE).await;
                if (&mut *from).take(PIECE_BYTES as u64).read_to_end(&mut body).await? == 0 {
                    break;
                }
            }
            let rest = length - body.len() as u64;
            (&mut *from).take(rest).read_to_end(&mut body).await?;
            if body.len() as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Framing::ToTheEnd => {
            from.read_to_end(&mut body).await?;
        }
        Framing::Chunked => loop {
            let mut line = String::new();
            from.read_line(&mut line).await?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            body.extend_from_slice(line.as_bytes());
            let before = body.len() as u64;
            (&mut *from).take(size + 2).read_to_end(&mut body).await?;
            if body.len() as u64 != before + size + 2 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if size == 0 {
                break;
            }
        },
    }
    Ok(body)
}

async fn answer(store: &mut BufReader<TcpStream>, method: &str) -> io::Result<(String, Vec<u8>)> {
    loop {
        let head = head(store).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if status.starts_with('1') {
            continue;
        }
        if method == "HEAD" || status == "204" || status == "304" {
            return Ok((head, Vec::new()));
        }
        let body = body(store, framing(&head, false), false).await?;
        return Ok((head, body));
    }
}
