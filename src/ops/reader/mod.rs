//! Reading an object: any k good blocks of each stripe, wherever they are, and never a byte that was not verified.
//!
//! *What it is.* [`ObjectReader`] over one object's manifest and the places of its shards: verified blocks stripe by
//! stripe, the payload, the index; [`gather_manifest`], which finds the manifest in what is left of its copies.
//!
//! *What it knows.* Backends as places that may be missing, silent or wrong; how leaves are trusted; how many stripes are
//! in flight.
//!
//! *What it does not know.* Catalog, names, files. What was found to be damaged is told beside what was read
//! ([`ObjectReader::damage`]); to judge or to repair it is for others.
//!
//! *Invariants.* Every block that is handed out matched a leaf, and the leaf a signed shard root. Memory is a few chunks of
//! stripes and the object's leaves, however long the object is. A place that does not answer is asked once.
//!
//! ```text
//! places ─▶ chunks of consecutive blocks ─▶ verified ─▶ decoded ─▶ payload, in order
//!              (k shards, data first)          │ too few
//!                                              ├─▶ the same stripe's blocks from other shards
//!                                              └─▶ damaged leaves resolved, once; then again
//! ```

mod asking;
mod error;
mod leaves;
mod manifest;
mod off_reactor;
mod payload;
mod place;
mod sealed;
mod stripes;
#[cfg(test)]
mod tests;

pub use error::ReadError;
pub use manifest::{gather_manifest, read_manifest};
pub(in crate::ops) use off_reactor::compute;
pub use place::{Damage, ShardPlace};
pub use stripes::{BlockState, StripeBlocks, Wanted};

use crate::crypto::AccessKeys;
use crate::format::{Manifest, ShardFileLayout};
use crate::id::Digest;
use crate::stripe::{Layout, StripeDecoder};
use asking::Pace;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use leaves::IndexLeaves;
use off_reactor::Ahead;
use place::Place;
use sealed::Opened;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use stripes::stripes_per_chunk;
use tokio::sync::OnceCell;

/// This many chunks are read, verified and decoded at once; the one that is being used is among them.
const CHUNKS_IN_FLIGHT: usize = 3;

/// Reads one object. Clones share what was found out about its places.
#[derive(Debug, Clone)]
pub struct ObjectReader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    manifest: Manifest,
    file_layout: ShardFileLayout,
    decoder: StripeDecoder,
    places: Vec<Place>,
    leaves: Vec<IndexLeaves>,
    resolution: OnceCell<()>,
    pace: Pace,
    keys: Option<Arc<AccessKeys>>,
    opened: OnceCell<Opened>,
}

impl Shared {
    fn layout(&self) -> Layout {
        self.manifest.layout()
    }

    fn data_shards(&self) -> usize {
        self.manifest.geometry().data_shards()
    }

    fn total_shards(&self) -> usize {
        self.manifest.geometry().total_shards()
    }
}

impl ObjectReader {
    /// A reader of the object that the manifest is of. A shard may be in several places; places of an index that the
    /// object does not have are passed over.
    ///
    /// Blocks can be read and checked with it, and the payload of what is not sealed under a key.
    pub fn new(manifest: Manifest, places: Vec<ShardPlace>) -> Self {
        Self::with(manifest, places, None)
    }

    /// The same, and these keys open the payload.
    pub fn with_keys(manifest: Manifest, places: Vec<ShardPlace>, keys: Arc<AccessKeys>) -> Self {
        Self::with(manifest, places, Some(keys))
    }

    fn with(manifest: Manifest, places: Vec<ShardPlace>, keys: Option<Arc<AccessKeys>>) -> Self {
        let total_shards = manifest.geometry().total_shards();
        let exists = |place: &ShardPlace| usize::from(place.index) < total_shards;
        let places = places.into_iter().filter(exists).map(|at| Place::new(manifest.object(), at)).collect();
        let shared = Shared {
            file_layout: ShardFileLayout::of(&manifest),
            decoder: StripeDecoder::new(manifest.layout()),
            places,
            leaves: (0..total_shards).map(|_| IndexLeaves::default()).collect(),
            resolution: OnceCell::new(),
            pace: Pace::default(),
            keys,
            opened: OnceCell::new(),
            manifest,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The object's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.shared.manifest
    }

    /// Where its shards are looked for; [`StripeBlocks::states`] is in this order.
    pub fn places(&self) -> impl ExactSizeIterator<Item = &ShardPlace> {
        self.shared.places.iter().map(|place| &place.at)
    }

    /// The blocks of these stripes, in order; reading goes on ahead of whoever takes them.
    pub fn stripes(&self, stripes: Range<u64>, wanted: Wanted) -> BoxStream<'static, Result<StripeBlocks, ReadError>> {
        let places = match wanted {
            Wanted::Enough => self.shared.data_shards(),
            Wanted::All => self.shared.places.len(),
        };
        self.ahead(stripes, places, move |shared, chunk| shared.read_chunk(chunk, wanted))
    }

    /// Runs `work` on chunks of stripes, a few at once, and gives what they bring in order.
    fn ahead<T, F, Work>(&self, stripes: Range<u64>, places: usize, work: F) -> BoxStream<'static, Result<T, ReadError>>
    where
        T: Send + 'static,
        F: Fn(Arc<Shared>, Range<u64>) -> Work + Send + 'static,
        Work: Future<Output = Result<Vec<T>, ReadError>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let layout = shared.layout();
        let step = stripes_per_chunk(layout.shape().block_bytes(), places);
        let end = stripes.end.min(layout.stripe_count());
        let chunks = (stripes.start..end).step_by(step as usize).map(move |start| start..(start + step).min(end));
        let started = stream::iter(chunks).map(move |chunk| Ahead::start(work(Arc::clone(&shared), chunk)));
        let finished = started.buffered(CHUNKS_IN_FLIGHT).map(|outcome| outcome.and_then(|chunk| chunk));
        finished.map_ok(|chunk| stream::iter(chunk.into_iter().map(Ok))).try_flatten().boxed()
    }

    /// The leaves of a shard that give its signed root: as stored, or found out again; `None` where they cannot be.
    pub async fn trusted_leaves(&self, index: u8) -> Result<Option<Arc<[Digest]>>, ReadError> {
        if usize::from(index) >= self.shared.total_shards() {
            return Ok(None);
        }
        if let Some(leaves) = self.shared.stored_leaves(index).await? {
            return Ok(Some(leaves));
        }
        self.shared.resolve_leaves().await?;
        self.shared.stored_leaves(index).await
    }

    /// The damage met so far, by shard.
    pub fn damage(&self) -> Vec<Damage> {
        let mut damage: Vec<Damage> = self.shared.places.iter().filter_map(Place::damage).collect();
        damage.sort_unstable();
        damage
    }

    /// Whether another place gave what this one should have, and nothing is wrong there: then the object lacks nothing.
    pub fn is_made_up_for(&self, damage: &Damage) -> bool {
        let is_other = |place: &&Place| place.at.index == damage.index && place.at.backend != damage.backend;
        self.shared.places.iter().filter(is_other).any(|place| place.bytes_read() > 0 && place.damage().is_none())
    }

    /// How many bytes of shards were read so far.
    pub fn bytes_read(&self) -> u64 {
        self.shared.places.iter().map(Place::bytes_read).sum()
    }
}
