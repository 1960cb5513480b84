//! Whether a store judges what a read, a write or a delete depends on, in that step.

use futures::TryStreamExt as _;

use super::{Answer, Probe, piece};
use crate::{
    BackendError, VersionId,
    opendal::{
        key::StoreKey,
        store::{Dress, Meta, Precondition, StoreError, Token},
    },
};

impl Probe<'_> {
    async fn token(&self, key: &StoreKey) -> Result<Option<Token>, StoreError> {
        Ok(self.store.stat(key).await?.and_then(|meta: Meta| meta.token))
    }

    pub(super) async fn reads_same(&self) -> Answer {
        if !self.store.asks_on_reads() {
            return Ok(None);
        }
        let key = self.key("read");
        self.put(&key, b"first", &Precondition::None).await?;
        let stale = self.token(&key).await?;
        self.put(&key, b"other", &Precondition::None).await?;
        let good = self.token(&key).await?;
        let (Some(stale), Some(good)) = (stale, good) else {
            return Ok(Some(false));
        };
        let read = async |token| {
            self.store
                .stream(&key, 0..5, Some(token), None)
                .await?
                .try_collect::<Vec<_>>()
                .await
        };
        let refused = match read(&stale).await {
            Ok(_) => false,
            Err(StoreError::ConditionFailed) => true,
            Err(error) => return Err(error),
        };
        Ok(Some(refused && read(&good).await?.concat() == b"other"))
    }

    /// Writes `bytes`, where `joined` by joining what another object holds.
    async fn write(
        &self,
        key: &StoreKey,
        bytes: &'static [u8],
        joined: bool,
        precondition: &Precondition,
    ) -> Result<Option<VersionId>, StoreError> {
        if !joined {
            return self.put(key, bytes, precondition).await;
        }
        let source = self.key("source");
        self.put(&source, bytes, &Precondition::None).await?;
        let pieces = [piece(&source, bytes)];
        let inside = self.store.joins_inside();
        self.store
            .join(key, &pieces, inside, Dress::default(), precondition)
            .await
    }

    pub(super) async fn creates(&self, joined: bool, attempt: usize) -> Answer {
        let name = if joined { "joined-created" } else { "created" };
        let key = self.key(&format!("{name}-{attempt}"));
        self.write(&key, b"first", joined, &Precondition::Absent).await?;
        let second = self.write(&key, b"second", joined, &Precondition::Absent).await;
        let refused = match second {
            Ok(_) => false,
            Err(StoreError::ConditionFailed) => true,
            Err(error) => return Err(error),
        };
        Ok(Some(refused && self.get(&key).await?.as_deref() == Some(b"first")))
    }

    pub(super) async fn swaps(&self, joined: bool) -> Answer {
        if !self.store.asks_on_writes() {
            return Ok(None);
        }
        let key = self.key(if joined { "joined-swapped" } else { "swapped" });
        self.write(&key, b"first", joined, &Precondition::None).await?;
        let Some(stale) = self.token(&key).await? else {
            return Ok(Some(false));
        };
        // What is replaced was read, most often, and that is what is told of it then.
        let read = self.store.read(&key, 1 << 20).await?;
        if read.and_then(|(_, token)| token).as_ref() != Some(&stale) {
            return Ok(Some(false));
        }
        self.write(&key, b"second", joined, &Precondition::Is(stale.clone()))
            .await?;
        let refused = |outcome| match outcome {
            Ok(_) => Ok(false),
            Err(StoreError::ConditionFailed) => Ok(true),
            Err(error) => Err(error),
        };
        let stale = Precondition::Is(stale);
        let kept_out = refused(self.write(&key, b"third", joined, &stale).await)?;
        let still = self.get(&key).await?.as_deref() == Some(b"second");
        // Nor does it create what is not there.
        let absent = self.key("never");
        let absent_refused = refused(self.write(&absent, b"third", joined, &stale).await)?;
        let nothing = self.get(&absent).await?.is_none();
        Ok(Some(kept_out && still && absent_refused && nothing))
    }

    /// Whether an overwrite with the same bytes makes the token from before it stale. Either will do, but what the store
    /// shows and what it takes have to agree: an error where they do not.
    pub(super) async fn tells_writes_apart(&self) -> Answer {
        if !self.store.asks_on_writes() {
            return Ok(None);
        }
        let key = self.key("same");
        self.put(&key, b"same", &Precondition::None).await?;
        let Some(first) = self.token(&key).await? else {
            return Ok(None);
        };
        self.put(&key, b"same", &Precondition::None).await?;
        let is_shown = self.token(&key).await?.as_ref() == Some(&first);
        // The same bytes once more: where the token is taken, so it is when the reply was lost.
        let refused = match self.put(&key, b"same", &Precondition::Is(first)).await {
            Ok(_) => false,
            Err(StoreError::ConditionFailed) => true,
            Err(error) => return Err(error),
        };
        let lie = match (is_shown, refused) {
            (false, false) => "it takes a token that it no longer shows",
            (true, true) => "it refuses the token that it shows",
            (true, false) | (false, true) => return Ok(Some(refused)),
        };
        Err(StoreError::Failed(BackendError::internal(
            "the store contradicts itself",
            lie,
        )))
    }

    pub(super) async fn copies_swapped(&self) -> Answer {
        let (source, copied) = (self.key("source"), self.key("copied"));
        self.put(&copied, b"first", &Precondition::None).await?;
        let Some(stale) = self.token(&copied).await? else {
            return Ok(None);
        };
        self.put(&copied, b"second", &Precondition::None).await?;
        let Some(good) = self.token(&copied).await? else {
            return Ok(Some(false));
        };
        let kept = match self.store.copy(&source, &copied, &Precondition::Is(stale)).await {
            Ok(()) => false,
            Err(StoreError::ConditionFailed) => self.get(&copied).await?.as_deref() == Some(b"second"),
            Err(error) => return Err(error),
        };
        if !kept {
            return Ok(Some(false));
        }
        self.store.copy(&source, &copied, &Precondition::Is(good)).await?;
        Ok(Some(self.get(&copied).await? == self.get(&source).await?))
    }

    pub(super) async fn deletes_swapped(&self) -> Answer {
        if !self.store.asks_on_deletes() {
            return Ok(None);
        }
        let key = self.key("deleted");
        self.put(&key, b"first", &Precondition::None).await?;
        let stale = self.token(&key).await?;
        self.put(&key, b"second", &Precondition::None).await?;
        let (Some(stale), Some(good)) = (stale, self.token(&key).await?) else {
            return Ok(Some(false));
        };
        let kept = match self.store.delete(&key, &Precondition::Is(stale)).await {
            Ok(()) => false,
            Err(StoreError::ConditionFailed) => self.get(&key).await?.is_some(),
            Err(error) => return Err(error),
        };
        if !kept {
            return Ok(Some(false));
        }
        self.store.delete(&key, &Precondition::Is(good)).await?;
        Ok(Some(self.get(&key).await?.is_none()))
    }
}
