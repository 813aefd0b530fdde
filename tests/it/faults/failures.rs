//! Each call about a file fails in each way, once or from then on.

use super::oracle::{Expected, MEND, files_below, look, settle};
use super::stages::{Operation, Stage};
use super::{Budget, Call, Ended, Verdict, Watcher, can_trace, run};
use crate::soak;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How many failures of each operation are tried where everything is not asked for.
const SAMPLE: usize = 1;
/// Of one operation, where everything is asked for: so many runs at once, each on a store of its own.
const AT_ONCE: usize = 4;
/// What a call fails with.
const ERRORS: [Errno; 5] = [Errno::ENOSPC, Errno::EIO, Errno::EACCES, Errno::EROFS, Errno::EMFILE];
/// A run that a failing call keeps this long does not end any more.
const PATIENCE: Duration = Duration::from_secs(120);
/// The codes of a command that did what it was asked to.
const DONE: [i32; 2] = [0, 3];
/// The codes that are all that a command says when it is told to be quiet.
const SILENT: [i32; 4] = [0, 3, 4, 5];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Once,
    /// It, and all calls of its name after it.
    FromThenOn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Error(Errno),
    /// Half of what was to be written is.
    Short,
}

/// Which call fails, counted from 1 over all threads, and how.
#[derive(Debug, Clone, Copy)]
struct Case {
    at: usize,
    failure: Failure,
    how: How,
}

/// Makes calls fail.
#[derive(Debug)]
struct Saboteur {
    case: Option<Case>,
    names: Vec<&'static str>,
    victim: Option<String>,
    begun: Instant,
}

impl Saboteur {
    fn new(case: Option<Case>) -> Self {
        Self { case, names: Vec::new(), victim: None, begun: Instant::now() }
    }

    fn fails(&self, call: &Call) -> Option<Failure> {
        let case = self.case?;
        let is_it = self.names.len() == case.at;
        let is_like_it = self.names.len() > case.at && self.names.get(case.at - 1) == Some(&call.name);
        (is_it || (is_like_it && case.how == How::FromThenOn)).then_some(case.failure)
    }
}

impl Watcher for Saboteur {
    fn before(&mut self, call: &Call) -> Verdict {
        self.names.push(call.name);
        assert!(self.begun.elapsed() < PATIENCE, "it goes on for ever: {:?}", self.victim);
        let Some(failure) = self.fails(call) else { return Verdict::Go };
        self.victim.get_or_insert_with(|| format!("{} {}", call.name, call.path.display()));
        match failure {
            Failure::Error(errno) => Verdict::Fail(errno),
            Failure::Short if call.writes() && call.arguments[2] > 1 => Verdict::Shorten,
            Failure::Short => Verdict::Go,
        }
    }
}

/// One failure of each call, which the seed chooses.
fn one_of_each_call(budget: &Budget, cases: Vec<Case>) -> Vec<Case> {
    let mut of_calls = BTreeMap::<usize, Vec<Case>>::new();
    for case in cases {
        of_calls.entry(case.at).or_default().push(case);
    }
    let mut dice = budget.dice();
    of_calls.into_values().map(|cases| cases[dice.below(cases.len())]).collect()
}

/// Every way in which the calls of a run can fail.
fn cases(stage: &Stage) -> Vec<Case> {
    let mut saboteur = Saboteur::new(None);
    assert_eq!(run(&stage.desk, &stage.words, &mut saboteur).ended, Ended::Exit(0), "{:?}", stage.words);
    let mut cases = Vec::new();
    for (at, name) in (1..).zip(&saboteur.names) {
        let is_write = matches!(*name, "write" | "pwrite64");
        let failures = ERRORS.map(Failure::Error).into_iter().chain(is_write.then_some(Failure::Short));
        cases.extend(failures.flat_map(|failure| [How::Once, How::FromThenOn].map(|how| Case { at, failure, how })));
    }
    cases
}

/// What the runs with a failing call came to.
#[derive(Debug, Default)]
struct Tally {
    codes: BTreeMap<i32, usize>,
    longest: Duration,
}

impl Tally {
    fn tried(&self) -> usize {
        self.codes.values().sum()
    }
}

