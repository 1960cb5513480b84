//! `VersioningConfiguration`, the body of PutBucketVersioning.

use t2gate_backends::VersioningStatus;

use super::{reader::XmlReader, set};
use crate::s3::{S3Error, S3ErrorCode};

/// The status that the bucket is to have. Errors: `IllegalVersioningConfigurationException` without one,
/// `MalformedXML`, and 501 for MFA delete.
pub fn parse_versioning_configuration(body: &[u8]) -> Result<VersioningStatus, S3Error> {
    let mut reader = XmlReader::open(body, "VersioningConfiguration")?;
    let (mut status, mut mfa_delete) = (None, None);
    while let Some(element) = reader.child()? {
        match element.name.as_str() {
            "Status" => set(&mut status, reader.text()?)?,
            // The API reference has the one in its schema, and older documents the other.
            "MfaDelete" | "MFADelete" => set(&mut mfa_delete, reader.text()?)?,
            _ => return Err(S3Error::malformed_xml()),
        }
    }
    reader.finish()?;
    match mfa_delete.as_deref() {
        None | Some("" | "Disabled") => {}
        Some("Enabled") => return Err(S3Error::not_implemented("MFA delete is not implemented.")),
        Some(_) => return Err(S3Error::malformed_xml()),
    }
    match status.as_deref() {
        Some("Enabled") => Ok(VersioningStatus::Enabled),
        Some("Suspended") => Ok(VersioningStatus::Suspended),
        None | Some("") => Err(S3Error::new(
            S3ErrorCode::IllegalVersioningConfigurationException,
            "The Versioning element must be specified",
        )),
        Some(_) => Err(S3Error::malformed_xml()),
    }
}
