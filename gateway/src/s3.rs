//! The S3 dialect: operations, parsing, encoding, errors. No I/O, no authentication.

pub mod error;
pub mod operation;

pub use error::{S3Error, S3ErrorCode};
pub use operation::Operation;
