//! `shard vault`, as people and scripts type it.

use super::desk::{Desk, has_keys};
use std::fs;

fn desk() -> Desk {
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    desk
}

#[test]
fn get_and_pop_print_the_value_and_nothing_else() {
    let desk = desk();
    desk.expect(0, &["vault", "set", "v", "colour", "blue"]);
    assert_eq!(desk.expect(0, &["vault", "get", "v", "colour"]).stdout, b"blue");
    let bytes = [0, 255, 10, 13, 128];
    let file = desk.file("bytes", &bytes);
    desk.expect(0, &["vault", "set", "v", "bytes", "--file", file.to_str().expect("UTF-8")]);
    assert_eq!(desk.expect(0, &["vault", "get", "v", "bytes"]).stdout, bytes);
    assert_eq!(desk.run_with(&["vault", "set", "v", "piped", "-"], "line\n").code, 0);
    let popped = desk.expect(0, &["vault", "pop", "v", "piped"]);
    assert_eq!((popped.stdout.as_slice(), popped.stderr.as_str()), (b"line\n".as_slice(), ""));
    let failure = desk.failure(13, &["vault", "pop", "v", "piped"]);
    assert_eq!(failure["kind"], "not-found");
    for words in [["vault", "get", "v", "none"], ["vault", "delete", "v", "none"], ["vault", "get", "none", "none"]] {
        desk.failure(13, &words);
    }
}

/// Whoever was to read it has gone.
#[test]
fn what_nobody_read_is_not_removed_and_no_kit_that_nobody_read_counts() {
    let desk = desk();
    desk.expect(0, &["vault", "set", "v", "colour", "blue"]);
    for words in [vec!["vault", "pop", "v", "colour", "--json"], vec!["key", "export"], vec!["key", "export", "--json"]]
    {
        let (reading_end, writing_end) = std::io::pipe().expect("a pipe");
        drop(reading_end);
        let ended = desk.command().args(&words).stdout(writing_end).output().expect("a run");
        assert_eq!(ended.status.code(), Some(0), "{words:?}");
    }
    assert_eq!(desk.expect(0, &["vault", "get", "v", "colour"]).stdout, b"blue");
    assert_eq!(desk.json(0, &["status"])["key"]["exported"], false);
    desk.expect(0, &["key", "export"]);
    assert_eq!(desk.json(0, &["status"])["key"]["exported"], true);
}

#[test]
fn a_program_gets_every_character_of_a_name() {
    let desk = desk();
    let name = "a\u{7f}b";
    desk.expect(0, &["vault", "set", "v", name, name]);
    assert_eq!(desk.json(0, &["vault", "get", "v", name])["value"], name);
}

#[test]
fn every_command_has_its_document() {
    let desk = desk();
    let set = desk.json(0, &["vault", "set", "v", "b/2", "two"]);
    assert_eq!((&set["schema"], &set["sealed"]), (&"shard.vault-set/1".into(), &false.into()));
    desk.json(0, &["vault", "set", "v", "a", "-1"]);
    desk.json(0, &["vault", "set", "v", "b/1", "one", "--ttl", "30d"]);
    desk.json(0, &["vault", "set", "v", "gone", "x", "--ttl", "0s"]);
    let keys = desk.json(0, &["vault", "keys", "v"]);
    assert_eq!(
        (&keys["schema"], &keys["keys"]),
        (&"shard.vault-keys/1".into(), &serde_json::json!(["a", "b/1", "b/2"]))
    );
    assert_eq!(desk.json(0, &["vault", "keys", "v", "b/"])["keys"], serde_json::json!(["b/1", "b/2"]));
    assert_eq!(desk.expect(0, &["vault", "keys", "v"]).text(), "a\nb/1\nb/2\n");
    let items = desk.json(0, &["vault", "items", "v"]);
    has_keys(&items["items"][1], &["key", "value", "expires"]);
    assert_eq!((&items["items"][0]["value"], &items["items"][0]["expires"]), (&"-1".into(), &serde_json::Value::Null));
    assert!(items["items"][1]["expires"].as_str().is_some_and(|time| time.ends_with('Z')), "{items}");
    assert!(desk.expect(0, &["vault", "items", "v"]).text().contains("b/2"));
    let got = desk.json(0, &["vault", "get", "v", "a"]);
    assert_eq!((&got["schema"], &got["value"]), (&"shard.vault-get/1".into(), &"-1".into()));
    assert_eq!(desk.json(0, &["vault", "delete", "v", "a"])["schema"], "shard.vault-delete/1");
    assert_eq!(desk.json(0, &["vault", "pop", "v", "b/2"])["schema"], "shard.vault-pop/1");
    let listed = desk.json(0, &["vault", "list"]);
    assert_eq!((&listed["schema"], &listed["vaults"][0]["name"]), (&"shard.vault-list/1".into(), &"v".into()));
    assert_eq!(desk.json(0, &["vault", "clear", "v"])["entries"], 1);
    assert_eq!(desk.json(0, &["vault", "drop", "v"])["schema"], "shard.vault-drop/1");
    assert_eq!(desk.json(0, &["vault", "list"])["vaults"], serde_json::json!([]));
    assert_eq!(desk.failure(13, &["vault", "keys", "v"])["kind"], "not-found");
}

