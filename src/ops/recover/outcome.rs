//! What recovering came to so far: files, failures, damage.

use super::object::Tally;
use super::origin::Origin;
use super::plan::PlannedFile;
use super::report::{DamagedShard, FailedRecovery, RecoverReport, RecoveredFile};
use super::sink::Extent;
use crate::catalog::ShardState;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{BackendId, ObjectId};
use std::collections::BTreeMap;

/// What recovering came to so far.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) report: RecoverReport,
    /// The worst that was met of each shard.
    damage: BTreeMap<(ObjectId, u8, BackendId), (ShardState, u64)>,
    /// One file was asked for: what goes wrong with it is an error, not a line in the report.
    pub(super) is_alone: bool,
}

impl Outcome {
    /// A file is where it should be.
    pub(super) fn recovered(&mut self, file: &PlannedFile, output: String, (extent, bytes): (Extent, u64)) {
        self.report.bytes_written += bytes;
        self.report.files.push(RecoveredFile {
            name: file.name.clone(),
            version: file.version,
            size: bytes,
            blake3: (extent == Extent::Whole).then_some(file.whole.blake3),
            output,
            heads: file.heads,
        });
    }

    /// A file was not recovered. An error when nothing else can be, or nothing else was asked for.
    pub(super) fn failed(&mut self, file: &PlannedFile, error: Error) -> Result<()> {
        self.all_failed(std::slice::from_ref(file), error)
    }

    /// Files were not recovered, all for the same reason.
    pub(super) fn all_failed(&mut self, files: &[PlannedFile], error: Error) -> Result<()> {
        if self.is_alone || matches!(error.kind, ErrorKind::Space | ErrorKind::Cancelled) {
            return Err(error);
        }
        let line = |file: &PlannedFile| FailedRecovery::new(file.name.clone(), Some(file.version), &error);
        self.report.failed.extend(files.iter().map(line));
        Ok(())
    }

    /// An object was read.
    pub(super) fn take(&mut self, tally: Tally) {
        self.report.bytes_read += tally.bytes_read;
        for damage in tally.damage {
            let met = self.damage.entry((damage.object, damage.index, damage.backend)).or_insert((damage.state, 0));
            *met = (met.0.max(damage.state), met.1.max(damage.bad_blocks));
        }
    }

    /// The report; damage in places that nobody named is none.
    pub(super) fn into_report(self, origin: &Origin<'_>, elapsed_ms: u64) -> RecoverReport {
        let named = |((object, shard, backend), (state, bad_blocks))| {
            Some(DamagedShard { object, shard, backend: origin.backend_name(backend)?, state, bad_blocks })
        };
        let damage = self.damage.into_iter().filter_map(named).collect();
        let (places, newest) = origin.seen();
        RecoverReport { damage, places, newest, elapsed_ms, ..self.report }
    }
}
