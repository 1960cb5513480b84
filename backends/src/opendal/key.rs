//! Names in the store. Only what is made here reaches the store as a name.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::{BackendError, BucketName, Key, PartNumber, Stamp, UploadId};

/// What the gateway keeps for itself lies under this. No bucket's name begins with a dot, so no key reaches it.
const RESERVED: &str = ".t2/";
/// The longest name that is sent to a store, with the root that its configuration may add. S3, GCS and Azure hold so
/// many bytes.
pub(super) const MAX_NAME_BYTES: usize = 1024;
/// A directory's or file's name has at most so many characters in the encoded layout: file systems hold 255.
const SEGMENT: usize = 200;
/// Longer keys are cut here in the encoded layout, and told apart by a hash.
const MAX_ENCODED_KEY: usize = 560;
const CUT: usize = 480;
/// In the order of their bytes, all in one case: encoded names sort as their keys, on stores that fold case too.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// Ends a name. Sorts before `/` and before every digit.
const END: char = '-';
/// Stands before a hash. Sorts after every digit.
const HASHED: char = 'w';

/// Where objects lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreLayout {
    /// An object is a store's object of the same bytes under `BUCKET/KEY`. What something else puts there is an object
    /// at once. Keys that the store, or the way to it, would change are refused.
    Transparent,
    /// Every key, on every store: names are encoded, and objects begin with a header. Only the gateway can read them.
    Encoded,
}

impl StoreLayout {
    /// As configurations call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Transparent => "transparent",
            Self::Encoded => "encoded",
        }
    }
}

/// A name in the store, safe to send: no empty, `.` or `..` segment, no white space at its ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StoreKey(String);

impl StoreKey {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// What is noted of the store itself.
    pub(super) fn note() -> Self {
        Self(format!("{RESERVED}store"))
    }

    /// The record of a bucket.
    pub(super) fn bucket_record(bucket: &BucketName) -> Self {
        Self(format!("{RESERVED}buckets/{bucket}"))
    }

    /// The record of a multipart upload.
    pub(super) fn upload(bucket: &BucketName, id: &UploadId) -> Self {
        Self(format!("{RESERVED}uploads/{bucket}/{id}"))
    }

    /// The record of an uploaded part.
    pub(super) fn part(bucket: &BucketName, id: &UploadId, number: PartNumber) -> Self {
        Self(format!("{RESERVED}parts/{bucket}/{id}/{:05}", number.get()))
    }

    /// One of the objects that hold the bytes of a blob.
    pub(super) fn blob_segment(id: Stamp, segment: u64) -> Self {
        Self(format!("{RESERVED}data/{id}/{segment:08}"))
    }

    /// Says what a blob was written for.
    pub(super) fn blob_owner(id: Stamp) -> Self {
        Self(format!("{RESERVED}data/{id}/owner"))
    }

    /// What of an object's attributes does not fit into the store's metadata.
    pub(super) fn side(nonce: Stamp) -> Self {
        Self(format!("{RESERVED}attributes/{nonce}"))
    }

    /// A version of `key` that is kept, or its tombstone. Of one key the newest sorts first.
    pub(super) fn history(bucket: &BucketName, key: &Key, stamp: Stamp) -> Self {
        Self(format!(
            "{}{:032x}",
            StoreDir::history(bucket, key).as_str(),
            !stamp.to_bits()
        ))
    }

    /// Says of a tombstone where it lies.
    pub(super) fn burial(note: Stamp) -> Self {
        Self(format!("{RESERVED}gone/{note}"))
    }

    /// What [`StoreLayout::key`] called [`Named::Cut`].
    pub(super) fn cut(bucket: &BucketName, name: &str) -> Self {
        debug_assert_eq!(decode(name), Some(Named::Cut));
        Self(format!("{bucket}/{name}"))
    }

    /// For what gets its name when it is whole.
    pub(super) fn aside(id: Stamp) -> Self {
        Self(format!("{RESERVED}new/{id}"))
    }

    /// What a probe has left under a name that was listed. `None` for a name that no probe gives.
    pub(super) fn left_by_probe(run: Stamp, name: &str) -> Option<Self> {
        refuse_transparent(name).is_ok().then(|| Self::probe(run, name))
    }

