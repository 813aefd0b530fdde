//! Patience with a place that fails for a while, and its limits.

use super::dice::Dice;
use super::{
    Backend, BackendStats, Error, ErrorKind, ListPage, Mark, Result, ScrubPage, ShardChallenge, ShardWriter,
    ShownBlock, shard_name,
};
use crate::id::ShardId;
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One try of an operation on one shard, or of one page: it moves at most some megabytes.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// One try of counting everything that is there.
pub const STATS_TIMEOUT: Duration = Duration::from_secs(300);
/// One write or finish: a disk that wakes up, or a last part and an fsync of hundreds of megabytes.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(120);
/// All tries of one operation, with the waits between them; counting has its own time on top.
pub const DEADLINE: Duration = Duration::from_secs(90);
/// The wait before the second try; it doubles from try to try.
pub const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The wait does not grow beyond this.
pub const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// So many tries at most.
pub const MAX_ATTEMPTS: u32 = 6;

/// How patient a [`RetryBackend`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOptions {
    /// One try; see [`ATTEMPT_TIMEOUT`].
    pub attempt_timeout: Duration,
    /// One try of `stats`; see [`STATS_TIMEOUT`].
    pub stats_timeout: Duration,
    /// One `write` or `finish`, which are not tried again; see [`WRITE_TIMEOUT`].
    pub write_timeout: Duration,
    /// All tries together; see [`DEADLINE`].
    pub deadline: Duration,
    /// The wait before the second try; see [`FIRST_DELAY`].
    pub first_delay: Duration,
    /// The longest wait; see [`LONGEST_DELAY`].
    pub longest_delay: Duration,
    /// The most tries; see [`MAX_ATTEMPTS`].
    pub max_attempts: u32,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            attempt_timeout: ATTEMPT_TIMEOUT,
            stats_timeout: STATS_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            deadline: DEADLINE,
            first_delay: FIRST_DELAY,
            longest_delay: LONGEST_DELAY,
            max_attempts: MAX_ATTEMPTS,
        }
    }
}

impl RetryOptions {
    /// The wait after a try, numbered from 0: twice the one before, up to the longest, and of that a random half to the
    /// whole, so that many waiting for one place do not come back at the same moment.
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        let doubled = self.first_delay.saturating_mul(2_u32.saturating_pow(attempt)).min(self.longest_delay);
        let half = doubled / 2;
        let span_ns = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(Dice::new(random).below(span_ns.saturating_add(1)))
    }
}

/// Tries again what failed in a way that may pass, and gives up on what does not answer.
///
/// A place that did not answer in time is [`ErrorKind::Unreachable`]. Beginning a shard is tried again, `write` and
/// `finish` are not: whoever holds the bytes begins anew.
#[derive(Debug, Clone)]
pub struct RetryBackend {
    inner: Arc<dyn Backend>,
    place: String,
    options: RetryOptions,
    chance: fn() -> u64,
}

impl RetryBackend {
    /// Wraps a backend; `place` is what errors call it.
    pub fn new(inner: Arc<dyn Backend>, place: impl Into<String>, options: RetryOptions) -> Self {
        // Without the system's randomness all wait the same; that is no reason to fail.
        let chance = || getrandom::u64().unwrap_or(0);
        Self { inner, place: place.into(), options, chance }
    }

    /// With other numbers to draw the waits from: for simulations, which must come out the same again.
    #[must_use]
    pub fn drawing_from(self, chance: fn() -> u64) -> Self {
        Self { chance, ..self }
    }

    async fn on_shard<T, F>(&self, verb: &str, shard: ShardId, operation: impl Fn() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        self.patiently(&format!("{verb} {}", shard_name(shard)), self.options.attempt_timeout, operation).await
    }

    async fn patiently<T, F>(&self, doing: &str, timeout: Duration, operation: impl Fn() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let begun = Instant::now();
        let deadline = self.options.deadline.max(timeout);
        let mut attempt = 0;
        loop {
            let left = deadline.saturating_sub(begun.elapsed());
            let error = match tokio::time::timeout(timeout.min(left), operation()).await {
                Ok(Err(error)) if error.kind == ErrorKind::Transient => error,
                Ok(outcome) => return outcome,
                Err(_) => no_answer(&format!("{doing} at {}", self.place), timeout.min(left)),
            };
            let delay = self.options.delay(attempt, (self.chance)());
            attempt += 1;
            if attempt >= self.options.max_attempts || begun.elapsed() + delay >= deadline {
                return Err(gave_up(error, attempt));
            }
            tracing::debug!(place = self.place, attempt, ?delay, %error, "trying again");
            tokio::time::sleep(delay).await;
        }
    }

    fn timed(&self, shard: ShardId, writer: Box<dyn ShardWriter>) -> Box<dyn ShardWriter> {
        let doing = format!("writing {} at {}", shard_name(shard), self.place);
        Box::new(TimedWriter { inner: Some(writer), doing, timeout: self.options.write_timeout })
    }
}

