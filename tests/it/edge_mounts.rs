//! Real disks that fill up, that cannot be written, that are not mounted or are other ones than before: each with its
//! exit code and its words.

use crate::desk::{Desk, noise};
use crate::private_mounts::PrivateMounts;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What a full disk says.
const FULL: &str = "No space left on device";
/// What one says that cannot be written.
const READ_ONLY: &str = "Read-only file system";

/// A bare store whose backends are disks of these sizes, each in a zone of its own.
struct Disks {
    mounts: PrivateMounts,
    desk: Desk,
}

impl Disks {
    /// `None` where nothing can be mounted.
    fn new(sizes: &[&str]) -> Option<Self> {
        let disks = Self { mounts: PrivateMounts::new()?, desk: Desk::new() };
        disks.expect(0, &["init", "--bare"]);
        for (number, size) in (1..).zip(sizes) {
            disks.mounts.disk(&disks.place(number), size);
            disks.add(number);
        }
        Some(disks)
    }

    fn place(&self, number: usize) -> PathBuf {
        self.desk.path(&format!("place-{number}"))
    }

    fn add(&self, number: usize) {
        let (name, place, zone) = (format!("b{number}"), self.place(number), format!("zone-{number}"));
        self.expect(0, &["backend", "add", &name, place.to_str().expect("UTF-8"), "--zone", &zone]);
    }

    fn expect(&self, code: i32, words: &[&str]) -> crate::desk::Outcome {
        self.mounts.expect(&self.desk, code, words)
    }

    fn json(&self, code: i32, words: &[&str]) -> Value {
        self.mounts.json(&self.desk, code, words)
    }

    fn listed(&self) -> usize {
        self.json(0, &["list"])["files"].as_array().expect("files").len()
    }

    /// Everything on a backend's disk but its mark.
    fn left_on(&self, number: usize) -> Vec<PathBuf> {
        let mut files = self.mounts.files(&self.place(number));
        files.retain(|path| !path.ends_with("shard.mark"));
        files
    }

    fn comes_back(&self, code: i32, name: &str, bytes: &[u8]) {
        let back = self.expect(code, &["recover", name, "-o", "-"]);
        assert!(back.stdout == bytes, "{name} comes back");
    }
}

/// The states of the shards of the only object of a document.
fn states(document: &Value) -> Vec<&str> {
    let shards = document["objects"][0]["shards"].as_array().expect("shards");
    shards.iter().map(|shard| shard["state"].as_str().expect("a state")).collect()
}

/// A failure has this kind, and these words somewhere in it.
fn assert_says(failure: &Value, kind: &str, words: &[&str]) {
    assert_eq!((&failure["schema"], &failure["kind"]), (&"shard.error/1".into(), &kind.into()), "{failure}");
    for said in words {
        assert!(failure.to_string().contains(said), "{said:?} is not in {failure}");
    }
}

#[test]
fn a_disk_that_fills_up_costs_a_warning_while_another_takes_its_shard() {
    let Some(disks) = Disks::new(&["2m", "20m", "20m", "20m", "20m", "20m"]) else { return };
    let bytes = noise(9_000_000, 1);
    disks.desk.file("a", &bytes);
    let put = disks.expect(0, &["put", "a"]);
    for said in ["warning: backend b1 failed while a shard was written: ", "no space left or quota reached", FULL] {
        assert!(put.stderr.contains(said), "{said:?} is not in {}", put.stderr);
    }
    assert_eq!(disks.left_on(1), Vec::<PathBuf>::new(), "what was begun there is gone");
    assert_eq!(states(&disks.json(0, &["verify"])), ["ok"; 5]);
    disks.comes_back(0, "a", &bytes);
}

#[test]
fn a_disk_that_fills_up_where_no_other_has_room_leaves_the_put_degraded() {
    // A shard has 3 MB: no disk has room for two.
    let Some(disks) = Disks::new(&["5m", "2m", "5m", "5m", "5m"]) else { return };
    let bytes = noise(9_000_000, 2);
    disks.desk.file("a", &bytes);
    let put = disks.expect(3, &["put", "a"]);
    assert!(put.stderr.contains("backend b2 failed") && put.stderr.contains(FULL), "{}", put.stderr);
    let verified = disks.json(3, &["verify"]);
    assert_eq!(states(&verified), ["ok", "missing", "ok", "ok", "ok"]);
    for number in [1, 3, 4, 5] {
        assert_eq!(disks.left_on(number).len(), 1, "no half of a second shard stays");
    }
    disks.comes_back(0, "a", &bytes);
    assert_eq!(disks.json(3, &["repair"])["objects"][0]["after"], "degraded", "there is still no room");
    disks.mounts.disk(&disks.place(6), "20m");
    disks.add(6);
    assert_eq!(disks.json(0, &["repair"])["objects"][0]["after"], "healthy");
}

