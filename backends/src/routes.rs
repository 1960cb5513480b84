//! Which store a bucket is in, and who gets one that was there before, by its name. Pure.

use std::fmt;

use crate::{AccountId, BucketName};

/// The name of a bucket, or a glob for names: `*` stands for any number of characters, `?` for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPattern(Box<str>);

/// The text is no pattern, or one that no bucket can be called by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no bucket can have such a name")]
pub struct InvalidBucketPattern;

/// The longest name of a bucket, in bytes.
const MAX_NAME: usize = 63;
/// The shortest.
const MIN_NAME: usize = 3;

impl BucketPattern {
    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidBucketPattern> {
        let text = text.into();
        if !text.contains(['*', '?']) {
            return match BucketName::parse(&*text) {
                Ok(_) => Ok(Self(text)),
                Err(_) => Err(InvalidBucketPattern),
            };
        }
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'*' | b'?');
        let separator = |b: Option<u8>| matches!(b, Some(b'-' | b'.'));
        let stars = text.bytes().filter(|&b| b == b'*').count();
        let least = text.len() - stars;
        let possible = text.bytes().all(known)
            && !separator(text.bytes().next())
            && !separator(text.bytes().next_back())
            && !text.contains("..")
            && least <= MAX_NAME
            && (stars > 0 || least >= MIN_NAME);
        if possible {
            Ok(Self(text))
        } else {
            Err(InvalidBucketPattern)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, bucket: &BucketName) -> bool {
        matches(self.0.as_bytes(), bucket.as_str().as_bytes())
    }

    /// Whether every name that `other` matches is matched by this one too.
    pub fn covers(&self, other: &Self) -> bool {
        // What `other` leaves open is a character that stands in no pattern: only a wildcard matches it.
        matches(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl fmt::Display for BucketPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Matches a glob against a name, or against another glob, whose `*` only a `*` matches. In time of one length times
/// the other at most.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // The last `*`, and where what it stands for ends so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') if text[t] != b'*' => {
                (p, t) = (p + 1, t + 1);
            }
            Some(b) if *b == text[t] => {
                (p, t) = (p + 1, t + 1);
            }
            _ => {
                let Some((at, end)) = star else {
                    return false;
                };
                star = Some((at, end + 1));
                (p, t) = (at + 1, end + 1);
            }
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// Which of several stores each bucket is in: that of the first pattern that matches its name, else the first store.
/// Stores are told apart by their numbers, from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    entries: Vec<(BucketPattern, usize)>,
}

impl Routes {
    /// Patterns with the numbers of their stores, the first to be asked first.
    pub fn new(entries: Vec<(BucketPattern, usize)>) -> Self {
        Self { entries }
    }

    pub fn store_of(&self, bucket: &BucketName) -> usize {
        let entry = self.entries.iter().find(|(pattern, _)| pattern.matches(bucket));
        entry.map_or(0, |&(_, store)| store)
    }

    /// The greatest number of a store that is named.
    pub(crate) fn last_store(&self) -> usize {
        self.entries.iter().map(|&(_, store)| store).max().unwrap_or(0)
    }
}

/// Who gets the directories that were there before the gateway and are nobody's bucket yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adoption {
    entries: Vec<(BucketPattern, Option<AccountId>)>,
    others: Option<AccountId>,
}

impl Adoption {
    /// The first pattern that matches a directory's name says its owner. Where it says none, and where none matches,
    /// `others` is.
    pub fn new(entries: Vec<(BucketPattern, Option<AccountId>)>, others: Option<AccountId>) -> Self {
        Self { entries, others }
    }

    /// Without one a directory is not served.
    pub fn owner(&self, bucket: &BucketName) -> Option<&AccountId> {
        let entry = self.entries.iter().find(|(pattern, _)| pattern.matches(bucket));
        entry.and_then(|(_, owner)| owner.as_ref()).or(self.others.as_ref())
    }

    /// Who gets what no pattern gives to another.
    pub fn others(&self) -> Option<&AccountId> {
        self.others.as_ref()
    }
}

