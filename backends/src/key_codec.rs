//! Keys as names in a file system, and back: one-to-one, and never out of the bucket. Pure.
//!
//! A key is split at `/` into segments. A segment is stored under its own name, except where no file can have that
//! name: if it is empty, `.` or `..`, if it is longer than 255 bytes, and if it begins with [`.t2`](LEAD_IN) in any
//! letter case, which is how every escape begins. Such a segment becomes
//!
//! | name | stands for |
//! |---|---|
//! | `.t2=TEXT` | the segment TEXT |
//! | `.t2+TEXT` | a directory: the segment begins with TEXT and goes on inside |
//! | `.t2!TEXT` | the segment TEXT as the last of a key, where its own name is taken by a directory |
//!
//! In TEXT a `=` is written `=3D`; other `=XX` are reserved. TEXT has at most 251 bytes, so that every name has at most
//! 255; what does not fit is cut between characters, each piece as long as can be. Each segment has exactly one
//! spelling (and as the last of a key a second one, with `!`): a name that begins like an escape and is not the spelling
//! of anything stands for no key.
//!
//! Where names that differ in letter case or normal form are one, each of the two has another one that no folding takes
//! for a third, for when somebody else's spelling has it:
//!
//! | name | instead of |
//! |---|---|
//! | `.t2~HEX` | the segment's own name, or `.t2=` |
//! | `.t2-HEX` | `.t2!` |
//! | `.t2#HEX` | `.t2+`, before these |
//!
//! HEX is the segment in UTF-8, in lower case, cut in the same manner.

/// How every escape begins.
pub(crate) const LEAD_IN: &str = ".t2";
/// The longest name of a file, in bytes, on the file systems of Linux.
const MAX_NAME: usize = 255;
/// The most bytes of text in one escape.
const MAX_TEXT: usize = MAX_NAME - LEAD_IN.len() - 1;
/// The most bytes of a segment in one piece of hexadecimal digits.
const MAX_EXACT: usize = MAX_TEXT / 2;

/// A name, or several with all but the last being directories, each in the one before.
pub(crate) type Names = Vec<Box<str>>;

/// Which of its names a segment has. Where several are there, the first in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// `.t2~`: only where names are folded.
    Exact,
    /// Its own, or `.t2=`.
    Plain,
    /// `.t2-`: only where names are folded.
    ExactForced,
    /// `.t2!`.
    Forced,
}

impl Form {
    /// The names of `segment` in this form.
    pub(crate) fn names(self, segment: &str) -> Names {
        match self {
            Self::Exact => escape_exactly(segment, '~'),
            Self::Plain => self::segment(segment),
            Self::ExactForced => escape_exactly(segment, '-'),
            Self::Forced => forced(segment),
        }
    }

    /// Whether it is for objects alone, as the last of a key.
    pub(crate) fn is_forced(self) -> bool {
        matches!(self, Self::ExactForced | Self::Forced)
    }
}

/// Where the object of a key lies, from its bucket on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StorageName {
    /// The directories of all segments but the last.
    pub(crate) parents: Names,
    /// The last segment.
    pub(crate) plain: Names,
    /// The last segment while a directory has the plain name.
    pub(crate) forced: Names,
}

impl StorageName {
    /// Where names are not folded. `key` is any text without NUL.
    pub(crate) fn of(key: &str) -> Self {
        let (parents, last) = match key.rsplit_once('/') {
            Some((parents, last)) => (directories(parents), last),
            None => (Names::new(), key),
        };
        Self {
            parents,
            plain: segment(last),
            forced: forced(last),
        }
    }
}

/// The directories that the segments of `path` name.
pub(crate) fn directories(path: &str) -> Names {
    path.split('/').flat_map(segment).collect()
}

/// The name of one segment.
pub(crate) fn segment(text: &str) -> Names {
    if is_plain(text) {
        vec![text.into()]
    } else {
        escape(text, '=')
    }
}

/// The name of the last segment of a key whose plain name is a directory.
pub(crate) fn forced(text: &str) -> Names {
    escape(text, '!')
}

/// What one name stands for. Of an escape it remains to be seen whether, with the pieces before it, it is the spelling
/// of its text: [`Form::names`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// Under its own name.
    Plain,
    Escaped(String, Form),
    Continued(String),
    /// Of no key.
    Foreign,
}

