//! The names in a directory, in the order of keys: what is kept of it between listings.

use std::{ops::ControlFlow, sync::Arc};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::FileType,
    io::Errno,
};

use crate::{
    MAX_KEY_BYTES,
    fs::dir::{self, Meta},
    key_codec::{self, Form, Name, Names},
};

/// So many entries lie together. A chunk of twice as many is split.
const CHUNK: usize = 256;
/// What a chunk costs beside its text and its ends, in bytes.
const CHUNK_COST: usize = 96;
/// Of the four bytes that say where a name ends, the two bits that say in which form it lies there. No snapshot has so
/// much text that they would be needed for that.
const FORM_SHIFT: u32 = 30;
const END: u32 = (1 << FORM_SHIFT) - 1;

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

fn form_bits(form: Form) -> u32 {
    let bits = match form {
        Form::Exact => 0,
        Form::Plain => 1,
        Form::ExactForced => 2,
        Form::Forced => 3,
    };
    bits << FORM_SHIFT
}

fn form_of(end: u32) -> Form {
    match end >> FORM_SHIFT {
        0 => Form::Exact,
        1 => Form::Plain,
        2 => Form::ExactForced,
        _ => Form::Forced,
    }
}

fn is_spelt(names: &Names, name: &str) -> bool {
    matches!(names.as_slice(), [only] if **only == *name)
}

/// Some entries, their names one behind the other.
#[derive(Debug, Clone, Default)]
struct Chunk {
    text: String,
    /// Where each ends, with its form.
    ends: Vec<u32>,
}

impl Chunk {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn start(&self, index: usize) -> usize {
        index
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .map_or(0, |end| (end & END) as usize)
    }

    fn get(&self, index: usize) -> Option<Entry<'_>> {
        let end = *self.ends.get(index)?;
        Some(Entry {
            name: &self.text[self.start(index)..(end & END) as usize],
            form: form_of(end),
        })
    }

    fn push(&mut self, entry: Entry<'_>) {
        self.text.push_str(entry.name);
        // A chunk has few names of at most a key's length.
        let end = u32::try_from(self.text.len()).unwrap_or(0);
        self.ends.push(end | form_bits(entry.form));
    }

    fn insert(&mut self, index: usize, entry: Entry<'_>) {
        let start = self.start(index);
        self.text.insert_str(start, entry.name);
        let len = u32::try_from(entry.name.len()).unwrap_or(0);
        let end = u32::try_from(start).unwrap_or(0) + len;
        self.ends.insert(index, end | form_bits(entry.form));
        for end in &mut self.ends[index + 1..] {
            *end += len;
        }
    }

    fn remove(&mut self, index: usize) {
        let start = self.start(index);
        let end = (self.ends.remove(index) & END) as usize;
        self.text.replace_range(start..end, "");
        let len = u32::try_from(end - start).unwrap_or(0);
        for end in &mut self.ends[index..] {
            *end -= len;
        }
    }

    /// The second half of one that has become too large.
    fn split(&mut self) -> Option<Self> {
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

/// Reads a directory: what fits into about `max_bytes`, from the entry `from` on. With it, the directories that the
/// pieces of long segments lie in; of those, too, the snapshot is a picture.
pub(super) fn read(
    tree: Tree,
    dir: &OwnedFd,
    folded: bool,
    from: &str,
    max_bytes: usize,
) -> Result<(Snapshot, Vec<Piece>), Errno> {
    let mut gathered = Gathered {
        tree,
        from,
        to: None,
        text: String::new(),
        spans: Vec::new(),
        max_bytes,
    };
    let mut pieces = Vec::new();
    scan(tree, dir, folded, &mut pieces, &mut |entry| {
        gathered.push(entry);
        ControlFlow::Continue(())
    })?;
    Ok((gathered.finish(), pieces))
}

/// Entries on their way into a snapshot.
struct Gathered<'a> {
    tree: Tree,
    from: &'a str,
    to: Option<Box<str>>,
    text: String,
    /// Start and end, with its form.
    spans: Vec<(u32, u32)>,
    max_bytes: usize,
}

