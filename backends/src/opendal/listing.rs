//! Listings, in the order of S3 whatever the store's is.
//!
//! A store that lists in byte order and starts after a name gives a page for about its price. Elsewhere all that lies
//! under the prefix is looked at for every page; memory holds the page alone.

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Core, StoreLayout,
    key::{Named, StoreDir, is_name},
    object::{foreign, last_modified},
    page::{Entry, Page, Rules, is_key_after},
    store::{Found, Meta},
    store_versions::STORE_PAGE,
};
use crate::{BackendError, BucketName, Key, ListEntry, ListObjects, ObjectInfo, ObjectPage};

/// What a store's listing does not tell is asked of so many objects at once.
pub(super) const ASKED: usize = 16;

impl Core {
    pub(super) async fn list_objects(&self, request: ListObjects) -> Result<ObjectPage, BackendError> {
        let versioning = self.bucket(&request.bucket).await?.info.versioning;
        if self.lists_heads(versioning) {
            return self.list_current(&request, versioning).await;
        }
        let mut request = request;
        loop {
            let (entries, is_truncated) = self.names(&request).await?;
            // What the store lists and what it holds need not be of one moment.
            let last = entries.last().map(|entry| match entry {
                Entry::Item(name, _) | Entry::CommonPrefix(name) => name.clone().into_boxed_str(),
            });
            let bucket = &request.bucket;
            let entries = stream::iter(entries)
                .map(|entry| self.entry(bucket, entry))
                .buffered(ASKED);
            let entries: Vec<Option<ListEntry>> = entries.try_collect().await?;
            let entries: Vec<ListEntry> = entries.into_iter().flatten().collect();
            if is_truncated && entries.is_empty() {
                request.start_after = last;
                continue;
            }
            return Ok(ObjectPage { entries, is_truncated });
        }
    }

    /// The names on the page.
    async fn names(&self, request: &ListObjects) -> Result<(Vec<Entry<Meta>>, bool), BackendError> {
        let rules = Rules {
            prefix: &request.prefix,
            delimiter: request.delimiter.as_deref(),
            max: request.max_keys,
        };
        // Some stores roll up what is deleted, if they keep versions. A store that lists as a tree keeps directories in which nothing is.
        let rolls_up = self.layout == StoreLayout::Transparent
            && self.profile.ordered
            && self.profile.rolls_up
            && rules.delimiter == Some("/")
            && is_name(rules.prefix);
        if rolls_up {
            return self.rolled_up_names(request, rules).await;
        }
        let mut page = Page::new(rules, 0);
        let wanted = rules.max.saturating_add(1);
        let mut scan = self.scan(&request.bucket, rules, request.start_after.as_deref(), wanted);
        while let Some((key, meta)) = scan.next(page.greatest()).await? {
            page.offer(&key, (), meta);
        }
        Ok(page.finish())
    }

    /// Likewise, where the store rolls up by itself.
    async fn rolled_up_names(
        &self,
        request: &ListObjects,
        rules: Rules<'_>,
    ) -> Result<(Vec<Entry<Meta>>, bool), BackendError> {
        let dir = StoreDir::bucket(&request.bucket);
        let marker = request.start_after.as_deref();
        let start_after = marker
            .filter(|marker| self.profile.starts_after && is_name(marker))
            .map(|marker| format!("{}{marker}", dir.as_str()));
        let start_after = start_after.as_deref();
        // A store's answer has directories first, then objects: only when another answer has been read is one of them
        // known whole.
        let begins_at_marker = marker.is_some() == start_after.is_some();
        let wanted = if begins_at_marker {
            rules.max.saturating_add(1)
        } else {
            STORE_PAGE
        };
        let answer = self.answer_for(wanted);
        let mut page = Page::new(rules, answer);
        // Of what the marker lies in, the store may not tell what comes after the marker.
        let split = marker.and_then(|marker| rules.common_prefix(marker).filter(|prefix| *prefix != marker));
        if let Some(prefix) = split
            && self.follows_in(&dir, prefix, marker, start_after).await?
        {
            page.offer_prefix(prefix);
        }
        let mut entries = self.store.list(&dir, rules.prefix, false, start_after, Some(answer));
        while let Some(found) = entries.next().await? {
            if found.name.ends_with('/') {
                if split != Some(&*found.name) && rules.is_after(&found.name, marker) {
                    page.offer_prefix(&found.name);
                }
            } else if let Some((key, meta)) = self.named(&request.bucket, found).await?
                && rules.is_after(&key, marker)
            {
                page.offer(&key, (), meta);
            }
            if page.is_full() {
                break;
            }
        }
        Ok(page.finish())
    }

    /// Whether any key that begins with `prefix` comes after `marker`.
    async fn follows_in(
        &self,
        dir: &StoreDir,
        prefix: &str,
        marker: Option<&str>,
        start_after: Option<&str>,
    ) -> Result<bool, BackendError> {
        let answer = self.answer_for(if start_after.is_some() { ASKED } else { STORE_PAGE });
        let mut entries = self.store.list(dir, prefix, true, start_after, Some(answer));
        while let Some(found) = entries.next().await? {
            if is_key_after(&found.name, prefix, marker) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn named(
        &self,
        bucket: &BucketName,
        found: Found,
    ) -> Result<Option<(String, Meta)>, BackendError> {
        match self.layout.key(&found.name) {
            None => Ok(None),
            Some(Named::Key(key)) => Ok(Some((key.as_str().to_owned(), found.meta))),
            Some(Named::Cut) => {
                let key = self.cut_key(bucket, &found.name).await?;
                Ok(key.map(|key| (key, found.meta)))
            }
        }
    }

    /// What a listing tells. `None` where an object has gone meanwhile.
    async fn entry(&self, bucket: &BucketName, entry: Entry<Meta>) -> Result<Option<ListEntry>, BackendError> {
        let (name, meta) = match entry {
            Entry::Item(name, meta) => (name, meta),
            Entry::CommonPrefix(prefix) => return Ok(Some(ListEntry::CommonPrefix(prefix.into()))),
        };
        let Ok(key) = Key::parse(name) else { return Ok(None) };
        // The version that it is, a listing does not tell; nobody asks.
        if let Some(info) = self.told_by_listing(&key, &meta) {
            return Ok(Some(ListEntry::Object(info)));
        }
        let current = self.current(bucket, &key).await?;
        Ok(current.map(|current| ListEntry::Object(current.info)))
    }

    /// What is known of an object without asking for it. `None` where that is not enough.
    pub(super) fn told_by_listing(&self, key: &Key, meta: &Meta) -> Option<ObjectInfo> {
        if self.layout != StoreLayout::Transparent || !self.profile.md5_etags || meta.size == 0 {
            return None;
        }
        // Written in one piece, and so it is the object's own tag: what is joined has another form.
        let etag = meta.etag.as_deref()?;
        let is_md5 = etag.len() == 32 && etag.bytes().all(|b| b.is_ascii_hexdigit());
        is_md5.then(|| foreign(key.clone(), last_modified(meta), meta))
    }
}
