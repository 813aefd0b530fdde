//! Takes the streams that peers open for the service, and serves them side by side.

use super::super::Node;
use super::{PURPOSE, StorageService};
use crate::id::NodeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Streams that are served at once: with two pieces each, 128 MiB.
pub const MAX_STREAMS: usize = 256;
/// Streams of one owner among them, so that one does not keep all others out.
pub const MAX_STREAMS_PER_OWNER: usize = 128;

/// Serves what peers ask of the service until the node or this is stopped, and returns when the last stream is at its end.
///
/// A stream beyond the bounds is given up at once, and never waits: a store that holds some of the streams that it needs
/// would wait for others of its own. Streams for other services are given up too.
pub async fn run(service: StorageService, node: Node, stopping: CancellationToken) {
    let Some(mut incoming) = node.services() else { return };
    let (tasks, turns) = (TaskTracker::new(), Arc::new(Turns::default()));
    loop {
        let stream = tokio::select! {
            stream = incoming.next() => stream,
            () = stopping.cancelled() => None,
        };
        let Some(stream) = stream else { break };
        match Turn::take(&turns, stream.session.peer()) {
            Some(turn) if stream.service == PURPOSE => {
                let service = service.clone();
                tasks.spawn(async move {
                    service.serve(stream).await;
                    drop(turn);
                });
            }
            _ => stream.stream.send.give_up(),
        }
    }
    drop(incoming);
    tasks.close();
    tasks.wait().await;
}

/// How many streams of whom are served.
#[derive(Debug, Default)]
struct Turns {
    by_owner: Mutex<HashMap<NodeId, usize>>,
}

impl Turns {
    fn by_owner(&self) -> MutexGuard<'_, HashMap<NodeId, usize>> {
        self.by_owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream among them; given back when dropped.
#[derive(Debug)]
struct Turn {
    turns: Arc<Turns>,
    owner: NodeId,
}

impl Turn {
    fn take(turns: &Arc<Turns>, owner: NodeId) -> Option<Self> {
        let mut by_owner = turns.by_owner();
        let all: usize = by_owner.values().sum();
        let own = by_owner.get(&owner).copied().unwrap_or(0);
        if all >= MAX_STREAMS || own >= MAX_STREAMS_PER_OWNER {
            return None;
        }
        by_owner.insert(owner, own + 1);
        drop(by_owner);
        Some(Self { turns: Arc::clone(turns), owner })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut by_owner = self.turns.by_owner();
        if let Some(own) = by_owner.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                by_owner.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_leaves_room_for_others_and_all_of_them_have_a_bound() {
        let turns = Arc::new(Turns::default());
        let take = |owner: u8| Turn::take(&turns, NodeId([owner; 32]));
        let greedy: Vec<_> = std::iter::from_fn(|| take(1)).collect();
        assert_eq!(greedy.len(), MAX_STREAMS_PER_OWNER);
        let others: Vec<_> = (2..).map_while(take).collect();
        assert_eq!(greedy.len() + others.len(), MAX_STREAMS);
        drop(greedy);
        assert!(take(1).is_some());
        drop(others);
        assert!(turns.by_owner().is_empty());
    }
}
