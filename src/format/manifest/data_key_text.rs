//! A data key as hexadecimal text.

use crate::crypto::DataKey;
use crate::id::read_hex;
use serde::{Deserialize, Deserializer, Serializer};
use zeroize::Zeroizing;

pub(super) fn serialize<S: Serializer>(key: &Option<DataKey>, serializer: S) -> Result<S::Ok, S::Error> {
    match key {
        Some(key) => serializer.serialize_some(Zeroizing::new(hex::encode(key.as_bytes())).as_str()),
        None => serializer.serialize_none(),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DataKey>, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    let mut bytes = Zeroizing::new([0; 32]);
    read_hex(&text, bytes.as_mut_slice()).map_err(serde::de::Error::custom)?;
    Ok(Some(DataKey::from_bytes(*bytes)))
}
