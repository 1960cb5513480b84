//! Keys of all kinds, made at random: on a backend as in memory. `T2GATE_TEST_KEYS=N` tries N sets of them.

use std::sync::Arc;

use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use t2gate_backends::{Backend, ListObjects, MemoryBackend, ObjectBody, SystemClock, conformance::Subject};

const CASES: &str = "T2GATE_TEST_KEYS";
/// In bytes.
const LONGEST: usize = 1024;

/// What file systems, escapes of ours and careless programs take for something else.
const SEGMENTS: &[&str] = &[
    "",
    ".",
    "..",
    "...",
    ". ",
    " ",
    "a",
    "A",
    "a.",
    "a ",
    "a..",
    " a",
    "a:b",
    "a\\b",
    "con",
    "NUL.txt",
    "lost+found",
    "~",
    ".t2",
    ".T2",
    ".t2=",
    ".t2=.",
    ".t2=..",
    ".t2=a",
    ".t2==",
    ".t2!",
    ".t2!a",
    ".t2!.t2=3D",
    ".t2+a",
    ".t2~61",
    ".t2-61",
    ".t2#61",
    ".t2~",
    ".T2!A",
    "%2F",
    "%00",
    "%2e%2e",
    "*",
    "?",
    "<&>\"'",
    "\u{1}",
    "\n",
    "\r\n",
    "\t",
    "\u{7f}",
    "\u{85}",
    "\u{e9}",
    "e\u{301}",
    "\u{c5}",
    "\u{212b}",
    "\u{df}",
    "SS",
    "\u{130}",
    "\u{131}",
    "\u{17f}",
    "\u{200b}",
    "\u{202e}",
    "\u{feff}",
    "\u{fffd}",
    "\u{ffff}",
    "\u{10ffff}",
    "\u{1f600}",
];

fn segment() -> impl Strategy<Value = String> {
    let any = proptest::collection::vec(
        any::<char>().prop_filter("forbidden, or the end of a segment", |c| !matches!(c, '\0' | '/')),
        1..12,
    );
    let long = (
        select(&["x", "\u{f6}", "\u{20ac}", ".", " ", "="][..]),
        240_usize..LONGEST,
    );
    prop_oneof![
        6 => select(SEGMENTS).prop_map(str::to_owned),
        3 => any.prop_map(String::from_iter),
        2 => proptest::collection::vec(select(SEGMENTS), 2..5).prop_map(|pieces| pieces.concat()),
        1 => long.prop_map(|(with, len)| with.repeat(len / with.len())),
    ]
}

/// One in eight as long as can be.
fn key() -> impl Strategy<Value = String> {
    let segments = proptest::collection::vec(segment(), 1..6);
    (segments, 0_u8..8).prop_map(|(segments, filled)| {
        let mut key = segments.join("/");
        if filled == 0 {
            key.push('/');
            while key.len() < LONGEST {
                key.push('z');
            }
        }
        let end = (0..=LONGEST).rev().find(|end| key.is_char_boundary(*end));
        key.truncate(end.unwrap_or(0));
        if key.is_empty() { "/".to_owned() } else { key }
    })
}

/// Puts and deletes some on both, one after the other, and compares; shrinks what fails.
pub(crate) fn check<G>(mut open: impl FnMut() -> (Arc<dyn Backend>, G)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = Config {
        cases: std::env::var(CASES).map_or(48, |cases| cases.parse().expect("a number of cases")),
        failure_persistence: None,
        ..Config::default()
    };
    let (backend, _guard) = runtime.block_on(async { open() });
    let steps = proptest::collection::vec((key(), 0_u8..4), 1..12);
    let checked = TestRunner::new(config).run(&steps, |steps| {
        runtime.block_on(run(Arc::clone(&backend), &steps));
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}

async fn run(backend: Arc<dyn Backend>, steps: &[(String, u8)]) {
    let both = [
        Subject::new(backend).await,
        Subject::new(Arc::new(MemoryBackend::new(Arc::new(SystemClock)))).await,
    ];
    for (n, (key, what)) in steps.iter().enumerate() {
        let mut outcomes = Vec::new();
        for subject in &both {
            // Of those that are there already one goes at times.
            let outcome = match (*what, steps.get(n / 2)) {
                (0, Some((earlier, _))) => format!("{:?}", subject.delete(earlier).await.existed),
                _ => {
                    let body = ObjectBody::from_bytes(format!("{n}: {key}"));
                    let put = subject.put_body(key, body).await;
                    format!(
                        "{:?}",
                        put.map(|info| (info.etag, info.size))
                            .map_err(|error| error.to_string())
                    )
                }
            };
            outcomes.push(outcome);
        }
        assert_eq!(outcomes[0], outcomes[1], "{key:?}");
    }
    let [ours, memory] = &both;
    let keys = memory.all_keys().await;
    assert_eq!(ours.all_keys().await, keys);
    for key in &keys {
        assert_eq!(ours.get(key).await, memory.get(key).await, "{key:?}");
        assert_eq!(ours.info(key).await.key.as_str(), key);
        let under = |subject: &Subject| ListObjects {
            prefix: key.rsplit_once('/').map_or("", |(dir, _)| dir).into(),
            delimiter: Some("/".into()),
            ..subject.everything()
        };
        let [a, b] = [ours.names(under(ours)).await, memory.names(under(memory)).await];
        assert_eq!(a, b, "beside {key:?}");
        let after = |subject: &Subject| ListObjects {
            start_after: Some(key.as_str().into()),
            ..subject.everything()
        };
        let [a, b] = [ours.names(after(ours)).await, memory.names(after(memory)).await];
        assert_eq!(a, b, "after {key:?}");
    }
    for key in keys {
        assert!(ours.delete(&key).await.existed, "{key:?}");
        assert_eq!(ours.get(&key).await, None, "{key:?}");
    }
    assert!(ours.all_keys().await.is_empty());
    ours.delete_emptied_bucket().await;
}
