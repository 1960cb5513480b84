//! The checker accepts what can have happened and nothing else.

use super::*;
use crate::VersionId;

fn id(n: u32) -> VersionId {
    VersionId::parse(format!("{n:032x}")).unwrap()
}

fn content(n: u64) -> Content {
    Content {
        etag: format!("tag{n}").into(),
        size: n,
    }
}

fn call(times: (u64, u64), op: Op, reply: Reply) -> Call {
    Call {
        client: 0,
        invoked: times.0,
        returned: Some((times.1, reply)),
        op,
    }
}

fn lost(invoked: u64, op: Op) -> Call {
    Call {
        client: 9,
        invoked,
        returned: None,
        op,
    }
}

fn put(times: (u64, u64), n: u32) -> Call {
    call(times, Op::Put(content(n.into())), Reply::Written(id(n)))
}

fn get(times: (u64, u64), n: u32) -> Call {
    call(times, Op::Get, Reply::Object(id(n), content(n.into())))
}

fn get_version(times: (u64, u64), n: u32) -> Call {
    call(times, Op::GetVersion(id(n)), Reply::Object(id(n), content(n.into())))
}

/// Markers by negative numbers.
fn list(times: (u64, u64), versions: &[i32]) -> Call {
    let listed = versions.iter().enumerate().map(|(at, n)| Listed {
        version_id: id(n.unsigned_abs()),
        content: (*n > 0).then(|| content(n.unsigned_abs().into())),
        is_latest: at == 0,
    });
    call(times, Op::List, Reply::Versions(listed.collect()))
}

fn accepts(calls: &[Call]) {
    check(calls).unwrap();
}

fn rejects(calls: &[Call]) {
    match check(calls) {
        Ok(()) => panic!("accepted"),
        Err(violation) => assert!(!violation.undecided && !violation.stuck.is_empty(), "{violation:?}"),
    }
}

#[test]
fn one_after_the_other() {
    accepts(&[]);
    accepts(&[
        call((0, 1), Op::Get, Reply::NotFound),
        call((1, 2), Op::Delete, Reply::NotFound),
        put((2, 3), 1),
        put((4, 5), 2),
        get((6, 7), 2),
        get_version((6, 7), 1),
        call((8, 9), Op::Delete, Reply::Marked(id(3))),
        call((10, 11), Op::Get, Reply::DeleteMarker(id(3))),
        list((12, 13), &[-3, 2, 1]),
        call(
            (14, 15),
            Op::DeleteVersion(id(3)),
            Reply::VersionDeleted { was_marker: true },
        ),
        get((16, 17), 2),
        call(
            (18, 19),
            Op::PutIfMatch(content(4), "tag2".into()),
            Reply::Written(id(4)),
        ),
        call(
            (20, 21),
            Op::PutIfMatch(content(5), "tag2".into()),
            Reply::PreconditionFailed,
        ),
        call((22, 23), Op::PutIfAbsent(content(5)), Reply::PreconditionFailed),
        list((24, 25), &[4, 2, 1]),
    ]);
}

#[test]
fn concurrent_calls_may_come_in_any_order() {
    // Two writers at once, and readers who see either.
    accepts(&[
        put((0, 10), 1),
        put((0, 10), 2),
        get((1, 2), 1),
        get((3, 4), 2),
        list((11, 12), &[2, 1]),
    ]);
    accepts(&[put((0, 10), 1), call((0, 9), Op::Get, Reply::NotFound), get((5, 8), 1)]);
    // A delete by id and a read of that version.
    let delete = call(
        (5, 10),
        Op::DeleteVersion(id(1)),
        Reply::VersionDeleted { was_marker: false },
    );
    let gone = call((6, 7), Op::GetVersion(id(1)), Reply::NotFound);
    accepts(&[put((0, 1), 1), delete.clone(), get_version((5, 6), 1), gone.clone()]);
    rejects(&[put((0, 1), 1), delete, gone, get_version((8, 9), 1)]);
}

#[test]
fn a_lost_call_happens_at_any_time_or_never() {
    let write = lost(0, Op::Put(content(7)));
    let seen = call((20, 21), Op::Get, Reply::Object(id(7), content(7)));
    accepts(&[write.clone(), put((1, 2), 1), get((3, 4), 1)]);
    accepts(&[write.clone(), put((1, 2), 1), get((3, 4), 1), seen.clone()]);
    rejects(&[write.clone(), seen.clone(), call((22, 23), Op::Get, Reply::NotFound)]);
    // Not before it began.
    rejects(&[lost(30, Op::Put(content(7))), seen]);
    accepts(&[
        put((0, 1), 1),
        lost(2, Op::Delete),
        list((3, 4), &[1]),
        list((5, 6), &[-9, 1]),
    ]);
}

#[test]
fn a_version_that_is_missing() {
    rejects(&[put((0, 1), 1), put((2, 3), 2), list((4, 5), &[2])]);
    rejects(&[put((0, 1), 1), call((2, 3), Op::GetVersion(id(1)), Reply::NotFound)]);
    rejects(&[put((0, 1), 1), put((0, 1), 2), list((2, 3), &[2])]);
}

