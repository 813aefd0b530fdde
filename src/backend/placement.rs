//! Which shard goes where: one pure function for put, repair and drain, and what may be lost afterwards.
//!
//! Everything here follows from its arguments alone. Candidates are numbered by their place in the slice, which is the
//! order of registration.

use super::Zone;
use std::collections::BTreeMap;

/// A backend as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What fails together with it.
    pub zone: Zone,
    /// Whether it takes new shards: writable, reachable, with room, not draining.
    pub eligible: bool,
}

/// How one object's shards are to be spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlacementRules {
    /// Where the round-robin starts, taken modulo the candidates: one more from object to object.
    pub rotation: usize,
    /// No zone is given more than this many of the object's shards, even if some then find no place at all.
    pub zone_limit: Option<usize>,
}

/// Finds a place for every shard that has none.
///
/// `placed` is, by shard index, the candidate each shard is on. In index order, each `None` becomes the eligible
/// candidate with the fewest of this object's shards in its zone, then on itself, then the next in registration order
/// from the rotation; it stays `None` when there is no eligible candidate within the rules. What is placed stays.
pub fn place(candidates: &[Candidate], placed: &[Option<usize>], rules: PlacementRules) -> Vec<Option<usize>> {
    let mut loads = Loads::of(candidates, placed);
    let mut places = placed.to_vec();
    for shard_place in places.iter_mut().filter(|place| place.is_none()) {
        *shard_place = loads.best(rules);
        if let Some(candidate) = *shard_place {
            loads.add(candidate);
        }
    }
    places
}

/// A strictly better place for a shard, if one exists: then the shard is misplaced.
///
/// Better is fewer of the object's other shards in the zone, or as many there and fewer on the backend itself. That the
/// place it is on takes no new shards makes no other place better: a full disk keeps what it has.
pub fn better_place(
    candidates: &[Candidate],
    placed: &[Option<usize>],
    shard: usize,
    rules: PlacementRules,
) -> Option<usize> {
    let current = placed.get(shard).copied().flatten().filter(|place| *place < candidates.len())?;
    let mut others = placed.to_vec();
    others[shard] = None;
    let loads = Loads::of(candidates, &others);
    let best = loads.best(rules)?;
    (loads.of_candidate(best) < loads.of_candidate(current)).then_some(best)
}

/// How many more groups may be lost, in the worst case, before fewer than k of the good shards remain; `None` when fewer
/// remain already.
///
/// `groups` names, for each distinct good shard, the group that it would be lost with: its zone gives the margin, its
/// backend the backend margin. The worst case loses the most loaded first.
pub fn margin<T: Ord>(groups: impl IntoIterator<Item = T>, data_shards: usize) -> Option<usize> {
    let mut loads = BTreeMap::<T, usize>::new();
    for group in groups {
        *loads.entry(group).or_default() += 1;
    }
    let mut loads: Vec<usize> = loads.into_values().collect();
    loads.sort_unstable_by(|a, b| b.cmp(a));
    let mut spare = loads.iter().sum::<usize>().checked_sub(data_shards)?;
    let mut lost = 0;
    for load in loads {
        match spare.checked_sub(load) {
            Some(rest) => spare = rest,
            None => break,
        }
        lost += 1;
    }
    Some(lost)
}

/// The groups of which the loss of a single one leaves fewer than k good shards, in their order.
pub fn critical_groups<T: Ord>(groups: impl IntoIterator<Item = T>, data_shards: usize) -> Vec<T> {
    let mut loads = BTreeMap::<T, usize>::new();
    for group in groups {
        *loads.entry(group).or_default() += 1;
    }
    let total: usize = loads.values().sum();
    loads.into_iter().filter(|(_, load)| total - load < data_shards).map(|(group, _)| group).collect()
}

/// How many of one object's shards each zone and each backend has.
struct Loads<'a> {
    candidates: &'a [Candidate],
    in_zone: BTreeMap<&'a Zone, usize>,
    on_candidate: Vec<usize>,
}

impl<'a> Loads<'a> {
    fn of(candidates: &'a [Candidate], placed: &[Option<usize>]) -> Self {
        let mut loads = Self { candidates, in_zone: BTreeMap::new(), on_candidate: vec![0; candidates.len()] };
        for candidate in placed.iter().flatten().filter(|place| **place < candidates.len()) {
            loads.add(*candidate);
        }
        loads
    }

    fn add(&mut self, candidate: usize) {
        *self.in_zone.entry(&self.candidates[candidate].zone).or_default() += 1;
        self.on_candidate[candidate] += 1;
    }

    /// Shards in its zone, then on itself: fewer is better.
    fn of_candidate(&self, candidate: usize) -> (usize, usize) {
        let in_zone = self.in_zone.get(&self.candidates[candidate].zone).copied().unwrap_or(0);
        (in_zone, self.on_candidate[candidate])
    }

