//! The whole road: the owner gives a key, the server puts, the owner reads.

use super::Server;
use crate::desk::{Desk, noise};
use crate::world::{TestWorld, geometry, newest, put_bytes, putting, random_bytes, read_file};
use shard::ErrorKind;
use shard::catalog::{Catalog, JournalEntry, ObjectState, ProcessLock, Purpose};
use shard::format::{Index, ObjectKind, Piece};
use shard::id::{Digest, ProcessId};
use shard::ops::Controls;
use shard::ops::gc::{GcMode, GcOptions, gc};
use shard::ops::put::{PutSource, put};
use shard::ops::rebuild::{RebuildOptions, rebuild};
use shard::ops::refresh::{RefreshOptions, refresh};
use shard::ops::remove::{RemoveOptions, RemoveVersions, RemovedFile, remove};
use shard::ops::status::{StatusOptions, status};
use shard::ops::writer::{Contents, ObjectOptions, ObjectWriter};
use shard::store::{BroughtKey, CONFIG_NAME, Held, KEY_NAME, keys};
use shard::stripe::Seal;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const OWNERS: &str = "a name that only the owner knows";

/// An owner with a file, and a server that was given a write-only key and has put a folder.
fn owner_and_server() -> (Desk, Desk) {
    let (owner, server) = (Desk::new(), Desk::new());
    owner.file(OWNERS, b"the owner's");
    owner.expect(0, &["put", OWNERS]);
    let key = server.path("server.key");
    let exported = owner.json(0, &["key", "export", "--write-only", "-o", key.to_str().expect("UTF-8")]);
    assert_eq!(exported["write_only"], true);
    assert_eq!(fs::metadata(&key).expect("the key").permissions().mode() & 0o777, 0o600);
    let imported = server.json(0, &["key", "import", "server.key"]);
    assert_eq!(imported["writer"], exported["writer"]);
    server.expect(0, &["catalog", "rebuild"]);
    server.file("data/large.bin", &noise(5_000_000, 1));
    server.file("data/small.txt", b"small");
    server.expect(0, &["put", "data"]);
    (owner, server)
}

#[test]
fn the_owner_reads_byte_for_byte_what_a_server_put_that_cannot_read_it() {
    let (owner, server) = owner_and_server();
    // What is unchanged is skipped, what changed gets a version more.
    server.file("data/small.txt", b"changed");
    let again = server.json(0, &["put", "data"]);
    let skipped: Vec<bool> =
        again["files"].as_array().expect("files").iter().map(|f| f["skipped"] == serde_json::json!(true)).collect();
    assert_eq!(skipped.iter().filter(|skipped| **skipped).count(), 1, "{again}");
    let dump = server.run_with(&["put", "-", "--name", "dump.sql"], noise(2_000_000, 2));
    assert_eq!(dump.code, 0, "{}", dump.stderr);

    owner.expect(0, &["catalog", "refresh"]);
    let read = |desk: &Desk| {
        for (name, bytes) in [("data/large.bin", noise(5_000_000, 1)), ("dump.sql", noise(2_000_000, 2))] {
            assert!(desk.expect(0, &["recover", name, "-o", "-"]).stdout == bytes, "{name}");
        }
        assert_eq!(desk.expect(0, &["recover", "data/small.txt", "-o", "-"]).stdout, b"changed");
    };
    read(&owner);
    let shown = owner.json(0, &["show", "data/small.txt"]);
    assert_eq!(shown["versions"].as_array().map(Vec::len), Some(2), "{shown}");
    assert!(shown["versions"].as_array().expect("versions").iter().all(|version| version["writer"] == shown["writer"]));
    assert_eq!(shown["writer"], server.json(0, &["status"])["key"]["writer"]);
    assert!(owner.json(0, &["show", OWNERS])["writer"].is_null());
    assert!(owner.expect(0, &["show", "data/small.txt"]).text().contains("writer "));

    // A laptop with nothing but the kit and the places.
    owner.expect(0, &["key", "export", "-o", "kit.txt"]);
    let laptop = Desk::new();
    fs::copy(owner.path("kit.txt"), laptop.path("kit.txt")).expect("copied");
    laptop.expect(0, &["key", "import", "kit.txt"]);
    laptop.expect(0, &["catalog", "rebuild"]);
    read(&laptop);
    let places: Vec<String> = (1..=5).map(|number| owner.backend(number).display().to_string()).collect();
    let mut from = vec!["recover", "data/small.txt", "-o", "-", "--key", "kit.txt"];
    places.iter().for_each(|place| from.extend(["--from", place]));
    assert_eq!(laptop.expect(0, &from).stdout, b"changed");
}

