//! `repair`: makes objects whole again, the most endangered first.
//!
//! *What it is.* [`repair`]: looks at every object quickly to find the order, then at each closely, plans what is missing,
//! bad or in the wrong place, and carries it out.
//!
//! *What it knows.* When a copy counts as bad, where a shard should go, the order of writes.
//!
//! *What it does not know.* How objects are read, examined, decoded.
//!
//! *Invariants.* On a healthy object nothing is written. A bad copy is replaced only after it was read twice and was bad
//! both times. An unreachable copy is left alone, unless its backend is assumed lost. A shard's old place is given up
//! only when the new one is durable and in the catalog; whatever is interrupted can be run again.

mod carry;
mod plan;
mod report;

use super::Controls;
use super::examine::{self, Depth, Examination, Subject};
use super::rebuild::MAINTENANCE;
use super::remove::{examine_with_waiting, verify_with_waiting};
use super::verify::{VerifyOptions, record, select};
use super::writer::{WriteFailures, failed_writers};
use super::{leftovers, verify};
use crate::backend;
use crate::catalog::{ObjectState, Purpose, ShardState};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::id::{BackendId, ObjectId, ShardId};
use crate::store::Store;
pub(in crate::ops) use carry::{Carried, Carrier};
pub(in crate::ops) use plan::{Plan, Situation, Task};
use report::Ledger;
pub use report::{BackendPlan, LeftShard, RebuiltShard, RepairReport, RepairedObject};
pub(in crate::ops) use report::{crowded_zone, name_of};
use std::collections::BTreeSet;
use std::time::Instant;

/// What is to be repaired.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    /// Files, or folders of files, as they are now; all objects when there are none.
    pub names: Vec<FileName>,
    /// Names or ids of backends that will not come back: what is on them is made again elsewhere.
    pub assume_lost: Vec<String>,
    /// Only says what would be done.
    pub dry_run: bool,
    /// Progress and cancellation.
    pub controls: Controls,
}

/// Repairs objects. [`ErrorKind::NotFound`] for a name or backend that there is not, [`ErrorKind::Busy`] while another
/// process repairs, drains or collects garbage. What could not be repaired is in the report.
pub async fn repair(store: &Store, options: RepairOptions) -> Result<RepairReport> {
    let begun = Instant::now();
    let leaving = assumed_lost(store, &options.assume_lost)?;
    let _lease = match options.dry_run {
        true => None,
        false => {
            leftovers::clear(store, &options.controls).await?;
            let lease = store.lease(MAINTENANCE).await?;
            forgive(store).await?;
            Some(lease)
        }
    };
    let mut ledger = Ledger::new(store.registry());
    let objects = by_danger(store, &options, &mut ledger).await?;
    let failures = WriteFailures::default();
    let mut report = RepairReport::default();
    options.controls.begin("repair", None, Some(objects.len() as u64));
    for object in objects {
        options.controls.check_cancelled()?;
        let work = Work { store, leaving: &leaving, controls: &options.controls, failures: failures.clone() };
        let repaired = match options.dry_run {
            true => work.rehearse(object, &mut ledger).await?,
            false => work.repair(object, &mut ledger).await?,
        };
        report.objects.extend(repaired);
        options.controls.items(1);
    }
    options.controls.end();
    report.conclude(ledger, options.dry_run, begun.elapsed());
    Ok(report)
}

/// Tries the backends whose last write failed again, and forgets it of those that take writes now: otherwise one bad day
/// would keep repairs away from them for ever.
pub(in crate::ops) async fn forgive(store: &Store) -> Result<()> {
    let mut well = Vec::new();
    for backend in failed_writers(store).await? {
        let shard = ShardId { object: ObjectId::of_probe(store.random_bytes()?), index: 0 };
        let place = store.registry().get(backend).filter(|place| place.is_ready() && !place.read_only);
        if let Some(place) = place
            && backend::probe(place.backend.as_ref(), shard).await.is_ok()
        {
            well.push(backend);
        }
    }
    store.catalog(move |catalog| WriteFailures::default().write_down(catalog, &well)).await
}

fn assumed_lost(store: &Store, names: &[String]) -> Result<Vec<BackendId>> {
    let find = |name: &String| {
        let by_name = store.registry().by_name(name).map(|backend| backend.id);
        by_name.or_else(|| name.parse().ok()).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no backend {name:?}"))
                .with_hint("`shard backend list` shows what there is")
        })
    };
    names.iter().map(find).collect()
}

/// The objects, those first of which the least more may be lost.
async fn by_danger(store: &Store, options: &RepairOptions, ledger: &mut Ledger) -> Result<Vec<ObjectId>> {
    let wanted = VerifyOptions { names: options.names.clone(), ..VerifyOptions::default() };
    let selected = select(store, &wanted).await?;
    options.controls.begin("look", None, Some(selected.objects.len() as u64));
    let mut ranked = Vec::with_capacity(selected.objects.len());
    for object in selected.objects {
        options.controls.check_cancelled()?;
        let Some(subject) = Subject::load(store, object).await? else { continue };
        let seen = subject.examine(store.registry(), Depth::Quick, &Controls::default()).await?;
        ledger.read(seen.bytes_read);
        ranked.push((seen.margin, seen.backend_margin, std::cmp::Reverse(seen.state), object));
        options.controls.items(1);
    }
    options.controls.end();
    ranked.sort_unstable();
    Ok(ranked.into_iter().map(|(.., object)| object).collect())
}

