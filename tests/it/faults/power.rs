//! The power goes after each step that is to last, and disks that lie about their syncs.

use super::disk::{Arrived, Disk, Event};
use super::oracle::{Expected, NEXT, expect_one_of, files_below, is_whole_and_tidy, look};
use super::record::Recorder;
use super::stages::{Files, damage, store};
use super::{Budget, Ended, can_trace, run};
use crate::desk::{Desk, noise};
use std::collections::BTreeSet;
use std::fs;

/// How many states of each harness are tried where everything is not asked for.
const SAMPLE: usize = 4;
/// Of how many sequences.
const SEQUENCES: usize = 2;
/// How many states that chance makes are tried at each step.
const CHANCES: u64 = 2;

/// What a sequence is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Put,
    Overwrite,
    Remove,
    Repair,
}

const STEPS: [Step; 4] = [Step::Put, Step::Overwrite, Step::Remove, Step::Repair];

/// A step as it went.
pub(super) struct Played {
    pub(super) events: Vec<Event>,
    pub(super) before: Files,
    pub(super) after: Files,
}

/// A sequence as it went, and the disk as it was before.
pub(super) struct Play {
    pub(super) desk: Desk,
    pub(super) disk: Disk,
    pub(super) steps: Vec<Played>,
}

/// Where the power goes: after so many events of the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) at: usize,
    pub(super) arrived: Arrived,
}

impl Play {
    /// A store with some files; where something is to be repaired, no more may be lost of any of them.
    pub(super) fn stage(steps: &[Step]) -> (Self, Files) {
        let (desk, mut files) = (Desk::in_memory(), Files::new());
        store(&desk, &mut files, "kept", noise(6_000, 1));
        store(&desk, &mut files, "changing", noise(3_000, 2));
        store(&desk, &mut files, "going-0", noise(2_500, 3));
        store(&desk, &mut files, "going-1", noise(2_600, 4));
        if steps.contains(&Step::Repair) {
            damage(&desk);
        }
        let disk = Disk::of(&desk.store());
        (Self { desk, disk, steps: Vec::new() }, files)
    }

    fn of(steps: &[Step]) -> Self {
        let (mut play, mut files) = Self::stage(steps);
        for (number, step) in steps.iter().enumerate() {
            let mut recorder = Recorder::default();
            let before = files.clone();
            let words = step.words(&play.desk, number, &mut files);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let traced = run(&play.desk, &words, &mut recorder);
            assert_eq!(traced.ended, Ended::Exit(0), "{words:?}\n{}", traced.stderr);
            assert!(recorder.events.len() > 10 || *step == Step::Repair, "{words:?} did nothing");
            play.steps.push(Played { events: recorder.events, before, after: files.clone() });
        }
        play
    }

    fn last(&self) -> &Played {
        self.steps.last().expect("a step")
    }

    /// The disk after so many events of the last step.
    fn disk_at(&self, at: usize) -> Disk {
        let mut disk = self.disk.clone();
        let (last, earlier) = self.steps.split_last().expect("a step");
        let events = earlier.iter().flat_map(|step| &step.events).chain(&last.events[..at]);
        events.for_each(|event| disk.apply(event));
        disk
    }
}

/// Every state to try but one: after each event that is to last, before all, and after all.
pub(super) fn cases(events: &[Event]) -> Vec<Case> {
    let points = (1..=events.len()).filter(|at| events[at - 1].is_persistence_point());
    let points: BTreeSet<usize> = points.chain([0, events.len()]).collect();
    let arrived = |at: usize| {
        let chances = (0..CHANCES).map(move |chance| Arrived::Some(at as u64 * CHANCES + chance));
        [Arrived::Nothing, Arrived::Everything, Arrived::Names, Arrived::Bytes, Arrived::Torn]
            .into_iter()
            .chain(chances)
    };
    let cases = points.into_iter().flat_map(|at| arrived(at).map(move |arrived| Case { at, arrived }));
    cases.filter(|case| *case != acknowledged(events)).collect()
}

/// The state that is always tried: the end, and nothing that was not synced.
pub(super) fn acknowledged(events: &[Event]) -> Case {
    Case { at: events.len(), arrived: Arrived::Nothing }
}

