//! What dead processes leave: taken in where it counts, taken back where it does not, and left alone where nobody knows.

use crate::past::run_rebuild;
use crate::world::{TestWorld, geometry, name, newest, put_bytes, random_bytes, read_file};
use shard::catalog::{Catalog, Commit, JournalEntry, ObjectRecord, ProcessLock, Purpose, ShardRecord, ShardState};
use shard::error::ErrorKind;
use shard::format::{Index, ObjectKind, Piece, Whole};
use shard::id::{BackendId, Digest, ObjectId, ProcessId, ShardId, VersionId};
use shard::ops::Controls;
use shard::ops::gc::{GcOptions, gc};
use shard::ops::leftovers::{LeftoversReport, clear};
use shard::ops::refresh::{RefreshOptions, refresh};
use shard::ops::writer::{Contents, ObjectOptions, ObjectWriter};
use shard::store::Store;
use shard::stripe::Seal;
use std::fs;
use std::path::PathBuf;

/// A process that died.
const DEAD: ProcessId = ProcessId([0xDE; 16]);

fn object_options() -> ObjectOptions {
    ObjectOptions::new(ObjectKind::Data, geometry(2, 3), Seal::Key)
}

async fn clear_up(store: &Store) -> LeftoversReport {
    clear(store, &Controls::default()).await.expect("cleared")
}

async fn journals(store: &Store) -> Vec<JournalEntry> {
    store.catalog(|catalog| catalog.journals()).await.expect("journals")
}

async fn shards(store: &Store, object: ObjectId) -> Vec<ShardRecord> {
    store.catalog(move |catalog| catalog.shards(object)).await.expect("shards")
}

/// Writes down what the dead process was about to write, and leaves the file that it locked.
async fn journal(store: &Store, entry: JournalEntry) {
    drop(ProcessLock::acquire(&store.dir().join("run"), DEAD).expect("a lock"));
    store.catalog(move |catalog| catalog.begin(&entry)).await.expect("journaled");
}

/// Makes the catalog forget an object as if its process had died just before the commit.
async fn forget(store: &Store, object: ObjectId) {
    let places = places_of(store, object).await;
    store.catalog(move |catalog| catalog.forget_object(object)).await.expect("forgotten");
    journal(store, entry(object, Purpose::Put, places)).await;
}

async fn places_of(store: &Store, object: ObjectId) -> Vec<(u8, BackendId)> {
    shards(store, object).await.iter().map(|shard| (shard.index, shard.backend)).collect()
}

/// Stores a file, then makes the catalog forget it as if its process had died just before the commit.
async fn die_before_commit(store: &Store, bytes: &[u8]) -> ObjectId {
    let report = put_bytes(store, "a", bytes, geometry(2, 3)).await;
    let object = report.objects[0].id;
    forget(store, object).await;
    assert!(newest(store, "a").await.is_none());
    object
}

fn entry(object: ObjectId, purpose: Purpose, shards: Vec<(u8, BackendId)>) -> JournalEntry {
    JournalEntry { object, process: DEAD, purpose, name: None, version: None, shards }
}

/// Begins a piece and leaves it, as a process that is killed does.
async fn die_half_way(store: &Store) {
    let mut writer = ObjectWriter::begin(store, object_options()).await.expect("begun");
    writer.append(&random_bytes(1, 3_000_000)).await.expect("written");
    drop(writer);
}

#[tokio::test]
async fn what_is_half_written_is_taken_back_once_its_process_is_dead() {
    let world = TestWorld::new(3).await;
    let dying = world.open().await;
    die_half_way(&dying).await;
    let store = world.open().await;
    assert_eq!(clear_up(&store).await, LeftoversReport::default(), "its process is alive");
    assert_eq!(journals(&store).await.len(), 1);
    drop(dying);
    let report = clear_up(&store).await;
    assert_eq!((report.taken_back.len(), report.waiting.len()), (1, 0));
    assert_eq!(world.files_on_backends(), Vec::<PathBuf>::new());
    assert!(journals(&store).await.is_empty());
    assert!(store.catalog(|catalog| catalog.pending_deletes(None, 10)).await.expect("deletes").is_empty());
}

