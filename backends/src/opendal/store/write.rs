//! Writes: of bytes at hand, in parts, and of what the store has already.

use bytes::Bytes;
use opendal::{
    Buffer,
    options::{ReadOptions, WriteOptions},
};

use super::{
    Dress, MAX_COPY_BYTES, MAX_PARTS, MIN_PART_BYTES, Piece, Precondition, Store, StoreError, Token, error::failed,
    version_of,
};
use crate::{BackendError, Clock as _, Stamp, SystemClock, VersionId, opendal::key::StoreKey};

/// A service that gives back something else where it is told that an object is compressed. The gateway's own record of
/// the object says so too.
const UNPACKS: &str = "gcs";

impl Store {
    /// One write of bytes at hand. Gives the version that it has made, where the store names it.
    pub(in crate::opendal) async fn write(
        &self,
        key: &StoreKey,
        bytes: impl Into<Buffer>,
        dress: Dress,
        precondition: &Precondition,
    ) -> Result<Option<VersionId>, StoreError> {
        let options = self.write_options(dress, precondition);
        if self.writes_in_place {
            return self.write_and_rename(key, bytes.into(), options).await.map(|()| None);
        }
        let written = self.op.write_options(key.as_str(), bytes, options).await;
        written.map(|metadata| version_of(&metadata)).map_err(failed)
    }

    /// As [`write`](Self::write), in one attempt. `true` says of a failure that another may be given the store.
    pub(in crate::opendal) async fn write_once(
        &self,
        key: &StoreKey,
        bytes: Bytes,
        precondition: &Precondition,
    ) -> Result<(), (StoreError, bool)> {
        if self.writes_in_place {
            let written = self.write(key, bytes, Dress::default(), precondition).await;
            return written.map(drop).map_err(|error| (error, false));
        }
        let options = self.write_options(Dress::default(), precondition);
        let written = self.once.write_options(key.as_str(), bytes, options).await;
        written.map(drop).map_err(|error| {
            let passing = error.is_temporary();
            (failed(error), passing)
        })
    }

