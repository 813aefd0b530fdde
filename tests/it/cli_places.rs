//! Places as a person meets them: memory, a second zone, disks that are away, settings that are lost.

use super::desk::{Desk, Outcome, noise};
use serde_json::Value;
use std::fs;

fn desk_with(name: &str, length: usize) -> Desk {
    let desk = Desk::new();
    desk.file(name, &noise(length, 5));
    desk.expect(0, &["put", name]);
    desk
}

fn margins(object: &Value) -> (Option<u64>, Option<u64>) {
    (object["margin"].as_u64(), object["backend_margin"].as_u64())
}

fn says(outcome: &Outcome, wanted: &str) {
    assert!(outcome.stderr.contains(wanted), "{wanted:?} is not in {}", outcome.stderr);
}

#[test]
fn memory_takes_no_shard_from_a_lasting_place_and_stands_in_no_ones_way() {
    let desk = desk_with("a", 70_000);
    desk.expect(0, &["backend", "add", "mem1", "memory:", "--zone", "z1"]);
    desk.expect(0, &["verify"]);
    let repaired = desk.json(0, &["repair"]);
    assert_eq!(repaired["bytes_written"], 0, "{repaired}");
    desk.expect(0, &["recover", "a", "-o", "back"]);
    desk.file("b", &noise(70_000, 6));
    let put = desk.json(0, &["put", "b"]);
    let shards = put["objects"][0]["shards"].as_array().expect("shards");
    assert!(shards.iter().all(|shard| shard["backend"] != "mem1"), "{put}");
    fs::remove_dir_all(desk.backend(2)).expect("removed");
    let repaired = desk.json(0, &["repair", "--assume-lost", "local-2"]);
    assert!(!repaired.to_string().contains("mem1"), "{repaired}");
    desk.expect(0, &["remove", "b"]);
}

#[test]
fn a_second_zone_from_which_nothing_is_gained_moves_nothing_and_takes_nothing_away() {
    let desk = desk_with("a", 70_000);
    desk.expect(0, &["backend", "add", "nas", "nas", "--zone", "cellar"]);
    let seen = desk.json(0, &["verify"]);
    assert_eq!(margins(&seen["objects"][0]), (Some(0), Some(2)));
    assert_eq!(desk.json(0, &["repair"])["bytes_written"], 0);
    desk.file("b", &noise(70_000, 6));
    let put = desk.json(0, &["put", "b"]);
    assert_eq!(margins(&put["objects"][0]), (Some(0), Some(2)));
    desk.expect(0, &["backend", "add", "far", "far", "--zone", "cloud"]);
    desk.expect(3, &["verify"]);
    desk.expect(0, &["repair"]);
    let seen = desk.json(0, &["verify"]);
    for object in seen["objects"].as_array().expect("objects") {
        assert_eq!(margins(object).0, Some(1), "{object}");
    }
}

/// Where a probe lies whose process was killed.
fn leave_probe(place: &std::path::Path) -> std::path::PathBuf {
    let left = place.join("objects/70/70726f62650000000102030405060708.0.shard");
    fs::create_dir_all(left.parent().expect("a folder")).expect("made");
    let text = b"shard probe: this only tries the place, and may be deleted\n";
    fs::write(&left, [text.as_slice(), &noise(70_001 - text.len(), 9)].concat()).expect("written");
    left
}

