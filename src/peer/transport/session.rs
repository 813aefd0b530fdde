//! A session: a peer that is known, its streams, and a heartbeat beside them.

use super::super::frame::FrameReader;
use super::super::message::{Control, MAX_CONTROL_BYTES, STREAM_HEADER_BYTES, StreamPurpose};
use super::super::{Beat, Heartbeat, TransportKind};
use super::error::CloseReason;
use super::gate::Pass;
use super::link::{Established, Traffic};
use super::stream::PeerStream;
use super::{LocalNode, PeerError};
use crate::crypto::PublicKey;
use crate::id::NodeId;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a stream may be open without having said what it is for.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// Streams of the peer that nobody took yet.
const MAX_UNTAKEN: usize = 64;

/// A session of this process: they are numbered from 1, as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which side began a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionSide {
    /// This one.
    Initiator,
    /// The peer.
    Responder,
}

/// A session with a peer. Clones are the same session; it ends when it is closed, not when they are dropped.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    id: SessionId,
    side: SessionSide,
    established: Established,
    local: Arc<LocalNode>,
    started: Instant,
    round_trip: watch::Sender<Option<Duration>>,
    /// Why it is over; the first reason stays.
    reason: OnceLock<CloseReason>,
    closed: CancellationToken,
    leaving: CancellationToken,
    /// How many streams were opened here, and how many by the peer; the one of control is among them.
    opened: AtomicU64,
    taken: watch::Sender<u64>,
    /// Streams of the peer that are not read to their end.
    unread: TaskTracker,
    /// Streams that were opened here and whose answer is not read to its end.
    unanswered: TaskTracker,
    /// Whether the peer said goodbye: it takes no more streams.
    peer_leaves: AtomicBool,
    streams: Mutex<mpsc::Receiver<(StreamPurpose, PeerStream)>>,
}

impl Session {
    /// Begins: takes the peer's streams and keeps the heartbeat, in tasks that the tracker knows.
    pub(super) fn start(
        id: SessionId,
        side: SessionSide,
        mut established: Established,
        local: Arc<LocalNode>,
        tracker: &TaskTracker,
    ) -> Self {
        let pass = established.pass.take();
        let (taken, streams) = mpsc::channel(MAX_UNTAKEN);
        let inner = Inner {
            id,
            side,
            established,
            local,
            started: Instant::now(),
            round_trip: watch::Sender::new(None),
            reason: OnceLock::new(),
            closed: CancellationToken::new(),
            leaving: CancellationToken::new(),
            opened: AtomicU64::new(0),
            taken: watch::Sender::new(0),
            unread: TaskTracker::new(),
            unanswered: TaskTracker::new(),
            peer_leaves: AtomicBool::new(false),
            streams: Mutex::new(streams),
        };
        let session = Self { inner: Arc::new(inner) };
        tracker.spawn(session.clone().run(pass, taken, tracker.clone()));
        session
    }

    /// Its number in this process.
    pub fn id(&self) -> SessionId {
        self.inner.id
    }

    /// Which side began it.
    pub fn side(&self) -> SessionSide {
        self.inner.side
    }

    /// Who the peer is.
    pub fn peer(&self) -> NodeId {
        self.inner.established.admitted.peer
    }

    /// The key by which it is known.
    pub fn peer_key(&self) -> PublicKey {
        self.inner.established.admitted.peer_key
    }

    /// Where the peer is.
    pub fn remote(&self) -> SocketAddr {
        self.inner.established.remote
    }

    /// What carries it.
    pub fn transport(&self) -> TransportKind {
        self.inner.established.link.transport()
    }

    /// How long it lasts.
    pub fn age(&self) -> Duration {
        self.inner.started.elapsed()
    }

    /// What went over it.
    pub fn traffic(&self) -> Traffic {
        self.inner.established.link.traffic()
    }

    /// The time from a question to its answer at the last heartbeat; `None` before the first.
    pub fn round_trip(&self) -> Option<Duration> {
        *self.inner.round_trip.borrow()
    }

