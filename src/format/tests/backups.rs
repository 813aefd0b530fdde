//! What a backup says of an object is believed as the object itself is, and no more.

use super::super::BackupPart;
use super::super::backup::{BackupError, RecordedObject};
use super::*;

/// What a backup says of an object that was signed like this.
fn recorded(draft: ManifestDraft, signer: &Signer, index: Index) -> RecordedObject {
    let object = draft.object;
    let manifest = Manifest::sign(draft, PartSealer::Nobody, signer).expect("a manifest");
    RecordedObject::new(object, manifest.bytes(), -7, index).expect("its manifest is text")
}

fn holding(pieces: Vec<Piece>) -> Index {
    Index { pieces, ..Index::default() }
}

#[test]
fn the_manifest_in_a_backup_is_checked_like_any_other() {
    let store = key().store_id();
    let said = recorded(draft(100), &key().signer(), holding(vec![piece(0, 80)]));
    assert_eq!(said.manifest(ObjectId([2; 16]), &store).expect("it is right"), manifest(100));
    let other = said.manifest(ObjectId([3; 16]), &store);
    assert!(matches!(other, Err(BackupError::Manifest { source: ManifestError::Contradiction, .. })), "{other:?}");
    let foreign = said.manifest(ObjectId([2; 16]), &StoreId([0; 32]));
    assert!(matches!(foreign, Err(BackupError::Manifest { source: ManifestError::ForeignStore { .. }, .. })));
    for (field, wrong) in [("signature", "zz"), ("signature", "0"), ("sealed", "0g")] {
        let mut changed = serde_json::to_value(&said).expect("JSON");
        changed[field] = json!(wrong);
        let changed: RecordedObject = serde_json::from_value(changed).expect("it reads back");
        let refused = changed.manifest(ObjectId([2; 16]), &store);
        assert!(matches!(refused, Err(BackupError::Text { .. })), "{field} {wrong}: {refused:?}");
    }
    let bytes = ManifestBytes { public: vec![0xff], ..manifest(100).bytes().clone() };
    let no_text = RecordedObject::new(ObjectId([2; 16]), &bytes, 0, Index::default());
    assert!(matches!(no_text, Err(BackupError::Text { .. })));
}

#[test]
fn the_index_in_a_backup_is_one_that_its_manifest_could_have() {
    let store = key().store_id();
    let check = |draft: ManifestDraft, index: Index| {
        let object = draft.object;
        match recorded(draft, &key().signer(), index).manifest(object, &store) {
            Ok(_) => Ok(()),
            Err(BackupError::Index { source, .. }) => Err(source),
            Err(other) => unreachable!("{other:?}"),
        }
    };
    assert!(check(draft(100), holding(vec![piece(90, 10)])).is_ok());
    assert!(matches!(check(draft(100), holding(vec![piece(90, 11)])), Err(IndexError::Outside { .. })));
    let removal = Index { removal: Some(Removal::default()), ..Index::default() };
    assert!(matches!(check(draft(100), removal.clone()), Err(IndexError::Removal)));
    assert!(check(ManifestDraft { kind: ObjectKind::Removal, ..draft(100) }, removal).is_ok());
    let backup = || Index { catalog: Some(BackupPart { generation: 1, records: 0, whole: None }), ..Index::default() };
    assert!(matches!(check(draft(100), backup()), Err(IndexError::Catalog)));
    // A backup's own manifest and index agree: it is refused all the same, as no backup backs up backups.
    let of_backup = ManifestDraft { object: ObjectId::of_backup([2; 16]), kind: ObjectKind::Catalog, ..draft(100) };
    assert!(matches!(check(of_backup, backup()), Err(IndexError::Catalog)));
}

#[test]
fn what_a_backup_says_that_a_writer_put_is_the_writers_own() {
    let writer = write_key();
    let manifest = |version| {
        let index = holding(vec![Piece { version, ..piece(0, 10) }]);
        recorded(writers_draft(), &writer.signer(), index).manifest(writers_draft().object, &key().store_id())
    };
    let own = VersionId::given_by(Some(writer.writer_id()), [1; 16]);
    assert_eq!(manifest(own).expect("its own").writer(), Some(writer.writer_id()));
    let refused = manifest(VersionId([1; 16]));
    assert!(matches!(refused, Err(BackupError::Index { source: IndexError::NotItsOwn { .. }, .. })), "{refused:?}");
}
