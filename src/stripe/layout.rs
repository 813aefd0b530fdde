//! Where the bytes of a payload lie in the stripes and blocks of its shards: arithmetic alone.

use crate::id::{Geometry, MAX_BLOCK_BYTES, MAX_STRIPE_BYTES};
use std::ops::Range;

/// An object has at most this many file bytes.
pub const MAX_CONTENT_BYTES: u64 = 1 << 30;
/// An object's leaves, n for each stripe, are held in memory while it is written or read; this many take 8 MiB.
pub const MAX_LEAVES: u64 = 1 << 18;
/// All shards of one object that could each be buffered before an upload begins together have at most this many bytes;
/// it bounds the objects of geometries with so many shards that even one upload part for each would be too much.
pub const MAX_NARROW_OBJECT_BYTES: u64 = 128 * 1024 * 1024;
/// From this many shards on [`MAX_NARROW_OBJECT_BYTES`] holds.
const NARROW_FROM_SHARDS: usize = 25;

/// Why numbers are not a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A block size of zero, over [`MAX_BLOCK_BYTES`], or n of them over [`MAX_STRIPE_BYTES`].
    #[error("a block of {block_bytes} bytes does not go with {geometry}")]
    BlockBytes {
        /// The block size.
        block_bytes: u32,
        /// The geometry.
        geometry: Geometry,
    },
    /// A stripe has no room beside what sealing adds.
    #[error("sealing adds {overhead_bytes} bytes to a stripe of {stripe_bytes}")]
    Overhead {
        /// What sealing adds to a stripe.
        overhead_bytes: u32,
        /// The data bytes of a stripe.
        stripe_bytes: u64,
    },
    /// No bytes at all, or more than an object may have.
    #[error("a payload of {payload_bytes} bytes is not between 1 and {max_bytes}")]
    PayloadBytes {
        /// The payload's length.
        payload_bytes: u64,
        /// The most it may be.
        max_bytes: u64,
    },
}

/// The shape of every stripe of an object but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StripeShape {
    geometry: Geometry,
    block_bytes: u32,
    overhead_bytes: u32,
}

impl StripeShape {
    /// Blocks of `block_bytes`; sealing adds `overhead_bytes` to each stripe.
    pub fn new(geometry: Geometry, block_bytes: u32, overhead_bytes: u32) -> Result<Self, LayoutError> {
        let all_blocks = u64::from(block_bytes) * geometry.total_shards() as u64;
        if block_bytes == 0 || block_bytes > MAX_BLOCK_BYTES || all_blocks > MAX_STRIPE_BYTES {
            return Err(LayoutError::BlockBytes { block_bytes, geometry });
        }
        let stripe_bytes = u64::from(block_bytes) * geometry.data_shards() as u64;
        if u64::from(overhead_bytes) >= stripe_bytes {
            return Err(LayoutError::Overhead { overhead_bytes, stripe_bytes });
        }
        Ok(Self { geometry, block_bytes, overhead_bytes })
    }

    /// k and n.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The length of a block in every stripe but the last.
    pub fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// What sealing adds to a stripe, in bytes.
    pub fn overhead_bytes(&self) -> u32 {
        self.overhead_bytes
    }

    /// How many payload bytes a full stripe takes.
    pub fn capacity(&self) -> u64 {
        u64::from(self.block_bytes) * self.geometry.data_shards() as u64 - u64::from(self.overhead_bytes)
    }

    /// How many payload bytes a stripe takes whose n blocks have to fit in this many bytes.
    pub(super) fn capacity_in(&self, buffer_bytes: usize) -> u64 {
        let largest_block = (buffer_bytes / self.geometry.total_shards()) as u64;
        let data_bytes = largest_block * self.geometry.data_shards() as u64;
        data_bytes.saturating_sub(u64::from(self.overhead_bytes)).min(self.capacity())
    }

    /// The length of the blocks of a stripe that holds this many payload bytes, at least 1 and at most the capacity.
    pub fn block_bytes_for(&self, payload_bytes: u64) -> u32 {
        let sealed_bytes = payload_bytes + u64::from(self.overhead_bytes);
        sealed_bytes.div_ceil(self.geometry.data_shards() as u64).min(u64::from(self.block_bytes)) as u32
    }

    /// The longest payload an object of this shape may have.
    pub fn max_payload_bytes(&self) -> u64 {
        let total = self.geometry.total_shards();
        let by_leaves = (MAX_LEAVES / total as u64) * self.capacity();
        let by_size = MAX_CONTENT_BYTES + super::MAX_INDEX_ALLOWANCE;
        if total < NARROW_FROM_SHARDS {
            return by_leaves.min(by_size);
        }
        let shard_bytes = MAX_NARROW_OBJECT_BYTES / total as u64;
        by_leaves.min(by_size).min(shard_bytes / u64::from(self.block_bytes) * self.capacity())
    }

