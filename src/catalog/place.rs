//! Where shards are: rows that come, change, move and go.

use super::Catalog;
use super::column::{Count, all, first, row_limit, run, value};
use super::error::{Error, Fault, Result};
use super::record::{ObjectState, ShardRecord, ShardState};
use crate::id::{BackendId, Geometry, ObjectId, ShardId};
use rusqlite::{Connection, Row, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};

/// The columns that [`read_shard`] takes, from the first on.
const COLUMNS: &str = "shard_index, backend, bytes, state, bad_blocks, verified_ns";

impl Catalog {
    /// The places of an object's shards, by index, then backend.
    pub fn shards(&self, object: ObjectId) -> Result<Vec<ShardRecord>> {
        self.read(|tx| shards_of(tx, object))
    }

    /// The next shards recorded on a backend, after `after`, in the order of their ids; missing ones too.
    pub fn shards_on(
        &self,
        backend: BackendId,
        after: Option<ShardId>,
        limit: usize,
    ) -> Result<Vec<(ObjectId, ShardRecord)>> {
        let (object, index) = after.map_or((None, None), |shard| (Some(shard.object), Some(shard.index)));
        let sql = format!(
            "SELECT {COLUMNS}, object FROM shard WHERE backend = ?1
                AND (object, shard_index) > (ifnull(?2, x''), ifnull(?3, 0))
                ORDER BY object, shard_index LIMIT ?4"
        );
        let read = |row: &Row<'_>| Ok((row.get(6)?, read_shard(row)?));
        self.read(|tx| all(tx, &sql, params![backend, object, index, row_limit(limit)], read))
    }

    /// Records a shard as it is now, in its place; a delete that waited for that place is called off.
    ///
    /// The shard of a dead object is to be deleted instead. [`Error::UnknownObject`] if it was never committed.
    pub fn put_shard(&mut self, object: ObjectId, shard: &ShardRecord) -> Result<()> {
        self.write(|tx| change(tx, object, || place(tx, object, shard)))
    }

    /// Records that a shard is now at `to` and that its copy on `from` is to be deleted.
    pub fn move_shard(&mut self, object: ObjectId, index: u8, from: BackendId, to: &ShardRecord) -> Result<()> {
        self.write(|tx| {
            change(tx, object, || {
                place(tx, object, to)?;
                if from != to.backend || index != to.index { give_up(tx, object, index, from) } else { Ok(()) }
            })
        })
    }

    /// Forgets a place of a shard, and leaves alone what may be there.
    pub fn drop_shard(&mut self, object: ObjectId, index: u8, backend: BackendId) -> Result<()> {
        self.write(|tx| change(tx, object, || remove_row(tx, object, index, backend)))
    }

    /// Records that a copy of a shard is to be deleted: one too many, or one that is of no use.
    ///
    /// [`Error::UnknownShard`] if the catalog does not have it there.
    pub fn discard_shard(&mut self, object: ObjectId, index: u8, backend: BackendId) -> Result<()> {
        self.write(|tx| {
            let sql = "SELECT 1 FROM shard WHERE object = ?1 AND shard_index = ?2 AND backend = ?3";
            if first(tx, sql, params![object, index, backend], |_| Ok(()))?.is_none() {
                return Err(Error::UnknownShard { object, index, backend }.into());
            }
            change(tx, object, || give_up(tx, object, index, backend))
        })
    }
}

pub(super) fn shards_of(connection: &Connection, object: ObjectId) -> Result<Vec<ShardRecord>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM shard WHERE object = ?1 ORDER BY shard_index, backend");
    all(connection, &sql, [object], read_shard)
}

fn read_shard(row: &Row<'_>) -> rusqlite::Result<ShardRecord> {
    Ok(ShardRecord {
        index: row.get(0)?,
        backend: row.get(1)?,
        bytes: row.get::<_, Count>(2)?.0,
        state: row.get(3)?,
        bad_blocks: row.get::<_, Count>(4)?.0,
        verified_ns: row.get(5)?,
    })
}

/// Whether the object is dead; an error if it is not known.
pub(super) fn is_dead(connection: &Connection, object: ObjectId) -> Result<bool, Fault> {
    let dead = first(connection, "SELECT dead FROM object WHERE id = ?1", [object], |row| row.get(0))?;
    dead.ok_or(Error::UnknownObject { object }.into())
}

