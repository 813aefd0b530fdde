//! A connection whose bytes are counted, and from which few are taken before its peer is known.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a peer may send below TLS before it is known: its handshake and what is above it have less than half of it.
pub(super) const UNKNOWN_WIRE_BYTES: u64 = 8 * 1024;
/// What it may send above TLS: an upgrade to WebSocket and a proof have half of it.
pub(super) const UNKNOWN_BYTES: u64 = 1024;

/// What all peers that are not known have sent and are not done with, above TLS and below it.
#[derive(Debug, Default)]
pub(super) struct UnknownBytes {
    pub(super) plain: Arc<Gauge>,
    pub(super) wire: Arc<Gauge>,
}

/// How much there is of something, and the most that there was.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    now: AtomicU64,
    most: AtomicU64,
    most_each: AtomicU64,
}

impl Gauge {
    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    pub(super) fn most_each(&self) -> u64 {
        self.most_each.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64, total_of_one: u64) {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.most.fetch_max(now, Ordering::Relaxed);
        self.most_each.fetch_max(total_of_one, Ordering::Relaxed);
    }

    fn remove(&self, bytes: u64) {
        self.now.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The counts of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) received_bytes: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    limit: AtomicU64,
    gauge: Arc<Gauge>,
    /// What of it is in the gauge.
    gauged: AtomicU64,
}

impl Meter {
    /// The peer is known: it may send what it likes.
    pub(super) fn lift(&self) {
        self.limit.store(u64::MAX, Ordering::Relaxed);
        self.gauge.remove(self.gauged.swap(0, Ordering::Relaxed));
    }

    /// How much may still be taken.
    fn room(&self) -> u64 {
        let limit = self.limit.load(Ordering::Relaxed);
        limit.saturating_sub(self.received_bytes.load(Ordering::Relaxed))
    }

    fn count_read(&self, bytes: u64) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let total = self.received_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.limit.load(Ordering::Relaxed) != u64::MAX {
            self.gauged.fetch_add(bytes, Ordering::Relaxed);
            self.gauge.add(bytes, total);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.lift();
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    /// Takes at most so many bytes until the limit is lifted; the gauge knows of them for as long.
    pub(super) fn new(stream: S, limit: u64, gauge: &Arc<Gauge>) -> (Self, Arc<Meter>) {
        let meter = Arc::new(Meter {
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            gauge: Arc::clone(gauge),
            gauged: AtomicU64::new(0),
        });
        (Self { stream, meter: Arc::clone(&meter) }, meter)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let allowed = usize::try_from(self.meter.room()).unwrap_or(usize::MAX);
        if allowed == 0 {
            return Poll::Ready(Err(io::Error::other("a peer that is not known sent too much")));
        }
        let before = room.filled().len();
        let polled = if allowed >= room.remaining() {
            Pin::new(&mut self.stream).poll_read(cx, room)
        } else {
            // No more is taken from below than is allowed: the rest stays where it is.
            let mut part = ReadBuf::new(room.initialize_unfilled_to(allowed));
            let polled = Pin::new(&mut self.stream).poll_read(cx, &mut part);
            let read = part.filled().len();
            room.advance(read);
            polled
        };
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.meter.count_read((room.filled().len() - before) as u64);
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
    async fn from_a_peer_that_is_not_known_no_byte_beyond_the_limit_is_taken() {
        for is_known in [false, true] {
            let (mut far, near) = tokio::io::duplex(64);
            let gauge = Arc::default();
            let (mut near, meter) = Metered::new(near, UNKNOWN_BYTES, &gauge);
            if is_known {
                meter.lift();
            }
            let sender = tokio::spawn(async move {
                let _ = far.write_all(&vec![1; UNKNOWN_BYTES as usize + 1]).await;
            });
            let mut read = Vec::new();
            assert_eq!(near.read_to_end(&mut read).await.is_ok(), is_known);
            assert_eq!(read.len() as u64, UNKNOWN_BYTES + u64::from(is_known));
            let most = if is_known { 0 } else { UNKNOWN_BYTES };
            assert_eq!((gauge.now(), gauge.most(), gauge.most_each()), (most, most, most));
            drop((near, meter));
            sender.await.expect("it ends");
            assert_eq!(gauge.now(), 0, "nothing is held of one that is gone");
        }
    }

    #[tokio::test]
    async fn what_is_beyond_the_limit_waits_until_the_peer_is_known() {
        let (mut far, near) = tokio::io::duplex(4096);
        let (mut near, meter) = Metered::new(near, 10, &Arc::default());
        far.write_all(&[7; 25]).await.expect("sent");
        let mut room = [0; 100];
        assert_eq!(near.read(&mut room).await.expect("read"), 10);
        meter.lift();
        assert_eq!(near.read(&mut room).await.expect("read"), 15);
        assert_eq!(meter.received_bytes.load(Ordering::Relaxed), 25);
    }
}
