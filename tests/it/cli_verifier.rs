//! A machine with a verify-only key: it finds and mends damage bit for bit, and reads nothing.

use crate::desk::Desk;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const NAME: &str = "a name that only the owner knows";

/// Every shard file on the places of a desk.
fn shards(desk: &Desk) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = walkdir::WalkDir::new(desk.store().join("backends")).into_iter().filter_map(Result::ok);
    let shard = |path: &Path| path.extension().is_some_and(|extension| extension == "shard");
    files
        .map(|entry| entry.into_path())
        .filter(|path| shard(path))
        .map(|p| (p.clone(), fs::read(p).expect("a file")))
        .collect()
}

/// An owner with a sealed file of two keys' time, and a helper that was given a verify-only key.
fn owner_and_helper() -> (Desk, Desk) {
    let (owner, helper) = (Desk::new(), Desk::new());
    owner.file(NAME, &[7; 70_000]);
    owner.expect(0, &["put", NAME]);
    owner.expect(0, &["key", "rotate"]);
    owner.file("later", b"sealed under the second key");
    owner.expect(0, &["put", "later"]);
    let key = helper.path("helper.key");
    let exported = owner.expect(0, &["key", "export", "--verify-only", "-o", key.to_str().expect("UTF-8")]);
    assert!(!String::from_utf8_lossy(&exported.stdout).contains("plain"));
    helper.expect(0, &["key", "import", "helper.key"]);
    helper.expect(0, &["catalog", "rebuild"]);
    (owner, helper)
}

#[test]
fn a_verify_only_machine_repairs_bit_for_bit_and_the_owner_finds_it_so() {
    let (owner, helper) = owner_and_helper();
    helper.expect(0, &["verify"]);
    let whole = shards(&owner);
    let paths: Vec<&PathBuf> = whole.keys().collect();
    fs::remove_file(paths[0]).expect("removed");
    let mut flipped = whole[paths[3]].clone();
    flipped[200] ^= 1;
    fs::write(paths[3], flipped).expect("written");
    assert_eq!(helper.run(&["verify"]).code, 3);
    helper.expect(0, &["repair"]);
    assert!(shards(&owner) == whole);
    owner.expect(0, &["verify"]);
    // What it moved, the owner finds again.
    helper.expect(0, &["backend", "drain", "local-1"]);
    assert_eq!(owner.run(&["recover", NAME, "-o", "-"]).stdout, vec![7; 70_000]);
    owner.expect(0, &["catalog", "refresh"]);
    assert!(matches!(owner.run(&["verify"]).code, 0 | 3));
    owner.expect(0, &["recover", NAME, "-o", "again"]);
}

#[test]
fn a_verify_only_machine_makes_shards_of_every_kind_again_bit_for_bit() {
    let (owner, helper) = owner_and_helper();
    owner.expect(0, &["key", "recipient", "new", "-o", "me.recipient"]);
    owner.file("to me", &[9; 40_000]);
    owner.expect(0, &["put", "to me", "--recipient", "me.recipient"]);
    owner.file("scattered", &[8; 30_000]);
    owner.run(&["put", "scattered", "--seal", "dispersed", "--allow-readable-zone"]);
    owner.expect(0, &["remove", "later"]);
    assert_eq!(helper.json(0, &["catalog", "refresh"])["objects"], 3);
    let whole = shards(&owner);
    assert_eq!(whole.len(), 4 * 5, "two files, a removal, and the first");
    let index = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).map(|stem| stem[33..].to_owned());
    for lost in [["0", "4"], ["1", "2"], ["3", "0"]] {
        for path in whole.keys().filter(|path| index(path).is_some_and(|index| lost.contains(&index.as_str()))) {
            fs::remove_file(path).expect("removed");
        }
        assert_eq!(shards(&owner).len(), 4 * 3);
        assert_eq!(helper.run(&["verify"]).code, 3);
        helper.expect(0, &["repair"]);
        assert!(shards(&owner) == whole, "{lost:?}");
    }
    owner.expect(0, &["verify"]);
}

