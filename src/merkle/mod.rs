//! Hash trees over blocks and shards, and proofs that need nothing but the object root.
//!
//! *What it is.* The leaf of a block, the root of a shard, the root of an object; [`VerifiedBlock`], bytes that were
//! checked against a leaf; [`MerkleProof`], self-contained as JSON; [`Challenge`], by which a holder shows that it
//! still has what it should; [`BlockSpans`] and [`leaf_paths`], which let a holder do so that knows no format. `rs_merkle`
//! builds the trees, and is named nowhere else.
//!
//! *What it knows.* Hashes, positions of blocks, and what of an object its root binds.
//!
//! *What it does not know.* Where blocks and roots come from, who signed a root, what a seal means (it is a byte that
//! is bound), how to repair. No files, no clock, no randomness: the seed of a challenge is an argument.
//!
//! *Invariants.* Every purpose hashes under a context of its own, so that a leaf is never a node, nor a node of one
//! tree a node of the other. Leaf counts come from what the root binds, never from whoever brings a proof. A path has
//! exactly the length that index and count ask for, and anything else is refused before it is hashed.
//!
//! ```text
//!                    object root = H(object tree ‖ n ‖ k ‖ block bytes ‖ seal ‖ stripes ‖ payload bytes ‖ object id)
//!                   /            \
//!         shard root 0    …    shard root n−1 = H(shard tree ‖ leaf count ‖ shard index ‖ object id)
//!                             /             \
//!                         leaf 0     …     leaf s−1 = H(block ‖ object id ‖ shard index ‖ stripe index ‖ length)
//! ```
//!
//! # The trees, exactly
//!
//! Integers are little-endian. H is BLAKE3 in key-derivation mode with the context of the purpose: [`LEAF_CONTEXT`],
//! [`SHARD_NODE_CONTEXT`], [`SHARD_ROOT_CONTEXT`], [`OBJECT_NODE_CONTEXT`], [`OBJECT_ROOT_CONTEXT`].
//!
//! A layer becomes the layer above it by joining neighbours, from the left: node = H(left ‖ right). A last one that
//! has no neighbour moves up unchanged. One node left is the tree's root, so a tree of one leaf has that leaf as its
//! root, and a tree of no leaves has 32 zero bytes. Neither is taken for anything else, because shard root and object
//! root bind the counts.

mod block;
mod challenge;
mod error;
#[cfg(test)]
mod forgeries;
mod hash;
mod proof;
mod root;
mod spans;
mod tree;

pub use block::{BlockPosition, VerifiedBlock, leaf};
pub use challenge::{
    Answer, AnswerOutcome, Challenge, ChallengeReport, MAX_CHALLENGE_BLOCKS, Response, detection_confidence,
};
pub use error::{Error, PathError, ProofError};
pub use hash::{LEAF_CONTEXT, OBJECT_NODE_CONTEXT, OBJECT_ROOT_CONTEXT, SHARD_NODE_CONTEXT, SHARD_ROOT_CONTEXT};
pub use proof::{MAX_PATH_NODES, MAX_PROOF_BYTES, MerkleProof};
pub(crate) use root::shard_root_at;
pub use root::{ObjectBinding, ShardTree, object_root, shard_root};
pub use spans::{BlockSpans, leaf_paths};

/// What hashing and proving give.
pub type Result<T, E = Error> = std::result::Result<T, E>;
