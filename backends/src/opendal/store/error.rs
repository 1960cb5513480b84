//! Why a call of the store failed, told from what opendal says of it.

use opendal::ErrorKind;

use crate::BackendError;

/// Why a call failed.
#[derive(Debug)]
pub(in crate::opendal) enum StoreError {
    NotFound,
    /// A [`Precondition`] does not hold, or another writer of the object was faster.
    ConditionFailed,
    /// The way to the store, or the store, cannot do this.
    Unsupported,
    /// Whether the call took effect is unknown, unless the error says that nothing was changed.
    Failed(BackendError),
}

/// For calls that no missing object and no condition can end.
impl From<StoreError> for BackendError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => {
                Self::internal("something that the gateway keeps in the store is gone", "not found")
            }
            StoreError::ConditionFailed => Self::Conflict,
            StoreError::Unsupported => Self::internal("the store cannot do what its probe promised", "unsupported"),
            StoreError::Failed(error) => error,
        }
    }
}

impl From<BackendError> for StoreError {
    fn from(error: BackendError) -> Self {
        Self::Failed(error)
    }
}

pub(in crate::opendal) fn failed(error: opendal::Error) -> StoreError {
    let internal = |context, error: opendal::Error| StoreError::Failed(BackendError::internal(context, error));
    match error.kind() {
        ErrorKind::NotFound => StoreError::NotFound,
        ErrorKind::ConditionNotMatch => StoreError::ConditionFailed,
        ErrorKind::Unsupported => StoreError::Unsupported,
        ErrorKind::PermissionDenied => internal(
            "the store refuses the gateway's own credentials, or what they may do there",
            error,
        ),
        ErrorKind::RateLimited => StoreError::Failed(BackendError::Busy {
            context: "the store asks to slow down",
        }),
        ErrorKind::Conflict => StoreError::Failed(BackendError::Conflict),
        ErrorKind::ConfigInvalid => internal("the store's configuration is wrong", error),
        // Azure throws away the blocks of an object that another write has replaced.
        _ if is_code(error.message(), "InvalidBlockList") => StoreError::ConditionFailed,
        _ if is_code(error.message(), "KeyTooLongError") => StoreError::Failed(BackendError::UnsupportedKey(
            "the store says that it, or a segment of it, is too long",
        )),
        _ if is_unavailable(&error) => StoreError::Failed(BackendError::Busy {
            context: "the store is not available",
        }),
        _ => internal("the store failed", error),
    }
}

/// Whether a message is the store's own error of this code, as opendal writes it: `S3Error { code: "...", ...`. What
/// follows the code may hold a client's key.
fn is_code(message: &str, code: &str) -> bool {
    message.split_once(" { code: \"").is_some_and(|(name, rest)| {
        let named = rest.strip_prefix(code).is_some_and(|rest| rest.starts_with('"'));
        named && name.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

/// A 503 that outlived its retries. opendal has no kind for it, and keeps the response among what it tells of the error
/// by name. That can be had only as Debug writes it, where what a client's key has in it is escaped: no key looks so.
pub(in crate::opendal) fn is_unavailable(error: &opendal::Error) -> bool {
    let told = format!("{error:#?}");
    told.contains("\n            \"response\",\n            \"Parts { status: 503")
}

/// What [`is_unavailable`] knows again, for an error that is told in other words.
pub(in crate::opendal) fn as_unavailable(error: opendal::Error) -> opendal::Error {
    error.with_context("response", "Parts { status: 503 }")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unexpected(message: &str) -> opendal::Error {
        opendal::Error::new(ErrorKind::Unexpected, message)
    }

    #[test]
    fn a_refusal_of_the_store_is_the_fault_of_the_gateway() {
        let denied = failed(opendal::Error::new(ErrorKind::PermissionDenied, "403"));
        let StoreError::Failed(BackendError::Internal { context, .. }) = denied else {
            panic!("{denied:?}");
        };
        assert!(context.contains("gateway's own credentials"));
        let limited = failed(opendal::Error::new(ErrorKind::RateLimited, "429"));
        assert!(matches!(limited, StoreError::Failed(BackendError::Busy { .. })));
        let unavailable = unexpected("").with_context("response", "Parts { status: 503, version: HTTP/1.1 }");
        assert!(matches!(
            failed(unavailable),
            StoreError::Failed(BackendError::Busy { .. })
        ));
        let again = as_unavailable(unexpected("told in other words"));
        assert!(matches!(failed(again), StoreError::Failed(BackendError::Busy { .. })));
        let long = failed(unexpected("S3Error { code: \"KeyTooLongError\", message: \"\" }"));
        assert!(matches!(long, StoreError::Failed(BackendError::UnsupportedKey(_))));
        let faster = failed(unexpected("AzblobError { code: \"InvalidBlockList\", message: \"\" }"));
        assert!(matches!(faster, StoreError::ConditionFailed));
        let other = failed(unexpected("500"));
        assert!(matches!(other, StoreError::Failed(BackendError::Internal { .. })));
    }

    #[test]
    fn what_a_client_names_an_object_is_no_word_of_the_store() {
        for key in [
            "status: 503",
            "Parts { status: 503 }",
            "\n            \"response\",\n            \"Parts { status: 503",
            "KeyTooLongError",
            "AzblobError { code: \"InvalidBlockList\" }",
            "S3Error { code: \"KeyTooLongError\" }",
        ] {
            let denied = format!("{:?}", format!("no {key}"));
            let error = unexpected(&format!("S3Error {{ code: \"InternalError\", message: {denied} }}"))
                .with_context("uri", key)
                .with_context("path", key)
                .with_context("response", "Parts { status: 500, version: HTTP/1.1 }");
            let failed = failed(error);
            assert!(
                matches!(failed, StoreError::Failed(BackendError::Internal { .. })),
                "{key:?}: {failed:?}"
            );
        }
    }
}
