//! What a chamber promises, one promise a test.

use super::*;
use crate::vault::{Blob, Clock, Durability};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

struct Desk {
    folder: tempfile::TempDir,
    now: Arc<AtomicI64>,
}

fn key(node: u8, secret: u8) -> ChamberKey {
    ChamberKey::from_secret(NodeId([node; 32]), &[secret; 32])
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), now: Arc::new(AtomicI64::new(1_000_000)) }
    }

    fn open(&self, key: ChamberKey) -> Result<Chamber> {
        let now = Arc::clone(&self.now);
        let clock = Clock::new(move || now.load(Ordering::SeqCst));
        Chamber::open(self.folder.path(), "c", key, Options { clock, durability: Durability::Relaxed })
    }

    fn chamber(&self) -> Chamber {
        self.open(key(1, 1)).expect("a chamber")
    }

    fn path(&self) -> PathBuf {
        Chamber::file(self.folder.path(), NodeId([1; 32]), &VaultName::new("c").expect("a name"))
    }
}

#[test]
fn records_and_contents_come_back_as_they_were() {
    let desk = Desk::new();
    let chamber = desk.chamber();
    let nested = BTreeMap::from([("名".to_owned(), vec![Some(1.5)])]);
    chamber.store(&("a", -1), &nested).expect("stored");
    chamber.store("text", &Blob(vec![0; 3_000_000])).expect("stored");
    assert_eq!(chamber.retrieve(&("a", -1)).expect("asked"), Some(nested));
    assert_eq!(chamber.retrieve("text").expect("asked"), Some(Blob(vec![0; 3_000_000])));
    chamber.store("text", "short").expect("stored");
    assert_eq!(chamber.retrieve::<String>("text").expect("asked").as_deref(), Some("short"));
    assert!(chamber.exists("text").expect("asked") && !chamber.exists("tex").expect("asked"));
    assert!(chamber.delete("text").expect("deleted") && !chamber.delete("text").expect("deleted"));
    let hash = chamber.put(b"content").expect("put");
    assert_eq!(hash.0, *blake3::hash(b"content").as_bytes());
    assert_eq!(chamber.put(b"content").expect("put"), hash);
    assert_eq!(chamber.get(hash).expect("asked").as_deref(), Some(&b"content"[..]));
    assert_eq!(chamber.get(Digest([0; 32])).expect("asked"), None);
    assert_eq!((chamber.len().expect("counted"), chamber.clear().expect("cleared")), (1, 1));
    assert!(chamber.is_empty().expect("asked") && chamber.get(hash).expect("asked").is_some());
    chamber.check().expect("all is well");
}

#[test]
fn keys_are_listed_in_order_and_by_what_they_begin_with() {
    let desk = Desk::new();
    let chamber = desk.chamber();
    for name in ["b/2", "a", "b/1", "c"] {
        chamber.store(name, &1).expect("stored");
    }
    assert_eq!(chamber.list_keys::<String>().expect("listed"), ["a", "b/1", "b/2", "c"]);
    assert_eq!(chamber.list_keys_beginning::<String>("b/").expect("listed"), ["b/1", "b/2"]);
}

#[test]
fn two_nodes_on_one_path_never_see_each_other_and_a_wrong_key_is_told_at_once() {
    let desk = Desk::new();
    let (one, other) = (desk.chamber(), desk.open(key(2, 1)).expect("a chamber"));
    one.store("a", &1).expect("stored");
    assert_eq!(other.retrieve::<i32>("a").expect("asked"), None);
    let wrong = desk.open(key(1, 2)).expect_err("another key");
    assert!(matches!(wrong, Error::Vault(vault::Error::OtherKey { .. })), "{wrong}");
    drop((one, other));
    let moved = Chamber::file(desk.folder.path(), NodeId([2; 32]), &VaultName::new("c").expect("a name"));
    fs::copy(desk.path(), moved).expect("copied");
    let wrong = desk.open(key(2, 1)).expect_err("another node");
    assert!(matches!(wrong, Error::Vault(vault::Error::OtherKey { .. })), "{wrong}");
}

