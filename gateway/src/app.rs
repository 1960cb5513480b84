//! Configuration in, running gateway out. The only file that knows every module.

mod readiness;

use std::sync::Arc;

use anyhow::Context as _;
use http::HeaderValue;
use t2gate_backends::{
    AccountId, Backend, BucketName, Clock, FsBackend, FsOptions, MemoryBackend, Metered, OpendalBackend,
    OpendalOptions, ProbeReport, Routed, Routes, StoreLayout, SystemClock, Versioned,
};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout_at},
};

use self::readiness::Readiness;
use crate::{
    admin::Admin,
    body::BodyPace,
    config::{self, BackendKind, Config},
    dispatch::{self, Writes},
    keys::KeyStore,
    layer::{
        authenticate::Authenticate,
        backend_limits::{BackendLimit, BackendLimits},
        memory_budget::MemoryBudget,
        rate_limit::RateLimits,
        respond,
        route::Route,
    },
    metrics::Metrics,
    server::{self, ConnectionStats, Shutdown, Tls},
    stack::{self, stack},
};

/// What has to be there before anything is served; taken by `cli/serve.rs`, so that its failures are told at once.
#[derive(Debug)]
pub struct Startup {
    pub keys: Arc<KeyStore>,
    pub tls: Arc<Tls>,
    pub storage: Storage,
    /// Those that the storage was opened with.
    pub metrics: Arc<Metrics>,
    pub listener: TcpListener,
    pub admin_listener: TcpListener,
}

/// All storage, opened.
#[derive(Debug)]
pub struct Storage {
    /// In the order of the configuration, the default first.
    pub stores: Vec<Store>,
}

/// One backend of the configuration, opened.
#[derive(Debug)]
pub struct Store {
    pub name: Box<str>,
    pub backend: Arc<dyn Backend>,
    /// What lies there and could be a bucket, but has no owner, and so is not served.
    pub unclaimed: Vec<BucketName>,
    /// What was found out about a store by trying, and how objects lie in it.
    pub probed: Option<(ProbeReport, StoreLayout)>,
}

/// Opens the storage that the configuration names, one backend after the other. Blocks: before anything is served.
/// `metrics` count what is asked of stores from the first probe on.
pub async fn open_storage(config: &Config, metrics: &Arc<Metrics>) -> Result<Storage, anyhow::Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let several = !config.backends.others.is_empty();
    let mut stores = Vec::new();
    for backend in config.backends.iter() {
        if backend.kind == BackendKind::Opendal {
            // It may take minutes, and whoever waits wants to know what for.
            tracing::info!(
                backend = &*backend.name,
                service = &*backend.store.service,
                "opening a store"
            );
        }
        let store = open_store(backend, clock.clone(), Some(metrics))
            .await
            .map_err(|error| match several {
                true => anyhow::anyhow!("backend {}: {error:#}", backend.name),
                false => error,
            })?;
        stores.push(store);
    }
    Ok(Storage { stores })
}

/// Opens the storage of one bucket alone. For a `read_only` look nothing that lies there is changed, or put in order as
/// it is at a start.
pub async fn open_storage_of(
    config: &Config,
    bucket: &BucketName,
    read_only: bool,
) -> Result<Arc<dyn Backend>, anyhow::Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = config.backends.routes.store_of(bucket);
    let backend = config.backends.iter().nth(store).context("no such backend")?;
    // To open it is to make it where it is not there.
    if backend.kind == BackendKind::Fs && !backend.root.is_dir() {
        anyhow::bail!("{}: no such directory", backend.root.display());
    }
    if !read_only {
        return Ok(open_store(backend, clock, None).await?.backend);
    }
    match backend.kind {
        BackendKind::Fs => {
            let options = FsOptions {
                read_only,
                ..fs_options(backend, clock.clone())
            };
            Ok(versioned(FsBackend::open(options)?, clock))
        }
        BackendKind::Opendal => anyhow::bail!("what this store can do is found out by writing to it: no dry run"),
        BackendKind::Memory => Ok(open_store(backend, clock, None).await?.backend),
    }
}

fn fs_options(config: &config::Backend, clock: Arc<dyn Clock>) -> FsOptions {
    FsOptions {
        durability: config.durability,
        adoption: config.adoption.clone(),
        listing_cache_bytes: config.listing_cache,
        abandoned_upload_age: config.abandoned_upload_age,
        shared: config.shared,
        ..FsOptions::new(&config.root, clock)
    }
}

/// How a backend of the kind `opendal` is to be opened.
pub fn store_options(config: &config::Backend, clock: Arc<dyn Clock>) -> OpendalOptions {
    let store = &config.store;
    OpendalOptions {
        options: store.options.0.clone(),
        layout: store.layout,
        least_level: store.least_level,
        adoption: config.adoption.clone(),
        memory_bytes: store.memory,
        abandoned_upload_age: config.abandoned_upload_age,
        ..OpendalOptions::new(store.service.clone(), clock)
    }
}

