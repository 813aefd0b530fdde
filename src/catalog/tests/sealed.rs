//! What a copy of the catalog tells: nothing, and nothing wrong when somebody changes it.

use super::*;
use crate::catalog::{Error, JournalEntry, Purpose};
use rusqlite::{Connection, params};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

/// What would give a file away: its name, and numbers and hashes as a database writes them.
struct Secrets {
    names: Vec<String>,
    numbers: Vec<u64>,
    hashes: Vec<Digest>,
}

impl Secrets {
    /// Nothing of it comes about by chance.
    fn new() -> Self {
        let mut random = blake3::Hasher::new().update(b"markers").finalize_xof();
        let mut draw = || {
            let mut bytes = [0; 32];
            random.fill(&mut bytes);
            bytes
        };
        let names = (0..32).map(|_| hex::encode(draw())).collect();
        let number = |bytes: [u8; 32]| u64::from_le_bytes(*bytes.first_chunk().expect("8 bytes")) >> 2;
        Self {
            names,
            numbers: (0..96).map(|_| number(draw())).collect(),
            hashes: (0..64).map(|_| Digest(draw())).collect(),
        }
    }

    fn whole(&self, position: usize) -> Whole {
        Whole {
            total_bytes: self.numbers[position],
            blake3: self.hashes[position],
            mtime_ns: self.numbers[32 + position] as i64,
            mode: 0o644,
            generation: 1,
            parents: Vec::new(),
        }
    }

    /// A file version with a marker in each part of it that is nobody's business.
    fn commit(&self, position: usize) -> Commit {
        let number = position as u8 + 1;
        let text = format!("{}/in/{}", self.names[position], self.names[31 - position]);
        let mut piece = last_piece(number, &text, (0, 1), &[]);
        (piece.bytes, piece.offset) = (self.numbers[position], self.numbers[64 + position]);
        piece.last = Some(self.whole(position));
        let mut commit = commit_of(number, pieces(&[piece]));
        commit.piece_hashes = vec![(version(number), 0, self.hashes[32 + position])];
        commit
    }

    /// As bytes, in the ways in which they could stand in a file.
    fn markers(&self) -> Vec<Vec<u8>> {
        let names = self.names.iter().map(|name| name.as_bytes()[..16].to_vec());
        let numbers = self.numbers.iter().flat_map(|number| [number.to_be_bytes(), number.to_le_bytes()]);
        let texts = self.numbers.iter().map(|number| number.to_string().into_bytes());
        let hashes = self.hashes.iter().flat_map(|hash| [hash.0[..8].to_vec(), hash.to_string()[..16].into()]);
        names.chain(numbers.map(|number| number.to_vec())).chain(texts).chain(hashes).collect()
    }
}

/// Which of the markers are in the files of a folder.
fn found_in(folder: &Path, markers: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    let mut by_start: HashMap<&[u8], Vec<&Vec<u8>>> = HashMap::new();
    for marker in markers {
        by_start.entry(&marker[..8]).or_default().push(marker);
    }
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let bytes = fs::read(entry.expect("an entry").path()).expect("read");
        for (at, start) in bytes.windows(8).enumerate() {
            let candidates = by_start.get(start).into_iter().flatten();
            found.extend(candidates.filter(|marker| bytes[at..].starts_with(marker)).map(|marker| (*marker).clone()));
        }
    }
    found
}

