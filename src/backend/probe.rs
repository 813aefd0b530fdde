//! What a place really does: tried with one small shard before the place is trusted.

use super::{Backend, Error, ErrorKind, ListPage, ListedShard, Result, ShardWriter};
use crate::id::{ObjectId, ShardId};
use bytes::Bytes;
use std::fmt;
use std::time::{Duration, Instant};

/// The probe's shard is this long: more than a page of memory, little on the wire.
const PROBE_BYTES: usize = 70_001;
/// What a probe begins with: one that a killed process left says what it is.
const PROBE_TEXT: &[u8] = b"shard probe: this only tries the place, and may be deleted\n";
/// So many pages of probes that were left are looked through at most, however a place lists.
const MAX_LEFT_PAGES: usize = 16;

/// What is tried, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeStep {
    /// A new shard is written.
    Write,
    /// Its length is asked for.
    Head,
    /// A part of it is read: a server that answers with the whole is found out.
    RangedRead,
    /// It is in the listing.
    List,
    /// It is written again as a new one, which the place should refuse.
    CreateAgain,
    /// It is replaced.
    Replace,
    /// It is deleted, twice.
    Delete,
}

impl fmt::Display for ProbeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "writing",
            Self::Head => "asking for a length",
            Self::RangedRead => "reading a part",
            Self::List => "listing",
            Self::CreateAgain => "refusing to overwrite",
            Self::Replace => "replacing",
            Self::Delete => "deleting",
        })
    }
}

/// A place that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeReport {
    /// Whether `create` over a finished shard failed, as it should, rather than overwrite it. Names are never used
    /// twice, so a place that overwrites is usable.
    pub refuses_existing: bool,
    /// How long the first write took, until it was durable.
    pub write_time: Duration,
    /// How long the ranged read took.
    pub read_time: Duration,
}

/// A place that did not pass, and at what.
#[derive(Debug, thiserror::Error)]
#[error("the place failed at {step}")]
pub struct ProbeError {
    /// What was tried.
    pub step: ProbeStep,
    /// What went wrong.
    pub source: Error,
}

/// Tries everything that is asked of a place, with a shard of a fresh name that no one else uses, and leaves nothing.
///
/// # Errors
///
/// The first step that failed. Removing what was written is tried then, too.
pub async fn probe(backend: &dyn Backend, shard: ShardId) -> Result<ProbeReport, ProbeError> {
    let outcome = Probe { backend, shard }.run().await;
    if outcome.is_err() {
        // The step that failed is what matters to the reader; these cannot say more.
        let _ = backend.delete(shard).await;
        let _ = backend.clear_unfinished(shard).await;
    }
    outcome
}

/// What probes left on a place whose processes were killed: it has a probe's id, and begins as a probe does.
///
/// A probe that is at work is among them.
pub async fn left_probes(backend: &dyn Backend) -> Result<Vec<ListedShard>> {
    let mut left = Vec::new();
    let mut after = before(ShardId { object: ObjectId::of_probe([0; ObjectId::BYTES]), index: 0 });
    for _ in 0..MAX_LEFT_PAGES {
        let page = backend.list(after).await?;
        for listed in page.shards.iter().filter(|listed| listed.id.object.is_probe()) {
            let begins = backend.read(listed.id, 0..PROBE_TEXT.len() as u64).await;
            if begins.is_ok_and(|begins| begins == PROBE_TEXT) {
                left.push(*listed);
            }
        }
        let goes_on = page.shards.last().is_some_and(|listed| listed.id.object.is_probe());
        after = match page.next {
            Some(next) if goes_on => Some(next),
            _ => break,
        };
    }
    Ok(left)
}

/// Deletes what [`left_probes`] finds, and says what that was.
pub async fn clear_probes(backend: &dyn Backend) -> Result<Vec<ListedShard>> {
    let left = left_probes(backend).await?;
    for listed in &left {
        backend.delete(listed.id).await?;
        // The shard itself is gone; a half-written one beside it takes nothing that is listed.
        let _ = backend.clear_unfinished(listed.id).await;
    }
    Ok(left)
}

