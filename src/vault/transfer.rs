//! A vault as JSON lines, for people and other programs, and back: checked on the way in, all or nothing.
//!
//! ```text
//! {"schema":"shard-vault/1","name":"settings"}
//! {"key":"colour","value":"blue"}
//! {"key":["user",7],"value":{"avatar":{"$bytes":"iVBORw0KGgo="}},"expires_ms":1795232940000}
//! {"entries":2,"blake3":"…"}
//! ```
//!
//! The last line says how many entries there were, and the hash of all lines before it; whoever edits the lines leaves the
//! hash out.

use super::error::{Error, Result};
use super::intake::{KeyItem, ValueItem};
use super::json::Shown;
use super::key::{encode_prefix, from_value, to_value};
use super::line::Lines;
use super::raw::KeyRange;
use super::value::{MAX_VALUE_BYTES, decode_value, whole_value};
use super::{Vault, VaultName};
use ciborium::Value;
use serde::{Deserialize, Deserializer, Serialize};
use std::io::{BufRead, Write};

/// What the first line says.
pub const EXPORT_SCHEMA: &str = "shard-vault/1";
/// A line is at most so long: one byte of a value is never more than 13 characters of JSON.
pub const MAX_LINE_BYTES: u64 = 16 * MAX_VALUE_BYTES as u64;
/// The first line has no value: what is no export is told after so few bytes.
const MAX_FIRST_LINE_BYTES: u64 = 4096;

/// An entry as bytes, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptEntry {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) expires: Option<i64>,
}

/// A key or value whose type nobody knows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Any(Value);

impl Any {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        self.0.as_text()
    }

    /// The bytes, if it is bytes.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        self.0.as_bytes().map(Vec::as_slice)
    }

    /// Any of it as JSON, as an export shows it.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(&Shown(&self.0)).map_err(|error| Error::Unfit { what: "value", why: error.to_string() })
    }
}

/// An entry whose types nobody knows.
#[derive(Debug, Clone, PartialEq)]
pub struct UntypedEntry {
    /// The key.
    pub key: Any,
    /// The value.
    pub value: Any,
    /// When it expires, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
}

impl KeptEntry {
    pub(crate) fn untyped(&self) -> Result<UntypedEntry> {
        let key = Any(to_value(&self.key)?);
        Ok(UntypedEntry { key, value: Any(decode_value(&self.value)?), expires_ms: self.expires })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstLine {
    schema: String,
    name: String,
}

#[derive(Serialize)]
struct EntryLine<'e> {
    key: Shown<'e>,
    value: Shown<'e>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadLine {
    #[serde(default, deserialize_with = "given")]
    key: Option<KeyItem>,
    #[serde(default, deserialize_with = "given")]
    value: Option<ValueItem>,
    expires_ms: Option<i64>,
    entries: Option<u64>,
    blake3: Option<String>,
}

/// What is there and null is not absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Serialize)]
struct LastLine {
    entries: u64,
    blake3: String,
}

/// Writes an export, one entry after another.
pub(crate) struct ExportWriter<'w> {
    out: &'w mut dyn Write,
    hasher: blake3::Hasher,
    entries: u64,
}

impl<'w> ExportWriter<'w> {
    pub(crate) fn begin(out: &'w mut dyn Write, name: &VaultName) -> Result<Self> {
        let mut writer = Self { out, hasher: blake3::Hasher::new(), entries: 0 };
        writer.line(&FirstLine { schema: EXPORT_SCHEMA.to_owned(), name: name.to_string() })?;
        Ok(writer)
    }

    pub(crate) fn entry(&mut self, entry: &KeptEntry) -> Result<()> {
        let UntypedEntry { key, value, expires_ms } = entry.untyped()?;
        self.entries += 1;
        self.line(&EntryLine { key: Shown(&key.0), value: Shown(&value.0), expires_ms })
    }

