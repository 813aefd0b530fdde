//! What the public part of a removal says is gone, and who may say so.

use super::super::manifest::MAX_REMOVED_OBJECTS;
use super::*;
use crate::crypto::{Certificate, DataKey, Keyring, Role, split_secret};

fn objects(count: usize) -> Vec<ObjectId> {
    (0..count as u128).map(|number| ObjectId(number.to_be_bytes())).collect()
}

fn removing(removes: Vec<ObjectId>) -> ManifestDraft {
    ManifestDraft { kind: ObjectKind::Removal, removes, ..draft(100) }
}

fn sign(draft: ManifestDraft) -> Result<Manifest, ManifestError> {
    Manifest::sign(draft, PartSealer::Nobody, &key().signer())
}

/// A removal of these objects, as its index says it.
fn index_of(removed: &[ObjectId]) -> Index {
    let objects = removed.iter().map(|object| RemovedObject { object: *object, shards: Vec::new() }).collect();
    Index { removal: Some(Removal { versions: Vec::new(), objects }), ..Index::default() }
}

#[test]
fn what_a_removal_removes_stands_in_its_public_part_and_is_read_back_without_a_key() {
    for count in [0, 1, 2, MAX_REMOVED_OBJECTS] {
        let manifest = sign(removing(objects(count))).expect("a manifest");
        let public = ManifestBytes { sealed: Vec::new(), ..manifest.bytes().clone() };
        let read = Manifest::open_public(public, &key().store_id()).expect("signed");
        assert_eq!((read.kind(), read.removes()), (ObjectKind::Removal, objects(count).as_slice()));
        let text = String::from_utf8(manifest.bytes().public.clone()).expect("text");
        assert_eq!(text.contains("\"removes\":["), count > 0, "an empty list is left out");
    }
}

#[test]
fn only_a_removal_removes_and_no_more_than_a_public_part_can_hold() {
    let too_many = removing(objects(MAX_REMOVED_OBJECTS + 1));
    let data = ManifestDraft { removes: objects(1), ..draft(100) };
    for wrong in [too_many, data] {
        assert!(matches!(sign(wrong), Err(ManifestError::Contradiction)));
    }
    for wrong in [json!([1]), json!(["00"]), json!("00"), json!(null)] {
        let changed = resigned(|public| {
            public["kind"] = json!("removal");
            public["removes"] = wrong.clone();
        });
        assert!(matches!(open(&changed), Err(ManifestError::Json(_))), "{wrong}");
    }
}

#[test]
fn the_widest_removal_there_is_stays_within_the_limit_of_a_public_part() {
    let geometry = Geometry::new(254, 255).expect("a geometry");
    let shape = StripeShape::new(geometry, geometry.block_bytes(), 16).expect("a shape");
    let layout = Layout::new(shape, shape.max_payload_bytes()).expect("a layout");
    // A later key of the store, which its first vouches for.
    let keys = Keyring::from_keys(vec![key(), MasterKey::from_bytes([8; 32])]).expect("a keyring");
    let sealed = SealedPart {
        index_offset: layout.payload_bytes() - 2,
        index_bytes: 2,
        created_ns: i64::MIN,
        data_key: Some(DataKey::from_bytes([1; 32])),
    };
    let draft = ManifestDraft {
        layout,
        seal: Seal::Dispersed,
        shard_roots: vec![Digest([255; 32]); 255],
        share_digests: vec![Digest([255; 32]); 255],
        sealed,
        ..removing(objects(MAX_REMOVED_OBJECTS))
    };
    let random = vec![[7; 32]; 253];
    let (secret, _) = split_secret(geometry, [6; 32], &random).expect("a secret");
    let widest = Manifest::sign(draft, PartSealer::Shared(&secret), &keys.signer()).expect("a manifest");
    assert!(widest.bytes().public.len() as u64 <= MAX_PUBLIC_BYTES, "{}", widest.bytes().public.len());
    assert!(String::from_utf8_lossy(&widest.bytes().public).contains("\"certificate\""));
}

#[test]
fn a_removal_that_a_mere_writer_signed_removes_nothing() {
    let writer = MasterKey::from_bytes([8; 32]).signer();
    let as_signer = |role: Role| {
        let certificate = Certificate::issue(&key().signer(), writer.public_key(), role);
        let bytes = sign(removing(objects(3))).expect("the owner's").bytes().clone();
        let mut public: Value = serde_json::from_slice(&bytes.public).expect("JSON");
        public["signer"] = json!(hex::encode(writer.public_key().0));
        public["certificate"] = serde_json::to_value(certificate).expect("JSON");
        signed(public.to_string().into_bytes(), bytes.sealed, &writer)
    };
    assert_eq!(open(&as_signer(Role::Owner)).expect("vouched for").removes(), objects(3));
    assert!(matches!(open(&as_signer(Role::Writer)), Err(ManifestError::Role { kind: ObjectKind::Removal })));
}

#[test]
fn an_index_has_to_name_what_its_manifest_removes_and_nothing_else() {
    let (two, reversed) = (objects(2), objects(2).into_iter().rev().collect::<Vec<_>>());
    let check = |index: &Index, kind, removes: &[ObjectId]| index.check_removal(kind, removes);
    assert!(check(&index_of(&two), ObjectKind::Removal, &two).is_ok());
    assert!(check(&index_of(&[]), ObjectKind::Removal, &[]).is_ok());
    assert!(check(&Index::default(), ObjectKind::Data, &[]).is_ok());
    for removes in [&[][..], &two[..1], &reversed, &objects(3)] {
        assert!(matches!(check(&index_of(&two), ObjectKind::Removal, removes), Err(IndexError::Removal)));
    }
    // A writer may sign data: a removal in its index is none.
    assert!(matches!(check(&index_of(&two), ObjectKind::Data, &[]), Err(IndexError::Removal)));
    assert!(matches!(check(&index_of(&[]), ObjectKind::Data, &[]), Err(IndexError::Removal)));
    assert!(matches!(check(&Index::default(), ObjectKind::Removal, &[]), Err(IndexError::Removal)));
}
