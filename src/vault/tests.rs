//! What a vault promises, one promise a test; the model and the kills are among the integration tests.

use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

struct Desk {
    folder: tempfile::TempDir,
    now: Arc<AtomicI64>,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), now: Arc::new(AtomicI64::new(1_000_000)) }
    }

    fn options(&self) -> Options {
        let now = Arc::clone(&self.now);
        Options { clock: Clock::new(move || now.load(Ordering::SeqCst)), durability: Durability::Relaxed }
    }

    fn vault(&self) -> Vault {
        Vault::open(self.folder.path(), "v", self.options()).expect("a vault")
    }
}

#[test]
fn the_idioms_of_maps_do_what_they_say() {
    let desk = Desk::new();
    let vault = desk.vault();
    assert!(vault.is_empty().expect("asked"));
    assert_eq!(vault.insert("a", &1).expect("put"), None);
    assert_eq!(vault.insert("a", &2).expect("put"), Some(1));
    assert_eq!(vault.get_or("b", 7).expect("asked"), 7);
    assert_eq!(vault.get_or_insert_with("b", || 3).expect("asked"), 3);
    assert_eq!(vault.get_or_insert_with("b", || 4).expect("asked"), 3);
    assert_eq!(vault.increment("n", 5).expect("added"), 5);
    assert_eq!(vault.increment("n", -7).expect("added"), -2);
    vault.put("n", &i64::MAX).expect("put");
    assert!(matches!(vault.increment("n", 1), Err(Error::NotIncremented { .. })));
    vault.put("n", "text").expect("put");
    assert!(matches!(vault.increment("n", 1), Err(Error::NotIncremented { .. })));
    assert!(matches!(vault.pop::<i64>("n"), Err(Error::OtherType { .. })));
    assert_eq!(vault.pop::<String>("n").expect("popped").as_deref(), Some("text"));
    assert!(vault.contains_key("a").expect("asked") && !vault.contains_key("n").expect("asked"));
    assert_eq!(vault.pop_first::<String, i64>().expect("popped"), Some(("a".to_owned(), 2)));
    assert!(vault.remove("b").expect("removed") && !vault.remove("b").expect("removed"));
    assert_eq!(vault.extend((0..5000).map(|number| (number, number * 2))).expect("put"), 5000);
    assert_eq!(vault.len().expect("counted"), 5000);
    let range: Vec<(i32, i32)> = vault.range(10..=12).expect("a range").collect::<Result<_>>().expect("read");
    assert_eq!(range, [(10, 20), (11, 22), (12, 24)]);
    assert!(vault.keys::<i32>().expect("keys").map(|key| key.expect("a key")).eq(0..5000));
    assert_eq!(vault.values::<i64>().expect("values").map(|value| value.expect("a value")).sum::<i64>(), 4999 * 5000);
    assert_eq!((vault.clear().expect("cleared"), vault.len().expect("counted")), (5000, 0));
}

#[test]
fn every_type_comes_back_as_it_was() {
    let desk = Desk::new();
    let vault = desk.vault();
    let nested =
        BTreeMap::from([("名前".to_owned(), vec![(1_u8, None), (2, Some(-0.5_f64))]), (String::new(), vec![])]);
    vault.put(&("nested", 1), &nested).expect("put");
    assert_eq!(vault.get(&("nested", 1)).expect("asked"), Some(nested));
    let long = "ж\0".repeat(50_000);
    vault.put(&long, &long).expect("put");
    assert_eq!(vault.get(&long).expect("asked"), Some(long));
    let blob = Blob(vec![0xA5; 100_000_000]);
    vault.put(&Blob(vec![0, 255]), &blob).expect("put");
    assert!(vault.get::<Blob>(&Blob(vec![0, 255])).expect("asked") == Some(blob));
    vault.put(&(), &()).expect("put");
    assert_eq!(vault.get(&()).expect("asked"), Some(()));
    vault.check().expect("all is well");
}