    /// For the probe.
    pub(super) fn probe(run: Stamp, name: &str) -> Self {
        debug_assert!(refuse_transparent(name).is_ok());
        Self(format!("{RESERVED}probe/{run}/{name}"))
    }
}

impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A directory in the store; ends in a slash, or is empty and the whole store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreDir(String);

impl StoreDir {
    pub(super) fn root() -> Self {
        Self(String::new())
    }

    /// All objects of a bucket.
    pub(super) fn bucket(bucket: &BucketName) -> Self {
        Self(format!("{bucket}/"))
    }

    pub(super) fn bucket_records() -> Self {
        Self(format!("{RESERVED}buckets/"))
    }

    pub(super) fn uploads(bucket: &BucketName) -> Self {
        Self(format!("{RESERVED}uploads/{bucket}/"))
    }

    pub(super) fn all_uploads() -> Self {
        Self(format!("{RESERVED}uploads/"))
    }

    pub(super) fn parts(bucket: &BucketName, id: &UploadId) -> Self {
        Self(format!("{RESERVED}parts/{bucket}/{id}/"))
    }

    /// A directory for each bucket that has, or had, uploads with parts.
    pub(super) fn all_parts() -> Self {
        Self(format!("{RESERVED}parts/"))
    }

    /// A directory for each upload.
    pub(super) fn bucket_parts(bucket: &BucketName) -> Self {
        Self(format!("{RESERVED}parts/{bucket}/"))
    }

    pub(super) fn blobs() -> Self {
        Self(format!("{RESERVED}data/"))
    }

    pub(super) fn blob(id: Stamp) -> Self {
        Self(format!("{RESERVED}data/{id}/"))
    }

    pub(super) fn sides() -> Self {
        Self(format!("{RESERVED}attributes/"))
    }

    pub(super) fn asides() -> Self {
        Self(format!("{RESERVED}new/"))
    }

    pub(super) fn probes() -> Self {
        Self(format!("{RESERVED}probe/"))
    }

    /// The versions of `key` that are kept. By a hash: a key's name leaves no room for more.
    pub(super) fn history(bucket: &BucketName, key: &Key) -> Self {
        let hash = base32(&Sha256::digest(key.as_str().as_bytes()));
        Self(format!("{RESERVED}history/{bucket}/{hash}/"))
    }

    pub(super) fn burials() -> Self {
        Self(format!("{RESERVED}gone/"))
    }

    /// Which version `name` in a key's history stands for.
    pub(super) fn history_stamp(name: &str) -> Option<Stamp> {
        let bits = u128::from_str_radix(name, 16).ok()?;
        let stamp = Stamp::from_bits(!bits);
        (format!("{bits:032x}") == name).then_some(stamp)
    }

    pub(super) fn probe(run: Stamp) -> Self {
        Self(format!("{RESERVED}probe/{run}/"))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// What is called `name` in this directory, in a listing of all that lies below. `None` for a directory.
    pub(super) fn key(&self, name: &str) -> Option<StoreKey> {
        refuse_transparent(name).ok()?;
        Some(StoreKey(format!("{}{name}", self.0)))
    }

    /// What `path`, which a listing of this directory gave, is called in it. A directory's name keeps its slash.
    pub(super) fn name<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.0.as_str()).filter(|name| !name.is_empty())
    }
}

/// What a name in a bucket stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    Key(Key),
    /// Of a long key: which one, the object's header says.
    Cut,
}

impl StoreLayout {
    /// Where the object `key` lies. [`BackendError::UnsupportedKey`] where that cannot be.
    pub(super) fn object(self, bucket: &BucketName, key: &Key) -> Result<StoreKey, BackendError> {
        match self {
            Self::Transparent => {
                refuse_transparent(key.as_str()).map_err(BackendError::UnsupportedKey)?;
                Ok(StoreKey(format!("{bucket}/{key}")))
            }
            Self::Encoded => Ok(StoreKey(format!("{bucket}/{}", encode(key.as_str())))),
        }
    }

