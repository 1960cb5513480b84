//! The checksums that S3 keeps with objects and parts (S3 User Guide, "Checking object integrity").

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc_fast::CrcAlgorithm;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The algorithms that this service computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksumAlgorithm {
    Crc32,
    Crc32c,
    /// What is computed when a client names none.
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl ChecksumAlgorithm {
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// As `x-amz-checksum-algorithm` and `ChecksumAlgorithm` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header that carries a value, lower case.
    pub fn header_name(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The algorithm of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str().eq_ignore_ascii_case(name))
    }

    /// Length of the digest in bytes.
    pub fn digest_len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The polynomial, for those that can be combined without reading the data again.
    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// Whether a multipart upload may carry this algorithm with this type.
    pub fn allows(self, kind: ChecksumType) -> bool {
        match (self, kind) {
            (Self::Crc64Nvme, ChecksumType::Composite) => false,
            (Self::Sha1 | Self::Sha256, ChecksumType::FullObject) => false,
            (Self::Crc32 | Self::Crc32c, _) => true,
            (Self::Crc64Nvme, ChecksumType::FullObject) => true,
            (Self::Sha1 | Self::Sha256, ChecksumType::Composite) => true,
        }
    }

    /// The type of a multipart upload that names the algorithm alone.
    pub fn default_multipart_type(self) -> ChecksumType {
        match self {
            Self::Crc64Nvme => ChecksumType::FullObject,
            Self::Crc32 | Self::Crc32c | Self::Sha1 | Self::Sha256 => ChecksumType::Composite,
        }
    }
}

/// Over which bytes a checksum runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksumType {
    /// Over the object's bytes.
    FullObject,
    /// Over the checksums of the parts.
    Composite,
}

impl ChecksumType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "FULL_OBJECT" => Some(Self::FullObject),
            "COMPOSITE" => Some(Self::Composite),
            _ => None,
        }
    }
}

/// A checksum's value, big-endian, with what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    pub algorithm: ChecksumAlgorithm,
    pub kind: ChecksumType,
    /// Exactly [`ChecksumAlgorithm::digest_len`] bytes.
    pub value: Box<[u8]>,
    /// How many parts a composite value was made of; `None` for full-object values.
    pub parts: Option<u16>,
}

/// The text is no checksum of that algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the base64 form of a {} value", .0.as_str())]
pub struct InvalidChecksum(pub ChecksumAlgorithm);

impl Checksum {
    pub fn full_object(algorithm: ChecksumAlgorithm, value: impl Into<Box<[u8]>>) -> Self {
        Self {
            algorithm,
            kind: ChecksumType::FullObject,
            value: value.into(),
            parts: None,
        }
    }

    /// Reads `base64`, or `base64-N` as a composite value of N parts.
    pub fn parse(algorithm: ChecksumAlgorithm, text: &str) -> Result<Self, InvalidChecksum> {
        let invalid = || InvalidChecksum(algorithm);
        let (text, parts) = match text.split_once('-') {
            Some((value, parts)) => (value, Some(parts.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let value = STANDARD.decode(text).map_err(|_| invalid())?;
        if value.len() != algorithm.digest_len() {
            return Err(invalid());
        }
        let kind = match parts {
            Some(_) => ChecksumType::Composite,
            None => ChecksumType::FullObject,
        };
        Ok(Self {
            algorithm,
            kind,
            value: value.into(),
            parts,
        })
    }

    /// The checksum of the checksums of an upload's parts.
    pub fn composite<'a>(algorithm: ChecksumAlgorithm, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = ChecksumHasher::new(algorithm);
        let mut count = 0;
        for part in parts {
            hasher.update(part);
            count += 1;
        }
        Self {
            algorithm,
            kind: ChecksumType::Composite,
            value: hasher.finalize().value,
            parts: Some(count),
        }
    }
}

/// The wire form: base64, and `-N` behind a composite value.
impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(&self.value))?;
        match self.parts {
            Some(parts) => write!(f, "-{parts}"),
            None => Ok(()),
        }
    }
}

