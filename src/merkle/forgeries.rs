//! What `rs_merkle` 1.5 takes for a proof and is none: each shown to pass there, and to be refused here.

use super::hash::ShardNodes;
use super::proof::MerkleProof;
use super::proof::tests::SampleObject;
use super::{PathError, ProofError, leaf, object_root, shard_root};
use crate::id::Digest;
use rs_merkle::Hasher;
use serde_json::{Value, json};

type LibraryProof = rs_merkle::MerkleProof<ShardNodes>;
type LibraryTree = rs_merkle::MerkleTree<ShardNodes>;

const FORGED: [u8; 32] = [0xEE; 32];

fn leaves(count: u64) -> Vec<[u8; 32]> {
    let object = SampleObject::new(2, count);
    object.trees[0].leaves().iter().map(|leaf| leaf.0).collect()
}

/// The proof that the tree itself gives for one leaf.
fn library_path(leaves: &[[u8; 32]], index: usize) -> Vec<[u8; 32]> {
    LibraryTree::from_leaves(leaves).proof(&[index]).proof_hashes().to_vec()
}

fn library_root(leaves: &[[u8; 32]]) -> [u8; 32] {
    LibraryTree::from_leaves(leaves).root().expect("it has leaves")
}

/// What our check says of block 0 of shard 0 when its proof was changed on the way.
fn check_changed(object: &SampleObject, change: impl FnOnce(&mut Value)) -> Result<(), ProofError> {
    let mut json: Value = serde_json::from_str(&object.prove(0, 0).to_json()).expect("JSON");
    change(&mut json);
    let proof = MerkleProof::from_json(json.to_string().as_bytes())?;
    proof.verify_block(&object.root, &SampleObject::block(0, 0))
}

#[test]
fn an_unchanged_proof_passes_so_that_the_changes_are_what_fails() {
    assert_eq!(check_changed(&SampleObject::new(2, 6), |_| ()), Ok(()));
}

#[test]
fn forgery_1_an_index_that_comes_twice_carries_no_forged_leaf() {
    let leaves = leaves(4);
    let proof = LibraryTree::from_leaves(&leaves).proof(&[0, 1]);
    let claimed = [leaves[0], leaves[1], FORGED];
    assert!(proof.verify(library_root(&leaves), &[0, 1, 1], &claimed, 4), "rs_merkle takes it");

    // A proof here has one index and one leaf; a list of them is not even read.
    let several = check_changed(&SampleObject::new(2, 4), |json| {
        json["claim"]["block"]["stripe_index"] = json!([0, 1, 1]);
        json["claim"]["block"]["leaf"] = json!([hex::encode(leaves[0]), hex::encode(leaves[1]), hex::encode(FORGED)]);
    });
    assert!(matches!(several, Err(ProofError::Json { .. })));
}

#[test]
fn forgery_2_an_index_past_the_end_is_refused() {
    let leaves = leaves(6);
    let proof = LibraryProof::new(library_path(&leaves, 0));
    assert!(proof.verify(library_root(&leaves), &[8], &[leaves[0]], 6), "rs_merkle takes it");

    let past = check_changed(&SampleObject::new(2, 6), |json| json["claim"]["block"]["stripe_index"] = json!(8));
    assert_eq!(past, Err(ProofError::ShardPath(PathError::Index { index: 8, count: 6 })));
    let past = check_changed(&SampleObject::new(2, 6), |json| json["shard_index"] = json!(2));
    assert_eq!(past, Err(ProofError::ObjectPath(PathError::Index { index: 2, count: 2 })));
}

#[test]
fn forgery_3_a_leaf_count_that_is_too_small_is_refused() {
    let leaves = leaves(6);
    let proof = LibraryProof::new(library_path(&leaves, 0));
    assert!(proof.verify(library_root(&leaves), &[0], &[leaves[0]], 5), "rs_merkle takes it");

    let fewer = check_changed(&SampleObject::new(2, 6), |json| json["binding"]["stripe_count"] = json!(5));
    assert!(matches!(fewer, Err(ProofError::Root { .. })));
}

#[test]
fn forgery_4_a_leaf_count_that_is_too_large_is_refused() {
    let leaves = leaves(6);
    let proof = LibraryProof::new(library_path(&leaves, 0));
    for count in [7, 8] {
        assert!(proof.verify(library_root(&leaves), &[0], &[leaves[0]], count), "rs_merkle takes it");
        let more = check_changed(&SampleObject::new(2, 6), |json| json["binding"]["stripe_count"] = json!(count));
        assert!(matches!(more, Err(ProofError::Root { .. })));
    }
}

