//! One stream of a session: bytes both ways, each with an end, and frames in them.

use super::super::frame::{FrameReader, frame_header};
use super::PeerError;
use super::mux::MuxStream;
use bytes::{Buf, Bytes, BytesMut};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The least rate of a peer: a frame that has begun is whole within this time, which is 2 KiB a second for the longest.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(120);

/// How much is read at a time.
const READ_BYTES: usize = 16 * 1024;
/// What a stream that is given up says.
const GIVEN_UP: quinn::VarInt = quinn::VarInt::from_u32(1);

/// A stream between two nodes. That it ended does not say that all was sent: over WebSocket a stream that was given up ends
/// like one that was finished. What must be whole says so in what it sends.
#[derive(Debug)]
pub struct PeerStream {
    /// What goes to the peer.
    pub send: SendHalf,
    /// What comes from it.
    pub receive: ReceiveHalf,
}

/// The half that sends. Dropped before [`finish`](Self::finish), it ends within whatever was being said.
pub struct SendHalf(SendKind);

enum SendKind {
    Quic(quinn::SendStream),
    Mux(WriteHalf<MuxStream>),
}

/// The half that receives.
pub struct ReceiveHalf {
    kind: ReceiveKind,
    /// Read, and not handed out.
    held: BytesMut,
    /// When the frame that is not whole began.
    began: Option<Instant>,
    /// Whoever waits for what came to be read waits for this.
    unread: Option<TaskTrackerToken>,
}

enum ReceiveKind {
    Quic(quinn::RecvStream),
    Mux(ReadHalf<MuxStream>),
}

impl PeerStream {
    pub(super) fn of_quic(send: quinn::SendStream, receive: quinn::RecvStream) -> Self {
        Self::new(SendKind::Quic(send), ReceiveKind::Quic(receive))
    }

    pub(super) fn of_mux(stream: MuxStream) -> Self {
        let (receive, send) = tokio::io::split(stream);
        Self::new(SendKind::Mux(send), ReceiveKind::Mux(receive))
    }

    fn new(send: SendKind, receive: ReceiveKind) -> Self {
        let receive = ReceiveHalf { kind: receive, held: BytesMut::new(), began: None, unread: None };
        Self { send: SendHalf(send), receive }
    }
}

impl ReceiveHalf {
    /// Lets the token live until this is dropped.
    pub(super) fn holds(&mut self, token: TaskTrackerToken) {
        self.unread = Some(token);
    }
}

impl SendHalf {
    /// Sends content with its length before it.
    pub async fn send_frame(&mut self, content: &[u8]) -> Result<(), PeerError> {
        let header = frame_header(content.len())?;
        let sent = async {
            self.write_all(&header).await?;
            self.write_all(content).await?;
            self.flush().await
        };
        sent.await.map_err(|error| PeerError::socket("writing to a stream of a session", error))
    }

    /// Ends what is sent; over QUIC it waits until the peer has all of it.
    pub async fn finish(&mut self) -> Result<(), PeerError> {
        let ended = self.shutdown().await;
        ended.map_err(|error| PeerError::socket("ending a stream of a session", error))?;
        match &self.0 {
            SendKind::Quic(send) => send.stopped().await.map(drop).map_err(PeerError::quic),
            SendKind::Mux(_) => Ok(()),
        }
    }

    /// Gives it up: the peer learns that what it got is not all.
    pub fn give_up(mut self) {
        if let SendKind::Quic(send) = &mut self.0 {
            // A stream that is over already is no error here.
            send.reset(GIVEN_UP).ok();
        }
    }
}

impl ReceiveHalf {
    /// The next frame with at most `limit` bytes; `None` where the stream ended between two, and [`PeerError::TimedOut`] where
    /// the peer takes longer than [`FRAME_DEADLINE`] from its first byte to its last. It can be given up while it waits
    /// without losing a byte, as long as the same reader is used again.
    pub async fn next_frame(&mut self, reader: &mut FrameReader) -> Result<Option<Bytes>, PeerError> {
        loop {
            let mut input = self.held.as_ref();
            let before = input.len();
            let content = reader.take(&mut input)?;
            let taken = before - input.len();
            self.held.advance(taken);
            if content.is_some() {
                self.began = None;
                return Ok(content);
            }
            self.held.reserve(READ_BYTES);
            let read = if reader.is_within_a_frame() {
                let began = *self.began.get_or_insert_with(Instant::now);
                timeout_at(began + FRAME_DEADLINE, self.read_more()).await.map_err(|_| PeerError::TimedOut)?
            } else {
                self.read_more().await
            };
            match read.map_err(|error| PeerError::socket("reading from a stream of a session", error))? {
                0 if reader.is_within_a_frame() => return Err(PeerError::Cut),
                0 => return Ok(None),
                _ => {}
            }
        }
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        match &mut self.kind {
            ReceiveKind::Quic(receive) => AsyncReadExt::read_buf(receive, &mut self.held).await,
            ReceiveKind::Mux(receive) => receive.read_buf(&mut self.held).await,
        }
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            SendKind::Quic(send) => AsyncWrite::poll_write(Pin::new(send), cx, bytes),
            SendKind::Mux(send) => Pin::new(send).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            SendKind::Quic(send) => Pin::new(send).poll_flush(cx),
            SendKind::Mux(send) => Pin::new(send).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            SendKind::Quic(send) => Pin::new(send).poll_shutdown(cx),
            SendKind::Mux(send) => Pin::new(send).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for ReceiveHalf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() {
            let part = self.held.len().min(room.remaining());
            let front = self.held.split_to(part);
            room.put_slice(&front);
            return Poll::Ready(Ok(()));
        }
        match &mut self.kind {
            ReceiveKind::Quic(receive) => AsyncRead::poll_read(Pin::new(receive), cx, room),
            ReceiveKind::Mux(receive) => Pin::new(receive).poll_read(cx, room),
        }
    }
}

