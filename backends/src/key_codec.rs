//! Keys as names in a file system, and back: one-to-one, and never out of the bucket. Pure.
//!
//! A key is split at `/` into segments. A segment is stored under its own name, except where no file can have that
//! name: if it is empty, `.` or `..`, if it is longer than 255 bytes, if it is [`.t2`](LEAD_IN) in any letter case, and
//! if it is itself a name that an escape can have. Such a segment becomes
//!
//! | name | stands for |
//! |---|---|
//! | `.t2=TEXT` | the segment TEXT |
//! | `.t2+TEXT` | a directory: the segment begins with TEXT and goes on inside |
//! | `.t2!TEXT` | the segment TEXT as the last of a key, where its own name is taken by a directory |
//!
//! In TEXT a `=` is written `=3D`; other `=XX` are reserved. TEXT has at most 251 bytes, so that every name has at most
//! 255; what does not fit is cut between characters, each piece as long as can be. Each segment has exactly one
//! spelling (and as the last of a key a second one, with `!`).
//!
//! So a name that begins like an escape, and is not the spelling of anything, is the own name of a segment: of the one
//! that is spelled so. `.t2x`, `.t2==` and `.T2=.` stand for themselves, and `.t2=a` does, as `a` needs no escape.
//! `.t2=.t2=a` does so too, for the same reason: what it would stand for is stored under its own name.
//! Escapes are told by their text alone, not by what lies there. That leaves names that are escapes and stand for
//! nothing where they are: `.t2!TEXT` of a directory, `.t2+TEXT` of a file, and in a directory `.t2+TEXT` what does not
//! go on with the segment.
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
//! HEX is the segment in UTF-8, in lower case, cut in the same manner. These names are nobody's own anywhere, also with
//! letters in upper case: a tree may come to a file system where names are folded.

/// How every escape begins. By itself the gateway's own directory, which a whole root may bring into a bucket.
pub(crate) const LEAD_IN: &str = ".t2";
/// The longest name of a file, in bytes, on the file systems of Linux.
const MAX_NAME: usize = 255;
/// The most bytes of text in one escape.
const MAX_TEXT: usize = MAX_NAME - LEAD_IN.len() - 1;
/// The most bytes of a segment in one piece of hexadecimal digits.
const MAX_EXACT: usize = MAX_TEXT / 2;
/// The most that one character takes, in bytes: so much a piece may fall short of what it can hold.
const MAX_CHARACTER: usize = 4;

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

    /// Whether it is one that no other spelling has where names are folded, and is nothing anywhere else.
    pub(crate) fn is_exact(self) -> bool {
        matches!(self, Self::Exact | Self::ExactForced)
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
    /// Where its history lies, from that of its bucket on: this follows from the key alone, wherever the object lies.
    pub(crate) history: Names,
}

impl StorageName {
    /// The object's are its own, which another key's spelling may have where names are `folded`. `key` is any text without
    /// NUL.
    pub(crate) fn of(key: &str, folded: bool) -> Self {
        let (parents, last) = match key.rsplit_once('/') {
            Some((parents, last)) => (Some(parents), last),
            None => (None, key),
        };
        let form = if folded { Form::ExactForced } else { Form::Forced };
        let mut history = parents.map_or_else(Names::new, |parents| history_directories(parents, folded));
        history.extend(form.names(last));
        Self {
            parents: parents.map_or_else(Names::new, directories),
            plain: segment(last),
            forced: forced(last),
            history,
        }
    }
}

