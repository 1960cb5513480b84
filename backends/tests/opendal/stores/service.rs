//! What opens a store on a server.

use t2gate_backends::OpendalOptions;

use super::server::{Server, next_number, root, send};

/// The options of a store that speaks S3 and asks for no signature, with a bucket of its own.
pub(super) fn s3_options_alone(server: &Server) -> OpendalOptions {
    let bucket = format!("store-{}", next_number());
    send(server, &format!("PUT /{bucket}"), "");
    let mut options = s3_options(server);
    set(&mut options, "bucket", &bucket);
    options
}

/// The value of an option of the service.
pub(super) fn option<'o>(options: &'o OpendalOptions, name: &str) -> Option<&'o str> {
    let mut options = options.options.iter();
    options.find(|(known, _)| known == name).map(|(_, value)| &**value)
}

/// Gives an option of the service another value.
pub(super) fn set(options: &mut OpendalOptions, name: &str, value: &str) {
    let option = options.options.iter_mut().find(|(known, _)| known == name);
    value.clone_into(&mut option.unwrap().1);
}

/// The options of a store that speaks S3.
pub(super) fn s3_options(server: &Server) -> OpendalOptions {
    let (endpoint, root) = (server.url(), root());
    crate::options(
        "s3",
        &[
            ("bucket", "store"),
            ("endpoint", &endpoint),
            ("region", "us-east-1"),
            ("access_key_id", "key"),
            ("secret_access_key", "secret"),
            ("disable_config_load", "true"),
            ("root", &root),
        ],
    )
}
