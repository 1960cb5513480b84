//! Which names a key has in its bucket. Where the file system takes every name for itself that is a matter of the key
//! alone; where it folds names, of who came first.
//!
//! A folding file system takes several spellings for one name: those that differ in letter case or Unicode normal form,
//! on some also those with other ends. There a name is a key's only if the directory has it in the key's spelling, and
//! what finds another's there takes a name that no folding can confuse ([`Form::Exact`], [`Form::ExactForced`]), and
//! keeps that as long as it is there. Who decides so, and acts on it, holds the lock of the whole bucket: nobody knows
//! which spellings are one, but the kernel.
//!
//! The spelling of an entry is known from the exact key in the attributes of what is there, from the mark of a directory
//! of the gateway's, and for what others made from the names in the directory, as they are kept for listings.

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::FileType,
    io::Errno,
};

use super::{
    Store,
    attributes::Record,
    bucket::Bucket,
    dir::{self, Entry, Meta},
    error::Error,
    listing::{self, Tree},
    staging,
};
use crate::key_codec::{Form, Name, Names, StorageName};

/// What a file system does that folds names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Folding {
    /// Some names of ASCII characters are cut or refused.
    narrow: bool,
    /// Not all other characters come back as they were given.
    altering: bool,
}

impl Folding {
    /// Tries it out in a directory of the gateway's own. `None` where every name is itself.
    pub(super) fn probe(dir: &OwnedFd) -> Result<Option<Self>, Errno> {
        let random = staging::random_name().map_err(|_| Errno::IO)?;
        let alike = |name: &str, other: &str| -> Result<Tried, Errno> {
            let (name, other) = (format!("{random}{name}"), format!("{random}{other}"));
            match dir::create_file(dir, &name) {
                Ok(_) => {}
                Err(Errno::INVAL | Errno::ILSEQ) => {
                    return Ok(Tried {
                        alike: true,
                        kept: false,
                    });
                }
                Err(error) => return Err(error),
            }
            let found = Meta::in_dir(dir, &other);
            let kept = dir::has_entry(dir, &name);
            dir::unlink(dir, &name)?;
            match found {
                Ok(_) => Ok(Tried {
                    alike: true,
                    kept: kept?,
                }),
                Err(Errno::NOENT) => Ok(Tried {
                    alike: false,
                    kept: kept?,
                }),
                Err(Errno::INVAL | Errno::ILSEQ) => Ok(Tried {
                    alike: true,
                    kept: false,
                }),
                Err(error) => Err(error),
            }
        };
        let case = alike(".A", ".a")?;
        let composed = alike(".\u{e9}", ".e\u{301}")?;
        let decomposed = alike(".e\u{301}", ".\u{e9}")?;
        let dot = alike(".b.", ".b")?;
        let space = alike(".c ", ".c")?;
        let colon = alike(".d:?", ".d;")?;
        let tried = [case, composed, decomposed, dot, space, colon];
        let folds = tried.iter().any(|tried| tried.alike || !tried.kept);
        Ok(folds.then(|| Self {
            narrow: [case, dot, space, colon].iter().any(|tried| !tried.kept),
            altering: !(composed.kept && decomposed.kept),
        }))
    }

    /// What `segment` is called where nothing is yet.
    fn first_names(self, segment: &str, [exact, own]: [Form; 2]) -> Names {
        let own = own.names(segment);
        if own.iter().all(|name| self.keeps(name)) {
            own
        } else {
            exact.names(segment)
        }
    }

    /// Whether a new entry has this name as it is spelled.
    fn keeps(self, name: &str) -> bool {
        let is_narrow = |name: &str| {
            !name.ends_with(['.', ' ']) && !name.contains(|c: char| c.is_ascii_control() || "\"*:<>?\\|".contains(c))
        };
        (!self.narrow || is_narrow(name)) && (!self.altering || name.is_ascii())
    }
}

#[derive(Debug, Clone, Copy)]
struct Tried {
    alike: bool,
    kept: bool,
}

impl Store {
    pub(super) fn is_folding(&self) -> bool {
        self.folding.is_some()
    }

    /// The names of `key` if no other spelling has them; and where its history lies, whoever has them.
    pub(super) fn own_name(&self, key: &str) -> StorageName {
        StorageName::of(key, self.is_folding())
    }