/// The directories of histories that the segments of `path` name. Where names are folded they have those that no other
/// spelling has, each of them: so nobody has to look who came first.
pub(crate) fn history_directories(path: &str, folded: bool) -> Names {
    let form = if folded { Form::Exact } else { Form::Plain };
    path.split('/').flat_map(|segment| form.names(segment)).collect()
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
    /// Of a name in a directory that a segment names. `folded`: whether names are folded where it was found.
    pub(crate) fn parse(name: &str, folded: bool) -> Self {
        if is_plain(name) {
            Self::Plain
        } else {
            Self::parse_piece(name, folded)
        }
    }

    /// Of a name in a directory that a piece of a long segment names: there nothing has its own.
    pub(crate) fn parse_piece(name: &str, folded: bool) -> Self {
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
    !matches!(text, "" | "." | "..") && text.len() <= MAX_NAME && !is_reserved(text)
}

/// Whether a name is the gateway's, or one that an escape can have.
fn is_reserved(name: &str) -> bool {
    let Some((start, rest)) = name.split_at_checked(LEAD_IN.len()) else {
        return false;
    };
    if !start.eq_ignore_ascii_case(LEAD_IN) {
        return false;
    }
    let mut chars = rest.chars();
    let lead = chars.next();
    let text = chars.as_str();
    let exact = || unescape_exactly(&text.to_ascii_lowercase());
    match lead {
        None => true,
        Some('~' | '-') => exact().is_some(),
        Some('#') => exact().is_some_and(|text| text.len() + MAX_CHARACTER > MAX_EXACT),
        _ if start != LEAD_IN => false,
        // Of a text that is shorter by four bytes at least.
        Some('=') => unescape(text).is_some_and(|text| !is_plain(&text)),
        Some('!') => unescape(text).is_some(),
        Some('+') => name.len() + MAX_CHARACTER > MAX_NAME && unescape(text).is_some(),
        Some(_) => false,
    }
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
        let parse = |name: &str, index: usize| match index {
            0 => Name::parse(name, true),
            _ => Name::parse_piece(name, true),
        };
        for (index, chunk) in chunks.iter().enumerate() {
            match parse(chunk, index) {
                Name::Continued(chunk) => text.push_str(&chunk),
                _ => return None,
            }
        }
        let (rest, form) = match parse(last, chunks.len()) {
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
        assert_eq!(segment(".t2"), names(&[".t2=.t2"]));
        assert_eq!(segment(".T2"), names(&[".t2=.T2"]));
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
    fn what_only_looks_like_an_escape_stands_for_itself() {
        let literal = [
            ".t2x".to_owned(),
            ".T2x".into(),
            ".t2 ".into(),
            ".t2.".into(),
            ".t2?a".into(),
            ".t2\u{e4}".into(),
            // No digits, others, or too few.
            ".t2=3=".into(),
            ".t2==".into(),
            ".t2=a=2E".into(),
            ".t2==3d".into(),
            ".t2!=".into(),
            ".t2!a=3".into(),
            ".t2~6".into(),
            ".t2~6x".into(),
            ".t2~ff".into(),
            ".t2-6x".into(),
            // Of what needs no escape, or is no escape.
            ".t2=a".into(),
            ".t2=3".into(),
            ".t2=.t2x".into(),
            ".t2=.t2=3Da".into(),
            ".t2=...".into(),
            // In upper case.
            ".T2=".into(),
            ".T2=.".into(),
            ".T2!a".into(),
            // Cut too early.
            ".t2+".into(),
            ".t2+a".into(),
            ".t2#61".into(),
            format!(".t2+{}", "x".repeat(247)),
            format!(".t2#{}", "61".repeat(121)),
            // And too late.
            format!(".T2+{}", "x".repeat(251)),
        ];
        for name in &literal {
            assert_eq!(segment(name), names(&[name]), "{name}");
            for folded in [false, true] {
                assert_eq!(Name::parse(name, folded), Name::Plain, "{name}");
            }
            assert_eq!(forced(name).last().map(|last| last.starts_with(".t2!")), Some(true));
        }
    }

    #[test]
    fn what_an_escape_can_be_called_is_escaped_itself() {
        let piece = format!(".t2+{}", "x".repeat(248));
        let exact_piece = format!(".t2#{}", "61".repeat(122));
        for name in [
            ".t2=",
            ".t2=.",
            ".t2=.t2",
            ".t2=.T2",
            ".t2=.t2!a",
            ".t2=.t2=3D.t2!a",
            ".t2!",
            ".t2!a",
            ".t2!.t2x",
            ".t2!=3D",
            ".t2~",
            ".t2~61",
            ".T2~61",
            ".t2~6A",
            ".T2-6a",
            &piece,
            &exact_piece,
        ] {
            assert!(!is_plain(name), "{name}");
            let spelled = segment(name);
            assert_ne!(spelled, names(&[name]), "{name}");
            assert_eq!(decode(&spelled), Some((name.to_owned(), Form::Plain)), "{name}");
        }
        assert_eq!(segment(".t2=.t2!a"), names(&[".t2=.t2=3D.t2!a"]));
    }

    #[test]
    fn what_is_not_the_spelling_of_a_key_stands_for_none() {
        let piece = format!(".t2+{}", "x".repeat(251));
        for foreign in [".t2", ".T2", "", ".", "..", ".t2~6A", ".T2~61", &piece] {
            assert_eq!(decode(&names(&[foreign])), None, "{foreign}");
        }
        // Would do without an escape, or is cut too early, or does not go on.
        assert_eq!(decode(&names(&[".t2+a", ".t2=b"])), None);
        assert_eq!(decode(&names(&[".t2+a", ".t2~61"])), None);
        assert_eq!(decode(&names(&[".t2#61", ".t2~61"])), None);
        assert_eq!(decode(&names(&[&piece, "b"])), None);
        assert_eq!(decode(&names(&[&piece, ".t2x"])), None);
        let long = format!("{}b", "x".repeat(251 + 4));
        assert_eq!(decode(&names(&[&piece, ".t2=xxxxb"])), Some((long, Form::Plain)));
        assert_eq!(decode(&names(&[".t2!a"])), Some(("a".into(), Form::Forced)));
        assert_eq!(decode(&names(&[".t2~4181"])), Some((".t2~4181".into(), Form::Plain)));
        for exact in [".t2~61", ".t2-61"] {
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
            Just("~".to_owned()),
            Just("#".to_owned()),
            Just(".".to_owned()),
            Just("61".to_owned()),
            Just("61".repeat(122)),
            Just("x".repeat(250)),
            Just("x".repeat(248)),
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

        /// Each name is the spelling of one segment at most, in one form; and if it is none, no segment's own either.
        #[test]
        fn every_name_stands_for_itself_or_is_an_escape(name in hostile_segment()) {
            prop_assume!(name.len() <= MAX_NAME && !matches!(&*name, "" | "." | ".."));
            let spelled = names(&[&name]);
            match Name::parse(&name, true) {
                Name::Plain => prop_assert_eq!(decode(&spelled), Some((name.clone(), Form::Plain))),
                Name::Escaped(text, form) => prop_assert_eq!(decode(&spelled), Some((text, form))),
                Name::Continued(_) | Name::Foreign => prop_assert_eq!(decode(&spelled), None),
            }
            prop_assert_eq!(segment(&name) == spelled, Name::parse(&name, true) == Name::Plain);
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

        /// And the directory of one is never on the way to another's: their names tell them apart.
        #[test]
        fn no_folding_takes_a_history_for_another(keys in proptest::collection::vec(
            proptest::collection::vec(hostile_segment(), 1..4).prop_map(|s| s.join("/")), 1..20))
        {
            let mut seen: HashMap<String, String> = HashMap::new();
            for key in keys {
                let history = StorageName::of(&key, true).history;
                prop_assert!(history.iter().all(|name| name.is_ascii() && name.len() <= 255 && !name.ends_with(['.', ' '])));
                prop_assert!(history.iter().all(|name| **name == *name.to_ascii_lowercase()));
                let (last, before) = history.split_last().unwrap();
                prop_assert!(last.starts_with(".t2-") && !before.iter().any(|name| name.starts_with(".t2-")));
                let other = seen.insert(history.join("/"), key.clone());
                prop_assert!(other.is_none_or(|other| other == key));
            }
        }

        #[test]
        fn no_two_keys_share_a_name(keys in proptest::collection::vec(
            proptest::collection::vec(hostile_segment(), 1..4).prop_map(|s| s.join("/")), 1..20)
        ) {
            let mut seen: HashMap<Names, (String, bool)> = HashMap::new();
            for key in keys {
                let name = StorageName::of(&key, false);
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
