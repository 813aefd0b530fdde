//! Keys as bytes that sort as the keys do, and that say what they are.
//!
//! *What it is.* A serde format in the manner of FoundationDB's tuple layer. The crates that were looked at (`storekey`,
//! `memcomparable`, `bytekey2`) need the type to read a key again; an export has to show keys whose type nobody knows.
//!
//! *What it knows.* One byte says what follows; the bytes that follow sort as the value does.
//!
//! *What it does not know.* Files, vaults, what a key stands for.
//!
//! *Invariants.* Two keys are equal if and only if their bytes are. `encode(a) < encode(b)` if and only if `a < b` by the
//! type's own derived order: integers of every width, characters, texts, bytes, options, tuples, sequences, structs by
//! their fields in order, enums by the position of the variant, maps by their entries. Floats are in the order of
//! `f64::total_cmp`. No bytes make it panic, nest deeper than [`MAX_DEPTH`], or take more memory than they have.
//!
//! ```text
//! 00 end    01 none    02 some …    03 unit    04 false    05 true
//! 10..1f negative of 16..1 bytes, complemented    20 zero    21..30 positive of 1..16 bytes, big-endian
//! 38 float: 8 bytes, sign flipped, complemented below zero
//! 40 text … 00    41 bytes … 00        a 00 inside is 00 ff
//! 50 list … 00    51 map: key value … 00    52 variant: position, 4 bytes, and what it holds
//! ```

mod decode;
mod encode;
#[cfg(test)]
mod tests;
mod untyped;

pub(crate) use untyped::{from_value, to_value};

use super::error::{Error, Result};
use super::value::MAX_DEPTH;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A key has at most this many bytes: it is read whole with every page of the file that it is on.
pub const MAX_KEY_BYTES: usize = 1024 * 1024;

const END: u8 = 0x00;
const NONE: u8 = 0x01;
const SOME: u8 = 0x02;
const UNIT: u8 = 0x03;
const FALSE: u8 = 0x04;
const TRUE: u8 = 0x05;
/// Zero; so many above or below it is the number of bytes of a positive or a negative integer.
const ZERO: u8 = 0x20;
const FLOAT: u8 = 0x38;
const TEXT: u8 = 0x40;
const BYTES: u8 = 0x41;
const LIST: u8 = 0x50;
const MAP: u8 = 0x51;
const VARIANT: u8 = 0x52;
/// Follows a zero that is no end: above every byte that something can begin with.
const ESCAPE: u8 = 0xff;

/// Why a key is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct KeyError(String);

impl KeyError {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl serde::ser::Error for KeyError {
    fn custom<T: std::fmt::Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

impl serde::de::Error for KeyError {
    fn custom<T: std::fmt::Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

/// A key as bytes; [`Error::Unfit`] or [`Error::TooLarge`] if it cannot be one.
pub(crate) fn encode_key<K: Serialize + ?Sized>(key: &K) -> Result<Vec<u8>> {
    let bytes = encode::encode(key).map_err(|error| Error::Unfit { what: "key", why: error.to_string() })?;
    bounded(bytes)
}

fn bounded(bytes: Vec<u8>) -> Result<Vec<u8>> {
    if bytes.len() > MAX_KEY_BYTES {
        return Err(Error::TooLarge { what: "key", bytes: bytes.len(), most: MAX_KEY_BYTES });
    }
    Ok(bytes)
}

/// The key again; [`Error::OtherType`] if it is one of another type.
pub(crate) fn decode_key<K: DeserializeOwned>(bytes: &[u8]) -> Result<K> {
    decode::decode(bytes).map_err(|error| Error::OtherType { what: "key", why: error.to_string() })
}

/// What the bytes of every key begin with that begins as this one does: a text's beginning, a tuple's first members.
pub(crate) fn encode_prefix<K: Serialize + ?Sized>(key: &K) -> Result<Vec<u8>> {
    let mut bytes = encode_key(key)?;
    if matches!(bytes.first(), Some(&(TEXT | BYTES | LIST | MAP))) {
        bytes.pop();
    }
    Ok(bytes)
}

/// An integer's sign and its bytes, the first of them not zero.
fn put_integer(out: &mut Vec<u8>, is_negative: bool, magnitude: u128) {
    let bytes = magnitude.to_be_bytes();
    let digits = &bytes[magnitude.leading_zeros() as usize / 8..];
    let count = digits.len() as u8;
    if is_negative {
        out.push(ZERO - count);
        out.extend(digits.iter().map(|digit| !digit));
    } else {
        out.push(ZERO + count);
        out.extend_from_slice(digits);
    }
}

fn put_float(out: &mut Vec<u8>, float: f64) {
    let bits = float.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.push(FLOAT);
    out.extend_from_slice(&ordered.to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, first: u8, bytes: &[u8]) {
    out.reserve(bytes.len() + 2);
    out.push(first);
    for byte in bytes {
        out.push(*byte);
        if *byte == END {
            out.push(ESCAPE);
        }
    }
    out.push(END);
}
