//! Storing: every length, every way a backend fails on the way, and files that change while they are read.

use crate::heal_damage::verify_all;
use crate::world::{
    Kept, TestWorld, geometry, name, newest, put_bytes, putting, random_bytes, read_file, read_version, stream_of,
};
use shard::ErrorKind;
use shard::backend::{Effect, ErrorKind as BackendErrorKind, Fault, Operation, When};
use shard::catalog::{ObjectState, ShardState};
use shard::id::{Geometry, VersionId};
use shard::ops::put::{PutOptions, PutSource, put, version_lease};
use shard::ops::verify::VerifyMode;
use shard::ops::{Controls, ProgressEvent};
use shard::store::Store;
use shard::stripe::Check;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

pub(crate) fn file(path: PathBuf) -> PutSource {
    PutSource::File { path, name: None }
}

/// Controls that do something when the first bytes were read.
fn at_first_bytes(action: impl Fn() + Send + Sync + 'static) -> Controls {
    after_bytes(1, action)
}

/// Controls that do something once, when so many bytes were read.
pub(crate) fn after_bytes(bytes: u64, action: impl Fn() + Send + Sync + 'static) -> Controls {
    let (read, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let sink = move |event| {
        if let ProgressEvent::Bytes(delta) = event
            && read.fetch_add(delta, Ordering::SeqCst) + delta >= bytes
            && !done.swap(true, Ordering::SeqCst)
        {
            action();
        }
    };
    Controls { progress: Some(Arc::new(sink)), cancel: CancellationToken::new() }
}

async fn names(store: &Store) -> Vec<String> {
    let list = store.catalog(|catalog| catalog.list("", None, 1000)).await.expect("a list");
    list.into_iter().map(|file| file.newest.name.to_string()).collect()
}

async fn assert_no_trace(world: &TestWorld, store: &Store) {
    assert_eq!(world.files_on_backends(), Vec::<PathBuf>::new());
    assert_eq!(names(store).await, Vec::<String>::new());
    assert!(store.catalog(|catalog| catalog.journals()).await.expect("journals").is_empty());
    assert!(store.catalog(|catalog| catalog.objects_after(None, 10)).await.expect("objects").is_empty());
}

/// The lengths at which something changes: of blocks, stripes, and the payload, which ends with the index.
fn boundary_lengths(geometry: Geometry) -> Vec<usize> {
    let (k, block) = (geometry.data_shards(), geometry.block_bytes() as usize);
    let mut lengths = vec![0, 1, k - 1, k, k + 1, block - 1, block, block + 1];
    for stripes in [1, 2] {
        let whole = stripes * k * block;
        lengths.extend([whole - 1, whole, whole + 1]);
        // Where the index ends with a stripe, or begins another; it has some 400 bytes.
        lengths.extend((380..=460).step_by(20).map(|index_bytes| whole - index_bytes));
    }
    lengths.push(5 * k * block + 12_345);
    lengths
}

#[tokio::test]
async fn an_object_of_as_many_shards_as_there_can_be_is_put_verified_and_read() {
    let world = TestWorld::with(5, Kept::InMemory).await;
    let (store, bytes) = (world.open().await, random_bytes(255, 100_000));
    put_bytes(&store, "wide", &bytes, geometry(200, 255)).await;
    let report = verify_all(&store, VerifyMode::Full).await;
    assert_eq!((report.worst(), report.summary.healthy), (ObjectState::Healthy, 1));
    assert_eq!(read_file(&store, "wide").await, Some(bytes));
}

async fn assert_every_length_comes_back(geometry: Geometry) {
    let world = TestWorld::with(geometry.total_shards(), Kept::InMemory).await;
    let store = world.open().await;
    for length in boundary_lengths(geometry) {
        let bytes = random_bytes(length as u64, length);
        let text = format!("file-{length}");
        let report = put_bytes(&store, &text, &bytes, geometry).await;
        assert!(!report.is_degraded(), "{length}");
        assert_eq!((report.files[0].size, report.bytes_read), (length as u64, length as u64));
        assert_eq!(report.files[0].blake3.0, *blake3::hash(&bytes).as_bytes(), "{length}");
        assert_eq!(report.objects[0].margin, Some(geometry.parity_shards()));
        assert!(read_file(&store, &text).await.expect("listed") == bytes, "{length}");
    }
}

#[tokio::test]
async fn every_boundary_length_comes_back_at_2_of_3() {
    assert_every_length_comes_back(geometry(2, 3)).await;
}

#[tokio::test]
async fn every_boundary_length_comes_back_at_3_of_5() {
    assert_every_length_comes_back(geometry(3, 5)).await;
}

#[tokio::test]
async fn a_file_keeps_its_name_time_and_mode_and_an_empty_one_is_a_file() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let path = world.source("folder/empty.txt", b"");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    let options = PutOptions { check: Some(Check::Full), ..putting(vec![file(path.clone())], geometry(2, 3)) };
    let report = put(&store, options).await.expect("stored");
    assert_eq!((report.files.len(), report.objects.len(), report.files[0].size), (1, 1, 0));
    let version = newest(&store, "empty.txt").await.expect("it is named after itself");
    let whole = version.whole.expect("whole");
    let modified = fs::metadata(&path).expect("metadata").modified().expect("a time");
    let modified_ns = modified.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    assert_eq!((i128::from(whole.mtime_ns), whole.mode), (modified_ns as i128, 0o640));
}

