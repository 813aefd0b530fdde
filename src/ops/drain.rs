//! `backend drain`: moves every shard off a backend, which takes no new ones from then on.
//!
//! Each shard goes by the same plan and the same order of writes as in a repair: copied while it is good, rebuilt where it
//! is not, the old one deleted only when the new one is durable and in the catalog. So it can be interrupted and run again.

use super::examine::{self, Depth, Examination, Subject};
use super::rebuild::MAINTENANCE;
use super::remove::{Which, delete_pending};
use super::repair::{Carried, Plan, Task, Work, crowded_zone, forgive, name_of};
use super::verify::record;
use super::writer::WriteFailures;
use super::{Controls, leftovers};
use crate::catalog::Purpose;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{BackendId, ObjectId, ShardId};
use crate::store::{Draining, Store};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Instant;

/// How many rows are asked of the catalog at a time.
const PAGE: usize = 1000;

/// What is to be drained.
#[derive(Debug, Clone, Default)]
pub struct DrainOptions {
    /// The backend's name.
    pub backend: String,
    /// Progress and cancellation.
    pub controls: Controls,
}

/// What draining did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DrainReport {
    /// The backend.
    pub backend: String,
    /// Whether the catalog has nothing there any more, and nothing there waits for deletion.
    pub empty: bool,
    /// Shards that are somewhere else now.
    pub moved: Vec<MovedShard>,
    /// Shards that are still there, and why.
    pub left: Vec<StuckShard>,
    /// How many bytes were read.
    pub bytes_read: u64,
    /// How many bytes of shards were written.
    pub bytes_written: u64,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// A shard that is somewhere else now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MovedShard {
    /// The object.
    pub object: ObjectId,
    /// Which shard of it.
    pub index: u8,
    /// The backend it is on now.
    pub to: String,
    /// The zone of that backend, where no other took the shard and it has more of the object's shards now than the seal
    /// allows to one zone.
    pub crowded_zone: Option<String>,
}

/// A shard that could not be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StuckShard {
    /// The object.
    pub object: ObjectId,
    /// Which shard of it.
    pub index: u8,
    /// Why.
    pub reason: String,
}

