//! Objects that are lost and hold nothing that is known: without this, every look would find them lost for ever.

use super::reprieve::verify_with_waiting;
use super::{Deletes, RemoveReport, Which, delete_pending, removed_object, write_removal};
use crate::catalog::{self, Catalog, ObjectState};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Removal};
use crate::id::ObjectId;
use crate::ops::rebuild::MAINTENANCE;
use crate::ops::{Controls, leftovers};
use crate::store::Store;
use std::collections::BTreeSet;
use std::time::Instant;

/// A piece of a living version that a lost object has: whose it is, and which other objects have it too.
struct LostPiece {
    name: FileName,
    others: BTreeSet<ObjectId>,
}

/// Removes an object that is lost, by what every byte of its shards says now.
///
/// [`ErrorKind::NotFound`] when there is no such object, [`ErrorKind::Unavailable`] when places that do not answer may
/// bring it back, [`ErrorKind::Refused`] when it can be recovered, or when a file is known to be in it and nowhere else:
/// that file is to be removed by its name, so that it is plain what goes. [`ErrorKind::Busy`] while another process repairs,
/// drains or collects garbage.
pub async fn remove_lost(store: &Store, object: ObjectId, controls: &Controls) -> Result<RemoveReport> {
    let begun = Instant::now();
    leftovers::clear(store, controls).await?;
    let _lease = store.lease(MAINTENANCE).await?;
    let seen = verify_with_waiting(store, object, &[], controls).await?;
    let (seen, _) = seen.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no object {object}")))?;
    match seen.state {
        ObjectState::Lost => {}
        ObjectState::Unavailable => {
            let doing = format!("object {object} is out of reach, not lost: its shards may come back");
            return Err(Error::new(ErrorKind::Unavailable, doing).with_hint("shard backend check"));
        }
        state => {
            let doing = format!("object {object} is {state}, not lost: what is in it can be recovered");
            return Err(Error::new(ErrorKind::Refused, doing).with_hint("remove files by their names"));
        }
    }
    for piece in store.look(move |catalog| lost_pieces(catalog, object)).await? {
        if !is_held(store, &piece.others, controls).await? {
            let doing = format!("{} is in object {object} and nowhere else", piece.name);
            return Err(Error::new(ErrorKind::Refused, doing).with_hint(format!("shard remove {}", piece.name)));
        }
    }
    let gone = store.look(move |catalog| removed_object(catalog, object)).await?;
    let removal = Removal { versions: Vec::new(), objects: vec![gone] };
    let removals = write_removal(store, removal, seen.geometry(), controls).await?;
    let deletes: Deletes = delete_pending(store, Which::Of(BTreeSet::from([object])), controls).await?;
    Ok(RemoveReport {
        removals,
        objects_emptied: 1,
        shards_deleted: deletes.shards,
        bytes_freed: deletes.bytes,
        waiting: deletes.waiting(store),
        elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..RemoveReport::default()
    })
}

fn lost_pieces(catalog: &Catalog, object: ObjectId) -> catalog::Result<Vec<LostPiece>> {
    let mut lost = Vec::new();
    for name in catalog.names_of_object(object, usize::MAX)? {
        for version in catalog.versions(&name)?.into_iter().filter(|version| !version.removed) {
            let copies = catalog.piece_copies(version.id)?;
            for piece in copies.iter().filter(|copy| copy.object == object) {
                let others = copies.iter().filter(|copy| copy.ordinal == piece.ordinal && copy.object != object);
                lost.push(LostPiece { name: name.clone(), others: others.map(|copy| copy.object).collect() });
            }
        }
    }
    Ok(lost)
}

/// Whether one of these objects can be recovered, by every byte of it.
async fn is_held(store: &Store, objects: &BTreeSet<ObjectId>, controls: &Controls) -> Result<bool> {
    for object in objects {
        let seen = verify_with_waiting(store, *object, &[], controls).await?;
        if seen.is_some_and(|(seen, _)| matches!(seen.state, ObjectState::Healthy | ObjectState::Degraded)) {
            return Ok(true);
        }
    }
    Ok(false)
}
