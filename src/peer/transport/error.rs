//! What can go wrong between two nodes.

use super::super::{HandshakeError, PeerAddress, PinError, TlsError, WireError};
use std::io;

/// Why a session was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// This side closed it.
    Here,
    /// The peer said goodbye.
    Goodbye,
    /// The peer was silent for too long.
    Silent,
    /// The peer sent what makes no sense.
    Broken,
    /// The transport below ended.
    Ended,
}

/// Why there is no session, or nothing came of a stream.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The host's name leads nowhere.
    #[error("finding the host of {address}")]
    Resolve {
        /// Where.
        address: PeerAddress,
        /// What was underneath.
        source: io::Error,
    },
    /// A socket.
    #[error("{doing}")]
    Socket {
        /// What was being done.
        doing: String,
        /// What was underneath.
        source: io::Error,
    },
    /// QUIC did not come about, or ended: another seed, no certificate, nobody there.
    #[error("the connection over UDP did not come about or ended")]
    Quic(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// WebSocket did not come about.
    #[error("the connection over WebSocket did not come about or ended")]
    WebSocket(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The peer is not admitted.
    #[error("the peer is not admitted")]
    Handshake(#[from] HandshakeError),
    /// The peer showed a certificate without a key that a node can have.
    #[error("the peer's certificate holds no key of a node")]
    NoKey,
    /// It took too long.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// The session is over.
    #[error("the session is over: {0:?}")]
    Closed(CloseReason),
    /// What came makes no sense.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A stream ended within a frame.
    #[error("a stream was cut")]
    Cut,
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The peer at an address is not the one that was there.
    #[error(transparent)]
    Pin(#[from] PinError),
}

impl PeerError {
    pub(super) fn socket(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Socket { doing: doing.into(), source }
    }

    pub(super) fn quic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Quic(source.into())
    }

    pub(super) fn websocket(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::WebSocket(source.into())
    }
}
