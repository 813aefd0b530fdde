//! `shard catalog backup` and `restore` as people type them.

use crate::desk::{Desk, has_keys};
use crate::private_mounts::PrivateMounts;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// What every store here keeps.
pub(crate) const CONTENT: &[u8] = b"what the catalog is for";

/// A desk with a stored file and what is in the catalog of it.
pub(crate) fn desk() -> Desk {
    let desk = Desk::new();
    desk.file("a", CONTENT);
    desk.expect(0, &["put", "a", "-q"]);
    desk
}

pub(crate) fn damage_catalog(desk: &Desk) {
    let path = desk.store().join("catalog.db");
    let mut bytes = fs::read(&path).expect("a catalog");
    let middle = bytes.len() / 2;
    bytes[16..middle].fill(0x5a);
    fs::write(&path, bytes).expect("written");
}

fn named<'a>(words: &[&'a str], path: &'a str) -> Vec<&'a str> {
    [words, &[path]].concat()
}

#[test]
fn a_backup_tells_what_it_wrote_and_a_restore_what_it_took_from_it() {
    let desk = desk();
    let report = desk.json(0, &["catalog", "backup"]);
    has_keys(
        &report,
        &[
            "schema",
            "kind",
            "generation",
            "file",
            "records",
            "added",
            "left_out",
            "objects",
            "kept",
            "removed",
            "bytes_written",
            "elapsed_ms",
        ],
    );
    assert_eq!((&report["schema"], &report["kind"]), (&"shard.catalog-backup/1".into(), &"full".into()));
    assert_eq!(report["objects"][0]["shards"].as_array().map(Vec::len), Some(5));
    assert_eq!(desk.json(0, &["catalog", "backup"])["kind"], "none");
    assert!(desk.expect(0, &["catalog", "backup"]).text().starts_with("nothing new: backup 1 in the store"));
    assert_eq!(desk.json(0, &["catalog", "backup", "--full"])["generation"], 2);
    assert_eq!(desk.listed(), ["a"]);
    assert_eq!(desk.json(0, &["catalog", "stats"])["catalog_objects"], 2);
    let restored = desk.json(0, &["catalog", "restore"]);
    assert_eq!(restored["schema"], "shard.catalog-restore/1");
    assert_eq!((&restored["backup"]["used"], &restored["backup"]["generation"]), (&1.into(), &2.into()));
    let rebuilt = desk.json(0, &["catalog", "rebuild", "--without-backup"]);
    assert_eq!((&rebuilt["schema"], &rebuilt["backup"]), (&"shard.catalog-rebuild/1".into(), &serde_json::Value::Null));
    assert_eq!(desk.json(0, &["catalog", "rebuild"])["backup"]["used"], 1);
    desk.expect(0, &["verify"]);
}

#[test]
fn a_backup_file_is_private_and_whole_kept_unless_forced_and_restores_a_damaged_catalog() {
    let desk = desk();
    let path = desk.path("catalog.backup").display().to_string();
    let report = desk.json(0, &named(&["catalog", "backup", "-o"], &path));
    assert_eq!((&report["file"], &report["kind"]), (&path.as_str().into(), &"full".into()));
    let metadata = fs::metadata(&path).expect("a file");
    assert_eq!(
        (metadata.permissions().mode() & 0o777, metadata.len()),
        (0o600, report["bytes_written"].as_u64().expect("bytes"))
    );
    let refused = desk.failure(1, &named(&["catalog", "backup", "-o"], &path));
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("--force")), "{refused}");
    desk.expect(0, &named(&["catalog", "backup", "--force", "-o"], &path));
    let whole = fs::read(&path).expect("a file");
    damage_catalog(&desk);
    desk.failure(1, &["list"]);
    // A backup that is damaged too changes nothing, and the store does not seem to be empty.
    fs::write(&path, &whole[..whole.len() - 1]).expect("written");
    let failed = desk.failure(1, &named(&["catalog", "restore", "--from-file"], &path));
    assert_eq!(failed["kind"], "damaged");
    let unfilled = desk.failure(1, &["list"]);
    assert!(unfilled["hint"].as_str().is_some_and(|hint| hint.contains("catalog rebuild")), "{unfilled}");
    fs::write(&path, &whole).expect("written");
    let restored = desk.json(0, &named(&["catalog", "restore", "--from-file"], &path));
    assert_eq!((&restored["backup"]["file"], &restored["backup"]["used"]), (&path.as_str().into(), &1.into()));
    assert!(desk.store().join("catalog.db.damaged-1").exists(), "what was there is kept");
    assert_eq!(desk.listed(), ["a"]);
    assert_eq!(desk.failure(13, &["catalog", "restore", "--from-file", "nowhere"])["kind"], "not-found");
}

#[test]
fn without_a_backup_there_is_nothing_to_restore_from_and_the_catalog_stays() {
    let desk = desk();
    let failed = desk.failure(13, &["catalog", "restore"]);
    assert!(failed["hint"].as_str().is_some_and(|hint| hint.contains("catalog rebuild")), "{failed}");
    assert_eq!(desk.listed(), ["a"]);
}

