use std::{
    convert::Infallible,
    net::SocketAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Empty};
use t2gate_backends::{AccountId, BucketName};
use tower::{ServiceExt as _, service_fn};

use super::*;
use crate::{
    body::{BodyPace, BoxBody, RequestBody, UnverifiedBody},
    keys::{ApplicationKey, CapabilitySet, KeyKind},
    rate_limit::{KeyLimits, Quota},
    s3::target::Target,
    sigv4::PayloadMode,
};

fn quota(rate: u32, burst: u32) -> Limit {
    Limit::Quota(Quota::new(
        NonZeroU32::new(rate).unwrap(),
        NonZeroU32::new(burst).unwrap(),
    ))
}

fn no_limits() -> config::RateLimit {
    config::RateLimit {
        per_address: Limit::Unlimited,
        per_key: Limit::Unlimited,
        read: Limit::Unlimited,
        write: Limit::Unlimited,
        list: Limit::Unlimited,
        max_entries: 1024,
    }
}

fn limits(limits: config::RateLimit) -> Arc<RateLimits> {
    RateLimits::new(limits, vec!["10.0.0.0/8".parse().unwrap()], 2)
}

fn body() -> RequestBody {
    let pace = BodyPace {
        idle_timeout: Duration::from_secs(1),
        grace: Duration::from_secs(1),
        min_bytes_per_second: 0,
    };
    RequestBody::new(
        BoxBody::new(Empty::new().map_err(|never: Infallible| match never {})),
        pace,
    )
}

fn received(method: Method, peer: &str, forwarded: Option<&str>) -> Received {
    let mut request = Request::builder().method(method);
    if let Some(forwarded) = forwarded {
        request = request.header("x-forwarded-for", forwarded);
    }
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
    parts.extensions.insert(ConnectionInfo {
        peer,
        local: peer,
        tls_version: "TLSv1_3",
    });
    Received {
        parts,
        body: body(),
        record: RequestRecord::default(),
    }
}

fn requester(id: &str, rate_limit: KeyLimits) -> Requester {
    Requester::Key(Arc::new(ApplicationKey {
        id: id.into(),
        secret: "very-secret-indeed".into(),
        name: None,
        account: AccountId::parse("one").unwrap(),
        kind: KeyKind::Global,
        buckets: Vec::new(),
        prefix: None,
        capabilities: CapabilitySet::all(),
        expires: None,
        created: None,
        revoked: false,
        rate_limit,
    }))
}

fn authenticated(requester: Requester) -> Authenticated {
    Authenticated {
        url: "https://localhost/bucket".into(),
        method: Method::GET,
        raw_query: String::new(),
        headers: HeaderMap::new(),
        target: Target {
            bucket: None,
            key: None,
        },
        requester,
        payload: PayloadMode::of_anonymous(&HeaderMap::new()).unwrap(),
        signer: None,
        body: body(),
        record: RequestRecord::default(),
    }
}

fn parsed(operation: Operation, requester: Requester) -> Parsed {
    Parsed {
        operation,
        requester,
        body: UnverifiedBody {
            body: body(),
            headers: HeaderMap::new(),
            payload: PayloadMode::of_anonymous(&HeaderMap::new()).unwrap(),
            signer: None,
        },
        record: RequestRecord::default(),
    }
}

fn bucket() -> BucketName {
    BucketName::parse("bucket").unwrap()
}

/// The layers of one kind over a service that counts what reaches it.
struct Guarded<P> {
    limits: Arc<RateLimits>,
    reached: Arc<AtomicUsize>,
    stage: PhantomData<P>,
}

impl<P> Guarded<P> {
    fn new(limits: Arc<RateLimits>) -> Self {
        Self {
            limits,
            reached: Arc::default(),
            stage: PhantomData,
        }
    }

