//! The file: made, opened, refused, damaged, shared, rebuilt.

use super::*;
use crate::catalog::{CheckRecord, Error, JournalEntry, ObjectState, Purpose};
use rusqlite::Connection;
use std::fs;
use std::path::PathBuf;

fn database(world: &World) -> PathBuf {
    world.folder.path().join("catalog.db")
}

fn second(world: &World) -> Catalog {
    Catalog::open(&database(world), key()).expect("a second connection")
}

#[test]
fn a_catalog_is_created_once_and_opened_by_its_store_alone() {
    let world = World::new();
    assert_eq!(second(&world).store_id(), STORE);
    assert!(matches!(Catalog::create(&database(&world), key()), Err(Error::Exists { .. })));
    let other = Catalog::open(&database(&world), key_of(StoreId([8; 32]), 1)).expect_err("another store");
    assert!(matches!(other, Error::OtherStore { found: STORE, .. }), "{other}");
    let locked = Catalog::open(&database(&world), key_of(STORE, 2)).expect_err("another key");
    assert!(matches!(locked, Error::OtherKey { .. }), "{locked}");
    let absent = Catalog::open(&world.folder.path().join("none"), key()).expect_err("nothing there");
    assert!(matches!(absent, Error::Absent { .. }), "{absent}");
    assert!(!world.folder.path().join("none").exists());
}

#[test]
fn a_second_creation_does_not_take_the_log_from_under_an_open_catalog() {
    const READER: &str = "SHARD_TEST_CATALOG_READER";
    if let Some(path) = std::env::var_os(READER) {
        let tables = "SELECT count(*) FROM sqlite_schema";
        let other = Connection::open(path).expect("it opens");
        return assert!(other.query_row(tables, [], |row| row.get::<_, i64>(0)).expect("counted") > 0);
    }
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    assert!(matches!(Catalog::create(&database(&world), key()), Err(Error::Exists { .. })));
    let program = std::env::current_exe().expect("this program");
    let name = "catalog::tests::opening::a_second_creation_does_not_take_the_log_from_under_an_open_catalog";
    let run = std::process::Command::new(program).args(["--exact", name]).env(READER, database(&world)).status();
    assert!(run.expect("it runs").success());
    assert!(world.folder.path().join("catalog.db-wal").exists(), "who came and went was not the last one");
}

#[test]
fn questions_within_questions_are_of_the_same_state() {
    let mut world = World::new();
    let reader = second(&world);
    let stats = reader.consistently(|outer| {
        let before = outer.consistently(Catalog::stats)?;
        world.commit(&file(1, "a", 1, &[]));
        Ok((before, outer.consistently(Catalog::stats)?))
    });
    let (before, after) = stats.expect("answers");
    assert_eq!((before.files, after.files), (0, 0), "what another process did meanwhile is not seen");
    assert_eq!(reader.consistently(Catalog::stats).expect("an answer").files, 1);
}

#[test]
fn the_settings_are_those_that_make_a_commit_durable() {
    let world = World::new();
    let catalog = second(&world);
    let ask = |pragma: &str| -> String {
        catalog
            .connection
            .query_row(&format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}"), [], |row| row.get(0))
            .expect("a value")
    };
    assert_eq!([ask("journal_mode"), ask("synchronous"), ask("foreign_keys")], ["wal", "2", "1"]);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_the_names_in_it() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    for entry in fs::read_dir(world.folder.path()).expect("a folder") {
        let entry = entry.expect("an entry");
        assert_eq!(entry.metadata().expect("metadata").permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

#[test]
fn a_creation_that_was_interrupted_is_finished_by_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("catalog.db");
    fs::write(&path, "").expect("an empty file");
    assert!(matches!(Catalog::open(&path, key()), Err(Error::Foreign { application_id: 0, .. })));
    Catalog::create(&path, key()).expect("finished");
    Catalog::open(&path, key()).expect("opened");
}

#[test]
fn one_of_two_creators_makes_it_and_the_other_learns_that_it_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("catalog.db");
    let outcomes = std::thread::scope(|scope| {
        let create = || Catalog::create(&path, key()).map(drop);
        let both = [scope.spawn(create), scope.spawn(create)];
        both.map(|thread| thread.join().expect("no panic"))
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Err(Error::Exists { .. }))), "{outcomes:?}");
}

