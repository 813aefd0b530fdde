//! The file of a vault: how it is made, recognised, shared between threads and processes, and taken away.

use super::error::{Error, Result};
use super::file::{SUFFIXES, beside, make_private, make_private_folder, sync_folder};
use super::raw::{KeyRange, Raw};
use super::{Clock, Durability, connection};
use crc_fast::{CrcAlgorithm, Digest as Crc};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::fs::{self, File};
use std::ops::{ControlFlow, Deref};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// The tables that every vault has.
pub(super) const SCHEMA: &str = include_str!("schema.sql");
/// The schema that is known here.
const SCHEMA_VERSION: i32 = 1;
/// Making or opening the file is tried again this long while another connection is doing the same.
const BEGINNING_PATIENCE: Duration = Duration::from_secs(10);
/// The wait between two such tries.
const BEGINNING_PAUSE: Duration = Duration::from_millis(5);
/// How many connections are kept for threads to come; more are opened while they are needed.
const MAX_IDLE_CONNECTIONS: usize = 8;

/// What sort of database it is, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Says in the file's header what it is.
    pub(crate) application_id: i32,
    /// Tells one key from another; zero where nothing is sealed.
    pub(crate) check: [u8; 32],
    /// Its tables.
    pub(crate) schema: &'static str,
    /// Whether what is deleted is overwritten too.
    pub(crate) wipes: bool,
}

/// One vault's file, open; shared between threads.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    form: Form,
    checks: Mutex<Vec<[u8; 32]>>,
    durability: Durability,
    clock: Clock,
    newest_ms: Mutex<i64>,
    idle: Mutex<Vec<Connection>>,
    writer: Mutex<Option<ThreadId>>,
    writer_left: Condvar,
}

