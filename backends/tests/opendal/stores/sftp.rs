//! OpenSSH's sftp: files of a tree, no conditions, no metadata. The feature `sftp` has it.
//!
//! The server is one of our own, run by the user of the tests, with keys of its own in a directory of its own. The client
//! is the command `ssh`, which notes the server's key in the file `known_hosts` of that user.

use std::{
    path::Path,
    process::Command,
    sync::{Arc, LazyLock},
};

use t2gate_backends::{
    Backend, BackendError, ObjectBody, OpendalOptions, StoreLayout, StoreLevel, conformance::Subject, conformance_suite,
};

use super::{
    ops::{Op, fetch, names, nothing_is_left, open_on_day_0},
    server::{Server, root},
};

pub(super) static SERVER: LazyLock<Server> = LazyLock::new(|| serve(None));
/// On its disk no file has room for more than 32 KiB.
static FULL: LazyLock<Server> = LazyLock::new(|| {
    // In halves of a KiB.
    serve(Some(
        "#!/bin/dash\ntrap '' XFSZ\nulimit -f 64\nexec /usr/lib/openssh/sftp-server\n",
    ))
});

/// With this script in the place of OpenSSH's own server.
fn serve(script: Option<&str>) -> Server {
    // Where the server of the superuser locks its unprivileged half in; the package's own service makes it at its start.
    std::fs::create_dir_all("/run/sshd").ok();
    Server::start("/usr/sbin/sshd", |dir, port| {
        for name in ["host", "client"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(name))
                .status();
            assert!(made.unwrap().success());
        }
        let subsystem = match script {
            Some(script) => {
                let path = dir.join("sftp");
                std::fs::write(&path, script).unwrap();
                format!("/bin/dash {}", path.display())
            }
            None => "internal-sftp".to_owned(),
        };
        let lines = [
            format!("HostKey {}/host", dir.display()),
            format!("AuthorizedKeysFile {}/client.pub", dir.display()),
            "StrictModes no".to_owned(),
            "UsePAM no".to_owned(),
            "PasswordAuthentication no".to_owned(),
            "PermitRootLogin prohibit-password".to_owned(),
            "PidFile none".to_owned(),
            "MaxStartups 1000".to_owned(),
            format!("Subsystem sftp {subsystem}"),
        ];
        std::fs::write(dir.join("config"), lines.join("\n") + "\n").unwrap();
        vec![
            "-D".to_owned(),
            "-e".to_owned(),
            "-f".to_owned(),
            dir.join("config").display().to_string(),
            "-o".to_owned(),
            format!("ListenAddress 127.0.0.1:{port}"),
        ]
    })
}

pub(super) fn options() -> OpendalOptions {
    options_of(&SERVER)
}

fn options_of(server: &Server) -> OpendalOptions {
    let dir: &Path = server.dir();
    let endpoint = format!("ssh://{}", server.address);
    let root = format!("{}{}", dir.display(), root());
    let key = dir.join("client").display().to_string();
    crate::options(
        "sftp",
        &[
            ("endpoint", &endpoint),
            ("root", &root),
            ("key", &key),
            ("known_hosts_strategy", "accept"),
        ],
    )
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
            ignore = "long form: sftp takes minutes"
        ));
    }
}

#[test]
fn the_probe_says_what_it_keeps() {
    t2gate_backends::conformance::run(async {
        let store = crate::open_store(options());
        assert_eq!(store.report().level, StoreLevel::Blobs, "{}", store.report());
        assert_eq!(store.layout(), StoreLayout::Encoded);
    });
}

/// What the server refuses is told when the file is closed, and once.
#[test]
fn what_the_servers_disk_has_no_room_for_is_not_acknowledged() {
    t2gate_backends::conformance::run(async {
        let s = Subject::new(crate::open(options_of(&FULL))).await;
        s.put("key", "old").await;
        for size in [40_000, 400_000, 9 << 20] {
            let body = ObjectBody::from_bytes(vec![7; size]);
            let refused = s.put_body("key", body).await;
            assert!(
                matches!(refused, Err(BackendError::Internal { .. })),
                "{size}: {refused:?}"
            );
            assert_eq!(s.get("key").await.unwrap(), "old", "{size}");
        }
        s.put("key", "new").await;
        assert_eq!(s.get("key").await.unwrap(), "new");
    });
}

#[test]
fn an_object_is_never_half_there_and_nothing_is_left() {
    t2gate_backends::conformance::run(async {
        let options = options();
        let (backend, clock) = open_on_day_0(options.clone()).await;
        let s = Subject::new(backend.clone()).await;
        Op::Put.prepare(&s, "key").await;
        let reading = {
            let s = s.clone();
            tokio::spawn(async move {
                loop {
                    let found = fetch(&s, "key").await.unwrap();
                    if found == Op::PutLarge.after("key") {
                        return;
                    }
                    assert!(found == Op::Put.before("key") || found == Op::Put.after("key"));
                }
            })
        };
        for _ in 0..20 {
            Op::Put.perform(&s, "key").await.unwrap();
            Op::Put.prepare(&s, "key").await;
        }
        Op::PutLarge.perform(&s, "key").await.unwrap();
        reading.await.unwrap();
        let aside = names(&options).await;
        let is_file = |name: &&String| name.starts_with(".t2/new/") && !name.ends_with('/');
        let aside: Vec<_> = aside.iter().filter(is_file).collect();
        assert!(aside.is_empty(), "{aside:?}");
        s.delete("key").await;
        nothing_is_left(&backend, &clock, &options).await;
    });
}
