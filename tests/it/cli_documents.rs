//! What every command prints for scripts: its schema and its keys.

use super::desk::{Desk, has_keys, noise};
use serde_json::Value;

const FILE_KEYS: [&str; 6] = ["name", "version", "objects", "size", "blake3", "skipped"];
const OBJECT_KEYS: [&str; 8] =
    ["id", "root", "data_shards", "total_shards", "size", "margin", "backend_margin", "shards"];

fn desk_with(name: &str, length: usize) -> Desk {
    let desk = Desk::new();
    desk.file(name, &noise(length, 7));
    desk.expect(0, &["put", name]);
    desk
}

fn first<'a>(document: &'a Value, key: &str) -> &'a Value {
    document[key].as_array().expect("an array").first().expect("one at least")
}

fn hex(value: &Value, digits: usize) {
    let text = value.as_str().expect("a string");
    assert!(text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
}

#[test]
fn put_says_which_shards_went_where() {
    let desk = Desk::new();
    desk.file("a.bin", &noise(100_000, 1));
    let document = desk.json(0, &["put", "a.bin", "--level", "personal"]);
    assert_eq!(document["schema"], "shard.put/1");
    has_keys(&document, &["files", "objects", "bytes_read", "bytes_written", "elapsed_ms"]);
    let file = first(&document, "files");
    has_keys(file, &FILE_KEYS);
    assert_eq!((&file["name"], &file["size"], &file["skipped"]), (&"a.bin".into(), &100_000.into(), &false.into()));
    hex(&file["version"], 32);
    hex(&file["blake3"], 64);
    let object = first(&document, "objects");
    has_keys(object, &OBJECT_KEYS);
    assert_eq!((&object["data_shards"], &object["total_shards"]), (&3.into(), &5.into()));
    assert_eq!((&object["margin"], &object["backend_margin"]), (&0.into(), &2.into()));
    assert_eq!(file["objects"][0], object["id"]);
    hex(&object["root"], 64);
    for (index, shard) in object["shards"].as_array().expect("shards").iter().enumerate() {
        has_keys(shard, &["index", "backend", "zone", "bytes", "state"]);
        let name = format!("local-{}", index + 1);
        assert_eq!((&shard["index"], &shard["backend"], &shard["state"]), (&index.into(), &name.into(), &"ok".into()));
    }
    let again = desk.json(0, &["put", "a.bin", "--shards", "1/2"]);
    assert_eq!((&again["objects"][0]["data_shards"], &again["objects"][0]["total_shards"]), (&1.into(), &2.into()));
}

#[test]
fn a_folder_is_put_and_what_is_unchanged_is_skipped() {
    let desk = Desk::new();
    for (name, length) in [("photos/a.jpg", 5000), ("photos/2026/b.jpg", 70_000), ("photos/empty", 0)] {
        desk.file(name, &noise(length, 3));
    }
    let document = desk.json(0, &["put", "photos"]);
    let names: Vec<_> = document["files"].as_array().expect("files").iter().map(|file| &file["name"]).collect();
    assert_eq!(names.len(), 3);
    assert!(names.contains(&&"photos/2026/b.jpg".into()));
    assert_eq!(document["objects"].as_array().map(Vec::len), Some(1), "small files share an object");
    let again = desk.json(0, &["put", "photos"]);
    assert!(again["files"].as_array().expect("files").iter().all(|file| file["skipped"] == true), "{again}");
    assert_eq!(desk.json(0, &["list", "photos"])["files"].as_array().map(Vec::len), Some(3));
    let restored = desk.json(0, &["recover", "--all", "-o", "restored"]);
    assert_eq!(restored["files"].as_array().map(Vec::len), Some(3));
    assert_eq!(std::fs::read(desk.path("restored/photos/2026/b.jpg")).expect("a file"), noise(70_000, 3));
}

#[test]
fn list_show_and_recover_have_their_keys() {
    let desk = desk_with("a.bin", 50_000);
    let list = desk.json(0, &["ls"]);
    assert_eq!(list["schema"], "shard.list/1");
    let file = first(&list, "files");
    has_keys(file, &["name", "version", "size", "modified", "objects", "level", "state"]);
    assert_eq!((&file["level"], &file["state"]), (&"personal".into(), &"healthy".into()));
    assert!(file["modified"].as_str().is_some_and(|time| time.ends_with('Z') && time.contains('T')), "{file}");

    let show = desk.json(0, &["show", "a.bin"]);
    assert_eq!(show["schema"], "shard.show/1");
    has_keys(&show, &["name", "version", "size", "blake3", "level", "state", "margin", "may_be_lost", "objects"]);
    has_keys(first(&show, "objects"), &["id", "root", "data_shards", "total_shards", "shards", "state"]);

    let recover = desk.json(0, &["get", "a.bin", "-o", "back.bin"]);
    assert_eq!(recover["schema"], "shard.recover/1");
    has_keys(&recover, &["files", "damage", "bytes_read", "bytes_written", "elapsed_ms"]);
    has_keys(first(&recover, "files"), &["name", "version", "size", "blake3", "output"]);
    assert_eq!(std::fs::read(desk.path("back.bin")).expect("a file"), noise(50_000, 7));
}

#[test]
fn verify_and_repair_have_their_keys_and_name_what_they_found() {
    let desk = desk_with("a.bin", 50_000);
    std::fs::remove_dir_all(desk.backend(2).join("objects")).expect("removed");
    let verify = desk.json(3, &["verify"]);
    assert_eq!((&verify["schema"], &verify["mode"]), (&"shard.verify/1".into(), &"full".into()));
    has_keys(
        &verify["summary"],
        &["objects", "healthy", "degraded", "unavailable", "lost", "bytes_read", "elapsed_ms", "confidence"],
    );
    let object = first(&verify, "objects");
    has_keys(object, &["id", "names", "data_shards", "total_shards", "state", "margin", "backend_margin", "shards"]);
    assert_eq!((&object["state"], &object["backend_margin"]), (&"degraded".into(), &1.into()));
    for shard in object["shards"].as_array().expect("shards") {
        has_keys(shard, &["index", "backend", "zone", "state", "bad_blocks"]);
        let state = if shard["backend"] == "local-2" { "missing" } else { "ok" };
        assert_eq!(shard["state"], state, "{shard}");
    }

    let plan = desk.json(3, &["repair", "--dry-run"]);
    assert!(
        plan["plan"].as_array().is_some_and(|plan| plan.iter().any(|entry| entry["backend"] == "local-2")),
        "{plan}"
    );
    assert_eq!(plan["bytes_written"], 0);
    let repair = desk.json(0, &["repair"]);
    assert_eq!(repair["schema"], "shard.repair/1");
    has_keys(&repair, &["objects", "bytes_read", "bytes_written", "elapsed_ms"]);
    let repaired = first(&repair, "objects");
    has_keys(repaired, &["id", "before", "after", "rebuilt"]);
    assert_eq!((&repaired["before"], &repaired["after"]), (&"degraded".into(), &"healthy".into()));
    has_keys(first(repaired, "rebuilt"), &["index", "from", "to"]);
    assert_eq!(desk.json(0, &["repair"])["bytes_written"], 0, "what is healthy is left alone");
    assert_eq!(desk.json(0, &["verify", "--quick"])["mode"], "quick");
    assert_eq!(desk.json(0, &["verify", "--sample", "50"])["mode"], "sample");
}

#[test]
fn verify_writes_metrics_that_prometheus_reads() {
    let desk = desk_with("a.bin", 5000);
    desk.expect(0, &["verify", "--metrics", "shard.prom"]);
    let text = std::fs::read_to_string(desk.path("shard.prom")).expect("metrics");
    assert!(text.contains("shard_objects{state=\"healthy\"} 1\n"), "{text}");
    assert_eq!(desk.failure(1, &["verify", "--metrics", "nowhere/shard.prom"])["kind"], "output");
}

#[test]
fn backends_are_added_listed_checked_drained_and_removed() {
    let desk = desk_with("a.bin", 50_000);
    let added = desk.json(0, &["backend", "add", "disk", "far/away", "--zone", "attic", "--quota", "1GB"]);
    assert_eq!((&added["schema"], &added["zone"]), (&"shard.backend-add/1".into(), &"attic".into()));
    let list = desk.json(0, &["backend", "list"]);
    assert_eq!(list["schema"], "shard.backend-list/1");
    let backends = list["backends"].as_array().expect("backends");
    assert_eq!(backends.len(), 6);
    for backend in backends {
        has_keys(backend, &["name", "url", "zone", "quota", "used", "shards", "credentials", "state"]);
    }
    assert_eq!((&backends[5]["name"], &backends[5]["quota"]), (&"disk".into(), &1_000_000_000.into()));
    assert!(backends[5]["url"].as_str().is_some_and(|url| url.starts_with('/')), "{}", backends[5]);

    let check = desk.json(0, &["backend", "check", "disk"]);
    assert_eq!(check["schema"], "shard.backend-check/1");
    assert_eq!((&check["backends"][0]["state"], &check["backends"][0]["writable"]), (&"ready".into(), &true.into()));

    assert_eq!(desk.failure(1, &["backend", "remove", "local-1"])["kind"], "refused");
    let drain = desk.json(0, &["backend", "drain", "local-1"]);
    assert_eq!((&drain["schema"], &drain["empty"]), (&"shard.backend-drain/1".into(), &true.into()));
    assert_eq!(drain["moved"][0]["to"], "disk");
    desk.expect(0, &["backend", "remove", "local-1"]);
    desk.expect(13, &["backend", "remove", "local-1"]);
    desk.expect(0, &["verify", "--quick"]);
    assert_eq!(desk.json(0, &["repair"])["bytes_written"], 0, "each shard has a backend of its own");
    assert_eq!(desk.failure(1, &["backend", "add", "disk", "elsewhere"])["kind"], "refused");
}

#[test]
fn versions_are_kept_pruned_and_removed() {
    let desk = desk_with("a.bin", 5000);
    desk.file("a.bin", &noise(6000, 8));
    desk.expect(0, &["put", "a.bin"]);
    desk.file("a.bin", &noise(7000, 9));
    desk.expect(0, &["put", "a.bin"]);
    let versions = desk.json(0, &["list", "--versions"]);
    let ids: Vec<_> = versions["files"].as_array().expect("files").iter().map(|file| file["version"].clone()).collect();
    assert_eq!(ids.len(), 3);
    let oldest = ids[2].as_str().expect("an id");
    desk.expect(0, &["recover", "a.bin", "--version", oldest, "-o", "oldest.bin"]);
    assert_eq!(std::fs::read(desk.path("oldest.bin")).expect("a file"), noise(5000, 7));

    let pruned = desk.json(0, &["prune", "--keep-last", "2"]);
    assert_eq!((&pruned["schema"], &pruned["files"][0]["version"]), (&"shard.prune/1".into(), &oldest.into()));
    let removed = desk.json(0, &["rm", "a.bin"]);
    assert_eq!((&removed["schema"], &removed["files"][0]["version"]), (&"shard.remove/1".into(), &ids[0]));
    desk.expect(0, &["recover", "a.bin", "-o", "before.bin"]);
    assert_eq!(std::fs::read(desk.path("before.bin")).expect("a file"), noise(6000, 8));
    desk.expect(0, &["remove", "a.bin", "--all-versions"]);
    assert!(desk.listed().is_empty());
    let gc = desk.json(0, &["gc"]);
    assert_eq!(gc["schema"], "shard.gc/1");
    assert_eq!(desk.json(0, &["gc", "--dry-run"])["dry_run"], true);
}

#[test]
fn proofs_are_made_and_checked_without_a_store() {
    let desk = desk_with("a.bin", 50_000);
    desk.expect(0, &["proof", "create", "a.bin", "--shard", "1", "--block", "0", "-o", "p.json"]);
    let root = desk.json(0, &["show", "a.bin"])["objects"][0]["root"].as_str().expect("a root").to_owned();
    let shard = desk.shard_files().into_iter().find(|path| path.to_string_lossy().ends_with(".1.shard")).expect("one");
    let elsewhere = Desk::new();
    std::fs::copy(desk.path("p.json"), elsewhere.path("p.json")).expect("copied");
    let shard = shard.to_str().expect("UTF-8");
    let check = elsewhere.json(0, &["proof", "check", "p.json", "--root", &root, "--shard-file", shard]);
    assert_eq!((&check["schema"], &check["valid"]), (&"shard.proof-check/1".into(), &true.into()));
    assert_eq!(check["blocks_checked"], 1);
    let wrong = elsewhere.expect(1, &["proof", "check", "p.json", "--root", &"0".repeat(64)]);
    assert!(wrong.stderr.contains("error: the proof does not hold"), "{}", wrong.stderr);
    assert!(!elsewhere.store().exists(), "checking needs no store and makes none");
}

#[test]
fn the_catalog_is_counted_refreshed_and_rebuilt_from_the_backends_alone() {
    let desk = desk_with("a.bin", 50_000);
    let stats = desk.json(0, &["catalog", "stats"]);
    assert_eq!((&stats["schema"], &stats["files"]), (&"shard.catalog-stats/1".into(), &1.into()));
    assert_eq!(desk.json(0, &["catalog", "refresh"])["schema"], "shard.catalog-refresh/1");
    for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = std::fs::remove_file(desk.store().join(name));
    }
    let failure = desk.failure(1, &["list"]);
    assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("shard catalog rebuild")), "{failure}");
    let rebuilt = desk.json(0, &["catalog", "rebuild"]);
    assert_eq!((&rebuilt["schema"], &rebuilt["files"]), (&"shard.catalog-rebuild/1".into(), &1.into()));
    assert_eq!(desk.listed(), ["a.bin"]);
}

