//! What a store brings to its nodes: seeds, an identity, pins, and the sessions that all its backends share.

use super::super::retry::ATTEMPT_TIMEOUT;
use super::super::{Error, ErrorKind, Result};
use super::ears::{Ears, NodeSaid, Untold};
use super::line::Line;
use super::pins::FilePins;
use super::seeds;
use crate::crypto::Keyring;
use crate::peer::transport::{GateLimits, HANDSHAKE_DEADLINE, LocalNode, Session, Transport};
use crate::peer::{HeartbeatTimes, MemoryPins, NodeGrant, NodeIdentity, PeerAddress, Pins, SeedRing};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// How long the last goodbyes may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// A store waits for what its nodes do: it notices much sooner than they do that one of them is gone.
const TIMES: HeartbeatTimes = HeartbeatTimes { interval_ms: 4000, idle_ms: 12_000 };
// One that falls silent, is called again and is silent again costs less than a request may take.
const _: () = assert!(2 * TIMES.idle_ms < ATTEMPT_TIMEOUT.as_secs() * 1000);

/// How nodes are called. Clones share their sessions.
#[derive(Clone, Default)]
pub struct NodeAccess {
    seed_file: Option<PathBuf>,
    brought: Option<SeedRing>,
    caller: Option<Arc<Caller>>,
    /// All that were made from one, to be closed together.
    callers: Arc<Mutex<Vec<Arc<Caller>>>>,
    /// What all of them heard.
    untold: Untold,
}

/// One store, as nodes see it.
struct Caller {
    identity: NodeIdentity,
    /// By whose word it acts, where the shards are another's.
    grant: Option<NodeGrant>,
    seed_file: Option<PathBuf>,
    brought: Option<SeedRing>,
    folder: Option<PathBuf>,
    transport: OnceCell<Arc<Transport>>,
    /// Without a folder nothing is heard: it would be heard again and again.
    ears: Option<Arc<Ears>>,
    lines: Mutex<BTreeMap<PeerAddress, Arc<Line>>>,
}

impl NodeAccess {
    /// With the seeds of the group in this file, wherever the store is; without one they are in the store's folder.
    pub fn with_seed_file(seed_file: Option<PathBuf>) -> Self {
        Self { seed_file, ..Self::default() }
    }

    /// With seeds that came with the keys of a store, for where no file was named.
    #[must_use]
    pub fn with_seeds(self, seeds: SeedRing) -> Self {
        Self { brought: Some(seeds), ..self }
    }

    /// The seeds that a store in this folder calls its nodes with; `None` where there are none. Blocks on the file system.
    pub fn seeds_of(&self, folder: &Path) -> Result<Option<SeedRing>> {
        seeds::find(self.seed_file.as_deref(), Some(folder))
    }

    /// As the store with these keys, whose folder keeps seeds and pins; without a folder pins last as long as the process.
    #[must_use]
    pub fn of_store(&self, keyring: &Keyring, folder: Option<&Path>) -> Self {
        self.calling_as((NodeIdentity::from_seed(&keyring.node_seed()), None), folder)
    }

    /// As a machine without the store's keys, which has a grant of theirs for the key that follows from this node seed.
    #[must_use]
    pub fn of_grantee(&self, node_seed: &[u8; 32], grant: NodeGrant, folder: Option<&Path>) -> Self {
        self.calling_as((NodeIdentity::from_seed(node_seed), Some(grant)), folder)
    }

    /// Over a session that there is already, and no other: once it is over, the node cannot be reached.
    #[cfg(test)]
    pub(crate) fn over(
        address: &PeerAddress,
        (identity, local): (NodeIdentity, Arc<LocalNode>),
        session: Session,
    ) -> Self {
        let transport = Transport::new(local, Arc::new(MemoryPins::default()), GateLimits::default());
        let caller = Arc::new(Caller {
            ears: None,
            identity,
            grant: None,
            seed_file: None,
            brought: None,
            folder: None,
            transport: OnceCell::new_with(Some(transport)),
            lines: Mutex::new(BTreeMap::from([(address.clone(), Arc::new(Line::over(address.clone(), session)))])),
        });
        Self { caller: Some(caller), ..Self::default() }
    }

