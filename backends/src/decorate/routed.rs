//! Several stores as one: each bucket lies in the store that its name says.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{join_all, try_join_all};
use tokio::sync::Mutex;

use crate::{
    AccountId, Backend, BackendError, BucketInfo, BucketName, BucketSetting, Capabilities, CompleteMultipartUpload,
    CopyObject, CreateBucket, CreateMultipartUpload, DeleteObject, DeleteObjectOutcome, ListMultipartUploads,
    ListObjectVersions, ListObjects, ListParts, MultipartUpload, ObjectBody, ObjectInfo, ObjectPage, ObjectRef,
    OpenObject, Part, PartNumber, PartPage, PutObject, Routes, UploadId, UploadPage, UploadRef, VersionPage,
};

/// Buckets looked at in one call where they are counted, or picked out.
const BUCKETS_AT_ONCE: usize = 1000;

/// A [`Backend`] made of several, which [`Routes`] tells apart.
///
/// - A bucket is looked for in the store that its name is routed to, and nowhere else. One of the same name in another
///   store, from before the routes were what they are, is not seen and not listed; [`misplaced`](Self::misplaced) finds
///   those.
/// - What can be done depends on the bucket: see [`Backend::capabilities`]. Nothing is copied between two stores
///   inside a store.
/// - How many buckets an account may have is judged over all stores: exactly where all creations of buckets go through
///   this value. Another process that creates buckets in the same stores is seen as far as each store judges by itself,
///   so that racing creations in two stores can pass the limit.
/// - A listing of buckets and the creation of one need all stores to answer: neither is done on half of what there is.
#[derive(Debug)]
pub struct Routed {
    stores: Vec<Arc<dyn Backend>>,
    routes: Routes,
    /// Held from the counting of an account's buckets to the creation of another.
    creation: Mutex<()>,
}

/// The routes name a store that is not there, or there is none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("routes to a store that is not there")]
pub struct NoSuchStore;

impl Routed {
    pub fn new(stores: Vec<Arc<dyn Backend>>, routes: Routes) -> Result<Self, NoSuchStore> {
        if routes.last_store() >= stores.len() {
            return Err(NoSuchStore);
        }
        Ok(Self {
            stores,
            routes,
            creation: Mutex::new(()),
        })
    }

    fn store(&self, bucket: &BucketName) -> &dyn Backend {
        // In bounds: `new` has looked at every number that the routes can give.
        &*self.stores[self.routes.store_of(bucket)]
    }

    /// The buckets of an account that lie in a store which their names are not routed to, with that store's number; at
    /// most `max` of each store. They are served to nobody.
    pub async fn misplaced(&self, owner: &AccountId, max: usize) -> Result<Vec<(BucketName, usize)>, BackendError> {
        let mut found = Vec::new();
        for store in 0..self.stores.len() {
            let misplaced = |bucket: &BucketInfo| self.routes.store_of(&bucket.bucket) != store;
            let pages = Pages {
                page: BUCKETS_AT_ONCE,
                max,
                ..Pages::default()
            };
            let buckets = self.list_store(store, owner, pages, misplaced).await?;
            found.extend(buckets.into_iter().map(|info| (info.bucket, store)));
        }
        Ok(found)
    }

    /// The first buckets of a store that `wanted` takes.
    async fn list_store(
        &self,
        store: usize,
        owner: &AccountId,
        pages: Pages<'_>,
        wanted: impl Fn(&BucketInfo) -> bool + Send,
    ) -> Result<Vec<BucketInfo>, BackendError> {
        let Pages {
            prefix,
            start_after,
            page: size,
            max,
        } = pages;
        let mut after: Option<Box<str>> = start_after.map(Into::into);
        let mut found = Vec::new();
        while found.len() < max {
            let page = self.stores[store]
                .list_buckets(owner, prefix, after.as_deref(), size)
                .await?;
            let was_last = page.len() < size;
            after = page.last().map(|info| info.bucket.as_str().into());
            let room = max - found.len();
            found.extend(page.into_iter().filter(&wanted).take(room));
            if was_last {
                break;
            }
        }
        Ok(found)
    }

    /// How many buckets an account has in all stores but `except`; not counted on beyond `most`.
    async fn count_elsewhere(&self, owner: &AccountId, except: usize, most: u32) -> Result<u32, BackendError> {
        let most = most as usize;
        let mut count = 0;
        for store in (0..self.stores.len()).filter(|&store| store != except) {
            let mut after: Option<Box<str>> = None;
            while count < most {
                let page = self.stores[store]
                    .list_buckets(owner, "", after.as_deref(), BUCKETS_AT_ONCE)
                    .await?;
                count += page
                    .iter()
                    .filter(|info| self.routes.store_of(&info.bucket) == store)
                    .count();
                after = page.last().map(|info| info.bucket.as_str().into());
                if page.len() < BUCKETS_AT_ONCE {
                    break;
                }
            }
        }
        Ok(u32::try_from(count.min(most)).unwrap_or(u32::MAX))
    }
}

/// What is read of a store's buckets.
#[derive(Debug, Clone, Copy, Default)]
struct Pages<'a> {
    prefix: &'a str,
    start_after: Option<&'a str>,
    /// Buckets asked for in one call.
    page: usize,
    /// Buckets wanted.
    max: usize,
}

