//! Operations on one object.

use futures::TryStreamExt as _;
use http_body::Frame;
use http_body_util::StreamBody;
use t2gate_backends::{
    BackendError, CannedAcl, ChecksumAlgorithm, ChecksumType, CopyObject as BackendCopy, DeleteObject as BackendDelete,
    DeleteObjectOutcome, ObjectAttributes, ObjectInfo, ObjectRef, OpenObject, PutObject as BackendPut, ReadCondition,
    ReadRefusal, VersioningStatus, WriteCondition,
};

use super::{Carrier, Reply};
use crate::{
    body::{UnverifiedBody, copied_body},
    layer::authorize::{Grant, Knowledge},
    limits,
    s3::{
        S3Error, S3ErrorCode,
        encode::{self, ResponseBody, Selection},
        operation::{
            CopyObject, CopySource, DeleteObject, GetObject, GetObjectAttributes, ObjectAcl, PutObject, PutObjectAcl,
        },
        xml,
    },
};

impl Carrier {
    pub(super) async fn get_object(&self, request: GetObject, grant: &Grant) -> Reply {
        let opened = self.open(&request.object, grant).await?;
        judge_read(&request.condition, &opened.info)?;
        let selection = select(&request, &opened).await?;
        let range = selection.bytes(opened.info.size);
        let response = encode::get_object(&request, &opened.info, &selection);
        // The body is polled outside of the request's span, whose id whoever reads the log looks for.
        let span = tracing::Span::current();
        let bytes = opened.reader.read(range).map_ok(Frame::data).map_err(move |error| {
            span.in_scope(|| {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an object could not be read to its end"
                );
            });
            error.into()
        });
        Ok(response.map(|()| ResponseBody::new(StreamBody::new(bytes))))
    }

    pub(super) async fn head_object(&self, request: GetObject, grant: &Grant) -> Reply {
        let opened = self.open(&request.object, grant).await?;
        judge_read(&request.condition, &opened.info)?;
        let selection = select(&request, &opened).await?;
        Ok(encode::head_object(&request, &opened.info, &selection))
    }

    pub(super) async fn put_object(&self, request: PutObject, grant: &Grant, body: UnverifiedBody) -> Reply {
        self.judge_object_acl(request.acl, grant)?;
        let expectation = body.expectation(limits::MAX_PUT_BYTES)?;
        let condition = guarded(request.condition, grant);
        let object = ObjectRef {
            bucket: request.bucket.clone(),
            key: request.key.clone(),
            version_id: None,
        };
        self.judge_early(&object, &condition, grant).await?;
        let refused = Refused::of(&condition);
        let (body, _) = body.into_object_body(expectation, None)?;
        let put = BackendPut {
            bucket: request.bucket,
            key: request.key,
            attributes: ObjectAttributes {
                content: request.content,
                user_metadata: request.user_metadata,
                checksum: None,
            },
            condition,
            versions: None,
        };
        let info = self.backend.put_object(put, body).await;
        let info = info.map_err(|error| refused.error(error, &object, grant))?;
        Ok(encode::put_object(&info))
    }

    pub(super) async fn delete_object(&self, request: DeleteObject, grant: &Grant) -> Reply {
        let object = request.object.clone();
        let outcome = self.delete(request, grant).await?;
        if !outcome.existed && self.settings.dialect.rules().delete_missing_is_an_error {
            let missing = match object.version_id {
                Some(_) => BackendError::NoSuchVersion,
                None => BackendError::NoSuchKey,
            };
            return Err(missing_object(missing, &object, grant.knowledge));
        }
        Ok(encode::delete_object(&outcome))
    }

    /// Deletes one object, by itself or as one of many.
    pub(super) async fn delete(&self, request: DeleteObject, grant: &Grant) -> Result<DeleteObjectOutcome, S3Error> {
        let object = request.object.clone();
        let condition = guarded(request.condition, grant);
        let refused = Refused::of(&condition);
        let delete = BackendDelete {
            object: request.object,
            condition,
            mark_missing: !self.settings.dialect.rules().delete_missing_is_an_error,
            versions: None,
        };
        let outcome = self.backend.delete_object(delete).await;
        outcome.map_err(|error| refused.error(error, &object, grant))
    }

    pub(super) async fn copy_object(&self, request: CopyObject, grant: &Grant) -> Reply {
        self.judge_object_acl(request.acl, grant)?;
        let condition = guarded(request.condition.clone(), grant);
        let refused = Refused::of(&condition);
        let copied = ObjectRef {
            bucket: request.bucket.clone(),
            key: request.key.clone(),
            version_id: None,
        };
        let mut attempts = 0;
        loop {
            let source = self.open_source(&request.source, grant).await?;
            judge_source(&request, &source.info)?;
            let source_version = source.info.version_id.clone();
            let inside = self.copies_as_it_is(&request, &source.info);
            let info = if inside {
                self.copy_inside(&request, &source.info, &condition).await
            } else {
                self.copy_through(&request, source, &condition).await
            };
            attempts += 1;
            match info {
                Ok(info) => return Ok(encode::copy_object(&info, source_version.as_ref())),
                // The source was there when it was opened.
                Err(BackendError::NoSuchVersion | BackendError::DeleteMarker { .. }) if inside => {
                    let missing = match request.source.object.version_id {
                        Some(_) => BackendError::NoSuchVersion,
                        None => BackendError::NoSuchKey,
                    };
                    return Err(missing_object(missing, &request.source.object, grant.source_knowledge));
                }
                // It was replaced after that: what is there now is as good.
                Err(BackendError::Conflict) if inside && attempts < COPY_ATTEMPTS => {}
                Err(error) => return Err(refused.error(error, &copied, grant)),
            }
        }
    }

    async fn copy_inside(
        &self,
        request: &CopyObject,
        source: &ObjectInfo,
        condition: &WriteCondition,
    ) -> Result<ObjectInfo, BackendError> {
        let copy = BackendCopy {
            source: ObjectRef {
                // The one that was opened, whatever is written over it meanwhile.
                version_id: source.version_id.clone(),
                ..request.source.object.clone()
            },
            source_etag: source.etag.clone(),
            bucket: request.bucket.clone(),
            key: request.key.clone(),
            attributes: copied_attributes(request, source),
            condition: condition.clone(),
            versions: None,
        };
        self.backend.copy_object(copy).await
    }

    /// By reading and writing.
    async fn copy_through(
        &self,
        request: &CopyObject,
        source: OpenObject,
        condition: &WriteCondition,
    ) -> Result<ObjectInfo, BackendError> {
        let stored = source.info.attributes.checksum.as_ref();
        let keep = request.checksum_algorithm.or(stored.map(|c| c.algorithm));
        let keep = keep.unwrap_or(ChecksumAlgorithm::Crc64Nvme);
        let size = source.info.size;
        let put = BackendPut {
            bucket: request.bucket.clone(),
            key: request.key.clone(),
            attributes: copied_attributes(request, &source.info),
            condition: condition.clone(),
            versions: None,
        };
        let body = copied_body(size, source.reader.read(0..size), keep);
        self.backend.put_object(put, body).await
    }

    /// Whether the store may copy by itself: where ETag and checksum of the copy are those of the source. An object of
    /// parts becomes one of one piece, and so gets another ETag.
    fn copies_as_it_is(&self, request: &CopyObject, source: &ObjectInfo) -> bool {
        let checksum = source.attributes.checksum.as_ref();
        let same_checksum = checksum.is_some_and(|checksum| {
            checksum.kind == ChecksumType::FullObject
                && request
                    .checksum_algorithm
                    .is_none_or(|asked| asked == checksum.algorithm)
        });
        let inside = self
            .backend
            .copies_between(&request.source.object.bucket, &request.bucket);
        inside && source.etag.as_md5().is_some() && same_checksum
    }

    pub(super) async fn get_object_acl(&self, object: ObjectRef, grant: &Grant) -> Reply {
        let opened = self.open(&object, grant).await?;
        let bucket = grant.bucket()?;
        let version_id = opened.info.version_id.as_ref();
        Ok(encode::get_object_acl(&bucket.owner, bucket.acl, version_id))
    }

    pub(super) async fn put_object_acl(&self, request: PutObjectAcl, grant: &Grant, body: UnverifiedBody) -> Reply {
        let opened = self.open(&request.object, grant).await?;
        let acl = match request.acl {
            Some(acl) => acl,
            None => {
                let document = body.collect(limits::MAX_XML_BYTES).await?;
                ObjectAcl::Bucket(xml::parse_access_control_policy(&document, &grant.bucket()?.owner)?)
            }
        };
        self.judge_object_acl(Some(acl), grant)?;
        Ok(encode::put_object_acl(opened.info.version_id.as_ref()))
    }

    pub(super) async fn get_object_attributes(&self, request: GetObjectAttributes, grant: &Grant) -> Reply {
        let opened = self.open(&request.object, grant).await?;
        let mut parts = if request.object_parts && opened.info.parts_count.is_some() {
            // One more than asked tells whether that is all.
            opened
                .reader
                .parts(request.part_number_marker, request.max_parts + 1)
                .await?
        } else {
            Vec::new()
        };
        // A page of none is no page to go on from, as with listings.
        let is_truncated = request.max_parts > 0 && parts.len() > request.max_parts;
        parts.truncate(request.max_parts);
        Ok(encode::get_object_attributes(
            &request,
            &opened.info,
            &parts,
            is_truncated,
        ))
    }

    pub(super) async fn get_object_tagging(&self, object: ObjectRef, grant: &Grant) -> Reply {
        let opened = self.open(&object, grant).await?;
        Ok(encode::get_object_tagging(opened.info.version_id.as_ref()))
    }

    pub(super) async fn get_unset_object_lock(&self, object: ObjectRef, grant: &Grant) -> Reply {
        self.open(&object, grant).await?;
        Err(encode::get_unset_object_lock())
    }

    /// Opens an object; where there is none, says so only to those who may know.
    pub(super) async fn open(&self, object: &ObjectRef, grant: &Grant) -> Result<OpenObject, S3Error> {
        self.backend
            .open_object(object)
            .await
            .map_err(|error| missing_object(error, object, grant.knowledge))
    }

    /// Opens what is to be copied. Every condition that does not hold is 412 here.
    pub(super) async fn open_source(&self, source: &CopySource, grant: &Grant) -> Result<OpenObject, S3Error> {
        let opened = match self.backend.open_object(&source.object).await {
            Ok(opened) => opened,
            Err(BackendError::DeleteMarker { .. })
                if grant.source_knowledge == Knowledge::History && source.object.version_id.is_some() =>
            {
                return Err(S3Error::new(
                    S3ErrorCode::InvalidRequest,
                    "The source of a copy request may not specifically refer to a delete marker by version id.",
                ));
            }
            Err(error) => return Err(missing_object(error, &source.object, grant.source_knowledge)),
        };
        match source.condition.judge(&opened.info.etag, opened.info.last_modified) {
            Ok(()) => Ok(opened),
            Err(ReadRefusal::NotModified | ReadRefusal::PreconditionFailed) => {
                Err(BackendError::PreconditionFailed.into())
            }
        }
    }

    /// Judges a write's condition before its body is asked for. The backend judges again when it commits; what only then
    /// can be known, this lets pass.
    pub(super) async fn judge_early(
        &self,
        object: &ObjectRef,
        condition: &WriteCondition,
        grant: &Grant,
    ) -> Result<(), S3Error> {
        if condition.is_none() {
            return Ok(());
        }
        let capabilities = self.backend.capabilities(Some(&object.bucket));
        if condition.is_of_object() && !capabilities.conditional_writes {
            let backend = capabilities.name;
            let operation = "A conditional write";
            return Err(BackendError::NotSupported { operation, backend }.into());
        }
        let current = match self.backend.open_object(object).await {
            Ok(opened) => Some(opened.info),
            Err(BackendError::NoSuchKey | BackendError::DeleteMarker { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let refused = Refused::of(condition);
        condition
            .judge(current.as_ref().map(|info| &info.etag))
            .map_err(|error| refused.error(error, object, grant))?;
        // Without an id it lies in a bucket that never had versioning.
        let is_suspended = grant.bucket()?.versioning == Some(VersioningStatus::Suspended);
        let is_replaced = current.is_some_and(|info| info.version_id.is_none_or(|id| is_suspended && id.is_null()));
        Ok(condition.judge_loss(is_replaced)?)
    }

    /// Objects have their bucket's ACL (dialect D8).
    pub(super) fn judge_object_acl(&self, acl: Option<ObjectAcl>, grant: &Grant) -> Result<(), S3Error> {
        let bucket = grant.bucket()?.acl;
        let ignore = self.settings.ignore_object_acl || self.settings.dialect.rules().ignore_object_acl;
        match acl {
            None => Ok(()),
            Some(ObjectAcl::Bucket(acl)) if acl == bucket => Ok(()),
            // To pass over this one would leave unpublished what the client believes public.
            Some(ObjectAcl::Bucket(CannedAcl::PublicRead)) => Err(other_acl()),
            Some(ObjectAcl::Bucket(CannedAcl::Private) | ObjectAcl::Other) if ignore => Ok(()),
            Some(ObjectAcl::Bucket(CannedAcl::Private) | ObjectAcl::Other) => Err(other_acl()),
        }
    }
}

/// How often a source that is replaced again and again is opened for one copy.
const COPY_ATTEMPTS: usize = 3;

/// What may not be copied so.
fn judge_source(request: &CopyObject, source: &ObjectInfo) -> Result<(), S3Error> {
    if source.size > limits::MAX_PUT_BYTES {
        let message = format!(
            "The specified copy source is larger than the maximum allowable size for a copy source: {}",
            limits::MAX_PUT_BYTES
        );
        return Err(S3Error::new(S3ErrorCode::InvalidRequest, message));
    }
    let object = &request.source.object;
    // By its id an older version can be brought back. Without versioning the one id that there is names the same.
    let same = object.version_id.is_none() || source.version_id.is_none();
    let onto_itself = same && object.bucket == request.bucket && object.key == request.key;
    if onto_itself && request.replace_metadata.is_none() && !request.changes_something {
        return Err(S3Error::new(
            S3ErrorCode::InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the \
             object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    Ok(())
}

fn copied_attributes(request: &CopyObject, source: &ObjectInfo) -> ObjectAttributes {
    let stored = &source.attributes;
    let (content, user_metadata) = request
        .replace_metadata
        .clone()
        .unwrap_or_else(|| (stored.content.clone(), stored.user_metadata.clone()));
    ObjectAttributes {
        content,
        user_metadata,
        checksum: stored.checksum.clone(),
    }
}

fn other_acl() -> S3Error {
    S3Error::new(
        S3ErrorCode::AccessDenied,
        "Access Denied. An object has the ACL of its bucket; no other can be set.",
    )
}

/// A write's condition, with what the requester may not do: a key that may not destroy bytes may write only where what it
/// replaces is kept. The backend judges that as it commits, for only then is it known.
pub(super) fn guarded(condition: WriteCondition, grant: &Grant) -> WriteCondition {
    WriteCondition {
        keep_all: !grant.may_destroy,
        ..condition
    }
}

/// What a write that is not done says of what is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused {
    /// It depended on an object that is there already.
    if_match: bool,
    /// Its sender asked for a condition.
    is_conditional: bool,
}

impl Refused {
    pub(super) fn of(condition: &WriteCondition) -> Self {
        Self {
            if_match: condition.if_match.is_some(),
            is_conditional: condition.is_of_object(),
        }
    }

    /// Who may neither list nor read is not told by `If-Match` whether there is an object: the answer is the same
    /// where there is none and where there is another.
    pub(super) fn error(self, error: BackendError, object: &ObjectRef, grant: &Grant) -> S3Error {
        let is_told = grant.knowledge != Knowledge::Nothing || grant.may_read;
        match error {
            BackendError::PreconditionFailed if self.if_match && !is_told => {
                missing_object(BackendError::NoSuchKey, object, grant.knowledge)
            }
            // Others were faster again and again. SDKs try a 409 again only where they have sent a condition, if at all.
            BackendError::Conflict if !self.is_conditional => BackendError::Busy {
                context: "what is to be replaced is replaced again and again",
            }
            .into(),
            error => missing_object(error, object, grant.knowledge),
        }
    }
}

/// What is said where there is no such object: no more than the requester may know (S3 API reference, GetObject,
/// "Permissions").
fn missing_object(error: BackendError, object: &ObjectRef, knowledge: Knowledge) -> S3Error {
    let by_id = object.version_id.is_some();
    match (error, knowledge) {
        (
            BackendError::NoSuchKey | BackendError::NoSuchVersion | BackendError::DeleteMarker { .. },
            Knowledge::Nothing,
        ) => S3Error::new(
            S3ErrorCode::AccessDenied,
            "Access Denied. The application key lacks the capability listFiles, without which a missing key is not \
             told from one that may not be read.",
        ),
        (BackendError::DeleteMarker { .. }, Knowledge::Absence) if by_id => BackendError::NoSuchVersion.into(),
        (BackendError::DeleteMarker { .. }, Knowledge::Absence) => BackendError::NoSuchKey.into(),
        (
            BackendError::DeleteMarker {
                version_id,
                last_modified,
            },
            Knowledge::History,
        ) => encode::delete_marker(by_id, &version_id, last_modified),
        (other, _) => other.into(),
    }
}

fn judge_read(condition: &ReadCondition, info: &ObjectInfo) -> Result<(), S3Error> {
    condition
        .judge(&info.etag, info.last_modified)
        .map_err(|refusal| encode::read_refused(refusal, info))
}

async fn select(request: &GetObject, opened: &OpenObject) -> Result<Selection, S3Error> {
    if let Some(number) = request.part_number {
        let parts = match opened.info.parts_count {
            Some(_) => opened.reader.parts(0, usize::from(number.get())).await?,
            None => Vec::new(),
        };
        return encode::select_part(&opened.info, &parts, number);
    }
    match request.effective_range(&opened.info) {
        Some(range) => range.resolve(opened.info.size).map(Selection::Range),
        None => Ok(Selection::Whole),
    }
}
