//! What repairing says: what was done to each object, and what it took.

use super::{Carried, Plan, Task};
use crate::backend::BackendRegistry;
use crate::catalog::{ObjectState, ShardState};
use crate::format::ShardFileLayout;
use crate::id::{BackendId, ObjectId};
use crate::ops::examine::{Examination, is_good};
use crate::ops::repair::plan::Means;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What repairing did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RepairReport {
    /// The objects that were looked at, the most endangered first.
    pub objects: Vec<RepairedObject>,
    /// What repairing would read and write, backend by backend; only when it was asked what it would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Vec<BackendPlan>>,
    /// How many bytes were read.
    pub bytes_read: u64,
    /// How many bytes of shards were written.
    pub bytes_written: u64,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// What was done to one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairedObject {
    /// The object.
    pub id: ObjectId,
    /// How it was.
    pub before: ObjectState,
    /// How it is.
    pub after: ObjectState,
    /// Shards that were made, or would be.
    pub rebuilt: Vec<RebuiltShard>,
    /// Shards that are still not as they should be, and why.
    pub left: Vec<LeftShard>,
}

/// A shard that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RebuiltShard {
    /// Which shard.
    pub index: u8,
    /// The backend where it was, or should have been; `None` if it never had a place.
    pub from: Option<String>,
    /// The backend where it is now.
    pub to: String,
    /// The zone of that backend, where no other took the shard and it has more of the object's shards now than the seal
    /// allows to one zone.
    pub crowded_zone: Option<String>,
}

/// A shard that is still not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftShard {
    /// Which shard.
    pub index: u8,
    /// Where it should be.
    pub backend: Option<String>,
    /// How it is.
    pub state: ShardState,
    /// Why.
    pub reason: String,
}

/// What repairing would do to one backend.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BackendPlan {
    /// Its name.
    pub backend: String,
    /// How many bytes would be read from it.
    pub bytes_read: u64,
    /// How many bytes would be written to it.
    pub bytes_written: u64,
    /// How many shards would be written to it.
    pub shards: u64,
}

/// Counts bytes, over all objects.
#[derive(Debug)]
pub(super) struct Ledger {
    bytes_read: u64,
    bytes_written: u64,
    backends: BTreeMap<usize, BackendPlan>,
    positions: BTreeMap<BackendId, usize>,
}

impl Ledger {
    pub(super) fn new(registry: &BackendRegistry) -> Self {
        let plan = |backend: &str| BackendPlan { backend: backend.to_owned(), ..BackendPlan::default() };
        Self {
            bytes_read: 0,
            bytes_written: 0,
            backends: registry.iter().map(|backend| plan(&backend.name)).enumerate().collect(),
            positions: registry.iter().enumerate().map(|(position, backend)| (backend.id, position)).collect(),
        }
    }

    pub(super) fn read(&mut self, bytes: u64) {
        self.bytes_read += bytes;
    }

    pub(super) fn carried(&mut self, carried: &Carried) {
        self.bytes_read += carried.bytes_read;
        self.bytes_written += carried.bytes_written;
    }

    /// What a plan would read and write: k good shards once, whatever number is rebuilt from them; each moved shard once.
    pub(super) fn planned(&mut self, seen: &Examination, plan: &Plan) {
        let file_bytes = ShardFileLayout::of(&seen.manifest).file_bytes();
        let blocks_bytes = seen.manifest.layout().shard_blocks_bytes();
        if plan.tasks.iter().any(|task| task.means == Means::Rebuild) {
            let mut sources: BTreeMap<u8, BackendId> = BTreeMap::new();
            for copy in seen.copies.iter().filter(|copy| is_good(copy.state)) {
                copy.backend.map(|backend| sources.entry(copy.index).or_insert(backend));
            }
            for backend in sources.into_values().take(seen.geometry().data_shards()) {
                self.at(backend, |plan| plan.bytes_read += blocks_bytes);
            }
        }
        for task in &plan.tasks {
            if let Some(from) = task.from.filter(|_| task.means == Means::Copy) {
                self.at(from, |plan| plan.bytes_read += blocks_bytes);
            }
            self.at(task.to, |plan| {
                plan.bytes_written += file_bytes;
                plan.shards += 1;
            });
        }
    }