#[tokio::test]
async fn a_new_version_knows_the_ones_it_replaces() {
    let world = TestWorld::with(3, Kept::InMemory).await;
    let store = world.open().await;
    let mut earlier: Vec<VersionId> = Vec::new();
    for round in 1..=3 {
        put_bytes(&store, "a", &random_bytes(round, 1000), geometry(2, 3)).await;
        let heads = store.catalog(|catalog| catalog.heads(&name("a"))).await.expect("heads");
        let whole = heads[0].whole.clone().expect("whole");
        assert_eq!((heads.len(), whole.generation), (1, round));
        assert_eq!(whole.parents, earlier);
        earlier.insert(0, heads[0].id);
    }
}

#[tokio::test]
async fn a_backend_that_dies_on_the_way_loses_its_shard_to_another() {
    let world = TestWorld::new(6).await;
    let store = world.open().await;
    world.faulty(2).die_after_bytes(1_000_000);
    let bytes = random_bytes(1, 6_000_000);
    let report = put_bytes(&store, "a", &bytes, geometry(3, 5)).await;
    assert!(!report.is_degraded());
    let backends: Vec<_> =
        report.objects[0].shards.iter().map(|shard| shard.backend.clone().expect("a place")).collect();
    assert!(!backends.contains(&"b2".to_owned()) && backends.contains(&"b6".to_owned()), "{backends:?}");
    assert_eq!(report.objects[0].margin, Some(2));
    assert!(read_file(&store, "a").await.expect("listed") == bytes);
    let failed = shard::ops::writer::failed_writers(&store).await.expect("notes");
    assert_eq!(failed, [store.registry().by_name("b2").expect("registered").id]);
    // What may be left there is to be deleted when it answers again.
    assert_eq!(store.catalog(|catalog| catalog.pending_deletes(None, 10)).await.expect("deletes").len(), 1);
    assert!(store.catalog(|catalog| catalog.journals()).await.expect("journals").is_empty());
}

