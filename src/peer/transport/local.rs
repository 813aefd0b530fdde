//! What this side brings to every session: who it is, what it accepts, and how long it waits.

use super::super::handshake::{Admitted, Channel, Handshake, Step};
use super::super::{HeartbeatTimes, NodeIdentity, SeedRing, Tls, TransportKind};
use super::PeerError;
use crate::id::NodeId;
use bytes::Bytes;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long a peer has from the first byte to the proof.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// How much of a handshake is read at a time; it is all that is buffered above TLS before a peer is known.
const READ_BYTES: usize = 256;

/// One node, as its sessions need it.
#[derive(Debug)]
pub struct LocalNode {
    id: NodeId,
    seeds: SeedRing,
    quic: Tls,
    websocket: Tls,
    /// When peers are asked for a sign of life.
    pub(super) times: HeartbeatTimes,
    /// How long a handshake may take.
    pub(super) handshake_deadline: Duration,
    started: Instant,
}

impl LocalNode {
    /// A node that accepts these seeds.
    pub fn new(
        identity: &NodeIdentity,
        seeds: SeedRing,
        times: HeartbeatTimes,
        handshake_deadline: Duration,
    ) -> Result<Self, PeerError> {
        let quic = Tls::new(identity, &seeds, TransportKind::Quic)?;
        let websocket = Tls::new(identity, &seeds, TransportKind::WebSocket)?;
        Ok(Self { id: identity.id(), seeds, quic, websocket, times, handshake_deadline, started: Instant::now() })
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    pub(super) fn tls(&self, transport: TransportKind) -> &Tls {
        match transport {
            TransportKind::Quic => &self.quic,
            TransportKind::WebSocket => &self.websocket,
        }
    }

    /// How long a host may take to give any sign: one that is there needs two round trips for it, and the rest of the
    /// deadline is for what is then computed.
    pub(super) fn first_answer_deadline(&self) -> Duration {
        self.handshake_deadline / 2
    }

    /// Milliseconds since this was made: the clock of handshakes and heartbeats.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Proves itself to the peer that it called, and hears its proof.
    pub(super) async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        channel: Channel,
    ) -> Result<Admitted, PeerError> {
        let (handshake, greeting) = Handshake::initiator(self.id, &self.seeds, channel, self.deadline_ms())?;
        write(stream, &greeting).await?;
        self.hear(stream, handshake).await
    }

    /// Hears the proof of a peer that called, and answers with its own.
    pub(super) async fn welcome<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        channel: Channel,
    ) -> Result<Admitted, PeerError> {
        let handshake = Handshake::responder(self.id, &self.seeds, channel, self.deadline_ms())?;
        self.hear(stream, handshake).await
    }

    fn deadline_ms(&self) -> u64 {
        let wait = u64::try_from(self.handshake_deadline.as_millis()).unwrap_or(u64::MAX);
        self.now_ms().saturating_add(wait)
    }

    async fn hear<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        mut handshake: Handshake,
    ) -> Result<Admitted, PeerError> {
        let mut room = [0; READ_BYTES];
        loop {
            let read = stream.read(&mut room).await;
            let read = read.map_err(|error| PeerError::socket("waiting for the peer's proof", error))?;
            if read == 0 {
                return Err(PeerError::Cut);
            }
            if let Step::Done { admitted, answer } = handshake.receive(&room[..read], self.now_ms())? {
                write(stream, &answer.unwrap_or_default()).await?;
                return Ok(admitted);
            }
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &Bytes) -> Result<(), PeerError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    written.await.map_err(|error| PeerError::socket("sending a proof", error))
}
