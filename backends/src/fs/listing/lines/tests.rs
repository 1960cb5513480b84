use std::{path::Path, time::Duration};

use rustix::{
    fs::{Mode, OFlags, open},
    time::{ClockId, clock_gettime},
};

use super::*;
use crate::{Checksum, ChecksumAlgorithm, ChecksumType};

fn info(key: &Key, meta: &Meta, tag: [u8; 16]) -> ObjectInfo {
    ObjectInfo {
        key: key.clone(),
        version_id: None,
        size: meta.size,
        etag: ETag::from_md5(tag),
        last_modified: meta.last_modified(),
        attributes: ObjectAttributes::default(),
        parts_count: None,
    }
}

fn open_dir(path: &Path) -> OwnedFd {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

#[test]
fn a_line_holds_until_its_file_changes_and_for_one_name() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    std::fs::write(&path, "one").unwrap();
    let dir = open_dir(temp.path());
    let meta = dir::look_at(&dir, "file").unwrap();
    let bucket = BucketName::parse("bucket").unwrap();
    let [key, other] = ["file", "other"].map(|key| Key::parse(key).unwrap());
    let lines = Lines::new(1 << 20);
    let mut page = PageLines::new(&lines, Some(meta.dev));
    let line = info(&key, &meta, [7; 16]);
    page.keep(&bucket, &meta, &line);
    let of_name = |page: &mut PageLines<'_>, key: &Key| page.of_name(Some(&dir), Some("file"), &bucket, key.clone());
    assert_eq!(of_name(&mut page, &key), Ok((line.clone(), meta)));
    assert_eq!(of_name(&mut page, &other), Err(other.clone()));
    assert_eq!(
        of_name(&mut page, &key),
        Err(key.clone()),
        "after one that was not known"
    );
    assert_eq!(page.of_file(&bucket, key.clone(), &meta), Ok(line.clone()));
    assert!(of_name(&mut page, &key).is_ok(), "after one that was");
    // Of the same size, and with the old time.
    std::thread::sleep(Duration::from_millis(20));
    std::fs::write(&path, "two").unwrap();
    let before = std::time::UNIX_EPOCH + Duration::new(meta.mtime.0.try_into().unwrap(), meta.mtime.1);
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(before)
        .unwrap();
    let changed = dir::look_at(&dir, "file").unwrap();
    assert_eq!((changed.size, changed.mtime), (meta.size, meta.mtime));
    assert_eq!(of_name(&mut page, &key), Err(key.clone()));
    assert_eq!(page.of_file(&bucket, key.clone(), &changed), Err(key.clone()));
    // On another file system nothing is known, and nothing kept.
    let mut elsewhere = PageLines::new(&lines, None);
    assert_eq!(elsewhere.of_file(&bucket, key.clone(), &meta), Err(key));
    assert!(!elsewhere.may_keep(&Meta { ctime: (0, 1), ..meta }));
}

#[test]
fn what_changed_within_a_tick_is_not_kept() {
    let lines = Lines::new(1 << 20);
    let temp = tempfile::tempdir().unwrap();
    let meta = Meta::of(open_dir(temp.path())).unwrap();
    let page = PageLines::new(&lines, Some(meta.dev));
    let now = clock_gettime(ClockId::Realtime).tv_sec;
    let ahead = now + 1;
    assert!(!page.may_keep(&Meta {
        ctime: (ahead, 1),
        ..meta
    }));
    assert!(page.may_keep(&Meta {
        ctime: (ahead - 10, 1),
        ..meta
    }));
}

#[test]
fn without_memory_nothing_is_kept() {
    let lines = Lines::new(WAYS * LINE_COST - 1);
    assert_eq!(PageLines::new(&lines, Some((0, 0))).device, None);
}

