//! What a codec does with a set of shards.

use super::description::{ShardSetDescription, layout_for};
use super::{IntegrityReport, RepairReport, ShardSet, ShardSetError};
use crate::codec::ErasureCodec;
use crate::id::{Geometry, ObjectId};
use crate::merkle::{BlockPosition, VerifiedBlock};
use crate::stripe::{BufferPool, Check, FilledStripe, StripeDecoder, StripeEncoder};
use bytes::Bytes;
use std::ops::Range;

/// The derive-key context of the object id of a set.
const OBJECT_ID_CONTEXT: &str = "shard 2026-11 v1 shard set object id";

/// Bytes in memory as shards and back. All of it works on one thread; a codec may be used from many.
impl ErasureCodec {
    /// Cuts data into n shards, any k of which give it back. The object id follows from data and geometry, so that the
    /// same call gives the same set.
    ///
    /// An error when the data is longer than an object may be ([`StripeShape::max_payload_bytes`]: 1 GiB and 16 MiB at
    /// the four levels), or when this machine computes the parity twice and gets different results.
    ///
    /// [`StripeShape::max_payload_bytes`]: crate::stripe::StripeShape::max_payload_bytes
    ///
    /// ```
    /// use shard::{ErasureCodec, Geometry, RedundancyLevel};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let set = ErasureCodec::new(RedundancyLevel::Personal).encode(&[42; 300])?;
    /// assert_eq!(set.shards().len(), 5);
    /// assert_eq!(set.stats().shard_bytes, 100);
    ///
    /// let wide = ErasureCodec::new(Geometry::new(10, 14)?).encode(&[42; 300])?;
    /// assert_eq!(wide.stats().overhead, Some(1.4));
    /// # Ok(())
    /// # }
    /// ```
    pub fn encode(&self, data: &[u8]) -> Result<ShardSet, ShardSetError> {
        self.encode_as(object_id(self.geometry(), data), data)
    }

    /// [`Self::encode`] with an object id of one's own, which must never be used for other data.
    pub fn encode_as(&self, object: ObjectId, data: &[u8]) -> Result<ShardSet, ShardSetError> {
        self.encode_blocks(object, data, self.geometry().block_bytes())
    }

    /// [`Self::encode_as`] with blocks of this many bytes; at least 2, since blocks of 1 are the mark of empty data.
    pub(super) fn encode_blocks(
        &self,
        object: ObjectId,
        data: &[u8],
        block_bytes: u32,
    ) -> Result<ShardSet, ShardSetError> {
        let layout = layout_for(self.geometry(), block_bytes, data.len() as u64)?;
        let payload = if data.is_empty() { &[0] } else { data };
        let (shape, total_shards) = (layout.shape(), self.geometry().total_shards());
        let encoder = StripeEncoder::with_codec(self.clone(), shape, object, Check::Parity);
        let largest_stripe = layout.block_bytes(0) as usize * total_shards;
        let pool = BufferPool::new(largest_stripe);
        let shard_bytes = layout.shard_blocks_bytes() as usize;
        let mut shards: Vec<Vec<u8>> = (0..total_shards).map(|_| Vec::with_capacity(shard_bytes)).collect();
        let mut leaves = vec![Vec::new(); total_shards];
        for (stripe_index, part) in (0..).zip(payload.chunks(shape.capacity() as usize)) {
            let mut buffer = pool.take();
            buffer.as_mut_slice()[..part.len()].copy_from_slice(part);
            let payload_bytes = part.len() as u64;
            let is_last = stripe_index + 1 == layout.stripe_count();
            let stripe = encoder.encode(FilledStripe { stripe_index, buffer, payload_bytes, is_last, digest: None })?;
            let places = shards.iter_mut().zip(&mut leaves).zip(stripe.leaves());
            for (index, ((shard, shard_leaves), leaf)) in (0..).zip(places) {
                shard.extend_from_slice(&stripe.block(index));
                shard_leaves.push(*leaf);
            }
        }
        let description = ShardSetDescription::new(object, layout, leaves)?;
        ShardSet::from_parts(description, shards.into_iter().map(|shard| Some(shard.into())).collect())
    }

