//! Examines a root that no gateway serves, and repairs what can be repaired without losing bytes.

mod histories;
mod names;

use std::{
    cell::Cell,
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
};

use self::names::{Meaning, entries};
use super::{
    Durability, FsOpenError, FsOptions, Store,
    attributes::{ATTRIBUTE, Record},
    bucket, dir,
    dir::{Entry, Meta},
    keeping::{Attributes, Keeping},
    layout::{self, Format, LockFile},
    marks::Marks,
    multipart::load_upload,
    names::Folding,
    object::{prune, split, strs},
    staging, sys, xattr,
};
use crate::{
    BucketName, Key, SystemClock, UploadId,
    key_codec::{Form, Names},
};

/// What is wrong, or left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FsFindingKind {
    /// Something in staging: left by a crash. Repair finishes or undoes it, as the next start does.
    Staging,
    /// A file of attributes of no object as it is. Repair removes it.
    OrphanedSideFile,
    /// The file system has no extended attributes, and the objects had theirs there. Repair says so in `.t2/format`; from
    /// then on attributes lie in side files.
    LostAttributes,
    /// A note in `.t2/directories` about a directory that is not there. Repair removes it.
    OrphanedMark,
    /// An object names a file of attributes that is not there: its metadata or parts are lost. Its bytes are not.
    MissingSideFile,
    /// The attributes are damaged or of another version: the file is served without them.
    DamagedAttributes,
    /// The file has changed since its attributes were written, and is served without them. Repair removes them.
    StaleAttributes,
    /// A key has two files, and this one is not served. Repair moves it to `.t2/lost`.
    TwoFiles,
    /// A segment has two directories, and what is in this one is not served.
    TwoDirectories,
    /// The name is an escape that stands for nothing where it is, is not UTF-8, or makes a key that is empty or too long:
    /// it is not served.
    UnusableName,
    /// An empty directory of the gateway's. Repair removes it.
    EmptyDirectory,
    /// A directory that the gateway made for a bucket, and no bucket. Repair removes it if it is empty.
    AbandonedBucket,
    /// A bucket without a directory: its objects are gone, or elsewhere.
    MissingBucket,
    /// The record of a bucket cannot be read: the gateway does not start.
    DamagedBucket,
    /// An upload of no bucket, or without a readable record. Repair removes it.
    AbandonedUpload,
    /// Versions of no bucket. Repair moves them to `.t2/lost`.
    OrphanedHistory,
    /// An object that was deleted and is kept still lies under its key's name, which hides that. Repair removes that name.
    DeletedObject,
    /// What was the version `null` before another was. Repair removes it.
    ReplacedVersion,
    /// It could not be examined.
    Unreadable,
}

impl FsFindingKind {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::OrphanedSideFile => "orphaned-side-file",
            Self::LostAttributes => "lost-attributes",
            Self::OrphanedMark => "orphaned-mark",
            Self::MissingSideFile => "missing-side-file",
            Self::DamagedAttributes => "damaged-attributes",
            Self::StaleAttributes => "stale-attributes",
            Self::TwoFiles => "two-files",
            Self::TwoDirectories => "two-directories",
            Self::UnusableName => "unusable-name",
            Self::EmptyDirectory => "empty-directory",
            Self::AbandonedBucket => "abandoned-bucket",
            Self::MissingBucket => "missing-bucket",
            Self::DamagedBucket => "damaged-bucket",
            Self::AbandonedUpload => "abandoned-upload",
            Self::OrphanedHistory => "orphaned-history",
            Self::DeletedObject => "deleted-object",
            Self::ReplacedVersion => "replaced-version",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsFinding {
    pub kind: FsFindingKind,
    /// Below the root; what is not UTF-8 is replaced.
    pub path: String,
    pub repaired: bool,
}

/// What an examination has seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FsReport {
    pub buckets: u64,
    /// Files that are served.
    pub objects: u64,
    /// Versions that are kept beside those, delete markers among them.
    pub versions: u64,
    pub findings: Vec<FsFinding>,
}

/// Examines a root, and repairs it if told so. Blocks; reads the attributes of every file, and holds the names of all
/// side files in memory. Fails where another process serves the root, where `.t2/format` is missing or of another
/// version, and where the gateway's own directories cannot be read.
pub fn examine_fs(root: &Path, repair: bool) -> Result<FsReport, FsOpenError> {
    let mut report = FsReport::default();
    let mut doctor = Doctor::open(root, repair)?;
    let left = doctor.names(&doctor.staging)?;
    let mut still: HashSet<Box<str>> = left.iter().cloned().collect();
    if repair && !left.is_empty() {
        drop(doctor);
        start(root)?;
        doctor = Doctor::open(root, repair)?;
        still = doctor.names(&doctor.staging)?.into_iter().collect();
    }
    for name in left {
        let repaired = !still.contains(&name);
        report.add(FsFindingKind::Staging, format!(".t2/staging/{name}"), repaired);
    }
    doctor.examine(&mut report)?;
    if doctor.noted.get() {
        drop(doctor);
        start(root)?;
    }
    Ok(report)
}

