//! The keys of a bucket as one page of a listing needs them: a store that lists in byte order is read until no more of
//! it matters, and one that starts after a name is asked for nothing that does not.

use super::{
    Core,
    key::StoreDir,
    page::Rules,
    store::{Entries, Meta},
    store_versions::STORE_PAGE,
};
use crate::{BackendError, BucketName};

/// A scan under way.
///
/// What the store gives anyway is read; only when its answer is used up does the scan go on elsewhere: behind a common
/// prefix that it has met, or behind what comes later than the page. So no seek costs a call more than reading on.
pub(super) struct Scan<'s> {
    core: &'s Core,
    bucket: &'s BucketName,
    rules: Rules<'s>,
    marker: Option<&'s str>,
    dir: StoreDir,
    /// What all names that are wanted begin with.
    beginning: String,
    /// `None`: nothing of the bucket is on the page.
    entries: Option<Entries<'s>>,
    /// So many entries are in an answer, if the store goes by it.
    answer: usize,
    /// Of the answer.
    read: usize,
    /// The name that was read last, and its key, if it is one of a key.
    last: Option<(String, Option<String>)>,
}

impl Core {
    /// Whether a listing costs what is read of it, wherever it begins.
    pub(super) fn seeks(&self) -> bool {
        self.profile.ordered && self.profile.starts_after
    }

    /// How many entries an answer of the store has to have, for about so many that are wanted. Where it cannot begin at
    /// them, small answers would be many.
    pub(super) fn answer_for(&self, wanted: usize) -> usize {
        match self.seeks() && self.store.capability().list_with_limit {
            true => wanted.clamp(1, STORE_PAGE),
            false => STORE_PAGE,
        }
    }

    /// Keys that begin with the prefix and come after `marker`; about so many are `wanted`.
    pub(super) fn scan<'s>(
        &'s self,
        bucket: &'s BucketName,
        rules: Rules<'s>,
        marker: Option<&'s str>,
        wanted: usize,
    ) -> Scan<'s> {
        let mut scan = Scan {
            core: self,
            bucket,
            rules,
            marker,
            dir: StoreDir::bucket(bucket),
            beginning: self.layout.beginning(rules.prefix),
            entries: None,
            answer: self.answer_for(wanted),
            read: 0,
            last: None,
        };
        let is_past = marker.is_some_and(|marker| rules.is_past(marker));
        if !is_past {
            let from_marker = marker.and_then(|marker| match rules.is_rolled_up(marker) {
                true => self.layout.beyond(marker),
                false => self.layout.after(marker),
            });
            let start = from_marker.max(self.layout.before(rules.prefix));
            scan.begin(start.filter(|_| self.seeks()).as_deref());
        }
        scan
    }
}

impl Scan<'_> {
    fn begin(&mut self, after: Option<&str>) {
        let after = after.map(|name| format!("{}{name}", self.dir.as_str()));
        let store = &self.core.store;
        self.entries = Some(store.list(&self.dir, &self.beginning, true, after.as_deref(), Some(self.answer)));
        self.read = 0;
    }

    /// The next key, in no order unless the store has one: then `None` when what follows cannot be on the page any more.
    /// `greatest` is the last name on it, if it is full; of names that come later nothing has to be told.
    pub(super) async fn next(&mut self, greatest: Option<&str>) -> Result<Option<(String, Meta)>, BackendError> {
        loop {
            if self.core.profile.ordered && self.has_all(greatest) {
                return Ok(None);
            }
            if self.read >= self.answer && self.core.seeks() {
                self.seek(greatest);
            }
            let Some(entries) = &mut self.entries else {
                return Ok(None);
            };
            let Some(found) = entries.next().await? else {
                return Ok(None);
            };
            self.read += 1;
            let name = found.name.clone();
            let named = match name.ends_with('/') {
                true => None,
                false => self.core.named(self.bucket, found).await?,
            };
            self.last = Some((name, named.as_ref().map(|(key, _)| key.clone())));
            if let Some((key, meta)) = named
                && key.starts_with(self.rules.prefix)
                && self.rules.is_after(&key, self.marker)
            {
                return Ok(Some((key, meta)));
            }
        }
    }

    /// Whether nothing that follows can be on the page.
    fn has_all(&self, greatest: Option<&str>) -> bool {
        let Some((_, Some(key))) = &self.last else { return false };
        let least = self.core.layout.least_after(key);
        self.rules.is_past(least) || greatest.is_some_and(|greatest| self.rules.name(least) >= greatest)
    }

    /// At the end of an answer: goes on with the next one, or further on.
    fn seek(&mut self, greatest: Option<&str>) {
        let layout = self.core.layout;
        let Some((name, Some(key))) = &self.last else { return };
        // All that is rolled up into it is told by one.
        let is_told = key.starts_with(self.rules.prefix) && self.rules.is_after(key, self.marker);
        let told = self.rules.common_prefix(key).filter(|_| is_told);
        let beyond = told.and_then(|prefix| layout.beyond(prefix));
        let is_late = self.rules.is_past(key) || greatest.is_some_and(|greatest| self.rules.name(key) >= greatest);
        let cut = if is_late { layout.before_cut(key) } else { None };
        let target = beyond.max(cut).filter(|target| target > name);
        // Who has read so much and not found it all may need as much again.
        let more = STORE_PAGE.min(2 * self.answer);
        if target.is_some() || more > self.answer {
            let after = target.unwrap_or_else(|| name.clone());
            self.answer = more;
            self.begin(Some(&after));
        } else {
            self.read = 0;
        }
    }
}
