//! The streams of messages to one peer: each is opened when something is first sent on it.

use super::NodeError;
use crate::peer::StreamPurpose;
use crate::peer::transport::{PeerStream, SendHalf, Session};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;

/// Streams of messages that one session may have.
pub const MAX_MESSAGE_STREAMS: usize = 32;

/// Holds the stream while nobody sends on it.
type Slot = Arc<AsyncMutex<Option<SendHalf>>>;

/// A session with what is sent on it.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) session: Session,
    slots: Mutex<HashMap<u64, Slot>>,
}

impl Outgoing {
    pub(super) fn new(session: Session) -> Self {
        Self { session, slots: Mutex::default() }
    }

    /// Sends one message; messages of one stream keep their order. After a failure the stream is begun anew.
    pub(super) async fn send(&self, stream: u64, bytes: &[u8], deadline: Duration) -> Result<(), NodeError> {
        let slot = self.slot(stream)?;
        let sent = async {
            let mut held = slot.lock().await;
            // Taken out: when this is given up within a message, the stream ends with it.
            let mut half = match held.take() {
                Some(half) => half,
                None => {
                    let PeerStream { send, receive } = self.session.open(StreamPurpose::Messages(stream)).await?;
                    drop(receive);
                    send
                }
            };
            half.send_frame(bytes).await?;
            *held = Some(half);
            Ok(())
        };
        timeout(deadline, sent).await.map_err(|_| NodeError::TimedOut)?
    }

    /// Ends all streams, and waits until the peer has what was sent, as far as the transport says.
    pub(super) async fn finish(&self) {
        let slots: Vec<Slot> = self.lock().drain().map(|(_, slot)| slot).collect();
        for slot in slots {
            if let Some(mut half) = slot.lock().await.take() {
                // What fails here is a session that ended: nothing is left to wait for.
                half.finish().await.ok();
            }
        }
    }

    fn slot(&self, stream: u64) -> Result<Slot, NodeError> {
        let mut slots = self.lock();
        if slots.len() >= MAX_MESSAGE_STREAMS && !slots.contains_key(&stream) {
            return Err(NodeError::TooManyStreams { limit: MAX_MESSAGE_STREAMS });
        }
        Ok(Arc::clone(slots.entry(stream).or_default()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
