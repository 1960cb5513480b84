//! Several stores as one keep the contract, and what is between them.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use t2gate_backends::{
    AccountId, Backend, BackendError, BucketInfo, BucketName, BucketPattern, CannedAcl, Capabilities, CopyObject,
    CreateBucket, FsBackend, FsOptions, Key, MemoryBackend, ObjectAttributes, ObjectBody, ObjectRef, OpendalBackend,
    OpendalOptions, PutObject, Routed, Routes, SystemClock, Versioned, WriteCondition, versions_suite,
};

fn memory() -> Arc<dyn Backend> {
    Arc::new(MemoryBackend::new(Arc::new(SystemClock)))
}

fn routes(entries: &[(&str, usize)]) -> Routes {
    let entries = entries.iter();
    Routes::new(
        entries
            .map(|&(text, store)| (BucketPattern::parse(text).unwrap(), store))
            .collect(),
    )
}

fn versioned() -> Arc<dyn Backend> {
    let memory = MemoryBackend::new(Arc::new(SystemClock));
    let versioned = Versioned::new(memory, Arc::new(SystemClock));
    Arc::new(versioned.expect("memory keeps what is displaced"))
}

/// The names that the suite uses fall on both.
fn open() -> (Arc<dyn Backend>, ()) {
    let second = ["*1", "*3", "*5", "*7", "*9", "*a", "*c", "*e", "t*", "other*"].map(|text| (text, 1));
    (
        Arc::new(Routed::new(vec![versioned(), versioned()], routes(&second)).unwrap()),
        (),
    )
}

versions_suite!(open);

/// Two stores, of which the second has what is called `logs-*`.
struct Two {
    first: Arc<dyn Backend>,
    second: Arc<dyn Backend>,
    both: Routed,
}

impl Two {
    fn new() -> Self {
        Self::of(memory(), memory())
    }

    fn of(first: Arc<dyn Backend>, second: Arc<dyn Backend>) -> Self {
        let both = Routed::new(vec![first.clone(), second.clone()], routes(&[("logs-*", 1)])).unwrap();
        Self { first, second, both }
    }
}

fn name(text: &str) -> BucketName {
    BucketName::parse(text).unwrap()
}

fn alice() -> AccountId {
    AccountId::parse("alice").unwrap()
}

async fn create(backend: &dyn Backend, bucket: &str, max_buckets: u32) -> Result<BucketInfo, BackendError> {
    let request = CreateBucket {
        bucket: name(bucket),
        owner: alice(),
        acl: CannedAcl::Private,
        versioning: None,
        max_buckets,
    };
    backend.create_bucket(request).await
}

async fn listed(backend: &dyn Backend, start_after: Option<&str>, max: usize) -> Vec<String> {
    let buckets = backend.list_buckets(&alice(), "", start_after, max).await.unwrap();
    buckets.iter().map(|info| info.bucket.to_string()).collect()
}

#[tokio::test]
async fn a_bucket_is_made_in_the_store_that_its_name_says() {
    let two = Two::new();
    for bucket in ["data", "logs-a"] {
        create(&two.both, bucket, 10).await.unwrap();
        two.both.head_bucket(&name(bucket)).await.unwrap();
    }
    assert_eq!(listed(&*two.first, None, 10).await, ["data"]);
    assert_eq!(listed(&*two.second, None, 10).await, ["logs-a"]);
}

#[tokio::test]
async fn listings_of_buckets_are_merged_in_order() {
    let two = Two::new();
    let all = ["logs-a", "logs-c", "logs-e", "logsb", "m-1", "a-1", "logs-d"];
    for bucket in all {
        create(&two.both, bucket, 10).await.unwrap();
    }
    let sorted = ["a-1", "logs-a", "logs-c", "logs-d", "logs-e", "logsb", "m-1"];
    assert_eq!(listed(&two.both, None, 100).await, sorted);
    assert_eq!(listed(&two.both, Some("logs-a"), 3).await, sorted[2..5]);
    for size in 1..=sorted.len() + 1 {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let page = listed(&two.both, seen.last().map(String::as_str), size).await;
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, sorted, "pages of {size}");
    }
}

#[tokio::test]
async fn a_bucket_that_lies_in_another_store_than_its_name_says_is_not_served() {
    let two = Two::new();
    for bucket in ["logs-1", "logs-2", "logs-3"] {
        create(&*two.first, bucket, 10).await.unwrap();
    }
    create(&*two.first, "zzz", 10).await.unwrap();
    assert!(matches!(
        two.both.head_bucket(&name("logs-1")).await,
        Err(BackendError::NoSuchBucket)
    ));
    // A page is full though more than fill it are left out.
    assert_eq!(listed(&two.both, None, 1).await, ["zzz"]);
    let misplaced = two.both.misplaced(&alice(), 2).await.unwrap();
    assert_eq!(misplaced, [(name("logs-1"), 0), (name("logs-2"), 0)]);
    create(&two.both, "logs-1", 10).await.unwrap();
    assert_eq!(listed(&two.both, None, 10).await, ["logs-1", "zzz"]);
}