    fn best(&self, rules: PlacementRules) -> Option<usize> {
        let count = self.candidates.len();
        let start = rules.rotation.checked_rem(count)?;
        let in_turn = (start..count).chain(0..start);
        in_turn
            .filter(|candidate| self.candidates[*candidate].eligible)
            .filter(|candidate| rules.zone_limit.is_none_or(|limit| self.of_candidate(*candidate).0 < limit))
            // Of equals the first wins, so that the turn decides.
            .min_by_key(|candidate| self.of_candidate(*candidate))
    }
}

#[cfg(test)]
mod tests {
    use super::super::dice::Dice;
    use super::*;

    const REGISTRIES: u64 = 100_000;

    fn random_candidates(dice: &mut Dice) -> Vec<Candidate> {
        let zones = 1 + dice.below(6);
        let count = dice.below(13);
        let candidate = |dice: &mut Dice| Candidate {
            zone: Zone::new(format!("zone-{}", dice.below(zones))).expect("a zone"),
            eligible: dice.below(5) != 0,
        };
        (0..count).map(|_| candidate(dice)).collect()
    }

    fn random_rules(dice: &mut Dice) -> PlacementRules {
        PlacementRules { rotation: dice.below(1000) as usize, zone_limit: None }
    }

    fn zone_loads(candidates: &[Candidate], places: &[Option<usize>]) -> BTreeMap<Zone, usize> {
        let mut loads = BTreeMap::new();
        for candidate in candidates.iter().filter(|candidate| candidate.eligible) {
            loads.insert(candidate.zone.clone(), 0);
        }
        for place in places.iter().flatten() {
            *loads.entry(candidates[*place].zone.clone()).or_default() += 1;
        }
        loads
    }

    fn within_one(loads: impl Iterator<Item = usize> + Clone) -> bool {
        loads.clone().max().unwrap_or(0) - loads.min().unwrap_or(0) <= 1
    }

    #[test]
    fn zones_and_the_backends_within_them_are_balanced_within_one() {
        let mut dice = Dice::new(1);
        for round in 0..REGISTRIES {
            let candidates = random_candidates(&mut dice);
            let total = 2 + dice.below(20) as usize;
            let rules = random_rules(&mut dice);
            let places = place(&candidates, &vec![None; total], rules);
            assert_eq!(places, place(&candidates, &vec![None; total], rules), "round {round}: not determined");
            if !candidates.iter().any(|candidate| candidate.eligible) {
                assert!(places.iter().all(Option::is_none), "round {round}: placed on nothing");
                continue;
            }
            assert!(places.iter().flatten().all(|place| candidates[*place].eligible), "round {round}: not eligible");
            assert!(places.iter().all(Option::is_some), "round {round}: a shard without a place");
            let loads = zone_loads(&candidates, &places);
            assert!(within_one(loads.values().copied()), "round {round}: {loads:?}");
            for zone in loads.keys() {
                let of_zone = (0..candidates.len())
                    .filter(|index| candidates[*index].eligible && candidates[*index].zone == *zone)
                    .map(|index| places.iter().flatten().filter(|place| **place == index).count());
                assert!(within_one(of_zone), "round {round}: backends of {zone}");
            }
            for parity in 1..total {
                let possible = loads.len() * parity >= total;
                let held = loads.values().all(|load| *load <= parity);
                assert!(!possible || held, "round {round}: a zone with more than n-k = {parity}: {loads:?}");
            }
        }
    }

    #[test]
    fn what_is_placed_stays_and_a_zone_limit_is_never_exceeded() {
        let mut dice = Dice::new(2);
        for round in 0..REGISTRIES {
            let candidates = random_candidates(&mut dice);
            let total = 2 + dice.below(14) as usize;
            let placed = random_places(&mut dice, candidates.len(), total);
            let limit = 1 + dice.below(4) as usize;
            let rules = PlacementRules { zone_limit: Some(limit), ..random_rules(&mut dice) };
            let places = place(&candidates, &placed, rules);
            let before = zone_loads(&candidates, &placed);
            let after = zone_loads(&candidates, &places);
            for (old, new) in placed.iter().zip(&places) {
                assert!(old.is_none() || old == new, "round {round}: a placed shard moved");
            }
            for (zone, load) in &after {
                let had = before.get(zone).copied().unwrap_or(0);
                assert!(*load <= limit.max(had), "round {round}: {load} in {zone}, limit {limit}, had {had}");
            }
            let left_out = places.iter().any(Option::is_none);
            let room = candidates.iter().any(|candidate| candidate.eligible && after[&candidate.zone] < limit);
            assert!(!(left_out && room), "round {round}: a shard without a place while there was one");
        }
    }

