//! The handshake above TLS: both sides prove in this one channel, in their own role, that they have the group's seed.
//!
//! ```text
//!  initiator                                                   responder
//!     greeting   versions · own id · peer's id · a MAC for each seed  →
//!  ←  welcome    version · own id · peer's id · MAC over all of it
//! ```
//!
//! Each MAC covers the key that TLS exported for the channel, so that what was recorded of one is worth nothing in another,
//! and the sender's role and both ids, so that nothing can be sent back to where it came from. The initiator knows its peer
//! when the welcome is right, and not before: TLS is through on its side before the other has looked at its certificate.

use super::frame::{FrameReader, MAX_HANDSHAKE_FRAME_BYTES, frame};
use super::identity::node_id;
use super::seed::{MAX_SEEDS, SeedRing};
use super::wire::{Fields, WireError};
use crate::crypto::PublicKey;
use crate::id::NodeId;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use std::fmt;
use zeroize::Zeroizing;

/// The versions of the protocol that are spoken here.
pub const MIN_VERSION: u16 = 1;
/// The newest.
pub const MAX_VERSION: u16 = 1;

const GREETING_MAGIC: [u8; 8] = *b"shard-hi";
const WELCOME_MAGIC: [u8; 8] = *b"shard-ok";
const MAC_BYTES: usize = 32;
const INITIATOR: &[u8] = b"initiator";
const RESPONDER: &[u8] = b"responder";

/// Why a peer is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The message is none.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The other end is this node itself.
    #[error("the peer has this node's own id: a node does not talk to itself")]
    OwnId,
    /// The ids in the message are not those of the channel's two ends.
    #[error("the peer names other nodes than those that the channel joins")]
    OtherNodes,
    /// The proof is wrong: another seed, another channel, another role.
    #[error("the peer did not prove that it has the group's seed")]
    NoProof,
    /// No version in common.
    #[error("the peer speaks versions {min} to {max} of the protocol, this program {MIN_VERSION} to {MAX_VERSION}")]
    Version {
        /// The oldest it speaks.
        min: u16,
        /// The newest.
        max: u16,
    },
    /// It took too long.
    #[error("the peer did not prove who it is in time")]
    Late,
    /// More came than the one message that was due.
    #[error("the peer sent more than was due")]
    Surplus,
    /// The handshake is over already.
    #[error("the handshake is over")]
    Over,
}

/// What the TLS channel below says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Channel {
    /// The key in the certificate that the other end showed, and proved to have.
    pub peer_key: PublicKey,
    /// Keying material that both ends of this one channel have, and no one else.
    pub exporter: [u8; 32],
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("peer_key", &self.peer_key).finish_non_exhaustive()
    }
}

/// A peer that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Its id.
    pub peer: NodeId,
    /// The key that the id follows from.
    pub peer_key: PublicKey,
    /// The version that both speak.
    pub version: u16,
}

/// What a handshake does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It waits for more bytes.
    More,
    /// The peer is known; the answer, if there is one, is to be sent.
    Done {
        /// Who it is.
        admitted: Admitted,
        /// What to send first.
        answer: Option<Bytes>,
    },
}

/// One side of a handshake: bytes in, bytes out. It holds less than [`MAX_HANDSHAKE_FRAME_BYTES`] and its keys.
pub struct Handshake {
    channel: Channel,
    own: NodeId,
    peer: NodeId,
    keys: Vec<Zeroizing<[u8; 32]>>,
    deadline_ms: u64,
    reader: FrameReader,
    state: State,
}

enum State {
    /// An initiator that sent this greeting.
    Greeted(Bytes),
    /// A responder.
    Listening,
    Over,
}

impl Handshake {
    /// The side that began the session, with the bytes to send.
    pub fn initiator(
        own: NodeId,
        seeds: &SeedRing,
        channel: Channel,
        deadline_ms: u64,
    ) -> Result<(Self, Bytes), HandshakeError> {
        let mut handshake = Self::new(own, seeds, channel, deadline_ms)?;
        let head = greeting_head(handshake.own, handshake.peer);
        let macs = handshake.keys.iter().map(|key| mac(key, INITIATOR, &handshake.channel, &[&head]));
        let mut greeting = head.clone();
        greeting.push(handshake.keys.len() as u8);
        greeting.extend(macs.flatten());
        let greeting = Bytes::from(greeting);
        let framed = frame(&greeting)?;
        handshake.state = State::Greeted(greeting);
        Ok((handshake, framed))
    }

    /// The side that was called.
    pub fn responder(
        own: NodeId,
        seeds: &SeedRing,
        channel: Channel,
        deadline_ms: u64,
    ) -> Result<Self, HandshakeError> {
        Self::new(own, seeds, channel, deadline_ms)
    }

    fn new(own: NodeId, seeds: &SeedRing, channel: Channel, deadline_ms: u64) -> Result<Self, HandshakeError> {
        let peer = node_id(&channel.peer_key);
        if peer == own {
            return Err(HandshakeError::OwnId);
        }
        let keys = seeds.seeds().iter().map(|seed| seed.session_key()).collect();
        let reader = FrameReader::new(MAX_HANDSHAKE_FRAME_BYTES);
        Ok(Self { channel, own, peer, keys, deadline_ms, reader, state: State::Listening })
    }

