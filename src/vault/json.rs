//! Values as JSON that a person can read, and that gives the same value again to the last bit.
//!
//! Most things are what they look like. What JSON has no word for is an object with one key that begins with `$`:
//! `{"$bytes":"base64"}`, `{"$float":"16 hexadecimal digits"}` (the bits of what would not be read back exactly),
//! `{"$map":[key, value, …]}` (keys that are no texts, or begin with `$`, or stand there twice) and `{"$tag":[number,value]}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value;
use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;

const BYTES: &str = "$bytes";
const FLOAT: &str = "$float";
const MAP: &str = "$map";
const TAG: &str = "$tag";
/// What names begin with that stand for something else.
const MARK: char = '$';

/// A value that is written as JSON.
pub(super) struct Shown<'v>(pub(super) &'v Value);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(truth) => serializer.serialize_bool(*truth),
            Value::Integer(number) => {
                let number = i128::from(*number);
                match (u64::try_from(number), i64::try_from(number)) {
                    (Ok(number), _) => serializer.serialize_u64(number),
                    (_, Ok(number)) => serializer.serialize_i64(number),
                    // CBOR counts from −1 down to −2⁶⁴: what is below 64 bits is shown as the big integer that it is.
                    _ => single(serializer, TAG, &(3, Shown(&Value::Bytes(negative_digits(number))))),
                }
            }
            Value::Float(float) if is_read_back(*float) => serializer.serialize_f64(*float),
            Value::Float(float) => single(serializer, FLOAT, &format!("{:016x}", float.to_bits())),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => single(serializer, BYTES, &STANDARD.encode(bytes)),
            Value::Array(members) => serializer.collect_seq(members.iter().map(Shown)),
            Value::Map(entries) => match plain_names(entries) {
                Some(names) => {
                    let values = entries.iter().map(|(_, value)| Shown(value));
                    serializer.collect_map(names.into_iter().zip(values))
                }
                None => {
                    let flat: Vec<_> = entries.iter().flat_map(|(key, value)| [Shown(key), Shown(value)]).collect();
                    single(serializer, MAP, &flat)
                }
            },
            Value::Tag(number, inner) => single(serializer, TAG, &(number, Shown(inner))),
            _ => Err(serde::ser::Error::custom("this release knows no JSON for such a value")),
        }
    }
}

fn single<S: Serializer, T: Serialize>(serializer: S, name: &str, value: &T) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(name, value)?;
    map.end()
}

fn negative_digits(number: i128) -> Vec<u8> {
    let counted = (-1 - number).unsigned_abs();
    counted.to_be_bytes()[counted.leading_zeros() as usize / 8..].to_vec()
}

/// Whether a reader of JSON makes of its digits the same float again.
fn is_read_back(float: f64) -> bool {
    let text = serde_json::to_string(&float).unwrap_or_default();
    float.is_finite() && serde_json::from_str(&text).is_ok_and(|back: f64| back.to_bits() == float.to_bits())
}

/// The names of an object that has nothing else for keys.
fn plain_names(entries: &[(Value, Value)]) -> Option<Vec<&str>> {
    let names: Vec<&str> = entries.iter().map(|(key, _)| key.as_text()).collect::<Option<_>>()?;
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    (distinct.len() == names.len() && !names.iter().any(|name| name.starts_with(MARK))).then_some(names)
}

/// A value that was read from JSON.
pub(super) struct Read(pub(super) Value);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading).map(Read)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Value, E> {
        Ok(Value::Float(float))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Read(member)) = members.next_element()? {
            list.push(member);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        let mut names = BTreeSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            if name.starts_with(MARK) {
                if !map.is_empty() {
                    return Err(A::Error::custom(format!("{name:?} stands beside other names")));
                }
                let value = marked(&name, &mut entries)?;
                return match entries.next_key::<String>()? {
                    None => Ok(value),
                    Some(other) => Err(A::Error::custom(format!("{other:?} stands beside {name:?}"))),
                };
            }
            let Read(value) = entries.next_value()?;
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("{name:?} stands there twice")));
            }
            map.push((Value::Text(name), value));
        }
        Ok(Value::Map(map))
    }
}

