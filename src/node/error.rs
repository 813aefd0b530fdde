//! What can go wrong with a node.

use crate::backend;
use crate::id::NodeId;
use crate::peer::transport::{PeerError, SessionId};

/// A failed operation of a node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The node is stopped, or about to be.
    #[error("the node is stopped")]
    Stopped,
    /// There is no such session any more.
    #[error("there is no session {0}")]
    NoSession(SessionId),
    /// More streams of messages than one session may have.
    #[error("a session has at most {limit} streams of messages")]
    TooManyStreams {
        /// How many it may have.
        limit: usize,
    },
    /// The peer does not take what is sent.
    #[error("the peer did not take a message in time")]
    TimedOut,
    /// The folder in which shards are kept for peers.
    #[error("keeping shards for peers")]
    Storage(#[from] backend::Error),
    /// The shards of an owner could not be checked.
    #[error("the shards of {owner} could not be checked: {why}")]
    Unscrubbed {
        /// Whose they are.
        owner: NodeId,
        /// What was in the way.
        why: String,
    },
    /// The session or its transport.
    #[error(transparent)]
    Peer(#[from] PeerError),
}
