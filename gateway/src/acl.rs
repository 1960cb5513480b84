//! Who may do what to a bucket and its objects. Pure.

use std::sync::Arc;

use t2gate_backends::{BucketInfo, BucketName, CannedAcl};

use crate::keys::{ApplicationKey, Capability};

/// Whoever asks.
#[derive(Debug, Clone)]
pub enum Requester {
    Anonymous,
    /// The signature was good.
    Key(Arc<ApplicationKey>),
}

/// Why a request is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Credentials might help.
    #[error("Access Denied. Anonymous requests may not do that.")]
    Anonymous,
    #[error("Access Denied. The application key lacks the capability {}.", .0.as_str())]
    Capability(Capability),
    #[error("Access Denied. The application key is restricted to other buckets.")]
    OtherBuckets,
    #[error("Access Denied. The application key is restricted to keys that begin with another prefix.")]
    OtherPrefix,
    #[error("Access Denied. The bucket belongs to another account.")]
    OtherAccount,
}

/// What an operation touches.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub capabilities: &'a [Capability],
    /// The key of the object, or the prefix of the listing.
    pub name: Option<&'a str>,
    /// Whether `public-read` grants it to everybody.
    pub public: bool,
}

/// Does the requester's key reach `bucket`, with what it wants there? Asked before the bucket is looked up, so that a
/// key learns nothing of what lies beyond its reach.
pub fn reaches(requester: &Requester, wanted: Wanted<'_>, bucket: Option<&BucketName>) -> Result<(), Denied> {
    let Requester::Key(key) = requester else {
        return Ok(());
    };
    if let Some(missing) = wanted.capabilities.iter().find(|capability| !key.allows(**capability)) {
        return Err(Denied::Capability(*missing));
    }
    if bucket.is_some_and(|bucket| !key.reaches_bucket(bucket)) {
        return Err(Denied::OtherBuckets);
    }
    match wanted.name {
        Some(name) if !key.reaches_key(name) => Err(Denied::OtherPrefix),
        _ => Ok(()),
    }
}

/// May a requester whose key [`reaches`] the bucket do it to that bucket?
pub fn allows(requester: &Requester, public: bool, bucket: &BucketInfo) -> Result<(), Denied> {
    let public = public && bucket.acl == CannedAcl::PublicRead;
    match requester {
        Requester::Anonymous if !public => Err(Denied::Anonymous),
        Requester::Key(key) if key.account != bucket.owner && !public => Err(Denied::OtherAccount),
        Requester::Anonymous | Requester::Key(_) => Ok(()),
    }
}
