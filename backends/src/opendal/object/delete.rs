//! Deleting an object, in the step that the layout has for it.

use super::{commit::state, run_to_end};
use crate::{
    BackendError, DeleteObject, DeleteObjectOutcome, DeletePlan,
    opendal::{
        ATTEMPTS, Core, Level, StoreLayout,
        store::{Precondition, StoreError},
    },
};

impl Core {
    pub(in crate::opendal) async fn delete_object(
        &self,
        request: DeleteObject,
    ) -> Result<DeleteObjectOutcome, BackendError> {
        let core = self.clone();
        run_to_end(async move { core.delete(request).await }).await
    }

    async fn delete(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        let bucket = self.bucket(&request.object.bucket).await?;
        if request.condition.if_match.is_some() && !self.judges_deletes() {
            return Err(self.not_supported("A conditional delete"));
        }
        let _bucket = self.locks.in_bucket(&request.object.bucket).await?;
        let _key = self.locks.key(&request.object.bucket, &request.object.key).await?;
        let versioning = self.confirm_bucket(&bucket, false).await?;
        match self.layout {
            StoreLayout::Encoded => self.delete_encoded(&request, versioning).await,
            StoreLayout::Transparent if self.is_native() => self.delete_native(request).await,
            StoreLayout::Transparent => {
                self.judge_kept(versioning)?;
                self.delete_plain(request).await
            }
        }
    }

    async fn delete_plain(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        let DeleteObject { object, condition, .. } = request;
        let unknown = object.version_id.as_ref().is_some_and(|id| !id.is_null());
        for _ in 0..ATTEMPTS {
            let current = if unknown {
                None
            } else {
                self.current(&object.bucket, &object.key).await?
            };
            // Nothing is there to mark: the bucket never had versioning.
            let plan = state(current.as_ref()).delete(&condition, None, false)?;
            let (DeletePlan::Remove, Some(current)) = (plan, current) else {
                return Ok(DeleteObjectOutcome::default());
            };
            let precondition = if condition.is_none() || !self.profile.conditional_deletes {
                Precondition::None
            } else {
                self.replacing(current.token.clone())?
            };
            match self.store.delete(&current.place, &precondition).await {
                Err(StoreError::ConditionFailed) => {}
                outcome => {
                    outcome?;
                    if let Some(record) = &current.record {
                        self.drop_data(record).await;
                    }
                    return Ok(DeleteObjectOutcome {
                        existed: true,
                        ..DeleteObjectOutcome::default()
                    });
                }
            }
        }
        Err(BackendError::Conflict)
    }

    /// Whether a delete can be conditional. In the encoded layout it can be a write.
    pub(in crate::opendal) fn judges_deletes(&self) -> bool {
        let by_writing = self.layout == StoreLayout::Encoded && self.level >= Level::CompareAndSet;
        by_writing || self.profile.conditional_deletes
    }
}