#[test]
fn what_a_verify_only_machine_moved_is_found_by_the_owner_without_a_rebuild() {
    let (owner, helper) = owner_and_helper();
    // Of each object only two shards are where the owner has them, and three are needed.
    for place in ["local-1", "local-2", "local-3"] {
        helper.expect(0, &["backend", "drain", place]);
    }
    let emptied = (1..=3).map(|number| owner.backend(number).join("objects"));
    assert_eq!(emptied.flat_map(walkdir::WalkDir::new).filter(is_file).count(), 0);
    let recovered = owner.run(&["recover", NAME, "-o", "-"]);
    assert!(matches!(recovered.code, 0 | 3), "{}", recovered.stderr);
    assert_eq!(recovered.stdout, vec![7; 70_000]);
    let verified = owner.json(3, &["verify"]);
    for object in verified["objects"].as_array().expect("objects") {
        let found = object["shards"].as_array().expect("shards").iter();
        let states: Vec<&str> = found.filter_map(|shard| shard["state"].as_str()).collect();
        assert!(states.len() == 5 && states.iter().all(|state| matches!(*state, "ok" | "misplaced")), "{states:?}");
    }
    owner.expect(0, &["repair"]);
    owner.expect(0, &["verify"]);
}

fn is_file(entry: &walkdir::Result<walkdir::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.file_type().is_file())
}

#[test]
fn a_verify_only_machine_calls_a_garbled_sealed_part_and_a_stripped_signature_damage() {
    let (owner, helper) = owner_and_helper();
    let whole = shards(&owner);
    let (path, file) = whole.iter().next().expect("a shard");
    // From the end: trailer of 128 bytes, sealed part, signature of 64.
    let sealed_bytes = u64::from_le_bytes(file[file.len() - 128 + 24..][..8].try_into().expect("8 bytes")) as usize;
    let sealed_at = file.len() - 128 - sealed_bytes;
    for at in [sealed_at, sealed_at + sealed_bytes / 2, sealed_at - 64, sealed_at - 1] {
        let mut garbled = file.clone();
        garbled[at] ^= 0x10;
        fs::write(path, garbled).expect("written");
        assert_eq!(helper.run(&["verify"]).code, 3, "byte {at}");
        helper.expect(0, &["repair"]);
        assert!(shards(&owner) == whole, "byte {at}");
    }
    let mut stripped = file.clone();
    stripped[sealed_at - 64..sealed_at].fill(0);
    fs::write(path, stripped).expect("written");
    assert_eq!(helper.run(&["verify"]).code, 3);
}

/// Damage in one copy is told by comparing with what the catalog knows; in every copy, and without a catalog, by the
/// signature alone.
#[test]
fn a_verify_only_machine_believes_nothing_of_which_every_copy_lost_its_signature() {
    let (owner, helper) = owner_and_helper();
    let whole = shards(&owner);
    let object = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy()[..32].to_owned();
    let first = object(whole.keys().next().expect("a shard"));
    for (path, file) in whole.iter().filter(|(path, _)| object(path) == first) {
        let sealed_bytes = u64::from_le_bytes(file[file.len() - 128 + 24..][..8].try_into().expect("8 bytes")) as usize;
        let signature = file.len() - 128 - sealed_bytes - 64;
        let mut stripped = file.clone();
        stripped[signature..signature + 64].fill(0);
        fs::write(path, stripped).expect("written");
    }
    let stripped = shards(&owner);
    let newcomer = Desk::new();
    newcomer.expect(0, &["key", "import", helper.path("helper.key").to_str().expect("UTF-8")]);
    let rebuilt = newcomer.json(3, &["catalog", "rebuild"]);
    assert_eq!((&rebuilt["objects"], rebuilt["untrusted"].as_array().map(Vec::len)), (&1.into(), Some(1)), "{rebuilt}");
    assert_eq!(newcomer.json(0, &["verify"])["objects"].as_array().map(Vec::len), Some(1));
    assert_eq!(newcomer.json(0, &["repair"])["bytes_written"], 0);
    assert!(shards(&owner) == stripped, "what nobody signed is left alone");
    // Who knew the object has its signature still.
    assert_eq!(helper.run(&["verify"]).code, 3);
    helper.expect(0, &["repair"]);
    assert!(shards(&owner) == whole);
}

