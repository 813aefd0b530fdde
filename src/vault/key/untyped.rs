//! Keys whose type nobody knows, as values that can be shown, and back.
//!
//! What CBOR has no word for is under a tag of its own.

use super::decode::{Integer, Reader, noun};
use super::{BYTES, END, FALSE, FLOAT, KeyError, LIST, MAP, NONE, SOME, TEXT, TRUE, UNIT, VARIANT};
use super::{MAX_DEPTH, bounded, put_bytes, put_float, put_integer};
use crate::vault::error::{Error, Result};
use ciborium::Value;
use ciborium::value::Integer as Number;

/// Integers beyond 64 bits, as RFC 8949 has them.
const POSITIVE: u64 = 2;
const NEGATIVE: u64 = 3;
/// The unit, something optional that is there, and a variant, in the range that is free for everyone.
const UNIT_TAG: u64 = 0x5348_0001;
const SOME_TAG: u64 = 0x5348_0002;
const VARIANT_TAG: u64 = 0x5348_0003;

/// The key as a value.
pub(crate) fn to_value(bytes: &[u8]) -> Result<Value> {
    let mut reader = Reader::new(bytes);
    let read = read(&mut reader).and_then(|value| reader.finish().map(|()| value));
    read.map_err(|error| Error::OtherType { what: "key", why: error.to_string() })
}

/// The bytes of the key that a value shows.
pub(crate) fn from_value(value: &Value) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    write(&mut out, value, 0).map_err(|error| Error::Unfit { what: "key", why: error.to_string() })?;
    bounded(out)
}

fn read(reader: &mut Reader<'_>) -> Result<Value, KeyError> {
    Ok(match reader.byte()? {
        NONE => Value::Null,
        UNIT => tagged(UNIT_TAG, Value::Null),
        SOME => tagged(SOME_TAG, reader.within(read)?),
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        first @ 0x10..=0x30 => integer(&reader.integer(first)?),
        FLOAT => Value::Float(reader.float()?),
        TEXT => Value::Text(reader.text()?),
        BYTES => Value::Bytes(reader.bytes()?),
        LIST => reader.within(|reader| {
            let mut members = Vec::new();
            while !reader.ends()? {
                members.push(read(reader)?);
            }
            Ok(Value::Array(members))
        })?,
        MAP => reader.within(|reader| {
            let mut entries = Vec::new();
            while !reader.ends()? {
                entries.push((read(reader)?, read(reader)?));
            }
            Ok(Value::Map(entries))
        })?,
        VARIANT => {
            let position = u32::from_be_bytes(reader.array()?);
            let inner = reader.within(read)?;
            tagged(VARIANT_TAG, Value::Array(vec![position.into(), inner]))
        }
        first => return Err(KeyError::new(format!("{} begins nothing", noun(first)))),
    })
}

fn tagged(tag: u64, value: Value) -> Value {
    Value::Tag(tag, Box::new(value))
}

fn integer(integer: &Integer) -> Value {
    let Integer { is_negative, magnitude } = *integer;
    let number = if is_negative { 0_i128.checked_sub_unsigned(magnitude) } else { i128::try_from(magnitude).ok() };
    match number.and_then(|number| Number::try_from(number).ok()) {
        Some(number) => Value::Integer(number),
        None => {
            let (tag, counted) = if is_negative { (NEGATIVE, magnitude - 1) } else { (POSITIVE, magnitude) };
            let digits = &counted.to_be_bytes()[counted.leading_zeros() as usize / 8..];
            tagged(tag, Value::Bytes(digits.to_vec()))
        }
    }
}

fn write(out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<(), KeyError> {
    if depth > MAX_DEPTH {
        return Err(KeyError::new("it is nested more than 60 deep"));
    }
    match value {
        Value::Null => out.push(NONE),
        Value::Bool(truth) => out.push(if *truth { TRUE } else { FALSE }),
        Value::Integer(number) => {
            let number = i128::from(*number);
            put_integer(out, number < 0, number.unsigned_abs());
        }
        Value::Float(float) => put_float(out, *float),
        Value::Text(text) => put_bytes(out, TEXT, text.as_bytes()),
        Value::Bytes(bytes) => put_bytes(out, BYTES, bytes),
        Value::Array(members) => {
            out.push(LIST);
            members.iter().try_for_each(|member| write(out, member, depth + 1))?;
            out.push(END);
        }
        Value::Map(entries) => write_map(out, entries, depth)?,
        Value::Tag(tag, inner) => write_tagged(out, *tag, inner, depth)?,
        _ => return Err(KeyError::new("it is of a type that keys do not have")),
    }
    Ok(())
}

fn write_map(out: &mut Vec<u8>, entries: &[(Value, Value)], depth: usize) -> Result<(), KeyError> {
    let entry = |(key, value): &(Value, Value)| {
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        write(&mut key_bytes, key, depth + 1)?;
        write(&mut value_bytes, value, depth + 1)?;
        Ok((key_bytes, value_bytes))
    };
    let mut sorted: Vec<(Vec<u8>, Vec<u8>)> = entries.iter().map(entry).collect::<Result<_, KeyError>>()?;
    sorted.sort_unstable();
    out.push(MAP);
    sorted.into_iter().for_each(|(key, value)| out.extend(key.into_iter().chain(value)));
    out.push(END);
    Ok(())
}

fn write_tagged(out: &mut Vec<u8>, tag: u64, inner: &Value, depth: usize) -> Result<(), KeyError> {
    let wrong = || KeyError::new(format!("tag {tag} is none of a key's, or holds something else"));
    match (tag, inner) {
        (UNIT_TAG, Value::Null) => out.push(UNIT),
        (SOME_TAG, inner) => {
            out.push(SOME);
            write(out, inner, depth + 1)?;
        }
        (VARIANT_TAG, Value::Array(parts)) => {
            let [Value::Integer(position), inner] = parts.as_slice() else { return Err(wrong()) };
            let position = u32::try_from(i128::from(*position)).map_err(|_| wrong())?;
            out.push(VARIANT);
            out.extend_from_slice(&position.to_be_bytes());
            write(out, inner, depth + 1)?;
        }
        (POSITIVE | NEGATIVE, Value::Bytes(digits)) if digits.len() <= 16 => {
            let magnitude = digits.iter().fold(0_u128, |number, digit| number << 8 | u128::from(*digit));
            let is_negative = tag == NEGATIVE;
            let magnitude = if is_negative { magnitude.checked_add(1).ok_or_else(wrong)? } else { magnitude };
            if is_negative && magnitude > i128::MIN.unsigned_abs() {
                return Err(wrong());
            }
            put_integer(out, is_negative, magnitude);
        }
        _ => return Err(wrong()),
    }
    Ok(())
}
