//! A node that is served: what is around it, what commands ask of it, and whom it tells what.

use super::control::{self, Answer, Delivery, Kept, LiveSession, Question, ScrubPlace, ScrubbedShards, ServeStats};
use super::control_socket::ControlSocket;
use super::messages::Direction;
use super::metrics::prometheus;
use super::metrics_server::MetricsServer;
use super::notice::{NOTICE_STREAM, Notice, NoticeKind};
use super::recorder::Recorder;
use super::records::Records;
use super::{NodeHome, serve::backups};
use crate::error::with_causes;
use crate::id::{NodeId, PeerId};
use crate::node::storage::{self, StorageService};
use crate::node::{Node, NodeError};
use crate::peer::TransportKind;
use crate::peer::storage::ScrubPage;
use crate::peer::transport::{Session, SessionSide};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long peers may take to hear that it stops.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);
/// An owner is told once in this time that there is no room.
const NOTICE_EVERY: Duration = Duration::from_secs(3600);

/// A node that runs, and what is written of it. Clones are the same node.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) node: Node,
    pub(super) records: Records,
    pub(super) service: StorageService,
    pub(super) seed_count: u64,
}

impl Running {
    /// Starts everything around the node; what has no end of its own ends with `ended`.
    pub(super) fn start(
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
            Question::Scrub { after } => match self.scrub(after).await {
                Ok(page) => Answer::Scrubbed { page },
                Err(error) => Answer::Failed { why: with_causes(&error) },
            },
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
            waiting: stats.gate.handshakes as u64,
            displaced: stats.gate.displaced,
            late: stats.gate.late,
            sessions_total: stats.sessions_total,
            sessions_active: stats.sessions_active,
            websocket_sessions: stats.websocket_sessions,
            round_trip_us: stats.round_trip.map(us),
            seeds: self.seed_count,
            kept,
        }
    }

    /// The next page of a check of all owners' shards: of those of one owner.
    async fn scrub(&self, after: Option<ScrubPlace>) -> Result<ScrubbedShards, NodeError> {
        let owners = self.service.usage().await?;
        let goes_on = |owner: NodeId| match after {
            None => true,
            Some(ScrubPlace { owner: last, shard }) => owner > last || (owner == last && shard.is_some()),
        };
        let mut left = owners.iter().map(|usage| usage.owner).filter(|owner| goes_on(*owner));
        let none = ScrubbedShards { owner: None, shards: 0, bytes: 0, damaged: Vec::new(), next: None, failure: None };
        let Some(owner) = left.next() else { return Ok(none) };
        let after = after.filter(|place| place.owner == owner).and_then(|place| place.shard);
        // One owner's shards that cannot be read leave nobody else's unread.
        let (page, failure) = match self.service.scrub(self.node.id(), owner, after).await {
            Ok(page) => (page.unwrap_or_default(), None),
            Err(error) => (ScrubPage::default(), Some(with_causes(&error))),
        };
        let next = match page.next {
            Some(shard) => Some(ScrubPlace { owner, shard: Some(shard) }),
            None => left.next().map(|_| ScrubPlace { owner, shard: None }),
        };
        let ScrubPage { checked_shards: shards, checked_bytes: bytes, damaged, .. } = page;
        Ok(ScrubbedShards { owner: Some(owner), shards, bytes, damaged, next, failure })
    }

    /// Tells a peer, or all that are there, and notes whom it told. What is for one that keeps something here waits until it
    /// asks: a store is there for a moment, and hears what it asks for alone.
    async fn send(&self, peer: Option<PeerId>, notice: Notice) -> Vec<Delivery> {
        let mut sessions: BTreeMap<PeerId, Vec<Session>> = BTreeMap::new();
        for session in self.node.sessions() {
            sessions.entry(session.peer().into()).or_default().push(session);
        }
        if let Some(peer) = peer {
            sessions.retain(|other, _| *other == peer);
            sessions.entry(peer).or_default();
        }
        let (notice, is_for_one) = (&notice, peer.is_some());
        let sends = sessions.into_iter().map(async |(peer, sessions)| {
            let sent = self.send_over(&sessions, notice).await;
            let waits = is_for_one && self.service.is_owner(NodeId(peer.0)).await;
            if sent.is_err() && !waits {
                return Delivery { peer, failure: sent.err(), waits };
            }
            let failure = self.note(peer, notice.clone(), (sent.is_ok(), waits)).await.err();
            Delivery { peer, failure, waits }
        });
        futures_util::future::join_all(sends).await
    }

    /// Over the newest session that takes it.
    async fn send_over(&self, sessions: &[Session], notice: &Notice) -> Result<(), String> {
        let mut why = "it is not connected".to_owned();
        for session in sessions.iter().rev() {
            let mut report = self.node.send_to_sessions(&[session.id()], NOTICE_STREAM, &notice.to_bytes()).await;
            let Some((_, error)) = report.failed.pop() else { return Ok(()) };
            why = with_causes(&error);
        }
        Err(why)
    }

    async fn note(&self, peer: PeerId, notice: Notice, (was_sent, waits): (bool, bool)) -> Result<(), String> {
        let direction = if was_sent { Direction::Sent } else { Direction::Waiting };
        let records = self.records.clone();
        let kept = spawn_blocking(move || match waits {
            true => records.tell_owner(NodeId(peer.0), &notice, direction),
            false => records.keep(peer, direction, &notice).map(drop),
        });
        let how = if was_sent { "it was sent, and could not be noted" } else { "it could not be kept" };
        match kept.await {
            Ok(kept) => kept.map_err(|error| format!("{how}: {}", with_causes(&error))),
            Err(error) => Err(format!("{how}: {}", with_causes(&error))),
        }
    }

    /// Tells owners that there is no room for more of theirs, each now and then.
    pub(super) async fn tell_of_quotas(self, mut lacking_room: mpsc::Receiver<NodeId>, ended: CancellationToken) {
        let mut told: HashMap<NodeId, Instant> = HashMap::new();
        loop {
            let owner = tokio::select! {
                owner = lacking_room.recv() => owner,
                () = ended.cancelled() => None,
            };
            let Some(owner) = owner else { return };
            told.retain(|_, at| at.elapsed() < NOTICE_EVERY);
            if told.contains_key(&owner) {
                continue;
            }
            let text = "there is no room for more of your shards here: your quota is reached, or the disk is full";
            let notice = Notice::new(NoticeKind::QuotaReached, text).expect("it is short");
            let deliveries = self.send(Some(owner.into()), notice).await;
            if deliveries.iter().all(|delivery| delivery.failure.is_none()) {
                told.insert(owner, Instant::now());
            }
        }
    }

    pub(super) async fn say_goodbye(&self) {
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
