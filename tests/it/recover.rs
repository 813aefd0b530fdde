//! Recovering single files: from whatever is left, to files, streams and devices, whole or in part.

use crate::recover_desk::{
    Collected, MadeUp, everything, files_below, new_folder, streamed, wanting, write_object, write_whole,
};
use crate::world::{Kept, TestWorld, geometry, name, put_bytes, putting, random_bytes};
use shard::ErrorKind;
use shard::backend::{Effect, ErrorKind as BackendErrorKind, Fault, Operation, When, shard_name};
use shard::catalog::{Catalog, ShardState};
use shard::format::Index;
use shard::id::{Geometry, ShardId, VersionId};
use shard::ops::put::{PutSource, put};
use shard::ops::recover::{Existing, RecoverOptions, RecoverOutput, RecoverReport, recover};
use shard::ops::remove::{RemoveOptions, remove};
use shard::ops::{Controls, ProgressEvent};
use shard::store::Store;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

const PERSONAL: (usize, usize) = (3, 5);

async fn world_with(text: &str, bytes: &[u8]) -> (TestWorld, Store) {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_bytes(&store, text, bytes, geometry(PERSONAL.0, PERSONAL.1)).await;
    (world, store)
}

async fn to_path(store: &Store, text: &str, path: PathBuf) -> shard::Result<RecoverReport> {
    recover(store, wanting(&[text], RecoverOutput::Path(path))).await
}

/// Lengths at which blocks, stripes or the payload change.
fn boundary_lengths(geometry: Geometry) -> Vec<usize> {
    let (k, block) = (geometry.data_shards(), geometry.block_bytes() as usize);
    vec![0, 1, k - 1, k + 1, block - 1, block + 1, k * block - 1, k * block, k * block + 1, 2 * k * block + block + 7]
}

/// Makes backends answer that they have nothing, or not answer at all.
fn lose(world: &TestWorld, backends: u32, how: Effect) {
    for number in (1..=16).filter(|number| backends >> (number - 1) & 1 == 1) {
        for operation in [Operation::Read, Operation::Head] {
            world.faulty(number).inject(Fault::new(operation, When::Always, how));
        }
    }
}