/// What the file says of itself.
struct Head {
    form: Vec<u8>,
    newest_ms: i64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Database {
    /// Opens the file, or makes it, folders too.
    pub(crate) fn open(path: &Path, form: Form, (clock, durability): (Clock, Durability)) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|error| Error::io(error, path))?;
        if let Some(folder) = path.parent() {
            make_private_folder(folder).map_err(|error| Error::io(error, folder))?;
        }
        let database = Self::new(path, form, (clock, durability));
        let connection = database.open_or_make()?;
        database.admit(connection)
    }

    /// Opens the file that there is.
    pub(crate) fn open_existing(path: &Path, form: Form, (clock, durability): (Clock, Durability)) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|error| Error::io(error, path))?;
        let absent = || Error::Absent { path: path.clone() };
        match fs::metadata(&path) {
            // Made and never filled: its making was interrupted.
            Ok(metadata) if metadata.len() == 0 && !beside(&path, "-wal").exists() => return Err(absent()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(absent()),
            Err(error) => return Err(Error::io(error, &path)),
            Ok(_) => {}
        }
        let database = Self::new(path, form, (clock, durability));
        let connection = match patiently(|| database.connect()) {
            // What has no tables yet may be one that is being made.
            Err(Error::Absent { .. } | Error::Deleted { .. }) => {
                let _alone = database.lock_folder()?;
                database.clear_unfinished()?;
                patiently(|| database.connect())?
            }
            connection => connection?,
        };
        database.admit(connection)
    }

    fn new(path: PathBuf, form: Form, (clock, durability): (Clock, Durability)) -> Self {
        Self {
            path,
            form,
            checks: Mutex::new(vec![form.check]),
            durability,
            clock,
            newest_ms: Mutex::new(i64::MIN),
            idle: Mutex::default(),
            writer: Mutex::default(),
            writer_left: Condvar::new(),
        }
    }

    /// Keeps the first connection, with what it says of the time.
    fn admit(self, connection: Connection) -> Result<Self> {
        let head = self.head(&connection)?;
        *lock(&self.newest_ms) = head.newest_ms;
        self.give_back(connection);
        Ok(self)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs questions over one state of the file.
    pub(crate) fn read<T, E: From<Error>>(&self, work: impl FnOnce(&Raw<'_>) -> Result<T, E>) -> Result<T, E> {
        let (connection, check) = self.snapshot()?;
        work(&Raw::new(&connection, &self.path, self.now_ms()).sealed_under(check))
    }

    /// Runs changes: all of them become durable, or none.
    pub(crate) fn write<T, E: From<Error>>(&self, work: impl FnOnce(&Raw<'_>) -> Result<T, E>) -> Result<T, E> {
        let _turn = self.take_turn()?;
        let mut connection = self.connection()?;
        let begun = connection.inner().transaction_with_behavior(TransactionBehavior::Immediate);
        let tx = begun.map_err(|error| self.fault(error))?;
        let check = self.recognise(&tx)?;
        let now_ms = self.now_ms();
        let answer = work(&Raw::new(&tx, &self.path, now_ms).sealed_under(check))?;
        tx.commit().map_err(|error| self.fault(error))?;
        Ok(answer)
    }

    /// A connection that sees one state of the file for as long as it is held, and under which key that is sealed.
    pub(crate) fn snapshot(&self) -> Result<(Pooled<'_>, [u8; 32])> {
        let connection = self.connection()?;
        run_cached(&connection, "BEGIN").map_err(|error| self.fault(error))?;
        let check = self.recognise(&connection)?;
        Ok((connection, check))
    }

    /// The time in milliseconds since 1970, never earlier than it was said to be before, here or by whoever wrote a time
    /// into the file: a clock that is set back brings nothing back.
    pub(crate) fn now_ms(&self) -> i64 {
        let mut newest = lock(&self.newest_ms);
        *newest = (*newest).max(self.clock.now_ms());
        *newest
    }

    /// From now on the file is sealed with another key. Called in the transaction that sealed it anew.
    pub(crate) fn set_check(&self, raw: &Raw<'_>, check: [u8; 32]) -> Result<()> {
        let sql = "UPDATE vault SET form = ?1, newest_ms = ?2, digest = ?3";
        let digest = head_digest(&check, raw.now_ms());
        let changed = raw.connection().execute(sql, params![check, raw.now_ms(), digest]);
        changed.map(drop).map_err(|error| self.fault(error))
    }

    /// From now on the file may be sealed under any of these keys, and no other.
    pub(crate) fn accept_checks(&self, checks: Vec<[u8; 32]>) {
        *lock(&self.checks) = checks;
    }

    /// Writes into the file how late it is: others, and this process when it runs again, go on from there.
    pub(crate) fn note_time(&self, raw: &Raw<'_>) -> Result<()> {
        self.set_check(raw, raw.check())
    }

    /// Deletes the file. Whoever has it open still is told so from now on.
    pub(crate) fn delete(self) -> Result<()> {
        self.delete_where(|_| Ok(true)).map(drop)
    }

    /// Deletes the file if there is nothing in it; says whether it did.
    pub(crate) fn delete_if_empty(self) -> Result<bool> {
        self.delete_where(holds_nothing)
    }

    /// Whether no row is in it, of whatever purpose, expired or not.
    pub(crate) fn holds_nothing(&self) -> Result<bool> {
        self.read(holds_nothing)
    }

    fn delete_where(self, is_wanted: impl FnOnce(&Raw<'_>) -> Result<bool>) -> Result<bool> {
        let _alone = self.lock_folder()?;
        let is_marked = self.write(|raw| -> Result<bool> {
            let is_wanted = is_wanted(raw)?;
            if is_wanted {
                let marked = raw.connection().execute("UPDATE vault SET deleted = 1", []);
                marked.map_err(|error| self.fault(error))?;
            }
            Ok(is_wanted)
        })?;
        if is_marked {
            self.remove_files()?;
        }
        Ok(is_marked)
    }

    /// Takes away what one left that was killed while it made or deleted the file: a file to which nothing was written, or
    /// that is marked, or a log without it. Under the lock of the folder, so that nobody is at it still.
    fn clear_unfinished(&self) -> Result<()> {
        match patiently(|| self.connect()) {
            Err(Error::Absent { .. } | Error::Deleted { .. }) => self.remove_files(),
            _ => Ok(()),
        }
    }

    /// Under the lock of the folder: else the log would be taken from under a new file of this name.
    fn remove_files(&self) -> Result<()> {
        lock(&self.idle).clear();
        for suffix in SUFFIXES {
            let path = beside(&self.path, suffix);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(error, &path)),
                _ => {}
            }
        }
        sync_folder(&self.path).map_err(|error| Error::io(error, &self.path))
    }

    /// Reads the whole file, and says [`Error::Damaged`] if it contradicts itself.
    pub(crate) fn check(&self) -> Result<()> {
        let (connection, _) = self.snapshot()?;
        let asked = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        match asked.map_err(|error| self.fault(error))?.as_str() {
            "ok" => Ok(()),
            what => Err(self.damaged(what)),
        }
    }

    fn take_turn(&self) -> Result<Turn<'_>> {
        let current = std::thread::current().id();
        let mut writer = lock(&self.writer);
        if *writer == Some(current) {
            return Err(Error::Nested { path: self.path.clone() });
        }
        while writer.is_some() {
            writer = self.writer_left.wait(writer).unwrap_or_else(PoisonError::into_inner);
        }
        *writer = Some(current);
        Ok(Turn(self))
    }

    fn connection(&self) -> Result<Pooled<'_>> {
        let kept = lock(&self.idle).pop();
        let connection = kept.map_or_else(|| patiently(|| self.connect()), Ok)?;
        Ok(Pooled { database: self, connection: Some(connection) })
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_IDLE_CONNECTIONS {
            idle.push(connection);
        }
    }

    /// Fails unless the file is still the one that was opened, under a key that is known; tells which.
    fn recognise(&self, connection: &Connection) -> Result<[u8; 32]> {
        let head = self.head(connection)?;
        let found = lock(&self.checks).iter().copied().find(|check| head.form == *check);
        found.ok_or_else(|| Error::OtherKey { path: self.path.clone() })
    }

    fn head(&self, connection: &Connection) -> Result<Head> {
        let ask = || {
            let mut statement = connection.prepare_cached("SELECT form, newest_ms, digest, deleted FROM vault")?;
            let row = |row: &rusqlite::Row<'_>| {
                let head = Head { form: row.get(0)?, newest_ms: row.get(1)? };
                Ok((head, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
            };
            statement.query_row([], row).optional()
        };
        let found = ask().map_err(|error| self.fault(error))?;
        let (head, digest, deleted) = found.ok_or_else(|| self.damaged("it does not say what it is"))?;
        if digest != head_digest(&head.form, head.newest_ms) {
            return Err(self.damaged("what it says of itself is not what was written"));
        }
        if deleted != 0 {
            return Err(Error::Deleted { path: self.path.clone() });
        }
        Ok(head)
    }

    /// Opens the file, or makes it where there is none, or none any more.
    fn open_or_make(&self) -> Result<Connection> {
        match patiently(|| self.connect()) {
            // What has no tables yet may be one that is being made.
            Err(Error::Absent { .. } | Error::Deleted { .. }) => {}
            opened => {
                // Whoever made it may have been killed before its name was durable.
                let connection = opened?;
                sync_folder(&self.path).map_err(|error| Error::io(error, &self.path))?;
                return Ok(connection);
            }
        }
        let _alone = self.lock_folder()?;
        self.clear_unfinished()?;
        make_private(&self.path).map_err(|error| Error::io(error, &self.path))?;
        patiently(|| self.make())
    }

    /// Held while files are made or taken away in the folder: those are several, and nobody may see some of them.
    fn lock_folder(&self) -> Result<File> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let locked = File::open(folder).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| Error::io(error, folder))
    }

    /// Makes the file.
    fn make(&self) -> Result<Connection> {
        let (mut connection, form) = (self.bare_connection()?, self.form);
        let run = |connection: &mut Connection| {
            if !is_blank(connection)? {
                return Ok(());
            }
            configure(connection, form, self.durability)?;
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Another process may have made it since.
            if is_blank(&tx)? {
                tx.execute_batch(form.schema)?;
                let digest = head_digest(&form.check, i64::MIN);
                tx.execute("INSERT INTO vault VALUES (1, ?1, ?2, ?3, 0)", params![form.check, i64::MIN, digest])?;
                tx.pragma_update(None, "application_id", form.application_id)?;
                tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            tx.commit()
        };
        run(&mut connection).map_err(|error| self.fault(error))?;
        sync_folder(&self.path).map_err(|error| Error::io(error, &self.path))?;
        drop(connection);
        self.connect()
    }

    /// A connection to the file, if it is what it should be; [`Error::Absent`] if nothing was written to it yet.
    fn connect(&self) -> Result<Connection> {
        let (connection, form) = (self.bare_connection()?, self.form);
        let ask = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
        let mut application_id = ask("application_id").map_err(|error| self.fault(error))?;
        if application_id == 0 {
            if is_blank(&connection).map_err(|error| self.fault(error))? {
                return Err(Error::Absent { path: self.path.clone() });
            }
            // It may have been made since.
            application_id = ask("application_id").map_err(|error| self.fault(error))?;
        }
        if application_id != form.application_id {
            let what = format!("its application id is {application_id:#010x}");
            return Err(Error::Foreign { path: self.path.clone(), what });
        }
        let found = ask("user_version").map_err(|error| self.fault(error))?;
        if found != SCHEMA_VERSION {
            return Err(Error::Newer { path: self.path.clone(), found, known: SCHEMA_VERSION });
        }
        if !has_schema(&connection, form.schema).map_err(|error| self.fault(error))? {
            return Err(Error::Foreign { path: self.path.clone(), what: "its tables are others".to_owned() });
        }
        configure(&connection, form, self.durability).map_err(|error| self.fault(error))?;
        self.recognise(&connection)?;
        Ok(connection)
    }

    fn bare_connection(&self) -> Result<Connection> {
        connection::open(&self.path).map_err(|error| self.fault(error))
    }

    fn fault(&self, error: rusqlite::Error) -> Error {
        Error::of_database(error, &self.path)
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), what: what.into() }
    }
}

