//! opendal's memory: level L1, keeps no metadata, and an object is what one call carries.

use std::{sync::Arc, time::Duration};

use t2gate_backends::{
    Backend, BackendError, OpendalBackend, OpendalOpenError, OpendalOptions, StoreLayout, StoreLevel, TestClock,
    Timestamp, conformance::Subject, conformance_suite, versions_suite,
};

fn open() -> (Arc<dyn Backend>, ()) {
    (super::open(super::options("memory", &[])), ())
}

conformance_suite!(open);

mod versions {
    use super::*;

    fn open() -> (Arc<dyn Backend>, ()) {
        (crate::versioned(crate::options("memory", &[])), ())
    }

    versions_suite!(open);
}

const DAY: Duration = Duration::from_hours(24);

fn on_day(day: i64) -> Timestamp {
    Timestamp::from_unix(1_700_000_000 + day * 86_400, 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_goes_on_with_is_swept_and_nothing_else() {
    let clock = Arc::new(TestClock::new(on_day(0)));
    let backend = Arc::new(super::open_store(OpendalOptions {
        clock: clock.clone(),
        ..super::options("memory", &[])
    }));
    let s = Subject::new(backend.clone()).await;
    // Of blobs: larger than what lies behind a header, and one that parts made.
    let large = vec![7; 100_000];
    s.put("large", large.clone()).await;
    let upload = s.upload("joined").await;
    let parts = vec![s.part(&upload, 1, "one").await, s.part(&upload, 2, "two").await];
    s.complete(&upload, parts).await.unwrap();
    let abandoned = s.upload("abandoned").await;
    s.part(&abandoned, 1, "part").await;
    let active = s.upload("active").await;
    clock.set(on_day(5));
    s.part(&active, 1, "part").await;
    clock.set(on_day(8));
    assert_eq!(backend.sweep(7 * DAY).await.unwrap(), 1);
    assert_eq!(backend.sweep(7 * DAY).await.unwrap(), 0, "its parts went with it");
    let gone = s.head_multipart_upload(&abandoned).await;
    assert!(matches!(gone, Err(BackendError::NoSuchUpload)), "{gone:?}");
    s.head_multipart_upload(&active).await.unwrap();
    clock.set(on_day(100));
    assert_eq!(backend.sweep(7 * DAY).await.unwrap(), 1);
    assert!(s.get("large").await.unwrap() == large);
    assert_eq!(s.get("joined").await.unwrap(), "onetwo");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_more_than_the_store_has_gets_nothing() {
    let memory = || super::options("memory", &[]);
    assert_eq!(super::open_store(memory()).report().level, StoreLevel::CreateIfAbsent);
    let refused = OpendalBackend::open(OpendalOptions {
        least_level: StoreLevel::CompareAndSet,
        ..memory()
    });
    let refused = refused.await;
    assert!(
        matches!(refused, Err(OpendalOpenError::LevelTooLow { .. })),
        "{refused:?}"
    );
    let refused = OpendalBackend::open(OpendalOptions {
        layout: Some(StoreLayout::Transparent),
        ..memory()
    });
    let refused = refused.await;
    assert!(
        matches!(refused, Err(OpendalOpenError::NoMetadata { .. })),
        "{refused:?}"
    );
    let refused = OpendalBackend::open(super::options("floppy", &[])).await;
    assert!(
        matches!(refused, Err(OpendalOpenError::UnknownService { .. })),
        "{refused:?}"
    );
}
