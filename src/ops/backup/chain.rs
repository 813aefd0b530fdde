//! The chain of backups that this machine makes: what it has, where the next goes on, and what is no longer kept.

use super::super::remove::{Which, delete_pending, most_parity, removed_object, write_removal};
use super::records::Extent;
use super::{BACKUPS_KEPT, BackupReport};
use crate::catalog::{BackupObject, Catalog, ObjectState};
use crate::error::Result;
use crate::format::Removal;
use crate::format::backup::MAX_BACKUP_PARTS;
use crate::id::ObjectId;
use crate::ops::Controls;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where the chain is noted, for this machine alone.
const CHAIN_NOTE: &str = "catalog backup chain";
/// So many objects a chain may have before everything is written anew: a rebuild reads all of them.
const MAX_CHAIN_PARTS: usize = 64;
const _: () = assert!(MAX_CHAIN_PARTS < MAX_BACKUP_PARTS, "a full backup has room for its own parts");

/// What the last backup of this machine consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chain {
    /// Its objects, oldest first, the last part at the end.
    pub(super) parts: Vec<ObjectId>,
    /// Its generation.
    pub(super) generation: u64,
    /// How many records the full backup at its beginning has.
    pub(super) full_records: u64,
    /// How many all of it has.
    pub(super) records: u64,
    /// The number of the object that came last before it.
    pub(super) arrival: u64,
    /// The latest time in it at which an object was read in full.
    pub(super) verified_ns: i64,
    /// When it was made, in nanoseconds since 1970: says when the next is due, and nothing else.
    pub(super) made_ns: i64,
}

impl Chain {
    /// The one that was noted; none where the note says nothing.
    pub(super) async fn load(store: &Store) -> Result<Option<Self>> {
        let note = store.look(|catalog| catalog.note(CHAIN_NOTE)).await?;
        Ok(note.and_then(|note| serde_json::from_str(&note).ok()))
    }

    /// The one that a backup can add to: none of its objects is gone or lost as far as is known, it is not too long, and what was
    /// added is not more than half of what it began with.
    pub(super) async fn to_go_on_with(store: &Store) -> Result<Option<Self>> {
        let Some(chain) = Self::load(store).await? else { return Ok(None) };
        if chain.parts.len() >= MAX_CHAIN_PARTS
            || chain.records - chain.full_records.min(chain.records) > chain.full_records / 2
        {
            return Ok(None);
        }
        let (parts, arrival) = (chain.parts.clone(), chain.arrival);
        let stands = move |catalog: &Catalog| {
            for part in parts {
                if catalog.health(part)?.is_none_or(|health| health.state == ObjectState::Lost) {
                    return Ok(false);
                }
            }
            Ok(catalog.last_arrival()? >= arrival)
        };
        Ok(store.look(stands).await?.then_some(chain))
    }

    /// What the next backup says.
    pub(super) fn extent(&self) -> Extent {
        Extent { arrival: self.arrival, verified_ns: self.verified_ns }
    }

    /// Whether it says all that there is to say.
    pub(super) async fn says_all(&self, store: &Store) -> Result<bool> {
        let (arrival, verified_ns) = (self.arrival, self.verified_ns);
        let look = move |catalog: &Catalog| {
            let snapshot = catalog.snapshot()?;
            let is_seen = snapshot.last_verified_ns()?.is_none_or(|last_ns| last_ns <= verified_ns);
            Ok(is_seen && catalog.count_arrivals_after(arrival, 1)? == 0)
        };
        store.look(look).await
    }

    pub(super) async fn save(self, store: &Store) -> Result<()> {
        let note = serde_json::to_string(&self).expect("numbers and ids are JSON");
        store.catalog(move |catalog| catalog.set_note(CHAIN_NOTE, &note)).await
    }
}

/// The catalog was made anew, and counts from the beginning: the next backup is a full one.
pub(in crate::ops) fn forget_chain(catalog: &mut Catalog) -> crate::catalog::Result<()> {
    catalog.clear_note(CHAIN_NOTE)
}

/// The report where the last backup still says all.
pub(super) async fn nothing_new(store: &Store, chain: Chain) -> Result<BackupReport> {
    let kept = count(store).await?;
    Ok(BackupReport { generation: Some(chain.generation), records: chain.records, kept, ..BackupReport::default() })
}

/// How many backups there are.
pub(super) async fn count(store: &Store) -> Result<u64> {
    let backups = store.look(|catalog| catalog.backup_objects()).await?;
    Ok(backups.iter().filter(|backup| backup.part.whole.is_some()).count() as u64)
}

