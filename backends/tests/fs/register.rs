//! P4: conditional writes make of a key a register with compare-and-set. Many tasks write and read few keys, and the history
//! of what each began and ended must be one that a register could have.
//!
//! Every value is written once, so that nearly every step has one explanation and the search for an order is short.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use t2gate_backends::{BackendError, ETag, IfMatch, WriteCondition};

use crate::Tree;

/// What one call was, between two moments.
#[derive(Debug, Clone)]
struct Call {
    began: u64,
    ended: u64,
    did: Did,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Did {
    /// `None`: nothing was there.
    Read(Option<ETag>),
    /// If-Match with `from`, or If-None-Match: * where that is `None`. `to` is `None` for a delete.
    Swapped { from: Option<ETag>, to: Option<ETag> },
    /// The condition was refused.
    Refused { from: Option<ETag> },
}

const KEYS: [&str; 3] = ["a", "a/b", "c"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_conditional_writes_make_a_history_that_a_register_could_have() {
    let tree = Arc::new(Tree::new().await);
    let clock = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..12_u64)
        .map(|task| {
            let (tree, clock) = (Arc::clone(&tree), Arc::clone(&clock));
            tokio::spawn(async move {
                let mut calls: Vec<(usize, Call)> = Vec::new();
                let mut state = (task + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
                let mut seen: HashMap<usize, Option<ETag>> = HashMap::new();
                for n in 0..150 {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let key = usize::try_from((state >> 40) % 3).unwrap();
                    let from = seen.get(&key).cloned();
                    let began = clock.fetch_add(1, Ordering::SeqCst);
                    let did = match from {
                        Some(from) if (state >> 50) % 4 != 0 => {
                            let delete = from.is_some() && (state >> 20) % 5 == 0;
                            swap(&tree, KEYS[key], from, delete, format!("{task}-{n}")).await
                        }
                        _ => Did::Read(read(&tree, KEYS[key]).await),
                    };
                    let ended = clock.fetch_add(1, Ordering::SeqCst);
                    match &did {
                        Did::Read(found) => drop(seen.insert(key, found.clone())),
                        Did::Swapped { to, .. } => drop(seen.insert(key, to.clone())),
                        Did::Refused { .. } => drop(seen.remove(&key)),
                    }
                    calls.push((key, Call { began, ended, did }));
                }
                calls
            })
        })
        .collect();
    let mut histories: Vec<Vec<Call>> = vec![Vec::new(); KEYS.len()];
    for task in tasks {
        for (key, call) in task.await.unwrap() {
            histories[key].push(call);
        }
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

async fn read(tree: &Tree, key: &str) -> Option<ETag> {
    match tree.open(key).await {
        Ok(open) => Some(open.info.etag),
        Err(BackendError::NoSuchKey) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn swap(tree: &Tree, key: &str, from: Option<ETag>, delete: bool, value: String) -> Did {
    let condition = WriteCondition {
        if_match: from.clone().map(|etag| IfMatch::OneOf(vec![etag])),
        if_none_match: from.is_none(),
        keep_all: false,
    };
    let outcome = if delete {
        tree.delete_if(condition, key).await.map(|_| None)
    } else {
        tree.put_if(condition, key, value).await.map(|info| Some(info.etag))
    };
    match outcome {
        Ok(to) => Did::Swapped { from, to },
        Err(BackendError::PreconditionFailed | BackendError::NoSuchKey) => Did::Refused { from },
        Err(error) => panic!("{error}"),
    }
}

/// Whether a register could have this history: some order of the calls, each between its beginning and its end, in which
/// every read sees what was there, every swap finds what it names, and every refusal does not.
fn check(history: &[Call]) -> Result<(), String> {
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
                let window: Vec<usize> = (first..left.len()).filter(|&j| done[j]).collect();
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
