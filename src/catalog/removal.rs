//! Removals: what they name is dead, its shards wait for deletion, and one of which everything is gone may go itself.

use super::column::{Count, all, first, row_limit, run, value};
use super::commit::{know_version, take_in, versions_in};
use super::error::{Error, Fault, Result};
use super::record::{Commit, PendingDelete};
use super::sealed::Tag;
use super::{Catalog, folder, heads, place};
use crate::crypto::CatalogKey;
use crate::format::index::{Removal, RemovedObject};
use crate::id::{BackendId, ObjectId, VersionId};
use rusqlite::{Connection, Row, Transaction, params};
use std::collections::BTreeSet;
use std::sync::Arc;

/// True of a living removal `o` of which everything is gone.
///
/// A version that was never seen here may be in an object that was not either: its removal stays. So does one that could not
/// be read, and names nothing as far as is known: each names something.
const IS_FINISHED: &str = "o.kind = 1 AND o.dead = 0
    AND (EXISTS (SELECT 1 FROM removed_object r WHERE r.removal = o.id)
        OR EXISTS (SELECT 1 FROM removed_version r WHERE r.removal = o.id))
    AND NOT EXISTS (SELECT 1 FROM removed_shard s WHERE s.removal = o.id AND s.confirmed = 0)
    AND NOT EXISTS (SELECT 1 FROM removed_object r JOIN pending_delete d ON d.object = r.object WHERE r.removal = o.id)
    AND NOT EXISTS (SELECT 1 FROM removed_version r JOIN version v ON v.id = r.version
        WHERE r.removal = o.id AND (v.seen = 0 OR EXISTS (
            SELECT 1 FROM piece p JOIN object l ON l.id = p.object WHERE p.version = v.id AND l.dead = 0)))";

/// Whether any removal names an object.
const IS_REMOVED: &str = "SELECT EXISTS (SELECT 1 FROM removed_object WHERE object = ?1)";

impl Catalog {
    /// The next dead objects after `after`, in the order of their ids: named by a removal, or removals that are finished.
    pub fn dead_objects(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<ObjectId>> {
        let sql = "SELECT id FROM object WHERE dead = 1 AND id > ifnull(?1, x'') ORDER BY id LIMIT ?2";
        self.read(|tx| all(tx, sql, params![after, row_limit(limit)], |row| row.get(0)))
    }

    /// The next shards that are to be deleted, after `after`; none of a place that a process is writing to.
    pub fn pending_deletes(&self, after: Option<&PendingDelete>, limit: usize) -> Result<Vec<PendingDelete>> {
        let sql = "SELECT object, shard_index, backend FROM pending_delete d
            WHERE (object, shard_index, backend) > (ifnull(?1, x''), ifnull(?2, 0), ifnull(?3, x''))
                AND NOT EXISTS (SELECT 1 FROM journal_shard j WHERE j.object = d.object
                    AND j.shard_index = d.shard_index AND j.backend = d.backend)
            ORDER BY object, shard_index, backend LIMIT ?4";
        let (object, index, backend) = (after.map(|d| d.object), after.map(|d| d.index), after.map(|d| d.backend));
        let read = |row: &Row<'_>| Ok(PendingDelete { object: row.get(0)?, index: row.get(1)?, backend: row.get(2)? });
        self.read(|tx| all(tx, sql, params![object, index, backend, row_limit(limit)], read))
    }

    /// Takes in a removal that cannot be opened here, by what its public part says: that these objects are removed.
    ///
    /// They are forgotten, and nothing of them waits for deletion: that is for those who can open it.
    pub fn commit_heard(&mut self, commit: &Commit, removes: &[ObjectId]) -> Result<()> {
        let (key, removal) = (Arc::clone(&self.key), commit.object.id);
        self.write(|tx| {
            run(tx, "UPDATE object SET dead = 0 WHERE id = ?1 AND kind = 1", [removal])?;
            take_in(tx, &key, commit)?;
            let mut touched = BTreeSet::new();
            for object in removes {
                let sql = "INSERT INTO removed_object (object, removal) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
                run(tx, sql, params![object, removal])?;
                touched.extend(forget(tx, *object)?);
            }
            forget_versions(tx, &touched)?;
            heads::settle(tx, &key, &touched)
        })
    }

    /// Takes note that a removal which was only heard of is no more on any backend. What it removed stays removed.
    pub fn end_heard(&mut self, removal: ObjectId) -> Result<()> {
        self.write(|tx| end(tx, removal).map(drop))
    }

    /// Ends a living removal that is no more on any backend, if nothing of what it names can be there; says whether.
    ///
    /// `found` are the removed objects of which shards were found. A version that was never seen here may be in an object
    /// that was not either, unless every object there is is known. What it removed stays removed.
    pub fn end_elsewhere(&mut self, removal: ObjectId, found: &BTreeSet<ObjectId>, knows_all: bool) -> Result<bool> {
        let is_left = "SELECT EXISTS (SELECT 1 FROM removed_version r JOIN version v ON v.id = r.version
            WHERE r.removal = ?1 AND (v.seen = 0 AND NOT ?2 OR EXISTS (
                SELECT 1 FROM piece p JOIN object l ON l.id = p.object WHERE p.version = v.id AND l.dead = 0)))";
        self.write(|tx| {
            let named = "SELECT object FROM removed_object WHERE removal = ?1";
            let named: Vec<ObjectId> = all(tx, named, [removal], |row| row.get(0))?;
            // One that could not be read says nothing of what may be there.
            let versions = "SELECT EXISTS (SELECT 1 FROM removed_version WHERE removal = ?1)";
            if named.is_empty() && !value::<bool, _>(tx, versions, [removal])? {
                return Ok(false);
            }
            if named.iter().any(|object| found.contains(object)) || value(tx, is_left, params![removal, knows_all])? {
                return Ok(false);
            }
            run(tx, "DELETE FROM note WHERE key = ?1", [rounds_key(removal)])?;
            end(tx, removal)
        })
    }

