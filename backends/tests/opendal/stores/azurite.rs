//! Azurite: Azure's blobs.

use std::sync::{Arc, LazyLock};

use t2gate_backends::{Backend, OpendalOptions, StoreLevel, conformance::Subject, conformance_suite};

use super::{
    ops::LARGE,
    proxy::{Fault, Proxy},
    server::{Server, in_turn, make, next_number, root},
    service::set,
};

/// The account that every emulator of Azure's has, and its published key.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub(super) static SERVER: LazyLock<Server> = LazyLock::new(start);
static SECOND: LazyLock<Server> = LazyLock::new(start);

fn start() -> Server {
    let server = Server::start(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stores/azurite"),
        |_, port| {
            vec![
                "--skipApiVersionCheck".to_owned(),
                "--inMemoryPersistence".to_owned(),
                "--silent".to_owned(),
                "--disableTelemetry".to_owned(),
                "--blobHost".to_owned(),
                "127.0.0.1".to_owned(),
                "--blobPort".to_owned(),
                port.to_string(),
            ]
        },
    );
    make_container(&server, "store");
    server
}

fn make_container(server: &Server, name: &str) {
    let endpoint = format!("endpoint=\"{}/{ACCOUNT}\"", server.url());
    make(&format!(":azureblob,account={ACCOUNT},key=\"{KEY}\",{endpoint}:{name}"));
}

pub(super) fn options() -> OpendalOptions {
    options_at(&SERVER)
}

pub(super) fn options_at(server: &Server) -> OpendalOptions {
    let (endpoint, root) = (format!("{}/{ACCOUNT}", server.url()), root());
    crate::options(
        "azblob",
        &[
            ("container", "store"),
            ("endpoint", &endpoint),
            ("account_name", ACCOUNT),
            ("account_key", KEY),
            ("root", &root),
        ],
    )
}

/// With a container of its own.
pub(super) fn options_alone() -> OpendalOptions {
    let name = format!("store-{}", next_number());
    let server = in_turn([&SERVER, &SECOND]);
    make_container(server, &name);
    let mut options = options_at(server);
    set(&mut options, "container", &name);
    options
}

fn open() -> (Arc<dyn Backend>, ()) {
    (crate::open(options_alone()), ())
}

conformance_suite!(open);

/// Tokens of each write.
mod encoded {
    use super::*;

    fn options() -> OpendalOptions {
        OpendalOptions {
            layout: Some(t2gate_backends::StoreLayout::Encoded),
            ..options_alone()
        }
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
                ignore = "long form: Azurite takes minutes"
            ));
        }
    }
}

/// Azure throws away what is sent of an object in blocks when another write replaces it.
#[test]
fn a_large_object_counts_though_another_writer_of_the_key_was_faster() {
    t2gate_backends::conformance::run(async {
        for faster in [10, LARGE] {
            let proxy = Proxy::before(SERVER.address).await;
            let options = options();
            let through = proxy.on_the_way(SERVER.address, options.clone());
            let slow = Subject::new(crate::open(through)).await;
            let fast = Subject::of(crate::open(options), slow.bucket.clone()).await;
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            let mut held = false;
            proxy.plan(move |seen| {
                let is_first = seen.kind == "PUT comp=blocklist" && seen.path.ends_with("/key") && !held;
                held |= is_first;
                is_first.then_some(Fault::Hold)
            });
            proxy.hook(move || tell.send(()).unwrap());
            let large = vec![7; LARGE];
            let writing = tokio::spawn({
                let (slow, large) = (slow.clone(), large.clone());
                async move { slow.put("key", large).await }
            });
            told.recv().await.unwrap();
            fast.put("key", vec![8; faster]).await;
            proxy.release();
            let written = writing.await.unwrap();
            assert_eq!(fast.info("key").await.etag, written.etag);
            assert!(fast.get("key").await.unwrap() == large);
        }
    });
}

#[test]
fn the_probe_says_what_it_keeps() {
    t2gate_backends::conformance::run(async {
        let store = crate::open_store(options());
        assert_eq!(store.report().level, StoreLevel::CompareAndSet, "{}", store.report());
    });
}
