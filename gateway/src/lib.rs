//! t2gate: a reverse gateway that speaks S3 in front of storage that you already have.
//!
//! `docs/architecture.md` draws the way of a request through these modules.

pub mod acl;
pub mod admin;
pub mod app;
pub mod body;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod dispatch;
pub mod keys;
pub mod layer;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod rate_limit;
pub mod recover;
pub mod s3;
pub mod server;
pub mod sigv4;
pub mod stack;