/// Its shards arrived, the answers to them did not, and then the places took no deletes either.
#[tokio::test]
async fn a_put_that_was_taken_back_is_not_brought_in_again_while_its_deletes_wait() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let object = die_before_commit(&store, b"said to have failed").await;
    let left = world.files_on_backends().len();
    let places: Vec<(u8, BackendId)> = journals(&store).await[0].shards.clone();
    store.catalog(move |catalog| catalog.end_journal_leaving(object, &places)).await.expect("ended");
    let refreshed = refresh(&store, RefreshOptions::default()).await.expect("refreshed");
    assert_eq!((refreshed.objects, refreshed.files, left), (0, 0, 3));
    assert!(newest(&store, "a").await.is_none(), "what was said to have failed does not appear");
    let collected = gc(&store, GcOptions::default()).await.expect("collected");
    assert_eq!((collected.shards_deleted, collected.waiting.len()), (3, 0));
    assert!(newest(&store, "a").await.is_none());
    assert_eq!(world.files_on_backends(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_rebuild_does_not_bring_back_a_put_that_was_taken_back_while_its_deletes_wait() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let object = die_before_commit(&store, b"said to have failed").await;
    let places: Vec<(u8, BackendId)> = journals(&store).await[0].shards.clone();
    store.catalog(move |catalog| catalog.end_journal_leaving(object, &places)).await.expect("ended");
    let rebuilt = run_rebuild(&store).await;
    assert_eq!((rebuilt.objects, rebuilt.files, rebuilt.unreadable.len()), (0, 0, 0));
    assert!(newest(&store, "a").await.is_none(), "what was said to have failed does not appear");
    let collected = gc(&store, GcOptions::default()).await.expect("collected");
    assert_eq!((collected.shards_deleted, collected.waiting.len()), (3, 0));
    assert_eq!(world.files_on_backends(), Vec::<PathBuf>::new());
}

/// What an object holds that has the file `a` and nothing else.
fn whole_file(bytes: &[u8]) -> Contents {
    let whole = Whole {
        total_bytes: bytes.len() as u64,
        blake3: Digest(*blake3::hash(bytes).as_bytes()),
        mtime_ns: 0,
        mode: 0o644,
        generation: 1,
        parents: Vec::new(),
    };
    let (version, bytes_count) = (VersionId([1; 16]), bytes.len() as u64);
    let piece = Piece { version, name: name("a"), ordinal: 0, offset: 0, bytes: bytes_count, last: Some(whole) };
    Contents { index: Index { pieces: vec![piece], ..Index::default() }, piece_hashes: Vec::new() }
}

#[tokio::test]
async fn a_put_that_was_taken_for_dead_does_not_say_that_it_stored_what_was_taken_back() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let mut writer = ObjectWriter::begin(&store, object_options()).await.expect("begun");
    let bytes = random_bytes(2, 3_000_000);
    writer.append(&bytes).await.expect("written");
    // Whoever clears up after it ends its entry, having deleted what was there.
    let object = journals(&store).await[0].object;
    store.catalog(move |catalog| catalog.end_journal_leaving(object, &[])).await.expect("ended");
    let error = writer.finish(whole_file(&bytes)).await.expect_err("it is not recorded");
    assert_eq!(error.kind, ErrorKind::Busy, "{error}");
    assert!(newest(&store, "a").await.is_none());
    assert!(shards(&store, object).await.is_empty());
}

