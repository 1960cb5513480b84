//! P1 on a disk that is really full: what does not fit is refused with words, what is there stays and is served, and when
//! something is deleted writing goes on.

use std::{
    fs::{self, File},
    io::Write as _,
    mem,
    path::Path,
    sync::Arc,
};

use t2gate_backends::{BackendError, FsBackend, FsOptions, SystemClock, conformance::Subject};

use crate::{
    crash::abort_all,
    mounted::Mounted,
    ops::{Seen, expect, see, subject_of, try_perform},
};

/// Tried when nothing fits any more: each is done, or is not and says why.
const TRIED: [&str; 10] = [
    "put kept 9 300000",
    "put kept/below 9 300000",
    "put e/f 9 300000",
    "copy kept copied",
    "multipart kept 9 3",
    "repeated kept 9",
    "initiate uploads/u",
    "bucket more",
    "acl public-read",
    "large kept 9",
];

#[tokio::test]
#[ignore = "mounts file systems: needs root, loop devices and mkfs.ext4"]
async fn a_full_disk_is_said_to_be_full_and_goes_on_when_something_is_deleted() {
    for versioned in [false, true] {
        for (mounted, size) in [
            (Mounted::tmpfs("size=32m"), 300_000),
            (Mounted::tmpfs("size=64m,nr_inodes=300"), 10),
            (Mounted::image("ext4", "24M"), 300_000),
        ] {
            println!(
                "versioned: {versioned}, {size} bytes each, on {}",
                mounted.path().display()
            );
            fill(&mounted.path().join("root"), versioned, size).await;
        }
    }
}

/// What is found out at the first start holds for good.
#[test]
#[ignore = "mounts file systems: needs root, loop devices, mkfs.ext4 and mkfs.xfs"]
fn a_disk_that_is_full_is_not_taken_for_one_without_room_for_attributes() {
    for (kind, size) in [("ext4", "24M"), ("xfs", "300M")] {
        let mounted = Mounted::image(kind, size);
        let root = mounted.path().join("root");
        // These would find no room either.
        for own in ["staging", "attributes", "buckets", "uploads", "versions"] {
            fs::create_dir_all(root.join(".t2").join(own)).unwrap();
        }
        let mut filler = File::create(mounted.path().join("filler")).unwrap();
        let (mut size, mut refused) = (0, 0);
        // A file system that allocates late finds out with a sync that it has more room.
        loop {
            for size in [1 << 20, 1 << 10, 1] {
                let bytes = vec![1; size];
                while filler.write(&bytes).is_ok_and(|written| written > 0) {}
            }
            filler.sync_all().unwrap();
            let before = mem::replace(&mut size, filler.metadata().unwrap().len());
            if size == before {
                break;
            }
        }
        loop {
            filler.sync_all().unwrap();
            match FsBackend::open(FsOptions::new(&root, Arc::new(SystemClock))) {
                Ok(_) => break,
                Err(error) => assert!(error.to_string().contains("No space left on device"), "{kind}: {error}"),
            }
            refused += 1;
            size -= 4096;
            filler.set_len(size).unwrap();
        }
        assert!(refused > 0, "{kind}");
        assert_eq!(
            fs::read_to_string(root.join(".t2/format")).unwrap(),
            "1\n",
            "{kind}, {refused} times refused"
        );
    }
}

async fn open(root: &Path) -> Subject {
    subject_of(FsOptions::new(root, Arc::new(SystemClock)), "bucket").await
}

/// Done, or refused because the disk is full. Whether it was done.
async fn attempt(subject: &Subject, seen: &mut Seen, op: &str) -> bool {
    match try_perform(subject, op).await {
        Ok(()) => {
            expect(seen, op);
            true
        }
        Err(error @ BackendError::Internal { .. }) => {
            assert_eq!(error.to_string(), "the disk is full", "{op}");
            false
        }
        Err(error) => panic!("{op}: {error}"),
    }
}

async fn fill(root: &Path, versioned: bool, size: usize) {
    let subject = open(root).await;
    let mut seen = Seen::default();
    let first: &[&str] = if versioned { &["enable"] } else { &[] };
    for op in first.iter().chain(&["put kept 1 300000", "put d/e 2 10"]) {
        assert!(attempt(&subject, &mut seen, op).await, "{op}");
    }
    let name = |n: usize| if versioned { "v".to_owned() } else { format!("d{n}/v") };
    let mut written = 0;
    while attempt(&subject, &mut seen, &format!("put {} {written} {size}", name(written))).await {
        written += 1;
        assert!(written < 10_000, "it does not become full");
    }
    assert!(written > 5, "{written}");
    let mut refused = 0;
    for op in TRIED {
        refused += usize::from(!attempt(&subject, &mut seen, op).await);
        assert!(see(&subject).await == seen, "{op} on a full disk");
        abort_all(&subject).await;
        seen.uploads.clear();
    }
    assert!(refused > 3, "{refused}");
    subject.ready().await.unwrap();
    assert!(see(&subject).await == seen);
    // Also after a start, which needs no more than a file.
    let subject = if size > 10 {
        drop(subject);
        let subject = open(root).await;
        assert!(see(&subject).await == seen, "after a start");
        subject
    } else {
        subject
    };

    for n in 0..5 {
        let op = if versioned {
            format!("delete-version v {}", written - 1 - n)
        } else {
            format!("delete {}", name(n))
        };
        assert!(attempt(&subject, &mut seen, &op).await, "{op}");
    }
    for op in [format!("put kept 3 {size}"), format!("put again 4 {size}")] {
        assert!(attempt(&subject, &mut seen, &op).await, "{op} when there is room again");
    }
    assert!(see(&subject).await == seen, "when there is room again");
    assert_eq!(crate::crash::litter(root), Vec::<String>::new());
}