#[test]
fn two_chambers_of_a_node_tell_nothing_of_each_other_and_neither_takes_what_is_the_others() {
    let desk = Desk::new();
    let one = desk.chamber();
    let other = Chamber::open(desk.folder.path(), "other", key(1, 1), Options::default()).expect("a chamber");
    for chamber in [&one, &other] {
        chamber.store("a", &1).expect("stored");
    }
    let (rows, others) = (sealed_rows(&one), sealed_rows(&other));
    assert!(rows.iter().all(|(tag, sealed)| others.iter().all(|(other, others)| tag != other && sealed != others)));
    // Rows that are given the tags of the other's.
    let theirs = others.iter().map(|(_, sealed)| sealed);
    let connection = rusqlite::Connection::open(one.path()).expect("the file");
    for (table, sealed) in ["entry", "body"].into_iter().zip(theirs) {
        connection.execute(&format!("UPDATE {table} SET value = ?1"), [sealed]).expect("changed");
    }
    assert!(one.retrieve::<i32>("a").expect_err("it is the other's").is_damage());
    let (path, others) = (one.path().to_owned(), other.path().to_owned());
    drop((one, other, connection));
    fs::copy(others, path).expect("copied");
    let told = desk.open(key(1, 1)).expect_err("it is the other's file");
    assert!(matches!(told, Error::Vault(vault::Error::OtherKey { .. })), "{told}");
}

#[test]
fn the_file_tells_neither_keys_nor_values_nor_what_was_deleted() {
    let desk = Desk::new();
    let chamber = desk.chamber();
    let raw = |what: &[u8]| {
        let bytes = fs::read(desk.path()).expect("read");
        bytes.windows(what.len()).any(|window| window == what)
    };
    chamber.store("a secret key", "a secret value").expect("stored");
    let hash = chamber.put(b"some secret content").expect("put");
    let sealed = sealed_rows(&chamber);
    assert_eq!(sealed.len(), 4);
    for (key, value) in &sealed {
        assert!(![b"secret".as_slice()].iter().any(|word| [key, value].iter().any(|part| contains(part, word))));
    }
    chamber.delete("a secret key").expect("deleted");
    drop(chamber);
    assert!(!raw(b"secret") && !raw(&hash.0));
    let left = sealed.iter().filter(|(_, value)| raw(value)).count();
    assert_eq!(left, 2, "what was deleted is overwritten, what stays is there");
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

fn sealed_rows(chamber: &Chamber) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let all = vault::KeyRange::all();
    let scanned = chamber.database.read(|raw| {
        [*raw, raw.bodies()].iter().try_for_each(|table| {
            table.scan(&all, |entry| -> Result<_> {
                rows.push((entry.key.to_vec(), entry.value.to_vec()));
                Ok(std::ops::ControlFlow::Continue(()))
            })
        })
    });
    scanned.expect("read");
    rows
}

#[test]
fn a_part_of_a_record_that_is_moved_or_missing_is_told_and_never_taken_for_another() {
    let change = |sql: &str| {
        let desk = Desk::new();
        let chamber = desk.chamber();
        chamber.store("a", &1).expect("stored");
        chamber.store("b", &2).expect("stored");
        drop(chamber);
        rusqlite::Connection::open(desk.path()).expect("a database").execute_batch(sql).expect("changed");
        let chamber = desk.chamber();
        let found = ["a", "b"].map(|key| chamber.retrieve::<i32>(key).map_err(|error| error.is_damage()));
        let listed = chamber.list_keys::<String>().map_err(|error| error.is_damage());
        (found, listed)
    };
    let swapped = "CREATE TEMP TABLE t AS SELECT key, value FROM body;
         UPDATE body SET value = (SELECT value FROM t WHERE t.key <> body.key);";
    assert_eq!(change(swapped).0, [Err(true), Err(true)]);
    let (found, listed) = change("DELETE FROM body WHERE key = (SELECT min(key) FROM body)");
    assert_eq!((found.iter().filter(|found| **found == Err(true)).count(), listed), (1, Err(true)));
    let (found, listed) = change("DELETE FROM entry WHERE key = (SELECT min(key) FROM entry)");
    assert_eq!((found.iter().filter(|found| found.is_ok()).count(), listed), (2, Err(true)));
    let (found, _) = change("UPDATE body SET expires = 5");
    assert_eq!(found, [Err(true), Err(true)], "a time of expiry that was changed hides nothing");
    let (_, listed) =
        change("UPDATE entry SET key = CAST(x'01' || randomblob(16) AS BLOB) WHERE key = (SELECT min(key) FROM entry)");
    assert_eq!(listed, Err(true));
}

