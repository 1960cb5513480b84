//! How much memory a gateway's process takes for bodies on their way to a store, as the kernel counts it.

use std::sync::Arc;

use futures::future::join_all;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    behind::{QUIET, WITHOUT_LIMITS, configuration_over, opendal_over},
    race::Process,
    support::{Connection, Request, TestGateway, connect_to, trusting},
};

const CLIENTS: usize = 32;
/// Of physical memory, at the most of all times.
const MOST_MIB: u64 = 128;
/// Of each upload, where another number is to be measured.
const UPLOAD_MIB: &str = "TEST_UPLOAD_MIB";
/// The program to be measured, if not the one that was built with the test.
const PROGRAM: &str = "TEST_GATEWAY_BINARY";

/// All bodies together are several times what may be held: who held them would be seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_a_store_have_a_bound_however_many_there_are() {
    let mib = std::env::var(UPLOAD_MIB).map_or(16, |mib| mib.parse().unwrap());
    let store = TestGateway::configured(&format!("{WITHOUT_LIMITS}\n[s3]\ndialect = \"aws\"\n")).await;
    store.make_bucket().await;
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("data");
    let configuration = configuration_over(&opendal_over(&store), QUIET, dir.path());
    let program = std::env::var(PROGRAM).unwrap_or_else(|_| env!("CARGO_BIN_EXE_t2gate").to_owned());
    let authority = store.data().join(".t2/tls/ca.pem");
    let gateway = Process::start_program(&program, &configuration, &[("SSL_CERT_FILE", authority.as_os_str())]);
    let tls = Arc::new(trusting(&root.join(".t2/tls/ca.pem")));
    let connect = || connect_to(gateway.address, &tls);
    let made = connect().await.ask(&Request::put("/uploads")).await;
    assert_eq!(made.status, 200, "{made:?}");
    let idle = gateway.peak_mib();
    let host = gateway.address.to_string();
    let uploads = (0..CLIENTS).map(|client| {
        let (connect, host) = (&connect, &host);
        async move {
            let path = format!("/uploads/{client}");
            upload(connect().await, host, &path, mib).await;
            // So that the store needs no more room than for those under way.
            let deleted = connect().await.ask(&Request::delete(&path)).await;
            assert_eq!(deleted.status, 204, "{deleted:?}");
        }
    });
    join_all(uploads).await;
    let peak = gateway.peak_mib();
    println!("{CLIENTS} uploads of {mib} MiB: {peak} MiB at most, {idle} MiB before");
    assert!(peak < MOST_MIB, "{peak} MiB");
}

/// Sends a body of so many MiB, and waits for the answer as long as it takes.
async fn upload(mut connection: Connection, host: &str, path: &str, mib: u64) {
    let request = Request::put(path)
        .content_sha256("UNSIGNED-PAYLOAD")
        .content_length(&(mib << 20).to_string());
    let (head, _) = request.signed(host);
    let stream = &mut connection.stream;
    stream.write_all(&head).await.unwrap();
    let piece = vec![b'x'; 64 << 10];
    for _ in 0..mib * 16 {
        stream.write_all(&piece).await.unwrap();
    }
    stream.flush().await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
}
