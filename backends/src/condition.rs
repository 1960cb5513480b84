//! Conditions on reads and writes. Pure: what a condition says of a state is decided here, and only here.

use crate::{BackendError, ETag, Timestamp};

/// An entity tag condition: any object, or one whose tag is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    Any,
    /// An empty list matches nothing: what a client sent can be no tag of ours.
    OneOf(Vec<ETag>),
}

impl IfMatch {
    pub fn matches(&self, etag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(etag),
        }
    }
}

/// What must hold of the current object for a write to take place. The backend judges it in the same step as the
/// commit (promise P4); the gateway may also judge it early, to spare an upload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteCondition {
    /// `If-Match`: the current object has this tag.
    pub if_match: Option<IfMatch>,
    /// `If-None-Match: *`: there is no current object. A delete marker counts as none.
    pub if_none_match: bool,
    /// Nothing may be lost: an object or a delete marker that would be replaced or deleted without being kept as a
    /// version refuses the write. For requesters who may write and not destroy.
    pub keep_all: bool,
}

impl WriteCondition {
    /// Whether there is nothing to judge.
    pub fn is_none(&self) -> bool {
        self.if_match.is_none() && !self.if_none_match && !self.keep_all
    }

    /// Whether it depends on which object there is.
    pub fn is_of_object(&self) -> bool {
        self.if_match.is_some() || self.if_none_match
    }

    /// Judges what the write destroys. [`BackendError::WouldDestroy`] where it must not.
    pub fn judge_loss(&self, destroys: bool) -> Result<(), BackendError> {
        if self.keep_all && destroys {
            return Err(BackendError::WouldDestroy);
        }
        Ok(())
    }

    /// Judges against the ETag of the current object, `None` where there is none.
    /// `If-Match` without an object is [`BackendError::NoSuchKey`], as in S3 (API reference, PutObject).
    pub fn judge(&self, current: Option<&ETag>) -> Result<(), BackendError> {
        if self.if_none_match && current.is_some() {
            return Err(BackendError::PreconditionFailed);
        }
        match (&self.if_match, current) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(BackendError::NoSuchKey),
            (Some(condition), Some(etag)) if condition.matches(etag) => Ok(()),
            (Some(_), Some(_)) => Err(BackendError::PreconditionFailed),
        }
    }
}

/// Conditions on a read (RFC 9110, section 13).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadCondition {
    pub if_match: Option<IfMatch>,
    pub if_none_match: Option<IfMatch>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

/// Why a conditional read is not answered with the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadRefusal {
    NotModified,
    PreconditionFailed,
}

impl ReadCondition {
    /// Judges in the order of RFC 9110, section 13.2.2: `If-Match` stands above `If-Unmodified-Since`, `If-None-Match`
    /// above `If-Modified-Since`. Times compare in whole seconds.
    pub fn judge(&self, etag: &ETag, last_modified: Timestamp) -> Result<(), ReadRefusal> {
        let modified = last_modified.unix_seconds();
        match (&self.if_match, self.if_unmodified_since) {
            (Some(condition), _) if !condition.matches(etag) => return Err(ReadRefusal::PreconditionFailed),
            (None, Some(since)) if modified > since.unix_seconds() => return Err(ReadRefusal::PreconditionFailed),
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(condition), _) if condition.matches(etag) => Err(ReadRefusal::NotModified),
            (None, Some(since)) if modified <= since.unix_seconds() => Err(ReadRefusal::NotModified),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> IfMatch {
        IfMatch::OneOf(vec![ETag::parse(text).unwrap()])
    }

    #[test]
    fn write_conditions() {
        let current = ETag::parse("a").unwrap();
        let none = WriteCondition::default();
        assert!(none.judge(None).is_ok() && none.judge(Some(&current)).is_ok());
        let create = WriteCondition {
            if_none_match: true,
            ..WriteCondition::default()
        };
        assert!(create.judge(None).is_ok());
        assert!(matches!(
            create.judge(Some(&current)),
            Err(BackendError::PreconditionFailed)
        ));
        let swap = |condition| WriteCondition {
            if_match: Some(condition),
            ..WriteCondition::default()
        };
        assert!(swap(tag("a")).judge(Some(&current)).is_ok());
        assert!(swap(IfMatch::Any).judge(Some(&current)).is_ok());
        assert!(matches!(
            swap(tag("b")).judge(Some(&current)),
            Err(BackendError::PreconditionFailed)
        ));
        assert!(matches!(swap(tag("a")).judge(None), Err(BackendError::NoSuchKey)));
    }

    #[test]
    fn tags_stand_above_times() {
        let etag = ETag::parse("a").unwrap();
        let at = |s| Some(Timestamp::from_unix(s, 0));
        let modified = Timestamp::from_unix(100, 999);
        let judge = |c: ReadCondition| c.judge(&etag, modified);
        let none = ReadCondition::default;
        assert_eq!(judge(none()), Ok(()));
        assert_eq!(
            judge(ReadCondition {
                if_match: Some(tag("a")),
                if_unmodified_since: at(1),
                ..none()
            }),
            Ok(())
        );
        assert_eq!(
            judge(ReadCondition {
                if_match: Some(tag("b")),
                ..none()
            }),
            Err(ReadRefusal::PreconditionFailed)
        );
        assert_eq!(
            judge(ReadCondition {
                if_unmodified_since: at(99),
                ..none()
            }),
            Err(ReadRefusal::PreconditionFailed)
        );
        assert_eq!(
            judge(ReadCondition {
                if_unmodified_since: at(100),
                ..none()
            }),
            Ok(())
        );
        assert_eq!(
            judge(ReadCondition {
                if_none_match: Some(tag("b")),
                if_modified_since: at(200),
                ..none()
            }),
            Ok(())
        );
        assert_eq!(
            judge(ReadCondition {
                if_none_match: Some(tag("a")),
                if_modified_since: at(1),
                ..none()
            }),
            Err(ReadRefusal::NotModified)
        );
        assert_eq!(
            judge(ReadCondition {
                if_modified_since: at(100),
                ..none()
            }),
            Err(ReadRefusal::NotModified)
        );
        assert_eq!(
            judge(ReadCondition {
                if_modified_since: at(99),
                ..none()
            }),
            Ok(())
        );
    }
}
