//! Which call has its turn when.

use shard::backend::Operation;
use shard::id::ShardId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// A call: of which place, what, and the how manyth it is of its like.
pub(super) type Call = (usize, Operation, Option<ShardId>, u64);

/// The runtime's timers know no less.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The calls of one process.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Those that have no turn yet, by the moment they were made at, with how long they take.
    waiting: BTreeMap<Instant, BTreeMap<Call, Duration>>,
    given: BTreeMap<Call, Instant>,
    taken: BTreeSet<Instant>,
}

impl Turns {
    pub(super) fn wait(&mut self, now: Instant, call: Call, takes: Duration) {
        self.waiting.entry(now).or_default().insert(call, takes);
    }

    /// When a call that was made at a moment has its turn; asked a tick later. No two have it at once, and who has it first
    /// follows from what they are, not from who was first: threads make calls of one moment in any order.
    pub(super) fn turn_of(&mut self, now: Instant, call: Call) -> Instant {
        for (call, takes) in self.waiting.remove(&now).into_iter().flatten() {
            let mut turn = now + TICK + takes;
            while !self.taken.insert(turn) {
                turn += TICK;
            }
            self.given.insert(call, turn);
        }
        self.given.remove(&call).unwrap_or(now)
    }
}
