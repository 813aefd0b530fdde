//! From the bytes of a key back to a value of its type.

use super::{
    BYTES, END, ESCAPE, FALSE, FLOAT, KeyError, LIST, MAP, MAX_DEPTH, NONE, SOME, TEXT, TRUE, UNIT, VARIANT, ZERO,
};
use serde::de::value::U32Deserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess};
use serde::de::{VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

pub(super) fn decode<K: DeserializeOwned>(bytes: &[u8]) -> Result<K, KeyError> {
    let mut reader = Reader::new(bytes);
    let key = K::deserialize(&mut reader)?;
    reader.finish()?;
    Ok(key)
}

/// An integer as it was written.
pub(super) struct Integer {
    pub(super) is_negative: bool,
    pub(super) magnitude: u128,
}

/// What is left of a key.
pub(super) struct Reader<'k> {
    rest: &'k [u8],
    depth: usize,
}

impl<'k> Reader<'k> {
    pub(super) fn new(bytes: &'k [u8]) -> Self {
        Self { rest: bytes, depth: 0 }
    }

    pub(super) fn finish(&self) -> Result<(), KeyError> {
        if self.rest.is_empty() { Ok(()) } else { Err(KeyError::new("there is something after the key")) }
    }

    pub(super) fn peek(&self) -> Result<u8, KeyError> {
        self.rest.first().copied().ok_or_else(too_short)
    }

    pub(super) fn byte(&mut self) -> Result<u8, KeyError> {
        let (&byte, rest) = self.rest.split_first().ok_or_else(too_short)?;
        self.rest = rest;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], KeyError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or_else(too_short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn integer(&mut self, first: u8) -> Result<Integer, KeyError> {
        let is_negative = first < ZERO;
        let (digits, rest) = self.rest.split_at_checked(first.abs_diff(ZERO).into()).ok_or_else(too_short)?;
        self.rest = rest;
        let digit = |digit: &u8| if is_negative { !digit } else { *digit };
        if digits.first().map(digit) == Some(0) {
            return Err(KeyError::new("an integer begins with a zero"));
        }
        let magnitude = digits.iter().map(digit).fold(0, |number, digit| number << 8 | u128::from(digit));
        if is_negative && magnitude > i128::MIN.unsigned_abs() {
            return Err(KeyError::new("an integer is too far below zero"));
        }
        Ok(Integer { is_negative, magnitude })
    }

    pub(super) fn float(&mut self) -> Result<f64, KeyError> {
        let ordered = u64::from_be_bytes(self.array()?);
        Ok(f64::from_bits(if ordered >> 63 == 1 { ordered ^ 1 << 63 } else { !ordered }))
    }

    /// The bytes up to their end.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, KeyError> {
        let mut bytes = Vec::new();
        loop {
            let zero = self.rest.iter().position(|byte| *byte == END).ok_or_else(too_short)?;
            bytes.extend_from_slice(&self.rest[..zero]);
            self.rest = &self.rest[zero + 1..];
            if self.rest.first() != Some(&ESCAPE) {
                return Ok(bytes);
            }
            bytes.push(END);
            self.rest = &self.rest[1..];
        }
    }

    pub(super) fn text(&mut self) -> Result<String, KeyError> {
        String::from_utf8(self.bytes()?).map_err(|_| KeyError::new("a text is not UTF-8"))
    }

    /// Whether a list ends here; its end is then taken.
    pub(super) fn ends(&mut self) -> Result<bool, KeyError> {
        let ends = self.peek()? == END;
        if ends {
            self.byte()?;
        }
        Ok(ends)
    }

    /// Does something one level deeper.
    pub(super) fn within<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, KeyError>) -> Result<T, KeyError> {
        if self.depth == MAX_DEPTH {
            return Err(KeyError::new("it is nested more than 60 deep"));
        }
        self.depth += 1;
        let outcome = work(self);
        self.depth -= 1;
        outcome
    }

    fn expect(&mut self, expected: u8) -> Result<(), KeyError> {
        let first = self.byte()?;
        if first == expected { Ok(()) } else { Err(KeyError::new(format!("{} stands in its place", noun(first)))) }
    }
}

