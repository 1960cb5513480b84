use proptest::prelude::*;

use super::*;
use crate::{BodySummary, ChecksumAlgorithm, ContentHeaders};

fn record(user: usize, parts: u16) -> Record {
    let summary = BodySummary::of(b"bytes", ChecksumAlgorithm::Sha256);
    let part = |number| ObjectPart {
        part_number: PartNumber::new(number).unwrap(),
        size: 5 << 30,
        checksum: Some(summary.checksum.clone()),
    };
    let new = NewObject {
        nonce: Stamp::new(Timestamp::from_unix_nanos(1), 2),
        size: summary.size,
        etag: ETag::from_md5(summary.md5),
        attributes: ObjectAttributes {
            content: ContentHeaders::default(),
            user_metadata: vec![("name".into(), "x".repeat(user).into())],
            checksum: Some(summary.checksum.clone()),
        },
        parts: (1..=parts).map(part).collect(),
        upload_id: None,
    };
    Record::new(&BucketName::parse("bucket").unwrap(), &Key::parse("key").unwrap(), &new)
}

fn meta_of(user: HashMap<String, String>, size: u64) -> Meta {
    Meta {
        size,
        token: None,
        etag: None,
        last_modified: None,
        version: None,
        content: ContentHeaders::default(),
        user,
    }
}

#[test]
fn what_does_not_fit_into_metadata_lies_beside() {
    for (user, parts, beside) in [(10, 0, false), (2000, 0, true), (10, 10_000, true)] {
        let record = record(user, parts);
        let (metadata, side) = record.to_metadata();
        assert!(metadata.values().map(String::len).sum::<usize>() <= MAX_METADATA);
        assert_eq!(side.is_some(), beside, "{user} {parts}");
        let short = Record::of_metadata(&meta_of(metadata.clone(), 5)).unwrap();
        assert_eq!(short.has_side, beside);
        if let Some(side) = side {
            assert_eq!(Record::of_side(&side), Some(record));
        } else {
            assert_eq!(short.rest, record.rest);
        }
        assert_eq!(Record::of_metadata(&meta_of(metadata, 6)), None, "another size");
    }
}

#[test]
fn an_object_is_its_record_and_its_bytes() {
    let record = record(10, 0);
    let object = record.to_object(b"bytes");
    assert_eq!(
        Record::of_object(&object),
        Some((record.clone(), Bytes::from_static(b"bytes")))
    );
    for len in 0..object.len() {
        assert_eq!(Record::of_object(&object.slice(..len)), None, "cut at {len}");
    }
    assert_eq!(Record::of_object(&record.to_object(b"longer than that")), None);
    assert_eq!(Record::of_object(&Bytes::from_static(b"somebody else's")), None);
    // The longest there is.
    assert!((self::record(2000, 10_000).to_object(b"").len() as u64) < MAX_HEADER_BYTES);
}

#[test]
fn a_head_says_what_is_kept() {
    let at = |nanos| Stamp::new(Timestamp::from_unix_nanos(nanos), 7);
    let own = |nanos| Version {
        stamp: at(nanos),
        null: false,
    };
    let null = |nanos| Version {
        stamp: at(nanos),
        null: true,
    };
    let mut keeping = Keeping::after(None, at(100));
    assert!(!keeping.keeps(own(1)) && !keeping.keeps(null(1)));
    keeping.set_newest(Some(at(5)));
    keeping.set_null(Some(at(3)));
    keeping.add_gone(at(4));
    for (version, kept) in [
        (own(5), true),
        (own(4), false),
        (own(2), true),
        (own(6), false),
        (null(3), true),
        (null(2), false),
    ] {
        assert_eq!(keeping.keeps(version), kept, "{version:?}");
    }
    let mut record = record(10, 0);
    record.version = Some(own(9).into());
    record.keeping = Some(keeping.clone());
    let object = record.to_object(b"bytes");
    assert_eq!(Record::of_object(&object).unwrap().0, record);
    assert_eq!(record.version(), Some(own(9)));
    // What is gone is said once; the rest goes on.
    let next = Keeping::after(Some(&keeping), at(101));
    assert!(next.gone().next().is_none() && next.newest() == keeping.newest() && next.null() == keeping.null());
    assert!(next.epoch == keeping.epoch && next.turn != keeping.turn);
}

proptest! {
    #[test]
    fn rubbish_is_no_record(bytes: Vec<u8>, text: String) {
        let mut object = MAGIC.to_vec();
        object.extend(&bytes);
        Record::of_object(&object.into());
        Record::of_metadata(&meta_of(HashMap::from([(METADATA.to_owned(), text)]), 1));
        BucketRecord::of_bytes(&bytes);
        UploadRecord::of_bytes(&bytes);
        PartRecord::of_bytes(&bytes);
        Owner::of_bytes(&bytes);
    }
}
