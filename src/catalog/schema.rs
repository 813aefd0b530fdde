//! How the file is made, recognised and brought to the present schema.

use super::error::{Error, Fault, Result};
use crate::crypto::CatalogKey;
use crate::id::{Digest, StoreId};
use crate::vault::file::{make_private, sync_folder};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Says in the file's header what it is: `SHRD`.
pub(super) const APPLICATION_ID: i32 = 0x5348_5244;
/// What a connection keeps of the file at most, in KiB: the inner pages of all indexes of a million objects, with room for
/// those of a batch. SQLite's own 2 MiB do not hold them.
const CACHE_KIB: i64 = 16 * 1024;

/// Step i brings schema i to i + 1; each runs in the transaction that records it.
const MIGRATIONS: [&str; 4] = [
    include_str!("schema.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
];
/// The newest schema that is known here.
pub(super) const SCHEMA_VERSION: i32 = MIGRATIONS.len() as i32;
/// A writer waits this long for another before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Making or opening the file is tried again this long while another connection is doing the same.
const BEGINNING_PATIENCE: Duration = Duration::from_secs(10);
/// The wait between two such tries.
const BEGINNING_PAUSE: Duration = Duration::from_millis(20);
/// How many prepared statements a connection keeps: more than there are in this module.
const STATEMENT_CACHE: usize = 160;

/// The path from the root, so that no path can be taken for a `file:` URL.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// Makes the file, or finishes one whose making was interrupted; with a note in it from the beginning, where one is given.
pub(super) fn create(path: &Path, key: &CatalogKey, note: Option<&str>) -> Result<Connection> {
    make_private(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let make = || {
        let mut connection = connect(path)?;
        Header::snapshot(&connection)?.refuse_unless_blank(path)?;
        configure(&connection)?;
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have made it since.
        Header::read(&tx)?.refuse_unless_blank(path)?;
        migrate(&tx, 0)?;
        tx.execute("INSERT INTO store VALUES (1, ?1, ?2)", params![key.store_id(), key.check_value()])?;
        if let Some(note) = note {
            tx.execute("INSERT INTO note (key, value) VALUES (?1, '')", [note])?;
        }
        tx.commit()?;
        Ok(connection)
    };
    let connection = patiently(|| make().map_err(|fault: Fault| fault.at(path)))?;
    sync_folder(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    Ok(connection)
}

/// Opens the file if it is the catalog of this store, sealed with this key.
pub(super) fn open(path: &Path, key: &CatalogKey) -> Result<Connection> {
    let look = || {
        let mut connection = connect(path)?;
        recognise(&connection, path, key)?;
        configure(&connection)?;
        let found = Header::read(&connection)?.user_version;
        if found < SCHEMA_VERSION {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let found = Header::read(&tx)?.user_version;
            migrate(&tx, found)?;
            tx.commit()?;
        }
        Ok(connection)
    };
    if !path.try_exists().map_err(|source| Error::Io { path: path.to_owned(), source })? {
        return Err(Error::Absent { path: path.to_owned() });
    }
    patiently(|| look().map_err(|fault: Fault| fault.at(path)))
}

/// Whether there is a catalog in which nothing was ever recorded, whosever it is.
pub fn is_blank(path: &Path) -> Result<bool> {
    let look = || {
        let connection = connect(path)?;
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM object) AND NOT EXISTS (SELECT 1 FROM journal)";
        Ok(connection.query_row(sql, [], |row| row.get(0))?)
    };
    look().map_err(|fault: Fault| fault.at(path))
}

/// Tries again for a while when the file is busy: SQLite does not wait by itself while another connection changes the
/// journal's mode or is the first to read it.
fn patiently(mut attempt: impl FnMut() -> Result<Connection>) -> Result<Connection> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(Error::Busy { .. }) if begun.elapsed() < BEGINNING_PATIENCE => std::thread::sleep(BEGINNING_PAUSE),
            outcome => return outcome,
        }
    }
}

/// Fails unless the file is a catalog of this store that can be read here.
fn recognise(connection: &Connection, path: &Path, key: &CatalogKey) -> Result<(), Fault> {
    let header = Header::snapshot(connection)?;
    if header.application_id != APPLICATION_ID {
        return Err(header.foreign(path).into());
    }
    if header.user_version > SCHEMA_VERSION {
        let (found, known) = (header.user_version, SCHEMA_VERSION);
        return Err(Error::Newer { path: path.to_owned(), found, known }.into());
    }
    let expected = key.store_id();
    let sql = "SELECT id, key_check FROM store";
    let (found, check): (StoreId, Digest) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if found != expected {
        return Err(Error::OtherStore { path: path.to_owned(), expected, found }.into());
    }
    if check != key.check_value() {
        return Err(Error::OtherKey { path: path.to_owned() }.into());
    }
    Ok(())
}

/// What the file says it is.
struct Header {
    application_id: i32,
    user_version: i32,
    tables: i64,
}

impl Header {
    /// Reads all of it in one state of the file: another process may be making it right now.
    fn snapshot(connection: &Connection) -> Result<Self, Fault> {
        let tx = connection.unchecked_transaction()?;
        Self::read(&tx)
    }

    fn read(connection: &Connection) -> Result<Self, Fault> {
        let ask = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get(0));
        Ok(Self {
            application_id: ask("application_id")?,
            user_version: ask("user_version")?,
            tables: connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
        })
    }

    fn refuse_unless_blank(&self, path: &Path) -> Result<(), Fault> {
        if self.application_id == APPLICATION_ID {
            return Err(Error::Exists { path: path.to_owned() }.into());
        }
        if self.is_blank() { Ok(()) } else { Err(self.foreign(path).into()) }
    }

    /// Nothing was ever written to it.
    fn is_blank(&self) -> bool {
        self.application_id == 0 && self.user_version == 0 && self.tables == 0
    }

    fn foreign(&self, path: &Path) -> Error {
        Error::Foreign { path: path.to_owned(), application_id: self.application_id }
    }
}

fn migrate(connection: &Connection, found: i32) -> Result<(), Fault> {
    let done = usize::try_from(found).unwrap_or(0);
    for step in MIGRATIONS.iter().skip(done) {
        connection.execute_batch(step)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    Ok(())
}

fn connect(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    // Else a statement is prepared anew for each value that might make a partial index fit: an eighth of a large put.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// Only for a file that is ours: the first setting is written into it.
fn configure(connection: &Connection) -> Result<(), Fault> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // A file that was tampered with must not make the schema run anything.
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    Ok(())
}
