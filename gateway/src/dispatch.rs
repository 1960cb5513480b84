//! Carries out a permitted operation: asks the backend, hands its answer to the encoder.

mod bucket;
mod multipart;
mod object;
mod writes;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Response;
use t2gate_backends::{AccountId, Backend, BackendError, BucketInfo, BucketName};
use tower::Service;

pub use self::writes::Writes;
use crate::{
    acl::Requester,
    body::UnverifiedBody,
    dialect::Dialect,
    keys::KeyStore,
    layer::{
        authorize::{Grant, Permitted},
        record::RequestRecord,
    },
    s3::{Operation, S3Error, encode, encode::ResponseBody},
};

/// What an operation ends in.
type Reply = Result<Response<ResponseBody>, S3Error>;

/// The innermost service.
#[derive(Debug, Clone)]
pub struct Dispatch {
    carrier: Arc<Carrier>,
    writes: Writes,
}

/// What operations are carried out with.
#[derive(Debug)]
struct Carrier {
    backend: Arc<dyn Backend>,
    settings: Settings,
}

/// What the answers of operations depend on.
#[derive(Debug, Clone)]
pub struct Settings {
    pub dialect: Dialect,
    pub region: Box<str>,
    pub keys: Arc<KeyStore>,
    /// Buckets of an account that has no limit of its own.
    pub max_buckets: u32,
    /// Take an object's `x-amz-acl` that differs from its bucket's without effect.
    pub ignore_object_acl: bool,
}

impl Dispatch {
    pub fn new(backend: Arc<dyn Backend>, settings: Settings, writes: Writes) -> Self {
        Self {
            carrier: Arc::new(Carrier { backend, settings }),
            writes,
        }
    }
}

impl Service<Permitted> for Dispatch {
    type Response = Response<ResponseBody>;
    type Error = S3Error;
    type Future = Pin<Box<dyn Future<Output = Reply> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S3Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, permitted: Permitted) -> Self::Future {
        let carrier = self.carrier.clone();
        let (operation, grant, body, record) = permitted.into_parts();
        if !operation.is_write() {
            return Box::pin(async move { carrier.carry_out(operation, &grant, body, &record).await });
        }
        // What the request reserved hangs on the handle, so that it counts until the write is done, and not just until it
        // was read.
        let reserved = body.body.clone();
        let write = async move {
            let reply = carrier.carry_out(operation, &grant, body, &record).await;
            drop(reserved);
            reply
        };
        Box::pin(self.writes.carry_out(write))
    }
}

impl Carrier {
    async fn carry_out(
        &self,
        operation: Operation,
        grant: &Grant,
        body: UnverifiedBody,
        record: &RequestRecord,
    ) -> Reply {
        match operation {
            Operation::ListBuckets(request) => self.list_buckets(request, grant).await,
            Operation::CreateBucket(request) => self.create_bucket(request, grant, body).await,
            Operation::HeadBucket(_) => self.head_bucket(),
            Operation::DeleteBucket(bucket) => self.delete_bucket(bucket, grant).await,
            Operation::GetBucketLocation(_) => self.get_bucket_location(),
            Operation::GetBucketAcl(_) => self.get_bucket_acl(grant),
            Operation::PutBucketAcl(request) => self.put_bucket_acl(request, grant, body).await,
            Operation::GetBucketVersioning(_) => self.get_bucket_versioning(grant),
            Operation::PutBucketVersioning(bucket) => self.put_bucket_versioning(bucket, grant, body).await,
            Operation::GetUnsetBucketConfiguration(bucket, unset) => {
                encode::get_unset_bucket_configuration(&bucket, unset)
            }
            Operation::DeleteUnsetBucketConfiguration(bucket, unset, _) => self.delete_unset(&bucket, unset),
            Operation::ListObjects(request) => self.list_objects(request, grant).await,
            Operation::ListObjectsV2(request) => self.list_objects_v2(request, grant).await,
            Operation::ListObjectVersions(request) => self.list_object_versions(request, grant).await,
            Operation::DeleteObjects(request) => self.delete_objects(request, grant, body, record).await,
            Operation::PutObject(request) => self.put_object(request, grant, body).await,
            Operation::GetObject(request) => self.get_object(request, grant).await,
            Operation::HeadObject(request) => self.head_object(request, grant).await,
            Operation::CopyObject(request) => self.copy_object(request, grant).await,
            Operation::DeleteObject(request) => self.delete_object(request, grant).await,
            Operation::GetObjectAcl(object) => self.get_object_acl(object, grant).await,
            Operation::PutObjectAcl(request) => self.put_object_acl(request, grant, body).await,
            Operation::GetObjectAttributes(request) => self.get_object_attributes(request, grant).await,
            Operation::GetObjectTagging(object) => self.get_object_tagging(object, grant).await,
            Operation::GetUnsetObjectLock(object, _) => self.get_unset_object_lock(object, grant).await,
            Operation::CreateMultipartUpload(request) => self.create_multipart_upload(request, grant).await,
            Operation::UploadPart(request) => self.upload_part(request, body).await,
            Operation::UploadPartCopy(request) => self.upload_part_copy(request, grant).await,
            Operation::CompleteMultipartUpload(request) => self.complete_multipart_upload(request, grant, body).await,
            Operation::AbortMultipartUpload(upload) => self.abort_multipart_upload(upload).await,
            Operation::ListParts(request) => self.list_parts(request, grant).await,
            Operation::ListMultipartUploads(request) => self.list_multipart_uploads(request, grant).await,
            Operation::NotImplemented(refused) => Err(refused.into()),
        }
    }
}

impl Carrier {
    /// Judges again what the authorize layer judged: whether the bucket is still the one that the operation was
    /// permitted in. To be asked after a document has been waited for, which its sender can draw out until the bucket
    /// is gone and its name belongs to somebody else.
    async fn check_same_bucket(&self, grant: &Grant) -> Result<(), S3Error> {
        let judged = grant.bucket()?;
        let gone = || S3Error::no_such_bucket(judged.bucket.as_str());
        let now = self
            .backend
            .head_bucket(&judged.bucket)
            .await
            .map_err(|error| match error {
                BackendError::NoSuchBucket => gone(),
                other => other.into(),
            })?;
        if (&now.owner, now.created) == (&judged.owner, judged.created) {
            Ok(())
        } else {
            Err(gone())
        }
    }
}

impl Grant {
    /// The bucket that the authorize layer looked up.
    fn bucket(&self) -> Result<&BucketInfo, S3Error> {
        self.bucket
            .as_ref()
            .ok_or_else(|| S3Error::internal("an operation on a bucket came without one"))
    }

    /// The account that asks.
    fn account(&self) -> Result<&AccountId, S3Error> {
        match &self.requester {
            Requester::Key(key) => Ok(&key.account),
            Requester::Anonymous => Err(S3Error::internal("an anonymous request reached what needs an account")),
        }
    }

    /// Whether the requester may know of the bucket.
    fn sees(&self, bucket: &BucketName) -> bool {
        match &self.requester {
            Requester::Key(key) => key.reaches_bucket(bucket),
            Requester::Anonymous => false,
        }
    }
}

#[cfg(test)]
mod tests;