    /// The names that the last segment of `key` has, or may have had: the object's second ones first.
    pub(super) fn last_names(&self, key: &str) -> impl Iterator<Item = Names> {
        let forms = [Form::ExactForced, Form::Forced, Form::Exact, Form::Plain];
        let folded = self.is_folding();
        forms
            .into_iter()
            .filter(move |form| folded || !form.is_exact())
            .map(|form| form.names(last_segment(key)))
    }

    /// The names of `key` as things are. To be acted on under its lock alone.
    pub(super) fn name_of(&self, bucket_dir: &OwnedFd, key: &str) -> Result<StorageName, Error> {
        let Some(folding) = self.folding else {
            return Ok(self.own_name(key));
        };
        let (parents, dir) = match key.rfind('/') {
            Some(end) => self.way_to(folding, bucket_dir, &key[..end])?,
            None => (Names::new(), Some(None)),
        };
        let Some(dir) = dir else {
            let last = last_segment(key);
            return Ok(StorageName {
                parents,
                plain: folding.first_names(last, [Form::Exact, Form::Plain]),
                forced: folding.first_names(last, [Form::ExactForced, Form::Forced]),
                ..self.own_name(key)
            });
        };
        let dir = dir.as_ref().unwrap_or(bucket_dir);
        Ok(StorageName {
            parents,
            plain: self.spell(folding, dir, key, [Form::Exact, Form::Plain])?,
            forced: self.spell(folding, dir, key, [Form::ExactForced, Form::Forced])?,
            ..self.own_name(key)
        })
    }

    /// The directories of all segments of `path`.
    pub(super) fn directories_of(&self, bucket_dir: &OwnedFd, path: &str) -> Result<Names, Error> {
        match self.folding {
            Some(folding) => Ok(self.way_to(folding, bucket_dir, path)?.0),
            None => Ok(crate::key_codec::directories(path)),
        }
    }

    /// The directory of all segments of `path`, if it is there. Not under the bucket's lock: takes that where names are
    /// folded, so that no other spelling's comes between.
    pub(super) fn open_directory(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        path: &str,
    ) -> Result<Option<OwnedFd>, Error> {
        if let Some(folding) = self.folding {
            let _guard = self.keys.lock(&bucket.name, path)?;
            return Ok(self.way_to(folding, bucket_dir, path)?.1.flatten());
        }
        let names = crate::key_codec::directories(path);
        match dir::resolve_dir(bucket_dir.as_fd(), names.iter().map(|n| &**n)) {
            Ok(dir) => Ok(Some(dir)),
            // One that is gone, or that may not be read, has no keys.
            Err(error) if dir::is_no_object(error) => Ok(None),
            Err(error) => Err(Error::io("could not open a directory")(error)),
        }
    }

    /// The names of the last segment of `path` as a directory in `dir`.
    pub(super) fn directory_in(&self, dir: &OwnedFd, path: &str) -> Result<Names, Error> {
        match self.folding {
            Some(folding) => self.spell(folding, dir, path, [Form::Exact, Form::Plain]),
            None => Ok(crate::key_codec::segment(last_segment(path))),
        }
    }

    /// The names in `dir` of the object `key` while a directory has its own.
    pub(super) fn forced_in(&self, dir: &OwnedFd, key: &str) -> Result<Names, Error> {
        match self.folding {
            Some(folding) => self.spell(folding, dir, key, [Form::ExactForced, Form::Forced]),
            None => Ok(crate::key_codec::forced(last_segment(key))),
        }
    }

    /// The directories of `path`, and the last of them: `None` if not all are there, `Some(None)` if there are none.
    fn way_to(
        &self,
        folding: Folding,
        bucket_dir: &OwnedFd,
        path: &str,
    ) -> Result<(Names, Option<Option<OwnedFd>>), Error> {
        let mut way = Names::new();
        let mut reached = Some(None);
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for end in ends {
            let ancestor = &path[..end];
            let Some(from) = &reached else {
                way.extend(folding.first_names(last_segment(ancestor), [Form::Exact, Form::Plain]));
                continue;
            };
            let from = from.as_ref().unwrap_or(bucket_dir);
            let names = self.spell(folding, from, ancestor, [Form::Exact, Form::Plain])?;
            reached = match dir::resolve_dir(from.as_fd(), names.iter().map(|n| &**n)) {
                Ok(dir) => Some(Some(dir)),
                Err(error) if dir::is_no_object(error) || is_unnameable(error) => None,
                Err(error) => return Err(Error::io("could not open a directory")(error)),
            };
            way.extend(names);
        }
        Ok((way, reached))
    }