#[test]
fn a_transaction_happens_as_one_or_not_at_all() {
    let desk = Desk::new();
    let vault = desk.vault();
    vault.put("a", &1).expect("put");
    let failed = vault.transaction(|tx| -> Result<()> {
        tx.put("a", &2)?;
        tx.put("b", &2)?;
        assert_eq!(tx.iter::<String, i32>().map(|entry| entry.expect("an entry").1).collect::<Vec<_>>(), [2, 2]);
        assert!(matches!(vault.put("c", &3), Err(Error::Nested { .. })));
        assert_eq!(vault.get("a")?, Some(1), "readers see what was committed");
        tx.increment("none", 1)?;
        tx.put("a", "text")?;
        tx.increment("a", 1).map(drop)
    });
    assert!(failed.is_err());
    assert_eq!((vault.get("a").expect("asked"), vault.len().expect("counted")), (Some(1), 1));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        vault.transaction(|tx| -> Result<()> {
            tx.put("a", &9)?;
            std::panic::resume_unwind(Box::new("in the middle"))
        })
    }));
    assert!(panicked.is_err());
    vault.put("b", &2).expect("the next one has its turn");
    assert_eq!(vault.get("a").expect("asked"), Some(1));
}

#[test]
fn an_iterator_sees_one_state_whatever_is_written_meanwhile() {
    let desk = Desk::new();
    let vault = desk.vault();
    let text = "x".repeat(10_000);
    vault.extend((0..200).map(|number| (number, &text))).expect("put");
    let mut entries = vault.iter::<i32, String>().expect("entries");
    assert_eq!(entries.next().expect("one").expect("read").0, 0);
    vault.clear().expect("cleared");
    assert_eq!(entries.map(|entry| entry.expect("read").0).collect::<Vec<_>>(), (1..200).collect::<Vec<_>>());
}

#[test]
fn an_expired_entry_is_never_given_out_though_the_clock_is_set_back() {
    let desk = Desk::new();
    let vault = desk.vault();
    let second = Duration::from_secs(1);
    vault.put_with_ttl("short", &1, second).expect("put");
    vault.put_with_ttl("long", &2, second * 60).expect("put");
    vault.put_with_ttl("ever", &3, Duration::MAX).expect("put");
    assert_eq!(vault.len().expect("counted"), 3);
    desk.now.fetch_add(1000, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(vault.get::<i32>("short").expect("asked"), None);
        assert!(!vault.contains_key("short").expect("asked") && !vault.remove("short").expect("asked"));
        assert_eq!(vault.keys::<String>().expect("keys").count(), vault.len().expect("counted") as usize);
        vault.put_with_ttl("short", &1, Duration::ZERO).expect("put");
        desk.now.fetch_sub(500, Ordering::SeqCst);
    }
    assert_eq!(vault.pop_first::<String, i32>().expect("popped"), Some(("ever".to_owned(), 3)));
    assert_eq!(vault.cleanup_expired().expect("cleaned"), 1);
    assert_eq!((vault.cleanup_expired().expect("cleaned"), vault.len().expect("counted")), (0, 1));
    desk.now.store(70_000 + 1_000_000, Ordering::SeqCst);
    assert!(vault.is_empty().expect("asked"));
    vault.cleanup_expired().expect("cleaned");
    vault.put_with_ttl("again", &1, second).expect("put");
    drop(vault);
    desk.now.store(5, Ordering::SeqCst);
    let vault = desk.vault();
    vault.put_with_ttl("next", &1, second).expect("put");
    let mut ends = vault.untyped(None).expect("entries").map(|entry| entry.expect("read").expires_ms);
    assert_eq!(ends.next(), Some(Some(1_071_000)), "the time goes on where the file left it");
}

#[test]
fn a_deleted_vault_is_gone_for_whoever_has_it_open() {
    let desk = Desk::new();
    let open = |name: &str| Vault::open_existing(desk.folder.path(), name, desk.options());
    assert!(matches!(open("v"), Err(Error::Absent { .. })));
    let (one, other) = (desk.vault(), desk.vault());
    one.put("a", &1).expect("put");
    assert_eq!(other.get("a").expect("asked"), Some(1));
    one.delete_vault().expect("deleted");
    assert!(matches!(other.put("a", &2), Err(Error::Deleted { .. })));
    assert!(matches!(other.get::<i32>("a"), Err(Error::Deleted { .. })));
    assert!(matches!(open("v"), Err(Error::Absent { .. })));
    let again = desk.vault();
    again.put("b", &1).expect("put");
    drop(other);
    assert_eq!(again.len().expect("counted"), 1);
    assert!(matches!(open("../v"), Err(Error::Name { .. })));
}

