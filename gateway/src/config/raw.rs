//! The scalar types of the raw form. Each also takes a string, for an environment variable is one: read as anything
//! else, a region of digits or a TLS version would turn into a number before its field is known.

use std::{collections::BTreeMap, fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

/// A whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole(pub(super) u64);

/// True or false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Switch(pub(super) bool);

/// A length of time: `"30s"`, `"1m 30s"`, `"500ms"`, or a whole number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period(pub(super) Duration);

/// A number of bytes: `"64MiB"`, `"512KiB"`, `"1GiB"`, or a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// A list of strings, or one string with commas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct List(pub(super) Vec<String>);

/// A list of sections, `[[...]]` in the file, by number. A dictionary by then, so that a variable can name a key of one
/// of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbered<T>(pub(super) BTreeMap<usize, T>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl Period {
    pub(super) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl List {
    pub(super) fn of(items: &[&str]) -> Self {
        Self(items.iter().map(|&item| item.to_owned()).collect())
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Whole, E> {
                u64::try_from(number)
                    .map(Whole)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Whole, E> {
                text.parse()
                    .map(Whole)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(WholeVisitor)
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SwitchVisitor;
        impl Visitor<'_> for SwitchVisitor {
            type Value = Switch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Switch, E> {
                Ok(Switch(on))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Switch, E> {
                text.parse()
                    .map(Switch)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(SwitchVisitor)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeriodVisitor;
        impl Visitor<'_> for PeriodVisitor {
            type Value = Period;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as \"30s\", \"500ms\" or \"1m 30s\"")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Period, E> {
                Ok(Period::seconds(seconds))
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Period, E> {
                u64::try_from(seconds)
                    .map(Period::seconds)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(seconds), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
                if let Ok(seconds) = text.parse() {
                    return Ok(Period::seconds(seconds));
                }
                // A day is not always as long as another, says the parser; here it is.
                let days: Option<u64> = text.strip_suffix('d').and_then(|days| days.parse().ok());
                if let Some(seconds) = days.and_then(|days| days.checked_mul(24 * 60 * 60)) {
                    return Ok(Period::seconds(seconds));
                }
                text.parse::<jiff::SignedDuration>()
                    .ok()
                    .and_then(|period| Duration::try_from(period).ok())
                    .map(Period)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(PeriodVisitor)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as \"64MiB\" or \"512KiB\"")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes)
                    .map(Size)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
                let (number, unit) = units
                    .into_iter()
                    .find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), unit)))
                    .unwrap_or((text, 1));
                let number: Option<u64> = number.parse().ok();
                number
                    .and_then(|number| number.checked_mul(unit))
                    .map(Size)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<List, E> {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(List(items.map(str::to_owned).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(ListVisitor)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Numbered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberedVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for NumberedVisitor<T> {
            type Value = Numbered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Numbered<T>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let Ok(number) = key.parse() else {
                        return Err(de::Error::invalid_type(de::Unexpected::Map, &self));
                    };
                    entries.insert(number, map.next_value()?);
                }
                Ok(Numbered(entries))
            }
        }
        deserializer.deserialize_any(NumberedVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use figment::value::Value;

    use super::*;

    fn period(value: impl Into<Value>) -> Option<Duration> {
        value.into().deserialize().ok().map(|Period(period)| period)
    }

    #[test]
    fn a_period_is_words_or_seconds() {
        assert_eq!(period("30s"), Some(Duration::from_secs(30)));
        assert_eq!(period("1m 30s"), Some(Duration::from_secs(90)));
        assert_eq!(period("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(period(7), Some(Duration::from_secs(7)));
        assert_eq!(period("7"), Some(Duration::from_secs(7)));
        assert_eq!(period("7d"), Some(Duration::from_hours(168)));
        for bad in ["", "soon", "-3s", "3 parsecs"] {
            assert_eq!(period(bad), None, "{bad}");
        }
        assert_eq!(period(-1), None);
    }

    #[test]
    fn a_size_has_a_unit_or_is_bytes() {
        let size = |value: Value| value.deserialize().ok().map(|Size(size)| size);
        assert_eq!(size(Value::from("64MiB")), Some(64 << 20));
        assert_eq!(size(Value::from("2 GiB")), Some(2 << 30));
        assert_eq!(size(Value::from("1KiB")), Some(1024));
        assert_eq!(size(Value::from("12")), Some(12));
        assert_eq!(size(Value::from(12)), Some(12));
        for bad in ["", "MiB", "64MB", "-1KiB", "1.5MiB", "99999999999999GiB"] {
            assert_eq!(size(Value::from(bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_list_is_an_array_or_commas() {
        let list = |value: Value| value.deserialize::<List>().unwrap().0;
        assert_eq!(list(Value::from(vec!["a", "b"])), ["a", "b"]);
        assert_eq!(list(Value::from("a, b,")), ["a", "b"]);
        assert_eq!(list(Value::from("")), [""; 0]);
    }

    #[test]
    fn numbers_and_switches_also_come_as_strings() {
        assert_eq!(Value::from("12").deserialize::<Whole>().unwrap(), Whole(12));
        assert!(Value::from("-12").deserialize::<Whole>().is_err());
        assert!(Value::from(1.5).deserialize::<Whole>().is_err());
        assert_eq!(Value::from("true").deserialize::<Switch>().unwrap(), Switch(true));
        assert!(Value::from("on").deserialize::<Switch>().is_err());
    }
}
