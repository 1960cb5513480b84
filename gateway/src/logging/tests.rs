use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Full};
use t2gate_backends::{AccountId, Clock as _, MemoryBackend, Routes, SystemClock};
use tower::ServiceExt as _;
use tracing::{debug, subscriber::set_default, warn};

use super::*;
use crate::{
    acl::Requester,
    body::{BodyPace, BoxBody, RequestBody},
    config::Config,
    dialect::Dialect,
    dispatch,
    keys::{Account, ApplicationKey, CapabilitySet, KeyKind, KeyStore, KeyTable},
    layer::{
        authenticate::Authenticate,
        memory_budget::MemoryBudget,
        rate_limit::RateLimits,
        record::RequestRecord,
        respond::{self, Received},
        route::Route,
    },
    metrics::Metrics,
    rate_limit::KeyLimits,
    server::ConnectionInfo,
    sigv4::client::{self, Signer},
    stack,
};

const SECRET: &str = "The-Secret-That-Nobody-May-See";
const HOST_NAME: &str = "s3.example.com";

#[derive(Debug, Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

/// Logs of this thread, by `level`, into memory.
fn capture(level: &str, pretty: bool) -> (Captured, Logging, tracing::subscriber::DefaultGuard) {
    let captured = Captured::default();
    let writer = captured.clone();
    let (subscriber, logging) = subscriber(filter(level).unwrap(), pretty, false, move || writer.clone());
    (captured, logging, set_default(subscriber))
}

fn application_key() -> ApplicationKey {
    ApplicationKey {
        id: "the-key".into(),
        secret: SECRET.into(),
        name: None,
        account: AccountId::parse("one").unwrap(),
        kind: KeyKind::Global,
        buckets: Vec::new(),
        prefix: None,
        capabilities: CapabilitySet::all(),
        expires: None,
        created: None,
        revoked: false,
        rate_limit: KeyLimits::default(),
    }
}

fn key_store() -> Arc<KeyStore> {
    let account = Account {
        id: AccountId::parse("one").unwrap(),
        name: None,
        max_buckets: None,
    };
    Arc::new(KeyStore::new(
        KeyTable::new(vec![account], vec![application_key()]).unwrap(),
    ))
}

const PACE: BodyPace = BodyPace {
    idle_timeout: Duration::from_secs(1),
    grace: Duration::from_secs(1),
    min_bytes_per_second: 0,
};

/// A whole gateway, but for the connections.
struct Gateway(tower::util::BoxCloneService<Request<Full<Bytes>>, http::Response<Bytes>, Infallible>);

impl Gateway {
    fn new() -> Self {
        let config = Config::load_from(None, Vec::new(), &crate::config::Overrides::default()).unwrap();
        let keys = key_store();
        let parts = stack::Parts {
            writes: crate::dispatch::Writes::default(),
            backend_limits: crate::layer::backend_limits::BackendLimits::new(Routes::default(), []),
            dialect: Dialect::T2,
            respond: respond::Settings {
                dialect: Dialect::T2,
                region: HeaderValue::from_static("us-east-1"),
                pace: PACE,
            },
            max_requests: 10,
            memory: MemoryBudget::new(config.limits.memory_budget),
            rate_limits: RateLimits::new(config.rate_limit, Vec::new(), 1),
            metrics: Metrics::new().unwrap(),
            route: Route {
                base_domains: Vec::new(),
                trusted_proxies: Vec::new(),
            },
            authenticate: Authenticate {
                keys: keys.clone(),
                clock: Arc::new(SystemClock),
                region: "us-east-1".into(),
                any_region: false,
            },
            dispatch: dispatch::Settings {
                dialect: Dialect::T2,
                region: "us-east-1".into(),
                keys,
                max_buckets: 100,
                ignore_object_acl: false,
            },
            backend: Arc::new(MemoryBackend::new(Arc::new(SystemClock))),
        };
        let service =
            stack::stack(parts)
                .unwrap()
                .and_then(|answer: http::Response<crate::s3::encode::ResponseBody>| async {
                    let (parts, body) = answer.into_parts();
                    Ok(http::Response::from_parts(
                        parts,
                        body.collect().await.unwrap().to_bytes(),
                    ))
                });
        Self(tower::util::BoxCloneService::new(service))
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> StatusCode {
        self.0.clone().oneshot(request).await.unwrap().status()
    }
}

fn signer(secret: &str) -> Signer {
    Signer {
        access_key_id: "the-key".into(),
        secret_access_key: secret.into(),
        region: "us-east-1".into(),
    }
}

fn request(method: Method, target: &str, headers: HeaderMap, body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, HOST_NAME)
        .body(Full::from(body))
        .unwrap();
    request.headers_mut().extend(headers);
    let peer: SocketAddr = "192.0.2.1:4711".parse().unwrap();
    request.extensions_mut().insert(ConnectionInfo {
        peer,
        local: peer,
        tls_version: "TLSv1_3",
    });
    request
}

/// Signed in the header, and the signature.
fn signed(secret: &str, method: Method, path: &str, body: &'static str) -> (Request<Full<Bytes>>, String) {
    let mut headers = HeaderMap::new();
    if method == Method::PUT {
        headers.insert("content-length", HeaderValue::from(body.len()));
    }
    let target = client::Target {
        method: method.as_str(),
        host: HOST_NAME,
        raw_path: path,
        raw_query: "",
    };
    let hash = client::sha256_hex(body.as_bytes());
    signer(secret)
        .sign(target, &mut headers, &hash, SystemClock.now())
        .unwrap();
    let authorization = headers["authorization"].to_str().unwrap();
    let signature = authorization.rsplit_once("Signature=").unwrap().1.to_owned();
    (request(method, path, headers, body), signature)
}

