//! What is to be done about an object, from what was seen of it. Pure.

use crate::backend::BackendRegistry;
use crate::backend::placement::{better_places, crowded_zones, place_again};
use crate::catalog::ShardState;
use crate::id::BackendId;
use crate::ops::examine::{CopyFinding, Examination, is_good, rules};
use crate::ops::mend::WriteMode;
use std::collections::BTreeSet;

/// Why a shard finds no place: there is none.
const NO_BACKEND: &str = "no other backend takes it";
/// Why a shard finds no place: those that there are may not have it.
const TOO_FEW_ZONES: &str = "no other zone takes it without having more of the shards than the seal allows";

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Situation<'a> {
    /// The object.
    pub(in crate::ops) seen: &'a Examination,
    /// The places.
    pub(in crate::ops) registry: &'a BackendRegistry,
    /// Backends whose last write failed: they are given nothing.
    pub(in crate::ops) failed: &'a [BackendId],
    /// Backends on which nothing shall stay: lost for good, or being emptied.
    pub(in crate::ops) leaving: &'a [BackendId],
    /// Those of its copies that were read twice and were bad both times.
    pub(in crate::ops) bad_twice: &'a BTreeSet<(u8, BackendId)>,
}

/// A shard to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) struct Task {
    pub(in crate::ops) index: u8,
    /// Where the catalog has it now, if anywhere.
    pub(in crate::ops) from: Option<BackendId>,
    pub(in crate::ops) to: BackendId,
    pub(in crate::ops) mode: WriteMode,
    pub(in crate::ops) means: Means,
    /// No other place takes it: its zone has more of the object's shards then than the seal allows.
    pub(in crate::ops) is_crowding: bool,
}

/// What a shard is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) enum Means {
    /// Any k others.
    Rebuild,
    /// The good copy that is there now.
    Copy,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::ops) struct Plan {
    /// Shards to be made.
    pub(in crate::ops) tasks: Vec<Task>,
    /// Copies to be given up: each is bad or on a place that shall be empty, and a good one is elsewhere.
    pub(in crate::ops) discards: Vec<(u8, BackendId)>,
    /// Shards that should be made, and no place takes them.
    pub(in crate::ops) homeless: Vec<u8>,
    /// Why not.
    pub(in crate::ops) homeless_why: &'static str,
}

/// What one shard needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing; it is, or may come back, at this position.
    Nothing(Option<usize>),
    /// To be made in the place where it should be.
    InPlace(BackendId, WriteMode),
    /// To be made somewhere else.
    Elsewhere(Option<BackendId>, Means),
    /// To be moved, if a better place is still there when all others have one.
    Better(BackendId),
}

