//! Writes are tasks of their own: a client that goes away must not cut one in the middle of its commit.

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::Reply;
use crate::{layer::respond, s3::S3Error};

/// The writes that are under way, also those that nobody waits for any more. Clones are of the same ones.
#[derive(Debug, Clone, Default)]
pub struct Writes(TaskTracker);

impl Writes {
    /// Begins at once. Dropped, what it gives leaves the write running; what that then ends in is logged, for there is
    /// nobody else to tell.
    pub(super) fn carry_out<W>(&self, write: W) -> impl Future<Output = Reply> + Send + use<W>
    where
        W: Future<Output = Reply> + Send + 'static,
    {
        let (reply, awaited) = oneshot::channel();
        let write = async move {
            if let Err(Err(error)) = reply.send(write.await) {
                respond::log(&error);
            }
        };
        let task = self.0.spawn(write.in_current_span());
        async move {
            match awaited.await {
                Ok(reply) => reply,
                Err(_) => Err(match task.await {
                    Err(panic) => S3Error::internal(panic),
                    Ok(()) => S3Error::internal("a write ended without an answer"),
                }),
            }
        }
    }

    /// Ends when none is under way. More may begin at any time: to be asked when no connection is left.
    pub async fn ended(&self) {
        self.0.close();
        self.0.wait().await;
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
