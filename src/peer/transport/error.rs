//! What can go wrong between two nodes.

use super::super::{HandshakeError, PeerAddress, PinError, TlsError, WireError};
use quinn::{ConnectionError, TransportErrorCode};
use rustls::AlertDescription;
use std::error::Error as StdError;
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
    /// It said who it is when newer callers had taken its place.
    #[error("the peer made room for another before it was known")]
    Displaced,
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

/// Why a call came to nothing, as a person tells it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallFailure {
    /// Nobody answers there.
    Nobody,
    /// A node answers that has another seed.
    OtherSeed,
    /// A node answers, and it is not the one that was there before.
    OtherNode,
    /// A node answers and has no room now.
    Full,
    /// Anything else: it is this node itself, or it speaks another protocol.
    Other,
}

/// The alerts of TLS with which a certificate is refused (RFC 8446, §6).
const CERTIFICATE_ALERTS: [AlertDescription; 8] = [
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::CertificateRequired,
];

impl PeerError {
    /// Why a call came to nothing.
    pub fn call_failure(&self) -> CallFailure {
        match self {
            Self::Resolve { .. } | Self::TimedOut => CallFailure::Nobody,
            Self::Socket { source, .. } => of_socket(source),
            Self::Pin(PinError::Changed { .. }) => CallFailure::OtherNode,
            Self::Handshake(HandshakeError::NoProof) => CallFailure::OtherSeed,
            Self::Quic(error) | Self::WebSocket(error) => below(error.as_ref()),
            _ => CallFailure::Other,
        }
    }

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

/// Nobody answers, or this side may not or cannot ask.
fn of_socket(error: &io::Error) -> CallFailure {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable,
        TimedOut, UnexpectedEof,
    };
    match error.kind() {
        ConnectionRefused | ConnectionReset | ConnectionAborted | TimedOut | UnexpectedEof => CallFailure::Nobody,
        HostUnreachable | NetworkUnreachable | NetworkDown => CallFailure::Nobody,
        // What TLS or WebSocket say comes in an error of the socket too.
        _ => below(error),
    }
}

/// What the libraries below say.
fn below(error: &(dyn StdError + 'static)) -> CallFailure {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<ConnectionError>() {
            return of_quic(error);
        }
        // What is inside an error of a socket is not its source.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref());
        if let Some(error) = tls {
            return of_tls(error);
        }
        next = error.source();
    }
    CallFailure::Other
}

fn of_quic(error: &ConnectionError) -> CallFailure {
    let of_code = |code: TransportErrorCode| match code {
        TransportErrorCode::CONNECTION_REFUSED => CallFailure::Full,
        code => {
            let is_refusal = |alert: &AlertDescription| code == TransportErrorCode::crypto(u8::from(*alert));
            let refused = CERTIFICATE_ALERTS.iter().any(is_refusal);
            if refused { CallFailure::OtherSeed } else { CallFailure::Other }
        }
    };
    match error {
        ConnectionError::TransportError(error) => of_code(error.code),
        ConnectionError::ConnectionClosed(close) => of_code(close.error_code),
        ConnectionError::TimedOut | ConnectionError::Reset => CallFailure::Nobody,
        _ => CallFailure::Other,
    }
}

fn of_tls(error: &rustls::Error) -> CallFailure {
    match error {
        rustls::Error::InvalidCertificate(_) => CallFailure::OtherSeed,
        rustls::Error::AlertReceived(alert) if CERTIFICATE_ALERTS.contains(alert) => CallFailure::OtherSeed,
        _ => CallFailure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_this_machine_does_not_give_is_not_taken_for_a_node_that_is_not_there() {
        let failure = |kind: io::ErrorKind| PeerError::socket("calling", kind.into()).call_failure();
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut, io::ErrorKind::HostUnreachable] {
            assert_eq!(failure(kind), CallFailure::Nobody, "{kind}");
        }
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::AddrNotAvailable, io::ErrorKind::OutOfMemory] {
            assert_eq!(failure(kind), CallFailure::Other, "{kind}");
        }
        let too_many_files = PeerError::socket("calling", io::Error::from_raw_os_error(24));
        assert_eq!(too_many_files.call_failure(), CallFailure::Other);
        let refused = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        let inside = PeerError::socket("calling", io::Error::new(io::ErrorKind::InvalidData, refused));
        assert_eq!(inside.call_failure(), CallFailure::OtherSeed);
    }
}