    /// The key of what is called `name` in a bucket's directory. `None` for what is no object.
    pub(super) fn key(self, name: &str) -> Option<Named> {
        match self {
            Self::Transparent => {
                refuse_transparent(name).ok()?;
                Key::parse(name).ok().map(Named::Key)
            }
            Self::Encoded => decode(name),
        }
    }

    // ---- where keys lie among the names of a bucket, in byte order

    /// What the names of all keys that begin with `prefix` begin with.
    pub(super) fn beginning(self, prefix: &str) -> String {
        match self {
            // A prefix that no key begins with is none that the store may be asked for.
            Self::Transparent => Some(prefix)
                .filter(|prefix| is_name(prefix))
                .unwrap_or_default()
                .to_owned(),
            Self::Encoded => {
                let bytes = head(prefix.as_bytes(), CUT);
                // Of the digit that it ends in, what follows has a part.
                let mut digits = base32(bytes);
                digits.truncate(bytes.len() * 8 / 5);
                segmented(&digits)
            }
        }
    }

    /// Comes before the names of all keys that begin with `prefix`, or come after those that do. `None`: the store
    /// cannot be asked for it, or need not be.
    pub(super) fn before(self, prefix: &str) -> Option<String> {
        let encoded = self == Self::Encoded && !prefix.is_empty();
        encoded.then(|| place(prefix.as_bytes()))
    }

    /// Comes before the names of all keys after `key`, which need not be one. `None`: the store cannot be asked for it.
    pub(super) fn after(self, key: &str) -> Option<String> {
        match self {
            Self::Transparent => Some(key).filter(|key| is_name(key)).map(str::to_owned),
            Self::Encoded => {
                let mut digits = base32(head(key.as_bytes(), MAX_ENCODED_KEY));
                digits.push(END);
                Some(segmented(&digits))
            }
        }
    }

    /// Comes before the names of all keys that are greater than those that begin with `prefix`, which is not empty, and
    /// after as many of these as can be. `None`: the store cannot be asked for it.
    pub(super) fn beyond(self, prefix: &str) -> Option<String> {
        match self {
            // The last character that has a meaning.
            Self::Transparent => Some(format!("{prefix}\u{10fffd}")).filter(|name| is_name(name)),
            Self::Encoded => {
                let mut bytes = prefix.as_bytes().to_vec();
                // No byte of UTF-8 is the greatest that there is.
                *bytes.last_mut()? += 1;
                Some(place(&bytes))
            }
        }
    }

    /// No key whose name comes after that of `key` is less than this. It is the key itself but where a cut name may
    /// follow: those stand behind all others that begin with the same bytes, in no order.
    pub(super) fn least_after(self, key: &str) -> &str {
        match self {
            Self::Transparent => key,
            Self::Encoded => &key[..key.floor_char_boundary(CUT)],
        }
    }

    /// Where a cut name may follow that of `key`, but less than it: comes before those, and after the other names that
    /// begin with the same bytes. `None`: there are none, or it is one of them.
    pub(super) fn before_cut(self, key: &str) -> Option<String> {
        let may_follow = self == Self::Encoded && (CUT..=MAX_ENCODED_KEY).contains(&key.len());
        may_follow.then(|| {
            let mut digits = base32(head(key.as_bytes(), CUT));
            digits.push(HASHED);
            segmented(&digits)
        })
    }
}

/// Whether `text` goes to a store and comes back as it is.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| !c.is_control() && !matches!(c, '\\' | '\u{fffe}' | '\u{ffff}');
    let segments = text.strip_suffix('/').unwrap_or(text);
    text.chars().all(plain)
        && text.trim_end() == text
        && !text.starts_with('/')
        && (segments.is_empty() || segments.split('/').all(|s| !matches!(s, "" | "." | "..")))
}

/// What S3, the stores that speak it, and opendal on the way to them would change, cannot say in XML or take for
/// something else.
fn refuse_transparent(key: &str) -> Result<(), &'static str> {
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("a segment of it is \".\" or \"..\"");
    }
    if key.split('/').any(str::is_empty) {
        return Err("it begins or ends with a slash, or has two in a row");
    }
    // White space at the ends is trimmed.
    if key.trim_end() != key {
        return Err("it ends in white space");
    }
    let unsayable = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    if key.contains(unsayable) {
        return Err("it holds a control character");
    }
    // Some stores take it for a separator.
    if key.contains('\\') {
        return Err("it holds a backslash");
    }
    Ok(())
}