async fn survive(geometry: Geometry, subsets: impl Iterator<Item = u32> + Clone) {
    let total = geometry.total_shards();
    let world = TestWorld::with(total, Kept::InMemory).await;
    let store = world.open().await;
    let lengths = boundary_lengths(geometry);
    for length in &lengths {
        put_bytes(&store, &format!("f{length}"), &random_bytes(*length as u64, *length), geometry).await;
    }
    for lost in subsets {
        let left = total - lost.count_ones() as usize;
        let how = if lost % 3 == 0 { Effect::Refuse(BackendErrorKind::Unreachable) } else { Effect::Lose };
        lose(&world, lost, how);
        for length in &lengths {
            let (bytes, outcome) = streamed(&store, &format!("f{length}")).await;
            let expected = random_bytes(*length as u64, *length);
            match outcome {
                Ok(_) => {
                    assert!(bytes == expected, "{geometry}, {length} bytes, lost {lost:b}");
                    // An empty file is in the index alone, and needs none of it.
                    assert!(left >= geometry.data_shards() || *length == 0);
                }
                Err(error) => {
                    let kind = if how == Effect::Lose { ErrorKind::Lost } else { ErrorKind::Unavailable };
                    assert_eq!(error.kind, kind, "{error}");
                    assert!(left < geometry.data_shards() && bytes.is_empty());
                }
            }
        }
        (1..=total).for_each(|number| world.faulty(number).heal());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recover_survives_losing_every_subset_of_backends_that_leaves_two_of_three() {
    survive(geometry(2, 3), 0..1 << 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recover_survives_losing_every_subset_of_backends_that_leaves_three_of_five() {
    survive(geometry(3, 5), 0..1 << 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recover_survives_losing_samples_of_backends_at_the_wide_levels() {
    for (data, total) in [(5, 9), (7, 15)] {
        let samples = random_bytes(total as u64, 16);
        let mask = (1u32 << total) - 1;
        let pair = |pair: &[u8]| u32::from(u16::from_le_bytes([pair[0], pair[1]])) & mask;
        let samples: Vec<u32> = samples.chunks_exact(2).map(pair).collect();
        survive(geometry(data, total), samples.into_iter()).await;
    }
}

#[tokio::test]
async fn a_file_comes_back_with_its_bytes_mode_and_time_and_nothing_beside_it() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let bytes = random_bytes(1, 2_000_000);
    let source = world.source("dir/a.bin", &bytes);
    fs::set_permissions(&source, fs::Permissions::from_mode(0o751)).expect("a mode");
    let file = PutSource::File { path: source.clone(), name: None };
    put(&store, putting(vec![file], geometry(3, 5))).await.expect("stored");

    let folder = new_folder(&world, "out");
    let report = to_path(&store, "a.bin", folder.join("b.bin")).await.expect("recovered");
    assert_eq!(files_below(&folder).into_iter().collect::<Vec<_>>(), [("b.bin".into(), bytes.clone())]);
    let (old, new) = (source.metadata().expect("there"), folder.join("b.bin").metadata().expect("there"));
    assert_eq!(new.permissions().mode(), old.permissions().mode());
    assert_eq!((new.mtime(), new.mtime_nsec()), (old.mtime(), old.mtime_nsec()));
    assert_eq!((report.files.len(), report.bytes_written, report.damage.len()), (1, 2_000_000, 0));
    assert_eq!(report.files[0].output, folder.join("b.bin").display().to_string());
    assert_eq!(report.files[0].blake3.expect("whole").0, *blake3::hash(&bytes).as_bytes());
}

#[tokio::test]
async fn an_output_that_is_there_stays_unless_it_is_to_be_replaced() {
    let (world, store) = world_with("a", b"new").await;
    let path = world.source("a", b"old");
    let refused = to_path(&store, "a", path.clone()).await.expect_err("refused");
    assert_eq!(refused.kind, ErrorKind::Refused);
    assert!(refused.hint.expect("a hint").contains("--force"));
    assert_eq!(fs::read(&path).expect("a file"), b"old");

    let options = RecoverOptions { existing: Existing::Replace, ..wanting(&["a"], RecoverOutput::Path(path.clone())) };
    recover(&store, options).await.expect("replaced");
    assert_eq!(fs::read(&path).expect("a file"), b"new");
    assert_eq!(files_below(&world.desk()).len(), 1);
}

#[tokio::test]
async fn an_existing_folder_takes_the_file_under_its_last_part() {
    let (world, store) = world_with("deep/down/a", b"content").await;
    to_path(&store, "deep/down/a", world.desk()).await.expect("recovered");
    assert_eq!(fs::read(world.desk().join("a")).expect("a file"), b"content");
}

#[tokio::test]
async fn every_range_is_the_files_own_bytes_and_one_past_the_end_is_refused_with_the_length() {
    let bytes = random_bytes(2, 3 * 786_432 + 11);
    let (world, store) = world_with("a", &bytes).await;
    let last = bytes.len() as u64 - 1;
    for range in [0..=0, 0..=last, last..=last, 786_431..=786_432, 5..=786_440, 786_432..=1_572_863] {
        let collected = Collected::default();
        let output = RecoverOutput::Writer(Box::new(collected.clone()));
        let options = RecoverOptions { range: Some(range.clone()), ..wanting(&["a"], output) };
        let report = recover(&store, options).await.expect("recovered");
        let expected = &bytes[*range.start() as usize..=*range.end() as usize];
        assert!(collected.bytes() == expected, "{range:?}");
        assert_eq!((report.files[0].size, report.files[0].blake3), (expected.len() as u64, None));
    }
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..=last + 1, last + 1..=last + 1, 9..=8, 0..=u64::MAX] {
        let path = world.desk().join("part");
        let options = RecoverOptions { range: Some(range), ..wanting(&["a"], RecoverOutput::Path(path.clone())) };
        let error = recover(&store, options).await.expect_err("refused");
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.to_string().contains(&bytes.len().to_string()) || error.to_string().contains("9-8"), "{error}");
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_range_of_a_file_becomes_a_file_of_its_own() {
    let (world, store) = world_with("a", b"0123456789").await;
    let path = world.desk().join("part");
    let options = RecoverOptions { range: Some(3..=5), ..wanting(&["a"], RecoverOutput::Path(path.clone())) };
    recover(&store, options).await.expect("recovered");
    assert_eq!(fs::read(path).expect("a file"), b"345");
}

#[tokio::test]
async fn an_empty_file_is_recovered_and_has_no_range() {
    let (world, store) = world_with("empty", b"").await;
    to_path(&store, "empty", world.desk().join("empty")).await.expect("recovered");
    assert_eq!(fs::read(world.desk().join("empty")).expect("a file"), b"");
    let options = RecoverOptions { range: Some(0..=0), ..wanting(&["empty"], RecoverOutput::Path(world.desk())) };
    assert_eq!(recover(&store, options).await.expect_err("empty").kind, ErrorKind::Invalid);
}

/// Flips a byte in the block of a stripe, in the shards on these backends.
fn damage(world: &TestWorld, shards: &[(usize, ShardId)], byte: usize) {
    for (number, shard) in shards {
        let path = world.shard_path(*number, *shard);
        let mut file = fs::read(&path).expect("a shard");
        file[byte] ^= 0x40;
        fs::write(&path, file).expect("damaged");
    }
}

/// Where each shard of the only object is.
async fn shards_of_only_object(store: &Store) -> Vec<(usize, ShardId)> {
    let ask = |catalog: &mut Catalog| {
        let object = catalog.objects_after(None, 2)?[0];
        Ok((object, catalog.shards(object)?))
    };
    let (object, shards) = store.catalog(ask).await.expect("shards");
    let place =
        |shard: shard::catalog::ShardRecord| (usize::from(shard.backend.0[0]), ShardId { object, index: shard.index });
    shards.into_iter().map(place).collect()
}

#[tokio::test]
async fn damage_on_the_way_is_told_and_costs_nothing() {
    let bytes = random_bytes(3, 6 * 786_432);
    let (world, store) = world_with("a", &bytes).await;
    let shards = shards_of_only_object(&store).await;
    for (stripe, shard) in shards.iter().enumerate() {
        damage(&world, &[*shard], 64 + stripe * 262_144 + 77);
    }
    let (got, outcome) = streamed(&store, "a").await;
    assert!(got == bytes);
    let damage = outcome.expect("recovered").damage;
    let corrupt: Vec<_> = damage.iter().map(|damage| (damage.shard, damage.state, damage.bad_blocks)).collect();
    assert_eq!(corrupt[..3], [0, 1, 2].map(|shard| (shard, ShardState::Corrupt, 1)));
    assert_eq!(damage[0].backend, format!("b{}", shards[0].0));
}

#[tokio::test]
async fn a_stream_has_had_a_verified_beginning_when_the_rest_is_lost() {
    let bytes = random_bytes(4, 60 * 786_432);
    let (world, store) = world_with("a", &bytes).await;
    let shards = shards_of_only_object(&store).await;
    damage(&world, &shards[..3], 64 + 50 * 262_144);
    let (got, outcome) = streamed(&store, "a").await;
    let error = outcome.expect_err("lost");
    assert_eq!(error.kind, ErrorKind::Lost);
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains("stripe 50 of object") && cause.contains("2 good blocks and needs 3"), "{cause}");
    assert!(!got.is_empty() && bytes.starts_with(&got));

    let path = world.desk().join("a");
    assert_eq!(to_path(&store, "a", path).await.expect_err("lost").kind, ErrorKind::Lost);
    assert_eq!(files_below(&world.desk()).len(), 0);
}

#[tokio::test]
async fn shards_that_were_moved_by_hand_are_found_under_their_names() {
    let bytes = random_bytes(5, 1_000_000);
    let (world, store) = world_with("a", &bytes).await;
    let shards = shards_of_only_object(&store).await;
    for (number, shard) in &shards[..3] {
        let to = world.backend_dir(number % 5 + 1).join(shard_name(*shard));
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::rename(world.shard_path(*number, *shard), to).expect("moved");
    }
    let (got, outcome) = streamed(&store, "a").await;
    assert!(got == bytes);
    let missing = outcome.expect("recovered").damage;
    assert!(missing.iter().any(|damage| damage.state == ShardState::Missing));
}

#[tokio::test]
async fn backends_that_are_not_mounted_make_a_file_unavailable() {
    let (world, store) = world_with("a", &random_bytes(6, 1_000_000)).await;
    drop(store);
    (1..=3).for_each(|number| world.unmount(number));
    let store = world.open().await;
    let (_, outcome) = streamed(&store, "a").await;
    assert_eq!(outcome.expect_err("unavailable").kind, ErrorKind::Unavailable);
    drop(store);
    world.mount(2);
    let store = world.open().await;
    let (got, outcome) = streamed(&store, "a").await;
    assert!(got == random_bytes(6, 1_000_000));
    let states: Vec<_> = outcome.expect("recovered").damage.into_iter().map(|damage| damage.state).collect();
    assert_eq!(states, [ShardState::Unreachable; 2]);
}

#[tokio::test]
async fn a_file_of_several_objects_is_put_together_and_any_range_of_it() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let file = MadeUp::new("large", 7, random_bytes(7, 3_000_000));
    let other = MadeUp::new("other", 8, random_bytes(8, 1000));
    let mut start = 0;
    for (ordinal, (data, total), bytes) in [(0, (2, 3), 1_000_000), (1, (3, 5), 1), (2, (2, 3), 1_999_999)] {
        // Each object holds something else before the piece.
        let part = &file.content[start..start + bytes];
        let last = (start + bytes == file.content.len()).then(|| file.whole());
        let mut pieces = vec![file.piece(ordinal, (1000, bytes), last)];
        if ordinal == 0 {
            pieces.insert(0, other.piece(0, (0, 1000), Some(other.whole())));
        }
        let payload = [&other.content[..], part].concat();
        write_object(&store, geometry(data, total), (&payload, Index { pieces, ..Index::default() })).await;
        start += bytes;
    }
    let (got, outcome) = streamed(&store, "large").await;
    outcome.expect("recovered");
    assert!(got == file.content);
    for range in [999_999..=1_000_001, 1_000_000..=1_000_000, 0..=2_999_999, 2_999_999..=2_999_999] {
        let collected = Collected::default();
        let output = RecoverOutput::Writer(Box::new(collected.clone()));
        recover(&store, RecoverOptions { range: Some(range.clone()), ..wanting(&["large"], output) })
            .await
            .expect("recovered");
        assert!(collected.bytes() == file.content[*range.start() as usize..=*range.end() as usize], "{range:?}");
    }
    let folder = new_folder(&world, "all");
    recover(&store, everything(&folder)).await.expect("recovered");
    let files = files_below(&folder);
    assert!(files[&PathBuf::from("large")] == file.content && files[&PathBuf::from("other")] == other.content);
}

#[tokio::test]
async fn an_older_version_is_had_by_its_id_and_no_other_names_version_is() {
    let (_world, store) = world_with("a", b"first").await;
    let first = crate::world::newest(&store, "a").await.expect("a version").id;
    put_bytes(&store, "a", b"second", geometry(3, 5)).await;
    put_bytes(&store, "b", b"other", geometry(3, 5)).await;
    let version = |text, id: VersionId| {
        let collected = Collected::default();
        let output = RecoverOutput::Writer(Box::new(collected.clone()));
        (collected, RecoverOptions { version: Some(id), ..wanting(&[text], output) })
    };
    let (collected, options) = version("a", first);
    recover(&store, options).await.expect("recovered");
    assert_eq!(collected.bytes(), b"first");
    assert_eq!(streamed(&store, "a").await.0, b"second");
    let (_, options) = version("b", first);
    assert_eq!(recover(&store, options).await.expect_err("another's").kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_name_that_was_never_stored_is_not_found() {
    let (world, store) = world_with("a", b"content").await;
    let error = to_path(&store, "b", world.desk().join("b")).await.expect_err("not there");
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.to_string().contains("\"b\""));
    assert_eq!(files_below(&world.desk()).len(), 0);
}

#[tokio::test]
async fn two_heads_are_told_and_the_newest_is_taken() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    for version in [3, 9, 5] {
        write_whole(&store, geometry(3, 5), &MadeUp::new("a", version, vec![version; 10])).await;
    }
    let warnings = Arc::new(AtomicU64::new(0));
    let heard = Arc::clone(&warnings);
    let listen = move |event| {
        if let ProgressEvent::Warning(text) = event {
            assert!(text.contains("3 newest versions"), "{text}");
            heard.fetch_add(1, Ordering::SeqCst);
        }
    };
    let controls = Controls { progress: Some(Arc::new(listen)), cancel: CancellationToken::new() };
    let options = RecoverOptions { controls, ..wanting(&["a"], RecoverOutput::Path(world.desk())) };
    let report = recover(&store, options).await.expect("recovered");
    assert_eq!((report.files[0].heads, report.files[0].version), (3, VersionId([9; 16])));
    assert_eq!(fs::read(world.desk().join("a")).expect("a file"), [9; 10]);
    assert_eq!(warnings.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_file_that_was_stored_damaged_is_never_given_its_name() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let file = MadeUp::new("a", 1, random_bytes(1, 2_000_000));
    let mut stored = file.content.clone();
    stored[1_234_567] ^= 1;
    let piece = file.piece(0, (0, stored.len()), Some(file.whole()));
    write_object(&store, geometry(3, 5), (&stored, Index { pieces: vec![piece], ..Index::default() })).await;
    let error = to_path(&store, "a", world.desk().join("a")).await.expect_err("another hash");
    assert_eq!(error.kind, ErrorKind::Damaged);
    assert_eq!(files_below(&world.desk()).len(), 0);
}

#[tokio::test]
async fn a_full_device_is_an_error_and_the_null_device_takes_everything() {
    let (_world, store) = world_with("a", &random_bytes(1, 100_000)).await;
    to_path(&store, "a", PathBuf::from("/dev/null")).await.expect("written");
    let error = to_path(&store, "a", PathBuf::from("/dev/full")).await.expect_err("full");
    assert_eq!(error.kind, ErrorKind::Space);
    assert!(error.to_string().contains("/dev/full"));
}

#[tokio::test]
async fn an_output_that_cannot_be_is_an_error_before_anything_is_read() {
    let (world, store) = world_with("a", b"content").await;
    let file = world.source("file", b"");
    assert!(to_path(&store, "a", file.join("below")).await.is_err());
    fs::create_dir_all(world.desk().join("folder/a")).expect("a folder in the file's place");
    assert_eq!(to_path(&store, "a", world.desk().join("folder")).await.expect_err("a folder").kind, ErrorKind::Refused);
    assert_eq!(to_path(&store, "a", world.desk().join("none/..")).await.expect_err("no name").kind, ErrorKind::Invalid);
    let link = world.desk().join("link");
    symlink(world.desk().join("nowhere"), &link).expect("a link");
    assert_eq!(to_path(&store, "a", link).await.expect_err("kept").kind, ErrorKind::Refused);
}

#[test]
fn a_recovering_that_is_cancelled_leaves_nothing() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let world = runtime.block_on(async {
        let (world, store) = world_with("a", &random_bytes(1, 20_000_000)).await;
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let listen = move |event| {
            if matches!(event, ProgressEvent::Bytes(_)) {
                stop.cancel();
            }
        };
        let controls = Controls { progress: Some(Arc::new(listen)), cancel };
        let options = RecoverOptions { controls, ..wanting(&["a"], RecoverOutput::Path(world.desk().join("a"))) };
        assert_eq!(recover(&store, options).await.expect_err("cancelled").kind, ErrorKind::Cancelled);
        world
    });
    // The runtime waits for what was on its way to the disk.
    drop(runtime);
    assert_eq!(files_below(&world.desk()).len(), 0);
}

#[test]
fn recovering_can_be_left_to_a_task() {
    fn is_send<T: Send>(_: impl FnOnce(&'static Store) -> T) {}
    is_send(|store| recover(store, wanting(&["a"], RecoverOutput::Path(PathBuf::new()))));
}

#[tokio::test]
async fn what_is_asked_in_one_look_is_of_one_state_though_another_process_removes_the_file_between_two_questions() {
    let (world, store) = world_with("a", b"text").await;
    let (other, here) = (world.open().await, tokio::runtime::Handle::current());
    let asked = name("a");
    let look = move |catalog: &Catalog| {
        let head = catalog.heads(&asked)?.remove(0);
        let removal = remove(&other, RemoveOptions { names: vec![asked], ..RemoveOptions::default() });
        here.block_on(removal).expect("removed");
        Ok((head.id, catalog.piece_copies(head.id)?.len()))
    };
    let (version, pieces) = store.look(look).await.expect("answers");
    assert_eq!(pieces, 1);
    let after = store.look(move |catalog| Ok(catalog.piece_copies(version)?.len())).await.expect("an answer");
    assert_eq!(after, 0, "it is removed");
}