/// The other process found enough of the object to take it in, and went on to make it whole.
#[tokio::test]
async fn a_put_that_was_taken_for_dead_and_fails_deletes_nothing_of_what_was_taken_in() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let mut writer = ObjectWriter::begin(&store, object_options()).await.expect("begun");
    writer.append(&random_bytes(2, 3_000_000)).await.expect("written");
    let object = journals(&store).await[0].object;
    let other = put_bytes(&store, "a", b"taken in", geometry(2, 3)).await.objects[0].id;
    let take_in = move |catalog: &mut Catalog| {
        catalog.end_journal(object)?;
        let (record, shards) = (catalog.object(other)?.expect("an object"), catalog.shards(other)?);
        let record = ObjectRecord { id: object, ..record };
        catalog.commit(&Commit { object: record, shards, index: Index::default(), piece_hashes: Vec::new() })
    };
    store.catalog(take_in).await.expect("taken in");
    let recorded = shards(&store, object).await;
    for shard in &recorded {
        let path = world.shard_path(usize::from(shard.backend.0[0]), ShardId { object, index: shard.index });
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, b"what the other process made").expect("written");
    }
    let finished =
        || world.files_on_backends().into_iter().filter(|path| path.extension().is_some_and(|end| end == "shard"));
    let before: Vec<PathBuf> = finished().collect();
    writer.abandon().await.expect("abandoned");
    assert_eq!(finished().collect::<Vec<_>>(), before);
    assert_eq!(shards(&store, object).await, recorded);
    assert!(store.catalog(|catalog| catalog.pending_deletes(None, 10)).await.expect("deletes").is_empty());
}

#[tokio::test]
async fn a_place_that_is_no_more_does_not_hide_one_where_the_shard_can_be_made() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let bytes = random_bytes(4, 2_000_000);
    let object = put_bytes(&store, "a", &bytes, geometry(2, 3)).await.objects[0].id;
    let mut places = places_of(&store, object).await;
    places.extend((0..3).map(|index| (index, BackendId([0xFF; 16]))));
    store.catalog(move |catalog| catalog.forget_object(object)).await.expect("forgotten");
    journal(&store, entry(object, Purpose::Put, places)).await;
    fs::remove_file(&world.files_on_backends()[0]).expect("removed");
    assert_eq!(clear_up(&store).await.taken_in, [object]);
    assert!(read_file(&store, "a").await.expect("it appears") == bytes);
}

#[tokio::test]
async fn what_was_written_to_a_place_that_is_no_more_is_not_waited_for() {
    for purpose in [Purpose::Put, Purpose::Repair] {
        let world = TestWorld::new(3).await;
        let store = world.open().await;
        let object = put_bytes(&store, "a", b"kept", geometry(2, 3)).await.objects[0].id;
        let new = if purpose == Purpose::Put { ObjectId([7; 16]) } else { object };
        let gone = (0..3).map(|index| (index, BackendId([0xAB; 16]))).collect();
        journal(&store, entry(new, purpose, gone)).await;
        let report = clear_up(&store).await;
        assert_eq!((report.taken_back, report.waiting), (vec![new], vec![]), "{purpose:?}");
        assert!(journals(&store).await.is_empty());
        assert!(store.catalog(|catalog| catalog.pending_deletes(None, 10)).await.expect("deletes").is_empty());
        assert_eq!(read_file(&store, "a").await.expect("listed"), b"kept");
    }
}

#[tokio::test]
async fn a_put_that_runs_is_not_disturbed_by_another_that_clears_up() {
    let world = TestWorld::new(3).await;
    let running = world.open().await;
    let mut writer = ObjectWriter::begin(&running, object_options()).await.expect("begun");
    let bytes = random_bytes(2, 3_000_000);
    writer.append(&bytes[..1_000_000]).await.expect("written");
    let other = world.open().await;
    put_bytes(&other, "b", b"other", geometry(2, 3)).await;
    writer.append(&bytes[1_000_000..]).await.expect("written");
    writer.finish(whole_file(&bytes)).await.expect("stored");
    assert!(read_file(&other, "a").await.expect("listed") == bytes);
    assert_eq!(read_file(&other, "b").await.expect("listed"), b"other");
}

#[tokio::test]
async fn a_file_that_was_whole_but_not_committed_is_taken_in_by_the_next_put() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let bytes = random_bytes(3, 2_000_000);
    die_before_commit(&store, &bytes).await;
    put_bytes(&store, "b", b"next", geometry(2, 3)).await;
    assert!(read_file(&store, "a").await.expect("it appears") == bytes);
    assert!(journals(&store).await.is_empty());
    assert_eq!(world.files_on_backends().len(), 6);
}

