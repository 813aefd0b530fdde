//! A backend with faults, for the tests of anyone who uses backends: scripted, or drawn from a seed.
//!
//! It is written against the public trait and wraps any backend. What happens follows from the faults, the seed and the
//! order of the calls alone.
//!
//! ```
//! use shard::backend::{Effect, ErrorKind, Fault, FaultyBackend, MemoryBackend, Operation, When};
//! use std::sync::Arc;
//!
//! let backend = FaultyBackend::new(Arc::new(MemoryBackend::new()), 42);
//! backend.inject(Fault::new(Operation::Read, When::Nth(3), Effect::FlipBit));
//! backend.inject(Fault::new(Operation::Create, When::From(10), Effect::Refuse(ErrorKind::NoSpace)));
//! backend.die_after_bytes(1_000_000);
//! // … and later
//! backend.heal();
//! ```

use super::dice::Dice;
use super::{
    Backend, BackendStats, Error, ErrorKind, ListPage, Mark, Result, ScrubPage, ShardChallenge, ShardWriter,
    ShownBlock, shard_name,
};
use crate::id::ShardId;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Barrier;

/// What can be called on a backend or on its writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// [`Backend::create`].
    Create,
    /// [`Backend::replace`].
    Replace,
    /// [`ShardWriter::write`].
    Write,
    /// [`ShardWriter::finish`].
    Finish,
    /// [`Backend::read`].
    Read,
    /// [`Backend::head`].
    Head,
    /// [`Backend::delete`].
    Delete,
    /// [`Backend::list`].
    List,
    /// [`Backend::stats`].
    Stats,
    /// [`Backend::read_mark`].
    ReadMark,
    /// [`Backend::write_mark`].
    WriteMark,
    /// [`Backend::clear_unfinished`].
    ClearUnfinished,
}

/// On which calls of its operation a fault strikes. Calls are counted from 1, those of writers over all writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// On every call.
    Always,
    /// On one call.
    Nth(u64),
    /// On that call and all after it.
    From(u64),
    /// On so many of a thousand calls, drawn from the seed.
    PerMille(u16),
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The shard is not there: [`ErrorKind::NotFound`]; a listing leaves it out, and without a named shard is empty.
    Lose,
    /// One bit of what is read is wrong, the same whenever the same range is read again. A read of nothing stays as it is.
    FlipBit,
    /// The call takes this much longer.
    Delay(Duration),
    /// The call never comes back.
    Hang,
    /// The call fails.
    Refuse(ErrorKind),
    /// On `Create` or `Replace`: only so many bytes arrive, and `finish` says that all did.
    Tear(u64),
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// In which call.
    pub operation: Operation,
    /// On which of its calls.
    pub when: When,
    /// For this shard alone; for every one when `None`. For a listing, what [`Effect::Lose`] leaves out.
    pub shard: Option<ShardId>,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// A fault that strikes whatever shard the call is about.
    pub fn new(operation: Operation, when: When, effect: Effect) -> Self {
        Self { operation, when, shard: None, effect }
    }

    /// A fault of one shard.
    pub fn of_shard(self, shard: ShardId) -> Self {
        Self { shard: Some(shard), ..self }
    }
}

/// A backend that fails as it is told. Clones share faults and counts.
#[derive(Debug, Clone)]
pub struct FaultyBackend {
    inner: Arc<dyn Backend>,
    script: Arc<Script>,
}

impl FaultyBackend {
    /// Without a fault yet; the seed decides what is drawn.
    pub fn new(inner: Arc<dyn Backend>, seed: u64) -> Self {
        Self { inner, script: Arc::new(Script { seed, state: Mutex::default() }) }
    }

    /// Adds a fault to those there are.
    pub fn inject(&self, fault: Fault) {
        self.script.state().faults.push(fault);
    }

    /// Lets this many more bytes be written, over all shards; the write that would go beyond fails, and everything after
    /// it, with [`ErrorKind::Unreachable`].
    pub fn die_after_bytes(&self, bytes: u64) {
        self.script.state().bytes_to_live = Some(bytes);
    }

    /// From now on nothing is reached.
    pub fn go_dead(&self) {
        self.script.state().dead = true;
    }

    /// It is well again: no fault is left. What was torn or never written stays so.
    pub fn heal(&self) {
        let mut state = self.script.state();
        *state = State { calls: std::mem::take(&mut state.calls), ..State::default() };
    }

