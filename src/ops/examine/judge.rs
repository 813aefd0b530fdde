//! From what was read to what it means: the state of each copy, the state and the margins of the object. Pure.

use super::locate::{Copy, Presence};
use super::read::{CopyReading, Reading};
use super::{CopyFinding, Defect, Depth, Examination, Subject, is_good};
use crate::backend::placement::{PlacementRules, better_places, margin};
use crate::backend::{BackendRegistry, Zone};
use crate::catalog::{ObjectHealth, ObjectState, ShardRecord, ShardState};
use crate::format::Manifest;
use crate::id::BackendId;
use crate::ops::reader::ObjectReader;
use std::collections::{BTreeMap, BTreeSet};

/// What was seen of an object, not judged yet.
pub(super) struct Seen {
    pub(super) copies: Vec<Copy>,
    pub(super) reading: Reading,
    pub(super) reader: ObjectReader,
    /// Shards of which a copy that waits for deletion is on a place that does not answer: where no other is good, that is
    /// the shard, and is recorded again once it can be looked at. And shards that nobody has, while a place where one may
    /// have been moved did not answer.
    pub(super) may_return: BTreeSet<u8>,
}

/// Judges what was seen.
pub(super) fn judge(subject: Subject, registry: &BackendRegistry, seen: Seen, depth: Depth) -> Examination {
    let Seen { copies, reading, reader, may_return } = seen;
    let mut findings = findings(copies, &reading, &subject.manifest);
    settle(&subject, registry, &mut findings, depth);
    settle_misplaced(&subject, registry, &mut findings);
    let worst = Worst::of(&subject, registry, &findings, &reading, &may_return);
    let without_bad: Vec<bool> = findings.iter().map(|finding| is_good(finding.state)).collect();
    let data_shards = subject.manifest.geometry().data_shards();
    let at_worst = Worst::of_stripe(registry, &findings, &without_bad, (data_shards, &may_return));
    let moved_away = take_moved_away(&mut findings);
    add_never_placed(&subject, &mut findings);
    let mut examination = Examination {
        state: worst.state(&subject, &findings),
        margin: worst.margin,
        backend_margin: worst.backend_margin,
        worst_stripe_good: worst.good,
        copies: findings,
        moved_away,
        bytes_read: reading.bytes_read,
        blocks_checked: reading.blocks_checked,
        full: depth == Depth::Full,
        full_places: subject.full_places,
        reader,
        manifest: subject.manifest,
    };
    if let Some(health) = &subject.health {
        let may_return = !may_return.is_empty();
        recall_object((&subject.recorded, data_shards, may_return), health, &at_worst, &mut examination);
    }
    examination
}

/// What is to be said of each copy by itself.
pub(super) fn findings(copies: Vec<Copy>, reading: &Reading, manifest: &Manifest) -> Vec<CopyFinding> {
    let stripe_count = manifest.layout().stripe_count();
    copies.into_iter().zip(&reading.copies).map(|(copy, reading)| finding(copy, reading, stripe_count)).collect()
}

fn finding(copy: Copy, reading: &CopyReading, stripe_count: u64) -> CopyFinding {
    let presence = reading.gone.clone().unwrap_or(copy.presence);
    let (state, bytes, bad_blocks, defect) = match presence {
        Presence::Absent => (ShardState::Missing, 0, 0, Some(Defect::Missing)),
        Presence::Unknown(defect) => (ShardState::Unreachable, 0, 0, Some(defect)),
        Presence::Unreadable(defect) => (ShardState::Corrupt, 0, stripe_count, Some(defect)),
        Presence::There(bytes) => {
            let defect = defect_of(reading);
            let state = if defect.is_some() { ShardState::Corrupt } else { ShardState::Ok };
            (state, bytes, reading.bad_blocks, defect)
        }
    };
    CopyFinding {
        index: copy.index,
        backend: Some(copy.backend),
        recorded: copy.recorded,
        state,
        bytes,
        read_blocks: reading.read_blocks,
        bad_blocks,
        defect,
    }
}

