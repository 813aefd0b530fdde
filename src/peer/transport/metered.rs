//! A TCP connection whose bytes are counted, and which takes few before its peer is known.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a peer may send before it is known: a handshake of TLS, an upgrade to WebSocket and a proof have half of it.
const UNKNOWN_BYTES: u64 = 16 * 1024;

/// The counts of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) received_bytes: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    limit: AtomicU64,
}

impl Meter {
    /// The peer is known: it may send what it likes.
    pub(super) fn lift(&self) {
        self.limit.store(u64::MAX, Ordering::Relaxed);
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S) -> (Self, Arc<Meter>) {
        let meter = Arc::new(Meter {
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            limit: AtomicU64::new(UNKNOWN_BYTES),
        });
        (Self { stream, meter: Arc::clone(&meter) }, meter)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, room);
        if matches!(polled, Poll::Ready(Ok(()))) {
            let read = (room.filled().len() - before) as u64;
            self.meter.reads.fetch_add(1, Ordering::Relaxed);
            let total = self.meter.received_bytes.fetch_add(read, Ordering::Relaxed) + read;
            if total > self.meter.limit.load(Ordering::Relaxed) {
                // With an error nothing counts as read.
                room.set_filled(before);
                return Poll::Ready(Err(io::Error::other("a peer that is not known sent too much")));
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.meter.writes.fetch_add(1, Ordering::Relaxed);
            self.meter.sent_bytes.fetch_add(written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_peer_that_is_not_known_is_cut_off_and_one_that_is_known_is_not() {
        for is_known in [false, true] {
            let (mut far, near) = tokio::io::duplex(1024);
            let (mut near, meter) = Metered::new(near);
            if is_known {
                meter.lift();
            }
            let sender = tokio::spawn(async move {
                let _ = far.write_all(&vec![1; UNKNOWN_BYTES as usize + 1]).await;
            });
            let mut read = Vec::new();
            assert_eq!(near.read_to_end(&mut read).await.is_ok(), is_known);
            drop(near);
            sender.await.expect("it ends");
            assert_eq!(meter.received_bytes.load(Ordering::Relaxed), UNKNOWN_BYTES + 1);
        }
    }
}
