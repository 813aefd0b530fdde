//! What carries a session's streams: QUIC or WebSocket.

use super::super::TransportKind;
use super::super::handshake::Admitted;
use super::PeerError;
use super::error::CloseReason;
use super::gate::Pass;
use super::mux::Mux;
use super::stream::PeerStream;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

/// What a session that is closed says over QUIC.
const OVER: quinn::VarInt = quinn::VarInt::from_u32(0);

/// A connection to a peer that is known.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) link: Link,
    pub(super) admitted: Admitted,
    pub(super) remote: SocketAddr,
    /// The place that it holds, where it was the peer that called.
    pub(super) pass: Option<Pass>,
}

#[derive(Debug)]
pub(super) enum Link {
    Quic(quinn::Connection),
    WebSocket(Mux),
}

/// What went over a connection: everything, with what the transport adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// To the peer.
    pub sent_bytes: u64,
    /// From the peer.
    pub received_bytes: u64,
    /// Datagrams to the peer; over TCP, writes.
    pub sent_packets: u64,
    /// Datagrams from the peer; over TCP, reads.
    pub received_packets: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.sent_packets += other.sent_packets;
        self.received_packets += other.received_packets;
    }
}

impl Link {
    pub(super) fn transport(&self) -> TransportKind {
        match self {
            Self::Quic(_) => TransportKind::Quic,
            Self::WebSocket(_) => TransportKind::WebSocket,
        }
    }

    pub(super) async fn open(&self) -> Result<PeerStream, PeerError> {
        match self {
            Self::Quic(connection) => {
                let (send, receive) = connection.open_bi().await.map_err(PeerError::quic)?;
                Ok(PeerStream::of_quic(send, receive))
            }
            Self::WebSocket(mux) => mux.open().await.map(PeerStream::of_mux),
        }
    }

    pub(super) async fn accept(&self) -> Result<PeerStream, PeerError> {
        match self {
            Self::Quic(connection) => {
                let (send, receive) = connection.accept_bi().await.map_err(PeerError::quic)?;
                Ok(PeerStream::of_quic(send, receive))
            }
            Self::WebSocket(mux) => {
                mux.accept().await.map(PeerStream::of_mux).ok_or(PeerError::Closed(CloseReason::Ended))
            }
        }
    }

    pub(super) fn close(&self) {
        match self {
            Self::Quic(connection) => connection.close(OVER, b""),
            Self::WebSocket(mux) => mux.close(),
        }
    }

    /// Waits until it ended, by whichever side.
    pub(super) async fn ended(&self) {
        match self {
            Self::Quic(connection) => drop(connection.closed().await),
            Self::WebSocket(mux) => mux.closed().await,
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        match self {
            Self::Quic(connection) => {
                let stats = connection.stats();
                Traffic {
                    sent_bytes: stats.udp_tx.bytes,
                    received_bytes: stats.udp_rx.bytes,
                    sent_packets: stats.udp_tx.datagrams,
                    received_packets: stats.udp_rx.datagrams,
                }
            }
            Self::WebSocket(mux) => Traffic {
                sent_bytes: mux.meter.sent_bytes.load(Ordering::Relaxed),
                received_bytes: mux.meter.received_bytes.load(Ordering::Relaxed),
                sent_packets: mux.meter.writes.load(Ordering::Relaxed),
                received_packets: mux.meter.reads.load(Ordering::Relaxed),
            },
        }
    }
}
