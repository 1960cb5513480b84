//! Versions: what a key has beside its current object, and what is current.
//!
//! The history of a key is a directory in `.t2/versions/BUCKET`, at the place that the key has in its bucket, under its
//! `.t2!` name, with a file for each version that is kept ([`Kept`]): the object's own file, given this name by a link,
//! or an empty one for a delete marker. The version named `null` lies in a directory `null` inside. No bytes are copied,
//! and all that can be asked of a version is told by its name and its attributes.
//!
//! - **The newest version decides** what is current. A file under the key's own name is current if it is newer than all
//!   that is kept; or if nothing says what version it is, for then something else put it there.
//! - **A version has its name in the history before it loses the key's own**, durably. So a file may have both names:
//!   the two are one version, known by its inode.
//! - **A file under the key's own name that is older** than what is kept, and is kept itself, is what an interrupted
//!   delete has left: it goes.
//! - **A newest version that has no file under the key's own name** has lost it to somebody else: that counts as a delete,
//!   and gets its marker when it is seen.
//! - **An object that cannot have two names is moved** into the history, under a name that says that it is away
//!   ([`Kept::away_name`]). While that is there, and nothing newer, it is still current, and whoever looks brings it back;
//!   as soon as something newer is there, it is kept as others are. So what a crash leaves half done is told by the history
//!   itself, to everybody who has the lock of the key.
//! - **A history's directory stays** as long as its key has any version. So whoever reads a directory of the bucket first
//!   and that of the histories then finds every key in one of them.
//!
//! All this is judged and changed under the lock of the key ([`KeyVersions`]).

mod history;
mod keep;
mod listing;
mod name;
mod own;
mod state;
mod tree;

pub(super) use self::{
    history::{Changed, History, Linked, NULL, path_of},
    name::Kept,
    state::{Current, KeyVersions, last_modified, marker_error},
    tree::remove_empty_histories,
};
