//! The keys of a store: carried away on a kit, brought back, renewed, and under a passphrase.

use super::desk::{Desk, Outcome, has_keys, noise};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PASSPHRASE: &str = "correct horse battery staple";

fn desk_with(name: &str, bytes: &[u8]) -> Desk {
    let desk = Desk::new();
    desk.file(name, bytes);
    desk.expect(0, &["put", name]);
    desk
}

/// A store whose five places are outside of it, each a zone of its own.
fn desk_with_places(places: &Path) -> Desk {
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    for number in 1..=5 {
        let (name, path) = (format!("place-{number}"), places.join(number.to_string()).display().to_string());
        desk.expect(0, &["backend", "add", &name, &path, "--zone", &format!("zone-{number}"), "--quota", "500MB"]);
    }
    desk
}

/// Exports the key to a file on the desk.
fn export(desk: &Desk, name: &str) -> (PathBuf, String) {
    let path = desk.path(name);
    desk.expect(0, &["key", "export", "-o", path.to_str().expect("UTF-8")]);
    let text = fs::read_to_string(&path).expect("a kit");
    (path, text)
}

fn recovers(desk: &Desk, name: &str, bytes: &[u8]) {
    desk.expect(0, &["recover", name, "-o", "back", "--force"]);
    assert_eq!(fs::read(desk.path("back")).expect("a file"), bytes, "{name}");
}