#[test]
fn a_sealed_vault_stays_sealed_and_survives_a_change_of_key() {
    let desk = desk();
    assert_eq!(desk.json(0, &["vault", "set", "s", "key of secrets", "hush hush", "--sealed"])["sealed"], true);
    assert_eq!(desk.json(0, &["vault", "set", "s", "second", "hush again"])["sealed"], true);
    desk.expect(0, &["key", "rotate"]);
    assert_eq!(desk.expect(0, &["vault", "get", "s", "key of secrets"]).stdout, b"hush hush");
    assert_eq!(desk.json(0, &["vault", "list"])["vaults"][0]["sealed"], true);
    for entry in walkdir::WalkDir::new(desk.store()) {
        let path = entry.expect("an entry").into_path();
        let bytes = if path.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
        assert!(!bytes.windows(4).any(|window| window == b"hush"), "{}", path.display());
    }
    desk.expect(0, &["vault", "set", "open", "a", "1"]);
    assert_eq!(desk.failure(1, &["vault", "set", "open", "a", "2", "--sealed"])["kind"], "refused");
    assert_eq!(desk.expect(0, &["vault", "get", "open", "a"]).stdout, b"1");
}

#[test]
fn a_passphrase_is_asked_for_where_a_vault_is_sealed_and_nowhere_else() {
    let mut desk = Desk::new();
    desk.set("SHARD_NEW_PASSPHRASE", "horse");
    desk.set("SHARD_PASSPHRASE", "horse");
    desk.expect(0, &["init", "--bare", "--passphrase"]);
    desk.expect(0, &["vault", "set", "open", "a", "1"]);
    desk.expect(0, &["vault", "set", "closed", "a", "2", "--sealed"]);
    desk.set("SHARD_PASSPHRASE", "donkey");
    assert_eq!(desk.expect(0, &["vault", "get", "open", "a"]).stdout, b"1");
    assert_eq!(desk.failure(12, &["vault", "get", "closed", "a"])["kind"], "wrong-key");
    assert_eq!(desk.json(0, &["vault", "list"])["vaults"].as_array().map(Vec::len), Some(2));
}

#[test]
fn an_export_goes_into_a_sealed_vault_and_a_damaged_one_nowhere() {
    let desk = desk();
    desk.expect(0, &["vault", "set", "v", "ä", "ö"]);
    desk.file("bytes", &[0xff, 0xfe]);
    desk.expect(0, &["vault", "set", "v", "bytes", "--file", "bytes"]);
    let export = desk.expect(0, &["vault", "export", "v"]).stdout;
    desk.file("v.jsonl", &export);
    assert_eq!(desk.json(0, &["vault", "import", "w", "v.jsonl", "--sealed"])["entries"], 2);
    assert_eq!(desk.json(0, &["vault", "list"])["vaults"][1]["sealed"], true);
    assert_eq!(desk.expect(0, &["vault", "get", "w", "bytes"]).stdout, [0xff, 0xfe]);
    let again = desk.expect(0, &["vault", "export", "w"]).stdout;
    assert!(again.starts_with(b"{\"schema\":\"shard-vault/1\",\"name\":\"w\"}\n"));
    desk.file("cut.jsonl", &export[..export.len() - 30]);
    let failure = desk.failure(1, &["vault", "import", "w", "cut.jsonl"]);
    assert!(failure["causes"][0].as_str().is_some_and(|cause| cause.starts_with("line 4")), "{failure}");
    desk.failure(13, &["vault", "import", "w", "none.jsonl"]);
    desk.file("zeros", &[0; 10_000]);
    let failure = desk.failure(1, &["vault", "import", "fresh", "zeros"]);
    assert!(failure["causes"][0].as_str().is_some_and(|cause| cause.starts_with("line 1")), "{failure}");
}

