//! The steps of a history: few keys and small bodies, so that steps meet.

use proptest::{collection::vec, prelude::*, sample::select};

/// Keys that stand in each other's way.
pub(crate) const KEYS: [&str; 20] = [
    "a",
    "a/",
    "a/b",
    "a//b",
    "a/b/c",
    "a-",
    "a.b",
    "A",
    "A/b",
    "a/B",
    "A/B/C",
    "..",
    "a/../b",
    ".t2=x",
    ".T2=X",
    "\u{e9}",
    "e\u{301}",
    "E\u{301}/a",
    " ",
    "a ",
];

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Put {
        key: &'static str,
        body: Body,
        condition: Condition,
    },
    /// A body that fails after so many of its bytes.
    PutFailing {
        key: &'static str,
        body: Body,
        at: usize,
    },
    Delete {
        key: &'static str,
        condition: Condition,
    },
    Copy {
        from: &'static str,
        to: &'static str,
        stale: bool,
        condition: Condition,
    },
    Read {
        key: &'static str,
        start: u64,
        len: u64,
    },
    List {
        prefix: &'static str,
        delimiter: Option<&'static str>,
        start_after: Option<&'static str>,
        max_keys: usize,
    },
    CreateUpload {
        key: &'static str,
    },
    /// Uploads are named by the order of their creation, modulo how many there are.
    Part {
        upload: usize,
        number: u16,
        body: Body,
    },
    /// Names the parts that are there but for those that `leave_out` has a bit for.
    Complete {
        upload: usize,
        leave_out: u8,
        fault: Fault,
        condition: Condition,
    },
    Abort {
        upload: usize,
    },
    ListUploads {
        prefix: &'static str,
        delimiter: Option<&'static str>,
        max_uploads: usize,
    },
}

/// What is wrong with a CompleteMultipartUpload.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    None,
    /// The parts are named backwards.
    Order,
    /// The first part has another ETag.
    ETag,
    /// A part is named that was never uploaded.
    Absent,
    /// The whole is said to be one byte longer than it is.
    Size,
    /// Parts need to have 12 bytes.
    MinPartSize,
}

/// A condition, to be made of what is there when its step comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Condition {
    None,
    Absent,
    Present,
    MatchCurrent,
    MatchOther,
}

/// `len` bytes that `seed` tells from others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body {
    pub(crate) seed: u8,
    pub(crate) len: usize,
}

impl Body {
    pub(crate) fn bytes(self) -> Vec<u8> {
        (0..self.len).map(|i| self.seed.wrapping_add(i as u8)).collect()
    }
}

pub(crate) fn history() -> impl Strategy<Value = Vec<Op>> {
    vec(op(), 1..40)
}

fn key() -> impl Strategy<Value = &'static str> {
    select(&KEYS[..])
}

fn body() -> impl Strategy<Value = Body> {
    (any::<u8>(), 0..40_usize).prop_map(|(seed, len)| Body { seed, len })
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        6 => Just(Condition::None),
        1 => Just(Condition::Absent),
        1 => Just(Condition::Present),
        1 => Just(Condition::MatchCurrent),
        1 => Just(Condition::MatchOther),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::Order),
        1 => Just(Fault::ETag),
        1 => Just(Fault::Absent),
        1 => Just(Fault::Size),
        1 => Just(Fault::MinPartSize),
    ]
}

fn prefix() -> impl Strategy<Value = &'static str> {
    select(&["", "", "", "a", "a/", "a/b", "a//", ".", "..", "z"][..])
}

fn delimiter() -> impl Strategy<Value = Option<&'static str>> {
    select(&[None, Some("/"), Some("/"), Some("//"), Some("/b"), Some("."), Some("b")][..])
}

fn start_after() -> impl Strategy<Value = Option<&'static str>> {
    select(
        &[
            None,
            None,
            Some(""),
            Some("a"),
            Some("a/"),
            Some("a//"),
            Some("a/."),
            Some("a/b"),
            Some("a/b/"),
            Some("e"),
        ][..],
    )
}

fn op() -> impl Strategy<Value = Op> {
    let upload = || 0..4_usize;
    prop_oneof![
        6 => (key(), body(), condition()).prop_map(|(key, body, condition)| Op::Put { key, body, condition }),
        1 => (key(), body(), 0..41_usize).prop_map(|(key, body, at)| Op::PutFailing { key, body, at }),
        4 => (key(), condition()).prop_map(|(key, condition)| Op::Delete { key, condition }),
        3 => (key(), key(), prop::bool::weighted(0.1), condition())
            .prop_map(|(from, to, stale, condition)| Op::Copy { from, to, stale, condition }),
        1 => (key(), 0..50_u64, 0..50_u64).prop_map(|(key, start, len)| Op::Read { key, start, len }),
        4 => (prefix(), delimiter(), start_after(), 0..8_usize)
            .prop_map(|(prefix, delimiter, start_after, max_keys)| Op::List { prefix, delimiter, start_after, max_keys }),
        2 => key().prop_map(|key| Op::CreateUpload { key }),
        4 => (upload(), 1..5_u16, body()).prop_map(|(upload, number, body)| Op::Part { upload, number, body }),
        3 => (upload(), select(&[0_u8, 0, 0, 1, 2, 5][..]), fault(), condition())
            .prop_map(|(upload, leave_out, fault, condition)| Op::Complete { upload, leave_out, fault, condition }),
        1 => upload().prop_map(|upload| Op::Abort { upload }),
        1 => (prefix(), delimiter(), 0..5_usize)
            .prop_map(|(prefix, delimiter, max_uploads)| Op::ListUploads { prefix, delimiter, max_uploads }),
    ]
}
