//! What a stored object is, as reports show it.

use super::WriteFailures;
use crate::backend::RegisteredBackend;
use crate::backend::placement::{Candidate, PlacementRules, margin, place, worth};
use crate::catalog::ShardState;
use crate::id::{BackendId, Digest, ObjectId};
use crate::store::Store;
use serde::Serialize;

/// An object that was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredObject {
    /// Its id.
    pub id: ObjectId,
    /// The root that its manifest signs.
    pub root: Digest,
    /// k.
    pub data_shards: usize,
    /// n.
    pub total_shards: usize,
    /// The length of its payload in bytes: files and index.
    pub size: u64,
    /// How many more zones may be lost before it is.
    pub margin: Option<usize>,
    /// How many more backends may be lost before it is.
    pub backend_margin: Option<usize>,
    /// Its shards, by index.
    pub shards: Vec<StoredShard>,
    /// How many shards outlive this process.
    #[serde(skip)]
    pub lasting_shards: usize,
    /// Whether no backend that could not be used now would have made the margins greater.
    #[serde(skip)]
    pub in_best_places: bool,
}

/// A shard of a stored object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredShard {
    /// Which shard.
    pub index: u8,
    /// The name of its backend; none where it found no place.
    pub backend: Option<String>,
    /// The backend's zone.
    pub zone: Option<String>,
    /// The length of its file in bytes.
    pub bytes: u64,
    /// Whether it is there.
    pub state: ShardState,
}

impl StoredObject {
    /// Whether every shard is there and outlives this process.
    pub fn is_whole(&self) -> bool {
        self.lasting_shards == self.total_shards
    }

    /// How many bytes of shards were written.
    pub fn bytes_written(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// Fills in shards and margins from the places: index, backend, length.
    pub(super) fn with_places(mut self, store: &Store, places: &[(u8, BackendId, u64)]) -> Self {
        let registry = store.registry();
        let lasting: Vec<_> = places
            .iter()
            .filter_map(|(_, place, _)| registry.get(*place))
            .filter(|registered| !registered.volatile)
            .collect();
        self.lasting_shards = lasting.len();
        self.margin = margin(lasting.iter().map(|registered| &registered.zone), self.data_shards);
        self.backend_margin = margin(lasting.iter().map(|registered| registered.id), self.data_shards);
        self.in_best_places = self.is_best(store, places);
        self.shards = (0..self.total_shards as u8)
            .map(|index| {
                let place = places.iter().find(|place| place.0 == index);
                let registered = place.and_then(|place| registry.get(place.1));
                StoredShard {
                    index,
                    backend: registered.map(|registered| registered.name.clone()),
                    zone: registered.map(|registered| registered.zone.to_string()),
                    bytes: place.map_or(0, |place| place.2),
                    state: if place.is_some() { ShardState::Ok } else { ShardState::Missing },
                }
            })
            .collect();
        self
    }

    /// Compares the places with those there would be if every backend that is meant for shards took them.
    fn is_best(&self, store: &Store, places: &[(u8, BackendId, u64)]) -> bool {
        let registry = store.registry();
        let candidate = |backend: &RegisteredBackend| Candidate {
            zone: backend.zone.clone(),
            eligible: backend.is_meant_for_shards(),
            lasting: !backend.volatile,
        };
        let candidates: Vec<Candidate> = registry.iter().map(candidate).collect();
        let rules = PlacementRules { data_shards: self.data_shards, ..PlacementRules::default() };
        let mut placed = vec![None; self.total_shards];
        for (index, backend, _) in places {
            placed[usize::from(*index)] = registry.position(*backend);
        }
        let best = place(&candidates, &vec![None; self.total_shards], rules);
        worth(&candidates, &placed, rules) >= worth(&candidates, &best, rules)
    }
}

/// The backends that are meant for shards and could not be used, or failed a write, with why in a few words.
pub fn unused_backends(store: &Store, failures: &WriteFailures) -> Vec<(String, Unused)> {
    let (failed, full) = (failures.backends(), failures.full());
    let reason = |backend: &RegisteredBackend| match backend.is_ready() {
        true if full.contains(&backend.id) => Some(Unused::Full),
        true => failed.contains(&backend.id).then_some(Unused::Failed),
        false => Some(Unused::Away),
    };
    let meant = store.registry().iter().filter(|backend| backend.is_meant_for_shards());
    meant.filter_map(|backend| Some((backend.name.clone(), reason(backend)?))).collect()
}

/// Why a backend took nothing although it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// What was to be written did not fit.
    Full,
    /// It failed a write in another way.
    Failed,
    /// It cannot be reached.
    Away,
}

impl Unused {
    /// In words.
    pub fn why(self) -> &'static str {
        match self {
            Self::Full => "it has no room",
            Self::Failed => "it failed a write",
            Self::Away => "it cannot be reached",
        }
    }
}
