//! What a backup of a catalog consists of: records, one an object, each with what would otherwise be read from its shards.
//!
//! What an object is never changes, so that a record is right for ever: it says nothing of whether the object is still there.

use super::index::{Index, MAX_INDEX_BYTES};
use super::manifest::{MAX_PUBLIC_BYTES, MAX_SEALED_BYTES, Manifest, ManifestBytes, ManifestError};
use super::{IndexError, ObjectKind};
use crate::id::{ObjectId, StoreId};
use serde::{Deserialize, Serialize};

/// A backup consists of at most this many objects: each full one may have this many deltas after it, or be so large.
pub const MAX_BACKUP_PARTS: usize = 256;
/// A record is at most this many bytes: an index, a manifest in hexadecimal or with every character escaped, and the keys.
pub const MAX_RECORD_BYTES: u64 = MAX_INDEX_BYTES + 6 * MAX_PUBLIC_BYTES + 2 * MAX_SEALED_BYTES + 4096;
/// The length that stands before each record.
const LENGTH_BYTES: usize = 4;

/// Which part of which backup an object of the kind `catalog` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupPart {
    /// 1 + the highest generation known of any backup when this one was begun: the newest backup has the greatest.
    pub generation: u64,
    /// How many records this object has.
    pub records: u64,
    /// On the last part of a backup only: what the whole of it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<WholeBackup>,
}

/// A whole backup; said once, with its last part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WholeBackup {
    /// The objects that it consists of beside this one, oldest first; earlier backups may consist of them too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ObjectId>,
    /// How many records all of them have.
    pub records: u64,
}

impl BackupPart {
    pub(super) fn is_within_limits(&self) -> bool {
        let is_signed = |number: u64| i64::try_from(number).is_ok();
        let whole = self.whole.as_ref();
        is_signed(self.generation)
            && is_signed(self.records)
            && whole.is_none_or(|whole| is_signed(whole.records) && whole.parts.len() < MAX_BACKUP_PARTS)
    }
}

/// What is said again of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRecord {
    /// The object.
    pub object: ObjectId,
    /// What it is and holds; absent where an earlier part says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<RecordedObject>,
    /// When every byte of it was last read and checked, in nanoseconds since 1970-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_ns: Option<i64>,
}

/// What an object is and holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedObject {
    /// The public part of its manifest, as it was signed.
    public: String,
    /// The signature, in hexadecimal.
    signature: String,
    /// The sealed part, in hexadecimal.
    sealed: String,
    /// When it was made, in nanoseconds since 1970-01-01T00:00:00Z.
    pub created_ns: i64,
    /// Its index.
    pub index: Index,
}

/// Why bytes are not the records of a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Over [`MAX_RECORD_BYTES`].
    #[error("a record of a backup has at most {MAX_RECORD_BYTES} bytes, this one {bytes}")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// The bytes end within a record.
    #[error("the backup ends within a record")]
    Cut,
    /// Not the JSON that it should be.
    #[error("a record of the backup is not what the format says")]
    Json(#[from] serde_json::Error),
    /// A manifest that is no text, or not what its hexadecimal digits should be.
    #[error("the manifest of object {object} is not written as it should be")]
    Text {
        /// The object.
        object: ObjectId,
    },
    /// A manifest that cannot be trusted.
    #[error("the manifest of object {object} in the backup cannot be trusted")]
    Manifest {
        /// The object.
        object: ObjectId,
        /// Why.
        source: ManifestError,
    },
    /// An index that is not that of its manifest.
    #[error("the index of object {object} in the backup is not that of its manifest")]
    Index {
        /// The object.
        object: ObjectId,
        /// Why.
        source: IndexError,
    },
}

