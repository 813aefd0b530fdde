//! From the records of a chamber to a snapshot.

use super::{Header, LAST, PART_BYTES, RECORD_HEAD_BYTES};
use crate::chamber::{Purpose, Transaction};
use crate::crypto::{ChamberKey, SnapshotCipher};
use crate::engine::error::{Error, Result};
use std::io::Write;
use zeroize::Zeroizing;

/// Writes all records that a transaction sees, and says what the snapshot is.
pub(in crate::engine) fn write(
    tx: &Transaction<'_>,
    key: &ChamberKey,
    random: [u8; 16],
    out: &mut dyn Write,
) -> Result<(Header, u64)> {
    let (records, taken_ms) = (tx.count_all()?, tx.now_ms());
    let header = Header { node: key.node(), random, taken_ms, records, check: key.snapshot_check_value() };
    let mut parts = Parts::begin(&header, key, out)?;
    let mut written = 0;
    tx.each_of_all(|purpose, key, value, expires| {
        written += 1;
        parts.add(&record_head(purpose, key, value, expires)?)?;
        parts.add(key)?;
        parts.add(value)
    })?;
    if written != records {
        return Err(crate::chamber::Error::Torn.into());
    }
    Ok((header, parts.end()?))
}

fn record_head(purpose: Purpose, key: &[u8], value: &[u8], expires: Option<i64>) -> Result<[u8; RECORD_HEAD_BYTES]> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| Error::damaged("a record in it is too long"));
    let mut head = [0; RECORD_HEAD_BYTES];
    head[0] = purpose.byte();
    head[1] = u8::from(expires.is_some());
    head[2..10].copy_from_slice(&expires.unwrap_or(0).to_le_bytes());
    head[10..14].copy_from_slice(&length(key)?.to_le_bytes());
    head[14..].copy_from_slice(&length(value)?.to_le_bytes());
    Ok(head)
}

/// Seals what is added, part by part.
struct Parts<'w> {
    out: &'w mut dyn Write,
    cipher: SnapshotCipher,
    hasher: blake3::Hasher,
    part: Zeroizing<Vec<u8>>,
    number: u64,
    bytes: u64,
}

impl<'w> Parts<'w> {
    fn begin(header: &Header, key: &ChamberKey, out: &'w mut dyn Write) -> Result<Self> {
        let bytes = header.to_bytes();
        let cipher = SnapshotCipher::new(key, &bytes);
        // Room for the tag too, so that no copy of the records is left behind by growing.
        let part = Zeroizing::new(Vec::with_capacity(PART_BYTES + SnapshotCipher::OVERHEAD_BYTES));
        let mut parts = Self { out, cipher, hasher: blake3::Hasher::new(), part, number: 0, bytes: 0 };
        parts.put(&bytes)?;
        Ok(parts)
    }

    fn add(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.part.len() == PART_BYTES {
                self.seal(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.part.len()));
            self.part.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Ends it, and says how long it is.
    fn end(mut self) -> Result<u64> {
        self.seal(true)?;
        let digest = self.hasher.finalize();
        self.put(digest.as_bytes())?;
        self.out.flush().map_err(not_written)?;
        Ok(self.bytes)
    }

    fn seal(&mut self, is_last: bool) -> Result<()> {
        self.cipher.seal_in_place(self.number, is_last, &mut self.part);
        self.number += 1;
        let length = self.part.len() as u32 | if is_last { LAST } else { 0 };
        self.put(&length.to_le_bytes())?;
        let part = std::mem::take(&mut *self.part);
        self.put(&part)?;
        *self.part = part;
        self.part.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(not_written)
    }
}

fn not_written(source: std::io::Error) -> Error {
    Error::Stream { doing: "written", source }
}
