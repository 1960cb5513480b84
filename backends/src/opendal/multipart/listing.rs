//! ListParts and ListMultipartUploads.

use super::{READS, to_part};
use crate::{
    BackendError, ListMultipartUploads, ListParts, PartPage, UploadEntry, UploadId, UploadPage,
    opendal::{
        Core,
        key::StoreDir,
        page::{Entry, Page, Rules},
    },
};

impl Core {
    pub(in crate::opendal) async fn list_parts(&self, request: ListParts) -> Result<PartPage, BackendError> {
        let upload = &request.upload;
        let bucket = self.bucket(&upload.bucket).await?;
        let record = self.upload(&bucket, upload).await?;
        let info = record.info().ok_or(BackendError::NoSuchUpload)?;
        let mut numbers = self.part_numbers(&upload.bucket, &upload.upload_id).await?;
        numbers.retain(|number| number.get() > request.part_number_marker);
        let is_truncated = request.max_parts > 0 && numbers.len() > request.max_parts;
        numbers.truncate(request.max_parts);
        let parts = self.parts(&upload.bucket, &upload.upload_id, numbers).await?;
        Ok(PartPage {
            upload: info,
            parts: parts
                .iter()
                .filter_map(|(number, part)| to_part(*number, part))
                .collect(),
            is_truncated,
        })
    }

    /// Reads the record of every upload in the bucket: only that knows its key.
    pub(in crate::opendal) async fn list_multipart_uploads(
        &self,
        request: ListMultipartUploads,
    ) -> Result<UploadPage, BackendError> {
        let bucket = self.bucket(&request.bucket).await?;
        let rules = Rules {
            prefix: &request.prefix,
            delimiter: request.delimiter.as_deref(),
            max: request.max_uploads,
        };
        let key_marker = request.key_marker.as_deref();
        // The place of the marked upload; where that is gone, before all others of its key.
        let reached = match &request.upload_id_marker {
            Some(id) => {
                let marked = self
                    .upload_record(&request.bucket, id)
                    .await?
                    .and_then(|record| record.info());
                let marked = marked.filter(|upload| Some(upload.key.as_str()) == key_marker);
                Some(marked.map(|upload| (upload.initiated, upload.upload_id)))
            }
            None => None,
        };
        let mut page = Page::new(rules, 0);
        let mut entries = self
            .store
            .list(&StoreDir::uploads(&request.bucket), "", false, None, None);
        loop {
            let mut ids = Vec::with_capacity(READS);
            while ids.len() < READS
                && let Some(found) = entries.next().await?
            {
                ids.extend(UploadId::parse(found.name).ok());
            }
            if ids.is_empty() {
                break;
            }
            let reads = ids.iter().map(|id| self.upload_record(&request.bucket, id));
            for record in futures::future::try_join_all(reads).await?.into_iter().flatten() {
                let Some(upload) = record.info().filter(|_| record.bucket_id == bucket.record.id) else {
                    continue;
                };
                let place = Some((upload.initiated, upload.upload_id.clone()));
                let is_after = match &reached {
                    Some(reached) if Some(upload.key.as_str()) == key_marker => place > *reached,
                    _ => rules.is_after(upload.key.as_str(), key_marker),
                };
                if is_after {
                    let key = upload.key.as_str().to_owned();
                    page.offer(&key, place, upload);
                }
            }
        }
        let (entries, is_truncated) = page.finish();
        let entries = entries.into_iter().map(|entry| match entry {
            Entry::Item(_, upload) => UploadEntry::Upload(upload),
            Entry::CommonPrefix(prefix) => UploadEntry::CommonPrefix(prefix.into()),
        });
        Ok(UploadPage {
            entries: entries.collect(),
            is_truncated,
        })
    }
}