#[test]
fn what_has_not_expired_does_not_go_by_the_word_of_a_damaged_index() {
    let desk = Desk::new();
    let chamber = desk.chamber();
    chamber.store_with_ttl("long", &1, Duration::from_secs(100)).expect("stored");
    chamber.store("ever", &2).expect("stored");
    drop(chamber);
    vault::tests::make_the_index_lie(&desk.path());
    let chamber = desk.chamber();
    assert!(chamber.cleanup_expired().expect_err("refused").is_damage());
    assert_eq!(chamber.retrieve::<i32>("long").expect("its value is whole"), Some(1));
}

#[test]
fn a_record_opens_for_its_purpose_alone_and_an_index_changes_with_what_it_stands_beside() {
    let desk = Desk::new();
    let chamber = desk.chamber();
    let index = Purpose::own(0).expect("a purpose");
    let both = |fails: bool| {
        chamber.transaction(|tx| -> Result<()> {
            tx.store(Purpose::RECORD, "ada", &("Ada", "London"))?;
            tx.store(index, &("London", "ada"), &())?;
            if fails { Err(Error::Torn) } else { Ok(()) }
        })
    };
    both(true).expect_err("it failed on purpose");
    assert!(chamber.is_empty().expect("asked"));
    both(false).expect("stored");
    let found = chamber.transaction(|tx| tx.list_keys_beginning::<(String, String)>(index, &("London",)));
    assert_eq!(found.expect("listed"), [("London".to_owned(), "ada".to_owned())]);
    assert_eq!(chamber.retrieve::<()>(&("London", "ada")).expect("asked"), None);
    assert_eq!(chamber.list_keys::<String>().expect("listed"), ["ada"]);
    assert!(Purpose::own(Purpose::COUNT).is_none());
}

#[test]
fn what_expired_is_neither_given_out_nor_listed_and_is_cleared_away() {
    let desk = Desk::new();
    let chamber = desk.chamber();
    let second = Duration::from_secs(1);
    chamber.store_with_ttl("short", &1, second).expect("stored");
    chamber.store_with_ttl("changed", &1, second).expect("stored");
    chamber.store("changed", &2).expect("stored");
    chamber.store_with_ttl("long", &3, second * 100).expect("stored");
    desk.now.fetch_add(1000, Ordering::SeqCst);
    assert_eq!(chamber.retrieve::<i32>("short").expect("asked"), None);
    assert_eq!(chamber.list_keys::<String>().expect("listed"), ["changed", "long"]);
    assert_eq!((chamber.cleanup_expired().expect("cleaned"), chamber.cleanup_expired().expect("cleaned")), (1, 0));
    assert_eq!(chamber.retrieve::<i32>("changed").expect("asked"), Some(2));
    assert_eq!(sealed_rows(&chamber).len(), 4);
}

#[test]
fn a_change_of_key_seals_everything_anew_and_tells_those_who_had_it_open() {
    let desk = Desk::new();
    let (chamber, other) = (desk.chamber(), desk.chamber());
    for number in 0..300 {
        chamber.store(&number, &(number * 2)).expect("stored");
    }
    chamber.store_with_ttl("soon", &1, Duration::from_secs(9)).expect("stored");
    let hash = chamber.put(b"content").expect("put");
    let before = sealed_rows(&chamber);
    assert_eq!(chamber.change_key(key(1, 2)).expect("changed"), 302);
    let after = sealed_rows(&chamber);
    assert!(before.len() == after.len() && !after.iter().any(|row| before.contains(row)));
    for chamber in [&chamber, &desk.open(key(1, 2)).expect("the new key")] {
        assert_eq!(chamber.retrieve(&299).expect("asked"), Some(598));
        assert_eq!(chamber.get(hash).expect("asked").as_deref(), Some(&b"content"[..]));
        assert_eq!(chamber.len().expect("counted"), 301);
        chamber.check().expect("all is well");
    }
    let told = |error: Error| matches!(error, Error::Vault(vault::Error::OtherKey { .. }));
    assert!(told(other.retrieve::<i32>(&1).expect_err("the old key")));
    assert!(told(other.store(&1, &1).expect_err("the old key")));
    assert!(told(desk.open(key(1, 1)).expect_err("the old key")));
}

