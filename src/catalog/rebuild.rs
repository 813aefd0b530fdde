//! The content of the catalog, replaced as a whole by what was read anew from the backends.

use super::column::all;
use super::error::{Fault, Result};
use super::{Catalog, heads, schema, standing};
use crate::crypto::CatalogKey;
use crate::id::{ObjectId, VersionId};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, TransactionBehavior};
use std::collections::BTreeSet;
use std::path::Path;

/// The tables that the backends can tell, parents before children. What is counted follows by triggers.
const CONTENT: [&str; 12] = [
    "object",
    "manifest",
    "shard",
    "folder",
    "version",
    "parent",
    "piece",
    "pending_delete",
    "removed_version",
    "removed_object",
    "removed_shard",
    "backup_part",
];

impl Catalog {
    /// Remembers which objects are known before the backends are read.
    pub fn begin_rebuild(&mut self) -> Result<()> {
        self.write(|tx| {
            tx.execute_batch("DROP TABLE IF EXISTS temp.known_before")?;
            Ok(tx.execute_batch(KNOWN_BEFORE)?)
        })
    }

    /// Replaces all content by that of another catalog file of the same store, in one transaction.
    ///
    /// Journal, leases and notes stay; so does what this machine alone can know of content that is in both: hashes of
    /// pieces, when shards and objects were last read in full, and what is in objects that a writer put, where the other
    /// file does not say: the writer itself cannot read them. Deletes that wait go on waiting, but none of a shard that the
    /// other file records, and none of an object that lives there and did not here.
    ///
    /// Living objects that were committed here since [`Catalog::begin_rebuild`] may not be in the other file, nor what
    /// they remove be applied there: where there are any, nothing is replaced, and they are the answer. Each is named
    /// once: the caller takes it into the other file and tries again. The answer of a replacement is empty.
    pub fn rebuild_into(&mut self, newer: &Path) -> Result<Vec<ObjectId>> {
        let newer = schema::absolute(newer)?;
        // Opened once by itself: this checks it, and brings an older schema to the present one.
        drop(schema::open(&newer, &self.key)?);
        let attach = self.connection.execute("ATTACH DATABASE ?1 AS newer", [PathText(&newer)]);
        attach.map_err(|source| Fault::from(source).at(&newer))?;
        let replaced = replace(&mut self.connection, &self.key);
        let detached = self.connection.execute_batch("DETACH DATABASE newer");
        let overtaking = replaced.map_err(|fault| fault.at(&self.path))?;
        detached.map_err(|source| Fault::from(source).at(&self.path))?;
        Ok(overtaking)
    }
}

fn replace(connection: &mut Connection, key: &CatalogKey) -> Result<Vec<ObjectId>, Fault> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(KNOWN_BEFORE)?;
    let since = "INSERT INTO temp.known_before SELECT id FROM main.object o
        WHERE o.dead = 0 AND NOT EXISTS (SELECT 1 FROM temp.known_before k WHERE k.id = o.id) RETURNING id";
    let overtaking: Vec<ObjectId> = all(&tx, since, [], |row| row.get(0))?;
    if !overtaking.is_empty() {
        tx.commit()?;
        return Ok(overtaking);
    }
    tx.execute_batch(REMEMBER)?;
    for table in CONTENT.iter().rev() {
        tx.execute_batch(&format!("DELETE FROM main.{table}"))?;
    }
    for table in CONTENT {
        tx.execute_batch(&format!("INSERT INTO main.{table} SELECT * FROM newer.{table}"))?;
    }
    let kept: Vec<VersionId> = all(&tx, "SELECT id FROM temp.known_version", [], |row| row.get(0))?;
    tx.execute_batch(RECALL)?;
    heads::settle(&tx, key, &BTreeSet::from_iter(kept))?;
    tx.execute_batch("DROP TABLE temp.known_before")?;
    standing::count(&tx)?;
    tx.commit()?;
    Ok(Vec::new())
}

/// The objects that were known before the backends were read; without a beginning, all that there are.
const KNOWN_BEFORE: &str = "
    CREATE TEMP TABLE IF NOT EXISTS known_before AS SELECT id FROM main.object;
    CREATE UNIQUE INDEX IF NOT EXISTS temp.known_before_by_id ON known_before (id);
