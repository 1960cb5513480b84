//! What others have put into a bucket and the gateway may not read, and devices: neither objects nor errors. For root there
//! is nothing that it may not read, so as root this is tried by a process of somebody else.

use std::{
    fs,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            process::CommandExt as _,
        },
    },
    path::Path,
    process::Command,
    sync::Arc,
};

use t2gate_backends::{FsFindingKind, ObjectBody, conformance::Subject, examine_fs};

use crate::{Tree, again, open_at};

const ROOT: &str = "T2GATE_UNREADABLE_ROOT";
const NOBODY: u32 = 65534;

#[test]
fn what_may_not_be_read_is_no_object_and_spoils_no_listing() {
    let dir = tempfile::tempdir().unwrap();
    // By its descriptor: others may not come to the program by its path.
    let own = fs::File::open("/proc/self/exe").unwrap();
    let mut child = Command::new(format!("/proc/self/fd/{}", own.as_raw_fd()));
    child
        .args(["--exact", "unreadable::child_that_may_not_read", "--nocapture"])
        .env(ROOT, dir.path())
        .current_dir("/");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        child.uid(NOBODY).gid(NOBODY);
    }
    let outcome = child.output().unwrap();
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(
        outcome.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&outcome.stderr)
    );
}

fn close(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
}

#[tokio::test]
async fn child_that_may_not_read() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    let root = Path::new(&root);
    let subject = Subject::new(Arc::new(open_at(root).unwrap())).await;
    let top = root.join(subject.bucket.as_str());
    subject.put("d/seen", "ours").await;
    subject.put("seen", "ours").await;
    for path in ["secret", "gone", "closed/inside", "d/secret"] {
        fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
        fs::write(top.join(path), "theirs").unwrap();
        if !path.starts_with("closed") {
            close(&top.join(path));
        }
    }
    close(&top.join("closed"));
    assert!(
        fs::read(top.join("secret")).is_err(),
        "this process may read everything"
    );

    assert_eq!(subject.all_keys().await, ["d/seen", "seen"]);
    for key in ["secret", "gone", "closed", "closed/inside", "d/secret"] {
        assert_eq!(subject.get(key).await, None, "{key}");
    }
    // What it is not, it cannot become less.
    assert!(!subject.delete("gone").await.existed);
    assert!(top.join("gone").exists(), "others' file is gone");
    // A key of that name works, and what others have there is not lost.
    subject.put("secret", "ours").await;
    assert_eq!(subject.get("secret").await.unwrap(), "ours");
    assert_eq!(subject.all_keys().await, ["d/seen", "secret", "seen"]);
    assert!(subject.delete("secret").await.existed);
    assert_eq!(subject.get("secret").await, None);
    assert!(top.join("secret").exists(), "others' file is gone");
    subject.put("closed", "ours").await;
    assert_eq!(subject.get("closed").await.unwrap(), "ours");
    assert!(subject.delete("closed").await.existed);
    // There is no way in: that is for whoever runs the gateway to mend.
    let body = ObjectBody::from_bytes("ours");
    let refused = subject.put_body("closed/inside", body).await.unwrap_err();
    assert_eq!(refused.to_string(), "could not open a directory");
    assert!(!subject.delete("closed/inside").await.existed);
    subject.ready().await.unwrap();
    subject.put("after", "ours").await;
    assert_eq!(subject.all_keys().await, ["after", "d/seen", "seen"]);

    let bucket = subject.bucket.to_string();
    drop(subject);
    let report = again(|| examine_fs(root, false));
    let mut found: Vec<_> = report.findings.iter().map(|f| (f.kind, f.path.clone())).collect();
    found.sort_by(|a, b| a.1.cmp(&b.1));
    let unreadable = |path: &str| (FsFindingKind::Unreadable, format!("{bucket}/{path}"));
    assert_eq!(found, ["closed", "d/secret", "gone", "secret"].map(unreadable));
    assert_eq!(report.objects, 3);
}

#[tokio::test]
#[ignore = "makes devices: needs root"]
async fn a_device_is_no_object_and_is_never_opened() {
    let tree = Tree::new().await;
    tree.put("seen", "ours").await;
    // The second and the third are nobody's: to open one fails in another way.
    for (name, kind) in [("null", "c 1 3"), ("missing", "c 240 7"), ("block", "b 240 7")] {
        let mut command = Command::new("mknod");
        command.arg(tree.path(name)).args(kind.split(' '));
        let made = command.output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    for name in ["null", "missing", "block"] {
        assert_eq!(tree.all_keys().await, ["seen"]);
        assert_eq!(tree.get(name).await, None, "{name}");
        assert!(!tree.delete(name).await.existed, "{name}");
        tree.put(name, "ours").await;
        assert_eq!(tree.get(name).await.unwrap(), "ours");
        assert!(tree.delete(name).await.existed, "{name}");
        assert_eq!(tree.get(name).await, None, "{name}");
        let there = fs::symlink_metadata(tree.path(name)).unwrap().file_type();
        assert!(there.is_char_device() || there.is_block_device(), "{name}: {there:?}");
    }
    let Tree { subject, root } = tree;
    drop(subject);
    assert_eq!(again(|| examine_fs(root.path(), false)).findings, []);
}
