//! JSON into CBOR as it is read, with no tree of it in between: to take a value in costs little more memory than it has bytes.

use super::json::{BYTES, FLOAT, MAP, MARK, TAG, float_of};
use super::key::MAX_KEY_BYTES;
use super::value::MAX_VALUE_BYTES;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// The key of an entry is at most so long as CBOR: what it is kept as has other lengths, but is not eight times shorter.
const MOST_KEY_CBOR: usize = 8 * MAX_KEY_BYTES;

/// The first byte of an item and the longest number after it.
const MAX_HEAD_BYTES: usize = 9;

/// The kinds of CBOR items that have a length or a number.
const BYTE_STRING: u8 = 2;
const TEXT_STRING: u8 = 3;
const ARRAY: u8 = 4;
const PAIRS: u8 = 5;
const TAGGED: u8 = 6;

/// The CBOR of a key, not looked at yet.
pub(super) struct KeyItem(pub(super) Vec<u8>);

/// The CBOR of a value, not looked at yet.
pub(super) struct ValueItem(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for KeyItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        item(deserializer, MOST_KEY_CBOR).map(Self)
    }
}

impl<'de> Deserialize<'de> for ValueItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        item(deserializer, MAX_VALUE_BYTES).map(Self)
    }
}

fn item<'de, D: Deserializer<'de>>(deserializer: D, most: usize) -> Result<Vec<u8>, D::Error> {
    let mut out = Vec::new();
    Intake { out: &mut out, most }.deserialize(deserializer)?;
    if out.len() > most { Err(too_long(most)) } else { Ok(out) }
}

fn too_long<E: Error>(most: usize) -> E {
    E::custom(format!("it has more than the {most} bytes that there may be"))
}

/// What is read goes to the end of `out`, up to a limit.
struct Intake<'o> {
    out: &'o mut Vec<u8>,
    most: usize,
}

impl Intake<'_> {
    fn inner(&mut self) -> Intake<'_> {
        Intake { out: self.out, most: self.most }
    }

    /// Fails before more than a few bytes beyond the limit are taken: what exactly is too long is seen at the end.
    fn room_for<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let most = self.most + 2 * MAX_HEAD_BYTES;
        if bytes > most.saturating_sub(self.out.len()) { Err(too_long(self.most)) } else { Ok(()) }
    }

    /// A number, or what else has no parts.
    fn scalar<E: Error>(self, value: &impl Serialize) -> Result<(), E> {
        self.room_for::<E>(MAX_HEAD_BYTES)?;
        ciborium::into_writer(value, &mut *self.out).map_err(E::custom)
    }

    fn string<E: Error>(&mut self, kind: u8, bytes: &[u8]) -> Result<(), E> {
        self.room_for::<E>(MAX_HEAD_BYTES + bytes.len())?;
        self.out.extend_from_slice(&head(kind, bytes.len() as u64));
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Puts before what was written since how much it is: CBOR says so first, JSON never.
    fn close<E: Error>(self, begin: usize, kind: u8, count: usize) -> Result<(), E> {
        self.room_for::<E>(MAX_HEAD_BYTES)?;
        self.out.splice(begin..begin, head(kind, count as u64));
        Ok(())
    }

    /// What stands under a name that means something else.
    fn marked<'de, A: MapAccess<'de>>(&mut self, name: &str, entries: &mut A) -> Result<(), A::Error> {
        match name {
            BYTES => entries.next_value_seed(Base64(self.inner())),
            FLOAT => {
                let text: String = entries.next_value()?;
                let wrong = || A::Error::invalid_value(Unexpected::Str(&text), &"16 hexadecimal digits");
                self.inner().scalar(&float_of(&text).ok_or_else(wrong)?)
            }
            MAP => entries.next_value_seed(Flat(self.inner())),
            TAG => entries.next_value_seed(Tagged(self.inner())),
            _ => Err(A::Error::custom(format!("{name:?} is none of $bytes, $float, $map and $tag"))),
        }
    }

    /// Fails where two of the names that were written here are the same.
    fn distinct<E: Error>(&self, mut names: Vec<(u32, u32)>) -> Result<(), E> {
        let name = |(from, to): (u32, u32)| &self.out[from as usize..to as usize];
        names.sort_unstable_by(|one, other| name(*one).cmp(name(*other)));
        match names.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
            None => Ok(()),
            Some(pair) => {
                let twice = String::from_utf8_lossy(name(pair[0])).into_owned();
                Err(E::custom(format!("{twice:?} stands there twice")))
            }
        }
    }
}

/// An item's first byte, and the number that goes with it, as short as it can be.
fn head(kind: u8, number: u64) -> Vec<u8> {
    let first = |short: u8| kind << 5 | short;
    let be = number.to_be_bytes();
    match number {
        0..24 => vec![first(be[7])],
        24..0x100 => vec![first(24), be[7]],
        0x100..0x1_0000 => [&[first(25)][..], &be[6..]].concat(),
        0x1_0000..0x1_0000_0000 => [&[first(26)][..], &be[4..]].concat(),
        _ => [&[first(27)][..], &be[..]].concat(),
    }
}