    #[test]
    fn moving_to_better_places_strictly_improves_and_ends_in_balance() {
        let mut dice = Dice::new(3);
        for round in 0..REGISTRIES / 10 {
            let mut candidates = random_candidates(&mut dice);
            candidates.iter_mut().for_each(|candidate| candidate.eligible = true);
            let total = 2 + dice.below(14) as usize;
            let mut places = random_places(&mut dice, candidates.len(), total);
            let rules = random_rules(&mut dice);
            let mut moves = 0;
            while let Some((shard, better)) =
                (0..total).find_map(|shard| better_place(&candidates, &places, shard, rules).map(|to| (shard, to)))
            {
                let before = unevenness(&candidates, &places);
                places[shard] = Some(better);
                assert!(unevenness(&candidates, &places) < before, "round {round}: no better");
                moves += 1;
                assert!(moves <= total * total, "round {round}: it does not end");
            }
            if places.iter().all(Option::is_some) {
                let loads = zone_loads(&candidates, &places);
                assert!(within_one(loads.values().copied()), "round {round}: {loads:?}");
            }
        }
    }

    fn random_places(dice: &mut Dice, candidate_count: usize, total: usize) -> Vec<Option<usize>> {
        let mut one =
            || (candidate_count > 0 && dice.below(3) != 0).then(|| dice.below(candidate_count as u64) as usize);
        (0..total).map(|_| one()).collect()
    }

    /// Sums of squares over zones, then over backends.
    fn unevenness(candidates: &[Candidate], places: &[Option<usize>]) -> (usize, usize) {
        let loads = Loads::of(candidates, places);
        let squares = |loads: &mut dyn Iterator<Item = &usize>| loads.map(|load| load * load).sum();
        (squares(&mut loads.in_zone.values()), squares(&mut loads.on_candidate.iter()))
    }

    #[test]
    fn the_rotation_spreads_data_and_parity_over_all_backends() {
        let candidates: Vec<_> = (0..7)
            .map(|index| Candidate { zone: Zone::new(format!("zone-{index}")).expect("a zone"), eligible: true })
            .collect();
        let mut data = [0; 7];
        let mut all = [0; 7];
        for rotation in 0..70 {
            let places = place(&candidates, &[None; 5], PlacementRules { rotation, zone_limit: None });
            assert_eq!(places[0], Some(rotation % 7), "it starts at the rotation");
            for (index, place) in places.into_iter().flatten().enumerate() {
                all[place] += 1;
                data[place] += usize::from(index < 3);
            }
        }
        assert_eq!((all, data), ([50; 7], [30; 7]));
    }

    #[test]
    fn a_full_or_unreachable_place_does_not_make_its_shard_misplaced_and_a_shared_zone_does() {
        let zone = |name: &str| Zone::new(name).expect("a zone");
        let mut candidates =
            vec![Candidate { zone: zone("a"), eligible: false }, Candidate { zone: zone("b"), eligible: true }];
        let rules = PlacementRules::default();
        assert_eq!(better_place(&candidates, &[Some(0), None], 0, rules), None);
        assert_eq!(better_place(&candidates, &[Some(0), Some(0)], 0, rules), Some(1));
        candidates[1].zone = zone("a");
        assert_eq!(better_place(&candidates, &[Some(0), Some(0)], 0, rules), Some(1), "another backend of the zone");
        assert_eq!(better_place(&candidates, &[Some(0), Some(1)], 0, rules), None);
        assert_eq!(better_place(&candidates, &[Some(0), None], 1, rules), None, "a shard that is nowhere");
    }

    #[test]
    fn the_margin_is_what_brute_force_says() {
        let mut dice = Dice::new(4);
        for round in 0..REGISTRIES / 5 {
            let good = dice.below(10) as usize;
            let zones = 1 + dice.below(7);
            let data_shards = 1 + dice.below(7) as usize;
            let groups: Vec<u64> = (0..good).map(|_| dice.below(zones)).collect();
            let expected = brute_force(&groups, zones, data_shards);
            assert_eq!(margin(groups.iter(), data_shards), expected, "round {round}: {groups:?}, k = {data_shards}");
            let critical = critical_groups(groups.iter(), data_shards);
            let any_critical = expected == Some(0) || (expected.is_none() && good > 0);
            assert_eq!(!critical.is_empty(), any_critical, "round {round}: {groups:?}, k = {data_shards}");
        }
    }

    /// The largest m such that every loss of m of the groups in use leaves k shards.
    fn brute_force(groups: &[u64], zones: u64, data_shards: usize) -> Option<usize> {
        let used = (0..zones).filter(|zone| groups.contains(zone)).fold(0_u64, |bits, zone| bits | 1 << zone);
        let survives = |lost: u64| groups.iter().filter(|zone| lost >> **zone & 1 == 0).count() >= data_shards;
        let subsets = |size| (0_u64..1 << zones).filter(move |lost| lost & !used == 0 && lost.count_ones() == size);
        (0..=used.count_ones()).take_while(|size| subsets(*size).all(survives)).last().map(|size| size as usize)
    }

    #[test]
    fn five_folders_on_one_disk_have_margin_0_and_backend_margin_2() {
        assert_eq!(margin(["disk-sda"; 5], 3), Some(0));
        assert_eq!(margin(0..5, 3), Some(2));
        assert_eq!(margin(0..2, 3), None);
        assert_eq!(critical_groups(["a", "a", "a", "b", "b"], 3), ["a"]);
    }
}
