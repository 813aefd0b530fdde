//! How much of a harness is run: a sample, what fits into a time, or everything; always said, with the seed.

use crate::soak::{self, Dice};
use std::time::{Duration, Instant};

/// For each harness, or each of its parts, how long it may take.
const SECONDS_NAME: &str = "SHARD_FAULT_SECONDS";

/// What a harness may still try.
pub(crate) struct Budget {
    seed: u64,
    begun: Instant,
    limit: Limit,
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    Sample(usize),
    Time(Duration),
    Everything,
}

impl Budget {
    /// Everything when `just soak` asks, what fits into a time where one is given, else a sample of so many.
    pub(crate) fn new(sample: usize) -> Self {
        let given = std::env::var(SECONDS_NAME).ok().and_then(|text| text.parse().ok());
        let limit = match given {
            Some(seconds) => Limit::Time(Duration::from_secs(seconds)),
            None if soak::is_asked_for() => Limit::Everything,
            None => Limit::Sample(sample),
        };
        Self { seed: soak::seed(), begun: Instant::now(), limit }
    }

    /// For one of so many parts of a harness: its share of the time, or a sample of its own.
    pub(crate) fn part(&self, parts: u32, sample: usize) -> Self {
        let limit = match self.limit {
            Limit::Sample(_) => Limit::Sample(sample),
            Limit::Time(time) => Limit::Time(time / parts),
            Limit::Everything => Limit::Everything,
        };
        Self { seed: self.seed, begun: Instant::now(), limit }
    }

    /// Whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        matches!(self.limit, Limit::Everything)
    }

    /// Chance that follows from the seed.
    pub(crate) fn dice(&self) -> Dice {
        Dice::new(self.seed)
    }

    /// The cases in an order that chance gives, the first of them at once and the others while there is room.
    pub(crate) fn choose<T>(&self, mut cases: Vec<T>) -> impl Iterator<Item = T> + use<T> {
        let (begun, limit, mut dice) = (self.begun, self.limit, self.dice());
        let mut taken = 0;
        std::iter::from_fn(move || {
            let goes_on = match limit {
                Limit::Sample(count) => taken < count,
                Limit::Time(time) => taken == 0 || begun.elapsed() < time,
                Limit::Everything => true,
            };
            taken += 1;
            (goes_on && !cases.is_empty()).then(|| cases.swap_remove(dice.below(cases.len())))
        })
    }

    /// What was tried belongs to the result.
    #[expect(clippy::print_stdout, reason = "how much was tried belongs to the result")]
    pub(crate) fn say(&self, what: &str) {
        println!("{what} (SHARD_TEST_SEED={}, {} s)", self.seed, self.begun.elapsed().as_secs());
    }
}
