//! What a bucket is, told without any storage: a map of keys to bytes, and a list of uploads.

use std::collections::{BTreeMap, BTreeSet};

use t2gate_backends::{BodySummary, ChecksumAlgorithm, ETag};

use crate::op::{Condition, Fault};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) bytes: Vec<u8>,
    pub(crate) etag: ETag,
    /// The upload that made it.
    pub(crate) made_by: Option<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Upload {
    pub(crate) key: &'static str,
    pub(crate) parts: BTreeMap<u16, Vec<u8>>,
    pub(crate) gone: bool,
}

/// How a step ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    /// A delete, and whether there was anything.
    Deleted(bool),
    Refused(Refusal),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
    Conflict,
    Body,
    NoParts,
    InvalidPartOrder,
    InvalidPart,
    EntityTooSmall,
    SizeMismatch,
}

/// A page: names, with those of common prefixes marked, and whether more follow.
pub(crate) type Page = (Vec<(String, bool)>, bool);

#[derive(Debug, Default)]
pub(crate) struct Reference {
    pub(crate) objects: BTreeMap<&'static str, Object>,
    pub(crate) uploads: Vec<Upload>,
}

pub(crate) fn md5_of(bytes: &[u8]) -> [u8; 16] {
    BodySummary::of(bytes, ChecksumAlgorithm::Crc32).md5
}

impl Reference {
    pub(crate) fn etag(&self, key: &str) -> Option<&ETag> {
        self.objects.get(key).map(|object| &object.etag)
    }

    fn judge(&self, key: &str, condition: Condition) -> Option<Refusal> {
        let there = self.objects.contains_key(key);
        match condition {
            Condition::None => None,
            Condition::Absent => there.then_some(Refusal::PreconditionFailed),
            Condition::Present | Condition::MatchCurrent => (!there).then_some(Refusal::NoSuchKey),
            Condition::MatchOther if there => Some(Refusal::PreconditionFailed),
            Condition::MatchOther => Some(Refusal::NoSuchKey),
        }
    }

    pub(crate) fn put(&mut self, key: &'static str, bytes: Vec<u8>, condition: Condition) -> Answer {
        if let Some(refusal) = self.judge(key, condition) {
            return Answer::Refused(refusal);
        }
        let etag = ETag::from_md5(md5_of(&bytes));
        let made_by = None;
        self.objects.insert(key, Object { bytes, etag, made_by });
        Answer::Done
    }

    pub(crate) fn delete(&mut self, key: &str, condition: Condition) -> Answer {
        match self.judge(key, condition) {
            Some(refusal) => Answer::Refused(refusal),
            None => Answer::Deleted(self.objects.remove(key).is_some()),
        }
    }

    pub(crate) fn copy(&mut self, from: &str, to: &'static str, stale: bool, condition: Condition) -> Answer {
        let Some(source) = self.objects.get(from).cloned() else {
            return Answer::Refused(Refusal::NoSuchKey);
        };
        if stale {
            return Answer::Refused(Refusal::Conflict);
        }
        if let Some(refusal) = self.judge(to, condition) {
            return Answer::Refused(refusal);
        }
        self.objects.insert(
            to,
            Object {
                made_by: None,
                ..source
            },
        );
        Answer::Done
    }

    fn under_way(&mut self, upload: usize) -> Option<&mut Upload> {
        self.uploads.get_mut(upload).filter(|upload| !upload.gone)
    }

    pub(crate) fn part(&mut self, upload: usize, number: u16, bytes: Vec<u8>) -> Answer {
        match self.under_way(upload) {
            Some(upload) => {
                upload.parts.insert(number, bytes);
                Answer::Done
            }
            None => Answer::Refused(Refusal::NoSuchUpload),
        }
    }

    pub(crate) fn abort(&mut self, upload: usize) -> Answer {
        match self.under_way(upload) {
            Some(upload) => {
                upload.gone = true;
                Answer::Done
            }
            None => Answer::Refused(Refusal::NoSuchUpload),
        }
    }

