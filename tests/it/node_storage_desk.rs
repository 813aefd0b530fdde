//! Nodes that keep shards, on loopback, and stores that call them.

use super::node_desk::{address, listener, start, within};
use shard::backend::{NodeAccess, NodeBackend, RetryBackend, RetryOptions};
use shard::crypto::{Keyring, MasterKey};
use shard::node::storage::{StorageEvent, StorageOptions, StorageService, run};
use shard::node::{Node, NodeConfig};
use shard::peer::{GroupSeed, PeerAddress, TransportKind};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The number of the seed that all of them share.
pub(crate) const SEED: u8 = 7;

/// A node that keeps shards.
pub(crate) struct Keeper {
    pub(crate) node: Node,
    pub(crate) service: StorageService,
    /// What it answered to challenges and scrubs.
    events: mpsc::Receiver<StorageEvent>,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
}

/// No test challenges as often without looking.
const EVENTS: usize = 10_000;

impl Keeper {
    /// Over both transports, at any port.
    pub(crate) async fn start(number: u8, folder: &Path, options: StorageOptions) -> Self {
        Self::start_with(listener(number, &[SEED]), folder, options).await
    }

    pub(crate) async fn start_with(config: NodeConfig, folder: &Path, options: StorageOptions) -> Self {
        let node = start(config).await;
        let (told, events) = mpsc::channel(EVENTS);
        let service = StorageService::open(folder, options).expect("a folder").telling(told);
        let stopping = CancellationToken::new();
        let serving = tokio::spawn(run(service.clone(), node.clone(), stopping.clone()));
        Self { node, service, events, stopping, serving }
    }

    /// Where another node with this number is to listen to be found in this one's place.
    pub(crate) fn successor(&self, number: u8) -> NodeConfig {
        let mut config = listener(number, &[SEED]);
        config.listen = self.node.local_addr();
        config.websocket_listen = self.node.websocket_addr();
        config
    }

    pub(crate) fn address(&self, transport: TransportKind) -> PeerAddress {
        address(&self.node, transport)
    }

    /// What was answered to challenges and scrubs since this was asked.
    pub(crate) fn answered(&mut self) -> Vec<StorageEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// In order: the stores that have sessions hear of it.
    pub(crate) async fn stop(self) {
        let report = within(self.node.stop(Duration::from_secs(20))).await;
        self.end().await;
        assert_eq!(report.cut, 0, "{report:?}");
    }

    /// At once, whatever is under way.
    pub(crate) async fn kill(self) {
        within(self.node.stop(Duration::ZERO)).await;
        self.end().await;
    }

    async fn end(self) {
        self.stopping.cancel();
        within(self.serving).await.expect("it did not panic");
    }
}

/// A file with the seed of this number, as a person keeps it.
pub(crate) fn seed_file(folder: &Path, number: u8) -> PathBuf {
    let path = folder.join(format!("seed-{number}"));
    fs::write(&path, GroupSeed::from_bytes([number; 32]).to_text().as_bytes()).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    path
}

/// The way of one store to nodes: the store whose master key has this number.
pub(crate) fn access(store: u8, seed_file: &Path, folder: Option<&Path>) -> NodeAccess {
    let keyring = Keyring::new(MasterKey::from_bytes([store; 32]));
    NodeAccess::with_seed_file(Some(seed_file.to_owned())).of_store(&keyring, folder)
}

/// A node as a store uses it: what passes is tried again.
pub(crate) fn backend(address: PeerAddress, access: &NodeAccess) -> RetryBackend {
    let place = NodeBackend::open(address, access.clone(), None);
    RetryBackend::new(Arc::new(place), "friend", RetryOptions::default())
}
