//! Writes files back, bit for bit, from any k good shards of each stripe.
//!
//! *What it is.* [`recover`], from a store; [`recover_from`], from the places alone with nothing but the store's id; to a
//! file, into a folder, or as a stream.
//!
//! *What it knows.* Names, versions, pieces; how a file comes to stand at its name whole; that many small files share an
//! object, whose stripes are then read once.
//!
//! *What it does not know.* How a stripe is had: the reader does. What a person typed.
//!
//! *Invariants.* A file at its final name is whole, and its hash was compared. A stream gets verified bytes only. Nothing
//! is written outside the folder that was named, nothing replaced unless asked for, and nothing that was recovered in the
//! same go. Memory does not grow with files, but for what is told of each. Damage met on the way is told beside what was
//! recovered.

mod finished;
mod folder;
mod found;
mod group;
mod heap;
mod new_file;
mod object;
mod origin;
mod outcome;
mod place;
mod plan;
mod report;
mod session;
mod shared;
mod sink;
mod target;
mod unread;

pub use folder::Existing;
pub(in crate::ops) use folder::Folder;
pub use found::{FoundPlaces, recover_from};
pub use heap::{FoundHeap, HeapReport, look_through};
pub(in crate::ops) use new_file::NewFile;
pub use place::{FoundPlace, look_at};
pub use report::{DamagedShard, FailedRecovery, PlaceSeen, RecoverReport, RecoveredFile, UnreadObject};

use super::Controls;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::id::VersionId;
use crate::store::{Held, Store};
use origin::Origin;
use session::Session;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use tokio::io::AsyncWrite;

/// Which files are recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoverWhat {
    /// These; a name that is no file is taken for a folder, and means all files in it.
    Names(Vec<FileName>),
    /// Every file, each in its newest version.
    All,
}

/// What a file is called in the folder it is recovered into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// Its whole name: `a/b.txt` is `a/b.txt` below the folder.
    #[default]
    Whole,
    /// The last part of the name that was asked for: `a/b.txt` is `b.txt`, and the folder `a/b` is `b/…`.
    LastPart,
}

/// Where the bytes go.
pub enum RecoverOutput {
    /// To a file of this path. An existing folder is recovered into, under the last part of the name; a device or pipe is
    /// written to as a stream; when a folder was asked for, this is it.
    Path(PathBuf),
    /// Into this folder, which is made if there is none.
    Folder {
        /// Where it is.
        path: PathBuf,
        /// What the files are called in it.
        naming: Naming,
    },
    /// To a stream: one file. After an error it has had a verified beginning of the file.
    Writer(Box<dyn AsyncWrite + Send + Unpin>),
}

impl fmt::Debug for RecoverOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Folder { path, naming } => f.debug_tuple("Folder").field(path).field(naming).finish(),
            Self::Writer(_) => f.write_str("Writer"),
        }
    }
}

/// What is recovered, and where to.
#[derive(Debug)]
pub struct RecoverOptions {
    /// Which files.
    pub what: RecoverWhat,
    /// This version rather than the newest; of one name only.
    pub version: Option<VersionId>,
    /// Only these bytes of the file, counted from 0, both ends included; of one name only.
    pub range: Option<RangeInclusive<u64>>,
    /// Where to.
    pub output: RecoverOutput,
    /// What happens to files that are there already.
    pub existing: Existing,
    /// Where progress is told, and how it is cancelled.
    pub controls: Controls,
}

impl RecoverOptions {
    /// Whole files in their newest versions; what is there already stays.
    pub fn new(what: RecoverWhat, output: RecoverOutput) -> Self {
        Self { what, version: None, range: None, output, existing: Existing::Keep, controls: Controls::default() }
    }
}

/// Recovers files from a store's backends.
///
/// One file that cannot be recovered is an error: [`ErrorKind::NotFound`], [`ErrorKind::Lost`],
/// [`ErrorKind::Unavailable`], [`ErrorKind::Refused`] when something is there already, [`ErrorKind::Invalid`] when a range
/// ends past the file. Among several it is listed in [`RecoverReport::failed`], and the others are recovered.
pub async fn recover(store: &Store, options: RecoverOptions) -> Result<RecoverReport> {
    let cancel = options.controls.cancel.clone();
    let controls = options.controls.clone();
    if store.held() == Held::WriteOnly {
        // It knows names of what it put, and still reads nothing.
        store.sealing_key()?;
    }
    let work = async {
        let (session, output) = Session::new(Origin::Store(store), options)?;
        session.run(output).await
    };
    // Whatever is dropped half-way takes its unfinished file with it.
    cancel.run_until_cancelled(work).await.unwrap_or_else(|| Err(cancelled(&controls)))
}

fn cancelled(controls: &Controls) -> Error {
    let said = controls.check_cancelled().err();
    said.unwrap_or_else(|| Error::new(ErrorKind::Cancelled, "cancelled"))
}