/// Computes one checksum as the bytes flow.
pub struct ChecksumHasher {
    algorithm: ChecksumAlgorithm,
    state: HasherState,
}

enum HasherState {
    Crc(Box<crc_fast::Digest>),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl fmt::Debug for ChecksumHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChecksumHasher").field(&self.algorithm).finish()
    }
}

impl ChecksumHasher {
    pub fn new(algorithm: ChecksumAlgorithm) -> Self {
        let state = match (algorithm, algorithm.crc()) {
            (_, Some(crc)) => HasherState::Crc(Box::new(crc_fast::Digest::new(crc))),
            (ChecksumAlgorithm::Sha1, None) => HasherState::Sha1(Sha1::new()),
            (_, None) => HasherState::Sha256(Sha256::new()),
        };
        Self { algorithm, state }
    }

    pub fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            HasherState::Crc(digest) => digest.update(bytes),
            HasherState::Sha1(digest) => digest.update(bytes),
            HasherState::Sha256(digest) => digest.update(bytes),
        }
    }

    pub fn finalize(self) -> Checksum {
        let value: Box<[u8]> = match self.state {
            HasherState::Crc(digest) => {
                let wide = digest.finalize().to_be_bytes();
                wide[wide.len() - self.algorithm.digest_len()..].into()
            }
            HasherState::Sha1(digest) => digest.finalize().as_slice().into(),
            HasherState::Sha256(digest) => digest.finalize().as_slice().into(),
        };
        Checksum::full_object(self.algorithm, value)
    }
}

/// The checksum of a whole from those of its pieces in order, each with its length in bytes; nothing is read again.
/// `None` where the algorithm cannot do that, or a value has the wrong length.
pub fn combine_full_object<'a>(
    algorithm: ChecksumAlgorithm,
    pieces: impl IntoIterator<Item = (&'a [u8], u64)>,
) -> Option<Checksum> {
    let crc = algorithm.crc()?;
    let width = algorithm.digest_len();
    let mut whole: Option<u64> = None;
    let mut append = Append::new(crc, width * 8);
    for (value, len) in pieces {
        if value.len() != width {
            return None;
        }
        let value = value.iter().fold(0_u64, |acc, b| acc << 8 | u64::from(*b));
        whole = Some(match whole {
            None => value,
            Some(so_far) => append.shift(so_far, len) ^ value,
        });
    }
    let wide = whole?.to_be_bytes();
    Some(Checksum::full_object(algorithm, &wide[wide.len() - width..]))
}

/// What appending so many bytes does to a CRC before the CRC of these bytes is added: a linear map. To find its value is
/// slow, so for a length that comes often it is written down, by what it makes of each bit.
struct Append {
    crc: crc_fast::CrcAlgorithm,
    bits: usize,
    len: u64,
    uses: usize,
    columns: Vec<u64>,
}

impl Append {
    fn new(crc: crc_fast::CrcAlgorithm, bits: usize) -> Self {
        Self {
            crc,
            bits,
            len: 0,
            uses: 0,
            columns: Vec::new(),
        }
    }

