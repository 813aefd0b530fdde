//! What can go wrong with the catalog.

use crate::id::{BackendId, Digest, ObjectId, ProcessId, StoreId};
use std::path::{Path, PathBuf};

/// Why the catalog could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no file.
    #[error("there is no catalog at {}", path.display())]
    Absent {
        /// Where.
        path: PathBuf,
    },
    /// `create` found a catalog.
    #[error("there is a catalog at {} already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The file is a database of something else, or an empty one.
    #[error("{} is a database, but not a shard catalog (application id {application_id:#010x})", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What it says it is.
        application_id: i32,
    },
    /// A later release wrote it.
    #[error("the catalog {} has schema {found}, this release knows up to {known}", path.display())]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its schema.
        found: i32,
        /// The newest known here.
        known: i32,
    },
    /// It belongs to another store.
    #[error("the catalog {} belongs to store {found}, not to {expected}", path.display())]
    OtherStore {
        /// Where.
        path: PathBuf,
        /// Whose it should be.
        expected: StoreId,
        /// Whose it is.
        found: StoreId,
    },
    /// It was sealed with another key than this.
    #[error("the catalog {} is sealed with another key", path.display())]
    OtherKey {
        /// Where.
        path: PathBuf,
    },
    /// The file is not what was written; it can be made anew from the backends.
    #[error("the catalog {} is damaged: {what}", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What gave it away.
        what: String,
    },
    /// Another process held the catalog for longer than the busy timeout.
    #[error("another process holds the catalog {}", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: rusqlite::Error,
    },
    /// The disk is full.
    #[error("no space left for the catalog {}", path.display())]
    Full {
        /// Where.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: rusqlite::Error,
    },
    /// The database failed in another way.
    #[error("the catalog {} failed", path.display())]
    Database {
        /// Where.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: rusqlite::Error,
    },
    /// The file could not be made or reached.
    #[error("the catalog file {} cannot be used", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A number is beyond what the catalog can hold, 2⁶³−1.
    #[error("{value} is more than the catalog can hold")]
    TooLarge {
        /// The number.
        value: u64,
    },
    /// An object under a known id has another root.
    #[error("object {object} is known with root {known}, not {given}: an id is never used twice")]
    OtherRoot {
        /// The object.
        object: ObjectId,
        /// What the catalog has.
        known: Digest,
        /// What was brought.
        given: Digest,
    },
    /// The catalog does not have the object.
    #[error("the catalog has no object {object}")]
    UnknownObject {
        /// The object.
        object: ObjectId,
    },
    /// The catalog does not have the shard in that place.
    #[error("the catalog has no shard {index} of object {object} on backend {backend}")]
    UnknownShard {
        /// The object.
        object: ObjectId,
        /// The shard.
        index: u8,
        /// The place.
        backend: BackendId,
    },
    /// Another entry of the journal has the object.
    #[error("process {process} is writing shards of object {object}")]
    Journaled {
        /// The object.
        object: ObjectId,
        /// Whose entry it is.
        process: ProcessId,
    },
    /// No entry of the journal has the object.
    #[error("the journal has no entry for object {object}")]
    NotJournaled {
        /// The object.
        object: ObjectId,
    },
    /// The journal has no entry any more for what this process wrote.
    #[error("another process took this one for dead and cleared up after it: it does not record object {object}")]
    TakenForDead {
        /// The object.
        object: ObjectId,
    },
    /// The object is no removal, or something that it removes may still be there.
    #[error("object {object} is no removal of which everything is known to be gone")]
    NotFinished {
        /// The object.
        object: ObjectId,
    },
    /// The text is not the beginning of an id.
    #[error("{text:?} is not the beginning of an id: 1 to 32 hexadecimal digits")]
    NotPrefix {
        /// The text.
        text: String,
    },
    /// Several ids begin so.
    #[error("more than one id begins with {text}: give more digits")]
    Ambiguous {
        /// The text.
        text: String,
    },
}

impl Error {
    /// Whether it is what was to be taken in that cannot be, and the catalog itself is well.
    pub fn is_about_content(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::OtherRoot { .. })
    }
}

/// What a catalog operation gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure inside an operation, before the path is known that belongs to it.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database's word.
    Sqlite(rusqlite::Error),
    /// One that is told as it is.
    Known(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(source: rusqlite::Error) -> Self {
        Self::Sqlite(source)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Known(error)
    }
}

/// A number that does not fit, on its way through the database's conversion error.
#[derive(Debug, thiserror::Error)]
#[error("{0} is more than the catalog can hold")]
pub(super) struct Overflow(pub(super) u64);

impl Fault {
    /// The outward error for the catalog at `path`.
    pub(super) fn at(self, path: &Path) -> Error {
        use rusqlite::{Error as Sqlite, ErrorCode};
        let source = match self {
            Self::Known(error) => return error,
            Self::Sqlite(source) => source,
        };
        let path = path.to_owned();
        match (&source, source.sqlite_error_code()) {
            (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) => {
                Error::Damaged { path, what: source.to_string() }
            }
            (_, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => Error::Busy { path, source },
            (_, Some(ErrorCode::DiskFull)) => Error::Full { path, source },
            (_, Some(ErrorCode::SystemIoFailure)) if is_without_room(&source) => Error::Full { path, source },
            (_, Some(ErrorCode::CannotOpen)) if !path.exists() => Error::Absent { path },
            (
                Sqlite::FromSqlConversionFailure(..)
                | Sqlite::IntegralValueOutOfRange(..)
                | Sqlite::InvalidColumnType(..)
                | Sqlite::Utf8Error(..),
                _,
            ) => Error::Damaged { path, what: source.to_string() },
            (Sqlite::ToSqlConversionFailure(cause), _) => match cause.downcast_ref::<Overflow>() {
                Some(overflow) => Error::TooLarge { value: overflow.0 },
                None => Error::Database { path, source },
            },
            _ => Error::Database { path, source },
        }
    }
}

/// Whether the file beside the database that its readers share could not be made longer: on a full disk the database says
/// this, and not that the disk is full.
fn is_without_room(source: &rusqlite::Error) -> bool {
    source.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}
