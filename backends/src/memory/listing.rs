//! Pages of what comes in the order of its keys.

/// The rules that all listings share.
pub(super) struct Listing<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) max: usize,
}

pub(super) enum Entry<'a, T> {
    Item(T),
    CommonPrefix(&'a str),
}

impl Listing<'_> {
    /// The common prefix that `key` is rolled up into. `key` begins with the prefix.
    pub(super) fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter?;
        let at = key.get(self.prefix.len()..)?.find(delimiter)?;
        key.get(..self.prefix.len() + at + delimiter.len())
    }

    pub(super) fn is_after(&self, key: &str, marker: Option<&str>) -> bool {
        let Some(marker) = marker else { return true };
        let rolled_up = marker.starts_with(self.prefix) && self.common_prefix(marker) == Some(marker);
        key > marker && !(rolled_up && key.starts_with(marker))
    }

    /// The first entries of `items`, which come in order, and whether more follow.
    pub(super) fn page<'k, T>(&self, items: impl Iterator<Item = (&'k str, T)>) -> (Vec<Entry<'k, T>>, bool) {
        let mut entries = Vec::new();
        for (key, item) in items.filter(|(key, _)| key.starts_with(self.prefix)) {
            let entry = match (self.common_prefix(key), entries.last()) {
                (Some(prefix), Some(Entry::CommonPrefix(last))) if prefix == *last => continue,
                (Some(prefix), _) => Entry::CommonPrefix(prefix),
                (None, _) => Entry::Item(item),
            };
            if entries.len() == self.max {
                return (entries, self.max > 0);
            }
            entries.push(entry);
        }
        (entries, false)
    }
}
