//! What the cases work on.

use std::{ops::Deref, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

use crate::{
    AccountId, Backend, BackendError, BucketName, CannedAcl, CompleteMultipartUpload, CompletedPart, CreateBucket,
    CreateMultipartUpload, DeleteObject, DeleteObjectOutcome, ETag, Key, ListMultipartUploads, ListObjects,
    ObjectAttributes, ObjectBody, ObjectInfo, ObjectRef, OpenObject, Part, PartNumber, PutObject, UploadId, UploadRef,
    VersioningStatus, WriteCondition,
};

/// A read is begun again so often at most: nobody replaces an object faster.
const MAX_READS: usize = 1000;

/// The backend under test, with a bucket of its own. Clones are the same backend and bucket.
#[derive(Debug, Clone)]
pub struct Subject {
    pub(super) backend: Arc<dyn Backend>,
    pub bucket: BucketName,
    pub owner: AccountId,
    /// Of the buckets that are made for it.
    pub(super) versioning: Option<VersioningStatus>,
}

impl Deref for Subject {
    type Target = dyn Backend;

    fn deref(&self) -> &Self::Target {
        &*self.backend
    }
}

impl Subject {
    /// Makes a bucket with a random name, without versioning.
    pub async fn new(backend: Arc<dyn Backend>) -> Self {
        Self::with_versioning(backend, None).await
    }

    /// Makes a bucket with a random name.
    pub async fn with_versioning(backend: Arc<dyn Backend>, versioning: Option<VersioningStatus>) -> Self {
        let owner = AccountId::parse("owner").unwrap();
        let random = UploadId::random().unwrap();
        let bucket = BucketName::parse(format!("subject-{}", random.as_str())).unwrap();
        let subject = Self {
            backend,
            bucket,
            owner,
            versioning,
        };
        subject.create().await;
        subject
    }

    async fn create(&self) {
        let request = CreateBucket {
            bucket: self.bucket.clone(),
            owner: self.owner.clone(),
            acl: CannedAcl::Private,
            versioning: self.versioning,
            max_buckets: u32::MAX,
        };
        self.create_bucket(request).await.unwrap();
    }

    /// With a bucket of this name, which is made if it is not there.
    pub async fn of(backend: Arc<dyn Backend>, bucket: BucketName) -> Self {
        let owner = AccountId::parse("owner").unwrap();
        let subject = Self {
            backend,
            bucket,
            owner,
            versioning: None,
        };
        if let Err(BackendError::NoSuchBucket) = subject.head_bucket(&subject.bucket).await {
            subject.create().await;
        }
        subject
    }

    /// The same backend with another bucket of the same owner.
    pub async fn with_another_bucket(&self) -> Self {
        Self::with_versioning(Arc::clone(&self.backend), self.versioning).await
    }

    /// Deletes the bucket, of which every object is deleted; where it has versioning, with what is kept of them.
    pub async fn delete_emptied_bucket(&self) {
        if self.versioning.is_some() {
            assert!(self.all_keys().await.is_empty());
            for entry in self.entries().await {
                let mut request = self.delete_request(entry.name());
                request.object.version_id = entry.version_id().cloned();
                assert!(self.delete_object(request).await.unwrap().existed);
            }
        }
        self.delete_bucket(&self.bucket).await.unwrap();
    }

    // ---- objects

    pub fn object(&self, key: &str) -> ObjectRef {
        ObjectRef {
            bucket: self.bucket.clone(),
            key: self.key(key),
            version_id: None,
        }
    }

    pub fn key(&self, key: &str) -> Key {
        Key::parse(key).unwrap()
    }

    pub fn put_request(&self, key: &str) -> PutObject {
        PutObject {
            bucket: self.bucket.clone(),
            key: self.key(key),
            attributes: ObjectAttributes::default(),
            condition: WriteCondition::default(),
            versions: None,
        }
    }

    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) -> ObjectInfo {
        self.put_body(key, ObjectBody::from_bytes(bytes)).await.unwrap()
    }

    pub async fn put_body(&self, key: &str, body: ObjectBody) -> Result<ObjectInfo, BackendError> {
        self.put_object(self.put_request(key), body).await
    }

    pub async fn put_if(
        &self,
        condition: WriteCondition,
        key: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<ObjectInfo, BackendError> {
        let request = PutObject {
            condition,
            ..self.put_request(key)
        };
        self.put_object(request, ObjectBody::from_bytes(bytes)).await
    }

    pub async fn open(&self, key: &str) -> Result<OpenObject, BackendError> {
        self.open_object(&self.object(key)).await
    }

    pub async fn info(&self, key: &str) -> ObjectInfo {
        self.open(key).await.unwrap().info
    }

    /// The object's bytes, `None` where there is no object. Checks what must hold of every read. Where reads are not
    /// stable, one that lost its object is begun again.
    pub async fn get(&self, key: &str) -> Option<Bytes> {
        for _ in 0..MAX_READS {
            let open = match self.open(key).await {
                Ok(open) => open,
                Err(BackendError::NoSuchKey | BackendError::DeleteMarker { .. }) => return None,
                Err(error) => panic!("{key:?} cannot be opened: {error:?}"),
            };
            match try_read_whole(open).await {
                Ok(bytes) => return Some(bytes),
                Err(BackendError::Conflict) if !self.capabilities(Some(&self.bucket)).stable_reads => {}
                Err(error) => panic!("{key:?} cannot be read: {error:?}"),
            }
        }
        panic!("{key:?} cannot be read: each time something of it is gone");
    }

    pub async fn delete(&self, key: &str) -> DeleteObjectOutcome {
        self.delete_if(WriteCondition::default(), key).await.unwrap()
    }

    pub async fn delete_if(&self, condition: WriteCondition, key: &str) -> Result<DeleteObjectOutcome, BackendError> {
        let request = DeleteObject {
            condition,
            ..self.delete_request(key)
        };
        self.delete_object(request).await
    }

    /// By name.
    pub fn delete_request(&self, key: &str) -> DeleteObject {
        DeleteObject {
            object: self.object(key),
            condition: WriteCondition::default(),
            mark_missing: false,
            versions: None,
        }
    }

    /// Whether the backend holds the key, which it may refuse.
    pub async fn holds(&self, key: &str) -> bool {
        match self.create_multipart_upload(self.create_upload_request(key)).await {
            Ok(upload_id) => {
                let upload = self.upload_ref(key, upload_id);
                self.abort_multipart_upload(&upload).await.unwrap();
                true
            }
            Err(BackendError::UnsupportedKey(_)) => false,
            Err(error) => panic!("{key:?}: {error:?}"),
        }
    }

    /// Those of the keys that the backend holds.
    pub async fn held<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Vec<&'k str> {
        let mut held = Vec::new();
        for key in keys {
            if self.holds(key).await {
                held.push(key);
            }
        }
        held
    }

    // ---- listings

    /// A request for everything.
    pub fn everything(&self) -> ListObjects {
        ListObjects {
            bucket: self.bucket.clone(),
            prefix: "".into(),
            delimiter: None,
            start_after: None,
            max_keys: 10_000,
        }
    }

    /// The names of the entries of one page, of which no more may follow.
    pub async fn names(&self, request: ListObjects) -> Vec<String> {
        let page = self.list_objects(request).await.unwrap();
        assert!(!page.is_truncated, "more than the page was to hold");
        page.entries.iter().map(|entry| entry.name().to_owned()).collect()
    }

    pub async fn all_keys(&self) -> Vec<String> {
        self.names(self.everything()).await
    }

    // ---- multipart uploads

    pub fn create_upload_request(&self, key: &str) -> CreateMultipartUpload {
        CreateMultipartUpload {
            bucket: self.bucket.clone(),
            key: self.key(key),
            initiator: self.owner.clone(),
            attributes: ObjectAttributes::default(),
            checksum: None,
        }
    }

    pub async fn upload(&self, key: &str) -> UploadRef {
        let upload_id = self
            .create_multipart_upload(self.create_upload_request(key))
            .await
            .unwrap();
        self.upload_ref(key, upload_id)
    }

    pub fn upload_ref(&self, key: &str, upload_id: UploadId) -> UploadRef {
        UploadRef {
            bucket: self.bucket.clone(),
            key: self.key(key),
            upload_id,
        }
    }

    /// Uploads a part, and names it as CompleteMultipartUpload does.
    pub async fn part(&self, upload: &UploadRef, number: u16, bytes: impl Into<Bytes>) -> CompletedPart {
        let body = ObjectBody::from_bytes(bytes);
        completed(&self.upload_part(upload, part_number(number), body).await.unwrap())
    }

    /// Parts of any size, no condition, nothing claimed of the whole.
    pub fn complete_request(&self, upload: &UploadRef, parts: Vec<CompletedPart>) -> CompleteMultipartUpload {
        CompleteMultipartUpload {
            upload: upload.clone(),
            parts,
            condition: WriteCondition::default(),
            checksum: None,
            checksum_type: None,
            size: None,
            min_part_size: 0,
            versions: None,
        }
    }

    pub async fn complete(&self, upload: &UploadRef, parts: Vec<CompletedPart>) -> Result<ObjectInfo, BackendError> {
        self.complete_multipart_upload(self.complete_request(upload, parts))
            .await
    }

    pub fn all_uploads(&self) -> ListMultipartUploads {
        ListMultipartUploads {
            bucket: self.bucket.clone(),
            prefix: "".into(),
            delimiter: None,
            key_marker: None,
            upload_id_marker: None,
            max_uploads: 10_000,
        }
    }
}