/// What holds in every one of several stores.
fn weakest(all: impl Iterator<Item = Capabilities>) -> Option<Capabilities> {
    all.reduce(|a, b| Capabilities {
        name: if a.name == b.name { a.name } else { "several" },
        conditional_writes: a.conditional_writes && b.conditional_writes,
        conditional_deletes: a.conditional_deletes && b.conditional_deletes,
        stable_reads: a.stable_reads && b.stable_reads,
        history: a.history && b.history,
        versioning: a.versioning && b.versioning,
        always_versioned: a.always_versioned || b.always_versioned,
        encryption: a.encryption && b.encryption,
    })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Routed {
    fn capabilities(&self, bucket: Option<&BucketName>) -> Capabilities {
        match bucket {
            Some(bucket) => self.store(bucket).capabilities(Some(bucket)),
            None => weakest(self.stores.iter().map(|store| store.capabilities(None)))
                .expect("new() wants one store at least"),
        }
    }

    fn copies_between(&self, source: &BucketName, destination: &BucketName) -> bool {
        self.routes.store_of(source) == self.routes.store_of(destination)
            && self.store(source).copies_between(source, destination)
    }

    /// All stores are asked at once; the error is that of the first that is not ready.
    async fn ready(&self) -> Result<(), BackendError> {
        let answers = join_all(self.stores.iter().map(|store| store.ready())).await;
        answers.into_iter().collect()
    }

    async fn create_bucket(&self, request: CreateBucket) -> Result<BucketInfo, BackendError> {
        let limit = request.max_buckets;
        let store = self.routes.store_of(&request.bucket);
        let _one_at_a_time = self.creation.lock().await;
        let elsewhere = self.count_elsewhere(&request.owner, store, limit).await?;
        let request = CreateBucket {
            max_buckets: limit - elsewhere,
            ..request
        };
        let created = self.stores[store].create_bucket(request).await;
        created.map_err(|error| match error {
            BackendError::TooManyBuckets { .. } => BackendError::TooManyBuckets { limit },
            other => other,
        })
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo, BackendError> {
        self.store(bucket).head_bucket(bucket).await
    }

    /// Asks all stores at once, each for a whole page.
    async fn list_buckets(
        &self,
        owner: &AccountId,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<BucketInfo>, BackendError> {
        let pages = (0..self.stores.len()).map(|store| {
            let routed = move |info: &BucketInfo| self.routes.store_of(&info.bucket) == store;
            let pages = Pages {
                prefix,
                start_after,
                page: max,
                max,
            };
            self.list_store(store, owner, pages, routed)
        });
        // A name is routed to one store: no two pages hold the same.
        let mut merged: Vec<BucketInfo> = try_join_all(pages).await?.into_iter().flatten().collect();
        merged.sort_unstable_by(|a, b| a.bucket.cmp(&b.bucket));
        merged.truncate(max);
        Ok(merged)
    }

    async fn put_bucket_setting(&self, bucket: &BucketName, setting: BucketSetting) -> Result<(), BackendError> {
        self.store(bucket).put_bucket_setting(bucket, setting).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), BackendError> {
        self.store(bucket).delete_bucket(bucket).await
    }

    async fn put_object(&self, request: PutObject, body: ObjectBody) -> Result<ObjectInfo, BackendError> {
        self.store(&request.bucket).put_object(request, body).await
    }

    async fn open_object(&self, object: &ObjectRef) -> Result<OpenObject, BackendError> {
        self.store(&object.bucket).open_object(object).await
    }

    async fn copy_object(&self, request: CopyObject) -> Result<ObjectInfo, BackendError> {
        let store = self.store(&request.bucket);
        if self.routes.store_of(&request.source.bucket) != self.routes.store_of(&request.bucket) {
            return Err(BackendError::NotSupported {
                operation: "A copy from another store",
                backend: store.capabilities(Some(&request.bucket)).name,
            });
        }
        store.copy_object(request).await
    }

    async fn delete_object(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        self.store(&request.object.bucket).delete_object(request).await
    }

    async fn list_objects(&self, request: ListObjects) -> Result<ObjectPage, BackendError> {
        self.store(&request.bucket).list_objects(request).await
    }

    async fn list_object_versions(&self, request: ListObjectVersions) -> Result<VersionPage, BackendError> {
        self.store(&request.bucket).list_object_versions(request).await
    }

    async fn create_multipart_upload(&self, request: CreateMultipartUpload) -> Result<UploadId, BackendError> {
        self.store(&request.bucket).create_multipart_upload(request).await
    }

    async fn head_multipart_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, BackendError> {
        self.store(&upload.bucket).head_multipart_upload(upload).await
    }

    async fn upload_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        body: ObjectBody,
    ) -> Result<Part, BackendError> {
        self.store(&upload.bucket).upload_part(upload, part_number, body).await
    }

    async fn complete_multipart_upload(&self, request: CompleteMultipartUpload) -> Result<ObjectInfo, BackendError> {
        self.store(&request.upload.bucket)
            .complete_multipart_upload(request)
            .await
    }

    async fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), BackendError> {
        self.store(&upload.bucket).abort_multipart_upload(upload).await
    }

    async fn list_parts(&self, request: ListParts) -> Result<PartPage, BackendError> {
        self.store(&request.upload.bucket).list_parts(request).await
    }

    async fn list_multipart_uploads(&self, request: ListMultipartUploads) -> Result<UploadPage, BackendError> {
        self.store(&request.bucket).list_multipart_uploads(request).await
    }
}
