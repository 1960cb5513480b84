//! The TLS side of a listener: a certificate in force, which can be replaced while connections run.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    version::{TLS12, TLS13},
};
use t2gate_backends::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::{CertificateFiles, TlsVersion};

/// What is spoken, beside the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsOptions {
    pub min_version: TlsVersion,
    /// Offer HTTP/2 beside HTTP/1.1.
    pub http2: bool,
}

/// A certificate in force. New connections get the newest one.
#[derive(Debug)]
pub struct Tls {
    options: TlsOptions,
    loaded: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
    validity: Validity,
}

/// A certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {what} {}: {source}", path.display())]
    Read {
        what: &'static str,
        path: PathBuf,
        source: pem::Error,
    },
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} holds no certificate that can be understood", .0.display())]
    NotX509(PathBuf),
    #[error("the certificate {} expired at {expired}", path.display())]
    Expired { path: PathBuf, expired: String },
    #[error("the certificate {} is not valid before {begins}", path.display())]
    NotYetValid { path: PathBuf, begins: String },
    #[error("the certificate {} and the key {} do not go together: {source}", certificate.display(), key.display())]
    Unusable {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
}

impl Tls {
    /// Loads a chain and its key. `now` has to lie within the certificate's time.
    pub fn load(files: &CertificateFiles, options: TlsOptions, now: Timestamp) -> Result<Self, TlsError> {
        let loaded = ArcSwap::from_pointee(load(files, options, now)?);
        Ok(Self { options, loaded })
    }

    /// Puts the certificate in force that the files hold by now; whether it is another one. If it is not fit, the old one
    /// stays.
    pub fn reload(&self, files: &CertificateFiles, now: Timestamp) -> Result<bool, TlsError> {
        let new = load(files, self.options, now)?;
        let is_another = new.chain != self.loaded.load().chain;
        self.loaded.store(Arc::new(new));
        Ok(is_another)
    }

    /// From when the certificate in force is valid.
    pub fn begins(&self) -> Timestamp {
        self.loaded.load().validity.begins
    }

    /// When the certificate in force expires.
    pub fn expires(&self) -> Timestamp {
        self.loaded.load().validity.expires
    }

    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().config)
    }
}

fn load(files: &CertificateFiles, options: TlsOptions, now: Timestamp) -> Result<Loaded, TlsError> {
    let chain = read_chain(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Read {
        what: "the private key",
        path: files.key.clone(),
        source,
    })?;
    let validity = Validity::of(&chain, &files.certificate)?;
    let path = || files.certificate.clone();
    if now >= validity.expires {
        return Err(TlsError::Expired {
            path: path(),
            expired: show(validity.expires),
        });
    }
    if now < validity.begins {
        return Err(TlsError::NotYetValid {
            path: path(),
            begins: show(validity.begins),
        });
    }
    let versions: &[_] = match options.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain.clone(), key))
        .map_err(|source| TlsError::Unusable {
            certificate: path(),
            key: files.key.clone(),
            source,
        })?;
    if options.http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Loaded {
        config: Arc::new(config),
        chain,
        validity,
    })
}

pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Read {
        what: "the certificate",
        path: path.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    if chain.is_empty() {
        Err(TlsError::NoCertificate(path.to_owned()))
    } else {
        Ok(chain)
    }
}

/// From when to when the first certificate of a chain is valid.
#[derive(Debug)]
pub(super) struct Validity {
    pub(super) begins: Timestamp,
    pub(super) expires: Timestamp,
}

impl Validity {
    pub(super) fn of(chain: &[CertificateDer<'_>], path: &Path) -> Result<Self, TlsError> {
        let leaf = chain.first().ok_or_else(|| TlsError::NoCertificate(path.to_owned()))?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| TlsError::NotX509(path.to_owned()))?;
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_unix(time.timestamp(), 0);
        Ok(Self {
            begins: at(leaf.validity().not_before),
            expires: at(leaf.validity().not_after),
        })
    }
}

fn show(time: Timestamp) -> String {
    jiff::Timestamp::from_second(time.unix_seconds())
        .map_or_else(|_| "an unknown time".to_owned(), |time| time.to_string())
}
