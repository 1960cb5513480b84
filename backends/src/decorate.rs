//! Wrappers around any backend.

mod metered;
mod routed;

pub use metered::{CallOutcome, Metered, Observer};
pub use routed::{NoSuchStore, Routed};
