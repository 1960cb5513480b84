//! Reading a directory.

use std::{ops::ControlFlow, sync::Arc};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::FileType,
    io::Errno,
};

use super::{
    Entry, Snapshot, Tree,
    chunk::{CHUNK, CHUNK_COST, Chunk, END, form_bits, form_of},
};
use crate::{
    MAX_KEY_BYTES,
    fs::dir::{self, Meta},
    key_codec::{Form, Name, Names},
};

/// Reads a directory: what fits into about `max_bytes`, from the entry `from` on. With it, the directories that the
/// pieces of long segments lie in; of those, too, the snapshot is a picture.
pub(in crate::fs::listing) fn read(
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
                let mut chunk = Chunk::with_capacity(len, spans.len());
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
pub(in crate::fs::listing) struct Piece {
    pub(in crate::fs::listing) names: Names,
    /// As it was before it was read. `None` where it could not be opened.
    pub(in crate::fs::listing) meta: Option<Meta>,
}

/// Entries in no order until `visit` breaks; whether it did. The pieces of long segments are put together, and the
/// directories that they lie in added to `pieces`. `folded`: whether names are folded here.
pub(in crate::fs::listing) fn scan(
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