    /// How many file bytes an object of this shape may have, leaving room for an index of `index_bytes` at most.
    pub fn max_content_bytes(&self, index_bytes: u64) -> u64 {
        self.max_payload_bytes().saturating_sub(index_bytes).min(MAX_CONTENT_BYTES)
    }
}

/// Where everything of one object lies, once its payload's length is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    shape: StripeShape,
    payload_bytes: u64,
    stripe_count: u64,
}

impl Layout {
    /// The layout of a payload of 1 to [`StripeShape::max_payload_bytes`] bytes.
    pub fn new(shape: StripeShape, payload_bytes: u64) -> Result<Self, LayoutError> {
        let max_bytes = shape.max_payload_bytes();
        if payload_bytes == 0 || payload_bytes > max_bytes {
            return Err(LayoutError::PayloadBytes { payload_bytes, max_bytes });
        }
        Ok(Self { shape, payload_bytes, stripe_count: payload_bytes.div_ceil(shape.capacity()) })
    }

    /// The shape of its stripes.
    pub fn shape(&self) -> StripeShape {
        self.shape
    }

    /// k and n.
    pub fn geometry(&self) -> Geometry {
        self.shape.geometry
    }

    /// How many bytes the payload has.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// How many stripes there are, at least one.
    pub fn stripe_count(&self) -> u64 {
        self.stripe_count
    }

    /// How many payload bytes this stripe holds.
    pub fn stripe_payload_bytes(&self, stripe_index: u64) -> u64 {
        let start = stripe_index.saturating_mul(self.shape.capacity());
        self.payload_bytes.saturating_sub(start).min(self.shape.capacity())
    }

    /// The length of this stripe's blocks: shorter in the last stripe.
    pub fn block_bytes(&self, stripe_index: u64) -> u32 {
        self.shape.block_bytes_for(self.stripe_payload_bytes(stripe_index))
    }

    /// Where this stripe's block begins among a shard's blocks.
    pub fn block_offset(&self, stripe_index: u64) -> u64 {
        stripe_index * u64::from(self.shape.block_bytes)
    }

    /// How many bytes all blocks of one shard have.
    pub fn shard_blocks_bytes(&self) -> u64 {
        let last = self.stripe_count - 1;
        self.block_offset(last) + u64::from(self.block_bytes(last))
    }

