//! The layers of the stack, one a file; `stack.rs` puts them in order. A layer moves a request on or refuses it; what
//! it decides by (signatures, policy, parsing) lives elsewhere.

pub mod admission;
pub mod authenticate;
pub mod authorize;
pub mod backend_limits;
mod client_address;
mod counted_body;
pub mod memory_budget;
pub mod parse;
pub mod rate_limit;
pub mod record;
pub mod request_id;
pub mod reserve;
pub mod respond;
pub mod route;
pub mod step;
pub mod telemetry;
mod watched_body;