    fn calling_as(&self, (identity, grant): (NodeIdentity, Option<NodeGrant>), folder: Option<&Path>) -> Self {
        let ears = folder.map(|folder| Ears::of(folder, grant.clone(), Arc::clone(&self.untold)));
        let caller = Arc::new(Caller {
            ears,
            identity,
            grant,
            seed_file: self.seed_file.clone(),
            brought: self.brought.clone(),
            folder: folder.map(Path::to_owned),
            transport: OnceCell::new(),
            lines: Mutex::default(),
        });
        self.callers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&caller));
        Self { caller: Some(caller), ..self.clone() }
    }

    /// By whose word nodes are asked, where the shards are another's.
    pub(super) fn grant(&self) -> Option<&NodeGrant> {
        self.caller.as_ref()?.grant.as_ref()
    }

    /// The session with a node, which is called where there is none.
    pub(super) async fn session(&self, address: &PeerAddress, doing: &str) -> Result<Session> {
        let Some(caller) = &self.caller else {
            let why = "nodes know a store by its own key or by a grant of it, and neither is at hand here; `shard key export \
                       --verify-only` on the owner's machine writes a key with a grant";
            return Err(Error::with_source(ErrorKind::Denied, doing, why));
        };
        let transport = caller.transport.get_or_try_init(|| caller.start(doing)).await?;
        caller.line(address).session(transport, doing).await
    }

    /// What nodes said to the stores that were given access from this one, since this was last asked: each notice once, and the
    /// nodes' own word.
    pub fn take_said(&self) -> Vec<NodeSaid> {
        std::mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the sessions of all stores that were given access from this one, and says goodbye to their nodes.
    pub async fn close(&self) {
        let callers = std::mem::take(&mut *self.callers.lock().unwrap_or_else(PoisonError::into_inner));
        join_all(callers.iter().map(|caller| caller.close())).await;
    }
}

impl Caller {
    async fn start(&self, doing: &str) -> Result<Arc<Transport>> {
        let seeds = self.seeds(doing).await?;
        let local = LocalNode::new(&self.identity, seeds, TIMES, HANDSHAKE_DEADLINE);
        let local = local.map_err(|error| Error::with_source(ErrorKind::Failed, doing, error))?;
        let pins: Arc<dyn Pins> = match &self.folder {
            Some(folder) => Arc::new(FilePins::in_folder(folder)),
            None => Arc::new(MemoryPins::default()),
        };
        Ok(Transport::new(Arc::new(local), pins, GateLimits::default()))
    }

    async fn seeds(&self, doing: &str) -> Result<SeedRing> {
        if let (None, Some(brought)) = (&self.seed_file, &self.brought) {
            return Ok(brought.clone());
        }
        let (seed_file, folder) = (self.seed_file.clone(), self.folder.clone());
        let read = tokio::task::spawn_blocking(move || seeds::read(seed_file.as_deref(), folder.as_deref())).await;
        read.map_err(|error| Error::with_source(ErrorKind::Failed, doing, error))?
    }

    fn line(&self, address: &PeerAddress) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            lines.entry(address.clone()).or_insert_with(|| Arc::new(Line::to(address.clone(), self.ears.clone()))),
        )
    }

    async fn close(&self) {
        if let Some(ears) = &self.ears {
            ears.finish().await;
        }
        let lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        let closing = async {
            join_all(lines.values().map(|line| line.close())).await;
            if let Some(transport) = self.transport.get() {
                transport.close().await;
            }
        };
        // A node that does not hear it notices that nobody is there any more.
        let _ = timeout(CLOSE_DEADLINE, closing).await;
    }
}

impl fmt::Debug for NodeAccess {
    /// Nothing of it is shown: what it leads to is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeAccess").field("has_store", &self.caller.is_some()).finish_non_exhaustive()
    }
}
