//! `verify`: looks at objects, many at once, remembers what it saw, and says how sure that is.
//!
//! *What it is.* [`verify`], over [`examine`](super::examine): which objects are looked at and in which order, how much
//! memory and how much reading that may take, and the report.
//!
//! *What it knows.* Names, ages, budgets.
//!
//! *What it does not know.* How an object is examined; how anything is repaired.
//!
//! *Invariants.* No backend is changed. What was seen is in the catalog before it is in the report. Memory does not grow
//! with the objects' sizes: a weighted gate lets in only as many at once as fit.

mod report;
mod select;
mod set_back;
mod tell;

use super::Controls;
use super::examine::{Depth, Examination, Sample, Subject, sample_bytes};
use super::rebuild::MAINTENANCE;
use super::remove::{is_endangered, reprieve};
use crate::catalog::{Catalog, CheckRecord, ObjectState};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Manifest};
use crate::id::{Digest, ObjectId};
use crate::store::Store;
use futures_util::{StreamExt, TryStreamExt, stream};
pub use report::{
    Detection, ObjectVerdict, SampleReport, ShardVerdict, VerifyReport, VerifySummary, detection_bound, worst_state,
};
pub(in crate::ops) use select::select;
use set_back::Pattern;
pub use set_back::SetBack;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tell::FoundDamage;
use tokio::sync::Semaphore;

/// How many objects are looked at at once, memory permitting.
const OBJECTS_AT_ONCE: usize = 8;
/// The objects that are looked at at once together take about this much memory, in KiB.
const MEMORY_KIB: u32 = 24 * 1024;
/// What one object's reader has in flight at most, in bytes; a small object has less.
const READER_BYTES: u64 = 18 * 1024 * 1024;
/// What an object takes whatever its size, in bytes.
const LEAST_BYTES: u64 = 256 * 1024;

/// What is to be verified, and how.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Files, or folders of files, as they are now; all objects when there are none.
    pub names: Vec<FileName>,
    /// How closely.
    pub mode: VerifyMode,
    /// Only objects whose last full verification is at least this long ago.
    pub max_age: Option<Duration>,
    /// No further object is begun once this much is used up.
    pub budget: Option<Budget>,
    /// Progress and cancellation.
    pub controls: Controls,
}

/// How closely objects are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum VerifyMode {
    /// Presence, length, manifest and trailer.
    Quick,
    /// A random share of the blocks too.
    Sample {
        /// Over 0, at most 100.
        percent: f64,
    },
    /// Every byte of every shard.
    #[default]
    Full,
}

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// After reading this many bytes.
    Bytes(u64),
    /// After this long.
    Time(Duration),
}

impl VerifyMode {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Sample { .. } => "sample",
            Self::Full => "full",
        }
    }

    fn depth(self, seed: [u8; 32]) -> Depth {
        match self {
            Self::Quick => Depth::Quick,
            Self::Sample { percent } => Depth::Sample(Sample { share: percent / 100.0, seed }),
            Self::Full => Depth::Full,
        }
    }
}

/// Looks at objects, those longest unverified first, and records what it sees.
///
/// [`ErrorKind::NotFound`] for a name that there is not, [`ErrorKind::Invalid`] for a share that is none. Damage is in the
/// report, not an error.
pub async fn verify(store: &Store, options: VerifyOptions) -> Result<VerifyReport> {
    if let VerifyMode::Sample { percent } = options.mode
        && !(percent > 0.0 && percent <= 100.0)
    {
        return Err(Error::new(ErrorKind::Invalid, format!("{percent} is no share: over 0 and at most 100 percent")));
    }
    let begun = Instant::now();
    let selected = select(store, &options).await?;
    let run = Run {
        store,
        depth: options.mode.depth(store.random_bytes()?),
        gate: Semaphore::new(MEMORY_KIB as usize),
        spent: Spent { begun, bytes: AtomicU64::new(0), budget: options.budget },
        pattern: Mutex::default(),
        damage: FoundDamage::default(),
        is_left_to_others: tokio::sync::Mutex::default(),
        controls: &options.controls,
    };
    let total = (options.mode == VerifyMode::Full).then_some(selected.shard_bytes);
    options.controls.begin("verify", total, Some(selected.objects.len() as u64));
    let mut report = VerifyReport::new(options.mode);
    let looked = run.look_at_all(selected.objects, &mut report).await;
    // What was found before something went wrong is told all the same; whoever cancels does not wait.
    let cancelled = options.controls.cancel.cancelled();
    tokio::select! {
        biased;
        () = cancelled => {}
        () = run.damage.tell(store) => {}
    }
    looked?;
    options.controls.end();
    report.set_back = run.pattern().set_back(store.registry());
    report.conclude(begun.elapsed());
    Ok(report)
}