fn no_answer(doing: &str, timeout: Duration) -> Error {
    Error::with_source(ErrorKind::Unreachable, doing, format!("no answer within {timeout:?}"))
}

fn gave_up(mut error: Error, attempts: u32) -> Error {
    if attempts > 1 {
        error.doing = format!("{} ({attempts} tries)", error.doing);
    }
    error
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Backend for RetryBackend {
    async fn create(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        let writer = self.on_shard("creating", shard, || self.inner.create(shard)).await?;
        Ok(self.timed(shard, writer))
    }

    async fn replace(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        let writer = self.on_shard("replacing", shard, || self.inner.replace(shard)).await?;
        Ok(self.timed(shard, writer))
    }

    async fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
        self.on_shard("reading", shard, || self.inner.read(shard, range.clone())).await
    }

    async fn head(&self, shard: ShardId) -> Result<u64> {
        self.on_shard("looking for", shard, || self.inner.head(shard)).await
    }

    async fn delete(&self, shard: ShardId) -> Result<()> {
        self.on_shard("deleting", shard, || self.inner.delete(shard)).await
    }

    async fn list(&self, after: Option<ShardId>) -> Result<ListPage> {
        self.patiently("listing", self.options.attempt_timeout, || self.inner.list(after)).await
    }

    async fn stats(&self) -> Result<BackendStats> {
        self.patiently("counting", self.options.stats_timeout, || self.inner.stats()).await
    }

    async fn room(&self) -> Result<Option<u64>> {
        self.patiently("asking for the room", self.options.stats_timeout, || self.inner.room()).await
    }

    async fn read_mark(&self) -> Result<Option<Mark>> {
        self.patiently("reading the mark", self.options.attempt_timeout, || self.inner.read_mark()).await
    }

    async fn write_mark(&self, mark: &Mark) -> Result<()> {
        self.patiently("writing the mark", self.options.attempt_timeout, || self.inner.write_mark(mark)).await
    }

    async fn clear_unfinished(&self, shard: ShardId) -> Result<u64> {
        self.on_shard("clearing", shard, || self.inner.clear_unfinished(shard)).await
    }

    async fn challenge(&self, shard: ShardId, challenge: &ShardChallenge) -> Result<Option<Vec<ShownBlock>>> {
        self.on_shard("challenging", shard, || self.inner.challenge(shard, challenge)).await
    }

    async fn scrub(&self, after: Option<ShardId>) -> Result<Option<ScrubPage>> {
        self.patiently("scrubbing", self.options.stats_timeout, || self.inner.scrub(after)).await
    }

    /// Once: nothing depends on it.
    async fn tell_damage(&self, shard_count: u64, shards: &[ShardId]) -> Result<()> {
        self.inner.tell_damage(shard_count, shards).await
    }
}

struct TimedWriter {
    /// Away once a write did not come back in time: what it did is not known.
    inner: Option<Box<dyn ShardWriter>>,
    doing: String,
    timeout: Duration,
}

impl TimedWriter {
    fn take(&mut self) -> Result<Box<dyn ShardWriter>> {
        let after = || Error::new(ErrorKind::Failed, format!("{} after a write without an answer", self.doing));
        self.inner.take().ok_or_else(after)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ShardWriter for TimedWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut inner = self.take()?;
        match tokio::time::timeout(self.timeout, inner.write(bytes)).await {
            Ok(outcome) => {
                self.inner = Some(inner);
                outcome
            }
            Err(_) => Err(no_answer(&self.doing, self.timeout)),
        }
    }

    async fn finish(mut self: Box<Self>) -> Result<u64> {
        let inner = self.take()?;
        match tokio::time::timeout(self.timeout, inner.finish()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(no_answer(&self.doing, self.timeout)),
        }
    }

