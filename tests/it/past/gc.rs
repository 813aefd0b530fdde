//! Giving back space.

use super::*;
use shard::catalog::{JournalEntry, ProcessLock, Purpose};
use shard::format::{Index, ObjectKind, Piece};
use shard::id::{Digest, ProcessId};
use shard::ops::Controls;
use shard::ops::gc::GcMode;
use shard::ops::recover::{Existing, RecoverOptions, RecoverOutput, RecoverWhat, recover};
use shard::ops::writer::{Contents, ObjectOptions, ObjectWriter};
use shard::stripe::Seal;

#[tokio::test]
async fn packing_anew_keeps_what_lives_and_frees_the_rest() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let files: Vec<(String, Vec<u8>)> = (0..10).map(|n| (format!("f{n}"), bytes(n, 50_000))).collect();
    let given: Vec<(&str, Vec<u8>)> = files.iter().map(|(file, content)| (file.as_str(), content.clone())).collect();
    let old = put_together(&store, &given).await.objects[0].id;
    let (full, before) = (world.shard_bytes(), list_all(&store, ListedVersions::All).await);
    for file in 0..7 {
        remove_file(&store, &format!("folder/f{file}"), RemoveVersions::All).await;
    }
    let planned = gc(&store, GcOptions { mode: GcMode::DryRun, ..GcOptions::default() }).await.expect("a plan");
    assert_eq!((planned.repacked[0].live_bytes, planned.repacked[0].to), (150_000, None));
    assert!(planned.shards_deleted == 5 && planned.bytes_freed > 500_000, "those of the old object");
    assert!(heads(&store, "folder/f8").await.len() == 1 && world.shard_bytes() > full, "a dry run does nothing");
    let report = run_gc(&store).await;
    assert_eq!(report.repacked.len(), 1);
    let packed = &report.repacked[0];
    assert_eq!((packed.from.as_slice(), packed.pieces, packed.live_bytes), (&[old][..], 3, 150_000));
    assert!(packed.replaced && packed.to.is_some_and(|new| new < old));
    assert!(world.shard_bytes() * 2 < full, "{} of {full}", world.shard_bytes());
    run_gc_to_the_end(&store).await;
    assert_eq!(world.all_shards().len(), 5, "the removals are finished and gone too");
    let after = list_all(&store, ListedVersions::All).await;
    for file in 7..10 {
        let text = format!("folder/f{file}");
        assert!(read_file(&store, &text).await == Some(bytes(file, 50_000)));
        let of = |report: &ListReport| {
            report.files.iter().find(|f| f.name == name(&text)).map(|f| (f.version, f.size, f.modified))
        };
        assert_eq!(of(&after), of(&before), "version, length and time stay");
    }
    assert!(run_gc(&store).await.is_nothing());
    drop(store);
    world.lose_catalog("a");
    let store = world.open("a").await;
    run_rebuild(&store).await;
    assert_eq!(list_all(&store, ListedVersions::All).await.files, after.files);
}

#[tokio::test]
async fn several_thin_objects_become_one() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    for round in 0..3 {
        put_together(
            &store,
            &[(&format!("keep{round}"), bytes(round, 1000)), (&format!("drop{round}"), bytes(9, 90_000))],
        )
        .await;
        remove_file(&store, &format!("folder/drop{round}"), RemoveVersions::All).await;
    }
    let report = run_gc(&store).await;
    assert_eq!((report.repacked.len(), report.repacked[0].from.len()), (1, 3));
    run_gc_to_the_end(&store).await;
    assert_eq!(world.all_shards().len(), 5);
    for round in 0..3 {
        assert!(read_file(&store, &format!("folder/keep{round}")).await == Some(bytes(round, 1000)));
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_left_alone() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let old = put_together(&store, &[("keep", bytes(1, 1000)), ("drop", bytes(2, 90_000))]).await.objects[0].id;
    remove_file(&store, "folder/drop", RemoveVersions::All).await;
    drop(store);
    for backend in [0, 1, 2] {
        world.unmount(backend);
    }
    let store = world.open("a").await;
    assert_eq!(run_gc(&store).await.left_alone, [old]);
    drop(store);
    for backend in [0, 1, 2] {
        world.mount(backend);
    }
    let store = world.open("a").await;
    assert_eq!(run_gc(&store).await.repacked.len(), 1);
    assert!(read_file(&store, "folder/keep").await == Some(bytes(1, 1000)));
}

