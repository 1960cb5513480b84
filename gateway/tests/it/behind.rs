//! A gateway as the store behind another: the suite that every backend passes, through the backend for stores, to a
//! gateway over TLS.
//!
//! That trusts the certificate because `SSL_CERT_FILE` names its authority, which a process has to have from its
//! beginning. So the test runs itself as a child, and the child runs the suite.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use t2gate_backends::{
    Backend, OpendalBackend, OpendalOptions, StoreLayout, StoreLevel, SystemClock, UploadId, Versioned,
};

use crate::support::{ACCOUNTS, APP, Request, SECRET, TestGateway};

pub(crate) const ENDPOINT: &str = "TEST_BEHIND_ENDPOINT";

/// Not what one client is allowed is under test.
pub(crate) const WITHOUT_LIMITS: &str = r#"
[rate_limit]
per_address = { rate = 0 }
per_key = { rate = 0 }
read = { rate = 0 }
write = { rate = 0 }
list = { rate = 0 }
"#;

pub(crate) const QUIET: &str = "[log]\nlevel = \"error\"\n";

/// The lines of a `[backend]` whose store is the bucket `bkt` of that gateway.
pub(crate) fn opendal_over(store: &TestGateway) -> String {
    format!(
        "service = \"s3\"\nleast_level = \"L2\"\n\
         options = {{ bucket = \"bkt\", endpoint = \"https://{}\", region = \"us-east-1\", access_key_id = \"{}\", \
         secret_access_key = \"{SECRET}\", disable_config_load = \"true\" }}\n",
        store.address, APP.id,
    )
}

/// Writes the configuration of a gateway over that store into `dir`. Its certificate is below `data` there.
pub(crate) fn configuration_over(backend: &str, more: &str, dir: &Path) -> PathBuf {
    let configuration = dir.join("t2gate.toml");
    let text = format!(
        "[backend]\nkind = \"opendal\"\nroot = {:?}\n{backend}{more}{}",
        dir.join("data"),
        ACCOUNTS.replace("SECRET", SECRET)
    );
    fs::write(&configuration, text).unwrap();
    configuration
}

/// All that the suite printed but the lines of what passed: a report that is cut short shows the reason.
fn what_failed(printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().filter(|line| !line.ends_with("... ok")).collect();
    lines.join("\n")
}

/// Runs the tests of that name, of which there are more than `least`, over the bucket `bkt` of that gateway.
async fn run_suite(gateway: TestGateway, name: &str, least: usize) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args([name, "--ignored", "--test-threads", "4"])
        .env(ENDPOINT, format!("https://{}", gateway.address))
        .env("SSL_CERT_FILE", gateway.data().join(".t2/tls/ca.pem"));
    let output = tokio::task::spawn_blocking(move || child.output())
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}\n{}",
        what_failed(&text),
        String::from_utf8_lossy(&output.stderr)
    );
    // `test result: ok. 123 passed; ...`
    let passed = text
        .split("test result: ok. ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let passed: usize = passed.and_then(|number| number.parse().ok()).unwrap_or_default();
    assert!(passed > least, "{text}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_a_store_of_level_2_and_keeps_all_that_a_backend_promises() {
    let gateway = TestGateway::configured(&format!("{WITHOUT_LIMITS}\n[s3]\ndialect = \"aws\"\n")).await;
    gateway.make_bucket().await;
    run_suite(gateway, "behind::suite::", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_of_a_gateways_bucket_are_those_of_the_gateway_before_it() {
    let gateway = TestGateway::configured(WITHOUT_LIMITS).await;
    gateway.does(Request::put("/bkt")).await;
    run_suite(gateway, "behind::versioned::", 100).await;
}

/// What opens a store below that root of the gateway that [`ENDPOINT`] names.
pub(crate) fn options_over(root: &str, layout: StoreLayout) -> OpendalOptions {
    let endpoint = std::env::var(ENDPOINT).expect("the test that starts a gateway runs this");
    let own = [
        ("bucket", "bkt"),
        ("endpoint", &*endpoint),
        ("region", "us-east-1"),
        ("access_key_id", APP.id),
        ("secret_access_key", APP.secret),
        ("disable_config_load", "true"),
        ("root", root),
    ];
    OpendalOptions {
        options: own.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        layout: Some(layout),
        ..OpendalOptions::new("s3", Arc::new(SystemClock))
    }
}

async fn store(layout: StoreLayout) -> OpendalBackend {
    let root = format!("/{}/", UploadId::random().unwrap().as_str());
    let opened = OpendalBackend::open(options_over(&root, layout)).await;
    opened.unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

fn open(layout: StoreLayout) -> OpendalBackend {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(store(layout)))
}

fn transparent() -> Arc<dyn Backend> {
    Arc::new(open(StoreLayout::Transparent))
}

fn encoded() -> Arc<dyn Backend> {
    Arc::new(open(StoreLayout::Encoded))
}

/// With versions that are the gateway's own.
fn overlaid() -> Arc<dyn Backend> {
    let versioned = Versioned::new(open(StoreLayout::Encoded), Arc::new(SystemClock));
    Arc::new(versioned.expect("the encoded layout keeps what is displaced"))
}

macro_rules! cases_behind {
    (($open:ident, $versioning:expr) $($family:ident { $($case:ident)* })*) => {
        $(
            mod $family {
                $(
                    #[test]
                    #[ignore = "run by a test that starts a gateway"]
                    fn $case() {
                        t2gate_backends::conformance::run(async {
                            let backend = crate::behind::$open();
                            let subject =
                                t2gate_backends::conformance::Subject::with_versioning(backend, $versioning).await;
                            t2gate_backends::conformance::$family::$case(subject).await;
                        });
                    }
                )*
            }
        )*
    };
}

/// Run by the child alone: without a gateway there is nothing that they could open.
mod suite {
    use super::*;

    #[test]
    #[ignore = "run by a test that starts a gateway"]
    fn the_probe_finds_level_2() {
        t2gate_backends::conformance::run(async {
            let store = store(StoreLayout::Transparent).await;
            assert_eq!(store.report().level, StoreLevel::CompareAndSet, "{}", store.report());
            println!("{}", store.report());
        });
    }

    mod transparent {
        t2gate_backends::conformance_cases!([cases_behind](transparent, None));
    }

    mod encoded {
        t2gate_backends::conformance_cases!([cases_behind](encoded, None));
    }

    mod overlaid {
        t2gate_backends::conformance_version_cases!([cases_behind](overlaid, None));
    }
}

/// The same, over a bucket that has versioning.
mod versioned {
    use super::*;

    #[test]
    #[ignore = "run by a test that starts a gateway"]
    fn the_probe_finds_level_2_and_versions() {
        t2gate_backends::conformance::run(async {
            let store = store(StoreLayout::Transparent).await;
            let report = store.report();
            assert_eq!(report.level, StoreLevel::CompareAndSet, "{report}");
            assert!(store.capabilities(None).always_versioned, "{report}");
            println!("{report}");
        });
    }

    t2gate_backends::conformance_version_cases!([cases_behind](transparent, None));

    mod every_case {
        t2gate_backends::conformance_cases!([cases_behind](
            transparent,
            Some(t2gate_backends::VersioningStatus::Enabled)
        ));
    }
}
