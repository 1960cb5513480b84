//! Configuration in, running gateway out. The only file that knows every module.

use std::sync::Arc;

use anyhow::Context as _;
use http::HeaderValue;
use t2gate_backends::{
    Backend, BucketName, Clock, FsBackend, FsOptions, MemoryBackend, Metered, SystemClock, Versioned,
};
use tokio::net::TcpListener;

use crate::{
    admin::Admin,
    body::BodyPace,
    config::{BackendKind, Config},
    dispatch,
    keys::KeyStore,
    layer::{authenticate::Authenticate, memory_budget::MemoryBudget, rate_limit::RateLimits, respond, route::Route},
    metrics::Metrics,
    server::{self, ConnectionStats, Drained, Shutdown, Tls},
    stack::{self, stack},
};

/// What has to be there before anything is served; taken by `cli/serve.rs`, so that its failures are told at once.
#[derive(Debug)]
pub struct Startup {
    pub keys: Arc<KeyStore>,
    pub tls: Arc<Tls>,
    pub backend: Arc<dyn Backend>,
    pub listener: TcpListener,
    pub admin_listener: TcpListener,
}

/// Storage, opened.
#[derive(Debug)]
pub struct Storage {
    pub backend: Arc<dyn Backend>,
    /// What lies there and could be a bucket, but has no owner, and so is not served.
    pub unclaimed: Vec<BucketName>,
}

/// Opens the storage that the configuration names. Blocks.
pub fn open_storage(config: &Config) -> Result<Storage, anyhow::Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(match config.backend.kind {
        BackendKind::Fs => {
            let backend = FsBackend::open(FsOptions {
                durability: config.backend.durability,
                adopt: config.backend.adopt_account.clone(),
                listing_cache_bytes: config.backend.listing_cache,
                abandoned_upload_age: config.backend.abandoned_upload_age,
                shared: config.backend.shared,
                ..FsOptions::new(&config.backend.root, clock.clone())
            })?;
            Storage {
                unclaimed: backend.unclaimed().to_vec(),
                backend: versioned(backend, clock),
            }
        }
        BackendKind::Memory => Storage {
            backend: versioned(MemoryBackend::new(clock.clone()), clock),
            unclaimed: Vec::new(),
        },
    })
}

/// With versions, where the storage can keep what a write displaces.
fn versioned<B: Backend>(backend: B, clock: Arc<dyn Clock>) -> Arc<dyn Backend> {
    match Versioned::new(backend, clock) {
        Ok(versioned) => Arc::new(versioned),
        Err(plain) => Arc::new(plain),
    }
}

/// Serves until `shutdown`, then drains. The admin listener stops last, so that it can say that the gateway drains.
pub async fn run(config: Config, startup: Startup, shutdown: Shutdown) -> Result<Drained, anyhow::Error> {
    let Startup {
        keys,
        tls,
        backend,
        listener,
        admin_listener,
    } = startup;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Metrics::new()?;
    let stats = Arc::new(ConnectionStats::default());
    metrics.watch_connections(&stats)?;
    let observer = metrics.backend_observer(backend.capabilities().name);
    let backend: Arc<dyn Backend> = Arc::new(Metered::new(backend, observer));
    let service =
        stack(layers(&config, keys, backend.clone(), clock.clone(), metrics.clone())?).context("no random numbers")?;

    let (admin_trigger, admin_shutdown) = Shutdown::new();
    let readiness = Readiness {
        shutdown: shutdown.clone(),
        tls: tls.clone(),
        backend,
        clock,
    };
    let readiness = Arc::new(readiness);
    let admin = Admin::new(metrics.registry().clone(), move || {
        let readiness = readiness.clone();
        async move { readiness.judge().await }
    });
    let admin = tokio::spawn(admin.run(admin_listener, admin_shutdown));
    let drained = server::run(listener, tls, service, (&config.limits).into(), stats, shutdown).await;
    admin_trigger.trigger();
    admin.await?;
    Ok(drained)
}

/// What the stack is made of, as the configuration has it.
fn layers(
    config: &Config,
    keys: Arc<KeyStore>,
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
) -> Result<stack::Parts, anyhow::Error> {
    let s3 = &config.s3;
    let memory = MemoryBudget::new(config.limits.memory_budget);
    metrics.watch_memory(&memory)?;
    // Those that wait must leave room for those that need not.
    let max_waiting = config.limits.concurrent_requests.div_ceil(4);
    let rate_limits = RateLimits::new(config.rate_limit.clone(), s3.trusted_proxies.clone(), max_waiting);
    metrics.watch_rate_limits(&rate_limits)?;
    Ok(stack::Parts {
        dialect: s3.dialect,
        respond: respond::Settings {
            dialect: s3.dialect,
            region: HeaderValue::from_str(&s3.region).context("s3.region")?,
            pace: BodyPace {
                idle_timeout: config.limits.idle_body_timeout,
                grace: config.limits.throughput_grace,
                min_bytes_per_second: config.limits.least_throughput,
            },
        },
        max_requests: config.limits.concurrent_requests,
        memory,
        rate_limits,
        metrics,
        route: Route {
            base_domains: s3.base_domains.clone(),
            trusted_proxies: s3.trusted_proxies.clone(),
        },
        authenticate: Authenticate {
            keys: keys.clone(),
            clock,
            region: s3.region.clone(),
            any_region: s3.any_region,
        },
        dispatch: dispatch::Settings {
            dialect: s3.dialect,
            region: s3.region.clone(),
            keys,
            max_buckets: s3.max_buckets_per_account,
            ignore_object_acl: s3.ignore_object_acl,
        },
        backend,
    })
}

/// Whether requests should be sent here.
struct Readiness {
    shutdown: Shutdown,
    tls: Arc<Tls>,
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
}

impl Readiness {
    async fn judge(&self) -> Result<(), String> {
        if self.shutdown.is_requested() {
            return Err("draining".into());
        }
        if self.tls.expires() <= self.clock.now() {
            return Err("the certificate has expired".into());
        }
        let ready = self.backend.ready().await;
        ready.map_err(|error| format!("the storage does not answer: {error}"))
    }
}