fn encode(key: &str) -> String {
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
fn place(bytes: &[u8]) -> String {
    segmented(&base32(head(bytes, MAX_ENCODED_KEY)))
}

fn head(bytes: &[u8], max: usize) -> &[u8] {
    &bytes[..bytes.len().min(max)]
}

/// In directories' and files' names that are not too long.
fn segmented(digits: &str) -> String {
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

fn decode(name: &str) -> Option<Named> {
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
fn base32(bytes: &[u8]) -> String {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket() -> BucketName {
        BucketName::parse("bucket").unwrap()
    }

    fn keys() -> impl Strategy<Value = Key> {
        let segment = prop_oneof![
            "[a-b]{100}",
            "a{476,484}",
            "[a-z]{0,3}",
            Just(".".to_owned()),
            Just("..".to_owned()),
            Just(".t2".to_owned()),
            Just("%2F".to_owned()),
            Just("a\\b".to_owned()),
            "[ \t\r\n\u{a0}\u{1}A-C]{0,3}",
            ".{0,4}",
            "[0-9a-v]{198,203}",
            "[a-b]{400,420}",
        ];
        proptest::collection::vec(segment, 1..5)
            .prop_map(|segments| segments.join("/"))
            .prop_filter_map("a key", |text| Key::parse(text).ok())
    }

    /// What every store, and opendal before it, leaves as it is.
    fn assert_safe(name: &StoreKey) {
        let name = name.as_str();
        assert!(name.starts_with("bucket/"), "{name:?} is outside its bucket");
        assert_eq!(name.trim(), name);
        for segment in name.split('/') {
            assert!(!matches!(segment, "" | "." | ".."), "{name:?}");
        }
        assert!(!name.contains(|c: char| c.is_control() || c == '\\'), "{name:?}");
    }

    proptest! {
        #[test]
        fn no_key_leaves_its_bucket_or_meets_another(one in keys(), two in keys()) {
            for layout in [StoreLayout::Transparent, StoreLayout::Encoded] {
                let names: Vec<_> = [&one, &two].map(|key| layout.object(&bucket(), key)).into_iter().flatten().collect();
                for name in &names {
                    assert_safe(name);
                }
                if let [a, b] = &names[..] {
                    prop_assert_eq!(a == b, one == two);
                    // Nor is one the directory of another, where a directory cannot be a file too.
                    if layout == StoreLayout::Encoded {
                        let below = b.as_str().strip_prefix(a.as_str()).is_some_and(|rest| rest.starts_with('/'));
                        prop_assert!(!below, "{} is below {}", b, a);
                    }
                }
            }
        }

        #[test]
        fn encoded_names_hold_every_key_and_sort_as_keys_do(one in keys(), two in keys()) {
            let [a, b] = [&one, &two].map(|key| StoreLayout::Encoded.object(&bucket(), key).unwrap());
            for (key, name) in [(&one, &a), (&two, &b)] {
                let name = StoreDir::bucket(&bucket()).name(name.as_str()).unwrap().to_owned();
                prop_assert!(name.split('/').all(|segment| segment.len() <= SEGMENT + 1));
                prop_assert!(name.bytes().all(|b| b == b'/' || b == b'-' || b == b'w' || DIGITS.contains(&b)));
                match StoreLayout::Encoded.key(&name) {
                    Some(Named::Key(found)) => prop_assert_eq!(&found, key),
                    Some(Named::Cut) => prop_assert!(key.as_str().len() > MAX_ENCODED_KEY),
                    None => prop_assert!(false, "{} is no name of a key", name),
                }
            }
            if one.as_str().len() <= MAX_ENCODED_KEY && two.as_str().len() <= MAX_ENCODED_KEY {
                prop_assert_eq!(a.cmp(&b), one.cmp(&two));
            }
        }

        /// What a listing that begins amid the names, or ends there, goes by.
        #[test]
        fn places_among_names_leave_out_no_key(
            one in keys(),
            two in keys(),
            at in any::<proptest::sample::Index>(),
            end in "[a-b/]?",
        ) {
            let (one, two) = (one.as_str(), two.as_str());
            let text = format!("{}{end}", &one[..one.floor_char_boundary(at.index(one.len() + 1))]);
            for layout in [StoreLayout::Transparent, StoreLayout::Encoded] {
                let name = |key: &str| {
                    let object = layout.object(&bucket(), &Key::parse(key).unwrap()).ok()?;
                    Some(StoreDir::bucket(&bucket()).name(object.as_str())?.to_owned())
                };
                for key in [one, two] {
                    let Some(name) = name(key) else { continue };
                    if key.starts_with(&text) {
                        prop_assert!(name.starts_with(&layout.beginning(&text)));
                        prop_assert!(layout.before(&text) < Some(name.clone()));
                    }
                    if *key > *text {
                        prop_assert!(layout.after(&text) < Some(name.clone()));
                        if !key.starts_with(&text) && !text.is_empty() {
                            prop_assert!(layout.beyond(&text) < Some(name));
                        }
                    }
                }
                if let (Some(a), Some(b)) = (name(one), name(two))
                    && a < b
                {
                    prop_assert!(layout.least_after(one) <= two);
                    let is_cut = layout == StoreLayout::Encoded && two.len() > MAX_ENCODED_KEY;
                    if two < one {
                        prop_assert!(is_cut);
                    }
                    if let Some(place) = layout.before_cut(one) {
                        prop_assert_eq!(place < b, is_cut || &one.as_bytes()[..CUT] != head(two.as_bytes(), CUT));
                    }
                }
            }
        }

        #[test]
        fn transparent_names_are_the_keys(key in keys()) {
            if let Ok(name) = StoreLayout::Transparent.object(&bucket(), &key) {
                prop_assert_eq!(name.as_str(), format!("bucket/{key}"));
                prop_assert_eq!(StoreLayout::Transparent.key(key.as_str()), Some(Named::Key(key)));
            }
        }

        #[test]
        fn what_others_put_there_is_no_panic(name: String) {
            for layout in [StoreLayout::Transparent, StoreLayout::Encoded] {
                layout.key(&name);
            }
        }
    }

    #[test]
    fn of_one_key_the_newest_version_sorts_first() {
        let key = Key::parse("a/b".repeat(300)).unwrap();
        let at = |nanos, random| Stamp::new(crate::Timestamp::from_unix_nanos(nanos), random);
        let stamps = [at(i64::MAX, 1), at(5, u64::MAX), at(5, 0), at(0, 0)];
        let names = stamps.map(|stamp| StoreKey::history(&bucket(), &key, stamp));
        assert!(names.is_sorted() && names[0].as_str().len() < 200);
        let dir = StoreDir::history(&bucket(), &key);
        for (name, stamp) in names.iter().zip(stamps) {
            let name = dir.name(name.as_str()).unwrap();
            assert_eq!(StoreDir::history_stamp(name), Some(stamp));
            assert_eq!(StoreDir::history_stamp(&name.to_uppercase()), None);
            assert_eq!(StoreDir::history_stamp(&name[1..]), None);
        }
        assert_ne!(dir, StoreDir::history(&bucket(), &Key::parse("a/b").unwrap()));
    }

    #[test]
    fn what_a_store_would_change_is_refused() {
        for key in ["/a", "a/", "a//b", ".", "a/../b", "a ", "a\u{a0}", "a\u{1}b", "a\\b"] {
            let key = Key::parse(key).unwrap();
            let refused = StoreLayout::Transparent.object(&bucket(), &key);
            assert!(matches!(refused, Err(BackendError::UnsupportedKey(_))), "{key:?}");
            StoreLayout::Encoded.object(&bucket(), &key).unwrap();
        }
        for key in [" a", "a b", ".t2/a", "%2e%2e/a", "ä", "a&b<c>", "..."] {
            StoreLayout::Transparent
                .object(&bucket(), &Key::parse(key).unwrap())
                .unwrap();
        }
    }
}