#[test]
fn threads_that_share_a_chamber_find_every_record_while_its_key_is_changed() {
    let desk = Desk::new();
    let chamber = desk.chamber();
    for number in 0..20 {
        chamber.store(&number, &number).expect("stored");
    }
    let is_changed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (chamber, is_changed) = (&chamber, &is_changed);
            scope.spawn(move || {
                while !is_changed.load(Ordering::SeqCst) {
                    for number in 0..20 {
                        assert_eq!(chamber.retrieve(&number).expect("asked"), Some(number));
                    }
                    chamber.store(&thread, &thread).expect("stored");
                }
            });
        }
        let changed: Result<Vec<u64>> = (2..100).map(|secret| chamber.change_key(key(1, secret))).collect();
        is_changed.store(true, Ordering::SeqCst);
        assert_eq!(changed.expect("changed"), [20; 98]);
    });
    chamber.check().expect("all is well");
}

#[test]
fn a_record_is_less_than_100_bytes_longer_than_what_is_in_it() {
    let desk = Desk::new();
    let chamber = desk.chamber();
    let plain = Vault::open(desk.folder.path(), "plain", Options::default()).expect("a vault");
    let records = || (0..20_000_u32).map(|number| (format!("key {number:08}"), "v".repeat(20)));
    let entry_bytes = 12 + 2 + 20 + 1;
    chamber
        .transaction(|tx| records().try_for_each(|(key, value)| tx.store(Purpose::RECORD, &key, &value)))
        .expect("stored");
    plain.put_many(records()).expect("stored");
    let rows = sealed_rows(&chamber);
    let row_bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
    // Beside key and value SQLite keeps at most 8 bytes for each of the two rows: lengths, types, the cell's place.
    let overhead = row_bytes / 20_000 - entry_bytes + 2 * 8;
    assert!(overhead < 100, "{overhead} bytes a record");
    let length = |path: &Path| fs::metadata(path).expect("a file").len();
    chamber.database.check().expect("all is well");
    drop(chamber);
    let plain_path = plain.path().to_owned();
    drop(plain);
    let (sealed, plain) = (length(&desk.path()) / 20_000, length(&plain_path) / 20_000);
    assert!(sealed < 250, "{sealed} bytes of file a record of {entry_bytes}, beside {plain} in a vault");
}

use crate::vault::Vault;

#[test]
fn an_export_of_a_chamber_is_that_of_a_vault_with_the_same_entries() {
    let desk = Desk::new();
    let chamber = desk.chamber();
    let vault = Vault::open(desk.folder.path(), "v", Options::default()).expect("a vault");
    for number in [3, 1, 2] {
        chamber.store(&number, &Blob(vec![number])).expect("stored");
        vault.put(&number, &Blob(vec![number])).expect("put");
    }
    let name = VaultName::new("v").expect("a name");
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    chamber.export(&name, &mut sealed).expect("exported");
    vault.export(&name, &mut plain).expect("exported");
    assert_eq!(sealed, plain);
    chamber.clear().expect("cleared");
    assert_eq!(chamber.import(&mut plain.as_slice()).expect("imported"), 3);
    assert_eq!(chamber.retrieve(&2_u8).expect("asked"), Some(Blob(vec![2])));
    let cut = &plain[..plain.len() - 10];
    chamber.clear().expect("cleared");
    chamber.import(&mut &cut[..]).expect_err("it is cut short");
    assert!(chamber.is_empty().expect("asked"));
}
