//! What is kept of old versions.

use std::collections::HashSet;

use rustix::{
    fd::{AsFd, OwnedFd},
    fs,
    io::Errno,
};

use super::{
    Doctor, FsFindingKind, FsReport, Known,
    names::{Meaning, entries},
    tree::Level,
};
use crate::{
    BucketName, Key,
    fs::{
        FsOpenError, bucket,
        dir::{self, Meta},
        intent::Intent,
        layout,
        names::is_of,
        object::{split, strs},
        staging, sys,
        versions::Kept,
    },
    key_codec::{Form, Name, StorageName},
};

const NULL: &str = "null";

impl Doctor {
    /// Whether everything could be read.
    pub(super) fn examine_histories(
        &self,
        buckets: &HashSet<String>,
        report: &mut FsReport,
        seen: &mut Known,
    ) -> Result<bool, FsOpenError> {
        let mut complete = true;
        for name in self.names(&self.versions)? {
            let bucket = BucketName::parse(name.clone());
            let Some(bucket) = bucket.ok().filter(|bucket| buckets.contains(bucket.as_str())) else {
                // Its side files are somebody's all the same.
                complete = false;
                let repaired = self.repair && self.put_histories_away(&name).is_ok();
                report.add(FsFindingKind::OrphanedHistory, format!(".t2/versions/{name}"), repaired);
                continue;
            };
            complete &= self.examine_history(&bucket, report, seen);
        }
        Ok(complete)
    }

    fn put_histories_away(&self, name: &str) -> Result<(), Errno> {
        let lost = layout::own_dir(&self.space, layout::LOST)?;
        let random = staging::random_name().map_err(|_| Errno::IO)?;
        sys::renameat(&self.versions, name, &lost, &random)
    }

    fn examine_history(&self, bucket: &BucketName, report: &mut FsReport, seen: &mut Known) -> bool {
        let mut complete = true;
        let mut left = vec![Level {
            names: vec![bucket.as_str().into()],
            prefix: String::new(),
            pieces: Default::default(),
        }];
        while let Some(level) = left.pop() {
            let at = |name: &str| format!(".t2/versions/{}/{name}", level.names.join("/"));
            let listed = dir::resolve_dir(self.versions.as_fd(), strs(&level.names)).and_then(|dir| entries(&dir));
            let Ok(listed) = listed else {
                complete = false;
                report.add(FsFindingKind::Unreadable, at(""), false);
                continue;
            };
            if listed.is_empty() && level.names.len() > 1 {
                self.empty_history(&level.names, &at(""), report);
            }
            for (name, _) in listed {
                let Some(name) = name else {
                    report.add(FsFindingKind::UnusableName, at("(not UTF-8)"), false);
                    continue;
                };
                let is_history = matches!(Name::parse(&name, self.folded), Name::Escaped(_, form) if form.is_forced());
                // A history is spelled as an object of that name would be.
                let meaning = Meaning::of(&level.pieces, &name, !is_history, self.folded);
                // There it has a name that no folding confuses, whoever has the others.
                let meaning =
                    meaning.filter(|meaning| meaning.form().is_none_or(|form| form.is_exact() == self.folded));
                let names = || level.names.iter().cloned().chain([name.clone()]).collect::<Vec<_>>();
                match meaning {
                    Some(Meaning::Piece(text)) => {
                        let mut pieces = level.pieces.clone();
                        pieces.0.push(name.clone());
                        pieces.1.push_str(&text);
                        left.push(Level {
                            names: names(),
                            prefix: level.prefix.clone(),
                            pieces,
                        });
                    }
                    Some(Meaning::Directory { segment, .. }) => left.push(Level {
                        names: names(),
                        prefix: format!("{}{segment}/", level.prefix),
                        pieces: Default::default(),
                    }),
                    Some(Meaning::Object { segment, .. }) => {
                        let key = format!("{}{segment}", level.prefix);
                        complete &= self.examine_key(bucket, &key, &names(), &at(&name), report, seen);
                    }
                    None => report.add(FsFindingKind::UnusableName, at(&name), false),
                }
            }
        }
        complete
    }

