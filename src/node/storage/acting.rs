//! In whose place a peer acts, and what it may do there.

use super::refusal::Refusal;
use crate::id::NodeId;
use crate::peer::storage::{RefusalKind, StorageRequest};
use crate::peer::{GrantRights, NodeGrant, Right};
use std::time::{SystemTime, UNIX_EPOCH};

/// Whose shards a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acting {
    /// Who asks.
    pub(super) peer: NodeId,
    /// Whose shards they are.
    pub(super) owner: NodeId,
    /// What the owner granted; `None` for the owner itself, who may do anything.
    granted: Option<GrantRights>,
}

impl Acting {
    /// A peer with what it showed. Its id was proved by the session.
    pub(super) fn of(peer: NodeId, grant: Option<&NodeGrant>) -> Result<Self, Refusal> {
        let Some(grant) = grant else { return Ok(Self { peer, owner: peer, granted: None }) };
        match grant.check(peer, now_s()) {
            Ok(rights) => Ok(Self { peer, owner: grant.owner(), granted: Some(rights) }),
            Err(error) => Err(Refusal::new(RefusalKind::Denied, error.to_string())),
        }
    }

    /// Whether it may ask this.
    pub(super) fn check(&self, request: &StorageRequest) -> Result<(), Refusal> {
        let Some(rights) = self.granted else { return Ok(()) };
        match right_for(request) {
            Some(right) if rights.allow(right) => Ok(()),
            Some(Right::Delete) => Err(denied("the grant does not allow to delete")),
            Some(_) => Err(denied("the grant allows to read only")),
            None => Err(denied("no grant allows this: it is the owner's own")),
        }
    }

    /// Whether they are its own.
    pub(super) fn is_owner(&self) -> bool {
        self.granted.is_none()
    }

    /// Whether it may take away what is whole.
    pub(super) fn may_delete(&self) -> bool {
        self.granted.is_none_or(|rights| rights.allow(Right::Delete))
    }
}

pub(super) fn denied(reason: &str) -> Refusal {
    Refusal::new(RefusalKind::Denied, reason)
}

/// `None` for what an owner lets nobody do.
fn right_for(request: &StorageRequest) -> Option<Right> {
    match request {
        StorageRequest::Read { .. }
        | StorageRequest::Head(_)
        | StorageRequest::List { .. }
        | StorageRequest::Stats
        | StorageRequest::ReadMark
        | StorageRequest::Notices { .. }
        | StorageRequest::Challenge { .. }
        | StorageRequest::Scrub { .. }
        | StorageRequest::TellDamage { .. } => Some(Right::Read),
        StorageRequest::Create(_) | StorageRequest::Replace(_) | StorageRequest::ClearUnfinished(_) => {
            Some(Right::Repair)
        }
        StorageRequest::Delete(_) => Some(Right::Delete),
        StorageRequest::WriteMark(_) => None,
    }
}

/// The node's clock, by which grants end. One that stands before 1970 lets them hold.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
