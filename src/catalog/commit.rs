//! The one transaction in which an object becomes true.

use super::column::{Count, all, first, run};
use super::error::{Error, Fault, Result};
use super::record::{Commit, ObjectRecord, Purpose};
use super::sealed::{Tag, seal_extent, seal_hash, seal_name, seal_whole};
use super::{Catalog, backup, folder, heads, journal, place, removal};
use crate::crypto::CatalogKey;
use crate::format::FileName;
use crate::format::index::{Piece, Whole};
use crate::id::{BackendId, Digest, ObjectId, VersionId};
use rusqlite::{Transaction, params};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Catalog {
    /// Takes in an object, all of it or nothing: where its shards are, what it holds, what it removes; and ends the
    /// journal entry of the put that made it.
    ///
    /// Committing an object again adds places that were not known and changes nothing else. An object that a removal
    /// names stays dead: its shards are to be deleted. [`Error::OtherRoot`] if the id is known with another root.
    pub fn commit(&mut self, commit: &Commit) -> Result<()> {
        let key = Arc::clone(&self.key);
        self.write(|tx| take_in(tx, &key, commit))
    }

    /// Takes in what a put wrote, which ends its journal entry, and notes where something of it may be left besides: deletes
    /// wait for that.
    ///
    /// Where the entry is there no more, another process took this one for dead and cleared up after it. If that took the
    /// object in, all is well; else [`Error::TakenForDead`], and deletes wait for what was written.
    pub fn commit_put(&mut self, commit: &Commit, left: &[(u8, BackendId)]) -> Result<()> {
        let (key, object) = (Arc::clone(&self.key), commit.object.id);
        let is_taken_in = self.write(|tx| {
            let is_known = || first(tx, "SELECT 1 FROM object WHERE id = ?1 AND dead = 0", [object], |_| Ok(()));
            let is_ours = journal::is_journaled(tx, object)? || is_known()?.is_some();
            if is_ours {
                take_in(tx, &key, commit)?;
            } else {
                commit.shards.iter().try_for_each(|shard| place::pend(tx, object, shard.index, shard.backend))?;
            }
            journal::leave(tx, object, left)?;
            Ok(is_ours)
        })?;
        if is_taken_in { Ok(()) } else { Err(Error::TakenForDead { object }) }
    }

    /// Takes several in as one: all of them become durable at the same time, or none.
    pub fn commit_all<'c>(&mut self, commits: impl IntoIterator<Item = &'c Commit>) -> Result<()> {
        let key = Arc::clone(&self.key);
        self.write(|tx| commits.into_iter().try_for_each(|commit| take_in(tx, &key, commit)))
    }
}

pub(super) fn take_in(tx: &Transaction<'_>, key: &CatalogKey, commit: &Commit) -> Result<(), Fault> {
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
        insert_piece(tx, key, object, piece)?;
        touched.insert(piece.version);
    }
    for (version, ordinal, blake3) in &commit.piece_hashes {
        let sql = "UPDATE piece SET sealed_hash = ?4
            WHERE version = ?1 AND ordinal = ?2 AND object = ?3 AND sealed_hash IS NULL";
        let sealed = seal_hash(key, (*version, *ordinal, object), blake3);
        run(tx, sql, params![version, ordinal, object, sealed])?;
    }
    if let Some(removal) = &commit.index.removal {
        removal::apply(tx, key, (object, removal), &mut touched)?;
    }
    if let Some(part) = &commit.index.catalog {
        backup::insert_part(tx, object, part)?;
    }
    heads::settle(tx, key, &touched)?;
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
            dead, state, created_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?11)",
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
            object.created_ns,
        ],
    )?;
    run(
        tx,
        "INSERT INTO manifest (object, public, signature, sealed) VALUES (?1, ?2, ?3, ?4)",
        params![object.id, object.public, object.signature, object.sealed],
    )?;
    Ok(is_dead)
}

fn insert_piece(tx: &Transaction<'_>, key: &CatalogKey, object: ObjectId, piece: &Piece) -> Result<(), Fault> {
    let tag = know_version(tx, key, (piece.version, &piece.name))?;
    run(tx, "UPDATE version SET seen = 1 WHERE id = ?1 AND seen = 0", [piece.version])?;
    if object.writer().is_some() && is_held_elsewhere(tx, object, piece)? {
        return Ok(());
    }
    run(
        tx,
        "INSERT INTO piece (version, ordinal, object, sealed_extent) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![piece.version, piece.ordinal, object, seal_extent(key, object, piece)?],
    )?;
    match &piece.last {
        Some(whole) => learn_whole(tx, piece, whole, &seal_whole(key, piece.version, (tag, whole))?),
        None => Ok(()),
    }
}

/// Whether another object has the piece already. A writer puts a piece once: a second one is no copy of it, but what a
/// thief would have in its place.
fn is_held_elsewhere(tx: &Transaction<'_>, object: ObjectId, piece: &Piece) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM piece WHERE version = ?1 AND ordinal = ?2 AND object <> ?3 LIMIT 1";
    Ok(first(tx, sql, params![piece.version, piece.ordinal, object], |_| Ok(()))?.is_some())
}

/// Makes a version known by its name, if it is not; gives the tag of the name that it is known by.
pub(super) fn know_version(
    tx: &Transaction<'_>,
    key: &CatalogKey,
    (version, name): (VersionId, &FileName),
) -> Result<Tag, Fault> {
    if let Some(known) = first(tx, "SELECT name_tag FROM version WHERE id = ?1", [version], |row| row.get(0))? {
        return Ok(known);
    }
    let tag = Tag::of_name(key, name);
    let folder = folder::enter(tx, key, name)?;
    run(
        tx,
        "INSERT INTO version (id, name_tag, folder, sealed_name, complete, removed, head, seen)
            VALUES (?1, ?2, ?3, ?4, 0, 0, 0, 0)",
        params![version, tag, folder, seal_name(key, version, (tag, name))],
    )?;
    Ok(tag)
}

/// The last piece says what the whole is; the first word counts.
fn learn_whole(tx: &Transaction<'_>, piece: &Piece, whole: &Whole, sealed: &[u8]) -> Result<(), Fault> {
    let news = run(
        tx,
        "UPDATE version SET last_ordinal = ?2, generation = ?3, sealed_whole = ?4
            WHERE id = ?1 AND last_ordinal IS NULL",
        params![piece.version, piece.ordinal, Count(whole.generation), sealed],
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