/// As the gateway does, which follows the notes in staging.
fn start(root: &Path) -> Result<(), FsOpenError> {
    let options = FsOptions {
        durability: Durability::PowerSafe,
        ..FsOptions::new(root, Arc::new(SystemClock))
    };
    match Store::open(options) {
        // A damaged record is found again.
        Ok(_) | Err(FsOpenError::Damaged { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

impl FsReport {
    fn add(&mut self, kind: FsFindingKind, path: String, repaired: bool) {
        self.findings.push(FsFinding { kind, path, repaired });
    }
}

struct Doctor {
    path: PathBuf,
    repair: bool,
    /// Whether names may be those of a file system that folds names.
    folded: bool,
    root: OwnedFd,
    space: OwnedFd,
    staging: Arc<OwnedFd>,
    attributes: Attributes,
    marks: Marks,
    /// What was in extended attributes is gone.
    lost_attributes: bool,
    records: OwnedFd,
    uploads: OwnedFd,
    versions: OwnedFd,
    /// Something is left for the next start to do.
    noted: Cell<bool>,
    _lock: OwnedFd,
}

/// What was met in the tree.
#[derive(Default)]
struct Known {
    /// Side files that are an object's.
    sides: HashSet<Box<str>>,
    /// The marks that directories have or would have.
    marks: HashSet<String>,
}

/// A directory still to be examined.
struct Level {
    /// On the way from the bucket.
    names: Vec<Box<str>>,
    /// What keys in it begin with.
    prefix: String,
    /// The pieces of a long segment so far, as spelled and as text.
    pieces: (Names, String),
}

impl Doctor {
    fn open(path: &Path, repair: bool) -> Result<Self, FsOpenError> {
        let failed = |source: Errno| FsOpenError::Io {
            root: path.into(),
            action: "could not open the directory",
            source: source.into(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(path, flags, Mode::empty()).map_err(failed)?;
        match Meta::in_dir(&root, ".t2/format") {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(FsOpenError::NoRoot(path.into())),
            outcome => outcome.map_err(failed)?,
        };
        let space = dir::resolve_dir(root.as_fd(), [layout::SPACE]).map_err(failed)?;
        let lock = layout::take_lock(&space, path, false, LockFile::Made)?;
        // What has no format yet was refused above.
        let mut format = layout::read_format(&space, path)?.ok_or_else(|| FsOpenError::NoRoot(path.into()))?;
        let part = |name| layout::own_dir(&space, name).map_err(failed);
        let staging = Arc::new(part("staging")?);
        let lost_attributes =
            format.keeping() == Keeping::Extended && !Keeping::has_extended(&staging).map_err(failed)?;
        let records = part("buckets")?;
        if lost_attributes && repair {
            // Their versions could not be told apart any more.
            for bucket in dir::names(&records).map_err(failed)? {
                if let Ok(bucket) = BucketName::parse(bucket)
                    && bucket::load(&records, &bucket).is_ok_and(|(info, _)| info.versioning.is_some())
                {
                    return Err(layout::versions_need_extended(path, &bucket));
                }
            }
            if format == Format::Two || Folding::probe(&staging).map_err(failed)?.is_some() {
                return Err(FsOpenError::FoldedSideFiles(path.into()));
            }
            format = Format::SideFiles;
            layout::write_format(&space, format).map_err(failed)?;
        }
        let marks = layout::marks(&space, &staging, format).map_err(failed)?;
        marks.recovered();
        Ok(Self {
            path: path.into(),
            repair,
            folded: format == Format::Two,
            attributes: Attributes::new(format.keeping(), part("attributes")?).map_err(failed)?,
            marks,
            lost_attributes,
            staging,
            records,
            uploads: part("uploads")?,
            versions: part("versions")?,
            noted: Cell::new(false),
            root,
            space,
            _lock: lock,
        })
    }

    fn failed(&self, source: Errno) -> FsOpenError {
        FsOpenError::Io {
            root: self.path.clone(),
            action: "could not examine the gateway's own files",
            source: source.into(),
        }
    }

    fn names(&self, dir: &OwnedFd) -> Result<Vec<Box<str>>, FsOpenError> {
        let mut names = dir::names(dir).map_err(|error| self.failed(error))?;
        names.sort_unstable();
        Ok(names)
    }

    fn examine(&self, report: &mut FsReport) -> Result<(), FsOpenError> {
        let mut buckets = HashSet::new();
        let mut seen = Known::default();
        // An object that was not seen may have any of the side files, and one whose attributes are lost, too.
        let mut complete = !self.lost_attributes;
        if self.lost_attributes {
            let repaired = self.attributes.keeping == Keeping::SideFiles;
            report.add(FsFindingKind::LostAttributes, ".t2/format".into(), repaired);
        }
        for name in self.names(&self.records)? {
            let Ok(bucket) = BucketName::parse(name) else {
                continue;
            };
            report.buckets += 1;
            if bucket::load(&self.records, &bucket).is_err() {
                report.add(FsFindingKind::DamagedBucket, format!(".t2/buckets/{bucket}"), false);
            }
            match dir::resolve_dir(self.root.as_fd(), [bucket.as_str()]) {
                Ok(dir) => complete &= self.examine_bucket(&bucket, &dir, report, &mut seen),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    report.add(FsFindingKind::MissingBucket, bucket.to_string(), false);
                }
                Err(_) => {
                    complete = false;
                    report.add(FsFindingKind::Unreadable, bucket.to_string(), false);
                }
            }
            buckets.insert(bucket.to_string());
        }
        for name in self.names(&self.root)? {
            if buckets.contains(&*name) || &*name == layout::SPACE {
                continue;
            }
            let Ok(there) = dir::resolve_dir(self.root.as_fd(), [&*name]) else {
                continue;
            };
            if self.marks.is_marked(&there) {
                let mark = self.marks.name_of(there);
                let repaired = self.repair && self.marks.remove_if_ours(self.root.as_fd(), &name);
                report.add(FsFindingKind::AbandonedBucket, name.into(), repaired);
                seen.marks.extend(mark.filter(|_| !repaired));
            }
        }
        complete &= self.examine_histories(&buckets, report, &mut seen)?;
        if complete {
            self.examine_sides(&seen, report)?;
            self.examine_marks(&seen, report)?;
        }
        self.examine_uploads(&buckets, report)?;
        if self.repair {
            fs::syncfs(&self.root).map_err(|error| self.failed(error))?;
        }
        report.findings.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }

    /// Side files of no object.
    fn examine_sides(&self, seen: &Known, report: &mut FsReport) -> Result<(), FsOpenError> {
        let mut judge = |dir: &OwnedFd, name: &str, path: String| {
            let repaired = self.repair && dir::unlink(dir, name).is_ok();
            report.add(FsFindingKind::OrphanedSideFile, path, repaired);
        };
        for name in self.names(&self.attributes.dir)? {
            match (
                self.attributes.keeping,
                dir::resolve_dir(self.attributes.dir.as_fd(), [&*name]),
            ) {
                (Keeping::SideFiles, Ok(shelf)) => {
                    for rest in self.names(&shelf)? {
                        if !seen.sides.contains(&*format!("{name}{rest}")) {
                            judge(&shelf, &rest, format!(".t2/attributes/{name}/{rest}"));
                        }
                    }
                }
                (Keeping::Extended, _) if seen.sides.contains(&*name) => {}
                _ => judge(&self.attributes.dir, &name, format!(".t2/attributes/{name}")),
            }
        }
        Ok(())
    }

    /// Marks of no directory.
    fn examine_marks(&self, seen: &Known, report: &mut FsReport) -> Result<(), FsOpenError> {
        let Marks::Registry(registry) = &self.marks else {
            return Ok(());
        };
        for name in self.names(registry.marks())? {
            if !seen.marks.contains(&*name) {
                let repaired = self.repair && dir::unlink(registry.marks(), &name).is_ok();
                report.add(FsFindingKind::OrphanedMark, format!(".t2/directories/{name}"), repaired);
            }
        }
        Ok(())
    }

    fn examine_uploads(&self, buckets: &HashSet<String>, report: &mut FsReport) -> Result<(), FsOpenError> {
        for bucket in self.names(&self.uploads)? {
            let Ok(dir) = dir::resolve_dir(self.uploads.as_fd(), [&*bucket]) else {
                continue;
            };
            for id in self.names(&dir)? {
                let known = UploadId::parse(id.clone()).is_ok_and(|id| load_upload(&dir, &id).is_ok());
                if !known || !buckets.contains(&*bucket) {
                    let repaired = self.repair && dir::remove_tree(dir.as_fd(), &id, 2).is_ok();
                    report.add(
                        FsFindingKind::AbandonedUpload,
                        format!(".t2/uploads/{bucket}/{id}"),
                        repaired,
                    );
                }
            }
        }
        Ok(())
    }

    /// Whether everything could be read.
    fn examine_bucket(
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
                            let repaired = self.repair && self.put_away(&dir, &name).is_ok();
                            report.add(FsFindingKind::TwoFiles, at(&name), repaired);
                            if repaired {
                                continue;
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
    fn examine_file(
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
            let missing = matches!(Meta::in_dir(&self.attributes.dir, &side), Err(Errno::NOENT));
            if missing && *record.key == *key {
                report.add(FsFindingKind::MissingSideFile, path.into(), false);
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
        let base = &level.names[..level.names.len() - level.pieces.0.len()];
        before.iter().any(|form| {
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