#[test]
fn what_could_not_be_put_into_a_new_vault_leaves_none_and_its_name_may_be_of_either_sort() {
    let desk = desk();
    desk.expect(0, &["vault", "set", "old", "a", "1"]);
    let export = desk.expect(0, &["vault", "export", "old"]).stdout;
    desk.file("old.jsonl", &export);
    desk.file("cut.jsonl", &export[..export.len() - 30]);
    desk.failure(1, &["vault", "import", "new", "cut.jsonl"]);
    let long_key = "k".repeat(1024 * 1024);
    desk.file("long.jsonl", format!("{{\"schema\":\"shard-vault/1\",\"name\":\"v\"}}\n{{\"key\":\"{long_key}\",\"value\":1}}\n{{\"entries\":1}}\n").as_bytes());
    desk.failure(1, &["vault", "import", "new", "long.jsonl"]);
    assert_eq!(desk.json(0, &["vault", "list"])["vaults"].as_array().map(Vec::len), Some(1));
    desk.expect(0, &["vault", "import", "new", "old.jsonl", "--sealed"]);
    // What there was stays.
    desk.failure(1, &["vault", "import", "new", "cut.jsonl"]);
    assert_eq!(desk.expect(0, &["vault", "get", "new", "a"]).stdout, b"1");
    desk.expect(0, &["vault", "clear", "new"]);
    desk.failure(1, &["vault", "import", "new", "cut.jsonl"]);
    assert_eq!(desk.json(0, &["vault", "list"])["vaults"].as_array().map(Vec::len), Some(2));
}

#[test]
fn names_lead_nowhere_and_without_a_store_there_are_no_vaults() {
    let empty = Desk::new();
    assert_eq!(empty.failure(10, &["vault", "list"])["kind"], "no-store");
    assert_eq!(empty.failure(10, &["vault", "set", "v", "a", "1"])["kind"], "no-store");
    let desk = desk();
    for name in ["../v", "a/b", ".v", ""] {
        desk.expect(2, &["vault", "get", name, "a"]);
    }
    desk.expect(2, &["vault", "set", "v", "a"]);
    desk.expect(2, &["vault", "set", "v", "a", "b", "--file", "c"]);
    desk.expect(0, &["vault", "set", "v", "a", "1"]);
    fs::write(desk.store().join("vaults/v.db"), vec![7; 5000]).expect("written");
    assert_eq!(desk.failure(1, &["vault", "get", "v", "a"])["kind"], "damaged");
}

#[test]
fn a_damaged_vault_is_dropped_and_one_of_a_later_release_or_something_else_is_not() {
    let desk = desk();
    let in_vaults = |name: &str| desk.store().join("vaults").join(name);
    desk.expect(0, &["vault", "set", "v", "a", "1"]);
    fs::write(in_vaults("v.db"), vec![7; 5000]).expect("written");
    let failure = desk.failure(1, &["vault", "get", "v", "a"]);
    assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("shard vault drop")), "{failure}");
    desk.expect(0, &["vault", "drop", "v"]);
    assert_eq!(desk.json(0, &["vault", "list"])["vaults"], serde_json::json!([]));
    desk.expect(0, &["vault", "set", "v", "a", "2", "--sealed"]);
    let listed = desk.json(0, &["vault", "list"]);
    assert_eq!(listed["vaults"][0]["sealed"], true, "its name is free for either sort");
    let folders = fs::read_dir(in_vaults("")).expect("a folder").flatten().map(|entry| entry.path());
    let sealed = folders.map(|folder| folder.join("v.db")).find(|path| path.exists()).expect("it is there");
    fs::write(&sealed, vec![7; 5000]).expect("written");
    desk.expect(0, &["vault", "drop", "v"]);
    assert!(!sealed.exists());
    desk.expect(0, &["vault", "set", "later", "a", "1"]);
    let change = |name: &str, sql: &str| {
        rusqlite::Connection::open(in_vaults(name)).expect("a database").execute_batch(sql).expect("changed");
    };
    change("later.db", "PRAGMA user_version = 7");
    change("other.db", "CREATE TABLE a (b); PRAGMA application_id = 7");
    for name in ["later", "other"] {
        desk.failure(1, &["vault", "drop", name]);
        assert!(in_vaults(&format!("{name}.db")).exists());
    }
    desk.failure(13, &["vault", "drop", "none"]);
}

#[test]
fn the_folder_of_the_vaults_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let desk = desk();
    desk.expect(0, &["vault", "set", "v", "colour", "blue"]);
    let folder = fs::metadata(desk.store().join("vaults")).expect("a folder");
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}
