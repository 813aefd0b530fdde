//! Carries out a plan, so that at every moment what the catalog says is true: journal, new shard durable, catalog, old
//! shard deleted.

use super::plan::{Means, Task};
use crate::backend::ErrorKind as BackendErrorKind;
use crate::catalog::{self, Catalog, JournalEntry, Purpose, ShardRecord, ShardState};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{BackendId, ProcessId, ShardId};
use crate::ops::Controls;
use crate::ops::examine::{self, Examination};
use crate::ops::mend::{self, MendError, Rebuilt, Target, WriteMode};
use crate::ops::reader::ShardPlace;
use crate::ops::remove::{Which, delete_pending};
use crate::ops::writer::{WriteFailures, clear_begun, clear_begun_and_look};
use crate::store::Store;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Carries out what is planned for one object.
pub(in crate::ops) struct Carrier<'a> {
    pub(in crate::ops) store: &'a Store,
    pub(in crate::ops) seen: &'a Examination,
    pub(in crate::ops) controls: &'a Controls,
    /// Collects the backends that fail a write.
    pub(in crate::ops) failures: WriteFailures,
    pub(in crate::ops) purpose: Purpose,
}

/// What became of the tasks.
#[derive(Debug, Default)]
pub(in crate::ops) struct Carried {
    pub(in crate::ops) done: Vec<Task>,
    /// With why, in words.
    pub(in crate::ops) failed: Vec<(Task, String)>,
    pub(in crate::ops) bytes_read: u64,
    pub(in crate::ops) bytes_written: u64,
}