fn word(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn places_and_a_kit_bring_a_store_with_two_keys_back_on_a_fresh_machine() {
    let places = tempfile::tempdir().expect("a folder");
    let old = desk_with_places(places.path());
    let (first, second) = (noise(300_000, 1), noise(70_000, 2));
    old.file("first", &first);
    old.expect(0, &["put", "first"]);
    let rotated = old.json(0, &["key", "rotate"]);
    has_keys(&rotated, &["schema", "store", "key_id", "keys", "passphrase"]);
    assert_eq!((&rotated["schema"], &rotated["keys"]), (&"shard.key-rotate/1".into(), &2.into()));
    old.file("second", &second);
    old.expect(0, &["put", "second"]);
    for (name, bytes) in [("first", &first), ("second", &second)] {
        recovers(&old, name, bytes);
    }
    old.expect(0, &["verify"]);
    let (kit, _) = export(&old, "kit.txt");
    let kit_elsewhere = places.path().join("kit.txt");
    fs::copy(&kit, &kit_elsewhere).expect("copied");
    drop(old);

    let new = Desk::new();
    let imported = new.json(0, &["key", "import", word(&kit_elsewhere)]);
    has_keys(&imported, &["schema", "store", "key_id", "keys", "new_keys", "made", "backends", "passphrase"]);
    assert_eq!((&imported["key_id"], &imported["made"]), (&rotated["key_id"], &true.into()));
    assert_eq!(imported["backends"].as_array().map(Vec::len), Some(5));
    new.expect(0, &["catalog", "rebuild"]);
    assert_eq!(new.listed(), ["first", "second"]);
    for (name, bytes) in [("first", &first), ("second", &second)] {
        recovers(&new, name, bytes);
    }
    new.expect(0, &["verify"]);
    let status = new.json(0, &["status"]);
    assert_eq!(status["key"]["exported"], true, "it came from a kit");
    assert_eq!(
        (&status["backends"][4]["zone"], &status["backends"][4]["quota"]),
        (&"zone-5".into(), &500_000_000.into())
    );
    new.file("third", b"after");
    new.expect(0, &["put", "third"]);

    let nobody = Desk::new();
    let from: Vec<String> =
        [1, 3, 5].iter().map(|number| places.path().join(number.to_string()).display().to_string()).collect();
    let from = ["--from", &from[0], "--from", &from[1], "--from", &from[2], "--key", word(&kit_elsewhere)];
    nobody.expect(0, &[&["recover", "--all", "-o", "out"][..], &from].concat());
    assert_eq!(fs::read(nobody.path("out/first")).expect("a file"), first);
    assert_eq!(fs::read(nobody.path("out/second")).expect("a file"), second);
    assert!(!nobody.store().exists());
}

#[test]
fn a_rebuild_with_a_key_and_the_places_is_the_old_machine_again() {
    let places = tempfile::tempdir().expect("a folder");
    let old = desk_with_places(places.path());
    old.file("a", b"abc");
    old.expect(0, &["put", "a"]);
    let key = places.path().join("owner.key");
    fs::copy(old.store().join("master.key"), &key).expect("copied");
    drop(old);
    let place = |number: u8| places.path().join(number.to_string()).display().to_string();
    let stranger = Desk::new();
    stranger.expect(0, &["init"]);

    let new = Desk::new();
    new.expect(13, &["catalog", "rebuild", "--from", &place(1), "--key", "no-such-key"]);
    assert!(!new.store().exists());
    new.expect(5, &["catalog", "rebuild", "--from", word(places.path()), "--key", word(&key)]);
    // It goes on where it was stopped, and passes over what it has already.
    let from = [1, 2, 4, 2].map(place);
    let words: Vec<&str> = from.iter().flat_map(|place| ["--from", place]).collect();
    let rebuild = [&["catalog", "rebuild", "--key", word(&key)][..], &words].concat();
    for _ in 0..2 {
        let report = new.json(0, &rebuild);
        let names = report["backends"].as_array().expect("backends").iter().map(|b| b["name"].as_str());
        assert_eq!(names.collect::<BTreeSet<_>>(), [Some("1"), Some("2"), Some("4")].into(), "{report}");
    }
    recovers(&new, "a", b"abc");
    new.file("b", b"after");
    new.expect(0, &["put", "b"]);
    recovers(&new, "b", b"after");
    new.expect(12, &["catalog", "rebuild", "--key", word(&stranger.store().join("master.key"))]);
    new.expect(12, &["catalog", "rebuild", "--key", word(&key), "--from", word(&stranger.backend(1))]);
}

#[test]
fn a_typing_error_in_a_kit_is_found_and_its_line_named() {
    let desk = desk_with("a", b"abc");
    let (_, kit) = export(&desk, "kit.txt");
    let new = Desk::new();
    for (index, line) in kit.lines().enumerate() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let is_read = ["1-1", "1-2", "store", "keys", "settings"].contains(&name)
            || line.rsplit_once('#').is_some_and(|(_, check)| check.len() == 4);
        if !is_read {
            continue;
        }
        // The last character that is not the check: swapped for another that a hand might take for it.
        let at = line.rfind(|c: char| !c.is_whitespace()).expect("a character");
        let other = if line[at..].starts_with('5') { "S" } else { "5" };
        let mistyped = format!("{}{other}{}", &line[..at], &line[at + 1..]);
        let lines: Vec<&str> =
            kit.lines().enumerate().map(|(at, own)| if at == index { &mistyped } else { own }).collect();
        let path = new.file("typed.txt", lines.join("\n").as_bytes());
        let failure = new.failure(12, &["key", "import", word(&path)]);
        assert_eq!(failure["kind"], "wrong-key", "{line}");
        let says_which = failure["causes"].to_string().contains(&format!("line {}", index + 1));
        assert!(says_which || ["store", "keys", "settings"].contains(&name), "{line}: {failure}");
        assert!(!failure.to_string().contains(line.trim()), "nothing of the kit is repeated");
        assert!(!new.store().join("master.key").exists() && !new.store().join("config.toml").exists());
    }
    let typed = kit.to_lowercase().replace("  1-1 ", " 1-1   ");
    // The settings are names and addresses, of which the case matters; the keys are not.
    let keys: String =
        typed.lines().take_while(|line| !line.starts_with("settings")).map(|line| format!("{line}\n")).collect();
    let lines: String =
        typed.lines().filter(|line| line.trim().starts_with("1-")).map(|line| format!("{line}\n")).collect();
    let imported = new.run_with(&["key", "import", "-", "--json"], keys + &lines);
    assert_eq!(imported.code, 0, "{}", imported.stderr);
}

