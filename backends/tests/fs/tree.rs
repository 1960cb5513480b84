//! P6 and P7 on a real directory: objects are plain files, plain files are objects, and no key leaves its bucket.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, symlink},
        net::UnixListener,
    },
    process::{Command, Stdio},
    time::{Duration, UNIX_EPOCH},
};

use t2gate_backends::{BackendError, CopyObject, ListEntry, ObjectAttributes, PutObject, Timestamp, WriteCondition};

use crate::{Tree, beside::has_side_files};

#[tokio::test]
async fn an_object_is_a_file_with_the_same_bytes_under_its_own_name() {
    let tree = Tree::new().await;
    tree.put("dir/with space/ä=b.txt", "bytes").await;
    assert_eq!(fs::read(tree.path("dir/with space/ä=b.txt")).unwrap(), b"bytes");
    tree.put("large", vec![7; 1_000_003]).await;
    assert_eq!(fs::read(tree.path("large")).unwrap(), vec![7; 1_000_003]);
}

#[tokio::test]
async fn names_that_no_file_can_have_are_escaped_inside_the_bucket() {
    let tree = Tree::new().await;
    for (key, file) in [
        ("a//b", "a/.t2=/b"),
        ("../x", ".t2=../x"),
        ("./y", ".t2=./y"),
        ("d/", "d/.t2="),
        (".t2/format", ".t2=.t2/format"),
        (".T2", ".t2=.T2"),
    ] {
        tree.put(key, key.to_owned()).await;
        assert_eq!(fs::read_to_string(tree.path(file)).unwrap(), key);
    }
}

#[tokio::test]
async fn a_file_that_others_put_there_is_an_object_at_once() {
    let tree = Tree::new().await;
    tree.put("warm", "up").await;
    fs::create_dir(tree.path("theirs")).unwrap();
    fs::write(tree.path("theirs/page.html"), "<p>").unwrap();
    assert_eq!(tree.get("theirs/page.html").await.unwrap(), "<p>");
    let info = tree.info("theirs/page.html").await;
    assert_eq!(info.size, 3);
    assert_eq!(info.etag.as_md5(), None);
    assert!(info.etag.as_str().starts_with("t2-"));
    // Its time is the one that they gave it.
    let file = fs::File::options()
        .write(true)
        .open(tree.path("theirs/page.html"))
        .unwrap();
    for seconds in [1_000_000_000, 86_400] {
        file.set_modified(UNIX_EPOCH + Duration::new(seconds, 123_456_789))
            .unwrap();
        // Not every file system keeps the nanoseconds: ext4 with small inodes does not.
        let kept = fs::metadata(tree.path("theirs/page.html")).unwrap();
        assert_eq!(kept.mtime(), seconds.cast_signed());
        let time = Timestamp::from_unix(kept.mtime(), u32::try_from(kept.mtime_nsec()).unwrap());
        assert_eq!(tree.info("theirs/page.html").await.last_modified, time);
        let page = tree.list_objects(tree.everything()).await.unwrap();
        assert!(
            matches!(&page.entries[0], ListEntry::Object(listed) if listed.last_modified == time),
            "{page:?}"
        );
    }
    assert_eq!(info.attributes.checksum, None);
    assert_eq!(info.attributes.content.content_type.as_deref(), Some("text/html"));
    assert_eq!(tree.all_keys().await, ["theirs/page.html", "warm"]);
    assert!(tree.delete("theirs/page.html").await.existed);
    assert!(tree.path("theirs").is_dir(), "a directory that others made stays");
}

#[tokio::test]
async fn a_file_changed_behind_our_back_loses_its_attributes() {
    let tree = Tree::new().await;
    let request = PutObject {
        attributes: ObjectAttributes {
            user_metadata: vec![("a".into(), "b".into())],
            ..ObjectAttributes::default()
        },
        ..tree.put_request("key")
    };
    let body = t2gate_backends::ObjectBody::from_bytes("old");
    let put = tree.put_object(request, body).await.unwrap();
    assert_eq!(tree.info("key").await, put);
    fs::write(tree.path("key"), "longer").unwrap();
    let info = tree.info("key").await;
    assert_ne!(info.etag, put.etag);
    assert_eq!((info.size, info.attributes), (6, ObjectAttributes::default()));
    assert_eq!(tree.get("key").await.unwrap(), "longer");
}

