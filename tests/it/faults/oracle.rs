//! What must hold after anything went wrong.

use super::stages::{Files, Operation, Stage, object_of};
use crate::desk::{Desk, Outcome};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// What the next command stores.
pub(super) const NEXT: (&str, &[u8]) = ("next", b"what comes next");

/// What is in the folder of a store that no process uses.
const KNOWN: [&str; 8] = [
    "backends",
    "catalog.db",
    "catalog.db-wal",
    "catalog.db-shm",
    "config.toml",
    "config.toml.lock",
    "master.key",
    "run",
];

/// Files as they must be, or as they may be as well.
pub(super) struct Expected<'a> {
    /// What every name may be; a name that is not here must not be listed.
    pub(super) either: [&'a Files; 2],
}

impl<'a> Expected<'a> {
    pub(super) fn exactly(files: &'a Files) -> Self {
        Self { either: [files, files] }
    }

    /// What is wrong with a list of files, if anything is.
    fn complaint(&self, found: &Files) -> Option<String> {
        let names: BTreeSet<&String> = self.either.iter().flat_map(|files| files.keys()).chain(found.keys()).collect();
        names.into_iter().find_map(|name| {
            let back = found.get(name);
            if self.either.iter().any(|files| files.get(name) == back) {
                return None;
            }
            let bytes = |files: &Files| files.get(name).map(Vec::len);
            Some(format!("{name} has {:?} bytes, allowed are {:?}", back.map(Vec::len), self.either.map(bytes)))
        })
    }
}

/// Runs a command that must end with one of these codes, without a panic.
pub(super) fn expect_one_of(desk: &Desk, codes: &[i32], words: &[&str], when: &str) -> Outcome {
    let outcome = desk.run(words);
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(codes.contains(&outcome.code), "{when}: {words:?} gave {}\n{said}\n{}", outcome.code, outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{when}: {words:?}\n{}", outcome.stderr);
    outcome
}

fn document(outcome: &Outcome) -> Value {
    serde_json::from_slice(&outcome.stdout).expect("JSON")
}

/// The files below a folder.
pub(super) fn files_below(desk: &Desk, folder: &str) -> Files {
    let root = desk.path(folder);
    let entries = walkdir::WalkDir::new(&root).into_iter().filter_map(Result::ok);
    let files = entries.filter(|entry| entry.file_type().is_file()).map(|entry| {
        let name = entry.path().strip_prefix(&root).expect("below it").to_str().expect("UTF-8").to_owned();
        (name, fs::read(entry.path()).expect("a file"))
    });
    files.collect()
}

/// Every file that is listed comes back whole, as it may be; nothing else comes back.
pub(super) fn look(desk: &Desk, expected: &Expected<'_>, when: &str) {
    let list = document(&expect_one_of(desk, &[0], &["list", "--json"], when));
    let name = |file: &Value| file["name"].as_str().expect("a name").to_owned();
    let listed: BTreeSet<String> = list["files"].as_array().expect("files").iter().map(name).collect();
    let _ = fs::remove_dir_all(desk.path("out"));
    // A list without a file has nothing to recover.
    let codes = if listed.is_empty() { &[0, 3, 13][..] } else { &[0, 3] };
    expect_one_of(desk, codes, &["recover", "--all", "-o", "out", "-q"], when);
    let found = files_below(desk, "out");
    assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), listed, "{when}: what is listed comes back");
    if let Some(complaint) = expected.complaint(&found) {
        unreachable!("{when}: {complaint}");
    }
}

/// Every file below the default backends with its bytes.
fn backends(desk: &Desk) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = walkdir::WalkDir::new(desk.store().join("backends")).into_iter().map(|entry| entry.expect("an entry"));
    let files = all.filter(|entry| entry.file_type().is_file());
    files.map(|entry| (entry.path().to_owned(), fs::read(entry.path()).expect("a file"))).collect()
}

/// On a healthy store repair finds nothing to do, and changes no byte; what is there is what the catalog knows, and nothing
/// that was begun and not ended.
pub(super) fn is_whole_and_tidy(desk: &Desk, when: &str) {
    let before = backends(desk);
    let repaired = document(&expect_one_of(desk, &[0], &["repair", "--json"], when));
    assert_eq!(repaired["bytes_written"], 0, "{when}: {repaired}");
    assert!(backends(desk) == before, "{when}: repair changed a healthy store");
    let verified = document(&expect_one_of(desk, &[0], &["verify", "--quick", "--json"], when));
    let mut known = BTreeMap::new();
    for object in verified["objects"].as_array().expect("objects") {
        let shards = object["shards"].as_array().expect("shards").len();
        known.insert(object["id"].as_str().expect("an id").to_owned(), shards);
    }
    let mut found = BTreeMap::<String, usize>::new();
    for path in before.keys().filter(|path| !path.ends_with("shard.mark")) {
        assert!(path.extension().is_some_and(|ending| ending == "shard"), "{when}: {} is left", path.display());
        *found.entry(object_of(path)).or_default() += 1;
    }
    assert_eq!(found, known, "{when}: on the backends there are the shards that the catalog knows");
    let left = fs::read_dir(desk.store().join("run")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "{when}: locks are left");
    let strays = fs::read_dir(desk.store()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let strays: Vec<_> = strays.filter(|name| !KNOWN.iter().any(|known| name == known)).collect();
    assert!(strays.is_empty(), "{when}: {strays:?}");
}

/// Commands that have something to do before the store is tidy.
pub(super) type Upkeep = &'static [&'static [&'static str]];

/// What a delete that was not made waits for.
pub(super) const COLLECT: Upkeep = &[&["gc", "-q"]];
/// The same, and what a shard waits for that found no good place.
pub(super) const MEND: Upkeep = &[&["repair", "-q"], &["gc", "-q"]];

/// After an operation was stopped or failed: what is stored is what was or what was to be; the next command clears up; the
/// same operation, run again, succeeds; and then the store is whole.
pub(super) fn settle(stage: &Stage, upkeep: Upkeep, when: &str) {
    if stage.operation != Operation::Rebuild {
        look(&stage.desk, &Expected { either: [&stage.before, &stage.after] }, when);
    }
    settle_unseen(stage, upkeep, when);
}

/// The same without a look at what is stored before the next command.
pub(super) fn settle_unseen(stage: &Stage, upkeep: Upkeep, when: &str) {
    let desk = &stage.desk;
    desk.file(NEXT.0, NEXT.1);
    let next = ["put", NEXT.0, "-q", "--level", "minimal"];
    // Without a catalog there is nothing to put into.
    if stage.operation == Operation::Rebuild {
        once_more(stage, when);
        expect_one_of(desk, &[0], &next, when);
    } else {
        expect_one_of(desk, &[0], &next, when);
        once_more(stage, when);
    }
    let mut after = stage.after.clone();
    after.insert(NEXT.0.to_owned(), NEXT.1.to_vec());
    look(desk, &Expected::exactly(&after), when);
    for words in upkeep {
        expect_one_of(desk, &[0], words, when);
    }
    is_whole_and_tidy(desk, when);
}

fn once_more(stage: &Stage, when: &str) {
    let codes: &[i32] = match stage.operation {
        // It may be gone already.
        Operation::Remove => &[0, 13],
        _ => &[0],
    };
    let _ = fs::remove_dir_all(stage.desk.path("back"));
    expect_one_of(&stage.desk, codes, &stage.words, when);
}