#[test]
fn status_is_one_document_for_a_monitor() {
    let desk = desk_with("a.bin", 50_000);
    for words in [&["status"][..], &["status", "--check"]] {
        let status = desk.json(0, words);
        assert_eq!(status["schema"], "shard.status/1");
        has_keys(
            &status,
            &["backends", "objects", "margin", "backend_margin", "may_be_lost", "verification", "space", "unfinished"],
        );
        assert_eq!(status["objects"]["healthy"], 1);
        let history = &status["backends"][0]["history"];
        has_keys(history, &["answered", "wrong", "missing", "silent", "first", "last", "last_failed", "failures"]);
        // Each look at the backends asks each for its shard.
        assert_eq!(history["answered"], u64::from(words.len() == 2));
        assert_eq!((&history["last_failed"], &history["failures"]), (&Value::Null, &serde_json::json!([])));
    }
    std::fs::remove_dir_all(desk.backend(1).join("objects")).expect("removed");
    desk.expect(0, &["status"]);
    let status = desk.json(3, &["status", "--check"]);
    assert_eq!(status["objects"]["degraded"], 1);
    let history = &status["backends"][0]["history"];
    assert_eq!((&history["answered"], &history["missing"]), (&1.into(), &1.into()));
    has_keys(&history["failures"][0], &["object", "shard", "outcome", "blocks", "bad_blocks", "when"]);
    assert_eq!(history["failures"][0]["outcome"], "missing");
    let outcome = desk.expect(3, &["status"]);
    let page = outcome.text();
    assert!(
        page.contains("local-1 failed 1 of 2 times that it was asked for a shard (1 missing), last at 2"),
        "{page}"
    );
}

