//! What the tests of recovering share: objects written piece by piece, outputs that are looked at.

use crate::world::{TestWorld, name};
use shard::format::{Index, ObjectKind, Piece, Removal, Whole};
use shard::id::{Digest, Geometry, ObjectId, VersionId};
use shard::ops::Controls;
use shard::ops::recover::{Existing, Naming, RecoverOptions, RecoverOutput, RecoverReport, RecoverWhat, recover};
use shard::ops::writer::{Contents, ObjectOptions, ObjectWriter};
use shard::store::Store;
use shard::stripe::Seal;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

/// A stream whose bytes are looked at afterwards.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl AsyncWrite for Collected {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// These names, in their newest versions, to this output; what is there stays.
pub(crate) fn wanting(names: &[&str], output: RecoverOutput) -> RecoverOptions {
    RecoverOptions {
        what: RecoverWhat::Names(names.iter().map(|text| name(text)).collect()),
        version: None,
        range: None,
        output,
        existing: Existing::Keep,
        controls: Controls::default(),
    }
}

/// Everything, into a folder.
pub(crate) fn everything(folder: &Path) -> RecoverOptions {
    let output = RecoverOutput::Folder { path: folder.to_owned(), naming: Naming::Whole };
    RecoverOptions { what: RecoverWhat::All, ..wanting(&[], output) }
}

/// Recovers a file as a stream: what it had, and how it ended.
pub(crate) async fn streamed(store: &Store, text: &str) -> (Vec<u8>, shard::Result<RecoverReport>) {
    let collected = Collected::default();
    let outcome = recover(store, wanting(&[text], RecoverOutput::Writer(Box::new(collected.clone())))).await;
    (collected.bytes(), outcome)
}

/// Every file below a folder, by its path there.
pub(crate) fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).expect("a file");
            files.insert(path.strip_prefix(folder).expect("below").to_owned(), bytes);
        }
    }
    files
}

/// A file version that a test makes up.
#[derive(Debug, Clone)]
pub(crate) struct MadeUp {
    pub(crate) name: &'static str,
    pub(crate) version: VersionId,
    pub(crate) content: Vec<u8>,
}

impl MadeUp {
    pub(crate) fn new(name: &'static str, version: u8, content: Vec<u8>) -> Self {
        Self { name, version: VersionId([version; 16]), content }
    }

    pub(crate) fn whole(&self) -> Whole {
        Whole {
            total_bytes: self.content.len() as u64,
            blake3: Digest(blake3::hash(&self.content).into()),
            mtime_ns: 1_500_000_000_000_000_001,
            mode: 0o600,
            generation: 1,
            parents: Vec::new(),
        }
    }

    /// A piece of it that the next object will hold from `offset` on.
    pub(crate) fn piece(&self, ordinal: u32, (offset, bytes): (u64, usize), last: Option<Whole>) -> Piece {
        Piece { version: self.version, name: name(self.name), ordinal, offset, bytes: bytes as u64, last }
    }
}

fn object_options(kind: ObjectKind, geometry: Geometry) -> ObjectOptions {
    ObjectOptions::new(kind, geometry, Seal::Key)
}

/// Writes an object of these bytes and this index.
pub(crate) async fn write_object(store: &Store, geometry: Geometry, (bytes, index): (&[u8], Index)) -> ObjectId {
    let kind = if index.removal.is_some() { ObjectKind::Removal } else { ObjectKind::Data };
    let mut writer = ObjectWriter::begin(store, object_options(kind, geometry)).await.expect("begins");
    writer.append(bytes).await.expect("takes bytes");
    let object = writer.object();
    writer.finish(Contents { index, piece_hashes: Vec::new() }).await.expect("stored");
    object
}

/// Writes an object that holds all of one file.
pub(crate) async fn write_whole(store: &Store, geometry: Geometry, file: &MadeUp) -> ObjectId {
    let piece = file.piece(0, (0, file.content.len()), Some(file.whole()));
    let index = Index { pieces: vec![piece], ..Index::default() };
    write_object(store, geometry, (&file.content, index)).await
}

/// Writes an object that removes a version of a file.
pub(crate) async fn write_removal(store: &Store, geometry: Geometry, file: &MadeUp) {
    let removed = shard::format::RemovedVersion { version: file.version, name: name(file.name), generation: 1 };
    let removal = Removal { versions: vec![removed], objects: Vec::new() };
    write_object(store, geometry, (&[], Index { removal: Some(removal), ..Index::default() })).await;
}

/// A folder that does not exist yet.
pub(crate) fn new_folder(world: &TestWorld, text: &str) -> PathBuf {
    world.desk().join(text)
}