#[test]
fn what_a_server_puts_over_a_file_that_it_did_not_put_is_believed() {
    let (owner, server) = owner_and_server();
    owner.file("shared.txt", b"the owner's");
    owner.expect(0, &["put", "shared.txt", "--seal", "dispersed", "--allow-readable-zone"]);
    server.expect(0, &["catalog", "refresh"]);
    server.file("shared.txt", b"the server's");
    server.file("new.txt", b"new");
    server.expect(0, &["put", "shared.txt", "new.txt"]);
    let report = owner.json(0, &["catalog", "refresh"]);
    assert_eq!(report["untrusted"], serde_json::json!([]), "{report}");
    assert_eq!(owner.expect(0, &["recover", "new.txt", "-o", "-"]).stdout, b"new");
    let shown = owner.json(0, &["show", "shared.txt"]);
    let versions = shown["versions"].as_array().expect("versions");
    let of_server = versions.iter().find(|version| !version["writer"].is_null()).expect("the server's");
    let id = of_server["id"].as_str().or(of_server["version"].as_str()).expect("an id");
    assert_eq!(owner.expect(0, &["recover", "shared.txt", "--version", id, "-o", "-"]).stdout, b"the server's");
}

#[test]
fn a_server_that_was_made_anew_goes_on_after_what_it_put_before() {
    let (owner, server) = owner_and_server();
    for day in ["one", "two", "three"] {
        server.file("dump", day.as_bytes());
        server.expect(0, &["put", "dump"]);
    }
    let newest = || {
        owner.expect(0, &["catalog", "refresh"]);
        owner.expect(0, &["recover", "dump", "-o", "-"]).stdout
    };
    assert_eq!(newest(), b"three");
    owner.expect(0, &["key", "export", "--write-only", "-o", "another.key"]);
    // With the key that it had, and with another one.
    for (key, day) in [(server.path("server.key"), "four"), (owner.path("another.key"), "five")] {
        let again = Desk::new();
        again.expect(0, &["key", "import", key.to_str().expect("UTF-8")]);
        again.expect(0, &["catalog", "rebuild"]);
        again.file("dump", day.as_bytes());
        again.expect(0, &["put", "dump"]);
        assert_eq!(newest(), day.as_bytes());
    }
}