#[test]
fn recovery_needs_no_store_where_the_places_are_named() {
    let desk = desk_with("a.bin", 50_000);
    let places: Vec<String> = [2, 4, 5].iter().map(|number| desk.backend(*number).display().to_string()).collect();
    let elsewhere = Desk::new();
    let key = desk.store().join("master.key").display().to_string();
    let from = ["--from", &places[0], "--from", &places[1], "--from", &places[2], "--key", &key];
    elsewhere.expect(0, &[&["recover", "a.bin"][..], &from].concat());
    assert_eq!(std::fs::read(elsewhere.path("a.bin")).expect("a file"), noise(50_000, 7));
    assert!(!elsewhere.store().exists());
    elsewhere.expect(13, &[&["recover", "b.bin"][..], &from].concat());
    for without in [&["recover", "a.bin"][..], &["recover", "--all", "-o", "out"]] {
        let refused = elsewhere.failure(12, &[without, &from[..6]].concat());
        assert_eq!(
            (&refused["kind"], refused["hint"].as_str().is_some_and(|hint| hint.contains("--key"))),
            (&"wrong-key".into(), true)
        );
    }
    let stranger = desk_with("other", 1);
    let stranger = stranger.store().join("master.key").display().to_string();
    assert_eq!(
        elsewhere.failure(12, &[&["recover", "a.bin"][..], &from[..7], &[&stranger]].concat())["kind"],
        "wrong-key"
    );
    let kind = &elsewhere.failure(5, &["recover", "a.bin", "--from", "nowhere"])["kind"];
    assert_eq!(kind, "unavailable");
}