#[tokio::test]
async fn symbolic_links_are_no_objects_and_lead_nowhere() {
    let tree = Tree::new().await;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    fs::create_dir_all(tree.path("")).unwrap();
    symlink(outside.path().join("secret"), tree.path("file")).unwrap();
    symlink(outside.path(), tree.path("dir")).unwrap();
    symlink("..", tree.path("up")).unwrap();

    for key in ["file", "dir/secret", "up/.t2/format", "dir"] {
        assert_eq!(tree.get(key).await, None, "{key}");
        assert!(!tree.delete(key).await.existed);
    }
    assert!(tree.all_keys().await.is_empty());
    let refused = tree
        .put_body("dir/new", t2gate_backends::ObjectBody::from_bytes("x"))
        .await;
    assert!(matches!(refused, Err(BackendError::UnsupportedKey(_))));

    // The key works, and the link stays what it is.
    tree.put("file", "mine").await;
    assert_eq!(tree.get("file").await.unwrap(), "mine");
    assert_eq!(tree.all_keys().await, ["file"]);
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
    assert!(tree.path("file").is_symlink());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(tree.count("staging"), 0);
}

#[tokio::test]
async fn what_is_no_file_and_what_is_no_name_of_ours_is_left_out() {
    let tree = Tree::new().await;
    let _socket = UnixListener::bind(tree.path("socket")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.path("fifo"), rustix::fs::Mode::RUSR).unwrap();
    fs::create_dir_all(tree.path("empty/within")).unwrap();
    for name in [".t2", ".t2=", ".t2~61"] {
        fs::write(tree.path(name), "x").unwrap();
    }
    fs::write(tree.path("").join(OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    fs::write(tree.path("line\nbreak"), "x").unwrap();
    assert_eq!(tree.all_keys().await, ["line\nbreak"]);
    for key in ["socket", "fifo", ".t2", ".t2~61"] {
        assert_eq!(tree.get(key).await, None, "{key}");
    }
}

#[tokio::test]
async fn a_name_stands_aside_for_a_directory_and_comes_back() {
    let tree = Tree::new().await;
    tree.put("a", "file").await;
    tree.put("a/b", "below").await;
    assert_eq!(fs::read_to_string(tree.path(".t2!a")).unwrap(), "file");
    assert_eq!(fs::read_to_string(tree.path("a/b")).unwrap(), "below");
    assert_eq!(tree.all_keys().await, ["a", "a/b"]);
    tree.put("a", "again").await;
    assert_eq!(fs::read_to_string(tree.path(".t2!a")).unwrap(), "again");
    tree.delete("a/b").await;
    assert!(!tree.path("a").exists(), "a directory of ours that is empty goes");
    tree.put("a", "plain").await;
    assert_eq!(fs::read_to_string(tree.path("a")).unwrap(), "plain");
    assert!(!tree.path(".t2!a").exists());
    assert!(tree.delete("a").await.existed);
    assert_eq!(fs::read_dir(tree.path("")).unwrap().count(), 0);
}

#[tokio::test]
async fn of_two_files_of_one_key_the_plain_name_counts() {
    let tree = Tree::new().await;
    fs::write(tree.path("a"), "plain").unwrap();
    fs::write(tree.path(".t2!a"), "stale").unwrap();
    assert_eq!(tree.get("a").await.unwrap(), "plain");
    assert_eq!(tree.all_keys().await, ["a"]);
    assert!(tree.delete("a").await.existed);
    assert_eq!(tree.get("a").await, None);
}

#[tokio::test]
async fn a_file_with_a_long_name_can_stand_beside_a_directory() {
    let tree = Tree::new().await;
    for len in [251, 252, 255, 256, 300, 600] {
        let name = "n".repeat(len);
        let below = format!("{name}/b");
        tree.put(&name, "file").await;
        tree.put(&below, "below").await;
        assert_eq!(tree.get(&name).await.unwrap(), "file");
        assert_eq!(tree.get(&below).await.unwrap(), "below");
        assert_eq!(tree.all_keys().await, [name.clone(), below.clone()]);
        tree.put(&name, "again").await;
        assert_eq!(tree.get(&name).await.unwrap(), "again");
        tree.delete(&name).await;
        assert_eq!(tree.all_keys().await, [below.as_str()]);
        tree.delete(&below).await;
        assert_eq!(fs::read_dir(tree.path("")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn paths_longer_than_the_kernel_takes_work() {
    let tree = Tree::new().await;
    for key in ["/".repeat(1024), "é/".repeat(340), "=".repeat(1024), ".t2/".repeat(256)] {
        let put = tree.put(&key, key.clone()).await;
        assert_eq!(tree.get(&key).await.unwrap(), key);
        assert_eq!(tree.all_keys().await, [key.as_str()]);
        tree.copy_object(CopyObject {
            source: tree.object(&key),
            source_etag: put.etag,
            bucket: tree.bucket.clone(),
            key: tree.key(&key),
            attributes: ObjectAttributes::default(),
            condition: WriteCondition::default(),
            versions: None,
        })
        .await
        .unwrap();
        assert!(tree.delete(&key).await.existed);
        assert_eq!(fs::read_dir(tree.path("")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn large_attributes_and_part_tables_lie_in_files_that_go_with_the_object() {
    let tree = Tree::new().await;
    let attributes = ObjectAttributes {
        user_metadata: (0..200)
            .map(|n| (format!("name-{n}").into(), "v".repeat(30).into()))
            .collect(),
        ..ObjectAttributes::default()
    };
    let put_large = async |key: &str| {
        let request = PutObject {
            attributes: attributes.clone(),
            ..tree.put_request(key)
        };
        let body = t2gate_backends::ObjectBody::from_bytes("x");
        tree.put_object(request, body).await.unwrap()
    };
    put_large("key").await;
    put_large("key").await;
    let with_one = if has_side_files(tree.root.path()) { 0 } else { 1 };
    assert_eq!(tree.extra_sides(1), with_one);
    assert_eq!(
        tree.info("key").await.attributes.user_metadata,
        attributes.user_metadata
    );
    tree.put("key", "small").await;
    assert_eq!(tree.extra_sides(1), 0);

    let upload = tree.upload("key").await;
    let parts = vec![tree.part(&upload, 3, "a").await, tree.part(&upload, 7, "b").await];
    tree.complete(&upload, parts).await.unwrap();
    assert_eq!(tree.extra_sides(1), with_one);
    let open = tree.open("key").await.unwrap();
    tree.delete("key").await;
    assert_eq!(tree.extra_sides(0), 0);
    // Of the version that was opened, also when it is gone.
    let numbers: Vec<u16> = open
        .reader
        .parts(3, 10)
        .await
        .unwrap()
        .iter()
        .map(|p| p.part_number.get())
        .collect();
    assert_eq!(numbers, [7]);
}

/// Somebody holds a lease on a file, as Samba does: it is waited for, and spoils no listing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leased_file_is_waited_for() {
    const HOLD: &str = "import fcntl, os, signal, sys\n\
        def release(*_): fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)\n\
        signal.signal(signal.SIGIO, release)\n\
        file = os.open(sys.argv[1], os.O_RDWR)\n\
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
        print('held', flush=True)\n\
        sys.stdin.read()\n";
    let tree = Tree::new().await;
    for lists in [true, false] {
        fs::write(tree.path("leased"), "bytes").unwrap();
        let mut holder = Command::new("python3")
            .args(["-c", HOLD])
            .arg(tree.path("leased"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut held = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut held)
            .unwrap();
        assert_eq!(held, "held\n");
        if lists {
            assert_eq!(tree.all_keys().await, ["leased"]);
        }
        assert_eq!(tree.get("leased").await.unwrap(), "bytes");
        drop(holder.stdin.take());
        holder.wait().unwrap();
    }
}