/// Makes the calls of an operation fail, and looks at what it says and at what is left.
fn failing_everywhere(operation: Operation) {
    if !can_trace() {
        return;
    }
    let stage = Stage::new(operation);
    let budget = Budget::new(SAMPLE);
    let mut all = cases(&stage);
    let total = all.len();
    // All errors of all calls are days.
    if budget.is_everything() && !soak::is_asked_for_to_the_letter() {
        all = one_of_each_call(&budget, all);
    }
    // A run that waits for a lock that cannot be had leaves the processor to another.
    let stages = if budget.is_everything() { AT_ONCE } else { 1 };
    let others = (1..stages).map(|_| Stage::new(operation));
    let (cases, tally) = (Mutex::new(budget.choose(all)), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for stage in std::iter::once(stage).chain(others) {
            let (budget, cases, tally) = (&budget, &cases, &tally);
            let next = || cases.lock().expect("no other stage failed").next();
            scope.spawn(move || {
                while let Some(case) = next() {
                    let begun = Instant::now();
                    let code = failing(&stage, case);
                    let mut tally = tally.lock().expect("no other stage failed");
                    tally.longest = tally.longest.max(begun.elapsed());
                    *tally.codes.entry(code).or_default() += 1;
                    if tally.tried().is_multiple_of(100) {
                        budget.say(&format!("{operation:?}: {} calls failed so far", tally.tried()));
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no stage failed");
    let (tried, longest) = (tally.tried(), tally.longest.as_secs());
    let came = format!("{tried} of {total} tried, exit codes {:?}, the longest took {longest} s", tally.codes);
    budget.say(&format!("failing calls of {operation:?}: {came}"));
}

/// Makes one call fail; the code with which the command ends.
fn failing(stage: &Stage, case: Case) -> i32 {
    stage.restore();
    let mut saboteur = Saboteur::new(Some(case));
    let traced = run(&stage.desk, &stage.words, &mut saboteur);
    let when = format!("{:?}, {case:?}, {:?}\n{}", stage.operation, saboteur.victim, traced.stderr);
    let Ended::Exit(code) = traced.ended else { unreachable!("{when}: it was killed") };
    assert!([0, 1, 3, 4, 5, 10, 11, 12, 13].contains(&code), "{when}: {code}");
    assert!(!traced.stderr.contains("panicked"), "{when}");
    assert!(!traced.stderr.is_empty() || SILENT.contains(&code), "{when}: {code}, and not a word");
    says_the_truth(stage, code, &when);
    settle(stage, MEND, &when);
    code
}

/// A command that says that it did its work did it; and a file that is there is whole, whatever it says.
fn says_the_truth(stage: &Stage, code: i32, when: &str) {
    let back = files_below(&stage.desk, "back");
    for (name, bytes) in &back {
        assert!(stage.before.get(name) == Some(bytes), "{when}: {name} is torn");
    }
    // A rebuild that could not read every backend says so with 3, and has found what the others have.
    let is_partial = stage.operation == Operation::Rebuild && code != 0;
    if DONE.contains(&code) && !is_partial {
        assert!(stage.operation != Operation::Recover || back == stage.before, "{when}: not all came back");
        look(&stage.desk, &Expected::exactly(&stage.after), when);
    }
}

#[test]
fn a_put_whose_calls_fail_says_so_and_leaves_nothing_half_there() {
    failing_everywhere(Operation::Put);
}

#[test]
fn an_overwrite_whose_calls_fail_leaves_the_old_bytes_or_the_new() {
    failing_everywhere(Operation::Overwrite);
}

#[test]
fn a_put_of_a_folder_whose_calls_fail_says_so_and_leaves_nothing_half_there() {
    failing_everywhere(Operation::FolderPut);
}

#[test]
fn a_repair_whose_calls_fail_loses_nothing() {
    failing_everywhere(Operation::Repair);
}

#[test]
fn a_removal_whose_calls_fail_leaves_the_file_or_removes_it() {
    failing_everywhere(Operation::Remove);
}

#[test]
fn a_drain_whose_calls_fail_loses_nothing() {
    failing_everywhere(Operation::Drain);
}

#[test]
fn a_gc_whose_calls_fail_loses_nothing() {
    failing_everywhere(Operation::Gc);
}

#[test]
fn a_rebuild_whose_calls_fail_can_be_done_again() {
    failing_everywhere(Operation::Rebuild);
}

#[test]
fn a_recovery_whose_calls_fail_gives_no_wrong_byte() {
    failing_everywhere(Operation::Recover);
}

#[test]
fn a_backup_of_the_catalog_whose_calls_fail_loses_nothing_and_is_made_by_the_next() {
    failing_everywhere(Operation::Backup);
}
