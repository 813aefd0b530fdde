//! The one transaction in which an object becomes true.

use super::column::{Count, all, first, run};
use super::error::{Error, Fault, Result};
use super::record::{Commit, ObjectRecord, Purpose};
use super::{Catalog, heads, place, removal};
use crate::format::index::{Piece, Whole};
use crate::id::{Digest, ObjectId, VersionId};
use rusqlite::{Transaction, params};
use std::collections::BTreeSet;

impl Catalog {
    /// Takes in an object, all of it or nothing: where its shards are, what it holds, what it removes; and ends the
    /// journal entry of the put that made it.
    ///
    /// Committing an object again adds places that were not known and changes nothing else. An object that a removal
    /// names stays dead: its shards are to be deleted. [`Error::OtherRoot`] if the id is known with another root.
    pub fn commit(&mut self, commit: &Commit) -> Result<()> {
        self.write(|tx| take_in(tx, commit))
    }
}

fn take_in(tx: &Transaction<'_>, commit: &Commit) -> Result<(), Fault> {
    let object = commit.object.id;
    let is_dead = insert_object(tx, &commit.object)?;
    for shard in &commit.shards {
        if is_dead {
            place::pend(tx, object, shard.index, shard.backend)?;
        } else {
            place::merge(tx, object, shard)?;
        }
    }
    let mut touched = BTreeSet::new();
    for piece in &commit.index.pieces {
        insert_piece(tx, object, piece)?;
        touched.insert(piece.version);
    }
    for (version, ordinal, blake3) in &commit.piece_hashes {
        let sql = "UPDATE piece SET blake3 = ?4 WHERE version = ?1 AND ordinal = ?2 AND object = ?3 AND blake3 IS NULL";
        run(tx, sql, params![version, ordinal, object, blake3])?;
    }
    if let Some(removal) = &commit.index.removal {
        removal::apply(tx, object, removal, &mut touched)?;
    }
    heads::settle(tx, &touched)?;
    place::settle_state(tx, object)?;
    run(tx, "DELETE FROM journal WHERE object = ?1 AND purpose = ?2", params![object, Purpose::Put])?;
    Ok(())
}

/// Inserts the object and its manifest unless they are there; says whether it is dead.
fn insert_object(tx: &Transaction<'_>, object: &ObjectRecord) -> Result<bool, Fault> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let known: Option<(Digest, bool)> = first(tx, "SELECT root, dead FROM object WHERE id = ?1", [object.id], read)?;
    if let Some((known, is_dead)) = known {
        if known != object.root {
            return Err(Error::OtherRoot { object: object.id, known, given: object.root }.into());
        }
        return Ok(is_dead);
    }
    let is_dead =
        first(tx, "SELECT 1 FROM removed_object WHERE object = ?1 LIMIT 1", [object.id], |_| Ok(()))?.is_some();
    run(
        tx,
        "INSERT INTO object (id, kind, data_shards, total_shards, block_bytes, stripe_count, payload_bytes, seal, root,
            dead, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0)",
        params![
            object.id,
            object.kind,
            object.geometry.data_shards() as i64,
            object.geometry.total_shards() as i64,
            object.block_bytes,
            Count(object.stripe_count),
            Count(object.payload_bytes),
            object.seal,
            object.root,
            is_dead,
        ],
    )?;
    run(
        tx,
        "INSERT INTO manifest (object, public, signature, sealed) VALUES (?1, ?2, ?3, ?4)",
        params![object.id, object.public, object.signature, object.sealed],
    )?;
    Ok(is_dead)
}

fn insert_piece(tx: &Transaction<'_>, object: ObjectId, piece: &Piece) -> Result<(), Fault> {
    run(
        tx,
        "INSERT INTO version (id, name, complete, removed, head, seen) VALUES (?1, ?2, 0, 0, 0, 1)
            ON CONFLICT (id) DO UPDATE SET seen = 1 WHERE seen = 0",
        params![piece.version, piece.name],
    )?;
    run(
        tx,
        "INSERT INTO piece (version, ordinal, object, payload_offset, bytes) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT DO NOTHING",
        params![piece.version, piece.ordinal, object, Count(piece.offset), Count(piece.bytes)],
    )?;
    match &piece.last {
        Some(whole) => learn_whole(tx, piece, whole),
        None => Ok(()),
    }
}

/// The last piece says what the whole is; the first word counts.
fn learn_whole(tx: &Transaction<'_>, piece: &Piece, whole: &Whole) -> Result<(), Fault> {
    let news = run(
        tx,
        "UPDATE version SET last_ordinal = ?2, total_bytes = ?3, blake3 = ?4, mtime_ns = ?5, mode = ?6, generation = ?7
            WHERE id = ?1 AND last_ordinal IS NULL",
        params![
            piece.version,
            piece.ordinal,
            Count(whole.total_bytes),
            whole.blake3,
            whole.mtime_ns,
            whole.mode,
            Count(whole.generation),
        ],
    )?;
    if news == 1 {
        for (position, parent) in (0_i64..).zip(&whole.parents) {
            let sql = "INSERT INTO parent (version, position, parent) VALUES (?1, ?2, ?3)";
            run(tx, sql, params![piece.version, position, parent])?;
        }
    }
    Ok(())
}

/// The versions that have a piece in the object.
pub(super) fn versions_in(tx: &Transaction<'_>, object: ObjectId) -> Result<Vec<VersionId>, Fault> {
    all(tx, "SELECT DISTINCT version FROM piece WHERE object = ?1", [object], |row| row.get(0))
}