    fn at(&mut self, backend: BackendId, change: impl FnOnce(&mut BackendPlan)) {
        let plan = self.positions.get(&backend).and_then(|position| self.backends.get_mut(position));
        plan.map(change).unwrap_or_default();
    }
}

impl RepairReport {
    pub(super) fn conclude(&mut self, ledger: Ledger, dry_run: bool, elapsed: Duration) {
        self.bytes_read = ledger.bytes_read;
        self.bytes_written = ledger.bytes_written;
        self.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.plan = dry_run.then(|| ledger.backends.into_values().collect());
    }
}

impl RepairedObject {
    pub(super) fn new(seen: &Examination) -> Self {
        Self { id: seen.object(), before: seen.state, after: seen.state, rebuilt: Vec::new(), left: Vec::new() }
    }

    pub(super) fn add(&mut self, registry: &BackendRegistry, carried: &Carried) {
        self.rebuilt.extend(carried.done.iter().map(|task| RebuiltShard::new(registry, task)));
        self.left.clear();
        for (task, why) in &carried.failed {
            let backend = Some(name_of(registry, task.to));
            let state = ShardState::Missing;
            self.left.push(LeftShard { index: task.index, backend, state, reason: why.clone() });
        }
    }

    pub(super) fn rehearsed(&mut self, registry: &BackendRegistry, plan: &Plan) {
        self.rebuilt = plan.tasks.iter().map(|task| RebuiltShard::new(registry, task)).collect();
    }

    /// Of a shard that failed to be written before it had no place left, that is said already.
    pub(super) fn leave_homeless(&mut self, plan: &Plan) {
        for index in &plan.homeless {
            if self.left.iter().any(|left| left.index == *index) {
                continue;
            }
            let reason = plan.homeless_why.to_owned();
            self.left.push(LeftShard { index: *index, backend: None, state: ShardState::Missing, reason });
        }
    }

    /// The last look says how the object is, and for shards of which nothing was said yet, why.
    pub(super) fn conclude(&mut self, registry: &BackendRegistry, seen: &Examination) {
        self.after = seen.state;
        let in_order = |index: u8| seen.copies_of(index).any(|copy| copy.state == ShardState::Ok);
        self.left.retain(|left| !in_order(left.index));
        for copy in seen.copies.iter().filter(|copy| !in_order(copy.index)) {
            let said = self.left.iter_mut().find(|left| left.index == copy.index);
            let planned = self.rebuilt.iter().any(|rebuilt| rebuilt.index == copy.index);
            match said {
                Some(left) => left.state = copy.state,
                None if planned => {}
                None => self.left.push(LeftShard {
                    index: copy.index,
                    backend: copy.backend.map(|backend| name_of(registry, backend)),
                    state: copy.state,
                    reason: copy.defect.as_ref().map(ToString::to_string).unwrap_or_default(),
                }),
            }
        }
    }
}

impl RebuiltShard {
    fn new(registry: &BackendRegistry, task: &Task) -> Self {
        let (from, to) = (task.from.map(|from| name_of(registry, from)), name_of(registry, task.to));
        Self { index: task.index, from, to, crowded_zone: crowded_zone(registry, task) }
    }
}

/// The zone that a task crowds, if it does.
pub(in crate::ops) fn crowded_zone(registry: &BackendRegistry, task: &Task) -> Option<String> {
    let place = registry.get(task.to).filter(|_| task.is_crowding)?;
    Some(place.zone.to_string())
}

/// A backend's name, or its id where it is not registered any more.
pub(in crate::ops) fn name_of(registry: &BackendRegistry, backend: BackendId) -> String {
    registry.get(backend).map_or_else(|| backend.to_string(), |backend| backend.name.clone())
}
