//! Values whose kind is looked at later. Other systems refuse fields one by one and in their own words, so a field of
//! another kind than it should have must not end the reading; what it has is not kept.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// Most items of a list that are kept; the others are counted. An item may take much more memory than it has bytes.
const KEPT: usize = 16 << 10;

/// A text, a number, or something that is neither.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Scalar {
    /// It is absent or null.
    #[default]
    Nothing,
    Bool(bool),
    Number(Number),
    Text(String),
    /// A list or an object.
    Compound,
}

impl Scalar {
    /// Whether JavaScript takes it for false, which is how Piston sees whether there is something.
    pub(super) fn is_falsy(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Bool(value) => !value,
            Self::Number(value) => value.as_f64() == Some(0.0),
            Self::Text(value) => value.is_empty(),
            Self::Compound => false,
        }
    }

    /// The number that it is.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(value) => value.as_f64(),
            _ => None,
        }
    }
}

/// A list, or something that is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum List<T> {
    /// It is absent or null.
    #[default]
    Nothing,
    /// The first of its items, and how many there are.
    Items(Vec<T>, usize),
    /// Something else.
    Other,
}

/// Reads a list of which at most so many items are kept.
#[derive(Debug)]
pub(super) struct AtMost<T>(usize, PhantomData<T>);

/// The fields of an object; none of them where it is no object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields<T>(pub(super) T);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AtMost::new(KEPT).deserialize(deserializer)
    }
}

impl<T> AtMost<T> {
    pub(super) fn new(most: usize) -> Self {
        Self(most, PhantomData)
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for AtMost<T> {
    type Value = List<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<List<T>, D::Error> {
        deserializer.deserialize_any(ListVisitor(self))
    }
}

impl<'de, T: DeserializeOwned + Default> Deserialize<'de> for Fields<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read_by(PhantomData, deserializer)
    }
}

impl<T: Default> Fields<T> {
    /// Reads them by what knows how.
    pub(super) fn read_by<'de, S, D>(seed: S, deserializer: D) -> Result<Self, D::Error>
    where
        S: DeserializeSeed<'de, Value = T>,
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(FieldsVisitor(seed))
    }
}

/// Those kinds of values of which a visitor has the same to say.
macro_rules! otherwise {
    ($value:expr; $($visit:ident: $kind:ty),+) => {
        $(fn $visit<E>(self, _: $kind) -> Result<Self::Value, E> { Ok($value) })+
    };
}

fn drained<'de, A: SeqAccess<'de>>(mut items: A) -> Result<usize, A::Error> {
    let mut count = 0;
    while items.next_element::<IgnoredAny>()?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn drained_map<'de, A: MapAccess<'de>>(mut entries: A) -> Result<(), A::Error> {
    while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        // JSON has no number that is not finite.
        Ok(Number::from_f64(value).map_or(Scalar::Nothing, Scalar::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Scalar, A::Error> {
        drained(items)?;
        Ok(Scalar::Compound)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Scalar, A::Error> {
        drained_map(entries)?;
        Ok(Scalar::Compound)
    }
}

struct ListVisitor<T>(AtMost<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<List<T>, E> {
        Ok(List::Nothing)
    }

    otherwise!(List::Other; visit_bool: bool, visit_u64: u64, visit_i64: i64, visit_f64: f64, visit_str: &str);

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < self.0.0 {
            match items.next_element()? {
                Some(item) => kept.push(item),
                None => {
                    let count = kept.len();
                    return Ok(List::Items(kept, count));
                }
            }
        }
        let count = kept.len() + drained(items)?;
        Ok(List::Items(kept, count))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<List<T>, A::Error> {
        drained_map(entries)?;
        Ok(List::Other)
    }
}

struct FieldsVisitor<S>(S);

impl<'de, S> Visitor<'de> for FieldsVisitor<S>
where
    S: DeserializeSeed<'de>,
    S::Value: Default,
{
    type Value = Fields<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Fields::default())
    }

    otherwise!(Fields::default(); visit_bool: bool, visit_u64: u64, visit_i64: i64, visit_f64: f64, visit_str: &str);

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        drained(items)?;
        Ok(Fields::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        self.0.deserialize(MapAccessDeserializer::new(entries)).map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_read_to_its_end() {
        for (json, scalar) in [
            ("null", Scalar::Nothing),
            ("true", Scalar::Bool(true)),
            ("-1", Scalar::Number((-1).into())),
            ("0.5", Scalar::Number(Number::from_f64(0.5).unwrap())),
            ("\"a\\n\"", Scalar::Text("a\n".to_owned())),
            ("[1, [2], {}]", Scalar::Compound),
            (r#"{"a": {"b": []}}"#, Scalar::Compound),
        ] {
            assert_eq!(serde_json::from_str::<Scalar>(json).unwrap(), scalar);
        }
        let list: List<Scalar> = serde_json::from_str("[1, null]").unwrap();
        assert_eq!(list, List::Items(vec![Scalar::Number(1.into()), Scalar::Nothing], 2));
        for json in ["1", "\"a\"", "false", "{}"] {
            assert_eq!(serde_json::from_str::<List<Scalar>>(json).unwrap(), List::Other);
        }
    }

    #[test]
    fn of_a_long_list_the_beginning_is_kept_and_the_rest_counted() {
        let json = serde_json::to_string(&vec![1; KEPT + 5]).unwrap();
        let List::Items(kept, count) = serde_json::from_str::<List<Scalar>>(&json).unwrap() else { panic!() };
        assert_eq!((kept.len(), count), (KEPT, KEPT + 5));
        let mut reader = serde_json::Deserializer::from_str("[1, 2, 3]");
        let list: List<Scalar> = AtMost::new(1).deserialize(&mut reader).unwrap();
        assert_eq!(list, List::Items(vec![Scalar::Number(1.into())], 3));
    }

    #[test]
    fn something_is_false_as_in_javascript() {
        for (json, falsy) in [
            ("null", true),
            ("false", true),
            ("0", true),
            ("-0.0", true),
            ("\"\"", true),
            ("\"0\"", false),
            ("[]", false),
            ("{}", false),
            ("-1", false),
        ] {
            assert_eq!(serde_json::from_str::<Scalar>(json).unwrap().is_falsy(), falsy, "{json}");
        }
    }
}
