//! What the probe finds of a store's tokens: what it shows, and what it takes.

use t2gate_backends::{OpendalBackend, ProbeOutcome, StoreLevel};

use super::simulated::{Copies, Simulated};

async fn outcome(store: &Simulated, question: &str) -> (ProbeOutcome, StoreLevel) {
    let report = OpendalBackend::open(store.options(None))
        .await
        .unwrap()
        .report()
        .clone();
    let mut lines = report.lines.iter();
    let line = lines.find(|line| line.question.starts_with(question));
    (line.expect(question).outcome.clone(), report.level)
}

/// What was read is stale behind an overwrite with equal bytes, if the store's tokens say that it is.
#[tokio::test]
async fn a_token_from_before_an_overwrite_with_equal_bytes_is_taken_as_the_store_shows_it() {
    use ProbeOutcome::{Failed, No, Unasked, Yes};
    const QUESTION: &str = "a token is of one write";
    let failed = |reason: &str| Failed(reason.to_owned());
    let (lower, whole) = (StoreLevel::CreateIfAbsent, StoreLevel::CompareAndSet);
    for (store, answer, level) in [
        (Simulated::new(), No, whole),
        (Simulated::new().with_tokens_of_writes(), Yes, whole),
        (
            Simulated::new().that_takes_tokens_it_no_longer_shows(),
            failed("the store contradicts itself: it takes a token that it no longer shows"),
            lower,
        ),
        (
            Simulated::new().that_refuses_tokens_it_shows(),
            failed("the store contradicts itself: it refuses the token that it shows"),
            lower,
        ),
        (Simulated::new().without_conditions(), Unasked, StoreLevel::Blobs),
    ] {
        assert_eq!(outcome(&store, QUESTION).await, (answer, level), "{store:?}");
    }
}

/// Heads are read, and replaced as what was read: a store whose reads do not tell would replace whatever is there.
#[tokio::test]
async fn a_store_that_shows_tokens_only_to_who_does_not_read_compares_nothing() {
    let store = Simulated::new().that_reads_without_tokens();
    let found = outcome(&store, "compare and set on write").await;
    assert_eq!(found, (ProbeOutcome::No, StoreLevel::CreateIfAbsent));
}

/// One that refuses all of them compares nothing.
#[tokio::test]
async fn a_conditional_copy_is_asked_for_with_a_stale_token_and_with_a_good_one() {
    const QUESTION: &str = "compare and set on copy";
    let copying = |copies| Simulated::new().that_copies(copies);
    let refused = ProbeOutcome::Failed("refused where it has to be taken".to_owned());
    for (store, answer) in [
        (Simulated::new(), ProbeOutcome::Unasked),
        (copying(Copies::Judged), ProbeOutcome::Yes),
        (copying(Copies::AllTaken), ProbeOutcome::No),
        (copying(Copies::AllRefused), refused),
    ] {
        assert_eq!(outcome(&store, QUESTION).await.0, answer, "{store:?}");
    }
}
