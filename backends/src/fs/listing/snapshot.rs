//! The names in a directory, in the order of keys: what is kept of it between listings.

mod chunk;
mod read;

use std::sync::Arc;

use rustix::{fd::OwnedFd, fs::FileType, io::Errno};

use self::chunk::{CHUNK_COST, Chunk};
pub(super) use self::read::{Piece, read, scan};
use crate::{
    fs::dir::Meta,
    key_codec::{self, Form, Name, Names},
};

/// What is looked for in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) enum Tree {
    /// Files are objects.
    Objects,
    /// A directory with an object's second name holds the history of that key.
    Histories,
}

/// What a directory holds, in the words of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::fs) struct Entry<'a> {
    /// A segment; of a directory with `/` behind, so that entries sort as the keys that begin so.
    pub(in crate::fs) name: &'a str,
    /// In which it lies there. Of several the one that counts comes first.
    pub(in crate::fs) form: Form,
}

impl Entry<'_> {
    pub(in crate::fs) fn is_dir(&self) -> bool {
        self.name.ends_with('/')
    }

    /// Its name in its directory, where that is its own.
    pub(in crate::fs) fn own_name(&self) -> Option<&str> {
        let segment = self.name.strip_suffix('/').unwrap_or(self.name);
        (self.form == Form::Plain && key_codec::is_plain(segment)).then_some(segment)
    }

    /// Where it lies in its directory.
    pub(in crate::fs) fn names(&self) -> Names {
        self.form.names(self.name.strip_suffix('/').unwrap_or(self.name))
    }
}

/// The entries of a directory in order, from one name on and up to another: what fits in the memory that there is.
#[derive(Debug, Clone, Default)]
pub(in crate::fs) struct Snapshot {
    /// `None` for one of nothing.
    tree: Option<Tree>,
    from: Box<str>,
    /// The first name left out. `None`: there is nothing more.
    to: Option<Box<str>>,
    /// None is empty.
    chunks: Vec<Arc<Chunk>>,
    bytes: usize,
    len: usize,
}

/// Of an entry in a snapshot, or of the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::fs) struct Position {
    chunk: usize,
    index: usize,
}

impl Snapshot {
    /// About how much memory it takes.
    pub(in crate::fs) fn bytes(&self) -> usize {
        size_of::<Self>() + self.bytes
    }

    pub(in crate::fs) fn len(&self) -> usize {
        self.len
    }

    /// Where the entries go on that this leaves out at its end.
    pub(in crate::fs) fn to(&self) -> Option<&str> {
        self.to.as_deref()
    }

    /// Whether it has what there is from `name` on, for a while at least.
    pub(in crate::fs) fn covers(&self, name: &str) -> bool {
        *self.from <= *name && self.to().is_none_or(|to| name < to)
    }

    pub(in crate::fs) fn get(&self, at: Position) -> Option<Entry<'_>> {
        self.chunks.get(at.chunk)?.get(at.index)
    }

    /// The place behind that of an entry.
    pub(in crate::fs) fn after(&self, at: Position) -> Position {
        match self.chunks.get(at.chunk) {
            Some(chunk) if at.index + 1 < chunk.len() => Position {
                index: at.index + 1,
                ..at
            },
            _ => Position {
                chunk: at.chunk + 1,
                index: 0,
            },
        }
    }

    /// The first entry that is not `before`, as those at the beginning are.
    pub(in crate::fs) fn partition_point(&self, before: impl Fn(&Entry<'_>) -> bool) -> Position {
        let is_before = |chunk: &Chunk, index| chunk.get(index).is_some_and(|entry| before(&entry));
        let passed = self.chunks.partition_point(|chunk| is_before(chunk, 0));
        let Some(chunk) = passed.checked_sub(1) else {
            return Position::default();
        };
        let inside = &self.chunks[chunk];
        let (mut low, mut high) = (1, inside.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(inside, middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let at = Position { chunk, index: low };
        if low < inside.len() {
            at
        } else {
            Position {
                chunk: chunk + 1,
                index: 0,
            }
        }
    }

    pub(in crate::fs) fn contains(&self, entry: Entry<'_>) -> bool {
        self.get(self.partition_point(|other| *other < entry)) == Some(entry)
    }

    #[cfg(test)]
    pub(in crate::fs) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.chunks
            .iter()
            .flat_map(|chunk| (0..chunk.len()).filter_map(|index| chunk.get(index)))
    }

    /// Looks again at the key that one name in its directory belongs to, under both of its names: what has gone from
    /// one may have come to the other. `false` where that is not enough: long segments lie in directories of their own.
    /// Not where names are folded.
    pub(in crate::fs) fn refresh(&mut self, dir: &OwnedFd, name: &str) -> Result<bool, Errno> {
        let text = match Name::parse(name, false) {
            Name::Foreign => return Ok(true),
            Name::Continued(_) => return Ok(false),
            Name::Plain => name.to_owned(),
            Name::Escaped(text, form) if is_spelt(&form.names(&text), name) => text,
            Name::Escaped(..) => return Ok(true),
        };
        let as_dir = format!("{text}/");
        for form in [Form::Plain, Form::Forced] {
            let names = form.names(&text);
            let [name] = names.as_slice() else {
                // Nothing was told of this one, so it is where it was, or will be told of.
                continue;
            };
            let file_type = match Meta::in_dir(dir, name) {
                Ok(meta) => Some(meta.file_type),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(error),
            };
            let is_key = match self.tree {
                Some(Tree::Histories) => form.is_forced() && file_type == Some(FileType::Directory),
                _ => file_type == Some(FileType::RegularFile),
            };
            for (name, wanted) in [
                (text.as_str(), is_key),
                (&as_dir, file_type == Some(FileType::Directory) && !form.is_forced()),
            ] {
                self.set(Entry { name, form }, wanted);
            }
        }
        Ok(true)
    }

    /// Adds or removes an entry.
    fn set(&mut self, entry: Entry<'_>, wanted: bool) {
        if !self.covers(entry.name) {
            return;
        }
        let at = self.partition_point(|other| *other < entry);
        let there = self.get(at) == Some(entry);
        let cost = entry.name.len() + size_of::<u32>();
        match (there, wanted) {
            (true, true) | (false, false) => {}
            (true, false) => {
                let chunk = Arc::make_mut(&mut self.chunks[at.chunk]);
                chunk.remove(at.index);
                if chunk.len() == 0 {
                    self.chunks.remove(at.chunk);
                    self.bytes -= CHUNK_COST;
                }
                self.bytes -= cost;
                self.len -= 1;
            }
            (false, true) => {
                if self.chunks.is_empty() {
                    self.chunks.push(Arc::default());
                    self.bytes += CHUNK_COST;
                }
                // At the end of one chunk rather than at the beginning of the next.
                let at = match (at.index, at.chunk.checked_sub(1)) {
                    (0, Some(before)) => Position {
                        chunk: before,
                        index: self.chunks[before].len(),
                    },
                    _ => at,
                };
                let chunk = Arc::make_mut(&mut self.chunks[at.chunk]);
                chunk.insert(at.index, entry);
                if let Some(rest) = chunk.split() {
                    self.chunks.insert(at.chunk + 1, Arc::new(rest));
                    self.bytes += CHUNK_COST;
                }
                self.bytes += cost;
                self.len += 1;
            }
        }
    }
}

fn is_spelt(names: &Names, name: &str) -> bool {
    matches!(names.as_slice(), [only] if **only == *name)
}

#[cfg(test)]
mod tests;