/// One account gets all.
impl From<AccountId> for Adoption {
    fn from(others: AccountId) -> Self {
        Self::new(Vec::new(), Some(others))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> BucketPattern {
        BucketPattern::parse(text).expect(text)
    }

    fn name(text: &str) -> BucketName {
        BucketName::parse(text).expect(text)
    }

    #[test]
    fn a_pattern_that_no_name_fits_is_none() {
        for good in ["logs", "logs-*", "*", "???", "a?*", "*.example.com", "a*b*c", "*-?"] {
            assert!(BucketPattern::parse(good).is_ok(), "{good}");
        }
        let long = format!("{}*", "a".repeat(64));
        for bad in [
            "", "ab", "??", "Logs-*", "logs_*", "-*", ".*", "*-", "*.", "a..*", "a/*", "[ab]*", "é*", &long,
        ] {
            assert!(BucketPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_star_is_any_number_of_characters_and_a_question_mark_one() {
        let cases = [
            ("logs", "logs", true),
            ("logs", "logs2", false),
            ("logs-*", "logs-", false),
            ("logs-*", "logs-2026", true),
            ("logs-*", "my-logs-2026", false),
            ("*", "anything", true),
            ("*logs", "logs", true),
            ("*logs", "my-logs", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*aab", "aaaab", true),
            ("???", "abc", true),
            ("???", "abcd", false),
            ("a?c", "abc", true),
            ("a?c", "a.c", true),
        ];
        for (glob, bucket, expected) in cases {
            let Ok(bucket) = BucketName::parse(bucket) else {
                continue;
            };
            assert_eq!(pattern(glob).matches(&bucket), expected, "{glob} {bucket}");
        }
    }

    #[test]
    fn a_pattern_covers_what_could_match_nothing_after_it() {
        for (first, second, expected) in [
            ("*", "logs-*", true),
            ("*", "logs", true),
            ("*", "???", true),
            ("logs-*", "logs-2026", true),
            ("logs-*", "logs-*", true),
            ("logs-*", "logs-?-*", true),
            ("logs-2026", "logs-*", false),
            ("logs-?*", "logs-*", false),
            ("???", "*", false),
            ("logs-*", "*", false),
            ("*-logs", "my-*-logs", true),
        ] {
            assert_eq!(pattern(first).covers(&pattern(second)), expected, "{first} {second}");
        }
    }

    #[test]
    fn the_first_pattern_that_matches_says_the_owner() {
        let account = |id: &str| AccountId::parse(id).expect(id);
        let entries = vec![
            (pattern("logs-old"), None),
            (pattern("logs-*"), Some(account("ops"))),
            (pattern("*-new"), Some(account("web"))),
        ];
        let adoption = Adoption::new(entries.clone(), Some(account("rest")));
        for (bucket, owner) in [
            ("logs-old", "rest"),
            ("logs-new", "ops"),
            ("site-new", "web"),
            ("data", "rest"),
        ] {
            assert_eq!(adoption.owner(&name(bucket)), Some(&account(owner)), "{bucket}");
        }
        let adoption = Adoption::new(entries, None);
        for (bucket, owner) in [("logs-old", None), ("logs-1", Some("ops")), ("data", None)] {
            assert_eq!(adoption.owner(&name(bucket)), owner.map(account).as_ref(), "{bucket}");
        }
        assert_eq!(Adoption::default().owner(&name("data")), None);
    }

    #[test]
    fn the_first_pattern_that_matches_says_the_store() {
        let routes = Routes::new(vec![
            (pattern("logs-old"), 2),
            (pattern("logs-*"), 1),
            (pattern("*-old"), 0),
        ]);
        assert_eq!(routes.store_of(&name("logs-old")), 2);
        assert_eq!(routes.store_of(&name("logs-very-old")), 1);
        assert_eq!(routes.store_of(&name("data-old")), 0);
        assert_eq!(routes.store_of(&name("data")), 0);
        assert_eq!(Routes::default().store_of(&name("data")), 0);
    }

    proptest! {
        /// What the covering pattern does not match, the covered one does not match either.
        #[test]
        fn covering_is_never_said_wrongly(a in "[ab*?]{1,6}", b in "[ab*?]{1,6}", bucket in "[ab]{3,8}") {
            if let (Ok(a), Ok(b)) = (BucketPattern::parse(a), BucketPattern::parse(b)) {
                let bucket = name(&bucket);
                prop_assert!(!a.covers(&b) || !b.matches(&bucket) || a.matches(&bucket));
            }
        }

        #[test]
        fn matching_is_as_by_definition(glob in "[ab*?]{1,7}", bucket in "[ab]{3,8}") {
            fn slow(p: &[u8], t: &[u8]) -> bool {
                match (p, t) {
                    ([], []) => true,
                    ([b'*', rest @ ..], _) => slow(rest, t) || (!t.is_empty() && slow(p, &t[1..])),
                    ([b'?', p @ ..], [_, t @ ..]) => slow(p, t),
                    ([a, p @ ..], [b, t @ ..]) if a == b => slow(p, t),
                    _ => false,
                }
            }
            if let Ok(pattern) = BucketPattern::parse(glob.clone()) {
                prop_assert_eq!(pattern.matches(&name(&bucket)), slow(glob.as_bytes(), bucket.as_bytes()));
            }
        }
    }
}
