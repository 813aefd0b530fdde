//! Each operation is killed before each call that changes a file, and once more while the next command clears up.

use super::oracle::{COLLECT, Expected, NEXT, files_below, look, settle, settle_unseen};
use super::stages::{Operation, Stage};
use super::{Budget, Call, Ended, Traced, Verdict, Watcher, can_trace, run};
use crate::desk::Desk;

/// How many moments of each operation are tried where everything is not asked for.
const SAMPLE: usize = 3;

/// Kills the process before one of the calls that change a file, counted over all threads.
#[derive(Debug, Default)]
struct Killer {
    /// How many of these calls there were until now.
    seen: usize,
    /// Before which it is killed, counted from 1; before none when it is 0.
    at: usize,
    /// The call that it did not make.
    victim: Option<String>,
}

impl Killer {
    fn at(at: usize) -> Self {
        Self { at, ..Self::default() }
    }

    fn never() -> Self {
        Self::default()
    }
}

impl Watcher for Killer {
    fn before(&mut self, call: &Call) -> Verdict {
        if !call.changes() {
            return Verdict::Go;
        }
        self.seen += 1;
        if self.seen != self.at {
            return Verdict::Go;
        }
        self.victim = Some(format!("{} {}", call.name, call.path.display()));
        Verdict::Kill
    }
}

/// How many calls of this command change a file.
pub(crate) fn count_changes(desk: &Desk, words: &[&str], code: i32) -> usize {
    let mut killer = Killer::never();
    let Traced { ended, stdout, stderr } = run(desk, words, &mut killer);
    assert_eq!(ended, Ended::Exit(code), "{words:?}\n{stdout}\n{stderr}");
    assert!(killer.seen > 0, "{words:?} changes nothing");
    killer.seen
}

/// Kills this command before that call; says whether it came to it.
pub(crate) fn kill(desk: &Desk, words: &[&str], at: usize) -> Option<String> {
    let mut killer = Killer::at(at);
    let traced = run(desk, words, &mut killer);
    assert_eq!(traced.ended == Ended::Killed, killer.victim.is_some(), "{words:?}: {traced:?}");
    killer.victim
}

/// Kills the operation at every moment there is.
fn killed_everywhere(operation: Operation) {
    if !can_trace() {
        return;
    }
    let stage = Stage::new(operation);
    // Deletes that were not made are not the next put's business, but the next collection's.
    let upkeep = if operation == Operation::Remove { COLLECT } else { &[] };
    let budget = Budget::new(SAMPLE);
    let mut dice = budget.dice();
    let all = count_changes(&stage.desk, &stage.words, 0);
    stage.restore();
    stage.desk.file(NEXT.0, NEXT.1);
    let next = ["put", NEXT.0, "-q", "--level", "minimal"];
    let recovery = if operation == Operation::Rebuild { &stage.words[..] } else { &next };
    let all_of_recovery = count_changes(&stage.desk, recovery, 0);
    let (mut tried, mut killed, mut twice) = (0, 0, 0);
    for at in budget.choose((1..=all).collect()) {
        tried += 1;
        stage.restore();
        let Some(victim) = kill(&stage.desk, &stage.words, at) else { continue };
        killed += 1;
        let when = format!("{operation:?} killed before call {at}, {victim}");
        torn_files_are_not_seen(&stage, &when);
        settle(&stage, upkeep, &when);
        // The same again, and the recovery is killed too.
        stage.restore();
        let Some(victim) = kill(&stage.desk, &stage.words, at) else { continue };
        let again = 1 + dice.below(all_of_recovery);
        let Some(second) = kill(&stage.desk, recovery, again) else { continue };
        twice += 1;
        let when = format!("{operation:?} killed before call {at}, {victim}; then before call {again}, {second}");
        looks_like_one_of_three(&stage, &when);
        settle_unseen(&stage, upkeep, &when);
    }
    budget.say(&format!("kill points of {operation:?}: {tried} of {all} tried, {killed} killed, {twice} killed twice"));
    // The number of calls differs a little from run to run.
    assert!(killed * 10 >= tried * 9, "{operation:?}: only {killed} of {tried} runs were killed");
}

/// What was being recovered is there whole or not at all.
fn torn_files_are_not_seen(stage: &Stage, when: &str) {
    for (name, bytes) in files_below(&stage.desk, "back") {
        assert!(stage.before.get(&name) == Some(&bytes), "{when}: {name} is torn");
    }
}

/// What is stored is as before or after the operation; and the next command's file is there or not.
fn looks_like_one_of_three(stage: &Stage, when: &str) {
    if stage.operation == Operation::Rebuild {
        return;
    }
    let mut after = stage.after.clone();
    after.insert(NEXT.0.to_owned(), NEXT.1.to_vec());
    look(&stage.desk, &Expected { either: [&stage.before, &after] }, when);
}

#[test]
fn a_put_killed_before_any_call_leaves_whole_files_and_nothing_half_there() {
    killed_everywhere(Operation::Put);
}

#[test]
fn an_overwrite_killed_before_any_call_leaves_the_old_bytes_or_the_new() {
    killed_everywhere(Operation::Overwrite);
}

#[test]
fn a_put_of_a_folder_killed_before_any_call_leaves_whole_files_and_nothing_half_there() {
    killed_everywhere(Operation::FolderPut);
}

#[test]
fn a_repair_killed_before_any_call_loses_nothing_and_is_done_by_the_next() {
    killed_everywhere(Operation::Repair);
}

#[test]
fn a_removal_killed_before_any_call_leaves_the_file_or_removes_it() {
    killed_everywhere(Operation::Remove);
}

#[test]
fn a_drain_killed_before_any_call_loses_nothing_and_is_done_by_the_next() {
    killed_everywhere(Operation::Drain);
}

#[test]
fn a_gc_killed_before_any_call_loses_nothing_and_is_done_by_the_next() {
    killed_everywhere(Operation::Gc);
}

#[test]
fn a_rebuild_killed_before_any_call_is_done_by_the_next() {
    killed_everywhere(Operation::Rebuild);
}

#[test]
fn a_recovery_killed_before_any_call_shows_no_torn_file() {
    killed_everywhere(Operation::Recover);
}

#[test]
fn a_backup_of_the_catalog_killed_before_any_call_loses_nothing_and_is_made_by_the_next() {
    killed_everywhere(Operation::Backup);
}
