//! `t2gate serve`: everything that has to be there is looked for, or made, before the first connection is accepted.

mod greeting;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use t2gate_backends::{Clock as _, SystemClock, Timestamp};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use self::greeting::Greeting;
use super::{failed, say, wrong_configuration};
use crate::{
    app::{self, Startup, Storage},
    config::{CertificateFiles, Config, Overrides},
    keys::{
        KeyStore, KeyTable,
        file::{self, KeyFile, KeyFileError},
    },
    logging,
    metrics::Metrics,
    server::{
        self, Shutdown, Tls,
        self_signed::{self, SelfSigned, SelfSignedError},
        tls::{TlsError, TlsOptions},
    },
};

/// How often it is looked whether there is, or has to be, another certificate.
const REFRESH_INTERVAL: Duration = Duration::from_secs(3600);

/// What the gateway keeps for itself, below the data directory.
const RESERVED: &str = ".t2";

/// Where the gateway keeps a certificate and an authority of its own.
pub(super) fn own_tls(config: &Config) -> PathBuf {
    config.backends.default.root.join(RESERVED).join("tls")
}

/// Serves until it is told to stop.
pub(super) fn run(file: Option<&Path>, overrides: &Overrides) -> ExitCode {
    let config = match Config::load(file, overrides) {
        Ok(config) => config,
        Err(error) => return wrong_configuration(&error),
    };
    logging::init(&config.log);
    raise_descriptor_limit(config.limits.connections);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(format_args!("cannot start threads: {error}")),
    };
    match runtime.block_on(serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(format_args!("{error:#}")),
    }
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot {what} the data directory {}: {source}", path.display())]
    Data {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    #[error(transparent)]
    SelfSigned(#[from] SelfSignedError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        address: SocketAddr,
        key: &'static str,
        source: io::Error,
    },
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    App(#[from] anyhow::Error),
}

async fn serve(config: Config) -> Result<(), ServeError> {
    // First: a store that does not answer takes minutes to open, and process 1 of a container does not die of a signal that
    // it does not listen for.
    let (trigger, mut shutdown) = Shutdown::new();
    server::signals(trigger.clone()).map_err(ServeError::Signals)?;
    let hangups = signal(SignalKind::hangup()).map_err(ServeError::Signals)?;
    let config = Arc::new(config);
    let preparing = tokio::spawn({
        let config = config.clone();
        async move { Prepared::new(&config).await }
    });
    let prepared = tokio::select! {
        prepared = preparing => prepared.map_err(anyhow::Error::from)??,
        () = shutdown.requested() => {
            tracing::info!("stopped before anything was served");
            return Ok(());
        }
    };
    let listener = bind(config.listen.address, "listen.address").await?;
    let admin_listener = bind(config.listen.admin_address, "listen.admin_address").await?;
    let addresses = (address(&listener)?, address(&admin_listener)?);

    say(Greeting {
        config: &config,
        prepared: &prepared,
        address: addresses.0,
        admin_address: addresses.1,
    });
    tracing::info!(address = %addresses.0, admin_address = %addresses.1, "serving");
    let keys = Arc::new(KeyStore::new(prepared.keys));
    let tls = Arc::new(prepared.tls);
    prepared.metrics.watch_certificate(&tls).map_err(anyhow::Error::from)?;
    tokio::spawn(prepared.certificate.keep_fresh(tls.clone(), hangups));
    let startup = Startup {
        keys,
        tls,
        storage: prepared.storage,
        metrics: prepared.metrics,
        listener,
        admin_listener,
    };
    let stopped = app::run(&config, startup, shutdown).await?;
    tracing::info!(cut = stopped.cut, writes = stopped.writes, "stopped");
    Ok(())
}

/// What was found or made on the disk.
#[derive(Debug)]
struct Prepared {
    tls: Tls,
    certificate: Certificate,
    keys: KeyTable,
    storage: Storage,
    metrics: Arc<Metrics>,
    /// Set where the certificate is the gateway's own.
    self_signed: Option<SelfSigned>,
    /// Set where the keys are those of the key file: where it is, and what was made for it just now.
    key_file: Option<(PathBuf, Option<file::MadeKey>)>,
}

impl Prepared {
    async fn new(config: &Config) -> Result<Self, ServeError> {
        let root = &config.backends.default.root;
        let reserved = root.join(RESERVED);
        let data = |what| {
            move |source| ServeError::Data {
                what,
                path: root.clone(),
                source,
            }
        };
        fs::create_dir_all(&reserved).map_err(data("create"))?;
        // Said now, in one line, and not by the first request.
        let probe = tempfile_in(&reserved);
        fs::write(&probe, b"")
            .and_then(|()| fs::remove_file(&probe))
            .map_err(data("write into"))?;

        // Before keys and certificate are made: it takes the lock that keeps a second process out.
        let metrics = Metrics::new().map_err(anyhow::Error::from)?;
        let storage = app::open_storage(config, &metrics).await?;

        let now = SystemClock.now();
        let options = TlsOptions {
            min_version: config.tls.min_version,
            http2: config.tls.http2,
        };
        let certificate = match &config.tls.certificate {
            Some(files) => Certificate::Configured(files.clone()),
            None => Certificate::Own {
                directory: own_tls(config),
                names: self_signed::names(config.listen.address.ip(), &config.s3.base_domains),
            },
        };
        let (files, self_signed) = certificate.ensure(now)?;
        let tls = Tls::load(&files, options, now)?;
        let (keys, key_file) = match &config.keys {
            Some(keys) => (keys.clone(), None),
            None => {
                let KeyFile { path, table, made } = file::open_or_make(&reserved, now)?;
                (table, Some((path, made)))
            }
        };
        Ok(Self {
            tls,
            certificate,
            keys,
            storage,
            metrics,
            self_signed,
            key_file,
        })
    }
}

/// Where the certificate comes from.
#[derive(Debug, Clone)]
enum Certificate {
    /// Files that somebody else keeps, and renews.
    Configured(CertificateFiles),
    /// The gateway's own.
    Own { directory: PathBuf, names: Vec<String> },
}

impl Certificate {
    /// Its files; the gateway's own are made or renewed as needed. Blocks.
    fn ensure(&self, now: Timestamp) -> Result<(CertificateFiles, Option<SelfSigned>), SelfSignedError> {
        Ok(match self {
            Self::Configured(files) => (files.clone(), None),
            Self::Own { directory, names } => {
                let own = self_signed::ensure(directory, names, now)?;
                (own.files.clone(), Some(own))
            }
        })
    }

    /// Puts in force what there is by now; whether that is another one. If it is not fit, the old one stays. Blocks.
    fn refresh(&self, tls: &Tls, now: Timestamp) -> Result<bool, ServeError> {
        let (files, _) = self.ensure(now)?;
        Ok(tls.reload(&files, now)?)
    }

    /// Refreshes for as long as the process lives, which may be longer than any certificate; and whenever somebody asks
    /// for it by SIGHUP.
    async fn keep_fresh(self, tls: Arc<Tls>, mut hangups: Signal) {
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(REFRESH_INTERVAL) => false,
                _ = hangups.recv() => true,
            };
            let (certificate, tls) = (self.clone(), tls.clone());
            let refresh = move || certificate.refresh(&tls, SystemClock.now());
            match tokio::task::spawn_blocking(refresh).await {
                Ok(Ok(false)) if asked => tracing::info!("the certificate is the same as before"),
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => tracing::info!("another certificate is in force"),
                Ok(Err(error)) => tracing::warn!(%error, "the certificate stays the old one"),
                Err(error) => tracing::error!(%error, "cannot look for another certificate"),
            }
        }
    }
}