#[test]
fn a_verify_only_machine_lists_no_name_and_stores_removes_and_reads_nothing() {
    let (owner, helper) = owner_and_helper();
    assert_eq!(helper.json(0, &["list"])["files"].as_array().map(Vec::len), Some(0));
    helper.file("new", b"new");
    for command in [&["put", "new"][..], &["key", "export", "-o", "kit"], &["key", "rotate"]] {
        assert_eq!(helper.failure(12, command)["kind"], "wrong-key", "{command:?}");
    }
    assert_eq!(helper.failure(12, &["recover", NAME, "-o", "-"])["kind"], "wrong-key");
    assert_eq!(helper.failure(12, &["remove", NAME])["kind"], "wrong-key");
    // That everything was asked for and nothing came is told, and is no success.
    let nothing = helper.json(12, &["recover", "--all", "-o", "nothing"]);
    let unread: Vec<&str> =
        nothing["unread"].as_array().expect("objects").iter().filter_map(|object| object["kind"].as_str()).collect();
    assert_eq!((nothing["files"].as_array().map(Vec::len), unread), (Some(0), vec!["wrong-key"; 2]));
    let said = helper.expect(12, &["recover", "--all", "-o", "nothing"]).stderr;
    assert!(said.contains("whatever files are in 2 objects that cannot be read"), "{said}");
    let places: Vec<String> = (1..=5).map(|number| owner.backend(number).display().to_string()).collect();
    let key = helper.path("helper.key").display().to_string();
    let from = ["recover", "--all", "-o", "out", "--from", &places[0], "--from", &places[1], "--from", &places[2]];
    assert_eq!(helper.failure(12, &from)["kind"], "wrong-key");
    assert_eq!(helper.failure(12, &[&from[..], &["--key", &key]].concat())["kind"], "wrong-key");
    // Neither the key file nor anything in the helper's store has the name, or the owner's keys.
    let key_text = fs::read_to_string(owner.store().join("master.key")).expect("the key file");
    let key_file: serde_json::Value = serde_json::from_str(&key_text).expect("JSON");
    let secrets: Vec<&str> =
        key_file["keys"].as_array().expect("keys").iter().map(|key| key["key"].as_str().expect("hex")).collect();
    assert_eq!(secrets.len(), 2);
    for entry in walkdir::WalkDir::new(helper.home()).into_iter().filter_map(Result::ok) {
        if !entry.file_type().is_file() {
            continue;
        }
        let bytes = fs::read(entry.path()).expect("a file");
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(NAME), "{}", entry.path().display());
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{}", entry.path().display());
    }
}

#[test]
fn what_is_sealed_to_a_recipient_opens_under_its_key_alone() {
    let (owner, other) = (Desk::new(), Desk::new());
    owner.expect(0, &["init"]);
    owner.expect(0, &["key", "recipient", "new", "-o", "me.recipient"]);
    let recipient = owner.path("me.recipient").display().to_string();
    owner.file("own", b"sealed to oneself");
    owner.expect(0, &["put", "own", "--recipient", "me.recipient"]);
    assert_eq!(owner.expect(0, &["recover", "own", "-o", "-"]).stdout, b"sealed to oneself");
    let shards = shards(&owner);
    assert!(shards.values().all(|file| !file.windows(9).any(|window| window == b"sealed to")));
    fs::remove_file(shards.keys().next().expect("a shard")).expect("removed");
    owner.expect(0, &["repair"]);
    assert_eq!(owner.expect(0, &["recover", "own", "-o", "-"]).stdout, b"sealed to oneself");
    // What another store sealed to it would be signed by the wrong one, and opened by nobody.
    other.file("theirs", b"for the owner's eyes");
    other.file("not a recipient", b"{}");
    for file in [recipient.as_str(), "not a recipient"] {
        assert_eq!(other.failure(1, &["put", "theirs", "--recipient", file])["kind"], "invalid", "{file}");
    }
}

