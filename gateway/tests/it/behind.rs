//! A gateway as the store behind another: the suite that every backend passes, through the backend for stores, to a
//! gateway over TLS.
//!
//! That trusts the certificate because `SSL_CERT_FILE` names its authority, which a process has to have from its
//! beginning. So the test runs itself as a child, and the child runs the suite.

use std::{process::Command, sync::Arc};

use t2gate_backends::{Backend, OpendalBackend, OpendalOptions, StoreLayout, StoreLevel, SystemClock, UploadId};

use crate::support::{APP, TestGateway};

const ENDPOINT: &str = "TEST_BEHIND_ENDPOINT";

/// Not what one client is allowed is under test.
pub(crate) const WITHOUT_LIMITS: &str = r#"
[rate_limit]
per_address = { rate = 0 }
per_key = { rate = 0 }
read = { rate = 0 }
write = { rate = 0 }
list = { rate = 0 }
"#;

/// All that the suite printed but the lines of what passed: a report that is cut short shows the reason.
fn what_failed(printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().filter(|line| !line.ends_with("... ok")).collect();
    lines.join("\n")
}

async fn run_suite(s3: &str) {
    let gateway = TestGateway::configured(&format!("{WITHOUT_LIMITS}\n{s3}")).await;
    gateway.make_bucket().await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["behind::suite::", "--ignored", "--test-threads", "4"])
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
    assert!(passed > 200, "{text}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_a_store_of_level_2_and_keeps_all_that_a_backend_promises() {
    run_suite("[s3]\ndialect = \"aws\"\n").await;
}

/// Run by the child alone: without a gateway there is nothing that they could open.
mod suite {
    use super::*;

    async fn store(layout: StoreLayout) -> OpendalBackend {
        let endpoint = std::env::var(ENDPOINT).expect("the test that starts a gateway runs this");
        let root = format!("/{}/", UploadId::random().unwrap().as_str());
        let own = [
            ("bucket", "bkt"),
            ("endpoint", &*endpoint),
            ("region", "us-east-1"),
            ("access_key_id", APP.id),
            ("secret_access_key", APP.secret),
            ("disable_config_load", "true"),
            ("root", &*root),
        ];
        let options = OpendalOptions {
            options: own.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            layout: Some(layout),
            ..OpendalOptions::new("s3", Arc::new(SystemClock))
        };
        let opened = OpendalBackend::open(options).await;
        opened.unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    fn open(layout: StoreLayout) -> Arc<dyn Backend> {
        tokio::task::block_in_place(|| Arc::new(tokio::runtime::Handle::current().block_on(store(layout))))
    }

    #[test]
    #[ignore = "run by a_gateway_is_a_store"]
    fn the_probe_finds_level_2() {
        t2gate_backends::conformance::run(async {
            let store = store(StoreLayout::Transparent).await;
            assert_eq!(store.report().level, StoreLevel::CompareAndSet, "{}", store.report());
            println!("{}", store.report());
        });
    }

    macro_rules! cases_behind {
        (($layout:ident, $versioning:expr) $($family:ident { $($case:ident)* })*) => {
            $(
                mod $family {
                    $(
                        #[test]
                        #[ignore = "run by a_gateway_is_a_store"]
                        fn $case() {
                            t2gate_backends::conformance::run(async {
                            let backend = crate::behind::suite::open(t2gate_backends::StoreLayout::$layout);
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

    mod transparent {
        t2gate_backends::conformance_cases!([cases_behind](Transparent, None));
    }

    mod encoded {
        t2gate_backends::conformance_cases!([cases_behind](Encoded, None));
    }
}
