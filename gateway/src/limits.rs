//! Every fixed bound, with its source.
