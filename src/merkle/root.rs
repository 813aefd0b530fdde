//! The root of a shard and the root of an object: what each binds.

use super::Result;
use super::error::Error;
use super::hash::{self, ObjectNodes, ShardNodes};
use super::tree::Tree;
use crate::id::{Digest, Geometry, ObjectId};
use serde::{Deserialize, Serialize};

/// What an object root binds beside the shard roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectBinding {
    /// The object.
    pub object: ObjectId,
    /// Its k and n.
    pub geometry: Geometry,
    /// The length of a block of every stripe but the last, in bytes.
    pub block_bytes: u32,
    /// How it is sealed; what the number means is not known here.
    pub seal: u8,
    /// How many stripes it has, and so how many leaves each of its shards.
    pub stripe_count: u64,
    /// The length of its payload in bytes.
    pub payload_bytes: u64,
}

/// A shard's leaves and all nodes above them, to take paths from.
pub struct ShardTree {
    object: ObjectId,
    shard_index: u8,
    leaves: Vec<Digest>,
    tree: Tree<ShardNodes>,
}

impl ShardTree {
    /// The tree over a shard's leaves, in the order of the stripes. Takes about 300 bytes of memory a leaf.
    pub fn new(object: ObjectId, shard_index: u8, leaves: Vec<Digest>) -> Self {
        let tree = Tree::new(&leaves);
        Self { object, shard_index, leaves, tree }
    }

    /// The object.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// Which shard of it.
    pub fn shard_index(&self) -> u8 {
        self.shard_index
    }

    /// The leaves, in the order of the stripes.
    pub fn leaves(&self) -> &[Digest] {
        &self.leaves
    }

    /// The shard root, as [`shard_root`] gives it.
    pub fn root(&self) -> Digest {
        bind_shard(self.tree.root(), self.leaves.len() as u64, self.shard_index, self.object)
    }

    /// The leaf of a stripe and the siblings from it up to the tree's root; `None` if there is no such stripe.
    pub fn path(&self, stripe_index: u64) -> Option<(Digest, Vec<Digest>)> {
        let index = usize::try_from(stripe_index).ok()?;
        Some((*self.leaves.get(index)?, self.tree.path(index)?))
    }
}

/// The root of a shard: H(tree root ‖ leaf count u64 ‖ shard index u8 ‖ object id), over its leaves in the order of
/// the stripes.
pub fn shard_root(object: ObjectId, shard_index: u8, leaves: &[Digest]) -> Digest {
    shard_root_at(object, leaves)(shard_index)
}

/// The root that these leaves give at any index, as [`shard_root`] gives it: the leaves are hashed once for all of them.
pub(crate) fn shard_root_at(object: ObjectId, leaves: &[Digest]) -> impl Fn(u8) -> Digest + use<> {
    let (tree_root, leaf_count) = (Tree::<ShardNodes>::new(leaves).root(), leaves.len() as u64);
    move |shard_index| bind_shard(tree_root, leaf_count, shard_index, object)
}

/// The root of an object: H(tree root ‖ n u8 ‖ k u8 ‖ block bytes u32 ‖ seal u8 ‖ stripes u64 ‖ payload bytes u64 ‖
/// object id), over its shard roots in the order of the shards; an error unless there are n.
pub fn object_root(binding: &ObjectBinding, shard_roots: &[Digest]) -> Result<Digest> {
    Ok(bind_object(object_tree(binding, shard_roots)?.root(), binding))
}

/// The tree over the shard roots; an error unless there are n.
pub(super) fn object_tree(binding: &ObjectBinding, shard_roots: &[Digest]) -> Result<Tree<ObjectNodes>> {
    let tree = Tree::new(shard_roots);
    let (expected, found) = (binding.geometry.total_shards(), tree.leaf_count());
    if found == expected { Ok(tree) } else { Err(Error::ShardRootCount { expected, found }) }
}

/// A shard root from the root of its tree.
pub(super) fn bind_shard(tree_root: Digest, leaf_count: u64, shard_index: u8, object: ObjectId) -> Digest {
    hash::SHARD_ROOT.digest(&[tree_root.as_bytes(), &leaf_count.to_le_bytes(), &[shard_index], object.as_bytes()])
}