impl fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendHalf")
    }
}

impl fmt::Debug for ReceiveHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiveHalf")
    }
}

#[cfg(test)]
mod tests {
    use super::super::metered::Metered;
    use super::super::mux::Mux;
    use super::*;
    use std::sync::Arc;
    use tokio::time::{sleep, timeout};
    use tokio_util::task::TaskTracker;

    const CONTENT_BYTES: usize = 1000;

    /// Two ends of one stream, over a connection in memory.
    async fn ends() -> (PeerStream, PeerStream) {
        let (tracker, (near, far)) = (TaskTracker::new(), tokio::io::duplex(64 * 1024));
        let mux = |stream, mode| {
            let (stream, meter) = Metered::new(stream, u64::MAX, &Arc::default());
            Mux::start(stream, mode, meter, &tracker)
        };
        let (near, far) = (mux(near, yamux::Mode::Client), mux(far, yamux::Mode::Server));
        let mut sending = PeerStream::of_mux(near.open().await.expect("a stream"));
        sending.send.send_frame(b"first").await.expect("sent");
        let mut receiving = PeerStream::of_mux(far.accept().await.expect("a stream"));
        let first = receiving.receive.next_frame(&mut FrameReader::new(CONTENT_BYTES)).await;
        assert_eq!(first.expect("read").as_deref(), Some(&b"first"[..]));
        // The multiplexers are driven for as long as the test lasts.
        std::mem::forget((near, far));
        (sending, receiving)
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_drips_in_is_given_up_below_the_least_rate() {
        let (mut sending, mut receiving) = ends().await;
        let begun = Instant::now();
        let dripping = async {
            sending.send.write_all(&frame_header(CONTENT_BYTES).expect("short")).await.expect("sent");
            loop {
                sending.send.write_all(&[7]).await.expect("sent");
                sending.send.flush().await.expect("sent");
                sleep(Duration::from_secs(1)).await;
            }
        };
        let mut reader = FrameReader::new(CONTENT_BYTES);
        tokio::select! {
            outcome = receiving.receive.next_frame(&mut reader) => {
                assert!(matches!(outcome, Err(PeerError::TimedOut)), "{outcome:?}");
            }
            () = dripping => {}
        }
        let waited = begun.elapsed();
        assert!(waited >= FRAME_DEADLINE && waited < FRAME_DEADLINE + Duration::from_secs(2), "{waited:?}");
        // Of what drips in, no more was held than came.
        assert!(reader.held_bytes() < 2 * FRAME_DEADLINE.as_secs() as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_frames_a_peer_may_be_silent_for_as_long_as_it_likes() {
        let (mut sending, mut receiving) = ends().await;
        let mut reader = FrameReader::new(CONTENT_BYTES);
        for _ in 0..3 {
            let waited = timeout(10 * FRAME_DEADLINE, receiving.receive.next_frame(&mut reader)).await;
            assert!(waited.is_err(), "{waited:?}");
            // A frame in two parts, of which the second is late and not too late.
            let header = frame_header(CONTENT_BYTES).expect("short");
            sending.send.write_all(&[&header[..], &[7; 500]].concat()).await.expect("sent");
            sending.send.flush().await.expect("sent");
            let late = timeout(FRAME_DEADLINE / 2, receiving.receive.next_frame(&mut reader)).await;
            assert!(late.is_err(), "{late:?}");
            sending.send.write_all(&[7; 500]).await.expect("sent");
            sending.send.flush().await.expect("sent");
            let frame = receiving.receive.next_frame(&mut reader).await.expect("read").expect("a frame");
            assert_eq!(frame.as_ref(), [7; CONTENT_BYTES]);
        }
    }
}
