//! The command line before anything is done: help, usage, completions, the manual.

use assert_cmd::Command;
use std::fs;

/// Every command and subcommand, as typed.
const COMMANDS: [&str; 43] = [
    "init",
    "backend",
    "backend add",
    "backend list",
    "backend check",
    "backend drain",
    "backend remove",
    "put",
    "recover",
    "verify",
    "repair",
    "list",
    "show",
    "remove",
    "prune",
    "gc",
    "status",
    "proof create",
    "proof check",
    "catalog rebuild",
    "catalog refresh",
    "catalog stats",
    "vault list",
    "vault set",
    "vault import",
    "node init",
    "node serve",
    "node seed",
    "node seed new",
    "node seed show",
    "node seed add",
    "node seed retire",
    "node ping",
    "node peers",
    "node forget",
    "node sessions",
    "node messages",
    "node send",
    "node stats",
    "bench",
    "completions",
    "man",
    "get",
];

fn shard(line: &str) -> Command {
    let mut command = Command::cargo_bin("shard").expect("the binary of this crate");
    command.args(line.split_whitespace()).env_remove("SHARD_STORE");
    command
}

fn stdout(line: &str) -> String {
    let output = shard(line).assert().code(0).get_output().clone();
    assert!(output.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn refusal(line: &str) -> String {
    let output = shard(line).assert().code(2).get_output().clone();
    assert!(output.stdout.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn every_command_explains_itself() {
    for command in COMMANDS {
        let help = stdout(&format!("{command} --help"));
        assert!(help.contains("Usage: shard") && help.contains("--json"), "{command}: {help}");
    }
    let help = stdout("--help");
    for said in ["recover", "Examples:", "Exit codes:", "$SHARD_STORE"] {
        assert!(help.contains(said), "{said} is not in {help}");
    }
    assert!(stdout("--version").starts_with("shard "));
}

#[test]
fn what_makes_no_sense_exits_2_and_says_why() {
    for (line, why) in [
        ("", "Usage:"),
        ("recvoer x", "recover"),
        ("put", "PATH"),
        ("put a --level extreme", "paranoid"),
        ("put a --shards 5/3", "1 ≤ K < N ≤ 255"),
        ("put a --level personal --shards 3/5", "cannot be used with"),
        ("put -", "--name NAME"),
        ("put a b --name c", "one PATH"),
        ("put - --name ../x", "could lead elsewhere"),
        ("recover", "NAME"),
        ("recover a --range 9-3", "byte 3 comes before byte 9"),
        ("recover a b -o -", "one NAME"),
        ("recover a --version 12ab", "32 hexadecimal digits"),
        ("verify --quick --full", "cannot be used with"),
        ("verify --sample 0", "above 0"),
        ("verify --max-age 7", "unit of time"),
        ("verify --budget 20", "200GB"),
        ("backend add n /mnt/n --quota=-5GB", "500GB"),
        ("backend add n /mnt/n --quota 16EiB", "too large"),
        ("backend add n /mnt/n --quota 5parsec", "no unit of size"),
        ("prune", "--keep-last"),
        ("proof check p.json --root 12", "64 hexadecimal digits"),
        ("node", "Usage:"),
        ("node serve --listen localhost", "0.0.0.0:7440"),
        ("node serve --quota 5parsec", "no unit of size"),
        ("node serve --connect http://a", "node://HOST:PORT"),
        ("node ping a:1", "node://HOST:PORT"),
        ("node ping node://u:p@a", "a name or a password"),
        ("node ping node://a --count 0", "1..=1000"),
        ("node ping node://a --timeout 5", "unit of time"),
        ("node messages --limit 0", "1..=1000"),
        ("node send hello", "--peer"),
        ("node send --all --peer 1234 hello", "cannot be used with"),
        ("node seed add", "FILE"),
        ("completions tcsh", "bash"),
    ] {
        let message = refusal(line);
        assert!(message.contains(why), "{line}: {why:?} is not in {message}");
    }
}

#[test]
fn wrong_usage_is_one_line_of_json_when_json_was_asked_for() {
    for line in ["--json put", "verify --json --quick --full", "--json", "recvoer --json", "put - --json"] {
        let message = refusal(line);
        assert_eq!(message.matches('\n').count(), 1, "{line}: {message}");
        let value: serde_json::Value = serde_json::from_str(&message).expect("JSON");
        assert_eq!((&value["schema"], &value["kind"]), (&"shard.error/1".into(), &"usage".into()), "{message}");
        for key in ["message", "causes", "hint"] {
            assert!(value.get(key).is_some(), "{key} is not in {message}");
        }
    }
}

#[test]
fn there_are_completions_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stdout(&format!("completions {shell}"));
        assert!(script.contains("recover") && script.contains("assume-lost"), "{shell}: {script}");
    }
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    assert!(stdout("man").contains(".TH shard 1"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("man1");
    let output = shard("--json man --out").arg(&out).assert().code(0).get_output().clone();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["schema"], "shard.man/1");
    assert_eq!(value["pages"].as_array().map(Vec::len), fs::read_dir(&out).map(Iterator::count).ok());
    for command in COMMANDS.iter().filter(|command| **command != "get") {
        let page = fs::read_to_string(out.join(format!("shard-{}.1", command.replace(' ', "-")))).expect("a page");
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_takes_nothing_is_a_failure_and_a_closed_pipe_is_not() {
    use std::process::{Command, Stdio};
    let program = env!("CARGO_BIN_EXE_shard");
    for words in [["completions", "bash"].as_slice(), &["--help"]] {
        let full = fs::File::options().write(true).open("/dev/full").expect("the full device");
        let output = Command::new(program).args(words).stdout(full).stderr(Stdio::piped()).output().expect("a run");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let message = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(message.starts_with("error: cannot write to standard output\ncaused by: "), "{message}");

        let (reading_end, writing_end) = std::io::pipe().expect("a pipe");
        drop(reading_end);
        let run = Command::new(program).args(words).stdout(writing_end).stderr(Stdio::piped()).output().expect("a run");
        assert_eq!((run.status.code(), run.stderr.as_slice()), (Some(0), b"".as_slice()), "{words:?}");
    }
}
