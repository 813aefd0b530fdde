//! The middle depth of the library: a shard set in memory, spread over backends of one's own and fetched back.
//!
//! What is stored is the shards' bytes and nothing else; whoever distributes keeps the [`Distribution`], which has all that
//! is needed to fetch and to prove them. A store keeps that in its catalog and in every shard; see the crate's top.

use super::placement::{PlacementRules, place};
use super::{BackendRegistry, Error, ErrorKind, RegisteredBackend, Result};
use crate::id::{BackendId, ShardId};
use crate::stripe::{ShardSet, ShardSetDescription, ShardSetError};
use bytes::Bytes;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

/// Bytes are handed to a backend in pieces of this size.
const WRITE_BYTES: usize = 256 * 1024;

/// Where the shards of a set went, and what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// What the shards are: enough to fetch, to verify and to decode them.
    pub description: ShardSetDescription,
    /// Which shard is on which backend; those that found no place are absent.
    pub placements: Vec<Placement>,
}

/// Where one shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Which shard.
    pub index: u8,
    /// On which backend.
    pub backend: BackendId,
}

impl BackendRegistry {
    /// Stores every shard that the set has, round-robin over the eligible backends, zones first. A backend that fails is
    /// passed over and its shards go elsewhere.
    ///
    /// `rotation` is where the round begins: one more from set to set spreads the load. The set counts as stored when at
    /// least the write quorum is durable; below it everything is taken back and the last failure is the error.
    pub async fn distribute(&self, set: &ShardSet, rotation: usize) -> Result<Distribution> {
        let mut stored: Vec<Option<usize>> = vec![None; set.geometry().total_shards()];
        let (mut failed, mut made) = (Vec::new(), Vec::new());
        let mut last_error = None;
        loop {
            let candidates = self.candidates(&failed);
            let rules = PlacementRules { data_shards: set.geometry().data_shards(), rotation, zone_limit: None };
            let chosen = place(&candidates, &stored, rules);
            let due: Vec<(usize, usize)> = (0..stored.len())
                .filter(|index| stored[*index].is_none() && set.shards()[*index].is_some())
                .filter_map(|index| Some((index, chosen[index]?)))
                .collect();
            if due.is_empty() {
                break;
            }
            let outcomes = join_all(due.iter().map(|(index, at)| self.store_shard(set, *index, *at))).await;
            for ((index, at), outcome) in due.into_iter().zip(outcomes) {
                match outcome {
                    Ok(outcome) => {
                        stored[index] = Some(at);
                        if outcome == Stored::Made {
                            made.push((index, at));
                        }
                    }
                    Err(error) => {
                        failed.extend(self.at(at).map(|backend| backend.id));
                        last_error = Some(error);
                    }
                }
            }
        }
        let placements: Vec<Placement> = self.placements(&stored);
        if placements.len() < set.geometry().write_quorum() {
            // What was there before is not this call's to delete: it may be all that an earlier one stored.
            let made = made.into_iter().filter_map(|(index, at)| self.placement(index, at)).collect::<Vec<_>>();
            self.take_back(set, &made).await;
            let doing = format!("{} of {} shards found a place", placements.len(), stored.len());
            return Err(last_error.unwrap_or_else(|| Error::new(ErrorKind::NoSpace, doing)));
        }
        Ok(Distribution { description: set.description().clone(), placements })
    }

    /// Fetches what can be fetched of the shards; those that cannot are holes in the set. To tell damage from data, and to
    /// decode, is the codec's: `verify`, `decode`, `repair`.
    pub async fn retrieve(&self, distribution: &Distribution) -> Result<ShardSet, ShardSetError> {
        let description = distribution.description.clone();
        let shard_bytes = description.layout().shard_blocks_bytes();
        let mut shards: Vec<Option<Bytes>> = vec![None; description.geometry().total_shards()];
        let object = description.object();
        let fetches = distribution.placements.iter().map(async |placement| {
            let backend = &self.get(placement.backend)?.backend;
            let shard = ShardId { object, index: placement.index };
            // A shard of another length is damage; no more than its due is read of it.
            let bytes = backend.read(shard, 0..shard_bytes).await.ok()?;
            Some((usize::from(placement.index), bytes))
        });
        for (index, bytes) in join_all(fetches).await.into_iter().flatten() {
            if let Some(slot) = shards.get_mut(index) {
                *slot = Some(bytes);
            }
        }
        ShardSet::from_parts(description, shards)
    }

    async fn store_shard(&self, set: &ShardSet, index: usize, at: usize) -> Result<Stored> {
        let absent = || Error::new(ErrorKind::Failed, format!("storing shard {index}: it is a hole"));
        let (Some(registered), Some(bytes)) = (self.at(at), &set.shards()[index]) else { return Err(absent()) };
        let shard = ShardId { object: set.object(), index: index as u8 };
        match registered.backend.create(shard).await {
            Ok(mut writer) => {
                for start in (0..bytes.len()).step_by(WRITE_BYTES) {
                    let piece = bytes.slice(start..bytes.len().min(start + WRITE_BYTES));
                    if let Err(error) = writer.write(piece).await {
                        writer.abort().await;
                        return Err(error);
                    }
                }
                writer.finish().await.map(|_| Stored::Made)
            }
            // The id of a set follows from its content: the same shard is there already.
            Err(error) if error.kind == ErrorKind::AlreadyExists => {
                same_bytes(registered, shard, bytes).await.map(|()| Stored::WasThere)
            }
            Err(error) => Err(error),
        }
    }