#[test]
fn a_probe_that_a_killed_process_left_stands_in_no_ones_way_and_is_deleted() {
    let desk = desk_with("a", 70_000);
    desk.expect(0, &["key", "export", "-o", "kit.txt"]);
    let left = leave_probe(&desk.backend(1));
    desk.expect(0, &["catalog", "refresh"]);
    desk.expect(0, &["catalog", "rebuild"]);
    desk.expect(0, &["verify"]);
    let heap = desk.store().join("backends");
    let places = fs::read_dir(&heap).expect("places").map(|place| place.expect("one").path().display().to_string());
    let places: Vec<String> = places.collect();
    let mut words = vec!["recover", "--all", "-o", "back", "--key", "kit.txt"];
    words.extend(places.iter().flat_map(|place| ["--from", place]));
    desk.expect(0, &words);
    let heap = heap.display().to_string();
    desk.expect(0, &["recover", "--all", "-o", "again", "--key", "kit.txt", "--from", &heap]);
    assert!(left.exists(), "nobody deletes while reading");
    assert_eq!(desk.json(0, &["gc", "--dry-run"])["leftovers"], 1);
    assert!(left.exists(), "a dry run deletes nothing");
    let report = desk.json(0, &["gc"]);
    assert_eq!((&report["leftovers"], &report["bytes_freed"]), (&1.into(), &70_001.into()), "{report}");
    assert!(!left.exists());
    leave_probe(&desk.backend(1));
    desk.expect(0, &["backend", "check"]);
    assert!(!left.exists());
    let new = leave_probe(&desk.path("new"));
    desk.expect(0, &["backend", "add", "new", "new"]);
    assert!(!new.exists());
}

#[test]
fn a_probe_in_a_place_that_is_only_read_stays_there_and_is_not_counted() {
    let desk = desk_with("a", 70_000);
    let left = leave_probe(&desk.backend(1));
    let settings = desk.store().join("config.toml");
    let text = fs::read_to_string(&settings).expect("settings");
    let read_only = text.replace("name = \"local-1\"", "name = \"local-1\"\nread_only = true");
    assert_ne!(read_only, text);
    fs::write(&settings, read_only).expect("changed");
    assert_eq!(desk.json(0, &["gc", "--dry-run"])["leftovers"], 0);
    assert_eq!(desk.json(0, &["gc"])["leftovers"], 0);
    assert!(left.exists());
    fs::write(&settings, text).expect("changed back");
    assert_eq!(desk.json(0, &["gc"])["leftovers"], 1);
    assert!(!left.exists());
}

#[test]
fn a_put_that_had_to_do_without_better_places_says_so_and_exits_3() {
    let desk = desk_with("a", 10);
    let away = |number: usize| desk.path(&format!("away-{number}"));
    for number in [1, 2, 3] {
        fs::rename(desk.backend(number), away(number)).expect("moved");
    }
    desk.file("b", &noise(70_000, 6));
    let put = desk.expect(3, &["put", "b"]);
    for wanted in ["local-1 (it cannot be reached)", "local-3 (it cannot be reached)", "shard repair"] {
        says(&put, wanted);
    }
    for number in [1, 2, 3] {
        fs::rename(away(number), desk.backend(number)).expect("moved back");
    }
    desk.expect(3, &["verify", "b"]);
    desk.expect(0, &["repair"]);
    assert_eq!(margins(&desk.json(0, &["verify", "b"])["objects"][0]), (Some(0), Some(2)));
}

#[test]
fn a_put_that_is_as_safe_without_the_place_that_is_away_names_it_and_exits_0() {
    let desk = desk_with("a", 10);
    desk.expect(0, &["backend", "add", "sixth", "sixth", "--zone", "cellar"]);
    fs::rename(desk.path("sixth"), desk.path("away")).expect("moved");
    desk.file("b", &noise(70_000, 6));
    let put = desk.expect(0, &["put", "b"]);
    says(&put, "sixth (it cannot be reached)");
    says(&put, "as safe without");
}

#[test]
fn new_bytes_under_the_old_length_and_time_are_stored_and_unchanged_ones_are_not() {
    let desk = Desk::new();
    let path = desk.file("folder/a", b"old");
    desk.expect(0, &["put", "folder"]);
    desk.expect(0, &["put", "folder/a", "--name", "single"]);
    for words in [&["put", "folder"][..], &["put", "folder/a", "--name", "single"]] {
        assert_eq!(desk.json(0, words)["files"][0]["skipped"], true, "{words:?}");
    }
    let when = fs::metadata(&path).expect("there").modified().expect("a time");
    fs::write(&path, b"new").expect("written");
    fs::File::options().write(true).open(&path).expect("opened").set_modified(when).expect("set back");
    for words in [&["put", "folder"][..], &["put", "folder/a", "--name", "single"]] {
        assert_eq!(desk.json(0, words)["files"][0]["skipped"], false, "{words:?}");
    }
    desk.expect(0, &["recover", "folder/a", "-o", "back"]);
    assert_eq!(fs::read(desk.path("back")).expect("a file"), b"new");
}