impl RecordedObject {
    /// What is said of an object; an error for a public part that is no text.
    pub fn new(object: ObjectId, bytes: &ManifestBytes, created_ns: i64, index: Index) -> Result<Self, BackupError> {
        let public = std::str::from_utf8(&bytes.public).map_err(|_| BackupError::Text { object })?;
        let (signature, sealed) = (hex::encode(&bytes.signature), hex::encode(&bytes.sealed));
        Ok(Self { public: public.to_owned(), signature, sealed, created_ns, index })
    }

    /// The manifest, checked like any other, and that the index is one that it could have.
    pub fn manifest(&self, object: ObjectId, store: &StoreId) -> Result<Manifest, BackupError> {
        let text = |_| BackupError::Text { object };
        let signature = hex::decode(&self.signature).map_err(text)?;
        let sealed = hex::decode(&self.sealed).map_err(text)?;
        let bytes = ManifestBytes { public: self.public.clone().into_bytes(), signature, sealed };
        let manifest = Manifest::open(bytes, store).map_err(|source| BackupError::Manifest { object, source })?;
        if manifest.object() != object {
            return Err(BackupError::Manifest { object, source: ManifestError::Contradiction });
        }
        self.check_index(&manifest).map_err(|source| BackupError::Index { object, source })?;
        Ok(manifest)
    }

    fn check_index(&self, manifest: &Manifest) -> Result<(), IndexError> {
        self.index.check_bounds(manifest.layout().payload_bytes())?;
        manifest.writer().map_or(Ok(()), |writer| self.index.check_writer(writer))?;
        self.index.check_removal(manifest.kind(), manifest.removes())?;
        self.index.check_catalog(manifest.kind())?;
        // No backup backs up backups.
        if manifest.kind() == ObjectKind::Catalog { Err(IndexError::Catalog) } else { Ok(()) }
    }
}

impl BackupRecord {
    /// Appends the record with its length before it; an error, and nothing appended, for one that is too long.
    pub fn append_to(&self, bytes: &mut Vec<u8>) -> Result<(), BackupError> {
        let json = serde_json::to_vec(self)?;
        let length = u32::try_from(json.len()).ok().filter(|length| u64::from(*length) <= MAX_RECORD_BYTES);
        let length = length.ok_or(BackupError::TooLong { bytes: json.len() as u64 })?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&json);
        Ok(())
    }

    /// Reads one from its JSON.
    pub fn from_json(json: &[u8]) -> Result<Self, BackupError> {
        Ok(serde_json::from_slice(json)?)
    }
}

/// Finds records in bytes that come piece by piece. It holds what one record takes, and what came last.
#[derive(Debug, Default)]
pub struct RecordReader {
    bytes: Vec<u8>,
    taken: usize,
}

impl RecordReader {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The JSON of the next record; `None` where more bytes are needed for it. After an error there is no next.
    pub fn next_json(&mut self) -> Result<Option<&[u8]>, BackupError> {
        let rest = &self.bytes[self.taken..];
        let Some(length) = rest.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        if u64::from(length) > MAX_RECORD_BYTES {
            return Err(BackupError::TooLong { bytes: u64::from(length) });
        }
        let end = LENGTH_BYTES + length as usize;
        if rest.len() < end {
            return Ok(None);
        }
        let start = self.taken + LENGTH_BYTES;
        self.taken += end;
        Ok(Some(&self.bytes[start..self.taken]))
    }