#[tokio::test]
async fn a_copy_too_many_goes_once_all_shards_are_intact_and_not_before() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 10_000)).await;
    let whole = world.all_shards();
    let (file, content) = world.shards(0).into_iter().next().expect("a shard");
    let copy = world.folder(1).join(&file);
    fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
    fs::write(&copy, &content).expect("written");
    let (other, right) = world.shards(2).into_iter().next().expect("a shard");
    let mut wrong = right.clone();
    wrong[100] ^= 1;
    fs::write(world.folder(2).join(&other), wrong).expect("damaged");
    assert!(run_gc(&store).await.surplus.is_empty(), "one shard is damaged");
    assert!(copy.exists());
    fs::write(world.folder(2).join(&other), right).expect("mended");
    let report = run_gc(&store).await;
    assert_eq!((report.surplus.len(), report.shards_deleted), (1, 1));
    assert_eq!(world.all_shards().len(), whole.len());
    assert!(read_file(&store, "file").await == Some(bytes(1, 10_000)));
    assert!(run_gc(&store).await.is_nothing());
}

/// Writes the first piece of a file whose last never comes.
async fn begin_file(store: &Store, text: &str, hash: Option<Digest>) -> VersionId {
    let version = VersionId(store.random_bytes().expect("bytes"));
    let options = ObjectOptions {
        file: Some((name(text), version)),
        ..ObjectOptions::new(ObjectKind::Data, RedundancyLevel::Personal.geometry(), Seal::Key)
    };
    let mut writer = ObjectWriter::begin(store, options).await.expect("a writer");
    writer.append(&bytes(1, 10_000)).await.expect("written");
    let piece = Piece { version, name: name(text), ordinal: 0, offset: 0, bytes: 10_000, last: None };
    let index = Index { pieces: vec![piece], ..Index::default() };
    let piece_hashes = hash.map(|hash| (version, 0, hash)).into_iter().collect();
    writer.finish(Contents { index, piece_hashes }).await.expect("stored");
    version
}

#[tokio::test]
async fn a_file_that_was_begun_here_and_not_ended_goes_and_one_begun_elsewhere_stays() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let own = begin_file(&store, "own", Some(Digest([1; 32]))).await;
    let own_bytes = world.shard_bytes();
    let foreign = begin_file(&store, "foreign", None).await;
    assert!(names(&store).await.is_empty());
    let planned = gc(&store, GcOptions { mode: GcMode::DryRun, ..GcOptions::default() }).await.expect("a plan");
    let report = run_gc(&store).await;
    for report in [&planned, &report] {
        assert_eq!(report.unfinished.iter().map(|file| file.version).collect::<Vec<_>>(), [own]);
        assert_eq!(report.unfinished_kept.iter().map(|file| file.version).collect::<Vec<_>>(), [foreign]);
        assert!((report.shards_deleted, report.bytes_freed) == (5, own_bytes), "{own_bytes}: {report:?}");
    }
    assert_eq!(world.all_shards().len(), 10, "the foreign one, and the removal that says so to other machines");
    run_gc_to_the_end(&store).await;
    assert_eq!(world.all_shards().len(), 5);
    assert!(run_gc(&store).await.is_nothing());
    remove_file(&store, "foreign", RemoveVersions::One(foreign)).await;
    run_gc_to_the_end(&store).await;
    assert!(world.all_shards().is_empty());
}

#[tokio::test]
async fn a_file_whose_end_may_be_out_of_reach_stays() {
    let world = World::new(6).await;
    let store = world.open("a").await;
    let version = begin_file(&store, "file", Some(Digest([1; 32]))).await;
    drop(store);
    world.unmount(5);
    let store = world.open("a").await;
    let planned = gc(&store, GcOptions { mode: GcMode::DryRun, ..GcOptions::default() }).await.expect("a plan");
    for report in [planned, run_gc(&store).await] {
        assert!(report.unfinished.is_empty(), "{report:?}");
        assert_eq!(report.unfinished_kept.iter().map(|file| file.version).collect::<Vec<_>>(), [version]);
    }
    drop(store);
    world.mount(5);
    let store = world.open("a").await;
    assert_eq!(run_gc(&store).await.unfinished.len(), 1);
}

