//! Writes one object: payload in, n shards on n places, one commit at the end.
//!
//! *What it is.* [`ObjectWriter`]: takes payload bytes as they come, encodes stripe by stripe, gives each shard's blocks to
//! a task of its own, rebuilds elsewhere what a place lost on the way, and commits.
//!
//! *What it knows.* The order of writes: journal, shards, at least the write quorum durable, catalog.
//!
//! *What it does not know.* Files, folders, where the payload comes from, what the pieces mean.
//!
//! *Invariants.* Nothing is created that the journal does not name. The catalog hears of an object once, when its quorum is
//! durable. An object that is given up leaves nothing, or a delete that waits. What is in memory is bounded by the stripes
//! in flight, whatever the length.
//!
//! ```text
//! append ─▶ buffer ─▶ encode (off the reactor, in order) ─┬▶ line 0 ─▶ create · header · blocks · tail · finish
//!                                                        ├▶ line 1 ─▶        …                           │
//!                                                        └▶ line n-1                      quorum? ─▶ commit
//! ```

mod encoding;
mod failures;
mod finish;
mod journal;
mod line;
mod report;
mod sealing;
#[cfg(test)]
mod tests;

pub use failures::{WriteFailures, failed_writers};
pub use finish::object_record;
pub use journal::{clear_begun, clear_begun_and_look, clear_place};
pub use report::{StoredObject, StoredShard, Unused, unused_backends};

use super::Controls;
use crate::crypto::RecipientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Index, IndexError, ObjectKind};
use crate::id::{Digest, Geometry, ObjectId, VersionId};
use crate::store::Store;
use crate::stripe::{
    Buffer, BufferPool, Check, EncodedStripe, FilledStripe, MAX_INDEX_ALLOWANCE, Seal, StripeEncoder, StripeShape,
};
use async_trait::async_trait;
use encoding::Encoding;
use journal::Places;
use line::Lines;
use sealing::Sealing;
use std::ops::Range;
use std::sync::Arc;

/// What happens where the places would let one zone have k shards of an object whose seal any k shards open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadableZone {
    /// The object is not written.
    #[default]
    Refuse,
    /// It is written all the same.
    Allow,
}

/// What a new object is.
#[derive(Debug, Clone)]
pub struct ObjectOptions {
    /// What it is for.
    pub kind: ObjectKind,
    /// k and n.
    pub geometry: Geometry,
    /// How it is sealed.
    pub seal: Seal,
    /// To whom, with the seal `recipient`; to the store's own key where it is not given.
    pub recipient: Option<Arc<RecipientKey>>,
    /// What happens where the places would let one zone read what is dispersed.
    pub readable_zone: ReadableZone,
    /// How thoroughly each stripe is checked before it is written.
    pub check: Check,
    /// The file, where the object holds a piece of one file alone.
    pub file: Option<(FileName, VersionId)>,
    /// Which backends failed a write in this operation; shared by its objects.
    pub failures: WriteFailures,
    /// Where progress is told, and how it is cancelled.
    pub controls: Controls,
}

impl ObjectOptions {
    /// An object of pieces of several files, or of none, checked by its parity; nobody hears of it and nothing cancels it.
    pub fn new(kind: ObjectKind, geometry: Geometry, seal: Seal) -> Self {
        Self {
            kind,
            geometry,
            seal,
            recipient: None,
            readable_zone: ReadableZone::Refuse,
            check: Check::Parity,
            file: None,
            failures: WriteFailures::default(),
            controls: Controls::default(),
        }
    }
}

/// What an object holds, said when all of it is written.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Which pieces are where, or what is removed.
    pub index: Index,
    /// The hashes of pieces by which an interrupted put goes on: version, ordinal, hash of the piece's bytes.
    pub piece_hashes: Vec<(VersionId, u32, Digest)>,
}

/// Where payload bytes come from.
#[async_trait]
pub trait PayloadSource: Send {
    /// Fills `range` of the buffer with its next bytes, gives the buffer back and says how many they were: fewer than the
    /// range has only where no more come. Whether that is its end or a failure, the source itself knows; an error is for
    /// what ends the whole object.
    async fn fill(&mut self, buffer: Buffer, range: Range<usize>) -> Result<(Buffer, usize)>;
}

