//! The README's transcript, typed into an empty home, prints what the README says it prints.

use super::desk::{Desk, PROGRAM, counts};
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../README.md");
/// The home folder of the transcript.
const TOLD_HOME: &str = "/home/me";

/// A command of the transcript and what it prints.
struct Step {
    command: String,
    told: String,
}

/// What stands in the fences that say `console`.
fn transcript() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in README.lines() {
        match (inside, line.strip_prefix("$ ")) {
            (false, _) => inside = line == "```console",
            (true, _) if line == "```" => inside = false,
            (true, Some(command)) => steps.push(Step { command: command.to_owned(), told: String::new() }),
            (true, None) => {
                let step = steps.last_mut().expect("a transcript begins with a command");
                step.told.push_str(line);
                step.told.push('\n');
            }
        }
    }
    steps
}

fn run(command: &str, desk: &Desk) -> String {
    let folder = Path::new(PROGRAM).parent().expect("the program is in a folder");
    let output = Command::new("sh")
        .args(["-c", &format!("{{ {command}\n}} 2>&1")])
        .current_dir(desk.home())
        .env_clear()
        .env("HOME", desk.home())
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", folder.display()))
        .envs(counts())
        .output()
        .expect("a shell");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A text without what differs from run to run: ids, sizes and lengths of time, dates, the disk, the home folder, and
/// how far columns stand apart.
fn normalized(text: &str, home: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace(home, "~");
        let words: Vec<String> = line.split_whitespace().map(normalized_word).collect();
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn normalized_word(word: &str) -> String {
    let core = word.trim_matches(|c: char| "().,;:`'".contains(c));
    let is_number = !core.is_empty() && core.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_length_of_time = core.ends_with(['s', 'm', 'h', 'd'])
        && core.starts_with(|c: char| c.is_ascii_digit())
        && core.chars().all(|c| c.is_ascii_digit() || "smhd.".contains(c));
    let is_date =
        core.len() >= 5 && core.contains(['-', ':']) && core.bytes().all(|byte| b"0123456789-:.TZ".contains(&byte));
    let is_unit = ["B", "KiB", "MiB", "GiB"].contains(&core);
    match () {
        () if core.starts_with("disk-") || core.starts_with("host-") => word.replace(core, "ZONE"),
        () if is_length_of_time => word.replace(core, "TIME"),
        () if is_date => word.replace(core, "DATE"),
        // The exit codes and small counts are what the transcript is about: only sizes are left out.
        () if is_number && core.contains('.') => word.replace(core, "SIZE"),
        () if is_unit => word.replace(core, "UNIT"),
        () => without_ids(word),
    }
}

/// Every run of 32 and more hexadecimal digits is an id, and the two digits of the folder before it are its own.
fn without_ids(word: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in word.split('/') {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits >= 32 {
            if let Some(folder) = parts.last_mut().filter(|folder| folder.len() == 2) {
                *folder = "ID".to_owned();
            }
            parts.push(format!("ID{}", &part[digits..]));
        } else {
            parts.push(part.to_owned());
        }
    }
    parts.join("/")
}

#[test]
fn the_transcript_of_the_readme_is_what_happens() {
    let steps = transcript();
    assert!(steps.iter().any(|step| step.command.starts_with("shard repair")), "the transcript is found");
    let desk = Desk::new();
    let home = desk.home().to_str().expect("UTF-8").to_owned();
    let mut said = String::new();
    let mut differing = Vec::new();
    for step in steps {
        let printed = run(&step.command, &desk);
        said.push_str(&format!("$ {}\n{}", step.command, printed.replace(&home, TOLD_HOME)));
        if normalized(&printed, &home) != normalized(step.told.trim_end(), TOLD_HOME) {
            differing.push(step.command);
        }
    }
    assert!(differing.is_empty(), "{differing:?} print something else; all of it:\n{said}");
}

#[test]
fn the_readme_names_every_command_and_exit_code_and_no_unknown_one() {
    let help = Command::new(PROGRAM).arg("--help").output().expect("a run").stdout;
    let help = String::from_utf8(help).expect("UTF-8");
    for command in ["put", "recover", "verify", "repair", "status", "backend add", "catalog rebuild", "gc", "prune"] {
        assert!(README.contains(&format!("shard {command}")), "{command}");
        assert!(help.contains(command.split(' ').next().expect("a word")), "{command}");
    }
    for code in [0, 1, 2, 3, 4, 5, 10, 11, 12, 13] {
        assert!(README.contains(&format!("| {code} |")), "exit code {code}");
    }
}