/// The part as CompleteMultipartUpload names it, without its checksum.
pub fn completed(part: &Part) -> CompletedPart {
    CompletedPart {
        part_number: part.part_number,
        etag: part.etag.clone(),
        checksum: None,
    }
}

pub(super) fn part_number(number: u16) -> PartNumber {
    PartNumber::new(number).unwrap()
}

/// The bytes of `range` of an opened object.
pub(super) async fn read_range(open: OpenObject, range: std::ops::Range<u64>) -> Bytes {
    try_read_range(open, range).await.unwrap()
}

pub(super) async fn try_read_range(open: OpenObject, range: std::ops::Range<u64>) -> Result<Bytes, BackendError> {
    let mut stream = open.reader.read(range);
    let mut bytes = BytesMut::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes.freeze())
}

/// All bytes of an opened object, which must be as many as it says, and those of its ETag where that is an MD5.
pub async fn read_whole(open: OpenObject) -> Bytes {
    try_read_whole(open).await.unwrap()
}

pub(super) async fn try_read_whole(open: OpenObject) -> Result<Bytes, BackendError> {
    let info = open.info.clone();
    let bytes = try_read_range(open, 0..info.size).await?;
    assert_eq!(bytes.len() as u64, info.size, "{:?} runs short or over", info.key);
    if info.etag.as_md5().is_some() {
        assert_eq!(etag_of(&bytes), info.etag, "bytes and ETag are of different versions");
    }
    Ok(bytes)
}

/// The ETag of an object written in one piece.
pub(super) fn etag_of(bytes: &[u8]) -> ETag {
    ETag::from_md5(crate::BodySummary::of(bytes, crate::ChecksumAlgorithm::Crc64Nvme).md5)
}

/// Bytes that differ at every place a cut could go wrong.
pub(super) fn noise(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What does not come within half a minute, never comes.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("nothing waits for ever")
}

/// `If-None-Match: *`
pub(super) fn if_absent() -> WriteCondition {
    WriteCondition {
        if_match: None,
        if_none_match: true,
        keep_all: false,
    }
}

/// `If-Match: *`
pub(super) fn if_present() -> WriteCondition {
    WriteCondition {
        if_match: Some(crate::IfMatch::Any),
        if_none_match: false,
        keep_all: false,
    }
}

/// `If-Match: "a", "b"`
pub(super) fn if_match(etags: &[&ETag]) -> WriteCondition {
    WriteCondition {
        if_match: Some(crate::IfMatch::OneOf(etags.iter().copied().cloned().collect())),
        if_none_match: false,
        keep_all: false,
    }
}
