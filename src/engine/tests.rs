//! What the engine promises, one promise a test.

use super::list::{List, ListEntry};
use super::*;
use crate::vault::Blob;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

struct Desk {
    folder: tempfile::TempDir,
    now: Arc<AtomicI64>,
}

fn key(node: u8, secret: u8) -> ChamberKey {
    ChamberKey::from_secret(NodeId([node; 32]), &[secret; 32])
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), now: Arc::new(AtomicI64::new(1_000)) }
    }

    fn open(&self, name: &str, key: ChamberKey) -> StorageEngine {
        let now = Arc::clone(&self.now);
        let clock = Clock::new(move || now.load(Ordering::SeqCst));
        let options = EngineOptions { clock, durability: Durability::Relaxed, ..EngineOptions::default() };
        StorageEngine::open(self.folder.path(), name, key, options).expect("an engine")
    }

    fn engine(&self) -> StorageEngine {
        self.open("e", key(1, 1))
    }
}

fn message(number: u64, peer: u8) -> Message {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Message::new(MessageId(id), PeerId([peer; 32]), format!("message {number}"))
}

fn numbers(page: &Page<Message>) -> Vec<u64> {
    let number = |message: &Message| message.id.0[..8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    page.records.iter().map(number).collect()
}

fn snapshot(engine: &StorageEngine) -> Vec<u8> {
    let mut bytes = Vec::new();
    let note = engine.snapshot(&mut bytes).expect("a snapshot");
    assert_eq!(note.bytes, bytes.len() as u64);
    bytes
}

fn restore(engine: &StorageEngine, bytes: &[u8]) -> Result<BackupNote> {
    engine.restore(&mut std::io::Cursor::new(bytes))
}

#[test]
fn a_list_of_thousands_is_read_from_any_place_whatever_was_taken_out_of_it() {
    const ENTRIES: u64 = 2_200;
    let desk = Desk::new();
    let engine = desk.engine();
    let run = |tx: &chamber::Transaction<'_>| -> chamber::Result<()> {
        let list = List::new(tx, ListName::Messages);
        let mut expected = BTreeMap::new();
        let mut random = 7_u64;
        let mut dice = |limit: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % limit
        };
        let older = |expected: &BTreeMap<u64, Vec<u8>>, before: u64, limit| {
            let entries = expected.range(..before).rev().take(limit);
            entries.map(|(ordinal, id)| ListEntry { ordinal: *ordinal, id: id.clone() }).collect::<Vec<_>>()
        };
        for number in 0..ENTRIES {
            let id = number.to_be_bytes().to_vec();
            expected.insert(list.append(&id, 50 + number)?, id);
            // The middle goes whole, so that leaves and words of it do, and of the rest every third.
            if number.is_multiple_of(3) || (300..1_900).contains(&number) {
                let ordinal = *expected.keys().next_back().expect("one");
                expected.remove(&ordinal);
                list.remove(ordinal)?;
            }
            if number.is_multiple_of(40) {
                let before = 40 + dice(number + 20);
                assert_eq!(list.older_than(Some(before), 5)?, older(&expected, before, 5), "{number}, {before}");
            }
        }
        assert_eq!(list.len()?, expected.len() as u64);
        assert_eq!(list.older_than(None, 5_000)?, older(&expected, u64::MAX, 5_000));
        for before in [0, 49, 50, 51, 350, 1_949, 1_950, 1_951, 2_250, u64::MAX] {
            assert_eq!(list.older_than(Some(before), 3)?, older(&expected, before, 3), "{before}");
        }
        for ordinal in expected.into_keys() {
            list.remove(ordinal)?;
            assert!(matches!(list.remove(ordinal), Err(chamber::Error::Torn)), "it is gone");
        }
        assert_eq!((list.len()?, list.older_than(None, 5)?), (0, Vec::new()));
        assert_eq!(tx.count_all()?, 0, "nothing is left of it");
        Ok(())
    };
    engine.chamber.transaction(run).expect("it works");
}