fn defect_of(reading: &CopyReading) -> Option<Defect> {
    let blocks =
        reading.first_bad.map(|first| Defect::Blocks { bad: reading.bad_blocks, read: reading.read_blocks, first });
    match &reading.edge {
        Some(length @ Defect::Length { .. }) => Some(length.clone()),
        edge => blocks.or_else(|| edge.clone()),
    }
}

/// Damage that a closer look found stays known until a look as close says otherwise.
fn recall(recorded: &[ShardRecord], findings: &mut [CopyFinding]) {
    for finding in findings.iter_mut().filter(|finding| finding.state == ShardState::Ok) {
        let is_it = |record: &&ShardRecord| (record.index, Some(record.backend)) == (finding.index, finding.backend);
        let Some(record) = recorded.iter().find(is_it).filter(|record| is_known_bad(record)) else { continue };
        finding.state = ShardState::Corrupt;
        finding.bad_blocks = record.bad_blocks;
        finding.defect = Some(Defect::KnownBefore { bad: record.bad_blocks });
    }
}

/// Whether a copy was damaged when it was last seen.
fn is_known_bad(record: &ShardRecord) -> bool {
    record.state == ShardState::Corrupt || record.state == ShardState::Unreachable && record.bad_blocks > 0
}

/// Which stripes the damage known from before is in is not known any more: what was said of the object then still holds, as
/// far as it needs the copies that were damaged. `at_worst` is how it stands without them.
fn recall_object(
    (recorded, data_shards, may_return): (&[ShardRecord], usize, bool),
    health: &ObjectHealth,
    at_worst: &Worst,
    examination: &mut Examination,
) {
    let is_recalled = |copy: &CopyFinding| {
        let is_it = |record: &&ShardRecord| (record.index, Some(record.backend)) == (copy.index, copy.backend);
        let is_silent = copy.state == ShardState::Unreachable;
        let is_known = is_silent && recorded.iter().find(is_it).is_some_and(is_known_bad);
        is_known || matches!(copy.defect, Some(Defect::KnownBefore { .. }))
    };
    // A full look has seen for itself.
    if examination.full || health.checked_ns.is_none() || !examination.copies.iter().any(is_recalled) {
        return;
    }
    let has_answered = |copy: &CopyFinding| copy.state != ShardState::Unreachable;
    let before = |margin: Option<u32>| margin.map(|margin| margin as usize);
    let least = |now: Option<usize>, then: Option<usize>| now.zip(then).map(|(now, then)| now.min(then));
    let (mut margin, mut backend_margin) = (before(health.margin), before(health.backend_margin));
    // What was out of reach then has answered.
    let is_over =
        health.state == ObjectState::Unavailable && examination.copies.iter().all(has_answered) && !may_return;
    if at_worst.good >= data_shards {
        margin = margin.max(at_worst.margin);
        backend_margin = backend_margin.max(at_worst.backend_margin);
    } else if is_over {
        // Which stripes are short nobody knows.
        (margin, backend_margin) = (Some(0), Some(0));
    } else {
        examination.state = examination.state.max(health.state);
    }
    examination.margin = least(examination.margin, margin);
    examination.backend_margin = least(examination.backend_margin, backend_margin);
}

/// Of several good copies of a shard one counts: not on a place that is being emptied, where the others are few, recorded.
fn settle_surplus(registry: &BackendRegistry, findings: &mut [CopyFinding]) {
    let mut good: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for (number, finding) in findings.iter().enumerate().filter(|(_, finding)| is_good(finding.state)) {
        good.entry(finding.index).or_default().push(number);
    }
    let mut in_zone: BTreeMap<Option<&Zone>, usize> = BTreeMap::new();
    for numbers in good.values().filter(|numbers| numbers.len() == 1) {
        *in_zone.entry(zone_of(registry, &findings[numbers[0]])).or_default() += 1;
    }
    for numbers in good.into_values().filter(|numbers| numbers.len() > 1) {
        let cost = |number: &usize| {
            let finding = &findings[*number];
            let place = finding.backend.and_then(|backend| registry.get(backend));
            let leaving = place.is_none_or(|place| place.draining || place.volatile);
            (leaving, in_zone.get(&zone_of(registry, finding)).copied().unwrap_or(0), !finding.recorded)
        };
        let Some(kept) = numbers.iter().copied().min_by_key(cost) else { continue };
        *in_zone.entry(zone_of(registry, &findings[kept])).or_default() += 1;
        for number in numbers.into_iter().filter(|number| *number != kept) {
            findings[number].state = ShardState::Surplus;
        }
    }
}

