//! Holds requests to their rates: by address before it is known who asks, by application key after that, by kind of
//! operation once it is known what for.
//!
//! A request over its limit is refused and told when to come back. The answer to HEAD has no body that could say why, so
//! HEAD first waits for its turn, for a second at most.

use std::{
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::future::{Either, Ready, ready};
use http::{HeaderName, HeaderValue, Method, header::RETRY_AFTER};
use ipnet::IpNet;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tower::{Layer, Service};

use super::{
    authenticate::Authenticated, client_address::client_address, parse::Parsed, record::RequestRecord,
    respond::Received,
};
use crate::{
    acl::Requester,
    config,
    rate_limit::{ClientNetwork, Limit, RetryAfter, TokenBuckets},
    s3::{Operation, S3Error, S3ErrorCode, operation::OperationClass},
    server::ConnectionInfo,
};

/// How long a HEAD waits for its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// The limits, and what has been used up of them: one for all three layers.
#[derive(Debug)]
pub struct RateLimits {
    limits: ArcSwap<config::RateLimit>,
    /// Peers whose `X-Forwarded-For` is believed.
    trusted_proxies: Vec<IpNet>,
    addresses: TokenBuckets<ClientNetwork>,
    keys: TokenBuckets<Box<str>>,
    classes: TokenBuckets<(Who, OperationClass)>,
    waiting: Arc<Semaphore>,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Key(Box<str>),
    Address(ClientNetwork),
}

impl RateLimits {
    /// `max_waiting`: how many HEADs wait at a time; one more is refused at once. Each of them holds one of the requests
    /// that are let in at a time, so it should be a part of those.
    pub fn new(limits: config::RateLimit, trusted_proxies: Vec<IpNet>, max_waiting: usize) -> Arc<Self> {
        let epoch = Instant::now().into_std();
        let entries = limits.max_entries;
        Arc::new(Self {
            limits: ArcSwap::from_pointee(limits),
            trusted_proxies,
            addresses: TokenBuckets::new(entries, epoch),
            keys: TokenBuckets::new(entries, epoch),
            classes: TokenBuckets::new(entries, epoch),
            waiting: Arc::new(Semaphore::new(max_waiting.min(Semaphore::MAX_PERMITS))),
        })
    }

    /// Puts other limits in force, from the next request on. The number of buckets stays as it was.
    pub fn replace(&self, limits: config::RateLimit) {
        self.limits.store(Arc::new(limits));
    }

    /// How many buckets are kept.
    pub fn len(&self) -> usize {
        self.addresses.len() + self.keys.len() + self.classes.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One of the places where requests are counted.
pub trait Stage<R> {
    /// What is counted here, for the metrics.
    fn kind(request: &R) -> &'static str;

    /// Takes a token, as [`TokenBuckets::book`].
    fn book(limits: &RateLimits, request: &R, patience: Duration) -> Result<Duration, RetryAfter>;

    fn is_head(request: &R) -> bool;

    fn record(request: &R) -> &RequestRecord;
}

/// By the address of the client, which it enters into the record.
#[derive(Debug, Clone, Copy)]
pub struct ByAddress;

/// By application key. A request without one passes: its address counts.
#[derive(Debug, Clone, Copy)]
pub struct ByKey;

/// By kind of operation, for each key, or for each address where there is no key.
#[derive(Debug, Clone, Copy)]
pub struct ByClass;

impl Stage<Received> for ByAddress {
    fn kind(_: &Received) -> &'static str {
        "address"
    }

    fn book(limits: &RateLimits, request: &Received, patience: Duration) -> Result<Duration, RetryAfter> {
        let connection = request.parts.extensions.get::<ConnectionInfo>();
        // Were there ever a request without a connection, all such would share one bucket.
        let peer = connection.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |connection| connection.peer.ip());
        let client = client_address(peer, &request.parts.headers, &limits.trusted_proxies);
        request.record.set_client(client);
        let limit = limits.limits.load().per_address;
        book(&limits.addresses, || client.into(), limit, patience)
    }

    fn is_head(request: &Received) -> bool {
        request.parts.method == Method::HEAD
    }

    fn record(request: &Received) -> &RequestRecord {
        &request.record
    }
}

impl Stage<Authenticated> for ByKey {
    fn kind(_: &Authenticated) -> &'static str {
        "key"
    }

    fn book(limits: &RateLimits, request: &Authenticated, patience: Duration) -> Result<Duration, RetryAfter> {
        let Requester::Key(key) = &request.requester else {
            return Ok(Duration::ZERO);
        };
        let limit = key.rate_limit.requests.unwrap_or_else(|| limits.limits.load().per_key);
        book(&limits.keys, || key.id.clone(), limit, patience)
    }

    fn is_head(request: &Authenticated) -> bool {
        request.method == Method::HEAD
    }

    fn record(request: &Authenticated) -> &RequestRecord {
        &request.record
    }
}