async fn open_store(
    config: &config::Backend,
    clock: Arc<dyn Clock>,
    metrics: Option<&Arc<Metrics>>,
) -> Result<Store, anyhow::Error> {
    let name = config.name.clone();
    Ok(match config.kind {
        BackendKind::Fs => {
            let backend = FsBackend::open(fs_options(config, clock.clone()))?;
            Store {
                name,
                unclaimed: backend.unclaimed().to_vec(),
                backend: versioned(backend, clock),
                probed: None,
            }
        }
        BackendKind::Opendal => {
            let options = OpendalOptions {
                observer: metrics.map(|metrics| metrics.store_observer(&config.name, &config.store.service)),
                ..store_options(config, clock.clone())
            };
            let backend = OpendalBackend::open(options)
                .await
                .map_err(|error| match error.report() {
                    Some(report) => anyhow::anyhow!("{error}:\n{report}"),
                    None => error.into(),
                })?;
            Store {
                name,
                unclaimed: backend.unclaimed().to_vec(),
                probed: Some((backend.report().clone(), backend.layout())),
                backend: versioned(backend, clock),
            }
        }
        BackendKind::Memory => Store {
            name,
            backend: versioned(MemoryBackend::new(clock.clone()), clock),
            unclaimed: Vec::new(),
            probed: None,
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

/// The stores, watched, and all of them as one.
struct Joined {
    stores: Vec<Store>,
    backend: Arc<dyn Backend>,
    /// The same, where there are several.
    routed: Option<Arc<Routed>>,
}

impl Joined {
    fn new(stores: Vec<Store>, routes: &Routes, metrics: &Arc<Metrics>) -> Result<Self, anyhow::Error> {
        let watched = stores.into_iter().map(|store| Store {
            backend: Arc::new(Metered::new(store.backend, metrics.backend_observer(&store.name))),
            ..store
        });
        let stores: Vec<Store> = watched.collect();
        if let [store] = &*stores {
            let backend = store.backend.clone();
            return Ok(Self {
                stores,
                backend,
                routed: None,
            });
        }
        let backends = stores.iter().map(|store| store.backend.clone()).collect();
        let routed = Arc::new(Routed::new(backends, routes.clone())?);
        Ok(Self {
            stores,
            backend: routed.clone(),
            routed: Some(routed),
        })
    }
}

/// Says which buckets lie where their names do not lead, so that nobody waits for them in vain. Goes by the accounts
/// that there are.
async fn tell_misplaced(routed: Arc<Routed>, names: Vec<Box<str>>, accounts: Vec<AccountId>) {
    const TOLD: usize = 100;
    for account in accounts {
        match routed.misplaced(&account, TOLD).await {
            Ok(buckets) => {
                for (bucket, store) in buckets {
                    let backend = names.get(store).map_or("", |name| &**name);
                    tracing::warn!(
                        %bucket, %account, backend,
                        "not served: [[bucket]] leads this name to another backend than the one that it lies in"
                    );
                }
            }
            Err(error) => tracing::warn!(%account, %error, "cannot look for buckets in the wrong backend"),
        }
    }
}

/// What had not ended within [`Limits::drain_deadline`](crate::config::Limits) of the word to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were still busy, and were cut.
    pub cut: usize,
    /// Writes that were under way, whether anybody waited for them or not. None of them has been acknowledged.
    pub writes: usize,
}

/// Serves until `shutdown`, then drains: first connections, then writes whose clients have gone, which are finished as if
/// they had not. The admin listener stops last, so that it can say that the gateway drains.
pub async fn run(config: &Config, startup: Startup, shutdown: Shutdown) -> Result<Stopped, anyhow::Error> {
    let Startup {
        keys,
        tls,
        storage,
        metrics,
        listener,
        admin_listener,
    } = startup;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stats = Arc::new(ConnectionStats::default());
    metrics.watch_connections(&stats)?;
    let joined = Joined::new(storage.stores, &config.backends.routes, &metrics)?;
    let Joined {
        stores,
        backend,
        routed,
    } = joined;
    if let Some(routed) = routed {
        let names = stores.iter().map(|store| store.name.clone()).collect();
        let accounts = keys.accounts().iter().map(|account| account.id.clone()).collect();
        tokio::spawn(tell_misplaced(routed, names, accounts));
    }
    let writes = Writes::default();
    let parts = layers(config, keys, backend, clock.clone(), metrics.clone(), writes.clone())?;
    let service = stack(parts).context("no random numbers")?;

    let (admin_trigger, admin_shutdown) = Shutdown::new();
    let readiness = Arc::new(Readiness::new(shutdown.clone(), tls.clone(), stores, clock));
    let admin = Admin::new(metrics.registry().clone(), move || {
        let readiness = readiness.clone();
        async move { readiness.judge().await }
    });
    let admin = tokio::spawn(admin.run(admin_listener, admin_shutdown));
    let mut word = shutdown.clone();
    let told = async {
        word.requested().await;
        Instant::now()
    };
    let serving = server::run(listener, tls, service, (&config.limits).into(), stats, shutdown);
    let (drained, told) = tokio::join!(serving, told);
    let deadline = told + config.limits.drain_deadline;
    if timeout_at(deadline, writes.ended()).await.is_err() {
        tracing::warn!(
            writes = writes.count(),
            "the drain deadline has passed: cutting writes that still run"
        );
    }
    admin_trigger.trigger();
    admin.await?;
    Ok(Stopped {
        cut: drained.cut,
        writes: writes.count(),
    })
}

/// What the stack is made of, as the configuration has it.
fn layers(
    config: &Config,
    keys: Arc<KeyStore>,
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    writes: Writes,
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
        backend_limits: BackendLimits::new(
            config.backends.routes.clone(),
            config
                .backends
                .iter()
                .map(|backend| BackendLimit::new(backend.concurrent_requests, backend.memory_budget)),
        ),
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
        writes,
    })
}
