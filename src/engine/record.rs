//! What is kept: messages, sessions, proofs and peers, and in which lists each of them stands.

use crate::chamber::Purpose;
use crate::id::{BackendId, MessageId, ObjectId, PeerId, ProofId, SessionId};
use crate::vault::Blob;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A message to or from a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What it is called.
    pub id: MessageId,
    /// Whom it came from or goes to.
    pub peer: PeerId,
    /// When it was first saved, in milliseconds since 1970. Saving sets it, and never to an earlier time than that of what
    /// was saved before.
    pub saved_ms: i64,
    /// What it says.
    pub body: Blob,
}

impl Message {
    /// One that was not saved yet.
    pub fn new(id: MessageId, peer: PeerId, body: impl Into<Vec<u8>>) -> Self {
        Self { id, peer, saved_ms: 0, body: Blob(body.into()) }
    }
}

/// A session with a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// What it is called.
    pub id: SessionId,
    /// With whom it is.
    pub peer: PeerId,
    /// When it was first saved, in milliseconds since 1970; saving sets it.
    pub saved_ms: i64,
    /// What else is known of it.
    pub body: Blob,
}

impl Session {
    /// One that was not saved yet.
    pub fn new(id: SessionId, peer: PeerId, body: impl Into<Vec<u8>>) -> Self {
        Self { id, peer, saved_ms: 0, body: Blob(body.into()) }
    }
}

/// How a backend met a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The block it gave is the one that was put there.
    Answered,
    /// It gave another block, or a path that does not lead to the root.
    Wrong {
        /// What was wrong.
        why: String,
    },
    /// It says that it does not have the shard.
    Missing,
    /// It did not answer.
    Silent {
        /// What was heard instead.
        why: String,
    },
}

/// The record of one challenge to a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// What it is called.
    pub id: ProofId,
    /// Which object was asked for.
    pub object: ObjectId,
    /// Which of its shards.
    pub shard_index: u8,
    /// Which block of that.
    pub stripe_index: u64,
    /// Who was asked.
    pub backend: BackendId,
    /// How it was met.
    pub outcome: Outcome,
    /// When it was first saved, in milliseconds since 1970; saving sets it.
    pub saved_ms: i64,
    /// The proof itself, or what else is known.
    pub body: Blob,
}

/// A node that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Who it is.
    pub id: PeerId,
    /// When it was first saved, in milliseconds since 1970; saving sets it.
    pub saved_ms: i64,
    /// What is known of it.
    pub body: Blob,
}

impl Peer {
    /// One that was not saved yet.
    pub fn new(id: PeerId, body: impl Into<Vec<u8>>) -> Self {
        Self { id, saved_ms: 0, body: Blob(body.into()) }
    }
}

/// Which sort of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Collection {
    /// [`Message`]s.
    Messages,
    /// [`Session`]s.
    Sessions,
    /// [`Proof`]s.
    Proofs,
    /// [`Peer`]s.
    Peers,
    /// Values under names.
    Metadata,
}

impl Collection {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Messages, Self::Sessions, Self::Proofs, Self::Peers, Self::Metadata];

    pub(super) const fn purpose(self) -> Purpose {
        match self {
            Self::Messages => own_purpose(1),
            Self::Sessions => own_purpose(2),
            Self::Proofs => own_purpose(3),
            Self::Peers => own_purpose(4),
            Self::Metadata => own_purpose(5),
        }
    }
}

/// One of the engine's purposes; they are few.
pub(super) const fn own_purpose(number: u8) -> Purpose {
    Purpose::own(number).expect("there are more purposes than the engine has")
}

/// A list in which records stand, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub(super) enum ListName {
    Messages,
    MessagesOf(PeerId),
    Proofs,
    ProofsOf(ObjectId),
    ProofsBy(BackendId),
}

/// What all sorts of records have.
pub(super) trait Record: Serialize + DeserializeOwned {
    const COLLECTION: Collection;

    /// The bytes of its id.
    fn key(&self) -> &[u8];

    /// Where it stands; always as many, each at its place among them.
    fn lists(&self) -> Vec<ListName> {
        Vec::new()
    }

    fn saved_ms(&mut self) -> &mut i64;
}

macro_rules! record {
    ($type:ident, $collection:ident $(, |$record:ident| $lists:expr)?) => {
        impl Record for $type {
            const COLLECTION: Collection = Collection::$collection;

            fn key(&self) -> &[u8] {
                self.id.as_bytes()
            }

            fn saved_ms(&mut self) -> &mut i64 {
                &mut self.saved_ms
            }

            $(fn lists(&self) -> Vec<ListName> {
                let $record = self;
                $lists
            })?
        }
    };
}

record!(Message, Messages, |message| vec![ListName::Messages, ListName::MessagesOf(message.peer)]);
record!(Session, Sessions);
record!(Proof, Proofs, |proof| vec![
    ListName::Proofs,
    ListName::ProofsOf(proof.object),
    ListName::ProofsBy(proof.backend)
]);
record!(Peer, Peers);
