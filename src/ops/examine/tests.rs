//! What is wrong is found, named, and judged; what is not looked at is not judged.

use super::*;
use crate::backend::{
    Backend, Effect, ErrorKind, Fault, FaultyBackend, MemoryBackend, Operation, Reach, RegisteredBackend, When, Zone,
};
use crate::ops::mend::sample::{SampleObject, overwrite, place};
use ShardState::{Corrupt, Misplaced, Missing, Ok as Fine, Surplus, Unreachable};
use std::sync::Arc;
use std::time::Duration;

/// An object with one shard on each of n backends, each in a zone of its own.
struct World {
    object: SampleObject,
    places: Vec<Arc<dyn Backend>>,
    registry: BackendRegistry,
    subject: Subject,
}

impl World {
    async fn new(data: usize, total: usize, stripes: u64) -> Self {
        let object = SampleObject::new(data, total, stripes);
        let places = object.spread().await;
        let mut registry = BackendRegistry::default();
        for (position, backend) in places.iter().enumerate() {
            registry.register(registered(position, &format!("zone-{position}"), backend)).expect("a new name");
        }
        registry.trust_all();
        let recorded = (0..total).map(|index| record(&object, index, index)).collect();
        let manifest = object.manifest.clone();
        let (going, failed_writers, full_places) = (Vec::new(), Vec::new(), Vec::new());
        let subject = Subject { manifest, recorded, health: None, going, failed_writers, full_places };
        Self { object, places, registry, subject }
    }

    fn add(&mut self, zone: &str) -> Arc<dyn Backend> {
        let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        self.registry.register(registered(self.places.len(), zone, &backend)).expect("a new name");
        self.registry.trust_all();
        self.places.push(Arc::clone(&backend));
        backend
    }

    /// Makes a backend one that did not answer when it was asked for its mark.
    fn silence(&mut self, position: usize) {
        let error = Arc::new(crate::backend::Error::new(ErrorKind::Unreachable, "asking"));
        self.change(position, |backend| backend.reach = Reach::Unreachable(Arc::clone(&error)));
    }

    /// Lets a backend fail as it is told from now on.
    fn make_faulty(&mut self, position: usize, seed: u64) -> Arc<FaultyBackend> {
        let faulty = Arc::new(FaultyBackend::new(Arc::clone(&self.places[position]), seed));
        self.change(position, |backend| backend.backend = Arc::clone(&faulty) as Arc<dyn Backend>);
        faulty
    }

    fn change(&mut self, position: usize, change: impl Fn(&mut RegisteredBackend)) {
        let mut registry = BackendRegistry::default();
        for (other, backend) in self.registry.iter().enumerate() {
            let mut backend = backend.clone();
            if other == position {
                change(&mut backend);
            }
            registry.register(backend).expect("names as before");
        }
        self.registry = registry;
    }

    async fn set(&self, position: usize, index: u8, bytes: &[u8]) {
        overwrite(self.places[position].as_ref(), self.object.shard(index), bytes).await;
    }

    async fn delete(&self, position: usize, index: u8) {
        self.places[position].delete(self.object.shard(index)).await.expect("deleted");
    }

    async fn look(&self, depth: Depth) -> Examination {
        let subject = self.subject.clone();
        subject.examine(&self.registry, depth, &Controls::default()).await.expect("examined")
    }

    async fn states(&self, depth: Depth) -> Vec<ShardState> {
        self.look(depth).await.copies.iter().map(|copy| copy.state).collect()
    }
}

fn registered(position: usize, zone: &str, backend: &Arc<dyn Backend>) -> RegisteredBackend {
    let zone = Zone::new(zone).expect("a zone");
    RegisteredBackend::new(place(position), format!("backend-{position}"), zone, Arc::clone(backend))
}

fn record(object: &SampleObject, index: usize, position: usize) -> ShardRecord {
    ShardRecord {
        index: index as u8,
        backend: place(position),
        bytes: object.files[index].len() as u64,
        state: Fine,
        bad_blocks: 0,
        verified_ns: None,
    }
}

const EVERYTHING: Depth = Depth::Sample(Sample { share: 1.0, seed: [0; 32] });