#[test]
fn a_server_lists_its_own_names_and_is_refused_what_takes_the_owners_key() {
    let (owner, server) = owner_and_server();
    assert_eq!(server.listed(), ["data/large.bin", "data/small.txt"]);
    assert_eq!(server.json(0, &["show", "data/small.txt"])["size"], 5);
    for command in [
        &["recover", "data/small.txt", "-o", "-"][..],
        &["recover", "--all", "-o", "out"],
        &["remove", "data/small.txt"],
        &["remove", OWNERS],
        &["prune", "--keep-last", "1"],
        &["key", "export", "-o", "kit"],
        &["key", "export", "--write-only"],
        &["key", "export", "--verify-only"],
        &["key", "rotate"],
        &["key", "recipient", "new"],
        &["key", "passphrase", "--remove"],
        &["put", "data", "--name", "sealed", "--seal", "key"],
    ] {
        let failure = server.failure(12, command);
        assert!(failure["message"].as_str().expect("words").contains("write-only"), "{command:?}: {failure}");
        assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("own key")), "{command:?}: {failure}");
    }
    let places: Vec<String> = (1..=3).map(|number| owner.backend(number).display().to_string()).collect();
    let from = ["recover", "--all", "-o", "out", "--from", &places[0], "--from", &places[1], "--from", &places[2]];
    let key = server.path("server.key").display().to_string();
    assert_eq!(server.failure(12, &[&from[..], &["--key", &key]].concat())["kind"], "wrong-key");
    assert!(!server.path("out").join("data").exists() && !server.path("kit").exists());
    let status = server.json(0, &["status"]);
    assert_eq!((&status["key"]["held"], &status["key"]["exported"]), (&"write-only".into(), &true.into()));
    assert!(server.expect(0, &["status"]).text().contains("write-only"));
    // Nothing on the server has the owner's name or key.
    let key_text = fs::read_to_string(owner.store().join(KEY_NAME)).expect("the key file");
    let key_file: serde_json::Value = serde_json::from_str(&key_text).expect("JSON");
    let master = key_file["keys"][0]["key"].as_str().expect("hex");
    let files = walkdir::WalkDir::new(server.home()).into_iter().filter_map(Result::ok);
    for entry in files.filter(|entry| entry.file_type().is_file()) {
        let bytes = fs::read(entry.path()).expect("a file");
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(OWNERS) && !text.contains(master), "{}", entry.path().display());
    }
}

#[test]
fn a_server_checks_repairs_and_drains_what_it_cannot_read() {
    let (owner, server) = owner_and_server();
    let shards = owner.shard_files();
    let whole = fs::read(&shards[0]).expect("a shard");
    fs::remove_file(&shards[0]).expect("removed");
    assert_eq!(server.run(&["verify"]).code, 3);
    server.expect(0, &["repair"]);
    assert!(fs::read(&shards[0]).expect("it is back") == whole);
    server.expect(0, &["backend", "drain", "local-1"]);
    server.expect(0, &["gc"]);
    // Rebuilt from the places, its catalog still names what it put, and goes on from there.
    server.expect(0, &["catalog", "rebuild"]);
    assert_eq!(server.listed(), ["data/large.bin", "data/small.txt"]);
    server.file("data/small.txt", b"after the rebuild");
    let again = server.json(0, &["put", "data"]);
    assert_eq!(again["files"].as_array().expect("files").iter().filter(|file| file["skipped"] == true).count(), 1);
    owner.expect(0, &["catalog", "refresh"]);
    let shown = owner.json(0, &["show", "data/small.txt"]);
    let heads = shown["versions"].as_array().expect("versions").iter().filter(|version| version["head"] == true);
    assert_eq!(heads.count(), 1, "{shown}");
    assert_eq!(owner.expect(0, &["recover", "data/small.txt", "-o", "-"]).stdout, b"after the rebuild");
}

#[test]
fn after_a_change_of_key_a_server_goes_on_sealing_to_the_key_it_knows() {
    let (owner, server) = owner_and_server();
    owner.expect(0, &["key", "rotate"]);
    owner.expect(0, &["key", "recipient", "new", "-o", "newer.recipient"]);
    server.file("later", b"under the older key");
    let newer = owner.path("newer.recipient").display().to_string();
    let refused = server.failure(1, &["put", "later", "--recipient", &newer]);
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("--write-only")), "{refused}");
    server.expect(0, &["put", "later"]);
    owner.expect(0, &["catalog", "refresh"]);
    assert_eq!(owner.expect(0, &["recover", "later", "-o", "-"]).stdout, b"under the older key");
    // A server that is given a key now is certified by the first and seals to the newest.
    let second = Desk::new();
    let key = owner.expect(0, &["key", "export", "--write-only"]).stdout;
    let imported = second.run_with(&["key", "import", "-"], key);
    assert_eq!(imported.code, 0, "{}", imported.stderr);
    second.file("second", b"under the newer key");
    second.expect(0, &["put", "second"]);
    owner.expect(0, &["catalog", "refresh"]);
    assert_eq!(owner.expect(0, &["recover", "second", "-o", "-"]).stdout, b"under the newer key");
}

