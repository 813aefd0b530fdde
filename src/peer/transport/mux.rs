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
        let mut config = Config::default();
        // The window first: the count is checked against it, and each of the streams has its own least window.
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(2 * MAX_STREAMS as usize);
        config.set_max_connection_receive_window(Some(2 * MAX_STREAMS as usize * 256 * 1024));
        let connection = Connection::new(stream.compat(), config, mode);
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
