//! Exit codes and messages, for every way in which backends and stores go wrong.

use super::desk::{Desk, noise};
use std::fs;

fn desk_with(name: &str, length: usize) -> Desk {
    let desk = Desk::new();
    desk.file(name, &noise(length, 5));
    desk.expect(0, &["put", name]);
    desk
}

#[test]
fn without_a_store_reading_commands_exit_10_and_make_none() {
    let desk = Desk::new();
    for words in [
        &["list"][..],
        &["show", "a"],
        &["recover", "a"],
        &["verify"],
        &["repair"],
        &["status"],
        &["remove", "a"],
        &["prune", "--keep-last", "1"],
        &["gc"],
        &["backend", "list"],
        &["backend", "check"],
        &["backend", "drain", "a"],
        &["catalog", "stats"],
        &["catalog", "rebuild"],
        &["proof", "create", "a", "--shard", "0"],
    ] {
        let failure = desk.failure(10, words);
        assert_eq!(failure["kind"], "no-store", "{words:?}");
        assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("shard init")), "{failure}");
        assert!(!desk.store().exists(), "{words:?}");
    }
}

#[test]
fn the_first_put_makes_a_store_and_says_what_it_is_worth() {
    let desk = Desk::new();
    desk.expect(13, &["put", "not-there"]);
    assert!(!desk.store().exists(), "no store is made for a file that is not there");
    desk.file("a", b"abc");
    let first = desk.expect(0, &["put", "a"]);
    for said in ["made a store with five local backends", "share one disk: margin 0 zones, backend margin 2"] {
        assert!(first.stderr.contains(said), "{said} is not in {}", first.stderr);
    }
    for said in ["local-5", "any 2 backends", "shard verify a", "shard recover a"] {
        assert!(first.text().contains(said), "{said} is not in {}", first.text());
    }
    desk.file("b", b"abd");
    assert!(!desk.expect(0, &["put", "b"]).stderr.contains("made a store"));
}

#[test]
fn what_is_unknown_exits_13() {
    let desk = desk_with("a", 10);
    for words in [
        &["recover", "b"][..],
        &["show", "b"],
        &["remove", "b"],
        &["verify", "b"],
        &["repair", "b"],
        &["put", "b"],
        &["recover", "a", "--version", "00000000000000000000000000000000"],
        &["backend", "drain", "b"],
        &["backend", "check", "b"],
        &["repair", "--assume-lost", "b"],
        &["proof", "create", "b", "--shard", "0"],
        &["proof", "check", "b.json"],
    ] {
        assert_eq!(desk.failure(13, words)["kind"], "not-found", "{words:?}");
    }
}

#[test]
fn two_lost_backends_are_degraded_and_three_are_lost() {
    let desk = desk_with("a", 700_000);
    for number in [1, 3] {
        fs::remove_dir_all(desk.backend(number).join("objects")).expect("removed");
    }
    desk.expect(3, &["verify"]);
    desk.expect(3, &["verify", "--quick"]);
    desk.expect(3, &["put", "a"]);
    let recovered = desk.json(3, &["recover", "a", "-o", "back"]);
    assert_eq!(recovered["damage"][0]["state"], "missing");
    assert_eq!(fs::read(desk.path("back")).expect("a file"), noise(700_000, 5));
    fs::remove_dir_all(desk.backend(4).join("objects")).expect("removed");
    desk.expect(4, &["verify"]);
    desk.expect(4, &["verify", "--metrics", "nowhere/shard.prom"]);
    desk.expect(4, &["status"]);
    assert_eq!(desk.failure(4, &["recover", "a", "-o", "again"])["kind"], "lost");
    assert!(!desk.path("again").exists());
    desk.expect(4, &["repair"]);
}

#[test]
fn backends_that_are_away_are_unavailable_and_not_lost() {
    let desk = desk_with("a", 700_000);
    let away = |number: usize| desk.path(&format!("away-{number}"));
    for number in [1, 2] {
        fs::rename(desk.backend(number), away(number)).expect("moved");
    }
    desk.expect(3, &["verify"]);
    let repaired = desk.json(3, &["repair"]);
    assert_eq!(repaired["bytes_written"], 0, "an unreachable backend is not a lost one");
    desk.expect(3, &["recover", "a", "-o", "back"]);
    desk.expect(3, &["backend", "check"]);
    fs::rename(desk.backend(3), away(3)).expect("moved");
    desk.expect(5, &["verify"]);
    assert_eq!(desk.failure(5, &["recover", "a", "-o", "again"])["kind"], "unavailable");
    assert!(!desk.path("again").exists());
    for number in [1, 2, 3] {
        fs::rename(away(number), desk.backend(number)).expect("moved back");
    }
    desk.expect(0, &["verify"]);
}

#[test]
fn a_lost_backend_is_made_up_for_once_it_is_said_to_be_lost() {
    let desk = desk_with("a", 70_000);
    fs::remove_dir_all(desk.backend(5)).expect("removed");
    desk.expect(3, &["repair"]);
    let repaired = desk.json(0, &["repair", "--assume-lost", "local-5"]);
    assert_eq!(repaired["objects"][0]["rebuilt"][0]["from"], "local-5");
    fs::remove_dir_all(desk.backend(1)).expect("removed");
    desk.expect(3, &["recover", "a", "-o", "back"]);
    assert_eq!(fs::read(desk.path("back")).expect("a file"), noise(70_000, 5));
}

