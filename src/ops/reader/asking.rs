//! Asks places for blocks: as few as are needed, and others as well where one keeps the reader waiting.
//!
//! A place that answers far later than its like is not waited for while others could give as many blocks (a *hedged read*:
//! Dean and Barroso, "The Tail at Scale", 2013). What late means is measured: several times what answers take in this
//! object.

use super::stripes::{BlockState, StripeBlocks, Wanted, merge};
use super::{ReadError, Shared};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// An answer is late when it takes so many times as long as answers take.
const LATE_FACTOR: u32 = 4;
/// No answer is late before this: a disk that is busy with other things is no worse than another read.
const SOONEST_LATE: Duration = Duration::from_millis(100);
/// Before any answer was measured, one is late after this.
const UNMEASURED_LATE: Duration = Duration::from_secs(2);
/// How much of the measure the newest answer makes: one part in so many.
const NEWEST_SHARE: u64 = 8;

/// How long answers take: a moving average.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, u64::from(u32::MAX));
        let average = match self.0.load(Ordering::Relaxed) {
            0 => took,
            earlier => (earlier * (NEWEST_SHARE - 1) + took) / NEWEST_SHARE,
        };
        // Of two at once one may go uncounted: it is an estimate.
        self.0.store(average, Ordering::Relaxed);
    }

    /// After how long an answer is late.
    fn patience(&self) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            0 => UNMEASURED_LATE,
            average => (Duration::from_micros(average) * LATE_FACTOR).max(SOONEST_LATE),
        }
    }
}

/// A question that was not answered yet.
struct Question {
    place: usize,
    stripes: Vec<u64>,
    asked: Instant,
}

/// The questions that are under way, by number.
struct Questions {
    open: BTreeMap<usize, Question>,
    count: usize,
    /// For how long each is waited for before others are asked as well; `None`: to the end.
    patience: Option<Duration>,
}

impl Questions {
    fn begin(&mut self, place: usize, stripes: Vec<u64>) -> usize {
        self.count += 1;
        self.open.insert(self.count, Question { place, stripes, asked: Instant::now() });
        self.count
    }

    fn is_late(&self, question: &Question, now: Instant) -> bool {
        self.patience.is_some_and(|patience| now.duration_since(question.asked) >= patience)
    }

    /// The places that were asked for this stripe's block, and whether the answer is late.
    fn about(&self, stripe_index: u64, now: Instant) -> impl Iterator<Item = (usize, bool)> {
        let about = self.open.values().filter(move |question| question.stripes.contains(&stripe_index));
        about.map(move |question| (question.place, self.is_late(question, now)))
    }

    /// When the next one will be late.
    fn next_late(&self, now: Instant) -> Option<Instant> {
        let in_time = self.open.values().filter(|question| !self.is_late(question, now));
        Some(in_time.map(|question| question.asked).min()? + self.patience?)
    }
}

impl Shared {
    /// Reads until every stripe has what is wanted or no place is left that could give more. Leaves that do not verify
    /// as they are stored are not resolved here.
    pub(super) async fn fill(&self, chunk: &mut [StripeBlocks], wanted: Wanted) -> Result<(), ReadError> {
        let mut questions = Questions { open: BTreeMap::new(), count: 0, patience: None };
        let mut answers = FuturesUnordered::new();
        let order = self.order();
        loop {
            questions.patience = (wanted == Wanted::Enough).then(|| self.pace.patience());
            for (place, stripes) in self.requests(chunk, wanted, (&order, &questions)) {
                let number = questions.begin(place, stripes.clone());
                answers.push(async move { (number, self.ask(place, stripes).await) });
            }
            let is_enough = wanted == Wanted::Enough && self.first_short(chunk).is_none();
            if is_enough || answers.is_empty() {
                break;
            }
            let answer = match questions.next_late(Instant::now()) {
                Some(late) => tokio::time::timeout_at(late, answers.next()).await,
                None => Ok(answers.next().await),
            };
            // Somebody is late: others are asked.
            let Ok(Some((number, answer))) = answer else { continue };
            let (place, outcomes) = answer?;
            if let Some(question) = questions.open.remove(&number) {
                self.pace.note(question.asked.elapsed());
            }
            for (stripe_index, block) in outcomes {
                merge(chunk, place, (stripe_index, block));
            }
        }
        // What is still under way is not waited for, and asked later from now on.
        questions.open.values().for_each(|question| self.places[question.place].note_late());
        Ok(())
    }

    /// What to ask of which place next.
    fn requests(
        &self,
        chunk: &[StripeBlocks],
        wanted: Wanted,
        (order, questions): (&[usize], &Questions),
    ) -> BTreeMap<usize, Vec<u64>> {
        let now = Instant::now();
        let mut requests: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for stripe in chunk {
            let mut have: BTreeSet<u8> =
                (0..=u8::MAX).zip(&stripe.blocks).filter(|(_, b)| b.is_some()).map(|(i, _)| i).collect();
            let mut asked = BTreeSet::new();
            for (place, is_late) in questions.about(stripe.stripe_index, now) {
                asked.insert(place);
                if !is_late {
                    have.insert(self.places[place].at.index);
                }
            }
            for place in order {
                let index = self.places[*place].at.index;
                let enough = wanted == Wanted::Enough && (have.len() >= self.data_shards() || have.contains(&index));
                let known = stripe.states[*place] != BlockState::Unread || asked.contains(place);
                if enough || known || !self.may_give(*place) {
                    continue;
                }
                have.insert(index);
                requests.entry(*place).or_default().push(stripe.stripe_index);
            }
        }
        requests
    }

    /// The places in the order in which they are asked: data shards first, those that were late after them, those that keep
    /// failing last.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<(bool, bool, u8, usize)> = (0..self.places.len())
            .map(|number| {
                let place = &self.places[number];
                (place.goes_last(), place.was_late(), place.at.index, number)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, _, number)| number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_late_means_follows_what_answers_take() {
        let pace = Pace::default();
        assert_eq!(pace.patience(), UNMEASURED_LATE);
        pace.note(Duration::from_micros(10));
        assert_eq!(pace.patience(), SOONEST_LATE);
        (0..100).for_each(|_| pace.note(Duration::from_secs(1)));
        assert!((Duration::from_millis(3900)..=Duration::from_secs(4)).contains(&pace.patience()));
        pace.note(Duration::MAX);
        assert!(pace.patience() < Duration::from_secs(3 * 3600));
    }
}
