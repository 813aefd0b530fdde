//! Tests of the catalog, and the small world they are written in: objects, versions and backends called by numbers.

mod challenges;
mod files;
mod model;
mod objects;
mod opening;
mod removals;
mod sealed;
mod writers;

use super::{Catalog, Commit, ObjectKind, ObjectRecord, ShardRecord, ShardState};
use crate::crypto::CatalogKey;
use crate::format::FileName;
use crate::format::index::{Index, Piece, Removal, RemovedObject, RemovedShard, RemovedVersion, Whole};
use crate::id::{BackendId, Digest, Geometry, ObjectId, ProcessId, StoreId, VersionId};
use std::sync::Arc;
use tempfile::TempDir;

const STORE: StoreId = StoreId([7; 32]);

fn key() -> Arc<CatalogKey> {
    key_of(STORE, 1)
}

fn key_of(store: StoreId, number: u8) -> Arc<CatalogKey> {
    Arc::new(CatalogKey::from_secret(store, &[number; 32]))
}

fn object(number: u8) -> ObjectId {
    ObjectId([number; 16])
}

fn version(number: u8) -> VersionId {
    VersionId([number; 16])
}

fn backend(number: u8) -> BackendId {
    BackendId([number; 16])
}

fn process(number: u8) -> ProcessId {
    ProcessId([number; 16])
}

fn name(text: &str) -> FileName {
    FileName::new(text).expect("a name")
}

/// A catalog in a folder of its own.
struct World {
    folder: TempDir,
    catalog: Catalog,
    /// The test damages it.
    is_damaged: bool,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let catalog = Catalog::create(&folder.path().join("catalog.db"), key()).expect("a catalog");
        Self { folder, catalog, is_damaged: false }
    }

    fn commit(&mut self, commit: &Commit) {
        self.catalog.commit(commit).expect("committed");
    }

    fn head_numbers(&self, text: &str) -> Vec<u8> {
        self.catalog.heads(&name(text)).expect("heads").iter().map(|head| head.id.0[0]).collect()
    }

    /// Confirms every delete that waits.
    fn delete_all_pending(&mut self) {
        for gone in self.catalog.pending_deletes(None, 1000).expect("deletes") {
            self.catalog.confirm_deleted(gone.object, gone.index, gone.backend).expect("confirmed");
        }
    }
}

impl Drop for World {
    /// Whatever a test did, what is counted adds up.
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.is_damaged {
            self.catalog.check().expect("whole");
        }
    }
}

/// A 2/3 object with one shard on each of the backends 0, 1 and 2.
fn commit_of(number: u8, index: Index) -> Commit {
    let kind = if index.removal.is_some() { ObjectKind::Removal } else { ObjectKind::Data };
    let object = ObjectRecord {
        id: object(number),
        kind,
        geometry: Geometry::new(2, 3).expect("valid"),
        block_bytes: 262_144,
        stripe_count: 1,
        payload_bytes: 1000,
        seal: 0,
        root: Digest([number; 32]),
        created_ns: Some(i64::from(number)),
        public: vec![number, 1],
        signature: vec![number, 2],
        sealed: vec![number, 3],
    };
    let shards = (0..3).map(|index| shard(index, index)).collect();
    Commit { object, shards, index, piece_hashes: Vec::new() }
}

fn shard(index: u8, on: u8) -> ShardRecord {
    let (state, backend) = (ShardState::Ok, backend(on));
    ShardRecord { index, backend, bytes: 500, state, bad_blocks: 0, verified_ns: None }
}

fn pieces(pieces: &[Piece]) -> Index {
    Index { pieces: pieces.to_vec(), ..Index::default() }
}

/// A piece of 100 bytes that is not the last.
fn piece(number: u8, text: &str, ordinal: u32) -> Piece {
    Piece { version: version(number), name: name(text), ordinal, offset: 0, bytes: 100, last: None }
}

/// The last piece of a version whose pieces have 100 bytes each.
fn last_piece(number: u8, text: &str, (ordinal, generation): (u32, u64), parents: &[u8]) -> Piece {
    let whole = Whole {
        total_bytes: 100 * (u64::from(ordinal) + 1),
        blake3: Digest([number; 32]),
        mtime_ns: 5,
        mode: 0o644,
        generation,
        parents: parents.iter().map(|parent| version(*parent)).collect(),
    };
    Piece { last: Some(whole), ..piece(number, text, ordinal) }
}

/// A file version of one piece in an object of the same number.
fn file(number: u8, text: &str, generation: u64, parents: &[u8]) -> Commit {
    commit_of(number, pieces(&[last_piece(number, text, (0, generation), parents)]))
}

/// A removal of versions and of objects with their three shards.
fn removal(number: u8, versions: &[(u8, &str, u64)], objects: &[u8]) -> Commit {
    let versions = versions.iter().map(|(number, text, generation)| RemovedVersion {
        version: version(*number),
        name: name(text),
        generation: *generation,
    });
    let objects = objects.iter().map(|number| RemovedObject {
        object: object(*number),
        shards: (0..3).map(|index| RemovedShard { index, backend: backend(index) }).collect(),
    });
    let removal = Removal { versions: versions.collect(), objects: objects.collect() };
    commit_of(number, Index { removal: Some(removal), ..Index::default() })
}