/// An object root from the root of its tree.
pub(super) fn bind_object(tree_root: Digest, binding: &ObjectBinding) -> Digest {
    hash::OBJECT_ROOT.digest(&[
        tree_root.as_bytes(),
        // A geometry has n ≤ 255.
        &[binding.geometry.total_shards() as u8, binding.geometry.data_shards() as u8],
        &binding.block_bytes.to_le_bytes(),
        &[binding.seal],
        &binding.stripe_count.to_le_bytes(),
        &binding.payload_bytes.to_le_bytes(),
        binding.object.as_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::{OBJECT_NODE_CONTEXT, OBJECT_ROOT_CONTEXT, SHARD_NODE_CONTEXT, SHARD_ROOT_CONTEXT};
    use super::*;
    use blake3::derive_key;

    const OBJECT: ObjectId = ObjectId([9; 16]);

    fn binding() -> ObjectBinding {
        let geometry = Geometry::new(2, 3).expect("valid");
        ObjectBinding {
            object: OBJECT,
            geometry,
            block_bytes: 0x40000,
            seal: 1,
            stripe_count: 3,
            payload_bytes: 0x0304,
        }
    }

    #[test]
    fn a_shard_root_is_the_hash_that_the_format_says() {
        let [one, two, three] = [[1; 32], [2; 32], [3; 32]];
        let left = derive_key(SHARD_NODE_CONTEXT, &[one, two].concat());
        let mut input = derive_key(SHARD_NODE_CONTEXT, &[left, three].concat()).to_vec();
        input.extend([3, 0, 0, 0, 0, 0, 0, 0, 5]);
        input.extend([9; 16]);
        let expected = Digest(derive_key(SHARD_ROOT_CONTEXT, &input));
        let leaves = [one, two, three].map(Digest);
        assert_eq!(shard_root(OBJECT, 5, &leaves), expected);
        assert_eq!(ShardTree::new(OBJECT, 5, leaves.to_vec()).root(), expected);
    }

    #[test]
    fn an_object_root_is_the_hash_that_the_format_says() {
        let [one, two, three] = [[1; 32], [2; 32], [3; 32]];
        let left = derive_key(OBJECT_NODE_CONTEXT, &[one, two].concat());
        let mut input = derive_key(OBJECT_NODE_CONTEXT, &[left, three].concat()).to_vec();
        input.extend([3, 2, 0, 0, 4, 0, 1]);
        input.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        input.extend([4, 3, 0, 0, 0, 0, 0, 0]);
        input.extend([9; 16]);
        let expected = Digest(derive_key(OBJECT_ROOT_CONTEXT, &input));
        assert_eq!(object_root(&binding(), &[one, two, three].map(Digest)), Ok(expected));
    }

    #[test]
    fn an_object_root_takes_exactly_one_shard_root_per_shard() {
        for found in [0, 1, 2, 4] {
            let error = Error::ShardRootCount { expected: 3, found };
            assert_eq!(object_root(&binding(), &vec![Digest([1; 32]); found]), Err(error));
        }
    }

    #[test]
    fn every_field_of_the_binding_and_the_order_of_shards_changes_the_object_root() {
        let (base, roots) = (binding(), [1, 2, 3].map(|byte| Digest([byte; 32])));
        let expected = object_root(&base, &roots);
        for other in [
            ObjectBinding { object: ObjectId([8; 16]), ..base },
            ObjectBinding { geometry: Geometry::new(1, 3).expect("valid"), ..base },
            ObjectBinding { block_bytes: 0x20000, ..base },
            ObjectBinding { seal: 0, ..base },
            ObjectBinding { stripe_count: 4, ..base },
            ObjectBinding { payload_bytes: 0x0305, ..base },
        ] {
            assert_ne!(object_root(&other, &roots), expected, "{other:?}");
        }
        assert_ne!(object_root(&base, &[roots[1], roots[0], roots[2]]), expected);
    }

    #[test]
    fn a_large_tree_gives_every_path_asked_for() {
        let leaves: Vec<Digest> = (0..5000_u32).map(|i| Digest(*blake3::hash(&i.to_le_bytes()).as_bytes())).collect();
        let tree = ShardTree::new(OBJECT, 0, leaves.clone());
        assert_eq!(tree.root(), shard_root(OBJECT, 0, &leaves));
        assert_eq!((tree.object(), tree.shard_index(), tree.leaves()), (OBJECT, 0, leaves.as_slice()));
        assert_eq!(ShardTree::new(ObjectId([1; 16]), 7, Vec::new()).shard_index(), 7);
        for stripe in [0, 1, 2499, 4095, 4096, 4999] {
            let (leaf, path) = tree.path(stripe).expect("a leaf");
            assert_eq!(leaf, leaves[stripe as usize]);
            assert_eq!(super::super::tree::walk::<ShardNodes>(leaf, stripe, 5000, &path), Ok(tree.tree.root()));
        }
        assert_eq!(tree.path(5000), None);
        assert_eq!(tree.path(u64::MAX), None);
    }
}
