//! A removal that is too long for one index, cut into several.

use crate::format::MAX_REMOVED_OBJECTS;
use crate::format::Removal;
use crate::format::index::MAX_INDEX_PIECES;
use serde::Serialize;

/// What the JSON around the lists of a removal takes, generously.
const FRAME_BYTES: u64 = 256;

/// Cuts a removal so that each part's JSON has at most `limit_bytes`, and its manifest can name its objects. All versions come before any object, so that an object
/// is named only when everything in it is removed already: whatever part is the last to be stored, nothing living is named.
///
/// A single entry that is longer than the limit becomes a part by itself.
pub(super) fn removal_parts(removal: Removal, limit_bytes: u64) -> Vec<Removal> {
    let mut parts = vec![Removal::default()];
    let (mut used, mut entries) = (FRAME_BYTES, 0);
    let mut begins_new = |bytes: u64, has_all_objects: bool| {
        let is_full = has_all_objects || entries > 0 && (used + bytes > limit_bytes || entries >= MAX_INDEX_PIECES);
        if is_full {
            (used, entries) = (FRAME_BYTES, 0);
        }
        (used, entries) = (used + bytes, entries + 1);
        is_full
    };
    for version in removal.versions {
        if begins_new(json_bytes(&version), false) {
            parts.push(Removal::default());
        }
        parts.last_mut().expect("there is one from the start").versions.push(version);
    }
    for object in removal.objects {
        let is_full = parts.last().is_some_and(|part| part.objects.len() >= MAX_REMOVED_OBJECTS);
        if begins_new(json_bytes(&object), is_full) {
            parts.push(Removal::default());
        }
        parts.last_mut().expect("there is one from the start").objects.push(object);
    }
    parts
}

/// An entry with its comma.
fn json_bytes(entry: &impl Serialize) -> u64 {
    serde_json::to_vec(entry).map_or(u64::MAX / 2, |json| json.len() as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{FileName, Index, RemovedObject, RemovedShard, RemovedVersion};
    use crate::id::{BackendId, ObjectId, VersionId};

    fn removal(versions: u8, objects: u8) -> Removal {
        let version = |byte| RemovedVersion {
            version: VersionId([byte; 16]),
            name: FileName::new("a\u{1}\u{1}\u{1}b".repeat(20)).expect("a name"),
            generation: u64::from(byte),
        };
        let shards: Vec<_> = (0..5).map(|index| RemovedShard { index, backend: BackendId([index; 16]) }).collect();
        let object = |byte| RemovedObject { object: ObjectId([byte; 16]), shards: shards.clone() };
        Removal { versions: (0..versions).map(version).collect(), objects: (0..objects).map(object).collect() }
    }

    #[test]
    fn the_parts_are_the_whole_each_within_its_limit_and_versions_first() {
        for limit in [1, 1000, 5000, 20_000, 1 << 24] {
            let whole = removal(40, 30);
            let parts = removal_parts(whole.clone(), limit);
            let mut joined = Removal::default();
            for part in &parts {
                assert!(joined.objects.is_empty() || part.versions.is_empty(), "an object came before a version");
                let entries = part.versions.len() + part.objects.len();
                let index = Index { removal: Some(part.clone()), ..Index::default() };
                let bytes = index.to_bytes().expect("an index").len() as u64;
                assert!(entries > 0 && (bytes <= limit || entries == 1), "{bytes} of {limit}");
                joined.versions.extend(part.versions.clone());
                joined.objects.extend(part.objects.clone());
            }
            assert_eq!(joined, whole);
        }
        assert_eq!(removal_parts(removal(40, 30), 1 << 24).len(), 1);
    }

    #[test]
    fn no_part_names_more_objects_than_a_manifest_can() {
        let object = |number: u32| RemovedObject {
            object: ObjectId([number.to_be_bytes(); 4].concat().try_into().expect("16 bytes")),
            shards: Vec::new(),
        };
        for count in [0, 1, 511, 512, 513, 1024, 1025, 1300] {
            let whole = Removal { objects: (0..count).map(object).collect(), ..removal(3, 0) };
            let parts = removal_parts(whole.clone(), 1 << 24);
            assert_eq!(parts.len(), (count as usize).div_ceil(MAX_REMOVED_OBJECTS).max(1), "{count}");
            assert!(parts.iter().all(|part| part.objects.len() <= MAX_REMOVED_OBJECTS));
            let joined: Vec<_> = parts.into_iter().flat_map(|part| part.objects).collect();
            assert_eq!(joined, whole.objects);
        }
    }
}