#[test]
fn a_database_of_something_else_and_one_of_a_later_release_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("other.db");
    Connection::open(&path).expect("opened").execute_batch("CREATE TABLE t (x)").expect("made");
    let before = fs::read(&path).expect("read");
    assert!(matches!(Catalog::open(&path, key()), Err(Error::Foreign { .. })));
    assert!(matches!(Catalog::create(&path, key()), Err(Error::Foreign { .. })));
    assert_eq!(fs::read(&path).expect("read"), before, "what is not ours is left as it is");
    let world = World::new();
    world.catalog.connection.pragma_update(None, "user_version", 99).expect("set");
    let newer = Catalog::open(&database(&world), key()).expect_err("newer");
    assert!(matches!(newer, Error::Newer { found: 99, known: 4, .. }), "{newer}");
}

#[test]
fn a_catalog_of_the_first_schema_is_brought_to_the_present_one_and_counts_what_it_has() {
    let mut world = World::new();
    for number in 1..=3 {
        world.catalog.commit(&file(number, &format!("file {number}"), 1, &[])).expect("committed");
    }
    // As it was before.
    let back =
        "DROP VIEW standing; DROP TABLE class; DROP TABLE changed; DROP TABLE tally; DROP INDEX object_by_geometry;
        DROP TRIGGER object_counted; DROP TRIGGER object_changes; DROP TRIGGER object_goes; DROP TRIGGER shard_comes;
        DROP TRIGGER shard_changes; DROP TRIGGER shard_goes; DROP TRIGGER version_counted;
        DROP TRIGGER version_uncounted; DROP TRIGGER version_recounted; DROP TRIGGER file_counted;
        DROP TRIGGER file_uncounted; DROP TRIGGER file_recounted;
        DROP TRIGGER object_arrived; DROP TRIGGER object_left; DROP TABLE arrival; DROP TABLE backup_part;
        DROP TABLE challenge; DROP TABLE backend_history; PRAGMA user_version = 1;";
    world.catalog.connection.execute_batch(back).expect("set back");
    let mut catalog = Catalog::open(&database(&world), key()).expect("opened");
    let stats = catalog.stats().expect("stats");
    assert_eq!((stats.data_objects, stats.files, stats.versions), (3, 3, 3));
    assert_eq!((catalog.last_arrival().expect("read"), catalog.count_arrivals_after(0, 10).expect("read")), (3, 3));
    catalog.commit(&file(4, "file 4", 1, &[])).expect("committed");
    assert_eq!(catalog.count_arrivals_after(3, 10).expect("read"), 1);
    assert!(catalog.backup_objects().expect("read").is_empty());
    assert!(catalog.histories().expect("read").is_empty());
}

#[test]
fn a_damaged_file_is_said_to_be_damaged_wherever_the_damage_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole.db");
    let mut catalog = Catalog::create(&whole, key()).expect("created");
    for number in 1..=60 {
        catalog.commit(&file(number, &format!("file {number}"), 1, &[])).expect("committed");
    }
    drop(catalog);
    let bytes = fs::read(&whole).expect("read");
    let page_bytes = 4096;
    for page in 0..bytes.len() / page_bytes {
        let mut damaged = bytes.clone();
        damaged[page * page_bytes..(page + 1) * page_bytes].fill(0xA5);
        let path = folder.path().join(format!("{page}.db"));
        fs::write(&path, &damaged).expect("written");
        let outcome = Catalog::open(&path, key()).and_then(|catalog| catalog.check());
        assert!(matches!(outcome, Err(Error::Damaged { .. } | Error::Foreign { .. })), "page {page}: {outcome:?}");
    }
    fs::write(&whole, &bytes[..bytes.len() / 2]).expect("cut short");
    let outcome = Catalog::open(&whole, key()).and_then(|catalog| catalog.check());
    assert!(matches!(outcome, Err(Error::Damaged { .. })), "{outcome:?}");
}

