//! Configuration in, running gateway out. The only file that knows every module.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::future::join_all;
use http::HeaderValue;
use t2gate_backends::{
    AccountId, Backend, BackendError, BucketName, Clock, FsBackend, FsOptions, MemoryBackend, Metered, OpendalBackend,
    OpendalOptions, ProbeReport, Routed, Routes, StoreLayout, SystemClock, Versioned,
};
use tokio::{net::TcpListener, time::timeout};

use crate::{
    admin::Admin,
    body::BodyPace,
    config::{self, BackendKind, Config},
    dispatch,
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
    server::{self, ConnectionStats, Drained, Shutdown, Tls},
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

/// A backend that is not ready after so long is not. Less than the admin listener waits, so that it can be said which.
const STORE_READY_TIMEOUT: Duration = Duration::from_secs(4);

/// Opens the storage that the configuration names, one backend after the other. Blocks: before anything is served.
/// `metrics` count what is asked of stores from the first probe on.
pub async fn open_storage(config: &Config, metrics: &Arc<Metrics>) -> Result<Storage, anyhow::Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let several = !config.backends.others.is_empty();
    let mut stores = Vec::new();
    for backend in config.backends.iter() {
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

/// Serves until `shutdown`, then drains. The admin listener stops last, so that it can say that the gateway drains.
pub async fn run(config: Config, startup: Startup, shutdown: Shutdown) -> Result<Drained, anyhow::Error> {
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
    let service =
        stack(layers(&config, keys, backend, clock.clone(), metrics.clone())?).context("no random numbers")?;

    let (admin_trigger, admin_shutdown) = Shutdown::new();
    let readiness = Readiness {
        shutdown: shutdown.clone(),
        tls: tls.clone(),
        stores,
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
    })
}

/// Whether requests should be sent here.
struct Readiness {
    shutdown: Shutdown,
    tls: Arc<Tls>,
    stores: Vec<Store>,
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
        let asked = join_all(self.stores.iter().map(|store| self.ask(store))).await;
        let faults: Vec<String> = asked.into_iter().filter_map(Result::err).collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }
    async fn ask(&self, store: &Store) -> Result<(), String> {
        let name = match &*self.stores {
            [_] => "the storage".to_owned(),
            _ => format!("the storage {}", store.name),
        };
        match timeout(STORE_READY_TIMEOUT, store.backend.ready()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ BackendError::ReadOnly)) => Err(format!("{name}: {error}")),
            Ok(Err(error)) => Err(format!("{name} does not answer: {error}")),
            Err(_elapsed) => Err(format!("{name} does not answer in time")),
        }
    }
}
