//! Backups of very many records: that they come back, and what they cost. `just soak` takes a hundred thousand of them.

use super::{back_up, rebuild_from};
use crate::past::{World, bytes, name, put_bytes, read_file};
use crate::soak;
use shard::catalog::{Catalog, Commit, ObjectRecord};
use shard::format::ObjectKind;
use shard::format::index::{Index, Piece, Whole};
use shard::id::{Digest, ObjectId, RedundancyLevel, VersionId};
use shard::ops::backup::{BackupKind, LoadFrom, is_due};
use shard::ops::writer::{Contents, ObjectOptions, ObjectWriter};
use shard::store::Store;
use shard::stripe::Seal;
use std::fs;
use std::time::Instant;

/// An object of this many small versions, one file each.
async fn write_versions(store: &Store, object: u32, count: u32) {
    let options = ObjectOptions::new(ObjectKind::Data, RedundancyLevel::Personal.geometry(), Seal::Key);
    let mut writer = ObjectWriter::begin(store, options).await.expect("a writer");
    let mut pieces = Vec::new();
    for number in 0..count {
        let content = [object.to_le_bytes(), number.to_le_bytes()].concat();
        let last = Some(Whole {
            total_bytes: content.len() as u64,
            blake3: Digest(*blake3::hash(&content).as_bytes()),
            mtime_ns: i64::from(number),
            mode: 0o600,
            generation: 1,
            parents: Vec::new(),
        });
        let version = store.new_version_id().expect("an id");
        let name = name(&format!("folder-{object}/file-{number}"));
        let offset = writer.payload_bytes();
        pieces.push(Piece { version, name, ordinal: 0, offset, bytes: content.len() as u64, last });
        writer.append(&content).await.expect("written");
    }
    let index = Index { pieces, ..Index::default() };
    writer.finish(Contents { index, piece_hashes: Vec::new() }).await.expect("stored");
}

/// Every living object of files, and how many of its bytes live.
fn all_objects(catalog: &mut Catalog) -> shard::catalog::Result<Vec<(ObjectRecord, u64)>> {
    let mut objects = Vec::new();
    for id in catalog.objects_after(None, usize::MAX)?.into_iter().filter(|id| !id.is_backup()) {
        objects.push((catalog.object(id)?.expect("it lives"), catalog.live_bytes(id)?));
    }
    Ok(objects)
}

#[tokio::test]
async fn a_backup_of_very_many_records_comes_back_with_two_of_five_places_emptied() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let (objects, each) = if soak::is_asked_for() { (20, 5000) } else { (20, 250) };
    for object in 0..objects {
        write_versions(&store, object, each).await;
    }
    let report = back_up(&store).await;
    assert_eq!((report.kind, report.records, report.left_out), (BackupKind::Full, u64::from(objects), 0));
    let before = store.catalog(all_objects).await.expect("the catalog");
    drop(store);
    // Two of the five are gone, with all that was on them.
    for lost in [1, 3] {
        fs::remove_dir_all(world.folder(lost).join("objects")).expect("emptied");
    }
    world.lose_catalog("a");
    let store = world.open("a").await;
    let report = rebuild_from(&store, LoadFrom::Required).await.expect("restored");
    let loaded = report.backup.as_ref().expect("a backup");
    assert_eq!((loaded.used, loaded.records, loaded.problems.len()), (u64::from(objects), u64::from(objects), 0));
    let count = u64::from(objects * each);
    assert_eq!((report.files, report.versions), (count, count));
    assert_eq!(store.catalog(all_objects).await.expect("the catalog"), before);
    let content = read_file(&store, &format!("folder-19/file-{}", each - 1)).await;
    assert_eq!(content, Some([19_u32.to_le_bytes(), (each - 1).to_le_bytes()].concat()));
}

/// How much memory this process had at most, in KiB.
fn most_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "what it costs belongs to the result")]
async fn a_backup_of_many_objects_takes_its_time_once_and_what_is_new_afterwards() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let id = put_bytes(&store, "file", bytes(1, 300)).await.objects[0].id;
    let (record, shards) = store
        .catalog(move |catalog| Ok((catalog.object(id)?.expect("an object"), catalog.shards(id)?)))
        .await
        .expect("the catalog");
    let count: u32 = if soak::is_asked_for() { 100_000 } else { 2000 };
    let fill = move |catalog: &mut Catalog| {
        for number in 0..count {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&blake3::hash(&number.to_le_bytes()).as_bytes()[..8]);
            let mut version = id;
            version[0] &= 0x7f;
            let last = Whole {
                total_bytes: 300,
                blake3: Digest([3; 32]),
                mtime_ns: 0,
                mode: 0o600,
                generation: 1,
                parents: Vec::new(),
            };
            let piece = Piece {
                version: VersionId(version),
                name: name(&format!("photos/{}/{number}.jpeg", number / 1000)),
                ordinal: 0,
                offset: 0,
                bytes: 300,
                last: Some(last),
            };
            let object = ObjectRecord { id: ObjectId(id), ..record.clone() };
            let index = Index { pieces: vec![piece], ..Index::default() };
            catalog.commit(&Commit { object, shards: shards.clone(), index, piece_hashes: Vec::new() })?;
        }
        Ok(())
    };
    store.catalog(fill).await.expect("committed");
    let before = most_memory_kib();
    let full = back_up(&store).await;
    let grown = most_memory_kib() - before;
    assert_eq!((full.kind, full.added), (BackupKind::Full, u64::from(count) + 1));
    put_bytes(&store, "one more", bytes(2, 300)).await;
    let begun = Instant::now();
    assert!(!is_due(&store).await.expect("an answer"));
    let asked = begun.elapsed();
    let delta = back_up(&store).await;
    assert_eq!((delta.kind, delta.added), (BackupKind::Incremental, 1));
    assert!(delta.bytes_written < 64 * 1024, "{}", delta.bytes_written);
    println!(
        "{count} objects: full {} ms, {} bytes of shards, memory grew by {grown} KiB; one more: {} ms, {} bytes; \
         whether one is due: {} us",
        full.elapsed_ms,
        full.bytes_written,
        delta.elapsed_ms,
        delta.bytes_written,
        asked.as_micros()
    );
}