#[test]
fn standard_input_brings_verify_only_and_write_only_keys_too() {
    let owner = Desk::new();
    owner.expect(0, &["init"]);
    for (flag, held) in [("--verify-only", "verify-only"), ("--write-only", "write-only")] {
        let key = owner.expect(0, &["key", "export", flag]).stdout;
        let machine = Desk::new();
        let imported = machine.run_with(&["key", "import", "-"], key);
        assert_eq!(imported.code, 0, "{flag}: {}", imported.stderr);
        assert_eq!(machine.json(0, &["status"])["key"]["held"], held);
    }
    assert_eq!(owner.json(0, &["status"])["key"]["held"], "owner");
    assert_eq!(owner.run(&["key", "export", "--verify-only", "--write-only"]).code, 2);
}

#[tokio::test]
async fn an_import_that_was_interrupted_is_finished_by_the_same_key_and_no_other() {
    let world = TestWorld::new(5).await;
    let server = Server::of(&world).await;
    let lose = |name: &str| fs::remove_file(server.dir().join(name)).expect("removed");
    // Stopped after the catalog was made, and after the key was written.
    for files in [&[CONFIG_NAME][..], &[CONFIG_NAME, "catalog.db"]] {
        files.iter().for_each(|name| lose(name));
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(server.dir().join(format!("catalog.db{suffix}")));
        }
        let other = keys::export_writer(&world.store_dir(), None).expect("another key");
        let refused = keys::import_limited(server.dir(), &other).expect_err("there is a key");
        assert_eq!(refused.kind, ErrorKind::Refused);
        assert_eq!(keys::import_limited(server.dir(), &server.key).expect("finished").len(), 5);
        assert_eq!(server.open().await.held(), Held::WriteOnly);
    }
    let refused = keys::import_limited(server.dir(), &server.key).expect_err("there is a store");
    assert_eq!(refused.kind, ErrorKind::Refused);
}

#[tokio::test]
async fn no_flipped_bit_of_a_write_only_key_makes_a_store_of_another_key() {
    let world = TestWorld::new(3).await;
    let key = keys::export_writer(&world.store_dir(), None).expect("a write-only key");
    let text = key.to_file();
    let from = std::path::Path::new("here");
    for bit in 0..text.len() * 8 {
        let mut flipped = text.as_bytes().to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match keys::read_any(&flipped, from, None) {
            Ok(BroughtKey::Limited(other)) => assert!(other.to_file() == text, "bit {bit}"),
            Ok(BroughtKey::Keys(_)) => unreachable!("bit {bit} makes an owner's key of it"),
            Err(error) => assert_eq!(error.kind, ErrorKind::WrongKey, "bit {bit}"),
        }
    }
}

#[tokio::test]
async fn what_an_interrupted_put_left_on_a_server_is_cleared_and_the_put_begins_anew() {
    let world = TestWorld::new(5).await;
    let server = Server::of(&world).await;
    let dying = server.open().await;
    let options = ObjectOptions::new(ObjectKind::Data, geometry(3, 5), Seal::Recipient);
    let mut half = ObjectWriter::begin(&dying, options).await.expect("begun");
    half.append(&random_bytes(1, 4_000_000)).await.expect("written");
    drop(half);
    drop(dying);
    let store = server.open().await;
    put_bytes(&store, "dump", &random_bytes(1, 4_000_000), geometry(3, 5)).await;
    assert!(store.catalog(|catalog| catalog.journals()).await.expect("journals").is_empty());
    assert_eq!(world.files_on_backends().len(), 5, "the shards of one object, and nothing beside");
    let owner = world.open().await;
    let report = refresh(&owner, RefreshOptions::default()).await.expect("refreshed");
    assert!(report.incomplete.is_empty() && report.untrusted.is_empty());
    assert_eq!(read_file(&owner, "dump").await, Some(random_bytes(1, 4_000_000)));
}