impl Step {
    pub(super) fn words(self, desk: &Desk, number: usize, files: &mut Files) -> Vec<String> {
        let name = match self {
            Self::Put => format!("new-{number}"),
            Self::Overwrite => "changing".to_owned(),
            Self::Remove => format!("going-{number}"),
            Self::Repair => return vec!["repair".to_owned(), "-q".to_owned()],
        };
        if self == Self::Remove {
            files.remove(&name);
            return ["remove", &name, "-q"].map(str::to_owned).to_vec();
        }
        let bytes = noise(4_000 + 100 * number, 50 + number as u64);
        desk.file(&name, &bytes);
        files.insert(name.clone(), bytes);
        ["put", &name, "-q", "--level", "minimal"].map(str::to_owned).to_vec()
    }
}

/// After the power went: the store opens, what was acknowledged is there, what was under way is there or not, and from there
/// on everything works.
pub(super) fn goes_on(desk: &Desk, expected: &Expected<'_>, when: &str) {
    look(desk, expected, when);
    let found = files_below(desk, "out");
    desk.file(NEXT.0, NEXT.1);
    expect_one_of(desk, &[0], &["put", NEXT.0, "-q", "--level", "minimal"], when);
    expect_one_of(desk, &[0], &["gc", "-q"], when);
    expect_one_of(desk, &[0], &["repair", "-q"], when);
    // What was there once stays; what was not may have been taken in.
    let settled = if found == *expected.either[1] { [1, 1] } else { [0, 1] };
    let [mut one, mut other] = settled.map(|which| expected.either[which].clone());
    for files in [&mut one, &mut other] {
        files.insert(NEXT.0.to_owned(), NEXT.1.to_vec());
    }
    look(desk, &Expected { either: [&one, &other] }, when);
    is_whole_and_tidy(desk, when);
}

/// Lets the power go in each of these sequences.
fn power_goes(sequences: Vec<Vec<Step>>) {
    if !can_trace() {
        return;
    }
    let (budget, count) = (Budget::new(SEQUENCES), sequences.len() as u32);
    for steps in budget.choose(sequences) {
        power_goes_in(&steps, &budget.part(count, SAMPLE));
    }
}

/// Lets the power go after each persistence point of the last step.
fn power_goes_in(steps: &[Step], budget: &Budget) {
    let play = Play::of(steps);
    let Played { before, after, events } = play.last();
    let cases = cases(events);
    let (total, mut tried, mut seen) = (cases.len() + 1, 0, BTreeSet::new());
    for case in std::iter::once(acknowledged(events)).chain(budget.choose(cases)) {
        let remains = play.disk_at(case.at).crash(case.arrived);
        let is_over = case.at == events.len();
        tried += 1;
        if !seen.insert((is_over, *remains.digest().as_bytes())) {
            continue;
        }
        remains.write();
        let last = events.get(case.at.wrapping_sub(1));
        let when = format!("{steps:?}, {case:?} of {}, after {last:?}", events.len());
        let expected = if is_over { Expected::exactly(after) } else { Expected { either: [before, after] } };
        goes_on(&play.desk, &expected, &when);
    }
    budget.say(&format!("power-loss states of {steps:?}: {tried} of {total} tried, {} distinct", seen.len()));
}

#[test]
fn power_that_goes_in_one_operation_takes_nothing_that_was_acknowledged() {
    power_goes(STEPS.map(|step| vec![step]).to_vec());
}

#[test]
fn power_that_goes_in_the_second_of_two_operations_takes_nothing_that_was_acknowledged() {
    let pairs = STEPS.into_iter().flat_map(|one| STEPS.map(|two| vec![one, two]));
    power_goes(pairs.collect());
}

/// The names of unfinished shards may be on the disk when the power goes: that their process died here must be known then.
#[test]
fn what_a_put_had_begun_when_the_power_went_is_cleared_up_by_the_next() {
    if !can_trace() {
        return;
    }
    let play = Play::of(&[Step::Put]);
    let Played { before, after, events } = play.last();
    let at = events.iter().position(
        |event| matches!(event, Event::Move { to, .. } if to.extension().is_some_and(|ending| ending == "shard")),
    );
    play.disk_at(at.expect("a shard is finished")).crash(Arrived::Names).write();
    let unfinished = play.desk.store().join("backends");
    let parts = walkdir::WalkDir::new(unfinished).into_iter().filter_map(Result::ok);
    assert!(parts.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "part")).count() > 0);
    goes_on(&play.desk, &Expected { either: [before, after] }, "names without bytes");
}

