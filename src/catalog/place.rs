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
        self.write(|tx| {
            place(tx, object, shard)?;
            settle_unchecked_state(tx, object)
        })
    }

    /// Records that a shard is now at `to` and that its copy on `from` is to be deleted.
    pub fn move_shard(&mut self, object: ObjectId, index: u8, from: BackendId, to: &ShardRecord) -> Result<()> {
        self.write(|tx| {
            place(tx, object, to)?;
            if from != to.backend || index != to.index {
                give_up(tx, object, index, from)?;
            }
            settle_unchecked_state(tx, object)
        })
    }

    /// Forgets a place of a shard, and leaves alone what may be there.
    pub fn drop_shard(&mut self, object: ObjectId, index: u8, backend: BackendId) -> Result<()> {
        self.write(|tx| {
            remove_row(tx, object, index, backend)?;
            settle_unchecked_state(tx, object)
        })
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
            give_up(tx, object, index, backend)?;
            settle_unchecked_state(tx, object)
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
/// after all. A place that waits for deletion stays so.
pub(super) fn merge(tx: &Transaction<'_>, object: ObjectId, shard: &ShardRecord) -> Result<(), Fault> {
    if is_pending(tx, object, shard)? {
        return Ok(());
    }
    let sql = "INSERT INTO shard (object, shard_index, backend, bytes, state, bad_blocks, verified_ns)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        ON CONFLICT DO UPDATE SET bytes = excluded.bytes, state = excluded.state, bad_blocks = excluded.bad_blocks,
            verified_ns = nullif(max(ifnull(verified_ns, ?8), ifnull(excluded.verified_ns, ?8)), ?8)
        WHERE state IN (?9, ?10) AND excluded.state NOT IN (?9, ?10)";
    insert(tx, sql, object, shard, params![i64::MIN, ShardState::Missing, ShardState::Unreachable])
}

/// Takes in what a look at a place gave. A place that waits for deletion stays so.
pub(super) fn observe(tx: &Transaction<'_>, object: ObjectId, shard: &ShardRecord) -> Result<(), Fault> {
    if is_pending(tx, object, shard)? {
        return Ok(());
    }
    let sql = "INSERT INTO shard (object, shard_index, backend, bytes, state, bad_blocks, verified_ns)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        ON CONFLICT DO UPDATE SET bytes = excluded.bytes, state = excluded.state, bad_blocks = excluded.bad_blocks,
            verified_ns = nullif(max(ifnull(verified_ns, ?8), ifnull(excluded.verified_ns, ?8)), ?8)";
    insert(tx, sql, object, shard, params![i64::MIN])
}

/// Gives an object that no check has looked at yet the state that its shards' records say.
pub(super) fn settle_unchecked_state(tx: &Transaction<'_>, object: ObjectId) -> Result<(), Fault> {
    let sql = "SELECT data_shards, total_shards FROM object WHERE id = ?1 AND checked_ns IS NULL";
    let Some(geometry) = first(tx, sql, [object], |row| super::column::geometry(row, 0, 1))? else {
        return Ok(());
    };
    let state = state_by_records(geometry, &shards_of(tx, object)?);
    run(tx, "UPDATE object SET state = ?2 WHERE id = ?1 AND state <> ?2", params![object, state]).map(drop)
}

/// What can be said without looking: each index counts as its best copy.
fn state_by_records(geometry: Geometry, shards: &[ShardRecord]) -> ObjectState {
    let mut best: BTreeMap<u8, ShardState> = BTreeMap::new();
    for shard in shards {
        let state = best.entry(shard.index).or_insert(shard.state);
        *state = (*state).min(shard.state);
    }
    let count = |wanted: &[ShardState]| best.values().filter(|state| wanted.contains(state)).count();
    let good = count(&[ShardState::Ok, ShardState::Surplus, ShardState::Misplaced]);
    if count(&[ShardState::Ok, ShardState::Surplus]) >= geometry.total_shards() {
        ObjectState::Healthy
    } else if good >= geometry.data_shards() {
        ObjectState::Degraded
    } else if good + count(&[ShardState::Unreachable]) >= geometry.data_shards() {
        ObjectState::Unavailable
    } else {
        ObjectState::Lost
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