";

/// What only this machine knows, set aside.
const REMEMBER: &str = "
    CREATE TEMP TABLE known_piece AS
        SELECT version, ordinal, object, sealed_hash FROM main.piece WHERE sealed_hash IS NOT NULL
            AND EXISTS (SELECT 1 FROM main.version v WHERE v.id = piece.version AND v.complete = 0);
    CREATE TEMP TABLE known_shard AS
        SELECT object, shard_index, backend, verified_ns FROM main.shard WHERE verified_ns IS NOT NULL;
    CREATE TEMP TABLE known_object AS SELECT id, verified_ns FROM main.object WHERE verified_ns IS NOT NULL;
    CREATE TEMP TABLE known_put AS SELECT p.* FROM main.piece p WHERE p.object >= x'ff'
        AND EXISTS (SELECT 1 FROM newer.object o WHERE o.id = p.object)
        AND NOT EXISTS (SELECT 1 FROM newer.piece n WHERE n.object = p.object);
    CREATE TEMP TABLE known_version AS SELECT v.* FROM main.version v
        WHERE v.id IN (SELECT version FROM temp.known_put)
            AND NOT EXISTS (SELECT 1 FROM newer.version n WHERE n.id = v.id);
    CREATE TEMP TABLE known_parent AS
        SELECT p.* FROM main.parent p WHERE p.version IN (SELECT id FROM temp.known_version);
    CREATE TEMP TABLE known_folder AS
        WITH RECURSIVE around (tag) AS (
            SELECT folder FROM temp.known_version
            UNION SELECT f.parent FROM around a JOIN main.folder f ON f.tag = a.tag)
        SELECT f.* FROM main.folder f WHERE f.tag IN (SELECT tag FROM around);
    CREATE TEMP TABLE known_delete AS
        SELECT d.*, EXISTS (SELECT 1 FROM main.object o WHERE o.id = d.object AND o.dead = 0) AS is_of_living
        FROM main.pending_delete d;
";

/// What was set aside, put to what is there again.
const RECALL: &str = "
    INSERT OR IGNORE INTO main.folder SELECT * FROM temp.known_folder;
    INSERT INTO main.version SELECT * FROM temp.known_version;
    INSERT INTO main.parent SELECT * FROM temp.known_parent;
    INSERT INTO main.piece SELECT * FROM temp.known_put;
    UPDATE main.piece SET sealed_hash = k.sealed_hash FROM temp.known_piece k
        WHERE piece.sealed_hash IS NULL AND piece.version = k.version AND piece.ordinal = k.ordinal
            AND piece.object = k.object;
    UPDATE main.shard SET verified_ns = k.verified_ns FROM temp.known_shard k
        WHERE shard.verified_ns IS NULL AND shard.object = k.object AND shard.shard_index = k.shard_index
            AND shard.backend = k.backend;
    UPDATE main.object SET verified_ns = k.verified_ns FROM temp.known_object k
        WHERE (object.verified_ns IS NULL OR object.verified_ns < k.verified_ns) AND object.id = k.id;
    INSERT OR IGNORE INTO main.pending_delete SELECT object, shard_index, backend FROM temp.known_delete k
        WHERE NOT EXISTS (SELECT 1 FROM main.shard s WHERE s.object = k.object AND s.shard_index = k.shard_index
                AND s.backend = k.backend)
            AND CASE WHEN k.is_of_living
                THEN EXISTS (SELECT 1 FROM main.object o WHERE o.id = k.object)
                    OR EXISTS (SELECT 1 FROM main.removed_object r WHERE r.object = k.object)
                ELSE NOT EXISTS (SELECT 1 FROM main.object o WHERE o.id = k.object AND o.dead = 0) END;
    DROP TABLE temp.known_delete;
    DROP TABLE temp.known_folder;
    DROP TABLE temp.known_parent;
    DROP TABLE temp.known_put;
    DROP TABLE temp.known_version;
    DROP TABLE temp.known_piece;
    DROP TABLE temp.known_shard;
    DROP TABLE temp.known_object;
";

/// A path as the database takes it, whatever its bytes are.
struct PathText<'a>(&'a Path);

impl ToSql for PathText<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0.as_os_str().as_encoded_bytes())))
    }
}