struct Probe<'a> {
    backend: &'a dyn Backend,
    shard: ShardId,
}

impl Probe<'_> {
    async fn run(&self) -> Result<ProbeReport, ProbeError> {
        let at = |step| move |source| ProbeError { step, source };
        let (first, second) = (pattern(1, PROBE_BYTES), pattern(2, PROBE_BYTES + 1));
        let begun = Instant::now();
        self.write(self.backend.create(self.shard).await, &first).await.map_err(at(ProbeStep::Write))?;
        let write_time = begun.elapsed();
        self.length_is(&first).await.map_err(at(ProbeStep::Head))?;
        let begun = Instant::now();
        self.reads_ranges_of(&first).await.map_err(at(ProbeStep::RangedRead))?;
        let read_time = begun.elapsed();
        self.is_listed(&first).await.map_err(at(ProbeStep::List))?;
        let refuses_existing = self.refuses(&first).await.map_err(at(ProbeStep::CreateAgain))?;
        self.write(self.backend.replace(self.shard).await, &second).await.map_err(at(ProbeStep::Replace))?;
        self.reads_ranges_of(&second).await.map_err(at(ProbeStep::Replace))?;
        self.deletes().await.map_err(at(ProbeStep::Delete))?;
        Ok(ProbeReport { refuses_existing, write_time, read_time })
    }

    async fn write(&self, writer: Result<Box<dyn ShardWriter>>, bytes: &Bytes) -> Result<()> {
        let mut writer = writer?;
        if let Err(error) = writer.write(bytes.clone()).await {
            writer.abort().await;
            return Err(error);
        }
        let finished = writer.finish().await?;
        self.expect(finished == bytes.len() as u64, || format!("{finished} bytes arrived of {}", bytes.len()))
    }

    async fn length_is(&self, bytes: &Bytes) -> Result<()> {
        let length = self.backend.head(self.shard).await?;
        self.expect(length == bytes.len() as u64, || format!("a length of {length} instead of {}", bytes.len()))
    }

    async fn reads_ranges_of(&self, bytes: &Bytes) -> Result<()> {
        let length = bytes.len();
        for range in [1000..66_000, length - 1..length, 0..1] {
            let read = self.backend.read(self.shard, range.start as u64..range.end as u64).await?;
            let same = read == bytes.slice(range.clone());
            self.expect(same, || format!("other bytes than were written at {range:?} ({} came)", read.len()))?;
        }
        Ok(())
    }

    async fn is_listed(&self, bytes: &Bytes) -> Result<()> {
        // From just before it, so that a full place is not listed from its beginning.
        let page: ListPage = self.backend.list(before(self.shard)).await?;
        let listed = page.shards.iter().find(|listed| listed.id == self.shard);
        self.expect(listed.is_some(), || "what was written is not in the listing".to_owned())?;
        let length = listed.map_or(0, |listed| listed.bytes);
        self.expect(length == bytes.len() as u64, || format!("the listing says {length} bytes"))
    }

    async fn refuses(&self, bytes: &Bytes) -> Result<bool> {
        match self.write(self.backend.create(self.shard).await, bytes).await {
            Ok(()) => Ok(false),
            Err(error) if error.kind == ErrorKind::AlreadyExists => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn deletes(&self) -> Result<()> {
        for _ in 0..2 {
            self.backend.delete(self.shard).await?;
        }
        match self.backend.head(self.shard).await {
            Err(error) if error.kind == ErrorKind::NotFound => {
                self.backend.clear_unfinished(self.shard).await.map(drop)
            }
            Err(error) => Err(error),
            Ok(_) => self.expect(false, || "what was deleted is still there".to_owned()),
        }
    }

    fn expect(&self, holds: bool, why: impl Fn() -> String) -> Result<()> {
        match holds {
            true => Ok(()),
            false => Err(Error::with_source(ErrorKind::Failed, format!("probing with shard {}", self.shard), why())),
        }
    }
}

/// A shard whose name comes shortly before, whether it exists or not.
fn before(shard: ShardId) -> Option<ShardId> {
    let object = u128::from_be_bytes(shard.object.0).checked_sub(1)?;
    Some(ShardId { object: ObjectId(object.to_be_bytes()), index: u8::MAX })
}

fn pattern(seed: u64, length: usize) -> Bytes {
    let noise = (0..length as u64).map(|at| ((at + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8);
    PROBE_TEXT.iter().copied().chain(noise.skip(PROBE_TEXT.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Effect, Fault, FaultyBackend, LocalBackend, LocalOptions, MemoryBackend, Operation, When};
    use super::*;
    use std::sync::Arc;

    const SHARD: ShardId = ShardId { object: ObjectId([0x80; ObjectId::BYTES]), index: 3 };

    #[tokio::test]
    async fn a_good_place_passes_and_nothing_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let local = LocalBackend::open(folder.path().to_owned(), LocalOptions::default());
        for backend in [&local as &dyn Backend, &MemoryBackend::new()] {
            assert!(probe(backend, SHARD).await.expect("passed").refuses_existing);
            assert_eq!(backend.stats().await.expect("stats").shard_count, 0);
        }
        assert_eq!(std::fs::read_dir(folder.path().join("tmp")).expect("tmp").count(), 0);
    }

    #[tokio::test]
    async fn the_step_that_failed_is_named_and_nothing_stays() {
        let refuse = Effect::Refuse(ErrorKind::Denied);
        for (operation, when, effect, step) in [
            (Operation::Create, When::Nth(1), refuse, ProbeStep::Write),
            (Operation::Write, When::Nth(1), refuse, ProbeStep::Write),
            (Operation::Finish, When::Nth(1), refuse, ProbeStep::Write),
            (Operation::Create, When::Nth(1), Effect::Tear(9), ProbeStep::Head),
            (Operation::Head, When::Nth(1), Effect::Lose, ProbeStep::Head),
            (Operation::Read, When::Nth(1), Effect::FlipBit, ProbeStep::RangedRead),
            (Operation::List, When::Always, Effect::Lose, ProbeStep::List),
            (Operation::Create, When::Nth(2), refuse, ProbeStep::CreateAgain),
            (Operation::Replace, When::Always, refuse, ProbeStep::Replace),
            (Operation::Read, When::Nth(4), Effect::FlipBit, ProbeStep::Replace),
            (Operation::Delete, When::Nth(1), refuse, ProbeStep::Delete),
        ] {
            let memory = MemoryBackend::new();
            let backend = FaultyBackend::new(Arc::new(memory.clone()), 1);
            backend.inject(Fault::new(operation, when, effect));
            let error = probe(&backend, SHARD).await.expect_err("a fault");
            assert_eq!(error.step, step, "{operation:?} {when:?}: {error}");
            assert_eq!(memory.stats().await.expect("stats").shard_count, 0, "{step} left something");
        }
    }

    #[tokio::test]
    async fn what_a_killed_probe_left_is_known_by_id_and_bytes_and_deleted_alone() {
        let memory = MemoryBackend::new();
        let of_probe = |byte| ShardId { object: ObjectId::of_probe([byte; 16]), index: 0 };
        let (left, another, other) = (of_probe(1), of_probe(2), ShardId { object: ObjectId([1; 16]), index: 0 });
        let bytes = pattern(1, PROBE_BYTES);
        for (shard, bytes) in [(left, bytes.clone()), (another, Bytes::from_static(b"no probe")), (other, bytes)] {
            Probe { backend: &memory, shard }.write(memory.create(shard).await, &bytes).await.expect("written");
        }
        let cleared = clear_probes(&memory).await.expect("cleared");
        assert_eq!(cleared, [ListedShard { id: left, bytes: PROBE_BYTES as u64 }]);
        assert_eq!(left_probes(&memory).await.expect("listed"), []);
        assert_eq!(memory.stats().await.expect("stats").shard_count, 2);
    }

    #[test]
    fn the_shard_before_is_before() {
        let name = |shard| super::super::shard_name(shard);
        assert!(name(before(SHARD).expect("one")) < name(SHARD));
        assert_eq!(before(ShardId { object: ObjectId([0; ObjectId::BYTES]), index: 0 }), None);
    }
}
