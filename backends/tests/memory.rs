//! The memory backend keeps the contract, and under the versioning overlay that too.

use std::sync::Arc;

use t2gate_backends::{Backend, MemoryBackend, SystemClock, Versioned, conformance_suite, versions_suite};

fn open() -> (Arc<dyn Backend>, ()) {
    (Arc::new(MemoryBackend::new(Arc::new(SystemClock))), ())
}

conformance_suite!(open);

mod overlay {
    use super::*;

    fn open() -> (Arc<dyn Backend>, ()) {
        let memory = MemoryBackend::new(Arc::new(SystemClock));
        let versioned = Versioned::new(memory, Arc::new(SystemClock));
        (Arc::new(versioned.expect("memory keeps what is displaced")), ())
    }

    versions_suite!(open);
}
