//! Writers beside whom others read.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::task::JoinHandle;

/// Four at once, who go on until they are told to end.
pub(super) struct Writers {
    done: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What one of them is to write: four digits, ever others.
pub(super) struct Bodies {
    next: usize,
    done: Arc<AtomicBool>,
}

impl Writers {
    pub(super) fn start<W: Future<Output = ()> + Send + 'static>(writer: impl Fn(Bodies) -> W) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let bodies = |next| Bodies {
            next,
            done: Arc::clone(&done),
        };
        let tasks = (0..4).map(|next| tokio::spawn(writer(bodies(next)))).collect();
        Self { done, tasks }
    }

    pub(super) async fn end(self) {
        self.done.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

impl Iterator for Bodies {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let body = format!("{:04}", self.next % 10_000);
        self.next += 7;
        (!self.done.load(Ordering::Relaxed)).then_some(body)
    }
}
