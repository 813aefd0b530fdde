//! What is imported and listed without end: what it costs in memory, and whom it makes wait.

use crate::desk::{Desk, has_keys};
use crate::soak;
use shard::vault::{Durability, Options, Vault};
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the folder in which a process that a test starts imports what is there.
const WORKER: &str = "SHARD_TEST_IMPORT_WORKER";
/// The size of the long line and of the large value, in a sample and in all.
const LINE_BYTES: [usize; 2] = [24_000_000, 120_000_000];
const BLOB_BYTES: [usize; 2] = [20_000_000, 100_000_000];
/// Where an import from a pipe waits, in a folder of its own.
const STAGED: &str = "0000000000000000000000000000000000000000000000000000000000000000/staged.db";
/// What a process may take for an import beside what comes of it.
const MARGIN_BYTES: u64 = 48 * 1024 * 1024;

/// How much memory this process had at most, in bytes.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// An export of one entry, whose value is this much JSON.
fn export(folder: &Path, value: impl Fn(&mut dyn Write)) -> PathBuf {
    let path = folder.join("export.jsonl");
    let mut file = std::io::BufWriter::new(File::create(&path).expect("a file"));
    file.write_all(b"{\"schema\":\"shard-vault/1\",\"name\":\"v\"}\n{\"key\":\"k\",\"value\":").expect("written");
    value(&mut file);
    file.write_all(b"}\n{\"entries\":1}\n").expect("written");
    file.flush().expect("written");
    path
}

/// Takes in what is in the folder, and says how much memory that took at most.
fn import_here(folder: &Path) {
    let options = Options { durability: Durability::Relaxed, ..Options::default() };
    let vault = Vault::open(folder, "v", options).expect("a vault");
    let before = most_memory();
    let mut input = BufReader::new(File::open(folder.join("export.jsonl")).expect("an export"));
    assert_eq!(vault.import(&mut input).expect("imported"), 1);
    fs::write(folder.join("taken"), (most_memory() - before).to_string()).expect("written");
}

/// What an import in a process of its own takes, in bytes.
fn taken(folder: &Path, name: &str) -> u64 {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", &format!("vault_import::{name}")]).env(WORKER, folder).stdout(Stdio::null());
    assert!(command.status().expect("it runs").success());
    fs::read_to_string(folder.join("taken")).expect("it says").parse().expect("a number")
}

#[test]
#[cfg(target_os = "linux")]
#[expect(clippy::print_stdout, reason = "what it costs belongs to the result")]
fn a_long_line_of_an_import_takes_no_more_memory_than_what_comes_of_it_a_few_times() {
    if let Some(folder) = std::env::var_os(WORKER) {
        return import_here(Path::new(&folder));
    }
    let is_all = usize::from(soak::is_asked_for());
    let name = "a_long_line_of_an_import_takes_no_more_memory_than_what_comes_of_it_a_few_times";
    let folder = tempfile::tempdir().expect("a folder");
    // As a tree in memory, a number of one digit would take sixteen times the two characters that it has here.
    let count = LINE_BYTES[is_all] / 2;
    export(folder.path(), |out| {
        out.write_all(b"[0").expect("written");
        (1..count).for_each(|_| out.write_all(b",7").expect("written"));
        out.write_all(b"]").expect("written");
    });
    let of_line = taken(folder.path(), name);
    let blob = BLOB_BYTES[is_all] / 3 * 3;
    export(folder.path(), |out| {
        out.write_all(b"{\"$bytes\":\"").expect("written");
        (0..blob / 3).for_each(|_| out.write_all(b"c2hh").expect("written"));
        out.write_all(b"\"}").expect("written");
    });
    let of_blob = taken(folder.path(), name);
    println!(
        "a line of {} bytes took {of_line} bytes of memory at most, a value of {blob} bytes {of_blob}",
        LINE_BYTES[is_all]
    );
    assert!(of_line < 6 * count as u64 + MARGIN_BYTES, "{of_line} bytes for {count}");
    assert!(of_blob < 6 * blob as u64 + MARGIN_BYTES, "{of_blob} bytes for {blob}");
    let vault = Vault::open_existing(folder.path(), "v", Options::default()).expect("the vault");
    let found: shard::vault::Blob = vault.get("k").expect("asked").expect("it is there");
    assert!(found.0.len() == blob && found.0.chunks(3).all(|part| part == b"sha"));
}

