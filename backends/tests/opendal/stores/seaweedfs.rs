//! SeaweedFS: S3 that lists in the order of a tree.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicUsize, Ordering},
};

use futures::StreamExt as _;
use t2gate_backends::{
    Backend, BackendError, CopyObject, OpendalOptions, StoreLayout, StoreLevel, WriteCondition, conformance::Subject,
};

use super::{
    ops::{content, nothing_is_left, open_on_day_0},
    proxy::{Fault, Proxy},
    server::Server,
    service::s3_options,
    weed,
};

pub(super) static SERVER: LazyLock<Server> = LazyLock::new(weed::start);

pub(super) fn options() -> OpendalOptions {
    s3_options(&SERVER)
}

fn open() -> (Arc<dyn Backend>, ()) {
    (crate::open(options()), ())
}

/// The suite, but for one case: of a key and one below it that are written for the first time at the same moment,
/// SeaweedFS acknowledges both and may lose one, whoever writes them. One after the other both stay.
macro_rules! suite {
    (($open:ident, $versioning:expr) $($family:ident { $($case:ident)* })*) => {
        $(
            mod $family {
                use super::*;
                $(suite!(@ $open $family $case);)*
            }
        )*
    };
    (@ $open:ident races a_key_and_those_below_it_can_be_written_at_once) => {
        #[test]
        fn a_key_and_those_below_it_can_be_written_in_turn() {
            t2gate_backends::conformance::run(async {
            written_in_turn(Subject::new($open().0).await).await;
            });
        }
    };
    (@ $open:ident $family:ident $case:ident) => {
        #[test]
        fn $case() {
            t2gate_backends::conformance::run(async {
            t2gate_backends::conformance::$family::$case(Subject::new($open().0).await).await;
            });
        }
    };
}

t2gate_backends::conformance_cases!([suite](open, None));

mod encoded {
    use super::*;

    pub(super) fn options() -> OpendalOptions {
        OpendalOptions {
            layout: Some(StoreLayout::Encoded),
            ..super::options()
        }
    }

    fn open() -> (Arc<dyn Backend>, ()) {
        (crate::open(options()), ())
    }

    t2gate_backends::conformance_suite!(open);

    mod versioned {
        use super::*;

        fn open() -> (Arc<dyn Backend>, ()) {
            (crate::versioned(options()), ())
        }

        t2gate_backends::conformance_version_cases!([t2gate_backends::conformance_tests](open, None));

        mod every_case {
            use super::*;

            t2gate_backends::conformance_cases!([t2gate_backends::conformance_tests](
                open,
                Some(t2gate_backends::VersioningStatus::Enabled)
            ));
        }
    }
}

async fn written_in_turn(s: Subject) {
    let mut keys = ["a", "a/b", "a/b/c", "A", "A/b"];
    for round in 0..10 {
        // Each comes first, and each behind and before each other.
        keys.rotate_left(1);
        if round % 5 == 4 {
            keys.reverse();
        }
        for key in keys {
            s.put(key, format!("{key} in round {round}")).await;
        }
        let mut sorted = keys;
        sorted.sort_unstable();
        assert_eq!(s.all_keys().await, sorted);
        for key in keys {
            assert_eq!(s.get(key).await.unwrap(), format!("{key} in round {round}"));
        }
        for key in keys {
            assert!(s.delete(key).await.existed, "{key:?} in {keys:?}");
        }
        assert!(s.all_keys().await.is_empty());
    }
}

#[test]
fn a_thousand_parts_are_an_object_and_leave_nothing() {
    t2gate_backends::conformance::run(async {
        for options in [options(), encoded::options()] {
            let (backend, clock) = open_on_day_0(options.clone()).await;
            let s = Subject::new(backend.clone()).await;
            let upload = s.upload("many").await;
            let bytes_of = |number: u16| content("many", &number.to_string(), 100);
            let parts = futures::stream::iter(1..=1000).map(|number| {
                let (s, upload) = (s.clone(), upload.clone());
                async move { s.part(&upload, number, bytes_of(number)).await }
            });
            let parts: Vec<_> = parts.buffered(16).collect().await;
            s.complete(&upload, parts).await.unwrap();
            let expected: Vec<u8> = (1..=1000).flat_map(bytes_of).collect();
            assert!(s.get("many").await.unwrap() == expected);
            assert!(s.delete("many").await.existed);
            nothing_is_left(&backend, &clock, &options).await;
        }
    });
}

#[test]
fn the_probe_says_what_it_keeps() {
    t2gate_backends::conformance::run(async {
        let store = crate::open_store(s3_options(&SERVER));
        assert_eq!(store.report().level, StoreLevel::CompareAndSet, "{}", store.report());
    });
}

/// Each time it would be refused again, and leave an upload to be aborted.
#[test]
fn a_copy_whose_source_is_another_by_now_is_not_begun_again() {
    t2gate_backends::conformance::run(async {
        let proxy = Proxy::before(SERVER.address).await;
        let options = options();
        let slow = Subject::new(crate::open(proxy.on_the_way(SERVER.address, options.clone()))).await;
        let fast = Subject::of(crate::open(options), slow.bucket.clone()).await;
        let source = slow.put("source", "old").await;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        proxy.plan(move |seen| {
            let is_first = seen.kind == "POST uploads" && counter.fetch_add(1, Ordering::SeqCst) == 0;
            is_first.then_some(Fault::Hold)
        });
        proxy.hook(move || tell.send(()).unwrap());
        let request = CopyObject {
            source: slow.object("source"),
            source_etag: source.etag,
            bucket: slow.bucket.clone(),
            key: slow.key("copy"),
            attributes: source.attributes,
            condition: WriteCondition::default(),
            versions: None,
        };
        let copying = tokio::spawn({
            let slow = slow.clone();
            async move { slow.copy_object(request).await }
        });
        told.recv().await.unwrap();
        fast.put("source", "new").await;
        proxy.release();
        let copied = copying.await.unwrap();
        assert!(matches!(copied, Err(BackendError::Conflict)), "{copied:?}");
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        assert_eq!(fast.get("copy").await, None);
    });
}

#[test]
fn of_writers_at_two_gateways_one_wins() {
    t2gate_backends::conformance::run(async {
        let options = s3_options(&SERVER);
        let gateways = [crate::open(options.clone()), crate::open(options)];
        let first = Subject::new(gateways[0].clone()).await;
        let second = Subject::of(gateways[1].clone(), first.bucket.clone()).await;
        let absent = WriteCondition {
            if_none_match: true,
            ..WriteCondition::default()
        };
        for round in 0..2 {
            let key = format!("key-{round}");
            let put = |s: &Subject, bytes: String| {
                let (s, key, absent) = (s.clone(), key.clone(), absent.clone());
                tokio::spawn(async move { s.put_if(absent, &key, bytes).await })
            };
            let writers: Vec<_> = (0..4)
                .map(|i| put(if i % 2 == 0 { &first } else { &second }, format!("writer {i}")))
                .collect();
            let mut won = Vec::new();
            for writer in writers {
                match writer.await.unwrap() {
                    Ok(info) => won.push(info),
                    Err(BackendError::PreconditionFailed | BackendError::Conflict) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert_eq!(won.len(), 1, "{won:?}");
            assert_eq!(second.info(&key).await, won[0]);
        }
    });
}