#[tokio::test]
async fn an_account_has_its_buckets_in_all_stores_together() {
    let two = Two::new();
    create(&two.both, "data", 2).await.unwrap();
    create(&two.both, "logs-a", 2).await.unwrap();
    for bucket in ["data-2", "logs-b"] {
        let refused = create(&two.both, bucket, 2).await;
        assert!(
            matches!(refused, Err(BackendError::TooManyBuckets { limit: 2 })),
            "{refused:?}"
        );
    }
    let again = create(&two.both, "logs-a", 2).await;
    assert!(
        matches!(again, Err(BackendError::BucketAlreadyExists { .. })),
        "{again:?}"
    );
    two.both.delete_bucket(&name("data")).await.unwrap();
    create(&two.both, "logs-b", 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_creations_in_two_stores_do_not_pass_the_limit() {
    // Trees, for these have to be waited for between the counting and the creation.
    let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = roots.each_ref().map(|root| {
        let options = FsOptions::new(root.path(), Arc::new(SystemClock));
        Arc::new(FsBackend::open(options).unwrap()) as Arc<dyn Backend>
    });
    let both = Arc::new(Two::of(first, second).both);
    let tasks: Vec<_> = (0..16)
        .map(|i| {
            let both = both.clone();
            let bucket = format!("{}-{i}", if i % 2 == 0 { "logs" } else { "data" });
            tokio::spawn(async move { create(&*both, &bucket, 5).await.is_ok() })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        made += usize::from(task.await.unwrap());
    }
    assert_eq!((made, listed(&*both, None, 100).await.len()), (5, 5));
}

#[tokio::test]
async fn no_store_copies_from_another() {
    let two = Two::new();
    let (data, logs) = (name("data"), name("logs-a"));
    for bucket in ["data", "data-2", "logs-a"] {
        create(&two.both, bucket, 10).await.unwrap();
    }
    let key = Key::parse("key").unwrap();
    let put = PutObject {
        bucket: data.clone(),
        key: key.clone(),
        attributes: ObjectAttributes::default(),
        condition: WriteCondition::default(),
        versions: None,
    };
    let info = two.both.put_object(put, ObjectBody::from_bytes("x")).await.unwrap();
    let copy = |to: &BucketName| CopyObject {
        source: ObjectRef {
            bucket: data.clone(),
            key: key.clone(),
            version_id: None,
        },
        source_etag: info.etag.clone(),
        bucket: to.clone(),
        key: key.clone(),
        attributes: info.attributes.clone(),
        condition: WriteCondition::default(),
        versions: None,
    };
    assert!(two.both.copies_between(&data, &name("data-2")));
    two.both.copy_object(copy(&name("data-2"))).await.unwrap();
    assert!(!two.both.copies_between(&data, &logs) && !two.both.copies_between(&logs, &data));
    let refused = two.both.copy_object(copy(&logs)).await;
    assert!(matches!(refused, Err(BackendError::NotSupported { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_bucket_can_what_its_own_store_can() {
    let two = Two::of(memory(), versioned());
    let versioning = |bucket: Option<&str>| two.both.capabilities(bucket.map(name).as_ref()).versioning;
    assert!(versioning(Some("logs-a")) && !versioning(Some("data")));
    assert!(!versioning(None), "what all can");
}

#[tokio::test]
async fn a_store_takes_nothing_away_from_what_is_beside_it() {
    let store = OpendalBackend::open(OpendalOptions::new("memory", Arc::new(SystemClock)));
    let two = Two::of(versioned(), Arc::new(store.await.unwrap()));
    let of = |bucket: Option<&str>| two.both.capabilities(bucket.map(name).as_ref());
    let all_of = |of: &Capabilities| [of.conditional_writes, of.stable_reads, of.versioning];
    let (beside, store, both) = (of(Some("data")), of(Some("logs-a")), of(None));
    assert_eq!((beside.name, store.name, both.name), ("memory", "opendal", "several"));
    assert_eq!(all_of(&beside), [true; 3]);
    assert_eq!(all_of(&store), [false; 3]);
    assert_eq!(all_of(&both), [false; 3]);
}

#[test]
fn a_route_leads_to_a_store_that_is_there() {
    assert!(Routed::new(vec![memory()], routes(&[("logs-*", 1)])).is_err());
    assert!(Routed::new(vec![], routes(&[])).is_err());
    assert!(Routed::new(vec![memory()], routes(&[])).is_ok());
}
