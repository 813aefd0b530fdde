//! A put killed at a random moment leaves every listed file whole, nothing half-there, and nothing behind for long.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many puts are killed.
const KILLS: u64 = 100;
/// After this many kills what is left behind is cleared and counted.
const KILLS_BETWEEN_COUNTS: u64 = 10;

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shard"));
        command.arg("--store").arg(self.store()).args(words).env("HOME", self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str]) -> Vec<u8> {
        let output = self.command(words).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {:?}\n{said}", output.status);
        output.stdout
    }

    fn json(&self, words: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.run(words)).expect("a JSON document")
    }

    fn listed(&self) -> Vec<String> {
        let list = self.json(&["list", "--json"]);
        let name = |file: &serde_json::Value| file["name"].as_str().expect("a name").to_owned();
        list["files"].as_array().expect("files").iter().map(name).collect()
    }

    /// All files below the default backends, marks and empty folders left out.
    fn files_on_backends(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.store().join("backends"), &mut files);
        files.retain(|path| path.file_name().is_some_and(|name| name != "shard.mark"));
        files
    }

    fn source(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// SplitMix64: the moments and contents follow from the seed that is printed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}

fn kill_after(mut child: Child, patience: Duration) {
    std::thread::sleep(patience);
    let _ = child.kill();
    child.wait().expect("it ended");
}

fn seed() -> u64 {
    let given = std::env::var("SHARD_TEST_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64))
}

#[test]
#[expect(clippy::print_stdout, reason = "the seed makes a failure repeatable")]
fn a_put_killed_at_any_moment_leaves_only_whole_files() {
    let seed = seed();
    println!("SHARD_TEST_SEED={seed}");
    let (world, mut dice) = (World::new(), Dice(seed));
    world.run(&["init"]);
    let mut contents = BTreeMap::new();
    let first = dice.bytes(3_000_000);
    let begun = Instant::now();
    world.run(&["put", &world.source("file-first", &first)]);
    let usual = begun.elapsed();
    contents.insert("file-first".to_owned(), first);
    for kill in 0..KILLS {
        let name = format!("file-{kill}");
        let size = 1 + dice.next() as usize % 4_000_000;
        let bytes = dice.bytes(size);
        let source = world.source(&name, &bytes);
        contents.insert(name, bytes);
        let child = world.command(&["put", &source]).spawn().expect("the program runs");
        kill_after(child, usual.mul_f64((dice.next() % 1000) as f64 / 800.0));
        for listed in world.listed() {
            if kill % KILLS_BETWEEN_COUNTS == 0 || listed == format!("file-{kill}") {
                let got = world.run(&["recover", &listed, "-o", "-"]);
                assert_eq!(got.as_slice(), contents[&listed].as_slice(), "{listed} after kill {kill}");
            }
        }
        if kill % KILLS_BETWEEN_COUNTS == 0 {
            only_listed_objects_are_left(&world);
        }
    }
    only_listed_objects_are_left(&world);
    let verified = world.json(&["verify", "--json"]);
    assert_eq!(verified["summary"]["objects"], verified["summary"]["healthy"]);
}

fn only_listed_objects_are_left(world: &World) {
    world.run(&["gc"]);
    let verified = world.json(&["verify", "--quick", "--json"]);
    let known = verified["objects"].as_array().expect("objects").len() * 5;
    let files = world.files_on_backends();
    assert_eq!(files.len(), known, "{files:?}");
}

#[test]
fn clearing_after_a_kill_does_not_touch_a_put_that_is_running() {
    let (world, mut dice) = (World::new(), Dice(7));
    world.run(&["init"]);
    let bytes = dice.bytes(6_000_000);
    let mut running = world.command(&["put", "-", "--name", "running"]);
    let mut running = running.stdin(Stdio::piped()).spawn().expect("the program runs");
    let mut pipe = running.stdin.take().expect("a pipe");
    // More than the pipe and the stripes in flight hold: the put has begun to write shards when this returns.
    pipe.write_all(&bytes[..5_000_000]).expect("written");
    let child = world.command(&["put", &world.source("killed", &dice.bytes(9_000_000))]).spawn().expect("it runs");
    kill_after(child, Duration::from_millis(60));
    world.run(&["gc"]);
    pipe.write_all(&bytes[5_000_000..]).expect("written");
    drop(pipe);
    let output = running.wait_with_output().expect("it ended");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(world.run(&["recover", "running", "-o", "-"]), bytes);
    only_listed_objects_are_left(&world);
}
