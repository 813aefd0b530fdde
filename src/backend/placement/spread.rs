//! One object's shards on their places, and how they are moved to where less can be lost.

use super::{Candidate, PlacementRules, Worth, margin_of_loads};
use crate::backend::Zone;
use std::collections::{BTreeMap, BTreeSet};

/// What is spread evenly before the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Backends,
    Zones,
}

/// Shards on candidates, and how many of them each zone and each candidate has.
///
/// What is on a place that does not last counts nowhere.
#[derive(Debug, Clone)]
pub(super) struct Spread<'a> {
    candidates: &'a [Candidate],
    rules: PlacementRules,
    places: Vec<Option<usize>>,
    /// The number of each candidate's zone.
    zone_of: Vec<usize>,
    in_zone: Vec<usize>,
    on_candidate: Vec<usize>,
}

impl<'a> Spread<'a> {
    /// Shards where they are; a place that is none of the candidates is none.
    pub(super) fn of(candidates: &'a [Candidate], placed: &[Option<usize>], rules: PlacementRules) -> Self {
        let mut numbers = BTreeMap::new();
        let zone_of: Vec<usize> = candidates
            .iter()
            .map(|candidate| {
                let next = numbers.len();
                *numbers.entry(&candidate.zone).or_insert(next)
            })
            .collect();
        let (in_zone, on_candidate) = (vec![0; numbers.len()], vec![0; candidates.len()]);
        let places = vec![None; placed.len()];
        let mut spread = Self { candidates, rules, places, zone_of, in_zone, on_candidate };
        for (shard, place) in placed.iter().enumerate() {
            spread.set(shard, place.filter(|place| *place < candidates.len()));
        }
        spread
    }

    /// Where the shards are.
    pub(super) fn into_places(self) -> Vec<Option<usize>> {
        self.places
    }

    /// What may be lost of it.
    pub(super) fn worth(&self) -> Worth {
        Worth {
            shards: self.on_candidate.iter().sum(),
            zones: margin_of_loads(self.in_zone.clone(), self.rules.data_shards),
            backends: margin_of_loads(self.on_candidate.clone(), self.rules.data_shards),
        }
    }

    /// Gives a shard the emptiest place, if there is one.
    pub(super) fn settle(&mut self, shard: usize) {
        let place = self.emptiest(First::Backends, self.highest_cap());
        self.set(shard, place);
    }

    /// Gives a shard that the zone limit leaves no place the emptiest one in a zone that has no more then than it `had`, or
    /// else the emptiest of all.
    pub(super) fn settle_beyond(&mut self, shard: usize, had: &Self) {
        let no_worse = |zone: usize| self.in_zone[zone] < had.in_zone[zone].max(self.highest_cap());
        let place = self.emptiest_where(First::Backends, no_worse);
        let place = place.or_else(|| self.emptiest_where(First::Backends, |_| true));
        self.set(shard, place);
    }

    /// Whether no zone has more than the limit.
    pub(super) fn keeps_limit(&self) -> bool {
        self.in_zone.iter().all(|load| *load <= self.highest_cap())
    }

