//! Which names a store keeps apart, and how it lists them.

use super::{Answer, Probe};
use crate::opendal::{
    StoreLayout,
    key::StoreDir,
    store::{Precondition, StoreError},
};

/// In byte order, which is not that of a tree.
const NAMES: [&str; 5] = ["order-", "order-a", "order/a", "order/b", "order0"];
/// Likewise; by UTF-16 the second would come first. The encoded layout has no such names.
const WIDE_NAMES: [&str; 2] = ["order\u{ff5e}", "order\u{1f980}"];

/// With what is written there: `a` in both cases, and `e` with its accent in one character and in two.
const NAMES_APART: [(&str, &str); 4] = [
    ("apart/a", "small"),
    ("apart/A", "large"),
    ("apart/\u{e9}", "composed"),
    ("apart/e\u{301}", "decomposed"),
];

impl Probe<'_> {
    pub(super) async fn keeps_apart(&self) -> Answer {
        for (name, bytes) in NAMES_APART {
            self.put(&self.key(name), bytes.as_bytes(), &Precondition::None).await?;
        }
        for (name, bytes) in NAMES_APART {
            if self.get(&self.key(name)).await?.as_deref() != Some(bytes.as_bytes()) {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    async fn names(&self, start_after: Option<&str>) -> Result<Vec<String>, StoreError> {
        let dir = StoreDir::probe(self.run);
        let start_after = start_after.map(|name| format!("{}{name}", dir.as_str()));
        let mut entries = self.store.list(&dir, "order", true, start_after.as_deref(), None);
        let mut names = Vec::new();
        while let Some(found) = entries.next().await? {
            if !found.name.ends_with('/') {
                names.push(found.name);
            }
        }
        Ok(names)
    }

    /// What is there to be listed, in order.
    fn written(&self) -> Vec<&'static str> {
        let wide = WIDE_NAMES
            .into_iter()
            .filter(|_| self.layout == StoreLayout::Transparent);
        NAMES.into_iter().chain(wide).collect()
    }

    pub(super) async fn lists(&self) -> Answer {
        let written = self.written();
        for name in &written {
            self.put(&self.key(name), b"x", &Precondition::None).await?;
        }
        let mut names = self.names(None).await?;
        names.sort();
        Ok(Some(names == written))
    }

    pub(super) async fn orders(&self) -> Answer {
        Ok(Some(self.names(None).await? == self.written()))
    }

    pub(super) async fn starts_after(&self) -> Answer {
        if !self.store.capability().list_with_start_after {
            return Ok(None);
        }
        let written = self.written();
        // Also where there is none of that name.
        let after_none = self.names(Some("order.")).await?;
        Ok(Some(
            after_none == written[2..] && self.names(Some(written[2])).await? == written[3..],
        ))
    }
}