impl Carrier<'_> {
    /// Makes the shards of these tasks. An error only when it was cancelled or the catalog failed.
    pub(in crate::ops) async fn carry_out(&self, tasks: Vec<Task>) -> Result<Carried> {
        let mut carried = Carried::default();
        if tasks.is_empty() {
            return Ok(carried);
        }
        // A write that failed in one of these places may have left something there, and nothing would name that any more
        // once a new shard is recorded in its place.
        let object = BTreeSet::from([self.seen.object()]);
        carried.bytes_read += delete_pending(self.store, Which::Of(object), self.controls).await?.bytes_read;
        if let Some(process) = self.journal(&tasks).await? {
            let why = format!("process {process} is writing shards of the object");
            carried.failed.extend(tasks.into_iter().map(|task| (task, why.clone())));
            return Ok(carried);
        }
        let (copies, rebuilds): (Vec<Task>, Vec<Task>) = tasks.into_iter().partition(|task| task.means == Means::Copy);
        let mut doubtful = Vec::new();
        for tasks in [rebuilds, copies] {
            if let Err(error) = self.carry_alike(tasks, &mut carried, &mut doubtful).await {
                self.end_journal(&carried, doubtful).await?;
                return Err(error);
            }
        }
        self.end_journal(&carried, doubtful).await?;
        Ok(carried)
    }

    /// Gives up copies, each of which is of no use while a good one is elsewhere.
    pub(in crate::ops) async fn discard(&self, copies: Vec<(u8, BackendId)>) -> Result<()> {
        let object = self.seen.object();
        for (index, backend) in copies {
            let forget = move |catalog: &mut Catalog| match catalog.discard_shard(object, index, backend) {
                Err(catalog::Error::UnknownShard { .. }) => Ok(()),
                other => other,
            };
            self.store.catalog(forget).await?;
            self.delete_old(index, backend).await?;
        }
        Ok(())
    }

    /// Writes down what is about to be written; says who is at it already.
    async fn journal(&self, tasks: &[Task]) -> Result<Option<ProcessId>> {
        let entry = JournalEntry {
            object: self.seen.object(),
            process: self.store.lasting_process().await?,
            purpose: self.purpose,
            name: None,
            version: None,
            shards: tasks.iter().map(|task| (task.index, task.to)).collect(),
        };
        let begin = move |catalog: &mut Catalog| match catalog.begin(&entry) {
            Err(catalog::Error::Journaled { process, .. }) => Ok(Some(process)),
            other => other.map(|()| None),
        };
        self.store.catalog(begin).await
    }

    /// Carries out tasks of one kind, and those that then must be done over what was there.
    async fn carry_alike(&self, tasks: Vec<Task>, carried: &mut Carried, doubtful: &mut Vec<Task>) -> Result<()> {
        let mut tasks = tasks;
        // What is in the way is looked at once; what is bad is then replaced.
        for _ in 0..2 {
            if tasks.is_empty() {
                return Ok(());
            }
            let outcomes = match self.make(&tasks).await {
                Ok(rebuilt) => {
                    carried.bytes_read += rebuilt.bytes_read;
                    carried.bytes_written += rebuilt.bytes_written;
                    rebuilt.outcomes
                }
                Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    let why = in_words(&error);
                    carried.failed.extend(tasks.into_iter().map(|task| (task, why.clone())));
                    return Ok(());
                }
            };
            let (mut in_the_way, mut blocked) = (Vec::new(), Vec::new());
            for (task, outcome) in tasks.into_iter().zip(outcomes) {
                match outcome {
                    Ok(bytes) => self.settle(task, bytes, carried).await?,
                    Err(MendError::Write { source, .. }) if source.kind == BackendErrorKind::AlreadyExists => {
                        blocked.push(task);
                    }
                    Err(error) => self.fail(task, error, carried, doubtful),
                }
            }
            // Looking may take long and be cancelled: what is written is recorded before.
            for task in blocked {
                in_the_way.extend(self.look_in_the_way(task, carried).await?);
            }
            tasks = in_the_way;
        }
        let why = "a copy appeared where it was to be written";
        carried.failed.extend(tasks.into_iter().map(|task| (task, why.to_owned())));
        Ok(())
    }

    async fn make(&self, tasks: &[Task]) -> Result<Rebuilt> {
        let registry = self.store.registry();
        let backend = |id: BackendId| {
            let gone = || Error::new(ErrorKind::NotFound, format!("backend {id} is not registered"));
            registry.get(id).map(|place| Arc::clone(&place.backend)).ok_or_else(gone)
        };
        let target =
            |task: &Task| Ok(Target { index: task.index, place: task.to, backend: backend(task.to)?, mode: task.mode });
        let targets = tasks.iter().map(target).collect::<Result<Vec<Target>>>()?;
        let copy = |task: &Task| {
            let from = task.from.filter(|_| task.means == Means::Copy)?;
            let source = registry.get(from).filter(|place| place.is_ready()).map(|place| Arc::clone(&place.backend));
            Some(ShardPlace { index: task.index, backend: from, source })
        };
        let copies: Vec<ShardPlace> = tasks.iter().filter_map(copy).collect();
        if copies.is_empty() {
            return mend::rebuild_shards(&self.seen.reader, targets, self.controls).await;
        }
        mend::copy_shards(&self.seen.reader, copies, targets, self.controls).await
    }

    /// The shard is durable: from here on the catalog says so, and the old copy goes.
    async fn settle(&self, task: Task, bytes: u64, carried: &mut Carried) -> Result<()> {
        let object = self.seen.object();
        let Task { index, from, to, .. } = task;
        let record = ShardRecord { index, backend: to, bytes, state: ShardState::Ok, bad_blocks: 0, verified_ns: None };
        let write = move |catalog: &mut Catalog| match from {
            Some(from) => catalog.move_shard(object, index, from, &record),
            None => catalog.put_shard(object, &record),
        };
        self.store.catalog(write).await?;
        if let Some(from) = from.filter(|from| *from != to) {
            self.delete_old(index, from).await?;
        }
        carried.done.push(task);
        Ok(())
    }

    /// Deletes a copy that waits for deletion, if its place takes that now.
    async fn delete_old(&self, index: u8, backend: BackendId) -> Result<()> {
        let shard = ShardId { object: self.seen.object(), index };
        let Some(place) = self.store.registry().get(backend) else { return Ok(()) };
        if !place.is_ready() || place.read_only || place.backend.delete(shard).await.is_err() {
            return Ok(());
        }
        self.store.catalog(move |catalog| catalog.confirm_deleted(shard.object, shard.index, backend)).await
    }

    /// A copy is where one was to be created: a whole one is taken as it is, a bad one is to be replaced.
    async fn look_in_the_way(&self, task: Task, carried: &mut Carried) -> Result<Option<Task>> {
        let place = [(task.index, task.to)];
        let mut looks = Vec::new();
        for _ in 0..2 {
            let look = examine::look_again(self.seen, self.store.registry(), &place, self.controls).await?;
            carried.bytes_read += look.bytes_read;
            looks.extend(look.copies);
            if let Some(whole) = looks.iter().find(|copy| copy.state == ShardState::Ok) {
                self.settle(task, whole.bytes, carried).await?;
                return Ok(None);
            }
        }
        if looks.iter().all(|copy| copy.state == ShardState::Corrupt) {
            return Ok(Some(Task { mode: WriteMode::Replace, ..task }));
        }
        carried.failed.push((task, "a copy is there and cannot be read now".to_owned()));
        Ok(None)
    }

    fn fail(&self, task: Task, error: MendError, carried: &mut Carried, doubtful: &mut Vec<Task>) {
        let why = match error {
            MendError::Write { source, .. } => {
                let why = in_words(&source);
                self.failures.note(task.to, source);
                why
            }
            other => in_words(&other),
        };
        doubtful.push(task);
        carried.failed.push((task, why));
    }

    /// Clears what failed writes may have left, and ends the journal entry; deletes wait where that is not possible now. A copy
    /// that was there before, good by record or waiting for its deletion, is not what they left.
    async fn end_journal(&self, carried: &Carried, doubtful: Vec<Task>) -> Result<()> {
        let object = self.seen.object();
        let ask = move |catalog: &Catalog| {
            let there = catalog.shards(object)?.into_iter().filter(|shard| shard.state != ShardState::Missing);
            let there = there.map(|shard| (shard.index, shard.backend));
            Ok(there.chain(catalog.waiting_places(object)?).collect::<BTreeSet<_>>())
        };
        let there = if doubtful.is_empty() { BTreeSet::new() } else { self.store.look(ask).await? };
        let mut left = Vec::new();
        for task in doubtful {
            let shard = ShardId { object, index: task.index };
            let cleared = match self.store.registry().get(task.to) {
                // A replacement that failed left the old bytes or the new, each whole.
                Some(place) if task.mode == WriteMode::Replace || there.contains(&(task.index, task.to)) => {
                    // What stays unfinished beside it goes with the next write there.
                    let _ = clear_begun(place.backend.as_ref(), shard).await;
                    true
                }
                // What is there is deleted once another copy was read, or is the shard.
                Some(place) => clear_begun_and_look(place.backend.as_ref(), shard).await.is_ok_and(|there| !there),
                None => false,
            };
            if !cleared {
                left.push((task.index, task.to));
            }
        }
        let succeeded: Vec<BackendId> = carried.done.iter().map(|task| task.to).collect();
        let failures = self.failures.clone();
        let end = move |catalog: &mut Catalog| {
            failures.write_down(catalog, &succeeded)?;
            catalog.end_journal_leaving(object, &left)
        };
        self.store.catalog(end).await
    }
}

/// An error and what is underneath, in one line.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}