#[test]
fn a_vault_whose_deletion_was_killed_is_made_anew_and_leaves_nothing() {
    let desk = Desk::new();
    let marked = |desk: &Desk| {
        let vault = desk.vault();
        vault.put("a", &1).expect("put");
        let path = vault.path().to_owned();
        drop(vault);
        let connection = rusqlite::Connection::open(&path).expect("a database");
        connection.execute("UPDATE vault SET deleted = 1", []).expect("marked, and no more");
        path
    };
    let path = marked(&desk);
    assert_eq!(desk.vault().len().expect("it is another"), 0);
    marked(&desk);
    let opened = Vault::open_existing(desk.folder.path(), "v", desk.options());
    assert!(matches!(opened, Err(Error::Absent { .. })) && !path.exists());
}

#[test]
fn a_vault_that_is_deleted_and_made_at_once_is_whole_or_not_there() {
    let desk = Desk::new();
    std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            for number in 0..200 {
                // It may be deleted under the hands of whoever opens it.
                let put = Vault::open(desk.folder.path(), "v", desk.options()).and_then(|vault| {
                    vault.put(&number, &number)?;
                    vault.check()
                });
                assert!(matches!(put, Ok(()) | Err(Error::Deleted { .. } | Error::Absent { .. })), "{put:?}");
            }
        });
        while !maker.is_finished() {
            let deleted = Vault::open_existing(desk.folder.path(), "v", desk.options()).and_then(Vault::delete_vault);
            assert!(matches!(deleted, Ok(()) | Err(Error::Deleted { .. } | Error::Absent { .. })), "{deleted:?}");
        }
    });
    let vault = desk.vault();
    vault.check().expect("all is well");
    let is_empty = vault.is_empty().expect("asked");
    assert_eq!(vault.delete_if_empty().expect("asked"), is_empty);
}

#[test]
fn a_vault_goes_as_empty_when_nothing_is_in_it_and_never_otherwise() {
    let desk = Desk::new();
    let vault = desk.vault();
    vault.put("a", &1).expect("put");
    assert!(!vault.delete_if_empty().expect("asked"));
    let vault = desk.vault();
    assert_eq!(vault.pop::<i32>("a").expect("popped"), Some(1));
    let path = vault.path().to_owned();
    assert!(vault.delete_if_empty().expect("asked") && !path.exists());
}

#[test]
fn what_is_no_vault_or_damaged_is_told_so() {
    let desk = Desk::new();
    let path = desk.folder.path().join("v.db");
    let open = || Vault::open(desk.folder.path(), "v", desk.options());
    fs::write(&path, b"not a database, but some text that is long enough to look at, and longer still, and longer")
        .expect("written");
    assert!(matches!(open(), Err(Error::Damaged { .. })));
    fs::remove_file(&path).expect("removed");
    let other = rusqlite::Connection::open(&path).expect("a database");
    other.execute_batch("CREATE TABLE a (b); PRAGMA application_id = 7").expect("a table");
    drop(other);
    assert!(matches!(open(), Err(Error::Foreign { .. })));
    fs::remove_file(&path).expect("removed");
    let vault = open().expect("a vault");
    vault.extend((0..500).map(|number| (number, format!("value {number}")))).expect("put");
    drop(vault);
    for (sql, newer) in [("PRAGMA user_version = 2", true), ("PRAGMA user_version = 1; CREATE TABLE more (x)", false)] {
        rusqlite::Connection::open(&path).expect("a database").execute_batch(sql).expect("changed");
        let refused = open().expect_err("refused");
        assert_eq!(matches!(refused, Error::Newer { .. }), newer, "{refused}");
    }
    rusqlite::Connection::open(&path).expect("a database").execute_batch("DROP TABLE more").expect("changed");
    let whole = fs::read(&path).expect("read");
    let at = whole.windows(9).position(|window| window == b"value 250").expect("it is in the file");
    let mut flipped = whole.clone();
    flipped[at + 8] ^= 1;
    fs::write(&path, flipped).expect("written");
    let vault = open().expect("the damage is not where it is opened");
    assert!(matches!(vault.get::<String>(&250), Err(Error::Damaged { .. })));
    assert!(matches!(vault.check(), Err(Error::Damaged { .. })));
    assert_eq!(vault.get::<String>(&251).expect("asked").as_deref(), Some("value 251"));
}