#[test]
fn a_page_follows_another_though_entries_come_and_go_between_them() {
    let desk = Desk::new();
    let engine = desk.engine();
    for number in 0..10 {
        engine.save_message(message(number, 1 + (number % 2) as u8)).expect("saved");
    }
    let first = engine.recent_messages(PageRequest::newest(3)).expect("a page");
    assert_eq!(numbers(&first), [9, 8, 7]);
    let next = PageRequest::after(3, &first).expect("it goes on");
    for gone in [7, 6, 9] {
        assert!(engine.delete_message(message(gone, 0).id).expect("deleted"));
    }
    engine.save_message(message(10, 1)).expect("saved");
    let second = engine.recent_messages(next).expect("a page");
    assert_eq!(numbers(&second), [5, 4, 3]);
    let third = engine.recent_messages(PageRequest::after(3, &second).expect("it goes on")).expect("a page");
    assert_eq!((numbers(&third), third.next), (vec![2, 1, 0], None));
    let of_one = engine.messages_of(PeerId([1; 32]), PageRequest::newest(3)).expect("a page");
    assert_eq!(numbers(&of_one), [10, 8, 4]);
    assert_eq!(engine.count_messages_of(PeerId([1; 32])).expect("counted"), 5);
    assert_eq!(engine.messages_of(PeerId([3; 32]), PageRequest::newest(1)).expect("a page").records, []);
    engine.clear_all().expect("cleared");
    engine.save_message(message(11, 1)).expect("saved");
    assert!(
        numbers(&engine.recent_messages(next).expect("a page")).is_empty(),
        "an old place is older than all that is new"
    );
    for limit in [0, MAX_PAGE_RECORDS + 1] {
        assert!(matches!(engine.recent_messages(PageRequest::newest(limit)), Err(Error::Limit { .. })));
    }
}

#[test]
fn a_message_that_is_saved_again_keeps_its_time_and_moves_only_to_another_peer() {
    let desk = Desk::new();
    let engine = desk.engine();
    for number in 0..3 {
        desk.now.store(1_000 - 100 * number as i64, Ordering::SeqCst);
        let saved = engine.save_message(message(number, 1)).expect("saved");
        assert_eq!(saved.saved_ms, 1_000, "a clock that is set back is not believed");
    }
    desk.now.store(5_000, Ordering::SeqCst);
    let again = engine.save_message(Message { body: Blob(b"other".to_vec()), ..message(0, 1) }).expect("saved");
    assert_eq!((again.saved_ms, engine.message(again.id).expect("asked")), (1_000, Some(again)));
    assert_eq!(numbers(&engine.recent_messages(PageRequest::newest(5)).expect("a page")), [2, 1, 0]);
    engine.save_message(message(1, 2)).expect("saved");
    let of = |peer: u8| numbers(&engine.messages_of(PeerId([peer; 32]), PageRequest::newest(5)).expect("a page"));
    assert_eq!((of(1), of(2)), (vec![2, 0], vec![1]));
    assert_eq!(numbers(&engine.recent_messages(PageRequest::newest(5)).expect("a page")), [2, 1, 0]);
    let tally = engine.statistics().expect("statistics").collections[&Collection::Messages];
    assert_eq!(tally.count, 3);
}

#[test]
fn a_page_of_long_records_is_short_and_goes_on() {
    let desk = Desk::new();
    let engine = desk.engine();
    let long = |number| Message { body: Blob(vec![7; 7 * 1024 * 1024]), ..message(number, 1) };
    (0..4).for_each(|number| drop(engine.save_message(long(number)).expect("saved")));
    let first = engine.recent_messages(PageRequest::newest(100)).expect("a page");
    assert_eq!(numbers(&first), [3, 2, 1]);
    let second = engine.recent_messages(PageRequest::after(100, &first).expect("it goes on")).expect("a page");
    assert_eq!((numbers(&second), second.next), (vec![0], None));
}

