//! What `/readyz` says: whether requests should be sent here.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use t2gate_backends::{BackendError, Clock};
use tokio::{sync::watch, time::timeout};

use super::Store;
use crate::server::{Shutdown, Tls};

/// A backend that is not ready after so long is not. Less than the admin listener waits, so that it can be said which.
const STORE_READY_TIMEOUT: Duration = Duration::from_secs(4);

pub(super) struct Readiness {
    shutdown: Shutdown,
    tls: Arc<Tls>,
    stores: Vec<Asked>,
    clock: Arc<dyn Clock>,
}

impl Readiness {
    pub(super) fn new(shutdown: Shutdown, tls: Arc<Tls>, stores: Vec<Store>, clock: Arc<dyn Clock>) -> Self {
        let several = stores.len() > 1;
        let asked = stores.into_iter().map(|store| {
            let name = match several {
                true => format!("the storage {}", store.name),
                false => "the storage".to_owned(),
            };
            Asked::new(name, move || {
                let backend = store.backend.clone();
                Box::pin(async move { backend.ready().await })
            })
        });
        Self {
            shutdown,
            tls,
            stores: asked.collect(),
            clock,
        }
    }

    /// `Err`: why not, in words for an operator.
    pub(super) async fn judge(&self) -> Result<(), String> {
        if self.shutdown.is_requested() {
            return Err("draining".into());
        }
        if self.tls.expires() <= self.clock.now() {
            return Err("the certificate has expired".into());
        }
        let answers = join_all(self.stores.iter().map(Asked::answer)).await;
        let faults: Vec<String> = answers.into_iter().filter_map(Result::err).collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }
}

type Ready = Pin<Box<dyn Future<Output = Result<(), BackendError>> + Send>>;

/// What a store says of itself; nothing until it has said it.
type Answer = Option<Result<(), String>>;

/// One store. It is asked once at a time, however many want to know: to ask one that hangs costs a thread, or a
/// connection, that does not come back.
struct Asked {
    name: String,
    ready: Box<dyn Fn() -> Ready + Send + Sync>,
    under_way: Mutex<Option<watch::Receiver<Answer>>>,
}

impl Asked {
    fn new(name: String, ready: impl Fn() -> Ready + Send + Sync + 'static) -> Self {
        Self {
            name,
            ready: Box::new(ready),
            under_way: Mutex::new(None),
        }
    }

    async fn answer(&self) -> Result<(), String> {
        let mut asked = self.asked();
        match timeout(STORE_READY_TIMEOUT, asked.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => (*answer).clone().unwrap_or(Ok(())),
            Ok(Err(_panicked)) => Err(format!("{} could not be asked", self.name)),
            Err(_elapsed) => Err(format!("{} does not answer in time", self.name)),
        }
    }

    /// The question that is under way, or a new one.
    fn asked(&self) -> watch::Receiver<Answer> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has answered, or never will, has let go of his end.
        if let Some(asked) = &*under_way
            && asked.has_changed().is_ok()
        {
            return asked.clone();
        }
        let (said, answer) = watch::channel(None);
        let (ready, name) = ((self.ready)(), self.name.clone());
        tokio::spawn(async move {
            let answer = ready.await.map_err(|error| match error {
                error @ BackendError::ReadOnly => format!("{name}: {error}"),
                error => format!("{name} does not answer: {error}"),
            });
            said.send_replace(Some(answer));
        });
        *under_way = Some(answer.clone());
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// A store that says `ready` when it is asked for that time, and how often it has been.
    fn store(ready: impl Fn(usize) -> Ready + Send + Sync + 'static) -> (Asked, Arc<AtomicUsize>) {
        let times = Arc::new(AtomicUsize::new(0));
        let counted = times.clone();
        let asked = Asked::new("the storage".into(), move || {
            ready(counted.fetch_add(1, Ordering::SeqCst) + 1)
        });
        (asked, times)
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_asked_once_and_again_when_it_has_answered() {
        let (release, released) = watch::channel(false);
        let (store, times) = store(move |time| {
            let mut released = released.clone();
            Box::pin(async move {
                if time == 1 {
                    drop(released.wait_for(|released| *released).await);
                }
                Ok(())
            })
        });
        for _ in 0..20 {
            let both = futures::join!(store.answer(), store.answer());
            let said = Err("the storage does not answer in time".to_owned());
            assert_eq!(both, (said.clone(), said));
        }
        assert_eq!(times.load(Ordering::SeqCst), 1);
        // What it says of then is heard by whoever waits; the next one asks anew.
        let (heard, ()) = futures::join!(store.answer(), async {
            release.send_replace(true);
        });
        assert_eq!((heard, times.load(Ordering::SeqCst)), (Ok(()), 1));
        tokio::task::yield_now().await;
        assert_eq!(store.answer().await, Ok(()));
        assert_eq!(times.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn every_answer_is_told_in_its_own_words() {
        let (store, times) = store(|time| {
            Box::pin(async move {
                match time {
                    1 => Err(BackendError::ReadOnly),
                    2 => Err(BackendError::internal("broken", "a reason")),
                    3 => panic!("at once"),
                    4 => pending().await,
                    _ => Ok(()),
                }
            })
        });
        let said = |error| Err::<(), _>(format!("the storage: {error}"));
        assert_eq!(store.answer().await, said(BackendError::ReadOnly.to_string()));
        let second = store.answer().await.unwrap_err();
        assert!(second.starts_with("the storage does not answer: "), "{second}");
        assert_eq!(store.answer().await, Err("the storage could not be asked".into()));
        let fourth = store.answer().await;
        assert_eq!(fourth, Err("the storage does not answer in time".into()));
        assert_eq!(times.load(Ordering::SeqCst), 4);
    }
}
