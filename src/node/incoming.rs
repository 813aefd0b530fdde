//! What comes over sessions: messages and streams, each as an async stream that one taker reads.

use super::Node;
use super::stats::Counters;
use crate::id::NodeId;
use crate::peer::transport::{CloseReason, PeerStream, ReceiveHalf, Session, SessionId};
use crate::peer::{FrameReader, MAX_MESSAGE_BYTES, StreamPurpose};
use bytes::Bytes;
use futures_util::Stream;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Messages that wait to be read: with their largest size, 16 MiB. A peer that sends more waits.
const MAX_WAITING: usize = 64;

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Over which session.
    pub session: SessionId,
    /// From whom.
    pub peer: NodeId,
    /// On which stream of it.
    pub stream: u64,
    /// The message.
    pub data: Bytes,
}

/// A stream that a peer opened for a service.
#[derive(Debug)]
pub struct ServiceStream {
    /// The session with the peer.
    pub session: Session,
    /// Which service.
    pub service: u64,
    /// The stream.
    pub stream: PeerStream,
}

/// What became of a session.
#[derive(Debug, Clone)]
pub enum SessionEvent {
    /// It began.
    Began(Session),
    /// It is over.
    Ended(Session, CloseReason),
}

/// What comes of one kind, in its order; it ends when the node is stopped.
#[derive(Debug)]
pub struct Incoming<T> {
    receiver: mpsc::Receiver<T>,
}

impl<T> Incoming<T> {
    /// The next; `None` when the node is stopped and all was read.
    pub async fn next(&mut self) -> Option<T> {
        self.receiver.recv().await
    }
}

impl<T> Stream for Incoming<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.receiver.poll_recv(cx)
    }
}

/// Both ends of a channel, until they are taken.
#[derive(Debug)]
pub(super) struct Channel<T> {
    sender: Mutex<Option<mpsc::Sender<T>>>,
    receiver: Mutex<Option<Incoming<T>>>,
}

impl<T> Default for Channel<T> {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        Self { sender: Mutex::new(Some(sender)), receiver: Mutex::new(Some(Incoming { receiver })) }
    }
}

impl<T> Channel<T> {
    /// To be called once; `None` after that.
    pub(super) fn take(&self) -> Option<Incoming<T>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether someone reads.
    fn is_taken(&self) -> bool {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// `None` when nothing is taken in any more.
    fn sender(&self) -> Option<mpsc::Sender<T>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// No more: whoever reads comes to an end once all was read.
    pub(super) fn end(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Node {
    /// Takes what the peer of a session opens, until the session is over.
    pub(super) async fn serve(self, session: Session) {
        self.tell(SessionEvent::Began(session.clone())).await;
        while let Some((purpose, stream)) = session.accept().await {
            match purpose {
                StreamPurpose::Messages(number) => {
                    let PeerStream { send, receive } = stream;
                    // Messages go one way: nothing is sent back, which is no error.
                    drop(send);
                    self.inner.tracker.spawn(self.clone().read(session.clone(), number, receive));
                }
                StreamPurpose::Service(service) => {
                    let incoming = ServiceStream { session: session.clone(), service, stream };
                    self.hand_over(incoming).await;
                }
                // Sessions keep it to themselves.
                StreamPurpose::Control => {}
            }
        }
        let reason = session.closed().await;
        self.forget(&session);
        self.tell(SessionEvent::Ended(session, reason)).await;
    }

    /// Tells whoever took the events; one who does not read them holds nothing up for longer than a peer may.
    async fn tell(&self, event: SessionEvent) {
        if !self.inner.events.is_taken() {
            return;
        }
        if let Some(sender) = self.inner.events.sender() {
            timeout(self.inner.send_deadline, sender.send(event)).await.ok();
        }
    }

    async fn hand_over(&self, incoming: ServiceStream) {
        let session = incoming.session.clone();
        match self.inner.services.sender() {
            Some(sender) if self.inner.services.is_taken() => {
                tokio::select! {
                    biased;
                    // Whoever took them is gone: the stream is dropped, and ends by that.
                    _ = sender.send(incoming) => {}
                    _ = session.closed() => {}
                }
            }
            _ => incoming.stream.send.give_up(),
        }
    }

    /// Reads one stream of messages to its end.
    async fn read(self, session: Session, stream: u64, mut receive: ReceiveHalf) {
        let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
        loop {
            let data = match receive.next_frame(&mut reader).await {
                Ok(Some(data)) => data,
                Ok(None) => return,
                Err(_) => return Counters::count(&self.inner.counters.errors),
            };
            let Some(sender) = self.inner.messages.sender() else { return };
            Counters::count(&self.inner.counters.messages_received);
            let message = Received { session: session.id(), peer: session.peer(), stream, data };
            tokio::select! {
                biased;
                sent = sender.send(message) => if sent.is_err() { return },
                _ = session.closed() => return,
            }
        }
    }
}
