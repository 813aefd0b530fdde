//! Keys that must not be lost: what would put another key in their place waits, or is refused.

use crate::desk::{Desk, noise};
use shard::store::{keys, load_key};
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

/// A store with one file, and a kit of its key.
fn desk_with_kit() -> (Desk, PathBuf) {
    let desk = Desk::new();
    desk.file("a", &noise(30_000, 1));
    desk.expect(0, &["put", "a"]);
    desk.expect(0, &["key", "export", "-o", "kit"]);
    let kit = desk.path("kit");
    (desk, kit)
}

#[test]
fn an_import_into_a_fresh_folder_waits_for_whoever_changes_the_keys_there() {
    let (old, kit) = desk_with_kit();
    old.expect(0, &["key", "rotate"]);
    let new = tempfile::tempdir().expect("a folder");
    let changing = File::create(new.path().join("master.key.lock")).expect("a file");
    changing.lock().expect("the lock");
    std::thread::scope(|scope| {
        let brought = load_key(&kit, None).expect("one key");
        let import = scope.spawn(|| keys::import(new.path(), brought, None));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!new.path().join("master.key").exists());
        fs::copy(old.store().join("master.key"), new.path().join("master.key")).expect("two keys");
        drop(changing);
        let imported = import.join().expect("no panic").expect("imported");
        assert_eq!((imported.keys.key_count, imported.new_key_count), (2, 0));
    });
    assert_eq!(load_key(&new.path().join("master.key"), None).expect("the keys").keyring.keys().len(), 2);
}

#[test]
fn a_catalog_that_lost_its_key_gets_no_other_one_and_a_kit_opens_it_again() {
    let (desk, _) = desk_with_kit();
    for name in ["config.toml", "master.key"] {
        fs::remove_file(desk.store().join(name)).expect("removed");
    }
    let failure = desk.failure(12, &["init", "--bare"]);
    assert_eq!(failure["kind"], "wrong-key");
    assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("shard key import")), "{failure}");
    for name in ["config.toml", "master.key", "init.lock"] {
        assert!(!desk.store().join(name).exists(), "{name}");
    }
    desk.expect(0, &["key", "import", "kit"]);
    desk.expect(0, &["recover", "a", "-o", "back"]);
    assert_eq!(fs::read(desk.path("back")).expect("a file"), noise(30_000, 1));
}