#[test]
fn a_copied_catalog_tells_no_name_size_time_or_hash_of_any_file() {
    let secrets = Secrets::new();
    let mut world = World::new();
    for position in 0..32 {
        world.commit(&secrets.commit(position));
    }
    // Written over, removed, forgotten, begun, and made anew.
    let text = secrets.commit(0).index.pieces[0].name.to_string();
    world.commit(&file(90, &text, 2, &[1]));
    let gone = secrets.commit(1).index.pieces[0].name.to_string();
    world.commit(&removal(91, &[(2, &gone, 1)], &[2]));
    world.catalog.forget_object(object(2)).expect("forgotten");
    let entry = JournalEntry {
        object: object(92),
        process: process(1),
        purpose: Purpose::Put,
        name: Some(name(&gone)),
        version: Some(version(92)),
        shards: Vec::new(),
    };
    world.catalog.begin(&entry).expect("begun");
    assert_eq!(world.catalog.journals().expect("journals"), [entry]);
    let newer = world.folder.path().join("newer.db");
    let mut rebuilt = Catalog::create(&newer, key()).expect("created");
    rebuilt.commit(&secrets.commit(3)).expect("committed");
    world.catalog.rebuild_into(&newer).expect("rebuilt");
    assert_eq!(world.catalog.pieces(version(4)).expect("pieces")[0].blake3, Some(secrets.hashes[35]));
    let left: BTreeSet<_> =
        fs::read_dir(world.folder.path()).expect("a folder").map(|e| e.expect("e").path()).collect();
    assert!(left.len() >= 5, "database, log and index of both: {left:?}");
    assert_eq!(found_in(world.folder.path(), &secrets.markers()), BTreeSet::new());
}

/// That the search above finds what is there.
#[test]
fn the_same_written_plainly_is_found() {
    let secrets = Secrets::new();
    let folder = tempfile::tempdir().expect("a folder");
    let plain = Connection::open(folder.path().join("plain.db")).expect("opened");
    plain.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE plain (value ANY) STRICT").expect("made");
    let insert = |value: &dyn rusqlite::ToSql| plain.execute("INSERT INTO plain VALUES (?1)", params![value]);
    for text in &secrets.names {
        insert(text).expect("written");
    }
    for number in &secrets.numbers {
        insert(&(*number as i64)).expect("written");
        insert(&number.to_le_bytes().as_slice()).expect("written");
        insert(&number.to_string()).expect("written");
    }
    for hash in &secrets.hashes {
        insert(&hash.0.as_slice()).expect("written");
        insert(&hash.to_string()).expect("written");
    }
    let markers = secrets.markers();
    let found = found_in(folder.path(), &markers);
    let missed: Vec<_> = markers.iter().filter(|marker| !found.contains(*marker)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

/// Two files whose rows could be taken for each other's.
fn world_of_two() -> World {
    let mut world = World::new();
    for (number, text) in [(1, "folder/one"), (2, "folder/two")] {
        let mut commit = file(number, text, 1, &[]);
        commit.piece_hashes = vec![(version(number), 0, Digest([number; 32]))];
        world.commit(&commit);
    }
    world
}

fn is_damaged<T: std::fmt::Debug>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Damaged { .. }))
}

#[test]
fn every_flipped_bit_of_what_is_sealed_is_damage_and_never_another_name() {
    let world = world_of_two();
    let connection = &world.catalog.connection;
    for (table, column, id) in [
        ("version", "sealed_name", "id"),
        ("version", "sealed_whole", "id"),
        ("piece", "sealed_extent", "version"),
        ("piece", "sealed_hash", "version"),
    ] {
        let ask = format!("SELECT {column} FROM {table} WHERE {id} = ?1");
        let sealed: Vec<u8> = connection.query_row(&ask, [version(1)], |row| row.get(0)).expect("sealed");
        let set = |bytes: &[u8]| {
            let sql = format!("UPDATE {table} SET {column} = ?2 WHERE {id} = ?1");
            connection.execute(&sql, params![version(1), bytes]).expect("changed");
        };
        let looks_damaged = || match table {
            "version" => {
                is_damaged(&world.catalog.version(version(1)))
                    && is_damaged(&world.catalog.heads(&name("folder/one")))
                    && is_damaged(&world.catalog.list("", None, 10))
            }
            _ => is_damaged(&world.catalog.pieces(version(1))),
        };
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            set(&flipped);
            assert!(looks_damaged(), "{column} bit {bit}");
        }
        set(&sealed[..sealed.len() - 1]);
        assert!(looks_damaged(), "{column} cut short");
        set(&sealed);
        assert!(!looks_damaged(), "{column}");
    }
}

/// Gives each of two rows what the other has in these columns.
fn swap(world: &World, table: &str, id: &str, columns: &[&str]) {
    let of_other = |column: &&str| format!("{column} = (SELECT {column} FROM old o WHERE o.{id} <> {table}.{id})");
    let set = columns.iter().map(of_other).collect::<Vec<_>>().join(", ");
    let sql = format!("CREATE TEMP TABLE old AS SELECT * FROM {table}; UPDATE {table} SET {set}; DROP TABLE old");
    world.catalog.connection.execute_batch(&sql).expect("swapped");
}

