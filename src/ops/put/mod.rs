//! Stores files, folders and streams.
//!
//! *What it is.* [`put`]: walks what it is given, packs small files together, cuts large ones into pieces, and has each
//! object written.
//!
//! *What it knows.* Which bytes go into which object, what a file version descends from, what need not be stored again.
//!
//! *What it does not know.* Shards and places: the writer does. What a person typed.
//!
//! *Invariants.* A file that changed while it was read is never stored. A version exists when its last piece does. What
//! another process is storing is not gone on with.

mod folder;
mod large;
mod lineage;
mod pack;
mod reading;
mod resume;
mod session;
mod unchanged;

pub use large::version_lease;
pub(in crate::ops) use resume::take_back;

use super::writer::StoredObject;
use super::{Controls, leftovers};
use crate::catalog::ObjectState;
use crate::crypto::RecipientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::id::{Digest, ObjectId, RedundancyLevel, VersionId};
use crate::ops::writer::ReadableZone;
use crate::store::Store;
use crate::stripe::Check;
use crate::stripe::Seal;
use serde::Serialize;
use session::Session;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::AsyncRead;

/// What is to be stored.
pub enum PutSource {
    /// One regular file; its name is its own last part unless another is given.
    File {
        /// Where it is.
        path: PathBuf,
        /// What to call it.
        name: Option<FileName>,
    },
    /// A folder with all that is in it, as `FOLDER/…`.
    Folder {
        /// Where it is.
        path: PathBuf,
        /// What to call it instead of its own name.
        name: Option<FileName>,
    },
    /// A stream of unknown length; interrupted, it cannot be gone on with.
    Reader {
        /// What gives the bytes.
        reader: Box<dyn AsyncRead + Send + Unpin>,
        /// What to call it.
        name: FileName,
    },
}

impl PutSource {
    /// The file or folder that is at this path. Blocking, for a moment.
    pub fn at(path: &Path, name: Option<FileName>) -> Result<Self> {
        let failed = |error| Error::local(format!("cannot read {}", path.display()), error);
        let path_buf = path.to_owned();
        if std::fs::metadata(path).map_err(failed)?.is_dir() {
            return Ok(Self::Folder { path: path_buf, name });
        }
        Ok(Self::File { path: path_buf, name })
    }
}

impl fmt::Debug for PutSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => f.debug_tuple("File").field(path).finish(),
            Self::Folder { path, .. } => f.debug_tuple("Folder").field(path).finish(),
            Self::Reader { name, .. } => f.debug_tuple("Reader").field(name).finish(),
        }
    }
}

/// What is stored, and how.
#[derive(Debug, Default)]
pub struct PutOptions {
    /// What is to be stored, in this order.
    pub sources: Vec<PutSource>,
    /// How much may be lost; what the settings say where it is not given.
    pub level: Option<RedundancyLevel>,
    /// How it is sealed; what the settings say where it is not given.
    pub seal: Option<Seal>,
    /// To whom it is sealed; then no seal is to be given.
    pub recipient: Option<Arc<RecipientKey>>,
    /// What happens where the places would let one zone read what is dispersed.
    pub readable_zone: ReadableZone,
    /// What is checked of each stripe; the parity where it is not given, everything at the level paranoid.
    pub check: Option<Check>,
    /// Where progress is told, and how it is cancelled.
    pub controls: Controls,
}

/// What was stored.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PutReport {
    /// The files.
    pub files: Vec<StoredFile>,
    /// The objects that were written for them.
    pub objects: Vec<StoredObject>,
    /// What was found in folders and could not be stored.
    pub failed: Vec<FailedFile>,
    /// Bytes of files that were read.
    pub bytes_read: u64,
    /// Bytes of shards that were written.
    pub bytes_written: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// The worst that is known of the objects of files that were stored already; `None` where there are none.
    #[serde(skip)]
    pub unchanged_state: Option<ObjectState>,
}

impl PutReport {
    /// Whether some shard found no place that outlives this process, or would be better on a backend that could not be
    /// used.
    pub fn is_degraded(&self) -> bool {
        !self.objects.iter().all(|object| object.is_whole() && object.in_best_places)
    }
}

/// A file that was stored, or was already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredFile {
    /// What it is called.
    pub name: FileName,
    /// Its version.
    pub version: VersionId,
    /// The objects that hold it, in the order of its pieces.
    pub objects: Vec<ObjectId>,
    /// Its length in bytes.
    pub size: u64,
    /// The hash of its bytes.
    pub blake3: Digest,
    /// Whether it was there already, unchanged.
    pub skipped: bool,
}

/// A file that could not be stored, while others were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedFile {
    /// Its path; what is not UTF-8 in it is replaced.
    pub path: String,
    /// Why.
    pub error: String,
}

/// Stores files, folders and streams.
///
/// A single file that cannot be read, or changes while it is, is an error; among several, and in folders, it is listed in
/// the report and the rest is stored. [`ErrorKind::BelowQuorum`] when too few shards of an object could be made durable:
/// of that object nothing stays, what was stored before it does. Many puts at once wait for one another: see
/// [`PUTS_AT_ONCE`](crate::store::PUTS_AT_ONCE).
pub async fn put(store: &Store, options: PutOptions) -> Result<PutReport> {
    let begun = Instant::now();
    if options.sources.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "nothing was given to store"));
    }
    let Some(_slot) = options.controls.cancel.run_until_cancelled(store.put_slot()).await else {
        return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
    };
    leftovers::clear(store, &options.controls).await?;
    let mut session = Session::new(store, &options)?;
    for source in options.sources {
        if let Err(error) = session.put(source).await {
            return Err(session.abandon_for(error).await);
        }
    }
    let mut report = session.close().await?;
    report.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}
