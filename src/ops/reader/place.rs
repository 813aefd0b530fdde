//! Where one shard is, what was found out about that place while reading, and reading blocks from it.

use crate::backend::{self, Backend, BackendRegistry, ErrorKind};
use crate::catalog::ShardState;
use crate::format::ShardFileLayout;
use crate::id::{BackendId, ObjectId, ShardId};
use crate::stripe::Layout;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// After this many reads that failed for good, a place is asked only when the others are not enough: a dying disk takes
/// its time over each.
const FAILURES_BEFORE_LAST: u64 = 8;

/// So many chunks of stripes a place that was late is asked after the others; then it may show that it is quick again.
const LATE_CHUNKS: u32 = 32;

/// Where a shard of the object is, or should be.
#[derive(Debug, Clone)]
pub struct ShardPlace {
    /// Which shard.
    pub index: u8,
    /// On which backend.
    pub backend: BackendId,
    /// The backend; `None` when it is known not to answer.
    pub source: Option<Arc<dyn Backend>>,
}

impl ShardPlace {
    /// A place as the registry has it: a backend that is not registered, or not ready, does not answer.
    pub fn registered(registry: &BackendRegistry, index: u8, backend: BackendId) -> Self {
        let ready = registry.get(backend).filter(|registered| registered.is_ready());
        Self { index, backend, source: ready.map(|registered| Arc::clone(&registered.backend)) }
    }
}

/// Damage met while reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// The object.
    pub object: ObjectId,
    /// Which shard of it.
    pub index: u8,
    /// On which backend.
    pub backend: BackendId,
    /// What is wrong: missing, corrupt or unreachable.
    pub state: ShardState,
    /// How many of the blocks that were read are bad or unreadable.
    pub bad_blocks: u64,
}

/// A place and what is known of it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) at: ShardPlace,
    shard: ShardId,
    findings: Mutex<Findings>,
    bytes_read: AtomicU64,
}

#[derive(Debug, Default)]
struct Findings {
    absence: Option<Absence>,
    /// It was wanted and did not answer: worth telling. A place that nobody asked is not damage.
    wanted: bool,
    bad_stripes: BTreeSet<u64>,
    /// Something beside the blocks is wrong.
    flawed: bool,
    failures: u64,
    /// For how many more chunks others are asked first.
    late_chunks: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    Missing,
    Unreachable,
}

impl Place {
    pub(super) fn new(object: ObjectId, at: ShardPlace) -> Self {
        let absence = at.source.is_none().then_some(Absence::Unreachable);
        let shard = ShardId { object, index: at.index };
        let findings = Mutex::new(Findings { absence, ..Findings::default() });
        Self { at, shard, findings, bytes_read: AtomicU64::new(0) }
    }

    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is any point in asking it.
    pub(super) fn answers(&self) -> bool {
        self.findings().absence.is_none()
    }

    pub(super) fn is_unreachable(&self) -> bool {
        self.findings().absence == Some(Absence::Unreachable)
    }

    /// Whether it fails so often that others go first.
    pub(super) fn goes_last(&self) -> bool {
        self.findings().failures >= FAILURES_BEFORE_LAST
    }

    /// It was asked, and others had to be asked in its stead.
    pub(super) fn note_late(&self) {
        self.findings().late_chunks = LATE_CHUNKS;
    }

    /// Whether others are asked first because it was late. Asked once a chunk.
    pub(super) fn was_late(&self) -> bool {
        let mut findings = self.findings();
        let was_late = findings.late_chunks > 0;
        findings.late_chunks = findings.late_chunks.saturating_sub(1);
        was_late
    }

    /// It would have been asked, had it answered.
    pub(super) fn note_wanted(&self) {
        self.findings().wanted = true;
    }

    /// A block that was read is not the one it should be.
    pub(super) fn note_bad(&self, stripe_index: u64) {
        self.findings().bad_stripes.insert(stripe_index);
    }