#[tokio::test]
async fn a_whole_object_is_healthy_at_every_depth_and_its_margins_are_those_of_its_places() {
    let world = World::new(3, 5, 4).await;
    for depth in [Depth::Quick, EVERYTHING, Depth::Full] {
        let seen = world.look(depth).await;
        assert_eq!(seen.state, ObjectState::Healthy, "{:?}", seen.copies);
        assert_eq!((seen.margin, seen.backend_margin, seen.worst_stripe_good), (Some(2), Some(2), 5));
        assert!(seen.copies.iter().all(|copy| copy.state == Fine && copy.defect.is_none()));
    }
    let all: u64 = world.object.files.iter().map(|file| file.len() as u64).sum();
    assert!(world.look(Depth::Full).await.bytes_read >= all, "every byte is read");
    assert!(world.look(Depth::Quick).await.bytes_read < all);
}

#[tokio::test]
async fn every_single_bit_that_flips_in_a_shard_file_is_found_and_the_shard_named() {
    let world = World::new(2, 3, 3).await;
    let layout = ShardFileLayout::of(&world.object.manifest);
    let mut file = world.object.files[1].clone();
    for byte in 0..file.len() {
        for bit in 0..8 {
            file[byte] ^= 1 << bit;
            world.set(1, 1, &file).await;
            let seen = world.look(Depth::Full).await;
            let states: Vec<_> = seen.copies.iter().map(|copy| copy.state).collect();
            assert_eq!(states, [Fine, Corrupt, Fine], "byte {byte}, bit {bit}");
            assert_eq!(
                (seen.state, seen.margin),
                (ObjectState::Degraded, Some(u64::from(!layout.blocks().contains(&(byte as u64))) as usize))
            );
            let bad = u64::from(layout.blocks().contains(&(byte as u64)));
            assert_eq!(seen.copies[1].bad_blocks, bad, "byte {byte}");
            file[byte] ^= 1 << bit;
        }
    }
}

#[tokio::test]
async fn every_truncation_and_every_longer_file_is_found() {
    let world = World::new(2, 3, 3).await;
    let file = &world.object.files[2];
    for bytes in 0..file.len() {
        world.set(2, 2, &file[..bytes]).await;
        for depth in [Depth::Quick, EVERYTHING, Depth::Full] {
            let seen = world.look(depth).await;
            assert_eq!(seen.copies[2].state, Corrupt, "{bytes} bytes");
            let expected = Defect::Length { found: bytes as u64, expected: file.len() as u64 };
            assert_eq!(seen.copies[2].defect, Some(expected));
        }
    }
    for more in [1, 100] {
        world.set(2, 2, &[file.clone(), vec![0; more]].concat()).await;
        assert_eq!(world.states(Depth::Full).await, [Fine, Fine, Corrupt]);
        assert_eq!(world.look(Depth::Full).await.copies[2].bad_blocks, 0);
    }
}

#[tokio::test]
async fn every_swap_of_two_shards_or_of_two_objects_shards_is_found() {
    let world = World::new(3, 5, 3).await;
    for a in 0..5_u8 {
        for b in 0..a {
            world.set(a.into(), a, &world.object.files[usize::from(b)]).await;
            world.set(b.into(), b, &world.object.files[usize::from(a)]).await;
            for (index, state) in (0..).zip(world.states(Depth::Full).await) {
                assert_eq!(state == Corrupt, index == a || index == b);
            }
            for index in [a, b] {
                world.set(index.into(), index, &world.object.files[usize::from(index)]).await;
            }
        }
    }
    let other = World::new(3, 4, 3).await;
    world.set(0, 0, &other.object.files[0]).await;
    assert_eq!(world.states(Depth::Full).await, [Corrupt, Fine, Fine, Fine, Fine]);
    assert_eq!(world.states(Depth::Quick).await[0], Corrupt);
}

#[tokio::test]
async fn an_object_whose_every_shard_is_damaged_in_another_stripe_is_degraded_with_the_margin_of_its_worst_stripe() {
    let world = World::new(3, 5, 6).await;
    for index in 0..5_u8 {
        let mut file = world.object.files[usize::from(index)].clone();
        file[64 + 32 * usize::from(index)] ^= 128;
        world.set(index.into(), index, &file).await;
    }
    let seen = world.look(Depth::Full).await;
    assert_eq!((seen.state, seen.margin, seen.worst_stripe_good), (ObjectState::Degraded, Some(1), 4));
    assert!(seen.copies.iter().all(|copy| copy.state == Corrupt && copy.bad_blocks == 1));

    for index in 0..3_u8 {
        let mut file = world.object.files[usize::from(index)].clone();
        file[64 + 32 * 5] ^= 128;
        world.set(index.into(), index, &file).await;
    }
    let seen = world.look(Depth::Full).await;
    assert_eq!((seen.state, seen.margin, seen.worst_stripe_good), (ObjectState::Lost, None, 2));
}