    /// How many shards of an object are to be deleted.
    pub fn pending_deletes_of(&self, object: ObjectId) -> Result<u64> {
        let sql = "SELECT count(*) FROM pending_delete WHERE object = ?1";
        self.read(|tx| Ok(value::<Count, _>(tx, sql, [object])?.0))
    }

    /// How many shards are to be deleted on a backend.
    pub fn pending_deletes_on(&self, backend: BackendId) -> Result<u64> {
        let sql = "SELECT count(*) FROM pending_delete WHERE backend = ?1";
        self.read(|tx| Ok(value::<Count, _>(tx, sql, [backend])?.0))
    }

    /// Records that whatever was to be deleted on a backend is given up: nobody will ask it. Every removal that names a
    /// shard there has that ticked off.
    pub fn give_up_deletes_on(&mut self, backend: BackendId) -> Result<()> {
        self.write(|tx| {
            for sql in [
                "DELETE FROM pending_delete WHERE backend = ?1",
                "UPDATE removed_shard SET confirmed = 1 WHERE backend = ?1 AND confirmed = 0",
            ] {
                run(tx, sql, [backend])?;
            }
            Ok(())
        })
    }

    /// Where shards of an object are to be deleted still: which shard, and on which backend.
    pub fn waiting_places(&self, object: ObjectId) -> Result<Vec<(u8, BackendId)>> {
        let sql = "SELECT shard_index, backend FROM pending_delete WHERE object = ?1 ORDER BY shard_index, backend";
        self.read(|tx| all(tx, sql, [object], |row| Ok((row.get(0)?, row.get(1)?))))
    }

    /// Records that a shard is gone: its backend said so. Ticks it off in every removal that names it.
    pub fn confirm_deleted(&mut self, object: ObjectId, index: u8, backend: BackendId) -> Result<()> {
        self.write(|tx| {
            for sql in [
                "DELETE FROM pending_delete WHERE object = ?1 AND shard_index = ?2 AND backend = ?3",
                "UPDATE removed_shard SET confirmed = 1 WHERE object = ?1 AND shard_index = ?2 AND backend = ?3",
            ] {
                run(tx, sql, params![object, index, backend])?;
            }
            Ok(())
        })
    }

