//! What is asked of a store, and noted of it, when it is opened.

use super::*;

/// What was done is refused when it is tried again. That is no answer to what the probe asks.
#[tokio::test]
async fn a_reply_that_is_lost_while_the_store_is_probed_changes_nothing_of_what_is_found() {
    for store in [
        Simulated::new(),
        Simulated::new().with_tokens_of_writes().that_copies(Copies::Judged),
    ] {
        nothing_that_is_found_depends_on_replies(store).await;
    }
}

async fn nothing_that_is_found_depends_on_replies(store: Simulated) {
    let found = opened(store.options(None)).await.report().clone();
    assert_eq!(found.level, StoreLevel::CompareAndSet, "{found}");
    let mut lost = 0;
    loop {
        let script = Arc::<Script>::default();
        let mut count = 0;
        let came = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&came);
        script.plan(move |when, call, _| {
            let changes = when == When::After && matches!(call, Call::Write | Call::Delete | Call::Copy);
            count += usize::from(changes);
            (changes && count == lost + 1).then(|| {
                counter.fetch_add(1, Ordering::SeqCst);
                ready(Err(passes())).boxed()
            })
        });
        let report = opened(store.options(Some(script))).await.report().clone();
        assert_eq!(report, found, "the reply to change {lost} was lost");
        if came.load(Ordering::SeqCst) == 0 {
            break;
        }
        lost += 1;
    }
    assert!(lost > 20, "{lost}");
}

/// A store that is not well for a while must not be taken for a lesser one: other gateways rely on what it keeps.
#[tokio::test]
async fn a_store_that_had_more_before_is_not_opened_at_a_lower_level() {
    let ill = || {
        let script = Arc::<Script>::default();
        script.plan(|when, call, path| {
            let is_swap = call == Call::Write && path.ends_with("/swapped");
            (when == When::Before && is_swap).then(|| ready(Err(stays())).boxed())
        });
        script
    };
    let note = |store: &Simulated| String::from_utf8(store.get(".t2/store").unwrap()).unwrap();
    let store = Simulated::new();
    opened(store.options(None)).await;
    assert_eq!(note(&store), "t2gate-store 1 encoded L2\n");
    let before = store.names("");
    let Err(OpendalOpenError::LevelFell { noted, report }) = OpendalBackend::open(store.options(Some(ill()))).await
    else {
        panic!("it was opened");
    };
    assert_eq!(
        (noted, report.level),
        (StoreLevel::CompareAndSet, StoreLevel::CreateIfAbsent)
    );
    assert_eq!(
        (note(&store).trim(), store.names("")),
        ("t2gate-store 1 encoded L2", before)
    );

    // The other way round it is found to be better than it seemed.
    let store = Simulated::new();
    opened(store.options(Some(ill()))).await;
    assert_eq!(note(&store), "t2gate-store 1 encoded L1\n");
    opened(store.options(None)).await;
    assert_eq!(note(&store), "t2gate-store 1 encoded L2\n");
}

/// Where objects lie under their own names, and are read as they are.
#[tokio::test]
async fn what_the_transparent_layout_needs_is_asked_of_the_store() {
    let open = async |store: Simulated| {
        let options = OpendalOptions {
            layout: Some(StoreLayout::Transparent),
            ..store.options(None)
        };
        OpendalBackend::open(options).await
    };
    open(Simulated::new().dressed()).await.unwrap();
    for store in [
        Simulated::new().dressed().that_reads_any(),
        Simulated::new().dressed().that_folds(),
    ] {
        let refused = open(store.clone()).await;
        assert!(
            matches!(refused, Err(OpendalOpenError::NotTransparent { .. })),
            "{refused:?}"
        );
        assert!(store.names("").is_empty());
        opened(store.options(None)).await;
    }
}

/// Who asks beforehand is told what a start would say, and nothing is noted by that.
#[tokio::test]
async fn a_check_refuses_what_is_not_opened_and_in_the_same_words() {
    let noted = |note: &str| {
        let store = Simulated::new();
        store.set(".t2/store", note.as_bytes().to_vec());
        store
    };
    let (blob, transparent) = (StoreLevel::Blobs, Some(StoreLayout::Transparent));
    let dressed = Simulated::new().dressed();
    let plain = Simulated::new().without_conditions();
    let fell = plain.clone();
    fell.set(".t2/store", b"t2gate-store 1 encoded L2\n".to_vec());
    for (store, layout, least_level, refusal) in [
        (Simulated::new(), None, blob, None),
        (dressed.clone(), transparent, blob, None),
        (
            Simulated::new().that_keeps_all(),
            None,
            blob,
            Some("what every store has to"),
        ),
        (Simulated::new(), transparent, blob, Some("keeps metadata")),
        (
            dressed.clone().that_folds(),
            transparent,
            blob,
            Some("keeps names apart"),
        ),
        (dressed.that_reads_any(), transparent, blob, Some("keeps names apart")),
        (plain, None, StoreLevel::CreateIfAbsent, Some("asks for level L1")),
        (fell, None, blob, Some("other gateways may rely on")),
        (
            noted("t2gate-store 1 transparent L2\n"),
            None,
            blob,
            Some("served in the layout"),
        ),
        (noted("t2gate-store 2 encoded L2\n"), None, blob, Some("later version")),
    ] {
        let options = || OpendalOptions {
            layout,
            least_level,
            ..store.options(None)
        };
        let kept = || {
            let names = store.names("").into_iter();
            names.filter(|name| !name.starts_with(".t2/probe/")).collect::<Vec<_>>()
        };
        let before = kept();
        let check = OpendalBackend::check(&options()).await.unwrap();
        assert_eq!(kept(), before);
        let opened = OpendalBackend::open(options()).await;
        let (checked, opened) = (
            check.refusal.map(|e| e.to_string()),
            opened.err().map(|e| e.to_string()),
        );
        assert_eq!(checked, opened, "{}", check.report);
        let said = checked.unwrap_or_default();
        assert!(
            said.contains(refusal.unwrap_or_default()) && said.is_empty() == refusal.is_none(),
            "{said}"
        );
    }
}

/// In the other layout every object would look like nobody's, and its data like litter.
#[tokio::test]
async fn a_store_is_not_opened_as_what_it_is_not() {
    let store = Simulated::new();
    let (s, _, _) = two(&store, None).await;
    put(&s, large(1)).await.unwrap();
    let note = store.get(".t2/store").unwrap();
    store.set(".t2/store", b"t2gate-store 1 transparent L2\n".to_vec());
    let before = store.names("");
    let refused = OpendalBackend::open(store.options(None)).await;
    assert!(matches!(
        refused,
        Err(OpendalOpenError::OtherLayout {
            noted: StoreLayout::Transparent,
            asked: StoreLayout::Encoded
        })
    ));
    store.set(".t2/store", b"t2gate-store 2 encoded L2\n".to_vec());
    let refused = OpendalBackend::open(store.options(None)).await;
    assert!(matches!(refused, Err(OpendalOpenError::UnknownFormat)));
    assert_eq!(store.names(""), before);
    store.set(".t2/store", note);
    opened(store.options(None)).await;
    assert_eq!(read(&s).await, large(1));
}