    fn empty_history(&self, names: &[Box<str>], path: &str, report: &mut FsReport) {
        let removed = self.repair
            && names.split_last().is_some_and(|(last, parents)| {
                dir::resolve_dir(self.versions.as_fd(), strs(parents))
                    .and_then(|parent| sys::unlinkat(parent, last, fs::AtFlags::REMOVEDIR))
                    .is_ok()
            });
        let path = path.trim_end_matches('/').to_owned();
        report.add(FsFindingKind::EmptyDirectory, path, removed);
    }

    /// What is kept of one key.
    fn examine_key(
        &self,
        bucket: &BucketName,
        key: &str,
        names: &[Box<str>],
        path: &str,
        report: &mut FsReport,
        seen: &mut Known,
    ) -> bool {
        let mut complete = true;
        let mut all: Vec<(Kept, Meta)> = Vec::new();
        let mut read = |names: &[Box<str>], path: &str, null: bool, report: &mut FsReport| -> Option<()> {
            let dir = dir::resolve_dir(self.versions.as_fd(), strs(names)).ok()?;
            for (name, _) in entries(&dir).ok()? {
                let Some(name) = name else {
                    report.add(FsFindingKind::UnusableName, format!("{path}/(not UTF-8)"), false);
                    continue;
                };
                let at = format!("{path}/{name}");
                if &*name == NULL && !null {
                    continue;
                }
                let meta = Meta::in_dir(&dir, &name).ok()?;
                let away = Kept::parse_away(&name, null).filter(|_| meta.is_file());
                if away.is_some() {
                    let repaired = self.repair && self.leave_note(bucket, key);
                    report.add(FsFindingKind::Staging, at.clone(), repaired);
                }
                let kept = away.or_else(|| Kept::parse(&name, null));
                let Some(kept) = kept.filter(|_| meta.is_file()) else {
                    report.add(FsFindingKind::UnusableName, at, false);
                    continue;
                };
                report.versions += 1;
                all.push((kept, meta));
                if !kept.marker {
                    complete &= self
                        .examine_file(bucket, &dir, &name, key, &at, report, seen)
                        .unwrap_or(false);
                }
            }
            Some(())
        };
        let done = read(names, path, false, report);
        let nulls: Vec<Box<str>> = names.iter().cloned().chain([NULL.into()]).collect();
        let has_nulls = dir::resolve_dir(self.versions.as_fd(), strs(&nulls)).is_ok();
        let nulls_done = has_nulls.then(|| read(&nulls, &format!("{path}/{NULL}"), true, report));
        if done.is_none() || nulls_done == Some(None) {
            report.add(FsFindingKind::Unreadable, path.into(), false);
            return false;
        }
        let current = self.current(bucket, key);
        if all.is_empty() && current.is_none() {
            self.empty_history(names, path, report);
        }
        let newest = all.iter().map(|(kept, _)| *kept).max_by_key(|kept| kept.version.stamp);
        let is_kept = |meta: &Meta| {
            all.iter()
                .find(|(_, kept)| kept.is_file_of(meta))
                .map(|(kept, _)| *kept)
        };
        let deleted = current.is_some_and(|meta| is_kept(&meta).is_some_and(|kept| Some(kept) != newest));
        let replaced = all.iter().filter(|(kept, _)| kept.version.null).count() > 1;
        for (found, kind) in [
            (deleted, FsFindingKind::DeletedObject),
            (replaced, FsFindingKind::ReplacedVersion),
        ] {
            if found {
                self.add_noted(report, kind, path.into(), bucket, key);
            }
        }
        complete
    }