    /// Whether a removal names an object, be it one that is known no more, because nothing was left of it.
    pub fn is_removed(&self, object: ObjectId) -> Result<bool> {
        self.read(|tx| value(tx, IS_REMOVED, [object]))
    }

    /// Records that a shard of a removed object turned up again and is to be deleted; nothing, if no removal names it.
    pub fn pend_removed(&mut self, object: ObjectId, index: u8, backend: BackendId) -> Result<()> {
        self.write(|tx| match value(tx, IS_REMOVED, [object])? {
            true => place::pend(tx, object, index, backend),
            false => Ok(()),
        })
    }

    /// Removals of which everything is gone: every shard they name is confirmed, nothing of their objects waits for
    /// deletion, and every version they name was seen here and has no piece in a living object.
    pub fn finished_removals(&self) -> Result<Vec<ObjectId>> {
        let sql = format!("SELECT o.id FROM object o WHERE {IS_FINISHED} ORDER BY o.id");
        self.read(|tx| all(tx, &sql, [], |row| row.get(0)))
    }

    /// Those of them that were finished in this many rounds before.
    pub fn finished_for(&self, rounds: u32) -> Result<Vec<ObjectId>> {
        self.read(|tx| {
            let counted = finished_rounds(tx)?;
            Ok(counted.into_iter().filter(|(_, counted)| *counted >= rounds).map(|(removal, _)| removal).collect())
        })
    }

    /// Counts one more round for every finished removal.
    pub fn count_finished_round(&mut self) -> Result<()> {
        self.write(|tx| {
            for (removal, counted) in finished_rounds(tx)? {
                let sql = "INSERT INTO note (key, value) VALUES (?1, ?2)
                    ON CONFLICT DO UPDATE SET value = excluded.value";
                run(tx, sql, params![rounds_key(removal), counted.saturating_add(1).to_string()])?;
            }
            Ok(())
        })
    }

    /// Marks a finished removal as dead; its own shards are to be deleted. What it removed stays removed.
    ///
    /// [`Error::NotFinished`] if something it names may still be there.
    pub fn remove_finished(&mut self, removal: ObjectId) -> Result<()> {
        let sql = format!("UPDATE object AS o SET dead = 1 WHERE o.id = ?1 AND {IS_FINISHED}");
        self.write(|tx| {
            if run(tx, &sql, [removal])? == 0 {
                return Err(Error::NotFinished { object: removal }.into());
            }
            run(tx, "DELETE FROM note WHERE key = ?1", [rounds_key(removal)])?;
            place::give_up_all(tx, removal)
        })
    }

    /// Forgets an object, its places, its pieces and what it removed. Versions of which nothing is left go too, but a
    /// removed one stays known while a removal names it or its name has versions that were not removed: these may
    /// descend through it. Deletes that wait stay.
    pub fn forget_object(&mut self, object: ObjectId) -> Result<()> {
        let key = Arc::clone(&self.key);
        self.write(|tx| {
            let touched = forget(tx, object)?;
            forget_versions(tx, &touched)?;
            heads::settle(tx, &key, &touched)
        })
    }
}

/// Marks a removal as dead, of which no shard is anywhere; says whether there was one.
fn end(tx: &Transaction<'_>, removal: ObjectId) -> Result<bool, Fault> {
    if run(tx, "UPDATE object SET dead = 1 WHERE id = ?1 AND kind = 1", [removal])? == 0 {
        return Ok(false);
    }
    run(tx, "DELETE FROM shard WHERE object = ?1", [removal]).map(|_| true)
}

fn rounds_key(removal: ObjectId) -> String {
    format!("finished-removal/{removal}")
}

/// The finished removals, and in how many rounds they were so before.
fn finished_rounds(connection: &Connection) -> Result<Vec<(ObjectId, u32)>, Fault> {
    let sql = format!("SELECT o.id FROM object o WHERE {IS_FINISHED} ORDER BY o.id");
    let mut counted = Vec::new();
    for removal in all(connection, &sql, [], |row| row.get::<_, ObjectId>(0))? {
        let sql = "SELECT value FROM note WHERE key = ?1";
        let noted = first(connection, sql, [rounds_key(removal)], |row| row.get::<_, String>(0))?;
        counted.push((removal, noted.and_then(|rounds| rounds.parse().ok()).unwrap_or(0)));
    }
    Ok(counted)
}

