//! The whole program over S3: every command, from the first backend to the last shard, at servers that are really there.

use crate::cloud_store_bucket::Bucket;
use crate::desk::{Desk, noise};
use crate::s3_server::S3Server;
use object_store::path::Path;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// A shard of this file is longer than one part, at three data shards.
const LARGE_BYTES: usize = 17_000_000;
/// The places in the bucket at first.
const PLACES: [&str; 5] = ["one", "two", "three", "four", "five"];

/// A store on five places of a bucket, and what was put into it.
struct Life<'a> {
    bucket: &'a Bucket,
    desk: Desk,
    files: BTreeMap<String, Vec<u8>>,
}

#[test]
fn a_whole_store_lives_on_s3() {
    let server = S3Server::start();
    lives_and_leaves_nothing(&Bucket::of(&server));
    assert_eq!(server.unfinished_uploads(), 0);
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn a_whole_store_lives_on_an_external_s3_server() {
    let Some(bucket) = Bucket::external() else {
        eprintln!(
            "skipped: set SHARD_TEST_S3_ENDPOINT, SHARD_TEST_S3_BUCKET and the account to test an external server"
        );
        return;
    };
    lives_and_leaves_nothing(&bucket);
    bucket.clean_up();
}

fn lives_and_leaves_nothing(bucket: &Bucket) {
    let mut life = Life::begin(bucket);
    life.takes_files_folders_and_streams();
    life.is_looked_at();
    life.recovers_in_every_way();
    life.proves_a_block();
    life.loses_shards_and_is_repaired();
    life.moves_off_a_place();
    life.forgets_old_versions();
    life.loses_its_catalog();
    life.is_shared_with_a_second_machine();
    life.ends();
}

impl<'a> Life<'a> {
    /// Three places know the account from the environment, two from a file.
    fn begin(bucket: &'a Bucket) -> Self {
        bucket.names_an_unfinished_upload();
        let desk = bucket.desk();
        desk.expect(0, &["init", "--bare"]);
        let account = bucket.credentials_file(&desk);
        for place in &PLACES[..3] {
            bucket.add(&desk, place, &[]);
        }
        for place in &PLACES[3..] {
            bucket.add(&desk, place, &["--credentials-file", &account]);
        }
        let listed = desk.json(0, &["backend", "list"]);
        let listed: Vec<_> = rows(&listed["backends"]).map(|place| text(&place["credentials"]).to_owned()).collect();
        assert_eq!(listed[..3], ["environment"; 3]);
        assert!(listed[3..].iter().all(|from| from.starts_with("file ")), "{listed:?}");
        let settings = fs::read_to_string(desk.store().join("config.toml")).expect("settings");
        assert!(!settings.contains(bucket.secret()), "the settings hold no secret");
        Self { bucket, desk, files: BTreeMap::new() }
    }

    fn takes_files_folders_and_streams(&mut self) {
        self.write("large.bin", noise(LARGE_BYTES, 1));
        let put = self.desk.json(0, &["put", "large.bin"]);
        let object = &put["objects"][0];
        assert_eq!((object["margin"].as_u64(), object["backend_margin"].as_u64()), (Some(2), Some(2)));
        assert!(rows(&object["shards"]).all(|shard| shard["bytes"].as_u64() > Some(5 * 1024 * 1024)), "{object}");
        for (number, length) in [0, 1, 70_000, 800_000].into_iter().enumerate() {
            self.write(&format!("album/{number}.raw"), noise(length, 2 + number as u64));
        }
        self.desk.expect(0, &["put", "album", "--level", "minimal"]);
        let again = self.desk.json(0, &["put", "album", "--level", "minimal"]);
        assert!(rows(&again["files"]).all(|file| file["skipped"] == true), "{again}");
        assert_eq!(again["bytes_written"], 0);
        let stream = noise(2_000_000, 7);
        let piped = self.desk.run_with(&["put", "-", "--name", "stream", "--shards", "2/4"], stream.clone());
        assert_eq!(piped.code, 0, "{}", piped.stderr);
        self.files.insert("stream".to_owned(), stream);
        assert_eq!(self.bucket.unfinished_uploads(), 0);
    }

    fn is_looked_at(&self) {
        let names: Vec<_> = self.files.keys().cloned().collect();
        assert_eq!(self.desk.listed(), names);
        let shown = self.desk.json(0, &["show", "large.bin"]);
        assert_eq!((&shown["size"], &shown["state"]), (&LARGE_BYTES.into(), &"healthy".into()));
        for depth in [&["verify"][..], &["verify", "--quick"], &["verify", "--sample", "20"]] {
            let summary = self.desk.json(0, depth)["summary"].clone();
            assert_eq!(summary["healthy"], summary["objects"], "{depth:?} {summary}");
        }
        assert_eq!(self.desk.json(0, &["status", "--check"])["state"], "healthy");
        let check = self.desk.json(0, &["backend", "check"]);
        assert!(
            rows(&check["backends"]).all(|place| place["state"] == "ready" && place["writable"] == true),
            "{check}"
        );
    }

    fn recovers_in_every_way(&self) {
        self.recovers_to_a_file_a_range_and_a_stream();
        self.desk.expect(0, &["recover", "--all", "-o", "all"]);
        self.holds_everything("all");
        // Any three of the five places and the key are enough, with no store at all.
        let elsewhere = self.bucket.desk();
        let urls: Vec<_> = ["five", "two", "three"].map(|place| self.bucket.url(place)).into();
        let key = self.desk.store().join("master.key").display().to_string();
        let from = ["--from", &urls[0], "--from", &urls[1], "--from", &urls[2], "--key", &key];
        let outcome = elsewhere.run(&[&["recover", "large.bin", "-o", "large"][..], &from].concat());
        assert!(matches!(outcome.code, 0 | 3), "{}", outcome.stderr);
        assert_eq!(fs::read(elsewhere.path("large")).expect("a file"), self.files["large.bin"]);
    }

    fn recovers_to_a_file_a_range_and_a_stream(&self) {
        let large = &self.files["large.bin"];
        self.desk.expect(0, &["recover", "large.bin", "-o", "back"]);
        assert_eq!(&fs::read(self.desk.path("back")).expect("a file"), large);
        // The range goes over the border of two stripes.
        let range = self.desk.expect(0, &["recover", "large.bin", "--range", "780000-800000", "-o", "-"]);
        assert_eq!(range.stdout, large[780_000..=800_000]);
        assert_eq!(self.desk.expect(0, &["recover", "stream", "-o", "-"]).stdout, self.files["stream"]);
    }

    fn proves_a_block(&self) {
        self.desk.expect(0, &["proof", "create", "large.bin", "--shard", "1", "--block", "4", "-o", "proof.json"]);
        let shown = self.desk.json(0, &["show", "large.bin"]);
        let object = &shown["objects"][0];
        let root = text(&object["root"]);
        let place = text(&object["shards"][1]["backend"]);
        let shard = self.bucket.read(&self.shard_of(object, place));
        self.desk.file("shard-1", &shard);
        self.desk.expect(0, &["proof", "check", "proof.json", "--root", root, "--shard-file", "shard-1"]);
        let other = "0".repeat(root.len());
        self.desk.expect(1, &["proof", "check", "proof.json", "--root", &other]);
    }

    fn loses_shards_and_is_repaired(&self) {
        assert!(self.bucket.lose("two") > 0);
        let object = self.desk.json(0, &["show", "large.bin"])["objects"][0].clone();
        let damaged = self.shard_of(&object, "four");
        let mut bytes = self.bucket.read(&damaged).to_vec();
        bytes[3_000_000] ^= 1;
        self.bucket.write(&damaged, bytes);
        let verified = self.desk.json(3, &["verify", "large.bin"]);
        let states: Vec<_> = rows(&verified["objects"][0]["shards"]).map(|shard| text(&shard["state"])).collect();
        assert_eq!(states, ["ok", "missing", "ok", "corrupt", "ok"]);
        self.desk.expect(3, &["status"]);
        self.desk.expect(3, &["recover", "--all", "-o", "damaged"]);
        self.holds_everything("damaged");
        self.desk.expect(0, &["repair"]);
        self.desk.expect(0, &["verify"]);
        assert_eq!(self.desk.json(0, &["repair"])["bytes_written"], 0, "nothing is left to repair");
        assert_eq!(self.bucket.unfinished_uploads(), 0);
    }

    fn moves_off_a_place(&self) {
        assert_eq!(self.desk.failure(1, &["backend", "remove", "one"])["kind"], "refused");
        self.bucket.add(&self.desk, "six", &[]);
        self.desk.expect(0, &["backend", "drain", "one"]);
        assert_eq!(self.bucket.objects("one"), [], "a drained place is empty");
        self.desk.expect(0, &["backend", "remove", "one"]);
        self.desk.expect(0, &["verify"]);
        assert!(!self.bucket.objects("six").is_empty());
        self.recovers_to_a_file_again("moved");
    }

    fn forgets_old_versions(&mut self) {
        for seed in 20..23 {
            self.write("notes", noise(50_000, seed));
            self.desk.expect(0, &["put", "notes"]);
        }
        let versions = self.desk.json(0, &["list", "notes", "--versions"]);
        assert_eq!(rows(&versions["files"]).count(), 3);
        self.desk.expect(0, &["prune", "notes", "--keep-last", "1"]);
        assert_eq!(rows(&self.desk.json(0, &["list", "notes", "--versions"])["files"]).count(), 1);
        self.desk.expect(0, &["remove", "album/0.raw", "album/3.raw"]);
        self.files.remove("album/0.raw");
        self.files.remove("album/3.raw");
        // Little is left of the object that the album shares: it is packed anew.
        self.desk.expect(0, &["gc"]);
        self.tells_its_removals_long_enough();
        self.desk.expect(0, &["verify"]);
        self.desk.expect(0, &["recover", "--all", "-o", "pruned"]);
        self.holds_everything("pruned");
    }

    fn loses_its_catalog(&self) {
        fs::remove_file(self.desk.store().join("catalog.db")).expect("removed");
        assert_eq!(self.desk.failure(1, &["list"])["kind"], "damaged");
        self.desk.expect(0, &["catalog", "rebuild"]);
        self.desk.expect(0, &["verify"]);
        self.desk.expect(0, &["recover", "--all", "-o", "rebuilt"]);
        self.holds_everything("rebuilt");
    }

    fn is_shared_with_a_second_machine(&mut self) {
        let other = self.bucket.desk();
        fs::create_dir_all(other.store()).expect("a folder");
        for name in ["config.toml", "master.key"] {
            fs::copy(self.desk.store().join(name), other.store().join(name)).expect("copied");
        }
        other.expect(0, &["catalog", "rebuild"]);
        assert_eq!(other.listed(), self.files.keys().cloned().collect::<Vec<_>>());
        self.write("late", noise(300_000, 30));
        self.desk.expect(0, &["put", "late"]);
        assert!(!other.listed().contains(&"late".to_owned()));
        other.expect(0, &["catalog", "refresh"]);
        assert_eq!(other.expect(0, &["recover", "late", "-o", "-"]).stdout, self.files["late"]);
        other.expect(0, &["remove", "late"]);
        self.files.remove("late");
        self.desk.expect(0, &["catalog", "refresh"]);
        assert_eq!(self.desk.listed(), self.files.keys().cloned().collect::<Vec<_>>());
        self.desk.expect(0, &["verify"]);
    }

    /// Other machines are to hear of the removals, and of those that packing anew makes in the first round: they stay for a
    /// while.
    fn tells_its_removals_long_enough(&self) {
        for _ in 0..shard::ops::gc::REMOVAL_ROUNDS + 2 {
            self.desk.expect(0, &["gc"]);
        }
    }

    /// When all is removed, the marks alone are left.
    fn ends(&self) {
        let names: Vec<_> = self.files.keys().map(String::as_str).collect();
        self.desk.expect(0, &[&["remove", "--all-versions"], &names[..]].concat());
        self.tells_its_removals_long_enough();
        assert_eq!(self.desk.listed(), Vec::<String>::new());
        assert_eq!(self.bucket.objects(""), [], "no object is left behind");
        assert_eq!(self.bucket.unfinished_uploads(), 0, "and no upload");
    }

    fn write(&mut self, name: &str, bytes: Vec<u8>) {
        self.desk.file(name, &bytes);
        self.files.insert(name.to_owned(), bytes);
    }

    fn recovers_to_a_file_again(&self, output: &str) {
        self.desk.expect(0, &["recover", "large.bin", "-o", output]);
        assert_eq!(fs::read(self.desk.path(output)).expect("a file"), self.files["large.bin"]);
    }

    fn holds_everything(&self, folder: &str) {
        for (name, bytes) in &self.files {
            let found = fs::read(self.desk.path(folder).join(name)).expect(name);
            assert!(found == *bytes, "{name} in {folder} differs");
        }
    }

    /// Where the bucket has the shard of an object that lies on this backend.
    fn shard_of(&self, object: &Value, place: &str) -> Path {
        let id = text(&object["id"]);
        let mut there = self.bucket.objects(place).into_iter();
        there.find(|name| name.filename().is_some_and(|file| file.starts_with(id))).expect("a shard there")
    }
}

fn rows(array: &Value) -> impl Iterator<Item = &Value> {
    array.as_array().expect("an array").iter()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