/// Takes as many file descriptors as this process may have: the usual soft limit of 1024 is meant for programs that use
/// `select`.
fn raise_descriptor_limit(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        tracing::debug!(%error, "cannot raise the limit on file descriptors");
    }
    // A connection is one; the object that it reads or writes is another, with its directory.
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(3);
    let allowed = getrlimit(Resource::Nofile).current.or(current);
    if allowed.is_some_and(|allowed| allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            "few file descriptors for limits.connections: raise the limit, or lower that"
        );
    }
}

fn tempfile_in(directory: &Path) -> PathBuf {
    directory.join(format!("probe.{}.tmp", std::process::id()))
}

async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, key, source })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, ServeError> {
    listener.local_addr().map_err(|error| ServeError::App(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsVersion;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + day * 86_400, 0)
    }

    fn load(certificate: &Certificate, now: Timestamp) -> Tls {
        let options = TlsOptions {
            min_version: TlsVersion::V1_2,
            http2: false,
        };
        Tls::load(&certificate.ensure(now).unwrap().0, options, now).unwrap()
    }

    #[test]
    fn a_gateway_that_runs_for_years_renews_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let own = Certificate::Own {
            directory: dir.path().to_owned(),
            names: vec!["localhost".into()],
        };
        let tls = load(&own, day(0));
        for today in (30..3000).step_by(20).map(day) {
            own.refresh(&tls, today).unwrap();
            assert!(tls.expires() > today);
        }
    }

    #[test]
    fn a_configured_certificate_that_was_replaced_is_taken_up_and_a_bad_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned()];
        let files = self_signed::ensure(dir.path(), &names, day(0)).unwrap().files;
        let configured = Certificate::Configured(files.clone());
        let tls = load(&configured, day(0));
        let first = tls.expires();
        assert!(!configured.refresh(&tls, day(1)).unwrap());
        assert_eq!(tls.expires(), first);

        self_signed::ensure(dir.path(), &names, day(380)).unwrap();
        assert!(configured.refresh(&tls, day(380)).unwrap());
        assert!(tls.expires() > first);

        let second = tls.expires();
        fs::write(&files.certificate, "nothing").unwrap();
        configured.refresh(&tls, day(381)).unwrap_err();
        assert_eq!(tls.expires(), second);
    }
}