/// Which syncs a disk lies about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Those of shards on this backend.
    Backend(usize),
    /// Those of shards on all backends.
    Shards,
    /// Those of the catalog.
    Catalog,
}

impl Lie {
    /// Whether it is about this sync.
    fn is_about(self, path: &std::path::Path) -> bool {
        let path = path.to_string_lossy();
        match self {
            Self::Backend(number) => path.contains(&format!("/backends/{number}/")),
            Self::Shards => path.contains("/backends/"),
            Self::Catalog => path.contains("/catalog.db"),
        }
    }
}

/// The disk after the whole play, without the syncs that were lies.
fn disk_of_a_liar(play: &Play, lie: Lie) -> Disk {
    let mut disk = play.disk.clone();
    for event in play.steps.iter().flat_map(|step| &step.events) {
        let is_lie = match event {
            Event::SyncFile { inode } => disk.path_of(*inode).is_some_and(|path| lie.is_about(path)),
            Event::SyncFolder { path } => lie.is_about(path),
            _ => false,
        };
        if !is_lie {
            disk.apply(event);
        }
    }
    disk
}

/// Verify finds what is gone, no wrong byte comes out, and what is left of the shards gives everything back that it can.
fn lies_are_found(play: &Play, lie: Lie, arrived: Arrived, when: &str) {
    let desk = &play.desk;
    disk_of_a_liar(play, Lie::Catalog).crash(Arrived::Everything).write();
    let whole = shards(desk);
    disk_of_a_liar(play, lie).crash(arrived).write();
    let Played { before, after, .. } = play.last();
    let is_whole = whole.iter().all(|shard| shards(desk).contains(shard));
    if lie == Lie::Catalog {
        // What the catalog lost is on the backends.
        assert!(is_whole, "{when}");
        expect_one_of(desk, &[0, 1], &["list", "-q"], when);
        expect_one_of(desk, &[0], &["catalog", "rebuild", "-q"], when);
        look(desk, &Expected::exactly(after), when);
        return;
    }
    let codes: &[i32] = if is_whole { &[0] } else { &[3, 4] };
    let verified = expect_one_of(desk, codes, &["verify", "--json"], when).code;
    let _ = fs::remove_dir_all(desk.path("out"));
    let recovered = expect_one_of(desk, &[0, 1, 3, 4], &["recover", "--all", "-o", "out", "-q"], when).code;
    let back = files_below(desk, "out");
    for (name, bytes) in &back {
        assert!(after.get(name) == Some(bytes) || before.get(name) == Some(bytes), "{when}: {name} is wrong");
    }
    assert_eq!(verified == 4, back != *after, "{when}: what is lost is said, and nothing else: {recovered}");
    if verified != 4 {
        expect_one_of(desk, &[0], &["repair", "-q"], when);
        expect_one_of(desk, &[0], &["verify", "-q"], when);
        look(desk, &Expected::exactly(after), when);
    }
}

/// Every shard with its bytes.
fn shards(desk: &Desk) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = desk.shard_files().into_iter();
    files.map(|path| (path.clone(), fs::read(path).expect("a shard"))).collect()
}

#[test]
fn what_a_disk_lost_that_lied_about_its_syncs_is_found_by_verify() {
    if !can_trace() {
        return;
    }
    let budget = Budget::new(SAMPLE);
    let lies = (1..=5).map(Lie::Backend).chain([Lie::Shards, Lie::Catalog]);
    let arrived = [Arrived::Nothing, Arrived::Names, Arrived::Bytes, Arrived::Torn].into_iter();
    let arrived = arrived.chain((0..8).map(Arrived::Some));
    let cases: Vec<(Lie, Arrived)> = lies.flat_map(|lie| arrived.clone().map(move |arrived| (lie, arrived))).collect();
    let (mut tried, mut total) = (0, 0);
    for step in [Step::Put, Step::Overwrite] {
        let play = Play::of(&[step]);
        total += cases.len();
        for (lie, arrived) in budget.part(2, SAMPLE).choose(cases.clone()) {
            tried += 1;
            lies_are_found(&play, lie, arrived, &format!("{step:?}, {lie:?}, {arrived:?}"));
        }
    }
    budget.say(&format!("states after lies about syncs: {tried} of {total} tried"));
}