    /// The names of the last segment of `path`, which begins in `dir`: in the first form if there is anything, or if
    /// another spelling has the second.
    fn spell(&self, folding: Folding, dir: &OwnedFd, path: &str, [exact, own]: [Form; 2]) -> Result<Names, Error> {
        let segment = last_segment(path);
        let exact = exact.names(segment);
        match dir::is_there(dir, &exact) {
            Ok(true) => return Ok(exact),
            Ok(false) => {}
            Err(error) => return Err(Error::io("could not look for a name")(error)),
        }
        let own = own.names(segment);
        Ok(if self.may_have(folding, dir, path, &own)? {
            own
        } else {
            exact
        })
    }

    /// Whether these names are nobody's or those of `path`.
    fn may_have(&self, folding: Folding, dir: &OwnedFd, path: &str, names: &Names) -> Result<bool, Error> {
        let mut reached: Option<OwnedFd> = None;
        for (index, name) in names.iter().enumerate() {
            let from = reached.as_ref().unwrap_or(dir);
            let meta = match Meta::in_dir(from, name) {
                Ok(meta) => meta,
                Err(Errno::NOENT) => return Ok(names[index..].iter().all(|name| folding.keeps(name))),
                Err(error) if is_unnameable(error) => return Ok(false),
                // Whoever uses it finds out.
                Err(error) if dir::is_no_object(error) => return Ok(true),
                Err(error) => return Err(Error::io("could not look for a name")(error)),
            };
            if !self.is_spelled(from, path, name, &meta)? {
                return Ok(false);
            }
            if index + 1 < names.len() {
                reached = match dir::resolve_dir(from.as_fd(), [&**name]) {
                    Ok(dir) => Some(dir),
                    Err(error) if dir::is_no_object(error) => return Ok(true),
                    Err(error) => return Err(Error::io("could not open a directory")(error)),
                };
            }
        }
        Ok(true)
    }

    /// Whether the entry that `name` leads to in `dir`, on the way to `path`, is spelled so.
    fn is_spelled(&self, dir: &OwnedFd, path: &str, name: &str, meta: &Meta) -> Result<bool, Error> {
        let failed = || Error::io("could not read a directory");
        if meta.is_dir() {
            if self.marks.is_marked_as(dir, name).map_err(failed())? {
                return Ok(true);
            }
        } else if meta.is_file()
            && let Entry::File(file, _) = dir::look_up_in(dir.as_fd(), name).map_err(failed())?
            && is_of(&file, path)?
        {
            return Ok(true);
        }
        let (text, form) = match Name::parse(name, true) {
            Name::Plain => (name.to_owned(), Form::Plain),
            Name::Escaped(text, form) if form.names(&text) == [name.into()] => (text, form),
            _ => return dir::has_entry(dir, name).map_err(failed()),
        };
        let text = match meta.file_type {
            FileType::RegularFile => text,
            FileType::Directory if !form.is_forced() => text + "/",
            _ => return dir::has_entry(dir, name).map_err(failed()),
        };
        let entries = self
            .listing_cache
            .entries(Tree::Objects, dir, &self.moves, &text)
            .map_err(failed())?;
        Ok(entries.contains(listing::Entry { name: &text, form }))
    }
}

/// Whether the file says that it is the object `key`.
pub(super) fn is_of(file: &OwnedFd, key: &str) -> Result<bool, Error> {
    Ok(Record::load_any(file)?.is_some_and(|record| *record.key == *key))
}

/// Whether the file says that it is another object than `key`.
pub(super) fn is_of_another(file: &OwnedFd, key: &str) -> Result<bool, Error> {
    Ok(Record::load_any(file)?.is_some_and(|record| *record.key != *key))
}

/// Whether the file system can have no such name.
pub(super) fn is_unnameable(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::ILSEQ)
}

pub(super) fn last_segment(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, last)| last)
}