#[test]
fn a_backup_is_made_by_itself_once_enough_is_new_and_not_where_the_settings_say_no() {
    let (busy, off) = (desk(), desk());
    let settings = off.store().join("config.toml");
    let text = fs::read_to_string(&settings).expect("settings");
    assert!(text.contains("catalog_backup = true"), "{text}");
    fs::write(&settings, text.replace("catalog_backup = true", "catalog_backup = false")).expect("written");
    for desk in [&busy, &off] {
        for number in 1..shard::ops::backup::BACKUP_WORTH_OBJECTS {
            assert_eq!(desk.json(0, &["catalog", "stats"])["catalog_objects"], 0, "{number}");
            let name = format!("a-{number}");
            desk.expect(0, &["put", "a", "--name", &name, "-q"]);
        }
    }
    assert_eq!(busy.json(0, &["catalog", "stats"])["catalog_objects"], 1);
    assert_eq!(off.json(0, &["catalog", "stats"])["catalog_objects"], 0);
    busy.expect(0, &["put", "a", "--name", "one more", "-q"]);
    assert_eq!(busy.json(0, &["catalog", "stats"])["catalog_objects"], 1);
}

#[test]
fn a_writer_makes_no_backup_in_the_store_and_one_of_what_it_put_in_a_file() {
    let owner = desk();
    let server = Desk::new();
    let key = server.path("server.key").display().to_string();
    owner.expect(0, &["key", "export", "--write-only", "-o", &key]);
    server.expect(0, &["key", "import", &key]);
    server.file("b", CONTENT);
    server.expect(0, &["put", "b", "-q"]);
    assert_eq!(server.failure(12, &["catalog", "backup"])["kind"], "wrong-key");
    let path = server.path("catalog.backup").display().to_string();
    let report = server.json(0, &["catalog", "backup", "-o", &path]);
    assert_eq!((&report["added"], &report["left_out"]), (&1.into(), &0.into()));
    // The owner's key is another: what a writer says of objects is not for it.
    assert_eq!(owner.failure(1, &["catalog", "restore", "--from-file", &path])["kind"], "damaged");
    server.expect(0, &["catalog", "restore", "--from-file", &path]);
    assert_eq!(server.listed(), ["b"]);
}

#[test]
fn a_full_disk_costs_no_backup_and_no_catalog_that_was_there() {
    let Some(mounts) = PrivateMounts::new() else { return };
    let desk = Desk::new();
    let disk = desk.path("disk");
    mounts.disk(&disk, "4m");
    let store = disk.join("store").display().to_string();
    let with = |words: &[&'static str]| [words, &["--store", &store]].concat();
    mounts.expect(&desk, 0, &with(&["init", "--bare"]));
    for (name, folder) in [("b1", "p/1"), ("b2", "p/2"), ("b3", "p/3"), ("b4", "p/4"), ("b5", "p/5")] {
        mounts.expect(&desk, 0, &with(&["backend", "add", name, folder]));
    }
    desk.file("a", CONTENT);
    mounts.expect(&desk, 0, &with(&["put", "a"]));
    mounts.expect(&desk, 0, &with(&["catalog", "backup"]));
    mounts.expect(&desk, 0, &with(&["catalog", "backup", "-o", "disk/old"]));
    let listed = || mounts.json(&desk, 0, &with(&["list"]))["files"][0]["name"].clone();
    let mut failed = 0;
    for room in ["0", "8k", "64k", "160k", "320k", "640k"] {
        for words in [
            &["catalog", "backup", "-o", "disk/old", "--force"][..],
            &["catalog", "backup", "-o", "disk/new"],
            &["catalog", "backup", "--full"],
            &["catalog", "restore"],
            &["catalog", "restore", "--from-file", "disk/old"],
        ] {
            mounts.fill(&disk);
            let script = format!("truncate -s -{room} disk/filling; rm -f disk/new");
            assert!(mounts.command(desk.home(), "sh").args(["-c", &script]).status().expect("it runs").success());
            let ended = mounts.shard(&desk, &[&with(words)[..], &["--json"]].concat());
            if ended.code != 0 {
                assert!(ended.code == 1 && ended.stderr.contains("\"space\""), "{room} {words:?}: {}", ended.stderr);
                failed += 1;
            }
            mounts.empty(&disk);
            assert_eq!(listed(), "a", "{room} {words:?}");
            mounts.expect(&desk, 0, &with(&["catalog", "restore", "--from-file", "disk/old"]));
            let left = mounts.files(&disk);
            assert!(
                left.iter().all(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".tmp"))),
                "{room} {words:?}: {left:?}"
            );
        }
    }
    assert!(failed >= 10, "only {failed} failed");
    assert_eq!(mounts.json(&desk, 0, &with(&["catalog", "restore"]))["backup"]["problems"], serde_json::json!([]));
    mounts.expect(&desk, 0, &with(&["verify"]));
}
