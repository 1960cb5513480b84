//! Over servers on loopback, which the first test that needs one starts.

mod azurite;
mod ignorant;
mod moto;
mod seaweedfs;
mod server;
mod webdav;
