//! What looking at objects gave, and which object is to be looked at next.

use super::Catalog;
use super::challenge::{self, ChallengeRecord};
use super::column::{all, first, row_limit, run};
use super::error::{Error, Fault, Result};
use super::place;
use super::record::{CheckRecord, ObjectAge, ObjectHealth};
use crate::id::ObjectId;
use rusqlite::{Connection, Row, params};

impl Catalog {
    /// Records what a look at an object gave; says whether it could: not if the object is dead or unknown by now.
    ///
    /// A shard that the look did not read keeps the time when it was read last. A place that waits for deletion is
    /// passed over.
    pub fn record_check(&mut self, check: &CheckRecord) -> Result<bool> {
        self.record_look(check, &[])
    }

    /// The same, with how the backends met what was asked of them; of an object that is dead or unknown that is not kept
    /// either.
    pub fn record_look(&mut self, check: &CheckRecord, challenges: &[ChallengeRecord]) -> Result<bool> {
        self.write(|tx| {
            match place::is_dead(tx, check.object) {
                Ok(false) => {}
                Ok(true) | Err(Fault::Known(Error::UnknownObject { .. })) => return Ok(false),
                Err(fault) => return Err(fault),
            }
            for shard in &check.shards {
                place::observe(tx, check.object, shard)?;
            }
            run(
                tx,
                "UPDATE object SET state = ?2, margin = ?3, backend_margin = ?4, checked_ns = ?5,
                    verified_ns = iif(?6, ?5, verified_ns) WHERE id = ?1",
                params![check.object, check.state, check.margin, check.backend_margin, check.when_ns, check.full],
            )?;
            challenge::add(tx, challenges)?;
            Ok(true)
        })
    }

    /// What is known of an object's health; `None` if it is unknown or dead.
    pub fn health(&self, object: ObjectId) -> Result<Option<ObjectHealth>> {
        let sql = "SELECT id, state, margin, backend_margin, checked_ns, verified_ns FROM object
            WHERE id = ?1 AND dead = 0";
        self.read(|tx| first(tx, sql, [object], read_health))
    }

    /// Objects after `after`, those never checked in full first, then the longest unchecked.
    pub fn oldest_checked(&self, after: Option<&ObjectAge>, limit: usize) -> Result<Vec<ObjectAge>> {
        self.read(|tx| {
            let mut page = match after {
                Some(ObjectAge { verified_ns: Some(_), .. }) => Vec::new(),
                _ => never_checked(tx, after.map(|age| age.object), limit)?,
            };
            let rest = limit.saturating_sub(page.len());
            if rest > 0 {
                page.extend(checked_after(tx, after, rest)?);
            }
            Ok(page)
        })
    }

    /// Objects that are not healthy as far as is known: the least zone margin first (none at all before zero), then
    /// the least backend margin, then the worst state.
    pub fn endangered(&self, limit: usize) -> Result<Vec<ObjectHealth>> {
        let sql = "SELECT id, state, margin, backend_margin, checked_ns, verified_ns FROM object
            WHERE dead = 0 AND state <> 0
            ORDER BY ifnull(margin, -1), ifnull(backend_margin, -1), state DESC, id LIMIT ?1";
        self.read(|tx| all(tx, sql, [row_limit(limit)], read_health))
    }
}

fn never_checked(connection: &Connection, after: Option<ObjectId>, limit: usize) -> Result<Vec<ObjectAge>, Fault> {
    let sql = "SELECT id, verified_ns FROM object
        WHERE dead = 0 AND verified_ns IS NULL AND id > ifnull(?1, x'') ORDER BY id LIMIT ?2";
    all(connection, sql, params![after, row_limit(limit)], read_age)
}

fn checked_after(connection: &Connection, after: Option<&ObjectAge>, limit: usize) -> Result<Vec<ObjectAge>, Fault> {
    let limit = row_limit(limit);
    match after.and_then(|age| age.verified_ns.map(|verified_ns| (verified_ns, age.object))) {
        Some((verified_ns, object)) => {
            let sql = "SELECT id, verified_ns FROM object
                WHERE dead = 0 AND (verified_ns, id) > (?1, ?2) ORDER BY verified_ns, id LIMIT ?3";
            all(connection, sql, params![verified_ns, object, limit], read_age)
        }
        None => {
            let sql = "SELECT id, verified_ns FROM object
                WHERE dead = 0 AND verified_ns IS NOT NULL ORDER BY verified_ns, id LIMIT ?1";
            all(connection, sql, [limit], read_age)
        }
    }
}

fn read_age(row: &Row<'_>) -> rusqlite::Result<ObjectAge> {
    Ok(ObjectAge { object: row.get(0)?, verified_ns: row.get(1)? })
}

fn read_health(row: &Row<'_>) -> rusqlite::Result<ObjectHealth> {
    Ok(ObjectHealth {
        object: row.get(0)?,
        state: row.get(1)?,
        margin: row.get(2)?,
        backend_margin: row.get(3)?,
        checked_ns: row.get(4)?,
        verified_ns: row.get(5)?,
    })
}
