//! Whether it is allowed. Only this layer can build a [`Permitted`], and dispatch accepts nothing else.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use t2gate_backends::{AccountId, Backend, BackendError, BucketInfo, BucketName, Key};
use tower::{Layer, Service};

use super::{parse::Parsed, record::RequestRecord};
use crate::{
    acl::{self, Denied, Requester, Wanted},
    body::UnverifiedBody,
    dialect::Dialect,
    keys::Capability,
    s3::{
        Operation, S3Error, S3ErrorCode, headers,
        operation::{AnonymousAccess, GetObject, Scope},
    },
};

/// An operation that the requester may carry out.
#[derive(Debug)]
pub struct Permitted {
    operation: Operation,
    grant: Grant,
    body: UnverifiedBody,
    record: RequestRecord,
}

/// On what terms it is permitted.
#[derive(Debug, Clone)]
pub struct Grant {
    pub requester: Requester,
    /// The bucket it acts on, as it was when the request came. `None` for those that need none.
    pub bucket: Option<BucketInfo>,
    /// What the requester may know of keys that are missing.
    pub knowledge: Knowledge,
    /// The same of the bucket of a copy's source.
    pub source_knowledge: Knowledge,
    /// May read objects, and so their ETags.
    pub may_read: bool,
    /// May destroy bytes: replace or delete an object of which no older version is kept.
    pub may_destroy: bool,
}

/// What may be said of keys under which there is no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// That it is missing, and that it was deleted.
    History,
    /// That it is missing, no more: for those whom a public bucket lets read, and not list (dialect D5, D12).
    Absence,
    /// Not whether it is missing or just not to be had.
    Nothing,
}

impl Permitted {
    pub fn into_parts(self) -> (Operation, Grant, UnverifiedBody, RequestRecord) {
        (self.operation, self.grant, self.body, self.record)
    }
}

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct Authorize<S> {
    inner: S,
    policy: Arc<Policy>,
}

#[derive(Debug)]
struct Policy {
    backend: Arc<dyn Backend>,
    dialect: Dialect,
}

pub fn layer<S>(backend: Arc<dyn Backend>, dialect: Dialect) -> impl Layer<S, Service = Authorize<S>> + Clone {
    let policy = Arc::new(Policy { backend, dialect });
    tower::layer::layer_fn(move |inner| Authorize {
        inner,
        policy: policy.clone(),
    })
}

impl<S> Service<Parsed> for Authorize<S>
where
    S: Service<Permitted, Error = S3Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S3Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S3Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S3Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Parsed) -> Self::Future {
        let policy = self.policy.clone();
        let mut inner = self.inner.clone();
        Box::pin(async move {
            let grant = policy.judge(&request).await?;
            let permitted = Permitted {
                operation: request.operation,
                grant,
                body: request.body,
                record: request.record,
            };
            inner.call(permitted).await
        })
    }
}

/// What can be said of a request without credentials before its bucket is looked at.
fn judge_anonymous(operation: &Operation, public: bool) -> Result<(), S3Error> {
    match operation {
        // A browser's form has its credentials in its fields: that they are missing here is not what is wrong with it.
        Operation::NotImplemented(refused) if refused.action == "PostObject" => Err(refused.clone().into()),
        // Whoever may set them can make a page of the bucket's host out of any object.
        Operation::GetObject(GetObject { overrides, .. }) | Operation::HeadObject(GetObject { overrides, .. })
            if !overrides.is_empty() =>
        {
            Err(S3Error::new(
                S3ErrorCode::InvalidRequest,
                "Request specific response headers cannot be used for anonymous GET requests.",
            ))
        }
        _ if public => Ok(()),
        _ => Err(Denied::Anonymous.into()),
    }
}