/// Examines one object as `verify` does, and records what was seen; `None` when it is gone.
pub async fn verify_object(
    store: &Store,
    object: ObjectId,
    depth: Depth,
    controls: &Controls,
) -> Result<Option<Examination>> {
    let Some(subject) = Subject::load(store, object).await? else { return Ok(None) };
    let examination = subject.examine(store.registry(), depth, controls).await?;
    Ok(record(store, &examination).await?.then_some(examination))
}

/// Remembers what was seen and how each backend met it, and where shards are that had moved; `false` when the object is gone meanwhile.
pub(in crate::ops) async fn record(store: &Store, examination: &Examination) -> Result<bool> {
    let now_ns = store.now_ns();
    let (check, challenges): (CheckRecord, _) = (examination.check_record(now_ns), examination.challenges(now_ns));
    let moved_away = examination.moved_away.clone();
    let write = move |catalog: &mut Catalog| {
        // Before the look, whose state counts: records alone do not say that a copy which waits may come back.
        let is_live = catalog.object_is_live(check.object)?;
        for (index, backend) in moved_away.into_iter().filter(|_| is_live) {
            catalog.drop_shard(check.object, index, backend)?;
        }
        catalog.record_look(&check, &challenges)
    };
    store.catalog(write).await
}

/// What became of one object.
enum Look {
    Seen(Box<ObjectVerdict>),
    /// It was removed meanwhile.
    Gone,
    /// It was not looked at.
    OverBudget,
}

/// What became of copies that wait for deletion and may have to stay.
enum TakingBack {
    /// There are none.
    Nothing,
    /// Another process is at it.
    LeftToOthers,
    /// They are recorded again.
    Done,
}

/// One run over many objects.
struct Run<'a> {
    store: &'a Store,
    depth: Depth,
    gate: Semaphore,
    spent: Spent,
    pattern: Mutex<Pattern>,
    damage: FoundDamage,
    /// Whether another process has the maintenance lease; one look at a time may have it.
    is_left_to_others: tokio::sync::Mutex<bool>,
    controls: &'a Controls,
}

/// What the run has used up.
struct Spent {
    begun: Instant,
    bytes: AtomicU64,
    budget: Option<Budget>,
}

impl Spent {
    fn is_over(&self) -> bool {
        match self.budget {
            None => false,
            Some(Budget::Bytes(most)) => self.bytes.load(Ordering::Relaxed) >= most,
            Some(Budget::Time(most)) => self.begun.elapsed() >= most,
        }
    }
}

