//! `[tls]`: the certificate, and what is spoken over it.

use std::path::PathBuf;

use serde::Deserialize;

use super::{fault::Faults, raw::Switch};

/// What the TLS listener offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `None`: the gateway makes an authority and a certificate of its own below the data directory.
    pub certificate: Option<CertificateFiles>,
    pub min_version: TlsVersion,
    /// Offer HTTP/2 beside HTTP/1.1.
    pub http2: bool,
}

/// A certificate chain and its private key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The versions of TLS that are spoken at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
    pub(super) min_version: String,
    pub(super) http2: Switch,
}

impl Default for RawTls {
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            min_version: "1.2".to_owned(),
            http2: Switch(false),
        }
    }
}

impl RawTls {
    pub(super) fn check(self, faults: &mut Faults) -> Option<Tls> {
        let min_version = match self.min_version.as_str() {
            "1.2" => Some(TlsVersion::V1_2),
            "1.3" => Some(TlsVersion::V1_3),
            other => faults.expect("min_version", other, "\"1.2\" or \"1.3\"", None),
        };
        let certificate = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some(CertificateFiles {
                certificate: certificate.into(),
                key: key.into(),
            }),
            (None, None) => None,
            (Some(_), None) => {
                faults.add("key", "is missing: tls.certificate needs its private key");
                None
            }
            (None, Some(_)) => {
                faults.add("certificate", "is missing: tls.key needs its certificate");
                None
            }
        };
        Some(Tls {
            certificate,
            min_version: min_version?,
            http2: self.http2.0,
        })
    }
}