#[test]
fn every_way_in_which_keys_go_wrong_has_its_exit_code() {
    let desk = desk_with("a", b"abc");
    let (kit, _) = export(&desk, "kit.txt");
    let nobody = Desk::new();
    for words in [&["key", "export"][..], &["key", "rotate"], &["key", "passphrase"]] {
        assert_eq!(nobody.failure(10, words)["kind"], "no-store", "{words:?}");
        assert!(!nobody.store().exists(), "{words:?}");
    }
    assert_eq!(nobody.failure(13, &["key", "import", "nowhere.txt"])["kind"], "not-found");
    let letter = nobody.file("letter.txt", b"Dear Sir\n");
    assert_eq!(nobody.failure(12, &["key", "import", word(&letter)])["kind"], "wrong-key");
    assert!(!nobody.store().join("config.toml").exists());

    let kept = fs::read(&kit).expect("a kit");
    assert_eq!(desk.failure(1, &["key", "export", "-o", word(&kit)])["kind"], "refused");
    assert_eq!(fs::read(&kit).expect("a kit"), kept);
    assert_eq!(fs::metadata(&kit).expect("metadata").permissions().mode() & 0o777, 0o600);
    let again = desk.json(0, &["key", "import", word(&kit)]);
    assert_eq!((&again["new_keys"], &again["made"]), (&0.into(), &false.into()));

    let stranger = desk_with("a", b"abc");
    let before = fs::read(stranger.store().join("master.key")).expect("a key");
    assert_eq!(stranger.failure(12, &["key", "import", word(&kit)])["kind"], "wrong-key");
    assert_eq!(fs::read(stranger.store().join("master.key")).expect("a key"), before);
    fs::remove_file(stranger.store().join("master.key")).expect("removed");
    let failure = stranger.failure(12, &["key", "import", word(&kit)]);
    assert_eq!(failure["kind"], "wrong-key", "its catalog is of another store");
    assert!(!stranger.store().join("master.key").exists());

    fs::remove_file(desk.store().join("master.key")).expect("removed");
    let hint = desk.failure(12, &["recover", "a"])["hint"].to_string();
    assert!(hint.contains("shard key import"), "{hint}");
    desk.expect(0, &["key", "import", word(&kit)]);
    recovers(&desk, "a", b"abc");
}