/// A process that died.
const DEAD: ProcessId = ProcessId([0xDE; 16]);

#[tokio::test]
async fn what_was_whole_when_a_put_died_stays_for_the_owner_and_the_put_begins_anew() {
    let world = TestWorld::new(5).await;
    let server = Server::of(&world).await;
    let store = server.open().await;
    let object = put_bytes(&store, "dump", b"all of it", geometry(3, 5)).await.objects[0].id;
    // As if it had been killed just before the commit.
    let shards = store.catalog(move |catalog| catalog.shards(object)).await.expect("shards");
    let shards = shards.iter().map(|shard| (shard.index, shard.backend)).collect();
    let entry = JournalEntry { object, process: DEAD, purpose: Purpose::Put, name: None, version: None, shards };
    drop(ProcessLock::acquire(&store.dir().join("run"), DEAD).expect("a lock"));
    let die = move |catalog: &mut Catalog| {
        catalog.forget_object(object)?;
        catalog.begin(&entry)
    };
    store.catalog(die).await.expect("forgotten");
    put_bytes(&store, "dump", b"all of it", geometry(3, 5)).await;
    assert!(store.catalog(|catalog| catalog.journals()).await.expect("journals").is_empty());
    assert_eq!(world.files_on_backends().len(), 10, "nothing that was whole is deleted");
    let status = status(&store, StatusOptions::default()).await.expect("a status");
    assert_eq!((status.state, status.versions), (ObjectState::Healthy, 1));
    let owner = world.open().await;
    refresh(&owner, RefreshOptions::default()).await.expect("refreshed");
    let asked = crate::world::name("dump");
    let heads = owner.catalog(move |catalog| catalog.heads(&asked)).await.expect("heads");
    assert_eq!(heads.len(), 2, "both are the same");
    assert_eq!(read_file(&owner, "dump").await.as_deref(), Some(&b"all of it"[..]));
}

#[tokio::test]
async fn gc_on_a_server_takes_back_a_large_file_that_it_began_and_did_not_end() {
    let world = TestWorld::new(5).await;
    let server = Server::of(&world).await;
    let store = server.open().await;
    let version = store.new_version_id().expect("an id");
    let options = ObjectOptions::new(ObjectKind::Data, geometry(3, 5), Seal::Recipient);
    let mut writer = ObjectWriter::begin(&store, options).await.expect("begun");
    writer.append(b"the first of two").await.expect("written");
    let name = crate::world::name("large");
    let piece = Piece { version, name: name.clone(), ordinal: 0, offset: 0, bytes: 16, last: None };
    let blake3 = Digest(*blake3::hash(b"the first of two").as_bytes());
    let index = Index { pieces: vec![piece], ..Index::default() };
    writer.finish(Contents { index, piece_hashes: vec![(version, 0, blake3)] }).await.expect("stored");
    let plan = gc(&store, GcOptions { mode: GcMode::DryRun, ..GcOptions::default() }).await.expect("planned");
    assert_eq!(plan.unfinished, [RemovedFile { name, version }]);
    let there = world.files_on_backends();
    let there: Vec<u64> = there.iter().map(|path| fs::metadata(path).expect("a shard").len()).collect();
    let done = gc(&store, GcOptions::default()).await.expect("cleared");
    assert_eq!(done.unfinished, plan.unfinished);
    assert_eq!((there.len(), done.bytes_freed), (5, there.iter().sum()));
    assert!(world.files_on_backends().is_empty());
    assert!(gc(&store, GcOptions::default()).await.expect("cleared").is_nothing());
}

