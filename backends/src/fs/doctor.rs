//! Examines a root that no gateway serves, and repairs what can be repaired without losing bytes.

mod histories;
mod names;
mod report;
mod strays;
mod tree;

use std::{
    cell::RefCell,
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, Mode, OFlags},
    io::Errno,
};

pub use self::report::{FsFinding, FsFindingKind, FsReport};
use super::{
    Durability, FsOpenError, FsOptions, Store, bucket,
    dir::{self, Meta},
    durable,
    keeping::{Attributes, Keeping},
    layout::{self, Format},
    locks::file::{FileLock, LockFile},
    marks::Marks,
    multipart::load_upload,
    names::Folding,
};
use crate::{BucketName, SystemClock, UploadId};

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Examines a root, and repairs it if told so. Blocks; reads the attributes of every file, and holds the names of all
/// side files in memory. Fails where another process serves the root, where `.t2/format` is missing or of another
/// version, and where the gateway's own directories cannot be read.
pub fn examine_fs(root: &Path, repair: bool) -> Result<FsReport, FsOpenError> {
    let mut report = FsReport::default();
    // Held to the end: nobody comes in between two steps of a repair.
    let lock = Arc::new(lock(root)?);
    let mut doctor = Doctor::open(root, repair)?;
    let left = doctor.names(&doctor.staging)?;
    let mut still: HashSet<Box<str>> = left.iter().cloned().collect();
    if repair && !left.is_empty() {
        let _swept = start(root, &lock)?;
        doctor = Doctor::open(root, repair)?;
        still = doctor.names(&doctor.staging)?.into_iter().collect();
    }
    for name in left {
        let repaired = !still.contains(&name);
        report.add(FsFindingKind::Staging, format!(".t2/staging/{name}"), repaired);
    }
    doctor.examine(&mut report)?;
    let noted = doctor.noted.take();
    if !noted.is_empty() && !start(root, &lock)? {
        for at in noted {
            report.findings[at].repaired = false;
        }
    }
    Ok(report)
}

/// Takes the lock of what is a root.
fn lock(path: &Path) -> Result<FileLock, FsOpenError> {
    let failed = could_not_open(path);
    let root = fs::open(path, FLAGS, Mode::empty()).map_err(&failed)?;
    match Meta::in_dir(&root, ".t2/format") {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(FsOpenError::NoRoot(path.into())),
        outcome => outcome.map_err(&failed)?,
    };
    let space = dir::resolve_dir(root.as_fd(), [layout::SPACE]).map_err(&failed)?;
    layout::take_lock(&space, path, false, LockFile::Made)
}

fn could_not_open(path: &Path) -> impl Fn(Errno) -> FsOpenError {
    move |source| FsOpenError::Io {
        root: path.into(),
        action: "could not open the directory",
        source: source.into(),
    }
}

/// As the gateway does, which follows the notes in staging: unless a bucket's record is damaged. Whether it did.
fn start(root: &Path, lock: &Arc<FileLock>) -> Result<bool, FsOpenError> {
    let options = FsOptions {
        durability: Durability::PowerSafe,
        ..FsOptions::new(root, Arc::new(SystemClock))
    };
    match Store::open_locked(options, Arc::clone(lock)) {
        Ok(_) => Ok(true),
        // It is found again.
        Err(FsOpenError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
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
    /// The findings that the next start repairs.
    noted: RefCell<Vec<usize>>,
}

/// What was met in the tree.
#[derive(Default)]
struct Known {
    /// Side files that are an object's.
    sides: HashSet<Box<str>>,
    /// The marks that directories have or would have.
    marks: HashSet<String>,
    /// Size and modification time of files in no bucket, where side files have their names of what these had been.
    strays: HashSet<(u64, (i64, u32))>,
}

impl Doctor {
    /// With the [`lock`] held.
    fn open(path: &Path, repair: bool) -> Result<Self, FsOpenError> {
        let failed = &could_not_open(path);
        let root = fs::open(path, FLAGS, Mode::empty()).map_err(failed)?;
        let space = dir::resolve_dir(root.as_fd(), [layout::SPACE]).map_err(failed)?;
        let mut format = layout::read_format(&space, path)?.ok_or_else(|| FsOpenError::NoRoot(path.into()))?;
        let part = |name| layout::own_dir(&space, name).map_err(failed);
        let staging = Arc::new(part("staging")?);
        let lost_attributes =
            format.keeping() == Keeping::Extended && !Keeping::has_extended(&staging).map_err(failed)?;
        let records = part("buckets")?;
        if lost_attributes && repair {
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
            noted: RefCell::default(),
            root,
            space,
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
                    // Its files may be where nobody looks.
                    complete = false;
                    report.add(FsFindingKind::MissingBucket, bucket.to_string(), false);
                }
                Err(_) => {
                    complete = false;
                    report.add(FsFindingKind::Unreadable, bucket.to_string(), false);
                }
            }
            buckets.insert(bucket.to_string());
        }
        let mut strays = Vec::new();
        for name in self.names(&self.root)? {
            if buckets.contains(&*name) || &*name == layout::SPACE {
                continue;
            }
            strays.push(name.clone());
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
        // When all is put away that will be.
        if complete && self.examine_strays(&strays, report, &mut seen) {
            self.examine_sides(&seen, report)?;
            self.examine_marks(&seen, report)?;
        }
        self.examine_uploads(&buckets, report)?;
        if self.repair {
            durable::sync_root(&self.root).map_err(|error| self.failed(error))?;
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
                        let is_known = seen.sides.contains(&*format!("{name}{rest}"));
                        if !is_known && !self.is_of_a_stray(&shelf, &rest, seen) {
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
}
