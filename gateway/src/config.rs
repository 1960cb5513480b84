//! Configuration: load, check, say what is wrong.
