//! The golden backup of a catalog: records of other golden objects.

use super::{Inputs, ObjectInput, inputs, read_object};
use serde::Deserialize;
use shard::format::ObjectKind;
use shard::format::backup::{BackupRecord, RecordReader, RecordedObject};
use shard::id::ObjectId;

/// What a backup says of an object.
#[derive(Deserialize)]
pub(super) struct RecordInput {
    object: ObjectId,
    #[serde(default = "with_contents")]
    contents: bool,
    verified_ns: Option<i64>,
}

fn with_contents() -> bool {
    true
}

impl Inputs {
    /// The records of an object as its payload has them; none of an object of files.
    pub(super) fn records(&self, object: &ObjectInput) -> Vec<u8> {
        let mut bytes = Vec::new();
        for input in &object.records {
            let contents = input.contents.then(|| {
                let described = self.objects.iter().find(|object| object.id == input.object).expect("an object");
                let manifest = read_object(described, &self.key()).manifest;
                let (_, index, _) = self.payload(described);
                RecordedObject::new(input.object, manifest.bytes(), described.created_ns, index).expect("a record")
            });
            let record = BackupRecord { object: input.object, contents, verified_ns: input.verified_ns };
            record.append_to(&mut bytes).expect("it is short");
        }
        bytes
    }
}

#[test]
fn the_golden_backup_says_of_each_object_what_its_own_shards_say() {
    let inputs = inputs();
    let backup = inputs.objects.iter().find(|object| object.catalog.is_some()).expect("a backup");
    let found = read_object(backup, &inputs.key());
    assert_eq!(found.manifest.kind(), ObjectKind::Catalog);
    let mut reader = RecordReader::default();
    reader.push(&inputs.payload(backup).0);
    let mut said = 0;
    while let Some(json) = reader.next_json().expect("a record") {
        let record = BackupRecord::from_json(json).expect("a record");
        let Some(contents) = record.contents else { continue };
        let described = inputs.objects.iter().find(|object| object.id == record.object).expect("an object");
        let manifest = contents.manifest(record.object, &inputs.key().store_id()).expect("a manifest");
        assert_eq!(manifest, read_object(described, &inputs.key()).manifest);
        assert_eq!(contents.index, inputs.payload(described).1);
        said += 1;
    }
    reader.finish().expect("whole records");
    assert_eq!(said, 2);
}