    fn placements(&self, stored: &[Option<usize>]) -> Vec<Placement> {
        stored.iter().enumerate().filter_map(|(index, at)| self.placement(index, (*at)?)).collect()
    }

    fn placement(&self, index: usize, at: usize) -> Option<Placement> {
        Some(Placement { index: index as u8, backend: self.at(at)?.id })
    }

    async fn take_back(&self, set: &ShardSet, placements: &[Placement]) {
        for placement in placements {
            if let Some(registered) = self.get(placement.backend) {
                // Nothing more can be done about a shard that a backend will not delete.
                let _ = registered.backend.delete(ShardId { object: set.object(), index: placement.index }).await;
            }
        }
    }
}

/// How a shard comes to be in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Made,
    WasThere,
}

async fn same_bytes(registered: &RegisteredBackend, shard: ShardId, bytes: &Bytes) -> Result<()> {
    let there = registered.backend.read(shard, 0..bytes.len() as u64).await?;
    if there == *bytes && registered.backend.head(shard).await? == bytes.len() as u64 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::AlreadyExists, format!("storing {shard}: other bytes of that name are there")))
}

#[cfg(test)]
mod tests {
    use super::super::{Effect, Fault, FaultyBackend, MemoryBackend, Operation, When, Zone};
    use super::*;
    use crate::codec::ErasureCodec;
    use crate::id::RedundancyLevel;
    use std::sync::Arc;

    fn registry(count: u8) -> (BackendRegistry, Vec<Arc<FaultyBackend>>) {
        let mut registry = BackendRegistry::default();
        let mut faulty = Vec::new();
        for number in 0..count {
            let place = Arc::new(FaultyBackend::new(Arc::new(MemoryBackend::new()), u64::from(number)));
            faulty.push(Arc::clone(&place));
            let zone = Zone::new(format!("zone-{number}")).expect("a zone");
            let backend = RegisteredBackend::new(BackendId([number; 16]), format!("b{number}"), zone, place);
            registry.register(backend).expect("registered");
        }
        registry.trust_all();
        (registry, faulty)
    }

    fn data() -> Vec<u8> {
        (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[tokio::test]
    async fn a_set_that_is_stored_again_below_its_quorum_leaves_what_was_there() {
        let (registry, faulty) = registry(5);
        let codec = ErasureCodec::new(RedundancyLevel::Personal);
        let set = codec.encode(&data()).expect("encoded");
        let first = registry.distribute(&set, 0).await.expect("stored");
        faulty[0].go_dead();
        faulty[1].go_dead();
        for place in &faulty[2..] {
            place.inject(Fault::new(Operation::Write, When::Always, Effect::Refuse(ErrorKind::NoSpace)));
        }
        assert!(registry.distribute(&set, 0).await.is_err(), "three of five are below the quorum");
        let fetched = registry.retrieve(&first).await.expect("fetched");
        assert!(codec.decode(&fetched).expect("decoded") == data());
    }

    #[tokio::test]
    async fn a_set_comes_back_from_what_is_left_of_it() {
        let (registry, faulty) = registry(5);
        let codec = ErasureCodec::new(RedundancyLevel::Personal);
        let set = codec.encode(&data()).expect("encoded");
        let distribution = registry.distribute(&set, 2).await.expect("stored");
        assert_eq!(distribution.placements[0], Placement { index: 0, backend: BackendId([2; 16]) });
        faulty[2].go_dead();
        faulty[4].inject(Fault::new(Operation::Read, When::Always, Effect::FlipBit));
        let json = serde_json::to_string(&distribution).expect("JSON");
        let distribution = serde_json::from_str(&json).expect("read back");
        let fetched = registry.retrieve(&distribution).await.expect("fetched");
        let report = codec.verify(&fetched).expect("verified");
        assert!(report.recoverable && !report.valid);
        assert_eq!((report.missing, report.damaged), (vec![0], vec![2]));
        assert_eq!(codec.decode(&fetched).expect("decoded"), data());
    }

    #[tokio::test]
    async fn a_backend_that_fails_is_passed_over_and_below_the_quorum_nothing_stays() {
        let (registry, faulty) = registry(5);
        let set = ErasureCodec::new(RedundancyLevel::Personal).encode(&data()).expect("encoded");
        faulty[1].inject(Fault::new(Operation::Finish, When::Always, Effect::Refuse(ErrorKind::NoSpace)));
        let distribution = registry.distribute(&set, 0).await.expect("stored");
        assert_eq!(distribution.placements.len(), 5);
        assert!(distribution.placements.iter().all(|placement| placement.backend != BackendId([1; 16])));
        let again = registry.distribute(&set, 0).await.expect("the same set again is no conflict");
        assert_eq!(again, distribution);
        let other = ErasureCodec::new(RedundancyLevel::Personal).encode(b"other").expect("encoded");
        for place in &faulty {
            place.inject(Fault::new(Operation::Write, When::Always, Effect::Refuse(ErrorKind::Failed)));
        }
        registry.distribute(&other, 0).await.expect_err("no place");
        assert!(
            registry
                .retrieve(&Distribution { description: other.description().clone(), placements: again.placements })
                .await
                .expect("holes")
                .shards()
                .iter()
                .all(Option::is_none)
        );
    }
}
