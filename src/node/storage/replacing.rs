//! Replacements of one shard come one after another.
//!
//! What is replaced counts for the bytes that take its place. It can do so once: else as many as are begun at the same time would
//! each have the room of the whole shard, beyond every quota.

use super::refusal::Refusal;
use crate::id::ShardId;
use crate::peer::storage::RefusalKind;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

/// How long a replacement waits for another of the same shard before it is refused: less than whoever asks waits for an answer.
const TURN_DEADLINE: Duration = Duration::from_secs(10);

/// One owner's shards that are being replaced.
#[derive(Debug, Default)]
pub(super) struct Replacing {
    turns: Mutex<HashMap<ShardId, Weak<tokio::sync::Mutex<()>>>>,
}

/// Held while a shard is replaced.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Replacing {
    /// Waits for the turn of a shard, in the order in which it was asked for, and not for ever.
    pub(super) async fn turn(&self, shard: ShardId) -> Result<Turn, Refusal> {
        let turn = self.turn_of(shard);
        let under_way = |_| {
            let reason = format!("this shard is being replaced already, and no turn came within {TURN_DEADLINE:?}");
            Refusal::new(RefusalKind::Transient, reason)
        };
        timeout(TURN_DEADLINE, turn.lock_owned()).await.map_err(under_way)
    }

    fn turn_of(&self, shard: ShardId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(&shard).and_then(Weak::upgrade) {
            return turn;
        }
        // There are no more of these than streams.
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(shard, Arc::downgrade(&turn));
        turn
    }
}
