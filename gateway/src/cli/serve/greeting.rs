//! What start-up says, in one screen: what is served, where, what holds, what does not, and how to begin.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use secrecy::ExposeSecret as _;
use t2gate_backends::{BucketName, Durability, ProbeReport, StoreLayout, StoreLevel, VersioningStatus};

use super::Prepared;
use crate::{
    app::Store,
    config::{Backend, BackendKind, Config},
    dialect::Dialect,
    keys::{KeyKind, file::MadeKey},
    server::self_signed::Made,
};

/// Displayed once per start. Shows a secret only at the start that made it.
pub(super) struct Greeting<'a> {
    pub(super) config: &'a Config,
    pub(super) prepared: &'a Prepared,
    pub(super) address: SocketAddr,
    pub(super) admin_address: SocketAddr,
}

impl fmt::Display for Greeting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            config,
            prepared,
            admin_address,
            ..
        } = self;
        let dialect = match config.s3.dialect {
            Dialect::T2 => "t2",
            Dialect::Aws => "aws",
        };
        writeln!(f, "t2gate {}", env!("CARGO_PKG_VERSION"))?;
        writeln!(
            f,
            "  S3         {} (dialect {dialect}, region {})",
            self.endpoint(),
            config.s3.region
        )?;
        writeln!(f, "  admin      http://{admin_address} (/healthz, /readyz, /metrics)")?;
        for (backend, store) in config.backends.iter().zip(&prepared.storage.stores) {
            self.backend(f, backend, store)?;
        }
        self.versions(f)?;
        self.unclaimed(f)?;
        if let Some(own) = &prepared.self_signed {
            let authority = absolute(&own.authority);
            let what = match own.made {
                Made::Nothing => "clients have to trust",
                Made::Certificate => "certificate renewed; clients go on trusting",
                Made::Authority => "made just now; clients have to trust",
            };
            writeln!(f, "  authority  {what} {authority} (`t2gate authority` prints it)")?;
        }
        self.keys(f)
    }
}

impl Greeting<'_> {
    fn versions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_versions = |store: &&Store| store.backend.capabilities(None).versioning;
        let (with, without): (Vec<_>, Vec<_>) = self.prepared.storage.stores.iter().partition(has_versions);
        if with.is_empty() {
            return writeln!(
                f,
                "  not yet    versioning (what is overwritten or deleted is gone), encryption at rest"
            );
        }
        let kept = match self.config.s3.dialect.rules().new_bucket_versioning {
            Some(VersioningStatus::Enabled) => "a new bucket keeps what is overwritten or deleted as older versions",
            Some(VersioningStatus::Suspended) | None => {
                "what is overwritten or deleted is gone, unless the bucket's versioning is enabled"
            }
        };
        writeln!(f, "  versions   {kept}")?;
        for store in with
            .iter()
            .filter(|store| store.backend.capabilities(None).always_versioned)
        {
            writeln!(
                f,
                "             in {} always: the store keeps versions by itself",
                store.name
            )?;
        }
        for store in without {
            writeln!(f, "             not in {}: there it is gone", store.name)?;
        }
        writeln!(f, "  not yet    encryption at rest")
    }

    /// What is behind the gateway, and what that keeps. With a name where there are several.
    fn backend(&self, f: &mut fmt::Formatter<'_>, backend: &Backend, store: &Store) -> fmt::Result {
        let name = if self.config.backends.others.is_empty() {
            String::new()
        } else {
            format!("{}: ", backend.name)
        };
        let root = absolute(&backend.root);
        match backend.kind {
            BackendKind::Fs => {
                writeln!(
                    f,
                    "  data       {name}{root}: a bucket is a directory, an object a file in it"
                )?;
                let survives = match backend.durability {
                    Durability::PowerSafe => "200 means that it survives a power cut",
                    Durability::ProcessSafe => "200 means that it survives a killed process, NOT a power cut",
                };
                writeln!(f, "  holds      a write is seen whole or not at all; {survives}")
            }
            BackendKind::Opendal => {
                let Some((report, layout)) = &store.probed else {
                    return Ok(());
                };
                let layout = *layout;
                write!(f, "{}", InStore { name, report, layout })
            }
            BackendKind::Memory => {
                writeln!(f, "  data       {name}in memory")?;
                writeln!(f, "  UNSAFE     everything is gone when this process ends")
            }
        }
    }

    /// Directories that somebody may wait for in vain. A few of them: it is one screen.
    fn unclaimed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let stores = self.prepared.storage.stores.iter();
        let unclaimed: Vec<&BucketName> = stores.flat_map(|store| &store.unclaimed).collect();
        if unclaimed.is_empty() {
            return Ok(());
        }
        let names = unclaimed
            .iter()
            .take(SHOWN)
            .map(|name| name.as_str())
            .collect::<Vec<_>>();
        let more = match unclaimed.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        writeln!(
            f,
            "  not served {}{more}: directories without an owner; backend.adopt_account, or [[bucket]] with account, gives them one",
            names.join(", ")
        )
    }

    /// What clients connect to. An address and not a name: SDKs put the bucket's name before a host name, and not
    /// every resolver knows the names below `localhost`.
    fn endpoint(&self) -> String {
        let ip = match self.address.ip() {
            // Listening on all addresses includes this one.
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        format!("https://{}", SocketAddr::new(ip, self.address.port()))
    }

    fn keys(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = &self.prepared.keys;
        match &self.prepared.key_file {
            None => {
                let (accounts, keys) = (keys.accounts().count(), keys.keys().count());
                writeln!(
                    f,
                    "  keys       {keys} in {accounts} account(s), from the configuration"
                )
            }
            Some((path, None)) => {
                let id = keys
                    .keys()
                    .find(|key| key.kind != KeyKind::Master)
                    .map_or("none", |key| &key.id);
                writeln!(
                    f,
                    "  keys       access key id {id}; its secret is in {}",
                    absolute(path)
                )
            }
            Some((path, Some(made))) => {
                writeln!(
                    f,
                    "  keys       made just now, kept in {}; shown this once:",
                    absolute(path)
                )?;
                self.first_steps(f, made)
            }
        }
    }

    fn first_steps(&self, f: &mut fmt::Formatter<'_>, made: &MadeKey) -> fmt::Result {
        let (id, secret) = (&made.id, made.secret.expose_secret());
        let (endpoint, region) = (self.endpoint(), &self.config.s3.region);
        let authority = self.prepared.self_signed.as_ref().map(|own| absolute(&own.authority));
        let bundle = authority
            .as_ref()
            .map(|path| format!(" AWS_CA_BUNDLE='{path}'"))
            .unwrap_or_default();
        let ca_cert = authority
            .as_ref()
            .map(|path| format!(" --ca-cert '{path}'"))
            .unwrap_or_default();
        let verify = authority
            .as_ref()
            .map(|path| format!(", verify=\"{path}\""))
            .unwrap_or_default();
        writeln!(f, "\naws:")?;
        writeln!(f, "  export AWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={secret}")?;
        writeln!(
            f,
            "  export AWS_ENDPOINT_URL={endpoint} AWS_REGION={region} AWS_DEFAULT_REGION={region}{bundle}"
        )?;
        writeln!(f, "  aws s3 mb s3://first && aws s3 cp README.md s3://first/")?;
        writeln!(f, "rclone:")?;
        writeln!(
            f,
            "  rclone config create t2 s3 provider=Other access_key_id={id} secret_access_key={secret} \
             endpoint={endpoint} region={region}"
        )?;
        writeln!(f, "  rclone{ca_cert} lsd t2:")?;
        writeln!(f, "boto3:")?;
        writeln!(
            f,
            "  s3 = boto3.client(\"s3\", endpoint_url=\"{endpoint}\", region_name=\"{region}\",\n      \
             aws_access_key_id=\"{id}\", aws_secret_access_key=\"{secret}\"{verify})\n"
        )
    }
}

