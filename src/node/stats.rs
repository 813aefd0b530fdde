//! What a node did and does, in numbers.

use super::Node;
use crate::peer::TransportKind;
use crate::peer::transport::{GateStats, Traffic};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counted since the node was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeStats {
    /// Everything that went over sessions, of those that are over too.
    pub traffic: Traffic,
    /// Messages that were sent, once for each session.
    pub messages_sent: u64,
    /// Messages that came.
    pub messages_received: u64,
    /// Calls, messages and streams that failed.
    pub errors: u64,
    /// Callers that were turned away since a limit was reached.
    pub refused: u64,
    /// What came to the door, with what was held of callers that were not known.
    pub gate: GateStats,
    /// Tasks that run.
    pub tasks: usize,
    /// Sessions there have been.
    pub sessions_total: u64,
    /// Sessions there are.
    pub sessions_active: u64,
    /// How many of these are over WebSocket.
    pub websocket_sessions: u64,
    /// The mean of their round trips; `None` before the first heartbeat came back.
    pub round_trip: Option<Duration>,
    /// How long the node runs.
    pub uptime: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) messages_sent: AtomicU64,
    pub(super) messages_received: AtomicU64,
    pub(super) errors: AtomicU64,
}

impl Counters {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Node {
    /// What it did and does.
    pub fn stats(&self) -> NodeStats {
        let inner = &self.inner;
        // Under the lock of the table, a session is counted as over or as there, and not twice.
        let (mut traffic, sessions) = {
            let table = inner.table();
            (table.past, table.sessions.values().map(|outgoing| outgoing.session.clone()).collect::<Vec<_>>())
        };
        sessions.iter().for_each(|session| traffic += session.traffic());
        let round_trips: Vec<Duration> = sessions.iter().filter_map(|session| session.round_trip()).collect();
        let count = u32::try_from(round_trips.len()).unwrap_or(u32::MAX);
        let is_websocket = |session: &&crate::peer::transport::Session| session.transport() == TransportKind::WebSocket;
        let gate = inner.transport.gate().stats();
        NodeStats {
            traffic,
            messages_sent: inner.counters.messages_sent.load(Ordering::Relaxed),
            messages_received: inner.counters.messages_received.load(Ordering::Relaxed),
            errors: inner.counters.errors.load(Ordering::Relaxed),
            refused: gate.refused,
            gate,
            tasks: inner.transport.task_count() + inner.tracker.len(),
            sessions_total: inner.transport.session_count(),
            sessions_active: sessions.len() as u64,
            websocket_sessions: sessions.iter().filter(is_websocket).count() as u64,
            round_trip: (count > 0).then(|| round_trips.iter().sum::<Duration>() / count.max(1)),
            uptime: inner.started.elapsed(),
        }
    }
}
