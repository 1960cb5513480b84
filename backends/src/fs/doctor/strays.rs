//! What lies where no bucket is: what was put away, and what somebody moved aside. It may be put back, and shall find its
//! side files then.

use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
};

use super::{Doctor, FsFindingKind, FsReport, Known, names::entries};
use crate::fs::{
    attributes::{ATTRIBUTE, Record},
    dir::{self, Entry, Meta},
    keeping::Keeping,
    layout,
    object::strs,
    side::{Found, Side},
    xattr,
};

/// Made by `mkfs`, and nobody else's to read.
const OF_FSCK: &str = "lost+found";

impl Doctor {
    /// Looks through these of the root's own entries, and through what was put away. Whether everything could be read.
    pub(super) fn examine_strays(&self, names: &[Box<str>], report: &mut FsReport, seen: &mut Known) -> bool {
        let mut unread = Vec::new();
        for name in names {
            self.examine_stray(&self.root, name, seen, &mut unread);
        }
        // It is of root alone, and as a rule empty.
        unread.retain(|(path, error)| (&**path, *error) != (OF_FSCK, Errno::ACCESS));
        let at = unread.len();
        self.examine_stray(&self.space, layout::LOST, seen, &mut unread);
        for (path, _) in &mut unread[at..] {
            path.insert_str(0, ".t2/");
        }
        let complete = unread.is_empty();
        for (path, _) in unread {
            report.add(FsFindingKind::Unreadable, path, false);
        }
        complete
    }

    /// With all that is in it. Adds to `unread` what could not be read, and why.
    fn examine_stray(&self, base: &OwnedFd, name: &str, seen: &mut Known, unread: &mut Vec<(String, Errno)>) {
        let mut left: Vec<Vec<Box<str>>> = Vec::new();
        match Meta::in_dir(base, name) {
            Ok(meta) if meta.is_dir() => left.push(vec![name.into()]),
            Ok(meta) if meta.is_file() => {
                if let Err(error) = self.examine_stray_file(base, name, &meta, seen) {
                    unread.push((name.into(), error));
                }
            }
            Err(Errno::NOENT) => {}
            // What was put away is not behind a link: what is there instead is not known.
            Ok(_) if name == layout::LOST => unread.push((name.into(), Errno::NOTDIR)),
            Ok(_) => {}
            Err(error) => unread.push((name.into(), error)),
        }
        while let Some(names) = left.pop() {
            let listed = dir::resolve_dir(base.as_fd(), strs(&names)).and_then(|dir| Ok((entries(&dir)?, dir)));
            let (entries, dir) = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    unread.push((names.join("/"), error));
                    continue;
                }
            };
            seen.marks.extend(self.marks.name_of(&dir));
            for (name, _) in entries {
                let at = |name: &str| format!("{}/{name}", names.join("/"));
                let Some(name) = name else {
                    unread.push((at("(not UTF-8)"), Errno::ILSEQ));
                    continue;
                };
                let examined = Meta::in_dir(&dir, &name).and_then(|meta| {
                    if meta.is_dir() {
                        left.push(names.iter().cloned().chain([name.clone()]).collect());
                    } else if meta.is_file() {
                        self.examine_stray_file(&dir, &name, &meta, seen)?;
                    }
                    Ok(())
                });
                if let Err(error) = examined {
                    unread.push((at(&name), error));
                }
            }
        }
    }

    fn examine_stray_file(&self, dir: &OwnedFd, name: &str, meta: &Meta, seen: &mut Known) -> Result<(), Errno> {
        if self.attributes.keeping == Keeping::SideFiles {
            seen.strays.insert((meta.size, meta.mtime));
            return Ok(());
        }
        let Entry::File(file, _) = dir::look_up(dir.as_fd(), [name])? else {
            return Err(Errno::ACCESS);
        };
        match Record::load_any(&file).map_err(|_| Errno::IO)? {
            Some(record) => seen.sides.extend(record.side),
            // Which side file it named cannot be told.
            None if xattr::is_there(&file, ATTRIBUTE) => return Err(Errno::ILSEQ),
            None => {}
        }
        Ok(())
    }

    /// Whether a side file, which has its name of a key and a bucket, may be that of a file that lies elsewhere.
    pub(super) fn is_of_a_stray(&self, shelf: &OwnedFd, name: &str, seen: &Known) -> bool {
        if seen.strays.is_empty() {
            return false;
        }
        match Side::open_whole(shelf, [name]) {
            Ok(Found::Whole(_, head)) => {
                minicbor::decode::<Record>(&head).is_ok_and(|record| seen.strays.contains(&(record.size, record.mtime)))
            }
            Ok(Found::Damaged | Found::Absent) => false,
            Err(_) => true,
        }
    }
}
