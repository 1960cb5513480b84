//! The layers of the stack, one a file.
