//! Many streams over one connection of bytes: a task drives the multiplexer and hands streams out.

use super::PeerError;
use super::error::CloseReason;
use super::metered::Meter;
use super::quic::MAX_STREAMS;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use yamux::{Config, Connection, Mode};

/// How long saying goodbye may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Streams that were asked for and are not open.
const MAX_WAITING: usize = 16;

/// What the multiplexer allows both sides together: each may open as many as there may be.
const MAX_STREAMS_OF_BOTH: usize = 2 * MAX_STREAMS as usize;
/// What all windows together may have grown by, beyond what each stream begins with: as much as a session over UDP has in all.
/// One grows, to its double, where it is used up within two round trips.
const MAX_GROWTH_BYTES: usize = 16 * 1024 * 1024;

/// What goes out at a time, at most: with the 12 bytes of its own header and the 8 of a message of WebSocket it fills four
/// records of TLS.
const SEND_BYTES: usize = 4 * 16 * 1024 - 12 - 8;

type Reply = oneshot::Sender<Result<MuxStream, yamux::ConnectionError>>;
type Over = Pin<Box<WaitForCancellationFutureOwned>>;

/// A stream that ends with its connection. The multiplexer wakes nobody who waits on a stream of a connection that this side
/// closes, so that is waited for beside it.
pub(super) struct MuxStream {
    stream: Compat<yamux::Stream>,
    over_for_reader: Over,
    over_for_writer: Over,
}

impl MuxStream {
    fn new(stream: yamux::Stream, closed: &CancellationToken) -> Self {
        let over = || Box::pin(closed.clone().cancelled_owned());
        Self { stream: stream.compat(), over_for_reader: over(), over_for_writer: over() }
    }
}

/// What was polled, or that the connection is over where it would have to wait.
fn unless_over<T>(polled: Poll<io::Result<T>>, over: &mut Over, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
    match polled {
        Poll::Pending if over.as_mut().poll(cx).is_ready() => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        polled => polled,
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, room);
        unless_over(polled, &mut self.over_for_reader, cx)
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        unless_over(polled, &mut self.over_for_writer, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        unless_over(polled, &mut self.over_for_writer, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        unless_over(polled, &mut self.over_for_writer, cx)
    }
}

/// The handle on a multiplexer.
#[derive(Debug)]
pub(super) struct Mux {
    requests: mpsc::Sender<Reply>,
    inbound: Mutex<mpsc::Receiver<MuxStream>>,
    closing: CancellationToken,
    closed: CancellationToken,
    pub(super) meter: Arc<Meter>,
}

impl Mux {
    /// Drives the connection in a task of its own.
    pub(super) fn start<S>(stream: S, mode: Mode, meter: Arc<Meter>, tracker: &TaskTracker) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::over(Connection::new(stream.compat(), config(MAX_GROWTH_BYTES), mode), meter, tracker)
    }

    fn over<S>(connection: Connection<Compat<S>>, meter: Arc<Meter>, tracker: &TaskTracker) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, asked) = mpsc::channel(MAX_WAITING);
        let (found, inbound) = mpsc::channel(MAX_STREAMS as usize);
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let driver = Driver { connection, asked, waiting: None, found, closed: closed.clone(), is_closing: false };
        tracker.spawn(driver.run(closing.clone(), closed.clone().drop_guard()));
        Self { requests, inbound: Mutex::new(inbound), closing, closed, meter }
    }

    pub(super) async fn open(&self) -> Result<MuxStream, PeerError> {
        let over = || PeerError::Closed(CloseReason::Ended);
        let (reply, opened) = oneshot::channel();
        self.requests.send(reply).await.map_err(|_| over())?;
        opened.await.map_err(|_| over())?.map_err(PeerError::websocket)
    }

    pub(super) async fn accept(&self) -> Option<MuxStream> {
        self.inbound.lock().await.recv().await
    }

    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

fn config(growth_bytes: usize) -> Config {
    let mut config = Config::default();
    // The window first: the count is checked against it, and each of the streams has its own least window.
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(MAX_STREAMS_OF_BOTH);
    config.set_split_send_size(SEND_BYTES);
    config.set_max_connection_receive_window(Some(MAX_STREAMS_OF_BOTH * yamux::DEFAULT_CREDIT as usize + growth_bytes));
    config
}

struct Driver<S> {
    connection: Connection<Compat<S>>,
    asked: mpsc::Receiver<Reply>,
    waiting: Option<Reply>,
    found: mpsc::Sender<MuxStream>,
    closed: CancellationToken,
    is_closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    async fn run(mut self, closing: CancellationToken, _closed: tokio_util::sync::DropGuard) {
        let mut asked_to_close = pin!(closing.cancelled());
        let driven = poll_fn(|cx| {
            if !self.is_closing && asked_to_close.as_mut().poll(cx).is_ready() {
                self.is_closing = true;
            }
            if self.is_closing { self.connection.poll_close(cx).map(drop) } else { self.poll(cx) }
        });
        let over = async {
            closing.cancelled().await;
            sleep(CLOSE_DEADLINE).await;
        };
        // A peer that takes nothing any more does not hold up the end.
        tokio::select! {
            () = driven => {}
            () = over => {}
        }
    }

