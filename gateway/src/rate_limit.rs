//! Token buckets. Pure; takes a clock.
