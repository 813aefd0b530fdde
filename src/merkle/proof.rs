//! A proof that a shard or a block belongs to an object, checked with nothing but the object root.

use super::block::{BlockPosition, check_leaf};
use super::error::{Error, ProofError};
use super::hash::{ObjectNodes, ShardNodes};
use super::root::{ObjectBinding, ShardTree, bind_object, bind_shard, object_tree};
use super::tree::walk;
use crate::id::Digest;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// A proof as JSON is at most this many bytes: twice what the longest paths there are take.
pub const MAX_PROOF_BYTES: usize = 16 * 1024;
/// A path has at most this many nodes: a tree has at most 2^64 leaves.
pub const MAX_PATH_NODES: usize = 64;
/// What the JSON calls itself.
pub(super) const SCHEMA: &str = "shard.proof/1";

/// Proves that a whole shard, or one block of it, is the one that an object root binds.
///
/// It carries everything but the root: what the root binds, indexes, hashes and the paths between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerkleProof {
    schema: Schema,
    binding: ObjectBinding,
    shard_index: u8,
    shard_path: Path,
    claim: Claim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "shard.proof/1")]
    V1,
}

/// What is proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Claim {
    /// That the shard has this root.
    Shard { root: Digest },
    /// That the shard has this leaf at this stripe.
    Block { stripe_index: u64, leaf: Digest, path: Path },
}

/// The siblings on the way up, at most [`MAX_PATH_NODES`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
struct Path(Vec<Digest>);

impl MerkleProof {
    /// That the shard of this index has the root that `shard_roots`, all n of them, say.
    pub fn of_shard(binding: ObjectBinding, shard_index: u8, shard_roots: &[Digest]) -> Result<Self, Error> {
        let tree = object_tree(&binding, shard_roots)?;
        let index = usize::from(shard_index);
        let (Some(root), Some(path)) = (shard_roots.get(index).copied(), tree.path(index)) else {
            return Err(Error::NoSuchShard { shard_index, total_shards: shard_roots.len() });
        };
        Ok(Self { schema: Schema::V1, binding, shard_index, shard_path: Path(path), claim: Claim::Shard { root } })
    }

    /// That the block of this stripe has the leaf that the tree of its shard says; `shard_roots` are all n of the
    /// object. An error unless the tree is the one of which they have the root.
    pub fn of_block(
        binding: ObjectBinding,
        shard_roots: &[Digest],
        tree: &ShardTree,
        stripe_index: u64,
    ) -> Result<Self, Error> {
        let shard_index = tree.shard_index();
        let shard = Self::of_shard(binding, shard_index, shard_roots)?;
        let (expected, found) = (shard_roots[usize::from(shard_index)], tree.root());
        if found != expected {
            return Err(Error::OtherTree { shard_index, expected, found });
        }
        let (leaf_count, stripe_count) = (tree.leaves().len() as u64, binding.stripe_count);
        if leaf_count != stripe_count {
            return Err(Error::LeafCount { shard_index, leaf_count, stripe_count });
        }
        let (leaf, path) = tree.path(stripe_index).ok_or(Error::NoSuchStripe { stripe_index, stripe_count })?;
        Ok(Self { claim: Claim::Block { stripe_index, leaf, path: Path(path) }, ..shard })
    }

    /// Reads a proof; whatever is not exactly one is refused. It proves nothing before it was verified.
    pub fn from_json(json: &[u8]) -> Result<Self, ProofError> {
        if json.len() > MAX_PROOF_BYTES {
            return Err(ProofError::TooLarge { bytes: json.len() });
        }
        serde_json::from_slice(json).map_err(|error| ProofError::Json { reason: error.to_string() })
    }