    /// How often an operation was called, refused calls included.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.script.state().calls.get(&operation).copied().unwrap_or(0)
    }

    /// Every call of an operation waits until as many as the barrier wants are there: to see what runs at the same time.
    pub fn wait_at(&self, operation: Operation, barrier: Arc<Barrier>) {
        self.script.state().barriers.insert(operation, barrier);
    }

    fn writer(&self, shard: ShardId, inner: Box<dyn ShardWriter>, faults: &[Effect]) -> Box<dyn ShardWriter> {
        let torn_at = faults.iter().find_map(|effect| match effect {
            Effect::Tear(bytes) => Some(*bytes),
            _ => None,
        });
        Box::new(FaultyWriter { inner, script: Arc::clone(&self.script), shard, torn_at, written_bytes: 0 })
    }
}

#[derive(Debug)]
struct Script {
    seed: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    calls: BTreeMap<Operation, u64>,
    barriers: BTreeMap<Operation, Arc<Barrier>>,
    bytes_to_live: Option<u64>,
    dead: bool,
}

impl Script {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, lets the faults that strike it delay or refuse it, and gives those left for the caller to apply.
    async fn strike(&self, operation: Operation, shard: Option<ShardId>) -> Result<Vec<Effect>> {
        let about = shard.map_or_else(|| "the place".to_owned(), shard_name);
        let doing = || format!("{operation:?} of {about} at a faulty backend");
        let (effects, barrier) = self.count(operation, shard);
        if let Some(barrier) = barrier {
            barrier.wait().await;
        }
        let mut left = Vec::new();
        for effect in effects {
            match effect {
                Effect::Delay(time) => tokio::time::sleep(time).await,
                Effect::Hang => std::future::pending().await,
                Effect::Refuse(kind) => return Err(Error::new(kind, doing())),
                Effect::Lose if operation != Operation::List => return Err(Error::new(ErrorKind::NotFound, doing())),
                Effect::Lose | Effect::FlipBit | Effect::Tear(_) => left.push(effect),
            }
        }
        match self.state().dead {
            true => Err(Error::new(ErrorKind::Unreachable, doing())),
            false => Ok(left),
        }
    }

    fn count(&self, operation: Operation, shard: Option<ShardId>) -> (Vec<Effect>, Option<Arc<Barrier>>) {
        let mut state = self.state();
        let calls = state.calls.entry(operation).or_default();
        *calls += 1;
        let call = *calls;
        let strikes = |(number, fault): (u64, &Fault)| match fault.when {
            When::Always => true,
            When::Nth(nth) => call == nth,
            When::From(first) => call >= first,
            When::PerMille(share) => {
                Dice::of(self.seed, &[number, operation as u64, call]).below(1000) < u64::from(share)
            }
        };
        let here = |fault: &Fault| {
            fault.operation == operation && (shard.is_none() || fault.shard.is_none() || fault.shard == shard)
        };
        let numbered = (0..).zip(&state.faults).filter(|(_, fault)| here(fault));
        let effects = numbered.filter(|numbered| strikes(*numbered)).map(|(_, fault)| fault.effect).collect();
        (effects, state.barriers.get(&operation).cloned())
    }

    /// Which shards listings leave out: `None` in it stands for all.
    fn lost_in_listings(&self) -> Vec<Option<ShardId>> {
        let state = self.state();
        let lost = |fault: &&Fault| fault.operation == Operation::List && fault.effect == Effect::Lose;
        state.faults.iter().filter(lost).map(|fault| fault.shard).collect()
    }

    /// Whether the place outlives the writing of these bytes.
    fn lives_through(&self, bytes: u64) -> bool {
        let mut state = self.state();
        match state.bytes_to_live.map(|left| left.checked_sub(bytes)) {
            None => true,
            Some(Some(left)) => {
                state.bytes_to_live = Some(left);
                true
            }
            Some(None) => {
                state.dead = true;
                false
            }
        }
    }