impl Name {
    /// `folded`: whether names are folded where it was found.
    pub(crate) fn parse(name: &str, folded: bool) -> Self {
        if is_plain(name) {
            return Self::Plain;
        }
        let Some(rest) = name.strip_prefix(LEAD_IN) else {
            return Self::Foreign;
        };
        let mut chars = rest.chars();
        let lead = chars.next();
        let decode = match lead {
            Some('=' | '!' | '+') => unescape,
            Some('~' | '-' | '#') if folded => unescape_exactly,
            _ => return Self::Foreign,
        };
        let Some(text) = decode(chars.as_str()) else {
            return Self::Foreign;
        };
        match lead {
            Some('=') => Self::Escaped(text, Form::Plain),
            Some('!') => Self::Escaped(text, Form::Forced),
            Some('~') => Self::Escaped(text, Form::Exact),
            Some('-') => Self::Escaped(text, Form::ExactForced),
            _ => Self::Continued(text),
        }
    }
}

/// Whether a segment is stored under its own name.
pub(crate) fn is_plain(text: &str) -> bool {
    let escape_like = text
        .as_bytes()
        .get(..LEAD_IN.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(LEAD_IN.as_bytes()));
    !escape_like && !matches!(text, "" | "." | "..") && text.len() <= MAX_NAME
}

fn escape(text: &str, last: char) -> Names {
    let width = |c: char| if c == '=' { 3 } else { c.len_utf8() };
    let mut left: usize = text.chars().map(width).sum();
    let mut names = Names::new();
    let mut name = String::with_capacity(LEAD_IN.len() + 1 + left.min(MAX_TEXT));
    let begin = |name: &mut String, left: usize| {
        name.clear();
        name.push_str(LEAD_IN);
        name.push(if left > MAX_TEXT { '+' } else { last });
    };
    begin(&mut name, left);
    let mut continued = left > MAX_TEXT;
    for c in text.chars() {
        if continued && name.len() + width(c) > MAX_NAME {
            names.push(name.as_str().into());
            begin(&mut name, left);
            continued = left > MAX_TEXT;
        }
        match c {
            '=' => name.push_str("=3D"),
            c => name.push(c),
        }
        left -= width(c);
    }
    names.push(name.into());
    names
}

fn escape_exactly(text: &str, last: char) -> Names {
    let mut names = Names::new();
    let mut left = text;
    loop {
        let end = left.floor_char_boundary(MAX_EXACT);
        let (piece, rest) = left.split_at(end);
        left = rest;
        let lead = if left.is_empty() { last } else { '#' };
        names.push(format!("{LEAD_IN}{lead}{}", hex::encode(piece)).into());
        if left.is_empty() {
            return names;
        }
    }
}

fn unescape_exactly(text: &str) -> Option<String> {
    // Digits in upper case would be another spelling.
    let bytes = hex::decode(text).ok().filter(|bytes| hex::encode(bytes) == text)?;
    String::from_utf8(bytes).ok()
}