    /// The parts that a Complete names: those there without those left out.
    pub(crate) fn named(&self, upload: usize, leave_out: u8) -> Vec<(u16, Vec<u8>)> {
        let parts = self.uploads[upload].parts.iter();
        let kept = parts.filter(|(number, _)| leave_out & (1 << (**number - 1)) == 0);
        kept.map(|(number, bytes)| (*number, bytes.clone())).collect()
    }

    pub(crate) fn complete(&mut self, upload: usize, leave_out: u8, fault: Fault, condition: Condition) -> Answer {
        let key = self.uploads[upload].key;
        if self.uploads[upload].gone {
            let made = self
                .objects
                .get(key)
                .is_some_and(|object| object.made_by == Some(upload));
            return if made {
                Answer::Done
            } else {
                Answer::Refused(Refusal::NoSuchUpload)
            };
        }
        let named = self.named(upload, leave_out);
        let refusal = match fault {
            Fault::Absent => Some(Refusal::InvalidPart),
            _ if named.is_empty() => Some(Refusal::NoParts),
            Fault::Order if named.len() > 1 => Some(Refusal::InvalidPartOrder),
            Fault::ETag => Some(Refusal::InvalidPart),
            Fault::Size => Some(Refusal::SizeMismatch),
            Fault::MinPartSize if named[..named.len() - 1].iter().any(|(_, bytes)| bytes.len() < 12) => {
                Some(Refusal::EntityTooSmall)
            }
            Fault::None | Fault::Order | Fault::MinPartSize => self.judge(key, condition),
        };
        if let Some(refusal) = refusal {
            return Answer::Refused(refusal);
        }
        let md5s: Vec<[u8; 16]> = named.iter().map(|(_, bytes)| md5_of(bytes)).collect();
        let object = Object {
            etag: ETag::of_parts(&md5s),
            bytes: named.into_iter().flat_map(|(_, bytes)| bytes).collect(),
            made_by: Some(upload),
        };
        self.objects.insert(key, object);
        self.uploads[upload].gone = true;
        Answer::Done
    }

    pub(crate) fn list(&self, prefix: &str, delimiter: Option<&str>, start_after: Option<&str>, max: usize) -> Page {
        let keys = self.objects.keys().map(|key| (*key).to_owned());
        page(keys.collect(), prefix, delimiter, start_after, max)
    }

    /// Uploads by key; of one key as often as it has uploads.
    pub(crate) fn list_uploads(&self, prefix: &str, delimiter: Option<&str>, max: usize) -> Page {
        let under_way = self.uploads.iter().filter(|upload| !upload.gone);
        let mut keys: Vec<String> = under_way.map(|upload| upload.key.to_owned()).collect();
        keys.sort_unstable();
        page(keys, prefix, delimiter, None, max)
    }
}

/// The whole listing is made first, as pairs of name and kind, and then cut.
fn page(keys: Vec<String>, prefix: &str, delimiter: Option<&str>, start_after: Option<&str>, max: usize) -> Page {
    let rolled = |key: &str| {
        let rest = &key[prefix.len()..];
        let (head, _) = rest.split_once(delimiter?)?;
        Some([prefix, head, delimiter?].concat())
    };
    let inside: Vec<String> = keys.into_iter().filter(|key| key.starts_with(prefix)).collect();
    let common: BTreeSet<String> = inside.iter().filter_map(|key| rolled(key)).collect();
    let skipped = start_after.filter(|start| common.contains(*start));
    let mut entries: Vec<(String, bool)> = Vec::new();
    for key in inside {
        let too_early = start_after.is_some_and(|start| *key <= *start);
        if too_early || skipped.is_some_and(|start| key.starts_with(start)) {
            continue;
        }
        match rolled(&key) {
            Some(prefix) => entries.push((prefix, true)),
            None => entries.push((key, false)),
        }
    }
    entries.dedup_by(|a, b| a.1 && a == b);
    let more = max > 0 && entries.len() > max;
    entries.truncate(max);
    (entries, more)
}