/// Moves every shard off a backend. The settings say from the start that it takes no new ones, and go on saying so.
///
/// [`ErrorKind::NotFound`] when there is no such backend, [`ErrorKind::Busy`] while another process repairs, drains or
/// collects garbage. Shards that cannot be moved now are in the report.
pub async fn drain(store: &mut Store, options: DrainOptions) -> Result<DrainReport> {
    let begun = Instant::now();
    let unknown = || Error::new(ErrorKind::NotFound, format!("there is no backend {:?}", options.backend));
    let backend = store.registry().by_name(&options.backend).ok_or_else(unknown)?.id;
    leftovers::clear(store, &options.controls).await?;
    let _lease = store.lease(MAINTENANCE).await?;
    forgive(store).await?;
    store.set_draining(&options.backend, Draining::Yes)?;
    let store: &Store = store;
    let mut report = DrainReport { backend: options.backend.clone(), ..DrainReport::default() };
    let leaving = [backend];
    let work = Work { store, leaving: &leaving, controls: &options.controls, failures: WriteFailures::default() };
    clear_backend(&work, &mut report).await?;
    let mut deletes = delete_pending(store, Which::On(backend), &options.controls).await?;
    if deletes.called_off > 0 || (report.left.is_empty() && !objects_on(store, backend).await?.is_empty()) {
        // What had to stay was recorded there again, and is moved like any other.
        clear_backend(&work, &mut report).await?;
        deletes.add_last(delete_pending(store, Which::On(backend), &options.controls).await?);
    }
    report.bytes_read += deletes.bytes_read;
    report.empty = deletes.waiting_count() == 0 && objects_on(store, backend).await?.is_empty();
    report.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

/// Moves off what is recorded there.
async fn clear_backend(work: &Work<'_>, report: &mut DrainReport) -> Result<()> {
    let objects = objects_on(work.store, work.leaving[0]).await?;
    // A shard that could not be moved before is told once.
    report.left.clear();
    work.controls.begin("drain", None, Some(objects.len() as u64));
    for object in objects {
        work.controls.check_cancelled()?;
        clear_object(work, object, report).await?;
        work.controls.items(1);
    }
    work.controls.end();
    Ok(())
}

/// The objects that have a shard recorded there.
async fn objects_on(store: &Store, backend: BackendId) -> Result<Vec<ObjectId>> {
    let collect = move |catalog: &mut crate::catalog::Catalog| {
        let mut objects = Vec::new();
        let mut after: Option<ShardId> = None;
        loop {
            let page = catalog.shards_on(backend, after, PAGE)?;
            let Some((object, shard)) = page.last() else { break };
            after = Some(ShardId { object: *object, index: shard.index });
            objects.extend(page.into_iter().map(|(object, _)| object));
            objects.dedup();
        }
        Ok(objects)
    };
    store.catalog(collect).await
}

/// Moves one object's shards off.
async fn clear_object(work: &Work<'_>, object: ObjectId, report: &mut DrainReport) -> Result<()> {
    let (store, backend) = (work.store, work.leaving[0]);
    let mut stuck = Vec::new();
    // Each round fails at least one backend more, or is the last.
    for _ in 0..=store.registry().len() {
        let Some((seen, plan)) = plan(work, object, report).await? else { return Ok(()) };
        stuck = plan.homeless.iter().map(|index| stuck_shard(object, *index, plan.homeless_why)).collect();
        if plan.is_empty() {
            stuck.extend(unplanned(&seen, backend, &plan));
            break;
        }
        let carried = work.carry_out(&seen, plan, Purpose::Move).await?;
        report.add(work, object, &carried);
        stuck.extend(carried.failed.iter().map(|(task, why)| stuck_shard(object, task.index, why)));
        if carried.failed.is_empty() {
            break;
        }
    }
    report.left.extend(stuck);
    if let Some(after) = examine::examine(store, object, Depth::Quick, work.controls).await? {
        report.bytes_read += after.bytes_read;
        record(store, &after).await?;
    }
    Ok(())
}

/// What takes this object's shards off the backend, and nothing else; `None` when the object is gone.
///
/// Copies are verified block by block on their way, so a quick look is enough, except before a copy is given up because
/// another is there.
async fn plan(work: &Work<'_>, object: ObjectId, report: &mut DrainReport) -> Result<Option<(Examination, Plan)>> {
    let backend = work.leaving[0];
    for depth in [Depth::Quick, Depth::Full] {
        let Some(subject) = Subject::load(work.store, object).await? else { return Ok(None) };
        let seen = subject.examine(work.store.registry(), depth, work.controls).await?;
        report.bytes_read += seen.bytes_read;
        let mut plan = work.plan(&seen, &BTreeSet::new()).await?;
        plan.tasks.retain(|task| task.from == Some(backend));
        plan.discards.retain(|(_, place)| *place == backend);
        plan.homeless.retain(|index| seen.copies_of(*index).any(|copy| copy.backend == Some(backend)));
        if plan.discards.is_empty() || depth == Depth::Full {
            return Ok(Some((seen, plan)));
        }
    }
    Ok(None)
}

/// Shards there for which nothing can be done now.
fn unplanned(seen: &Examination, backend: BackendId, plan: &Plan) -> Vec<StuckShard> {
    let there = seen.copies.iter().filter(|copy| copy.recorded && copy.backend == Some(backend));
    let unsaid = there.filter(|copy| !plan.homeless.contains(&copy.index));
    let reason = "too few good shards of its object are within reach";
    unsaid.map(|copy| stuck_shard(seen.object(), copy.index, reason)).collect()
}

fn stuck_shard(object: ObjectId, index: u8, reason: &str) -> StuckShard {
    StuckShard { object, index, reason: reason.to_owned() }
}

impl DrainReport {
    fn add(&mut self, work: &Work<'_>, object: ObjectId, carried: &Carried) {
        let registry = work.store.registry();
        let moved = |task: &Task| MovedShard {
            object,
            index: task.index,
            to: name_of(registry, task.to),
            crowded_zone: crowded_zone(registry, task),
        };
        self.moved.extend(carried.done.iter().map(moved));
        self.bytes_read += carried.bytes_read;
        self.bytes_written += carried.bytes_written;
    }
}