    /// Waits for the next heartbeat to come back, and gives its round trip; `None` when the session is over.
    pub async fn next_round_trip(&self) -> Option<Duration> {
        let mut measured = self.inner.round_trip.subscribe();
        tokio::select! {
            // The sender lives as long as the session does.
            _ = measured.changed() => self.round_trip(),
            () = self.inner.closed.cancelled() => None,
        }
    }

    /// Whether streams can be opened: it is not over, and the peer did not say goodbye.
    pub fn takes_streams(&self) -> bool {
        self.refusal().is_none()
    }

    fn refusal(&self) -> Option<CloseReason> {
        let leaves = self.inner.peer_leaves.load(Ordering::SeqCst).then_some(CloseReason::Goodbye);
        self.reason().or(leaves)
    }

    /// Opens a stream and says what it is for. A peer that says goodbye meanwhile is not left before the stream is read to
    /// its end, or dropped.
    pub async fn open(&self, purpose: StreamPurpose) -> Result<PeerStream, PeerError> {
        let unanswered = self.inner.unanswered.token();
        if let Some(reason) = self.refusal() {
            return Err(PeerError::Closed(reason));
        }
        let mut stream = self.inner.established.link.open().await?;
        self.inner.opened.fetch_add(1, Ordering::Relaxed);
        if purpose != StreamPurpose::Control {
            stream.receive.holds(unanswered);
        }
        stream.send.send_frame(&purpose.to_bytes()).await?;
        Ok(stream)
    }

    /// The next stream that the peer opened; `None` when the session is over.
    pub async fn accept(&self) -> Option<(StreamPurpose, PeerStream)> {
        self.inner.streams.lock().await.recv().await
    }

    /// Why it is over; `None` while it is not.
    pub fn reason(&self) -> Option<CloseReason> {
        self.inner.reason.get().copied()
    }

    /// Ends it at once: what is under way is lost.
    pub fn close(&self) {
        self.end(CloseReason::Here);
    }

    /// Says goodbye: the peer closes when it has read what was sent. [`Self::close`] follows, at a deadline of the caller's.
    pub fn leave(&self) {
        self.inner.leaving.cancel();
    }

    /// Waits until it is over.
    pub async fn closed(&self) -> CloseReason {
        self.inner.closed.cancelled().await;
        self.reason().unwrap_or(CloseReason::Ended)
    }

    fn end(&self, reason: CloseReason) {
        self.inner.reason.get_or_init(|| reason);
        self.inner.closed.cancel();
        self.inner.established.link.close();
    }

    async fn run(self, _pass: Option<Pass>, taken: mpsc::Sender<(StreamPurpose, PeerStream)>, tracker: TaskTracker) {
        if self.inner.side == SessionSide::Initiator {
            let session = self.clone();
            tracker.spawn(async move {
                match session.open(StreamPurpose::Control).await {
                    Ok(stream) => session.run_control(stream).await,
                    Err(_) => session.end(CloseReason::Ended),
                }
            });
        }
        let accepting = async {
            while let Ok(mut stream) = self.inner.established.link.accept().await {
                stream.receive.holds(self.inner.unread.token());
                self.inner.taken.send_modify(|taken| *taken += 1);
                tracker.spawn(self.clone().take(stream, taken.clone()));
            }
        };
        tokio::select! {
            () = accepting => self.end(CloseReason::Ended),
            () = self.inner.closed.cancelled() => {}
        }
        // The place that it holds is given back when its connection is over, and not when the last handle is dropped.
        self.inner.established.link.ended().await;
    }

