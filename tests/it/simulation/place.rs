//! Simulated places: what each keeps, what of it is as it was written, and what goes wrong, call by call.

use super::turns::{Call, TICK, Turns};
use super::weather::{Lie, Strike, Weather};
use super::writer::{SimulatedWriter, Written};
use crate::soak::Dice;
use async_trait::async_trait;
use bytes::Bytes;
use shard::backend::{
    Backend, BackendStats, Error, ErrorKind, ListPage, ListedShard, Mark, Operation, Result, ShardWriter,
};
use shard::id::{ObjectId, ShardId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Listings come in pages of so few, that most have several.
const PAGE_SHARDS: usize = 7;
/// Where a shard file says how many shards give its object back.
const DATA_SHARDS_AT: usize = 11;

/// What a place keeps.
pub(super) type Files = BTreeMap<ShardId, Bytes>;

/// Whether a place answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// It comes back as it was.
    Away,
    /// It does not come back.
    Gone,
}

/// One place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) files: Files,
    pub(super) mark: Option<Mark>,
    pub(super) presence: Presence,
    pub(super) is_full: bool,
    /// An earlier state, for when it is set back.
    pub(super) snapshot: Option<Files>,
    /// What writers that died left out of sight.
    pub(super) left: BTreeSet<ShardId>,
}

/// When a process dies: at so many calls that came through, before the last one took effect or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crash {
    pub(super) at_call: u64,
    pub(super) before: bool,
}

/// All places, and everything that is known of them from outside.
#[derive(Debug)]
pub(super) struct State {
    seed: u64,
    pub(super) places: Vec<Place>,
    pub(super) weather: Weather,
    /// Which process is at work; calls of any other are never answered.
    process: u64,
    /// How often each call was made by it.
    made: BTreeMap<(usize, Operation, Option<ShardId>), u64>,
    /// How many calls of it took effect.
    calls: u64,
    crash: Option<Crash>,
    died: Arc<Notify>,
    pub(super) is_dead: bool,
    /// Every shard as it was first written.
    pub(super) pristine: Files,
    /// Objects of which a place said that a shard was written, and it was not.
    pub(super) lied: BTreeSet<ObjectId>,
    /// Every object that could ever be read.
    pub(super) whole_once: BTreeSet<ObjectId>,
    /// How often anything on a place changed by a call.
    pub(super) changes: u64,
    pub(super) faults: u64,
    pub(super) trace: u64,
    turns: Turns,
    /// What must never happen, and did.
    pub(super) violations: Vec<String>,
}

/// All places; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct World(Arc<Mutex<State>>);

