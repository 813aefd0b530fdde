//! What goes wrong in single calls, and how often.

use crate::soak::Dice;
use shard::backend::{ErrorKind, Operation};
use std::time::Duration;

/// How often what goes wrong, in so many of a thousand calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// Whether more may be lost than parity makes up for.
    pub(super) is_unlimited: bool,
    /// n, of the objects that are stored.
    pub(super) total_shards: usize,
    /// A call fails in a way that may pass, or for good, or the place does not answer it.
    pub(super) failures: usize,
    /// A call takes so long that it is given up.
    pub(super) hangs: usize,
    /// What is read has a flipped bit, this time.
    pub(super) flips: usize,
    /// A place says that it wrote a shard, and tore it, wrote it under another name or not at all.
    pub(super) lies: usize,
}

/// What a place did with a shard that it says it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// Only so many 256ths of it are there.
    Torn(u8),
    /// It took the place of another.
    Misdirected(u64),
    /// Nothing.
    Unwritten,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strike {
    pub(super) delay: Duration,
    pub(super) refused: Option<ErrorKind>,
    /// What is refused happened all the same.
    pub(super) takes_effect: bool,
    /// No answer comes.
    pub(super) hangs: bool,
    pub(super) flips: Option<u64>,
    pub(super) lie: Option<Lie>,
}

impl Weather {
    /// Nothing goes wrong.
    pub(super) const CALM: Self =
        Self { is_unlimited: false, total_shards: 0, failures: 0, hangs: 0, flips: 0, lies: 0 };

    /// The same limits, and nothing goes wrong.
    pub(super) fn calmed(self) -> Self {
        Self { is_unlimited: self.is_unlimited, total_shards: self.total_shards, ..Self::CALM }
    }

    /// Other rates, within the same limits.
    pub(super) fn changed(self, dice: &mut Dice) -> Self {
        let worst = if self.is_unlimited { 4 } else { 1 };
        let mut rate = |rates: [usize; 4]| rates[dice.below(4)] * worst;
        Self {
            failures: rate([0, 0, 10, 60]),
            hangs: rate([0, 0, 0, 5]),
            flips: rate([0, 0, 5, 20]),
            lies: rate([0, 0, 20, 60]),
            ..self
        }
    }

    /// Draws what becomes of a call.
    pub(super) fn strike(&self, operation: Operation, dice: &mut Dice) -> Strike {
        let longest_ms = if dice.below(50) == 0 { 5_000 } else { 40 };
        let delay = Duration::from_millis(1 + dice.below(longest_ms) as u64);
        let mut happens = |rate: usize| dice.below(1000) < rate;
        let (fails, hangs, flips, lies) =
            (happens(self.failures), happens(self.hangs), happens(self.flips), happens(self.lies));
        let kinds = [ErrorKind::Transient, ErrorKind::Transient, ErrorKind::Failed, ErrorKind::Unreachable];
        let refused = fails.then(|| kinds[dice.below(kinds.len())]);
        let takes_effect = dice.below(3) == 0 && matches!(operation, Operation::Finish | Operation::Delete);
        let lie = match dice.below(3) {
            0 => Lie::Torn(dice.below(256) as u8),
            1 => Lie::Misdirected(dice.next()),
            _ => Lie::Unwritten,
        };
        let lie = Some(lie).filter(|_| lies && operation == Operation::Finish);
        Strike { delay, refused, takes_effect, hangs, flips: flips.then(|| dice.next()), lie }
    }
}
