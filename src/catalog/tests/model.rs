//! Random histories, committed in random orders, held against a naive model of what should follow from them.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NAMES: [&str; 3] = ["a", "b", "a/c"];

/// One thing that some machine did: its numbers choose among what there is by then.
#[derive(Debug, Clone)]
enum Step {
    /// A version of one to three pieces, one object a piece, over the heads that this machine has heard of.
    Put { name: usize, pieces: u32, knows: u8 },
    /// The objects of an earlier put are packed together into a new object, and the old ones removed.
    Repack { put: usize },
    /// A version is removed, with or without its objects.
    Remove { put: usize, with_objects: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..NAMES.len(), 1..4_u32, any::<u8>()).prop_map(|(name, pieces, knows)| Step::Put { name, pieces, knows }),
        1 => (0..64_usize).prop_map(|put| Step::Repack { put }),
        2 => (0..64_usize, any::<bool>()).prop_map(|(put, with_objects)| Step::Remove { put, with_objects }),
    ]
}

/// The history as commits, in the order in which they were made.
fn history(steps: &[Step]) -> Vec<Commit> {
    let mut commits = Vec::new();
    let mut puts: Vec<(Vec<Piece>, Vec<u8>)> = Vec::new();
    let mut next: u8 = 1;
    let mut fresh = || {
        // Scattered, so that the order of ids is not the order of time.
        next += 1;
        next.wrapping_mul(77)
    };
    for step in steps {
        match step {
            Step::Put { name: chosen, pieces: count, knows } => {
                let text = NAMES[*chosen];
                let number = fresh();
                let known: Vec<&Piece> = (0..=u8::MAX)
                    .zip(puts.iter().flat_map(|(pieces, _)| pieces.last()).filter(|last| last.name.as_str() == text))
                    .filter(|(position, _)| knows & (1 << (position % 8)) != 0)
                    .map(|(_, last)| last)
                    .collect();
                let generation = |piece: &&Piece| piece.last.as_ref().map_or(0, |whole| whole.generation);
                let generation = 1 + known.iter().map(generation).max().unwrap_or(0);
                let parents: Vec<u8> = known.iter().rev().take(2).map(|piece| piece.version.0[0]).collect();
                let mut made: Vec<Piece> = (0..count - 1).map(|ordinal| piece(number, text, ordinal)).collect();
                made.push(last_piece(number, text, (count - 1, generation), &parents));
                let objects: Vec<u8> = made.iter().map(|_| fresh()).collect();
                commits.extend(made.iter().zip(&objects).map(|(p, o)| commit_of(*o, pieces(std::slice::from_ref(p)))));
                puts.push((made, objects));
            }
            Step::Repack { put } if !puts.is_empty() => {
                let position = put % puts.len();
                let (made, objects) = &mut puts[position];
                let packed = fresh();
                commits.push(commit_of(packed, pieces(made)));
                commits.push(removal(fresh(), &[], objects));
                *objects = vec![packed];
            }
            Step::Remove { put, with_objects } if !puts.is_empty() => {
                let (made, objects) = &puts[put % puts.len()];
                let last = made.last().expect("at least one piece");
                let generation = last.last.as_ref().map_or(0, |whole| whole.generation);
                let versions = [(last.version.0[0], last.name.as_str(), generation)];
                let objects: &[u8] = if *with_objects { objects } else { &[] };
                commits.push(removal(fresh(), &versions, objects));
            }
            _ => {}
        }
    }
    commits
}

/// What should be known once these commits were made, in whatever order: found by looking at all of them every time.
#[derive(Debug, PartialEq)]
struct Expected {
    complete: BTreeSet<VersionId>,
    removed: BTreeSet<VersionId>,
    heads: BTreeMap<&'static str, Vec<VersionId>>,
    generations: BTreeMap<&'static str, u64>,
    live_objects: Vec<ObjectId>,
    pending: BTreeSet<(ObjectId, u8, BackendId)>,
    unfinished: BTreeSet<VersionId>,
}