fn zone_of<'a>(registry: &'a BackendRegistry, finding: &CopyFinding) -> Option<&'a Zone> {
    registry.get(finding.backend?).map(|place| &place.zone)
}

/// Finds the shards for which a strictly better place exists.
fn settle_misplaced(subject: &Subject, registry: &BackendRegistry, findings: &mut [CopyFinding]) {
    let better = moves(subject, registry, findings);
    let is_whole = |finding: &&mut CopyFinding| finding.state == ShardState::Ok;
    for finding in findings.iter_mut().filter(is_whole) {
        if better.contains_key(&usize::from(finding.index)) {
            finding.state = ShardState::Misplaced;
            finding.defect = Some(Defect::BetterPlace);
        }
    }
}

/// Which whole shards would be better elsewhere, and where.
fn moves(subject: &Subject, registry: &BackendRegistry, findings: &[CopyFinding]) -> BTreeMap<usize, Option<usize>> {
    let closed = [subject.failed_writers.as_slice(), &subject.full_places].concat();
    let candidates = registry.candidates(&closed);
    let placed = placed(subject, registry, findings);
    let is_whole = |finding: &&CopyFinding| finding.state == ShardState::Ok;
    let movable: Vec<usize> = findings.iter().filter(is_whole).map(|finding| finding.index.into()).collect();
    let better = better_places(&candidates, &placed, &movable, rules(&subject.manifest));
    movable.into_iter().filter(|index| better[*index] != placed[*index]).map(|index| (index, better[index])).collect()
}

/// The places to which whole shards would be moved, had they room.
pub(super) fn wanted_places(
    subject: &Subject,
    registry: &BackendRegistry,
    seen: &Seen,
    depth: Depth,
) -> BTreeSet<BackendId> {
    let mut findings = findings(seen.copies.clone(), &seen.reading, &subject.manifest);
    settle(subject, registry, &mut findings, depth);
    let positions = moves(subject, registry, &findings).into_values().flatten();
    positions.filter_map(|position| registry.at(position)).map(|place| place.id).collect()
}

/// Everything that is to be said of the copies before it matters where they should be.
fn settle(subject: &Subject, registry: &BackendRegistry, findings: &mut [CopyFinding], depth: Depth) {
    if depth != Depth::Full {
        recall(&subject.recorded, findings);
    }
    settle_surplus(registry, findings);
}

/// Where each shard is, or may be again: its good copy, or else a place that does not answer, has a bad one, or lost it.
fn placed(subject: &Subject, registry: &BackendRegistry, findings: &[CopyFinding]) -> Vec<Option<usize>> {
    let mut placed = vec![None; subject.manifest.geometry().total_shards()];
    for wanted in [ShardState::Ok, ShardState::Unreachable, ShardState::Corrupt, ShardState::Missing] {
        for finding in findings.iter().filter(|finding| finding.state == wanted) {
            let position = finding.backend.and_then(|backend| registry.position(backend));
            let place = &mut placed[usize::from(finding.index)];
            *place = place.or(position);
        }
    }
    placed
}

/// The rules by which an object's shards find other places: the turn follows from its random id.
pub(in crate::ops) fn rules(manifest: &Manifest) -> PlacementRules {
    let [first, second, ..] = *manifest.object().as_bytes();
    let rotation = usize::from(u16::from_le_bytes([first, second]));
    PlacementRules {
        data_shards: manifest.geometry().data_shards(),
        rotation,
        zone_limit: manifest.seal().zone_limit(manifest.geometry()),
    }
}

/// The worst that is true of any stripe.
struct Worst {
    good: usize,
    /// Good, or in a place that does not answer.
    possible: usize,
    margin: Option<usize>,
    backend_margin: Option<usize>,
}

