//! The query string: decoded parameters, each asked for by name. Signatures are computed over the same reading of it.

use std::borrow::Cow;

use super::{S3Error, S3ErrorCode, target::percent_decode};
use crate::limits::MAX_QUERY_PARAMETERS;

/// A decoded name and value.
pub(crate) type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// Why a query string cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokenQuery {
    /// A `%` without two hexadecimal digits.
    Encoding,
    /// More than [`MAX_QUERY_PARAMETERS`].
    TooMany,
}

/// The parameters in what follows the `?`, in the order of the wire. One without `=` has an empty value; empty pieces
/// between `&` are none.
///
/// `+` is a space here, unlike in a path: that is how S3 reads a query, and the clients whose libraries write `+` (form
/// encoders) sign `%20` for it. A plus sign travels as `%2B` from all of them.
pub(crate) fn pairs(raw: &str) -> Result<Vec<Pair<'_>>, BrokenQuery> {
    let decode = |text| percent_decode(text, true).ok_or(BrokenQuery::Encoding);
    let mut pairs = Vec::new();
    for piece in raw.split('&').filter(|piece| !piece.is_empty()) {
        if pairs.len() == MAX_QUERY_PARAMETERS {
            return Err(BrokenQuery::TooMany);
        }
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        pairs.push((decode(name)?, decode(value)?));
    }
    Ok(pairs)
}

/// A query string, decoded. Names are as sent, in their case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows the `?`.
    ///
    /// Errors: `InvalidURI` for broken percent-encoding or what is not UTF-8, `InvalidArgument` for more than
    /// [`MAX_QUERY_PARAMETERS`].
    pub fn parse(raw: &str) -> Result<Self, S3Error> {
        let invalid_uri = || S3Error::new(S3ErrorCode::InvalidURI, "Couldn't parse the specified URI.");
        let text = |bytes: Cow<'_, [u8]>| String::from_utf8(bytes.into_owned()).map_err(|_| invalid_uri());
        let pairs = pairs(raw).map_err(|broken| match broken {
            BrokenQuery::Encoding => invalid_uri(),
            BrokenQuery::TooMany => S3Error::new(
                S3ErrorCode::InvalidArgument,
                "The request has too many query parameters.",
            ),
        })?;
        let pairs = pairs.into_iter().map(|(name, value)| Ok((text(name)?, text(value)?)));
        pairs.collect::<Result<_, S3Error>>().map(Self)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// The value of a parameter. `InvalidArgument` where it stands there twice: which one counts would be a guess.
    pub fn get(&self, name: &str) -> Result<Option<&str>, S3Error> {
        let mut values = self.iter().filter(|(n, _)| *n == name).map(|(_, value)| value);
        let value = values.next();
        if values.next().is_some() {
            return Err(S3Error::new(
                S3ErrorCode::InvalidArgument,
                format!("The query parameter {name} must not be given more than once."),
            )
            .with_field("ArgumentName", name));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("acl&prefix=a+b%2Bc%26&&x==&e=").unwrap();
        let pairs: Vec<_> = query.iter().collect();
        assert_eq!(pairs, [("acl", ""), ("prefix", "a b+c&"), ("x", "="), ("e", "")]);
        assert_eq!(query.get("prefix").unwrap(), Some("a b+c&"));
        assert_eq!(query.get("none").unwrap(), None);
        assert!(query.contains("acl") && !query.contains("ACL"));
    }

    #[test]
    fn a_repeated_parameter_is_refused_when_asked_for() {
        let query = Query::parse("a=1&a=1&b=2").unwrap();
        assert_eq!(query.get("a").unwrap_err().code(), S3ErrorCode::InvalidArgument);
        assert_eq!(query.get("b").unwrap(), Some("2"));
    }

    #[test]
    fn broken_encoding_and_too_many_are_refused() {
        for raw in ["a=%", "%zz", "a=%FF", "a=%4"] {
            assert_eq!(Query::parse(raw).unwrap_err().code(), S3ErrorCode::InvalidURI, "{raw}");
        }
        let many = "a&".repeat(MAX_QUERY_PARAMETERS + 1);
        assert_eq!(Query::parse(&many).unwrap_err().code(), S3ErrorCode::InvalidArgument);
    }

    proptest! {
        #[test]
        fn never_panics(raw in "\\PC*") {
            let _query = Query::parse(&raw);
        }
    }
}
