//! What a node remembers, in its engine: whom it met, when, and which key each address had at first.

use crate::crypto::PublicKey;
use crate::engine::{self, Peer, StorageEngine};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeId, PeerId, SessionId};
use crate::peer::transport::{CloseReason, Session, SessionSide, Traffic};
use crate::peer::{PeerAddress, PinError, Pins, TransportKind, compare, node_id};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Peers that are remembered: whoever has the seed can make up more of them.
const MAX_PEERS: usize = 4096;
/// Addresses whose keys are remembered.
const MAX_PINS: usize = 4096;
/// Sessions that are remembered.
const MAX_SESSIONS: usize = 1000;
/// Under which name the pins are kept.
const PINS: &str = "pins";
/// Under which name the addresses are kept that a node calls by itself.
const CALLS: &str = "calls";

/// How a session went, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionEnd {
    /// It was closed here.
    Here,
    /// The peer said goodbye.
    Goodbye,
    /// The peer was silent for too long.
    Silent,
    /// The peer sent what makes no sense.
    Broken,
    /// The transport below ended.
    Cut,
    /// This node was killed.
    Killed,
}

impl From<CloseReason> for SessionEnd {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Here => Self::Here,
            CloseReason::Goodbye => Self::Goodbye,
            CloseReason::Silent => Self::Silent,
            CloseReason::Broken => Self::Broken,
            CloseReason::Ended => Self::Cut,
        }
    }
}

/// What is kept of a peer beside its id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PeerBody {
    pub(super) key: String,
    pub(super) remote: SocketAddr,
    pub(super) last_seen_ms: i64,
    pub(super) session_count: u64,
}

/// A node that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// Who it is.
    pub id: PeerId,
    /// Where it can be called, as far as it was.
    pub addresses: Vec<PeerAddress>,
    /// Where it was seen last; `None` where it was called by another process alone.
    pub remote: Option<SocketAddr>,
    /// When it was met, in milliseconds since 1970.
    pub first_seen_ms: Option<i64>,
    /// When it was last there, to a minute.
    pub last_seen_ms: Option<i64>,
    /// Sessions that there have been.
    pub session_count: u64,
}

/// A session that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionNote {
    /// Whether it was begun here.
    pub is_own: bool,
    /// Whether it was over WebSocket.
    pub is_websocket: bool,
    /// Where the peer was.
    pub remote: SocketAddr,
    /// When it ended, in milliseconds since 1970; `None` while it has not.
    pub ended_ms: Option<i64>,
    /// How it ended.
    pub end: Option<SessionEnd>,
    /// What was sent over it, with what the transport added.
    pub sent_bytes: u64,
    /// What was received over it.
    pub received_bytes: u64,
}

/// A session that is remembered, with whom and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastSession {
    /// What it is called.
    pub id: SessionId,
    /// With whom it was.
    pub peer: PeerId,
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// How it went.
    pub note: SessionNote,
}

/// A node's records. Clones are the same records.
#[derive(Debug, Clone)]
pub struct Records {
    engine: Arc<StorageEngine>,
}

