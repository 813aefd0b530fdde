//! The power goes while the first put on a machine makes its store.

use super::disk::Disk;
use super::oracle::{Expected, expect_one_of, is_whole_and_tidy, look};
use super::power::{acknowledged, cases};
use super::record::Recorder;
use super::stages::Files;
use super::{Budget, Ended, can_trace, run};
use crate::desk::{Desk, noise};
use std::collections::BTreeSet;

/// How many states are tried where everything is not asked for.
const SAMPLE: usize = 6;
const PUT: [&str; 5] = ["put", "first", "-q", "--level", "minimal"];

#[test]
fn power_that_goes_in_the_first_put_of_a_machine_leaves_a_store_or_none_and_the_put_can_be_done_again() {
    if !can_trace() {
        return;
    }
    let (desk, mut recorder) = (Desk::in_memory(), Recorder::default());
    let files = Files::from([("first".to_owned(), noise(4_000, 1))]);
    desk.file("first", &files["first"]);
    let mut disk = Disk::of(desk.home());
    let traced = run(&desk, &PUT, &mut recorder);
    assert_eq!(traced.ended, Ended::Exit(0), "{}", traced.stderr);
    let (events, budget) = (recorder.events, Budget::new(SAMPLE));
    let all = cases(&events);
    let (before, total, mut tried, mut seen) = (disk.clone(), all.len() + 1, 0, BTreeSet::new());
    for case in std::iter::once(acknowledged(&events)).chain(budget.choose(all)) {
        disk = before.clone();
        events[..case.at].iter().for_each(|event| disk.apply(event));
        let (remains, is_over) = (disk.crash(case.arrived), case.at == events.len());
        tried += 1;
        if !seen.insert((is_over, *remains.digest().as_bytes())) {
            continue;
        }
        remains.write();
        let last = events.get(case.at.wrapping_sub(1));
        let when = format!("the first put, {case:?} of {}, after {last:?}", events.len());
        if is_over {
            look(&desk, &Expected::exactly(&files), &when);
        }
        expect_one_of(&desk, &[0], &PUT, &when);
        look(&desk, &Expected::exactly(&files), &when);
        is_whole_and_tidy(&desk, &when);
    }
    budget.say(&format!("power-loss states of a first put: {tried} of {total} tried, {} distinct", seen.len()));
}

#[test]
fn what_is_left_of_making_a_store_that_is_there_goes_when_it_is_opened() {
    let desk = Desk::in_memory();
    desk.expect(0, &["init", "-q"]);
    let left = desk.store().join("init.lock");
    std::fs::write(&left, b"").expect("written");
    desk.expect(0, &["list"]);
    assert!(!left.exists());
}
