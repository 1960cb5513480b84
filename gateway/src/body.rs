//! The request body: deframed, verified and hashed as it flows.
