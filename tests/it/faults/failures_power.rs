//! A sync fails, what it was to write is dropped, and then the power goes: a second sync must not have been believed.

use super::disk::{Arrived, Event};
use super::oracle::Expected;
use super::power::{Play, Step, goes_on};
use super::record::Recorder;
use super::{Budget, Call, Ended, Verdict, Watcher, can_trace, run};
use crate::desk::{Desk, noise};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How many syncs are tried where everything is not asked for.
const SAMPLE: usize = 3;

/// Fails one sync of a file; gives the play, and how the command ended. `None` when there are not so many syncs.
fn with_failing_sync(step: Step, sync: usize) -> Option<(Play, i32)> {
    let (mut play, before) = Play::stage(&[step]);
    let (mut recorder, mut after) = (Recorder::failing(sync), before.clone());
    let words = step.words(&play.desk, 0, &mut after);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let traced = run(&play.desk, &words, &mut recorder);
    let Ended::Exit(code) = traced.ended else { unreachable!("{words:?} was killed") };
    assert!([0, 1, 3].contains(&code) && !traced.stderr.contains("panicked"), "{words:?}: {code}\n{}", traced.stderr);
    let failed = recorder.syncs >= sync;
    play.steps.push(super::power::Played { events: recorder.events, before, after });
    failed.then_some((play, code))
}

/// A shard whose sync failed is not synced again, and gets no name.
fn is_given_up(events: &[Event], play: &Play, when: &str) {
    let failed = events.iter().position(|event| matches!(event, Event::FailSync { .. })).expect("a sync failed");
    let Event::FailSync { inode } = events[failed] else { unreachable!("it is one") };
    let mut disk = play.disk.clone();
    events[..failed].iter().for_each(|event| disk.apply(event));
    let path = disk.path_of(inode).expect("it has a name").to_owned();
    if path.to_string_lossy().contains("/catalog.db") {
        return;
    }
    for event in &events[failed + 1..] {
        let again = matches!(event, Event::SyncFile { inode: other } if *other == inode);
        let moved = matches!(event, Event::Move { from, .. } if *from == path);
        assert!(!again && !moved, "{when}: {event:?}");
    }
}

#[test]
fn a_sync_that_failed_is_not_believed_when_it_is_tried_again() {
    if !can_trace() {
        return;
    }
    let budget = Budget::new(SAMPLE);
    let steps = [Step::Put, Step::Overwrite, Step::Remove, Step::Repair];
    let mut cases = Vec::new();
    for step in steps {
        let (play, mut files) = Play::stage(&[step]);
        let words = step.words(&play.desk, 0, &mut files);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut recorder = Recorder::default();
        assert_eq!(run(&play.desk, &words, &mut recorder).ended, Ended::Exit(0), "{words:?}");
        cases.extend((1..=recorder.syncs).map(|sync| (step, sync)));
    }
    let (total, mut tried) = (cases.len(), 0);
    for (step, sync) in budget.choose(cases) {
        let Some((play, code)) = with_failing_sync(step, sync) else { continue };
        tried += 1;
        let when = format!("{step:?} whose sync {sync} fails, and which ends with {code}");
        let played = &play.steps[0];
        is_given_up(&played.events, &play, &when);
        let mut disk = play.disk.clone();
        played.events.iter().for_each(|event| disk.apply(event));
        disk.crash(Arrived::Nothing).write();
        let expected = match code {
            1 => Expected { either: [&played.before, &played.after] },
            _ => Expected::exactly(&played.after),
        };
        goes_on(&play.desk, &expected, &when);
    }
    budget.say(&format!("failing syncs before a power loss: {tried} of {total} tried"));
}

/// Counts the syncs of each file.
#[derive(Default)]
struct Syncs(BTreeMap<PathBuf, usize>);

impl Watcher for Syncs {
    fn before(&mut self, call: &Call) -> Verdict {
        if matches!(call.name, "fsync" | "fdatasync") {
            *self.0.entry(call.path.clone()).or_default() += 1;
        }
        Verdict::Go
    }
}

#[test]
fn a_long_shard_is_synced_as_it_grows_so_that_a_slow_disk_has_little_left_to_do_at_its_end() {
    if !can_trace() {
        return;
    }
    let desk = Desk::in_memory();
    desk.file("film", &noise(70_000_000, 1));
    let mut syncs = Syncs::default();
    let words = ["put", "film", "-q", "--level", "minimal"];
    assert_eq!(run(&desk, &words, &mut syncs).ended, Ended::Exit(0));
    let is_shard =
        |path: &Path| path.to_string_lossy().ends_with(".part") && !path.to_string_lossy().contains(".mark.");
    let shards: Vec<usize> = syncs.0.iter().filter(|(path, _)| is_shard(path)).map(|(_, syncs)| *syncs).collect();
    assert_eq!(shards, [2; 3], "{:?}", syncs.0);
}
