//! moto: S3 in byte order.

use std::sync::{Arc, LazyLock};

use t2gate_backends::{Backend, OpendalOptions, StoreLayout, StoreLevel, conformance_suite};

use super::{
    server::{Server, in_turn, make_bucket},
    service::{s3_options, s3_options_alone},
};

static SERVER: LazyLock<Server> = LazyLock::new(start);
static SECOND: LazyLock<Server> = LazyLock::new(start);

fn start() -> Server {
    let server = Server::start("venv/bin/moto_server", |_, port| {
        ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).into()
    });
    make_bucket(&server);
    server
}

pub(super) fn options_alone() -> OpendalOptions {
    s3_options_alone(in_turn([&SERVER, &SECOND]))
}

fn open() -> (Arc<dyn Backend>, ()) {
    (crate::open(options_alone()), ())
}

conformance_suite!(open);

mod encoded {
    use super::*;

    fn options() -> OpendalOptions {
        OpendalOptions {
            layout: Some(StoreLayout::Encoded),
            ..options_alone()
        }
    }

    fn open() -> (Arc<dyn Backend>, ()) {
        (crate::open(options()), ())
    }

    conformance_suite!(open);

    /// It has L2 in this layout, with tokens of the bytes alone.
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
                ignore = "long form: moto takes minutes"
            ));
        }
    }
}

#[test]
fn the_probe_says_what_it_keeps() {
    t2gate_backends::conformance::run(async {
        // It ignores the condition of a CompleteMultipartUpload, by which objects are joined.
        let store = crate::open_store(s3_options(&SERVER));
        assert_eq!(store.report().level, StoreLevel::CreateIfAbsent, "{}", store.report());
        assert_eq!(store.layout(), StoreLayout::Transparent);
        let encoded = OpendalOptions {
            layout: Some(StoreLayout::Encoded),
            ..s3_options(&SERVER)
        };
        let report = t2gate_backends::OpendalBackend::check(&encoded).await.unwrap().report;
        assert_eq!(report.level, StoreLevel::CompareAndSet, "{report}");
    });
}