#[tokio::test]
async fn what_is_unreachable_is_not_missing_and_may_make_up_for_what_is() {
    let mut world = World::new(3, 5, 2).await;
    world.delete(0, 0).await;
    world.delete(1, 1).await;
    let seen = world.look(Depth::Quick).await;
    assert_eq!((seen.state, seen.margin), (ObjectState::Degraded, Some(0)));
    world.silence(4);
    let seen = world.look(Depth::Full).await;
    assert_eq!((seen.state, seen.margin), (ObjectState::Unavailable, None));
    let states: Vec<_> = seen.copies.iter().map(|copy| copy.state).collect();
    assert_eq!(states, [Missing, Missing, Fine, Fine, Unreachable]);
    let recorded = seen.check_record(1).shards;
    assert_eq!(recorded[4].bytes, recorded[3].bytes, "a shard that cannot be asked for is as long as it was");
    world.delete(2, 2).await;
    assert_eq!(world.look(Depth::Full).await.state, ObjectState::Lost, "one that may come back is not enough");
}

#[tokio::test]
async fn a_place_that_stops_answering_while_it_is_read_is_unreachable_and_not_corrupt() {
    let mut world = World::new(2, 3, 4).await;
    let faulty = world.make_faulty(0, 7);
    for read in 1..4 {
        faulty.heal();
        let refuse = Effect::Refuse(ErrorKind::Unreachable);
        faulty.inject(Fault::new(Operation::Read, When::From(read), refuse));
        for depth in [Depth::Full, EVERYTHING] {
            let seen = world.look(depth).await;
            let states: Vec<_> = seen.copies.iter().map(|copy| copy.state).collect();
            assert_eq!(states, [Unreachable, Fine, Fine], "{depth:?}, read {read}: {:?}", seen.copies);
            assert_eq!((seen.state, seen.margin), (ObjectState::Degraded, Some(0)));
        }
    }
}

#[tokio::test]
async fn a_shard_that_moved_is_found_under_its_name_and_a_bad_one_there_is_not_taken_for_it() {
    let mut world = World::new(2, 3, 2).await;
    world.add("zone-3");
    world.delete(1, 1).await;
    world.set(3, 1, &world.object.files[1]).await;
    let seen = world.look(Depth::Full).await;
    assert_eq!((seen.state, &seen.moved_away), (ObjectState::Healthy, &vec![(1, place(1))]));
    assert_eq!((seen.copies[1].backend, seen.copies[1].recorded), (Some(place(3)), false));
    assert_eq!(seen.check_record(5).shards.len(), 3);

    world.set(3, 1, &world.object.files[0]).await;
    let seen = world.look(Depth::Full).await;
    assert!(seen.moved_away.is_empty());
    let of_one: Vec<_> = seen.copies_of(1).map(|copy| (copy.backend, copy.state)).collect();
    assert_eq!(of_one, [(Some(place(1)), Missing), (Some(place(3)), Corrupt)]);
    assert_eq!(seen.check_record(5).shards.len(), 3, "the catalog does not hear of the bad one");

    world.set(3, 1, &world.object.files[1]).await;
    world.subject.going.push((1, place(3)));
    assert_eq!(world.states(Depth::Full).await, [Fine, Missing, Fine], "what is to be deleted is no copy");
}

#[tokio::test]
async fn a_second_good_copy_is_surplus_and_a_shard_that_was_never_placed_is_missing() {
    let mut world = World::new(2, 3, 2).await;
    world.add("zone-0");
    world.set(3, 0, &world.object.files[0]).await;
    world.subject.recorded.push(record(&world.object, 0, 3));
    let seen = world.look(Depth::Full).await;
    assert_eq!(seen.state, ObjectState::Healthy);
    assert_eq!(seen.copies_of(0).map(|copy| copy.state).collect::<Vec<_>>(), [Fine, Surplus]);
    assert_eq!((seen.margin, seen.backend_margin), (Some(1), Some(1)), "a copy too many adds no margin");

    world.subject.recorded.retain(|record| record.index != 2);
    world.delete(2, 2).await;
    let seen = world.look(Depth::Full).await;
    let never: Vec<_> = seen.copies_of(2).map(|copy| (copy.backend, copy.state)).collect();
    assert_eq!((seen.state, never), (ObjectState::Degraded, vec![(None, Missing)]));
}