    /// Looks at every block of every shard. Damage is in the report; an error only when the set has another geometry.
    ///
    /// ```
    /// # use shard::{ErasureCodec, RedundancyLevel};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let codec = ErasureCodec::new(RedundancyLevel::Personal);
    /// let mut set = codec.encode(b"some data")?;
    /// set.remove(1);
    /// set.insert(3, "not that shard")?;
    ///
    /// let report = codec.verify(&set)?;
    /// assert!(!report.valid && report.recoverable);
    /// assert_eq!((report.missing, report.damaged, report.margin), (vec![1], vec![3], Some(0)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn verify(&self, set: &ShardSet) -> Result<IntegrityReport, ShardSetError> {
        set.check_geometry(self)?;
        let (geometry, layout) = (self.geometry(), set.layout());
        let is_length_right =
            |index| set.shard(index).is_some_and(|shard| shard.len() as u64 == layout.shard_blocks_bytes());
        let mut is_whole: Vec<bool> = geometry.shard_indexes().map(is_length_right).collect();
        let (mut lost_stripes, mut bad_blocks, mut fewest_good) = (Vec::new(), 0, geometry.total_shards());
        let present_shards = set.shards().iter().flatten().count();
        for stripe_index in 0..layout.stripe_count() {
            let good: Vec<bool> =
                geometry.shard_indexes().map(|index| verified_block(set, index, stripe_index).is_some()).collect();
            is_whole.iter_mut().zip(&good).for_each(|(whole, good)| *whole &= good);
            let good_count = good.iter().filter(|good| **good).count();
            bad_blocks += (present_shards - good_count) as u64;
            fewest_good = fewest_good.min(good_count);
            if good_count < geometry.data_shards() {
                lost_stripes.push(stripe_index);
            }
        }
        let wrong = |index: &u8| !is_whole[usize::from(*index)];
        let (damaged, missing): (Vec<u8>, Vec<u8>) =
            geometry.shard_indexes().filter(wrong).partition(|index| set.shard(*index).is_some());
        Ok(IntegrityReport {
            object: set.object(),
            geometry,
            valid: damaged.is_empty() && missing.is_empty(),
            recoverable: lost_stripes.is_empty(),
            damaged,
            missing,
            bad_blocks,
            lost_stripes,
            margin: fewest_good.checked_sub(geometry.data_shards()),
        })
    }

    /// The data, from whichever blocks are right. Only verified bytes are given out; an error when a stripe has fewer
    /// than k of them. What is outside such a stripe [`Self::decode_range`] still gives.
    pub fn decode(&self, set: &ShardSet) -> Result<Vec<u8>, ShardSetError> {
        self.decode_range(set, 0..set.description().data_bytes())
    }

    /// The bytes `range` of the data. Only the stripes that it touches are read.
    pub fn decode_range(&self, set: &ShardSet, range: Range<u64>) -> Result<Vec<u8>, ShardSetError> {
        set.check_geometry(self)?;
        let (layout, data_bytes) = (set.layout(), set.description().data_bytes());
        if range.start > range.end || range.end > data_bytes {
            return Err(ShardSetError::Range { start: range.start, end: range.end, data_bytes });
        }
        let decoder = StripeDecoder::with_codec(self.clone(), layout);
        // Not what the description promises: that may be more than the shards there are can hold.
        let mut data = Vec::with_capacity((range.end - range.start).min(set.stats().stored_bytes) as usize);
        for stripe_index in layout.stripes_of(range.clone()) {
            let blocks = good_blocks(set, stripe_index, self.geometry().data_shards())?;
            let start = layout.payload_offset(stripe_index);
            let (from, to) = (range.start.saturating_sub(start), range.end - start);
            let payload = decoder.open(stripe_index, &blocks, None)?.cut(from, to);
            payload.parts().iter().for_each(|part| data.extend_from_slice(part));
        }
        Ok(data)
    }

    /// Makes every shard whole that is damaged or missing. Each block made anew is held against its leaf. When one of
    /// the stripes is lost nothing is changed; a healthy set is left as it is.
    ///
    /// ```
    /// # use shard::{ErasureCodec, RedundancyLevel};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let codec = ErasureCodec::new(RedundancyLevel::Federation);
    /// let whole = codec.encode(&[7; 1000])?;
    /// let mut set = whole.clone();
    /// (2..6).for_each(|index| drop(set.remove(index)));
    ///
    /// assert_eq!(codec.repair(&mut set)?.rebuilt, [2, 3, 4, 5]);
    /// assert_eq!(set, whole);
    /// # Ok(())
    /// # }
    /// ```
    pub fn repair(&self, set: &mut ShardSet) -> Result<RepairReport, ShardSetError> {
        let report = self.verify(set)?;
        let mut wrong = [report.damaged, report.missing].concat();
        wrong.sort_unstable();
        let mut repair = Repair::new(set, wrong);
        if !repair.shards.is_empty() {
            let decoder = StripeDecoder::with_codec(self.clone(), set.layout());
            for stripe_index in 0..set.layout().stripe_count() {
                repair.add_stripe(set, &decoder, stripe_index)?;
            }
        }
        let rebuilt = repair.shards.iter().map(|(index, _)| *index).collect();
        for (index, shard) in repair.shards {
            set.insert(index, shard)?;
        }
        let (rebuilt_blocks, rebuilt_bytes) = (repair.rebuilt_blocks, repair.rebuilt_bytes);
        Ok(RepairReport { object: set.object(), rebuilt, rebuilt_blocks, rebuilt_bytes })
    }
}

