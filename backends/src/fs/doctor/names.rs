//! What the names in a directory stand for.

use std::ops::ControlFlow;

use rustix::{fd::OwnedFd, fs::FileType, io::Errno};

use crate::{
    fs::dir,
    key_codec::{Form, Name, Names},
};

/// What a name in a bucket stands for.
pub(super) enum Meaning {
    /// The next piece of a long segment.
    Piece(String),
    Directory {
        segment: String,
        form: Form,
    },
    Object {
        segment: String,
        form: Form,
    },
}

impl Meaning {
    /// `None` of what is only a piece.
    pub(super) fn form(&self) -> Option<Form> {
        match self {
            Self::Piece(_) => None,
            Self::Directory { form, .. } | Self::Object { form, .. } => Some(*form),
        }
    }

    /// `None` for what is the spelling of nothing. `pieces` of a long segment lead to the directory that it is in, as
    /// spelled and as text.
    pub(super) fn of((pieces, text): &(Names, String), name: &str, is_dir: bool, folded: bool) -> Option<Self> {
        let parsed = if pieces.is_empty() {
            Name::parse(name, folded)
        } else {
            Name::parse_piece(name, folded)
        };
        let (rest, form) = match parsed {
            Name::Plain => (name.to_owned(), Form::Plain),
            Name::Escaped(rest, form) if !(is_dir && form.is_forced()) => (rest, form),
            Name::Continued(text) if is_dir => return Some(Self::Piece(text)),
            _ => return None,
        };
        let segment = format!("{text}{rest}");
        let spelled = pieces.iter().map(|n| &**n).chain([name]);
        form.names(&segment)
            .iter()
            .map(|n| &**n)
            .eq(spelled)
            .then_some(if is_dir {
                Self::Directory { segment, form }
            } else {
                Self::Object { segment, form }
            })
    }
}

pub(super) type RawEntry = (Option<Box<str>>, FileType);

/// All entries of a directory; without a name where that is not UTF-8.
pub(super) fn entries(dir: &OwnedFd) -> Result<Vec<RawEntry>, Errno> {
    let mut entries = Vec::new();
    dir::scan_raw(dir, |name, kind| {
        entries.push((name.to_str().ok().map(Into::into), kind));
        ControlFlow::Continue(())
    })?;
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}
