//! What an earlier start has noted of the store: a later one that took it for another would lose what lies there.

use bytes::Bytes;

use super::{
    ATTEMPTS, Core, Level, OpendalOpenError, ProbeReport, StoreLayout,
    bucket::MAX_RECORD_BYTES,
    key::StoreKey,
    store::{Dress, Precondition, Store, StoreError, Token},
};
use crate::BackendError;

/// Leads the note. The number is that of the format of all that the gateway keeps in the store.
const FORMAT: [&str; 2] = ["t2gate-store", "1"];

/// One line of text, for operators to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    layout: StoreLayout,
    /// The highest that the store was found to have.
    level: Level,
}

impl Noted {
    fn to_text(self) -> String {
        let [name, version] = FORMAT;
        format!("{name} {version} {} {}\n", self.layout.word(), level_word(self.level))
    }

    fn of_text(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let [name, version, layout, level] = words[..] else {
            return None;
        };
        let layouts = [StoreLayout::Transparent, StoreLayout::Encoded];
        let levels = [Level::Blobs, Level::CreateIfAbsent, Level::CompareAndSet];
        Some(Self {
            layout: layouts.into_iter().find(|known| known.word() == layout)?,
            level: levels.into_iter().find(|known| level_word(*known) == level)?,
        })
        .filter(|_| [name, version] == FORMAT)
    }
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Blobs => "L0",
        Level::CreateIfAbsent => "L1",
        Level::CompareAndSet => "L2",
    }
}

/// What is noted of the store, with its token. Refuses a store that was served in the other layout, whose objects would
/// look like litter to the sweeper; and one that was found to keep more, for other gateways may rely on it.
pub(super) async fn compare(
    store: &Store,
    layout: StoreLayout,
    report: &ProbeReport,
) -> Result<Option<(Noted, Option<Token>)>, OpendalOpenError> {
    let of = |bytes: &Bytes| Noted::of_text(bytes);
    let read = store.read_as(&StoreKey::note(), MAX_RECORD_BYTES, of).await;
    match read.map_err(BackendError::from)? {
        Some((None, _)) => Err(OpendalOpenError::UnknownFormat),
        Some((Some(noted), _)) if noted.layout != layout => Err(OpendalOpenError::OtherLayout {
            noted: noted.layout,
            asked: layout,
        }),
        Some((Some(noted), _)) if noted.level > report.level => Err(OpendalOpenError::LevelFell {
            noted: noted.level,
            report: report.clone(),
        }),
        Some((Some(noted), token)) => Ok(Some((noted, token))),
        None => Ok(None),
    }
}

impl Core {
    /// Notes what is found where nothing is noted, or less. Refuses what [`compare`] does.
    pub(super) async fn note(&self, report: &ProbeReport) -> Result<(), OpendalOpenError> {
        let own = Noted {
            layout: self.layout,
            level: self.level,
        };
        let place = StoreKey::note();
        for _ in 0..ATTEMPTS {
            let precondition = match compare(&self.store, self.layout, report).await? {
                Some((noted, _)) if noted == own => return Ok(()),
                Some((_, token)) => self.replacing(token)?,
                None if self.level >= Level::CreateIfAbsent => Precondition::Absent,
                None => Precondition::None,
            };
            let written = self
                .store
                .write(&place, own.to_text(), Dress::default(), &precondition)
                .await;
            match written {
                // Another gateway was faster, or the reply of this write was lost.
                Err(StoreError::ConditionFailed) => {}
                outcome => return Ok(outcome.map(drop).map_err(BackendError::from)?),
            }
        }
        Err(BackendError::Conflict.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_nothing_else_is_one() {
        for layout in [StoreLayout::Transparent, StoreLayout::Encoded] {
            for level in [Level::Blobs, Level::CreateIfAbsent, Level::CompareAndSet] {
                let noted = Noted { layout, level };
                assert_eq!(Noted::of_text(noted.to_text().as_bytes()), Some(noted));
            }
        }
        for other in [
            "",
            "t2gate-store 2 encoded L2\n",
            "t2gate-store 1 encoded L3\n",
            "t2gate-store 1 folded L2\n",
            "t2gate-store 1 encoded L2 more\n",
            "\u{fffe}",
        ] {
            assert_eq!(Noted::of_text(other.as_bytes()), None, "{other}");
        }
    }
}