    /// The proof as JSON on one line; ids and hashes are hex strings.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names are strings and nothing in it fails to serialize")
    }

    /// What the proof says the root binds.
    pub fn binding(&self) -> &ObjectBinding {
        &self.binding
    }

    /// Which shard it is about.
    pub fn shard_index(&self) -> u8 {
        self.shard_index
    }

    /// Which block it is about; `None` when it is about a whole shard.
    pub fn position(&self) -> Option<BlockPosition> {
        let Claim::Block { stripe_index, .. } = self.claim else { return None };
        Some(BlockPosition { object: self.binding.object, shard_index: self.shard_index, stripe_index })
    }

    /// That the proof leads to this object root. After it, everything the proof says is true of that object.
    pub fn verify(&self, root: &Digest) -> Result<(), ProofError> {
        let total_shards = self.binding.geometry.total_shards() as u64;
        let (shard_root, index) = (self.shard_root()?, u64::from(self.shard_index));
        let tree_root =
            walk::<ObjectNodes>(shard_root, index, total_shards, &self.shard_path.0).map_err(ProofError::ObjectPath)?;
        let found = bind_object(tree_root, &self.binding);
        if found == *root { Ok(()) } else { Err(ProofError::Root { expected: *root, found }) }
    }

    /// That the proof leads to this object root and that these are the bytes of the block it is about.
    pub fn verify_block(&self, root: &Digest, block: &[u8]) -> Result<(), ProofError> {
        self.verify(root)?;
        match (&self.claim, self.position()) {
            (Claim::Block { leaf, .. }, Some(position)) => check_leaf(position, block, leaf).map_err(ProofError::Block),
            _ => Err(ProofError::NotABlock { shard_index: self.shard_index }),
        }
    }

    /// The shard root that the claim is, or that its path leads to. It is the object's only after [`Self::verify`].
    pub fn shard_root(&self) -> Result<Digest, ProofError> {
        let ObjectBinding { object, stripe_count, .. } = self.binding;
        match &self.claim {
            Claim::Shard { root } => Ok(*root),
            Claim::Block { stripe_index, leaf, path } => {
                let tree_root = walk::<ShardNodes>(*leaf, *stripe_index, stripe_count, &path.0);
                let tree_root = tree_root.map_err(ProofError::ShardPath)?;
                Ok(bind_shard(tree_root, stripe_count, self.shard_index, object))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Nodes;

        impl<'de> Visitor<'de> for Nodes {
            type Value = Path;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_PATH_NODES} hashes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut nodes: A) -> Result<Path, A::Error> {
                let mut path = Vec::new();
                while let Some(node) = nodes.next_element()? {
                    if path.len() == MAX_PATH_NODES {
                        return Err(serde::de::Error::invalid_length(MAX_PATH_NODES + 1, &self));
                    }
                    path.push(node);
                }
                Ok(Path(path))
            }
        }

        deserializer.deserialize_seq(Nodes)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{leaf, object_root};
    use super::*;
    use crate::id::{Geometry, ObjectId};
    use proptest::prelude::*;

    /// A whole object of small blocks, with its trees and its root.
    pub(in crate::merkle) struct SampleObject {
        pub(in crate::merkle) binding: ObjectBinding,
        pub(in crate::merkle) trees: Vec<ShardTree>,
        pub(in crate::merkle) shard_roots: Vec<Digest>,
        pub(in crate::merkle) root: Digest,
    }

    impl SampleObject {
        pub(in crate::merkle) fn new(total_shards: usize, stripe_count: u64) -> Self {
            let (object, geometry) = (ObjectId([0xAB; 16]), Geometry::new(1, total_shards).expect("valid"));
            let payload_bytes = stripe_count * 10;
            let binding = ObjectBinding { object, geometry, block_bytes: 10, seal: 0, stripe_count, payload_bytes };
            let leaves = |shard_index| {
                let at = |stripe_index| BlockPosition { object, shard_index, stripe_index };
                (0..stripe_count).map(|stripe| leaf(at(stripe), &Self::block(shard_index, stripe))).collect()
            };
            let trees: Vec<_> =
                geometry.shard_indexes().map(|index| ShardTree::new(object, index, leaves(index))).collect();
            let shard_roots: Vec<_> = trees.iter().map(ShardTree::root).collect();
            let root = object_root(&binding, &shard_roots).expect("n roots");
            Self { binding, trees, shard_roots, root }
        }

        pub(in crate::merkle) fn block(shard_index: u8, stripe_index: u64) -> Vec<u8> {
            format!("{shard_index}/{stripe_index}").into_bytes()
        }

        pub(in crate::merkle) fn prove(&self, shard_index: u8, stripe_index: u64) -> MerkleProof {
            let tree = &self.trees[usize::from(shard_index)];
            MerkleProof::of_block(self.binding, &self.shard_roots, tree, stripe_index).expect("there is such a block")
        }

        fn prove_shard(&self, shard_index: u8) -> MerkleProof {
            MerkleProof::of_shard(self.binding, shard_index, &self.shard_roots).expect("there is such a shard")
        }
    }

    #[test]
    fn a_proof_is_json_that_reads_back_and_says_its_schema() {
        let object = SampleObject::new(3, 5);
        for proof in [object.prove(2, 4), object.prove_shard(1)] {
            let json = proof.to_json();
            assert!(json.starts_with(r#"{"schema":"shard.proof/1","binding":{"object":"abab"#), "{json}");
            assert_eq!(MerkleProof::from_json(json.as_bytes()), Ok(proof));
        }
    }

    #[test]
    fn a_proof_of_a_whole_shard_verifies_and_proves_no_block() {
        let object = SampleObject::new(4, 3);
        for index in 0..4 {
            let proof = object.prove_shard(index);
            assert_eq!((proof.shard_index(), proof.position()), (index, None));
            assert_eq!(proof.verify(&object.root), Ok(()));
            let error = ProofError::NotABlock { shard_index: index };
            assert_eq!(proof.verify_block(&object.root, &SampleObject::block(index, 0)), Err(error));
        }
    }

    #[test]
    fn what_is_not_there_cannot_be_proved() {
        let object = SampleObject::new(3, 5);
        let (binding, roots) = (object.binding, &object.shard_roots);
        let no_shard = Error::NoSuchShard { shard_index: 3, total_shards: 3 };
        assert_eq!(MerkleProof::of_shard(binding, 3, roots), Err(no_shard));
        let no_stripe = Error::NoSuchStripe { stripe_index: 5, stripe_count: 5 };
        assert_eq!(MerkleProof::of_block(binding, roots, &object.trees[0], 5), Err(no_stripe));
        let fewer = Error::ShardRootCount { expected: 3, found: 2 };
        assert_eq!(MerkleProof::of_block(binding, &roots[..2], &object.trees[0], 0), Err(fewer));
        let other = SampleObject::new(3, 4);
        let other_tree = Error::OtherTree { shard_index: 0, expected: roots[0], found: other.shard_roots[0] };
        assert_eq!(MerkleProof::of_block(binding, roots, &other.trees[0], 0), Err(other_tree));
        let uneven = ObjectBinding { stripe_count: 6, ..binding };
        let leaf_count = Error::LeafCount { shard_index: 0, leaf_count: 5, stripe_count: 6 };
        assert_eq!(MerkleProof::of_block(uneven, roots, &object.trees[0], 0), Err(leaf_count));
    }

    #[test]
    fn a_flip_of_any_bit_of_a_proof_is_noticed() {
        let object = SampleObject::new(5, 11);
        for proof in [object.prove(3, 6), object.prove(4, 10), object.prove_shard(4)] {
            let json = proof.to_json().into_bytes();
            for bit in 0..json.len() * 8 {
                let mut flipped = json.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let verified = MerkleProof::from_json(&flipped).and_then(|proof| proof.verify(&object.root));
                assert!(verified.is_err(), "{}", String::from_utf8_lossy(&flipped));
            }
        }
    }

    #[test]
    fn json_with_anything_missing_twice_unknown_or_trailing_is_refused() {
        let json = SampleObject::new(3, 5).prove(2, 4).to_json();
        for wrong in [
            json.replace("proof/1", "proof/2"),
            json.replace(r#""shard_index":2,"#, ""),
            json.replace(r#""shard_index":2,"#, r#""shard_index":2,"shard_index":2,"#),
            json.replace(r#""shard_index":2,"#, r#""shard_index":[0,1,1],"#),
            json.replace(r#""shard_index":2,"#, r#""shard_index":2,"leaf_count":5,"#),
            json.replace(r#""stripe_index":4,"#, r#""stripe_index":4,"count":5,"#),
            json.replace(r#""stripe_index":4,"#, r#""stripe_index":-4,"#),
            json.replace("abab", "ABAB"),
            json.replace(r#""data_shards":1"#, r#""data_shards":3"#),
            format!("{json}{json}"),
            json[..json.len() - 1].to_owned(),
            String::new(),
        ] {
            assert!(matches!(MerkleProof::from_json(wrong.as_bytes()), Err(ProofError::Json { .. })), "{wrong}");
        }
    }

    #[test]
    fn json_beyond_the_limits_is_refused_before_it_takes_memory() {
        let too_large = vec![b' '; MAX_PROOF_BYTES + 1];
        assert_eq!(MerkleProof::from_json(&too_large), Err(ProofError::TooLarge { bytes: MAX_PROOF_BYTES + 1 }));
        let mut proof = SampleObject::new(3, 5).prove_shard(1);
        let mut largest = proof.to_json().into_bytes();
        largest.resize(MAX_PROOF_BYTES, b' ');
        assert_eq!(MerkleProof::from_json(&largest).as_ref(), Ok(&proof));
        proof.shard_path = Path(vec![Digest([0; 32]); MAX_PATH_NODES]);
        assert!(MerkleProof::from_json(proof.to_json().as_bytes()).is_ok());
        proof.shard_path.0.push(Digest([0; 32]));
        let refused = MerkleProof::from_json(proof.to_json().as_bytes());
        let Err(ProofError::Json { reason }) = refused else { unreachable!("{refused:?}") };
        assert!(reason.starts_with("invalid length 65, expected at most 64 hashes"), "{reason}");
    }

    #[test]
    fn the_longest_proof_there_is_fits_the_limit() {
        let mut proof = SampleObject::new(255, 1).prove(0, 0);
        let binding = ObjectBinding {
            geometry: Geometry::new(254, 255).expect("valid"),
            block_bytes: u32::MAX,
            seal: u8::MAX,
            stripe_count: u64::MAX,
            payload_bytes: u64::MAX,
            ..proof.binding
        };
        let path = Path(vec![Digest([0; 32]); MAX_PATH_NODES]);
        proof = MerkleProof {
            binding,
            claim: Claim::Block { stripe_index: u64::MAX, leaf: Digest([0; 32]), path: path.clone() },
            shard_path: path,
            ..proof
        };
        assert!(proof.to_json().len() <= MAX_PROOF_BYTES);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_block_of_an_object_has_a_proof_that_holds_for_its_bytes_alone(
            total_shards in prop_oneof![9 => 2_usize..12, 1 => Just(255)], stripe_count in 1_u64..24,
        ) {
            let object = SampleObject::new(total_shards, stripe_count);
            let other_root = SampleObject::new(total_shards, stripe_count + 1).root;
            for shard_index in object.binding.geometry.shard_indexes() {
                for stripe_index in 0..stripe_count {
                    let proof = object.prove(shard_index, stripe_index);
                    let block = SampleObject::block(shard_index, stripe_index);
                    prop_assert_eq!(proof.verify_block(&object.root, &block), Ok(()));
                    let foreign = SampleObject::block(shard_index, stripe_index + 1);
                    prop_assert!(matches!(proof.verify_block(&object.root, &foreign), Err(ProofError::Block(_))));
                    prop_assert!(proof.verify_block(&other_root, &block).is_err());
                }
            }
        }

        #[test]
        fn any_changed_field_of_a_proof_is_noticed(
            total_shards in 2_usize..12, stripe_count in 1_u64..24, field in 0..10, change in 1..=u8::MAX, at: u64,
        ) {
            let object = SampleObject::new(total_shards, stripe_count);
            let (shard, stripe) = (at as usize % total_shards, at % stripe_count);
            let mut proof = object.prove(shard as u8, stripe);
            let Claim::Block { stripe_index, leaf, path } = &mut proof.claim else { unreachable!("a block's proof") };
            match field {
                0 => proof.binding.object.0[at as usize % 16] ^= change,
                1 => proof.binding.geometry = Geometry::new(2, 250).expect("valid"),
                2 => proof.binding.block_bytes ^= u32::from(change),
                3 => proof.binding.seal ^= change,
                4 => proof.binding.stripe_count ^= u64::from(change),
                5 => proof.binding.payload_bytes ^= u64::from(change) << 50,
                6 => proof.shard_index ^= change,
                7 => *stripe_index ^= u64::from(change),
                8 => leaf.0[at as usize % 32] ^= change,
                _ => match path.0.first_mut() {
                    Some(node) => node.0[at as usize % 32] ^= change,
                    None => path.0.push(Digest([change; 32])),
                },
            }
            prop_assert!(proof.verify(&object.root).is_err());
        }
    }
}
