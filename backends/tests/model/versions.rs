//! Random histories with versions, run on two backends at once, whose clocks step back and forth; after each step all
//! that can be seen of the two is compared. `T2GATE_TEST_MODEL=N` runs N histories.

use std::sync::Arc;

use futures::StreamExt as _;
use proptest::{collection::vec, prelude::*, sample::select};
use t2gate_backends::{
    Backend, BackendError, BucketSetting, CopyObject, DeleteObject, DeleteObjectOutcome, Durability, FsBackend,
    FsOptions, IfMatch, ListObjectVersions, MemoryBackend, ObjectBody, ObjectInfo, ObjectRef, PutObject, TestClock,
    Timestamp, VersionEntry, VersionId, Versioned, VersioningStatus, WriteCondition, conformance::Subject,
};

#[derive(Debug, Clone)]
enum Op {
    Put(&'static str, u8, Condition),
    Delete(&'static str, bool, Condition),
    /// The version at this place of the listing, modulo its length.
    DeleteVersion(usize, Condition),
    Copy(usize, &'static str),
    Versioning(VersioningStatus),
    Clock(i64),
    List {
        prefix: &'static str,
        delimiter: Option<&'static str>,
        /// A place in the listing, and whether the version is named too.
        marker: Option<(usize, bool)>,
        max_keys: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum Condition {
    None,
    Absent,
    Present,
    KeepAll,
}

impl Condition {
    fn to_write(self) -> WriteCondition {
        WriteCondition {
            if_match: matches!(self, Self::Present).then_some(IfMatch::Any),
            if_none_match: matches!(self, Self::Absent),
            keep_all: matches!(self, Self::KeepAll),
        }
    }
}

fn op(keys: &'static [&'static str]) -> impl Strategy<Value = Op> {
    let key = || select(keys);
    let condition = || {
        select(
            &[
                Condition::None,
                Condition::None,
                Condition::None,
                Condition::Absent,
                Condition::Present,
                Condition::KeepAll,
            ][..],
        )
    };
    prop_oneof![
        8 => (key(), 0..20_u8, condition()).prop_map(|(key, len, condition)| Op::Put(key, len, condition)),
        4 => (key(), any::<bool>(), condition()).prop_map(|(key, mark, condition)| Op::Delete(key, mark, condition)),
        6 => (0..64_usize, condition()).prop_map(|(at, condition)| Op::DeleteVersion(at, condition)),
        2 => (0..64_usize, key()).prop_map(|(at, key)| Op::Copy(at, key)),
        2 => select(&[VersioningStatus::Enabled, VersioningStatus::Enabled, VersioningStatus::Suspended][..])
            .prop_map(Op::Versioning),
        1 => (-5..5_i64).prop_map(Op::Clock),
        3 => (
            select(&["", "", "a", "a/", "d/", "D/"][..]),
            select(&[None, Some("/"), Some("b")][..]),
            proptest::option::of((0..64_usize, any::<bool>())),
            0..6_usize,
        )
            .prop_map(|(prefix, delimiter, marker, max_keys)| Op::List { prefix, delimiter, marker, max_keys }),
    ]
}

/// What an answer says, without what differs from one backend to the next.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    name: String,
    null: Option<bool>,
    etag: Option<String>,
    size: Option<u64>,
    is_latest: bool,
}

fn line(entry: &VersionEntry) -> Line {
    let (object, is_latest) = match entry {
        VersionEntry::Object { info, is_latest } => (Some(info), *is_latest),
        VersionEntry::DeleteMarker(marker) => (None, marker.is_latest),
        VersionEntry::CommonPrefix(_) => (None, false),
    };
    Line {
        name: entry.name().to_owned(),
        null: entry.version_id().map(VersionId::is_null),
        etag: object.map(|info| info.etag.as_str().to_owned()),
        size: object.map(|info| info.size),
        is_latest,
    }
}

fn is_null(info: &ObjectInfo) -> Option<bool> {
    info.version_id.as_ref().map(VersionId::is_null)
}

fn outcome(outcome: Result<DeleteObjectOutcome, BackendError>) -> String {
    format!(
        "{:?}",
        outcome
            .map(|o| (
                o.existed,
                o.delete_marker,
                o.version_id.as_ref().map(VersionId::is_null)
            ))
            .map_err(refusal)
    )
}

fn refusal(error: BackendError) -> String {
    match error {
        BackendError::DeleteMarker { version_id, .. } => format!("marker {}", version_id.is_null()),
        BackendError::Internal { .. } => panic!("{error:?}"),
        other => other.to_string(),
    }
}

async fn entries(s: &Subject) -> Vec<VersionEntry> {
    s.list_object_versions(versions(s, None, 10_000)).await.unwrap().entries
}

fn versions(s: &Subject, key_marker: Option<&str>, max_keys: usize) -> ListObjectVersions {
    ListObjectVersions {
        bucket: s.bucket.clone(),
        prefix: "".into(),
        delimiter: None,
        key_marker: key_marker.map(Into::into),
        version_id_marker: None,
        max_keys,
    }
}

fn named(s: &Subject, entry: &VersionEntry) -> ObjectRef {
    ObjectRef {
        version_id: entry.version_id().cloned(),
        ..s.object(entry.name())
    }
}

async fn step(s: &Subject, clock: &TestClock, op: &Op) -> String {
    match op {
        Op::Put(key, len, condition) => {
            let request = PutObject {
                condition: condition.to_write(),
                ..s.put_request(key)
            };
            let body = ObjectBody::from_bytes(vec![*len; usize::from(*len)]);
            let put = s.put_object(request, body).await;
            format!("{:?}", put.map(|info| (is_null(&info), info.etag)).map_err(refusal))
        }
        Op::Delete(key, mark_missing, condition) => {
            let request = DeleteObject {
                object: s.object(key),
                condition: condition.to_write(),
                mark_missing: *mark_missing,
                versions: None,
            };
            outcome(s.delete_object(request).await)
        }
        Op::DeleteVersion(at, condition) => {
            let all = entries(s).await;
            let Some(entry) = all.get(at % all.len().max(1)) else {
                return String::new();
            };
            let request = DeleteObject {
                object: named(s, entry),
                condition: condition.to_write(),
                mark_missing: false,
                versions: None,
            };
            outcome(s.delete_object(request).await)
        }
        Op::Copy(at, to) => {
            let all = entries(s).await;
            let Some(entry) = all.get(at % all.len().max(1)) else {
                return String::new();
            };
            let source = named(s, entry);
            let open = match s.open_object(&source).await {
                Ok(open) => open.info,
                Err(error) => return refusal(error),
            };
            let request = CopyObject {
                source,
                source_etag: open.etag,
                bucket: s.bucket.clone(),
                key: s.key(to),
                attributes: open.attributes,
                condition: WriteCondition::default(),
                versions: None,
            };
            format!(
                "{:?}",
                s.copy_object(request).await.map(|info| is_null(&info)).map_err(refusal)
            )
        }
        Op::Versioning(status) => {
            let setting = BucketSetting::Versioning(*status);
            s.put_bucket_setting(&s.bucket, setting).await.unwrap();
            String::new()
        }
        Op::Clock(step) => {
            let now = t2gate_backends::Clock::now(clock).unix_nanos();
            clock.set(Timestamp::from_unix_nanos(now + step * 1_000_000));
            String::new()
        }
        Op::List {
            prefix,
            delimiter,
            marker,
            max_keys,
        } => {
            let all = entries(s).await;
            let marker = marker.and_then(|(at, id)| Some((all.get(at % all.len().max(1))?, id)));
            let request = ListObjectVersions {
                prefix: (*prefix).into(),
                delimiter: delimiter.map(Into::into),
                version_id_marker: marker
                    .filter(|marker| marker.1)
                    .and_then(|(entry, _)| entry.version_id().cloned()),
                ..versions(s, marker.map(|marker| marker.0.name()), *max_keys)
            };
            let page = s.list_object_versions(request).await.unwrap();
            format!(
                "{:?} {}",
                page.entries.iter().map(line).collect::<Vec<_>>(),
                page.is_truncated
            )
        }
    }
}

/// All that can be seen; checks that all kinds of reads agree.
async fn see(s: &Subject) -> Vec<Line> {
    let all = entries(s).await;
    let mut current = Vec::new();
    for entry in &all {
        let by_id = s.open_object(&named(s, entry)).await;
        match entry {
            VersionEntry::Object { info, is_latest } => {
                let open = by_id.unwrap_or_else(|error| panic!("{entry:?}: {error:?}"));
                assert_eq!((&open.info.etag, open.info.size), (&info.etag, info.size));
                let chunks: Vec<_> = open.reader.read(0..info.size).collect().await;
                let bytes: usize = chunks.into_iter().map(|chunk| chunk.unwrap().len()).sum();
                assert_eq!(bytes as u64, info.size);
                if *is_latest {
                    let by_name = s.open(entry.name()).await.unwrap().info;
                    let never = s.head_bucket(&s.bucket).await.unwrap().versioning.is_none();
                    let id = info.version_id.clone().filter(|_| !never);
                    assert_eq!((by_name.version_id, &by_name.etag), (id, &info.etag));
                    current.push(entry.name().to_owned());
                }
            }
            VersionEntry::DeleteMarker(marker) => {
                assert_eq!(
                    refusal(by_id.unwrap_err()),
                    format!("marker {}", marker.version_id.is_null())
                );
                if marker.is_latest {
                    match s.open(entry.name()).await {
                        Err(BackendError::DeleteMarker { version_id, .. }) => assert_eq!(version_id, marker.version_id),
                        other => panic!("{other:?}"),
                    }
                }
            }
            VersionEntry::CommonPrefix(_) => unreachable!("there is no delimiter"),
        }
    }
    assert_eq!(s.all_keys().await, current);
    all.iter().map(line).collect()
}

async fn subject(backend: impl Backend, clock: &Arc<TestClock>) -> Subject {
    let versioned = Versioned::new(backend, clock.clone()).expect("it keeps what is displaced");
    Subject::new(Arc::new(versioned)).await
}

fn compare(ops: &[Op]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let clock = || Arc::new(TestClock::new(Timestamp::from_unix(1_700_000_000, 0)));
        let (left, right) = (clock(), clock());
        let root = tempfile::tempdir().unwrap();
        let options = FsOptions {
            durability: Durability::ProcessSafe,
            ..FsOptions::new(root.path(), right.clone())
        };
        let memory = subject(MemoryBackend::new(left.clone()), &left).await;
        let fs = subject(FsBackend::open(options).unwrap(), &right).await;
        for (n, op) in ops.iter().enumerate() {
            let expected = step(&memory, &left, op).await;
            assert_eq!(step(&fs, &right, op).await, expected, "step {n}: {op:?}");
            let expected = see(&memory).await;
            assert_eq!(see(&fs).await, expected, "after step {n}: {op:?}");
        }
    });
}

/// In histories on these keys.
pub(crate) fn check(keys: &'static [&'static str]) {
    let config = ProptestConfig {
        cases: std::env::var("T2GATE_TEST_MODEL").map_or(48, |cases| cases.parse().expect("a number of cases")),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(ops in vec(op(keys), 1..40))| compare(&ops));
}
