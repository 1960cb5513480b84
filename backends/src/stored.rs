//! What is known of an object beside its bytes, in the form that every store of the gateway's holds it: CBOR behind a
//! version byte. Indexes are for ever: new fields get new ones.

use minicbor::{Decode, Encode};

use crate::{Checksum, ChecksumAlgorithm, ChecksumType, ContentHeaders, ObjectAttributes};

/// Leads every record; another one is not understood, and what it lies with counts as somebody else's.
pub(crate) const VERSION: u8 = 1;

/// What listings do without.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct Rest {
    #[n(0)]
    content_type: Option<Box<str>>,
    #[n(1)]
    content_encoding: Option<Box<str>>,
    #[n(2)]
    content_language: Option<Box<str>>,
    #[n(3)]
    content_disposition: Option<Box<str>>,
    #[n(4)]
    cache_control: Option<Box<str>>,
    #[n(5)]
    expires: Option<Box<str>>,
    #[n(6)]
    user_metadata: Vec<(Box<str>, Box<str>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StoredChecksum {
    #[n(0)]
    pub(crate) algorithm: u8,
    #[n(1)]
    pub(crate) kind: u8,
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(crate) value: Vec<u8>,
    #[n(3)]
    pub(crate) parts: Option<u16>,
}

/// A version byte and CBOR: every record of the gateway's looks so.
pub(crate) fn encode<T: Encode<()>>(record: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(minicbor_bytes(record));
    bytes
}

/// `None` for another version, and for what is damaged.
pub(crate) fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Option<T> {
    let (&VERSION, record) = bytes.split_first()? else {
        return None;
    };
    minicbor::decode(record).ok()
}

pub(crate) fn minicbor_bytes<T: Encode<()>>(record: &T) -> Vec<u8> {
    minicbor::to_vec(record).expect("nothing fails that writes to memory")
}

/// On the disk; 0 is none.
fn algorithm_code(algorithm: ChecksumAlgorithm) -> u8 {
    match algorithm {
        ChecksumAlgorithm::Crc32 => 1,
        ChecksumAlgorithm::Crc32c => 2,
        ChecksumAlgorithm::Crc64Nvme => 3,
        ChecksumAlgorithm::Sha1 => 4,
        ChecksumAlgorithm::Sha256 => 5,
    }
}

pub(crate) fn algorithm(code: u8) -> Option<ChecksumAlgorithm> {
    ChecksumAlgorithm::ALL.into_iter().find(|a| algorithm_code(*a) == code)
}

impl From<&Checksum> for StoredChecksum {
    fn from(checksum: &Checksum) -> Self {
        Self {
            algorithm: algorithm_code(checksum.algorithm),
            kind: match checksum.kind {
                ChecksumType::FullObject => 0,
                ChecksumType::Composite => 1,
            },
            value: checksum.value.to_vec(),
            parts: checksum.parts,
        }
    }
}

impl StoredChecksum {
    pub(crate) fn to_checksum(&self) -> Option<Checksum> {
        to_checksum(self.algorithm, self.kind, &self.value, self.parts)
    }
}

pub(crate) fn to_checksum(code: u8, kind: u8, value: &[u8], parts: Option<u16>) -> Option<Checksum> {
    let (algorithm, kind) = from_checksum_codes((code, kind))?;
    (value.len() == algorithm.digest_len()).then(|| Checksum {
        algorithm,
        kind,
        value: value.into(),
        parts,
    })
}

/// An algorithm with a type, as records of uploads hold it.
pub(crate) fn checksum_codes(declared: (ChecksumAlgorithm, ChecksumType)) -> (u8, u8) {
    let kind = match declared.1 {
        ChecksumType::FullObject => 0,
        ChecksumType::Composite => 1,
    };
    (algorithm_code(declared.0), kind)
}

/// The inverse of [`checksum_codes`].
pub(crate) fn from_checksum_codes(codes: (u8, u8)) -> Option<(ChecksumAlgorithm, ChecksumType)> {
    let kind = match codes.1 {
        0 => ChecksumType::FullObject,
        1 => ChecksumType::Composite,
        _ => return None,
    };
    Some((algorithm(codes.0)?, kind))
}

impl From<&ObjectAttributes> for Rest {
    fn from(attributes: &ObjectAttributes) -> Self {
        let content = attributes.content.clone();
        Self {
            content_type: content.content_type,
            content_encoding: content.content_encoding,
            content_language: content.content_language,
            content_disposition: content.content_disposition,
            cache_control: content.cache_control,
            expires: content.expires,
            user_metadata: attributes.user_metadata.clone(),
        }
    }
}

/// Without a checksum.
impl From<Rest> for ObjectAttributes {
    fn from(rest: Rest) -> Self {
        Self {
            content: ContentHeaders {
                content_type: rest.content_type,
                content_encoding: rest.content_encoding,
                content_language: rest.content_language,
                content_disposition: rest.content_disposition,
                cache_control: rest.cache_control,
                expires: rest.expires,
            },
            user_metadata: rest.user_metadata,
            checksum: None,
        }
    }
}
