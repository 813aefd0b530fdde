//! Sessions over TCP: TLS, then WebSocket, then the proof, then many streams in one.

use super::super::tls::{EXPORTER_LABEL, channel, peer_name};
use super::super::{Channel, TransportKind};
use super::gate::Pass;
use super::link::{Established, Link};
use super::metered::{Gauge, Meter, Metered, UNKNOWN_BYTES, UNKNOWN_WIRE_BYTES, UnknownBytes};
use super::mux::Mux;
use super::{LocalNode, PeerError};
use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream};
use rustls::CommonState;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};
use tokio_util::task::TaskTracker;

/// One message of WebSocket has at most this many bytes; what a stream says is cut into such pieces.
const MESSAGE_BYTES: usize = 64 * 1024;
/// What is read and written at a time, for each connection.
const BUFFER_BYTES: usize = 16 * 1024;
/// What waits to be written at most.
const MAX_WRITE_BYTES: usize = 4 * MESSAGE_BYTES;
/// What is asked for; the host is not looked at, TLS says who is there.
const REQUEST: &str = "ws://peer.shard.invalid/shard/1";

/// Calls a node.
pub(super) async fn connect(
    address: SocketAddr,
    local: &LocalNode,
    tracker: &TaskTracker,
) -> Result<Established, PeerError> {
    let called = async {
        let stream = timeout(local.first_answer_deadline(), TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| PeerError::TimedOut)?;
        let stream = stream.map_err(|error| PeerError::socket(format!("connecting to TCP {address}"), error))?;
        let (stream, meter) = metered(stream, &Arc::default())?;
        let connector = TlsConnector::from(Arc::clone(&local.tls(TransportKind::WebSocket).client));
        let stream = connector.connect(peer_name(), stream).await.map_err(PeerError::websocket)?;
        let channel = channel_of(stream.get_ref().1, |exporter| {
            stream.get_ref().1.export_keying_material(exporter, EXPORTER_LABEL, None)
        })?;
        let (stream, plain) = Metered::new(stream, UNKNOWN_BYTES, &Arc::default());
        let (stream, _) = client_async_with_config(REQUEST, stream, Some(config(MESSAGE_BYTES)))
            .await
            .map_err(PeerError::websocket)?;
        let mut stream = WebSocketBytes::new(stream);
        let admitted = local.introduce(&mut stream, channel).await?;
        [&meter, &plain].into_iter().for_each(|meter| meter.lift());
        let mux = Mux::start(stream, yamux::Mode::Client, meter, tracker);
        Ok(Established { link: Link::WebSocket(mux), admitted, remote: address, pass: None })
    };
    timeout(local.handshake_deadline, called).await.map_err(|_| PeerError::TimedOut)?
}

/// Hears one that calls.
pub(super) async fn welcome(
    stream: TcpStream,
    remote: SocketAddr,
    local: &LocalNode,
    (mut pass, unknown): (Pass, &UnknownBytes),
    tracker: &TaskTracker,
) -> Result<Established, PeerError> {
    let heard = async {
        let (stream, meter) = metered(stream, &unknown.wire)?;
        let acceptor = TlsAcceptor::from(Arc::clone(&local.tls(TransportKind::WebSocket).server));
        let stream = acceptor.accept(stream).await.map_err(PeerError::websocket)?;
        let channel = channel_of(stream.get_ref().1, |exporter| {
            stream.get_ref().1.export_keying_material(exporter, EXPORTER_LABEL, None)
        })?;
        let (stream, plain) = Metered::new(stream, UNKNOWN_BYTES, &unknown.plain);
        let config = config(UNKNOWN_BYTES as usize);
        let stream = accept_async_with_config(stream, Some(config)).await.map_err(PeerError::websocket)?;
        let mut stream = WebSocketBytes::new(stream);
        let admitted = local.welcome(&mut stream, channel).await?;
        [&meter, &plain].into_iter().for_each(|meter| meter.lift());
        if !pass.admit() {
            return Err(PeerError::Displaced);
        }
        let mux = Mux::start(stream.of_a_known_peer().await, yamux::Mode::Server, meter, tracker);
        Ok(Established { link: Link::WebSocket(mux), admitted, remote, pass: Some(pass) })
    };
    timeout(local.handshake_deadline, heard).await.map_err(|_| PeerError::TimedOut)?
}

fn metered(stream: TcpStream, gauge: &Arc<Gauge>) -> Result<(Metered<TcpStream>, Arc<Meter>), PeerError> {
    stream.set_nodelay(true).map_err(|error| PeerError::socket("setting up a TCP connection", error))?;
    Ok(Metered::new(stream, UNKNOWN_WIRE_BYTES, gauge))
}

fn channel_of(
    state: &CommonState,
    export: impl FnOnce([u8; 32]) -> Result<[u8; 32], rustls::Error>,
) -> Result<Channel, PeerError> {
    let exporter = export([0; 32]).map_err(PeerError::websocket)?;
    channel(state.peer_certificates().unwrap_or_default(), exporter).ok_or(PeerError::NoKey)
}

fn config(message_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES.min(message_bytes))
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BYTES)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes))
}

/// The bytes of binary messages, one after another.
pub(super) struct WebSocketBytes<S> {
    stream: WebSocketStream<S>,
    held: Bytes,
    /// Written and not yet a message: what is written in several parts before it is flushed is one.
    unsent: BytesMut,
}

impl<S> WebSocketBytes<S> {
    fn new(stream: WebSocketStream<S>) -> Self {
        Self { stream, held: Bytes::new(), unsent: BytesMut::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketBytes<S> {
    /// On the side that was called: the same, with room for messages of the size that a known peer may send. Whoever sent more
    /// than its proof before it had the answer loses that.
    async fn of_a_known_peer(self) -> Self {
        debug_assert!(self.unsent.is_empty(), "an answer is flushed");
        let below = self.stream.into_inner();
        Self::new(WebSocketStream::from_raw_socket(below, Role::Server, Some(config(MESSAGE_BYTES))).await)
    }

    /// Makes a message of what was written.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.stream).poll_ready(cx)).map_err(io_error)?;
        let message = Message::Binary(self.unsent.split().freeze());
        Poll::Ready(Pin::new(&mut self.stream).start_send(message).map_err(io_error))
    }
}

fn io_error(error: WebSocketError) -> io::Error {
    match error {
        WebSocketError::Io(error) => error,
        WebSocketError::ConnectionClosed | WebSocketError::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketBytes<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.held.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.held = bytes,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other("a text came where only bytes go")));
                }
                Some(Ok(_)) => {}
                Some(Err(WebSocketError::ConnectionClosed)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let part = self.held.len().min(room.remaining());
        room.put_slice(&self.held.split_to(part));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.unsent.len() == MESSAGE_BYTES {
            ready!(self.poll_send(cx))?;
        }
        let part = &bytes[..bytes.len().min(MESSAGE_BYTES - self.unsent.len())];
        self.unsent.extend_from_slice(part);
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_close(cx).map_err(io_error)
    }
}