#[test]
fn a_snapshot_brings_everything_back_on_another_machine_with_the_same_key_alone() {
    let desk = Desk::new();
    let engine = desk.engine();
    for number in 0..40 {
        engine.save_message(message(number, 1)).expect("saved");
    }
    engine.save_message(Message { body: Blob(vec![1; 200_000]), ..message(40, 2) }).expect("saved");
    engine.set_metadata("name", &("a", 1)).expect("set");
    engine.chamber.store_with_ttl("soon", &1, std::time::Duration::from_secs(60)).expect("stored");
    let content = engine.chamber.put(b"content").expect("put");
    let bytes = snapshot(&engine);
    assert!(!bytes.windows(7).any(|window| window == b"message"), "it is sealed");
    assert_ne!(bytes, snapshot(&engine), "no two have the same key");
    let other = desk.open("other", key(1, 1));
    other.save_message(message(99, 9)).expect("saved");
    let note = restore(&other, &bytes).expect("restored");
    assert_eq!(Some(note), other.statistics().expect("statistics").last_backup);
    assert_eq!(other.statistics().expect("statistics").collections, engine.statistics().expect("it").collections);
    assert_eq!(other.message(message(99, 9).id).expect("asked"), None);
    for page in [PageRequest::newest(100), PageRequest::newest(3)] {
        assert_eq!(
            other.recent_messages(page).expect("a page").records,
            engine.recent_messages(page).expect("it").records
        );
    }
    assert_eq!(other.metadata("name").expect("asked"), Some(("a".to_owned(), 1)));
    assert_eq!(other.chamber.get(content).expect("asked").as_deref(), Some(&b"content"[..]));
    desk.now.fetch_add(60_000, Ordering::SeqCst);
    assert_eq!(other.chamber.retrieve::<i32>("soon").expect("asked"), None, "it expires as it would have");
    other.check().expect("all is well");

    assert!(matches!(restore(&desk.open("e", key(2, 1)), &bytes), Err(Error::OtherNode { .. })));
    assert!(matches!(restore(&desk.open("wrong", key(1, 2)), &bytes), Err(Error::OtherKey)));
    let empty = desk.open("empty", key(1, 1));
    restore(&other, &snapshot(&empty)).expect("an empty one is one too");
    assert_eq!(other.recent_messages(PageRequest::newest(5)).expect("a page").records, []);
    let place = engine.recent_messages(PageRequest::newest(1)).expect("a page").next.expect("it goes on");
    other.save_message(message(1, 1)).expect("saved");
    let old = PageRequest { limit: 5, before: Some(place) };
    assert_eq!(other.recent_messages(old).expect("a page").records, [], "no place is given twice");
}

#[test]
fn a_snapshot_with_any_bit_flipped_or_cut_or_made_longer_changes_nothing() {
    let desk = Desk::new();
    let engine = desk.engine();
    for number in 0..3 {
        engine.save_message(message(number, 1)).expect("saved");
    }
    let bytes = snapshot(&engine);
    engine.save_message(message(3, 1)).expect("saved");
    let refused = |bytes: &[u8], what: String| {
        let error = restore(&engine, bytes).expect_err(&what);
        let is_told = error.is_damage() || matches!(error, Error::NewerSnapshot { .. });
        assert!(is_told, "{what}: {error}");
    };
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(&flipped, format!("bit {bit}"));
    }
    for length in 0..bytes.len() {
        refused(&bytes[..length], format!("{length} bytes"));
    }
    refused(&[bytes.as_slice(), &[0]].concat(), "one byte more".to_owned());
    refused(&[bytes.as_slice(), &bytes].concat(), "twice".to_owned());
    assert_eq!(engine.statistics().expect("statistics").collections[&Collection::Messages].count, 4);
    engine.check().expect("all is well");
    restore(&engine, &bytes).expect("the whole one is taken");
}

