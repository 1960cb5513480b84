//! The memory backend keeps the contract.

use std::sync::Arc;

use t2gate_backends::{Backend, MemoryBackend, SystemClock, conformance_suite};

fn open() -> (Arc<dyn Backend>, ()) {
    (Arc::new(MemoryBackend::new(Arc::new(SystemClock))), ())
}

conformance_suite!(open);