#[test]
fn a_passphrase_opens_the_store_and_a_wrong_one_exits_12_within_two_seconds() {
    let mut desk = Desk::new();
    assert_eq!(desk.failure(12, &["init", "--passphrase"])["kind"], "wrong-key", "there is nobody to ask");
    assert!(!desk.store().join("config.toml").exists());
    desk.set("SHARD_PASSPHRASE", PASSPHRASE);
    desk.expect(0, &["init", "--passphrase"]);
    desk.file("a", b"abc");
    desk.expect(0, &["put", "a"]);
    recovers(&desk, "a", b"abc");
    assert_eq!(desk.json(0, &["status"])["key"]["passphrase"], true);

    desk.set("SHARD_PASSPHRASE", "incorrect horse");
    let quickest = (0..3).map(|_| {
        let begun = Instant::now();
        assert_eq!(desk.failure(12, &["list"])["kind"], "wrong-key");
        begun.elapsed()
    });
    let quickest = quickest.min().expect("three runs");
    assert!(quickest < Duration::from_secs(2), "{quickest:?}");
    desk.set("SHARD_PASSPHRASE", "");
    let failure = desk.failure(12, &["recover", "a", "-o", "-"]);
    assert!(failure["hint"].to_string().contains("SHARD_PASSPHRASE_FILE"), "{failure}");

    let file = desk.file("passphrase", format!("{PASSPHRASE}\n").as_bytes());
    desk.set("SHARD_PASSPHRASE_FILE", word(&file));
    assert_eq!(desk.failure(1, &["list"])["kind"], "refused", "others can read it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
    recovers(&desk, "a", b"abc");
}

#[test]
fn a_passphrase_is_set_changed_and_taken_away() {
    let mut desk = desk_with("a", b"abc");
    let plain = fs::read_to_string(desk.store().join("master.key")).expect("a key");
    assert_eq!(desk.failure(12, &["key", "passphrase"])["kind"], "wrong-key", "there is nobody to ask");
    desk.set("SHARD_PASSPHRASE", PASSPHRASE);
    assert_eq!(desk.json(0, &["key", "passphrase"])["passphrase"], true);
    let key_file = || fs::read_to_string(desk.store().join("master.key")).expect("a key");
    let sealed = key_file();
    assert!(sealed.contains("argon2id") && !sealed.contains("\"keys\""), "{sealed}");
    assert_eq!(fs::metadata(desk.store().join("master.key")).expect("metadata").permissions().mode() & 0o777, 0o600);
    recovers(&desk, "a", b"abc");
    let (kit, text) = export(&desk, "kit.txt");
    assert!(text.contains("THE KEYS IN PLAIN"));

    desk.expect(0, &["key", "rotate"]);
    assert!(fs::read_to_string(desk.store().join("master.key")).expect("a key").contains("argon2id"));
    let hint = desk.failure(12, &["key", "passphrase"])["hint"].to_string();
    assert!(hint.contains("SHARD_NEW_PASSPHRASE_FILE"), "the old one is given: {hint}");
    desk.set("SHARD_NEW_PASSPHRASE", "another");
    desk.expect(0, &["key", "passphrase"]);
    assert_eq!(desk.failure(12, &["list"])["kind"], "wrong-key");
    desk.set("SHARD_PASSPHRASE", "another");
    desk.expect(0, &["list"]);
    let imported = desk.json(0, &["key", "import", word(&kit)]);
    assert_eq!((&imported["new_keys"], &imported["keys"]), (&0.into(), &2.into()));
    assert_eq!(desk.json(0, &["key", "passphrase", "--remove"])["passphrase"], false);
    desk.set("SHARD_PASSPHRASE", "");
    recovers(&desk, "a", b"abc");
    let plain: Value = serde_json::from_str(&plain).expect("JSON");
    let now: Value = serde_json::from_slice(&fs::read(desk.store().join("master.key")).expect("a key")).expect("JSON");
    assert_eq!((&now["keys"][0], now["keys"].as_array().map(Vec::len)), (&plain["keys"][0], Some(2)));
}

#[test]
fn it_is_said_once_that_the_key_should_be_exported_and_status_goes_on_saying_it() {
    let desk = Desk::new();
    let advises = |outcome: &Outcome| outcome.stderr.contains("shard key export");
    let put = |name: &str, flags: &[&str]| {
        desk.file(name, name.as_bytes());
        desk.expect(0, &[&["put", name][..], flags].concat())
    };
    assert!(!advises(&put("a", &["-q"])));
    assert!(advises(&put("b", &[])));
    assert!(!advises(&put("c", &[])));
    let reminds = || {
        let key = desk.json(0, &["status"])["key"].clone();
        has_keys(&key, &["id", "keys", "exported", "passphrase"]);
        let says = desk.expect(0, &["status"]).text().contains("shard key export");
        assert_eq!(key["exported"], !says, "{key}");
        says
    };
    assert!(reminds() && reminds());
    let kit = desk.json(0, &["key", "export"]);
    has_keys(&kit, &["schema", "store", "key_id", "keys", "passphrase", "backends", "output", "kit"]);
    assert!(kit["kit"].as_str().is_some_and(|kit| kit.contains("1-1")), "{kit}");
    assert!(!reminds() && !advises(&put("d", &[])));
    desk.expect(0, &["key", "rotate"]);
    assert!(reminds(), "the new key is on no kit");
    assert!(advises(&put("e", &[])) && !advises(&put("f", &[])));
    assert!(desk.expect(0, &["key", "export"]).text().contains("2-2"));
    assert!(!reminds());
    fs::remove_file(desk.store().join("catalog.db")).expect("removed");
    let without = desk.expect(0, &["key", "export"]);
    assert!(without.text().contains("2-2") && without.stderr.contains("warning"), "a key is saved without a catalog");
}

#[test]
fn two_changes_of_key_at_once_are_both_made() {
    let desk = desk_with("a", b"abc");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| desk.expect(0, &["key", "rotate"]));
        }
    });
    assert_eq!(desk.json(0, &["status"])["key"]["keys"], 4);
    recovers(&desk, "a", b"abc");
}