#[tokio::test]
async fn what_was_not_finished_of_it_is_made_where_it_was_meant_to_be() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let bytes = random_bytes(8, 2_000_000);
    let personal = geometry(3, 5);
    let object = put_bytes(&store, "a", &bytes, personal).await.objects[0].id;
    forget(&store, object).await;
    let lost = world.files_on_backends()[1].clone();
    let was = fs::read(&lost).expect("a shard");
    fs::remove_file(&lost).expect("removed");
    assert_eq!(clear_up(&store).await.taken_in, [object]);
    assert!(fs::read(&lost).expect("it is there again") == was);
    let health = store.catalog(move |catalog| catalog.health(object)).await.expect("health").expect("known");
    assert_eq!(health.state, shard::catalog::ObjectState::Healthy);
    assert!(read_file(&store, "a").await.expect("listed") == bytes);
}

#[tokio::test]
async fn what_is_too_little_to_be_read_is_taken_back() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let object = die_before_commit(&store, &random_bytes(4, 2_000_000)).await;
    for path in world.files_on_backends().iter().take(2) {
        fs::remove_file(path).expect("removed");
    }
    assert_eq!(clear_up(&store).await.taken_back, [object]);
    assert_eq!(world.files_on_backends(), Vec::<PathBuf>::new());
    assert!(newest(&store, "a").await.is_none());
}

#[tokio::test]
async fn what_can_be_read_below_its_quorum_is_made_whole_and_taken_in() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let bytes = random_bytes(4, 2_000_000);
    let object = die_before_commit(&store, &bytes).await;
    // The quorum of 2/3 is all three.
    fs::remove_file(&world.files_on_backends()[0]).expect("removed");
    assert_eq!(clear_up(&store).await.taken_in, [object]);
    assert_eq!(world.files_on_backends().len(), 3);
    assert!(read_file(&store, "a").await.expect("it appears") == bytes);
}

#[tokio::test]
async fn shards_that_were_moved_since_count_as_well() {
    let world = TestWorld::new(6).await;
    let store = world.open().await;
    let bytes = random_bytes(9, 2_000_000);
    let object = put_bytes(&store, "a", &bytes, geometry(2, 3)).await.objects[0].id;
    let recorded = shards(&store, object).await;
    let taken: Vec<u8> = recorded.iter().map(|shard| shard.backend.0[0]).collect();
    let free: Vec<usize> = (1..=6).filter(|number| !taken.contains(&(*number as u8))).collect();
    forget(&store, object).await;
    // All but one are elsewhere now: what the journal names is too little to be read.
    for (shard, to) in recorded.iter().zip(free).take(2) {
        copy_shard(&world, shard, to, object);
        let from = world.shard_path(usize::from(shard.backend.0[0]), ShardId { object, index: shard.index });
        fs::remove_file(from).expect("moved");
    }
    assert_eq!(clear_up(&store).await.taken_in, [object]);
    assert!(read_file(&store, "a").await.expect("it appears") == bytes);
}

#[tokio::test]
async fn nothing_is_deleted_for_a_journal_whose_process_did_not_die_here() {
    for purpose in [Purpose::Put, Purpose::Repair, Purpose::Move] {
        let world = TestWorld::new(3).await;
        let store = world.open().await;
        let object = die_before_commit(&store, &random_bytes(4, 2_000_000)).await;
        for path in world.files_on_backends().iter().take(2) {
            fs::remove_file(path).expect("removed");
        }
        let journaled = journals(&store).await.remove(0);
        let change = move |catalog: &mut Catalog| {
            catalog.end_journal(object)?;
            catalog.begin(&JournalEntry { process: ProcessId([0xE1; 16]), purpose, ..journaled })
        };
        store.catalog(change).await.expect("journaled");
        assert_eq!(clear_up(&store).await.left, [object], "{purpose:?}");
        assert_eq!(world.files_on_backends().len(), 1);
        assert!(journals(&store).await.is_empty());
    }
}