/// An owner with a kit, and what it exports for a machine of this kind.
fn owner_and_key(kind: &str) -> (Desk, PathBuf, PathBuf) {
    let owner = Desk::new();
    owner.file("a", &[7; 70_000]);
    owner.expect(0, &["put", "a"]);
    owner.expect(0, &["key", "export", "-o", "kit.txt"]);
    owner.expect(0, &["key", "export", kind, "-o", "limited.key"]);
    let (kit, key) = (owner.path("kit.txt"), owner.path("limited.key"));
    (owner, kit, key)
}

#[test]
fn every_kind_of_key_is_imported_from_a_pipe() {
    for kind in ["--write-only", "--verify-only"] {
        let (_owner, kit, key) = owner_and_key(kind);
        for file in [kit, key] {
            let machine = Desk::new();
            let outcome = machine.run_with(&["key", "import", "/dev/stdin"], fs::read(&file).expect("a key"));
            assert_eq!(outcome.code, 0, "{file:?}: {}", outcome.stderr);
        }
    }
}

#[test]
fn a_key_that_opens_nothing_says_so_where_a_key_is_to_open_something() {
    for kind in ["--write-only", "--verify-only"] {
        let (owner, _, key) = owner_and_key(kind);
        let (key, place) = (key.display().to_string(), owner.backend(1).display().to_string());
        let machine = Desk::new();
        for words in [
            vec!["recover", "--all", "-o", "back", "--from", &place, "--key", &key],
            vec!["catalog", "rebuild", "--from", &place, "--key", &key],
        ] {
            let said = machine.expect(12, &words).stderr;
            assert!(said.contains(&format!("is a {} key: it opens nothing", &kind[2..])), "{said}");
            assert!(said.contains("recovery kit") && said.contains("shard key import"), "{said}");
            assert!(!machine.store().exists(), "{words:?}");
        }
    }
}

#[test]
fn a_machine_with_a_limited_key_takes_no_owners_key_and_names_another_folder() {
    for kind in ["--write-only", "--verify-only"] {
        let (_owner, kit, key) = owner_and_key(kind);
        let (kit, key) = (kit.display().to_string(), key.display().to_string());
        let machine = Desk::new();
        machine.expect(0, &["key", "import", &key]);
        let before = fs::read(machine.store().join("master.key")).expect("a key");
        for words in [vec!["key", "import", &kit], vec!["catalog", "rebuild", "--key", &kit]] {
            let outcome = machine.run(&words);
            assert_ne!(outcome.code, 0, "{words:?}");
            let said = outcome.stderr;
            assert!(said.contains(&format!("machine with a {} key", &kind[2..])) && said.contains("--store"), "{said}");
        }
        assert_eq!(fs::read(machine.store().join("master.key")).expect("a key"), before);
        machine.expect(0, &["--store", "mine", "key", "import", &kit]);
    }
}

#[test]
fn a_writer_is_told_to_get_its_files_back_on_the_owners_machine() {
    let (owner, _, key) = owner_and_key("--write-only");
    let server = Desk::new();
    server.expect(0, &["key", "import", &key.display().to_string()]);
    server.file("b", &[8; 70_000]);
    let told = |desk: &Desk| String::from_utf8(desk.expect(0, &["put", "b"]).stdout).expect("UTF-8");
    let said = told(&server);
    assert!(said.contains("recover b, on the owner's machine\n"), "{said}");
    owner.file("b", &[9; 70_000]);
    let said = told(&owner);
    assert!(said.contains("recover b\n"), "{said}");
}
