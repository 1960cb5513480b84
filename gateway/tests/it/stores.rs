//! Gateways over a SeaweedFS, which the first test that needs it starts on loopback. `backends/tests/stores/install` gets
//! it.

#[path = "../../../backends/tests/opendal/stores/server.rs"]
#[allow(dead_code, reason = "what the tests of the backends need beside")]
mod server;
#[path = "../../../backends/tests/opendal/stores/weed.rs"]
mod weed;

use std::sync::LazyLock;

use self::server::{Server, root};
use crate::race;

static SERVER: LazyLock<Server> = LazyLock::new(weed::start);

/// The lines of a `[backend]` of the encoded layout, with a root of its own.
fn encoded() -> String {
    let (endpoint, root) = (SERVER.url(), root());
    format!(
        "service = \"s3\"\nleast_level = \"L2\"\nlayout = \"encoded\"\n\
         options = {{ bucket = \"store\", endpoint = \"{endpoint}\", region = \"us-east-1\", access_key_id = \"key\", \
         secret_access_key = \"secret\", disable_config_load = \"true\", root = \"{root}\" }}\n",
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_see_through_two_gateways_before_seaweedfs_can_have_happened() {
    let backend = tokio::task::spawn_blocking(encoded).await.unwrap();
    race::run_over(&backend, &[], 14).await;
}