#[test]
fn an_unmounted_folder_is_unreachable_and_can_be_marked_again() {
    let desk = desk_with("a", 70_000);
    fs::remove_file(desk.backend(2).join("shard.mark")).expect("removed");
    let verify = desk.json(3, &["verify"]);
    let states: Vec<_> =
        verify["objects"][0]["shards"].as_array().expect("shards").iter().map(|shard| &shard["state"]).collect();
    assert_eq!(states, ["ok", "unreachable", "ok", "ok", "ok"]);
    let check = desk.json(3, &["backend", "check", "local-2"]);
    assert_eq!(check["backends"][0]["state"], "unreachable");
    assert!(check["backends"][0]["problem"].as_str().is_some_and(|why| why.contains("mark")), "{check}");
    let marked = desk.json(0, &["backend", "check", "local-2", "--mark"]);
    assert_eq!((&marked["backends"][0]["marked"], &marked["backends"][0]["state"]), (&true.into(), &"ready".into()));
    desk.expect(0, &["verify"]);
}

#[test]
fn swapped_folders_are_noticed_and_nothing_is_written_to_them() {
    let desk = desk_with("a", 70_000);
    let between = desk.path("between");
    fs::rename(desk.backend(1), &between).expect("moved");
    fs::rename(desk.backend(2), desk.backend(1)).expect("moved");
    fs::rename(&between, desk.backend(2)).expect("moved");
    let check = desk.json(3, &["backend", "check"]);
    let states: Vec<_> = check["backends"].as_array().expect("backends").iter().map(|place| &place["state"]).collect();
    assert_eq!(states, ["wrong-place", "wrong-place", "ready", "ready", "ready"]);
    desk.expect(3, &["verify"]);
    assert_eq!(desk.json(3, &["repair"])["bytes_written"], 0);
}

#[test]
fn a_reached_quota_leaves_nothing_behind() {
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    for number in 1..=3 {
        let (name, path) = (format!("small-{number}"), format!("small/{number}"));
        desk.expect(0, &["backend", "add", &name, &path, "--quota", "100KB"]);
    }
    desk.file("little", &noise(20_000, 2));
    desk.expect(0, &["put", "little", "--level", "minimal"]);
    desk.file("large", &noise(900_000, 2));
    let failure = desk.failure(1, &["put", "large", "--level", "minimal"]);
    assert_eq!(failure["kind"], "below-quorum");
    assert!(failure.to_string().contains("quota"), "{failure}");
    assert_eq!(desk.listed(), ["little"]);
    let used = desk.json(0, &["backend", "list"]);
    assert!(used["backends"].as_array().expect("backends").iter().all(|place| place["shards"] == 1), "{used}");
}

#[test]
fn a_folder_that_cannot_be_written_costs_a_warning_while_others_can() {
    let desk = Desk::new();
    desk.expect(0, &["init"]);
    // A file where the folder of shards should be: even the superuser cannot write below it.
    fs::write(desk.backend(3).join("objects"), b"in the way").expect("written");
    desk.file("a", &noise(70_000, 5));
    let put = desk.expect(3, &["put", "a"]);
    for said in ["backend local-3 failed", "local-3 (it failed a write)", "shard repair"] {
        assert!(put.stderr.contains(said), "{said} is not in {}", put.stderr);
    }
    desk.expect(0, &["recover", "a", "-o", "back"]);
    assert_eq!(fs::read(desk.path("back")).expect("a file"), noise(70_000, 5));
}

#[test]
fn a_read_only_backend_is_read_and_never_written() {
    let desk = desk_with("a", 70_000);
    let config = desk.store().join("config.toml");
    let text = fs::read_to_string(&config).expect("settings");
    let changed = text.replace("name = \"local-1\"", "name = \"local-1\"\nread_only = true");
    assert_ne!(text, changed);
    fs::write(&config, changed).expect("written");
    desk.file("b", &noise(70_000, 6));
    let put = desk.json(0, &["put", "b"]);
    let shards = put["objects"][0]["shards"].as_array().expect("shards");
    assert!(shards.iter().all(|shard| shard["backend"] != "local-1"), "{put}");
    desk.expect(0, &["recover", "a", "-o", "back"]);
}

#[test]
fn memory_counts_for_nothing() {
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    for number in 1..=3 {
        let added = desk.expect(0, &["backend", "add", &format!("memory-{number}"), "memory:"]);
        assert!(added.stderr.contains("forgets everything"), "{}", added.stderr);
    }
    desk.file("a", b"abc");
    assert_eq!(desk.failure(1, &["put", "a", "--level", "minimal"])["kind"], "below-quorum");
}

#[test]
fn a_key_of_another_store_exits_12() {
    let desk = desk_with("a", 10);
    let other = desk_with("a", 10);
    fs::copy(other.store().join("master.key"), desk.store().join("master.key")).expect("copied");
    assert_eq!(desk.failure(12, &["list"])["kind"], "wrong-key");
    fs::remove_file(desk.store().join("master.key")).expect("removed");
    assert_eq!(desk.failure(12, &["list"])["kind"], "wrong-key");
}

#[test]
fn settings_that_make_no_sense_are_told_with_their_line() {
    let desk = desk_with("a", 10);
    let config = desk.store().join("config.toml");
    let text = fs::read_to_string(&config).expect("settings");
    fs::write(&config, format!("defualt_level = \"personal\"\n{text}")).expect("written");
    let failure = desk.failure(1, &["list"]);
    assert_eq!(failure["kind"], "invalid");
    assert!(failure["causes"].to_string().contains("defualt_level"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_holds_is_waited_for_and_then_exits_11() {
    use shard::store::{Contact, OpenOptions, Store};
    let desk = desk_with("a", 10);
    let options = OpenOptions { contact: Contact::Nobody, ..OpenOptions::default() };
    let store = Store::open(&desk.store(), options).await.expect("a store");
    let _lease = store.lease("maintenance").await.expect("a lease");
    let failure = tokio::task::spawn_blocking(move || desk.failure(11, &["gc"])).await.expect("it ran");
    assert_eq!(failure["kind"], "busy");
}