    /// The stripes that a range of the payload touches; an empty range touches none.
    pub fn stripes_of(&self, range: Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return 0..0;
        }
        let capacity = self.shape.capacity();
        range.start / capacity..range.end.div_ceil(capacity).min(self.stripe_count)
    }

    /// Where this stripe's payload bytes begin in the payload.
    pub fn payload_offset(&self, stripe_index: u64) -> u64 {
        stripe_index * self.shape.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RedundancyLevel;

    fn shape(data: usize, total: usize, block_bytes: u32, overhead: u32) -> StripeShape {
        StripeShape::new(Geometry::new(data, total).expect("geometry"), block_bytes, overhead).expect("shape")
    }

    #[test]
    fn the_stripes_hold_the_whole_payload_and_nothing_else() {
        for (data, total, block, overhead) in [(1, 2, 1, 0), (3, 5, 4, 0), (3, 5, 8, 16), (7, 15, 64, 16)] {
            let shape = shape(data, total, block, overhead);
            for payload in 1..4 * shape.capacity() {
                let layout = Layout::new(shape, payload).expect("layout");
                let sum: u64 = (0..layout.stripe_count()).map(|stripe| layout.stripe_payload_bytes(stripe)).sum();
                assert_eq!(sum, payload);
                let blocks: u64 = (0..layout.stripe_count()).map(|s| u64::from(layout.block_bytes(s))).sum();
                assert_eq!(blocks, layout.shard_blocks_bytes());
                assert_eq!(layout.stripes_of(0..payload), 0..layout.stripe_count());
                assert_eq!(layout.stripes_of(payload - 1..payload), layout.stripe_count() - 1..layout.stripe_count());
                assert!((0..layout.stripe_count()).all(|stripe| layout.block_bytes(stripe) > 0));
            }
        }
    }

    #[test]
    fn limits_hold_for_every_geometry() {
        for data in 1..255 {
            for total in data + 1..=255 {
                let geometry = Geometry::new(data, total).expect("geometry");
                let shape = StripeShape::new(geometry, geometry.block_bytes(), 16).expect("shape");
                let largest = Layout::new(shape, shape.max_payload_bytes()).expect("layout");
                assert!(largest.stripe_count() * total as u64 <= MAX_LEAVES);
                assert!(shape.max_content_bytes(1 << 14) > 0);
            }
        }
        let personal = RedundancyLevel::Personal.geometry();
        let shape = StripeShape::new(personal, personal.block_bytes(), 0).expect("shape");
        assert_eq!(shape.max_content_bytes(super::super::MAX_INDEX_ALLOWANCE), MAX_CONTENT_BYTES);
    }

    #[test]
    fn sizes_from_outside_are_refused_before_they_are_used() {
        let geometry = Geometry::new(3, 5).expect("geometry");
        assert!(StripeShape::new(geometry, 0, 0).is_err());
        assert!(StripeShape::new(geometry, MAX_BLOCK_BYTES + 1, 0).is_err());
        assert!(StripeShape::new(Geometry::new(1, 255).expect("geometry"), MAX_BLOCK_BYTES, 0).is_err());
        assert!(StripeShape::new(geometry, 5, 15).is_err());
        let shape = shape(3, 5, 1024, 0);
        assert!(Layout::new(shape, 0).is_err());
        assert!(Layout::new(shape, u64::MAX).is_err());
    }

    #[test]
    fn each_limit_holds_to_the_last_value_and_not_beyond() {
        let geometry = |data, total| Geometry::new(data, total).expect("geometry");
        assert!(StripeShape::new(geometry(1, 16), MAX_BLOCK_BYTES, 0).is_ok(), "n blocks just fit");
        assert!(StripeShape::new(geometry(1, 17), MAX_BLOCK_BYTES, 0).is_err());
        assert_eq!(shape(3, 5, 5, 14).capacity(), 1);
        assert_eq!(shape(3, 5, 5, 14).overhead_bytes(), 14);
        let longest = shape(1, 2, 16, 0);
        assert_eq!(longest.max_payload_bytes(), MAX_LEAVES / 2 * 16, "as many leaves as may be");
        assert!(Layout::new(longest, longest.max_payload_bytes()).is_ok());
        let refused = Layout::new(longest, longest.max_payload_bytes() + 1);
        assert!(
            matches!(refused, Err(LayoutError::PayloadBytes { max_bytes, .. }) if max_bytes == MAX_LEAVES / 2 * 16)
        );
        let by_size = MAX_CONTENT_BYTES + super::super::MAX_INDEX_ALLOWANCE;
        assert_eq!(by_size, (1 << 30) + (1 << 24));
        for total in [2, 5, 16, NARROW_FROM_SHARDS - 1] {
            let geometry = geometry(1, total);
            let shape = shape(1, total, geometry.block_bytes(), 0);
            assert_eq!(shape.max_payload_bytes(), by_size, "1/{total}");
            assert_eq!(shape.max_content_bytes(by_size - 5), 5, "1/{total}");
            assert_eq!(shape.max_content_bytes(by_size + 5), 0, "1/{total}");
        }
        // 128 MiB over 25 shards are 40 blocks of 128 KiB for each.
        let narrow = shape(1, NARROW_FROM_SHARDS, 128 * 1024, 16);
        assert_eq!(narrow.max_payload_bytes(), 40 * (128 * 1024 - 16));
    }

    #[test]
    fn a_buffer_takes_as_much_of_a_stripe_as_its_blocks_fit_into_it() {
        let shape = shape(3, 5, 1024, 16);
        assert_eq!(shape.capacity_in(5 * 10 + 4), 3 * 10 - 16);
        assert_eq!(shape.capacity_in(5), 0, "no more than what sealing adds");
        assert_eq!(shape.capacity_in(5 * 1024), shape.capacity());
        assert_eq!(shape.capacity_in(usize::MAX), shape.capacity());
    }

    #[test]
    fn a_range_touches_the_stripes_that_it_has_bytes_of() {
        let layout = Layout::new(shape(3, 5, 8, 16), 20).expect("layout");
        assert_eq!((layout.shape().capacity(), layout.stripe_count()), (8, 3));
        for (range, stripes) in [(0..0, 0..0), (9..9, 0..0), (0..1, 0..1), (7..8, 0..1), (7..9, 0..2), (8..9, 1..2)] {
            assert_eq!(layout.stripes_of(range.clone()), stripes, "{range:?}");
        }
        assert_eq!(layout.stripes_of(15..17), 1..3);
        assert_eq!(layout.stripes_of(19..1000), 2..3, "there are no stripes after the last");
        assert_eq!([0, 1, 2].map(|stripe| layout.payload_offset(stripe)), [0, 8, 16]);
        assert_eq!([0, 1, 2].map(|stripe| layout.block_offset(stripe)), [0, 8, 16]);
        assert_eq!([0, 1, 2, 3].map(|stripe| layout.stripe_payload_bytes(stripe)), [8, 8, 4, 0]);
        assert_eq!([0, 1, 2].map(|stripe| layout.block_bytes(stripe)), [8, 8, 7]);
    }
}