#[test]
fn disks_that_fill_up_below_the_quorum_fail_the_put_and_keep_nothing() {
    let Some(disks) = Disks::new(&["5m", "2m", "5m", "2m", "5m"]) else { return };
    disks.desk.file("a", &noise(9_000_000, 3));
    let failure = disks.json(1, &["put", "a"]);
    assert_says(&failure, "below-quorum", &["3 of 5 shards could be made durable, and 4 must be", FULL]);
    assert_eq!(disks.listed(), 0);
    for number in 1..=5 {
        assert_eq!(disks.left_on(number), Vec::<PathBuf>::new(), "disk {number}");
    }
    assert_eq!(disks.json(0, &["status"])["leftovers"], 0);
}

#[test]
fn a_full_disk_is_no_place_for_a_new_backend_or_store() {
    let Some(disks) = Disks::new(&[]) else { return };
    let full = disks.desk.path("full");
    disks.mounts.disk(&full, "64k");
    disks.mounts.fill(&full);
    let place = full.to_str().expect("UTF-8");
    assert_says(&disks.json(1, &["backend", "add", "b", place]), "space", &["the place failed at writing", FULL]);
    let store = full.join("store");
    let failure = disks.json(1, &["init", "--store", store.to_str().expect("UTF-8")]);
    assert_says(&failure, "space", &["cannot write the key to", FULL]);
    assert_eq!(disks.json(0, &["backend", "list"])["backends"], Value::Array(Vec::new()));
}