/// The work on one object.
pub(in crate::ops) struct Work<'a> {
    pub(in crate::ops) store: &'a Store,
    /// Backends on which nothing shall stay.
    pub(in crate::ops) leaving: &'a [BackendId],
    pub(in crate::ops) controls: &'a Controls,
    pub(in crate::ops) failures: WriteFailures,
}

impl Work<'_> {
    /// Examines an object closely and does whatever it needs; `None` when it is gone.
    async fn repair(&self, object: ObjectId, ledger: &mut Ledger) -> Result<Option<RepairedObject>> {
        // What waits for deletion may be the last copy of a shard by now.
        let looked = verify_with_waiting(self.store, object, self.leaving, self.controls).await?;
        let Some((mut seen, bytes_read)) = looked else { return Ok(None) };
        ledger.read(bytes_read);
        let mut repaired = RepairedObject::new(&seen);
        // Each round fails at least one backend more, or is the last.
        for _ in 0..=self.store.registry().len() {
            let bad_twice = self.bad_twice(&seen, ledger).await?;
            let mut plan = self.plan(&seen, &bad_twice).await?;
            // No copy is given up for one that only seems good: after a round that failed, the next repair sees to that.
            if !seen.full {
                plan.discards.clear();
            }
            if plan.is_empty() {
                repaired.leave_homeless(&plan);
                break;
            }
            let carried = self.carry_out(&seen, plan, Purpose::Repair).await?;
            ledger.carried(&carried);
            repaired.add(self.store.registry(), &carried);
            let Some(next) = self.look_after(&seen, ledger).await? else { return Ok(None) };
            seen = next;
            if carried.failed.is_empty() {
                break;
            }
        }
        repaired.conclude(self.store.registry(), &seen);
        Ok(Some(repaired))
    }

    /// Says what repairing would do.
    async fn rehearse(&self, object: ObjectId, ledger: &mut Ledger) -> Result<Option<RepairedObject>> {
        let looked = examine_with_waiting(self.store, object, self.leaving, self.controls).await?;
        let Some((seen, bytes_read)) = looked else { return Ok(None) };
        ledger.read(bytes_read);
        let mut repaired = RepairedObject::new(&seen);
        let bad_twice = self.bad_twice(&seen, ledger).await?;
        let plan = self.plan(&seen, &bad_twice).await?;
        ledger.planned(&seen, &plan);
        repaired.leave_homeless(&plan);
        repaired.rehearsed(self.store.registry(), &plan);
        repaired.conclude(self.store.registry(), &seen);
        Ok(Some(repaired))
    }

    /// What the object needs now.
    pub(in crate::ops) async fn plan(&self, seen: &Examination, bad_twice: &BTreeSet<(u8, BackendId)>) -> Result<Plan> {
        let mut failed = self.failures.backends();
        failed.extend(failed_writers(self.store).await?);
        let situation =
            Situation { seen, registry: self.store.registry(), failed: &failed, leaving: self.leaving, bad_twice };
        Ok(situation.plan())
    }

    /// Makes what is planned, and gives up what it makes useless.
    pub(in crate::ops) async fn carry_out(&self, seen: &Examination, plan: Plan, purpose: Purpose) -> Result<Carried> {
        let failures = self.failures.clone();
        let carrier = Carrier { store: self.store, seen, controls: self.controls, failures, purpose };
        let carried = carrier.carry_out(plan.tasks).await?;
        carrier.discard(plan.discards).await?;
        Ok(carried)
    }

    /// Reads what was bad again; what is bad again may be replaced.
    async fn bad_twice(&self, seen: &Examination, ledger: &mut Ledger) -> Result<BTreeSet<(u8, BackendId)>> {
        let bad = seen.copies.iter().filter(|copy| copy.state == ShardState::Corrupt);
        let bad: Vec<(u8, BackendId)> = bad.filter_map(|copy| Some((copy.index, copy.backend?))).collect();
        if bad.is_empty() {
            return Ok(BTreeSet::new());
        }
        let again = examine::look_again(seen, self.store.registry(), &bad, self.controls).await?;
        ledger.read(again.bytes_read);
        let still = again.copies.into_iter().filter(|copy| copy.state == ShardState::Corrupt);
        Ok(still.filter_map(|copy| Some((copy.index, copy.backend?))).collect())
    }

    /// How the object is after a round, without reading again what was just proved.
    async fn look_after(&self, before: &Examination, ledger: &mut Ledger) -> Result<Option<Examination>> {
        // A quick look would take a bad copy that no catalog knows for a good one.
        let stray = before.copies.iter().any(|copy| !copy.recorded && copy.state == ShardState::Corrupt);
        let depth = if stray { Depth::Full } else { Depth::Quick };
        let Some(after) = examine::examine(self.store, before.object(), depth, self.controls).await? else {
            return Ok(None);
        };
        ledger.read(after.bytes_read);
        Ok(record(self.store, &after).await?.then_some(after))
    }
}

/// The worst state in which repairing left any object.
pub fn worst_after(report: &RepairReport) -> ObjectState {
    verify::worst_state(report.objects.iter().map(|object| object.after))
}
