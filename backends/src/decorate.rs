//! Wrappers around any backend.

mod metered;

pub use metered::{CallOutcome, Metered, Observer};