    /// Hears what a stream is for, and hands it on.
    async fn take(self, mut stream: PeerStream, taken: mpsc::Sender<(StreamPurpose, PeerStream)>) {
        let mut reader = FrameReader::new(STREAM_HEADER_BYTES);
        let header = timeout(HEADER_DEADLINE, stream.receive.next_frame(&mut reader)).await;
        let Ok(Ok(Some(header))) = header else { return stream.send.give_up() };
        match StreamPurpose::parse(&header) {
            Ok(StreamPurpose::Control) if self.inner.side == SessionSide::Responder => {
                self.run_control(stream).await;
            }
            Ok(StreamPurpose::Control) | Err(_) => self.end(CloseReason::Broken),
            Ok(purpose) => {
                tokio::select! {
                    // Nobody takes streams any more: it is dropped, and ends by that.
                    _ = taken.send((purpose, stream)) => {}
                    () = self.inner.closed.cancelled() => {}
                }
            }
        }
    }

    async fn run_control(&self, stream: PeerStream) {
        tokio::select! {
            reason = self.control(stream) => self.end(reason),
            () = self.inner.closed.cancelled() => {}
        }
    }

    /// Asks for signs of life and gives them, until the session has a reason to end.
    async fn control(&self, stream: PeerStream) -> CloseReason {
        let PeerStream { mut send, mut receive } = stream;
        let local = &self.inner.local;
        let idle = Duration::from_millis(local.times.idle_ms);
        let mut heartbeat = Heartbeat::new(local.times, local.now_ms());
        let (mut reader, mut received, mut asked) = (FrameReader::new(MAX_CONTROL_BYTES), 0, Instant::now());
        let mut said_goodbye = false;
        loop {
            let now_received = self.traffic().received_bytes;
            if std::mem::replace(&mut received, now_received) != now_received {
                heartbeat.heard(local.now_ms());
            }
            let mut answer = None;
            let wait = match heartbeat.poll(local.now_ms()) {
                Beat::Gone => return CloseReason::Silent,
                Beat::Ask(number) => {
                    asked = Instant::now();
                    answer = Some(Control::Ping(number));
                    Duration::ZERO
                }
                Beat::Wait { until_ms } => Duration::from_millis(until_ms.saturating_sub(local.now_ms()).max(1)),
            };
            if answer.is_none() {
                tokio::select! {
                    frame = receive.next_frame(&mut reader) => match frame {
                        Ok(Some(bytes)) => match Control::parse(&bytes) {
                            Ok(Control::Ping(number)) => answer = Some(Control::Pong(number)),
                            Ok(Control::Pong(number)) => self.measured(&mut heartbeat, number, asked),
                            Ok(Control::Goodbye(opened)) => {
                                drop(receive);
                                self.inner.peer_leaves.store(true, Ordering::SeqCst);
                                timeout(idle, self.read_all(opened)).await.ok();
                                return CloseReason::Goodbye;
                            }
                            Err(_) => return CloseReason::Broken,
                        },
                        Ok(None) | Err(PeerError::Socket { .. } | PeerError::Cut) => return CloseReason::Ended,
                        Err(_) => return CloseReason::Broken,
                    },
                    () = sleep(wait) => {}
                    () = self.inner.leaving.cancelled(), if !said_goodbye => {
                        said_goodbye = true;
                        answer = Some(Control::Goodbye(self.inner.opened.load(Ordering::Relaxed)));
                    }
                }
            }
            if let Some(message) = answer {
                match timeout(idle, send.send_frame(&message.to_bytes())).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return CloseReason::Ended,
                    Err(_) => return CloseReason::Silent,
                }
            }
        }
    }

    /// Waits until as many streams of the peer were taken, and all of them and all answers of the peer are read.
    async fn read_all(&self, opened: u64) {
        // The sender lives as long as the session does.
        self.inner.taken.subscribe().wait_for(|taken| *taken >= opened).await.ok();
        for streams in [&self.inner.unread, &self.inner.unanswered] {
            streams.close();
            streams.wait().await;
        }
    }

    fn measured(&self, heartbeat: &mut Heartbeat, number: u64, asked: Instant) {
        if heartbeat.answered(number, self.inner.local.now_ms()).is_some() {
            self.inner.round_trip.send_replace(Some(asked.elapsed()));
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = self.remote();
        f.debug_struct("Session").field("id", &self.id()).field("peer", &self.peer()).field("remote", &remote).finish()
    }
}
