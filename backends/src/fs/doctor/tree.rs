//! What lies in a bucket.

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::FileType,
    io::Errno,
};

use super::{
    Doctor, FsFindingKind, FsReport, Known,
    names::{Meaning, entries},
};
use crate::{
    BucketName, Key,
    fs::{
        attributes::{ATTRIBUTE, Record},
        dir::{self, Entry, Meta},
        keeping::Keeping,
        layout,
        object::{prune, split, strs},
        side::{Named, Side},
        staging, sys, xattr,
    },
    key_codec::{Form, Names},
};

/// A directory still to be examined.
pub(super) struct Level {
    /// On the way from the bucket.
    pub(super) names: Vec<Box<str>>,
    /// What keys in it begin with.
    pub(super) prefix: String,
    /// The pieces of a long segment so far, as spelled and as text.
    pub(super) pieces: (Names, String),
}

impl Doctor {
    /// Whether everything could be read.
    pub(super) fn examine_bucket(
        &self,
        bucket: &BucketName,
        bucket_dir: &OwnedFd,
        report: &mut FsReport,
        seen: &mut Known,
    ) -> bool {
        let mut complete = true;
        let mut left = vec![Level {
            names: Vec::new(),
            prefix: String::new(),
            pieces: Default::default(),
        }];
        while let Some(level) = left.pop() {
            let at = |name: &str| {
                let names = level.names.iter().map(|n| &**n).filter(|n| !n.is_empty());
                let parts: Vec<&str> = [bucket.as_str()].into_iter().chain(names).chain([name]).collect();
                parts.join("/").trim_end_matches('/').to_owned()
            };
            let listed = dir::resolve_dir(bucket_dir.as_fd(), level.names.iter().map(|n| &**n))
                .and_then(|dir| Ok((entries(&dir)?, dir)));
            let (entries, dir) = match listed {
                Ok(listed) => listed,
                Err(Errno::NOENT) => continue,
                Err(_) => {
                    complete = false;
                    report.add(FsFindingKind::Unreadable, at(""), false);
                    continue;
                }
            };
            seen.marks.extend(self.marks.name_of(&dir));
            if entries.is_empty() && !level.names.is_empty() && self.marks.is_marked(&dir) {
                if self.repair {
                    prune(&self.marks, bucket_dir, &level.names);
                }
                let gone = dir::resolve_dir(bucket_dir.as_fd(), level.names.iter().map(|n| &**n)).is_err();
                report.add(FsFindingKind::EmptyDirectory, at(""), self.repair && gone);
            }
            for (name, kind) in entries {
                let Some(name) = name else {
                    report.add(FsFindingKind::UnusableName, at("(not UTF-8)"), false);
                    continue;
                };
                let is_dir = match kind {
                    FileType::Directory => true,
                    FileType::RegularFile => false,
                    FileType::Unknown => match Meta::in_dir(&dir, &name) {
                        Ok(meta) if meta.is_dir() => true,
                        Ok(meta) if meta.is_file() => false,
                        _ => continue,
                    },
                    _ => continue,
                };
                let Some(meaning) = Meaning::of(&level.pieces, &name, is_dir, self.folded) else {
                    report.add(FsFindingKind::UnusableName, at(&name), false);
                    continue;
                };
                let names = || level.names.iter().cloned().chain([name.clone()]).collect();
                match meaning {
                    Meaning::Piece(text) => {
                        let mut pieces = level.pieces.clone();
                        pieces.0.push(name.clone());
                        pieces.1.push_str(&text);
                        left.push(Level {
                            names: names(),
                            prefix: level.prefix.clone(),
                            pieces,
                        });
                    }
                    Meaning::Directory { segment, form } => {
                        if self.is_shadowed(bucket_dir, &level, &segment, form, FileType::Directory) {
                            report.add(FsFindingKind::TwoDirectories, at(&name), false);
                        }
                        left.push(Level {
                            names: names(),
                            prefix: format!("{}{segment}/", level.prefix),
                            pieces: Default::default(),
                        });
                    }
                    Meaning::Object { segment, form } => {
                        let key = format!("{}{segment}", level.prefix);
                        if Key::parse(key.as_str()).is_err() {
                            report.add(FsFindingKind::UnusableName, at(&name), false);
                            continue;
                        }
                        if self.is_shadowed(bucket_dir, &level, &segment, form, FileType::RegularFile) {
                            let kind = FsFindingKind::TwoFiles;
                            // What a start sees is what has the first of the second names.
                            let is_seen = form == Form::ExactForced
                                || form == Form::Forced
                                    && !self.has_one(
                                        bucket_dir,
                                        &level,
                                        &segment,
                                        self.folded.then_some(Form::ExactForced),
                                        FileType::RegularFile,
                                    );
                            match self.is_version(bucket, &dir, &name, &key) {
                                Some(true) if is_seen => self.add_noted(report, kind, at(&name), bucket, &key),
                                Some(_) => {
                                    let repaired = self.repair && self.put_away(&dir, &name).is_ok();
                                    report.add(kind, at(&name), repaired);
                                    if repaired {
                                        continue;
                                    }
                                }
                                // It may be the only copy of a version.
                                None => report.add(kind, at(&name), false),
                            }
                        }
                        let examined = self.examine_file(bucket, &dir, &name, &key, &at(&name), report, seen);
                        report.objects += u64::from(examined.is_some());
                        complete &= examined.unwrap_or(false);
                    }
                }
            }
        }
        complete
    }