#[test]
fn a_store_that_lost_its_settings_is_not_built_anew_over_its_key() {
    let desk = desk_with("a", 10);
    desk.expect(0, &["backend", "add", "nas", "nas", "--zone", "cellar"]);
    let config = desk.store().join("config.toml");
    fs::remove_file(&config).expect("removed");
    for words in [&["put", "a"][..], &["list"], &["init"], &["backend", "add", "x", "x"]] {
        let failure = desk.failure(1, words);
        assert_eq!(failure["kind"], "damaged", "{words:?}: {failure}");
        assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("shard init --bare")), "{failure}");
        assert!(!config.exists(), "{words:?}");
    }
    desk.expect(0, &["init", "--bare"]);
    for number in 1..=5 {
        let place = desk.backend(number);
        let place = place.to_str().expect("UTF-8");
        let added = desk.json(0, &["backend", "add", &format!("local-{number}"), place]);
        assert_eq!(added["adopted"], true);
    }
    desk.expect(0, &["verify"]);
}

#[test]
fn a_first_put_that_was_interrupted_while_it_made_the_store_can_be_run_again() {
    let desk = desk_with("a", 10);
    fs::remove_file(desk.store().join("config.toml")).expect("removed");
    fs::write(desk.store().join("init.lock"), b"").expect("written");
    desk.expect(0, &["put", "a"]);
}

#[test]
fn the_zone_that_was_found_is_written_down_so_that_an_unmounted_disk_keeps_it() {
    let desk = desk_with("a", 10);
    desk.expect(0, &["backend", "add", "plain", "plain"]);
    let text = fs::read_to_string(desk.store().join("config.toml")).expect("settings");
    assert_eq!(text.matches("\nzone = ").count(), 6, "{text}");
}

#[test]
fn a_backend_with_deletes_waiting_is_removed_by_force_alone() {
    let desk = desk_with("a", 70_000);
    fs::rename(desk.backend(5), desk.path("away")).expect("moved");
    desk.run(&["remove", "a"]);
    let config = desk.store().join("config.toml");
    let failure = desk.failure(1, &["backend", "remove", "local-5"]);
    assert_eq!(failure["kind"], "refused", "{failure}");
    assert!(
        failure["message"].as_str().is_some_and(|text| text.contains("1 shard on backend local-5 waits")),
        "{failure}"
    );
    desk.expect(0, &["backend", "remove", "local-5", "--force"]);
    assert!(!fs::read_to_string(config).expect("settings").contains("local-5"));
    // Other machines are to hear of the removal: it stays for a while.
    for _ in 0..=shard::ops::gc::REMOVAL_ROUNDS {
        desk.expect(0, &["gc"]);
    }
    let status = desk.json(0, &["status"]);
    assert_eq!(status["objects"]["total"], 0, "the removal came to its end: {status}");
}

