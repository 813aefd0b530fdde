//! A node that is served from its folder until it is told to stop.

use super::answers;
use super::control_socket::ControlSocket;
use super::lock::ServeLock;
use super::metrics_server::MetricsServer;
use super::records::{Records, unkept};
use super::running::Running;
use super::{NodeHome, NodeSettings, OpenedNode, notify, shards_mark};
use crate::engine::{BackupFolder, Backups};
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeId;
use crate::node::storage::{StorageOptions, StorageService};
use crate::node::{Node, NodeConfig, NodeError};
use crate::peer::{PeerAddress, SeedRing};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long what is under way may take when the node stops.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Owners that are to be told that there is no room, and were not yet.
const MAX_UNTOLD: usize = 64;

/// How a node is served.
#[derive(Debug)]
pub struct ServeOptions {
    /// The seeds that admit.
    pub seeds: SeedRing,
    /// Where it listens, and how much it takes.
    pub settings: NodeSettings,
    /// Where collectors of metrics call it, if they do.
    pub metrics_listen: Option<SocketAddr>,
    /// Nodes that are called, and called again, now and whenever it is served: beside those that were given before and answered.
    pub connect: Vec<PeerAddress>,
    /// The socket of a service manager that wants to know how things stand.
    pub notify: Option<OsString>,
    /// How long what is under way may take when it stops.
    pub drain: Duration,
}

impl ServeOptions {
    /// With nobody to call and nobody to tell.
    pub fn new(seeds: SeedRing, settings: NodeSettings) -> Self {
        Self { seeds, settings, metrics_listen: None, connect: Vec::new(), notify: None, drain: DRAIN_DEADLINE }
    }
}

/// A node that takes calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Who it is.
    pub node: NodeId,
    /// Where it listens over UDP.
    pub listen: Option<SocketAddr>,
    /// Where it listens over WebSocket.
    pub ws_listen: Option<SocketAddr>,
    /// Where it gives metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// The nodes that it calls.
    pub calls: Vec<PeerAddress>,
    /// Where records are that were damaged; those of the last backup are in their place, if there is one.
    pub set_aside: Option<PathBuf>,
}

/// How a node came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeReport {
    /// Sessions whose peer had read everything.
    pub drained: usize,
    /// Sessions that were closed at the deadline.
    pub cut: usize,
}

/// Serves the node of a folder until `stopping`, and tells `ready` when it takes calls. Then nothing new is taken, peers are
/// told, what is under way comes to its end within a deadline, and nothing is left behind.
pub async fn serve(
    home: &NodeHome,
    options: ServeOptions,
    stopping: CancellationToken,
    ready: impl FnOnce(&Served),
) -> Result<ServeReport> {
    // What is wrong with the folder is told before anything is made in it.
    home.identity()?;
    let _lock = ServeLock::take(&home.lock_file())?;
    let (OpenedNode { identity, records }, set_aside) = open(home).await?;
    let socket = ControlSocket::bind(&home.socket())?;
    let metrics = match options.metrics_listen {
        Some(address) => Some(MetricsServer::bind(address).await?),
        None => None,
    };
    let (no_room, lacking_room) = mpsc::channel(MAX_UNTOLD);
    let service = open_shards(home, &options.settings).await?.when_full(move |owner| {
        // Whoever is not told now is when it tries again.
        no_room.try_send(owner).ok();
    });
    let (events, answered) = mpsc::channel(answers::MAX_WAITING);
    let service = service.telling(events).with_notices(Arc::new(records.clone()));
    let calls = records.calls(&options.connect)?;
    let mut config = NodeConfig::new(identity, options.seeds.clone());
    config.listen = Some(options.settings.listen);
    config.websocket_listen = options.settings.ws_listen;
    config.pins = Arc::new(records.clone());
    let node = Node::start(config).await.map_err(not_started)?;
    let served = Served {
        node: node.id(),
        listen: node.local_addr(),
        ws_listen: node.websocket_addr(),
        metrics_listen: metrics.as_ref().map(MetricsServer::local_addr),
        calls,
        set_aside,
    };
    let running = Running { node, records, service, seed_count: options.seeds.seeds().len() as u64 };
    let (tracker, ended) = (TaskTracker::new(), CancellationToken::new());
    running.start(home, socket, metrics, (&tracker, &ended));
    tracker.spawn(running.clone().tell_of_quotas(lacking_room, ended.clone()));
    // What is answered while the last streams end is kept too.
    let drained = CancellationToken::new();
    tracker.spawn(answers::keep_answers(running.records.clone(), answered, drained.clone()));
    served.calls.iter().for_each(|address| running.node.keep_connected(address.clone()));
    ready(&served);
    notify::tell(options.notify.as_deref(), notify::READY);

    stopping.cancelled().await;
    notify::tell(options.notify.as_deref(), notify::STOPPING);
    running.node.disable_accept();
    running.say_goodbye().await;
    ended.cancel();
    let report = running.node.stop(options.drain).await;
    drained.cancel();
    tracker.close();
    tracker.wait().await;
    Ok(ServeReport { drained: report.drained, cut: report.cut })
}

/// Opens the node's records. Those that are damaged, or gone, begin anew from the last backup, if there is one.
pub(super) async fn open(home: &NodeHome) -> Result<(OpenedNode, Option<PathBuf>)> {
    let opening = home.clone();
    let opened = spawn_blocking(move || opening.open_for_serving()).await;
    let (opened, set_aside, is_new) =
        opened.map_err(|error| Error::new(ErrorKind::Local, "opening the records").with_source(error))??;
    if is_new || set_aside.is_some() {
        let backups = backups(home, &opened.records);
        if let [newest, ..] = backups.list().await.map_err(unkept)?[..] {
            backups.restore(Some(newest.number)).await.map_err(unkept)?;
            tracing::warn!(number = newest.number, "the node's records begin anew from a backup");
        }
    }
    let records = opened.records.clone();
    let tidied = spawn_blocking(move || records.tidy(true)).await;
    tidied.map_err(|error| Error::new(ErrorKind::Local, "opening the records").with_source(error))??;
    Ok((opened, set_aside))
}

/// The place for the shards of peers.
async fn open_shards(home: &NodeHome, settings: &NodeSettings) -> Result<StorageService> {
    let NodeSettings { quota_bytes, quota_shards, reserve_bytes, .. } = *settings;
    let (folder, options) = (home.shards_folder(), StorageOptions { quota_bytes, quota_shards, reserve_bytes });
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Local, "the folder for the shards of peers cannot be used").with_source(error)
    };
    let home = home.clone();
    let opening = move || {
        shards_mark::confirm(&home)?;
        StorageService::open(&folder, options).map_err(|error| failed(error.into()))
    };
    spawn_blocking(opening).await.map_err(|error| failed(error.into()))?
}

pub(super) fn backups(home: &NodeHome, records: &Records) -> Backups {
    Backups::new(Arc::clone(records.engine()), Arc::new(BackupFolder::new(home.backups_folder())))
}

fn not_started(error: NodeError) -> Error {
    Error::new(ErrorKind::Local, "the node cannot be started")
        .with_source(error)
        .with_hint("choose another address with --listen or --ws-listen; port 0 is any that is free")
}
