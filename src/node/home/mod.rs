//! A node's folder, and a node that is served from it.
//!
//! *What it is.* [`NodeHome`]: the node seed, the group's seeds, the settings and the records of one node in one folder.
//! [`serve`] runs a node from it until it is told to stop; [`ask`] asks such a node something from another process.
//!
//! *What it knows.* Files, the Unix socket between commands and a served node, what is remembered of peers.
//!
//! *What it does not know.* The command line, the environment; how a session comes about; how shards are kept.
//!
//! *Invariants.* A secret's file is its owner's alone, made whole or not at all, and never overwritten but by the change of
//! seeds that was asked for. One process at a time serves a folder. What was told to a person as done is in the records. A
//! node that was stopped leaves neither socket nor lock.
//!
//! ```text
//! node.key      the node seed            seeds        the group's, a line each
//! node.toml     settings                 records/     the engine's chamber, sealed under the node seed
//! backups/      snapshots of it          shards/      what peers keep here
//! shards.mark   which shards these are
//! serve.lock, serve.sock                 while it is served
//! ```

mod answers;
mod control;
mod control_socket;
mod door;
mod file;
mod key;
mod lock;
mod messages;
mod metrics;
mod metrics_server;
mod notice;
mod notify;
mod owners;
mod recorder;
mod records;
mod running;
mod seeds;
mod serve;
mod settings;
mod shards_mark;

pub use answers::{AskedBy, KeptAnswer};
pub use control::{
    Answer, ControlError, Delivery, Kept, LiveSession, MAX_ANSWER_BYTES, MAX_QUESTION_BYTES, Question, ScrubPlace,
    ScrubbedShards, ServeStats,
};
pub use control_socket::ask;
pub use messages::{Direction, KeptMessage, MessagePage};
pub use notice::{MAX_NOTICE_BYTES, NOTICE_STREAM, Notice, NoticeError, NoticeKind};
pub use owners::Hearer;
pub use records::{Forgotten, KnownPeer, PastSession, Records, SessionEnd, SessionNote};
pub use serve::{ServeOptions, ServeReport, Served, serve};
pub use settings::NodeSettings;

use crate::chamber::Chamber;
use crate::engine::{EngineOptions, StorageEngine};
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeId;
use crate::peer::{GroupSeed, NodeIdentity, SeedRing};
use crate::vault::VaultName;
use crate::vault::file::make_private_folder;
use file::Readers;
use key::NodeSeed;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the engine's chamber is called.
const RECORDS_NAME: &str = "node";

/// The folder of one node. Nothing is read before it is asked for.
#[derive(Debug, Clone)]
pub struct NodeHome {
    folder: PathBuf,
}

/// Who a node is, and what it remembers.
#[derive(Debug)]
pub struct OpenedNode {
    /// Its key.
    pub identity: NodeIdentity,
    /// Its records.
    pub records: Records,
}

impl NodeHome {
    /// In this folder, which need not be there.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where what peers keep here is.
    pub fn shards_folder(&self) -> PathBuf {
        self.folder.join("shards")
    }

    /// Where backups of the records are.
    pub fn backups_folder(&self) -> PathBuf {
        self.folder.join("backups")
    }