#[test]
fn a_full_disk_under_the_store_is_told_and_nothing_is_stored_until_there_is_room() {
    let Some(disks) = Disks::new(&[]) else { return };
    let store = disks.desk.path("catalog-disk");
    disks.mounts.disk(&store, "3m");
    let at = ["--store", store.to_str().expect("UTF-8")];
    let with = |words: &[&'static str]| [words, &at].concat();
    disks.expect(0, &with(&["init", "--bare"]));
    for (name, folder) in [("b1", "p/1"), ("b2", "p/2"), ("b3", "p/3")] {
        disks.expect(0, &with(&["backend", "add", name, folder]));
    }
    disks.desk.file("a", b"one");
    disks.desk.file("b", b"two");
    disks.expect(0, &with(&["put", "a", "--level", "minimal"]));
    disks.mounts.fill(&store);
    let before = crate::recover_desk::files_below(&disks.desk.path("p"));
    for words in [
        &["put", "b", "--level", "minimal"][..],
        &["list"],
        &["verify"],
        &["recover", "a", "-o", "back"],
        &["remove", "a"],
    ] {
        let failure = disks.json(1, &with(words));
        assert_says(&failure, "space", &["the catalog could not be used", "no space left for the catalog"]);
    }
    assert!(crate::recover_desk::files_below(&disks.desk.path("p")) == before && !disks.desk.path("back").exists());
    disks.mounts.empty(&store);
    disks.expect(0, &with(&["put", "b", "--level", "minimal"]));
    disks.expect(0, &with(&["verify"]));
    assert_eq!(disks.expect(0, &with(&["recover", "b", "-o", "-"])).stdout, b"two");
}

#[test]
fn a_disk_under_the_store_that_fills_up_during_a_put_costs_no_file_that_was_told_of() {
    let Some(disks) = Disks::new(&["50m", "50m", "50m"]) else { return };
    let store = disks.desk.path("catalog-disk");
    disks.mounts.disk(&store, "3m");
    let at = ["--store", store.to_str().expect("UTF-8")];
    let with = |words: &[&'static str]| [words, &at].concat();
    disks.expect(0, &with(&["init", "--bare"]));
    for (name, folder) in [("b1", "p/1"), ("b2", "p/2"), ("b3", "p/3")] {
        disks.expect(0, &with(&["backend", "add", name, folder]));
    }
    let bytes = noise(20_000_000, 4);
    let mut command = disks.mounts.command(disks.desk.home(), crate::desk::PROGRAM);
    command.args(with(&["put", "-", "--name", "a", "--level", "minimal"]));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a child");
    let mut stdin = child.stdin.take().expect("a pipe");
    // More than the pipe and the stripes in flight hold: the put is in its middle.
    stdin.write_all(&bytes[..18_000_000]).expect("written");
    disks.mounts.fill(&store);
    stdin.write_all(&bytes[18_000_000..]).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    // The log may have had room left for the last record.
    let is_stored = output.status.success();
    let is_told = output.status.code() == Some(1) && said.contains("no space left for the catalog");
    assert!(is_stored || is_told, "{:?}: {said}", output.status);
    disks.mounts.empty(&store);
    disks.desk.file("b", b"next");
    disks.expect(0, &with(&["put", "b", "--level", "minimal"]));
    let listed = disks.json(0, &with(&["list"]))["files"].as_array().expect("files").len();
    assert!(!is_stored || listed == 2, "what was told to be stored is");
    if listed == 2 {
        assert!(disks.expect(0, &with(&["recover", "a", "-o", "-"])).stdout == bytes);
    }
    let shards = crate::recover_desk::files_below(&disks.desk.path("p")).len() - 3;
    assert_eq!(shards, listed * 3, "and nothing else is left");
    disks.expect(0, &with(&["verify"]));
}

#[test]
fn a_full_disk_under_the_output_leaves_nothing_there_and_keeps_what_was() {
    let Some(disks) = Disks::new(&[]) else { return };
    let bytes = noise(3_000_000, 5);
    disks.desk.file("a", &bytes);
    disks.desk.file("folder/b", &bytes);
    disks.expect(0, &["backend", "add", "b1", "p/1"]);
    for name in ["b2", "b3", "b4", "b5"] {
        disks.expect(0, &["backend", "add", name, &format!("p/{name}")]);
    }
    disks.expect(0, &["put", "a", "folder"]);
    let small = disks.desk.path("small");
    disks.mounts.disk(&small, "1m");
    let output = small.join("a");
    let output = output.to_str().expect("UTF-8");
    assert_says(&disks.json(1, &["recover", "a", "-o", output]), "space", &["cannot write", FULL]);
    assert_eq!(disks.mounts.files(&small), Vec::<PathBuf>::new());

    let script = "printf old >small/a && printf older >small/b";
    assert!(disks.mounts.command(disks.desk.home(), "sh").args(["-c", script]).status().expect("it runs").success());
    assert_says(&disks.json(1, &["recover", "a", "-o", output, "--force"]), "space", &["cannot write", FULL]);
    let told = disks.mounts.shard(&disks.desk, &["recover", "--all", "-o", "small/all"]);
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains(FULL), "{}", told.stderr);
    let cat = disks.mounts.command(disks.desk.home(), "cat").args(["small/a", "small/b"]).output().expect("it runs");
    assert_eq!((cat.stdout.as_slice(), disks.mounts.files(&small).len()), (b"oldolder".as_slice(), 2));

    disks.mounts.fill(&small);
    let failure = disks.json(1, &["proof", "create", "a", "--shard", "0", "-o", "small/proof"]);
    assert_says(&failure, "output", &["cannot write small/proof", FULL]);
    let told = disks.mounts.expect(&disks.desk, 1, &["verify", "--metrics", "small/metrics"]);
    assert!(told.stderr.contains("cannot write the metrics") && told.stderr.contains(FULL), "{}", told.stderr);
    assert_eq!(disks.mounts.files(&small).len(), 3, "two old files and the filling");

    let script = "exec \"$0\" recover a -o - >small/stream";
    let mut shell = disks.mounts.command(disks.desk.home(), "sh");
    let output = shell.args(["-c", script, crate::desk::PROGRAM]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output") && said.contains(FULL), "{said}");
}

#[test]
fn a_disk_that_becomes_read_only_is_read_and_another_takes_its_shards() {
    let Some(disks) = Disks::new(&["20m"; 6]) else { return };
    let (first, second) = (noise(2_000_000, 6), noise(2_000_000, 7));
    disks.desk.file("a", &first);
    disks.desk.file("b", &second);
    disks.expect(0, &["put", "a"]);
    disks.mounts.make_read_only(&disks.place(2));
    disks.expect(0, &["verify"]);
    disks.comes_back(0, "a", &first);
    let put = disks.expect(0, &["put", "b"]);
    for said in ["warning: backend b2 failed while a shard was written: ", "read-only", READ_ONLY] {
        assert!(put.stderr.contains(said), "{said:?} is not in {}", put.stderr);
    }
    disks.comes_back(0, "b", &second);
    let checked = disks.json(3, &["backend", "check", "b2"]);
    assert!(checked["backends"][0].to_string().contains(READ_ONLY), "{checked}");
}

#[test]
fn where_every_disk_is_read_only_a_put_fails_and_everything_is_still_read() {
    let Some(disks) = Disks::new(&["20m"; 3]) else { return };
    let bytes = noise(2_000_000, 8);
    disks.desk.file("a", &bytes);
    disks.expect(0, &["put", "a", "--level", "minimal"]);
    (1..=3).for_each(|number| disks.mounts.make_read_only(&disks.place(number)));
    let failure = disks.json(1, &["put", "a", "--name", "b", "--level", "minimal"]);
    assert_says(&failure, "below-quorum", &["place-", READ_ONLY]);
    disks.comes_back(0, "a", &bytes);
    disks.expect(0, &["verify"]);
    assert_eq!(disks.listed(), 1);
}

#[test]
fn what_cannot_be_written_because_its_disk_is_read_only_is_told() {
    let Some(disks) = Disks::new(&["20m"; 3]) else { return };
    disks.desk.file("a", b"abc");
    disks.expect(0, &["put", "a", "--level", "minimal"]);
    let fixed = disks.desk.path("fixed");
    disks.mounts.disk(&fixed, "5m");
    let path = |name: &str| fixed.join(name).to_str().expect("UTF-8").to_owned();
    disks.expect(0, &["init", "--bare", "--store", &path("store")]);
    disks.mounts.make_read_only(&fixed);
    let local = disks.json(1, &["recover", "a", "-o", &path("a")]);
    assert_says(&local, "local", &["cannot create", READ_ONLY]);
    assert_says(&disks.json(1, &["init", "--store", &path("other")]), "local", &["cannot make a store in", READ_ONLY]);
    assert_says(&disks.json(1, &["backend", "add", "b", &path("b")]), "backend", &["making the folder", READ_ONLY]);
    for words in [&["list"][..], &["put", "a"], &["status"]] {
        let failure = disks.json(1, &[words, &["--store", &path("store")]].concat());
        assert_says(&failure, "local", &["the catalog could not be used", "unable to open"]);
    }
}

/// A store whose three backends are folders that are mounted in their places.
fn mounted_folders() -> Option<Disks> {
    let disks = Disks { mounts: PrivateMounts::new()?, desk: Desk::new() };
    disks.expect(0, &["init", "--bare"]);
    for number in 1..=5 {
        for folder in [disks.place(number), disk_of(&disks, number)] {
            fs::create_dir_all(folder).expect("a folder");
        }
        disks.mounts.bind(&disk_of(&disks, number), &disks.place(number));
        disks.add(number);
    }
    Some(disks)
}

fn disk_of(disks: &Disks, number: usize) -> PathBuf {
    disks.desk.path(&format!("disk-{number}"))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("a folder").next().is_none()
}

#[test]
fn an_unmounted_disk_is_unreachable_and_nothing_is_written_in_its_place() {
    let Some(disks) = mounted_folders() else { return };
    let bytes = noise(2_000_000, 9);
    disks.desk.file("a", &bytes);
    disks.expect(0, &["put", "a"]);
    disks.mounts.unmount(&disks.place(3));
    let verified = disks.json(3, &["verify"]);
    assert_eq!(states(&verified).iter().filter(|state| **state == "unreachable").count(), 1, "{verified}");
    let checked = disks.json(3, &["backend", "check", "b3"]);
    assert_eq!(checked["backends"][0]["state"], "unreachable");
    assert!(checked.to_string().contains("mark"), "{checked}");
    disks.desk.file("b", &bytes[1..]);
    let put = disks.json(3, &["put", "b"]);
    assert!(!put["objects"].to_string().contains("\"b3\""), "{put}");
    assert_eq!(disks.json(3, &["repair"])["bytes_written"], 0, "it is not lost");
    assert!(is_empty(&disks.place(3)), "nothing is written where it was mounted");
    disks.comes_back(3, "a", &bytes);
    disks.mounts.bind(&disk_of(&disks, 3), &disks.place(3));
    disks.comes_back(0, "a", &bytes);
    assert_eq!(disks.json(0, &["backend", "check", "b3"])["backends"][0]["state"], "ready");
}

#[test]
fn a_disk_mounted_in_anothers_place_is_noticed_and_left_alone() {
    let Some(disks) = mounted_folders() else { return };
    disks.desk.file("a", &noise(2_000_000, 10));
    disks.expect(0, &["put", "a"]);
    for (place, disk) in [(1, 2), (2, 1)] {
        disks.mounts.unmount(&disks.place(place));
        disks.mounts.bind(&disk_of(&disks, disk), &disks.place(place));
    }
    let before = [1, 2].map(|number| disks.mounts.files(&disk_of(&disks, number)));
    let checked = disks.json(3, &["backend", "check", "b1", "b2"]);
    assert_eq!(checked["backends"][0]["state"], "wrong-place", "{checked}");
    assert_eq!(checked["backends"][1]["state"], "wrong-place", "{checked}");
    disks.desk.file("b", b"abc");
    disks.expect(3, &["put", "b"]);
    disks.expect(3, &["verify"]);
    assert_eq!([1, 2].map(|number| disks.mounts.files(&disk_of(&disks, number))), before);
}