#[test]
fn what_is_sealed_opens_in_its_own_row_alone() {
    for columns in [
        &["sealed_name"][..],
        &["sealed_whole"],
        &["name_tag"],
        &["sealed_name", "name_tag"],
        &["sealed_name", "sealed_whole"],
        &["sealed_name", "sealed_whole", "name_tag", "folder"],
    ] {
        let world = world_of_two();
        swap(&world, "version", "id", columns);
        for number in [1, 2] {
            assert!(is_damaged(&world.catalog.version(version(number))), "{columns:?}");
        }
        assert!(is_damaged(&world.catalog.list("", None, 10)), "{columns:?}");
    }
    for column in ["sealed_extent", "sealed_hash"] {
        let world = world_of_two();
        swap(&world, "piece", "version", &[column]);
        assert!(is_damaged(&world.catalog.pieces(version(1))), "{column}");
    }
}

#[test]
fn lengths_of_names_are_told_by_steps_and_all_others_not_at_all() {
    let mut world = World::new();
    for (number, text) in [(1, "a"), (2, "a name of more letters"), (3, &"b".repeat(40))] {
        let mut commit = file(number, text, 1, &[]);
        let piece = &mut commit.index.pieces[0];
        piece.bytes = 10_u64.pow(u32::from(number));
        piece.last.as_mut().expect("last").total_bytes = piece.bytes;
        world.commit(&commit);
    }
    let lengths = |sql: &str| -> Vec<i64> {
        let mut statement = world.catalog.connection.prepare(sql).expect("sql");
        statement.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("lengths")
    };
    let names = lengths("SELECT length(sealed_name) FROM version ORDER BY id");
    assert!(names[0] == names[1] && names[1] < names[2], "{names:?}");
    for sql in ["SELECT length(sealed_whole) FROM version", "SELECT length(sealed_extent) FROM piece"] {
        assert_eq!(lengths(sql).into_iter().collect::<BTreeSet<_>>().len(), 1, "{sql}");
    }
}

#[test]
fn a_folder_is_forgotten_with_the_last_version_in_it() {
    let mut world = World::new();
    let folders = |world: &World| -> i64 {
        world.catalog.connection.query_row("SELECT count(*) FROM folder", [], |row| row.get(0)).expect("a count")
    };
    world.commit(&file(1, "a/b/c/one", 1, &[]));
    world.commit(&file(2, "a/two", 1, &[]));
    world.commit(&file(3, "three", 1, &[]));
    assert_eq!(folders(&world), 3);
    world.catalog.forget_object(object(1)).expect("forgotten");
    assert_eq!(folders(&world), 1);
    assert_eq!(world.catalog.list("a", None, 10).expect("listed").len(), 1);
    world.catalog.forget_object(object(2)).expect("forgotten");
    world.catalog.forget_object(object(3)).expect("forgotten");
    assert_eq!(folders(&world), 0);
}

#[test]
fn a_listing_goes_on_as_it_began_while_others_begin_and_files_go() {
    let mut world = World::new();
    for (number, text) in [(1, "a/1"), (2, "a/2"), (3, "a/3"), (4, "b")] {
        world.commit(&file(number, text, 1, &[]));
    }
    let names = |page: &[crate::catalog::ListedFile]| -> Vec<String> {
        page.iter().map(|file| file.newest.name.to_string()).collect()
    };
    let first = world.catalog.list("a", None, 1).expect("a page");
    assert_eq!(names(&first), ["a/1"]);
    world.commit(&removal(9, &[(2, "a/2", 1)], &[2]));
    let after = Some(&first[0].newest.name);
    assert_eq!(names(&world.catalog.list("a", after, 1).expect("a page")), ["a/3"]);
    assert_eq!(names(&world.catalog.list("", None, 10).expect("a page")), ["a/1", "a/3", "b"]);
    assert_eq!(names(&world.catalog.list("a", after, 10).expect("a page")), ["a/3"]);
    assert!(world.catalog.list("a", None, 0).expect("a page").is_empty());
}