    /// The zones that have more than the limit.
    pub(super) fn crowded_zones(&self) -> BTreeSet<&'a Zone> {
        let zones = self.candidates.iter().zip(&self.zone_of);
        let crowded = zones.filter(|(_, zone)| self.in_zone[**zone] > self.highest_cap());
        crowded.map(|(candidate, _)| &candidate.zone).collect()
    }

    /// With the shards that may move where they raise the margins, and no other shard moved.
    pub(super) fn improved(self, movable: &[usize]) -> Self {
        let mut best = self;
        if best.is_best() {
            return best;
        }
        // Each round is worth strictly more than the one before.
        while let Some(better) = best.step(movable) {
            best = better.without_needless_moves(&best.places);
        }
        best
    }

    /// Whether nothing could be lost less: the margins are those of an even spread over all zones and all backends.
    fn is_best(&self) -> bool {
        let (shards, k) = (self.on_candidate.iter().sum::<usize>(), self.rules.data_shards);
        let mut zones = vec![0; self.in_zone.len()];
        let in_use = |candidate: &usize| self.candidates[*candidate].eligible || self.on_candidate[*candidate] > 0;
        let backends = (0..self.candidates.len()).filter(in_use);
        let backends = backends.inspect(|candidate| zones[self.zone_of[*candidate]] = 1).count();
        let even = |groups: usize| {
            let load = |group| (shards + group) / groups;
            margin_of_loads((0..groups).map(load).collect(), k)
        };
        let all_last = self.places.iter().flatten().count() == shards;
        let zones = zones.into_iter().sum();
        all_last && self.worth() == Worth { shards, zones: even(zones), backends: even(backends) }
    }

    /// The best that comes of an even spread over zones, or of one over backends with any limit to what a zone holds, if
    /// that is better.
    fn step(&self, movable: &[usize]) -> Option<Self> {
        let levelled = |first, cap| self.clone().levelled(movable, first, cap);
        let over_backends = levelled(First::Backends, self.highest_cap());
        let fullest_zone = over_backends.as_ref().and_then(|spread| spread.in_zone.iter().max().copied()).unwrap_or(0);
        let capped = (1..fullest_zone.min(self.highest_cap())).filter_map(|cap| levelled(First::Backends, cap));
        let over_zones = levelled(First::Zones, self.highest_cap());
        // Of equals the last wins: the one with the least regard to zones.
        let best = over_zones.into_iter().chain(capped).chain(over_backends).max_by_key(Self::worth)?;
        (best.worth() > self.worth()).then_some(best)
    }

    /// Gives what is on no lasting place the emptiest places within the cap, and evens out what there is: after what is too
    /// much was taken out of each zone, or, where that comes to no more or the places do not suffice for it, without that.
    fn levelled(self, movable: &[usize], first: First, cap: usize) -> Option<Self> {
        let is_fleeting = |shard: &usize| self.places[*shard].is_some_and(|place| !self.candidates[place].lasting);
        let fleeting: Vec<usize> = movable.iter().copied().filter(is_fleeting).collect();
        let mut homeless = [fleeting.clone(), self.too_many(movable, cap)].concat();
        homeless.sort_unstable();
        let housed = [self.clone().housed(&homeless, first, cap), self.housed(&fleeting, first, cap)];
        // Of equals the last wins: the one that moves less.
        housed.into_iter().flatten().map(|spread| spread.evened_out(movable, first, cap)).max_by_key(Self::worth)
    }

    fn evened_out(mut self, movable: &[usize], first: First, cap: usize) -> Self {
        // Each move makes the loads strictly more even.
        while let Some((shard, place)) = self.levelling_move(movable, first, cap) {
            self.set(shard, Some(place));
        }
        self
    }

    /// With the emptiest places for these shards, wherever they are now; `None` where the places do not suffice.
    fn housed(mut self, homeless: &[usize], first: First, cap: usize) -> Option<Self> {
        homeless.iter().for_each(|shard| self.set(*shard, None));
        for shard in homeless {
            let place = self.emptiest(first, cap)?;
            self.set(*shard, Some(place));
        }
        Some(self)
    }

    /// The shards to be taken out of zones so that none has more than the cap.
    fn too_many(&self, movable: &[usize], cap: usize) -> Vec<usize> {
        let (mut left, mut too_many) = (self.clone(), Vec::new());
        while let Some(shard) = left.one_too_many(movable, cap) {
            left.set(shard, None);
            too_many.push(shard);
        }
        too_many
    }

    /// A shard to be taken out of a zone that has more than the cap: from its fullest backend, parity before data.
    fn one_too_many(&self, movable: &[usize], cap: usize) -> Option<usize> {
        let placed = movable.iter().filter_map(|shard| Some((*shard, self.places[*shard]?)));
        let too_many = placed.filter(|(_, place)| self.in_zone[self.zone_of[*place]] > cap);
        too_many.max_by_key(|(shard, place)| (self.on_candidate[*place], *shard)).map(|(shard, _)| shard)
    }

    /// The move from the fullest place to one that is emptier.
    fn levelling_move(&mut self, movable: &[usize], first: First, cap: usize) -> Option<(usize, usize)> {
        let mut best = None;
        for shard in movable {
            let Some(from) = self.places[*shard] else { continue };
            self.set(*shard, None);
            if let Some(to) = self.emptiest(first, cap)
                && self.load(first, to) < self.load(first, from)
            {
                best = best.max(Some((self.load(first, from), *shard, to)));
            }
            self.set(*shard, Some(from));
        }
        best.map(|(_, shard, to)| (shard, to))
    }

    /// With every shard back where it was whose move is worth nothing.
    fn without_needless_moves(mut self, before: &[Option<usize>]) -> Self {
        let worth = self.worth();
        // One that is back may make room for another to stay.
        while let Some(shard) = (0..before.len()).find(|shard| self.takes_back(*shard, before[*shard], worth)) {
            self.set(shard, before[shard]);
        }
        self
    }

    /// Whether a shard that moved could as well have stayed.
    fn takes_back(&mut self, shard: usize, old: Option<usize>, worth: Worth) -> bool {
        let new = self.places[shard];
        if new == old {
            return false;
        }
        self.set(shard, old);
        let overfull = old.is_some_and(|old| self.in_zone[self.zone_of[old]] > self.highest_cap());
        let could = !overfull && self.worth() >= worth;
        self.set(shard, new);
        could
    }

    fn set(&mut self, shard: usize, place: Option<usize>) {
        let lasting = |place: &usize| self.candidates[*place].lasting;
        let (old, new) = (self.places[shard].filter(lasting), place.filter(lasting));
        if let Some(old) = old {
            self.in_zone[self.zone_of[old]] -= 1;
            self.on_candidate[old] -= 1;
        }
        if let Some(new) = new {
            self.in_zone[self.zone_of[new]] += 1;
            self.on_candidate[new] += 1;
        }
        self.places[shard] = place;
    }

    fn highest_cap(&self) -> usize {
        self.rules.zone_limit.unwrap_or(self.places.len()).min(self.places.len())
    }

    /// How full a candidate is: fewer is better.
    fn load(&self, first: First, candidate: usize) -> (usize, usize) {
        let (in_zone, on_candidate) = (self.in_zone[self.zone_of[candidate]], self.on_candidate[candidate]);
        match first {
            First::Backends => (on_candidate, in_zone),
            First::Zones => (in_zone, on_candidate),
        }
    }

    /// The emptiest eligible candidate in a zone with room; of equals the first from the rotation.
    fn emptiest(&self, first: First, cap: usize) -> Option<usize> {
        self.emptiest_where(first, |zone| self.in_zone[zone] < cap)
    }

    /// The emptiest eligible candidate in a zone that `has_room`; of equals the first from the rotation.
    fn emptiest_where(&self, first: First, has_room: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.candidates.len();
        let start = self.rules.rotation.checked_rem(count)?;
        let in_turn = (start..count).chain(0..start);
        in_turn
            .filter(|candidate| self.candidates[*candidate].eligible)
            .filter(|candidate| has_room(self.zone_of[*candidate]))
            .min_by_key(|candidate| self.load(first, *candidate))
    }
}
