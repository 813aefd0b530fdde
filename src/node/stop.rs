//! How a node stops: nothing new, what is under way comes to its end, then everything is closed.

use super::Node;
use super::outgoing::Outgoing;
use crate::peer::transport::CloseReason;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How a node came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StopReport {
    /// Sessions whose peer had read everything before they were closed.
    pub drained: usize,
    /// Sessions that were closed at the deadline.
    pub cut: usize,
}

impl Node {
    /// Takes no new work, gives what is under way until the deadline to come to its end, and closes everything. When it
    /// returns, no task and no socket of the node is left. Messages that came before can still be read.
    pub async fn stop(&self, deadline: Duration) -> StopReport {
        let deadline = Instant::now() + deadline;
        self.disable_accept();
        let sessions: Vec<Arc<Outgoing>> = {
            let table = self.inner.table();
            self.inner.stopping.cancel();
            let there = table.sessions.values().filter(|outgoing| outgoing.session.reason().is_none());
            there.cloned().collect()
        };
        let drained = join_all(sessions.iter().map(|outgoing| drain(outgoing, deadline))).await;
        // New messages are not taken in any more; those that wait can be read.
        self.inner.messages.end();
        self.inner.services.end();
        // The sockets of calls that were taken wait for their connections, and these for the tasks.
        self.inner.tracker.close();
        tokio::join!(self.inner.transport.close(), self.inner.tracker.wait());
        self.inner.events.end();
        let count = drained.iter().filter(|is_drained| **is_drained).count();
        StopReport { drained: count, cut: drained.len() - count }
    }
}

/// Ends what is sent, says goodbye, and waits for the peer to have read it.
async fn drain(outgoing: &Outgoing, deadline: Instant) -> bool {
    let session = &outgoing.session;
    let drained = async {
        outgoing.finish().await;
        session.leave();
        session.closed().await
    };
    let reason = timeout_at(deadline, drained).await;
    session.close();
    matches!(reason, Ok(CloseReason::Ended | CloseReason::Goodbye))
}
