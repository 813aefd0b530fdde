//! A large file gets objects of its own, one for each piece.

use super::StoredFile;
use super::lineage::lineages;
use super::reading::{Fingerprint, Reading};
use super::resume::{self, Progress};
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Index, Piece, Whole};
use crate::id::{ObjectId, VersionId};
use crate::ops::writer::{Contents, ObjectWriter, content_limit};
use crate::store::Lease;

/// The lease that whoever writes the pieces of a version holds: while it lives, nobody goes on with that version, and
/// nobody clears its pieces away.
pub fn version_lease(version: VersionId) -> String {
    format!("put {version}")
}

/// The pieces of a version so far.
pub(super) struct Pieces {
    pub(super) version: VersionId,
    pub(super) objects: Vec<ObjectId>,
    pub(super) lease: Option<Lease>,
}

impl<'a> Session<'a> {
    /// Stores a file or stream in objects of its own. `seen` is what the version is said to be, but for its length.
    pub(super) async fn put_large(&mut self, name: FileName, reading: &mut Reading, seen: Fingerprint) -> Result<()> {
        // One object at a time, so that memory holds the stripes of one.
        self.close_pack().await?;
        let is_file = reading.seen().is_some();
        let progress = if is_file { resume::go_on(self, &name, reading).await? } else { None };
        let mut pieces = match progress {
            Some(Progress { version, objects, lease }) => Pieces { version, objects, lease: Some(lease) },
            None => Pieces { version: self.store.new_version_id()?, objects: Vec::new(), lease: None },
        };
        let outcome = self.put_pieces(&name, reading, seen, &mut pieces).await;
        self.report.bytes_read += reading.bytes();
        if let Err(error) = outcome {
            // A file can be gone on with; a stream cannot, and a file that changed will not be the same.
            if !is_file || error.kind == ErrorKind::Changed {
                // The error is the one to tell; pieces that could not be taken back are invisible.
                let _ = resume::take_back(self.store, &pieces.objects).await;
                self.report.objects.retain(|object| !pieces.objects.contains(&object.id));
            }
            return Err(error);
        }
        let Pieces { version, objects, .. } = pieces;
        let stored = self.store.look(move |catalog| catalog.version(version)).await?;
        if stored.is_none_or(|stored| stored.removed || !stored.complete) {
            let doing = format!("{name} was removed by someone else while it was stored");
            return Err(Error::new(ErrorKind::Changed, doing).with_hint("put it again"));
        }
        self.remember_change_times(seen.change_time().map(|time| (version, time)).into_iter().collect()).await?;
        let (size, blake3) = (reading.bytes(), reading.whole_hash());
        self.add_file(StoredFile { name, version, objects, size, blake3, skipped: false });
        Ok(())
    }

    /// Writes piece after piece until the end.
    async fn put_pieces(
        &mut self,
        name: &FileName,
        reading: &mut Reading,
        seen: Fingerprint,
        pieces: &mut Pieces,
    ) -> Result<()> {
        loop {
            let mut writer = self.begin_object(Some((name.clone(), pieces.version))).await?;
            reading.begin_piece();
            let piece = match self.fill_piece(&mut writer, name, (&mut *reading, seen), pieces).await {
                Ok(piece) => piece,
                Err(error) => return Err(writer.abandon_for(error).await),
            };
            let is_last = piece.last.is_some();
            // Known hashes are what a put goes on by, and a stream is never gone on with.
            let hash = reading.piece_hash().filter(|_| !is_last && reading.seen().is_some());
            let piece_hashes = hash.map(|hash| (pieces.version, piece.ordinal, hash)).into_iter().collect();
            let index = Index { pieces: vec![piece], ..Index::default() };
            let object = self.add_object_of(writer, Contents { index, piece_hashes }).await?;
            pieces.objects.push(object);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Fills an object, and says what piece that is.
    async fn fill_piece(
        &self,
        writer: &mut ObjectWriter<'a>,
        name: &FileName,
        (reading, seen): (&mut Reading, Fingerprint),
        pieces: &mut Pieces,
    ) -> Result<Piece> {
        let left = reading.seen().map_or(u64::MAX, |file| file.bytes.saturating_sub(reading.bytes()));
        let bytes = writer.append_from(reading, left.min(content_limit(self.shape))).await?;
        let is_last = bytes < content_limit(self.shape) || reading.is_at_end().await;
        self.controls.check_cancelled()?;
        let mut last = None;
        if is_last {
            reading.check_whole().await?;
            let lineage = lineages(self.store, vec![name.clone()]).await?.pop();
            last = lineage.map(|lineage| Whole {
                total_bytes: reading.bytes(),
                blake3: reading.whole_hash(),
                mtime_ns: seen.mtime_ns,
                mode: seen.mode,
                generation: lineage.generation,
                parents: lineage.parents,
            });
        } else if pieces.lease.is_none() {
            // Before anyone can see a piece of it.
            pieces.lease = Some(self.store.lease(&version_lease(pieces.version)).await?);
        }
        let ordinal = u32::try_from(pieces.objects.len()).unwrap_or(u32::MAX);
        Ok(Piece { version: pieces.version, name: name.clone(), ordinal, offset: 0, bytes, last })
    }

    /// Ends an object and takes it into the report.
    pub(super) async fn add_object_of(&mut self, writer: ObjectWriter<'a>, contents: Contents) -> Result<ObjectId> {
        let object = writer.finish(contents).await?;
        Ok(self.add_object(object))
    }
}