/// Records that what is in this place is to be deleted.
pub(super) fn pend(tx: &Transaction<'_>, object: ObjectId, index: u8, backend: BackendId) -> Result<(), Fault> {
    let sql = "INSERT INTO pending_delete (object, shard_index, backend) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    run(tx, sql, params![object, index, backend]).map(drop)
}

/// Takes in a place that was heard of again: a new one is added, and one recorded as missing or unreachable is there
/// after all, unless it was damaged when it was last seen. A place that waits for deletion stays so.
pub(super) fn merge(tx: &Transaction<'_>, object: ObjectId, shard: &ShardRecord) -> Result<(), Fault> {
    if is_pending(tx, object, shard)? {
        return Ok(());
    }
    let sql = "INSERT INTO shard (object, shard_index, backend, bytes, state, bad_blocks, verified_ns)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        ON CONFLICT DO UPDATE SET bytes = excluded.bytes, state = excluded.state, bad_blocks = excluded.bad_blocks,
            verified_ns = nullif(max(ifnull(verified_ns, ?8), ifnull(excluded.verified_ns, ?8)), ?8)
        WHERE state IN (?9, ?10) AND bad_blocks = 0 AND excluded.state NOT IN (?9, ?10)";
    insert(tx, sql, object, shard, params![i64::MIN, ShardState::Missing, ShardState::Unreachable])
}

/// Takes in what a look at a place gave. A place that waits for deletion stays so. That a shard was damaged stays known while
/// its place does not answer: it has bad blocks, one at least whatever was wrong with it.
pub(super) fn observe(tx: &Transaction<'_>, object: ObjectId, shard: &ShardRecord) -> Result<(), Fault> {
    if is_pending(tx, object, shard)? {
        return Ok(());
    }
    let sql = "INSERT INTO shard (object, shard_index, backend, bytes, state, bad_blocks, verified_ns)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        ON CONFLICT DO UPDATE SET bytes = excluded.bytes, state = excluded.state,
            bad_blocks = CASE WHEN excluded.state <> ?9 THEN excluded.bad_blocks
                WHEN state = ?10 THEN max(bad_blocks, 1) WHEN state = ?9 THEN bad_blocks ELSE 0 END,
            verified_ns = nullif(max(ifnull(verified_ns, ?8), ifnull(excluded.verified_ns, ?8)), ?8)";
    insert(tx, sql, object, shard, params![i64::MIN, ShardState::Unreachable, ShardState::Corrupt])
}

/// Changes where an object's shards are. Where other shards are good afterwards than before, what the last check said of
/// the object does not hold any more: its state follows from the records, and its margins nobody knows.
fn change(tx: &Transaction<'_>, object: ObjectId, work: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
    let before = good_indexes(&shards_of(tx, object)?);
    work()?;
    if good_indexes(&shards_of(tx, object)?) != before {
        let sql = "UPDATE object SET margin = NULL, backend_margin = NULL WHERE id = ?1";
        run(tx, sql, [object])?;
    }
    settle_state(tx, object)
}

/// Gives an object the state that its shards' records say, as far as they can: damage has its stripes, and a check knew
/// which.
pub(super) fn settle_state(tx: &Transaction<'_>, object: ObjectId) -> Result<(), Fault> {
    let sql = "SELECT data_shards, total_shards, state, checked_ns IS NOT NULL FROM object WHERE id = ?1";
    let read = |row: &Row<'_>| Ok((super::column::geometry(row, 0, 1)?, row.get(2)?, row.get(3)?));
    let Some((geometry, known, is_checked)): Option<(_, _, bool)> = first(tx, sql, [object], read)? else {
        return Ok(());
    };
    let state = state_by_records(geometry, &shards_of(tx, object)?, is_checked.then_some(known));
    run(tx, "UPDATE object SET state = ?2 WHERE id = ?1 AND state <> ?2", params![object, state]).map(drop)
}

fn is_good(state: ShardState) -> bool {
    matches!(state, ShardState::Ok | ShardState::Surplus | ShardState::Misplaced)
}

fn good_indexes(shards: &[ShardRecord]) -> BTreeSet<u8> {
    shards.iter().filter(|shard| is_good(shard.state)).map(|shard| shard.index).collect()
}