/// The shape of a new object's stripes.
pub fn new_object_shape(geometry: Geometry, seal: Seal) -> Result<StripeShape> {
    StripeShape::new(geometry, geometry.block_bytes(), seal.overhead_bytes())
        .map_err(|error| Error::new(ErrorKind::Invalid, format!("{geometry} cannot be used")).with_source(error))
}

/// How many bytes the index of an object of this shape may have: all that an index may, but where shards are so many that
/// an object is small, no more than a quarter of it.
pub fn index_allowance(shape: StripeShape) -> u64 {
    MAX_INDEX_ALLOWANCE.min(shape.max_payload_bytes() / 4)
}

/// How many file bytes an object of this shape may have.
pub fn content_limit(shape: StripeShape) -> u64 {
    shape.max_content_bytes(index_allowance(shape))
}

/// An object on its way to its places. Dropped without an end, it leaves its journal entry for the next who looks.
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    store: &'a Store,
    options: ObjectOptions,
    object: ObjectId,
    shape: StripeShape,
    places: Places,
    pool: BufferPool,
    filling: Option<Filling>,
    payload_bytes: u64,
    sealing: Sealing,
    encoding: Encoding,
    lines: Lines,
}

/// The stripe that is being filled.
#[derive(Debug)]
struct Filling {
    buffer: Buffer,
    used: usize,
    /// Of the bytes as they came, where everything is checked: what changes in memory later is noticed.
    hasher: Option<Box<blake3::Hasher>>,
}

/// Whether a stripe is the object's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IsLast {
    Yes,
    No,
}

impl<'a> ObjectWriter<'a> {
    /// Chooses the places, journals them, and begins every shard.
    ///
    /// [`ErrorKind::BelowQuorum`] where the places that take shards now could not even hold the quorum.
    pub async fn begin(store: &'a Store, options: ObjectOptions) -> Result<Self> {
        let object = store.new_object_id()?;
        Self::begin_as(store, options, object).await
    }

    /// The same, under an id that the caller drew at random and nobody ever had.
    pub async fn begin_as(store: &'a Store, options: ObjectOptions, object: ObjectId) -> Result<Self> {
        options.controls.check_cancelled()?;
        // Before anything is written: what cannot be signed counts for nothing.
        store.signer(options.kind)?;
        let shape = new_object_shape(options.geometry, options.seal)?;
        let sealing = Sealing::draw(store, &options)?;
        let places = Places::choose(store, object, &options).await?;
        places.journal(store, &options).await?;
        let lines = Lines::open(store, object, shape, &places);
        Ok(Self {
            encoding: Encoding::new(sealing.encoder(store, object, shape, options.check), options.geometry),
            sealing,
            pool: BufferPool::new(StripeEncoder::buffer_bytes(shape)),
            store,
            options,
            object,
            shape,
            places,
            filling: None,
            payload_bytes: 0,
            lines,
        })
    }

    /// Which object it will be.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// How many payload bytes were taken so far: the offset of the next one.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// How many more file bytes fit.
    pub fn room(&self) -> u64 {
        content_limit(self.shape).saturating_sub(self.payload_bytes)
    }

