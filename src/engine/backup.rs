//! Backups: made while others write, kept in a place that is given, the last few of them, and restored whole or not at all.
//!
//! A backup lies for a moment in a file beside the records, sealed: only what is whole and durable is handed to the place, and
//! only what was fetched whole is restored from.

use super::StorageEngine;
use super::error::{Error, Result};
use super::place::{BackupLabel, BackupPlace, PlaceError, private_options};
use super::schedule::Schedule;
use super::state::BackupNote;
use crate::vault::file::beside;
use std::fs::{self, File, TryLockError};
use std::future::Future;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many backups are kept where nothing else is said: a day of them.
const KEPT_BACKUPS: NonZeroUsize = NonZeroUsize::new(24).expect("it is not zero");

/// The backups of an engine's records in one place, which is for these alone: a label tells nodes apart, and not the names
/// under which one node keeps several.
#[derive(Clone)]
pub struct Backups {
    /// The records.
    pub engine: Arc<StorageEngine>,
    /// Where backups are kept.
    pub place: Arc<dyn BackupPlace>,
    /// How many are kept: the last ones.
    pub kept: NonZeroUsize,
    /// When they are made by themselves.
    pub schedule: Schedule,
}

/// What a backup did.
#[derive(Debug)]
pub struct BackupReport {
    /// What was kept.
    pub label: BackupLabel,
    /// What is in it.
    pub note: BackupNote,
    /// The older ones that were deleted.
    pub deleted: Vec<BackupLabel>,
    /// Why older ones could not be deleted; they are tried again with the next backup.
    pub not_deleted: Option<Error>,
}

impl Backups {
    /// Every hour, the last 24.
    pub fn new(engine: Arc<StorageEngine>, place: Arc<dyn BackupPlace>) -> Self {
        Self { engine, place, kept: KEPT_BACKUPS, schedule: Schedule::default() }
    }

    /// Makes a backup now. It is that of one moment, whatever is written meanwhile.
    pub async fn back_up(&self) -> Result<BackupReport> {
        let spool = self.spool().await?;
        let newest = self.list().await?.first().map_or(0, |label| label.number);
        let (engine, file) = (Arc::clone(&self.engine), spool.file.clone());
        let made = blocking(move || {
            let snapshot = engine.snapshot_to_file(&file)?;
            let last = engine.statistics()?.last_backup.map_or(0, |note| note.number);
            Ok((snapshot, last))
        });
        let (snapshot, last) = made.await?;
        let number = newest.max(last).saturating_add(1);
        let label = BackupLabel { node: self.engine.node(), number };
        self.place.keep(label, &spool.file).await.map_err(of_place("keeping a backup"))?;
        let note = BackupNote { number, ..snapshot };
        let engine = Arc::clone(&self.engine);
        blocking(move || engine.note_backup(note)).await?;
        let mut report = BackupReport { label, note, deleted: Vec::new(), not_deleted: None };
        report.not_deleted = self.prune(&mut report.deleted).await.err();
        Ok(report)
    }

    /// This node's backups, the last first.
    pub async fn list(&self) -> Result<Vec<BackupLabel>> {
        let mut labels = self.place.list().await.map_err(of_place("listing the backups"))?;
        labels.retain(|label| label.node == self.engine.node());
        labels.sort_unstable_by(|one, other| other.cmp(one));
        labels.dedup();
        Ok(labels)
    }

    /// Puts the records of a backup in the place of those that there are: of that with this number, or of the last. It is
    /// checked to its end before anything is changed; what there was stays until all of the new is durable.
    pub async fn restore(&self, number: Option<u64>) -> Result<BackupNote> {
        let spool = self.spool().await?;
        let labels = self.list().await?;
        let label = labels.into_iter().find(|label| number.is_none_or(|number| number == label.number));
        let label = label.ok_or(Error::NoBackup)?;
        self.place.fetch(label, &spool.file).await.map_err(of_place("fetching a backup"))?;
        let (engine, file) = (Arc::clone(&self.engine), spool.file.clone());
        blocking(move || {
            let mut input = File::open(&file).map_err(|error| Error::io(error, &file))?;
            engine.restore_numbered(&mut input, label.number)
        })
        .await
    }

    /// Makes backups as the schedule says until `shutdown` is there, and tells `told` of each. One that has begun is ended
    /// first.
    pub async fn run(&self, shutdown: impl Future<Output = ()>, mut told: impl FnMut(&Result<BackupReport>)) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut has_failed = false;
        loop {
            let wait = if has_failed { self.schedule.wait_after_failure() } else { self.until_due().await };
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = tokio::time::sleep(wait) => {}
            }
            let outcome = self.back_up().await;
            has_failed = outcome.is_err();
            told(&outcome);
        }
    }

    /// How long it is until the next one is due; where that is not known, as long as after a failure.
    async fn until_due(&self) -> std::time::Duration {
        let engine = Arc::clone(&self.engine);
        let last = blocking(move || Ok(engine.statistics()?.last_backup)).await;
        match last {
            Ok(last) => self.schedule.wait(self.engine.now_ms(), last.map(|note| note.taken_ms)),
            Err(_) => self.schedule.wait_after_failure(),
        }
    }

    async fn prune(&self, deleted: &mut Vec<BackupLabel>) -> Result<()> {
        for label in self.list().await?.into_iter().skip(self.kept.get()) {
            self.place.delete(label).await.map_err(of_place("deleting an old backup"))?;
            deleted.push(label);
        }
        Ok(())
    }

    async fn spool(&self) -> Result<Spool> {
        let path = self.engine.path().to_owned();
        blocking(move || Spool::begin(&path)).await
    }
}

impl std::fmt::Debug for Backups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backups").field("kept", &self.kept).field("schedule", &self.schedule).finish_non_exhaustive()
    }
}

fn of_place(doing: &'static str) -> impl Fn(PlaceError) -> Error {
    move |source| Error::Place { doing, source }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|stopped| Err(Error::Stream { doing: "written", source: std::io::Error::other(stopped) }))
}

/// The file in which a backup lies for a moment, and the lock that makes it the only one.
#[derive(Debug)]
struct Spool {
    file: PathBuf,
    /// Held as long as the file is in use: who has it finds none but what a killed process left.
    lock: File,
}

impl Spool {
    fn begin(records: &Path) -> Result<Self> {
        let (path, file) = (beside(records, "-backup.lock"), beside(records, "-backup.part"));
        let lock =
            private_options().create(true).truncate(false).open(&path).map_err(|error| Error::io(error, &path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::Busy { path: records.to_owned() },
            TryLockError::Error(error) => Error::io(error, &path),
        })?;
        let spool = Self { file, lock };
        spool.clear().map_err(|error| Error::io(error, &spool.file))?;
        Ok(spool)
    }

    fn clear(&self) -> std::io::Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // What stays is cleared by the next one.
        let _ = self.clear();
        // To close it is not enough: a process that this one is just starting has it open too, until it runs its program.
        let _ = self.lock.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_backup_may_begin_though_a_child_that_is_being_started_has_the_lock_open_still() {
        let folder = tempfile::tempdir().expect("a folder");
        let records = folder.path().join("e.db");
        let spool = Spool::begin(&records).expect("the only one");
        assert!(matches!(Spool::begin(&records), Err(Error::Busy { .. })));
        let of_child = spool.lock.try_clone().expect("another descriptor");
        drop(spool);
        drop(Spool::begin(&records).expect("the next one"));
        drop(of_child);
    }
}
