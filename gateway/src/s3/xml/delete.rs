//! `Delete`, the body of DeleteObjects.

use t2gate_backends::{Key, VersionId, WriteCondition};

use super::{reader::XmlReader, set};
use crate::{
    dialect::Dialect,
    limits::MAX_DELETE_KEYS,
    s3::{S3Error, conditional, parse},
};

/// What is to be deleted.
#[derive(Debug)]
pub struct Delete {
    /// Only failures are answered.
    pub quiet: bool,
    /// 1 to [`MAX_DELETE_KEYS`], in the client's order.
    pub objects: Vec<DeleteEntry>,
}

/// One `<Object>`.
#[derive(Debug)]
pub struct DeleteEntry {
    /// As sent, for the answer.
    pub key: String,
    pub version_id: Option<String>,
    /// Understood; or why this one alone is refused, for its `<Error>`.
    pub target: Result<DeleteTarget, S3Error>,
}

/// An object to delete.
#[derive(Debug, PartialEq, Eq)]
pub struct DeleteTarget {
    pub key: Key,
    pub version_id: Option<VersionId>,
    pub condition: WriteCondition,
}

/// Reads the document. Errors of the whole: `MalformedXML`, also for no object and for too many.
pub fn parse_delete(body: &[u8], dialect: Dialect) -> Result<Delete, S3Error> {
    let mut reader = XmlReader::open(body, "Delete")?;
    let mut quiet = None;
    let mut objects = Vec::new();
    while let Some(element) = reader.child()? {
        match element.name.as_str() {
            "Object" if objects.len() < MAX_DELETE_KEYS => objects.push(read_object(&mut reader, dialect)?),
            "Quiet" => {
                let value = match reader.word()?.as_str() {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return Err(S3Error::malformed_xml()),
                };
                set(&mut quiet, value)?;
            }
            _ => return Err(S3Error::malformed_xml()),
        }
    }
    reader.finish()?;
    if objects.is_empty() {
        return Err(S3Error::malformed_xml());
    }
    Ok(Delete {
        quiet: quiet.unwrap_or_default(),
        objects,
    })
}

fn read_object(reader: &mut XmlReader<'_>, dialect: Dialect) -> Result<DeleteEntry, S3Error> {
    let (mut key, mut version_id, mut etag, mut other) = (None, None, None, None);
    while let Some(element) = reader.child()? {
        match element.name.as_str() {
            "Key" => set(&mut key, reader.text()?)?,
            "VersionId" => set(&mut version_id, reader.word()?)?,
            "ETag" => set(&mut etag, reader.word()?)?,
            // Conditions that only directory buckets have.
            "LastModifiedTime" | "Size" => {
                reader.text()?;
                other = Some(element.name);
            }
            _ => return Err(S3Error::malformed_xml()),
        }
    }
    let key = key.filter(|key| !key.is_empty()).ok_or_else(S3Error::malformed_xml)?;
    let version_id = version_id.filter(|id| !id.is_empty());
    let target = match other {
        Some(name) => Err(S3Error::not_implemented(format!(
            "Deleting on the condition {name} is not implemented."
        ))),
        None => judge(&key, version_id.as_deref(), etag.as_deref(), dialect),
    };
    Ok(DeleteEntry {
        key,
        version_id,
        target,
    })
}

fn judge(key: &str, version_id: Option<&str>, etag: Option<&str>, dialect: Dialect) -> Result<DeleteTarget, S3Error> {
    Ok(DeleteTarget {
        key: parse::key(key, dialect)?,
        version_id: version_id.map(parse::version_id).transpose()?,
        condition: WriteCondition {
            if_match: etag.map(conditional::parse_if_match).transpose()?,
            if_none_match: false,
            keep_all: false,
        },
    })
}
