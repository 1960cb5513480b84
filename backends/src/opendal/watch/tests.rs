use std::{
    collections::BTreeMap,
    fmt::Write as _,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    super::{
        key::{StoreDir, StoreKey},
        store::{Dress, Precondition, Store, StoreError, failed},
    },
    *,
};
use crate::{BackendError, Stamp, Timestamp};

/// Remembers what it was told.
#[derive(Debug, Default)]
struct Told(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    calls: Vec<(&'static str, StoreCallOutcome, Duration)>,
    bytes: BTreeMap<&'static str, u64>,
    retries: Vec<&'static str>,
}

impl Told {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was called since this was last asked.
    fn calls(&self) -> Vec<(&'static str, StoreCallOutcome)> {
        let calls = mem::take(&mut self.notes().calls);
        calls.into_iter().map(|(name, outcome, _)| (name, outcome)).collect()
    }
}

impl StoreObserver for Told {
    fn call(&self, operation: &'static str, outcome: StoreCallOutcome, time: Duration) {
        self.notes().calls.push((operation, outcome, time));
    }

    fn bytes(&self, operation: &'static str, bytes: u64) {
        *self.notes().bytes.entry(operation).or_default() += bytes;
    }

    fn retry(&self, operation: &'static str) {
        self.notes().retries.push(operation);
    }
}

fn open(service: &str, options: &[(&str, &str)]) -> (Store, Arc<Told>) {
    let options: Vec<_> = options
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let told = Arc::new(Told::default());
    let store = Store::open(
        service,
        &options,
        Some(told.clone()),
        crate::DEFAULT_STORE_RETRY_DELAY,
        crate::StoreTimeouts::default(),
    )
    .unwrap();
    (store, told)
}

fn run() -> Stamp {
    Stamp::new(Timestamp::from_unix(1_700_000_000, 0), 1)
}

fn key(name: &str) -> StoreKey {
    StoreKey::probe(run(), name)
}

use StoreCallOutcome::{Busy, Denied, Failed, NotFound, Ok as Fine, Refused};

#[tokio::test]
async fn every_call_is_told_of_once_with_what_it_moved() {
    let (store, told) = open("memory", &[]);
    let a = key("a");
    let write = async |precondition| store.write(&a, vec![7; 1000], Dress::default(), &precondition).await;
    write(Precondition::None).await.unwrap();
    let calls = told.calls();
    assert_eq!(calls.last(), Some(&("write_close", Fine)), "{calls:?}");
    assert_eq!(calls.first(), Some(&("write", Fine)), "{calls:?}");
    let refused = write(Precondition::Absent).await;
    assert!(matches!(refused, Err(StoreError::ConditionFailed)));
    assert_eq!(told.calls().last(), Some(&("write_close", Refused)));

    store.stat(&a).await.unwrap().unwrap();
    assert_eq!(told.calls(), [("stat", Fine)]);
    assert!(store.stat(&key("b")).await.unwrap().is_none());
    assert_eq!(told.calls(), [("stat", NotFound)]);
    store.read(&a, 1000).await.unwrap().unwrap();
    assert_eq!(told.calls(), [("read_open", Fine), ("read", Fine)]);

    let mut entries = store.list(&StoreDir::probe(run()), "", true, None, None);
    while entries.next().await.unwrap().is_some() {}
    drop(entries);
    assert_eq!(told.calls(), [("list", Fine)]);
    store.delete(&a, &Precondition::None).await.unwrap();
    assert_eq!(told.calls(), [("delete", Fine)]);

    let notes = told.notes();
    // What a condition has refused was handed over too.
    assert_eq!(notes.bytes, BTreeMap::from([("read", 1000), ("write", 2000)]));
    assert!(notes.retries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn time_that_a_client_takes_is_not_the_stores_and_to_leave_is_no_fault() {
    let (store, told) = open("memory", &[]);
    let a = key("a");
    store
        .write(&a, vec![7; 1000], Dress::default(), &Precondition::None)
        .await
        .unwrap();
    told.calls();
    {
        let mut stream = pin!(store.stream(&a, 0..1000, None, None).await.unwrap());
        stream.next().await.unwrap().unwrap();
        tokio::time::advance(Duration::from_secs(3600)).await;
    }
    let mut entries = store.list(&StoreDir::probe(run()), "", true, None, None);
    entries.next().await.unwrap().unwrap();
    tokio::time::advance(Duration::from_secs(3600)).await;
    drop(entries);
    let longest = told.notes().calls.iter().map(|(_, _, time)| *time).max().unwrap();
    assert!(longest < Duration::from_secs(60), "{longest:?}");
    assert_eq!(told.calls(), [("read_open", Fine), ("read", Fine), ("list", Fine)]);
}

/// A server that gives these answers, one for each connection.
async fn answering(statuses: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for status in statuses {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(connection.read_u8().await.unwrap());
            }
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn each_attempt_is_told_of_and_why_it_failed() {
    let endpoint = answering(&["503 Slow Down", "404 Not Found", "403 Forbidden", "400 Bad Request"]).await;
    let (store, told) = open(
        "s3",
        &[
            ("bucket", "b"),
            ("region", "r"),
            ("endpoint", &endpoint),
            ("access_key_id", "id"),
            ("secret_access_key", "secret"),
            ("disable_ec2_metadata", "true"),
        ],
    );
    assert!(store.stat(&key("a")).await.unwrap().is_none());
    assert_eq!(told.calls(), [("stat", Busy), ("stat", NotFound)]);
    assert_eq!(told.notes().retries, ["stat"]);
    let denied = store.stat(&key("a")).await;
    assert!(matches!(denied, Err(StoreError::Failed(BackendError::Internal { .. }))));
    assert_eq!(told.calls(), [("stat", Denied)]);
    store.stat(&key("a")).await.unwrap_err();
    assert_eq!(told.calls(), [("stat", Failed)]);
    assert_eq!(told.notes().retries, ["stat"], "what no second attempt mends has none");
}

#[test]
fn outcomes_have_words_of_their_own() {
    let mut words = StoreCallOutcome::ALL.map(StoreCallOutcome::as_str);
    words.sort_unstable();
    assert!(words.windows(2).all(|pair| pair[0] != pair[1]), "{words:?}");
}

/// By the beginning of its message, though there is a secret in what else is told of it.
#[test]
fn what_a_store_says_is_understood_when_it_is_masked() {
    let watch = Watch {
        observer: None,
        secrets: Secrets::among(&[("sas_token".to_owned(), "sp=rw&sig=hunter2".to_owned())]),
    };
    let refused = Error::new(ErrorKind::Unexpected, "AzblobError { code: \"InvalidBlockList\" }")
        .with_context("uri", "http://a/c/k?comp=blocklist&sp=rw&sig=hunter2");
    let masked = watch.masked::<()>(Err(refused)).unwrap_err();
    let said = format!("{masked:?} {masked}");
    assert!(said.contains("sig=***") && !said.contains("hunter2"), "{said}");
    assert!(matches!(failed(masked), StoreError::ConditionFailed));
}

/// Nobody answers, and the error says what was called: with the signature in its address.
#[tokio::test(start_paused = true)]
async fn no_error_says_a_secret() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let endpoint = format!("http://{nobody}");
    let (store, told) = open(
        "azblob",
        &[
            ("container", "c"),
            ("endpoint", &endpoint),
            ("account_name", "a"),
            ("sas_token", "sv=2024-01-01&sp=rw&sig=hunter2%3D"),
        ],
    );
    let failed = store.stat(&key("a")).await;
    let Err(StoreError::Failed(error)) = failed else {
        panic!("{failed:?}");
    };
    let mut said = format!("{error:?}");
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        write!(said, " {error}").unwrap();
        cause = error.source();
    }
    assert!(said.contains("***") && said.contains(&endpoint), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let calls = told.calls();
    assert!(
        calls.len() > 1 && calls.iter().all(|call| *call == ("stat", Failed)),
        "{calls:?}"
    );
}
