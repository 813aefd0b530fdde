//! How one object stands, by what the catalog and the settings say, without looking at a backend.

use crate::backend::placement::{critical_groups, margin};
use crate::backend::{BackendRegistry, Zone};
use crate::catalog::{ObjectHealth, ObjectState, ShardRecord, ShardState};
use crate::id::{BackendId, Geometry};
use std::collections::BTreeMap;

/// The backends that keep what they are given, with what each fails together with.
#[derive(Debug, Clone, Default)]
pub(in crate::ops) struct Zones(BTreeMap<BackendId, Zone>);

impl Zones {
    /// Those of a registry; volatile ones count for nothing.
    pub(in crate::ops) fn of(registry: &BackendRegistry) -> Self {
        let lasting = registry.iter().filter(|backend| !backend.volatile);
        Self(lasting.map(|backend| (backend.id, backend.zone.clone())).collect())
    }

    fn get(&self, backend: BackendId) -> Option<&Zone> {
        self.0.get(&backend)
    }
}

/// How an object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) struct Standing {
    /// What was last found of it.
    pub(in crate::ops) state: ObjectState,
    /// How many more zones may be lost before it is; `None` when it cannot be recovered now.
    pub(in crate::ops) margin: Option<u32>,
    /// The same for backends.
    pub(in crate::ops) backend_margin: Option<u32>,
    /// Zones of which the loss of that one alone would lose it.
    pub(in crate::ops) critical_zones: Vec<Zone>,
}

impl Standing {
    /// From the records of its shards; where some are corrupt, from the last check, which alone knows whether their bad
    /// blocks are in the same stripes.
    pub(in crate::ops) fn of(geometry: Geometry, shards: &[ShardRecord], health: &ObjectHealth, zones: &Zones) -> Self {
        let is_damaged = shards.iter().any(|shard| shard.state == ShardState::Corrupt);
        let good: BTreeMap<u8, (Zone, BackendId)> = by_index(shards, zones, |state| {
            matches!(state, ShardState::Ok | ShardState::Misplaced | ShardState::Surplus)
        });
        let data_shards = geometry.data_shards();
        let zones_of = |from: &BTreeMap<u8, (Zone, BackendId)>| -> Vec<Zone> {
            from.values().map(|(zone, _)| zone.clone()).collect()
        };
        let narrow = |margin: Option<usize>| margin.and_then(|margin| u32::try_from(margin).ok());
        if is_damaged && health.checked_ns.is_some() {
            let margin = health.margin;
            // Which stripes a zone's loss would leave short is not known here: each that holds something may.
            let critical_zones = match margin {
                Some(0) if good.len() < data_shards => unique(zones_of(&by_index(shards, zones, |_| true))),
                Some(0) => critical_groups(zones_of(&good), data_shards),
                _ => Vec::new(),
            };
            return Self { state: health.state, margin, backend_margin: health.backend_margin, critical_zones };
        }
        Self {
            state: health.state,
            margin: narrow(margin(zones_of(&good), data_shards)),
            backend_margin: narrow(margin(good.values().map(|(_, backend)| *backend), data_shards)),
            critical_zones: critical_groups(zones_of(&good), data_shards),
        }
    }
}

/// One place for each shard index that has a copy in such a state.
fn by_index(
    shards: &[ShardRecord],
    zones: &Zones,
    counts: impl Fn(ShardState) -> bool,
) -> BTreeMap<u8, (Zone, BackendId)> {
    let places = shards.iter().filter(|shard| counts(shard.state));
    places.filter_map(|shard| Some((shard.index, (zones.get(shard.backend)?.clone(), shard.backend)))).collect()
}

fn unique(mut zones: Vec<Zone>) -> Vec<Zone> {
    zones.sort();
    zones.dedup();
    zones
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;

    fn backend(byte: u8) -> BackendId {
        BackendId([byte; 16])
    }

    fn zones(names: &[&str]) -> Zones {
        let zone = |name: &&str| Zone::new(*name).expect("a zone");
        Zones((0..).zip(names).map(|(byte, name)| (backend(byte), zone(name))).collect())
    }

    fn shards(states: &[ShardState]) -> Vec<ShardRecord> {
        let record = |(index, state): (u8, &ShardState)| ShardRecord {
            index,
            backend: backend(index),
            bytes: 1,
            state: *state,
            bad_blocks: 0,
            verified_ns: None,
        };
        (0..).zip(states).map(record).collect()
    }

    fn health(margin: Option<u32>, checked_ns: Option<i64>) -> ObjectHealth {
        let (object, state) = (ObjectId([0; 16]), ObjectState::Degraded);
        ObjectHealth { object, state, margin, backend_margin: margin, checked_ns, verified_ns: None }
    }

    const OK: ShardState = ShardState::Ok;
    const GONE: ShardState = ShardState::Missing;
    const BAD: ShardState = ShardState::Corrupt;

    fn personal() -> Geometry {
        Geometry::new(3, 5).expect("a geometry")
    }

    #[test]
    fn five_disks_may_lose_two_and_one_disk_none() {
        let spread =
            Standing::of(personal(), &shards(&[OK; 5]), &health(None, None), &zones(&["a", "b", "c", "d", "e"]));
        assert_eq!((spread.margin, spread.backend_margin, spread.critical_zones.len()), (Some(2), Some(2), 0));
        let heaped = Standing::of(personal(), &shards(&[OK; 5]), &health(None, None), &zones(&["a"; 5]));
        assert_eq!((heaped.margin, heaped.backend_margin), (Some(0), Some(2)));
        assert_eq!(heaped.critical_zones, [Zone::new("a").expect("a zone")]);
    }

    #[test]
    fn a_zone_that_holds_too_many_is_named() {
        let zones = zones(&["sda", "sda", "sda", "nas", "s3"]);
        let standing = Standing::of(personal(), &shards(&[OK; 5]), &health(None, None), &zones);
        assert_eq!(standing.margin, Some(0));
        assert_eq!(standing.critical_zones, [Zone::new("sda").expect("a zone")]);
    }

    #[test]
    fn volatile_and_unknown_backends_count_for_nothing() {
        let standing = Standing::of(personal(), &shards(&[OK; 5]), &health(None, None), &zones(&["a", "b", "c"]));
        assert_eq!((standing.margin, standing.critical_zones.len()), (Some(0), 3));
    }

    #[test]
    fn with_too_few_there_is_no_margin() {
        let shards = shards(&[OK, GONE, GONE, GONE, OK]);
        let standing = Standing::of(personal(), &shards, &health(None, None), &zones(&["a", "b", "c", "d", "e"]));
        assert_eq!((standing.margin, standing.backend_margin), (None, None));
    }

    #[test]
    fn where_shards_are_corrupt_the_check_that_read_their_stripes_counts() {
        let zones = zones(&["a", "b", "c", "d", "e"]);
        let standing = Standing::of(personal(), &shards(&[BAD; 5]), &health(Some(1), Some(7)), &zones);
        assert_eq!((standing.margin, standing.critical_zones.len()), (Some(1), 0));
        let standing = Standing::of(personal(), &shards(&[BAD; 5]), &health(Some(0), Some(7)), &zones);
        assert_eq!(standing.critical_zones.len(), 5);
    }
}
