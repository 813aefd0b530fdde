//! How backends met what was asked of them.

use super::*;
use crate::catalog::challenge::forget_oldest;
use crate::catalog::{BackendHistory, ChallengeOutcome, ChallengeRecord, ChallengesOf, CheckRecord, ObjectState};

fn challenge(to: u8, about: u8, outcome: ChallengeOutcome, when_ns: i64) -> ChallengeRecord {
    ChallengeRecord {
        object: object(about),
        index: to,
        backend: backend(to),
        outcome,
        blocks: 4,
        bad_blocks: u64::from(outcome == ChallengeOutcome::Wrong),
        when_ns,
    }
}

/// Records a look at an object; says whether it could.
fn look(world: &mut World, about: u8, challenges: &[ChallengeRecord]) -> bool {
    let (object, state, when_ns) = (object(about), ObjectState::Healthy, 1);
    let check =
        CheckRecord { object, state, margin: None, backend_margin: None, shards: Vec::new(), when_ns, full: false };
    world.catalog.record_look(&check, challenges).expect("recorded")
}

fn whens(world: &World, of: ChallengesOf, before: Option<u64>, limit: usize) -> (Vec<i64>, Option<u64>) {
    let page = world.catalog.challenges(of, before, limit).expect("read");
    (page.iter().map(|(_, challenge)| challenge.when_ns).collect(), page.last().map(|(number, _)| *number))
}

#[test]
fn every_challenge_is_in_the_history_of_its_backend_and_of_its_object() {
    use ChallengeOutcome::{Answered, Missing, Silent, Wrong};
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.commit(&file(2, "b", 1, &[]));
    assert!(world.catalog.histories().expect("read").is_empty());
    let outcomes = [Answered, Wrong, Answered, Missing, Silent, Silent, Answered];
    for (when_ns, outcome) in (10..).zip(outcomes) {
        assert!(look(&mut world, 1, &[challenge(0, 1, outcome, when_ns), challenge(1, 1, Answered, when_ns)]));
    }
    assert!(look(&mut world, 2, &[challenge(0, 2, Answered, 99)]));
    let histories = world.catalog.histories().expect("read");
    let (answered, wrong, missing, silent) = (4, 1, 1, 2);
    let (first_ns, last_ns, last_failed_ns) = (10, 99, Some(15));
    let expected = BackendHistory { answered, wrong, missing, silent, first_ns, last_ns, last_failed_ns };
    assert_eq!(histories[&backend(0)], expected);
    assert_eq!((histories[&backend(1)].answered, histories[&backend(1)].last_failed_ns), (7, None));
    assert_eq!(whens(&world, ChallengesOf::Failed(backend(0)), None, 3).0, [15, 14, 13]);
    let (newest, before) = whens(&world, ChallengesOf::Backend(backend(0)), None, 5);
    assert_eq!(newest, [99, 16, 15, 14, 13]);
    assert_eq!(whens(&world, ChallengesOf::Backend(backend(0)), before, 5).0, [12, 11, 10]);
    assert_eq!(whens(&world, ChallengesOf::Object(object(2)), None, 5).0, [99]);
    let page = world.catalog.challenges(ChallengesOf::Failed(backend(0)), None, 10).expect("read");
    assert_eq!(page[3].1, challenge(0, 1, Wrong, 11));
    assert!(!look(&mut world, 77, &[challenge(0, 77, Wrong, 100)]), "nobody knows such an object");
    assert_eq!(world.catalog.histories().expect("read")[&backend(0)], expected);
}

#[test]
fn the_oldest_challenges_of_a_backend_are_forgotten_and_what_they_come_to_is_not() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    for when_ns in 0..40 {
        let both = [0, 1].map(|to| challenge(to, 1, ChallengeOutcome::Silent, when_ns));
        assert!(look(&mut world, 1, &both));
    }
    for (most, left) in [(50, 40), (12, 12), (12, 12)] {
        world.catalog.write(|tx| forget_oldest(tx, backend(0), most)).expect("forgotten");
        let (kept, _) = whens(&world, ChallengesOf::Backend(backend(0)), None, 100);
        assert_eq!(kept, (40 - left..40).rev().collect::<Vec<i64>>());
    }
    assert_eq!(whens(&world, ChallengesOf::Backend(backend(1)), None, 100).0.len(), 40);
    assert_eq!(whens(&world, ChallengesOf::Failed(backend(0)), None, 100).0.len(), 12);
    let histories = world.catalog.histories().expect("read");
    assert_eq!((histories[&backend(0)].silent, histories[&backend(1)].silent), (40, 40));
}

#[test]
fn a_rebuild_keeps_the_history_of_backends() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    assert!(look(&mut world, 1, &[challenge(0, 1, ChallengeOutcome::Wrong, 5)]));
    let before = world.catalog.histories().expect("read");
    let newer = world.folder.path().join("newer.db");
    drop(Catalog::create(&newer, key()).expect("created"));
    assert!(world.catalog.rebuild_into(&newer).expect("rebuilt").is_empty());
    assert!(!world.catalog.object_is_live(object(1)).expect("asked"));
    assert_eq!(world.catalog.histories().expect("read"), before);
    assert_eq!(whens(&world, ChallengesOf::Object(object(1)), None, 5).0, [5]);
}
