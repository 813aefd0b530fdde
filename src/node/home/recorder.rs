//! Writes down what happens to a served node: which sessions begin and end, who is there, and what peers say.

use super::messages::Direction;
use super::notice::{NOTICE_STREAM, Notice};
use super::records::{Records, SessionEnd};
use crate::error::{Result, with_causes};
use crate::id::SessionId;
use crate::node::{Incoming, Received, SessionEvent};
use crate::peer::transport::{self, Session};
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

/// How often it is noted that peers are still there.
const SEEN_EVERY: Duration = Duration::from_secs(60);
/// After so many sessions, those that are too old are forgotten.
const TIDY_EVERY: usize = 64;

/// What comes, and where it is written.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) records: Records,
    pub(super) events: Incoming<SessionEvent>,
    pub(super) messages: Incoming<Received>,
}

impl Recorder {
    /// Writes until the node is stopped and all was written.
    pub(super) async fn run(mut self) {
        let mut live: HashMap<transport::SessionId, (Session, Option<SessionId>)> = HashMap::new();
        let (mut has_events, mut has_messages, mut began) = (true, true, 0_usize);
        let mut seen = interval(SEEN_EVERY);
        seen.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while has_events || has_messages {
            tokio::select! {
                event = self.events.next(), if has_events => match event {
                    Some(SessionEvent::Began(session)) => {
                        began += 1;
                        let is_due = began.is_multiple_of(TIDY_EVERY);
                        let noted = session.clone();
                        let id = self.write("a session", move |records| {
                            if is_due {
                                records.tidy(false)?;
                            }
                            records.session_began(&noted)
                        });
                        let id = id.await;
                        live.insert(session.id(), (session, id));
                    }
                    Some(SessionEvent::Ended(session, reason)) => {
                        let Some((_, Some(id))) = live.remove(&session.id()) else { continue };
                        let (end, traffic) = (SessionEnd::from(reason), session.traffic());
                        let ended = move |records: Records| {
                            records.seen(&session, 0)?;
                            records.session_ended(id, end, traffic)
                        };
                        self.write("the end of a session", ended).await;
                    }
                    None => has_events = false,
                },
                message = self.messages.next(), if has_messages => match message {
                    Some(message) => self.keep(message).await,
                    None => has_messages = false,
                },
                _ = seen.tick() => {
                    let sessions: Vec<Session> = live.values().map(|(session, _)| session.clone()).collect();
                    let seen = move |records: Records| sessions.iter().try_for_each(|session| records.seen(session, 0));
                    self.write("who is there", seen).await;
                }
            }
        }
    }

    async fn keep(&self, message: Received) {
        let Received { peer, stream, data, .. } = message;
        if stream != NOTICE_STREAM {
            return tracing::debug!(%peer, stream, "a message on a stream that is not read");
        }
        match Notice::parse(&data) {
            Ok(notice) => {
                let keep = move |records: Records| records.keep(peer.into(), Direction::Received, &notice);
                self.write("a notice", keep).await;
            }
            Err(error) => tracing::debug!(%peer, "what came is no notice: {error}"),
        }
    }

    /// What cannot be written is told, and the node goes on: its sessions are worth more than their record.
    async fn write<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(Records) -> Result<T> + Send + 'static,
    ) -> Option<T> {
        let records = self.records.clone();
        match spawn_blocking(move || work(records)).await {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(error)) => tracing::error!("cannot note {what}: {}", with_causes(&error)),
            Err(error) => tracing::error!("cannot note {what}: {error}"),
        }
        None
    }
}
