//! Objects: finding them, and the step in which a write takes effect.

mod commit;
mod delete;
mod directories;
mod find;
mod unlinkable;

use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
};

pub(super) use self::{commit::LARGE, find::find_once, unlinkable::away_file};
use super::{
    Store,
    bucket::Bucket,
    dir::{self, Meta},
    error::Error,
    intent::Intent,
    keeping::Attributes,
    marks::Marks,
};
use crate::{BackendError, Key, key_codec::Names};

/// How often a commit starts again because a directory went away, or came, under it.
const MAX_ATTEMPTS: usize = 64;

/// A side file that has to go, and the note of that.
struct DisplacedSide {
    id: Box<str>,
    intent: Option<Intent>,
}

impl DisplacedSide {
    /// Removes it if the displacement is durable. If that is not known, the next start judges.
    fn settle(self, attributes: &Attributes, is_durable: bool) {
        if is_durable {
            attributes.remove_side(&self.id);
        } else {
            self.leave();
        }
    }

    /// The next start judges.
    fn leave(self) {
        self.intent.into_iter().for_each(Intent::leave);
    }
}

impl Store {
    /// Of an object that is about to go.
    fn displaced_side(&self, bucket: &Bucket, key: &Key, id: Option<&str>) -> Option<DisplacedSide> {
        let id: Box<str> = id?.into();
        Some(DisplacedSide {
            intent: Intent::side(&self.staging, &id, &bucket.name, key.as_str()),
            id,
        })
    }
}

/// Removes directories of ours that have become empty, the innermost of those that are there first. A writer who has one
/// of them open finds it gone and makes it anew. `false` where something failed, so that an empty one may have stayed: the
/// note of whoever made them empty is then to be left.
pub(super) fn prune(marks: &Marks, bucket_dir: &OwnedFd, dirs: &[Box<str>]) -> bool {
    for depth in (0..dirs.len()).rev() {
        let parent = match dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs[..depth])) {
            Ok(parent) => parent,
            Err(Errno::NOENT) => continue,
            Err(error) => return dir::is_no_object(error),
        };
        match marks.try_remove(parent.as_fd(), &dirs[depth]) {
            Ok(true) => {}
            Ok(false) => match Meta::in_dir(&parent, &dirs[depth]) {
                Err(Errno::NOENT) => {}
                outcome => return outcome.is_ok(),
            },
            Err(_) => return false,
        }
    }
    true
}

/// The last name of a path, and the directories before it.
pub(super) fn split<'a>(parents: &[Box<str>], last: &'a Names) -> (&'a str, Vec<Box<str>>) {
    let (leaf, chunks) = last.split_last().expect("a segment has at least one name");
    (leaf, parents.iter().chain(chunks).cloned().collect())
}

pub(super) fn strs(names: &[Box<str>]) -> impl Iterator<Item = &str> {
    names.iter().map(|name| &**name)
}

fn unsupported() -> Error {
    BackendError::UnsupportedKey("a name on its way is taken by what is neither a file nor a directory").into()
}
