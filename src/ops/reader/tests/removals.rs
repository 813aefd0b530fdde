//! What a removal says twice has to be the same.

use super::*;
use crate::format::{Removal, RemovedObject};

/// A removal of these objects, by its index, whose manifest says that it is of this kind and removes those.
fn removal(named: &[ObjectId], (kind, removes): (ObjectKind, &[ObjectId])) -> (Specimen, Manifest) {
    let objects = named.iter().map(|object| RemovedObject { object: *object, shards: Vec::new() }).collect();
    let index = Index { removal: Some(Removal { versions: Vec::new(), objects }), ..Index::default() };
    let payload = index.to_bytes().expect("an index");
    let index_bytes = payload.len() as u64;
    let specimen = Specimen::build(shape(2, 3, 32), ObjectId([5; 16]), (payload, 0));
    let draft = ManifestDraft {
        store: trusted(),
        object: ObjectId([5; 16]),
        kind,
        removes: removes.to_vec(),
        writer_generation: 0,
        layout: specimen.manifest.layout(),
        seal: Seal::None,
        shard_roots: specimen.manifest.shard_roots().to_vec(),
        share_digests: Vec::new(),
        key_id: key().key_id(),
        sealed: SealedPart { index_offset: 0, index_bytes, created_ns: 0, data_key: None },
    };
    let manifest = Manifest::sign(draft, PartSealer::Nobody, &key().signer()).expect("signs");
    (specimen, manifest)
}

#[tokio::test]
async fn a_removal_that_says_one_thing_in_public_and_another_to_its_owner_is_damage() {
    let (one, two) = (ObjectId([1; 16]), ObjectId([2; 16]));
    let cases = [
        (ObjectKind::Removal, vec![one, two], true),
        (ObjectKind::Removal, vec![one], false),
        (ObjectKind::Removal, vec![two, one], false),
        (ObjectKind::Removal, Vec::new(), false),
        (ObjectKind::Data, Vec::new(), false),
    ];
    for (kind, removes, agrees) in cases {
        let (specimen, manifest) = removal(&[one, two], (kind, &removes));
        let reader = ObjectReader::new(manifest, places(ObjectId([5; 16]), &specimen.all()).await);
        match reader.index().await {
            Ok(_) => assert!(agrees, "{kind:?} {removes:?}"),
            Err(error) => {
                assert!(!agrees, "{kind:?} {removes:?}: {error}");
                assert!(matches!(&error, ReadError::Index { .. }), "{error}");
                assert_eq!(error.kind(), crate::error::ErrorKind::Damaged);
            }
        }
    }
}
