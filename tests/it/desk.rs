//! A person's desk: an empty home, and the program that was built, run with nothing else in its environment.

use assert_cmd::Command;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The program that was built for these tests.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_shard");

/// Where a program that counts which lines it reaches adds what it counted. Who clears an environment gives it back: else it
/// is added to a file in the folder where the program is run.
pub(crate) fn counts() -> Option<(&'static str, OsString)> {
    let name = "LLVM_PROFILE_FILE";
    std::env::var_os(name).map(|path| (name, path))
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// An empty home folder; commands run in it. Everything goes when it is dropped.
pub(crate) struct Desk {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), variables: Vec::new() }
    }

    /// One whose files are in memory where the machine has room for them there: a sync costs nothing.
    pub(crate) fn in_memory() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
        Self { folder, variables: Vec::new() }
    }

    /// Commands from now on find this in their environment too.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// What commands find in their environment.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        self.variables.clone()
    }

    /// Commands from now on find these in their environment and no others.
    pub(crate) fn set_variables(&mut self, variables: Vec<(String, String)>) {
        self.variables = variables;
    }

    pub(crate) fn home(&self) -> &Path {
        self.folder.path()
    }

    /// Where the default store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.path(".local/share/shard")
    }

    /// The folder of a default backend, numbered from 1.
    pub(crate) fn backend(&self, number: usize) -> PathBuf {
        self.store().join("backends").join(number.to_string())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    /// Writes a file of these bytes on the desk.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is below the home folder")).expect("a folder");
        fs::write(&path, bytes).expect("written");
        path
    }

    /// The program, ready to run here.
    pub(crate) fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(PROGRAM);
        command.current_dir(self.home()).env_clear().env("HOME", self.home()).envs(counts());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Outcome {
        self.run_with(words, "")
    }

    /// Runs a command to its end, with this on its standard input.
    pub(crate) fn run_with(&self, words: &[&str], stdin: impl Into<Vec<u8>>) -> Outcome {
        let output = Command::from_std(self.command()).args(words).write_stdin(stdin).output().expect("a run");
        Outcome {
            code: output.status.code().expect("it ended by itself"),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Runs a command that must end with this code, and gives what it printed.
    pub(crate) fn expect(&self, code: i32, words: &[&str]) -> Outcome {
        let outcome = self.run(words);
        let said = String::from_utf8_lossy(&outcome.stdout);
        assert_eq!(outcome.code, code, "{words:?}\n{said}\n{}", outcome.stderr);
        outcome
    }

    /// Runs a command with `--json` that must end with this code, and gives its one document.
    pub(crate) fn json(&self, code: i32, words: &[&str]) -> Value {
        let outcome = self.expect(code, &[words, &["--json"]].concat());
        assert_eq!(outcome.stdout.iter().filter(|byte| **byte == b'\n').count(), 1, "{words:?} gives one line");
        serde_json::from_slice(&outcome.stdout).expect("JSON")
    }

    /// Runs a command with `--json` that must fail with this code, and gives the failure.
    pub(crate) fn failure(&self, code: i32, words: &[&str]) -> Value {
        let outcome = self.expect(code, &[words, &["--json"]].concat());
        assert!(outcome.stdout.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&outcome.stdout));
        let last = outcome.stderr.lines().last().expect("a line");
        let failure: Value = serde_json::from_str(last).expect("JSON");
        has_keys(&failure, &["schema", "kind", "message", "causes", "hint"]);
        assert_eq!(failure["schema"], "shard.error/1");
        failure
    }

    /// Every shard file below the default backends.
    pub(crate) fn shard_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.store().join("backends"), &mut files);
        files.retain(|path| path.extension().is_some_and(|extension| extension == "shard"));
        files
    }

    /// The names that `list` shows.
    pub(crate) fn listed(&self) -> Vec<String> {
        let list = self.json(0, &["list"]);
        let name = |file: &Value| file["name"].as_str().expect("a name").to_owned();
        list["files"].as_array().expect("files").iter().map(name).collect()
    }
}

impl Outcome {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// Every one of these keys is there; others may be.
pub(crate) fn has_keys(value: &Value, keys: &[&str]) {
    let object = value.as_object().expect("an object");
    let there: BTreeSet<&str> = object.keys().map(String::as_str).collect();
    let missing: Vec<_> = keys.iter().filter(|key| !there.contains(**key)).collect();
    assert!(missing.is_empty(), "{missing:?} are not in {value}");
}

/// Bytes that look random and are the same every time.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