#[tokio::test]
async fn a_rebuilt_shard_is_the_byte_identical_one() {
    let world = TestWorld::new(4).await;
    let store = world.open().await;
    world.faulty(3).inject(Fault::new(Operation::Finish, When::Always, Effect::Refuse(BackendErrorKind::Failed)));
    let bytes = random_bytes(1, 3_000_000);
    let report = put_bytes(&store, "a", &bytes, geometry(2, 3)).await;
    let object = report.objects[0].id;
    assert!(!report.is_degraded());
    let shards = store.catalog(move |catalog| catalog.shards(object)).await.expect("shards");
    let reader = crate::world::reader_of(&store, object).await;
    for shard in shards {
        let number = usize::from(shard.backend.0[0]);
        let path = world.shard_path(number, shard::id::ShardId { object, index: shard.index });
        let found = fs::read(path).expect("a shard");
        let leaves = reader.trusted_leaves(shard.index).await.expect("read").expect("leaves");
        let tail = shard::format::tail_bytes(reader.manifest(), shard.index, &leaves, None);
        let header = shard::format::header_bytes(reader.manifest(), shard.index);
        assert!(found.starts_with(&header) && found.ends_with(&tail), "shard {}", shard.index);
        assert_eq!(found.len() as u64, shard.bytes);
    }
}

/// Every backend takes one shard and no second.
fn one_shard_each(world: &TestWorld, count: usize) {
    for number in 1..=count {
        let full = Effect::Refuse(BackendErrorKind::NoSpace);
        world.faulty(number).inject(Fault::new(Operation::Create, When::From(2), full));
    }
}

#[tokio::test]
async fn without_another_place_the_put_is_degraded() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    one_shard_each(&world, 5);
    world.faulty(4).die_after_bytes(500_000);
    let bytes = random_bytes(2, 4_000_000);
    let report = put_bytes(&store, "a", &bytes, geometry(3, 5)).await;
    assert!(report.is_degraded());
    let missing: Vec<_> = report.objects[0].shards.iter().filter(|shard| shard.state == ShardState::Missing).collect();
    assert_eq!((missing.len(), missing[0].backend.clone()), (1, None));
    assert_eq!((report.objects[0].margin, report.objects[0].backend_margin), (Some(1), Some(1)));
    let object = report.objects[0].id;
    let health = store.catalog(move |catalog| catalog.health(object)).await.expect("health").expect("known");
    assert_eq!(health.state, ObjectState::Degraded);
    assert!(read_file(&store, "a").await.expect("listed") == bytes);
}

#[tokio::test]
async fn below_the_quorum_nothing_stays() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    one_shard_each(&world, 5);
    for number in [1, 5] {
        world.faulty(number).inject(Fault::new(
            Operation::Finish,
            When::Always,
            Effect::Refuse(BackendErrorKind::Failed),
        ));
    }
    let options = putting(vec![stream_of("a", &random_bytes(3, 2_000_000))], geometry(3, 5));
    let error = put(&store, options).await.expect_err("three of five are too few");
    assert_eq!(error.kind, ErrorKind::BelowQuorum);
    assert!(std::error::Error::source(&error).is_some(), "what a backend said is underneath");
    assert_no_trace(&world, &store).await;
}

#[tokio::test]
async fn a_put_stops_as_soon_as_too_few_backends_are_left() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    for number in [1, 2] {
        world.faulty(number).die_after_bytes(300_000);
    }
    let endless = PutSource::Reader { reader: Box::new(tokio::io::repeat(7)), name: name("a") };
    let error = put(&store, putting(vec![endless], geometry(2, 3))).await.expect_err("two of three died");
    assert_eq!(error.kind, ErrorKind::BelowQuorum);
    assert_eq!(names(&store).await, Vec::<String>::new());
    // The two that do not answer may hold something; the third holds nothing.
    assert_eq!(store.catalog(|catalog| catalog.pending_deletes(None, 10)).await.expect("deletes").len(), 2);
    assert_eq!(world.files_on_backends().iter().filter(|path| path.starts_with(world.backend_dir(3))).count(), 0);
}

#[tokio::test]
async fn a_store_without_enough_places_says_so_before_it_reads() {
    let world = TestWorld::new(0).await;
    let store = world.open().await;
    let endless = PutSource::Reader { reader: Box::new(tokio::io::repeat(7)), name: name("a") };
    let error = put(&store, putting(vec![endless], geometry(2, 3))).await.expect_err("no backends");
    assert_eq!(error.kind, ErrorKind::BelowQuorum);
    assert!(error.hint.is_some());
}

