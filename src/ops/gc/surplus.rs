//! Copies of shards that are one too many.

use super::GcReport;
use crate::catalog::{Catalog, ShardState};
use crate::error::Result;
use crate::id::ObjectId;
use crate::ops::Controls;
use crate::ops::examine::{Depth, Examination, examine};
use crate::ops::remove::{Deletes, Which, delete_pending};
use crate::ops::show::backend_name;
use crate::store::Store;
use serde::Serialize;

/// How many objects are asked of the catalog at a time.
const PAGE_OBJECTS: usize = 1000;

/// A copy of a shard that was one too many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SurplusCopy {
    /// The object.
    pub object: ObjectId,
    /// Which shard.
    pub index: u8,
    /// The backend's name.
    pub backend: String,
}

/// Gives up surplus copies of objects of which all n shards were just read and are intact, each in its place, and deletes
/// them.
pub(super) async fn clear(store: &Store, report: &mut GcReport, controls: &Controls) -> Result<Deletes> {
    let mut deletes = Deletes::default();
    each(store, controls, async |examination: &Examination| {
        let (object, now_ns) = (examination.object(), store.now_ns());
        let (check, challenges) = (examination.check_record(now_ns), examination.challenges(now_ns));
        let surplus = surplus_of(store, examination);
        report.bytes_read += examination.bytes_read;
        let places: Vec<_> = examination
            .copies
            .iter()
            .filter(|copy| copy.state == ShardState::Surplus)
            .filter_map(|copy| Some((copy.index, copy.backend?)))
            .collect();
        let (is_whole, moved_away) = (!surplus.is_empty(), examination.moved_away.clone());
        report.surplus.extend(surplus);
        store
            .catalog(move |catalog| {
                if catalog.object_is_live(object)? {
                    moved_away.iter().try_for_each(|(index, backend)| catalog.drop_shard(object, *index, *backend))?;
                }
                let is_live = catalog.record_look(&check, &challenges)?;
                if is_live && is_whole {
                    places.iter().try_for_each(|(index, backend)| catalog.discard_shard(object, *index, *backend))?;
                }
                Ok(())
            })
            .await?;
        if is_whole {
            deletes.add(delete_pending(store, Which::Proved(object), controls).await?);
        }
        Ok(())
    })
    .await?;
    Ok(deletes)
}

/// Says which would go.
pub(super) async fn plan(store: &Store, report: &mut GcReport, controls: &Controls) -> Result<()> {
    each(store, controls, async |examination: &Examination| {
        report.bytes_read += examination.bytes_read;
        report.surplus.extend(surplus_of(store, examination));
        Ok(())
    })
    .await
}

/// The surplus copies, if every shard has a copy that is intact and in its place; else none.
fn surplus_of(store: &Store, examination: &Examination) -> Vec<SurplusCopy> {
    let object = examination.object();
    let is_intact = |index| examination.copies_of(index).any(|copy| copy.state == ShardState::Ok);
    if !examination.geometry().shard_indexes().all(is_intact) {
        return Vec::new();
    }
    let surplus = examination.copies.iter().filter(|copy| copy.state == ShardState::Surplus);
    surplus
        .filter_map(|copy| Some(SurplusCopy { object, index: copy.index, backend: backend_name(store, copy.backend?) }))
        .collect()
}

/// Examines every object that has two copies of a shard.
async fn each(store: &Store, controls: &Controls, mut work: impl AsyncFnMut(&Examination) -> Result<()>) -> Result<()> {
    let mut after = None;
    loop {
        controls.check_cancelled()?;
        let from = after;
        let (doubled, last) = store.look(move |catalog| doubled_page(catalog, from)).await?;
        for object in doubled {
            if let Some(examination) = examine(store, object, Depth::Full, controls).await? {
                work(&examination).await?;
            }
        }
        match last {
            Some(_) => after = last,
            None => return Ok(()),
        }
    }
}

fn doubled_page(
    catalog: &Catalog,
    after: Option<ObjectId>,
) -> crate::catalog::Result<(Vec<ObjectId>, Option<ObjectId>)> {
    let page = catalog.objects_after(after, PAGE_OBJECTS)?;
    let mut doubled = Vec::new();
    for object in &page {
        let shards = catalog.shards(*object)?;
        if shards.windows(2).any(|pair| pair[0].index == pair[1].index) {
            doubled.push(*object);
        }
    }
    Ok((doubled, page.last().copied()))
}
