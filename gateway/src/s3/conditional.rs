//! Conditional headers, read into conditions. What a condition says of an object is for `t2gate_backends` to judge.

use http::{HeaderMap, HeaderName, header};
use t2gate_backends::{ETag, IfMatch, ReadCondition, Timestamp, WriteCondition};

use super::{S3Error, S3ErrorCode, headers, operation::IfRange};
use crate::limits::MAX_ENTITY_TAGS;

/// `If-Match` compares strongly, `If-None-Match` weakly (RFC 9110, section 8.8.3.2): a weak tag matches in the second
/// only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// The conditions of GetObject and HeadObject. Dates that are none are ignored (RFC 9110, section 13.1.3).
pub fn read_condition(headers: &HeaderMap) -> Result<ReadCondition, S3Error> {
    let date = |name: HeaderName| Ok::<_, S3Error>(headers::one(headers, &name)?.and_then(http_date));
    Ok(ReadCondition {
        if_match: tags(headers, &header::IF_MATCH, Comparison::Strong)?,
        if_none_match: tags(headers, &header::IF_NONE_MATCH, Comparison::Weak)?,
        if_modified_since: date(header::IF_MODIFIED_SINCE)?,
        if_unmodified_since: date(header::IF_UNMODIFIED_SINCE)?,
    })
}

/// The conditions on a copy's source. Here a date that is none is refused: ignored, it would let a copy through that
/// the client meant to stop.
pub fn copy_source_condition(headers: &HeaderMap) -> Result<ReadCondition, S3Error> {
    let date = |name: &'static str| match headers::one(headers, &HeaderName::from_static(name))? {
        None => Ok(None),
        Some(text) => match http_date(text) {
            Some(date) => Ok(Some(date)),
            None => Err(S3Error::invalid_argument("The date is not valid.", name, text)),
        },
    };
    let name = HeaderName::from_static;
    Ok(ReadCondition {
        if_match: tags(headers, &name("x-amz-copy-source-if-match"), Comparison::Strong)?,
        if_none_match: tags(headers, &name("x-amz-copy-source-if-none-match"), Comparison::Weak)?,
        if_modified_since: date("x-amz-copy-source-if-modified-since")?,
        if_unmodified_since: date("x-amz-copy-source-if-unmodified-since")?,
    })
}

/// The conditions of a write that takes both `If-Match` and `If-None-Match: *` (PutObject, CopyObject's destination,
/// CompleteMultipartUpload). Errors: 501 for a tag in `If-None-Match`, for both at once, and for conditions on time.
pub fn write_condition(headers: &HeaderMap) -> Result<WriteCondition, S3Error> {
    refuse(headers, &[header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE])?;
    let if_none_match = match headers::one(headers, &header::IF_NONE_MATCH)? {
        None => false,
        Some("*") => true,
        Some(_) => return Err(S3Error::header_not_implemented("If-None-Match")),
    };
    let if_match = tags(headers, &header::IF_MATCH, Comparison::Strong)?;
    if if_none_match && if_match.is_some() {
        return Err(S3Error::header_not_implemented("If-Match with If-None-Match"));
    }
    Ok(WriteCondition {
        if_match,
        if_none_match,
        keep_all: false,
    })
}

/// The conditions of DeleteObject: `If-Match` alone.
pub fn delete_condition(headers: &HeaderMap) -> Result<WriteCondition, S3Error> {
    refuse(
        headers,
        &[
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_UNMODIFIED_SINCE,
        ],
    )?;
    Ok(WriteCondition {
        if_match: tags(headers, &header::IF_MATCH, Comparison::Strong)?,
        if_none_match: false,
        keep_all: false,
    })
}

/// Refuses any condition: for writes that take none.
pub fn no_condition(headers: &HeaderMap) -> Result<(), S3Error> {
    refuse(
        headers,
        &[
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_UNMODIFIED_SINCE,
        ],
    )
}

/// `If-Range`.
pub fn if_range(headers: &HeaderMap) -> Result<Option<IfRange>, S3Error> {
    Ok(
        headers::one(headers, &header::IF_RANGE)?.map(|text| match (http_date(text), tag(text, Comparison::Strong)) {
            (Some(date), _) => IfRange::Date(date),
            (None, Some(etag)) => IfRange::Tag(etag),
            (None, None) => IfRange::Never,
        }),
    )
}

/// One tag as an XML body holds it: quoted or not, or `*`.
pub fn parse_if_match(text: &str) -> Result<IfMatch, S3Error> {
    list(text, Comparison::Strong)
}

/// A tag, quoted or not. `None` for what no object's tag can be, and for a weak one where weak ones do not count.
fn tag(text: &str, comparison: Comparison) -> Option<ETag> {
    let text = text.trim_matches([' ', '\t']);
    let text = match (text.strip_prefix("W/"), comparison) {
        (Some(opaque), Comparison::Weak) => opaque,
        (Some(_), Comparison::Strong) => return None,
        (None, _) => text,
    };
    let inner = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    };
    ETag::parse(inner).ok()
}

