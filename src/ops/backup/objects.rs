//! Records into objects of the store, of which the last says what the backup consists of.

use super::chain::Chain;
use super::records::{Batch, Records};
use super::{BackupKind, BackupReport};
use crate::error::{Error, ErrorKind, Result};
use crate::format::backup::MAX_BACKUP_PARTS;
use crate::format::{BackupPart, Index, ObjectKind, WholeBackup};
use crate::id::ObjectId;
use crate::ops::Controls;
use crate::ops::writer::{Contents, ObjectOptions, ObjectWriter, WriteFailures, content_limit, new_object_shape};
use crate::store::Store;
use crate::stripe::Seal;

/// An object has records of at most this many bytes together: more would take long to write again after a failure.
const PART_BYTES: u64 = 64 * 1024 * 1024;
/// A backup is sealed under the key, whatever the seal of the files: their names are in it.
const BACKUP_SEAL: Seal = Seal::Key;

/// What came of it.
pub(super) struct Written {
    /// The chain with this backup at its end.
    pub(super) chain: Chain,
    /// What is told of it.
    pub(super) report: BackupReport,
}

/// Objects on their way.
struct Parts<'a> {
    store: &'a Store,
    controls: &'a Controls,
    failures: WriteFailures,
    generation: u64,
    /// The object that is being written, and how many records it has.
    open: Option<(ObjectWriter<'a>, u64)>,
    /// What one object takes.
    limit_bytes: u64,
    report: BackupReport,
}

/// Writes the records, after those of the chain where there is one.
pub(super) async fn write(
    store: &Store,
    mut records: Records,
    before: Option<Chain>,
    controls: &Controls,
) -> Result<Written> {
    let shape = new_object_shape(store.config().default_level.geometry(), BACKUP_SEAL)?;
    let generation = store.look(|catalog| catalog.backup_generation()).await? + 1;
    let kind = if before.is_some() { BackupKind::Incremental } else { BackupKind::Full };
    let mut parts = Parts {
        store,
        controls,
        failures: WriteFailures::default(),
        generation,
        open: None,
        limit_bytes: PART_BYTES.min(content_limit(shape)),
        report: BackupReport { kind, generation: Some(generation), ..BackupReport::default() },
    };
    let outcome = parts.write_all(&mut records).await;
    match outcome {
        Ok(()) => {}
        Err(error) => return Err(parts.abandon_for(error).await),
    }
    parts.finish(records, before).await
}

impl<'a> Parts<'a> {
    async fn write_all(&mut self, records: &mut Records) -> Result<()> {
        while let Some(batch) = records.next().await? {
            self.controls.check_cancelled()?;
            self.report.left_out += batch.left_out;
            if batch.bytes.is_empty() {
                continue;
            }
            if batch.bytes.len() as u64 > self.limit_bytes {
                // With very many shards an object is small, and a rebuild reads what has no record.
                self.report.left_out += batch.records;
                continue;
            }
            self.take(batch).await?;
        }
        Ok(())
    }

    async fn take(&mut self, batch: Batch) -> Result<()> {
        let is_full = |(writer, _): &(ObjectWriter<'_>, u64)| {
            writer.payload_bytes() + batch.bytes.len() as u64 > self.limit_bytes
        };
        if self.open.as_ref().is_some_and(is_full) {
            self.end_part(None).await?;
        }
        let (mut writer, before) = self.opened().await?;
        // What fails to take bytes can only be given up.
        if let Err(error) = writer.append(&batch.bytes).await {
            return Err(writer.abandon_for(error).await);
        }
        self.controls.bytes(batch.bytes.len() as u64);
        self.controls.items(batch.records);
        self.report.added += batch.records;
        self.open = Some((writer, before + batch.records));
        Ok(())
    }

    /// The object that is open, or a new one.
    async fn opened(&mut self) -> Result<(ObjectWriter<'a>, u64)> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let geometry = self.store.config().default_level.geometry();
        let options = ObjectOptions {
            failures: self.failures.clone(),
            controls: Controls { progress: None, cancel: self.controls.cancel.clone() },
            ..ObjectOptions::new(ObjectKind::Catalog, geometry, BACKUP_SEAL)
        };
        let object = ObjectId::of_backup(self.store.random_bytes()?);
        Ok((ObjectWriter::begin_as(self.store, options, object).await?, 0))
    }

    async fn end_part(&mut self, whole: Option<WholeBackup>) -> Result<()> {
        let (writer, records) = self.opened().await?;
        let part = BackupPart { generation: self.generation, records, whole };
        let index = Index { catalog: Some(part), ..Index::default() };
        let stored = writer.finish(Contents { index, piece_hashes: Vec::new() }).await?;
        self.report.bytes_written += stored.bytes_written();
        self.report.objects.push(stored);
        Ok(())
    }

    /// Ends the last part, which says what the backup consists of.
    async fn finish(mut self, records: Records, before: Option<Chain>) -> Result<Written> {
        let mut parts = before.as_ref().map_or_else(Vec::new, |chain| chain.parts.clone());
        parts.extend(self.report.objects.iter().map(|object| object.id));
        let recorded = before.as_ref().map_or(0, |chain| chain.records) + self.report.added;
        if parts.len() >= MAX_BACKUP_PARTS {
            let doing = format!("the catalog is too large for a backup of {MAX_BACKUP_PARTS} objects");
            return Err(self.abandon_for(Error::new(ErrorKind::Invalid, doing)).await);
        }
        self.end_part(Some(WholeBackup { parts: parts.clone(), records: recorded })).await?;
        parts.extend(self.report.objects.last().map(|object| object.id));
        self.report.records = recorded;
        let chain = Chain {
            parts,
            generation: self.generation,
            full_records: before.map_or(recorded, |chain| chain.full_records),
            records: recorded,
            arrival: records.until.arrival,
            verified_ns: records.until.verified_ns,
            made_ns: self.store.now_ns(),
        };
        Ok(Written { chain, report: self.report })
    }

    async fn abandon_for(self, error: Error) -> Error {
        match self.open {
            Some((writer, _)) => writer.abandon_for(error).await,
            None => error,
        }
    }
}
