//! Small files share an object.

use super::StoredFile;
use super::lineage::{Lineage, MAX_PARENTS, lineages};
use super::reading::{Fingerprint, Reading};
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Index, Piece, Whole};
use crate::id::{Digest, VersionId};
use crate::ops::writer::{Contents, ObjectWriter, index_allowance};
use std::collections::HashSet;

/// A pack holds at most this many files, so that its index stays quick to read.
const MAX_PACK_FILES: usize = 16_384;
/// A piece in an index has at most this many bytes beside its name, with one parent.
const PIECE_BYTES: u64 = 512;

/// An object that is being filled with small files.
pub(super) struct Pack<'a> {
    writer: ObjectWriter<'a>,
    entries: Vec<Entry>,
    names: HashSet<FileName>,
    index_bytes: u64,
}

struct Entry {
    name: FileName,
    version: VersionId,
    offset: u64,
    blake3: Digest,
    seen: Fingerprint,
}

impl Pack<'_> {
    /// Takes back what was packed because of an error, and gives the error back.
    pub(super) async fn abandon_for(self, error: Error) -> Error {
        self.writer.abandon_for(error).await
    }
}

impl<'a> Session<'a> {
    /// Adds a file to the pack that is open, or to a new one.
    pub(super) async fn put_small(&mut self, name: FileName, reading: &mut Reading, seen: Fingerprint) -> Result<()> {
        let mut pack = self.pack_with_room(&name, seen.bytes).await?;
        let offset = pack.writer.payload_bytes();
        if let Err(error) = pack.writer.append_from(reading, seen.bytes).await {
            return Err(pack.writer.abandon_for(error).await);
        }
        self.report.bytes_read += reading.bytes();
        let outcome = reading.check_whole().await;
        if outcome.is_ok() {
            let version = self.store.new_version_id()?;
            pack.index_bytes += entry_bytes(&name);
            pack.names.insert(name.clone());
            pack.entries.push(Entry { name, version, offset, blake3: reading.whole_hash(), seen });
        }
        // The bytes of a file that failed stay in the payload, and no piece names them.
        self.pack = Some(pack);
        outcome
    }

    async fn pack_with_room(&mut self, name: &FileName, bytes: u64) -> Result<Pack<'a>> {
        let limit = self.pack_limit();
        let allowance = index_allowance(self.shape);
        let has_room = |pack: &Pack<'_>| {
            pack.writer.payload_bytes() + bytes <= limit
                && pack.entries.len() < MAX_PACK_FILES
                && pack.index_bytes + entry_bytes(name) <= allowance
                // A second version of a name must know the first, which is not there before it is committed.
                && !pack.names.contains(name)
        };
        if self.pack.as_ref().is_some_and(|pack| !has_room(pack)) {
            self.close_pack().await?;
        }
        match self.pack.take() {
            Some(pack) => Ok(pack),
            None => Ok(Pack {
                writer: self.begin_object(None).await?,
                entries: Vec::new(),
                names: HashSet::new(),
                index_bytes: 0,
            }),
        }
    }

    /// Commits the files that were packed.
    pub(super) async fn close_pack(&mut self) -> Result<()> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        if pack.entries.is_empty() {
            return pack.writer.abandon().await;
        }
        let names = pack.entries.iter().map(|entry| entry.name.clone()).collect();
        let index = match lineages(self.store, names).await {
            Ok(lineages) => fitting_index(&pack.entries, &lineages, index_allowance(self.shape)),
            Err(error) => Err(error),
        };
        let contents = match index {
            Ok(index) => Contents { index, piece_hashes: Vec::new() },
            Err(error) => return Err(pack.writer.abandon_for(error).await),
        };
        let object = self.add_object_of(pack.writer, contents).await?;
        let times = pack.entries.iter().filter_map(|entry| Some((entry.version, entry.seen.change_time()?)));
        self.remember_change_times(times.collect()).await?;
        for Entry { name, version, blake3, seen, .. } in pack.entries {
            self.add_file(StoredFile {
                name,
                version,
                objects: vec![object],
                size: seen.bytes,
                blake3,
                skipped: false,
            });
        }
        Ok(())
    }
}

/// The index with as many parents as fit.
fn fitting_index(entries: &[Entry], lineages: &[Lineage], allowance: u64) -> Result<Index> {
    // Parents lead to their own parents, so that the newest alone hides all before it.
    for parents in [MAX_PARENTS, 8, 1] {
        let pieces = entries.iter().zip(lineages).map(|(entry, lineage)| entry.piece(lineage, parents)).collect();
        let index = Index { pieces, ..Index::default() };
        if index.to_bytes().is_ok_and(|bytes| bytes.len() as u64 <= allowance) {
            return Ok(index);
        }
    }
    let doing = format!("the index of {} files is over {allowance} bytes", entries.len());
    Err(Error::new(ErrorKind::Invalid, doing))
}

impl Entry {
    fn piece(&self, lineage: &Lineage, parents: usize) -> Piece {
        Piece {
            version: self.version,
            name: self.name.clone(),
            ordinal: 0,
            offset: self.offset,
            bytes: self.seen.bytes,
            last: Some(Whole {
                total_bytes: self.seen.bytes,
                blake3: self.blake3,
                mtime_ns: self.seen.mtime_ns,
                mode: self.seen.mode,
                generation: lineage.generation,
                parents: lineage.parents.iter().take(parents).copied().collect(),
            }),
        }
    }
}

/// At most how many bytes a file takes in the index.
fn entry_bytes(name: &FileName) -> u64 {
    serde_json::to_string(name).map_or(u64::MAX / 2, |text| text.len() as u64) + PIECE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: FileName) -> Entry {
        let mut seen = Fingerprint::of_stream(i64::MIN, u32::MAX);
        seen.bytes = u64::MAX;
        Entry { name, version: VersionId([255; 16]), offset: u64::MAX, blake3: Digest([255; 32]), seen }
    }

    #[test]
    fn a_file_takes_no_more_of_the_index_than_was_reckoned() {
        for text in ["a".to_owned(), "\u{1}".repeat(255), format!("{}x", "\"\\\n/".repeat(1000))] {
            let name = FileName::new(text).expect("a name");
            let lineage = Lineage { generation: u64::MAX, parents: vec![VersionId([255; 16]); 1] };
            let piece = entry(name.clone()).piece(&lineage, 1);
            let bytes = serde_json::to_vec(&piece).expect("json").len() as u64 + 1;
            assert!(bytes <= entry_bytes(&name), "{bytes}");
        }
    }

    #[test]
    fn parents_give_way_when_the_index_would_be_too_long() {
        let lineage = Lineage { generation: 2, parents: (0..64).map(|number| VersionId([number; 16])).collect() };
        let name = FileName::new("a").expect("a name");
        let parents = |allowance| {
            let index = fitting_index(&[entry(name.clone())], std::slice::from_ref(&lineage), allowance);
            index.map(|index| index.pieces[0].last.as_ref().map_or(0, |whole| whole.parents.len())).ok()
        };
        assert_eq!([parents(10_000), parents(1_000), parents(600), parents(100)], [Some(64), Some(8), Some(1), None]);
    }
}
