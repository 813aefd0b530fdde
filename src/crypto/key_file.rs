//! The text of the key file: the master key as JSON, with a check value that finds damage at once.

use super::MasterKey;
use crate::id::Digest;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Says what the file is.
pub const KEY_FILE_SCHEMA: &str = "shard.key/1";
/// A key file is at most this many bytes; a larger one is not read.
pub const MAX_KEY_FILE_BYTES: u64 = 4096;

/// Why a text is not a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Not the JSON it should be; the text is not quoted, since it is a secret.
    #[error("this is no key file of schema {KEY_FILE_SCHEMA}")]
    Malformed,
    /// The key does not have the check value beside it.
    #[error("the key does not match its check value: the file is damaged or mistyped")]
    Check,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    schema: String,
    key: Zeroizing<String>,
    check: Digest,
}

impl MasterKey {
    /// The text of this key's file.
    pub fn to_key_file(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(hex::encode(self.bytes));
        let file = KeyFile { schema: KEY_FILE_SCHEMA.to_owned(), key, check: self.check_value() };
        let text = serde_json::to_string_pretty(&file).expect("strings always serialize");
        Zeroizing::new(text + "\n")
    }

    /// The key in the text of a key file.
    pub fn from_key_file(text: &[u8]) -> Result<Self, KeyFileError> {
        let file: KeyFile = serde_json::from_slice(text).map_err(|_| KeyFileError::Malformed)?;
        if file.schema != KEY_FILE_SCHEMA {
            return Err(KeyFileError::Malformed);
        }
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(file.key.as_bytes(), bytes.as_mut_slice()).map_err(|_| KeyFileError::Malformed)?;
        let key = Self::from_bytes(*bytes);
        if key.check_value() == file.check { Ok(key) } else { Err(KeyFileError::Check) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_gives_its_key_back_and_no_flipped_bit_goes_unseen() {
        let key = MasterKey::from_bytes([9; 32]);
        let text = key.to_key_file();
        let again = MasterKey::from_key_file(text.as_bytes()).expect("the key");
        assert_eq!(again.key_id(), key.key_id());
        for bit in 0..text.len() * 8 {
            let mut flipped = text.as_bytes().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // White space and the case of hex digits carry nothing: the same key may come back, never another.
            if let Ok(other) = MasterKey::from_key_file(&flipped) {
                assert_eq!(other.key_id(), key.key_id(), "bit {bit}");
            }
        }
    }
}
