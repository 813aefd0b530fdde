//! One hash per purpose: BLAKE3 in key-derivation mode, so that no input of one purpose collides with another's.

use crate::id::Digest;
use std::sync::LazyLock;

/// The context of a block's leaf.
pub const LEAF_CONTEXT: &str = "shard 2026-11 v1 merkle leaf";
/// The context of an inner node of a shard tree.
pub const SHARD_NODE_CONTEXT: &str = "shard 2026-11 v1 merkle shard node";
/// The context of a shard root.
pub const SHARD_ROOT_CONTEXT: &str = "shard 2026-11 v1 merkle shard root";
/// The context of an inner node of an object tree.
pub const OBJECT_NODE_CONTEXT: &str = "shard 2026-11 v1 merkle object node";
/// The context of an object root.
pub const OBJECT_ROOT_CONTEXT: &str = "shard 2026-11 v1 merkle object root";
/// The context in which a seed becomes the positions of a challenge.
const CHALLENGE_CONTEXT: &str = "shard 2026-11 v1 merkle challenge";

/// A purpose's hash; the key of its context is derived once.
pub(super) struct Purpose(LazyLock<blake3::Hasher>);

pub(super) static LEAF: Purpose = Purpose(LazyLock::new(|| blake3::Hasher::new_derive_key(LEAF_CONTEXT)));
pub(super) static SHARD_ROOT: Purpose = Purpose(LazyLock::new(|| blake3::Hasher::new_derive_key(SHARD_ROOT_CONTEXT)));
pub(super) static OBJECT_ROOT: Purpose = Purpose(LazyLock::new(|| blake3::Hasher::new_derive_key(OBJECT_ROOT_CONTEXT)));
pub(super) static CHALLENGE: Purpose = Purpose(LazyLock::new(|| blake3::Hasher::new_derive_key(CHALLENGE_CONTEXT)));
static SHARD_NODE: Purpose = Purpose(LazyLock::new(|| blake3::Hasher::new_derive_key(SHARD_NODE_CONTEXT)));
static OBJECT_NODE: Purpose = Purpose(LazyLock::new(|| blake3::Hasher::new_derive_key(OBJECT_NODE_CONTEXT)));

impl Purpose {
    /// The hash of the parts, one after another.
    pub(super) fn digest(&self, parts: &[&[u8]]) -> Digest {
        Digest(*self.absorb(parts).finalize().as_bytes())
    }

    /// As many bytes as are wanted, determined by the parts.
    pub(super) fn stream(&self, parts: &[&[u8]]) -> blake3::OutputReader {
        self.absorb(parts).finalize_xof()
    }

    fn absorb(&self, parts: &[&[u8]]) -> blake3::Hasher {
        let mut hasher = (*self.0).clone();
        parts.iter().for_each(|part| {
            hasher.update(part);
        });
        hasher
    }
}

/// How the nodes of a shard tree are hashed.
#[derive(Clone)]
pub(super) struct ShardNodes;

/// How the nodes of an object tree are hashed.
#[derive(Clone)]
pub(super) struct ObjectNodes;

macro_rules! node_hasher {
    ($nodes:ty, $purpose:ident) => {
        impl rs_merkle::Hasher for $nodes {
            type Hash = [u8; 32];

            fn hash(data: &[u8]) -> [u8; 32] {
                $purpose.digest(&[data]).0
            }

            /// Without the three vectors per node of the default; a lone left node moves up unchanged, as there.
            fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
                match right {
                    Some(right) => $purpose.digest(&[left, right]).0,
                    None => *left,
                }
            }
        }
    };
}

node_hasher!(ShardNodes, SHARD_NODE);
node_hasher!(ObjectNodes, OBJECT_NODE);
