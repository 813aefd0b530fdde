//! From a snapshot to the records in it.

use super::{DIGEST_BYTES, Fields, HEADER_BYTES, Header, LAST, PART_BYTES, RECORD_HEAD_BYTES};
use crate::chamber::Purpose;
use crate::crypto::{ChamberKey, SnapshotCipher};
use crate::engine::error::{Error, Result};
use crate::vault::{KeptEntry, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use std::io::{ErrorKind, Read};
use zeroize::Zeroizing;

/// Gives each record of a snapshot to `take`, and says what the snapshot is once all of it was found in order. What was given
/// before an error was written so, but is not all.
pub(in crate::engine) fn read(
    input: &mut dyn Read,
    key: &ChamberKey,
    mut take: impl FnMut(Purpose, KeptEntry) -> Result<()>,
) -> Result<(Header, u64)> {
    let (header, mut parts) = Parts::begin(input, key)?;
    for _ in 0..header.records {
        let (purpose, entry) = parts.record()?;
        take(purpose, entry)?;
    }
    let bytes = parts.end()?;
    Ok((header, bytes))
}

/// Opens what is read, part by part.
struct Parts<'r> {
    input: &'r mut dyn Read,
    cipher: SnapshotCipher,
    hasher: blake3::Hasher,
    part: Zeroizing<Vec<u8>>,
    /// How much of the part was given out.
    given: usize,
    number: u64,
    is_last: bool,
    bytes: u64,
}

impl<'r> Parts<'r> {
    fn begin(input: &'r mut dyn Read, key: &ChamberKey) -> Result<(Header, Self)> {
        let mut bytes = [0; HEADER_BYTES];
        fill(input, &mut bytes)?;
        let header = Header::from_bytes(&bytes)?;
        header.expect(key)?;
        let mut parts = Self {
            input,
            cipher: SnapshotCipher::new(key, &bytes),
            hasher: blake3::Hasher::new(),
            part: Zeroizing::default(),
            given: 0,
            number: 0,
            is_last: false,
            bytes: HEADER_BYTES as u64,
        };
        parts.hasher.update(&bytes);
        Ok((header, parts))
    }

    fn record(&mut self) -> Result<(Purpose, KeptEntry)> {
        let mut head = [0; RECORD_HEAD_BYTES];
        self.read_exact(&mut head)?;
        let mut fields = Fields(&head);
        let purpose = Purpose::of_byte(u8::from_le_bytes(fields.array()));
        let (expires, at) = (u8::from_le_bytes(fields.array()), i64::from_le_bytes(fields.array()));
        let (key_bytes, value_bytes) = (u32::from_le_bytes(fields.array()), u32::from_le_bytes(fields.array()));
        let expires = match (expires, at) {
            (0, 0) => None,
            (1, at) => Some(at),
            _ => return Err(Error::damaged("a record in it has no time of expiry, and one")),
        };
        let purpose = purpose.ok_or_else(|| Error::damaged("a record in it is of no known purpose"))?;
        let key = self.vec(key_bytes as usize, MAX_KEY_BYTES)?;
        Ok((purpose, KeptEntry { key, value: self.vec(value_bytes as usize, MAX_VALUE_BYTES)?, expires }))
    }

    /// Grows with what there is, and not with what is said.
    fn vec(&mut self, length: usize, most: usize) -> Result<Vec<u8>> {
        if length > most {
            return Err(Error::damaged(format!("a record in it has {length} bytes, more than {most}")));
        }
        let mut bytes = Vec::with_capacity(length.min(PART_BYTES));
        while bytes.len() < length {
            let wanted = length - bytes.len();
            let available = self.available()?;
            let taken = available.len().min(wanted);
            bytes.extend_from_slice(&available[..taken]);
            self.given += taken;
        }
        Ok(bytes)
    }

    fn read_exact(&mut self, mut room: &mut [u8]) -> Result<()> {
        while !room.is_empty() {
            let available = self.available()?;
            let taken = available.len().min(room.len());
            let (now, later) = room.split_at_mut(taken);
            now.copy_from_slice(&available[..taken]);
            self.given += taken;
            room = later;
        }
        Ok(())
    }

    /// What of the records is open and was not given out yet; never empty.
    fn available(&mut self) -> Result<&[u8]> {
        while self.given == self.part.len() {
            self.next_part()?;
        }
        Ok(&self.part[self.given..])
    }

    fn next_part(&mut self) -> Result<()> {
        if self.is_last {
            return Err(Error::damaged("it ends before its last record"));
        }
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let told = u32::from_le_bytes(length);
        self.is_last = told & LAST != 0;
        let length = (told & !LAST) as usize;
        let whole = PART_BYTES + SnapshotCipher::OVERHEAD_BYTES;
        if length > whole || length < SnapshotCipher::OVERHEAD_BYTES || (!self.is_last && length != whole) {
            return Err(Error::damaged(format!("a part of it has {length} bytes")));
        }
        let mut part = std::mem::take(&mut self.part);
        part.resize(length, 0);
        self.fill(&mut part)?;
        self.cipher.open_in_place(self.number, self.is_last, &mut part)?;
        (self.part, self.given) = (part, 0);
        self.number += 1;
        Ok(())
    }

    /// Fails unless everything was read; says how long it was.
    fn end(mut self) -> Result<u64> {
        if self.number == 0 {
            self.next_part()?;
        }
        if !self.is_last || self.given != self.part.len() {
            return Err(Error::damaged("it has more than the records that it tells of"));
        }
        let expected = self.hasher.finalize();
        let mut digest = [0; DIGEST_BYTES];
        fill(self.input, &mut digest)?;
        if expected != digest {
            return Err(Error::damaged("its digest is another"));
        }
        // Nothing may follow: a reader by its length would take another end for its own.
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(self.bytes + DIGEST_BYTES as u64),
            Ok(_) => Err(Error::damaged("something follows it")),
            Err(source) => Err(Error::Stream { doing: "read", source }),
        }
    }

    fn fill(&mut self, room: &mut [u8]) -> Result<()> {
        fill(self.input, room)?;
        self.hasher.update(room);
        self.bytes += room.len() as u64;
        Ok(())
    }
}

fn fill(input: &mut dyn Read, room: &mut [u8]) -> Result<()> {
    input.read_exact(room).map_err(|source| match source.kind() {
        ErrorKind::UnexpectedEof => Error::damaged("it is cut short"),
        _ => Error::Stream { doing: "read", source },
    })
}