/// What can be said without looking: each index counts as its best copy. Damaged copies may hold what is needed: of an
/// object that needs them stands what a check said.
fn state_by_records(geometry: Geometry, shards: &[ShardRecord], checked: Option<ObjectState>) -> ObjectState {
    let mut best: BTreeMap<u8, ShardState> = BTreeMap::new();
    for shard in shards {
        let state = best.entry(shard.index).or_insert(shard.state);
        *state = (*state).min(shard.state);
    }
    let count = |wanted: &[ShardState]| best.values().filter(|state| wanted.contains(state)).count();
    // Not good, but there is such a copy.
    let with = |wanted: &[ShardState]| {
        let has = |index: &u8| shards.iter().any(|shard| shard.index == *index && wanted.contains(&shard.state));
        best.iter().filter(|(index, best)| !is_good(**best) && has(index)).count()
    };
    let good = best.values().filter(|state| is_good(**state)).count();
    if count(&[ShardState::Ok, ShardState::Surplus]) >= geometry.total_shards() {
        ObjectState::Healthy
    } else if good >= geometry.data_shards() {
        ObjectState::Degraded
    } else if let Some(checked) = checked.filter(|_| good + with(&[ShardState::Corrupt]) >= geometry.data_shards()) {
        checked.max(ObjectState::Degraded)
    } else if good + with(&[ShardState::Unreachable]) >= geometry.data_shards() {
        ObjectState::Unavailable
    } else {
        let possible = good + with(&[ShardState::Corrupt, ShardState::Unreachable]);
        let checked = checked.filter(|_| possible >= geometry.data_shards());
        checked.map_or(ObjectState::Lost, |checked| checked.max(ObjectState::Unavailable))
    }
}

fn place(tx: &Transaction<'_>, object: ObjectId, shard: &ShardRecord) -> Result<(), Fault> {
    if is_dead(tx, object)? {
        return pend(tx, object, shard.index, shard.backend);
    }
    let clear = "DELETE FROM pending_delete WHERE object = ?1 AND shard_index = ?2 AND backend = ?3";
    run(tx, clear, params![object, shard.index, shard.backend])?;
    let sql = "INSERT INTO shard (object, shard_index, backend, bytes, state, bad_blocks, verified_ns)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        ON CONFLICT DO UPDATE SET bytes = excluded.bytes, state = excluded.state, bad_blocks = excluded.bad_blocks,
            verified_ns = excluded.verified_ns";
    insert(tx, sql, object, shard, params![])
}

/// The row becomes a pending delete.
fn give_up(tx: &Transaction<'_>, object: ObjectId, index: u8, backend: BackendId) -> Result<(), Fault> {
    remove_row(tx, object, index, backend)?;
    pend(tx, object, index, backend)
}

fn remove_row(tx: &Transaction<'_>, object: ObjectId, index: u8, backend: BackendId) -> Result<(), Fault> {
    let sql = "DELETE FROM shard WHERE object = ?1 AND shard_index = ?2 AND backend = ?3";
    run(tx, sql, params![object, index, backend]).map(drop)
}

fn is_pending(tx: &Transaction<'_>, object: ObjectId, shard: &ShardRecord) -> Result<bool, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pending_delete WHERE object = ?1 AND shard_index = ?2 AND backend = ?3)";
    value(tx, sql, params![object, shard.index, shard.backend])
}

/// Binds a shard's columns as ?1 to ?7, and what else the statement takes after them.
fn insert(
    tx: &Transaction<'_>,
    sql: &str,
    object: ObjectId,
    shard: &ShardRecord,
    more: &[&dyn rusqlite::ToSql],
) -> Result<(), Fault> {
    let (bytes, bad_blocks) = (Count(shard.bytes), Count(shard.bad_blocks));
    let mut columns: Vec<&dyn rusqlite::ToSql> =
        vec![&object, &shard.index, &shard.backend, &bytes, &shard.state, &bad_blocks, &shard.verified_ns];
    columns.extend(more);
    run(tx, sql, columns.as_slice()).map(drop)
}

/// Every shard row of an object becomes a pending delete.
pub(super) fn give_up_all(tx: &Transaction<'_>, object: ObjectId) -> Result<(), Fault> {
    let places: BTreeSet<(u8, BackendId)> = shards_of(tx, object)?.iter().map(|s| (s.index, s.backend)).collect();
    places.into_iter().try_for_each(|(index, backend)| give_up(tx, object, index, backend))
}
