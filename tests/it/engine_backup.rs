//! Backups of an engine: to a folder, and as files of a store, erasure-coded over its backends.

use crate::soak;
use crate::world::{TestWorld, geometry, name, putting};
use async_trait::async_trait;
use shard::crypto::ChamberKey;
use shard::engine::{
    BackupFolder, BackupLabel, BackupPlace, Backups, EngineOptions, Error, Message, PageRequest, PlaceError, Schedule,
    StorageEngine,
};
use shard::id::{MessageId, NodeId, PeerId};
use shard::ops::list::{ListOptions, list};
use shard::ops::put::{PutSource, put};
use shard::ops::recover::{RecoverOptions, RecoverOutput, RecoverWhat, recover};
use shard::ops::remove::{RemoveOptions, RemoveVersions, remove};
use shard::store::Store;
use shard::vault::{Clock, Durability};
use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

/// Records of the backup over erasure-coded backends, in a sample and in all.
const RECORDS: [u64; 2] = [1_500, 100_000];

fn key() -> ChamberKey {
    ChamberKey::from_secret(NodeId([1; 32]), &[2; 32])
}

fn open_at(folder: &Path, clock: Clock) -> Arc<StorageEngine> {
    let options = EngineOptions { clock, durability: Durability::Relaxed, ..EngineOptions::default() };
    Arc::new(StorageEngine::open(folder, "e", key(), options).expect("an engine"))
}

fn open(folder: &Path) -> Arc<StorageEngine> {
    open_at(folder, Clock::default())
}

fn message(number: u64) -> Message {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Message::new(MessageId(id), PeerId([(number % 5) as u8; 32]), format!("the message of number {number}"))
}

fn save(engine: &StorageEngine, numbers: std::ops::Range<u64>) {
    let saved =
        engine.transaction(|tx| numbers.clone().try_for_each(|number| tx.save_message(message(number)).map(drop)));
    saved.expect("saved");
}

/// All messages, the newest first.
fn all(engine: &StorageEngine) -> Vec<Message> {
    let (mut found, mut request) = (Vec::new(), Some(PageRequest::newest(1000)));
    while let Some(asked) = request {
        let page = engine.recent_messages(asked).expect("a page");
        request = PageRequest::after(1000, &page);
        found.extend(page.records);
    }
    found
}

fn kept(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).expect("it is not zero")
}

fn numbers(labels: &[BackupLabel]) -> Vec<u64> {
    labels.iter().map(|label| label.number).collect()
}

/// Backups as files of a store.
struct InStore {
    store: Arc<Store>,
}

const FOLDER: &str = "node-backups";

impl InStore {
    fn file(label: BackupLabel) -> shard::format::FileName {
        name(&format!("{FOLDER}/{label}"))
    }
}

#[async_trait]
impl BackupPlace for InStore {
    async fn keep(&self, label: BackupLabel, file: &Path) -> Result<(), PlaceError> {
        let source = PutSource::File { path: file.to_owned(), name: Some(Self::file(label)) };
        put(&self.store, putting(vec![source], geometry(3, 5))).await?;
        Ok(())
    }

    async fn list(&self) -> Result<Vec<BackupLabel>, PlaceError> {
        let options = ListOptions { prefix: format!("{FOLDER}/"), ..ListOptions::default() };
        let files = list(&self.store, options).await?.files;
        Ok(files.iter().filter_map(|file| file.name.as_str().strip_prefix(FOLDER)?[1..].parse().ok()).collect())
    }

    async fn fetch(&self, label: BackupLabel, file: &Path) -> Result<(), PlaceError> {
        let what = RecoverWhat::Names(vec![Self::file(label)]);
        recover(&self.store, RecoverOptions::new(what, RecoverOutput::Path(file.to_owned()))).await?;
        Ok(())
    }

    async fn delete(&self, label: BackupLabel) -> Result<(), PlaceError> {
        let (names, versions) = (vec![Self::file(label)], RemoveVersions::All);
        remove(&self.store, RemoveOptions { names, versions, ..RemoveOptions::default() }).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "how long it took belongs to the result")]
