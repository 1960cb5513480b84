//! Carries out a permitted operation.