/// Signed in the query, and the signature.
fn presigned(secret: &str, path: &str) -> (Request<Full<Bytes>>, String) {
    let target = client::Target {
        method: "GET",
        host: HOST_NAME,
        raw_path: path,
        raw_query: "",
    };
    let expires = Duration::from_secs(60);
    let query = signer(secret).presign(target, &HeaderMap::new(), SystemClock.now(), expires);
    let query = query.unwrap();
    let signature = query.rsplit_once("X-Amz-Signature=").unwrap().1.to_owned();
    (
        request(Method::GET, &format!("{path}?{query}"), HeaderMap::new(), ""),
        signature,
    )
}

#[tokio::test]
async fn no_secret_and_no_signature_is_ever_logged() {
    for pretty in [true, false] {
        let (captured, _logging, _guard) = capture("trace", pretty);
        let gateway = Gateway::new();
        let mut forbidden = vec![
            SECRET.to_owned(),
            "another-secret".to_owned(),
            "X-Amz-Signature".to_owned(),
        ];
        for (secret, method, path, body, status) in [
            (SECRET, Method::PUT, "/bucket", "", 200),
            (SECRET, Method::PUT, "/bucket/key", "hello", 200),
            (SECRET, Method::GET, "/bucket/missing", "", 404),
            ("another-secret", Method::GET, "/bucket/key", "", 401),
        ] {
            let (request, signature) = signed(secret, method.clone(), path, body);
            // What would have been right.
            let (_, right) = signed(SECRET, method, path, body);
            forbidden.extend([signature, right]);
            assert_eq!(gateway.ask(request).await, status, "{path}");
        }
        for (secret, status) in [(SECRET, 200), ("another-secret", 401)] {
            let (request, signature) = presigned(secret, "/bucket/key");
            forbidden.extend([signature, presigned(SECRET, "/bucket/key").1]);
            assert_eq!(gateway.ask(request).await, status);
        }

        // What somebody might log one day.
        let (request, signature) = presigned(SECRET, "/bucket/key");
        forbidden.push(signature);
        let (mut parts, _) = request.into_parts();
        let (header_signed, signature) = signed(SECRET, Method::GET, "/bucket/key", "");
        forbidden.push(signature);
        parts.headers = header_signed.headers().clone();
        let received = Received {
            parts,
            body: RequestBody::new(BoxBody::new(Full::default().map_err(|never| match never {})), PACE),
            record: RequestRecord::default(),
        };
        let requester = Requester::Key(Arc::new(application_key()));
        debug!(?received, ?requester, keys = ?key_store(), signer = ?signer(SECRET));

        let log = captured.take();
        assert!(log.contains("does not match") && log.contains("Received {"), "{log}");
        forbidden.push("AWS4-HMAC-SHA256 Credential".to_owned());
        for word in forbidden {
            assert!(!log.contains(&word), "{word} is in\n{log}");
        }
    }
}

#[tokio::test]
async fn each_request_has_one_access_line_and_all_its_lines_have_its_id() {
    let (captured, _logging, _guard) = capture("info", false);
    let gateway = Gateway::new();
    assert_eq!(gateway.ask(signed(SECRET, Method::PUT, "/bucket", "").0).await, 200);
    assert_eq!(
        gateway
            .ask(signed(SECRET, Method::PUT, "/bucket/a%20key", "hello").0)
            .await,
        200
    );
    let (captured, log) = (captured.clone(), captured.take());
    let last = log.lines().last().unwrap();
    for field in [
        r#""target":"t2gate::access""#,
        r#""method":"PUT""#,
        r#""operation":"PutObject""#,
        r#""bucket":"bucket""#,
        r#""key":"a key""#,
        r#""access_key_id":"the-key""#,
        r#""peer":"192.0.2.1""#,
        r#""client":"192.0.2.1""#,
        r#""status":200"#,
        r#""bytes_in":5"#,
        r#""bytes_out":0"#,
        r#""complete":true"#,
        r#""total_ms":"#,
        r#""spans":[{"id":""#,
    ] {
        assert!(last.contains(field), "{field} is not in\n{last}");
    }
    assert_eq!(
        log.lines().filter(|line| line.contains("t2gate::access")).count(),
        2,
        "{log}"
    );

    assert_eq!(
        gateway.ask(signed(SECRET, Method::GET, "/bucket/missing", "").0).await,
        404
    );
    assert!(captured.take().contains(r#""code":"NoSuchKey""#));
}

#[tokio::test]
async fn the_id_is_there_at_any_level_and_for_any_module() {
    use crate::layer::request_id;
    use tower::{Layer as _, service_fn};

    for level in ["warn", "error,t2gate::logging=warn", "t2gate::logging=warn"] {
        let (captured, _logging, _guard) = capture(level, false);
        let inner = service_fn(|_: Request<()>| async {
            warn!("something");
            Ok::<_, Infallible>(http::Response::new(()))
        });
        let answer = request_id::layer()
            .unwrap()
            .layer(inner)
            .oneshot(Request::new(()))
            .await
            .unwrap();
        let id = answer.headers()["x-amz-request-id"].to_str().unwrap();
        let log = captured.take();
        assert!(log.contains("something") && log.contains(id), "{level}: {log}");
    }
}

#[test]
fn the_level_can_be_changed_while_running() {
    let (captured, logging, _guard) = capture("warn", true);
    debug!("unheard");
    logging.set_level("debug").unwrap();
    debug!("heard");
    assert!(logging.set_level("loud=very").is_err());
    debug!("still heard");
    let log = captured.take();
    assert!(!log.contains("unheard") && log.contains("still heard"), "{log}");
    assert_eq!(log.lines().count(), 2, "{log}");
}
