//! A server that backs itself up: it stores, and neither reads nor removes; and what whoever steals it can do.

mod road;
mod thief;

use crate::world::TestWorld;
use shard::crypto::LimitedKey;
use shard::store::{OpenOptions, Store, keys};
use std::path::Path;
use tempfile::TempDir;

/// A machine with a write-only key, and the places of a world.
struct Server {
    folder: TempDir,
    key: LimitedKey,
}

impl Server {
    async fn of(world: &TestWorld) -> Self {
        let key = keys::export_writer(&world.store_dir(), None).expect("a write-only key");
        let folder = tempfile::tempdir().expect("a folder");
        keys::import_limited(folder.path(), &key).expect("a store");
        Self { folder, key }
    }

    fn dir(&self) -> &Path {
        self.folder.path()
    }

    async fn open(&self) -> Store {
        Store::open(self.dir(), OpenOptions::default()).await.expect("the store opens")
    }
}