    /// Each attempt has a file of its own: a writer there that has failed has forgotten what of it, and says of a second
    /// attempt to close it that all is well.
    async fn write_and_rename(&self, key: &StoreKey, bytes: Buffer, options: WriteOptions) -> Result<(), StoreError> {
        let mut attempts = self.attempts("write");
        loop {
            tokio::task::consume_budget().await;
            let aside = aside_key()?;
            let error = match self.write_aside(&aside, key, bytes.clone(), options.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if let Err(error) = self.delete(&aside, &Precondition::None).await {
                tracing::warn!(key = %aside, ?error, "what was not renamed is left to the sweeper");
            }
            if !(error.is_temporary() && attempts.another(self, key.as_str(), &error).await) {
                return Err(failed(error));
            }
        }
    }

    async fn write_aside(
        &self,
        aside: &StoreKey,
        key: &StoreKey,
        bytes: Buffer,
        options: WriteOptions,
    ) -> opendal::Result<()> {
        let size = bytes.len() as u64;
        self.once.write_options(aside.as_str(), bytes, options).await?;
        let written = self.once.stat(aside.as_str()).await?.content_length();
        if written != size {
            let error = opendal::Error::new(opendal::ErrorKind::Unexpected, "the store has not all that was written");
            return Err(error.with_context("written", written.to_string()).set_temporary());
        }
        self.once.rename(aside.as_str(), key.as_str()).await
    }

    /// Makes an object of pieces: `inside` the store, or by reading and writing. Ends what it began, whatever happens; to
    /// be called where nothing drops it. Holds as much in memory as [`joining_bytes`](Self::joining_bytes) says. Gives
    /// what [`write`](Self::write) does.
    pub(in crate::opendal) async fn join(
        &self,
        key: &StoreKey,
        pieces: &[Piece],
        inside: bool,
        dress: Dress,
        precondition: &Precondition,
    ) -> Result<Option<VersionId>, StoreError> {
        if inside && self.composes {
            return self.compose(key, pieces, dress, precondition).await;
        }
        let total: u64 = pieces.iter().map(|piece| piece.size).sum();
        // What is smaller than a part is read and written also inside: parts of the least size, so that little is.
        let (op, chunk) = match pieces {
            // Of any size it is a whole part.
            [piece] if inside => (&self.joining, piece.size.clamp(1, MIN_PART_BYTES)),
            _ if inside => (&self.op, MIN_PART_BYTES),
            _ => (&self.streaming, chunk_for(total) as u64),
        };
        let options = WriteOptions {
            chunk: usize::try_from(chunk).ok(),
            concurrent: 1,
            ..self.write_options(dress, precondition)
        };
        let mut writer = op.writer_options(key.as_str(), options).await.map_err(failed)?;
        let copied = async {
            for piece in pieces {
                let mut at = 0;
                while at < piece.size {
                    let end = piece.size.min(at + MAX_COPY_BYTES);
                    let (if_match, if_version_match) = Token::conditions(piece.token.as_ref());
                    let options = ReadOptions {
                        range: (at..end).into(),
                        if_match,
                        if_version_match,
                        content_length_hint: Some(piece.size),
                        version: piece.version.as_ref().map(VersionId::to_string),
                        ..ReadOptions::default()
                    };
                    writer.copy_from_options(piece.key.as_str(), options).await?;
                    at = end;
                }
            }
            writer.close().await
        };
        let outcome = copied.await;
        if outcome.is_err() {
            end(&mut writer, key).await;
        }
        outcome.map(|metadata| version_of(&metadata)).map_err(failed)
    }

    /// A writer for `total` bytes that come in pieces. The second value is how much it may hold in memory.
    pub(in crate::opendal) async fn writer(&self, key: &StoreKey, total: u64) -> Result<Writer, StoreError> {
        let options = WriteOptions {
            chunk: Some(chunk_for(total)),
            concurrent: 1,
            ..WriteOptions::default()
        };
        let writer = self.op.writer_options(key.as_str(), options).await.map_err(failed)?;
        Ok(Writer {
            writer,
            key: key.clone(),
        })
    }

    /// What [`writer`](Self::writer) for so many bytes holds in memory at most.
    pub(in crate::opendal) fn writer_bytes(total: u64) -> u64 {
        3 * chunk_for(total) as u64
    }

    /// What [`join`](Self::join) of these pieces holds in memory at most.
    pub(in crate::opendal) fn joining_bytes(&self, pieces: &[Piece], inside: bool) -> u64 {
        match pieces {
            // They do not pass through the gateway.
            [_] if inside => 0,
            _ if inside && self.composes => 0,
            _ if inside => 3 * MIN_PART_BYTES,
            _ => Self::writer_bytes(pieces.iter().map(|piece| piece.size).sum()),
        }
    }

    fn write_options(&self, dress: Dress, precondition: &Precondition) -> WriteOptions {
        let capability = self.capability();
        let (if_match, if_version_match) = precondition.conditions();
        WriteOptions {
            cache_control: header(capability.write_with_cache_control, dress.content.cache_control),
            content_type: header(capability.write_with_content_type, dress.content.content_type),
            content_disposition: header(
                capability.write_with_content_disposition,
                dress.content.content_disposition,
            ),
            content_encoding: header(
                capability.write_with_content_encoding && self.service() != UNPACKS,
                dress.content.content_encoding,
            ),
            user_metadata: dress.user,
            if_match,
            if_version_match,
            if_not_exists: *precondition == Precondition::Absent,
            ..WriteOptions::default()
        }
    }
}

/// How large the parts of a body of `total` bytes are.
fn chunk_for(total: u64) -> usize {
    // Some room is left below the number of parts that there can be.
    let needed = total.div_ceil(MAX_PARTS - 100).next_multiple_of(1 << 20);
    usize::try_from(needed.max(MIN_PART_BYTES)).unwrap_or(usize::MAX)
}

/// A name that no other write has, for what gets its own when it is whole, or never.
pub(super) fn aside_key() -> Result<StoreKey, StoreError> {
    let random =
        getrandom::u64().map_err(|error| BackendError::internal("no randomness for a name in the store", error))?;
    Ok(StoreKey::aside(Stamp::new(SystemClock.now(), random)))
}

/// A content header for the store, which has it `kept` or has not.
pub(super) fn header(kept: bool, text: Option<Box<str>>) -> Option<String> {
    text.filter(|text| kept && is_plain(text)).map(String::from)
}

/// What every header can say.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

/// An upload that was begun is not left to the store.
async fn end(writer: &mut opendal::Writer, key: &StoreKey) {
    if let Err(error) = writer.abort().await {
        tracing::warn!(%key, %error, "an upload in the store could not be aborted");
    }
}

/// Writes one object in parts. To be held where nothing drops it before [`close`](Self::close) or
/// [`abort`](Self::abort).
pub(in crate::opendal) struct Writer {
    writer: opendal::Writer,
    key: StoreKey,
}

impl Writer {
    pub(in crate::opendal) async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.writer.write(bytes).await.map_err(failed)
    }

    pub(in crate::opendal) async fn close(&mut self) -> Result<(), StoreError> {
        self.writer.close().await.map(drop).map_err(failed)
    }

    pub(in crate::opendal) async fn abort(&mut self) {
        end(&mut self.writer, &self.key).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_with_the_body_and_never_number_more_than_there_can_be() {
        assert_eq!(chunk_for(0) as u64, MIN_PART_BYTES);
        for total in [1_u64, 5 << 30, 50 << 30, 5 << 40] {
            let chunk = chunk_for(total) as u64;
            assert!(total.div_ceil(chunk) <= MAX_PARTS, "{total}");
        }
    }
}