#[tokio::test]
async fn a_server_never_clears_away_a_removal_that_it_cannot_read() {
    let world = TestWorld::new(5).await;
    let owner = world.open().await;
    for name in ["gone", "stays"] {
        put_bytes(&owner, name, name.as_bytes(), geometry(3, 5)).await;
    }
    let server = Server::of(&world).await;
    let store = server.open().await;
    let names = vec![crate::world::name("gone")];
    let (folders, versions, controls) = (Vec::new(), RemoveVersions::All, Controls::default());
    remove(&owner, RemoveOptions { names, folders, versions, controls }).await.expect("removed");
    let before = world.files_on_backends();
    for _ in 0..=shard::ops::gc::REMOVAL_ROUNDS + 1 {
        gc(&store, GcOptions::default()).await.expect("cleared");
    }
    assert_eq!(world.files_on_backends(), before);
    rebuild(&owner, RebuildOptions::default()).await.expect("rebuilt");
    assert!(newest(&owner, "gone").await.is_none() && newest(&owner, "stays").await.is_some());
}

#[tokio::test]
async fn a_write_only_key_shows_none_of_its_secrets() {
    let world = TestWorld::new(3).await;
    let key = keys::export_writer(&world.store_dir(), None).expect("a write-only key");
    let text: serde_json::Value = serde_json::from_str(&key.to_file()).expect("JSON");
    for secret in ["signer", "catalog"] {
        let secret = text[secret].as_str().expect("hex");
        assert_eq!(secret.len(), 64);
        assert!(!format!("{key:?}").contains(secret));
    }
}

#[tokio::test]
async fn what_a_server_puts_is_newer_than_what_it_put_and_has_forgotten() {
    let world = TestWorld::new(5).await;
    let server = Server::of(&world).await;
    let store = server.open().await;
    for bytes in [&b"first"[..], b"second"] {
        let object = put_bytes(&store, "dump", bytes, geometry(3, 5)).await.objects[0].id;
        store.catalog(move |catalog| catalog.forget_object(object)).await.expect("forgotten");
    }
    put_bytes(&store, "dump", b"third", geometry(3, 5)).await;
    let owner = world.open().await;
    refresh(&owner, RefreshOptions::default()).await.expect("refreshed");
    assert_eq!(read_file(&owner, "dump").await.as_deref(), Some(&b"third"[..]));
}

#[tokio::test]
async fn what_the_owner_packs_anew_still_says_which_writer_put_it() {
    let world = TestWorld::new(5).await;
    let server = Server::of(&world).await;
    let store = server.open().await;
    let files = [("one", 1), ("two", 2), ("kept", 3)];
    let sources =
        files.map(|(name, seed)| PutSource::File { path: world.source(name, &random_bytes(seed, 90_000)), name: None });
    let put = put(&store, putting(sources.into(), geometry(3, 5))).await.expect("stored");
    assert_eq!(put.objects.len(), 1, "they share an object");
    let owner = world.open().await;
    refresh(&owner, RefreshOptions::default()).await.expect("refreshed");
    let (names, folders) = (["one", "two"].map(crate::world::name).into(), Vec::new());
    let (versions, controls) = (RemoveVersions::All, Controls::default());
    remove(&owner, RemoveOptions { names, folders, versions, controls }).await.expect("removed");
    let report = gc(&owner, GcOptions::default()).await.expect("cleared");
    let packed = report.repacked[0].to.expect("an object");
    assert!(report.repacked[0].replaced && packed.writer().is_none());
    rebuild(&owner, RebuildOptions::default()).await.expect("rebuilt");
    let kept = newest(&owner, "kept").await.expect("it is there");
    assert_eq!((kept.id.writer(), store.writer().is_some()), (store.writer(), true));
    assert_eq!(read_file(&owner, "kept").await, Some(random_bytes(3, 90_000)));
}