#[test]
fn a_version_listed_twice_or_out_of_order() {
    rejects(&[put((0, 1), 1), list((2, 3), &[1, 1])]);
    rejects(&[put((0, 1), 1), put((2, 3), 2), list((4, 5), &[1, 2])]);
    rejects(&[put((0, 1), 2), put((2, 3), 1)]);
}

#[test]
fn two_latest_or_none() {
    for flags in [[true, true], [false, false], [false, true]] {
        let mut listing = list((4, 5), &[2, 1]);
        if let Some((_, Reply::Versions(listed))) = &mut listing.returned {
            for (version, flag) in listed.iter_mut().zip(flags) {
                version.is_latest = flag;
            }
        }
        rejects(&[put((0, 1), 1), put((2, 3), 2), listing]);
    }
}

#[test]
fn a_stale_read() {
    rejects(&[put((0, 1), 1), put((2, 3), 2), get((4, 5), 1)]);
    rejects(&[put((0, 1), 1), call((2, 3), Op::Get, Reply::NotFound)]);
    let delete = call((2, 3), Op::Delete, Reply::Marked(id(2)));
    rejects(&[put((0, 1), 1), delete, get((4, 5), 1)]);
}

#[test]
fn readers_who_disagree_on_the_order() {
    rejects(&[put((0, 10), 1), put((0, 10), 2), get((1, 2), 2), get((3, 4), 1)]);
    // A listing shows the delete, a later read does not.
    let delete = call((2, 20), Op::Delete, Reply::Marked(id(2)));
    rejects(&[put((0, 1), 1), delete, list((3, 4), &[-2, 1]), get((5, 6), 1)]);
}

#[test]
fn a_version_that_comes_back() {
    let delete = call(
        (2, 3),
        Op::DeleteVersion(id(1)),
        Reply::VersionDeleted { was_marker: false },
    );
    rejects(&[put((0, 1), 1), delete.clone(), get_version((4, 5), 1)]);
    rejects(&[put((0, 1), 1), delete.clone(), list((4, 5), &[1])]);
    rejects(&[
        put((0, 1), 1),
        delete.clone(),
        call((4, 5), delete.op.clone(), delete.returned.unwrap().1),
    ]);
}

#[test]
fn bytes_of_another_version() {
    rejects(&[put((0, 1), 1), call((2, 3), Op::Get, Reply::Object(id(1), content(2)))]);
    let wrong = call((4, 5), Op::GetVersion(id(1)), Reply::Object(id(1), content(2)));
    rejects(&[put((0, 1), 1), put((2, 3), 2), wrong]);
    let other = call((4, 5), Op::GetVersion(id(1)), Reply::Object(id(2), content(2)));
    rejects(&[put((0, 1), 1), put((2, 3), 2), other]);
}

#[test]
fn a_marker_that_never_was() {
    rejects(&[put((0, 1), 1), call((2, 3), Op::Get, Reply::DeleteMarker(id(5)))]);
    rejects(&[put((0, 1), 1), list((2, 3), &[-5, 1])]);
    rejects(&[call((0, 1), Op::Delete, Reply::Marked(id(5)))]);
    let was_marker = Reply::VersionDeleted { was_marker: true };
    rejects(&[put((0, 1), 1), call((2, 3), Op::DeleteVersion(id(1)), was_marker)]);
}

#[test]
fn two_winners() {
    let create = |n: u32| call((0, 10), Op::PutIfAbsent(content(n.into())), Reply::Written(id(n)));
    rejects(&[create(1), create(2)]);
    let swap = |n: u32| {
        call(
            (5, 10),
            Op::PutIfMatch(content(n.into()), "tag1".into()),
            Reply::Written(id(n)),
        )
    };
    rejects(&[put((0, 1), 1), swap(2), swap(3)]);
    accepts(&[put((0, 1), 1), swap(2), put((5, 10), 3)]);
}

#[test]
fn a_long_history_is_decided() {
    let mut calls = Vec::new();
    let mut time = 0;
    // Four writers at once, again and again; the listing tells in which order they came.
    let mut versions: Vec<i32> = Vec::new();
    for round in 0..150_u32 {
        for n in 1..=4 {
            let n = round * 4 + n;
            calls.push(put((time, time + 10), n));
            versions.insert(0, n.cast_signed());
        }
        calls.push(list((time + 11, time + 12), &versions));
        time += 20;
    }
    accepts(&calls);
    versions.swap(0, 1);
    calls.push(list((time, time + 1), &versions));
    rejects(&calls);
}

#[test]
fn what_is_not_decided_is_no_pass() {
    let calls: Vec<_> = (1..=20).map(|n| put((0, 10), n)).chain([get((11, 12), 99)]).collect();
    match Search::new(&calls).run(10) {
        Err(violation) => assert!(violation.undecided && format!("{violation:?}").starts_with("not decided")),
        Ok(()) => panic!("accepted"),
    }
}
