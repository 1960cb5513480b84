//! A certificate authority and a certificate of the gateway's own, for whoever has none yet.
//!
//! The authority is made once and kept, so that clients which were told to trust it go on doing so; the certificate is
//! made anew when it nears its end, when its names are no longer the ones that are wanted, or when it is damaged.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use t2gate_backends::Timestamp;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::tls::{TlsError, Validity, read_chain};
use crate::{
    config::CertificateFiles,
    keys::file::{write_private, write_public},
};

const DAY: i64 = 24 * 60 * 60;
const AUTHORITY_DAYS: i64 = 3650;
/// Some clients refuse what is valid for more than 398 days.
const CERTIFICATE_DAYS: i64 = 397;
const RENEW_BEFORE_DAYS: i64 = 30;

/// The files of the gateway's own authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfSigned {
    /// What clients have to trust, PEM.
    pub authority: PathBuf,
    pub files: CertificateFiles,
    pub made: Made,
}

/// What had to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    Nothing,
    /// Clients need not be told.
    Certificate,
    /// Clients have to be told to trust it.
    Authority,
}

/// There is no certificate and none can be made.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the system gives no randomness: {0}")]
    Random(getrandom::Error),
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{} cannot be used ({reason}): restore it, or remove {} and let clients trust a new authority",
        path.display(), authority.display())]
    Authority {
        path: PathBuf,
        authority: PathBuf,
        reason: String,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Where in `directory` is what clients have to trust.
pub fn authority(directory: &Path) -> PathBuf {
    directory.join("ca.pem")
}

/// The certificate in `directory`, made or renewed as needed, for these names and addresses.
pub fn ensure(directory: &Path, names: &[String], now: Timestamp) -> Result<SelfSigned, SelfSignedError> {
    fs::create_dir_all(directory).map_err(|source| io_error("create", directory, source))?;
    let mut own = SelfSigned {
        authority: authority(directory),
        files: CertificateFiles {
            certificate: directory.join("cert.pem"),
            key: directory.join("key.pem"),
        },
        made: Made::Nothing,
    };
    let authority_key = directory.join("ca.key");
    if !exists(&own.authority)? || left(&own.authority, now)? < RENEW_BEFORE_DAYS * DAY {
        make_authority(&own.authority, &authority_key, now)?;
        own.made = Made::Authority;
    } else if is_fit(&own, names, now) {
        return Ok(own);
    } else {
        own.made = Made::Certificate;
    }
    make_certificate(&own, &authority_key, names, now)?;
    Ok(own)
}

/// The names that the gateway's own certificate has: this machine's, the address that is listened on, and the base
/// domains with one level below each.
pub fn names(listen: IpAddr, base_domains: &[Box<str>]) -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    // One that means "all addresses" is not an address to connect to.
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    names.extend(
        base_domains
            .iter()
            .flat_map(|domain| [domain.to_string(), format!("*.{domain}")]),
    );
    names.sort_unstable();
    names.dedup();
    names
}

fn make_authority(authority: &Path, authority_key: &Path, now: Timestamp) -> Result<(), SelfSignedError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    // Two gateways' authorities in one bundle are told apart by their names as well as by their keys.
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(SelfSignedError::Random)?;
    params.distinguished_name.push(
        DnType::CommonName,
        format!("t2gate local authority {}", hex::encode(random)),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, AUTHORITY_DAYS);
    let certificate = params.self_signed(&key)?;
    // The key first: a certificate says that its key is there.
    write_private(authority_key, key.serialize_pem().as_bytes())
        .map_err(|source| io_error("write", authority_key, source))?;
    write_public(authority, certificate.pem().as_bytes()).map_err(|source| io_error("write", authority, source))
}

fn make_certificate(
    own: &SelfSigned,
    authority_key: &Path,
    names: &[String],
    now: Timestamp,
) -> Result<(), SelfSignedError> {
    let unusable = |path: &Path, reason: String| SelfSignedError::Authority {
        path: path.to_owned(),
        authority: own.authority.clone(),
        reason,
    };
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| unusable(path, error.to_string()));
    let issuer_key =
        KeyPair::from_pem(&read(authority_key)?).map_err(|error| unusable(authority_key, error.to_string()))?;
    let issuer = Issuer::from_ca_cert_pem(&read(&own.authority)?, issuer_key)
        .map_err(|error| unusable(&own.authority, error.to_string()))?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "t2gate");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, CERTIFICATE_DAYS);
    let certificate = params.signed_by(&key, &issuer)?;
    write_private(&own.files.key, key.serialize_pem().as_bytes())
        .map_err(|source| io_error("write", &own.files.key, source))?;
    write_public(&own.files.certificate, certificate.pem().as_bytes())
        .map_err(|source| io_error("write", &own.files.certificate, source))
}

/// From yesterday, for clocks differ, for that many days.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let date = |days: i64| {
        let at = jiff::Timestamp::from_second(now.unix_seconds() + days * DAY).unwrap_or_default();
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = date(-1);
    params.not_after = date(days - 1);
}

