//! The request body: deframed, verified and hashed as it flows, so that a backend gets bytes and one verdict.
//!
//! [`RequestBody`] is the raw stream with its least pace; [`UnverifiedBody`] adds what the headers promised of it and
//! turns it into an [`ObjectBody`](t2gate_backends::ObjectBody) for a backend, or into the bytes of a small document.

mod copied;
mod expectation;
mod hashing;
mod incoming;
mod verified;

pub use copied::copied_body;
pub use expectation::{Expectation, ExpectedChecksum};
pub use incoming::{BodyPace, BoxBody, RequestBody};
pub use verified::{UnverifiedBody, VerifiedChecksum};