pub(super) fn noun(first: u8) -> &'static str {
    match first {
        NONE | SOME => "an option",
        UNIT => "a unit",
        FALSE | TRUE => "a truth value",
        0x10..=0x30 => "an integer",
        FLOAT => "a float",
        TEXT => "a text",
        BYTES => "bytes",
        LIST => "a list",
        MAP => "a map",
        VARIANT => "a variant",
        END => "an end",
        _ => "something unknown",
    }
}

fn too_short() -> KeyError {
    KeyError::new("it ends too early")
}

fn visit_integer<'de, V: Visitor<'de>>(integer: &Integer, visitor: V) -> Result<V::Value, KeyError> {
    let Integer { is_negative, magnitude } = *integer;
    if is_negative {
        let number = 0_i128.wrapping_sub_unsigned(magnitude);
        return match i64::try_from(number) {
            Ok(number) => visitor.visit_i64(number),
            Err(_) => visitor.visit_i128(number),
        };
    }
    match u64::try_from(magnitude) {
        Ok(number) => visitor.visit_u64(number),
        Err(_) => match i128::try_from(magnitude) {
            // Types of 128 bits take both; the signed one has no way to take more.
            Ok(number) => visitor.visit_i128(number),
            Err(_) => visitor.visit_u128(magnitude),
        },
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'_> {
    type Error = KeyError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        match self.byte()? {
            NONE => visitor.visit_none(),
            SOME => self.within(|reader| visitor.visit_some(reader)),
            UNIT => visitor.visit_unit(),
            FALSE => visitor.visit_bool(false),
            TRUE => visitor.visit_bool(true),
            first @ 0x10..=0x30 => visit_integer(&self.integer(first)?, visitor),
            FLOAT => visitor.visit_f64(self.float()?),
            TEXT => visitor.visit_string(self.text()?),
            BYTES => visitor.visit_byte_buf(self.bytes()?),
            LIST => self.within(|reader| {
                let value = visitor.visit_seq(Members(reader))?;
                // What the type did not ask for is none of its.
                if reader.ends()? { Ok(value) } else { Err(KeyError::new("a list has more members than the type")) }
            }),
            MAP => self.within(|reader| {
                let value = visitor.visit_map(Members(reader))?;
                if reader.ends()? { Ok(value) } else { Err(KeyError::new("a map has more entries than the type")) }
            }),
            VARIANT => self.within(|reader| visitor.visit_enum(Variant(reader))),
            first => Err(KeyError::new(format!("{} begins nothing", noun(first)))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        match self.peek()? {
            NONE | SOME => self.deserialize_any(visitor),
            first => Err(KeyError::new(format!("{} stands where an option should", noun(first)))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, KeyError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        self.expect(FLOAT)?;
        let (float, narrow) = self.float().map(|float| (float, float as f32))?;
        if f64::from(narrow).to_bits() != float.to_bits() {
            return Err(KeyError::new("a float has more digits than the type"));
        }
        visitor.visit_f32(narrow)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        self.expect(VARIANT)?;
        self.within(|reader| visitor.visit_enum(Variant(reader)))
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// What a list or a map holds; its end is left where it is.
struct Members<'r, 'k>(&'r mut Reader<'k>);

impl<'de> SeqAccess<'de> for Members<'_, '_> {
    type Error = KeyError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, KeyError> {
        if self.0.peek()? == END {
            return Ok(None);
        }
        seed.deserialize(&mut *self.0).map(Some)
    }
}

impl<'de> MapAccess<'de> for Members<'_, '_> {
    type Error = KeyError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, KeyError> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, KeyError> {
        seed.deserialize(&mut *self.0)
    }
}

struct Variant<'r, 'k>(&'r mut Reader<'k>);

impl<'de> EnumAccess<'de> for Variant<'_, '_> {
    type Error = KeyError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), KeyError> {
        let position: U32Deserializer<KeyError> = u32::from_be_bytes(self.0.array()?).into_deserializer();
        Ok((seed.deserialize(position)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = KeyError;

    fn unit_variant(self) -> Result<(), KeyError> {
        self.0.expect(UNIT)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, KeyError> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, KeyError> {
        self.0.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, KeyError> {
        self.0.deserialize_any(visitor)
    }
}
