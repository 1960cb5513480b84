//! What clients are told of a store that refuses, is not there, or takes its time.
//!
//! The store is a bucket of another gateway. Between them is a server that passes requests on, or answers for the store.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    behind::WITHOUT_LIMITS,
    support::{APP, PATIENCE, Request, SECRET, TestGateway, log},
};

/// What becomes of the next request, and of those that wait.
#[derive(Debug, Clone, Copy)]
enum Store {
    Answers,
    Refuses(u16, &'static str),
    /// Writes wait until it is something else.
    Waits,
}

struct Behind {
    gateway: TestGateway,
    store: TestGateway,
    mode: watch::Sender<Store>,
    /// Writes that wait, or have waited, since the store is as it is.
    waiting: Arc<AtomicUsize>,
}

impl Behind {
    /// With the bucket `bkt`, in which `known` is.
    async fn start() -> Self {
        let store = TestGateway::configured(&format!("{WITHOUT_LIMITS}\n[s3]\ndialect = \"aws\"\n")).await;
        store.make_bucket().await;
        let mode = watch::Sender::new(Store::Answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap();
        let waiting = Arc::new(AtomicUsize::new(0));
        let passing = Passing {
            store: store.address,
            tls: store.client.clone(),
            mode: mode.subscribe(),
            waiting: waiting.clone(),
        };
        tokio::spawn(serve(listener, passing));
        let backend = format!(
            "[backend]\nkind = \"opendal\"\nroot = \"ROOT/data\"\nservice = \"s3\"\nleast_level = \"L2\"\n\
             options = {{ bucket = \"bkt\", endpoint = \"http://{endpoint}\", region = \"us-east-1\", \
             access_key_id = \"{}\", secret_access_key = \"{SECRET}\", disable_config_load = \"true\" }}\n",
            APP.id
        );
        let gateway = TestGateway::with_backends("[s3]\ndialect = \"t2\"\n", &backend, "").await;
        gateway.make_bucket().await;
        Self {
            gateway,
            store,
            mode,
            waiting,
        }
    }

    fn set(&self, mode: Store) {
        self.waiting.store(0, Ordering::SeqCst);
        self.mode.send_replace(mode);
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

/// What stands between gateway and store.
#[derive(Clone)]
struct Passing {
    store: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    mode: watch::Receiver<Store>,
    waiting: Arc<AtomicUsize>,
}

async fn serve(listener: TcpListener, passing: Passing) {
    while let Ok((stream, _)) = listener.accept().await {
        let passing = passing.clone();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let mut passing = passing.clone();
            async move {
                let is_write = !request.method().is_safe();
                if is_write && matches!(*passing.mode.borrow(), Store::Waits) {
                    passing.waiting.fetch_add(1, Ordering::SeqCst);
                }
                let decided = passing
                    .mode
                    .wait_for(|mode| !is_write || !matches!(mode, Store::Waits))
                    .await;
                let decided = *decided.expect("the test goes on");
                let answer = match decided {
                    Store::Refuses(status, code) => refusal(status, code),
                    Store::Answers | Store::Waits => passed_on(passing.store, passing.tls, request).await,
                };
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move { drop(connection.await) });
    }
}

fn refusal(status: u16, code: &str) -> Response<Full<Bytes>> {
    let document = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>No.</Message></Error>");
    let mut response = Response::new(Full::from(document));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// As it came: the signature is over the same bytes, and for the same host.
async fn passed_on(
    store: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    request: http::Request<Incoming>,
) -> Response<Full<Bytes>> {
    let stream = crate::support::tls_to(store, tls).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, Full::new(body.collect().await.unwrap().to_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_the_gateways_credentials_is_an_incident() {
    let behind = Behind::start().await;
    for (status, code) in [(403, "AccessDenied"), (403, "InvalidAccessKeyId")] {
        behind.set(Store::Refuses(status, code));
        for request in [
            Request::get("/bkt/known"),
            Request::put("/bkt/k").body("x"),
            Request::delete("/bkt/known"),
            Request::get("/bkt?list-type=2"),
        ] {
            let answer = behind.gateway.connect().await.ask(&request).await;
            let id = answer.header("x-amz-request-id").unwrap();
            // The client's own credentials are good, and what is wrong with the others is not its business.
            let json = format!("{{\"code\": \"internal_error\", \"message\": \"incident id {id}\", \"status\": 500}}");
            assert_eq!((answer.status, answer.text()), (500, &*json), "{request:?}");
            let said = log::lines_with(id);
            assert!(
                said.iter()
                    .any(|line| line.contains("ERROR") && line.contains("the gateway's own credentials")),
                "{request:?}: {said:#?}"
            );
            assert!(!said.concat().contains(SECRET));
        }
    }
    behind.set(Store::Answers);
    behind.gateway.still_answers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_has_too_much_to_do_is_to_be_asked_later() {
    let behind = Behind::start().await;
    // It is asked again several times before that.
    for (status, code, request) in [
        (503, "SlowDown", Request::get("/bkt/known")),
        (429, "SlowDown", Request::put("/bkt/k").body("x")),
    ] {
        behind.set(Store::Refuses(status, code));
        let answer = behind.gateway.connect().await.ask(&request).await;
        assert_eq!(answer.status, 503, "{status} {code} {request:?}: {answer:?}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(answer.text().contains("\"slow_down\""), "{answer:?}");
    }
    behind.set(Store::Answers);
    behind.gateway.still_answers().await;
}

/// An upload of one part, and what completes it.
async fn upload(behind: &Behind) -> (String, Request) {
    let begun = behind.gateway.does(Request::post("/bkt/long?uploads")).await;
    let id = begun.element("UploadId").unwrap();
    let part = Request::put(&format!("/bkt/long?partNumber=1&uploadId={id}")).body("of one part");
    let etag = behind.gateway.does(part).await.header("etag").unwrap().to_owned();
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    );
    let complete = Request::post(&format!("/bkt/long?uploadId={id}")).document(document);
    (id, complete)
}

/// Sends it to a store that does not answer, and waits until the gateway has begun to.
async fn begun(behind: &Behind, request: &Request) -> crate::support::Connection {
    behind.set(Store::Waits);
    let mut connection = behind.gateway.connect().await;
    connection.send(&request.bytes(&behind.gateway.host())).await;
    let mut first = [0];
    let read = timeout(PATIENCE, connection.stream.read_exact(&mut first)).await;
    read.expect("kept waiting, and not in silence").unwrap();
    connection.unread(&first);
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_the_store_is_kept_waiting() {
    let behind = Behind::start().await;
    let (_, complete) = upload(&behind).await;
    let mut connection = begun(&behind, &complete).await;
    behind.set(Store::Answers);
    let answer = connection.answer_to("POST").await;
    assert_eq!((answer.status, answer.code()), (200, None), "{answer:?}");
    assert!(answer.text().starts_with("<?xml "), "{answer:?}");
    let etag = answer.element("ETag").unwrap();
    let got = behind.gateway.does(Request::get("/bkt/long")).await;
    assert_eq!(got.text(), "of one part");
    assert_eq!(got.header("etag").unwrap(), etag.replace("&quot;", "\""));
    // The connection is as good as ever.
    let again = connection.ask(&Request::get("/bkt/long")).await;
    assert_eq!(again.text(), "of one part");
    // A copy likewise.
    let copy = Request::put("/bkt/copy").header("x-amz-copy-source", "/bkt/long");
    let mut connection = begun(&behind, &copy).await;
    behind.set(Store::Answers);
    let answer = connection.answer_to("PUT").await;
    assert_eq!(
        (answer.status, answer.element("ETag").is_some()),
        (200, true),
        "{answer:?}"
    );
    let got = behind.gateway.does(Request::get("/bkt/copy")).await;
    assert_eq!(got.text(), "of one part");
    behind.store.still_answers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_after_a_long_wait_is_told_in_the_document() {
    let behind = Behind::start().await;
    let (id, complete) = upload(&behind).await;
    let mut connection = begun(&behind, &complete).await;
    behind.set(Store::Refuses(403, "AccessDenied"));
    let answer = connection.answer_to("POST").await;
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (200, Some("InternalError")),
        "{answer:?}"
    );
    let request_id = answer.header("x-amz-request-id").unwrap();
    assert_eq!(answer.element("RequestId").as_deref(), Some(request_id));
    let said = log::lines_with(request_id);
    assert!(
        said.iter()
            .any(|line| line.contains("ERROR") && line.contains("the gateway's own credentials")),
        "{said:#?}"
    );
    // Nothing is lost: the upload can be completed when the store is there again.
    behind.set(Store::Answers);
    let parts = behind
        .gateway
        .does(Request::get(&format!("/bkt/long?uploadId={id}")))
        .await;
    assert!(parts.text().contains("<PartNumber>1<"), "{parts:?}");
    behind.gateway.does(complete).await;
    assert_eq!(
        behind.gateway.does(Request::get("/bkt/long")).await.text(),
        "of one part"
    );
    // The stream of the first answer has ended in order.
    connection.stream.shutdown().await.unwrap();
}

/// A write that waits for the store, and whose client has gone. The id under which the log has it.
async fn left(behind: &Behind, key: &str) -> String {
    behind.set(Store::Waits);
    let mut connection = behind.gateway.connect().await;
    let request = Request::put(&format!("/bkt/{key}")).body("to its end");
    connection.send(&request.bytes(&behind.gateway.host())).await;
    while behind.waiting() == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    drop(connection);
    let marked = format!(" key=\"{key}\"");
    let gone = async {
        loop {
            match log::lines_with(&marked).pop() {
                Some(line) => return line,
                None => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let line = timeout(PATIENCE, gone)
        .await
        .expect("the gateway sees that the client has gone");
    let (_, id) = line.split_once("{id=\"").expect("the request's span");
    id.split('"').next().expect("its end").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_write_ends_in_is_logged_when_its_client_has_gone() {
    let behind = Behind::start().await;
    let id = left(&behind, "unheard").await;
    behind.set(Store::Refuses(403, "AccessDenied"));
    let logged = async {
        loop {
            let lines = log::lines_with(&id);
            if let Some(line) = lines.into_iter().find(|line| line.contains("ERROR")) {
                return line;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let line = timeout(PATIENCE, logged).await.expect("an error in the log");
    assert!(line.contains("the gateway's own credentials"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_told_to_stop_finishes_writes_whose_clients_have_gone() {
    let behind = Behind::start().await;
    left(&behind, "unseen").await;
    let Behind {
        gateway, store, mode, ..
    } = behind;
    let mut stopping = Box::pin(gateway.stop());
    let early = timeout(Duration::from_secs(1), &mut stopping).await;
    assert!(early.is_err(), "a write is under way");
    mode.send_replace(Store::Answers);
    let (stopped, _dir) = timeout(PATIENCE, stopping).await.expect("it stops");
    assert_eq!((stopped.cut, stopped.writes), (0, 0));
    let listed = store.does(Request::get("/bkt?list-type=2")).await;
    assert!(listed.text().contains("unseen</Key>"), "{listed:?}");
}