async fn a_backup_over_erasure_coded_backends_outlives_all_that_may_be_lost_and_the_machine() {
    let world = TestWorld::new(5).await;
    let records = RECORDS[usize::from(soak::is_asked_for())];
    let engine = open(&world.desk().join("node"));
    save(&engine, 0..records);
    engine.set_metadata("name", "value").expect("set");
    let expected = all(&engine);
    let place = Arc::new(InStore { store: Arc::new(world.open().await) });
    let backups = Backups { kept: kept(2), ..Backups::new(Arc::clone(&engine), place.clone()) };
    let begun = std::time::Instant::now();
    let report = backups.back_up().await.expect("a backup");
    println!("backup of {} records, {} bytes: {:?}", report.note.records, report.note.bytes, begun.elapsed());
    assert_eq!(engine.statistics().expect("statistics").last_backup, Some(report.note));
    save(&engine, records..records + 10);
    let second = backups.back_up().await.expect("another");
    let third = backups.back_up().await.expect("a third");
    assert_eq!((second.deleted.len(), numbers(&third.deleted)), (0, vec![1]));
    assert_eq!(numbers(&backups.list().await.expect("listed")), [3, 2]);

    // Two of five places go, and the machine with its engine.
    for number in [1, 4] {
        fs::remove_dir_all(world.backend_dir(number).join("objects")).expect("they are lost");
    }
    drop((backups, engine));
    fs::remove_dir_all(world.desk().join("node")).expect("it is lost");
    let fresh = open(&world.desk().join("fresh"));
    let backups = Backups::new(Arc::clone(&fresh), place);
    let begun = std::time::Instant::now();
    let note = backups.restore(Some(2)).await.expect("restored");
    println!("restore of {} records: {:?}", note.records, begun.elapsed());
    let found = all(&fresh);
    assert_eq!((found.len() as u64, note.number), (records + 10, 2));
    assert_eq!(&found[10..], expected, "every record, in its order, with its time");
    assert_eq!(fresh.metadata::<String>("name").expect("asked").as_deref(), Some("value"));
    fresh.check().expect("all is well");
    assert_eq!(backups.back_up().await.expect("it goes on").label.number, 4, "a number is not given twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_in_a_folder_are_kept_to_the_last_few_and_each_is_restored() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = open(&folder.path().join("node"));
    let place = Arc::new(BackupFolder::new(folder.path().join("backups")));
    let backups = Backups { kept: kept(3), ..Backups::new(Arc::clone(&engine), place.clone()) };
    assert!(matches!(backups.restore(None).await, Err(Error::NoBackup)));
    for number in 0..5 {
        save(&engine, number..number + 1);
        backups.back_up().await.expect("a backup");
    }
    assert_eq!(numbers(&backups.list().await.expect("listed")), [5, 4, 3]);
    // What others keep there, and what is no backup, stays.
    let other = BackupLabel { node: NodeId([9; 32]), number: 1 };
    for name in [place.file(other), folder.path().join("backups/notes.txt")] {
        fs::write(name, b"mine").expect("written");
    }
    backups.restore(Some(3)).await.expect("restored");
    assert_eq!(all(&engine).len(), 3);
    let note = backups.restore(None).await.expect("restored");
    assert_eq!((all(&engine).len(), note.number), (5, 5));
    backups.back_up().await.expect("a backup");
    assert_eq!(numbers(&backups.list().await.expect("listed")), [6, 5, 4]);
    assert!(place.file(other).exists() && folder.path().join("backups/notes.txt").exists());
    assert!(matches!(backups.restore(Some(1)).await, Err(Error::NoBackup)));

    let newest = place.file(BackupLabel { node: engine.node(), number: 6 });
    let whole = fs::read(&newest).expect("read");
    let before = all(&engine);
    for damaged in [whole[..whole.len() - 1].to_vec(), [&whole[..300], &[whole[300] ^ 1], &whole[301..]].concat()] {
        fs::write(&newest, damaged).expect("written");
        assert!(backups.restore(None).await.expect_err("refused").is_damage());
        assert_eq!(all(&engine), before, "what was there is there");
    }
    let left: BTreeSet<String> = fs::read_dir(engine.path().parent().expect("a folder"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!left.iter().any(|name| name.ends_with(".part")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_made_while_others_write_is_that_of_one_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = open(&folder.path().join("node"));
    save(&engine, 0..50);
    let place = Arc::new(BackupFolder::new(folder.path().join("backups")));
    let backups = Backups { kept: kept(100), ..Backups::new(Arc::clone(&engine), place) };
    let (stop, writing) = (Arc::new(AtomicBool::new(false)), Arc::clone(&engine));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        let mut number = 50;
        while !stopped.load(Ordering::SeqCst) {
            // Always fifty in a row: a state in between would have another number of them, or a gap.
            let done = writing.transaction(|tx| {
                tx.save_message(message(number))?;
                tx.delete_message(message(number - 50).id).map(drop)
            });
            done.expect("saved");
            number += 1;
        }
    });
    for _ in 0..6 {
        backups.back_up().await.expect("a backup");
    }
    stop.store(true, Ordering::SeqCst);
    writer.join().expect("it ended");
    let fresh = open(&folder.path().join("fresh"));
    let backups = Backups { engine: Arc::clone(&fresh), ..backups };
    let mut firsts = BTreeSet::new();
    for label in backups.list().await.expect("listed") {
        backups.restore(Some(label.number)).await.expect("restored");
        let found = all(&fresh);
        let first = u64::from_be_bytes(found[49].id.0[..8].try_into().expect("eight bytes"));
        assert!(found.iter().map(|found| found.id).eq((first..first + 50).rev().map(|number| message(number).id)));
        fresh.check().expect("all is well");
        firsts.insert(first);
    }
    assert!(firsts.len() > 1, "it was written to in between");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backup_is_made_at_a_time_and_what_a_killed_one_left_is_cleared() {
    /// Begins another backup while it keeps one.
    struct Nesting(BackupFolder, Arc<StorageEngine>);
    #[async_trait]
    impl BackupPlace for Nesting {
        async fn keep(&self, label: BackupLabel, file: &Path) -> Result<(), PlaceError> {
            let inner = Backups::new(Arc::clone(&self.1), Arc::new(self.0.clone()));
            assert!(matches!(inner.back_up().await, Err(Error::Busy { .. })));
            assert!(matches!(inner.restore(None).await, Err(Error::Busy { .. })));
            self.0.keep(label, file).await
        }
        async fn list(&self) -> Result<Vec<BackupLabel>, PlaceError> {
            self.0.list().await
        }
        async fn fetch(&self, label: BackupLabel, file: &Path) -> Result<(), PlaceError> {
            self.0.fetch(label, file).await
        }
        async fn delete(&self, _: BackupLabel) -> Result<(), PlaceError> {
            Err("it cannot".into())
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let engine = open(&folder.path().join("node"));
    save(&engine, 0..3);
    let left = format!("{}-backup.part", engine.path().display());
    fs::write(&left, b"left").expect("written");
    let place = BackupFolder::new(folder.path().join("backups"));
    let unfinished = place.file(BackupLabel { node: engine.node(), number: 9 }).with_extension("snapshot.part");
    fs::create_dir_all(folder.path().join("backups")).expect("a folder");
    fs::write(&unfinished, b"left").expect("written");
    let nesting = Arc::new(Nesting(place, Arc::clone(&engine)));
    let backups = Backups { kept: kept(1), ..Backups::new(engine, nesting) };
    backups.back_up().await.expect("a backup");
    assert!(!Path::new(&left).exists() && !unfinished.exists());
    let report = backups.back_up().await.expect("it is made though an old one stays");
    assert!(matches!(report.not_deleted, Some(Error::Place { .. })) && report.deleted.is_empty());
    assert_eq!(numbers(&backups.list().await.expect("listed")), [2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_made_as_the_schedule_says_and_after_a_failure_again() {
    /// Fails every other time, and lets an hour pass with each backup.
    struct Flaky(BackupFolder, AtomicUsize, Arc<AtomicI64>);
    #[async_trait]
    impl BackupPlace for Flaky {
        async fn keep(&self, label: BackupLabel, file: &Path) -> Result<(), PlaceError> {
            if self.1.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return Err("no room".into());
            }
            self.2.fetch_add(3_600_000, Ordering::SeqCst);
            self.0.keep(label, file).await
        }
        async fn list(&self) -> Result<Vec<BackupLabel>, PlaceError> {
            self.0.list().await
        }
        async fn fetch(&self, label: BackupLabel, file: &Path) -> Result<(), PlaceError> {
            self.0.fetch(label, file).await
        }
        async fn delete(&self, label: BackupLabel) -> Result<(), PlaceError> {
            self.0.delete(label).await
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let now = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&now);
    let engine = open_at(&folder.path().join("node"), Clock::new(move || clock.load(Ordering::SeqCst)));
    save(&engine, 0..3);
    let place = Flaky(BackupFolder::new(folder.path().join("backups")), AtomicUsize::new(0), Arc::clone(&now));
    let schedule = Schedule { retry: Duration::from_millis(1), ..Schedule::default() };
    let backups = Backups { schedule, ..Backups::new(engine, Arc::new(place)) };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (mut stop, mut outcomes) = (Some(stop), Vec::new());
    let shutdown = async {
        let _ = stopped.await;
    };
    let told = |outcome: &Result<_, Error>| {
        outcomes.push(outcome.is_ok());
        if outcomes.len() == 6 {
            drop(stop.take());
        }
    };
    backups.run(shutdown, told).await;
    assert_eq!(outcomes, [false, true, false, true, false, true]);
    assert_eq!(numbers(&backups.list().await.expect("listed")), [3, 2, 1]);
    let last = backups.engine.statistics().expect("statistics").last_backup.expect("there is one");
    assert!(!schedule.is_due(last.taken_ms + 3_599_999, Some(last.taken_ms)), "within the hour none is due");
}
