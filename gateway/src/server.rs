//! Accept loop, TLS, HTTP connections, drain. No S3 words.
