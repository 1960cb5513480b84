//! WebDAV: a tree, no conditions, no metadata that goes with the bytes.

use std::sync::{Arc, LazyLock};

use t2gate_backends::{Backend, OpendalOptions, StoreLayout, StoreLevel, conformance_suite};

use super::server::{Server, root};

pub(super) static SERVER: LazyLock<Server> = LazyLock::new(|| {
    Server::start("venv/bin/wsgidav", |dir, port| {
        let data = dir.join("data");
        std::fs::create_dir(&data).unwrap();
        vec![
            "--host=127.0.0.1".to_owned(),
            format!("--port={port}"),
            format!("--root={}", data.display()),
            "--auth=anonymous".to_owned(),
            "--no-config".to_owned(),
        ]
    })
});

pub(super) fn options() -> OpendalOptions {
    let (endpoint, root) = (SERVER.url(), root());
    crate::options("webdav", &[("endpoint", &endpoint), ("root", &root)])
}

fn open() -> (Arc<dyn Backend>, ()) {
    (crate::open(options()), ())
}

conformance_suite!(open);

mod versioned {
    use super::*;

    fn open() -> (Arc<dyn Backend>, ()) {
        (crate::versioned(options()), ())
    }

    t2gate_backends::conformance_version_cases!([t2gate_backends::conformance_tests](open, None));

    mod long_form {
        use super::*;

        t2gate_backends::conformance_cases!([t2gate_backends::conformance_tests](
            open,
            Some(t2gate_backends::VersioningStatus::Enabled),
            ignore = "long form: WebDAV takes minutes"
        ));
    }
}

#[test]
fn the_probe_says_what_it_keeps() {
    t2gate_backends::conformance::run(async {
        let store = crate::open_store(options());
        assert_eq!(store.report().level, StoreLevel::Blobs);
        let said = store.report().to_string();
        assert!(
            said.contains("no: it may write in place") && !said.contains("lifecycle"),
            "{said}"
        );
        assert_eq!(store.layout(), StoreLayout::Encoded);
    });
}
