//! P4: conditional writes make of a key a register with compare-and-set. Many tasks write and read few keys, and the history
//! of what each began and ended must be one that a register could have. Those of several processes too
//! (`shared/processes.rs`).
//!
//! Every value is written once, so that nearly every step has one explanation and the search for an order is short.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use t2gate_backends::{
    BackendError, BodySummary, ChecksumAlgorithm, ETag, IfMatch, WriteCondition, conformance::Subject,
};

use crate::Tree;

/// What one call was, between two moments.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) did: Did,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Did {
    /// `None`: nothing was there.
    Read(Option<ETag>),
    /// If-Match with `from`, or If-None-Match: * where that is `None`. `to` is `None` for a delete.
    Swapped { from: Option<ETag>, to: Option<ETag> },
    /// The condition was refused.
    Refused { from: Option<ETag> },
    /// Without a condition.
    Put { to: ETag },
    /// Without a condition. Whether there was anything.
    Deleted { existed: bool },
}

pub(crate) const KEYS: [&str; 3] = ["a", "a/b", "c"];

/// Makes so many calls, of all kinds, one after the other; `name` and the number of the call make what is written unique.
pub(crate) async fn play(
    subject: &Subject,
    name: &str,
    seed: u64,
    count: u64,
    now: impl Fn() -> u64,
) -> Vec<(usize, Call)> {
    let mut calls: Vec<(usize, Call)> = Vec::new();
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut seen: HashMap<usize, Option<ETag>> = HashMap::new();
    for n in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let key = usize::try_from((state >> 40) % 3).unwrap();
        let value = format!("{name}-{n}");
        let began = now();
        let did = match ((state >> 50) % 16, seen.get(&key).cloned()) {
            (0, _) => Did::Put {
                to: subject.put(KEYS[key], value).await.etag,
            },
            (1, _) => Did::Deleted {
                existed: subject.delete(KEYS[key]).await.existed,
            },
            (kind, Some(from)) if kind % 4 != 0 => {
                let delete = from.is_some() && (state >> 20).is_multiple_of(5);
                swap(subject, KEYS[key], from, delete, value).await
            }
            (kind, _) => Did::Read(read(subject, KEYS[key], kind % 8 == 0).await),
        };
        let ended = now();
        match &did {
            Did::Read(found) => drop(seen.insert(key, found.clone())),
            Did::Swapped { to, .. } => drop(seen.insert(key, to.clone())),
            Did::Put { to } => drop(seen.insert(key, Some(to.clone()))),
            Did::Deleted { .. } => drop(seen.insert(key, None)),
            Did::Refused { .. } => drop(seen.remove(&key)),
        }
        calls.push((key, Call { began, ended, did }));
    }
    calls
}

