//! What can go wrong with a vault.

use std::path::{Path, PathBuf};

/// Why a vault could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such vault.
    #[error("there is no vault at {}", path.display())]
    Absent {
        /// Where.
        path: PathBuf,
    },
    /// The vault was deleted while it was open here.
    #[error("the vault {} was deleted", path.display())]
    Deleted {
        /// Where it was.
        path: PathBuf,
    },
    /// The name cannot be that of a vault.
    #[error("{name:?} is no name for a vault: {why}")]
    Name {
        /// What was given.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The file is a database of something else.
    #[error("{} is a database, but not such a vault: {what}", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What gave it away.
        what: String,
    },
    /// A later release wrote it.
    #[error("the vault {} has schema {found}, this release knows up to {known}", path.display())]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its schema.
        found: i32,
        /// The newest known here.
        known: i32,
    },
    /// The vault is not sealed with the key that was brought.
    #[error("the vault {} is sealed with another key", path.display())]
    OtherKey {
        /// Where.
        path: PathBuf,
    },
    /// The file is not what was written.
    #[error("the vault {} is damaged: {what}", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What gave it away.
        what: String,
    },
    /// Another process or thread held the vault for longer than the busy timeout.
    #[error("another process holds the vault {}", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: rusqlite::Error,
    },
    /// A change was begun inside a transaction without going through it; it would wait for itself for ever.
    #[error("a transaction on the vault {} is open in this thread: make the change through it", path.display())]
    Nested {
        /// Where.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space left for the vault {}", path.display())]
    Full {
        /// Where.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: rusqlite::Error,
    },
    /// The database failed in another way.
    #[error("the vault {} failed", path.display())]
    Database {
        /// Where.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: rusqlite::Error,
    },
    /// A file or folder could not be made or reached.
    #[error("{} cannot be used", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A key or value that cannot be kept.
    #[error("this {what} cannot be kept: {why}")]
    Unfit {
        /// `key` or `value`.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// A key or value has more bytes than there may be.
    #[error("a {what} of {bytes} bytes is more than the {most} that there may be")]
    TooLarge {
        /// `key` or `value`.
        what: &'static str,
        /// How many bytes it has; for what is still coming, so many at least.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// What is kept is of another type than was asked for.
    #[error("the {what} is of another type: {why}")]
    OtherType {
        /// `key` or `value`.
        what: &'static str,
        /// What the type said.
        why: String,
    },
    /// The value is no integer, or would leave the range of one.
    #[error("the value cannot be incremented by {by}: {why}")]
    NotIncremented {
        /// By how much.
        by: i64,
        /// Why not.
        why: &'static str,
    },
    /// A line of an import is not what an export writes.
    #[error("line {line} of what is imported: {why}")]
    Import {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// What is imported could not be read, or what is exported not be written.
    #[error("the export could not be {doing}")]
    Transfer {
        /// `read` or `written`.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What a vault operation gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The database's word about the file at `path`.
    pub(super) fn of_database(source: rusqlite::Error, path: &Path) -> Self {
        use rusqlite::{Error as Sqlite, ErrorCode};
        let path = path.to_owned();
        match (&source, source.sqlite_error_code()) {
            (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) => {
                Self::Damaged { path, what: source.to_string() }
            }
            (_, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => Self::Busy { path, source },
            (_, Some(ErrorCode::DiskFull)) => Self::Full { path, source },
            (_, Some(ErrorCode::SystemIoFailure)) if is_without_room(&source) => Self::Full { path, source },
            (_, Some(ErrorCode::SystemIoFailure)) if was_taken_away(&source) => Self::Absent { path },
            (_, Some(ErrorCode::CannotOpen)) if !path.exists() => Self::Absent { path },
            (
                Sqlite::FromSqlConversionFailure(..)
                | Sqlite::IntegralValueOutOfRange(..)
                | Sqlite::InvalidColumnType(..)
                | Sqlite::QueryReturnedNoRows,
                _,
            ) => Self::Damaged { path, what: source.to_string() },
            _ => Self::Database { path, source },
        }
    }

    pub(super) fn io(source: std::io::Error, path: &Path) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// To make its log the database looks at the file by its name once more: it was deleted since it was opened.
fn was_taken_away(source: &rusqlite::Error) -> bool {
    source.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_FSTAT)
}

/// On a full disk the database says of the file that its readers share that it could not be made longer.
fn is_without_room(source: &rusqlite::Error) -> bool {
    source.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}