    fn shift(&mut self, value: u64, len: u64) -> u64 {
        if len != self.len {
            *self = Self {
                len,
                ..Self::new(self.crc, self.bits)
            };
        }
        self.uses += 1;
        let slowly = |value| crc_fast::checksum_combine(self.crc, value, 0, len);
        // As dear as this has been up to here.
        if self.uses == self.bits {
            self.columns = (0..self.bits).map(|bit| slowly(1 << bit)).collect();
        }
        if self.columns.is_empty() {
            return slowly(value);
        }
        let set = self.columns.iter().enumerate().filter(|(bit, _)| value >> bit & 1 == 1);
        set.fold(0, |sum, (_, column)| sum ^ column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_pieces_of_one_length_and_some_of_others_make_the_whole() {
        let bytes: Vec<u8> = (0..5000_u32).map(|n| (n * 31 / 7) as u8).collect();
        for algorithm in [
            ChecksumAlgorithm::Crc32,
            ChecksumAlgorithm::Crc32c,
            ChecksumAlgorithm::Crc64Nvme,
        ] {
            let pieces: Vec<&[u8]> = bytes[..4000].chunks(20).chain(bytes[4000..].chunks(333)).collect();
            let sums: Vec<_> = pieces.iter().map(|piece| of(algorithm, piece).value).collect();
            let lens = pieces.iter().map(|piece| piece.len() as u64);
            let whole = combine_full_object(algorithm, sums.iter().map(|sum| &**sum).zip(lens));
            assert_eq!(whole, Some(of(algorithm, &bytes)), "{algorithm:?}");
        }
    }

    fn of(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Checksum {
        let mut hasher = ChecksumHasher::new(algorithm);
        hasher.update(bytes);
        hasher.finalize()
    }

    #[test]
    fn values_are_those_of_the_published_vectors() {
        assert_eq!(of(ChecksumAlgorithm::Crc32, b"hello").to_string(), "NhCmhg==");
        assert_eq!(of(ChecksumAlgorithm::Crc32c, b"hello").to_string(), "mnG7TA==");
        assert_eq!(of(ChecksumAlgorithm::Crc64Nvme, b"hello").to_string(), "M3eFcAZSQlc=");
        assert_eq!(of(ChecksumAlgorithm::Crc64Nvme, b"").to_string(), "AAAAAAAAAAA=");
        assert_eq!(
            *of(ChecksumAlgorithm::Crc64Nvme, b"123456789").value,
            0xAE8B_1486_0A79_9888_u64.to_be_bytes()
        );
        assert_eq!(
            of(ChecksumAlgorithm::Sha1, b"abc").to_string(),
            "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="
        );
        assert_eq!(
            of(ChecksumAlgorithm::Sha256, b"abc").to_string(),
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
        );
    }

    #[test]
    fn combined_crcs_equal_the_crc_of_the_whole() {
        let (a, b, c) = (vec![1_u8; 70_001], vec![2_u8; 3], vec![3_u8; 65_536]);
        for algorithm in [
            ChecksumAlgorithm::Crc32,
            ChecksumAlgorithm::Crc32c,
            ChecksumAlgorithm::Crc64Nvme,
        ] {
            let values = [of(algorithm, &a), of(algorithm, &b), of(algorithm, &c)];
            let lens = [a.len(), b.len(), c.len()];
            let pieces = values.iter().zip(lens).map(|(v, len)| (&*v.value, len as u64));
            let whole = [a.clone(), b.clone(), c.clone()].concat();
            assert_eq!(combine_full_object(algorithm, pieces), Some(of(algorithm, &whole)));
        }
        assert_eq!(
            combine_full_object(ChecksumAlgorithm::Sha256, [(&[0_u8; 32][..], 1)]),
            None
        );
    }

    #[test]
    fn wire_form_round_trips_and_rubbish_is_refused() {
        let composite = Checksum::composite(ChecksumAlgorithm::Sha256, [&[1_u8; 32][..], &[2; 32]]);
        assert!(composite.to_string().ends_with("-2"));
        assert_eq!(
            Checksum::parse(ChecksumAlgorithm::Sha256, &composite.to_string()),
            Ok(composite)
        );
        for bad in [
            "",
            "NhCmhg",
            "NhCmhg==x",
            "M3eFcAZSQlc=",
            "NhCmhg==-x",
            "NhCmhg==-70000",
            "-",
            "ä",
        ] {
            assert!(Checksum::parse(ChecksumAlgorithm::Crc32, bad).is_err(), "{bad}");
        }
    }
}