#[test]
fn a_place_that_cannot_be_added_is_refused_with_its_own_words_and_left_as_it_was() {
    let desk = desk_with("a", 10);
    fs::create_dir(desk.path("bare")).expect("made");
    let failure = desk.failure(1, &["backend", "add", "x", "bare", "--read-only"]);
    assert_eq!(failure["kind"], "refused", "{failure}");
    assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("--read-only")), "{failure}");
    assert_eq!(fs::read_dir(desk.path("bare")).expect("there").count(), 0);
    for (url, wanted) in [
        ("s3://me:secret@bucket/x", "user name or password"),
        ("ftp://nas/x", "ftp"),
        ("s3://", "s3://"),
        ("file://host/x", "absolute path"),
    ] {
        let failure = desk.failure(1, &["backend", "add", "x", url]);
        assert_eq!(failure["kind"], "invalid", "{url}: {failure}");
        let said = format!("{} {}", failure["message"], failure["causes"]);
        assert!(said.contains(wanted) && !said.contains("a backend failed"), "{url}: {failure}");
        assert!(!said.contains("the settings do not fit") && !said.contains("secret"), "{url}: {failure}");
        assert!(failure["hint"].is_string(), "{url}: {failure}");
    }
    let failure = desk.failure(1, &["backend", "add", "x", "s3://bucket/x", "--profile", "nobody"]);
    assert_eq!(failure["kind"], "invalid", "{failure}");
    assert!(!failure.to_string().contains("a backend failed"), "{failure}");
}

#[test]
fn a_mark_is_written_again_although_some_known_shards_are_gone() {
    let desk = desk_with("a", 70_000);
    desk.file("b", &noise(70_000, 6));
    desk.expect(0, &["put", "b"]);
    fs::remove_file(desk.backend(2).join("shard.mark")).expect("removed");
    let gone = desk.shard_files().into_iter().find(|path| path.starts_with(desk.backend(2))).expect("a shard");
    fs::remove_file(gone).expect("removed");
    let check = desk.json(0, &["backend", "check", "local-2", "--mark"]);
    assert_eq!((&check["backends"][0]["marked"], &check["backends"][0]["state"]), (&true.into(), &"ready".into()));
    assert_eq!(
        (&check["backends"][0]["known_found"], &check["backends"][0]["known_looked_for"]),
        (&1.into(), &2.into())
    );
}

#[test]
fn what_is_said_to_be_typed_can_be_typed_and_obeys_no_ones_name() {
    let desk = Desk::new();
    desk.file("evil\u{1b}[31m\nname", b"abc");
    let put = desk.expect(0, &["put", "evil\u{1b}[31m\nname"]);
    assert!(!put.text().contains('\u{1b}'), "{:?}", put.text());
    assert!(put.text().contains(r"shard verify $'evil\u001b[31m\nname'"), "{}", put.text());
    desk.file("-dash", b"abc");
    let put = desk.expect(0, &["put", "--", "-dash"]);
    assert!(put.text().contains("shard recover -- -dash"), "{}", put.text());
    desk.expect(0, &["recover", "-o", "back", "--", "-dash"]);
}

#[test]
fn a_link_that_is_named_itself_is_followed_without_a_word_and_an_empty_folder_is_told() {
    let desk = Desk::new();
    desk.file("folder/a", b"abc");
    std::os::unix::fs::symlink(desk.path("folder"), desk.path("link")).expect("linked");
    let put = desk.expect(0, &["put", "link"]);
    assert!(!put.stderr.contains("passed over"), "{}", put.stderr);
    assert_eq!(desk.listed(), ["link/a"]);
    fs::create_dir(desk.path("empty")).expect("made");
    says(&desk.expect(0, &["put", "empty"]), "nothing to store in empty");
}

#[test]
fn what_cannot_be_taken_is_said_in_words_that_fit_it() {
    let desk = desk_with("a", 10);
    for (words, wanted) in [
        (&["prune", "--keep-last", "1", "--keep-within", "5"][..], "a duration needs a unit"),
        (&["prune", "--keep-last", "0"], "1 or more"),
        (&["recover", "a", "--range", "0-18446744073709551615"], "a byte position is at most 18446744073709551614"),
    ] {
        says(&desk.expect(2, words), wanted);
    }
    desk.file("b", b"abc");
    desk.expect(0, &["put", "b", "--level", "PERSONAL"]);
    let failure = desk.failure(1, &["backend", "remove", "local-1"]);
    assert!(failure["message"].as_str().is_some_and(|text| text.ends_with("still holds 2 shards")), "{failure}");
}