#[test]
fn a_new_machine_goes_on_with_the_key_and_the_places() {
    let old = desk_with("a.bin", 50_000);
    let new = Desk::new();
    std::fs::create_dir_all(new.store()).expect("a folder");
    std::fs::copy(old.store().join("master.key"), new.store().join("master.key")).expect("copied");
    new.expect(0, &["init", "--bare"]);
    for number in [1, 3, 5] {
        let place = old.backend(number).display().to_string();
        let added = new.json(0, &["backend", "add", &format!("place-{number}"), &place]);
        assert_eq!(added["adopted"], true);
    }
    let rebuilt = new.json(0, &["catalog", "rebuild"]);
    assert_eq!((&rebuilt["files"], &rebuilt["objects"]), (&1.into(), &1.into()));
    new.expect(3, &["verify"]);
    new.expect(0, &["recover", "a.bin"]);
    assert_eq!(std::fs::read(new.path("a.bin")).expect("a file"), noise(50_000, 7));
    new.file("b.bin", &noise(1000, 1));
    new.expect(0, &["put", "b.bin"]);
    old.expect(0, &["catalog", "refresh"]);
    assert_eq!(old.listed(), ["a.bin", "b.bin"]);
}

#[test]
fn init_makes_a_store_once() {
    let desk = Desk::new();
    let made = desk.json(0, &["init"]);
    assert_eq!((&made["schema"], made["backends"].as_array().map(Vec::len)), (&"shard.init/1".into(), Some(5)));
    assert_eq!(desk.failure(1, &["init"])["kind"], "refused");
    let bare = Desk::new();
    assert_eq!(bare.json(0, &["init", "--bare"])["backends"], serde_json::json!([]));
    bare.file("a", b"a");
    assert_eq!(bare.failure(1, &["put", "a"])["kind"], "below-quorum");
}