impl Policy {
    async fn judge(&self, request: &Parsed) -> Result<Grant, S3Error> {
        let operation = &request.operation;
        let requester = &request.requester;
        let access = operation.access();
        let public = match operation.anonymous_access() {
            AnonymousAccess::Never => false,
            AnonymousAccess::ReadObject => true,
            AnonymousAccess::ListObjects => self.dialect.rules().anonymous_listing,
        };
        if matches!(requester, Requester::Anonymous) {
            judge_anonymous(operation, public)?;
        }
        let wanted = Wanted {
            capabilities: access.needs,
            name: match access.scope {
                Scope::Object => operation.key().map(Key::as_str),
                Scope::Bucket => listed_prefix(operation),
                Scope::Account | Scope::EachObject | Scope::Nothing => None,
            },
            public,
        };
        let bucket = match (access.scope, operation.bucket()) {
            (Scope::Nothing, _) | (Scope::Account, None) => {
                acl::reaches(requester, wanted, None)?;
                None
            }
            // The bucket is yet to be made.
            (Scope::Account, Some(bucket)) => {
                acl::reaches(requester, wanted, Some(bucket))?;
                None
            }
            (Scope::Bucket | Scope::Object | Scope::EachObject, Some(bucket)) => {
                let expected = headers::expected_bucket_owner(&request.body.headers)?;
                Some(self.bucket(requester, wanted, bucket, expected).await?)
            }
            (Scope::Bucket | Scope::Object | Scope::EachObject, None) => {
                return Err(S3Error::internal("an operation on a bucket names none"));
            }
        };
        let mut source_bucket = None;
        if let Some(source) = operation.copy_source() {
            let wanted = Wanted {
                capabilities: &[Capability::ReadFiles],
                name: Some(source.key.as_str()),
                public: true,
            };
            let expected = headers::source_expected_bucket_owner(&request.body.headers)?;
            source_bucket = Some(self.bucket(requester, wanted, &source.bucket, expected).await?);
        }
        let allows = |capability| match requester {
            Requester::Key(key) => key.allows(capability),
            Requester::Anonymous => false,
        };
        Ok(Grant {
            knowledge: self.knowledge(requester, bucket.as_ref()),
            source_knowledge: self.knowledge(requester, source_bucket.as_ref()),
            may_read: allows(Capability::ReadFiles),
            may_destroy: allows(Capability::DeleteFiles),
            requester: requester.clone(),
            bucket,
        })
    }

    fn knowledge(&self, requester: &Requester, bucket: Option<&BucketInfo>) -> Knowledge {
        let is_owner = |account: &AccountId| bucket.is_none_or(|bucket| bucket.owner == *account);
        match requester {
            Requester::Key(key) if is_owner(&key.account) => {
                if key.allows(Capability::ListFiles) {
                    Knowledge::History
                } else {
                    Knowledge::Nothing
                }
            }
            // In somebody else's public bucket a key is as good as none.
            Requester::Key(_) | Requester::Anonymous if self.dialect.rules().anonymous_listing => Knowledge::History,
            Requester::Key(_) | Requester::Anonymous => Knowledge::Absence,
        }
    }

    async fn bucket(
        &self,
        requester: &Requester,
        wanted: Wanted<'_>,
        bucket: &BucketName,
        expected_owner: Option<&str>,
    ) -> Result<BucketInfo, S3Error> {
        // A key learns nothing of buckets that it cannot reach, not even whether they are there.
        acl::reaches(requester, wanted, Some(bucket))?;
        let info = self.backend.head_bucket(bucket).await.map_err(|error| match error {
            BackendError::NoSuchBucket => S3Error::no_such_bucket(bucket.as_str()),
            other => other.into(),
        })?;
        acl::allows(requester, wanted.public, &info)?;
        if expected_owner.is_some_and(|expected| expected != info.owner.as_str()) {
            return Err(S3Error::new(
                S3ErrorCode::AccessDenied,
                "Access Denied. The bucket does not belong to the expected owner.",
            ));
        }
        Ok(info)
    }
}

/// What a listing is confined to; a key with a name prefix must stay within that.
fn listed_prefix(operation: &Operation) -> Option<&str> {
    match operation {
        Operation::ListObjects(list) => Some(&list.prefix),
        Operation::ListObjectsV2(list) => Some(&list.prefix),
        Operation::ListObjectVersions(list) => Some(&list.prefix),
        Operation::ListMultipartUploads(list) => Some(&list.prefix),
        _ => None,
    }
}

impl From<Denied> for S3Error {
    fn from(denied: Denied) -> Self {
        let error = Self::new(S3ErrorCode::AccessDenied, denied.to_string());
        match denied {
            Denied::Anonymous => error.unauthenticated(),
            Denied::Capability(_) | Denied::OtherBuckets | Denied::OtherPrefix | Denied::OtherAccount => error,
        }
    }
}