#[tokio::test]
async fn shards_that_share_a_place_are_misplaced_as_soon_as_there_is_a_better_one() {
    let mut world = World::new(2, 3, 2).await;
    for index in [1, 2] {
        world.delete(index, index as u8).await;
        world.set(0, index as u8, &world.object.files[index]).await;
        world.subject.recorded[index] = record(&world.object, index, 0);
    }
    let states = world.states(Depth::Quick).await;
    assert_eq!(states.iter().filter(|state| **state == Misplaced).count(), 2, "one may stay: {states:?}");
    let seen = world.look(Depth::Quick).await;
    assert_eq!((seen.state, seen.margin, seen.backend_margin), (ObjectState::Degraded, Some(0), Some(0)));
    world.subject.failed_writers = vec![place(1), place(2)];
    assert_eq!(world.states(Depth::Quick).await, [Fine, Fine, Fine], "a place that takes no shards is not better");
}

#[tokio::test]
async fn a_place_without_room_for_a_shard_is_no_better_one_and_one_with_room_is() {
    let mut world = World::new(2, 3, 2).await;
    world.delete(2, 2).await;
    world.set(0, 2, &world.object.files[2]).await;
    world.subject.recorded[2] = record(&world.object, 2, 0);
    let shard_bytes = world.object.files[2].len() as u64;
    for (room, place_is_better) in [(shard_bytes - 1, false), (shard_bytes, true)] {
        let full: Arc<dyn Backend> = Arc::new(MemoryBackend::with_quota(room));
        let mut registry = BackendRegistry::default();
        for (position, backend) in world.places.iter().enumerate() {
            let backend = if position == 2 { &full } else { backend };
            registry.register(registered(position, &format!("zone-{position}"), backend)).expect("a new name");
        }
        registry.trust_all();
        world.registry = registry;
        let seen = world.look(Depth::Full).await;
        let misplaced = seen.copies.iter().filter(|copy| copy.state == Misplaced).count();
        assert_eq!((misplaced == 1, seen.state == ObjectState::Healthy), (place_is_better, !place_is_better));
        assert_eq!(seen.full_places.is_empty(), place_is_better);
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_does_not_say_how_much_room_it_has_is_asked_once_and_taken_for_one_with_room() {
    let faulty = FaultyBackend::new(Arc::new(MemoryBackend::with_quota(1)), 1);
    faulty.inject(Fault::new(Operation::Stats, When::Always, Effect::Hang));
    let place = registered(0, "zone", &(Arc::new(faulty.clone()) as Arc<dyn Backend>));
    let begun = tokio::time::Instant::now();
    assert!(place.has_room_for(1_000_000).await);
    let asked = begun.elapsed();
    assert!(place.has_room_for(1_000_000).await);
    assert!(asked > Duration::ZERO && begun.elapsed() == asked, "the second time nobody waits");
}

#[tokio::test]
async fn shards_in_memory_have_no_margin() {
    let mut world = World::new(2, 3, 2).await;
    let mut registry = BackendRegistry::default();
    for backend in world.registry.iter() {
        registry.register(RegisteredBackend { volatile: true, ..backend.clone() }).expect("names as before");
    }
    world.registry = registry;
    let seen = world.look(Depth::Full).await;
    assert_eq!((seen.state, seen.margin, seen.backend_margin), (ObjectState::Healthy, None, None));
}

#[tokio::test]
async fn a_quick_look_does_not_forget_what_a_full_one_found() {
    let mut world = World::new(2, 3, 3).await;
    let mut file = world.object.files[1].clone();
    file[70] ^= 1;
    world.set(1, 1, &file).await;
    assert_eq!(world.states(Depth::Quick).await, [Fine, Fine, Fine], "it cannot see it");
    let full = world.look(Depth::Full).await;
    world.subject.recorded = full.check_record(9).shards;
    world.subject.health = Some(ObjectHealth {
        object: full.object(),
        state: full.state,
        margin: Some(0),
        backend_margin: Some(0),
        checked_ns: Some(9),
        verified_ns: Some(9),
    });
    let seen = world.look(Depth::Quick).await;
    assert_eq!((seen.state, seen.margin, seen.copies[1].bad_blocks), (ObjectState::Degraded, Some(0), 1));
    world.set(1, 1, &world.object.files[1]).await;
    assert_eq!(world.look(Depth::Full).await.state, ObjectState::Healthy, "a full look knows better");
}

#[tokio::test]
async fn what_places_did_not_answer_for_is_forgotten_once_they_do_and_the_damage_known_before_is_not() {
    let mut world = World::new(3, 5, 3).await;
    // A copy that was damaged before its place went away, and what was said while others were away too.
    world.subject.recorded[1] = ShardRecord { state: Unreachable, bad_blocks: 1, ..world.subject.recorded[1] };
    world.subject.health = Some(ObjectHealth {
        object: world.object.manifest.object(),
        state: ObjectState::Unavailable,
        margin: None,
        backend_margin: None,
        checked_ns: Some(9),
        verified_ns: Some(9),
    });
    let seen = world.look(Depth::Quick).await;
    assert_eq!((seen.state, seen.margin, seen.copies[1].state), (ObjectState::Degraded, Some(1), Corrupt));
    assert_eq!(world.look(Depth::Full).await.state, ObjectState::Healthy, "a full look knows better");
    // Without that copy there are enough, whoever else does not answer.
    world.silence(1);
    for state in [ObjectState::Unavailable, ObjectState::Lost] {
        world.subject.health.as_mut().expect("health").state = state;
        for depth in [Depth::Quick, Depth::Full] {
            let seen = world.look(depth).await;
            assert_eq!((seen.state, seen.margin), (ObjectState::Degraded, Some(1)), "{state:?} {depth:?}");
        }
    }
    // Where it may be needed, what was said holds until all of it is read.
    world.delete(2, 2).await;
    world.delete(3, 3).await;
    world.subject.recorded[4] = ShardRecord { state: Corrupt, bad_blocks: 1, ..world.subject.recorded[4] };
    assert_eq!(world.look(Depth::Quick).await.state, ObjectState::Lost);
    // What was out of reach then has answered.
    for index in [2, 3] {
        world.set(index, index as u8, &world.object.files[index]).await;
    }
    world.registry.trust_all();
    world.subject.health.as_mut().expect("health").state = ObjectState::Unavailable;
    world.subject.recorded[0] = ShardRecord { state: Corrupt, bad_blocks: 1, ..world.subject.recorded[0] };
    let seen = world.look(Depth::Quick).await;
    assert_eq!((seen.state, seen.margin), (ObjectState::Degraded, Some(0)));
}

#[tokio::test]
async fn what_may_be_on_a_place_that_answers_to_its_mark_alone_is_not_lost() {
    let mut world = World::new(2, 3, 2).await;
    world.add("zone-9");
    for index in 0..2 {
        world.delete(usize::from(index), index).await;
    }
    assert_eq!(world.look(Depth::Full).await.state, ObjectState::Lost);
    let refuse = Effect::Refuse(ErrorKind::Unreachable);
    world.make_faulty(3, 1).inject(Fault::new(Operation::Head, When::Always, refuse));
    let seen = world.look(Depth::Full).await;
    assert_eq!((seen.state, seen.copies[0].state), (ObjectState::Unavailable, Missing));
}

#[tokio::test]
async fn a_sample_reads_its_share_and_finds_what_is_in_it() {
    let world = World::new(2, 3, 40).await;
    let sample = |share: f64, seed: u8| Depth::Sample(Sample { share, seed: [seed; 32] });
    assert_eq!(world.look(sample(0.1, 1)).await.blocks_checked, 12);
    assert_eq!(world.look(sample(0.001, 1)).await.blocks_checked, 1);
    let mut file = world.object.files[0].clone();
    file[64..64 + 32 * 20].iter_mut().for_each(|byte| *byte ^= 1);
    world.set(0, 0, &file).await;
    let mut found = 0;
    for seed in 0..60 {
        let seen = world.look(sample(0.05, seed)).await;
        found += u64::from(seen.state == ObjectState::Degraded);
    }
    let expected = 60.0 * crate::merkle::detection_confidence(6, 120, 20);
    assert!((found as f64 - expected).abs() < 12.0, "found {found} times, expected about {expected}");
    assert_eq!(world.states(EVERYTHING).await, [Corrupt, Fine, Fine]);
}
