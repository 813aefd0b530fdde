//! The operations on simulated places, with a clock and randomness of the simulation's own: everything follows from a seed.
//!
//! Two modes. *Within* what parity makes up for, all must come back to full health. *Unlimited*, anything may be lost, and
//! nothing may be handed out that was not put. A schedule that fails prints its seed, with which it can be had again alone:
//! `SHARD_TEST_SCHEDULE=within:SEED cargo test --test it simulation -- --nocapture`.

mod harm;
mod machine;
mod model;
mod place;
mod schedule;
mod settle;
mod turns;
mod weather;
mod writer;

use crate::soak::{self, Dice};
use schedule::{Counts, Mode, Outcome, Schedule};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many schedules of each mode every run of the tests has, and how many `just soak`.
const SAMPLE: u64 = 60;
const SOAK: u64 = 50_000;
/// How many run at once for each processor.
const AT_ONCE: usize = 4;
/// For so many seconds each mode goes on, where this is given, and then says how many that were.
const SECONDS: &str = "SHARD_SIMULATION_SECONDS";
/// One schedule, to be had again: `within:SEED` or `unlimited:SEED`.
const ONE: &str = "SHARD_TEST_SCHEDULE";

/// Seeds that found something once, and what.
const FOUND: [(Mode, u64, &str); 6] = [
    (Mode::Within, 6_714_706_126_004_488_349, "a shard with a copy too many was never moved to a better place"),
    (Mode::Within, 7_530_933_279_881_462_861, "a rebuild without a backend left what that one had for ever unknown"),
    (Mode::Within, 8_361_938_001_518_449_354, "who rebuilt without the only place of a version was held to know it"),
    (Mode::Within, 5_195_997_313_403_726_296, "what was packed anew and has k shards left was taken for unfinished"),
    (Mode::Within, 4_174_282_479_083_001_011, "a copy that waited for deletion was the last, and went"),
    (Mode::Within, 3_195_740_633_996_059_654, "a copy that waited for deletion was the last, and went"),
];

/// What is to be run.
struct Plan {
    mode: Mode,
    seed: u64,
    schedules: u64,
    time: Option<Duration>,
}

impl Plan {
    fn of(mode: Mode) -> Self {
        let time = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let schedules = match time {
            None if !soak::is_asked_for() => SAMPLE,
            _ => SOAK,
        };
        Self { mode, seed: soak::seed(), schedules, time }
    }

    /// Several for each processor run at once, as their threads mostly wait for one another. Gives the first complaints with
    /// the seeds they came of.
    fn run(&self) -> (Counts, Vec<(u64, Outcome)>) {
        let (begun, next) = (Instant::now(), AtomicU64::new(0));
        let is_over = || self.time.is_some_and(|time| begun.elapsed() > time);
        let work = || {
            let (mut counts, mut complaints) = (Counts::default(), Vec::new());
            while !is_over() && complaints.len() < 3 {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.schedules {
                    break;
                }
                let seed = seed_of(self.seed, number);
                let outcome = run_one(self.mode, seed);
                counts += outcome.counts;
                if outcome.complaint.is_some() {
                    complaints.push((seed, outcome));
                }
            }
            (counts, complaints)
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from) * AT_ONCE;
        let (mut counts, mut complaints) = (Counts::default(), Vec::new());
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for (more, found) in running.into_iter().map(|thread| thread.join().expect("it ends")) {
                counts += more;
                complaints.extend(found);
            }
        });
        (counts, complaints)
    }
}

fn seed_of(seed: u64, number: u64) -> u64 {
    Dice::new(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).next()
}

/// A panic is a complaint like any other.
fn run_one(mode: Mode, seed: u64) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| Schedule::run(mode, seed))).unwrap_or_else(|panic| {
        let said =
            panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let complaint = Some(format!("a panic: {}", said.unwrap_or_default()));
        Outcome { counts: Counts { schedules: 1, ..Counts::default() }, trace: 0, story: Vec::new(), complaint }
    })
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Within => "within",
        Mode::Unlimited => "unlimited",
    }
}

/// What is to be said of a schedule that failed.
fn told(mode: Mode, (seed, outcome): &(u64, Outcome)) -> String {
    let complaint = outcome.complaint.as_deref().unwrap_or("nothing");
    format!("{ONE}={}:{seed}\n{complaint}\n{}\n", mode_name(mode), outcome.story.join("\n"))
}

#[expect(clippy::print_stdout, reason = "how much was tried belongs to the result")]
fn hold(mode: Mode) {
    let one = std::env::var(ONE).ok();
    let asked = one.as_deref().and_then(|text| text.split_once(':'));
    if let Some((which, seed)) = asked {
        if which == mode_name(mode) {
            let seed = seed.parse().expect("a seed");
            let outcome = run_one(mode, seed);
            println!("{}", told(mode, &(seed, outcome.clone())));
            assert_eq!(outcome.complaint, None);
        }
        return;
    }
    let begun = Instant::now();
    let (counts, complaints) = Plan::of(mode).run();
    println!("{} in {:.1} s: {counts:?}", mode_name(mode), begun.elapsed().as_secs_f64());
    let told: Vec<_> = complaints.iter().map(|complaint| told(mode, complaint)).collect();
    assert!(told.is_empty(), "{} of {} schedules failed\n{}", told.len(), counts.schedules, told.join("\n"));
    assert!(counts.recovered > counts.schedules && counts.deaths + counts.faults + counts.harms > counts.schedules);
}

#[test]
fn within_what_parity_makes_up_for_every_schedule_ends_in_full_health() {
    hold(Mode::Within);
}

#[test]
fn no_schedule_hands_out_a_wrong_byte_whatever_goes_wrong() {
    hold(Mode::Unlimited);
}

#[test]
fn a_schedule_follows_from_its_seed() {
    let seed = soak::seed();
    for mode in [Mode::Within, Mode::Unlimited] {
        for number in 0..4 {
            let seed = seed_of(seed, number);
            let (one, other) = (run_one(mode, seed), run_one(mode, seed));
            assert_eq!(one, other, "{}:{seed}", mode_name(mode));
        }
    }
}

#[test]
fn a_simulation_notices_when_more_is_lost_than_it_may() {
    let seed = soak::seed();
    // About one in ten loses what it must not; as many are tried as it takes.
    let mut noticed = (0..500).map(|number| Schedule::run_beyond_limits(seed_of(seed, number)));
    assert!(noticed.any(|outcome| outcome.complaint.is_some()));
}

#[test]
fn seeds_that_found_something_find_it_no_more() {
    for (mode, seed, what) in FOUND {
        let outcome = run_one(mode, seed);
        assert_eq!(outcome.complaint, None, "{what}\n{}", told(mode, &(seed, outcome.clone())));
    }
}