/// All values of a header are one list (RFC 9110, section 5.3).
fn tags(headers: &HeaderMap, name: &HeaderName, comparison: Comparison) -> Result<Option<IfMatch>, S3Error> {
    match headers::joined(headers, name)? {
        None => Ok(None),
        Some(text) => list(&text, comparison).map(Some),
    }
}

fn list(text: &str, comparison: Comparison) -> Result<IfMatch, S3Error> {
    let mut tags = Vec::new();
    let mut quoted = false;
    // A comma inside quotes belongs to the tag.
    let items = text.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    for (count, item) in items.enumerate() {
        if count == MAX_ENTITY_TAGS {
            return Err(S3Error::new(
                S3ErrorCode::InvalidArgument,
                "The request has too many entity tags.",
            ));
        }
        if item.trim() == "*" {
            return Ok(IfMatch::Any);
        }
        // What can be no tag of ours matches nothing, and a list of such things nothing at all.
        tags.extend(tag(item, comparison));
    }
    Ok(IfMatch::OneOf(tags))
}

fn http_date(text: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(text).ok().map(Timestamp::from)
}

fn refuse(headers: &HeaderMap, names: &[HeaderName]) -> Result<(), S3Error> {
    match names.iter().find(|name| headers.contains_key(*name)) {
        Some(name) => Err(S3Error::header_not_implemented(name.as_str())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn of(texts: &[&str]) -> IfMatch {
        IfMatch::OneOf(texts.iter().map(|text| ETag::parse(*text).unwrap()).collect())
    }

    #[test]
    fn entity_tags_come_quoted_unquoted_and_in_lists() {
        let parse = |text| parse_if_match(text).unwrap();
        assert_eq!(parse("\"abc\""), of(&["abc"]));
        assert_eq!(parse("abc"), of(&["abc"]));
        assert_eq!(parse("\"a\", b ,\"c,d\""), of(&["a", "b", "c,d"]));
        assert_eq!(parse(" * "), IfMatch::Any);
        assert_eq!(parse("\"a\", *"), IfMatch::Any);
    }

    #[test]
    fn weak_tags_match_in_if_none_match_only() {
        let headers = map(&[("if-match", "W/\"a\""), ("if-none-match", "W/\"a\"")]);
        let condition = read_condition(&headers).unwrap();
        assert_eq!(condition.if_match, Some(of(&[])));
        assert_eq!(condition.if_none_match, Some(of(&["a"])));
        assert!(!condition.if_match.unwrap().matches(&ETag::parse("a").unwrap()));
    }

    #[test]
    fn dates_that_are_none_are_ignored_on_reads_and_refused_on_copies() {
        let headers = map(&[
            ("if-modified-since", "yesterday"),
            ("if-unmodified-since", "Thu, 01 Jan 1970 00:01:00 GMT"),
        ]);
        let condition = read_condition(&headers).unwrap();
        assert_eq!(condition.if_modified_since, None);
        assert_eq!(condition.if_unmodified_since, Some(Timestamp::from_unix(60, 0)));
        let headers = map(&[("x-amz-copy-source-if-modified-since", "yesterday")]);
        assert_eq!(
            copy_source_condition(&headers).unwrap_err().code(),
            S3ErrorCode::InvalidArgument
        );
    }

    #[test]
    fn writes_take_a_star_or_a_tag_and_nothing_else() {
        assert!(write_condition(&map(&[("if-none-match", "*")])).unwrap().if_none_match);
        assert_eq!(
            write_condition(&map(&[("if-match", "\"a\"")])).unwrap().if_match,
            Some(of(&["a"]))
        );
        for refused in [
            &[("if-none-match", "\"a\"")][..],
            &[("if-none-match", "*"), ("if-match", "a")],
            &[("if-modified-since", "Thu, 01 Jan 1970 00:01:00 GMT")],
            &[("if-unmodified-since", "Thu, 01 Jan 1970 00:01:00 GMT")],
        ] {
            assert_eq!(
                write_condition(&map(refused)).unwrap_err().code(),
                S3ErrorCode::NotImplemented,
                "{refused:?}"
            );
        }
        assert_eq!(
            delete_condition(&map(&[("if-match", "*")])).unwrap().if_match,
            Some(IfMatch::Any)
        );
        assert_eq!(
            delete_condition(&map(&[("if-none-match", "*")])).unwrap_err().code(),
            S3ErrorCode::NotImplemented
        );
    }

    #[test]
    fn if_range_is_a_strong_tag_or_a_date() {
        let parse = |text| if_range(&map(&[("if-range", text)])).unwrap().unwrap();
        assert_eq!(parse("\"a\""), IfRange::Tag(ETag::parse("a").unwrap()));
        assert_eq!(parse("W/\"a\""), IfRange::Never);
        assert_eq!(
            parse("Thu, 01 Jan 1970 00:01:00 GMT"),
            IfRange::Date(Timestamp::from_unix(60, 0))
        );
        assert_eq!(parse("two words"), IfRange::Never);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _condition = parse_if_match(&text);
        }
    }
}
