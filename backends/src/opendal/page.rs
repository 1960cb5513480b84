//! Pages of listings: the rules of prefix, delimiter and marker, and the first entries of any order in bounded memory.

use std::collections::BTreeMap;

/// The first `max` entries of a listing and one more, to tell whether that is all. What is offered may come in any
/// order; so many entries are held as the page has, and `slack`.
#[derive(Debug)]
pub(super) struct Page<'r, K, T> {
    rules: Rules<'r>,
    room: usize,
    /// By what entries are ordered by; common prefixes by their name.
    entries: BTreeMap<(String, K), Option<T>>,
}

/// What the request says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'r> {
    pub(super) prefix: &'r str,
    pub(super) delimiter: Option<&'r str>,
    pub(super) max: usize,
}

/// An entry of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<T> {
    Item(String, T),
    CommonPrefix(String),
}

impl Rules<'_> {
    /// The common prefix that `key` is rolled up into.
    pub(super) fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter?;
        let at = key.get(self.prefix.len()..)?.find(delimiter)?;
        key.get(..self.prefix.len() + at + delimiter.len())
    }

    /// What a key, or a text that is less than some, is told by: the order of keys is that of their names.
    pub(super) fn name<'k>(&self, key: &'k str) -> &'k str {
        let wanted = Some(key).filter(|key| key.starts_with(self.prefix));
        wanted.and_then(|key| self.common_prefix(key)).unwrap_or(key)
    }

    /// Whether `marker` is a common prefix, and stands for all that is rolled up into it.
    pub(super) fn is_rolled_up(&self, marker: &str) -> bool {
        marker.starts_with(self.prefix) && self.common_prefix(marker) == Some(marker)
    }

    /// Whether `key` comes after `marker`; what a marker that is a common prefix stands for does not.
    pub(super) fn is_after(&self, key: &str, marker: Option<&str>) -> bool {
        let Some(marker) = marker else { return true };
        key > marker && !(self.is_rolled_up(marker) && key.starts_with(marker))
    }

    /// Whether no key that begins with the prefix comes after `key`, whatever keys there are.
    pub(super) fn is_past(&self, key: &str) -> bool {
        key > self.prefix && !key.starts_with(self.prefix)
    }
}

/// Whether `name`, as a listing gives it, is no directory's, begins with `prefix` and comes after `marker`.
pub(super) fn is_key_after(name: &str, prefix: &str, marker: Option<&str>) -> bool {
    !name.ends_with('/') && name.starts_with(prefix) && marker.is_none_or(|marker| name > marker)
}

impl<'r, K: Ord + Default, T> Page<'r, K, T> {
    pub(super) fn new(rules: Rules<'r>, slack: usize) -> Self {
        Self {
            rules,
            room: rules.max.saturating_add(1).saturating_add(slack),
            entries: BTreeMap::new(),
        }
    }

    /// An item that comes after the marker. `order` is for items of one key.
    pub(super) fn offer(&mut self, key: &str, order: K, item: T) {
        if !key.starts_with(self.rules.prefix) {
            return;
        }
        match self.rules.common_prefix(key) {
            Some(prefix) => self.insert(prefix.to_owned(), K::default(), None),
            None => self.insert(key.to_owned(), order, Some(item)),
        }
    }

    /// A common prefix that the store tells of.
    pub(super) fn offer_prefix(&mut self, prefix: &str) {
        if prefix.starts_with(self.rules.prefix) && self.rules.common_prefix(prefix) == Some(prefix) {
            self.insert(prefix.to_owned(), K::default(), None);
        }
    }

    fn insert(&mut self, name: String, order: K, item: Option<T>) {
        let place = (name, order);
        if self.is_full() && self.entries.last_key_value().is_some_and(|(last, _)| place >= *last) {
            return;
        }
        self.entries.insert(place, item);
        if self.entries.len() > self.room {
            self.entries.pop_last();
        }
    }

    /// So much is held that nothing which comes later in the order of the store could matter.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.room
    }

    /// The last name on the page, if that is full.
    pub(super) fn greatest(&self) -> Option<&str> {
        let last = self.entries.last_key_value().filter(|_| self.is_full());
        last.map(|((name, _), _)| name.as_str())
    }

    /// The page, and whether more follows it.
    pub(super) fn finish(self) -> (Vec<Entry<T>>, bool) {
        let max = self.rules.max;
        let is_truncated = max > 0 && self.entries.len() > max;
        let entries = self.entries.into_iter().take(max);
        let entries = entries.map(|((name, _), item)| match item {
            Some(item) => Entry::Item(name, item),
            None => Entry::CommonPrefix(name),
        });
        (entries.collect(), is_truncated)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn order_makes_no_difference(
            mut keys in proptest::collection::btree_set("[ab/]{1,4}", 0..40)
                .prop_map(|keys| keys.into_iter().collect::<Vec<_>>())
                .prop_shuffle(),
            prefix in "[ab/]{0,2}",
            delimited: bool,
            max in 0_usize..6,
        ) {
            let rules = Rules { prefix: &prefix, delimiter: delimited.then_some("/"), max };
            let page = |keys: &[String]| {
                let mut page = Page::<(), ()>::new(rules, 0);
                for key in keys {
                    page.offer(key, (), ());
                    prop_assert!(page.entries.len() <= max + 1);
                }
                Ok(page.finish())
            };
            let shuffled = page(&keys)?;
            keys.sort();
            prop_assert_eq!(&shuffled, &page(&keys)?);
            let mut names: Vec<&str> = keys
                .iter()
                .filter(|key| key.starts_with(&prefix))
                .map(|key| rules.common_prefix(key).unwrap_or(key))
                .collect();
            names.dedup();
            prop_assert_eq!(shuffled.1, max > 0 && names.len() > max);
            let told: Vec<&str> = shuffled.0.iter().map(|entry| match entry {
                Entry::Item(name, ()) | Entry::CommonPrefix(name) => name.as_str(),
            }).collect();
            prop_assert_eq!(told, names.into_iter().take(max).collect::<Vec<_>>());
        }
    }
}