#[tokio::test]
async fn a_file_that_a_living_process_is_putting_stays() {
    let world = World::new(5).await;
    let (store, putting) = (world.open("a").await, world.open("a").await);
    let version = begin_file(&putting, "file", Some(Digest([1; 32]))).await;
    let lease = putting.lease(&shard::ops::put::version_lease(version)).await.expect("a lease");
    let report = run_gc(&store).await;
    assert_eq!((report.unfinished.len(), report.unfinished_kept.len()), (0, 1));
    assert_eq!(world.all_shards().len(), 5);
    drop(lease);
    assert_eq!(run_gc(&store).await.unfinished.len(), 1);
}

#[tokio::test]
async fn what_a_dead_process_left_half_written_is_cleared() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 1000)).await;
    let (path, content) = world.shards(0).into_iter().next().expect("a shard");
    // The same bytes under the name of an object that a process, long dead, said it would write.
    let object = ObjectId([0xab; 16]);
    let planted = world.folder(0).join(format!("objects/ab/{object}.0.shard"));
    fs::create_dir_all(planted.parent().expect("a folder")).expect("a folder");
    let length = content.len() as u64;
    fs::write(&planted, content).expect("planted");
    let entry = JournalEntry {
        object,
        process: ProcessId([1; 16]),
        purpose: Purpose::Put,
        name: None,
        version: None,
        shards: (0..5).map(|index| (index, world.id(usize::from(index)))).collect(),
    };
    drop(ProcessLock::acquire(&store.dir().join("run"), entry.process).expect("a lock"));
    store.catalog(move |catalog| catalog.begin(&entry)).await.expect("journaled");
    let unfinished = world.folder(1).join(format!("tmp/{object}.1.0123456789abcdef.part"));
    fs::create_dir_all(unfinished.parent().expect("a folder")).expect("a folder");
    fs::write(&unfinished, bytes(2, 30_000)).expect("planted");
    let planned = gc(&store, GcOptions { mode: GcMode::DryRun, ..GcOptions::default() }).await.expect("a plan");
    assert!(planned.leftovers == 1 && unfinished.exists() && !planned.is_nothing());
    let report = run_gc(&store).await;
    assert_eq!((report.leftovers, report.bytes_freed), (1, 30_000 + length), "and it says so");
    assert!(!planted.exists() && !unfinished.exists() && world.folder(0).join(path).exists());
    assert!(store.catalog(|catalog| catalog.journals()).await.expect("the catalog").is_empty());
}

/// What a gc leaves behind that is killed after it packed this file anew, and before it gives the old object up.
pub(super) async fn pack_and_die(store: &Store, old: ObjectId, kept: &str) -> ObjectId {
    let old_reader = reader(store, old).await;
    let mut pieces = old_reader.index().await.expect("an index").pieces;
    pieces.retain(|piece| piece.name == name(kept));
    let options = ObjectOptions::new(ObjectKind::Data, RedundancyLevel::Personal.geometry(), Seal::Key);
    let id = ObjectId((u128::from_be_bytes(old.0) - (1 << 80)).to_be_bytes());
    let mut writer = ObjectWriter::begin_as(store, options, id).await.expect("a writer");
    for piece in &mut pieces {
        let content: Vec<_> =
            old_reader.payload(piece.offset..piece.offset + piece.bytes).try_collect().await.expect("readable");
        piece.offset = writer.payload_bytes();
        writer.append(&content.concat()).await.expect("written");
    }
    let index = Index { pieces, ..Index::default() };
    writer.finish(Contents { index, piece_hashes: Vec::new() }).await.expect("stored").id
}

/// An object half of which is removed, and its copy of the rest.
pub(super) async fn half_packed(store: &Store) -> (ObjectId, ObjectId) {
    let old = put_together(store, &[("keep", bytes(1, 1000)), ("big", bytes(2, 90_000))]).await.objects[0].id;
    remove_file(store, "folder/big", RemoveVersions::All).await;
    (old, pack_and_die(store, old, "folder/keep").await)
}

pub(super) fn lose_shards(world: &World, object: ObjectId, backends: std::ops::Range<usize>) {
    for backend in backends {
        let shards = world.shards(backend).into_keys().filter(|path| path.contains(&object.to_string()));
        shards.for_each(|path| fs::remove_file(world.folder(backend).join(path)).expect("lost"));
    }
}