#[test]
fn a_value_that_means_nothing_is_damage_and_not_a_panic() {
    let mut world = World::new();
    world.is_damaged = true;
    world.commit(&file(1, "a", 1, &[]));
    world.catalog.connection.execute("UPDATE class SET objects = 2", []).expect("changed");
    assert!(matches!(world.catalog.check(), Err(Error::Damaged { .. })));
    world.catalog.connection.execute("UPDATE class SET key = '[0,2,3,77,null,null,0,[]]'", []).expect("changed");
    assert!(matches!(world.catalog.stats(), Err(Error::Damaged { .. })));
    world.catalog.connection.execute("UPDATE shard SET state = 77", []).expect("changed");
    assert!(matches!(world.catalog.shards(object(1)), Err(Error::Damaged { .. })));
    world.catalog.connection.execute("UPDATE version SET sealed_name = x'00'", []).expect("changed");
    assert!(matches!(world.catalog.version(version(1)), Err(Error::Damaged { .. })));
    world.catalog.connection.execute("UPDATE object SET total_shards = 1", []).expect("changed");
    assert!(matches!(world.catalog.object(object(1)), Err(Error::Damaged { .. })));
}

#[test]
fn two_connections_at_once_lose_nothing() {
    let world = World::new();
    std::thread::scope(|scope| {
        for half in 0..2_u8 {
            let mut catalog = second(&world);
            scope.spawn(move || {
                for number in 0..40 {
                    let number = half * 100 + number;
                    catalog.commit(&file(number, &format!("f{number}"), 1, &[])).expect("committed");
                    assert!(!catalog.list("", None, 1000).expect("listed").is_empty());
                }
            });
        }
    });
    assert_eq!(world.catalog.list("", None, 1000).expect("listed").len(), 80);
    assert_eq!(world.catalog.used_by_backend().expect("use")[&backend(0)], (80, 40_000));
}

#[test]
fn a_writer_that_dies_in_the_middle_leaves_nothing_of_its_transaction() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    let dying = Connection::open(database(&world)).expect("opened");
    dying.execute_batch("BEGIN IMMEDIATE; DELETE FROM manifest; DELETE FROM shard;").expect("begun");
    // The files as they lie there while the writer is in the middle: what a crash leaves.
    let crashed = tempfile::tempdir().expect("a folder");
    for file_name in ["catalog.db", "catalog.db-wal"] {
        fs::copy(world.folder.path().join(file_name), crashed.path().join(file_name)).expect("copied");
    }
    drop(dying);
    let after = Catalog::open(&crashed.path().join("catalog.db"), key()).expect("opened");
    for catalog in [&world.catalog, &after] {
        assert_eq!(catalog.shards(object(1)).expect("shards").len(), 3);
        assert!(catalog.object(object(1)).expect("read").is_some());
        catalog.check().expect("whole");
    }
}

#[test]
fn a_commit_that_fails_in_the_middle_leaves_nothing() {
    let mut world = World::new();
    let mut commit = commit_of(1, pieces(&[last_piece(1, "a", (0, 1), &[]), last_piece(2, "b", (0, 1), &[])]));
    commit.index.pieces[1].offset = u64::MAX;
    assert!(world.catalog.commit(&commit).is_err());
    assert_eq!(world.catalog.stats().expect("stats"), World::new().catalog.stats().expect("stats"));
    assert!(world.catalog.versions(&name("a")).expect("versions").is_empty());
}