/// Makes true what a removal says, for what is known already; the rest is remembered.
pub(super) fn apply(
    tx: &Transaction<'_>,
    key: &CatalogKey,
    (id, removal): (ObjectId, &Removal),
    touched: &mut BTreeSet<VersionId>,
) -> Result<(), Fault> {
    for removed in &removal.versions {
        know_version(tx, key, (removed.version, &removed.name))?;
        let sql = "UPDATE version SET generation = ?2 WHERE id = ?1 AND generation IS NULL";
        run(tx, sql, params![removed.version, Count(removed.generation)])?;
        let sql = "INSERT INTO removed_version (version, removal) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        run(tx, sql, params![removed.version, id])?;
        touched.insert(removed.version);
    }
    for removed in &removal.objects {
        apply_to_object(tx, id, removed)?;
        touched.extend(versions_in(tx, removed.object)?);
    }
    Ok(())
}

fn apply_to_object(tx: &Transaction<'_>, removal: ObjectId, removed: &RemovedObject) -> Result<(), Fault> {
    let sql = "INSERT INTO removed_object (object, removal) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    run(tx, sql, params![removed.object, removal])?;
    run(tx, "UPDATE object SET dead = 1 WHERE id = ?1 AND dead = 0", [removed.object])?;
    place::give_up_all(tx, removed.object)?;
    for shard in &removed.shards {
        let sql = "INSERT INTO removed_shard (object, shard_index, backend, removal, confirmed)
            VALUES (?1, ?2, ?3, ?4, 0) ON CONFLICT DO NOTHING";
        let is_news = run(tx, sql, params![removed.object, shard.index, shard.backend, removal])? == 1;
        if is_news {
            place::pend(tx, removed.object, shard.index, shard.backend)?;
        }
    }
    Ok(())
}

/// Forgets an object; says which versions it had to do with.
fn forget(tx: &Transaction<'_>, object: ObjectId) -> Result<BTreeSet<VersionId>, Fault> {
    let mut touched: BTreeSet<VersionId> = versions_in(tx, object)?.into_iter().collect();
    let named = "SELECT version FROM removed_version WHERE removal = ?1";
    touched.extend(all(tx, named, [object], |row| row.get::<_, VersionId>(0))?);
    run(tx, "DELETE FROM object WHERE id = ?1", [object])?;
    Ok(touched)
}

/// Deletes the versions of which nothing is left, and the removed ones that nothing needs any more.
fn forget_versions(tx: &Transaction<'_>, touched: &BTreeSet<VersionId>) -> Result<(), Fault> {
    let folders = folder::of_versions(tx, touched)?;
    for version in touched {
        let sql = "DELETE FROM version WHERE id = ?1 AND removed = 0
            AND NOT EXISTS (SELECT 1 FROM piece WHERE version = ?1)";
        run(tx, sql, [version])?;
    }
    for version in touched {
        for name in names_without_kept_versions(tx, *version)? {
            let sql = "DELETE FROM version WHERE name_tag = ?1 AND removed = 1
                AND NOT EXISTS (SELECT 1 FROM piece p WHERE p.version = version.id)
                AND NOT EXISTS (SELECT 1 FROM removed_version r WHERE r.version = version.id)";
            run(tx, sql, [name])?;
        }
    }
    folders.into_iter().try_for_each(|folder| folder::forget_if_empty(tx, folder))
}

/// The tag of the version's name, if all its versions are removed.
fn names_without_kept_versions(connection: &Connection, version: VersionId) -> Result<Vec<Tag>, Fault> {
    let sql = "SELECT name_tag FROM version v WHERE id = ?1
        AND NOT EXISTS (SELECT 1 FROM version o WHERE o.name_tag = v.name_tag AND o.removed = 0)";
    all(connection, sql, [version], |row| row.get(0))
}