#[test]
fn an_export_brings_every_entry_back_and_a_changed_one_brings_nothing() {
    let desk = Desk::new();
    let vault = desk.vault();
    vault.put("text", "ä\n\"").expect("put");
    vault.put(&(1_u8, Some(true)), &BTreeMap::from([(1, vec![f64::NAN])])).expect("put");
    vault.put(&i128::MIN, &u128::MAX).expect("put");
    vault.put_with_ttl(&Blob(vec![0, 1]), &Blob(vec![7; 100]), Duration::from_secs(9)).expect("put");
    let name = VaultName::new("v").expect("a name");
    let mut export = Vec::new();
    assert_eq!(vault.export(&name, &mut export).expect("exported"), 4);
    let other = Vault::open(desk.folder.path(), "other", desk.options()).expect("a vault");
    other.put("stays", &1).expect("put");
    assert_eq!(other.import(&mut export.as_slice()).expect("imported"), 4);
    other.remove("stays").expect("removed");
    let mut again = Vec::new();
    other.export(&name, &mut again).expect("exported");
    assert_eq!(String::from_utf8(again).expect("UTF-8"), String::from_utf8(export.clone()).expect("UTF-8"));

    let text = String::from_utf8(export).expect("UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    let without = |line: usize| [&lines[..line], &lines[line + 1..]].concat().join("\n");
    let wrong = [
        text.replace("ä", "a"),
        text.replace("shard-vault/1", "shard-vault/2"),
        text.replace("$bytes", "$bites"),
        text.replacen("\"key\"", "\"kea\"", 1),
        format!("{text}{{}}"),
        without(0),
        without(1),
        without(5),
        String::new(),
    ];
    for wrong in wrong {
        let fresh = Vault::open(desk.folder.path(), "fresh", desk.options()).expect("a vault");
        fresh.import(&mut wrong.as_bytes()).expect_err("refused");
        assert!(fresh.is_empty().expect("asked"), "{wrong}");
    }
    let edited = format!("{}\n{{\"entries\":4}}", lines[..5].join("\n").replace('ä', "a"));
    assert_eq!(other.import(&mut edited.as_bytes()).expect("without its hash it may be edited"), 4);
    assert_eq!(other.get::<String>("text").expect("asked").as_deref(), Some("a\n\""));
}

#[test]
fn what_is_nothing_is_exported_and_imported_as_anything_else() {
    let desk = Desk::new();
    let vault = desk.vault();
    vault.put("none", &None::<i32>).expect("put");
    vault.put(&(), &()).expect("put");
    vault.put(&None::<i32>, &vec![None, Some(1)]).expect("put");
    let mut export = Vec::new();
    vault.export(&VaultName::new("v").expect("a name"), &mut export).expect("exported");
    vault.clear().expect("cleared");
    assert_eq!(vault.import(&mut export.as_slice()).expect("imported"), 3);
    assert_eq!(vault.get::<Option<i32>>("none").expect("asked"), Some(None));
    assert_eq!(vault.get::<()>(&()).expect("asked"), Some(()));
    assert_eq!(vault.get(&None::<i32>).expect("asked"), Some(vec![None, Some(1)]));
}

/// From now on the index of what expires says an earlier time than the entries do.
pub(crate) fn make_the_index_lie(path: &Path) {
    let open = || rusqlite::Connection::open(path).expect("a database");
    let run = |sql: &str| open().execute_batch(sql).expect("changed");
    let times = "SELECT key, expires FROM entry WHERE expires IS NOT NULL";
    let row = "name = 'expiring'";
    run(&format!(
        "CREATE TABLE times AS {times};
         UPDATE entry SET expires = 5 WHERE expires IS NOT NULL;
         CREATE TABLE kept AS SELECT * FROM sqlite_schema WHERE {row};
         PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE {row}"
    ));
    run("UPDATE entry SET expires = (SELECT times.expires FROM times WHERE times.key = entry.key);
         PRAGMA writable_schema = ON; INSERT INTO sqlite_schema SELECT * FROM kept");
    run("DROP TABLE times; DROP TABLE kept");
}

#[test]
fn what_has_not_expired_does_not_go_by_the_word_of_a_damaged_index() {
    let desk = Desk::new();
    let vault = desk.vault();
    vault.put_with_ttl("long", &1, Duration::from_secs(100)).expect("put");
    let path = vault.path().to_owned();
    drop(vault);
    make_the_index_lie(&path);
    let vault = desk.vault();
    assert!(matches!(vault.cleanup_expired(), Err(Error::Damaged { .. })));
    assert_eq!(vault.get::<i32>("long").expect("asked"), Some(1));
}