/// Asserts that there was a race, and that registers could have had it.
pub(crate) fn judge(calls: impl IntoIterator<Item = (usize, Call)>) {
    let mut histories: Vec<Vec<Call>> = vec![Vec::new(); KEYS.len()];
    for (key, call) in calls {
        histories[key].push(call);
    }
    for history in histories {
        let won = history
            .iter()
            .filter(|call| matches!(call.did, Did::Swapped { .. }))
            .count();
        let lost = history
            .iter()
            .filter(|call| matches!(call.did, Did::Refused { .. }))
            .count();
        assert!(won > 20 && lost > 5, "no race: {won} won, {lost} lost");
        check(&history).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_conditional_writes_make_a_history_that_a_register_could_have() {
    let tree = Arc::new(Tree::new().await);
    let clock = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..12_u64)
        .map(|task| {
            let (tree, clock) = (Arc::clone(&tree), Arc::clone(&clock));
            tokio::spawn(async move {
                let now = || clock.fetch_add(1, Ordering::SeqCst);
                play(&tree, &task.to_string(), task, 150, now).await
            })
        })
        .collect();
    let mut calls = Vec::new();
    for task in tasks {
        calls.extend(task.await.unwrap());
    }
    judge(calls);
}

/// With or without its bytes.
async fn read(subject: &Subject, key: &str, whole: bool) -> Option<ETag> {
    if whole {
        let bytes = subject.get(key).await?;
        return Some(ETag::from_md5(
            BodySummary::of(&bytes, ChecksumAlgorithm::Crc64Nvme).md5,
        ));
    }
    match subject.open(key).await {
        Ok(open) => Some(open.info.etag),
        Err(BackendError::NoSuchKey) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn swap(subject: &Subject, key: &str, from: Option<ETag>, delete: bool, value: String) -> Did {
    let condition = WriteCondition {
        if_match: from.clone().map(|etag| IfMatch::OneOf(vec![etag])),
        if_none_match: from.is_none(),
        keep_all: false,
    };
    let outcome = if delete {
        subject.delete_if(condition, key).await.map(|_| None)
    } else {
        subject.put_if(condition, key, value).await.map(|info| Some(info.etag))
    };
    match outcome {
        Ok(to) => Did::Swapped { from, to },
        Err(BackendError::PreconditionFailed | BackendError::NoSuchKey) => Did::Refused { from },
        Err(error) => panic!("{error}"),
    }
}

/// Whether a register could have this history: some order of the calls, each between its beginning and its end, in which
/// every read sees what was there, every swap finds what it names, and every refusal does not.
pub(crate) fn check(history: &[Call]) -> Result<(), String> {
    let mut left: Vec<&Call> = history.iter().collect();
    left.sort_by_key(|call| call.began);
    // Depth first; what cannot be is not tried twice.
    let mut dead = std::collections::HashSet::new();
    let mut done = vec![false; left.len()];
    let mut path: Vec<(usize, Option<ETag>)> = Vec::new();
    let mut current: Option<ETag> = None;
    let mut next = 0;
    loop {
        if path.len() == left.len() {
            return Ok(());
        }
        let first = done.iter().position(|done| !done).unwrap_or(0);
        // No call can come before one that ended before it began.
        let bound = (first..left.len())
            .filter(|&i| !done[i])
            .map(|i| left[i].ended)
            .min()
            .unwrap_or(0);
        let step = (next.max(first)..left.len())
            .take_while(|&i| left[i].began <= bound)
            .filter(|&i| !done[i])
            .find_map(|i| Some((i, after(&current, &left[i].did)?)));
        match step {
            Some((i, then)) => {
                done[i] = true;
                let window: Vec<usize> = (first..left.len())
                    .take_while(|&j| left[j].began <= bound)
                    .filter(|&j| done[j])
                    .collect();
                if dead.insert((first, window, then.clone())) {
                    path.push((i, std::mem::replace(&mut current, then)));
                    next = 0;
                } else {
                    done[i] = false;
                    next = i + 1;
                }
            }
            None => {
                let Some((i, before)) = path.pop() else {
                    return Err(format!("no order explains these {} calls", left.len()));
                };
                done[i] = false;
                current = before;
                next = i + 1;
            }
        }
    }
}

/// What is there after the call; `None` if it could not have happened.
fn after(current: &Option<ETag>, did: &Did) -> Option<Option<ETag>> {
    match did {
        Did::Read(found) => (found == current).then(|| current.clone()),
        Did::Swapped { from, to } => (from == current).then(|| to.clone()),
        Did::Refused { from } => (from != current).then(|| current.clone()),
        Did::Put { to } => Some(Some(to.clone())),
        Did::Deleted { existed } => (*existed == current.is_some()).then_some(None),
    }
}

#[test]
fn a_history_that_no_register_has_is_refused() {
    let tag = |n: u8| Some(ETag::from_md5([n; 16]));
    let call = |began, ended, did| Call { began, ended, did };
    let swapped = |from, to| Did::Swapped { from, to };
    // Two winners of one comparison.
    let two = [
        call(0, 1, swapped(None, tag(1))),
        call(2, 5, swapped(tag(1), tag(2))),
        call(3, 4, swapped(tag(1), tag(3))),
    ];
    assert!(check(&two).is_err());
    assert!(check(&two[..2]).is_ok());
    // A read of what had been replaced before it began.
    let stale = [
        call(0, 1, swapped(None, tag(1))),
        call(2, 3, swapped(tag(1), tag(2))),
        call(4, 5, Did::Read(tag(1))),
    ];
    assert!(check(&stale).is_err());
    // The same, while it was being replaced; and a refusal, in any order.
    let racing = [
        call(0, 1, swapped(None, tag(1))),
        call(2, 9, swapped(tag(1), tag(2))),
        call(4, 5, Did::Read(tag(1))),
        call(3, 8, Did::Refused { from: tag(1) }),
        call(6, 10, swapped(tag(2), None)),
        call(7, 11, Did::Read(None)),
    ];
    assert!(check(&racing).is_ok());
    // Refused, though it was there all the time.
    assert!(check(&[racing[0].clone(), call(2, 3, Did::Refused { from: tag(1) })]).is_err());
}
