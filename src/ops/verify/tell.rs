//! What a run found damaged or missing, to be told to the places where somebody looks after them: to each once.

use crate::catalog::ShardState;
use crate::id::{BackendId, ShardId};
use crate::ops::examine::{CopyFinding, Examination};
use crate::peer::storage::MAX_TOLD_SHARDS;
use crate::store::Store;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What was found, place by place: how many shards, and the first of them.
#[derive(Debug, Default)]
pub(super) struct FoundDamage(Mutex<BTreeMap<BackendId, (u64, Vec<ShardId>)>>);

impl FoundDamage {
    /// Takes in what was seen of one object.
    pub(super) fn note(&self, examination: &Examination) {
        let is_bad = |copy: &&CopyFinding| matches!(copy.state, ShardState::Corrupt | ShardState::Missing);
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for copy in examination.copies.iter().filter(is_bad) {
            let Some(backend) = copy.backend else { continue };
            let (count, first) = found.entry(backend).or_default();
            *count += 1;
            if first.len() < MAX_TOLD_SHARDS {
                first.push(ShardId { object: examination.object(), index: copy.index });
            }
        }
    }

    /// Tells all places at once, each once. Whom it does not reach is told next time.
    pub(super) async fn tell(&self, store: &Store) {
        let found = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let tell = async |(backend, (count, shards)): (BackendId, (u64, Vec<ShardId>))| {
            let Some(registered) = store.registry().get(backend) else { return };
            if let Err(error) = registered.backend.tell_damage(count, &shards).await {
                tracing::debug!(backend = registered.name, %error, "it was not told of its damage");
            }
        };
        join_all(found.into_iter().map(tell)).await;
    }
}
