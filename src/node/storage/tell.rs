//! What an owner is told when it asks what there is to tell.

use super::StorageService;
use super::acting::Acting;
use super::refusal::Refusal;
use crate::id::NodeId;
use crate::peer::storage::{OwnerNotice, RefusalKind, StorageAnswer};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Keeps what owners are to be told.
pub trait KeepsNotices: Send + Sync {
    /// The notices for an owner behind the one with this number, the oldest first and as many as an answer takes; whether it is
    /// the owner itself that asks, which has the others then. May wait for the disk.
    fn after(&self, owner: NodeId, number: u64, is_owner: bool) -> Result<Vec<OwnerNotice>, NotKept>;
}

/// Why nothing can be told.
pub type NotKept = Box<dyn std::error::Error + Send + Sync>;

/// Of whom nothing is kept here nothing is kept to be told either.
pub(super) async fn notices(service: &StorageService, acting: Acting, after: u64) -> Result<StorageAnswer, Refusal> {
    let none = StorageAnswer::Notices(Vec::new());
    let (Some(kept), Some(_)) = (&service.notices, service.owners.find(acting.owner).await?) else { return Ok(none) };
    let kept = Arc::clone(kept);
    let asked = spawn_blocking(move || kept.after(acting.owner, after, acting.is_owner())).await;
    match asked.unwrap_or_else(|error| Err(error.into())) {
        Ok(notices) => Ok(StorageAnswer::Notices(notices)),
        Err(error) => {
            tracing::error!("what an owner is to be told could not be read: {error}");
            Err(Refusal::new(RefusalKind::Failed, "the node cannot read what it has to tell"))
        }
    }
}
