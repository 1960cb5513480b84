//! The layouts: where the objects of a bucket lie, and where keys lie among their names.

use super::{
    StoreKey,
    encoded::{CUT, END, HASHED, MAX_ENCODED_KEY, base32, decode, encode, head, place, segmented},
    is_name, refuse_transparent,
};
use crate::{BackendError, BucketName, Key};

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

/// What a name in a bucket stands for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::opendal) enum Named {
    Key(Key),
    /// Of a long key: which one, the object's header says.
    Cut,
}

impl StoreLayout {
    /// Where the object `key` lies. [`BackendError::UnsupportedKey`] where that cannot be.
    pub(in crate::opendal) fn object(self, bucket: &BucketName, key: &Key) -> Result<StoreKey, BackendError> {
        match self {
            Self::Transparent => {
                refuse_transparent(key.as_str()).map_err(BackendError::UnsupportedKey)?;
                Ok(StoreKey(format!("{bucket}/{key}")))
            }
            Self::Encoded => Ok(StoreKey(format!("{bucket}/{}", encode(key.as_str())))),
        }
    }

    /// The key of what is called `name` in a bucket's directory. `None` for what is no object.
    pub(in crate::opendal) fn key(self, name: &str) -> Option<Named> {
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
    pub(in crate::opendal) fn beginning(self, prefix: &str) -> String {
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
    pub(in crate::opendal) fn before(self, prefix: &str) -> Option<String> {
        let encoded = self == Self::Encoded && !prefix.is_empty();
        encoded.then(|| place(prefix.as_bytes()))
    }

    /// Comes before the names of all keys after `key`, which need not be one. `None`: the store cannot be asked for it.
    pub(in crate::opendal) fn after(self, key: &str) -> Option<String> {
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
    pub(in crate::opendal) fn beyond(self, prefix: &str) -> Option<String> {
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
    pub(in crate::opendal) fn least_after(self, key: &str) -> &str {
        match self {
            Self::Transparent => key,
            Self::Encoded => &key[..key.floor_char_boundary(CUT)],
        }
    }

    /// Where a cut name may follow that of `key`, but less than it: comes before those, and after the other names that
    /// begin with the same bytes. `None`: there are none, or it is one of them.
    pub(in crate::opendal) fn before_cut(self, key: &str) -> Option<String> {
        let may_follow = self == Self::Encoded && (CUT..=MAX_ENCODED_KEY).contains(&key.len());
        may_follow.then(|| {
            let mut digits = base32(head(key.as_bytes(), CUT));
            digits.push(HASHED);
            segmented(&digits)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::opendal::key::{
        StoreDir,
        encoded::{DIGITS, SEGMENT},
    };

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