/// Removes what no kept backup consists of; says how many backups are kept, and how many objects were removed.
///
/// Parts of a backup that is newer than the newest whole one stay: someone may be writing it.
pub(super) async fn prune(store: &Store, controls: &Controls) -> Result<(u64, u64)> {
    let backups = store.look(|catalog| catalog.backup_objects()).await?;
    let (kept, doomed) = divide(&backups);
    if doomed.is_empty() {
        return Ok((kept, 0));
    }
    let named: Vec<ObjectId> = doomed.iter().copied().collect();
    let weigh = move |catalog: &Catalog| {
        let (mut objects, mut geometry) = (Vec::new(), None);
        for object in named {
            geometry = most_parity(geometry, catalog.object(object)?.map(|record| record.geometry));
            objects.push(removed_object(catalog, object)?);
        }
        Ok((Removal { versions: Vec::new(), objects }, geometry))
    };
    let (removal, geometry) = store.look(weigh).await?;
    let geometry = geometry.unwrap_or_else(|| store.config().default_level.geometry());
    write_removal(store, removal, geometry, controls).await?;
    let count = doomed.len() as u64;
    delete_pending(store, Which::Of(doomed), controls).await?;
    Ok((kept, count))
}

/// How many backups are kept, and the objects that none of them needs. The newest come first.
fn divide(backups: &[BackupObject]) -> (u64, BTreeSet<ObjectId>) {
    let whole = backups.iter().filter_map(|backup| Some((backup, backup.part.whole.as_ref()?)));
    let (mut kept, mut needed, mut newest) = (0, BTreeSet::new(), None);
    for (backup, whole) in whole.take(BACKUPS_KEPT) {
        kept += 1;
        newest = newest.or(Some(backup.part.generation));
        needed.insert(backup.object);
        needed.extend(whole.parts.iter().copied());
    }
    let is_old = |backup: &&BackupObject| newest.is_some_and(|newest| backup.part.generation <= newest);
    let doomed = backups.iter().filter(is_old).map(|backup| backup.object).filter(|object| !needed.contains(object));
    (kept, doomed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{BackupPart, WholeBackup};

    fn id(number: u8) -> ObjectId {
        ObjectId([number; 16])
    }

    fn object(number: u8, generation: u64, parts: Option<&[u8]>) -> BackupObject {
        let whole = parts.map(|parts| WholeBackup { parts: parts.iter().map(|part| id(*part)).collect(), records: 0 });
        BackupObject { object: id(number), part: BackupPart { generation, records: 0, whole } }
    }

    #[test]
    fn nothing_goes_that_a_kept_backup_consists_of() {
        // A full backup in two objects and deltas on it, all kept.
        let mut backups = vec![object(0, 1, None), object(1, 1, Some(&[0]))];
        for delta in 2..40_u8 {
            let before: Vec<u8> = (0..delta).collect();
            backups.push(object(delta, u64::from(delta), Some(&before)));
        }
        backups.reverse();
        assert_eq!(divide(&backups), (BACKUPS_KEPT as u64, BTreeSet::new()));
    }

    #[test]
    fn an_old_chain_goes_as_a_whole_when_the_last_of_its_backups_is_no_longer_kept() {
        let mut backups = vec![object(2, 3, Some(&[0, 1])), object(1, 2, Some(&[0])), object(0, 1, Some(&[]))];
        for full in 10..10 + BACKUPS_KEPT as u8 - 1 {
            backups.insert(0, object(full, u64::from(full), Some(&[])));
        }
        assert_eq!(divide(&backups).1, BTreeSet::new(), "the last delta of the old chain is kept");
        backups.insert(0, object(30, 30, Some(&[])));
        assert_eq!(divide(&backups).1, BTreeSet::from([id(0), id(1), id(2)]));
    }

    #[test]
    fn parts_that_nobody_ended_go_once_a_newer_backup_is_whole_and_not_before() {
        let (begun, whole) = (object(7, 2, None), object(1, 1, Some(&[])));
        assert_eq!(divide(&[begun.clone(), whole.clone()]).1, BTreeSet::new(), "someone may be writing it");
        assert_eq!(divide(&[object(8, 3, Some(&[])), begun, whole]).1, BTreeSet::from([id(7)]));
        assert_eq!(divide(&[]), (0, BTreeSet::new()));
    }
}