/// The shards that are being made anew, and how far that has come.
struct Repair {
    shards: Vec<(u8, Vec<u8>)>,
    rebuilt_blocks: u64,
    rebuilt_bytes: u64,
}

impl Repair {
    fn new(set: &ShardSet, wrong: Vec<u8>) -> Self {
        let shard_bytes = set.layout().shard_blocks_bytes().min(set.stats().stored_bytes) as usize;
        let shards = wrong.into_iter().map(|index| (index, Vec::with_capacity(shard_bytes))).collect();
        Self { shards, rebuilt_blocks: 0, rebuilt_bytes: 0 }
    }

    /// Adds the stripe's block to each shard: its own where that is right, else one computed from others.
    fn add_stripe(&mut self, set: &ShardSet, decoder: &StripeDecoder, stripe_index: u64) -> Result<(), ShardSetError> {
        let blocks = good_blocks(set, stripe_index, set.geometry().total_shards())?;
        let is_absent = |index: &u8| blocks[usize::from(*index)].is_none();
        let wanted: Vec<u8> = self.shards.iter().map(|(index, _)| *index).filter(is_absent).collect();
        let mut rebuilt = decoder.rebuild(stripe_index, &blocks, &wanted)?.into_iter();
        for (index, shard) in &mut self.shards {
            if let Some(block) = &blocks[usize::from(*index)] {
                shard.extend_from_slice(block.bytes());
                continue;
            }
            let (_, block) = rebuilt.next().expect("a block was rebuilt for each that was wanted");
            let not_coded = ShardSetError::NotCoded { shard_index: *index, stripe_index };
            let block = check_block(set, *index, stripe_index, block).ok_or(not_coded)?;
            shard.extend_from_slice(block.bytes());
            self.rebuilt_blocks += 1;
            self.rebuilt_bytes += block.bytes().len() as u64;
        }
        Ok(())
    }
}

/// The object id of data in a geometry: the same data in another one has other shards, and so another id.
fn object_id(geometry: Geometry, data: &[u8]) -> ObjectId {
    let mut hasher = blake3::Hasher::new_derive_key(OBJECT_ID_CONTEXT);
    hasher.update(data).update(&[geometry.data_shards() as u8, geometry.total_shards() as u8]);
    let mut id = [0; ObjectId::BYTES];
    hasher.finalize_xof().fill(&mut id);
    ObjectId(id)
}

/// The block of a stripe in a shard, if it is there and right.
fn verified_block(set: &ShardSet, shard_index: u8, stripe_index: u64) -> Option<VerifiedBlock> {
    check_block(set, shard_index, stripe_index, set.block(shard_index, stripe_index)?)
}

fn check_block(set: &ShardSet, shard_index: u8, stripe_index: u64, block: Bytes) -> Option<VerifiedBlock> {
    let leaf = set.description().leaves(shard_index)?.get(usize::try_from(stripe_index).ok()?)?;
    let position = BlockPosition { object: set.object(), shard_index, stripe_index };
    VerifiedBlock::check(position, block, leaf).ok()
}

/// The stripe's blocks that are right, the first `enough` of them, in n places; an error when they are fewer than k.
fn good_blocks(set: &ShardSet, stripe_index: u64, enough: usize) -> Result<Vec<Option<VerifiedBlock>>, ShardSetError> {
    let mut good_blocks = 0;
    let mut take = |index| {
        let block = if good_blocks < enough { verified_block(set, index, stripe_index) } else { None };
        good_blocks += usize::from(block.is_some());
        block
    };
    let blocks = set.geometry().shard_indexes().map(&mut take).collect();
    let needed = set.geometry().data_shards();
    if good_blocks < needed {
        return Err(ShardSetError::Lost { stripe_index, good_blocks, needed });
    }
    Ok(blocks)
}