    /// That the bytes ended with a record.
    pub fn finish(&self) -> Result<(), BackupError> {
        if self.taken == self.bytes.len() { Ok(()) } else { Err(BackupError::Cut) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u8) -> BackupRecord {
        let contents = RecordedObject {
            public: format!("{{\"number\":{number}}}"),
            signature: "00".repeat(64),
            sealed: String::new(),
            created_ns: -5,
            index: Index::default(),
        };
        let contents = number.is_multiple_of(2).then_some(contents);
        BackupRecord { object: ObjectId([number; 16]), contents, verified_ns: Some(i64::from(number)) }
    }

    fn read(bytes: &[u8], step: usize) -> Result<Vec<BackupRecord>, BackupError> {
        let (mut reader, mut records) = (RecordReader::default(), Vec::new());
        for piece in bytes.chunks(step) {
            reader.push(piece);
            while let Some(json) = reader.next_json()? {
                records.push(BackupRecord::from_json(json)?);
            }
        }
        reader.finish()?;
        Ok(records)
    }

    #[test]
    fn records_come_back_however_their_bytes_are_cut() {
        let records: Vec<_> = (0..7).map(record).collect();
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.append_to(&mut bytes).expect("short"));
        for step in [1, 2, 3, 5, 64, 1000, bytes.len()] {
            assert_eq!(read(&bytes, step).expect("records"), records, "{step}");
        }
        for cut in 1..bytes.len() {
            let whole = read(&bytes[..cut], 64).is_ok();
            let ends: Vec<usize> = (0..records.len())
                .map(|count| {
                    let mut head = Vec::new();
                    records[..count].iter().for_each(|record| record.append_to(&mut head).expect("short"));
                    head.len()
                })
                .collect();
            assert_eq!(whole, ends.contains(&cut), "{cut}");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_waited_for() {
        let mut reader = RecordReader::default();
        reader.push(&u32::MAX.to_le_bytes());
        assert!(matches!(reader.next_json(), Err(BackupError::TooLong { bytes }) if bytes == u64::from(u32::MAX)));
        let says = |bytes: u64| {
            let mut reader = RecordReader::default();
            reader.push(&u32::try_from(bytes).expect("a length").to_le_bytes());
            reader.next_json().map(|json| json.map(<[u8]>::to_vec))
        };
        assert!(matches!(says(MAX_RECORD_BYTES), Ok(None)), "the longest is waited for");
        assert!(matches!(says(MAX_RECORD_BYTES + 1), Err(BackupError::TooLong { .. })));
    }

    #[test]
    fn a_record_that_is_too_long_is_not_written_and_nothing_of_it() {
        let with_text = |bytes: usize| {
            let mut record = record(2);
            record.contents.as_mut().expect("it has contents").sealed = "0".repeat(bytes);
            record
        };
        let spare = MAX_RECORD_BYTES as usize - serde_json::to_vec(&with_text(0)).expect("JSON").len();
        assert_eq!(MAX_RECORD_BYTES, 17_182_720);
        let mut bytes = Vec::new();
        let refused = with_text(spare + 1).append_to(&mut bytes);
        assert!(matches!(refused, Err(BackupError::TooLong { bytes }) if bytes == MAX_RECORD_BYTES + 1), "{refused:?}");
        assert!(bytes.is_empty());
        with_text(spare).append_to(&mut bytes).expect("the longest");
        assert_eq!(bytes.len() as u64, LENGTH_BYTES as u64 + MAX_RECORD_BYTES);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for json in
            ["", "{}", "[]", "{\"object\":\"00\"}", "{\"object\":\"00000000000000000000000000000000\",\"more\":1}"]
        {
            assert!(BackupRecord::from_json(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn a_backup_of_too_many_parts_or_too_great_a_number_is_refused() {
        let part = |generation, count| BackupPart {
            generation,
            records: 0,
            whole: Some(WholeBackup { parts: vec![ObjectId([0; 16]); count], records: 0 }),
        };
        assert!(part(1, MAX_BACKUP_PARTS - 1).is_within_limits());
        assert!(!part(1, MAX_BACKUP_PARTS).is_within_limits() && !part(u64::MAX, 0).is_within_limits());
        let most = i64::MAX as u64;
        let of = |records, all| {
            let whole = Some(WholeBackup { parts: Vec::new(), records: all });
            BackupPart { generation: most, records, whole }.is_within_limits()
        };
        assert!(of(most, most) && !of(most + 1, 0) && !of(0, most + 1));
        let alone = |generation, records| BackupPart { generation, records, whole: None }.is_within_limits();
        assert!(alone(most, most) && !alone(most + 1, 0) && !alone(0, most + 1));
    }
}
