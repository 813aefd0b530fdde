//! Large files of several objects: what other commands, and other machines, do to them while they are not whole or seem not to be.

use crate::past::{run_gc, run_rebuild, run_refresh};
use crate::put::{NARROW, PIECE_BYTES, after_bytes, file, interrupt};
use crate::world::{TestWorld, geometry, putting, random_bytes, read_file};
use shard::ErrorKind;
use shard::ops::put::{PutOptions, put};
use shard::ops::remove::{RemoveOptions, RemoveVersions, remove};
use shard::store::{OpenOptions, Store};
use shard::stripe::Seal;
use std::fs;

#[tokio::test]
async fn a_file_whose_last_piece_a_rebuild_does_not_find_stays() {
    let world = TestWorld::new(25).await;
    let store = world.open().await;
    let bytes = random_bytes(11, 2 * PIECE_BYTES + 100_000);
    let source = world.source("large", &bytes);
    let narrow = geometry(NARROW.0, NARROW.1);
    let stored = put(&store, putting(vec![file(source)], narrow)).await.expect("stored");
    let (version, last) = (stored.files[0].version, stored.files[0].objects[2]);
    let away = world.desk().join("away");
    fs::create_dir(&away).expect("a folder");
    let of_last = |path: &std::path::PathBuf| path.to_string_lossy().contains(&last.to_string());
    let moved: Vec<_> = world.files_on_backends().into_iter().filter(of_last).enumerate().collect();
    assert_eq!(moved.len(), NARROW.1);
    moved.iter().for_each(|(number, path)| fs::rename(path, away.join(number.to_string())).expect("moved away"));
    run_rebuild(&store).await;
    assert!(read_file(&store, "large").await.is_none());
    let report = run_gc(&store).await;
    assert!(report.unfinished.is_empty(), "{report:?}");
    assert_eq!(report.unfinished_kept.iter().map(|file| file.version).collect::<Vec<_>>(), [version]);
    moved.iter().for_each(|(number, path)| fs::rename(away.join(number.to_string()), path).expect("moved back"));
    run_refresh(&store).await;
    assert!(read_file(&store, "large").await == Some(bytes));
}

#[tokio::test]
async fn pieces_with_another_seal_are_not_gone_on_with() {
    let world = TestWorld::new(25).await;
    let store = world.open().await;
    let narrow = geometry(NARROW.0, NARROW.1);
    let source = world.source("large", &random_bytes(12, 2 * PIECE_BYTES + 100_000));
    let first = interrupt(&store, source.clone(), narrow).await;
    let options = PutOptions { seal: Some(Seal::None), ..putting(vec![file(source.clone())], narrow) };
    let report = put(&store, options).await.expect("stored");
    assert_ne!(report.files[0].version, first);
    assert_eq!(report.objects.len(), 3);
}

#[tokio::test]
async fn a_put_whose_version_was_removed_meanwhile_does_not_say_that_it_is_stored() {
    let world = TestWorld::new(25).await;
    let store = world.open().await;
    let dir = world.store_dir();
    let controls = after_bytes(2 * PIECE_BYTES as u64 + 1, move || {
        let dir = dir.clone();
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let store = Store::open(&dir, OpenOptions::default()).await.expect("the store opens");
                let begun = store.look(|catalog| catalog.unfinished()).await.expect("versions").remove(0);
                let (names, versions) = (vec![begun.name], RemoveVersions::One(begun.id));
                remove(&store, RemoveOptions { names, versions, ..RemoveOptions::default() }).await.expect("removed");
            });
        });
        removing.join().expect("removed");
    });
    let source = world.source("large", &random_bytes(13, 2 * PIECE_BYTES + 100_000));
    let options = PutOptions { controls, ..putting(vec![file(source)], geometry(NARROW.0, NARROW.1)) };
    let error = put(&store, options).await.expect_err("it was removed");
    assert_eq!(error.kind, ErrorKind::Changed, "{error}");
    assert!(read_file(&store, "large").await.is_none());
}