impl Gathered<'_> {
    fn push(&mut self, entry: Entry<'_>) {
        if *entry.name < *self.from || self.to.as_deref().is_some_and(|to| entry.name >= to) {
            return;
        }
        let span = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX) & END;
        let start = self.text.len();
        self.text.push_str(entry.name);
        let end = span(self.text.len()) | form_bits(entry.form);
        self.spans.push((span(start), end));
        if self.text.len() + self.spans.len() * size_of::<(u32, u32)>() > self.max_bytes && self.spans.len() > 1 {
            self.cut();
        }
    }

    /// Keeps the lower half.
    fn cut(&mut self) {
        self.sort();
        // Both names of a key stay on one side.
        let to: Box<str> = entry_at(&self.text, self.spans[self.spans.len() / 2]).name.into();
        let kept = self
            .spans
            .partition_point(|span| *entry_at(&self.text, *span).name < *to);
        if kept == 0 {
            return;
        }
        let mut text = String::with_capacity(self.text.len());
        for (start, end) in &mut self.spans[..kept] {
            let name = &self.text[*start as usize..(*end & END) as usize];
            *start = u32::try_from(text.len()).unwrap_or(0);
            text.push_str(name);
            *end = u32::try_from(text.len()).unwrap_or(0) | (*end & !END);
        }
        self.spans.truncate(kept);
        self.text = text;
        self.to = Some(to);
    }

    fn sort(&mut self) {
        let text = self.text.as_str();
        self.spans
            .sort_unstable_by(|a, b| entry_at(text, *a).cmp(&entry_at(text, *b)));
        // A name that is replaced while the directory is read can be met twice.
        self.spans.dedup_by(|b, a| entry_at(text, *a) == entry_at(text, *b));
    }

    fn finish(mut self) -> Snapshot {
        self.sort();
        let mut bytes = 0;
        let chunks: Vec<_> = self
            .spans
            .chunks(CHUNK)
            .map(|spans| {
                let len: usize = spans.iter().map(|span| entry_at(&self.text, *span).name.len()).sum();
                let mut chunk = Chunk {
                    text: String::with_capacity(len),
                    ends: Vec::with_capacity(spans.len()),
                };
                for span in spans {
                    chunk.push(entry_at(&self.text, *span));
                }
                bytes += len + spans.len() * size_of::<u32>() + CHUNK_COST;
                Arc::new(chunk)
            })
            .collect();
        Snapshot {
            tree: Some(self.tree),
            from: self.from.into(),
            to: self.to,
            chunks,
            bytes,
            len: self.spans.len(),
        }
    }
}

fn entry_at(text: &str, (start, end): (u32, u32)) -> Entry<'_> {
    Entry {
        name: &text[start as usize..(end & END) as usize],
        form: form_of(end),
    }
}

/// A directory inside another that has a piece of a long segment as its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) names: Names,
    /// As it was before it was read. `None` where it could not be opened.
    pub(super) meta: Option<Meta>,
}

/// Entries in no order until `visit` breaks; whether it did. The pieces of long segments are put together, and the
/// directories that they lie in added to `pieces`. `folded`: whether names are folded here.
pub(super) fn scan(
    tree: Tree,
    dir: &OwnedFd,
    folded: bool,
    pieces: &mut Vec<Piece>,
    visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
) -> Result<bool, Errno> {
    // Directories that pieces go on in: their names on the way, and the text so far.
    let mut continued: Vec<(Names, String)> = Vec::new();
    if scan_piece(tree, dir, folded, &[], "", &mut continued, visit)? {
        return Ok(true);
    }
    while let Some((names, text)) = continued.pop() {
        let meta = match dir::resolve_dir(dir.as_fd(), names.iter().map(|n| &**n)) {
            Ok(piece) => {
                let meta = Meta::of(&piece)?;
                if scan_piece(tree, &piece, folded, &names, &text, &mut continued, visit)? {
                    return Ok(true);
                }
                Some(meta)
            }
            Err(error) if dir::is_no_object(error) => None,
            Err(error) => return Err(error),
        };
        pieces.push(Piece { names, meta });
    }
    Ok(false)
}

fn scan_piece(
    tree: Tree,
    dir: &OwnedFd,
    folded: bool,
    before: &[Box<str>],
    text_before: &str,
    continued: &mut Vec<(Names, String)>,
    visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
) -> Result<bool, Errno> {
    let mut text = String::new();
    dir::scan(dir, |name, file_type| {
        let parsed = if before.is_empty() {
            Name::parse(name, folded)
        } else {
            Name::parse_piece(name, folded)
        };
        if parsed == Name::Foreign {
            return ControlFlow::Continue(());
        }
        let file_type = match file_type {
            FileType::Unknown => Meta::in_dir(dir, name).map_or(FileType::Unknown, |meta| meta.file_type),
            known => known,
        };
        let is_dir = match file_type {
            FileType::RegularFile => false,
            FileType::Directory => true,
            _ => return ControlFlow::Continue(()),
        };
        let path = || -> Names {
            let name: Box<str> = name.into();
            before.iter().cloned().chain([name]).collect()
        };
        text.clear();
        text.push_str(text_before);
        let form = match parsed {
            Name::Foreign => return ControlFlow::Continue(()),
            Name::Plain => {
                text.push_str(name);
                Form::Plain
            }
            Name::Escaped(rest, form) => {
                text.push_str(&rest);
                let is_key = is_dir == (tree == Tree::Histories);
                if (form.is_forced() && !is_key) || form.names(&text) != path() {
                    return ControlFlow::Continue(());
                }
                form
            }
            Name::Continued(chunk) => {
                text.push_str(&chunk);
                if is_dir && text.len() < MAX_KEY_BYTES {
                    continued.push((path(), text.clone()));
                }
                return ControlFlow::Continue(());
            }
        };
        match (is_dir, tree) {
            (true, _) if form.is_forced() => {}
            (true, _) => text.push('/'),
            (false, Tree::Objects) => {}
            (false, Tree::Histories) => return ControlFlow::Continue(()),
        }
        visit(Entry { name: &text, form })
    })
}

#[cfg(test)]
mod tests;
