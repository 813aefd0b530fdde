//! Which backends went back to an earlier state: what they lack is all newer than the newest that they still have.

use super::super::timestamp::Timestamp;
use crate::backend::BackendRegistry;
use crate::catalog::ShardState;
use crate::id::BackendId;
use crate::ops::examine::Examination;
use serde::Serialize;
use std::collections::BTreeMap;

/// One missing object says nothing: so many make a pattern.
const LEAST_MISSING: u64 = 2;

/// A backend that lacks every object made since some moment, and has others from before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetBack {
    /// The backend's name.
    pub backend: String,
    /// How many objects that were recorded there are missing.
    pub missing: u64,
    /// When the newest object was made that it still has.
    pub newest_there: Timestamp,
    /// When the oldest was made that it lacks.
    pub oldest_missing: Timestamp,
}

/// What was seen on each backend, object by object.
#[derive(Debug, Default)]
pub(super) struct Pattern {
    places: BTreeMap<BackendId, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    newest_there: Option<i64>,
    oldest_missing: Option<i64>,
    missing: u64,
}

impl Pattern {
    /// Notes where an object's recorded shards are, and where they are not.
    pub(super) fn note(&mut self, created_ns: i64, seen: &Examination) {
        let recorded = seen.copies.iter().filter(|copy| copy.recorded);
        let states = recorded.filter_map(|copy| Some((copy.backend?, copy.state)));
        let mut here: BTreeMap<BackendId, bool> = BTreeMap::new();
        for (backend, state) in states.filter(|(_, state)| *state != ShardState::Unreachable) {
            *here.entry(backend).or_default() |= state != ShardState::Missing;
        }
        for (backend, is_there) in here {
            self.places.entry(backend).or_default().note(created_ns, is_there);
        }
    }

    /// The backends of which the pattern holds.
    pub(super) fn set_back(&self, registry: &BackendRegistry) -> Vec<SetBack> {
        let of = |(backend, seen): (&BackendId, &Seen)| {
            let (newest_there, oldest_missing) = (seen.newest_there?, seen.oldest_missing?);
            let holds = seen.missing >= LEAST_MISSING && oldest_missing > newest_there;
            holds.then(|| SetBack {
                backend: registry.get(*backend).map_or_else(|| backend.to_string(), |place| place.name.clone()),
                missing: seen.missing,
                newest_there: Timestamp(newest_there),
                oldest_missing: Timestamp(oldest_missing),
            })
        };
        self.places.iter().filter_map(of).collect()
    }
}

impl Seen {
    fn note(&mut self, created_ns: i64, is_there: bool) {
        if is_there {
            self.newest_there = self.newest_there.max(Some(created_ns));
        } else {
            self.missing += 1;
            self.oldest_missing = Some(self.oldest_missing.map_or(created_ns, |oldest| oldest.min(created_ns)));
        }
    }
}