    /// When it is over at the latest.
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// Takes what came. After an error or the end it takes nothing more.
    pub fn receive(&mut self, mut bytes: &[u8], now_ms: u64) -> Result<Step, HandshakeError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        if matches!(state, State::Over) {
            return Err(HandshakeError::Over);
        }
        if now_ms >= self.deadline_ms {
            return Err(HandshakeError::Late);
        }
        let Some(content) = self.reader.take(&mut bytes)? else {
            self.state = state;
            return Ok(Step::More);
        };
        if !bytes.is_empty() {
            return Err(HandshakeError::Surplus);
        }
        match state {
            State::Greeted(greeting) => self.read_welcome(&greeting, &content),
            _ => self.read_greeting(&content),
        }
    }

    fn read_greeting(&self, content: &[u8]) -> Result<Step, HandshakeError> {
        let mut fields = Fields::new(content);
        expect_magic(fields.array()?, GREETING_MAGIC, "greeting")?;
        let (min, max) = (fields.u16()?, fields.u16()?);
        let (initiator, responder) = (NodeId(fields.array()?), NodeId(fields.array()?));
        let count = usize::from(fields.u8()?);
        if count == 0 || count > MAX_SEEDS {
            return Err(WireError::Unknown { what: "number of proofs", value: count as u64 }.into());
        }
        let macs = (0..count).map(|_| fields.array()).collect::<Result<Vec<[u8; MAC_BYTES]>, _>>()?;
        fields.end()?;
        self.expect_nodes(initiator, responder)?;
        let head = &content[..content.len() - 1 - count * MAC_BYTES];
        let is_proved = |key: &&Zeroizing<[u8; 32]>| has_mac(&macs, &mac(key, INITIATOR, &self.channel, &[head]));
        let key = self.keys.iter().find(is_proved).ok_or(HandshakeError::NoProof)?;
        if min > MAX_VERSION || max < MIN_VERSION || min > max {
            return Err(HandshakeError::Version { min, max });
        }
        let version = max.min(MAX_VERSION);
        let mut welcome = welcome_head(version, self.own, self.peer);
        let proof = mac(key, RESPONDER, &self.channel, &[content, &welcome]);
        welcome.extend_from_slice(&proof);
        Ok(Step::Done { admitted: self.admitted(version), answer: Some(frame(&welcome)?) })
    }

    fn read_welcome(&self, greeting: &[u8], content: &[u8]) -> Result<Step, HandshakeError> {
        let mut fields = Fields::new(content);
        expect_magic(fields.array()?, WELCOME_MAGIC, "welcome")?;
        let version = fields.u16()?;
        let (responder, initiator) = (NodeId(fields.array()?), NodeId(fields.array()?));
        let proof: [u8; MAC_BYTES] = fields.array()?;
        fields.end()?;
        self.expect_nodes(responder, initiator)?;
        let head = &content[..content.len() - MAC_BYTES];
        let is_proved =
            |key: &Zeroizing<[u8; 32]>| has_mac(&[proof], &mac(key, RESPONDER, &self.channel, &[greeting, head]));
        if !self.keys.iter().any(is_proved) {
            return Err(HandshakeError::NoProof);
        }
        if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
            return Err(HandshakeError::Version { min: version, max: version });
        }
        Ok(Step::Done { admitted: self.admitted(version), answer: None })
    }

    /// The sender's id must be that of the channel's other end, and the receiver's this node's.
    fn expect_nodes(&self, sender: NodeId, receiver: NodeId) -> Result<(), HandshakeError> {
        let is_right = sender == self.peer && receiver == self.own;
        if is_right { Ok(()) } else { Err(HandshakeError::OtherNodes) }
    }

    fn admitted(&self, version: u16) -> Admitted {
        Admitted { peer: self.peer, peer_key: self.channel.peer_key, version }
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("own", &self.own).field("peer", &self.peer).finish_non_exhaustive()
    }
}

fn greeting_head(own: NodeId, peer: NodeId) -> Vec<u8> {
    let versions = [MIN_VERSION.to_le_bytes(), MAX_VERSION.to_le_bytes()].concat();
    [GREETING_MAGIC.as_slice(), &versions, own.as_bytes(), peer.as_bytes()].concat()
}

fn welcome_head(version: u16, own: NodeId, peer: NodeId) -> Vec<u8> {
    [WELCOME_MAGIC.as_slice(), &version.to_le_bytes(), own.as_bytes(), peer.as_bytes()].concat()
}

/// Under a role, in a channel; lengths keep the parts apart.
fn mac(key: &[u8; 32], role: &[u8], channel: &Channel, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in [role, &channel.exporter].iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
}

/// What a program of any version proves itself with, for tests of versions that do not exist yet.
#[cfg(test)]
pub(super) fn initiators_proof(key: &[u8; 32], channel: &Channel, head: &[u8]) -> [u8; MAC_BYTES] {
    mac(key, INITIATOR, channel, &[head])
}

/// Each comparison is in constant time.
fn has_mac(macs: &[[u8; MAC_BYTES]], wanted: &[u8; MAC_BYTES]) -> bool {
    macs.iter().any(|mac| verify_slices_are_equal(mac, wanted).is_ok())
}

fn expect_magic(found: [u8; 8], wanted: [u8; 8], what: &'static str) -> Result<(), WireError> {
    let unknown = WireError::Unknown { what, value: u64::from_be_bytes(found) };
    if found == wanted { Ok(()) } else { Err(unknown) }
}