#[test]
fn another_machine_reads_what_a_new_key_sealed_once_it_has_the_kit() {
    let places = tempfile::tempdir().expect("a folder");
    let (one, other) = (desk_with_places(places.path()), Desk::new());
    let (kit, _) = export(&one, "kit.txt");
    other.expect(0, &["key", "import", word(&kit)]);
    one.expect(0, &["key", "rotate"]);
    one.file("late", b"sealed under the new key");
    one.expect(0, &["put", "late"]);
    let refreshed = other.json(12, &["catalog", "refresh"]);
    assert_eq!(
        (refreshed["locked"].as_array().map(Vec::len), &refreshed["incomplete"]),
        (Some(1), &serde_json::json!([]))
    );
    let rebuilt = other.json(12, &["catalog", "rebuild"]);
    assert_eq!(rebuilt["unreadable"][0]["locked"], true, "{rebuilt}");
    assert!(other.expect(12, &["catalog", "refresh"]).stderr.contains("shard key import"));
    assert!(!other.listed().contains(&"late".to_owned()));
    // What everything lacks is told, and is no success.
    let all = other.json(12, &["recover", "--all", "-o", "all"]);
    assert_eq!((&all["files"], &all["unread"][0]["kind"]), (&serde_json::json!([]), &"wrong-key".into()));
    assert!(other.expect(12, &["recover", "--all", "-o", "all"]).stderr.contains("shard key import"));
    let failure = other.failure(12, &["recover", "late"]);
    assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("key import")), "{failure}");
    let (newer, _) = export(&one, "newer.txt");
    assert_eq!(other.json(0, &["key", "import", word(&newer)])["new_keys"], 1);
    // The key is there, and what it opens is still to be read.
    let said = other.expect(5, &["recover", "--all", "-o", "all"]).stderr;
    assert!(said.contains("`shard catalog refresh` tries again"), "{said}");
    assert_eq!(other.failure(5, &["recover", "late"])["kind"], "unavailable");
    other.expect(0, &["catalog", "refresh"]);
    recovers(&other, "late", b"sealed under the new key");
    assert_eq!(other.json(0, &["recover", "--all", "-o", "all"])["unread"], serde_json::json!([]));
}

/// Whether the bytes of one stand in the other.
fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn no_key_and_no_passphrase_is_in_any_output_or_any_file_but_its_own() {
    let mut desk = desk_with("a", &noise(100_000, 1));
    desk.expect(0, &["key", "rotate"]);
    desk.file("b", b"under the new key");
    desk.expect(0, &["put", "b"]);
    let (kit, text) = export(&desk, "kit.txt");
    let plain: Value =
        serde_json::from_slice(&fs::read(desk.store().join("master.key")).expect("a key")).expect("JSON");
    let mut secrets: Vec<Vec<u8>> = vec![PASSPHRASE.into(), b"an altogether other".to_vec()];
    for key in plain["keys"].as_array().expect("keys") {
        let digits = key["key"].as_str().expect("hex");
        secrets.extend([digits.as_bytes().to_vec(), hex::decode(digits).expect("hex")]);
    }
    for line in text.lines().filter(|line| line.starts_with("  1-") || line.starts_with("  2-")) {
        let characters: String = line.split_whitespace().skip(1).take(8).collect();
        secrets.extend([characters.as_bytes().to_vec(), line.trim().as_bytes().to_vec()]);
    }
    let mut said: Vec<Outcome> = Vec::new();
    desk.set("SHARD_PASSPHRASE", PASSPHRASE);
    desk.set("SHARD_NEW_PASSPHRASE", "an altogether other");
    fs::remove_file(desk.store().join("master.key")).expect("removed");
    for words in [
        &["key", "import", word(&kit)][..],
        &["put", "a", "-vvv"],
        &["recover", "a", "-o", "back", "--force", "-vvv"],
        &["status", "-vvv"],
        &["status", "--json"],
        &["key", "passphrase"],
        &["list"],
        &["list", "--json"],
        &["key", "rotate", "--json"],
        &["key", "import", "a"],
    ] {
        said.push(desk.run(words));
    }
    desk.set("SHARD_PASSPHRASE", "an altogether other");
    for words in [&["verify", "-vvv"][..], &["show", "a"], &["key", "rotate", "-vvv"], &["catalog", "rebuild"]] {
        said.push(desk.expect(0, words));
    }
    for outcome in &said {
        for secret in &secrets {
            assert!(!holds(&outcome.stdout, secret) && !holds(outcome.stderr.as_bytes(), secret), "{outcome:?}");
        }
    }
    let files = walkdir::WalkDir::new(desk.home()).into_iter().map(|entry| entry.expect("an entry").into_path());
    let files: Vec<PathBuf> = files.filter(|path| path.is_file() && *path != kit).collect();
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        let bytes = fs::read(&file).expect("a file");
        for secret in &secrets {
            assert!(!holds(&bytes, secret), "{}", file.display());
        }
    }
}