#[tokio::test]
async fn what_is_durable_is_taken_in_wherever_its_journal_comes_from() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let bytes = random_bytes(4, 2_000_000);
    let object = die_before_commit(&store, &bytes).await;
    fs::remove_file(store.dir().join(format!("run/{DEAD}.lock"))).expect("the lock");
    assert_eq!(clear_up(&store).await.taken_in, [object]);
    assert!(read_file(&store, "a").await.expect("it appears") == bytes);
}

#[tokio::test]
async fn a_place_that_is_away_when_its_object_is_taken_in_is_cleared_later() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let bytes = random_bytes(4, 2_000_000);
    let object = put_bytes(&store, "a", &bytes, geometry(3, 5)).await.objects[0].id;
    forget(&store, object).await;
    drop(store);
    world.unmount(3);
    let store = world.open().await;
    assert_eq!(clear_up(&store).await.taken_in, [object]);
    let waiting = store.catalog(|catalog| catalog.pending_deletes(None, 10)).await.expect("deletes");
    assert_eq!(waiting.iter().map(|delete| delete.backend).collect::<Vec<_>>(), [BackendId([3; 16])]);
}

#[tokio::test]
async fn copies_of_an_object_that_the_catalog_does_not_know_are_never_deleted() {
    for purpose in [Purpose::Repair, Purpose::Move] {
        let world = TestWorld::new(3).await;
        let store = world.open().await;
        let object = die_before_commit(&store, &random_bytes(4, 2_000_000)).await;
        let journaled = journals(&store).await.remove(0);
        let change = move |catalog: &mut Catalog| {
            catalog.end_journal(object)?;
            catalog.begin(&JournalEntry { purpose, ..journaled })
        };
        store.catalog(change).await.expect("journaled");
        assert_eq!(clear_up(&store).await.waiting, [object]);
        assert_eq!(world.files_on_backends().len(), 3);
    }
}

#[tokio::test]
async fn while_unreachable_places_could_make_up_the_quorum_it_waits() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let bytes = random_bytes(5, 2_000_000);
    let object = die_before_commit(&store, &bytes).await;
    drop(store);
    world.unmount(2);
    let store = world.open().await;
    assert_eq!(clear_up(&store).await.waiting, [object]);
    assert_eq!((journals(&store).await.len(), world.files_on_backends().len()), (1, 2));
    drop(store);
    world.mount(2);
    let store = world.open().await;
    assert_eq!(clear_up(&store).await.taken_in, [object]);
    assert!(read_file(&store, "a").await.expect("it appears") == bytes);
}

#[tokio::test]
async fn what_cannot_be_deleted_now_waits_for_its_deletion() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let object = die_before_commit(&store, &random_bytes(6, 1_000_000)).await;
    drop(store);
    for path in world.files_on_backends().iter().take(2) {
        fs::remove_file(path).expect("removed");
    }
    world.unmount(3);
    let store = world.open().await;
    assert_eq!(clear_up(&store).await.taken_back, [object]);
    let waiting = store.catalog(|catalog| catalog.pending_deletes(None, 10)).await.expect("deletes");
    assert_eq!(
        waiting.iter().map(|delete| (delete.object, delete.backend)).collect::<Vec<_>>(),
        [(object, BackendId([3; 16]))]
    );
    assert!(journals(&store).await.is_empty());
    // The place is away while the catalog is made anew from the others, and once more when it is there again.
    assert!(run_rebuild(&store).await.unreadable.is_empty());
    drop(store);
    world.mount(3);
    let store = world.open().await;
    assert_eq!(world.files_on_backends().len(), 1);
    assert!(run_rebuild(&store).await.unreadable.is_empty(), "what is to go is not lost");
    assert_eq!(gc(&store, GcOptions::default()).await.expect("collected").shards_deleted, 1);
    assert_eq!(world.files_on_backends(), Vec::<PathBuf>::new());
}

