//! Values as bytes: CBOR (RFC 8949), which says of itself what it is, so that an export can show any of it.

use super::error::{Error, Result};
use super::watch::Watched;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A value has at most this many bytes of CBOR: what is larger belongs in a file. Reading or writing one takes about three
/// times its size of memory.
pub const MAX_VALUE_BYTES: usize = 128 * 1024 * 1024;
/// Keys and values are nested at most this deep, so that their JSON is within what readers of JSON take.
pub const MAX_DEPTH: usize = 60;

/// Bytes that are kept as bytes: a `Vec<u8>` is to serde a list of numbers, and takes twice the room and many times the
/// time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// A value as bytes; [`Error::Unfit`] or [`Error::TooLarge`] if it cannot be kept.
pub(crate) fn encode_value<V: Serialize + ?Sized>(value: &V) -> Result<Vec<u8>> {
    let mut room = Bounded::default();
    let written = ciborium::into_writer(&Watched::new(value), &mut room);
    if room.is_over {
        return Err(Error::TooLarge { what: "value", bytes: MAX_VALUE_BYTES + 1, most: MAX_VALUE_BYTES });
    }
    let why = |error: ciborium::ser::Error<std::io::Error>| match error {
        ciborium::ser::Error::Value(why) => why,
        ciborium::ser::Error::Io(error) => error.to_string(),
    };
    written.map_err(|error| Error::Unfit { what: "value", why: why(error) })?;
    whole_value(room.bytes)
}

/// The bytes, if they are those of a value; [`Error::Unfit`] if it cannot be kept.
pub(super) fn whole_value(bytes: Vec<u8>) -> Result<Vec<u8>> {
    check(&bytes).map_err(|why| Error::Unfit { what: "value", why: why.to_owned() })?;
    Ok(bytes)
}

/// The value again; [`Error::OtherType`] if it is one of another type.
pub(crate) fn decode_value<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    let other = |why: String| Error::OtherType { what: "value", why };
    // Lengths are checked against what there is before anything is made of them.
    check(bytes).map_err(|why| other(why.to_owned()))?;
    ciborium::from_reader(bytes).map_err(|error| other(error.to_string()))
}

/// Takes bytes up to the limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    is_over: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > MAX_VALUE_BYTES - self.bytes.len() {
            self.is_over = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether the bytes are exactly one item of CBOR, not nested too deep; walks over it without making anything.
fn check(bytes: &[u8]) -> Result<(), &'static str> {
    const BREAK: u8 = 0xff;
    let mut rest = bytes;
    // What is still to come at each depth; `None` until a break.
    let mut open: Vec<Option<u64>> = vec![Some(1)];
    while let Some(remaining) = open.last_mut() {
        match remaining {
            Some(0) => {
                open.pop();
                continue;
            }
            Some(count) => *count -= 1,
            None if rest.first() == Some(&BREAK) => {
                rest = &rest[1..];
                open.pop();
                continue;
            }
            None => {}
        }
        let (&first, after) = rest.split_first().ok_or("it ends too early")?;
        let (major, short) = (first >> 5, first & 0x1f);
        let (length, after) = argument(short, after)?;
        rest = after;
        match (major, length) {
            (0 | 1 | 7, Some(_)) => {}
            (2 | 3, Some(length)) => {
                let length = usize::try_from(length).map_err(|_| "a length in it is too large")?;
                rest = rest.get(length..).ok_or("a length in it is more than there is")?;
            }
            (2..=5, None) => open.push(None),
            (4, Some(length)) => open.push(Some(length)),
            (5, Some(length)) => open.push(Some(length.checked_mul(2).ok_or("a length in it is too large")?)),
            (6, Some(_)) => open.push(Some(1)),
            _ => return Err("it is not CBOR"),
        }
        if open.len() > MAX_DEPTH + 1 {
            return Err("it is nested more than 60 deep");
        }
    }
    if rest.is_empty() { Ok(()) } else { Err("there is something after it") }
}