    /// Adds what the next start repairs, which comes at once.
    pub(super) fn add_noted(
        &self,
        report: &mut FsReport,
        kind: FsFindingKind,
        path: String,
        bucket: &BucketName,
        key: &str,
    ) {
        let repaired = self.repair && self.leave_note(bucket, key);
        if repaired {
            self.noted.borrow_mut().push(report.findings.len());
        }
        report.add(kind, path, repaired);
    }

    /// Whether a file in a bucket is a version that a start puts into the history, or removes here because it has it
    /// there. `None` where the bucket's record does not tell whether it has versions.
    pub(super) fn is_version(&self, bucket: &BucketName, dir: &OwnedFd, name: &str, key: &str) -> Option<bool> {
        let (info, _) = bucket::load(&self.records, bucket).ok()?;
        Some(info.versioning.is_some() && self.is_version_of_key(bucket, dir, name, key))
    }

    fn is_version_of_key(&self, bucket: &BucketName, dir: &OwnedFd, name: &str, key: &str) -> bool {
        let version = || {
            let key = Key::parse(key).ok()?;
            let (file, meta) = dir::look_up(dir.as_fd(), [name]).ok()?.into_file()?;
            let record = self.attributes.recorded(bucket, &key, &file, &meta).ok()?.record?;
            Some((meta, record.version(&key)?))
        };
        let Some((meta, version)) = version() else {
            return false;
        };
        let mut names = vec![bucket.as_str().into()];
        names.extend(StorageName::of(key, self.folded).history);
        names.extend(version.null.then(|| NULL.into()));
        let kept = [false, true].into_iter().find_map(|marker| {
            let dir = dir::resolve_dir(self.versions.as_fd(), strs(&names)).ok()?;
            Meta::in_dir(dir, &Kept { version, marker }.name()).ok()
        });
        kept.is_none_or(|kept| kept.is_file_of(&meta))
    }

    /// The next start, which comes at once, puts it right.
    fn leave_note(&self, bucket: &BucketName, key: &str) -> bool {
        let note = Intent::tidy(&self.staging, bucket, key);
        let made = note.is_some();
        note.into_iter().for_each(Intent::leave);
        made
    }

    fn current(&self, bucket: &BucketName, key: &str) -> Option<Meta> {
        let mut dir: OwnedFd = dir::resolve_dir(self.root.as_fd(), [bucket.as_str()]).ok()?;
        let mut segments = key.split('/');
        let last = segments.next_back()?;
        let is_used = |form: &Form| self.folded || !form.is_exact();
        for segment in segments {
            let mut forms = [Form::Exact, Form::Plain].into_iter().filter(is_used);
            dir = forms.find_map(|form| self.directory(&dir, &form.names(segment)))?;
        }
        let forms = [Form::Exact, Form::Plain, Form::ExactForced, Form::Forced];
        forms.into_iter().filter(is_used).find_map(|form| {
            let names = form.names(last);
            let (leaf, dirs) = split(&[], &names);
            let dir = self.directory(&dir, &dirs)?;
            let (file, meta) = dir::look_up_in(dir.as_fd(), leaf).ok()?.into_file()?;
            let is_spelled = || is_of(&file, key).unwrap_or(false) || dir::has_entry(&dir, leaf).unwrap_or(false);
            (!self.folded || is_spelled()).then_some(meta)
        })
    }

    /// The directory that `names` lead to, if all of them are spelled so.
    fn directory(&self, from: &OwnedFd, names: &[Box<str>]) -> Option<OwnedFd> {
        let mut reached = dir::resolve_dir(from.as_fd(), []).ok()?;
        for name in names {
            let is_marked = || self.marks.is_marked_as(&reached, name).unwrap_or(false);
            if self.folded && !is_marked() && !dir::has_entry(&reached, name).unwrap_or(false) {
                return None;
            }
            reached = dir::resolve_dir(reached.as_fd(), [&**name]).ok()?;
        }
        Some(reached)
    }
}
