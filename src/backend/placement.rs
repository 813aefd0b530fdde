//! Which shard goes where: one pure function for put, repair and drain, and what may be lost afterwards.
//!
//! Everything here follows from its arguments alone. Candidates are numbered by their place in the slice, which is the
//! order of registration.
//!
//! The obvious order, fewest in the zone and then fewest on the backend, spreads evenly over zones even where that is
//! worth nothing: five folders on one disk and a second place take three and two of five shards, and the loss of either
//! of two backends is then too much where before any two could go. So shards are spread evenly over the backends, the
//! emptier zone first, and a backend is given more than that only where it raises the zone margin: placements are compared
//! by how many shards they hold, then by zone margin, then by backend margin.

mod spread;
#[cfg(test)]
mod tests;

use super::Zone;
use spread::Spread;
use std::collections::{BTreeMap, BTreeSet};

/// A backend as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What fails together with it.
    pub zone: Zone,
    /// Whether it takes new shards: lasting, writable, reachable, with room, not draining.
    pub eligible: bool,
    /// Whether what it holds outlives this process; what does not counts for no margin.
    pub lasting: bool,
}

/// How one object's shards are to be spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlacementRules {
    /// k: how many shards bring the object back.
    pub data_shards: usize,
    /// Where the round-robin starts, taken modulo the candidates: one more from object to object.
    pub rotation: usize,
    /// No zone is given more than this many of the object's shards, even if some then find no place at all.
    pub zone_limit: Option<usize>,
}

/// What a placement is worth: the greater is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Worth {
    /// How many shards have a lasting place.
    pub shards: usize,
    /// How many zones may be lost.
    pub zones: Option<usize>,
    /// How many backends may be lost.
    pub backends: Option<usize>,
}

/// Finds a place for every shard that has none.
///
/// `placed` is, by shard index, the candidate each shard is on. In index order, each `None` becomes the eligible
/// candidate with the fewest of this object's shards on itself, then in its zone, then the next in registration order
/// from the rotation; then those among them are moved that raise the margins. A shard stays `None` when there is no
/// eligible candidate within the rules. What is placed stays.
pub fn place(candidates: &[Candidate], placed: &[Option<usize>], rules: PlacementRules) -> Vec<Option<usize>> {
    let homeless: Vec<usize> = (0..placed.len()).filter(|shard| placed[*shard].is_none()).collect();
    let mut spread = Spread::of(candidates, placed, rules);
    homeless.iter().for_each(|shard| spread.settle(*shard));
    spread.improved(&homeless).into_places()
}

/// Finds a place for every shard that has none, of an object that was placed before.
///
/// `before` is where each shard was, be that place lost or not. It is as in [`place`], but the zone limit binds only as far
/// as it keeps things from getting worse. Where it leaves a shard no place, and some zone had more than the limit before,
/// the shard goes to the emptiest place in a zone that has no more then than it had, or else to the emptiest there is. An
/// object that kept the limit keeps it.
pub fn place_again(
    candidates: &[Candidate],
    placed: &[Option<usize>],
    before: &[Option<usize>],
    rules: PlacementRules,
) -> Vec<Option<usize>> {
    let places = place(candidates, placed, rules);
    let had = Spread::of(candidates, before, rules);
    if had.keeps_limit() {
        return places;
    }
    let homeless: Vec<usize> = (0..places.len()).filter(|shard| places[*shard].is_none()).collect();
    let mut spread = Spread::of(candidates, &places, rules);
    homeless.into_iter().for_each(|shard| spread.settle_beyond(shard, &had));
    spread.into_places()
}

/// The zones that have more of the shards than the limit.
pub fn crowded_zones<'a>(
    candidates: &'a [Candidate],
    placed: &[Option<usize>],
    rules: PlacementRules,
) -> BTreeSet<&'a Zone> {
    Spread::of(candidates, placed, rules).crowded_zones()
}

/// Strictly better places for some of the shards in `movable`, where there are any: those shards are misplaced.
///
/// Better is what raises the zone margin, or raises the backend margin and does not lower the zone margin; no shard moves
/// that need not. That a place takes no new shards makes no other place better: a full disk keeps what it has.
pub fn better_places(
    candidates: &[Candidate],
    placed: &[Option<usize>],
    movable: &[usize],
    rules: PlacementRules,
) -> Vec<Option<usize>> {
    Spread::of(candidates, placed, rules).improved(movable).into_places()
}

/// What a placement is worth.
pub fn worth(candidates: &[Candidate], placed: &[Option<usize>], rules: PlacementRules) -> Worth {
    Spread::of(candidates, placed, rules).worth()
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
    margin_of_loads(loads.into_values().collect(), data_shards)
}

fn margin_of_loads(mut loads: Vec<usize>, data_shards: usize) -> Option<usize> {
    loads.retain(|load| *load > 0);
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