impl Records {
    /// In this engine.
    pub fn new(engine: Arc<StorageEngine>) -> Self {
        Self { engine }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<StorageEngine> {
        &self.engine
    }

    /// All peers that were met or called, the last seen first.
    pub fn peers(&self) -> Result<Vec<KnownPeer>> {
        let mut known: BTreeMap<PeerId, KnownPeer> = BTreeMap::new();
        for peer in self.engine.peers().map_err(unkept)? {
            let body: PeerBody = read(&peer.body.0)?;
            let entry = KnownPeer {
                id: peer.id,
                addresses: Vec::new(),
                remote: Some(body.remote),
                first_seen_ms: Some(peer.saved_ms),
                last_seen_ms: Some(body.last_seen_ms),
                session_count: body.session_count,
            };
            known.insert(peer.id, entry);
        }
        for (address, node) in self.pins()? {
            let unmet = |id| KnownPeer {
                id,
                addresses: Vec::new(),
                remote: None,
                first_seen_ms: None,
                last_seen_ms: None,
                session_count: 0,
            };
            known.entry(node.into()).or_insert_with(|| unmet(node.into())).addresses.push(address);
        }
        let mut peers: Vec<_> = known.into_values().collect();
        peers.sort_by_key(|peer| std::cmp::Reverse(peer.last_seen_ms));
        Ok(peers)
    }

    /// The addresses that were called, and who was there at first.
    pub fn pins(&self) -> Result<Vec<(PeerAddress, NodeId)>> {
        let pins: Option<BTreeMap<String, String>> = self.engine.metadata(PINS).map_err(unkept)?;
        let read = |(address, key): (String, String)| {
            let key = public_key(&key)?;
            let address = address.parse().map_err(|error| torn().with_source(error))?;
            Ok((address, node_id(&key)))
        };
        pins.unwrap_or_default().into_iter().map(read).collect()
    }

    /// The addresses to be called by a node that is served: these, and those that it was given before and where somebody
    /// answered. All are kept. An address where somebody was only once asked who is there is not among them.
    pub fn calls(&self, given: &[PeerAddress]) -> Result<Vec<PeerAddress>> {
        let calls = self.engine.transaction(|tx| {
            let mut calls: BTreeSet<String> = tx.metadata(CALLS).map_err(unkept)?.unwrap_or_default();
            let pins: BTreeMap<String, String> = tx.metadata(PINS).map_err(unkept)?.unwrap_or_default();
            let before = calls.clone();
            calls.retain(|address| pins.contains_key(address));
            calls.extend(given.iter().map(ToString::to_string));
            if calls.len() > MAX_PINS {
                return Err(Error::new(ErrorKind::Refused, format!("a node calls at most {MAX_PINS} addresses")).into());
            }
            if calls != before {
                tx.set_metadata(CALLS, &calls).map_err(unkept)?;
            }
            Ok::<_, Carried>(calls)
        });
        let calls = calls.map_err(|Carried(error)| error)?;
        calls.iter().map(|address| address.parse().map_err(|error| torn().with_source(error))).collect()
    }

    /// Forgets what keys the peer had where it was called, or who was at the address, and says at how many addresses. None of
    /// them is called any more.
    pub fn forget(&self, what: &Forgotten) -> Result<usize> {
        self.engine
            .transaction(|tx| {
                let mut pins: BTreeMap<String, String> = tx.metadata(PINS).map_err(unkept)?.unwrap_or_default();
                let before: Vec<String> = pins.keys().cloned().collect();
                match what {
                    Forgotten::Address(address) => drop(pins.remove(&address.to_string())),
                    Forgotten::Peer(peer) => {
                        pins.retain(|_, key| public_key(key).map_or(true, |key| PeerId::from(node_id(&key)) != *peer));
                        tx.delete_peer(*peer).map_err(unkept)?;
                    }
                }
                tx.set_metadata(PINS, &pins).map_err(unkept)?;
                let mut calls: BTreeSet<String> = tx.metadata(CALLS).map_err(unkept)?.unwrap_or_default();
                if let Forgotten::Address(address) = what {
                    calls.remove(&address.to_string());
                }
                let is_forgotten = |address: &String| before.contains(address) && !pins.contains_key(address);
                let count = before.iter().filter(|address| is_forgotten(address)).count();
                calls.retain(|address| !is_forgotten(address));
                tx.set_metadata(CALLS, &calls).map_err(unkept)?;
                Ok::<_, Carried>(count)
            })
            .map_err(|Carried(error)| error)
    }

    /// A session began: notes it and its peer, and gives what it is called.
    pub fn session_began(&self, session: &Session) -> Result<SessionId> {
        let id = SessionId(random()?);
        let note = SessionNote {
            is_own: session.side() == SessionSide::Initiator,
            is_websocket: session.transport() == TransportKind::WebSocket,
            remote: session.remote(),
            ended_ms: None,
            end: None,
            sent_bytes: 0,
            received_bytes: 0,
        };
        self.seen(session, 1)?;
        let peer = session.peer().into();
        self.engine.save_session(engine::Session::new(id, peer, written(&note)?)).map_err(unkept)?;
        Ok(id)
    }

    /// A session is over.
    pub fn session_ended(&self, id: SessionId, end: SessionEnd, traffic: Traffic) -> Result<()> {
        self.engine
            .transaction(|tx| {
                let Some(mut session) = tx.session(id).map_err(unkept)? else { return Ok(()) };
                let mut note: SessionNote = read(&session.body.0)?;
                note.ended_ms = Some(self.engine.now_ms());
                (note.end, note.sent_bytes, note.received_bytes) =
                    (Some(end), traffic.sent_bytes, traffic.received_bytes);
                session.body.0 = written(&note)?;
                tx.save_session(session).map_err(unkept)?;
                Ok::<_, Carried>(())
            })
            .map_err(|Carried(error)| error)
    }

    /// The peer of a session is there now; `more` sessions with it began.
    pub fn seen(&self, session: &Session, more: u64) -> Result<()> {
        let peer = PeerId::from(session.peer());
        self.engine
            .transaction(|tx| {
                let known = tx.peer(peer).map_err(unkept)?.map(|known| read::<PeerBody>(&known.body.0)).transpose()?;
                let body = PeerBody {
                    key: hex::encode(session.peer_key().0),
                    remote: session.remote(),
                    last_seen_ms: self.engine.now_ms(),
                    session_count: known.map_or(0, |known| known.session_count).saturating_add(more),
                };
                tx.save_peer(Peer::new(peer, written(&body)?)).map_err(unkept)?;
                Ok::<_, Carried>(())
            })
            .map_err(|Carried(error)| error)
    }

    /// Sessions that were open when this node was killed are over, and what is more than is kept is forgotten. Before a node
    /// serves, and now and then.
    pub fn tidy(&self, is_starting: bool) -> Result<()> {
        let sessions = self.past_sessions()?;
        if is_starting {
            for session in sessions.iter().filter(|session| session.note.end.is_none()) {
                let traffic = Traffic::default();
                self.session_ended(session.id, SessionEnd::Killed, traffic)?;
            }
        }
        for session in sessions.iter().skip(MAX_SESSIONS).filter(|session| is_starting || session.note.end.is_some()) {
            self.engine.delete_session(session.id).map_err(unkept)?;
        }
        self.forget_peers_beyond(MAX_PEERS)?;
        self.keep_all_to_the_bound()
    }

    /// Forgets the peers that were not seen for longest, where they were called nowhere, and what was said with them.
    pub(super) fn forget_peers_beyond(&self, most: usize) -> Result<()> {
        let peers = self.peers()?;
        let nowhere = |peer: &&KnownPeer| peer.addresses.is_empty();
        for peer in peers.iter().skip(most).filter(nowhere) {
            // The peer goes last: where this is cut short, it goes on the next time.
            self.forget_messages_beyond(Some(peer.id), 0)?;
            self.engine.delete_peer(peer.id).map_err(unkept)?;
        }
        Ok(())
    }

    /// The sessions that are remembered, the newest first.
    pub fn past_sessions(&self) -> Result<Vec<PastSession>> {
        let sessions = self.engine.sessions().map_err(unkept)?.into_iter().map(|session| {
            let note = read(&session.body.0)?;
            Ok(PastSession { id: session.id, peer: session.peer, began_ms: session.saved_ms, note })
        });
        let mut sessions: Vec<PastSession> = sessions.collect::<Result<_>>()?;
        sessions.sort_by_key(|session| (std::cmp::Reverse(session.began_ms), session.id));
        Ok(sessions)
    }
}

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgotten {
    /// Who was at an address.
    Address(PeerAddress),
    /// A peer, wherever it was.
    Peer(PeerId),
}

impl Pins for Records {
    /// The first key at an address is kept for good, durably, before the peer is taken for who it says it is.
    fn check(&self, address: &PeerAddress, key: &PublicKey) -> std::result::Result<(), PinError> {
        let kept = |error: Error| PinError::Kept { address: address.clone(), source: error.into() };
        let pinned = self.engine.transaction(|tx| {
            let mut pins: BTreeMap<String, String> = tx.metadata(PINS).map_err(unkept)?.unwrap_or_default();
            let pinned = pins.get(&address.to_string()).map(|key| public_key(key)).transpose()?;
            if pinned.is_none() {
                if pins.len() >= MAX_PINS {
                    let doing = format!("the keys of {MAX_PINS} addresses are kept already");
                    return Err(Error::new(ErrorKind::Refused, doing).into());
                }
                pins.insert(address.to_string(), hex::encode(key.0));
                tx.set_metadata(PINS, &pins).map_err(unkept)?;
            }
            Ok::<_, Carried>(pinned)
        });
        compare(pinned.map_err(|Carried(error)| kept(error))?, address, key).map(drop)
    }
}

/// An error on its way through a transaction.
pub(super) struct Carried(pub(super) Error);

impl From<Error> for Carried {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<engine::Error> for Carried {
    fn from(error: engine::Error) -> Self {
        Self(unkept(error))
    }
}

/// The engine's word about a node's records.
pub(super) fn unkept(error: engine::Error) -> Error {
    use crate::{chamber, vault};
    let kind = match &error {
        error if error.is_full() => ErrorKind::Space,
        error if error.is_damage() => ErrorKind::Damaged,
        engine::Error::Chamber(chamber::Error::Vault(vault::Error::OtherKey { .. })) => ErrorKind::WrongKey,
        engine::Error::Chamber(chamber::Error::Vault(vault::Error::Busy { .. })) => ErrorKind::Busy,
        engine::Error::Limit { .. } => ErrorKind::Invalid,
        _ => ErrorKind::Local,
    };
    Error::new(kind, "the node's records could not be used").with_source(error)
}

pub(super) fn torn() -> Error {
    Error::new(ErrorKind::Damaged, "a record of the node is not what was written")
}

fn public_key(hex_digits: &str) -> Result<PublicKey> {
    let mut key = [0; 32];
    hex::decode_to_slice(hex_digits, &mut key).map_err(|error| torn().with_source(error))?;
    Ok(PublicKey(key))
}

pub(super) fn written(body: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(body).map_err(|error| torn().with_source(error))
}

pub(super) fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| torn().with_source(error))
}

pub(super) fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| Error::local("the system gives no random bytes", std::io::Error::other(error)))?;
    Ok(bytes)
}