impl World {
    pub(super) fn new(seed: u64, marks: &[Mark]) -> Self {
        let place = |mark: &Mark| Place {
            files: Files::new(),
            mark: Some(*mark),
            presence: Presence::Here,
            is_full: false,
            snapshot: None,
            left: BTreeSet::new(),
        };
        Self(Arc::new(Mutex::new(State {
            seed,
            places: marks.iter().map(place).collect(),
            weather: Weather::CALM,
            process: 0,
            made: BTreeMap::new(),
            calls: 0,
            crash: None,
            died: Arc::default(),
            is_dead: false,
            pristine: Files::new(),
            lied: BTreeSet::new(),
            whole_once: BTreeSet::new(),
            changes: 0,
            faults: 0,
            trace: seed,
            turns: Turns::default(),
            violations: Vec::new(),
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it is held")
    }

    /// A process begins; what an older one still asks is never answered. Gives what says that it died.
    pub(super) fn begin_process(&self, crash: Option<Crash>) -> (u64, Arc<Notify>) {
        let mut state = self.state();
        state.process += 1;
        state.made.clear();
        state.turns = Turns::default();
        (state.calls, state.crash, state.died, state.is_dead) = (0, crash, Arc::default(), false);
        (state.process, Arc::clone(&state.died))
    }

    /// The process is over.
    pub(super) fn end_process(&self) {
        self.state().process += 1;
    }

    pub(super) fn backend(&self, number: usize, process: u64) -> Arc<dyn Backend> {
        Arc::new(SimulatedPlace { world: self.clone(), number, process })
    }
}

impl State {
    /// Notes that something happened, for runs to be compared.
    pub(super) fn note(&mut self, what: u64) {
        self.trace = Dice::new(self.trace ^ what.rotate_left(23)).next();
    }

    /// How many shards of each object could be read if all places that are not gone were here.
    pub(super) fn good_indexes(&self) -> BTreeMap<ObjectId, BTreeSet<u8>> {
        let mut good: BTreeMap<ObjectId, BTreeSet<u8>> = BTreeMap::new();
        for place in self.places.iter().filter(|place| place.presence != Presence::Gone) {
            for (shard, bytes) in &place.files {
                if self.pristine.get(shard) == Some(bytes) {
                    good.entry(shard.object).or_default().insert(shard.index);
                }
            }
        }
        good
    }

    /// How many shards give an object back; `None` for one that was never written.
    pub(super) fn data_shards(&self, object: ObjectId) -> Option<usize> {
        let from = ShardId { object, index: 0 };
        let (_, bytes) = self.pristine.range(from..).next().filter(|(shard, _)| shard.object == object)?;
        bytes.get(DATA_SHARDS_AT).map(|byte| usize::from(*byte))
    }

    /// The objects that can be read.
    pub(super) fn readable(&self) -> BTreeSet<ObjectId> {
        let good = self.good_indexes();
        let is_readable = |(object, good): &(ObjectId, BTreeSet<u8>)| {
            self.data_shards(*object).is_some_and(|needed| good.len() >= needed)
        };
        good.into_iter().filter(is_readable).map(|(object, _)| object).collect()
    }

    /// Does something to the places, and takes it back where that would cost an object and may not.
    pub(super) fn damage(&mut self, harm: impl FnOnce(&mut Vec<Place>)) -> bool {
        if self.weather.is_unlimited {
            harm(&mut self.places);
            return true;
        }
        let before = self.readable();
        let kept: Vec<_> = self.places.iter().map(|place| (place.files.clone(), place.presence)).collect();
        harm(&mut self.places);
        if self.readable().is_superset(&before) {
            return true;
        }
        for (place, (files, presence)) in self.places.iter_mut().zip(kept) {
            (place.files, place.presence) = (files, presence);
        }
        false
    }

    /// Remembers what can be read now.
    pub(super) fn note_whole(&mut self) {
        let readable = self.readable();
        self.whole_once.extend(readable);
    }

    /// Objects of which every shard is good again may be lied about once more.
    pub(super) fn forgive_lies(&mut self) {
        let good = self.good_indexes();
        let total = self.places.len();
        self.lied
            .retain(|object| good.get(object).is_none_or(|good| good.len() < total.min(self.weather.total_shards)));
    }

    /// Whether a place may say that it wrote a shard which it did not write.
    fn may_lie(&self, shard: ShardId, hit: Option<ShardId>) -> bool {
        if self.weather.is_unlimited {
            return true;
        }
        let good = self.good_indexes();
        let spares = |shard: ShardId| {
            let needed = self.data_shards(shard.object);
            let others =
                good.get(&shard.object).map_or(0, |good| good.len() - usize::from(good.contains(&shard.index)));
            let all = good.get(&shard.object).map_or(0, BTreeSet::len);
            needed.is_none_or(|needed| others >= needed || all < needed)
        };
        let one_more = |shard: ShardId| !self.lied.contains(&shard.object) && spares(shard);
        one_more(shard) && hit.is_none_or(|hit| hit.object != shard.object && one_more(hit))
    }
}

/// A place as one process sees it.
#[derive(Debug, Clone)]
pub(super) struct SimulatedPlace {
    pub(super) world: World,
    pub(super) number: usize,
    process: u64,
}

impl SimulatedPlace {
    /// One call: its turn comes after a while, and then it fails or takes effect.
    pub(super) async fn call<T>(
        &self,
        operation: Operation,
        shard: Option<ShardId>,
        effect: impl FnOnce(&mut State, Strike) -> Result<T> + Send,
    ) -> Result<T> {
        let now = Instant::now();
        let (strike, call) = self.draw(now, operation, shard);
        // Once time goes on, every call of this moment was made.
        tokio::time::sleep_until(now + TICK).await;
        let turn = self.world.state().turns.turn_of(now, call);
        tokio::time::sleep_until(turn).await;
        let outcome = self.take_effect(operation, shard, strike, effect);
        match outcome {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }

    /// What becomes of a call follows from which call it is, and not from when it is made.
    fn draw(&self, now: Instant, operation: Operation, shard: Option<ShardId>) -> (Strike, Call) {
        let mut state = self.world.state();
        let nth = state.made.entry((self.number, operation, shard)).or_default();
        *nth += 1;
        let call = (self.number, operation, shard, *nth);
        let (object, index) = shard.map_or((0, 0), |shard| (u128::from_be_bytes(shard.object.0), shard.index));
        let numbers = [
            self.process,
            self.number as u64,
            operation as u64,
            object as u64,
            (object >> 64) as u64,
            index.into(),
            *nth,
        ];
        let mut dice = Dice::new(numbers.iter().fold(state.seed, |seed, number| Dice::new(seed ^ number).next()));
        let strike = state.weather.strike(operation, &mut dice);
        state.turns.wait(now, call, strike.delay);
        (strike, call)
    }

    /// `None` where no answer ever comes.
    fn take_effect<T>(
        &self,
        operation: Operation,
        shard: Option<ShardId>,
        strike: Strike,
        effect: impl FnOnce(&mut State, Strike) -> Result<T>,
    ) -> Option<Result<T>> {
        let mut state = self.world.state();
        if state.process != self.process || state.is_dead {
            return None;
        }
        state.calls += 1;
        let crash = state.crash.filter(|crash| crash.at_call == state.calls);
        if crash.is_some_and(|crash| crash.before) {
            return state.die();
        }
        let named = shard.map_or(0, |shard| u64::from(shard.index) + 1);
        let calls = state.calls;
        state.note(operation as u64 | named << 8 | (self.number as u64) << 16 | calls << 24);
        let doing = || format!("{operation:?} at the simulated place {}", self.number + 1);
        let refused = match state.places[self.number].presence {
            Presence::Here => strike.refused,
            Presence::Away | Presence::Gone => Some(ErrorKind::Unreachable),
        };
        state.faults += u64::from(strike.refused.is_some()) + u64::from(strike.hangs);
        let outcome = match refused {
            Some(kind) if !strike.takes_effect || state.places[self.number].presence != Presence::Here => {
                Err(Error::new(kind, doing()))
            }
            Some(kind) => effect(&mut state, strike).and_then(|_| Err(Error::new(kind, doing()))),
            None => effect(&mut state, strike),
        };
        if crash.is_some() {
            return state.die();
        }
        (!strike.hangs).then_some(outcome)
    }
}

impl State {
    fn die<T>(&mut self) -> Option<T> {
        self.is_dead = true;
        self.died.notify_one();
        None
    }

    pub(super) fn finish(&mut self, number: usize, written: Written, lie: Option<Lie>) -> Result<u64> {
        let Written { shard, bytes, replaces } = written;
        let length = bytes.len() as u64;
        let doing = || format!("finishing {shard} at the simulated place {}", number + 1);
        if !replaces && self.places[number].files.contains_key(&shard) {
            return Err(Error::new(ErrorKind::AlreadyExists, doing()));
        }
        if self.places[number].is_full {
            return Err(Error::new(ErrorKind::NoSpace, doing()));
        }
        self.changes += 1;
        if !shard.object.is_probe() {
            let first = self.pristine.entry(shard).or_insert_with(|| bytes.clone());
            if *first != bytes {
                self.violations.push(format!("{shard} was written once more, with other bytes"));
            }
        }
        match lie.filter(|_| !shard.object.is_probe()) {
            Some(lie) if self.tell(number, shard, &bytes, lie) => {}
            _ => {
                self.places[number].files.insert(shard, bytes);
            }
        }
        Ok(length)
    }

    /// Says that a shard is written, and does something else. Says whether it may.
    fn tell(&mut self, number: usize, shard: ShardId, bytes: &Bytes, lie: Lie) -> bool {
        let files = &self.places[number].files;
        let hit = match lie {
            Lie::Misdirected(at) => files.keys().nth(at as usize % files.len().max(1)).copied(),
            Lie::Torn(_) | Lie::Unwritten => None,
        };
        if !self.may_lie(shard, hit) {
            return false;
        }
        self.faults += 1;
        self.lied.insert(shard.object);
        let files = &mut self.places[number].files;
        match (lie, hit) {
            (Lie::Torn(share), _) => {
                let kept = bytes.len() * usize::from(share) / 256;
                files.insert(shard, bytes.slice(..kept));
            }
            (Lie::Misdirected(_), Some(hit)) => {
                files.insert(hit, bytes.clone());
                self.lied.insert(hit.object);
            }
            (Lie::Misdirected(_) | Lie::Unwritten, _) => {}
        }
        true
    }
}

#[async_trait]
impl Backend for SimulatedPlace {
    async fn create(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        let number = self.number;
        self.call(Operation::Create, Some(shard), move |state, _| {
            let is_there = state.places[number].files.contains_key(&shard);
            if is_there { Err(Error::new(ErrorKind::AlreadyExists, format!("creating {shard}"))) } else { Ok(()) }
        })
        .await?;
        Ok(Box::new(SimulatedWriter::new(self, shard, false)))
    }

    async fn replace(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        self.call(Operation::Replace, Some(shard), |_, _| Ok(())).await?;
        Ok(Box::new(SimulatedWriter::new(self, shard, true)))
    }

    async fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
        let number = self.number;
        let read = move |state: &mut State, strike: Strike| {
            let found = state.places[number].files.get(&shard).cloned();
            let bytes = found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("reading {shard}")))?;
            if range.start > range.end || range.end > bytes.len() as u64 {
                return Err(Error::new(ErrorKind::OutOfRange, format!("reading {shard}")));
            }
            let mut bytes = bytes.slice(range.start as usize..range.end as usize).to_vec();
            if let Some(bit) = strike.flips.filter(|_| !bytes.is_empty()) {
                state.faults += 1;
                let bit = bit as usize % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            Ok(Bytes::from(bytes))
        };
        self.call(Operation::Read, Some(shard), read).await
    }

    async fn head(&self, shard: ShardId) -> Result<u64> {
        let number = self.number;
        let head = move |state: &mut State, _| match state.places[number].files.get(&shard) {
            Some(bytes) => Ok(bytes.len() as u64),
            None => Err(Error::new(ErrorKind::NotFound, format!("looking for {shard}"))),
        };
        self.call(Operation::Head, Some(shard), head).await
    }

    async fn delete(&self, shard: ShardId) -> Result<()> {
        let number = self.number;
        let delete = move |state: &mut State, _| {
            state.changes += u64::from(state.places[number].files.remove(&shard).is_some());
            Ok(())
        };
        self.call(Operation::Delete, Some(shard), delete).await
    }

    async fn list(&self, after: Option<ShardId>) -> Result<ListPage> {
        let number = self.number;
        let list = move |state: &mut State, _| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let mut rest = state.places[number].files.range((from, Bound::Unbounded));
            let listed = |(id, bytes): (&ShardId, &Bytes)| ListedShard { id: *id, bytes: bytes.len() as u64 };
            let shards: Vec<_> = rest.by_ref().take(PAGE_SHARDS).map(listed).collect();
            let next = rest.next().and_then(|_| shards.last().map(|shard| shard.id));
            Ok(ListPage { shards, next })
        };
        self.call(Operation::List, after, list).await
    }

    async fn stats(&self) -> Result<BackendStats> {
        let number = self.number;
        let count = move |state: &mut State, _| {
            let files = &state.places[number].files;
            let used_bytes = files.values().map(|bytes| bytes.len() as u64).sum();
            Ok(BackendStats { shard_count: files.len() as u64, used_bytes, ..BackendStats::default() })
        };
        self.call(Operation::Stats, None, count).await
    }

    async fn read_mark(&self) -> Result<Option<Mark>> {
        let number = self.number;
        self.call(Operation::ReadMark, None, move |state, _| Ok(state.places[number].mark)).await
    }

    async fn write_mark(&self, mark: &Mark) -> Result<()> {
        let (number, mark) = (self.number, *mark);
        let write = move |state: &mut State, _| {
            state.places[number].mark = Some(mark);
            Ok(())
        };
        self.call(Operation::WriteMark, None, write).await
    }

    async fn clear_unfinished(&self, shard: ShardId) -> Result<u64> {
        let number = self.number;
        let clear = move |state: &mut State, _| Ok(u64::from(state.places[number].left.remove(&shard)));
        self.call(Operation::ClearUnfinished, Some(shard), clear).await
    }
}
