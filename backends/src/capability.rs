//! What a backend can do beyond the least that the contract asks.

/// Asked by the gateway instead of "which backend is it?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// For messages and logs: `fs`, `memory`, ...
    pub name: &'static str,
    /// [`WriteCondition`](crate::WriteCondition)s are judged in the same step as the commit. Where not, the gateway
    /// answers conditional writes with 501; so does a backend for a single key for which its store cannot.
    pub conditional_writes: bool,
    /// Deletes can be conditional too.
    pub conditional_deletes: bool,
    /// An opened object stays readable whatever becomes of its key. Where not, reading one that was replaced or deleted
    /// meanwhile may end in [`BackendError::Conflict`](crate::BackendError::Conflict); never in other bytes.
    pub stable_reads: bool,
    /// What a commit displaces can be kept, in the same step: the [`Versioned`](crate::Versioned) overlay can stand on
    /// it.
    pub history: bool,
    /// Buckets can have versioning: see [`VersioningStatus`](crate::VersioningStatus).
    pub versioning: bool,
    /// The store keeps versions by itself, of everything: every bucket has versioning from its creation on, whatever was
    /// asked for, and to suspend it is [`BackendError::NotSupported`](crate::BackendError::NotSupported). Version ids
    /// are the store's. A listing that is to go on from a version that is gone begins its key anew; whether a delete of
    /// nothing adds a marker is up to the store.
    pub always_versioned: bool,
    /// What is stored is encrypted.
    pub encryption: bool,
}