    /// Takes bytes by copying them.
    pub async fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let mut filling = self.take_filling().await?;
            let taken = bytes.len().min(self.capacity() - filling.used);
            let (head, rest) = bytes.split_at(taken);
            filling.buffer.as_mut_slice()[filling.used..filling.used + taken].copy_from_slice(head);
            if let Some(hasher) = &mut filling.hasher {
                hasher.update(head);
            }
            bytes = rest;
            self.put_back(filling, taken);
        }
        Ok(())
    }

    /// Takes up to `limit` bytes from a source, which writes them where they are encoded; fewer when it ends. Says how many.
    ///
    /// After an error nothing more can be written: the object is to be abandoned.
    pub async fn append_from(&mut self, source: &mut dyn PayloadSource, limit: u64) -> Result<u64> {
        let mut taken = 0;
        while taken < limit {
            self.options.controls.check_cancelled()?;
            let Filling { buffer, used, mut hasher } = self.take_filling().await?;
            let room = (self.capacity() - used).min(usize::try_from(limit - taken).unwrap_or(usize::MAX));
            let (buffer, bytes) = source.fill(buffer, used..used + room).await?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer.as_ref()[used..used + bytes]);
            }
            self.put_back(Filling { buffer, used, hasher }, bytes);
            taken += bytes as u64;
            self.options.controls.bytes(bytes as u64);
            if bytes < room {
                break;
            }
        }
        Ok(taken)
    }

    /// Ends the object: index, tails, quorum, commit.
    ///
    /// [`ErrorKind::BelowQuorum`] when too few shards could be made durable; as after every error, nothing stays.
    pub async fn finish(mut self, contents: Contents) -> Result<StoredObject> {
        match self.append_index(&contents.index).await {
            Ok(index_bytes) => finish::finish(self, contents, index_bytes).await,
            Err(error) => Err(self.abandon_for(error).await),
        }
    }

    /// Gives the object up: nothing of it stays, or a delete waits for what cannot be reached now.
    pub async fn abandon(self) -> Result<()> {
        let Self { store, options, places, lines, .. } = self;
        options.failures.note_all(&places, lines.give_up().await);
        places.take_back(store).await
    }

    /// Gives the object up because of an error, and gives the error back: with what a backend said underneath, where it
    /// is about backends.
    pub async fn abandon_for(self, error: Error) -> Error {
        let failures = self.options.failures.clone();
        // What could not be taken back is still in the journal; the first error is the one to tell.
        let _ = self.abandon().await;
        failures.explain(error)
    }

    fn capacity(&self) -> usize {
        self.shape.capacity() as usize
    }

    /// The stripe that is being filled. A full one is passed on only now that more comes: it is not the last.
    async fn take_filling(&mut self) -> Result<Filling> {
        if self.filling.as_ref().is_some_and(|filling| filling.used == self.capacity()) {
            self.flush(IsLast::No).await?;
        }
        let hasher = || (self.options.check == Check::Full).then(Box::default);
        Ok(self.filling.take().unwrap_or_else(|| Filling { buffer: self.pool.take(), used: 0, hasher: hasher() }))
    }

    fn put_back(&mut self, mut filling: Filling, bytes: usize) {
        filling.used += bytes;
        self.payload_bytes += bytes as u64;
        self.filling = Some(filling);
    }

    async fn append_index(&mut self, index: &Index) -> Result<u64> {
        let too_large =
            |error: IndexError| Error::new(ErrorKind::Invalid, "the object holds too much").with_source(error);
        let bytes = index.to_bytes().map_err(too_large)?;
        self.append(&bytes).await?;
        self.flush(IsLast::Yes).await?;
        while let Some(stripe) = self.encoding.drain().await? {
            self.send(&stripe).await?;
        }
        Ok(bytes.len() as u64)
    }

    /// Passes on the stripe that is being filled, and sends out what is encoded.
    async fn flush(&mut self, is_last: IsLast) -> Result<()> {
        let Some(filling) = self.filling.take().filter(|filling| filling.used > 0) else { return Ok(()) };
        let stripe_index = (self.payload_bytes - 1) / self.shape.capacity();
        let payload_bytes = filling.used as u64;
        let is_last = is_last == IsLast::Yes;
        let digest = filling.hasher.map(|hasher| Digest(hasher.finalize().into()));
        self.encoding.push(FilledStripe { stripe_index, buffer: filling.buffer, payload_bytes, is_last, digest });
        while let Some(stripe) = self.encoding.next_ready().await? {
            self.send(&stripe).await?;
        }
        Ok(())
    }

    /// Waits for places that are slow, but not after a cancellation.
    async fn send(&mut self, stripe: &EncodedStripe) -> Result<()> {
        let controls = &self.options.controls;
        tokio::select! {
            biased;
            () = controls.cancel.cancelled() => controls.check_cancelled(),
            sent = self.lines.send(stripe, self.options.geometry) => sent,
        }
    }
}
