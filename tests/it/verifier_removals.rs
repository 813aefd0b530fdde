//! What the owner removed, on a machine with a verify-only key: gone, and left to the owner to delete.

use crate::desk::Desk;
use shard::ops::gc::REMOVAL_ROUNDS;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// An owner with three files, and a helper that was given a verify-only key when they were there.
fn owner_and_helper() -> (Desk, Desk) {
    let (owner, helper) = (Desk::new(), Desk::new());
    for (name, seal) in [("gone", "key"), ("stays", "key"), ("open", "none")] {
        owner.file(name, name.repeat(20_000).as_bytes());
        owner.expect(0, &["put", name, "--seal", seal]);
    }
    let key = helper.path("helper.key");
    owner.expect(0, &["key", "export", "--verify-only", "-o", key.to_str().expect("UTF-8")]);
    helper.expect(0, &["key", "import", "helper.key"]);
    helper.expect(0, &["catalog", "rebuild"]);
    (owner, helper)
}

fn away(desk: &Desk, number: usize) -> PathBuf {
    desk.path(&format!("away-{number}"))
}

/// Takes a backend's folder away, as if its disk were not mounted.
fn unmount(owner: &Desk, number: usize) {
    fs::rename(owner.backend(number), away(owner, number)).expect("moved away");
}

fn mount(owner: &Desk, number: usize) {
    fs::rename(away(owner, number), owner.backend(number)).expect("moved back");
}

/// The ids of the objects that have a shard in a folder.
fn objects_in(folder: &Path) -> BTreeSet<String> {
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    let shards = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "shard"));
    shards.filter_map(|file| file.file_name().to_str()?.split_once('.').map(|(id, _)| id.to_owned())).collect()
}

/// Nothing is lost, unfinished, or to be deleted here, whichever way the helper looks.
fn is_content(helper: &Desk, objects: usize) {
    let verified = helper.json(0, &["verify"]);
    assert_eq!(verified["objects"].as_array().map(Vec::len), Some(objects));
    let counted = helper.json(0, &["catalog", "stats"]);
    assert_eq!((&counted["pending_deletes"], &counted["unfinished"]), (&0.into(), &0.into()), "{counted}");
    assert_eq!(helper.json(0, &["repair"])["bytes_written"], 0);
}

/// What a refresh brings in, where it finds nothing to complain of.
fn refreshed(helper: &Desk) -> u64 {
    let report = helper.json(0, &["catalog", "refresh"]);
    for list in ["incomplete", "locked", "untrusted", "vanished", "lost", "unlisted"] {
        assert_eq!(report[list].as_array().map(Vec::len), Some(0), "{list}: {report}");
    }
    assert_eq!(report["removed_shards_found"], 0, "they are the owner's to delete");
    report["objects"].as_u64().expect("a number")
}

#[test]
fn what_was_removed_is_neither_lost_nor_brought_back_by_a_backend_that_comes_back() {
    let (owner, helper) = owner_and_helper();
    let before = objects_in(&owner.backend(5));
    unmount(&owner, 5);
    owner.run(&["remove", "gone"]);
    owner.run(&["remove", "open"]);
    mount(&owner, 5);
    let there = objects_in(&owner.backend(5));
    assert_eq!((there.len(), there.is_superset(&before)), (3, true), "it has what was removed still");
    assert_eq!(helper.listed(), ["open"], "what is not sealed anyone may read");
    // Two removals, one after the other.
    assert_eq!(refreshed(&helper), 2);
    assert!(helper.listed().is_empty());
    // The removals themselves were written while a place was away.
    assert_eq!(helper.json(0, &["repair"])["objects"].as_array().map(Vec::len), Some(3));
    is_content(&helper, 3);
    let files = owner.shard_files();
    assert_eq!(refreshed(&helper), 0, "what was heard is not heard again");
    helper.expect(0, &["gc"]);
    is_content(&helper, 3);
    helper.expect(0, &["catalog", "rebuild"]);
    is_content(&helper, 3);
    assert_eq!(owner.shard_files(), files, "the helper deletes nothing of it");
    // The owner does, and the helper has nothing to say to that.
    owner.run(&["gc"]);
    let left = objects_in(&owner.backend(5));
    assert_eq!(before.difference(&left).count(), 2);
    assert_eq!(refreshed(&helper), 0);
    is_content(&helper, 3);
}

#[test]
fn a_removal_is_ended_by_the_owner_alone_and_is_no_loss_to_a_helper() {
    let (owner, helper) = owner_and_helper();
    owner.expect(0, &["remove", "gone"]);
    assert_eq!(refreshed(&helper), 1);
    let files = owner.shard_files();
    for _ in 0..=REMOVAL_ROUNDS {
        helper.expect(0, &["gc"]);
    }
    assert_eq!(owner.shard_files(), files, "only the owner knows whether all of it is gone");
    is_content(&helper, 3);
    for _ in 0..=REMOVAL_ROUNDS {
        owner.expect(0, &["gc"]);
    }
    assert_eq!(owner.shard_files().len(), 10, "the removal is over");
    assert_eq!(refreshed(&helper), 0);
    is_content(&helper, 2);
    assert_eq!(refreshed(&helper), 0);
}

#[test]
fn what_a_helper_cannot_open_has_the_health_of_its_shards_from_the_rebuild_on() {
    let (owner, helper) = owner_and_helper();
    let states = |helper: &Desk| helper.json(0, &["catalog", "stats"])["objects_by_state"].clone();
    assert_eq!(states(&helper), serde_json::json!({ "healthy": 3 }));
    let shards = owner.shard_files();
    let object = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(|name| name[..32].to_owned());
    let of_one = object(&shards[0]);
    let of_one: Vec<&PathBuf> = shards.iter().filter(|path| object(path) == of_one).collect();
    fs::remove_file(of_one[0]).expect("removed");
    helper.expect(0, &["catalog", "rebuild"]);
    assert_eq!(states(&helper), serde_json::json!({ "degraded": 1, "healthy": 2 }));
    of_one[1..3].iter().for_each(|path| fs::remove_file(path).expect("removed"));
    helper.run(&["catalog", "rebuild"]);
    assert_eq!(states(&helper), serde_json::json!({ "healthy": 2, "lost": 1 }));
    assert_eq!(helper.run(&["verify"]).code, 4);
    // What a look found is not taken back by the next listing.
    helper.run(&["catalog", "refresh"]);
    assert_eq!(states(&helper), serde_json::json!({ "healthy": 2, "lost": 1 }));
}
