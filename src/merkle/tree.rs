//! Trees as `rs_merkle` builds them, and the walk along a path that trusts nobody.

use super::error::PathError;
use crate::id::Digest;
use rs_merkle::{Hasher, MerkleTree};
use std::iter::successors;

/// The root of a tree without leaves, where `rs_merkle` has none.
const EMPTY_ROOT: Digest = Digest([0; 32]);

/// A tree with all its nodes.
pub(super) struct Tree<H: Hasher<Hash = [u8; 32]>> {
    nodes: MerkleTree<H>,
    leaf_count: usize,
}

impl<H: Hasher<Hash = [u8; 32]>> Tree<H> {
    pub(super) fn new(leaves: &[Digest]) -> Self {
        let hashes: Vec<[u8; 32]> = leaves.iter().map(|leaf| leaf.0).collect();
        Self { nodes: MerkleTree::from_leaves(&hashes), leaf_count: leaves.len() }
    }

    pub(super) fn root(&self) -> Digest {
        self.nodes.root().map_or(EMPTY_ROOT, Digest)
    }

    pub(super) fn leaf_count(&self) -> usize {
        self.leaf_count
    }

    /// The siblings from a leaf up to the root; `None` if there is no such leaf.
    pub(super) fn path(&self, index: usize) -> Option<Vec<Digest>> {
        let exists = index < self.leaf_count;
        exists.then(|| self.nodes.proof(&[index]).proof_hashes().iter().copied().map(Digest).collect())
    }
}

/// The root that a path leads to from a leaf, at an index that exists and by exactly as many nodes as that takes.
///
/// `count` has to be what the root binds. The walk is our own because `rs_merkle`'s takes indexes past the end, wrong
/// counts and nodes left over.
pub(super) fn walk<H: Hasher<Hash = [u8; 32]>>(
    leaf: Digest,
    index: u64,
    count: u64,
    path: &[Digest],
) -> Result<Digest, PathError> {
    if index >= count {
        return Err(PathError::Index { index, count });
    }
    let expected = siblings(index, count).filter(|sibling| *sibling != Sibling::None).count();
    if path.len() != expected {
        return Err(PathError::Length { index, count, expected, found: path.len() });
    }
    let mut path = path.iter();
    let root = siblings(index, count).fold(leaf.0, |node, sibling| match sibling {
        Sibling::None => node,
        Sibling::Left => path.next().map_or(node, |left| H::concat_and_hash(&left.0, Some(&node))),
        Sibling::Right => path.next().map_or(node, |right| H::concat_and_hash(&node, Some(&right.0))),
    });
    Ok(Digest(root))
}

/// On which side of a node its neighbour is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sibling {
    Left,
    Right,
    None,
}

/// The neighbours on the way from a leaf to the root, layer by layer: at most 64 of them.
fn siblings(index: u64, count: u64) -> impl Iterator<Item = Sibling> {
    successors(Some((index, count)), |(index, count)| Some((index / 2, count.div_ceil(2))))
        .take_while(|(_, count)| *count > 1)
        .map(|(index, count)| match index % 2 {
            1 => Sibling::Left,
            _ if index + 1 < count => Sibling::Right,
            _ => Sibling::None,
        })
}

#[cfg(test)]
mod tests {
    use super::super::SHARD_NODE_CONTEXT;
    use super::super::hash::{ObjectNodes, ShardNodes};
    use super::*;

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|index| Digest(*blake3::hash(&index.to_le_bytes()).as_bytes())).collect()
    }

    /// The tree as the module documentation says it, layer by layer.
    fn plain_root(leaves: &[Digest]) -> Digest {
        let mut layer = leaves.to_vec();
        while layer.len() > 1 {
            let join = |pair: &[Digest]| match pair {
                [left, right] => Digest(blake3::derive_key(SHARD_NODE_CONTEXT, &[left.0, right.0].concat())),
                lone => lone[0],
            };
            layer = layer.chunks(2).map(join).collect();
        }
        layer.first().copied().unwrap_or(EMPTY_ROOT)
    }

    #[test]
    fn a_tree_is_what_the_documentation_says_for_every_number_of_leaves() {
        for count in (0..70).chain([255, 256, 257]) {
            let leaves = leaves(count);
            assert_eq!(Tree::<ShardNodes>::new(&leaves).root(), plain_root(&leaves), "{count} leaves");
        }
    }

    #[test]
    fn every_path_leads_to_the_root_and_nowhere_from_another_leaf_or_index() {
        for count in 1..=40 {
            let leaves = leaves(count);
            let tree = Tree::<ShardNodes>::new(&leaves);
            for index in 0..count {
                let (leaf, path) = (leaves[index as usize], tree.path(index as usize).expect("a leaf"));
                assert_eq!(walk::<ShardNodes>(leaf, index, count, &path), Ok(tree.root()));
                let by_library = rs_merkle::MerkleProof::<ShardNodes>::new(path.iter().map(|node| node.0).collect());
                assert!(by_library.verify(tree.root().0, &[index as usize], &[leaf.0], count as usize));
                assert!(count == 1 || walk::<ObjectNodes>(leaf, index, count, &path) != Ok(tree.root()));
                for other in (0..count + 3).filter(|other| *other != index) {
                    assert_ne!(walk::<ShardNodes>(leaf, other, count, &path), Ok(tree.root()));
                }
                assert_ne!(walk::<ShardNodes>(EMPTY_ROOT, index, count, &path), Ok(tree.root()));
            }
            assert_eq!(tree.path(count as usize), None);
        }
    }

    #[test]
    fn a_walk_is_bounded_even_at_the_largest_count() {
        let (index, count) = (u64::MAX - 1, u64::MAX);
        let error = walk::<ShardNodes>(EMPTY_ROOT, 0, count, &[]);
        assert_eq!(error, Err(PathError::Length { index: 0, count, expected: 64, found: 0 }));
        assert!(siblings(index, count).count() == 64);
        assert_eq!(walk::<ShardNodes>(EMPTY_ROOT, count, count, &[]), Err(PathError::Index { index: count, count }));
    }
}
