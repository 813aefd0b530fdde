//! A node that is served from its folder until it is told to stop.

use super::answers;
use super::control::{self, Answer, Delivery, Kept, LiveSession, Question, ServeStats};
use super::control_socket::ControlSocket;
use super::lock::ServeLock;
use super::metrics::prometheus;
use super::metrics_server::MetricsServer;
use super::notice::{NOTICE_STREAM, Notice, NoticeKind};
use super::recorder::Recorder;
use super::records::{Direction, Records, unkept};
use super::{NodeHome, NodeSettings, OpenedNode, notify};
use crate::engine::{BackupFolder, Backups};
use crate::error::{Error, ErrorKind, Result, with_causes};
use crate::id::{NodeId, PeerId};
use crate::node::storage::{self, StorageOptions, StorageService};
use crate::node::{Node, NodeConfig, NodeError};
use crate::peer::transport::{Session, SessionSide};
use crate::peer::{PeerAddress, SeedRing, TransportKind};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long what is under way may take when the node stops.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// How long peers may take to hear that it stops.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);

/// Peers that are to be told that there is no room, and were not yet.
const MAX_UNTOLD: usize = 64;
/// A peer is told once in this time.
const NOTICE_EVERY: Duration = Duration::from_secs(3600);

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
    let service = open_shards(home, &options.settings).await?.when_full(move |peer| {
        // Whoever is not told now is when it tries again.
        no_room.try_send(peer).ok();
    });
    let (events, answered) = mpsc::channel(answers::MAX_WAITING);
    let service = service.telling(events);
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
    let opened = spawn_blocking(move || StorageService::open(&folder, options)).await;
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Local, "the folder for the shards of peers cannot be used").with_source(error)
    };
    opened.map_err(|error| failed(error.into()))?.map_err(|error| failed(error.into()))
}

pub(super) fn backups(home: &NodeHome, records: &Records) -> Backups {
    Backups::new(Arc::clone(records.engine()), Arc::new(BackupFolder::new(home.backups_folder())))
}

fn not_started(error: NodeError) -> Error {
    Error::new(ErrorKind::Local, "the node cannot be started")
        .with_source(error)
        .with_hint("choose another address with --listen or --ws-listen; port 0 is any that is free")
}

/// A node that runs, and what is written of it. Clones are the same node.
#[derive(Debug, Clone)]
struct Running {
    node: Node,
    records: Records,
    service: StorageService,
    seed_count: u64,
}

impl Running {
    /// Starts everything around the node; what has no end of its own ends with `ended`.
    fn start(
        &self,
        home: &NodeHome,
        socket: ControlSocket,
        metrics: Option<MetricsServer>,
        (tracker, ended): (&TaskTracker, &CancellationToken),
    ) {
        let (events, messages) = (self.node.session_events(), self.node.receive());
        let events = events.expect("nobody took them before");
        let messages = messages.expect("nobody took them before");
        tracker.spawn(Recorder { records: self.records.clone(), events, messages }.run());
        tracker.spawn(storage::run(self.service.clone(), self.node.clone(), ended.clone()));
        let this = self.clone();
        let answer = move |question| {
            let this = this.clone();
            async move { this.answer(question).await }
        };
        tracker.spawn(socket.run(answer, ended.clone()));
        if let Some(metrics) = metrics {
            let this = self.clone();
            let text = move || {
                let this = this.clone();
                async move { prometheus(&this.stats().await) }
            };
            tracker.spawn(metrics.run(text, ended.clone()));
        }
        let (backups, ended) = (backups(home, &self.records), ended.clone());
        tracker.spawn(async move {
            let told = |outcome: &crate::engine::Result<_>| {
                if let Err(error) = outcome {
                    tracing::error!("the records could not be backed up: {}", with_causes(error));
                }
            };
            backups.run(ended.cancelled(), told).await;
        });
    }

