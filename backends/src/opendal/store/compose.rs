//! Joining on a store that composes: one call names up to so many objects, and makes one of them. No byte of them passes
//! through the gateway.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use opendal::{
    Metadata,
    options::{ComposeOptions, ComposeSourceOptions},
};

use super::{
    Dress, Piece, Precondition, Store, StoreError, Token,
    error::failed,
    version_of,
    write::{aside_key, header},
};
use crate::{
    VersionId,
    opendal::{key::StoreKey, timeouts},
};

/// One call takes so many objects. opendal would make more calls for more, by names of its own, outside `.t2/`.
pub(super) const MAX_COMPONENTS: usize = 32;
/// So many calls are under way at once.
const CONCURRENT: usize = 8;

/// What an object is composed of.
#[derive(Debug, Clone)]
struct Component {
    key: StoreKey,
    /// Bytes.
    size: u64,
    /// What is there.
    version: Option<String>,
}

impl Store {
    /// As [`join`](Self::join). Of more objects than one call takes, some are composed aside first.
    pub(super) async fn compose(
        &self,
        key: &StoreKey,
        pieces: &[Piece],
        dress: Dress,
        precondition: &Precondition,
    ) -> Result<Option<VersionId>, StoreError> {
        let held = pieces.iter().filter(|piece| piece.size > 0);
        let components: Vec<Component> = held.map(Component::of).collect();
        if components.is_empty() {
            return self.write(key, Bytes::new(), dress, precondition).await;
        }
        let mut asides = Vec::new();
        let composed = async {
            let components = self.compose_aside(key, components, &mut asides).await?;
            let options = self.compose_options(dress, precondition);
            self.compose_object(key, &components, options).await
        };
        let composed = composed.await;
        let removed = stream::iter(&asides).for_each_concurrent(CONCURRENT, |aside| async move {
            if let Err(error) = self.delete(aside, &Precondition::None).await {
                tracing::warn!(key = %aside, ?error, "what was composed aside is left to the sweeper");
            }
        });
        removed.await;
        composed.map(|metadata| version_of(&metadata))
    }

    /// What `components` are composed of in the end, which is what one call takes. `asides` gets what was composed for
    /// that, or may have been.
    async fn compose_aside(
        &self,
        key: &StoreKey,
        mut components: Vec<Component>,
        asides: &mut Vec<StoreKey>,
    ) -> Result<Vec<Component>, StoreError> {
        // opendal refuses to compose an object of itself.
        let mut of_itself = components.iter().any(|component| component.key == *key);
        while of_itself || components.len() > MAX_COMPONENTS {
            let mut groups = Vec::new();
            for group in components.chunks(MAX_COMPONENTS) {
                let aside = aside_key()?;
                asides.push(aside.clone());
                groups.push((aside, group.to_vec()));
            }
            components = stream::iter(groups)
                .map(|(aside, group)| async move {
                    let composed = self.compose_object(&aside, &group, ComposeOptions::default()).await?;
                    Ok::<_, StoreError>(Component {
                        key: aside,
                        size: group.iter().map(|component| component.size).sum(),
                        version: composed.version().map(str::to_owned),
                    })
                })
                .buffered(CONCURRENT)
                .try_collect()
                .await?;
            of_itself = false;
        }
        Ok(components)
    }

    /// One call, tried again as the others are, each time by a composer of its own: opendal's are of no use once they
    /// have failed, and its retries leave them alone.
    async fn compose_object(
        &self,
        key: &StoreKey,
        components: &[Component],
        options: ComposeOptions,
    ) -> Result<Metadata, StoreError> {
        let mut attempts = self.attempts("compose");
        let bytes = components.iter().map(|component| component.size).sum();
        loop {
            tokio::task::consume_budget().await;
            let sources = components.iter().map(|component| {
                let options = ComposeSourceOptions {
                    version: component.version.clone(),
                    ..ComposeSourceOptions::default()
                };
                (component.key.as_str(), options)
            });
            let composed = self.once.compose_options(sources, key.as_str(), options.clone());
            match timeouts::composing(bytes, composed).await {
                Ok(metadata) => return Ok(metadata),
                Err(error) if error.is_temporary() && attempts.another(self, key.as_str(), &error).await => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn compose_options(&self, dress: Dress, precondition: &Precondition) -> ComposeOptions {
        let capability = self.capability();
        let (if_match, if_version_match) = precondition.conditions();
        ComposeOptions {
            cache_control: header(capability.compose_with_cache_control, dress.content.cache_control),
            content_type: header(capability.compose_with_content_type, dress.content.content_type),
            // No encoding and no disposition: what is written in one piece has none there either.
            user_metadata: dress.user,
            if_match,
            if_version_match,
            if_not_exists: *precondition == Precondition::Absent,
            ..ComposeOptions::default()
        }
    }
}

impl Component {
    /// Of that version alone, where one is known: it is not there when the object has been replaced since.
    fn of(piece: &Piece) -> Self {
        let version = piece.token.as_ref().and_then(|token| match token {
            Token::Version(version) => Some(version.clone()),
            Token::ETag(_) => None,
        });
        Self {
            key: piece.key.clone(),
            size: piece.size,
            version,
        }
    }
}