fn marked<'de, A: MapAccess<'de>>(name: &str, entries: &mut A) -> Result<Value, A::Error> {
    match name {
        BYTES => {
            let text: String = entries.next_value()?;
            let wrong = |_| A::Error::custom("what stands under \"$bytes\" is not base64");
            STANDARD.decode(text).map(Value::Bytes).map_err(wrong)
        }
        FLOAT => {
            let text: String = entries.next_value()?;
            let is_hex = text.len() == 16 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            let bits = u64::from_str_radix(&text, 16).ok().filter(|_| is_hex);
            let wrong = || A::Error::invalid_value(Unexpected::Str(&text), &"16 hexadecimal digits");
            bits.map(|bits| Value::Float(f64::from_bits(bits))).ok_or_else(wrong)
        }
        MAP => {
            let mut flat = entries.next_value::<Vec<Read>>()?.into_iter();
            let mut map = Vec::new();
            while let Some(Read(key)) = flat.next() {
                let Some(Read(value)) = flat.next() else {
                    return Err(A::Error::custom("the last key under \"$map\" has no value"));
                };
                map.push((key, value));
            }
            Ok(Value::Map(map))
        }
        TAG => {
            let (number, Read(inner)): (u64, Read) = entries.next_value()?;
            Ok(Value::Tag(number, Box::new(inner)))
        }
        _ => Err(A::Error::custom(format!("{name:?} is none of $bytes, $float, $map and $tag"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|number| Value::Integer(number.into())),
            any::<u64>().prop_map(|number| Value::Integer(number.into())),
            any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
            "[$a\0ä\n\"]{0,4}".prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let names = "[$ab]{0,2}".prop_map(Value::Text);
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec((names, inner.clone()), 0..4).prop_map(Value::Map),
                proptest::collection::vec((inner.clone(), inner.clone()), 0..3).prop_map(Value::Map),
                (any::<u64>(), inner).prop_map(|(number, inner)| Value::Tag(number, Box::new(inner))),
            ]
        })
    }

    fn bytes(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).expect("memory takes all");
        bytes
    }

    proptest! {
        #[test]
        fn every_value_comes_back_from_its_json_to_the_last_bit(value in value()) {
            let json = serde_json::to_string(&Shown(&value)).expect("JSON");
            let Read(back) = serde_json::from_str(&json).expect("it was written here");
            prop_assert_eq!(bytes(&back), bytes(&value), "{}", json);
        }
    }

    #[test]
    fn plain_things_look_plain() {
        let shown = |value: &Value| serde_json::to_string(&Shown(value)).expect("JSON");
        let pair = |key: Value| Value::Map(vec![(key, 1.into())]);
        assert_eq!(shown(&Value::Float(1.0)), "1.0");
        assert_eq!(shown(&pair("a".into())), r#"{"a":1}"#);
        assert_eq!(shown(&pair(2.into())), r#"{"$map":[2,1]}"#);
        assert_eq!(shown(&Value::Bytes(vec![1, 2, 3])), r#"{"$bytes":"AQID"}"#);
        assert_eq!(shown(&Value::Float(f64::INFINITY)), r#"{"$float":"7ff0000000000000"}"#);
    }

    #[test]
    fn json_that_no_value_is_written_as_is_refused() {
        for wrong in [
            r#"{"$bytes":"A"}"#,
            r#"{"$bytes":1}"#,
            r#"{"$float":"+ff0000000000000"}"#,
            r#"{"$map":[1]}"#,
            r#"{"$tag":[1]}"#,
            r#"{"$other":1}"#,
            r#"{"$bytes":"","a":1}"#,
            r#"{"a":1,"$bytes":""}"#,
            r#"{"a":1,"a":1}"#,
        ] {
            assert!(serde_json::from_str::<Read>(wrong).is_err(), "{wrong}");
        }
    }
}
