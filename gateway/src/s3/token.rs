//! Continuation tokens: opaque to clients, and without state here.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Says how the rest is to be read, so that tokens can change.
const VERSION: u8 = 1;

/// A token that stands for "after this name".
pub fn encode(after: &str) -> String {
    let mut bytes = Vec::with_capacity(1 + after.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(after.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The name in a token, `None` where it is none of ours.
pub fn decode(token: &str) -> Option<Box<str>> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (version, name) = bytes.split_first()?;
    if *version != VERSION || name.is_empty() {
        return None;
    }
    Some(str::from_utf8(name).ok()?.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_token_is_refused() {
        for bad in ["", "a", "====", "AQ", "AmFiYw", "ä", "Af8"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_round_trip(name in "\\PC+") {
            let decoded = decode(&encode(&name));
            prop_assert_eq!(decoded.as_deref(), Some(name.as_str()));
        }

        #[test]
        fn never_panics(token in "\\PC*") {
            let _name = decode(&token);
        }
    }
}