    async fn abort(mut self: Box<Self>) {
        if let Ok(inner) = self.take() {
            // Nothing depends on the answer: what it leaves is cleared with the unfinished.
            let _ = tokio::time::timeout(self.timeout, inner.abort()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Effect, Fault, FaultyBackend, MemoryBackend, Operation, When, contract};
    use super::*;
    use crate::id::ObjectId;

    const SHARD: ShardId = ShardId { object: ObjectId([5; ObjectId::BYTES]), index: 0 };

    /// Short enough for a test in which something never answers; nothing that answers is that slow.
    fn hasty() -> RetryOptions {
        RetryOptions {
            attempt_timeout: Duration::from_millis(40),
            stats_timeout: Duration::from_millis(40),
            write_timeout: Duration::from_millis(40),
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(2),
            max_attempts: 4,
            ..RetryOptions::default()
        }
    }

    fn faulty(operation: Operation, when: When, effect: Effect) -> (FaultyBackend, RetryBackend) {
        let faulty = FaultyBackend::new(Arc::new(MemoryBackend::new()), 1);
        faulty.inject(Fault::new(operation, when, effect));
        (faulty.clone(), RetryBackend::new(Arc::new(faulty), "nas", hasty()))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn with_patience_it_keeps_the_contract() {
        let patient = || RetryBackend::new(Arc::new(MemoryBackend::new()), "memory", RetryOptions::default());
        contract::all(async || Arc::new(patient()) as Arc<dyn Backend>).await;
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread_over_their_upper_half() {
        let options = RetryOptions::default();
        let mut distinct = std::collections::BTreeSet::new();
        for attempt in 0..40 {
            let whole = (FIRST_DELAY * 2_u32.saturating_pow(attempt).min(1 << 20)).min(LONGEST_DELAY);
            for random in 0..50 {
                let delay = options.delay(attempt, random);
                assert!(delay >= whole / 2 && delay <= whole, "try {attempt}: {delay:?} of {whole:?}");
                distinct.insert(delay);
            }
        }
        assert!(distinct.len() > 300, "only {} different waits", distinct.len());
    }

    #[tokio::test]
    async fn what_passes_is_tried_again_and_what_does_not_is_given_up() {
        let refuse = |kind| Effect::Refuse(kind);
        let (faulty_head, backend) = faulty(Operation::Stats, When::Nth(1), refuse(ErrorKind::Transient));
        backend.stats().await.expect("the second try");
        assert_eq!(faulty_head.calls(Operation::Stats), 2);
        let (always, backend) = faulty(Operation::Head, When::Always, refuse(ErrorKind::Transient));
        let error = backend.head(SHARD).await.expect_err("never");
        assert_eq!(error.kind, ErrorKind::Transient);
        assert!(error.to_string().contains("4 tries"), "{error}");
        assert_eq!(always.calls(Operation::Head), 4);
        for kind in [ErrorKind::NotFound, ErrorKind::Denied, ErrorKind::Failed, ErrorKind::Unreachable] {
            let (once, backend) = faulty(Operation::Head, When::Always, refuse(kind));
            assert_eq!(backend.head(SHARD).await.expect_err("never").kind, kind);
            assert_eq!(once.calls(Operation::Head), 1, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_place_that_does_not_answer_is_unreachable_and_never_missing() {
        let (hanging, backend) = faulty(Operation::Head, When::Always, Effect::Hang);
        let error = backend.head(SHARD).await.expect_err("no answer");
        assert_eq!(error.kind, ErrorKind::Unreachable);
        assert!(error.to_string().contains("at nas (4 tries)"), "{error}");
        assert_eq!(hanging.calls(Operation::Head), 4);
        let (_, backend) = faulty(Operation::Head, When::Nth(1), Effect::Hang);
        assert_eq!(backend.head(SHARD).await.expect_err("an answer").kind, ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn the_deadline_ends_the_tries() {
        let (faulty, _) = faulty(Operation::Head, When::Always, Effect::Refuse(ErrorKind::Transient));
        let hour = Duration::from_secs(3600);
        let options = RetryOptions { first_delay: hour, longest_delay: hour, ..hasty() };
        let backend = RetryBackend::new(Arc::new(faulty.clone()), "nas", options);
        assert_eq!(backend.head(SHARD).await.expect_err("never").kind, ErrorKind::Transient);
        assert_eq!(faulty.calls(Operation::Head), 1, "the wait alone is longer than the deadline");
    }

    #[tokio::test]
    async fn beginning_is_tried_again_and_writing_is_not() {
        let (begun, backend) = faulty(Operation::Create, When::Nth(1), Effect::Refuse(ErrorKind::Transient));
        drop(backend.create(SHARD).await.expect("the second try"));
        assert_eq!(begun.calls(Operation::Create), 2);
        for operation in [Operation::Write, Operation::Finish] {
            for effect in [Effect::Hang, Effect::Refuse(ErrorKind::Transient)] {
                let (faulty, backend) = faulty(operation, When::Always, effect);
                let mut writer = backend.create(SHARD).await.expect("create");
                let written = writer.write(Bytes::from_static(b"x")).await;
                let outcome = if operation == Operation::Write { written } else { writer.finish().await.map(drop) };
                let expected = if effect == Effect::Hang { ErrorKind::Unreachable } else { ErrorKind::Transient };
                assert_eq!(outcome.expect_err("refused").kind, expected, "{operation:?}, {effect:?}");
                assert_eq!(faulty.calls(operation), 1);
                assert_eq!(backend.head(SHARD).await.expect_err("nothing of it").kind, ErrorKind::NotFound);
            }
        }
    }

    #[tokio::test]
    async fn after_a_write_without_an_answer_nothing_more_goes_through() {
        let (_, backend) = faulty(Operation::Write, When::Nth(1), Effect::Hang);
        let mut writer = backend.create(SHARD).await.expect("create");
        writer.write(Bytes::from_static(b"x")).await.expect_err("no answer");
        assert_eq!(writer.write(Bytes::from_static(b"y")).await.expect_err("after it").kind, ErrorKind::Failed);
        assert_eq!(writer.finish().await.expect_err("after it").kind, ErrorKind::Failed);
    }
}
