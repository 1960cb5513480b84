//! The whole gateway, in this process, over real TLS, with a client that writes its own bytes: what stock clients never
//! send, and what answers look like to the letter.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

mod access;
mod answers;
mod backends;
mod behind;
mod bodies;
mod credentials;
mod failed_sync;
mod http;
mod http2;
mod input;
mod multipart;
mod race;
mod slow;
mod store_failures;
mod store_killed;
mod store_memory;
mod store_versions;
#[cfg(feature = "store-tests")]
mod stores;
mod traps;
mod tree;
mod versions;
