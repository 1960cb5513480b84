//! The S3 dialect: operations, parsing, encoding, errors. No I/O, no authentication.

mod backend_error;
pub mod checksum;
pub mod conditional;
pub mod copy_source;
pub mod encode;
pub mod error;
pub mod headers;
pub mod operation;
pub mod parse;
pub mod query;
pub mod range;
mod route;
pub mod target;
pub mod token;
pub mod xml;

pub use error::{S3Error, S3ErrorCode};
pub use operation::Operation;
pub use parse::{ParseInput, parse};
pub use query::Query;
pub use target::Target;