    /// `Retry-After` and `x-amz-retry-after` of a refusal.
    async fn ask<R: Send + 'static>(&self, request: R) -> Result<(), (u64, u64)>
    where
        P: Stage<R>,
    {
        let reached = self.reached.clone();
        let inner = service_fn(move |_: R| {
            reached.fetch_add(1, SeqCst);
            ready(Ok(()))
        });
        let service = layer::<_, P>(self.limits.clone()).layer(inner);
        service.oneshot(request).await.map_err(|error| {
            assert_eq!(error.code(), S3ErrorCode::RateLimited);
            let header = |name: &str| {
                let (_, value) = error.headers().iter().find(|(known, _)| known == name).expect(name);
                value.to_str().unwrap().parse().unwrap()
            };
            (header("retry-after"), header("x-amz-retry-after"))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn over_the_limit_of_an_address_a_request_is_told_when_to_come_back() {
    let by_address = Guarded::<ByAddress>::new(limits(config::RateLimit {
        per_address: quota(2, 3),
        ..no_limits()
    }));
    let get = |peer| received(Method::GET, peer, None);
    for _ in 0..3 {
        assert_eq!(by_address.ask(get("192.0.2.1")).await, Ok(()));
    }
    tokio::time::advance(Duration::from_micros(400_400)).await;
    // Rounded up, for a client that is early is refused again.
    assert_eq!(by_address.ask(get("192.0.2.1")).await, Err((1, 100)));
    assert_eq!(by_address.ask(get("192.0.2.2")).await, Ok(()));
    assert_eq!(by_address.reached.load(SeqCst), 4);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(by_address.ask(get("192.0.2.1")).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_is_told_in_whole_seconds_rounded_up() {
    let by_address = Guarded::<ByAddress>::new(limits(config::RateLimit {
        per_address: quota(1, 1),
        ..no_limits()
    }));
    let get = || received(Method::GET, "192.0.2.1", None);
    assert_eq!(by_address.ask(get()).await, Ok(()));
    // Book the next token, so that the one after it is more than a second away.
    assert_eq!(
        ByAddress::book(&by_address.limits, &get(), PATIENCE),
        Ok(Duration::from_secs(1))
    );
    sleep(Duration::from_millis(500)).await;
    assert_eq!(by_address.ask(get()).await, Err((2, 1500)));
}

#[tokio::test(start_paused = true)]
async fn the_address_is_the_one_behind_trusted_proxies_and_is_entered_into_the_record() {
    let by_address = Guarded::<ByAddress>::new(limits(config::RateLimit {
        per_address: quota(1, 1),
        ..no_limits()
    }));
    let get = |forwarded| received(Method::GET, "10.0.0.1", Some(forwarded));
    let first = get("192.0.2.1");
    let record = first.record.clone();
    assert_eq!(by_address.ask(first).await, Ok(()));
    assert_eq!(record.client().unwrap().to_string(), "192.0.2.1");
    assert_eq!(by_address.ask(get("192.0.2.2")).await, Ok(()));
    assert!(by_address.ask(get("203.0.113.1, 192.0.2.1")).await.is_err());
    assert_eq!(record.rate_limited(), None);
}

#[tokio::test(start_paused = true)]
async fn a_head_waits_for_its_turn_where_that_is_within_a_second() {
    let by_address = Guarded::<ByAddress>::new(limits(config::RateLimit {
        per_address: quota(2, 1),
        ..no_limits()
    }));
    let head = || received(Method::HEAD, "192.0.2.1", None);
    let start = Instant::now();
    assert_eq!(by_address.ask(head()).await, Ok(()));
    assert_eq!(start.elapsed(), Duration::ZERO);
    let both = tokio::join!(by_address.ask(head()), by_address.ask(head()));
    assert_eq!(both, (Ok(()), Ok(())));
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_head_without_a_turn_is_held_back_for_a_second_and_then_refused() {
    let by_address = Guarded::<ByAddress>::new(limits(config::RateLimit {
        per_address: quota(1, 1),
        ..no_limits()
    }));
    let head = || received(Method::HEAD, "192.0.2.1", None);
    assert_eq!(by_address.ask(head()).await, Ok(()));
    let start = Instant::now();
    let refused = head();
    let record = refused.record.clone();
    let both = tokio::join!(by_address.ask(head()), by_address.ask(refused));
    assert_eq!(both, (Ok(()), Err((1, 1000))));
    assert_eq!(start.elapsed(), PATIENCE);
    assert_eq!(record.rate_limited(), Some("address"));
    assert_eq!(by_address.reached.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn no_more_heads_wait_than_there_is_room_for() {
    let by_address = Guarded::<ByAddress>::new(limits(config::RateLimit {
        per_address: quota(10, 1),
        ..no_limits()
    }));
    let head = || received(Method::HEAD, "192.0.2.1", None);
    assert_eq!(by_address.ask(head()).await, Ok(()));
    let start = Instant::now();
    let (first, second, third) = tokio::join!(by_address.ask(head()), by_address.ask(head()), async {
        let refused = by_address.ask(head()).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        refused
    });
    assert_eq!((first, second, third), (Ok(()), Ok(()), Err((1, 300))));
    // Those who waited have left.
    assert_eq!(by_address.ask(head()).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_leaves_its_place() {
    let by_address = Guarded::<ByAddress>::new(limits(config::RateLimit {
        per_address: quota(1, 1),
        ..no_limits()
    }));
    let head = || received(Method::HEAD, "192.0.2.1", None);
    assert_eq!(by_address.ask(head()).await, Ok(()));
    for _ in 0..10 {
        let gone = tokio::time::timeout(Duration::from_millis(1), by_address.ask(head())).await;
        assert!(gone.is_err(), "{gone:?}");
    }
    assert_eq!(by_address.limits.waiting.available_permits(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_limit_and_the_nameless_have_none() {
    let by_key = Guarded::<ByKey>::new(limits(config::RateLimit {
        per_key: quota(1, 1),
        ..no_limits()
    }));
    let ask = |id, own| by_key.ask(authenticated(requester(id, own)));
    let general = KeyLimits::default();
    assert_eq!(ask("one", general).await, Ok(()));
    assert_eq!(ask("one", general).await, Err((1, 1000)));
    assert_eq!(ask("two", general).await, Ok(()));
    let wider = KeyLimits {
        requests: Some(quota(1, 2)),
        ..general
    };
    assert_eq!(ask("three", wider).await, Ok(()));
    assert_eq!(ask("three", wider).await, Ok(()));
    assert!(ask("three", wider).await.is_err());
    for _ in 0..5 {
        assert_eq!(by_key.ask(authenticated(Requester::Anonymous)).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn kinds_of_operations_are_counted_apart() {
    let by_class = Guarded::<ByClass>::new(limits(config::RateLimit {
        read: quota(1, 1),
        ..no_limits()
    }));
    let get = || Operation::GetBucketLocation(bucket());
    let delete = || Operation::DeleteBucket(bucket());
    let general = KeyLimits::default();
    assert_eq!(by_class.ask(parsed(get(), requester("one", general))).await, Ok(()));
    let refused = parsed(get(), requester("one", general));
    let record = refused.record.clone();
    assert!(by_class.ask(refused).await.is_err());
    assert_eq!(record.rate_limited(), Some("read"));
    assert_eq!(by_class.ask(parsed(delete(), requester("one", general))).await, Ok(()));
    assert_eq!(by_class.ask(parsed(get(), requester("two", general))).await, Ok(()));
    let own = KeyLimits {
        read: Some(Limit::Unlimited),
        write: Some(quota(1, 1)),
        ..general
    };
    assert_eq!(by_class.ask(parsed(get(), requester("one", own))).await, Ok(()));
    assert_eq!(by_class.ask(parsed(delete(), requester("one", own))).await, Ok(()));
    assert!(by_class.ask(parsed(delete(), requester("one", own))).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nameless_requests_are_counted_by_address() {
    let by_class = Guarded::<ByClass>::new(limits(config::RateLimit {
        read: quota(1, 1),
        ..no_limits()
    }));
    let get = |client: &str| {
        let request = parsed(Operation::GetBucketLocation(bucket()), Requester::Anonymous);
        request.record.set_client(client.parse().unwrap());
        request
    };
    assert_eq!(by_class.ask(get("192.0.2.1")).await, Ok(()));
    assert!(by_class.ask(get("192.0.2.1")).await.is_err());
    assert_eq!(by_class.ask(get("192.0.2.2")).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_head_waits_by_class_too() {
    let by_class = Guarded::<ByClass>::new(limits(config::RateLimit {
        read: quota(2, 1),
        ..no_limits()
    }));
    let head = || parsed(Operation::HeadBucket(bucket()), requester("one", KeyLimits::default()));
    let start = Instant::now();
    assert_eq!(by_class.ask(head()).await, Ok(()));
    assert_eq!(by_class.ask(head()).await, Ok(()));
    assert_eq!(start.elapsed(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn replaced_limits_hold_from_the_next_request_on() {
    let by_address = Guarded::<ByAddress>::new(limits(no_limits()));
    let get = || received(Method::GET, "192.0.2.1", None);
    assert_eq!(by_address.ask(get()).await, Ok(()));
    by_address.limits.replace(config::RateLimit {
        per_address: quota(1, 1),
        ..no_limits()
    });
    assert_eq!(by_address.ask(get()).await, Ok(()));
    assert!(by_address.ask(get()).await.is_err());
}