#[test]
fn nobody_waits_for_an_import_that_waits_for_its_input() {
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    desk.expect(0, &["vault", "set", "old", "a", "1"]);
    for (words, entries) in [(vec!["old"], 2), (vec!["new"], 1), (vec!["closed", "--sealed"], 1)] {
        let mut import = desk.command();
        import.args(["vault", "import", words[0], "-"]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut import = import.spawn().expect("it runs");
        let mut input = import.stdin.take().expect("a pipe");
        input
            .write_all(b"{\"schema\":\"shard-vault/1\",\"name\":\"v\"}\n{\"key\":\"b\",\"value\":2}\n")
            .expect("taken");
        // It has begun once it has a place of its own.
        let is_staging = |desk: &Desk| {
            let names = fs::read_dir(desk.store().join("vaults")).expect("a folder");
            names.flatten().any(|entry| entry.path().join(STAGED).exists())
        };
        while !is_staging(&desk) {
            assert!(import.try_wait().expect("asked").is_none(), "it ended without its input");
            std::thread::yield_now();
        }
        desk.expect(0, &["vault", "set", "old", "a", "3"]);
        desk.expect(0, &["vault", "set", &format!("beside-{}", words[0]), "a", "1"]);
        assert_eq!(desk.run(&["vault", "get", words[0], "b"]).code, 13, "nothing is there before all is");
        input.write_all(b"{\"entries\":1}\n").expect("taken");
        drop(input);
        assert!(import.wait().expect("it ended").success());
        assert_eq!(desk.expect(0, &["vault", "get", words[0], "b"]).stdout, b"2");
        let items = desk.json(0, &["vault", "items", words[0]]);
        assert_eq!(items["items"].as_array().map(Vec::len), Some(entries));
        assert!(!is_staging(&desk), "what it was kept in meanwhile is gone");
    }
}

#[test]
fn an_import_from_a_pipe_is_checked_to_its_end_and_one_that_was_killed_leaves_nothing_for_long() {
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    let export = "{\"schema\":\"shard-vault/1\",\"name\":\"v\"}\n{\"key\":\"secret\",\"value\":\"in the clear\"}\n";
    assert_eq!(desk.run_with(&["vault", "import", "v", "-"], export).code, 1, "its last line is not there");
    assert_eq!(desk.json(0, &["vault", "list"])["vaults"], serde_json::json!([]));
    let mut import = desk.command();
    import.args(["vault", "import", "v", "-", "--sealed"]).stdin(Stdio::piped());
    let mut import = import.spawn().expect("it runs");
    let mut input = import.stdin.take().expect("a pipe");
    input.write_all(export.as_bytes()).expect("taken");
    let staging = || {
        let names = fs::read_dir(desk.store().join("vaults")).expect("a folder").flatten();
        let names = names.map(|entry| entry.path());
        names.filter(|path| path.join(STAGED).exists()).map(|path| path.join(STAGED)).collect::<Vec<_>>()
    };
    // More than is kept in memory: what is read goes to the disk before all is there.
    for number in 0..64 {
        let value = "in the clear ".repeat(20_000);
        input.write_all(format!("{{\"key\":\"secret {number}\",\"value\":\"{value}\"}}\n").as_bytes()).expect("taken");
    }
    let on_disk = || {
        let folders = staging().into_iter().filter_map(|path| Some(fs::read_dir(path.parent()?).ok()?.flatten()));
        folders.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum::<u64>()
    };
    while on_disk() < 4_000_000 {
        assert!(import.try_wait().expect("asked").is_none(), "it ended without its input");
        std::thread::yield_now();
    }
    import.kill().expect("killed");
    import.wait().expect("it ended");
    for path in staging() {
        for file in fs::read_dir(path.parent().expect("a folder")).expect("a folder").flatten() {
            let bytes = fs::read(file.path()).expect("read");
            assert!(!bytes.windows(6).any(|window| window == b"secret" || window == b"in the"), "{file:?}");
        }
    }
    assert_eq!(
        desk.run_with(&["vault", "import", "v", "-", "--sealed"], format!("{export}{{\"entries\":1}}\n")).code,
        0
    );
    let left: Vec<_> = fs::read_dir(desk.store().join("vaults")).expect("a folder").flatten().collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".staging")), "{left:?}");
    assert_eq!(desk.expect(0, &["vault", "get", "v", "secret"]).stdout, b"in the clear");
}

#[test]
fn long_lists_are_printed_as_they_come_and_are_whole() {
    const COUNT: usize = 12_345;
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    let vault = Vault::open(&desk.store().join("vaults"), "v", Options::default()).expect("a vault");
    vault.extend((0..COUNT).map(|number| (format!("key {number:05}"), "v".repeat(number % 40)))).expect("put");
    drop(vault);
    let keys = desk.json(0, &["vault", "keys", "v"]);
    let keys = keys["keys"].as_array().expect("a list");
    assert!((0..COUNT).map(|number| format!("key {number:05}")).eq(keys.iter().map(|key| key.as_str().unwrap_or(""))));
    let items = desk.json(0, &["vault", "items", "v"]);
    has_keys(&items, &["schema", "vault", "sealed", "items"]);
    assert_eq!(items["items"].as_array().map(Vec::len), Some(COUNT));
    assert_eq!(items["items"][COUNT - 1]["value"].as_str().map(str::len), Some((COUNT - 1) % 40));
    assert_eq!(desk.expect(0, &["vault", "keys", "v"]).text().lines().count(), COUNT);
    let table = desk.expect(0, &["vault", "items", "v"]).text().to_owned();
    assert_eq!(table.lines().count(), COUNT + 1, "one header");
    assert!(table.starts_with("KEY") && table.lines().last().is_some_and(|line| line.starts_with("key 12344")));
}
