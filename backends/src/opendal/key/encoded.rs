//! Names of the encoded layout: digits that sort as the keys do, in directories' and files' names that are not too long.

use sha2::{Digest as _, Sha256};

use super::layout::Named;
use crate::Key;

/// A directory's or file's name has at most so many characters in the encoded layout: file systems hold 255.
pub(super) const SEGMENT: usize = 200;
/// Longer keys are cut here in the encoded layout, and told apart by a hash.
pub(super) const MAX_ENCODED_KEY: usize = 560;
pub(super) const CUT: usize = 480;
/// In the order of their bytes, all in one case: encoded names sort as their keys, on stores that fold case too.
pub(super) const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// Ends a name. Sorts before `/` and before every digit.
pub(super) const END: char = '-';
/// Stands before a hash. Sorts after every digit.
pub(super) const HASHED: char = 'w';

pub(super) fn encode(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut digits = if bytes.len() <= MAX_ENCODED_KEY {
        base32(bytes)
    } else {
        let mut cut = base32(&bytes[..CUT]);
        cut.push(HASHED);
        cut.push_str(&base32(&Sha256::digest(bytes)));
        cut
    };
    digits.push(END);
    segmented(&digits)
}

/// Before the names of keys that begin with these bytes, and after those of lesser ones, as far as names tell: those of
/// long keys do not beyond [`CUT`].
pub(super) fn place(bytes: &[u8]) -> String {
    segmented(&base32(head(bytes, MAX_ENCODED_KEY)))
}

pub(super) fn head(bytes: &[u8], max: usize) -> &[u8] {
    &bytes[..bytes.len().min(max)]
}

/// In directories' and files' names that are not too long.
pub(super) fn segmented(digits: &str) -> String {
    let mut name = String::with_capacity(digits.len() + digits.len() / SEGMENT);
    for (at, digit) in digits.chars().enumerate() {
        // The end never stands alone: a directory's name has no end in it.
        if at > 0 && at % SEGMENT == 0 && digit != END {
            name.push('/');
        }
        name.push(digit);
    }
    name
}

pub(super) fn decode(name: &str) -> Option<Named> {
    let digits: String = name.strip_suffix(END)?.chars().filter(|c| *c != '/').collect();
    if let Some((cut, hash)) = digits.split_once(HASHED) {
        let whole = from_base32(cut)?.len() == CUT && from_base32(hash)?.len() == 32;
        return whole.then_some(Named::Cut);
    }
    let key = Key::parse(String::from_utf8(from_base32(&digits)?).ok()?).ok()?;
    // One name for each key, and one key for each name.
    (encode(key.as_str()) == name).then_some(Named::Key(key))
}

/// Five bits a digit, the last one filled up with zeros.
pub(super) fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(char::from(DIGITS[(bits >> held & 31) as usize]));
        }
    }
    if held > 0 {
        text.push(char::from(DIGITS[(bits << (5 - held) & 31) as usize]));
    }
    text
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in text.bytes() {
        let value = DIGITS.iter().position(|d| *d == digit)?;
        bits = (bits << 5) | u32::try_from(value).ok()?;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 255) as u8);
        }
    }
    Some(bytes)
}