/// An object of 2/3 on four backends, and the place that has none of its shards.
async fn object_and_free_place(store: &Store) -> (ObjectId, usize) {
    let report = put_bytes(store, "a", &random_bytes(7, 1_500_000), geometry(2, 3)).await;
    let object = report.objects[0].id;
    let taken: Vec<u8> = shards(store, object).await.iter().map(|shard| shard.backend.0[0]).collect();
    (object, (1..=4).find(|number| !taken.contains(&(*number as u8))).expect("one is free"))
}

fn copy_shard(world: &TestWorld, from: &ShardRecord, to: usize, object: ObjectId) {
    let shard = ShardId { object, index: from.index };
    let target = world.shard_path(to, shard);
    fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
    fs::copy(world.shard_path(usize::from(from.backend.0[0]), shard), target).expect("copied");
}

#[tokio::test]
async fn a_copy_that_was_finished_but_not_recorded_is_kept() {
    for (is_lost, expected) in [(true, ShardState::Ok), (false, ShardState::Surplus)] {
        let world = TestWorld::new(4).await;
        let store = world.open().await;
        let (object, free) = object_and_free_place(&store).await;
        let first = shards(&store, object).await[0];
        copy_shard(&world, &first, free, object);
        let place = BackendId([free as u8; 16]);
        if is_lost {
            let drop_it = move |catalog: &mut Catalog| catalog.drop_shard(object, first.index, first.backend);
            store.catalog(drop_it).await.expect("dropped");
        }
        journal(&store, entry(object, Purpose::Repair, vec![(first.index, place)])).await;
        clear_up(&store).await;
        let kept = shards(&store, object).await.into_iter().find(|shard| shard.backend == place).expect("recorded");
        assert_eq!((kept.index, kept.state, kept.bytes), (first.index, expected, first.bytes));
        assert!(journals(&store).await.is_empty());
    }
}

#[tokio::test]
async fn a_copy_that_is_damaged_goes_and_a_recorded_one_never_does() {
    let world = TestWorld::new(4).await;
    let store = world.open().await;
    let (object, free) = object_and_free_place(&store).await;
    let first = shards(&store, object).await[0];
    copy_shard(&world, &first, free, object);
    let shard = ShardId { object, index: first.index };
    for number in [free, usize::from(first.backend.0[0])] {
        let path = world.shard_path(number, shard);
        let mut bytes = fs::read(&path).expect("a shard");
        bytes[100] ^= 1;
        fs::write(&path, bytes).expect("written");
    }
    let places = vec![(first.index, BackendId([free as u8; 16])), (first.index, first.backend)];
    journal(&store, entry(object, Purpose::Move, places)).await;
    clear_up(&store).await;
    assert!(!world.shard_path(free, shard).exists());
    assert!(world.shard_path(usize::from(first.backend.0[0]), shard).exists());
    assert_eq!(shards(&store, object).await.len(), 3);
    assert!(journals(&store).await.is_empty());
}

#[tokio::test]
async fn a_piece_without_an_end_is_taken_in_and_stays_invisible() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let mut writer = ObjectWriter::begin(&store, object_options()).await.expect("begun");
    writer.append(b"the first piece of several").await.expect("written");
    let piece = Piece { version: VersionId([1; 16]), name: name("a"), ordinal: 0, offset: 0, bytes: 26, last: None };
    let index = Index { pieces: vec![piece], ..Index::default() };
    let object = writer.finish(Contents { index, piece_hashes: Vec::new() }).await.expect("stored").id;
    forget(&store, object).await;
    assert_eq!(clear_up(&store).await.taken_in, [object]);
    assert_eq!(world.files_on_backends().len(), 3);
    assert_eq!(store.catalog(|catalog| catalog.unfinished()).await.expect("versions").len(), 1);
    assert!(newest(&store, "a").await.is_none());
    let pieces = store.catalog(|catalog| catalog.pieces(VersionId([1; 16]))).await.expect("pieces");
    let hash = Digest(*blake3::hash(b"the first piece of several").as_bytes());
    assert_eq!(pieces[0].blake3, Some(hash), "so that its put can go on after it");
}