    /// Something beside the blocks is wrong.
    pub(super) fn note_flaw(&self) {
        self.findings().flawed = true;
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    pub(super) fn damage(&self) -> Option<Damage> {
        let findings = self.findings();
        let state = match findings.absence {
            Some(Absence::Missing) => ShardState::Missing,
            Some(Absence::Unreachable) if findings.wanted => ShardState::Unreachable,
            _ if findings.flawed || !findings.bad_stripes.is_empty() => ShardState::Corrupt,
            _ => return None,
        };
        let bad_blocks = findings.bad_stripes.len() as u64;
        Some(Damage { object: self.shard.object, index: self.at.index, backend: self.at.backend, state, bad_blocks })
    }

    /// Reads a range; what stands in the way is noted. `Err` carries whether a smaller range is worth a try.
    async fn read(&self, range: Range<u64>) -> Result<Bytes, Retry> {
        let Some(source) = self.at.source.as_ref().filter(|_| self.answers()) else {
            self.note_wanted();
            return Err(Retry::Pointless);
        };
        let wanted_bytes = range.end.saturating_sub(range.start);
        match source.read(self.shard, range).await {
            Ok(bytes) if bytes.len() as u64 == wanted_bytes => {
                self.bytes_read.fetch_add(wanted_bytes, Ordering::Relaxed);
                Ok(bytes)
            }
            Ok(_) => Err(Retry::Smaller),
            Err(error) => Err(self.note_failure(&error)),
        }
    }

    fn note_failure(&self, error: &backend::Error) -> Retry {
        tracing::debug!(shard = %self.shard, %error, "a read failed");
        let mut findings = self.findings();
        findings.wanted = true;
        match error.kind {
            ErrorKind::NotFound => {
                findings.absence = Some(Absence::Missing);
                Retry::Pointless
            }
            ErrorKind::OutOfRange => Retry::Smaller,
            ErrorKind::Failed => {
                findings.failures += 1;
                Retry::Smaller
            }
            _ => {
                findings.absence = Some(Absence::Unreachable);
                Retry::Pointless
            }
        }
    }

    /// The blocks of consecutive stripes, as they are stored: unverified. `None` for what could not be read.
    pub(super) async fn blocks(&self, layout: &Layout, stripes: Range<u64>) -> Vec<Option<Bytes>> {
        match self.read(blocks_range(layout, &stripes)).await {
            Ok(bytes) => split(layout, stripes, &bytes),
            Err(Retry::Smaller) if stripes.end - stripes.start > 1 => self.blocks_one_by_one(layout, stripes).await,
            Err(_) => {
                self.note_unreadable(stripes.clone());
                stripes.map(|_| None).collect()
            }
        }
    }

    async fn blocks_one_by_one(&self, layout: &Layout, stripes: Range<u64>) -> Vec<Option<Bytes>> {
        let mut blocks = Vec::new();
        for stripe_index in stripes {
            let block = self.read(blocks_range(layout, &(stripe_index..stripe_index + 1))).await.ok();
            if block.is_none() {
                self.note_unreadable(stripe_index..stripe_index + 1);
            }
            blocks.push(block);
        }
        blocks
    }

    /// A place that answers but cannot give these blocks has lost them.
    fn note_unreadable(&self, stripes: Range<u64>) {
        let mut findings = self.findings();
        if findings.absence.is_none() {
            findings.bad_stripes.extend(stripes);
        }
    }

    /// A section beside the blocks, unverified; `None` where it cannot be read, which is noted.
    pub(super) async fn section(&self, range: Range<u64>) -> Option<Bytes> {
        match self.read(range).await {
            Ok(bytes) => Some(bytes),
            Err(Retry::Smaller) => {
                self.note_flaw();
                None
            }
            Err(Retry::Pointless) => None,
        }
    }

    /// As much of the leaves section as can be read.
    pub(super) async fn leaves_section(&self, file: &ShardFileLayout) -> Bytes {
        let range = file.leaves();
        match self.read(range.clone()).await {
            Ok(bytes) => return bytes,
            Err(Retry::Pointless) => return Bytes::new(),
            Err(Retry::Smaller) => self.note_flaw(),
        }
        // A file that was cut short may have some of them.
        let Some(source) = self.at.source.as_ref().filter(|_| self.answers()) else { return Bytes::new() };
        let end = source.head(self.shard).await.unwrap_or(0).min(range.end);
        if range.start < end { self.read(range.start..end).await.unwrap_or_default() } else { Bytes::new() }
    }
}

/// What a failed read leaves to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// A smaller range may be readable.
    Smaller,
    /// Nothing at this place will be.
    Pointless,
}

/// Where the blocks of consecutive stripes are in a shard file.
fn blocks_range(layout: &Layout, stripes: &Range<u64>) -> Range<u64> {
    let header = crate::format::HEADER_BYTES as u64;
    let last = stripes.end.saturating_sub(1);
    header + layout.block_offset(stripes.start)
        ..header + layout.block_offset(last) + u64::from(layout.block_bytes(last))
}

fn split(layout: &Layout, stripes: Range<u64>, bytes: &Bytes) -> Vec<Option<Bytes>> {
    let start = layout.block_offset(stripes.start);
    let block = |stripe_index| {
        let from = (layout.block_offset(stripe_index) - start) as usize;
        Some(bytes.slice(from..from + layout.block_bytes(stripe_index) as usize))
    };
    stripes.map(block).collect()
}
