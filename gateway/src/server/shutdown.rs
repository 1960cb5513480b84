//! The word to stop, from a signal or from a test, to everything that runs.

use std::{io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Tells whether it is time to stop. Clones hear the same word.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// Gives the word. Dropped without having given it, it has given it.
#[derive(Debug, Clone)]
pub struct ShutdownTrigger(Arc<watch::Sender<bool>>);

impl Shutdown {
    pub fn new() -> (ShutdownTrigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownTrigger(Arc::new(sender)), Self(receiver))
    }

    /// Whether the word has been given.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when the word is given; at once if it has been. Can be dropped and asked again.
    pub async fn requested(&mut self) {
        // An error means that the trigger is gone: nobody is left who wants this to run.
        drop(self.0.wait_for(|&requested| requested).await);
    }
}

impl ShutdownTrigger {
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }
}

/// Gives the word at the first SIGTERM or SIGINT. A second one ends the process at once, for whoever cannot wait.
///
/// # Errors
/// The signals cannot be listened for.
pub fn signals(trigger: ShutdownTrigger) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for second in [false, true] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if second {
                tracing::warn!(signal = name, "stopping at once");
                std::process::exit(130);
            }
            tracing::info!(signal = name, "stopping: finishing what runs");
            trigger.trigger();
        }
    });
    Ok(())
}