impl Situation<'_> {
    /// What is to be done. Of an object that cannot be read now, only copies can leave their places.
    pub(in crate::ops) fn plan(&self) -> Plan {
        let seen = self.seen;
        let needs: Vec<(u8, Need)> = seen.geometry().shard_indexes().map(|index| (index, self.need(index))).collect();
        let closed = self.failed.iter().chain(self.leaving).chain(&seen.full_places);
        let closed: Vec<BackendId> = closed.copied().collect();
        let candidates = self.registry.candidates(&closed);
        let placed: Vec<Option<usize>> = needs.iter().map(|(_, need)| self.position(*need)).collect();
        let rules = rules(&seen.manifest);
        let before: Vec<Option<usize>> = needs.iter().map(|(_, need)| self.position_before(*need)).collect();
        let places = place_again(&candidates, &placed, &before, rules);
        let crowded = crowded_zones(&candidates, &places, rules);
        let limit_binds = rules.zone_limit.is_some() && candidates.iter().any(|candidate| candidate.eligible);
        let homeless_why = if limit_binds { TOO_FEW_ZONES } else { NO_BACKEND };
        let mut plan = Plan { homeless_why, ..Plan::default() };
        for (index, need) in &needs {
            match *need {
                Need::InPlace(at, mode) => plan.add(*index, Some(at), (at, mode), Means::Rebuild),
                Need::Elsewhere(from, means) => {
                    match places[usize::from(*index)].and_then(|position| self.registry.at(position)) {
                        Some(to) => {
                            plan.add(*index, from, (to.id, self.mode(*index, to.id)), means);
                            plan.note_crowding(crowded.contains(&to.zone));
                        }
                        None => plan.homeless.push(*index),
                    }
                }
                Need::Nothing(_) | Need::Better(_) => {}
            }
        }
        let is_movable = |(_, need): &&(u8, Need)| matches!(need, Need::Better(_));
        let movable: Vec<usize> = needs.iter().filter(is_movable).map(|(index, _)| usize::from(*index)).collect();
        let better = better_places(&candidates, &places, &movable, rules);
        for (index, need) in needs {
            let (Need::Better(from), shard) = (need, usize::from(index)) else { continue };
            if better[shard] == places[shard] {
                continue;
            }
            let Some(to) = better[shard].and_then(|better| self.registry.at(better)) else { continue };
            plan.add(index, Some(from), (to.id, self.mode(index, to.id)), Means::Copy);
        }
        if seen.worst_stripe_good < seen.geometry().data_shards() {
            plan.tasks.retain(|task| task.means == Means::Copy);
        }
        plan.discards = self.discards(&plan);
        plan
    }

    fn need(&self, index: u8) -> Need {
        let copies: Vec<&CopyFinding> = self.seen.copies_of(index).collect();
        let stays = |copy: &&&CopyFinding| copy.backend.is_some_and(|backend| !self.leaving.contains(&backend));
        let good = || copies.iter().filter(|copy| is_good(copy.state));
        // The copy that counts, even where a better place for it exists: one too many beside it makes that none the better.
        let rank = |copy: &&&CopyFinding| (copy.state == ShardState::Surplus, copy.state);
        if let Some(copy) = good().filter(stays).min_by_key(rank) {
            return match copy.backend.filter(|_| copy.state == ShardState::Misplaced) {
                Some(from) => Need::Better(from),
                None => Need::Nothing(copy.backend.and_then(|backend| self.registry.position(backend))),
            };
        }
        if let Some(copy) = good().next() {
            return Need::Elsewhere(copy.backend, Means::Copy);
        }
        let of_state = |state: ShardState| copies.iter().filter(move |copy| copy.state == state);
        if let Some(copy) = of_state(ShardState::Unreachable).find(stays) {
            return Need::Nothing(copy.backend.and_then(|backend| self.registry.position(backend)));
        }
        let recorded = || copies.iter().filter(|copy| copy.recorded).filter_map(|copy| copy.backend);
        let bad_at = |backend: &BackendId| self.is_bad(index, *backend);
        if let Some(at) = recorded().filter(bad_at).find(|backend| self.takes(*backend)) {
            return Need::InPlace(at, WriteMode::Replace);
        }
        let unsure = |copy: &&&CopyFinding| copy.backend.is_some_and(|at| !self.is_bad(index, at));
        if let Some(copy) = of_state(ShardState::Corrupt).filter(stays).filter(|copy| copy.recorded).find(unsure) {
            return Need::Nothing(copy.backend.and_then(|backend| self.registry.position(backend)));
        }
        let has_room = |backend: &BackendId| !self.seen.full_places.contains(backend);
        let missing = of_state(ShardState::Missing).filter_map(|copy| copy.backend).filter(has_room);
        if let Some(at) = missing.clone().find(|backend| self.takes(*backend)) {
            return Need::InPlace(at, self.mode(index, at));
        }
        let leaving = recorded().find(|backend| self.leaving.contains(backend));
        Need::Elsewhere(leaving.or_else(|| recorded().next()), Means::Rebuild)
    }

    /// Whether a bad copy is there, beyond doubt.
    fn is_bad(&self, index: u8, backend: BackendId) -> bool {
        self.bad_twice.contains(&(index, backend))
    }

    fn mode(&self, index: u8, backend: BackendId) -> WriteMode {
        if self.is_bad(index, backend) { WriteMode::Replace } else { WriteMode::Create }
    }

    /// Whether it may be written to; a full place takes the shard that replaces a bad one of the same length.
    fn takes(&self, backend: BackendId) -> bool {
        let open = !self.failed.contains(&backend) && !self.leaving.contains(&backend);
        open && self.registry.get(backend).is_some_and(|place| place.is_eligible())
    }

    fn position(&self, need: Need) -> Option<usize> {
        match need {
            Need::Nothing(position) => position,
            Need::InPlace(at, _) | Need::Better(at) => self.registry.position(at),
            Need::Elsewhere(..) => None,
        }
    }

    /// Where the shard is, or was before its place was lost or has to be left.
    fn position_before(&self, need: Need) -> Option<usize> {
        match need {
            Need::Elsewhere(from, _) => self.registry.position(from?),
            need => self.position(need),
        }
    }

    /// Recorded copies that are bad beyond doubt, or have to leave, while a good one stays elsewhere.
    fn discards(&self, plan: &Plan) -> Vec<(u8, BackendId)> {
        let stays = |copy: &CopyFinding| {
            is_good(copy.state) && copy.backend.is_some_and(|backend| !self.leaving.contains(&backend))
        };
        let useless = |copy: &&CopyFinding| {
            let Some(backend) = copy.backend.filter(|_| copy.recorded) else { return false };
            let useless = self.is_bad(copy.index, backend) || self.leaving.contains(&backend);
            let moved = plan.tasks.iter().any(|task| task.index == copy.index);
            useless && !moved && self.seen.copies_of(copy.index).any(stays)
        };
        let useless = self.seen.copies.iter().filter(useless);
        useless.filter_map(|copy| Some((copy.index, copy.backend?))).collect()
    }
}

impl Plan {
    fn add(&mut self, index: u8, from: Option<BackendId>, (to, mode): (BackendId, WriteMode), means: Means) {
        self.tasks.push(Task { index, from, to, mode, means, is_crowding: false });
    }

    /// Says of the last task whether its zone gets more than the seal allows.
    fn note_crowding(&mut self, is_crowding: bool) {
        if let Some(task) = self.tasks.last_mut() {
            task.is_crowding = is_crowding;
        }
    }

    /// Whether there is nothing to do.
    pub(in crate::ops) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.discards.is_empty()
    }
}