    /// Whether its attributes could be read. `None` where it could not be opened.
    #[expect(clippy::too_many_arguments, reason = "what it is, in all respects")]
    pub(super) fn examine_file(
        &self,
        bucket: &BucketName,
        dir: &OwnedFd,
        name: &str,
        key: &str,
        path: &str,
        report: &mut FsReport,
        seen: &mut Known,
    ) -> Option<bool> {
        let (file, meta) = match dir::look_up(dir.as_fd(), [name]) {
            Ok(Entry::File(file, meta)) => (file, meta),
            Ok(_) => {
                report.add(FsFindingKind::Unreadable, path.into(), false);
                return None;
            }
            Err(_) => return None,
        };
        match self.attributes.keeping {
            Keeping::Extended => Some(self.examine_extended(&file, &meta, key, path, report, seen)),
            Keeping::SideFiles => {
                let Ok(key) = Key::parse(key) else {
                    return Some(true);
                };
                let Ok(recorded) = self.attributes.recorded(bucket, &key, &file, &meta) else {
                    report.add(FsFindingKind::Unreadable, path.into(), false);
                    return Some(false);
                };
                if recorded.side_id.is_some() && recorded.record.is_none() {
                    report.add(FsFindingKind::DamagedAttributes, path.into(), false);
                }
                seen.sides.extend(recorded.side_id);
                Some(true)
            }
        }
    }

    fn examine_extended(
        &self,
        file: &OwnedFd,
        meta: &Meta,
        key: &str,
        path: &str,
        report: &mut FsReport,
        seen: &mut Known,
    ) -> bool {
        let record = match Record::load_any(file) {
            Ok(Some(record)) => record,
            Ok(None) => {
                if xattr::is_there(file, ATTRIBUTE) {
                    report.add(FsFindingKind::DamagedAttributes, path.into(), false);
                    // Which side file it named cannot be told.
                    return false;
                }
                return true;
            }
            Err(_) => {
                report.add(FsFindingKind::Unreadable, path.into(), false);
                return false;
            }
        };
        if !record.holds_for(meta) {
            let repaired = self.repair && xattr::remove(file, ATTRIBUTE).is_ok();
            report.add(FsFindingKind::StaleAttributes, path.into(), repaired);
            if repaired {
                return true;
            }
        }
        if let Some(side) = record.side {
            if *record.key == *key {
                let opened = Side::open(&self.attributes.dir, &side).and_then(|opened| match opened {
                    Named::Whole(side) if !side.has_parts(record.parts_count.unwrap_or(0))? => Ok(Named::Damaged),
                    opened => Ok(opened),
                });
                match opened {
                    Ok(Named::Whole(_)) => {}
                    Ok(Named::Damaged) => report.add(FsFindingKind::DamagedAttributes, path.into(), false),
                    Ok(Named::Absent) => report.add(FsFindingKind::MissingSideFile, path.into(), false),
                    Err(_) => report.add(FsFindingKind::Unreadable, path.into(), false),
                }
            }
            seen.sides.insert(side);
        }
        true
    }

    /// Whether the segment, which was met in this form at the end of `level`, has something of this type in a form that
    /// goes before it.
    fn is_shadowed(&self, bucket_dir: &OwnedFd, level: &Level, segment: &str, form: Form, kind: FileType) -> bool {
        let before: &[Form] = match (form, self.folded) {
            (Form::Exact, _) | (Form::Plain, false) => &[],
            (Form::Plain, true) => &[Form::Exact],
            (Form::ExactForced, _) => &[Form::Exact, Form::Plain],
            (Form::Forced, false) => &[Form::Plain],
            (Form::Forced, true) => &[Form::Exact, Form::Plain, Form::ExactForced],
        };
        self.has_one(bucket_dir, level, segment, before.iter().copied(), kind)
    }

    /// Whether the segment has something of this type in one of these forms.
    fn has_one(
        &self,
        bucket_dir: &OwnedFd,
        level: &Level,
        segment: &str,
        forms: impl IntoIterator<Item = Form>,
        kind: FileType,
    ) -> bool {
        let base = &level.names[..level.names.len() - level.pieces.0.len()];
        forms.into_iter().any(|form| {
            let names = form.names(segment);
            let (leaf, dirs) = split(base, &names);
            let Ok(dir) = dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs)) else {
                return false;
            };
            let is_such = Meta::in_dir(&dir, leaf).is_ok_and(|meta| meta.file_type == kind);
            // Another spelling may have answered.
            is_such && (!self.folded || dir::has_entry(&dir, leaf).unwrap_or(false))
        })
    }

    /// Moves a file out of the tree.
    fn put_away(&self, dir: &OwnedFd, name: &str) -> Result<(), Errno> {
        let lost = layout::own_dir(&self.space, layout::LOST)?;
        let random = staging::random_name().map_err(|_| Errno::IO)?;
        sys::renameat(dir, name, &lost, &random)?;
        tracing::info!(from = name, to = format!(".t2/{}/{random}", layout::LOST), "moved away");
        Ok(())
    }
}
