//! SeaweedFS's process.

use super::server::{Server, free_port, try_make_bucket, wait_until_it_takes_objects};

/// With the bucket `store`.
pub(super) fn start() -> Server {
    // It ends where one of its many ports has been taken meanwhile.
    let mut servers = (0..5).map(|_| start_one());
    let server = servers.find(try_make_bucket).expect("one that goes on");
    wait_until_it_takes_objects(&server);
    server
}

fn start_one() -> Server {
    Server::start("venv/bin/weed", |dir, port| {
        let ports = ["master.port", "volume.port", "filer.port"].map(|name| format!("-{name}={}", low_port()));
        let mut arguments = vec![
            "server".to_owned(),
            format!("-dir={}", dir.display()),
            "-ip=127.0.0.1".to_owned(),
            "-ip.bind=127.0.0.1".to_owned(),
            "-volume.max=50".to_owned(),
            "-master.volumeSizeLimitMB=64".to_owned(),
            "-filer".to_owned(),
            // It asks nobody outside, and listens where nobody else does.
            "-master.telemetry=false".to_owned(),
            "-s3.port.iceberg=0".to_owned(),
            "-s3.port.lance=0".to_owned(),
            "-s3".to_owned(),
            format!("-s3.port={port}"),
            format!("-s3.port.grpc={}", free_port()),
            format!("-filer.localSocket={}/filer.sock", dir.display()),
        ];
        arguments.extend(ports);
        arguments
    })
}

/// Its ports for gRPC are 10,000 higher, unless told otherwise.
fn low_port() -> u16 {
    loop {
        let port = free_port();
        if port < 55_000 {
            return port;
        }
    }
}