    /// Where commands reach a node that is being served.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("serve.sock")
    }

    fn lock_file(&self) -> PathBuf {
        self.folder.join("serve.lock")
    }

    fn shards_mark_file(&self) -> PathBuf {
        self.folder.join("shards.mark")
    }

    fn key_file(&self) -> PathBuf {
        self.folder.join("node.key")
    }

    fn seeds_file(&self) -> PathBuf {
        self.folder.join("seeds")
    }

    /// Where the settings are.
    pub fn settings_file(&self) -> PathBuf {
        self.folder.join("node.toml")
    }

    /// Makes a node that nobody knows yet, and says who it is. One that is there is kept.
    pub fn init(&self, settings: &NodeSettings) -> Result<NodeId> {
        let _lock = self.lock_for_change()?;
        let path = self.key_file();
        let exists = |path: &Path| path.symlink_metadata().is_ok();
        if exists(&path) {
            let doing = format!("there is a node in {} already, and it is kept", self.folder.display());
            return Err(Error::new(ErrorKind::Refused, doing).with_hint("`shard node init --data DIR` makes another"));
        }
        // What fails on the way leaves no node: the key comes last.
        settings::save(&self.settings_file(), settings)?;
        let seed = NodeSeed::new()?;
        file::write_new(&path, seed.to_text().as_bytes())?;
        Ok(seed.identity().id())
    }

    /// Opens the node that there is, with its records, which are made where they are not there.
    pub fn open(&self) -> Result<OpenedNode> {
        self.open_with(|seed, root| {
            StorageEngine::open(root, RECORDS_NAME, seed.records_key(), EngineOptions::default())
        })
    }

    fn open_with(
        &self,
        engine: impl FnOnce(&NodeSeed, &Path) -> crate::engine::Result<StorageEngine>,
    ) -> Result<OpenedNode> {
        let seed = self.seed()?;
        let engine = engine(&seed, &self.folder.join("records")).map_err(|error| {
            let error = records::unkept(error);
            match error.kind {
                ErrorKind::Damaged => {
                    error.with_hint("`shard node serve` puts them aside and begins with the last backup")
                }
                _ => error,
            }
        })?;
        Ok(OpenedNode { identity: seed.identity(), records: Records::new(Arc::new(engine)) })
    }

    /// The same, for the one process that serves it: records that are damaged are put aside, where the second says, and empty
    /// ones are in their place. The third says whether they are empty since there were none.
    fn open_for_serving(&self) -> Result<(OpenedNode, Option<PathBuf>, bool)> {
        let (mut set_aside, mut is_new) = (None, false);
        let opened = self.open_with(|seed, root| {
            let name = VaultName::new(RECORDS_NAME)?;
            is_new = !Chamber::file(root, seed.identity().id(), &name).exists();
            let options = EngineOptions::default();
            let (engine, kept) = StorageEngine::open_or_set_aside(root, RECORDS_NAME, || seed.records_key(), &options)?;
            set_aside = kept;
            Ok(engine)
        })?;
        Ok((opened, set_aside, is_new))
    }

    /// Who the node is.
    pub fn identity(&self) -> Result<NodeIdentity> {
        Ok(self.seed()?.identity())
    }

    fn seed(&self) -> Result<NodeSeed> {
        let path = self.key_file();
        let Some(text) = file::read(&path, key::MAX_BYTES, Readers::Owner)? else {
            let doing = format!("there is no node in {}", self.folder.display());
            return Err(Error::new(ErrorKind::NoStore, doing).with_hint("`shard node init` makes one"));
        };
        NodeSeed::parse(&text, &path)
    }

    /// The settings; those of a new node where there is no file of them.
    pub fn settings(&self) -> Result<NodeSettings> {
        Ok(settings::load(&self.settings_file())?.unwrap_or_default())
    }

    /// The group's seeds: those in the file that is named, else those in the folder.
    pub fn seeds(&self, named: Option<&Path>) -> Result<SeedRing> {
        if let Some(path) = named {
            return seeds::load_named(path);
        }
        let path = self.seeds_file();
        let found = seeds::load(&path)?;
        if found.is_empty() {
            let doing = format!("there is no seed of a group in {}", self.folder.display());
            return Err(Error::new(ErrorKind::NotFound, doing)
                .with_hint("`shard node seed new` makes one, `shard node seed add FILE` takes that of a group"));
        }
        seeds::ring(found, &path.display().to_string())
    }

    /// Makes a seed and keeps it, beside the one that there is, if there is one; gives it, and how many there are.
    pub fn new_seed(&self) -> Result<(GroupSeed, usize)> {
        let seed = seeds::new_seed()?;
        let count = self.keep_seed(seed.clone())?;
        Ok((seed, count))
    }

    /// Takes a seed in, and says how many there are; `from` says where the text came from.
    pub fn add_seed(&self, text: &[u8], from: &str) -> Result<usize> {
        let mut found = seeds::parse(text, from)?;
        match (found.pop(), found.is_empty()) {
            (Some(seed), true) => self.keep_seed(seed),
            _ => Err(Error::new(ErrorKind::Invalid, format!("{from} holds no seed, or more than one"))
                .with_hint("add one after another; `shard node seed show` prints them")),
        }
    }

    fn keep_seed(&self, seed: GroupSeed) -> Result<usize> {
        let _lock = self.lock_for_change()?;
        let path = self.seeds_file();
        let seeds = seeds::with_one_more(seeds::load(&path)?, seed)?;
        seeds::save(&path, &seeds)?;
        Ok(seeds.len())
    }

    /// Ends a change of seed: the older is forgotten, and the newer is the group's.
    pub fn retire_seed(&self) -> Result<()> {
        let _lock = self.lock_for_change()?;
        let path = self.seeds_file();
        let mut seeds = seeds::load(&path)?;
        if seeds.len() < 2 {
            let doing = "there is no change of seed under way: the only seed is kept";
            return Err(Error::new(ErrorKind::Refused, doing)
                .with_hint("`shard node seed new` begins one, and `shard node seed add FILE` on the other nodes"));
        }
        seeds.remove(0);
        seeds::save(&path, &seeds)
    }

    /// Held while a file of the folder is changed. The folder is made where it is not there.
    fn lock_for_change(&self) -> Result<File> {
        let failed = |error| Error::local(format!("cannot use the folder {}", self.folder.display()), error);
        make_private_folder(&self.folder).map_err(failed)?;
        let folder = File::open(&self.folder).map_err(failed)?;
        folder.lock().map_err(failed)?;
        Ok(folder)
    }
}

#[cfg(test)]
mod tests;
