//! What went wrong under the backend, and what that means to storage.

use rustix::io::Errno;

use crate::BackendError;

/// What happened. Carries no names that a client sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A system call failed; nothing was changed.
    #[error("{action}: {source}")]
    Io { action: &'static str, source: Errno },
    /// A sync failed after the change had become visible.
    #[error("{action}: {source}")]
    NotDurable { action: &'static str, source: Errno },
    /// What the gateway itself keeps under `.t2` cannot be read.
    #[error("{what} is damaged")]
    Damaged { what: &'static str },
    /// A file has fewer bytes than it had when it was opened.
    #[error("the file became shorter while it was read")]
    Shortened,
    /// The body's end names another length than what came.
    #[error("the body announced {announced} bytes and brought {came}")]
    Length { announced: u64, came: u64 },
    /// The system's random source.
    #[error("the random source failed")]
    Random(#[from] getrandom::Error),
    /// The blocking work panicked or was cut off by the end of the runtime.
    #[error("the work was cut off")]
    CutOff(#[source] tokio::task::JoinError),
    /// An answer that the contract has a word for.
    #[error(transparent)]
    Answer(#[from] BackendError),
}

impl Error {
    /// For `map_err`: names what was being done.
    pub(super) fn io(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::Io { action, source }
    }
}

impl From<Error> for BackendError {
    fn from(error: Error) -> Self {
        match error {
            Error::Answer(answer) => answer,
            Error::Io {
                source: Errno::NOSPC | Errno::DQUOT,
                ..
            } => Self::internal("the disk is full", error),
            Error::Io {
                source: Errno::XDEV, ..
            } => Self::internal("another file system is mounted inside the bucket", error),
            Error::Io {
                source: Errno::MFILE | Errno::NFILE,
                ..
            } => Self::internal("too many files are open", error),
            Error::Io { action, .. } => Self::internal(action, error),
            Error::NotDurable { .. } => {
                Self::internal("the outcome is unknown: a sync failed after the change was made", error)
            }
            Error::Damaged { .. } => Self::internal("the gateway's own records are damaged", error),
            Error::Shortened => Self::internal("the file is shorter than it was", error),
            Error::Length { .. } => Self::internal("the body's length is not the one it ended with", error),
            Error::Random(_) => Self::internal("the system's random source failed", error),
            Error::CutOff(_) => Self::internal("the file system work was cut off", error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_called_so() {
        for full in [Errno::NOSPC, Errno::DQUOT] {
            let error = BackendError::from(Error::io("could not write data")(full));
            assert_eq!(error.to_string(), "the disk is full");
        }
        let unknown = Error::NotDurable {
            action: "could not sync a directory",
            source: Errno::NOSPC,
        };
        assert!(BackendError::from(unknown).to_string().contains("outcome is unknown"));
    }
}
