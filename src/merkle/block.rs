//! A block's place in its object, its leaf, and bytes that were checked against it.

use super::error::Error;
use super::hash::ShardNodes;
use super::root::bind_shard;
use super::tree::walk;
use super::{Result, hash};
use crate::id::{Digest, ObjectId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a block is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockPosition {
    /// The object.
    pub object: ObjectId,
    /// Which shard of it, 0-based.
    pub shard_index: u8,
    /// Which stripe of it, 0-based.
    pub stripe_index: u64,
}

impl fmt::Display for BlockPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} of shard {}.{}", self.stripe_index, self.object, self.shard_index)
    }
}

/// The leaf of a block: H(block ‖ object id ‖ shard index ‖ stripe index ‖ length), so that a block that was swapped,
/// shifted or taken from another object has another leaf.
pub fn leaf(position: BlockPosition, block: &[u8]) -> Digest {
    hash::LEAF.digest(&[
        block,
        position.object.as_bytes(),
        &[position.shard_index],
        &position.stripe_index.to_le_bytes(),
        &(block.len() as u64).to_le_bytes(),
    ])
}

/// A block that matched its leaf; there is no other way to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBlock {
    position: BlockPosition,
    block: Bytes,
}

impl VerifiedBlock {
    /// Hashes the block at its position; an error unless that is the leaf. Copies nothing.
    pub fn check(position: BlockPosition, block: Bytes, expected: &Digest) -> Result<Self> {
        check_leaf(position, &block, expected)?;
        Ok(Self { position, block })
    }

    /// Hashes the block at its position, and its path up to the root of its shard; an error unless that is the root. The number
    /// of stripes has to be that of the signed manifest, as the root has.
    pub fn check_path(
        position: BlockPosition,
        block: Bytes,
        path: &[Digest],
        (stripe_count, shard_root): (u64, &Digest),
    ) -> Result<Self> {
        let BlockPosition { object, shard_index, stripe_index } = position;
        let tree_root = walk::<ShardNodes>(leaf(position, &block), stripe_index, stripe_count, path);
        let tree_root = tree_root.map_err(|source| Error::Path { position, source })?;
        let found = bind_shard(tree_root, stripe_count, shard_index, object);
        match found == *shard_root {
            true => Ok(Self { position, block }),
            false => Err(Error::OtherTree { shard_index, expected: *shard_root, found }),
        }
    }

    /// Where it is from.
    pub fn position(&self) -> BlockPosition {
        self.position
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.block
    }

    /// Its bytes, to keep.
    pub fn into_bytes(self) -> Bytes {
        self.block
    }
}

/// That a block at a position has this leaf.
pub(super) fn check_leaf(position: BlockPosition, block: &[u8], expected: &Digest) -> Result<()> {
    let found = leaf(position, block);
    if found == *expected { Ok(()) } else { Err(Error::Block { position, expected: *expected, found }) }
}

#[cfg(test)]
mod tests {
    use super::super::LEAF_CONTEXT;
    use super::*;

    const HERE: BlockPosition = BlockPosition { object: ObjectId([7; 16]), shard_index: 3, stripe_index: 0x0102 };

    #[test]
    fn a_leaf_is_the_hash_that_the_format_says() {
        let mut input = b"block".to_vec();
        input.extend([7; 16]);
        input.push(3);
        input.extend([2, 1, 0, 0, 0, 0, 0, 0]);
        input.extend([5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(leaf(HERE, b"block"), Digest(blake3::derive_key(LEAF_CONTEXT, &input)));
    }

    #[test]
    fn a_block_verifies_at_its_own_position_alone() {
        let block = Bytes::from_static(b"block");
        let expected = leaf(HERE, &block);
        let verified = VerifiedBlock::check(HERE, block.clone(), &expected).expect("its leaf");
        assert_eq!((verified.position(), verified.bytes()), (HERE, &block));
        assert_eq!(verified.into_bytes().as_ptr(), block.as_ptr());
        assert_eq!(HERE.to_string(), format!("block 258 of shard {}.3", "07".repeat(16)));
        for elsewhere in [
            BlockPosition { object: ObjectId([8; 16]), ..HERE },
            BlockPosition { shard_index: 2, ..HERE },
            BlockPosition { stripe_index: 0x0103, ..HERE },
        ] {
            let found = leaf(elsewhere, &block);
            let error = Error::Block { position: elsewhere, expected, found };
            assert_eq!(VerifiedBlock::check(elsewhere, block.clone(), &expected), Err(error));
        }
    }

    #[test]
    fn a_block_that_was_changed_cut_or_lengthened_does_not_verify() {
        let expected = leaf(HERE, b"block");
        for wrong in [&b"clock"[..], b"bloc", b"block\0", b""] {
            assert!(VerifiedBlock::check(HERE, Bytes::copy_from_slice(wrong), &expected).is_err(), "{wrong:?}");
        }
    }
}