impl Expected {
    fn of(commits: &[Commit]) -> Self {
        let removals: Vec<&Removal> = commits.iter().filter_map(|commit| commit.index.removal.as_ref()).collect();
        let dead: BTreeSet<ObjectId> = removals.iter().flat_map(|r| &r.objects).map(|removed| removed.object).collect();
        let removed_versions: Vec<&RemovedVersion> = removals.iter().flat_map(|r| &r.versions).collect();
        let removed: BTreeSet<VersionId> = removed_versions.iter().map(|r| r.version).collect();
        let alive = |commit: &&Commit| !dead.contains(&commit.object.id);
        let known: Vec<&Piece> = commits.iter().flat_map(|commit| &commit.index.pieces).collect();
        let present: BTreeSet<(VersionId, u32)> = commits
            .iter()
            .filter(alive)
            .flat_map(|commit| &commit.index.pieces)
            .map(|piece| (piece.version, piece.ordinal))
            .collect();
        let wholes: BTreeMap<VersionId, &Piece> =
            known.iter().filter(|piece| piece.last.is_some()).map(|piece| (piece.version, *piece)).collect();
        let is_complete = |last: &&Piece| (0..=last.ordinal).all(|ordinal| present.contains(&(last.version, ordinal)));
        let complete: BTreeSet<VersionId> =
            wholes.values().filter(|last| is_complete(last)).map(|p| p.version).collect();
        let live: BTreeSet<VersionId> = complete.difference(&removed).copied().collect();
        let generation = |id: &VersionId| {
            let told = removed_versions.iter().find(|r| r.version == *id).map(|r| r.generation);
            wholes.get(id).and_then(|last| last.last.as_ref()).map(|whole| whole.generation).or(told)
        };
        let parents = |id: &VersionId| wholes.get(id).and_then(|last| last.last.clone()).map_or(vec![], |w| w.parents);
        let descends = |from: VersionId, to: VersionId| {
            let (mut seen, mut ahead) = (BTreeSet::new(), parents(&from));
            while let Some(next) = ahead.pop() {
                if seen.insert(next) {
                    ahead.extend(parents(&next));
                }
            }
            seen.contains(&to)
        };
        let named = |text: &str, id: &VersionId| {
            let removed = removed_versions.iter().any(|r| r.version == *id && r.name.as_str() == text);
            removed || known.iter().any(|piece| piece.version == *id && piece.name.as_str() == text)
        };
        let heads_of = |text: &str| {
            let of_name: Vec<VersionId> = live.iter().copied().filter(|id| named(text, id)).collect();
            let is_head = |id: &VersionId| !of_name.iter().any(|other| other != id && descends(*other, *id));
            let mut heads: Vec<VersionId> = of_name.iter().copied().filter(is_head).collect();
            heads.sort_by_key(|id| std::cmp::Reverse((generation(id), *id)));
            heads
        };
        let everything: BTreeSet<VersionId> = known.iter().map(|p| p.version).chain(removed.iter().copied()).collect();
        let highest =
            |text: &str| everything.iter().filter(|id| named(text, id)).filter_map(generation).max().unwrap_or(0);
        let mut live_objects: Vec<ObjectId> = commits.iter().filter(alive).map(|commit| commit.object.id).collect();
        live_objects.sort_unstable();
        live_objects.dedup();
        let pending = dead.iter().flat_map(|object| (0..3).map(|index| (*object, index, backend(index)))).collect();
        let begun = present.iter().map(|(version, _)| *version);
        Self {
            unfinished: begun.filter(|id| !complete.contains(id) && !removed.contains(id)).collect(),
            heads: NAMES.iter().map(|text| (*text, heads_of(text))).collect(),
            generations: NAMES.iter().map(|text| (*text, highest(text))).collect(),
            complete,
            removed,
            live_objects,
            pending,
        }
    }

    fn found_in(catalog: &Catalog) -> Self {
        let versions: Vec<_> = NAMES.iter().flat_map(|text| catalog.versions(&name(text)).expect("versions")).collect();
        let heads = |text: &&'static str| {
            (*text, catalog.heads(&name(text)).expect("heads").iter().map(|head| head.id).collect())
        };
        let generation = |text: &&'static str| (*text, catalog.highest_generation(&name(text)).expect("generation"));
        let pending = catalog.pending_deletes(None, 10_000).expect("deletes");
        Self {
            complete: versions.iter().filter(|version| version.complete).map(|version| version.id).collect(),
            removed: versions.iter().filter(|version| version.removed).map(|version| version.id).collect(),
            heads: NAMES.iter().map(heads).collect(),
            generations: NAMES.iter().map(generation).collect(),
            live_objects: catalog.objects_after(None, 10_000).expect("objects"),
            pending: pending.iter().map(|delete| (delete.object, delete.index, delete.backend)).collect(),
            unfinished: catalog.unfinished().expect("unfinished").iter().map(|version| version.id).collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_known_follows_from_what_was_committed_and_not_from_the_order(
        steps in prop::collection::vec(step(), 1..14),
        order in prop::collection::vec(any::<u32>(), 128),
        again in any::<u64>(),
        cut in 0..200_usize,
    ) {
        let mut commits: Vec<(u32, Commit)> = order.into_iter().zip(history(&steps)).collect();
        commits.sort_by_key(|(rank, _)| *rank);
        let mut commits: Vec<Commit> = commits.into_iter().map(|(_, commit)| commit).collect();
        // Some machine has not heard of everything yet.
        commits.truncate(commits.len().min(cut));
        let mut world = World::new();
        for (position, commit) in commits.iter().enumerate() {
            world.commit(commit);
            if again >> (position % 64) & 1 == 1 {
                world.commit(&commits[position / 2]);
            }
        }
        prop_assert_eq!(Expected::found_in(&world.catalog), Expected::of(&commits));
        let listed = world.catalog.list("", None, 100).expect("listed");
        for file in &listed {
            let heads = world.catalog.heads(&file.newest.name).expect("heads");
            prop_assert_eq!(heads.first(), Some(&file.newest));
            prop_assert_eq!(heads.len() as u64, file.head_count);
        }
        world.catalog.check().expect("whole");
    }
}