impl<'de> DeserializeSeed<'de> for Intake<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Intake<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar(&())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        self.scalar(&truth)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.scalar(&number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.scalar(&number)
    }

    fn visit_f64<E: Error>(self, float: f64) -> Result<(), E> {
        self.scalar(&float)
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.string(TEXT_STRING, text.as_bytes())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let (begin, mut count) = (self.out.len(), 0);
        while members.next_element_seed(self.inner())?.is_some() {
            count += 1;
        }
        self.close(begin, ARRAY, count)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let (begin, mut names) = (self.out.len(), Vec::new());
        while let Some(name) = entries.next_key::<String>()? {
            if name.starts_with(MARK) {
                if !names.is_empty() {
                    return Err(A::Error::custom(format!("{name:?} stands beside other names")));
                }
                self.marked(&name, &mut entries)?;
                return match entries.next_key::<String>()? {
                    None => Ok(()),
                    Some(other) => Err(A::Error::custom(format!("{other:?} stands beside {name:?}"))),
                };
            }
            self.string::<A::Error>(TEXT_STRING, name.as_bytes())?;
            let end = self.out.len();
            // What is written is within 32 bits: the limits are.
            names.push(((end - name.len()) as u32, end as u32));
            entries.next_value_seed(self.inner())?;
        }
        let count = names.len();
        self.distinct::<A::Error>(names)?;
        self.close(begin, PAIRS, count)
    }
}

/// Bytes, as base64.
struct Base64<'o>(Intake<'o>);

impl<'de> DeserializeSeed<'de> for Base64<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Base64<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let Self(intake) = self;
        let begin = intake.out.len();
        intake.room_for::<E>(text.len() / 4 * 3)?;
        intake.out.reserve(text.len() / 4 * 3 + MAX_HEAD_BYTES);
        let decoded = STANDARD.decode_vec(text, intake.out);
        decoded.map_err(|_| E::custom("what stands under \"$bytes\" is not base64"))?;
        let count = intake.out.len() - begin;
        intake.close(begin, BYTE_STRING, count)
    }
}

/// Keys and values in turn.
struct Flat<'o>(Intake<'o>);

impl<'de> DeserializeSeed<'de> for Flat<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Flat<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of keys and values in turn")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self(mut intake) = self;
        let (begin, mut count) = (intake.out.len(), 0);
        while members.next_element_seed(intake.inner())?.is_some() {
            if members.next_element_seed(intake.inner())?.is_none() {
                return Err(A::Error::custom("the last key under \"$map\" has no value"));
            }
            count += 1;
        }
        intake.close(begin, PAIRS, count)
    }
}

/// A number, and what it says something about.
struct Tagged<'o>(Intake<'o>);

impl<'de> DeserializeSeed<'de> for Tagged<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Tagged<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number and a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self(mut intake) = self;
        let short = |found| A::Error::invalid_length(found, &"a number and a value");
        let number: u64 = members.next_element()?.ok_or_else(|| short(0))?;
        intake.room_for::<A::Error>(MAX_HEAD_BYTES)?;
        intake.out.extend_from_slice(&head(TAGGED, number));
        members.next_element_seed(intake.inner())?.ok_or_else(|| short(1))?;
        match members.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(short(3)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::json::Shown;
    use ciborium::Value;
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

    fn taken_in(json: &str) -> serde_json::Result<Vec<u8>> {
        serde_json::from_str::<ValueItem>(json).map(|item| item.0)
    }

    proptest! {
        #[test]
        fn the_json_of_every_value_is_taken_in_as_the_cbor_of_that_value(value in value()) {
            let json = serde_json::to_string(&Shown(&value)).expect("JSON");
            prop_assert_eq!(taken_in(&json).expect("it was written here"), bytes(&value), "{}", json);
        }
    }

    #[test]
    fn lengths_of_every_width_are_those_of_the_value() {
        for count in [0, 1, 23, 24, 255, 256, 65_535, 65_536] {
            let list = Value::Array(vec![7.into(); count]);
            let names = (0..count).map(|number| (Value::Text(format!("{number:x}")), Value::Null));
            for value in [list, Value::Map(names.collect()), Value::Bytes(vec![3; count]), "ä".repeat(count).into()] {
                let json = serde_json::to_string(&Shown(&value)).expect("JSON");
                assert_eq!(taken_in(&json).expect("it was written here"), bytes(&value), "{count}");
            }
        }
    }

    #[test]
    fn json_that_no_value_is_written_as_is_not_taken_in() {
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
            r#"{"$tag":[1,2,3]}"#,
            r#"{"$map":{}}"#,
            r#"{"$map":[1,2,3]}"#,
        ] {
            assert!(taken_in(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_more_than_there_may_be_is_refused_while_it_is_read() {
        let take = |json: &str, most: usize| item(&mut serde_json::Deserializer::from_str(json), most);
        for json in ["[1,2,3,4,5,6,7,8,9,10,11,12]", r#""abcdefghijkl""#, r#"{"a":1,"b":2,"c":[],"d":4}"#] {
            assert_eq!(take(json, 13).expect("it has thirteen").len(), 13);
            assert!(take(json, 12).expect_err("too long").to_string().contains("12 bytes"));
        }
        let long = format!("[{}{}]", "[".repeat(100), "]".repeat(100));
        assert!(take(&long, 5).expect_err("too long").to_string().contains("5 bytes"));
        let endless = "[1,".repeat(100);
        assert!(take(&endless, 5).expect_err("too long").to_string().contains("5 bytes"), "told before its end");
        assert_eq!(take(r#"{"$bytes":"AAAAAAAAAAAAAAAA"}"#, 13).expect("it has thirteen").len(), 13);
        assert!(take(r#"{"$bytes":"AAAAAAAAAAAAAAAA"}"#, 12).is_err());
    }
}