    /// Ready when the connection ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let is_opened = self.poll_open(cx);
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    // A stream that nobody has room for is dropped, and reset by that.
                    self.found.try_send(MuxStream::new(stream, &self.closed)).ok();
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending if is_opened => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Opens the next stream that is asked for, and says whether it did.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> bool {
        if self.waiting.is_none()
            && let Poll::Ready(Some(reply)) = self.asked.poll_recv(cx)
        {
            self.waiting = Some(reply);
        }
        let Some(reply) = self.waiting.take() else { return false };
        match self.connection.poll_new_outbound(cx) {
            Poll::Ready(opened) => {
                // Whoever asked may have given up; the stream is reset then.
                reply.send(opened.map(|stream| MuxStream::new(stream, &self.closed))).ok();
                true
            }
            Poll::Pending => {
                self.waiting = Some(reply);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metered::Metered;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, sleep_until, timeout};

    /// One way of a connection that is far.
    const DELAY: Duration = Duration::from_millis(10);
    const PIECE_BYTES: usize = 64 * 1024;
    /// What windows may grow by here: less than what is sent, so that the bound is met.
    const GROWTH_BYTES: usize = 1024 * 1024;
    /// What a stream may have on its way at first.
    const FIRST_BYTES: usize = yamux::DEFAULT_CREDIT as usize;

    /// Two ends of a connection on which everything is late.
    fn far_apart() -> (DuplexStream, DuplexStream) {
        let ((near, near_inside), (far, far_inside)) = (duplex(MAX_GROWTH_BYTES), duplex(MAX_GROWTH_BYTES));
        let ((from_near, to_near), (from_far, to_far)) = (tokio::io::split(near_inside), tokio::io::split(far_inside));
        tokio::spawn(pass_on(from_near, to_far));
        tokio::spawn(pass_on(from_far, to_near));
        (near, far)
    }

    async fn pass_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin + Send + 'static) {
        let (late, mut waiting) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        tokio::spawn(async move {
            while let Some((when, bytes)) = waiting.recv().await {
                sleep_until(when).await;
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let mut room = vec![0; PIECE_BYTES];
        while let Ok(length @ 1..) = from.read(&mut room).await {
            late.send((Instant::now() + DELAY, room[..length].to_vec())).expect("it is passed on");
        }
    }

    /// How much is taken of a stream that nobody reads.
    async fn taken_unread(stream: &mut MuxStream) -> usize {
        let mut taken_bytes = 0;
        while let Ok(written) = timeout(100 * DELAY, stream.write(&[7; PIECE_BYTES])).await {
            taken_bytes += written.expect("it goes on");
            stream.flush().await.expect("it goes on");
        }
        taken_bytes
    }

    #[tokio::test]
    async fn the_window_of_a_stream_grows_on_a_long_way_where_it_is_used_up_and_not_beyond_its_bound() {
        let (tracker, (near, far)) = (TaskTracker::new(), far_apart());
        let mux = |stream, mode| {
            let (stream, meter) = Metered::new(stream, u64::MAX, &Arc::default());
            Mux::over(Connection::new(stream.compat(), config(GROWTH_BYTES), mode), meter, &tracker)
        };
        let (near, far) = (mux(near, Mode::Client), mux(far, Mode::Server));
        let mut unread = near.open().await.expect("a stream");
        assert_eq!(taken_unread(&mut unread).await, FIRST_BYTES);
        // It is there once something was said on it.
        drop(far.accept().await.expect("a stream"));
        let mut sending = near.open().await.expect("a stream");
        sending.write_all(&[7]).await.expect("sent");
        sending.flush().await.expect("sent");
        let mut receiving = far.accept().await.expect("a stream");
        let much = 64 * FIRST_BYTES;
        let read = async {
            let mut room = vec![0; PIECE_BYTES];
            let mut left_bytes = much + 1;
            while left_bytes > 0 {
                left_bytes -= receiving.read(&mut room).await.expect("it comes");
            }
        };
        let sent = async {
            for _ in 0..much / PIECE_BYTES {
                sending.write_all(&[7; PIECE_BYTES]).await.expect("sent");
            }
            sending.flush().await.expect("sent");
        };
        tokio::join!(read, sent);
        let taken_bytes = taken_unread(&mut sending).await;
        // What was read last may not be given back yet: up to half of the window.
        assert!(taken_bytes >= 2 * FIRST_BYTES, "{taken_bytes}: it did not grow");
        assert!(taken_bytes <= FIRST_BYTES + GROWTH_BYTES, "{taken_bytes}");
    }
}