#[test]
fn a_snapshot_that_fails_on_its_way_in_or_out_leaves_everything_as_it_was() {
    struct Failing(usize);
    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    /// Whole when it is read the first time, and another the second time.
    struct Changing(std::io::Cursor<Vec<u8>>, Vec<u8>);
    impl Read for Changing {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(room)
        }
    }
    impl Seek for Changing {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            if to != SeekFrom::Current(0) {
                *self.0.get_mut() = std::mem::take(&mut self.1);
            }
            self.0.seek(to)
        }
    }
    let desk = Desk::new();
    let engine = desk.engine();
    engine.save_message(Message { body: Blob(vec![1; 100_000]), ..message(0, 1) }).expect("saved");
    for room in [0, 50, 200, 70_000, 100_200] {
        assert!(engine.snapshot(&mut Failing(room)).expect_err("no room").is_full(), "{room}");
    }
    let whole = snapshot(&engine);
    let before = engine.statistics().expect("statistics").collections;
    let mut damaged = whole.clone();
    damaged[90_000] ^= 1;
    for second in [damaged, whole[..80_000].to_vec(), Vec::new(), snapshot(&engine)] {
        let failed = engine.restore(&mut Changing(std::io::Cursor::new(whole.clone()), second));
        assert!(failed.expect_err("it changed").is_damage());
        assert_eq!(engine.statistics().expect("statistics").collections, before);
    }
    assert_eq!(engine.message(message(0, 1).id).expect("asked").expect("it is there").body.0.len(), 100_000);
}

#[test]
fn a_change_that_fails_leaves_neither_record_nor_list_nor_sum() {
    let desk = Desk::new();
    let engine = desk.engine();
    engine.save_message(message(1, 1)).expect("saved");
    let before = engine.statistics().expect("statistics");
    let failed = engine.transaction(|tx| -> Result<()> {
        tx.save_message(message(2, 1))?;
        tx.delete_message(message(1, 1).id)?;
        tx.set_metadata("a", &1)?;
        assert_eq!(tx.metadata("a")?, Some(1));
        tx.clear_all()?;
        Err(Error::NoBackup)
    });
    assert!(matches!(failed, Err(Error::NoBackup)));
    assert_eq!(engine.statistics().expect("statistics").collections, before.collections);
    assert_eq!(numbers(&engine.recent_messages(PageRequest::newest(9)).expect("a page")), [1]);
}

#[test]
fn a_label_has_exactly_one_name() {
    let label = BackupLabel { node: NodeId([0xab; 32]), number: 7 };
    assert_eq!(label.to_string().parse(), Ok(label));
    let node = label.node;
    for wrong in [format!("{node}.7"), format!("{node}"), format!("{node}.+0000000000000000007"), "a.b".to_owned()] {
        assert_eq!(wrong.parse::<BackupLabel>(), Err(NotALabel), "{wrong}");
    }
}

#[test]
fn a_damaged_file_is_kept_aside_and_a_backup_is_restored_in_its_place() {
    let desk = Desk::new();
    let open = || StorageEngine::open_or_set_aside(desk.folder.path(), "e", || key(1, 1), &EngineOptions::default());
    let (engine, kept) = open().expect("it is made");
    assert_eq!(kept, None);
    (0..30).for_each(|number| drop(engine.save_message(message(number, 1)).expect("saved")));
    let (bytes, path) = (snapshot(&engine), engine.path().to_owned());
    drop(engine);
    assert_eq!(open().expect("it is whole").1, None);
    let mut file = std::fs::read(&path).expect("read");
    for page in file.chunks_mut(4096).skip(1) {
        page[4000] ^= 1;
    }
    std::fs::write(&path, &file).expect("written");
    let (engine, kept) = open().expect("it is made anew");
    let kept = kept.expect("the damaged one is kept");
    assert_eq!((std::fs::read(&kept).expect("read"), kept.with_extension("").exists()), (file, true));
    assert_eq!(engine.statistics().expect("statistics").collections[&Collection::Messages].count, 0);
    restore(&engine, &bytes).expect("restored");
    assert_eq!(engine.recent_messages(PageRequest::newest(100)).expect("a page").records.len(), 30);
    let wrong = StorageEngine::open_or_set_aside(desk.folder.path(), "e", || key(1, 2), &EngineOptions::default());
    assert!(!wrong.expect_err("another key").is_damage(), "what another key seals is not damaged");
    assert!(path.exists());
}