impl Stage<Parsed> for ByClass {
    fn kind(request: &Parsed) -> &'static str {
        request.operation.class().as_str()
    }

    fn book(limits: &RateLimits, request: &Parsed, patience: Duration) -> Result<Duration, RetryAfter> {
        let class = request.operation.class();
        let all = limits.limits.load();
        let (own, general) = match (class, &request.requester) {
            (OperationClass::Read, Requester::Key(key)) => (key.rate_limit.read, all.read),
            (OperationClass::Write, Requester::Key(key)) => (key.rate_limit.write, all.write),
            (OperationClass::List, Requester::Key(key)) => (key.rate_limit.list, all.list),
            (OperationClass::Read, Requester::Anonymous) => (None, all.read),
            (OperationClass::Write, Requester::Anonymous) => (None, all.write),
            (OperationClass::List, Requester::Anonymous) => (None, all.list),
        };
        let who = || match &request.requester {
            Requester::Key(key) => Who::Key(key.id.clone()),
            Requester::Anonymous => {
                let client = request.record.client().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                Who::Address(client.into())
            }
        };
        book(&limits.classes, || (who(), class), own.unwrap_or(general), patience)
    }

    fn is_head(request: &Parsed) -> bool {
        matches!(request.operation, Operation::HeadObject(_) | Operation::HeadBucket(_))
    }

    fn record(request: &Parsed) -> &RequestRecord {
        &request.record
    }
}

fn book<K: std::hash::Hash + Eq>(
    buckets: &TokenBuckets<K>,
    key: impl FnOnce() -> K,
    limit: Limit,
    patience: Duration,
) -> Result<Duration, RetryAfter> {
    match limit {
        Limit::Unlimited => Ok(Duration::ZERO),
        Limit::Quota(quota) => buckets.book(key(), quota, Instant::now().into_std(), patience),
    }
}

/// See [`by_address`], [`by_key`], [`by_class`].
#[derive(Debug)]
pub struct RateLimit<S, P> {
    inner: S,
    limits: Arc<RateLimits>,
    stage: PhantomData<fn() -> P>,
}

/// Before authentication.
pub fn by_address<S>(limits: Arc<RateLimits>) -> impl Layer<S, Service = RateLimit<S, ByAddress>> + Clone {
    layer(limits)
}

/// After authentication.
pub fn by_key<S>(limits: Arc<RateLimits>) -> impl Layer<S, Service = RateLimit<S, ByKey>> + Clone {
    layer(limits)
}

/// After parsing.
pub fn by_class<S>(limits: Arc<RateLimits>) -> impl Layer<S, Service = RateLimit<S, ByClass>> + Clone {
    layer(limits)
}

fn layer<S, P>(limits: Arc<RateLimits>) -> impl Layer<S, Service = RateLimit<S, P>> + Clone {
    tower::layer::layer_fn(move |inner| RateLimit {
        inner,
        limits: limits.clone(),
        stage: PhantomData,
    })
}

impl<S: Clone, P> Clone for RateLimit<S, P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            limits: self.limits.clone(),
            stage: PhantomData,
        }
    }
}

type Answer<S, R> = Result<<S as Service<R>>::Response, S3Error>;
type Waited<S, R> = Pin<Box<dyn Future<Output = Answer<S, R>> + Send>>;

impl<S, P, R> Service<R> for RateLimit<S, P>
where
    P: Stage<R>,
    R: Send + 'static,
    S: Service<R, Error = S3Error> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
{
    type Response = S::Response;
    type Error = S3Error;
    type Future = Either<S::Future, Either<Ready<Answer<S, R>>, Waited<S, R>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S3Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let place = P::is_head(&request).then(|| self.limits.waiting.clone().try_acquire_owned().ok());
        let place = place.flatten();
        let patience = if place.is_some() { PATIENCE } else { Duration::ZERO };
        match P::book(&self.limits, &request, patience) {
            Ok(Duration::ZERO) => Either::Left(self.inner.call(request)),
            Ok(wait) => {
                let mut inner = self.inner.clone();
                Either::Right(Either::Right(Box::pin(async move {
                    sleep(wait).await;
                    drop(place);
                    inner.call(request).await
                })))
            }
            Err(over) => {
                P::record(&request).set_rate_limited(P::kind(&request));
                let Some(place) = place else {
                    return Either::Right(Either::Left(ready(Err(refusal(over)))));
                };
                // There is no turn for it in time. It is held back all the same: a client that makes nothing of the
                // refusal would be back at once.
                Either::Right(Either::Right(Box::pin(async move {
                    let asked = Instant::now();
                    sleep(PATIENCE).await;
                    drop(place);
                    Err(refusal(RetryAfter(over.0.saturating_sub(asked.elapsed()))))
                })))
            }
        }
    }
}

/// `Retry-After` knows seconds only; the other header, which some SDKs read, has the true value.
fn refusal(RetryAfter(wait): RetryAfter) -> S3Error {
    let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    let seconds = millis.div_ceil(1000).max(1);
    S3Error::new(S3ErrorCode::RateLimited, "Please reduce your request rate.")
        .with_header(RETRY_AFTER, HeaderValue::from(seconds))
        .with_header(HeaderName::from_static("x-amz-retry-after"), HeaderValue::from(millis))
}

#[cfg(test)]
mod tests;