    fn flip_bit(&self, shard: ShardId, start: u64, bytes: &Bytes) -> Bytes {
        let object = u128::from_be_bytes(shard.object.0);
        let numbers = [object as u64, (object >> 64) as u64, u64::from(shard.index), start];
        let bit = Dice::of(self.seed, &numbers).below(bytes.len() as u64 * 8) as usize;
        let mut flipped = BytesMut::from(&bytes[..]);
        if let Some(byte) = flipped.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        flipped.freeze()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Backend for FaultyBackend {
    async fn create(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        let faults = self.script.strike(Operation::Create, Some(shard)).await?;
        Ok(self.writer(shard, self.inner.create(shard).await?, &faults))
    }

    async fn replace(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        let faults = self.script.strike(Operation::Replace, Some(shard)).await?;
        Ok(self.writer(shard, self.inner.replace(shard).await?, &faults))
    }

    async fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
        let faults = self.script.strike(Operation::Read, Some(shard)).await?;
        let (start, bytes) = (range.start, self.inner.read(shard, range).await?);
        Ok(if faults.contains(&Effect::FlipBit) { self.script.flip_bit(shard, start, &bytes) } else { bytes })
    }

    async fn head(&self, shard: ShardId) -> Result<u64> {
        self.script.strike(Operation::Head, Some(shard)).await?;
        self.inner.head(shard).await
    }

    async fn delete(&self, shard: ShardId) -> Result<()> {
        self.script.strike(Operation::Delete, Some(shard)).await?;
        self.inner.delete(shard).await
    }

    async fn list(&self, after: Option<ShardId>) -> Result<ListPage> {
        let faults = self.script.strike(Operation::List, None).await?;
        let mut page = self.inner.list(after).await?;
        if faults.contains(&Effect::Lose) {
            let lost = self.script.lost_in_listings();
            page.shards.retain(|listed| !lost.contains(&Some(listed.id)) && !lost.contains(&None));
        }
        Ok(page)
    }

    async fn stats(&self) -> Result<BackendStats> {
        self.script.strike(Operation::Stats, None).await?;
        self.inner.stats().await
    }

    async fn room(&self) -> Result<Option<u64>> {
        self.script.strike(Operation::Stats, None).await?;
        self.inner.room().await
    }

    async fn read_mark(&self) -> Result<Option<Mark>> {
        self.script.strike(Operation::ReadMark, None).await?;
        self.inner.read_mark().await
    }

    async fn write_mark(&self, mark: &Mark) -> Result<()> {
        self.script.strike(Operation::WriteMark, None).await?;
        self.inner.write_mark(mark).await
    }

    async fn clear_unfinished(&self, shard: ShardId) -> Result<u64> {
        self.script.strike(Operation::ClearUnfinished, Some(shard)).await?;
        self.inner.clear_unfinished(shard).await
    }

    /// What shows blocks reads them: the faults of reading strike.
    async fn challenge(&self, shard: ShardId, challenge: &ShardChallenge) -> Result<Option<Vec<ShownBlock>>> {
        let Some(mut shown) = self.inner.challenge(shard, challenge).await? else { return Ok(None) };
        if self.script.strike(Operation::Read, Some(shard)).await?.contains(&Effect::FlipBit) {
            shown.iter_mut().for_each(|shown| shown.block = self.script.flip_bit(shard, 0, &shown.block));
        }
        Ok(Some(shown))
    }

    async fn scrub(&self, after: Option<ShardId>) -> Result<Option<ScrubPage>> {
        self.inner.scrub(after).await
    }

    async fn tell_damage(&self, shard_count: u64, shards: &[ShardId]) -> Result<()> {
        self.inner.tell_damage(shard_count, shards).await
    }
}

struct FaultyWriter {
    inner: Box<dyn ShardWriter>,
    script: Arc<Script>,
    shard: ShardId,
    torn_at: Option<u64>,
    written_bytes: u64,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ShardWriter for FaultyWriter {
    async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        self.script.strike(Operation::Write, Some(self.shard)).await?;
        let length = bytes.len() as u64;
        if !self.script.lives_through(length) {
            let doing = format!("writing {} at a faulty backend", shard_name(self.shard));
            return Err(Error::new(ErrorKind::Unreachable, doing));
        }
        if let Some(torn_at) = self.torn_at {
            bytes.truncate(usize::try_from(torn_at.saturating_sub(self.written_bytes)).unwrap_or(usize::MAX));
        }
        self.written_bytes += length;
        self.inner.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<u64> {
        self.script.strike(Operation::Finish, Some(self.shard)).await?;
        self.inner.finish().await?;
        Ok(self.written_bytes)
    }

    async fn abort(self: Box<Self>) {
        self.inner.abort().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryBackend, contract};
    use super::*;
    use crate::id::ObjectId;

    fn shard(index: u8) -> ShardId {
        ShardId { object: ObjectId([3; ObjectId::BYTES]), index }
    }

    fn faulty(seed: u64) -> FaultyBackend {
        FaultyBackend::new(Arc::new(MemoryBackend::new()), seed)
    }

    async fn put(backend: &FaultyBackend, index: u8, length: usize) -> Result<u64> {
        let mut writer = backend.create(shard(index)).await?;
        writer.write(Bytes::from(vec![0; length])).await?;
        writer.finish().await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_faults_it_keeps_the_contract() {
        contract::all(async || Arc::new(faulty(1)) as Arc<dyn Backend>).await;
    }

    #[tokio::test]
    async fn faults_strike_the_calls_they_are_for_until_it_is_healed() {
        let backend = faulty(1);
        put(&backend, 0, 10).await.expect("put");
        backend.inject(Fault::new(Operation::Head, When::Nth(2), Effect::Refuse(ErrorKind::Denied)));
        backend.inject(Fault::new(Operation::Head, When::From(4), Effect::Lose));
        let mut kinds = Vec::new();
        for _ in 0..5 {
            kinds.push(backend.head(shard(0)).await.err().map(|error| error.kind));
        }
        let lost = Some(ErrorKind::NotFound);
        assert_eq!(kinds, [None, Some(ErrorKind::Denied), None, lost, lost]);
        backend.heal();
        assert_eq!(backend.head(shard(0)).await.expect("well again"), 10);
        assert_eq!(backend.calls(Operation::Head), 6);
    }

    #[tokio::test]
    async fn a_flipped_bit_is_one_bit_and_the_same_one_from_the_same_seed() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in [1, 2, 3, 1, 2, 3] {
            let backend = faulty(seed);
            put(&backend, 0, 1000).await.expect("put");
            backend.inject(Fault::new(Operation::Read, When::Always, Effect::FlipBit).of_shard(shard(0)));
            let read = backend.read(shard(0), 0..1000).await.expect("read");
            assert_eq!(read.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
            assert_eq!(backend.read(shard(0), 0..1000).await.expect("again"), read);
            seen.insert(read.to_vec());
            put(&backend, 1, 10).await.expect("put");
            assert_eq!(backend.read(shard(1), 0..10).await.expect("another shard"), vec![0; 10]);
            assert_eq!(backend.read(shard(0), 5..5).await.expect("nothing"), Bytes::new());
        }
        assert_eq!(seen.len(), 3);
    }

    #[tokio::test]
    async fn chances_follow_from_the_seed() {
        let run = async |seed| {
            let backend = faulty(seed);
            backend.inject(Fault::new(Operation::Stats, When::PerMille(300), Effect::Refuse(ErrorKind::Transient)));
            let mut failed = Vec::new();
            for _ in 0..200 {
                failed.push(backend.stats().await.is_err());
            }
            failed
        };
        let first = run(1).await;
        assert_eq!(first, run(1).await);
        assert_ne!(first, run(2).await);
        assert!((30..90).contains(&first.iter().filter(|failed| **failed).count()));
    }

    #[tokio::test]
    async fn a_torn_shard_is_short_and_said_to_be_whole() {
        let backend = faulty(1);
        backend.inject(Fault::new(Operation::Create, When::Nth(1), Effect::Tear(7)));
        assert_eq!(put(&backend, 0, 10).await.expect("said to be whole"), 10);
        assert_eq!(backend.head(shard(0)).await.expect("there"), 7);
        put(&backend, 1, 10).await.expect("put");
        assert_eq!(backend.head(shard(1)).await.expect("there"), 10);
    }

    #[tokio::test]
    async fn it_dies_with_the_byte_it_was_told_and_comes_back() {
        let backend = faulty(1);
        backend.die_after_bytes(15);
        put(&backend, 0, 10).await.expect("still alive");
        assert_eq!(put(&backend, 1, 6).await.expect_err("16 bytes").kind, ErrorKind::Unreachable);
        assert_eq!(backend.head(shard(0)).await.expect_err("dead").kind, ErrorKind::Unreachable);
        assert_eq!(backend.read_mark().await.expect_err("dead").kind, ErrorKind::Unreachable);
        backend.heal();
        assert_eq!(backend.head(shard(0)).await.expect("back"), 10);
        assert_eq!(backend.head(shard(1)).await.expect_err("never finished").kind, ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_lost_shard_is_left_out_of_listings() {
        let backend = faulty(1);
        for index in 0..3 {
            put(&backend, index, 1).await.expect("put");
        }
        let listed = async || backend.list(None).await.expect("list").shards.len();
        backend.inject(Fault::new(Operation::List, When::Always, Effect::Lose).of_shard(shard(1)));
        assert_eq!(listed().await, 2);
        backend.inject(Fault::new(Operation::List, When::Always, Effect::Lose));
        assert_eq!(listed().await, 0);
    }
}