#[test]
fn a_rebuild_replaces_the_content_and_keeps_what_this_machine_alone_knows() {
    let mut world = World::new();
    let catalog = &mut world.catalog;
    let mut kept = file(1, "kept", 1, &[]);
    kept.piece_hashes = vec![(version(1), 0, Digest([3; 32]))];
    let mut begun = commit_of(5, pieces(&[piece(5, "begun", 0)]));
    begun.piece_hashes = vec![(version(5), 0, Digest([4; 32]))];
    for commit in [&kept, &begun, &file(2, "forgotten", 1, &[])] {
        catalog.commit(commit).expect("committed");
    }
    let shards = vec![ShardRecord { verified_ns: Some(70), ..shard(0, 0) }];
    let (state, object_id) = (ObjectState::Healthy, object(1));
    let check =
        CheckRecord { object: object_id, state, margin: None, backend_margin: None, shards, when_ns: 70, full: true };
    catalog.record_check(&check).expect("recorded");
    let entry = JournalEntry {
        object: object(50),
        process: process(1),
        purpose: Purpose::Put,
        name: None,
        version: None,
        shards: vec![(0, backend(0))],
    };
    catalog.begin(&entry).expect("begun");
    catalog.set_note("a", "b").expect("noted");
    assert!(catalog.try_lease("gc", process(1), &|_| true).expect("leased"));
    let newer = world.folder.path().join("file:newer' ?.db");
    let mut rebuilt = Catalog::create(&newer, key()).expect("created");
    kept.piece_hashes.clear();
    begun.piece_hashes.clear();
    for commit in [&kept, &begun, &file(3, "found", 1, &[]), &removal(8, &[(4, "gone", 1)], &[4])] {
        rebuilt.commit(commit).expect("committed");
    }
    let expected = rebuilt.list("", None, 10).expect("listed");
    drop(rebuilt);
    for _ in 0..2 {
        assert!(catalog.rebuild_into(&newer).expect("rebuilt").is_empty());
        assert_eq!(catalog.list("", None, 10).expect("listed"), expected);
        // By its hashes a file that was begun here is known: one that was whole is none.
        let hash = |number| catalog.pieces(version(number)).expect("pieces")[0].blake3;
        assert_eq!((hash(1), hash(5)), (None, Some(Digest([4; 32]))));
        assert_eq!(catalog.shards(object(1)).expect("shards")[0].verified_ns, Some(70));
        assert_eq!(catalog.health(object(1)).expect("read").expect("known").verified_ns, Some(70));
        assert_eq!(catalog.pending_deletes_of(object(4)).expect("count"), 3);
        assert_eq!(catalog.used_by_backend().expect("use")[&backend(0)], (4, 2000));
        assert_eq!(catalog.journals().expect("journals"), std::slice::from_ref(&entry));
        assert_eq!(catalog.note("a").expect("read").as_deref(), Some("b"));
        assert_eq!(catalog.lease_holder("gc").expect("read"), Some(process(1)));
    }
    catalog.check().expect("whole");
}

#[test]
fn a_rebuild_replaces_nothing_until_what_was_committed_since_it_began_is_taken_in_too() {
    let mut world = World::new();
    world.commit(&file(1, "old", 1, &[]));
    world.catalog.begin_rebuild().expect("begun");
    let newer = world.folder.path().join("newer.db");
    let mut rebuilt = Catalog::create(&newer, key()).expect("created");
    rebuilt.commit(&file(1, "old", 1, &[])).expect("committed");
    let since = [file(2, "new", 1, &[]), removal(8, &[(1, "old", 1)], &[1])];
    for commit in &since {
        world.catalog.commit(commit).expect("committed");
    }
    assert_eq!(world.catalog.rebuild_into(&newer).expect("asked"), [object(2), object(8)]);
    assert_eq!(world.head_numbers("new"), [2], "nothing was replaced");
    for commit in &since {
        rebuilt.commit(commit).expect("committed");
    }
    drop(rebuilt);
    world.catalog.commit(&file(3, "newest", 1, &[])).expect("committed");
    assert_eq!(world.catalog.rebuild_into(&newer).expect("asked"), [object(3)], "each is named once");
    assert!(world.catalog.rebuild_into(&newer).expect("rebuilt").is_empty());
    assert_eq!(world.head_numbers("new"), [2]);
    assert!(world.head_numbers("old").is_empty(), "it stays removed");
}

#[test]
fn deletes_that_wait_go_on_waiting_after_a_rebuild_but_none_of_what_it_found_alive() {
    let mut world = World::new();
    for number in [1, 2, 3, 5] {
        world.commit(&file(number, "a", 1, &[]));
    }
    for number in [1, 2] {
        world.catalog.move_shard(object(number), 0, backend(0), &shard(0, 4)).expect("moved");
    }
    world.commit(&removal(8, &[], &[3, 5]));
    world.catalog.forget_object(object(5)).expect("forgotten");
    let newer = world.folder.path().join("newer.db");
    let mut rebuilt = Catalog::create(&newer, key()).expect("created");
    let mut moved = file(1, "a", 1, &[]);
    moved.shards[0] = shard(0, 4);
    for commit in [&moved, &file(2, "a", 1, &[]), &file(3, "a", 1, &[])] {
        rebuilt.commit(commit).expect("committed");
    }
    drop(rebuilt);
    assert!(world.catalog.rebuild_into(&newer).expect("rebuilt").is_empty());
    let waiting = world.catalog.pending_deletes(None, 10).expect("deletes");
    let places: Vec<_> = waiting.iter().map(|delete| (delete.object, delete.index, delete.backend)).collect();
    let gone = |index| (object(5), index, backend(index));
    assert_eq!(places, [(object(1), 0, backend(0)), gone(0), gone(1), gone(2)]);
}