    async fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Sessions {} => Answer::Sessions { sessions: self.node.sessions().iter().map(live).collect() },
            Question::Stats {} => Answer::Stats { stats: Box::new(self.stats().await) },
            Question::Send { peer, text } => match control::notice(&text) {
                Ok(notice) => Answer::Sent { peers: self.send(peer, notice).await },
                Err(why) => Answer::Failed { why },
            },
        }
    }

    async fn stats(&self) -> ServeStats {
        let usage = self.service.usage().await.inspect_err(|error| {
            tracing::warn!("what peers keep cannot be counted: {}", with_causes(error));
        });
        let kept = usage.ok().map(|owners| Kept {
            owners: owners.len() as u64,
            bytes: owners.iter().map(|owner| owner.bytes).sum(),
            shards: owners.iter().map(|owner| owner.shards).sum(),
        });
        let stats = self.node.stats();
        ServeStats {
            node: self.node.id(),
            listen: self.node.local_addr(),
            ws_listen: self.node.websocket_addr(),
            uptime_ms: ms(stats.uptime),
            sent_bytes: stats.traffic.sent_bytes,
            received_bytes: stats.traffic.received_bytes,
            sent_packets: stats.traffic.sent_packets,
            received_packets: stats.traffic.received_packets,
            messages_sent: stats.messages_sent,
            messages_received: stats.messages_received,
            errors: stats.errors,
            refused: stats.refused,
            sessions_total: stats.sessions_total,
            sessions_active: stats.sessions_active,
            websocket_sessions: stats.websocket_sessions,
            round_trip_us: stats.round_trip.map(us),
            seeds: self.seed_count,
            kept,
        }
    }

    /// Tells a peer, or all that are there, and notes whom it told.
    async fn send(&self, peer: Option<PeerId>, notice: Notice) -> Vec<Delivery> {
        let mut sessions: BTreeMap<PeerId, Vec<Session>> = BTreeMap::new();
        for session in self.node.sessions() {
            sessions.entry(session.peer().into()).or_default().push(session);
        }
        if let Some(peer) = peer {
            sessions.retain(|other, _| *other == peer);
            if sessions.is_empty() {
                return vec![Delivery { peer, failure: Some("it is not connected".to_owned()) }];
            }
        }
        let notice = &notice;
        let sends = sessions.into_iter().map(async |(peer, sessions)| {
            let failure = self.send_over(peer, &sessions, notice).await.err();
            Delivery { peer, failure }
        });
        futures_util::future::join_all(sends).await
    }

    /// Over the newest session that takes it.
    async fn send_over(&self, peer: PeerId, sessions: &[Session], notice: &Notice) -> Result<(), String> {
        let mut why = "it is not connected".to_owned();
        for session in sessions.iter().rev() {
            let mut report = self.node.send_to_sessions(&[session.id()], NOTICE_STREAM, &notice.to_bytes()).await;
            let Some((_, error)) = report.failed.pop() else {
                let (records, notice) = (self.records.clone(), notice.clone());
                let kept = spawn_blocking(move || records.keep(peer, Direction::Sent, &notice)).await;
                let unnoted = |error: &(dyn std::error::Error + 'static)| {
                    format!("it was sent, and could not be noted: {}", with_causes(error))
                };
                return match kept {
                    Ok(kept) => kept.map(drop).map_err(|error| unnoted(&error)),
                    Err(error) => Err(unnoted(&error)),
                };
            };
            why = with_causes(&error);
        }
        Err(why)
    }

    /// Tells peers that there is no room for more of theirs, each now and then.
    async fn tell_of_quotas(self, mut lacking_room: mpsc::Receiver<NodeId>, ended: CancellationToken) {
        let mut told: HashMap<NodeId, Instant> = HashMap::new();
        loop {
            let peer = tokio::select! {
                peer = lacking_room.recv() => peer,
                () = ended.cancelled() => None,
            };
            let Some(peer) = peer else { return };
            told.retain(|_, at| at.elapsed() < NOTICE_EVERY);
            if told.contains_key(&peer) {
                continue;
            }
            let text = "there is no room for more of your shards here: your quota is reached, or the disk is full";
            let notice = Notice::new(NoticeKind::QuotaReached, text).expect("it is short");
            let deliveries = self.send(Some(peer.into()), notice).await;
            if deliveries.iter().all(|delivery| delivery.failure.is_none()) {
                told.insert(peer, Instant::now());
            }
        }
    }

    async fn say_goodbye(&self) {
        let notice = Notice::new(NoticeKind::Leaving, "this node stops").expect("it is short");
        // Whom it does not reach in time learns of it by the end of the session.
        timeout(LEAVE_DEADLINE, self.send(None, notice)).await.ok();
    }
}

fn live(session: &Session) -> LiveSession {
    let traffic = session.traffic();
    LiveSession {
        session: session.id().0,
        peer: session.peer().into(),
        remote: session.remote(),
        transport: transport_name(session.transport()).to_owned(),
        is_own: session.side() == SessionSide::Initiator,
        age_ms: ms(session.age()),
        round_trip_us: session.round_trip().map(us),
        sent_bytes: traffic.sent_bytes,
        received_bytes: traffic.received_bytes,
    }
}

fn transport_name(kind: TransportKind) -> &'static str {
    match kind {
        TransportKind::Quic => "quic",
        TransportKind::WebSocket => "websocket",
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