impl Worst {
    fn of(
        subject: &Subject,
        registry: &BackendRegistry,
        findings: &[CopyFinding],
        reading: &Reading,
        may_return: &BTreeSet<u8>,
    ) -> Self {
        let data_shards = subject.manifest.geometry().data_shards();
        let of_stripe = |pattern: &[bool]| Self::of_stripe(registry, findings, pattern, (data_shards, may_return));
        let mut worst: Option<Self> = None;
        for pattern in &reading.patterns {
            let stripe = of_stripe(pattern);
            worst = Some(match worst {
                None => stripe,
                Some(worst) => worst.and(&stripe),
            });
        }
        worst.unwrap_or_else(|| of_stripe(&[]))
    }

    fn of_stripe(
        registry: &BackendRegistry,
        findings: &[CopyFinding],
        pattern: &[bool],
        (data_shards, may_return): (usize, &BTreeSet<u8>),
    ) -> Self {
        let mut good: BTreeMap<u8, BackendId> = BTreeMap::new();
        let mut lasting: BTreeMap<u8, (&Zone, BackendId)> = BTreeMap::new();
        // A copy too many counts only where the one that counts is bad.
        let (surplus, others): (Vec<_>, Vec<_>) =
            findings.iter().zip(pattern).partition(|(finding, _)| finding.state == ShardState::Surplus);
        for (finding, _) in others.into_iter().chain(surplus).filter(|(_, good)| **good) {
            let Some(place) = finding.backend.and_then(|backend| registry.get(backend)) else { continue };
            good.entry(finding.index).or_insert(place.id);
            if !place.volatile {
                lasting.entry(finding.index).or_insert((&place.zone, place.id));
            }
        }
        let silent = findings.iter().filter(|finding| finding.state == ShardState::Unreachable);
        let silent: BTreeSet<u8> = silent
            .map(|finding| finding.index)
            .chain(may_return.iter().copied())
            .filter(|index| !good.contains_key(index))
            .collect();
        Self {
            good: good.len(),
            possible: good.len() + silent.len(),
            margin: margin(lasting.values().map(|(zone, _)| *zone), data_shards),
            backend_margin: margin(lasting.values().map(|(_, backend)| *backend), data_shards),
        }
    }

    fn and(self, other: &Self) -> Self {
        let least = |a: Option<usize>, b: Option<usize>| a.zip(b).map(|(a, b)| a.min(b));
        Self {
            good: self.good.min(other.good),
            possible: self.possible.min(other.possible),
            margin: least(self.margin, other.margin),
            backend_margin: least(self.backend_margin, other.backend_margin),
        }
    }

    fn state(&self, subject: &Subject, findings: &[CopyFinding]) -> ObjectState {
        let geometry = subject.manifest.geometry();
        let in_order = |index: u8| findings.iter().any(|copy| copy.index == index && copy.state == ShardState::Ok);
        if self.possible < geometry.data_shards() {
            ObjectState::Lost
        } else if self.good < geometry.data_shards() {
            ObjectState::Unavailable
        } else if geometry.shard_indexes().all(in_order) {
            ObjectState::Healthy
        } else {
            ObjectState::Degraded
        }
    }
}

/// Takes out the places where a shard is no more while a good copy of it is somewhere else.
fn take_moved_away(findings: &mut Vec<CopyFinding>) -> Vec<(u8, BackendId)> {
    let good: BTreeSet<u8> =
        findings.iter().filter(|finding| is_good(finding.state)).map(|finding| finding.index).collect();
    let mut moved_away = Vec::new();
    findings.retain(|finding| {
        let gone = finding.state == ShardState::Missing && good.contains(&finding.index);
        if gone {
            moved_away.extend(finding.backend.map(|backend| (finding.index, backend)));
        }
        !gone
    });
    moved_away
}

fn add_never_placed(subject: &Subject, findings: &mut Vec<CopyFinding>) {
    for index in subject.manifest.geometry().shard_indexes() {
        if !findings.iter().any(|finding| finding.index == index) {
            findings.push(CopyFinding {
                index,
                backend: None,
                recorded: false,
                state: ShardState::Missing,
                bytes: 0,
                read_blocks: 0,
                bad_blocks: 0,
                defect: Some(Defect::NeverPlaced),
            });
        }
    }
    findings.sort_by_key(|finding| finding.index);
}