/// One thread's turn to write: the threads of a process wait for each other in order, and not in the database's.
struct Turn<'d>(&'d Database);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.writer) = None;
        self.0.writer_left.notify_one();
    }
}

/// A connection that goes back when it is dropped; what it had begun is then undone.
#[derive(Debug)]
pub(crate) struct Pooled<'d> {
    database: &'d Database,
    connection: Option<Connection>,
}

impl Pooled<'_> {
    fn inner(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is there until it is dropped")
    }
}

impl Deref for Pooled<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Pooled<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if connection.is_autocommit() || run_cached(&connection, "ROLLBACK").is_ok() {
            self.database.give_back(connection);
        }
    }
}

fn holds_nothing(raw: &Raw<'_>) -> Result<bool> {
    let mut is_empty = true;
    raw.scan(&KeyRange::all(), |_| -> Result<_> {
        is_empty = false;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(is_empty)
}

fn run_cached(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// Tries again for a while when the file is busy: SQLite does not wait by itself while another connection changes the
/// journal's mode or is the first to read it.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(Error::Busy { .. }) if begun.elapsed() < BEGINNING_PATIENCE => std::thread::sleep(BEGINNING_PAUSE),
            outcome => return outcome,
        }
    }
}

/// Nothing was ever written to it.
fn is_blank(connection: &Connection) -> rusqlite::Result<bool> {
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(id == 0 && tables == 0)
}

/// A schema of our name with other tables would answer other questions than those that are asked.
fn has_schema(connection: &Connection, schema: &str) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare("SELECT sql FROM sqlite_schema")?;
    let found: Vec<Option<String>> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let ours: Vec<&str> = schema.split(';').map(str::trim).filter(|sql| !sql.is_empty()).collect();
    Ok(found.len() == ours.len() && ours.iter().all(|sql| found.iter().any(|other| other.as_deref() == Some(*sql))))
}

fn configure(connection: &Connection, form: Form, durability: Durability) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Relaxed => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // A page that is misshapen is told of where it is read, and not guessed at.
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.pragma_update(None, "secure_delete", if form.wipes { "ON" } else { "OFF" })?;
    // A file that was tampered with must not make the schema run anything.
    connection.pragma_update(None, "trusted_schema", "OFF")
}

fn head_digest(form: &[u8], newest_ms: i64) -> i64 {
    let mut crc = Crc::new(CrcAlgorithm::Crc32Iscsi);
    crc.update(form);
    crc.update(&newest_ms.to_le_bytes());
    i64::from(crc.finalize() as u32)
}