/// The number that follows an item's first byte; `None` for a length that is told by a break.
fn argument(short: u8, rest: &[u8]) -> Result<(Option<u64>, &[u8]), &'static str> {
    let width = match short {
        0..24 => return Ok((Some(u64::from(short)), rest)),
        24..28 => 1 << (short - 24),
        31 => return Ok((None, rest)),
        _ => return Err("it is not CBOR"),
    };
    let (digits, rest) = rest.split_at_checked(width).ok_or("it ends too early")?;
    Ok((Some(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit))), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ciborium::Value;

    fn nested(depth: usize) -> Value {
        (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
    }

    #[test]
    fn bytes_stay_bytes_and_everything_comes_back() {
        let blob = Blob((0..=255).collect());
        let encoded = encode_value(&blob).expect("it fits");
        assert_eq!(encoded.len(), 256 + 3);
        assert_eq!(decode_value::<Blob>(&encoded).expect("it was put in"), blob);
        let mixed = (Some(-5_i128), f64::MIN_POSITIVE, true, vec!["ä", "名"], ((), u128::MAX, i128::MIN));
        let encoded = encode_value(&mixed).expect("it fits");
        let text = |text: &str| text.to_owned();
        type Mixed = (Option<i128>, f64, bool, Vec<String>, ((), u128, i128));
        let back: Mixed = decode_value(&encoded).expect("it was put in");
        let expected = (mixed.0, mixed.1, mixed.2, vec![text("ä"), text("名")], mixed.4);
        assert_eq!(back, expected);
    }

    #[test]
    fn an_option_that_would_come_back_as_another_is_refused_wherever_it_is() {
        #[derive(Serialize)]
        struct Unit;
        #[derive(Serialize)]
        struct Wrapped<T>(T);
        #[derive(Serialize)]
        enum Variant {
            One(Option<Option<u8>>),
            Two { field: Option<()> },
        }
        let none = Some(None::<u8>);
        let refused = [
            encode_value(&none),
            encode_value(&Some(())),
            encode_value(&Some(Unit)),
            encode_value(&Some(Wrapped(None::<u8>))),
            encode_value(&Some(Some(None::<u8>))),
            encode_value(&vec![Some(Some(1)), none]),
            encode_value(&(1, none)),
            encode_value(&std::collections::BTreeMap::from([(1, none)])),
            encode_value(&Wrapped(none)),
            encode_value(&Variant::One(none)),
            encode_value(&Variant::Two { field: Some(()) }),
        ];
        for (number, refused) in refused.into_iter().enumerate() {
            let error = refused.expect_err("refused").to_string();
            assert!(error.starts_with("this value cannot be kept: in an option"), "{number}: {error}");
        }
        let kept = (None::<Option<u8>>, Some(Some(1)), Some(vec![()]), Some(Wrapped(Some(2))), Unit, ());
        assert!(encode_value(&kept).is_ok() && encode_value(&Variant::One(None)).is_ok());
        let back: Vec<Option<Option<u8>>> =
            decode_value(&encode_value(&[None, Some(Some(1))]).expect("it fits")).expect("it");
        assert_eq!(back, [None, Some(Some(1))]);
    }

    #[test]
    fn what_is_nested_too_deep_or_too_large_is_refused_when_it_is_put_in() {
        assert!(decode_value::<Value>(&encode_value(&nested(MAX_DEPTH)).expect("it fits")).is_ok());
        assert!(matches!(encode_value(&nested(MAX_DEPTH + 1)), Err(Error::Unfit { .. })));
        let large = Blob(vec![0; MAX_VALUE_BYTES]);
        assert!(matches!(encode_value(&large), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn no_bytes_make_a_value_by_lengths_that_are_not_there() {
        for bytes in [
            &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
            &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x62, 0x61],
            &[0x9f, 0x01],
            &[0xff],
            &[0x1c],
            &[0x01, 0x01],
            &[],
        ] {
            assert!(decode_value::<Value>(bytes).is_err(), "{bytes:x?}");
        }
        assert_eq!(decode_value::<Vec<u8>>(&[0x9f, 0x01, 0x02, 0xff]).expect("a list without a length"), [1, 2]);
    }
}
