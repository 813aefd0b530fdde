//! From a value of any type to the bytes of a key.

use super::{
    END, FALSE, KeyError, LIST, MAP, MAX_DEPTH, NONE, SOME, TEXT, TRUE, UNIT, VARIANT, put_bytes, put_float,
    put_integer,
};
use serde::ser::{self, Serialize, Serializer};

pub(super) fn encode<K: Serialize + ?Sized>(key: &K) -> Result<Vec<u8>, KeyError> {
    let mut encoder = Encoder { out: Vec::new(), depth: 0 };
    key.serialize(&mut encoder)?;
    Ok(encoder.out)
}

struct Encoder {
    out: Vec<u8>,
    depth: usize,
}

impl Encoder {
    fn deeper(&mut self) -> Result<(), KeyError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(KeyError::new("it is nested more than 60 deep")) } else { Ok(()) }
    }

    fn inner<T: Serialize + ?Sized>(&mut self, first: &[u8], value: &T) -> Result<(), KeyError> {
        self.deeper()?;
        self.out.extend_from_slice(first);
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn signed(&mut self, number: i128) {
        put_integer(&mut self.out, number < 0, number.unsigned_abs());
    }

    fn unsigned(&mut self, number: u128) {
        put_integer(&mut self.out, false, number);
    }

    fn list(&mut self, levels: usize) -> Result<List<'_>, KeyError> {
        self.deeper()?;
        self.out.push(LIST);
        Ok(List { encoder: self, levels })
    }

    fn variant(&mut self, position: u32) -> Result<(), KeyError> {
        self.deeper()?;
        self.out.extend_from_slice(&variant(position));
        Ok(())
    }
}

fn variant(position: u32) -> [u8; 5] {
    let [a, b, c, d] = position.to_be_bytes();
    [VARIANT, a, b, c, d]
}

/// A list that is being written, and how many levels end with it.
struct List<'e> {
    encoder: &'e mut Encoder,
    levels: usize,
}

impl List<'_> {
    fn member<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), KeyError> {
        value.serialize(&mut *self.encoder)
    }

    fn finish(self) {
        self.encoder.out.push(END);
        self.encoder.depth -= self.levels;
    }
}

/// A map that is being written: its entries are put in order, as a hash map has none.
struct Map<'e> {
    encoder: &'e mut Encoder,
    begin: usize,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Map<'_> {
    fn taken<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Vec<u8>, KeyError> {
        value.serialize(&mut *self.encoder)?;
        Ok(self.encoder.out.split_off(self.begin))
    }
}

macro_rules! integers {
    ($($name:ident $type:ty => $put:ident),*) => {
        $(fn $name(self, number: $type) -> Result<(), KeyError> {
            self.$put(number.into());
            Ok(())
        })*
    };
}

impl<'e> Serializer for &'e mut Encoder {
    type Ok = ();
    type Error = KeyError;
    type SerializeSeq = List<'e>;
    type SerializeTuple = List<'e>;
    type SerializeTupleStruct = List<'e>;
    type SerializeTupleVariant = List<'e>;
    type SerializeMap = Map<'e>;
    type SerializeStruct = List<'e>;
    type SerializeStructVariant = List<'e>;

    integers!(
        serialize_i8 i8 => signed, serialize_i16 i16 => signed, serialize_i32 i32 => signed, serialize_i64 i64 => signed,
        serialize_i128 i128 => signed, serialize_u8 u8 => unsigned, serialize_u16 u16 => unsigned,
        serialize_u32 u32 => unsigned, serialize_u64 u64 => unsigned, serialize_u128 u128 => unsigned
    );

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, truth: bool) -> Result<(), KeyError> {
        self.out.push(if truth { TRUE } else { FALSE });
        Ok(())
    }

    fn serialize_f32(self, float: f32) -> Result<(), KeyError> {
        self.serialize_f64(float.into())
    }

    fn serialize_f64(self, float: f64) -> Result<(), KeyError> {
        put_float(&mut self.out, float);
        Ok(())
    }

    fn serialize_char(self, character: char) -> Result<(), KeyError> {
        self.serialize_str(character.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), KeyError> {
        put_bytes(&mut self.out, TEXT, text.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), KeyError> {
        put_bytes(&mut self.out, super::BYTES, bytes);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), KeyError> {
        self.out.push(NONE);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), KeyError> {
        self.inner(&[SOME], value)
    }

    fn serialize_unit(self) -> Result<(), KeyError> {
        self.out.push(UNIT);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), KeyError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, position: u32, _: &'static str) -> Result<(), KeyError> {
        self.inner(&variant(position), &())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), KeyError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        position: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), KeyError> {
        self.inner(&variant(position), value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'e>, KeyError> {
        self.list(1)
    }

    fn serialize_tuple(self, _: usize) -> Result<List<'e>, KeyError> {
        self.list(1)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List<'e>, KeyError> {
        self.list(1)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        position: u32,
        _: &'static str,
        _: usize,
    ) -> Result<List<'e>, KeyError> {
        self.variant(position)?;
        self.list(2)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Map<'e>, KeyError> {
        self.deeper()?;
        self.out.push(MAP);
        Ok(Map { begin: self.out.len(), encoder: self, entries: Vec::new() })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<List<'e>, KeyError> {
        self.list(1)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        position: u32,
        _: &'static str,
        _: usize,
    ) -> Result<List<'e>, KeyError> {
        self.variant(position)?;
        self.list(2)
    }
}

macro_rules! members {
    ($($form:ident $method:ident),*) => {
        $(impl ser::$form for List<'_> {
            type Ok = ();
            type Error = KeyError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), KeyError> {
                self.member(value)
            }

            fn end(self) -> Result<(), KeyError> {
                self.finish();
                Ok(())
            }
        })*
    };
}

macro_rules! fields {
    ($($form:ident),*) => {
        $(impl ser::$form for List<'_> {
            type Ok = ();
            type Error = KeyError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), KeyError> {
                self.member(value)
            }

            fn skip_field(&mut self, field: &'static str) -> Result<(), KeyError> {
                Err(KeyError::new(format!("its field {field} is sometimes left out, and keys tell fields by their position")))
            }

            fn end(self) -> Result<(), KeyError> {
                self.finish();
                Ok(())
            }
        })*
    };
}

members!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);
fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Map<'_> {
    type Ok = ();
    type Error = KeyError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), KeyError> {
        let key = self.taken(key)?;
        self.entries.push((key, Vec::new()));
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), KeyError> {
        let value = self.taken(value)?;
        let entry = self.entries.last_mut().ok_or_else(|| KeyError::new("a map in it has a value before its key"))?;
        entry.1 = value;
        Ok(())
    }

    fn end(mut self) -> Result<(), KeyError> {
        self.entries.sort_unstable();
        for (key, value) in self.entries {
            self.encoder.out.extend(key);
            self.encoder.out.extend(value);
        }
        self.encoder.out.push(END);
        self.encoder.depth -= 1;
        Ok(())
    }
}
