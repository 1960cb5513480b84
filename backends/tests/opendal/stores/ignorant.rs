//! `rclone serve s3`: takes conditions and ignores them.

use std::sync::LazyLock;

use t2gate_backends::{OpendalBackend, OpendalOpenError, OpendalOptions, StoreLayout, StoreLevel};

use super::{
    server::{Server, make_bucket},
    service::s3_options,
};

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let server = Server::start("venv/bin/rclone", |dir, port| {
        let data = dir.join("data");
        std::fs::create_dir(&data).unwrap();
        let mut arguments = [
            "serve",
            "s3",
            "--config",
            "/dev/null",
            "--auth-key",
            "key,secret",
            "--addr",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend([format!("127.0.0.1:{port}"), data.display().to_string()]);
        arguments
    });
    make_bucket(&server);
    server
});

#[test]
fn the_probe_finds_that_it_ignores_conditions() {
    t2gate_backends::conformance::run(async {
        let check = OpendalBackend::check(&s3_options(&SERVER)).await.unwrap();
        assert_eq!(check.report.level, StoreLevel::Blobs, "{}", check.report);
        let said = check.report.to_string();
        assert!(
            said.contains("AbortIncompleteMultipartUpload: not looked for") && check.report.writes_whole,
            "{said}"
        );
        assert!(
            matches!(check.refusal, Some(OpendalOpenError::NotTransparent { .. })),
            "{check:?}"
        );
        let asks_for_more = OpendalOptions {
            least_level: StoreLevel::CreateIfAbsent,
            layout: Some(StoreLayout::Encoded),
            ..s3_options(&SERVER)
        };
        let refused = OpendalBackend::open(asks_for_more).await;
        assert!(
            matches!(refused, Err(OpendalOpenError::LevelTooLow { .. })),
            "{refused:?}"
        );
        // Nor do its reads have conditions.
        let refused = OpendalBackend::open(s3_options(&SERVER)).await;
        assert!(
            matches!(refused, Err(OpendalOpenError::NotTransparent { .. })),
            "{refused:?}"
        );
    });
}
