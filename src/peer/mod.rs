//! Sessions between nodes that share a seed.
//!
//! *What it is.* Who may talk ([`GroupSeed`], [`SeedRing`]) and who one is ([`NodeIdentity`]); the certificates and the
//! [`Tls`] that follow from them; the [`Handshake`] above TLS, in which both sides prove that they have the seed; frames
//! and the messages in them; when a peer is gone ([`Heartbeat`]), when it is tried again ([`Backoff`]), where it is
//! ([`PeerAddress`]) and whether it is the same as ever ([`Pins`]); and by whose word it acts for another ([`NodeGrant`]).
//!
//! `src/peer/PROTOCOL.md` has it byte by byte.
//!
//! *What it knows.* Bytes in, bytes out. Time and randomness are arguments.
//!
//! *What it does not know.* Files, disks; what the streams carry, but for the words of [`storage`].
//!
//! *Invariants.* A peer is known when its proof over this one channel was right, and not before. What came from a peer is
//! measured before anything is held for it; before it is known that is at most [`MAX_HANDSHAKE_FRAME_BYTES`] above TLS. Every
//! parser takes every bytes. No clock decides who is admitted.
//!
//! ```text
//!      frames · handshake · heartbeat · messages          pure
//!      ───────────────── streams ─────────────────
//!             QUIC │ WebSocket + multiplexer
//!      TLS 1.3, X25519MLKEM768, certificates on both sides
//!              UDP │ TCP
//! ```

mod address;
mod backoff;
mod certificate;
mod frame;
mod grant;
mod handshake;
mod heartbeat;
mod identity;
mod message;
mod pins;
mod seed;
pub mod storage;
mod tls;
pub mod transport;
mod wire;

pub use address::{AddressError, DEFAULT_PORT, PeerAddress};
pub use backoff::{Backoff, BackoffTimes};
pub use certificate::CertificateError;
pub use frame::{
    FRAME_HEADER_BYTES, FrameReader, MAX_HANDSHAKE_FRAME_BYTES, MAX_MESSAGE_BYTES, frame, frame_header,
    read_frame_header,
};
pub use grant::{GRANT_BYTES, GRANT_TOLERANCE_S, GrantError, GrantRights, NodeGrant, Right};
pub use handshake::{Admitted, Channel, Handshake, HandshakeError, MAX_VERSION, MIN_VERSION, Step};
pub use heartbeat::{Beat, Heartbeat, HeartbeatTimes};
pub use identity::{NodeIdentity, node_id};
pub use message::{Control, MAX_CONTROL_BYTES, STREAM_HEADER_BYTES, StreamPurpose};
pub use pins::{MemoryPins, PinError, Pins, compare};
pub use seed::{GroupSeed, MAX_SEED_FILE_BYTES, MAX_SEED_TEXT_BYTES, MAX_SEEDS, SeedError, SeedRing};
pub use tls::{Tls, TlsError, TransportKind};
pub use wire::WireError;

#[cfg(test)]
mod tests;
