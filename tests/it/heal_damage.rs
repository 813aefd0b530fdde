//! Ways to damage what a world keeps, and to look at what is left; for the tests of verify, repair and drain.

use crate::world::{TestWorld, geometry, put_bytes, random_bytes};
use shard::catalog::{ObjectState, ShardState};
use shard::id::{BackendId, ObjectId, ShardId};
use shard::ops::verify::{VerifyMode, VerifyOptions, VerifyReport, verify};
use shard::store::Store;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// A stored object: the file of each shard, with its bytes as they should be.
pub(crate) struct Kept {
    pub(crate) object: ObjectId,
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
}

impl Kept {
    /// Stores a file of random bytes as an object of its own.
    pub(crate) async fn new(world: &TestWorld, store: &Store, name: &str, bytes: usize, level: (usize, usize)) -> Self {
        let report = put_bytes(store, name, &random_bytes(bytes as u64, bytes), geometry(level.0, level.1)).await;
        Self::of(world, store, report.objects[0].id).await
    }

    /// The shards of an object where the catalog has them.
    pub(crate) async fn of(world: &TestWorld, store: &Store, object: ObjectId) -> Self {
        let shards = store.catalog(move |catalog| catalog.shards(object)).await.expect("shards");
        let path = |index: u8, backend: BackendId| {
            let number = store.registry().position(backend).expect("registered") + 1;
            world.shard_path(number, ShardId { object, index })
        };
        let files = shards.iter().map(|shard| path(shard.index, shard.backend));
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).expect("a shard file");
            (path, bytes)
        };
        Self { object, files: files.map(read).collect() }
    }

    /// Puts other bytes where a shard is.
    pub(crate) fn overwrite(&self, index: usize, bytes: &[u8]) {
        fs::write(&self.files[index].0, bytes).expect("written");
    }

    /// Flips a bit of a shard file.
    pub(crate) fn flip(&self, index: usize, byte: usize, bit: u8) {
        let mut bytes = fs::read(&self.files[index].0).expect("a shard file");
        bytes[byte] ^= 1 << bit;
        self.overwrite(index, &bytes);
    }

    /// Takes a shard away.
    pub(crate) fn lose(&self, index: usize) {
        fs::remove_file(&self.files[index].0).expect("removed");
    }

    /// Whether every shard file is what it was, bit for bit.
    pub(crate) fn is_as_it_was(&self) -> bool {
        self.files.iter().all(|(path, bytes)| fs::read(path).is_ok_and(|now| now == *bytes))
    }
}

/// Verifies everything.
pub(crate) async fn verify_all(store: &Store, mode: VerifyMode) -> VerifyReport {
    let options = VerifyOptions { mode, ..VerifyOptions::default() };
    verify(store, options).await.expect("verified")
}

/// The states of the shards of the only object in a report, by index.
pub(crate) fn shard_states(report: &VerifyReport) -> Vec<ShardState> {
    assert_eq!(report.objects.len(), 1);
    report.objects[0].shards.iter().map(|shard| shard.state).collect()
}

/// How many objects have which state in the catalog.
pub(crate) async fn known_states(store: &Store) -> BTreeMap<ObjectState, u64> {
    store.catalog(|catalog| catalog.stats()).await.expect("numbers").objects
}