#[test]
fn paging_through_more_than_there_is_room_for_finds_some() {
    let lines = Lines::new(WAYS * LINE_COST);
    assert_eq!(lines.places.len(), 1);
    let temp = tempfile::tempdir().unwrap();
    let of = Meta::of(open_dir(temp.path())).unwrap();
    let bucket = BucketName::parse("bucket").unwrap();
    let mut found = 0;
    for _ in 0..100 {
        for ino in 0..WAYS as u64 + 4 {
            let (meta, key) = (Meta { ino, ..of }, Key::parse(ino.to_string()).unwrap());
            let line = info(&key, &meta, [ino.try_into().unwrap(); 16]);
            match lines.get(&bucket, key.clone(), &meta) {
                Ok(known) => {
                    assert_eq!(known, line);
                    found += 1;
                }
                Err(_) => lines.keep(&bucket, &meta, &line),
            }
            assert_eq!(lines.get(&bucket, key, &meta), Ok(line));
            assert!(lines.places[0].lock().unwrap().len() <= WAYS);
        }
    }
    assert!(found > 500, "{found} of 2000");
}

#[test]
fn all_that_a_line_says_comes_back() {
    let lines = Lines::new(1 << 20);
    let temp = tempfile::tempdir().unwrap();
    let meta = Meta::of(open_dir(temp.path())).unwrap();
    let bucket = BucketName::parse("bucket").unwrap();
    let key = Key::parse("key").unwrap();
    let (md5, longer) = ("0123456789abcdef".repeat(2), "0123456789".repeat(4));
    let etags = [
        md5.clone(),
        format!("{md5}-10000"),
        format!("{md5}{md5}"),
        md5.to_uppercase(),
        md5[1..].to_owned(),
        format!("t2-{longer}"),
        format!("t2-{longer}-"),
        format!("t2-{md5}"),
        format!("t2-{}", longer.replace('9', "F")),
        "t2-".to_owned(),
        "x".to_owned(),
        "~".repeat(128),
    ];
    let stamp = Stamp::from_bits(u128::MAX / 3);
    let versions = [None, Some(VersionId::null()), Some(VersionId::of(stamp))];
    let composite = Checksum {
        algorithm: ChecksumAlgorithm::Sha256,
        kind: ChecksumType::Composite,
        value: [9; 32].into(),
        parts: Some(3),
    };
    for etag in etags {
        for version_id in versions.clone() {
            for (checksum, parts_count) in [(None, None), (None, Some(10_000)), (Some(composite.clone()), Some(3))] {
                let line = ObjectInfo {
                    version_id: version_id.clone(),
                    etag: ETag::parse(etag.as_str()).unwrap(),
                    attributes: ObjectAttributes {
                        checksum,
                        ..ObjectAttributes::default()
                    },
                    parts_count,
                    ..info(&key, &meta, [0; 16])
                };
                lines.keep(&bucket, &meta, &line);
                assert_eq!(lines.get(&bucket, key.clone(), &meta), Ok(line));
            }
        }
    }
}

#[test]
fn a_usual_line_takes_what_is_counted_for_it() {
    let temp = tempfile::tempdir().unwrap();
    let meta = Meta::of(open_dir(temp.path())).unwrap();
    let bucket = BucketName::parse("bucket").unwrap();
    let key = Key::parse("key").unwrap();
    let lines = Lines::new(WAYS * LINE_COST);
    let line = ObjectInfo {
        version_id: Some(VersionId::of(Stamp::from_bits(u128::MAX))),
        attributes: ObjectAttributes {
            checksum: Some(Checksum {
                algorithm: ChecksumAlgorithm::Crc64Nvme,
                kind: ChecksumType::FullObject,
                value: [9; 8].into(),
                parts: None,
            }),
            ..ObjectAttributes::default()
        },
        ..info(&key, &meta, [7; 16])
    };
    lines.keep(&bucket, &meta, &line);
    let cost = lines.places[0].lock().unwrap()[0].cost();
    assert!(cost <= LINE_COST, "{cost}");
    // Of longer ones there are fewer.
    for ino in 0..100 {
        let meta = Meta { ino, ..meta };
        let line = ObjectInfo {
            etag: ETag::parse("~".repeat(128)).unwrap(),
            ..line.clone()
        };
        lines.keep(&bucket, &meta, &line);
        assert_eq!(lines.get(&bucket, key.clone(), &meta), Ok(line));
    }
    let place = lines.places[0].lock().unwrap();
    let cost: usize = place.iter().map(Line::cost).sum();
    assert!(cost <= WAYS * LINE_COST, "{cost}");
    assert!(place.len() > WAYS / 4, "{}", place.len());
}