#[test]
fn forgery_5_nodes_left_over_are_refused() {
    let leaves = leaves(6);
    let mut path = library_path(&leaves, 0);
    path.push(FORGED);
    assert!(LibraryProof::new(path).verify(library_root(&leaves), &[0], &[leaves[0]], 6), "rs_merkle takes it");

    let object = SampleObject::new(2, 6);
    let trailing = |path: &mut Value| path.as_array_mut().expect("a list").push(json!(hex::encode(FORGED)));
    let in_shard = check_changed(&object, |json| trailing(&mut json["claim"]["block"]["path"]));
    let length = PathError::Length { index: 0, count: 6, expected: 3, found: 4 };
    assert_eq!(in_shard, Err(ProofError::ShardPath(length)));
    let in_object = check_changed(&object, |json| trailing(&mut json["shard_path"]));
    let length = PathError::Length { index: 0, count: 2, expected: 1, found: 2 };
    assert_eq!(in_object, Err(ProofError::ObjectPath(length)));
}

#[test]
fn forgery_6_an_inner_node_is_never_taken_for_a_leaf() {
    let leaves = leaves(4);
    let left = ShardNodes::concat_and_hash(&leaves[0], Some(&leaves[1]));
    let right = ShardNodes::concat_and_hash(&leaves[2], Some(&leaves[3]));
    assert!(LibraryProof::new(vec![right]).verify(library_root(&leaves), &[0], &[left], 2), "rs_merkle takes it");

    let object = SampleObject::new(2, 4);
    let as_leaf = |json: &mut Value| {
        json["claim"]["block"]["leaf"] = json!(hex::encode(left));
        json["claim"]["block"]["path"] = json!([hex::encode(right)]);
    };
    let length = PathError::Length { index: 0, count: 4, expected: 2, found: 1 };
    assert_eq!(check_changed(&object, as_leaf), Err(ProofError::ShardPath(length)));
    let with_count = check_changed(&object, |json| {
        as_leaf(json);
        json["binding"]["stripe_count"] = json!(2);
    });
    assert!(matches!(with_count, Err(ProofError::Root { .. })));
    // Nor is there a block whose leaf is the node above two others: the contexts differ.
    let position = object.prove(0, 0).position().expect("a block");
    assert_ne!(leaf(position, &[leaves[0], leaves[1]].concat()).0, left);
    assert_ne!(ShardNodes::hash(&[leaves[0], leaves[1]].concat()), *blake3::hash(&leaves[..2].concat()).as_bytes());
}

#[test]
fn forgery_7_an_empty_tree_has_a_root_that_proves_nothing() {
    let mut uncommitted = LibraryTree::new();
    uncommitted.insert(FORGED);
    assert_eq!((LibraryTree::from_leaves(&[]).root(), uncommitted.root()), (None, None), "rs_merkle has no root");

    let object = SampleObject::new(2, 6);
    let empty = super::ObjectBinding { stripe_count: 0, ..object.binding };
    let shard_roots = [0, 1].map(|index| shard_root(empty.object, index, &[]));
    assert_ne!(shard_roots[0], shard_root(empty.object, 0, &[Digest([0; 32])]), "the leaf count is bound");
    let root = object_root(&empty, &shard_roots).expect("two roots");
    let mut json: Value = serde_json::from_str(&object.prove(0, 0).to_json()).expect("JSON");
    json["binding"]["stripe_count"] = json!(0);
    json["claim"]["block"]["leaf"] = json!(hex::encode([0; 32]));
    json["claim"]["block"]["path"] = json!([]);
    json["shard_path"] = json!([shard_roots[1]]);
    let proof = MerkleProof::from_json(json.to_string().as_bytes()).expect("well-formed");
    assert_eq!(proof.verify(&root), Err(ProofError::ShardPath(PathError::Index { index: 0, count: 0 })));
}

#[test]
fn a_path_that_was_cut_is_refused() {
    let object = SampleObject::new(2, 6);
    let cut = check_changed(&object, |json| {
        json["claim"]["block"]["path"].as_array_mut().expect("a list").pop();
    });
    let length = PathError::Length { index: 0, count: 6, expected: 3, found: 2 };
    assert_eq!(cut, Err(ProofError::ShardPath(length)));
    let cut = check_changed(&object, |json| json["shard_path"] = json!([]));
    let length = PathError::Length { index: 0, count: 2, expected: 1, found: 0 };
    assert_eq!(cut, Err(ProofError::ObjectPath(length)));
}