impl Run<'_> {
    fn pattern(&self) -> MutexGuard<'_, Pattern> {
        self.pattern.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_at_all(&self, objects: Vec<ObjectId>, report: &mut VerifyReport) -> Result<()> {
        let mut looks = stream::iter(objects).map(|object| self.look(object)).buffered(OBJECTS_AT_ONCE);
        while let Some(look) = looks.try_next().await? {
            match look {
                Look::Seen(verdict) => report.add(*verdict),
                Look::Gone => {}
                Look::OverBudget => report.summary.remaining += 1,
            }
        }
        Ok(())
    }

    async fn look(&self, object: ObjectId) -> Result<Look> {
        self.controls.check_cancelled()?;
        if self.spent.is_over() {
            return Ok(Look::OverBudget);
        }
        let Some(subject) = Subject::load(self.store, object).await? else { return Ok(Look::Gone) };
        let permits = memory_kib(&subject, self.depth);
        let closed = |error| Error::new(ErrorKind::Cancelled, "verifying was stopped").with_source(error);
        let _memory = self.gate.acquire_many(permits).await.map_err(closed)?;
        // Whoever waited may find that those before it used up what there was.
        if self.spent.is_over() {
            return Ok(Look::OverBudget);
        }
        let mut examination = subject.examine(self.store.registry(), self.depth, self.controls).await?;
        self.spent.bytes.fetch_add(examination.bytes_read, Ordering::Relaxed);
        match self.take_back(&examination).await? {
            TakingBack::Nothing => {}
            // What waits may save it: whoever has the lease will have seen to that.
            TakingBack::LeftToOthers if examination.state == ObjectState::Lost => {
                examination.state = ObjectState::Unavailable;
            }
            TakingBack::LeftToOthers => {}
            TakingBack::Done => {
                let Some(subject) = Subject::load(self.store, object).await? else { return Ok(Look::Gone) };
                examination = subject.examine(self.store.registry(), self.depth, self.controls).await?;
                self.spent.bytes.fetch_add(examination.bytes_read, Ordering::Relaxed);
            }
        }
        let alive = record(self.store, &examination).await?;
        self.damage.note(&examination);
        self.controls.items(1);
        if !alive {
            return Ok(Look::Gone);
        }
        let made = self.store.look(move |catalog| catalog.object(object)).await?;
        if let Some(created_ns) = made.and_then(|record| record.created_ns) {
            self.pattern().note(created_ns, &examination);
        }
        let names = select::names_shown(self.store, object).await?;
        Ok(Look::Seen(Box::new(ObjectVerdict::new(self.store.registry(), &examination, names))))
    }

    /// Where shards are not good, takes copies of them back that wait for deletion. While another process has the
    /// maintenance lease, that is left to it: it may be deleting.
    async fn take_back(&self, seen: &Examination) -> Result<TakingBack> {
        if !is_endangered(self.store, seen, &[]).await? {
            return Ok(TakingBack::Nothing);
        }
        let mut is_left_to_others = self.is_left_to_others.lock().await;
        if *is_left_to_others {
            return Ok(TakingBack::LeftToOthers);
        }
        let _lease = match self.store.lease(MAINTENANCE).await {
            Err(error) if error.kind == ErrorKind::Busy => {
                // One look waited for it: the others do not.
                *is_left_to_others = true;
                return Ok(TakingBack::LeftToOthers);
            }
            lease => lease?,
        };
        let reprieved = reprieve(self.store, seen.object(), &[], self.controls).await?;
        self.spent.bytes.fetch_add(reprieved.bytes_read, Ordering::Relaxed);
        Ok(if reprieved.copies > 0 { TakingBack::Done } else { TakingBack::Nothing })
    }
}

/// About how much memory looking at an object takes, in KiB, at most all there is.
fn memory_kib(subject: &Subject, depth: Depth) -> u32 {
    let manifest: &Manifest = &subject.manifest;
    let layout = manifest.layout();
    let copies = subject.recorded.len().max(manifest.geometry().total_shards()) as u64;
    let leaves = layout.stripe_count() * copies * Digest::BYTES as u64;
    let blocks = match depth {
        Depth::Full => (layout.shard_blocks_bytes() * copies).min(READER_BYTES),
        Depth::Sample(_) => sample_bytes(&layout),
        Depth::Quick => 0,
    };
    let bytes = LEAST_BYTES + blocks + if depth == Depth::Quick { 0 } else { 2 * leaves };
    u32::try_from(bytes / 1024).unwrap_or(MEMORY_KIB).min(MEMORY_KIB)
}
