//! A backend that is watched keeps the contract as it would alone.

use std::{sync::Arc, time::Duration};

use t2gate_backends::{Backend, CallOutcome, MemoryBackend, Metered, Observer, SystemClock, conformance_suite};

#[derive(Debug)]
struct Nobody;

impl Observer for Nobody {
    fn observe(&self, _: &'static str, _: CallOutcome, _: Duration) {}
}

fn open() -> (Arc<dyn Backend>, ()) {
    let memory = Arc::new(MemoryBackend::new(Arc::new(SystemClock)));
    (Arc::new(Metered::new(memory, Arc::new(Nobody))), ())
}

conformance_suite!(open);
