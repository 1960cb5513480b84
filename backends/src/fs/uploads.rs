//! Listing multipart uploads. They lie in no order: each page reads the records of all uploads of the bucket, and holds
//! their ids, and the entries of the page.

use std::collections::BTreeMap;

use rustix::{fd::OwnedFd, io::Errno};

use super::{Store, dir, error::Error, multipart::load_upload};
use crate::{BackendError, ListMultipartUploads, MultipartUpload, Timestamp, UploadEntry, UploadId, UploadPage};

/// The order of a listing: by name, then of uploads by time, then by id.
type UploadOrder = (Box<str>, Option<(Timestamp, UploadId)>);

impl Store {
    pub(super) fn list_multipart_uploads(&self, request: &ListMultipartUploads) -> Result<UploadPage, Error> {
        let mut page = UploadPage::default();
        let uploads = match self.uploads_of(&request.bucket) {
            Err(Errno::NOENT) => return Ok(page),
            outcome => outcome.map_err(Error::io("could not open the uploads"))?,
        };
        let marker = Marker::of(request, &uploads)?;
        // The first of the page and one more, in order.
        let mut first: BTreeMap<UploadOrder, UploadEntry> = BTreeMap::new();
        for id in dir::names(&uploads).map_err(Error::io("could not list uploads"))? {
            let Ok(id) = UploadId::parse(id) else {
                continue;
            };
            let upload = match load_upload(&uploads, &id) {
                Err(Error::Answer(BackendError::NoSuchUpload)) => continue,
                // Of which key it was cannot be told. It must not keep the others.
                Err(Error::Damaged { what }) => {
                    tracing::warn!(upload = id.as_str(), "{what} is damaged");
                    continue;
                }
                outcome => outcome?.info,
            };
            let key = upload.key.as_str();
            if !key.starts_with(&*request.prefix) || marker.leaves_out(&upload) {
                continue;
            }
            let common = rolled_up(request, key);
            let (order, entry) = match common {
                Some(common) => ((common.clone(), None), UploadEntry::CommonPrefix(common)),
                None => (
                    (key.into(), Some((upload.initiated, upload.upload_id.clone()))),
                    UploadEntry::Upload(upload),
                ),
            };
            first.insert(order, entry);
            if first.len() > request.max_uploads.saturating_add(1) {
                first.pop_last();
            }
        }
        page.is_truncated = request.max_uploads > 0 && first.len() > request.max_uploads;
        page.entries = first.into_values().take(request.max_uploads).collect();
        Ok(page)
    }
}

/// Where a page begins.
enum Marker {
    Start,
    After(Box<str>),
    PastPrefix(Box<str>),
    /// With those of the same key that are later than this.
    AfterUpload(Box<str>, Timestamp, UploadId),
    /// The upload is gone, and with it what "later" means: better some are listed again than left out.
    From(Box<str>),
}

impl Marker {
    fn of(request: &ListMultipartUploads, uploads: &OwnedFd) -> Result<Self, Error> {
        let Some(key) = request.key_marker.clone() else {
            return Ok(Self::Start);
        };
        if rolled_up(request, &key).is_some_and(|common| common == key) {
            return Ok(Self::PastPrefix(key));
        }
        let Some(id) = request.upload_id_marker.clone() else {
            return Ok(Self::After(key));
        };
        match load_upload(uploads, &id) {
            Ok(upload) if upload.info.key.as_str() == &*key => Ok(Self::AfterUpload(key, upload.info.initiated, id)),
            Ok(_) | Err(Error::Answer(BackendError::NoSuchUpload) | Error::Damaged { .. }) => Ok(Self::From(key)),
            Err(error) => Err(error),
        }
    }

    fn leaves_out(&self, upload: &MultipartUpload) -> bool {
        let key = upload.key.as_str();
        match self {
            Self::Start => false,
            Self::After(marker) => key <= &**marker,
            Self::PastPrefix(prefix) => key < &**prefix || key.starts_with(&**prefix),
            Self::AfterUpload(marker, initiated, id) => {
                (key, upload.initiated, &upload.upload_id) <= (&**marker, *initiated, id)
            }
            Self::From(marker) => key < &**marker,
        }
    }
}

fn rolled_up(request: &ListMultipartUploads, key: &str) -> Option<Box<str>> {
    let delimiter = request.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
    let at = key.strip_prefix(&*request.prefix)?.find(delimiter)?;
    Some(key[..request.prefix.len() + at + delimiter.len()].into())
}
