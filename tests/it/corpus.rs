//! Inputs that the fuzzer found worth keeping, and those that once broke something, read again by every parser.

mod bodies;

use crate::soak::{self, Dice};
use bodies::{TARGETS, Target};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The test that reads them all, as the test program calls it.
const READS_ALL: &str = "corpus::every_input_of_the_corpora_is_read_or_refused";
/// Address space for reading them all, in KiB: the program itself takes most of it.
const MOST_MEMORY_KIB: u64 = 1024 * 1024;
/// Processor time for reading them all, in seconds: many times what it takes.
const MOST_SECONDS: u64 = 120;
/// So many changed copies are made of each input, in every run and in a soak.
const CHANGES: usize = 4;
const SOAK_CHANGES: usize = 400;
/// What goes through no file is read so many times as often in a soak.
const FACTOR_WITHOUT_A_FILE: usize = 50;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/corpus")
}

/// The inputs of a target, in the order of their names.
fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(corpora().join(name)).expect("a folder of inputs");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(&path).expect("an input"))).collect()
}

/// Runs a target; says with which input it panicked, or whether it read the input.
fn run((name, target): Target, path: &Path, input: &[u8]) -> bool {
    let outcome = std::panic::catch_unwind(|| target(input));
    assert!(outcome.is_ok(), "{name} does not take {}", path.display());
    outcome.unwrap_or(false)
}

#[test]
fn every_input_of_the_corpora_is_read_or_refused() {
    for target in TARGETS {
        let outcomes: BTreeSet<bool> = inputs(target.0).iter().map(|(path, input)| run(target, path, input)).collect();
        assert!(outcomes.contains(&true), "{} reads none of its inputs", target.0);
        assert!(outcomes.contains(&false), "{} refuses none of its inputs", target.0);
    }
}

/// In a program of its own, so that what is taken can be bounded: a length that is believed before it is checked ends it.
#[test]
fn the_corpora_are_read_within_bounds_of_memory_and_time() {
    let program = std::env::current_exe().expect("this program");
    let limits = format!("ulimit -v {MOST_MEMORY_KIB} && ulimit -t {MOST_SECONDS} && exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &limits])
        .arg(program)
        .args(["--exact", READS_ALL, "--test-threads", "1"])
        .output()
        .expect("it runs");
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}\n{why}", output.status);
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
#[expect(clippy::print_stdout, reason = "how much was tried belongs to the result")]
fn inputs_with_a_few_bytes_changed_are_read_or_refused() {
    let mut dice = Dice::new(soak::seed());
    for target in TARGETS {
        let mut runs = 0;
        for (path, input) in inputs(target.0) {
            for _ in 0..changes(target.0) {
                runs += 1;
                let mut changed = input.clone();
                for _ in 0..1 + dice.below(3) {
                    change(&mut changed, &mut dice);
                }
                run(target, &path, &changed);
            }
        }
        println!("{}: {runs} inputs", target.0);
    }
}

/// How many changed copies are made of each input of a target.
fn changes(name: &str) -> usize {
    let goes_through_a_file = matches!(name, "catalog" | "config" | "vault");
    match (soak::is_asked_for(), goes_through_a_file) {
        (false, _) => CHANGES,
        (true, true) => SOAK_CHANGES,
        (true, false) => SOAK_CHANGES * FACTOR_WITHOUT_A_FILE,
    }
}

fn change(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len());
    match dice.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, dice.next() as u8),
        2 if at < bytes.len() => drop(bytes.remove(at)),
        _ if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        _ => {}
    }
}

#[test]
fn every_parser_has_inputs_and_every_input_a_parser() {
    let named: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let entries = std::fs::read_dir(corpora()).expect("the corpora");
    let folders = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    assert_eq!(folders.collect::<BTreeSet<_>>(), named);
    let bytes = |name: &String| inputs(name).iter().map(|(_, input)| input.len()).sum::<usize>();
    let lengths: Vec<_> = named.iter().map(|name| (name, bytes(name))).collect();
    assert!(lengths.iter().all(|(_, bytes)| *bytes > 0), "{lengths:?}");
    assert!(lengths.iter().map(|(_, bytes)| bytes).sum::<usize>() < 1024 * 1024, "{lengths:?}");
}
