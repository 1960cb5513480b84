//! Configuration in, running gateway out. The only file that knows every module.
