//! Over servers on loopback, which the first test that needs one starts.

mod azurite;
mod faults;
mod foreign;
mod ignorant;
mod keys;
mod killed;
mod moto;
mod native;
mod ops;
mod proxy;
mod seaweedfs;
mod server;
mod service;
#[cfg(feature = "sftp")]
mod sftp;
mod webdav;
mod weed;