/// The certificate lasts, has the names that are wanted, comes from this authority, and goes with its key.
fn is_fit(own: &SelfSigned, names: &[String], now: Timestamp) -> bool {
    let fit = || {
        if left(&own.files.certificate, now).ok()? < RENEW_BEFORE_DAYS * DAY {
            return None;
        }
        let chain = read_chain(&own.files.certificate).ok()?;
        let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
        let authority = read_chain(&own.authority).ok()?;
        let (_, authority) = X509Certificate::from_der(authority.first()?).ok()?;
        let mut wanted = names.to_vec();
        let mut found = alternative_names(&leaf)?;
        wanted.sort_unstable();
        found.sort_unstable();
        let key = KeyPair::from_pem(&fs::read_to_string(&own.files.key).ok()?).ok()?;
        let goes_with_key = leaf.public_key().subject_public_key.data.as_ref() == key.public_key_raw();
        (wanted == found && leaf.issuer() == authority.subject() && goes_with_key).then_some(())
    };
    fit().is_some()
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let extension = certificate.subject_alternative_name().ok()??;
    let names = extension.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    });
    names.collect()
}

/// Seconds until the certificate in that file expires.
fn left(path: &Path, now: Timestamp) -> Result<i64, TlsError> {
    let validity = Validity::of(&read_chain(path)?, path)?;
    Ok(validity.expires.unix_seconds() - now.unix_seconds())
}

fn exists(path: &Path) -> Result<bool, SelfSignedError> {
    path.try_exists().map_err(|source| io_error("read", path, source))
}

fn io_error(what: &'static str, path: &Path, source: std::io::Error) -> SelfSignedError {
    SelfSignedError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn at(day: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + day * DAY, 0)
    }

    fn wanted() -> Vec<String> {
        names(LOOPBACK, &["s3.localhost".into()])
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_second_start_finds_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), &wanted(), at(0)).unwrap();
        assert_eq!(first.made, Made::Authority);
        let certificate = read(&first.files.certificate);
        let second = ensure(dir.path(), &wanted(), at(1)).unwrap();
        assert_eq!(second.made, Made::Nothing);
        assert_eq!(read(&second.files.certificate), certificate);
    }

    #[test]
    fn keys_are_their_owners_alone_and_certificates_are_for_all() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), &wanted(), at(0)).unwrap();
        let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode("ca.key"), mode("key.pem")], [0o600; 2]);
        assert_eq!(mode("ca.pem") & 0o400, 0o400);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_certificate_near_its_end_is_renewed_by_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), &wanted(), at(0)).unwrap();
        let (authority, certificate) = (read(&first.authority), read(&first.files.certificate));
        assert_eq!(ensure(dir.path(), &wanted(), at(360)).unwrap().made, Made::Nothing);
        let renewed = ensure(dir.path(), &wanted(), at(370)).unwrap();
        assert_eq!(renewed.made, Made::Certificate);
        assert_eq!(read(&renewed.authority), authority);
        assert_ne!(read(&renewed.files.certificate), certificate);
        assert!(left(&renewed.files.certificate, at(370)).unwrap() > 390 * DAY);
    }

    #[test]
    fn other_names_make_another_certificate() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), &wanted(), at(0)).unwrap();
        let other = names(LOOPBACK, &["s3.example.com".into()]);
        assert_eq!(ensure(dir.path(), &other, at(1)).unwrap().made, Made::Certificate);
        assert_eq!(ensure(dir.path(), &other, at(1)).unwrap().made, Made::Nothing);
    }

    #[test]
    fn an_address_of_its_own_is_among_the_names_once() {
        let own = names([192, 0, 2, 1].into(), &[]);
        assert_eq!(own, ["127.0.0.1", "192.0.2.1", "::1", "localhost"]);
        assert_eq!(names(LOOPBACK, &[]), names([0, 0, 0, 0].into(), &[]));
    }

    #[test]
    fn a_damaged_or_mismatched_certificate_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let own = ensure(dir.path(), &wanted(), at(0)).unwrap();
        fs::write(&own.files.certificate, "").unwrap();
        assert_eq!(ensure(dir.path(), &wanted(), at(0)).unwrap().made, Made::Certificate);
        fs::write(&own.files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert_eq!(ensure(dir.path(), &wanted(), at(0)).unwrap().made, Made::Certificate);
        assert_eq!(ensure(dir.path(), &wanted(), at(0)).unwrap().made, Made::Nothing);
    }

    #[test]
    fn an_authority_without_its_key_is_not_replaced_behind_its_clients_backs() {
        let dir = tempfile::tempdir().unwrap();
        let own = ensure(dir.path(), &wanted(), at(0)).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        // While the certificate lasts nothing is needed of it.
        assert_eq!(ensure(dir.path(), &wanted(), at(1)).unwrap().made, Made::Nothing);
        let before = read(&own.authority);
        let error = ensure(dir.path(), &wanted(), at(380)).unwrap_err().to_string();
        assert!(error.contains("ca.key") && error.contains("remove"), "{error}");
        assert_eq!(read(&own.authority), before);
    }

    #[test]
    fn an_authority_near_its_end_is_replaced_with_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), &wanted(), at(0)).unwrap();
        let own = ensure(dir.path(), &wanted(), at(3640)).unwrap();
        assert_eq!(own.made, Made::Authority);
        assert_eq!(ensure(dir.path(), &wanted(), at(3640)).unwrap().made, Made::Nothing);
    }
}