async fn recovered(store: &Store, text: &str) -> Result<Vec<u8>, shard::Error> {
    let out = TempDir::new().expect("a folder");
    let options = RecoverOptions {
        what: RecoverWhat::Names(vec![name(text)]),
        version: None,
        range: None,
        output: RecoverOutput::Path(out.path().join("out")),
        existing: Existing::Keep,
        controls: Controls::default(),
    };
    recover(store, options).await?;
    Ok(fs::read(out.path().join("out")).expect("a file"))
}

#[tokio::test]
async fn nothing_is_given_up_for_a_copy_that_is_whole_by_record_alone() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let (_old, copy) = half_packed(&store).await;
    lose_shards(&world, copy, 0..3);
    let report = run_gc(&store).await;
    assert!(report.emptied.is_empty() && report.repacked.len() == 1, "{report:?}");
    assert!(recovered(&store, "folder/keep").await.expect("recovered") == bytes(1, 1000));
}

#[tokio::test]
async fn an_object_goes_once_every_byte_of_the_copy_of_what_lives_in_it_was_read() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let (old, copy) = half_packed(&store).await;
    let report = run_gc(&store).await;
    assert_eq!((report.emptied.as_slice(), report.repacked.len()), (&[old][..], 0));
    run_gc_to_the_end(&store).await;
    assert!(world.all_shards().keys().all(|(_, path)| path.contains(&copy.to_string())));
    assert!(recovered(&store, "folder/keep").await.expect("recovered") == bytes(1, 1000));
}

#[tokio::test]
async fn a_file_is_recovered_from_whichever_object_still_gives_it() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let (old, copy) = half_packed(&store).await;
    lose_shards(&world, copy, 0..3);
    assert!(recovered(&store, "folder/keep").await.expect("from the old one") == bytes(1, 1000));
    lose_shards(&world, old, 2..5);
    assert_eq!(recovered(&store, "folder/keep").await.expect_err("neither has it").kind, shard::ErrorKind::Lost);
}

#[tokio::test]
async fn gc_says_what_it_read_wrote_and_gave_back() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let old = put_together(&store, &[("keep", bytes(1, 200_000)), ("drop", bytes(2, 900_000))]).await.objects[0].id;
    remove_file(&store, "folder/drop", RemoveVersions::All).await;
    let bytes_of = |object: ObjectId| -> u64 {
        let shards = world.all_shards();
        let its = shards.iter().filter(|((_, path), _)| path.contains(&object.to_string()));
        its.map(|(_, content)| content.len() as u64).sum()
    };
    let old_bytes = bytes_of(old);
    let planned = gc(&store, GcOptions { mode: GcMode::DryRun, ..GcOptions::default() }).await.expect("a plan");
    assert!(planned.dry_run && (planned.shards_deleted, planned.bytes_freed) == (5, old_bytes));
    let report = run_gc(&store).await;
    let packed = &report.repacked[0];
    assert_eq!((packed.live_bytes, packed.file_bytes, packed.pieces), (200_000, 1_100_000, 1));
    assert_eq!(report.bytes_written, bytes_of(packed.to.expect("a new object")));
    assert_eq!((report.shards_deleted, report.bytes_freed, bytes_of(old)), (5, old_bytes, 0));
    assert!(report.bytes_read > 0 && !report.dry_run && report.waiting.is_empty());
}

#[tokio::test]
async fn an_object_of_which_half_lives_stays_and_one_of_which_less_lives_is_packed_anew() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let half = put_together(&store, &[("keep", bytes(1, 50_000)), ("drop", bytes(2, 50_000))]).await.objects[0].id;
    remove_file(&store, "folder/drop", RemoveVersions::All).await;
    assert!(run_gc(&store).await.repacked.is_empty());
    let less = put_together(&store, &[("less", bytes(3, 49_999)), ("more", bytes(4, 50_001))]).await.objects[0].id;
    remove_file(&store, "folder/more", RemoveVersions::All).await;
    let report = run_gc(&store).await;
    assert_eq!(report.repacked.iter().map(|packed| packed.from.as_slice()).collect::<Vec<_>>(), [&[less][..]]);
    assert!(world.all_shards().keys().any(|(_, path)| path.contains(&half.to_string())));
}
