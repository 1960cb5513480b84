//! The same over a store whose tokens are versions of its objects, and which composes: what fails there, versions in
//! the encoded layout, and the contract in both.

#[path = "failures.rs"]
mod failures;
#[path = "versions.rs"]
mod versions;

mod composed;

use std::sync::Arc;

use t2gate_backends::{Backend, OpendalOptions, StoreLayout, StoreLevel, conformance_suite};

use super::open_store;

mod simulated {
    pub(super) use crate::simulated::{Call, Copies, Hook};

    pub(super) type Simulated = crate::simulated::SimulatedBy<true>;
}

fn over(layout: StoreLayout) -> Arc<dyn Backend> {
    let store = open_store(OpendalOptions {
        layout: Some(layout),
        ..simulated::Simulated::new().dressed().options(None)
    });
    assert_eq!(store.report().level, StoreLevel::CompareAndSet, "{}", store.report());
    Arc::new(store)
}

fn open() -> (Arc<dyn Backend>, ()) {
    (over(StoreLayout::Transparent), ())
}

conformance_suite!(open);

mod encoded {
    use super::*;

    fn open() -> (Arc<dyn Backend>, ()) {
        (over(StoreLayout::Encoded), ())
    }

    conformance_suite!(open);
}