/// What a store keeps, and what it does not.
struct InStore<'a> {
    name: String,
    report: &'a ProbeReport,
    layout: StoreLayout,
}

impl fmt::Display for InStore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, report, layout } = self;
        let lies = match layout {
            StoreLayout::Transparent => "an object is one of the store's, BUCKET/KEY",
            StoreLayout::Encoded => "names are encoded, and only the gateway can read objects",
        };
        writeln!(f, "  data       {name}in a store ({}): {lies}", report.service)?;
        writeln!(f, "  level      {}", report.level)?;
        if report.level < StoreLevel::CompareAndSet {
            writeln!(
                f,
                "  UNSAFE     with a second gateway on this store; conditional writes are refused"
            )?;
        }
        if !report.writes_whole {
            writeln!(
                f,
                "  UNSAFE     if the store fails amid a write: it may write in place, and what was there is gone then"
            )?;
        }
        if let Some(rule) = report.upload_rule {
            writeln!(
                f,
                "  to do      set the store's lifecycle rule {rule}: a killed gateway leaves uploads there"
            )?;
        }
        Ok(())
    }
}

/// For people to paste: the directory that the gateway was started in is not the one that they are in.
fn absolute(path: &Path) -> String {
    std::path::absolute(path)
        .unwrap_or_else(|_| path.to_owned())
        .display()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said_of(report: &ProbeReport) -> String {
        let layout = StoreLayout::Encoded;
        let name = "cloud: ".to_owned();
        InStore { name, report, layout }.to_string()
    }

    #[test]
    fn a_store_that_keeps_everything_is_greeted_with_its_level_alone() {
        let report = ProbeReport {
            service: "azblob",
            level: StoreLevel::CompareAndSet,
            writes_whole: true,
            upload_rule: None,
            lines: Vec::new(),
        };
        let said = said_of(&report);
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(said.contains("cloud: in a store (azblob)") && said.contains("L2, compare and set"));
    }

    #[test]
    fn what_a_store_does_not_keep_and_what_is_left_to_it_is_said() {
        let report = ProbeReport {
            service: "webdav",
            level: StoreLevel::Blobs,
            writes_whole: false,
            upload_rule: Some("AbortIncompleteMultipartUpload"),
            lines: Vec::new(),
        };
        let said = said_of(&report);
        for words in [
            "UNSAFE     with a second gateway on this store",
            "UNSAFE     if the store fails amid a write: it may write in place",
            "set the store's lifecycle rule AbortIncompleteMultipartUpload",
        ] {
            assert!(said.contains(words), "{words} is not in\n{said}");
        }
    }
}