#[test]
fn a_rebuild_from_the_catalog_of_another_store_is_refused_and_changes_nothing() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    let other = world.folder.path().join("other.db");
    drop(Catalog::create(&other, key_of(StoreId([9; 32]), 1)).expect("created"));
    assert!(matches!(world.catalog.rebuild_into(&other), Err(Error::OtherStore { .. })));
    assert!(matches!(world.catalog.rebuild_into(&other.with_extension("none")), Err(Error::Absent { .. })));
    assert_eq!(world.head_numbers("a"), [1]);
}

#[test]
fn questions_about_one_thing_use_an_index() {
    let world = World::new();
    let questions = [
        "SELECT * FROM version WHERE name_tag = x'00' AND head = 1 ORDER BY id < x'ff' DESC, generation DESC, id DESC",
        "SELECT * FROM version WHERE name_tag = x'00' AND complete = 1 AND removed = 0
            ORDER BY id < x'ff' DESC, generation DESC, id DESC LIMIT 5",
        "SELECT 1 FROM piece WHERE version = x'00' AND ordinal = 0 AND object <> x'00' LIMIT 1",
        "SELECT f.tag FROM folder f WHERE f.parent = x'00'",
        "SELECT id, name_tag, sealed_name FROM version WHERE folder = x'00' AND head = 1",
        "SELECT id FROM object WHERE dead = 0 AND (verified_ns, id) > (1, x'00') ORDER BY verified_ns, id LIMIT 5",
        "SELECT id FROM object WHERE dead = 0 AND verified_ns IS NULL AND id > x'00' ORDER BY id LIMIT 5",
        "SELECT verified_ns FROM object WHERE dead = 0 AND data_shards = 2 AND total_shards = 3
            AND verified_ns IS NOT NULL ORDER BY verified_ns LIMIT 1",
        "SELECT ifnull(created_ns, 0) FROM object WHERE dead = 0 AND data_shards = 2 AND total_shards = 3
            AND verified_ns IS NULL ORDER BY created_ns LIMIT 1",
        "SELECT object FROM shard WHERE backend = x'00' AND (object, shard_index) > (x'00', 1)
            ORDER BY object, shard_index LIMIT 5",
        "SELECT count(*) FROM version WHERE name_tag = x'00' AND complete = 1 AND removed = 0",
        "SELECT p.version FROM piece p JOIN version v ON v.id = p.version WHERE p.object = x'00' AND v.removed = 0",
        "SELECT 1 FROM removed_object WHERE object = x'00' LIMIT 1",
        "SELECT 1 FROM removed_version WHERE version = x'00'",
        "SELECT object, shard_index, backend FROM pending_delete WHERE (object, shard_index, backend) > (x'00', 1, x'00')
            ORDER BY object, shard_index, backend LIMIT 5",
    ];
    for question in questions {
        let mut statement = world.catalog.connection.prepare(&format!("EXPLAIN QUERY PLAN {question}")).expect("sql");
        let plan: Vec<String> =
            statement.query_map([], |row| row.get(3)).expect("a plan").collect::<Result<_, _>>().expect("a plan");
        let walks = plan.iter().any(|step| step.starts_with("SCAN") || step.contains("TEMP B-TREE"));
        assert!(!walks, "{question}: {plan:?}");
    }
}

#[test]
fn what_is_in_a_folder_is_found_without_going_through_what_is_not() {
    let world = World::new();
    let sql = format!("EXPLAIN QUERY PLAN {}", super::super::listing::BELOW_FOLDER.replace("?1", "x'00'"));
    let mut statement = world.catalog.connection.prepare(&sql).expect("sql");
    let plan: Vec<String> =
        statement.query_map([], |row| row.get(3)).expect("a plan").collect::<Result<_, _>>().expect("a plan");
    assert!(plan.iter().any(|step| step.starts_with("SEARCH v ")), "{plan:?}");
    assert!(plan.iter().any(|step| step.starts_with("SEARCH f ")), "{plan:?}");
}