fn unescape(text: &str) -> Option<String> {
    let mut pieces = text.split('=');
    let mut plain = String::with_capacity(text.len());
    plain.push_str(pieces.next()?);
    for piece in pieces {
        plain.push('=');
        plain.push_str(piece.strip_prefix("3D")?);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> Names {
        names.iter().map(|n| (*n).into()).collect()
    }

    const FORMS: [Form; 4] = [Form::Exact, Form::Plain, Form::ExactForced, Form::Forced];

    /// The segment and its form, if `names` is its spelling.
    fn decode(spelled: &[Box<str>]) -> Option<(String, Form)> {
        let (last, chunks) = spelled.split_last()?;
        let mut text = String::new();
        for chunk in chunks {
            match Name::parse(chunk, true) {
                Name::Continued(chunk) => text.push_str(&chunk),
                _ => return None,
            }
        }
        let (rest, form) = match Name::parse(last, true) {
            Name::Plain if chunks.is_empty() => return Some((last.to_string(), Form::Plain)),
            Name::Escaped(rest, form) => (rest, form),
            _ => return None,
        };
        text.push_str(&rest);
        (form.names(&text) == spelled).then_some((text, form))
    }

    #[test]
    fn names_are_plain_wherever_a_file_can_have_them() {
        for plain in [
            "a",
            "ä b",
            "a=b",
            " ",
            "a.t2",
            ".t",
            "...",
            ".hidden",
            "a\n",
            "=3D",
            &"x".repeat(255),
        ] {
            assert_eq!(segment(plain), names(&[plain]));
        }
        assert_eq!(segment(""), names(&[".t2="]));
        assert_eq!(segment("."), names(&[".t2=."]));
        assert_eq!(segment(".."), names(&[".t2=.."]));
        assert_eq!(segment(".T2x"), names(&[".t2=.T2x"]));
        assert_eq!(segment(".t2=a"), names(&[".t2=.t2=3Da"]));
        assert_eq!(forced("a"), names(&[".t2!a"]));
    }

    #[test]
    fn long_segments_are_cut_between_characters() {
        let text = format!("{}{}", "x".repeat(250), "ä".repeat(10));
        let first = format!(".t2+{}", "x".repeat(250));
        let rest = format!(".t2={}", "ä".repeat(10));
        assert_eq!(segment(&text), names(&[&first, &rest]));
        let edge = "y".repeat(252);
        assert_eq!(segment(&edge), names(&[&edge]));
        assert_eq!(forced(&edge), names(&[&format!(".t2+{}", "y".repeat(251)), ".t2!y"]));
    }

    #[test]
    fn what_is_not_the_spelling_of_a_key_stands_for_none() {
        for foreign in [
            ".t2", ".t2x", ".T2=a", ".t2=3", ".t2==", ".t2=a=2E", ".t2==3d", ".t2?a", "", ".", "..", ".t2~6", ".t2~6A",
            ".t2-6x", ".t2~ff", ".T2~61", ".t2#61",
        ] {
            assert_eq!(decode(&names(&[foreign])), None, "{foreign}");
        }
        // Would do without an escape, or is cut too early.
        assert_eq!(decode(&names(&[".t2=a"])), None);
        assert_eq!(decode(&names(&[".t2+a", ".t2=b"])), None);
        assert_eq!(decode(&names(&[".t2+a", ".t2~61"])), None);
        assert_eq!(decode(&names(&[".t2#61", ".t2~61"])), None);
        assert_eq!(decode(&names(&[".t2!a"])), Some(("a".into(), Form::Forced)));
        assert_eq!(decode(&names(&[".t2~4181"])), None);
        for exact in [".t2~61", ".t2-61", ".t2#61"] {
            assert_eq!(Name::parse(exact, false), Name::Foreign);
        }
        assert_eq!(decode(&names(&[".t2-41"])), Some(("A".into(), Form::ExactForced)));
    }

    #[test]
    fn exact_names_are_cut_between_characters() {
        let text = format!("{}{}", "x".repeat(124), "ä".repeat(2));
        let first = format!(".t2#{}", "78".repeat(124));
        assert_eq!(Form::Exact.names(&text), names(&[&first, ".t2~c3a4c3a4"]));
        let edge = "y".repeat(125);
        assert_eq!(Form::Exact.names(&edge), names(&[&format!(".t2~{}", "79".repeat(125))]));
    }

    fn hostile_segment() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just(".t2".to_owned()),
            Just(".T2".to_owned()),
            Just("=".to_owned()),
            Just("=3D".to_owned()),
            Just("!".to_owned()),
            Just("+".to_owned()),
            Just(".".to_owned()),
            Just("x".repeat(250)),
            Just("ä€".repeat(40)),
            "[^/\0]{0,8}",
        ];
        proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn every_segment_round_trips_and_every_name_can_be_a_file(text in hostile_segment()) {
            for form in FORMS {
                let spelled = form.names(&text);
                for name in &spelled {
                    prop_assert!((1..=255).contains(&name.len()));
                    prop_assert!(!matches!(&**name, "." | ".."));
                    prop_assert!(!name.contains(['/', '\0']));
                }
                prop_assert_eq!(decode(&spelled), Some((text.clone(), form)));
            }
        }

        #[test]
        fn no_folding_takes_an_exact_name_for_another(a in hostile_segment(), b in hostile_segment()) {
            for form in [Form::Exact, Form::ExactForced] {
                for other in FORMS {
                    let folded = |form: Form, text: &str| form.names(text).join("/").to_lowercase();
                    let same = (form, &a) == (other, &b);
                    prop_assert_eq!(folded(form, &a) == folded(other, &b), same);
                }
            }
        }

        #[test]
        fn no_two_keys_share_a_name(keys in proptest::collection::vec(
            proptest::collection::vec(hostile_segment(), 1..4).prop_map(|s| s.join("/")), 1..20)
        ) {
            let mut seen: HashMap<Names, (String, bool)> = HashMap::new();
            for key in keys {
                let name = StorageName::of(&key);
                for (last, is_forced) in [(&name.plain, false), (&name.forced, true)] {
                    let path: Names = name.parents.iter().chain(last).cloned().collect();
                    let before = seen.insert(path, (key.clone(), is_forced));
                    prop_assert!(before.is_none_or(|before| before == (key.clone(), is_forced)));
                }
            }
        }

        #[test]
        fn any_name_is_parsed_without_a_panic(name in "\\PC*|\\.t2[=+!~#-]\\PC*") {
            for folded in [false, true] {
                let _name = Name::parse(&name, folded);
            }
        }
    }
}