#[tokio::test]
async fn a_cancelled_put_leaves_no_trace() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let cancel = CancellationToken::new();
    let mut controls = after_bytes(1_500_000, {
        let cancel = cancel.clone();
        move || cancel.cancel()
    });
    controls.cancel = cancel;
    let endless = PutSource::Reader { reader: Box::new(tokio::io::repeat(7)), name: name("a") };
    let options = PutOptions { controls, ..putting(vec![endless], geometry(2, 3)) };
    let error = put(&store, options).await.expect_err("cancelled");
    assert_eq!(error.kind, ErrorKind::Cancelled);
    assert_no_trace(&world, &store).await;
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_not_stored() {
    for new_length in [0, 999_999, 5_000_000] {
        let world = TestWorld::new(3).await;
        let store = world.open().await;
        let path = world.source("a", &random_bytes(4, 3_000_000));
        let changing = path.clone();
        let controls = at_first_bytes(move || {
            File::options().write(true).open(&changing).expect("open").set_len(new_length).expect("a length");
        });
        let options = PutOptions { controls, ..putting(vec![file(path)], geometry(2, 3)) };
        let error = put(&store, options).await.expect_err("it changed");
        assert_eq!(error.kind, ErrorKind::Changed, "{new_length}");
        assert_no_trace(&world, &store).await;
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_or_no_file_is_an_error() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let absent = put(&store, putting(vec![file(world.desk().join("absent"))], geometry(2, 3))).await;
    assert_eq!(absent.expect_err("absent").kind, ErrorKind::NotFound);
    assert!(PutSource::at(&world.desk().join("absent"), None).is_err());
    assert!(matches!(PutSource::at(&world.desk(), None).expect("a folder"), PutSource::Folder { .. }));
    let device = put(&store, putting(vec![file("/dev/zero".into())], geometry(2, 3))).await;
    assert_eq!(device.expect_err("no file").kind, ErrorKind::Local);
    assert_no_trace(&world, &store).await;
}

/// The narrowest shape has the smallest objects: here files of some megabytes have several pieces.
pub(crate) const NARROW: (usize, usize) = (1, 25);
pub(crate) const PIECE_BYTES: usize = 3_932_160;

#[tokio::test]
async fn a_large_file_has_pieces_and_an_interrupted_put_goes_on_after_them() {
    let world = TestWorld::with(25, Kept::InMemory).await;
    let narrow = geometry(NARROW.0, NARROW.1);
    let bytes = random_bytes(5, 2 * PIECE_BYTES + 100_000);
    let path = world.source("large", &bytes);
    let store = world.open().await;
    let first = interrupt(&store, path.clone(), narrow).await;
    assert_eq!(names(&store).await, Vec::<String>::new(), "it is not there before its last piece");
    drop(store);

    let store = world.open().await;
    let report = put(&store, putting(vec![file(path.clone())], narrow)).await.expect("stored");
    assert_eq!((report.files[0].version, report.files[0].objects.len()), (first, 3));
    assert_eq!(report.objects.len(), 1, "only the last piece was written again");
    assert_eq!(report.files[0].blake3.0, *blake3::hash(&bytes).as_bytes());
    assert!(read_file(&store, "large").await.expect("listed") == bytes);
}

#[tokio::test]
async fn a_file_that_is_another_by_now_is_not_gone_on_with() {
    let world = TestWorld::with(25, Kept::InMemory).await;
    let narrow = geometry(NARROW.0, NARROW.1);
    let mut bytes = random_bytes(6, 2 * PIECE_BYTES + 100_000);
    let path = world.source("large", &bytes);
    let store = world.open().await;
    let first = interrupt(&store, path.clone(), narrow).await;
    bytes[PIECE_BYTES + 1] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let report = put(&store, putting(vec![file(path)], narrow)).await.expect("stored");
    assert_ne!(report.files[0].version, first);
    assert_eq!(report.objects.len(), 3);
    assert!(read_file(&store, "large").await.expect("listed") == bytes);
}

#[tokio::test]
async fn what_a_living_process_is_storing_is_not_gone_on_with() {
    let world = TestWorld::with(25, Kept::InMemory).await;
    let narrow = geometry(NARROW.0, NARROW.1);
    let path = world.source("large", &random_bytes(7, PIECE_BYTES + 100_000));
    let store = world.open().await;
    let first = interrupt_after(&store, path.clone(), narrow, PIECE_BYTES as u64 + 1).await;
    let _lease = store.lease(&version_lease(first)).await.expect("free");
    let other = world.open().await;
    let report = put(&other, putting(vec![file(path)], narrow)).await.expect("stored");
    assert_ne!(report.files[0].version, first);
    assert_eq!(report.objects.len(), 2);
}

#[tokio::test]
async fn the_pieces_of_a_stream_that_fails_are_taken_back() {
    let world = TestWorld::with(25, Kept::InMemory).await;
    let store = world.open().await;
    let cancel = CancellationToken::new();
    let mut controls = after_bytes(PIECE_BYTES as u64 + 200_000, {
        let cancel = cancel.clone();
        move || cancel.cancel()
    });
    controls.cancel = cancel;
    let endless = PutSource::Reader { reader: Box::new(tokio::io::repeat(7)), name: name("a") };
    let options = PutOptions { controls, ..putting(vec![endless], geometry(NARROW.0, NARROW.1)) };
    assert_eq!(put(&store, options).await.expect_err("cancelled").kind, ErrorKind::Cancelled);
    assert!(store.catalog(|catalog| catalog.objects_after(None, 10)).await.expect("objects").is_empty());
    assert!(store.catalog(|catalog| catalog.unfinished()).await.expect("versions").is_empty());
    assert!(store.catalog(|catalog| catalog.pending_deletes(None, 10)).await.expect("deletes").is_empty());
}

/// Stores two pieces of a file and is cancelled in the third; says under which version.
pub(crate) async fn interrupt(store: &Store, path: PathBuf, geometry: Geometry) -> VersionId {
    interrupt_after(store, path, geometry, 2 * PIECE_BYTES as u64 + 1).await
}

async fn interrupt_after(store: &Store, path: PathBuf, geometry: Geometry, bytes: u64) -> VersionId {
    let cancel = CancellationToken::new();
    let mut controls = after_bytes(bytes, {
        let cancel = cancel.clone();
        move || cancel.cancel()
    });
    controls.cancel = cancel;
    let options = PutOptions { controls, ..putting(vec![file(path)], geometry) };
    assert_eq!(put(store, options).await.expect_err("cancelled").kind, ErrorKind::Cancelled);
    let unfinished = store.catalog(|catalog| catalog.unfinished()).await.expect("versions");
    assert_eq!(unfinished.len(), 1);
    unfinished[0].id
}

#[tokio::test]
async fn two_puts_of_one_name_at_once_both_count() {
    let world = TestWorld::new(3).await;
    let (one, other) = (world.open().await, world.open().await);
    let (first, second) = (random_bytes(8, 2_000_000), random_bytes(9, 2_000_000));
    let geometry = geometry(2, 3);
    tokio::join!(put_bytes(&one, "a", &first, geometry), put_bytes(&other, "a", &second, geometry));
    let versions = one.catalog(|catalog| catalog.versions(&name("a"))).await.expect("versions");
    let mut found = Vec::new();
    for version in &versions {
        assert!(version.complete);
        found.push(read_version(&one, version).await);
    }
    assert!(found.len() == 2 && found.contains(&first) && found.contains(&second));
    assert!(one.catalog(|catalog| catalog.journals()).await.expect("journals").is_empty());
}
