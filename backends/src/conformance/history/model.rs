//! The versions of one key in a bucket with versioning, one call after the other. Simple on purpose.

use std::fmt;

use crate::VersionId;

/// The bytes of an object, by what tells them from others: ETag and size.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Content {
    pub etag: Box<str>,
    pub size: u64,
}

/// What a client asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// PutObject, CopyObject to this key, CompleteMultipartUpload: whatever makes an object.
    Put(Content),
    /// With `If-None-Match: *`.
    PutIfAbsent(Content),
    /// With `If-Match`.
    PutIfMatch(Content, Box<str>),
    /// By name.
    Delete,
    DeleteVersion(VersionId),
    /// GetObject or HeadObject by name.
    Get,
    GetVersion(VersionId),
    /// All versions of the key.
    List,
}

/// What it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Written(VersionId),
    /// A condition did not hold.
    PreconditionFailed,
    Object(VersionId, Content),
    DeleteMarker(VersionId),
    /// There is nothing: of a delete by name too, which then adds nothing.
    NotFound,
    /// A delete marker was added.
    Marked(VersionId),
    /// The version is gone; whether it was a delete marker.
    VersionDeleted {
        was_marker: bool,
    },
    Versions(Vec<Listed>),
}

/// A version as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub version_id: VersionId,
    /// `None`: a delete marker.
    pub content: Option<Content>,
    pub is_latest: bool,
}

/// The newest first.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Model(Vec<Version>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Version {
    /// `None`: nobody was told.
    id: Option<VersionId>,
    /// `None`: a delete marker.
    content: Option<Content>,
}

impl Version {
    fn is(&self, id: &VersionId, content: Option<&Content>) -> bool {
        self.id.as_ref().is_none_or(|known| known == id) && self.content.as_ref() == content
    }
}

impl Model {
    /// The state after `op`, if it can be answered so here. Without a reply any answer is right.
    pub(super) fn step(&self, op: &Op, reply: Option<&Reply>) -> Option<Self> {
        let newest = self.0.first();
        let current = newest.and_then(|version| version.content.as_ref());
        match op {
            Op::Put(content) => self.write(content, true, reply),
            Op::PutIfAbsent(content) => self.write(content, current.is_none(), reply),
            // Without an object to match, S3 says that there is none.
            Op::PutIfMatch(content, etag) => match current {
                Some(current) => self.write(content, current.etag == *etag, reply),
                None => self.unchanged(reply, |reply| *reply == Reply::NotFound),
            },
            Op::Delete => match current {
                None => self.unchanged(reply, |reply| *reply == Reply::NotFound),
                Some(_) => match reply {
                    None => Some(self.with(None, None)),
                    Some(Reply::Marked(id)) if self.is_newer(id) => Some(self.with(Some(id.clone()), None)),
                    Some(_) => None,
                },
            },
            Op::DeleteVersion(id) => match self.find(id) {
                None => self.unchanged(reply, |reply| *reply == Reply::NotFound),
                Some(at) => {
                    let was_marker = self.0[at].content.is_none();
                    let right = reply.is_none_or(|reply| *reply == Reply::VersionDeleted { was_marker });
                    right.then(|| {
                        let mut after = self.clone();
                        after.0.remove(at);
                        after
                    })
                }
            },
            Op::Get => self.unchanged(reply, |reply| answers(newest, reply)),
            Op::GetVersion(id) => {
                let version = self.find(id).map(|at| &self.0[at]);
                self.unchanged(reply, |reply| {
                    answers(version, reply)
                        && match reply {
                            Reply::Object(answered, _) | Reply::DeleteMarker(answered) => answered == id,
                            _ => true,
                        }
                })
            }
            Op::List => self.unchanged(reply, |reply| match reply {
                Reply::Versions(listed) => {
                    listed.len() == self.0.len()
                        && listed.iter().zip(&self.0).enumerate().all(|(at, (listed, version))| {
                            version.is(&listed.version_id, listed.content.as_ref()) && listed.is_latest == (at == 0)
                        })
                }
                _ => false,
            }),
        }
    }

    fn write(&self, content: &Content, may: bool, reply: Option<&Reply>) -> Option<Self> {
        match reply {
            None if may => Some(self.with(None, Some(content.clone()))),
            None => Some(self.clone()),
            Some(Reply::Written(id)) if may && self.is_newer(id) => {
                Some(self.with(Some(id.clone()), Some(content.clone())))
            }
            Some(Reply::PreconditionFailed) if !may => Some(self.clone()),
            Some(_) => None,
        }
    }

    fn unchanged(&self, reply: Option<&Reply>, is_right: impl FnOnce(&Reply) -> bool) -> Option<Self> {
        reply.is_none_or(is_right).then(|| self.clone())
    }

    fn with(&self, id: Option<VersionId>, content: Option<Content>) -> Self {
        let mut after = self.clone();
        after.0.insert(0, Version { id, content });
        after
    }

    fn find(&self, id: &VersionId) -> Option<usize> {
        self.0.iter().position(|version| version.id.as_ref() == Some(id))
    }

    /// Ids that the gateway gives sort by time; those of a store are new, and say nothing else.
    fn is_newer(&self, id: &VersionId) -> bool {
        let is_new = |known: &VersionId| known < id || (id.stamp().is_none() && known != id);
        self.0.iter().filter_map(|version| version.id.as_ref()).all(is_new)
    }
}

fn answers(version: Option<&Version>, reply: &Reply) -> bool {
    match (version, reply) {
        (None, Reply::NotFound) => true,
        (Some(version), Reply::Object(id, content)) => version.is(id, Some(content)),
        (Some(version), Reply::DeleteMarker(id)) => version.is(id, None),
        _ => false,
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id.as_ref().map_or("?", VersionId::as_str);
        match &self.content {
            Some(content) => write!(f, "{id} = {content:?}"),
            None => write!(f, "{id} deleted"),
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.etag, self.size)
    }
}
