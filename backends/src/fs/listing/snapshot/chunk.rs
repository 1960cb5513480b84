//! Entries, packed: what a snapshot is made of.

use super::Entry;
use crate::key_codec::Form;

/// So many entries lie together. A chunk of twice as many is split.
pub(super) const CHUNK: usize = 256;
/// What a chunk costs beside its text and its ends, in bytes.
pub(super) const CHUNK_COST: usize = 96;
/// Of the four bytes that say where a name ends, the two bits that say in which form it lies there. No snapshot has so
/// much text that they would be needed for that.
const FORM_SHIFT: u32 = 30;
pub(super) const END: u32 = (1 << FORM_SHIFT) - 1;

pub(super) fn form_bits(form: Form) -> u32 {
    let bits = match form {
        Form::Exact => 0,
        Form::Plain => 1,
        Form::ExactForced => 2,
        Form::Forced => 3,
    };
    bits << FORM_SHIFT
}

pub(super) fn form_of(end: u32) -> Form {
    match end >> FORM_SHIFT {
        0 => Form::Exact,
        1 => Form::Plain,
        2 => Form::ExactForced,
        _ => Form::Forced,
    }
}

/// Some entries, their names one behind the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    text: String,
    /// Where each ends, with its form.
    ends: Vec<u32>,
}

impl Chunk {
    /// For so many bytes of names, and so many of them.
    pub(super) fn with_capacity(bytes: usize, entries: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(entries),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn start(&self, index: usize) -> usize {
        index
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .map_or(0, |end| (end & END) as usize)
    }

    pub(super) fn get(&self, index: usize) -> Option<Entry<'_>> {
        let end = *self.ends.get(index)?;
        Some(Entry {
            name: &self.text[self.start(index)..(end & END) as usize],
            form: form_of(end),
        })
    }

    pub(super) fn push(&mut self, entry: Entry<'_>) {
        self.text.push_str(entry.name);
        // A chunk has few names of at most a key's length.
        let end = u32::try_from(self.text.len()).unwrap_or(0);
        self.ends.push(end | form_bits(entry.form));
    }

    pub(super) fn insert(&mut self, index: usize, entry: Entry<'_>) {
        let start = self.start(index);
        self.text.insert_str(start, entry.name);
        let len = u32::try_from(entry.name.len()).unwrap_or(0);
        let end = u32::try_from(start).unwrap_or(0) + len;
        self.ends.insert(index, end | form_bits(entry.form));
        for end in &mut self.ends[index + 1..] {
            *end += len;
        }
    }

    pub(super) fn remove(&mut self, index: usize) {
        let start = self.start(index);
        let end = (self.ends.remove(index) & END) as usize;
        self.text.replace_range(start..end, "");
        let len = u32::try_from(end - start).unwrap_or(0);
        for end in &mut self.ends[index..] {
            *end -= len;
        }
    }

    /// The second half of one that has become too large.
    pub(super) fn split(&mut self) -> Option<Self> {
        if self.len() < 2 * CHUNK {
            return None;
        }
        let mut rest = Self::default();
        for index in CHUNK..self.len() {
            if let Some(entry) = self.get(index) {
                rest.push(entry);
            }
        }
        self.text.truncate(self.start(CHUNK));
        self.ends.truncate(CHUNK);
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        Some(rest)
    }
}