    /// Says how many entries there were.
    pub(crate) fn end(mut self) -> Result<u64> {
        let blake3 = self.hasher.finalize().to_hex().to_string();
        self.line(&LastLine { entries: self.entries, blake3 })?;
        self.out.flush().map_err(not_written)?;
        Ok(self.entries)
    }

    fn line<T: Serialize>(&mut self, line: &T) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|error| not_written(error.into()))?;
        text.push(b'\n');
        self.hasher.update(&text);
        self.out.write_all(&text).map_err(not_written)
    }
}

fn not_written(source: std::io::Error) -> Error {
    Error::Transfer { doing: "written", source }
}

/// Gives each entry of an export to `take`, and says how many there were once all of it was found in order.
pub(crate) fn read_export<E: From<Error>>(
    input: &mut dyn BufRead,
    mut take: impl FnMut(KeptEntry) -> Result<(), E>,
) -> Result<u64, E> {
    let mut lines = Lines::new(input);
    let first: FirstLine = lines.next(MAX_FIRST_LINE_BYTES)?;
    if first.schema != EXPORT_SCHEMA {
        return Err(lines.wrong(format!("it is {:?}, and not {EXPORT_SCHEMA:?}", first.schema)).into());
    }
    let mut entries = 0;
    loop {
        let hash = lines.hash();
        if !lines.has_more()? {
            return Err(lines
                .wrong("the export ends before its last line, which says how many entries there are")
                .into());
        }
        let line: ReadLine = lines.next(MAX_LINE_BYTES)?;
        match line {
            ReadLine { key: Some(key), value: Some(value), expires_ms, entries: None, blake3: None } => {
                let kept = kept(&key, value, expires_ms).map_err(|error| lines.wrong(error.to_string()))?;
                take(kept)?;
                entries += 1;
            }
            ReadLine { key: None, value: None, expires_ms: None, entries: Some(told), blake3 } => {
                if told != entries {
                    return Err(lines.wrong(format!("there are {entries} entries, not {told}")).into());
                }
                if blake3.is_some_and(|told| told != hash.to_hex().as_str()) {
                    let why = "the lines before are not those that were written; whoever changed them on purpose leaves \
                               \"blake3\" out";
                    return Err(lines.wrong(why).into());
                }
                if lines.has_more()? {
                    return Err(lines.wrong("something comes after it").into());
                }
                return Ok(entries);
            }
            _ => return Err(lines.wrong("it has neither key and value, nor the number of entries").into()),
        }
    }
}

fn kept(key: &KeyItem, value: ValueItem, expires: Option<i64>) -> Result<KeptEntry> {
    Ok(KeptEntry { key: from_value(&decode_value(&key.0)?)?, value: whole_value(value.0)?, expires })
}

impl Vault {
    /// Writes all entries as JSON lines, and says how many there were.
    pub fn export(&self, name: &VaultName, out: &mut dyn Write) -> Result<u64> {
        let mut writer = ExportWriter::begin(out, name)?;
        let mut entries = self.entries::<(), ()>(KeyRange::all())?;
        while let Some(entry) = entries.next_raw() {
            writer.entry(&entry?)?;
        }
        writer.end()
    }

    /// Takes all entries of an export in, over those that were under the same keys, and says how many there were. If one
    /// line is wrong nothing is changed.
    pub fn import(&self, input: &mut dyn BufRead) -> Result<u64> {
        self.transaction(|tx| read_export(input, |entry| tx.put_raw(&entry.key, &entry.value, entry.expires)))
    }

    /// The entries whose keys are texts that begin so, or all of them, whatever their types.
    pub fn untyped(&self, prefix: Option<&str>) -> Result<impl Iterator<Item = Result<UntypedEntry>> + '_> {
        let range = match prefix {
            None => KeyRange::all(),
            Some(prefix) => KeyRange::beginning_with(encode_prefix(prefix)?),
        };
        let mut entries = self.entries::<(), ()>(range)?;
        Ok(std::iter::from_fn(move || Some(entries.next_raw()?.and_then(|entry| entry.untyped()))))
    }
}
