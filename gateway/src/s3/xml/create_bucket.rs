//! `CreateBucketConfiguration`.

use super::{reader::XmlReader, set};
use crate::s3::S3Error;

/// The `LocationConstraint`, which the caller compares with its region; `None` where there is none, as in an empty
/// body. Errors: `MalformedXML`; 501 for directory buckets and for tags.
pub fn parse_create_bucket_configuration(body: &[u8]) -> Result<Option<String>, S3Error> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut reader = XmlReader::open(body, "CreateBucketConfiguration")?;
    let mut location = None;
    while let Some(element) = reader.child()? {
        match element.name.as_str() {
            "LocationConstraint" => set(&mut location, reader.word()?)?,
            "Location" | "Bucket" => return Err(S3Error::not_implemented("Directory buckets are not implemented.")),
            "Tags" => {
                if reader.child()?.is_some() {
                    return Err(S3Error::not_implemented("Tags on buckets are not implemented."));
                }
            }
            _ => return Err(S3Error::malformed_xml()),
        }
    }
    reader.finish()?;
    Ok(location.filter(|location| !location.is_empty()))
}
