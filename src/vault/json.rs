//! Values as JSON that a person can read, and that gives the same value again to the last bit.
//!
//! Most things are what they look like. What JSON has no word for is an object with one key that begins with `$`:
//! `{"$bytes":"base64"}`, `{"$float":"16 hexadecimal digits"}` (the bits of what would not be read back exactly),
//! `{"$map":[key, value, …]}` (keys that are no texts, or begin with `$`, or stand there twice) and `{"$tag":[number,value]}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;

pub(super) const BYTES: &str = "$bytes";
pub(super) const FLOAT: &str = "$float";
pub(super) const MAP: &str = "$map";
pub(super) const TAG: &str = "$tag";
/// What names begin with that stand for something else.
pub(super) const MARK: char = '$';

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

/// The float whose bits these digits are.
pub(super) fn float_of(digits: &str) -> Option<f64> {
    let is_hex = digits.len() == 16 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(digits, 16).ok().filter(|_| is_hex).map(f64::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
