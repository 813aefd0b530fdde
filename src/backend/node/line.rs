//! The session with one node: shared by all that ask it, and begun again when it is over.

use super::super::{Error, ErrorKind, Result};
use super::ears::Ears;
use crate::peer::transport::{CallFailure, PeerError, Session, Transport};
use crate::peer::{Backoff, BackoffTimes, PeerAddress};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How long calling a node may take, with finding its host.
const CALL_DEADLINE: Duration = Duration::from_secs(8);

/// A node that took some time to be found dead is left alone for so many times as long.
const REST: u32 = 8;

/// How long a node may take to hear a goodbye.
const GOODBYE_DEADLINE: Duration = Duration::from_millis(500);

/// The way to one node.
pub(super) struct Line {
    address: PeerAddress,
    state: Mutex<State>,
    /// Where what the node has to tell is kept, if it is.
    ears: Option<Arc<Ears>>,
}

struct State {
    session: Option<Session>,
    backoff: Backoff,
    /// Why it could not be reached, and until when it is left alone.
    failed: Option<(Failure, Instant)>,
}

/// What went wrong, as often as it is to be told.
#[derive(Clone)]
struct Failure {
    kind: ErrorKind,
    why: String,
}

impl Line {
    pub(super) fn to(address: PeerAddress, ears: Option<Arc<Ears>>) -> Self {
        let state = State { session: None, backoff: Backoff::new(BackoffTimes::default()), failed: None };
        Self { address, state: Mutex::new(state), ears }
    }

    /// Over this session, and none after it.
    #[cfg(test)]
    pub(super) fn over(address: PeerAddress, session: Session) -> Self {
        let gone = Failure { kind: ErrorKind::Unreachable, why: "its session is over".to_owned() };
        let never = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        let state = State {
            session: Some(session),
            backoff: Backoff::new(BackoffTimes::default()),
            failed: Some((gone, never)),
        };
        Self { address, state: Mutex::new(state), ears: None }
    }

    /// The session that there is, or a new one. While one call is under way, others wait for it.
    pub(super) async fn session(&self, transport: &Transport, doing: &str) -> Result<Session> {
        let mut state = self.state.lock().await;
        if let Some(session) = state.session.as_ref().filter(|session| session.takes_streams()) {
            return Ok(session.clone());
        }
        if let Some((failure, until)) = &state.failed
            && Instant::now() < *until
        {
            return Err(failure.clone().while_doing(doing));
        }
        let begun = Instant::now();
        match self.call(transport).await {
            Ok(session) => {
                state.backoff.succeeded();
                state.failed = None;
                self.ears.iter().for_each(|ears| ears.listen(&self.address, &session));
                Ok(state.session.insert(session).clone())
            }
            Err(failure) => {
                // Without randomness the wait is one that is allowed all the same.
                let wait = Duration::from_millis(state.backoff.failed(getrandom::u64().unwrap_or_default()));
                // Where a call takes long to fail, little of the time is spent on calls.
                state.failed = Some((failure.clone(), Instant::now() + wait.max(REST * begun.elapsed())));
                Err(failure.while_doing(doing))
            }
        }
    }

    async fn call(&self, transport: &Transport) -> Result<Session, Failure> {
        let called = timeout(CALL_DEADLINE, transport.dial(&self.address)).await;
        let session = called.unwrap_or(Err(PeerError::TimedOut)).map_err(|error| Failure::of(&error))?;
        // A node may send messages, which are for other nodes: what is for a store waits until this asks for it. They are taken
        // and dropped, so that the node can stop in order.
        let incoming = session.clone();
        tokio::spawn(async move { while incoming.accept().await.is_some() {} });
        Ok(session)
    }

    /// Says goodbye, so that the node knows an end from a crash, and waits a little for it to have heard.
    pub(super) async fn close(&self) {
        if let Some(session) = self.state.lock().await.session.take() {
            session.leave();
            let _ = timeout(GOODBYE_DEADLINE, session.closed()).await;
            session.close();
        }
    }
}

impl Failure {
    fn of(error: &PeerError) -> Self {
        let (kind, advice) = match error.call_failure() {
            CallFailure::OtherNode => {
                (ErrorKind::Denied, "; if that is meant to be so, take its line out of the file `pins` in the store")
            }
            CallFailure::OtherSeed => (
                ErrorKind::Denied,
                "; it is no node of this group, or the seed is not the group's: see the file `seeds` in the store, or \
                 SHARD_SEED_FILE",
            ),
            CallFailure::Full => (ErrorKind::Transient, "; the node has no room for another session now"),
            CallFailure::Nobody => (
                ErrorKind::Unreachable,
                "; is `shard node serve` running there? If it moved: `shard backend remove --force`, then `shard backend add` \
                 with its new address",
            ),
            CallFailure::Other => (ErrorKind::Unreachable, ""),
        };
        let source: &(dyn std::error::Error + 'static) = error;
        let causes = std::iter::successors(Some(source), |error| error.source());
        let why = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Self { kind, why: format!("{why}{advice}") }
    }

    fn while_doing(self, doing: &str) -> Error {
        Error::with_source(self.kind, doing, self.why)
    }
}
