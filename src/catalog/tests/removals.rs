//! What removals do, and when they are done.

use super::*;
use crate::catalog::{Error, PendingDelete};
use std::collections::BTreeSet;

fn pending(world: &World) -> Vec<PendingDelete> {
    world.catalog.pending_deletes(None, 1000).expect("deletes")
}

#[test]
fn a_removal_makes_versions_and_objects_dead_whether_it_comes_before_or_after_them() {
    for is_first in [true, false] {
        let mut world = World::new();
        let (put, remove) = (file(1, "a", 1, &[]), removal(8, &[(1, "a", 1)], &[1]));
        let order = if is_first { [&remove, &put] } else { [&put, &remove] };
        order.into_iter().for_each(|commit| world.commit(commit));
        assert!(world.head_numbers("a").is_empty());
        assert!(!world.catalog.object_is_live(object(1)).expect("read"));
        assert!(world.catalog.shards(object(1)).expect("shards").is_empty());
        assert_eq!(pending(&world).len(), 3);
        assert_eq!(world.catalog.objects_after(None, 10).expect("objects"), [object(8)]);
        assert_eq!(world.catalog.dead_objects(None, 10).expect("objects"), [object(1)]);
        assert_eq!(world.catalog.highest_generation(&name("a")).expect("read"), 1);
    }
}

/// The removal 8, as a machine takes it in that cannot open it.
fn heard() -> Commit {
    let mut heard = removal(8, &[], &[]);
    heard.index = Index::default();
    heard
}

#[test]
fn a_removal_that_is_only_heard_of_forgets_what_it_names_and_leaves_its_deletes_to_others() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.commit(&file(2, "b", 1, &[]));
    world.catalog.commit_heard(&heard(), &[object(1), object(7)]).expect("heard");
    assert!(world.head_numbers("a").is_empty());
    assert_eq!(world.head_numbers("b"), [2]);
    assert_eq!(world.catalog.objects_after(None, 10).expect("objects"), [object(2), object(8)]);
    assert!(world.catalog.object(object(1)).expect("read").is_none() && pending(&world).is_empty());
    let stats = world.catalog.stats().expect("numbers");
    assert_eq!((stats.unfinished, stats.pending_deletes, stats.files), (0, 0, 1));
    let removed = |number| world.catalog.is_removed(object(number)).expect("read");
    assert_eq!([1, 2, 7, 8].map(removed), [true, false, true, false]);
}

#[test]
fn a_removal_that_was_heard_of_and_is_over_stays_in_force_and_may_be_found_again() {
    let mut world = World::new();
    world.catalog.commit_heard(&heard(), &[object(1)]).expect("heard");
    world.catalog.end_heard(object(8)).expect("over");
    assert!(world.catalog.objects_after(None, 10).expect("objects").is_empty() && pending(&world).is_empty());
    assert!(world.catalog.is_removed(object(1)).expect("read"));
    world.catalog.commit_heard(&heard(), &[object(1)]).expect("heard again");
    assert_eq!(world.catalog.objects_after(None, 10).expect("objects"), [object(8)]);
    assert_eq!(world.catalog.shards(object(8)).expect("shards").len(), 3);
    assert!(pending(&world).is_empty());
    // Only removals are over like this.
    world.commit(&file(2, "b", 1, &[]));
    world.catalog.end_heard(object(2)).expect("no removal");
    assert!(world.catalog.object_is_live(object(2)).expect("read"));
}

#[test]
fn a_removal_that_could_not_be_read_is_never_finished() {
    let mut world = World::new();
    world.commit(&heard());
    assert!(world.catalog.finished_removals().expect("finished").is_empty());
    assert!(matches!(world.catalog.remove_finished(object(8)), Err(Error::NotFinished { .. })));
    assert!(!world.catalog.end_elsewhere(object(8), &BTreeSet::new(), true).expect("asked"));
    assert!(world.catalog.object_is_live(object(8)).expect("read"));
}

#[test]
fn a_removal_that_is_gone_everywhere_is_over_once_nothing_of_what_it_names_can_be_there() {
    let mut world = World::new();
    let shared = [last_piece(1, "a", (0, 1), &[]), last_piece(2, "b", (0, 1), &[])];
    world.commit(&commit_of(1, pieces(&shared)));
    world.commit(&file(3, "c", 1, &[]));
    world.commit(&removal(8, &[(1, "a", 1), (4, "d", 1)], &[3]));
    let none = BTreeSet::new();
    let ends = |world: &mut World, found: &BTreeSet<ObjectId>, knows_all| {
        world.catalog.end_elsewhere(object(8), found, knows_all).expect("asked")
    };
    assert!(!ends(&mut world, &none, true), "a version that it names is in an object that lives");
    world.commit(&removal(9, &[], &[1]));
    assert!(!ends(&mut world, &none, false), "a version that it names was never seen");
    assert!(!ends(&mut world, &BTreeSet::from([object(3)]), true), "an object that it names is there");
    assert!(ends(&mut world, &none, true) && !world.catalog.object_is_live(object(8)).expect("read"));
    assert!(world.catalog.shards(object(8)).expect("shards").is_empty());
    assert!(world.catalog.is_removed(object(3)).expect("read"), "what it removed stays removed");
    assert!(!world.catalog.end_elsewhere(object(1), &none, true).expect("asked"), "only removals are over like this");
}

#[test]
fn a_dead_object_does_not_come_back_with_a_backend_that_has_its_shards() {
    let mut world = World::new();
    world.commit(&removal(8, &[(1, "a", 1)], &[1]));
    world.delete_all_pending();
    let mut back = file(1, "a", 1, &[]);
    back.shards = vec![shard(0, 0), shard(1, 5)];
    world.commit(&back);
    assert!(world.head_numbers("a").is_empty());
    assert_eq!(pending(&world).iter().map(|delete| delete.backend).collect::<Vec<_>>(), [backend(0), backend(5)]);
    assert!(world.catalog.finished_removals().expect("finished").is_empty());
    world.delete_all_pending();
    assert_eq!(world.catalog.finished_removals().expect("finished"), [object(8)]);
}

#[test]
fn a_removal_lives_until_every_shard_it_names_is_confirmed_gone() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.commit(&removal(8, &[(1, "a", 1)], &[1]));
    for delete in pending(&world) {
        assert!(world.catalog.finished_removals().expect("finished").is_empty());
        assert!(matches!(world.catalog.remove_finished(object(8)), Err(Error::NotFinished { .. })));
        world.catalog.confirm_deleted(delete.object, delete.index, delete.backend).expect("confirmed");
    }
    world.commit(&removal(8, &[(1, "a", 1)], &[1]));
    assert_eq!(world.catalog.finished_removals().expect("finished"), [object(8)]);
    world.catalog.remove_finished(object(8)).expect("removed");
    assert!(pending(&world).iter().all(|delete| delete.object == object(8)) && pending(&world).len() == 3);
    assert!(world.catalog.objects_after(None, 10).expect("objects").is_empty());
    world.delete_all_pending();
    for dead in world.catalog.dead_objects(None, 10).expect("objects") {
        world.catalog.forget_object(dead).expect("forgotten");
    }
    assert!(world.catalog.versions(&name("a")).expect("versions").is_empty());
    assert_eq!(world.catalog.object(object(1)).expect("read"), None);
}

#[test]
fn a_removal_stays_while_a_version_it_names_is_in_an_object_that_lives() {
    let mut world = World::new();
    let shared = [last_piece(1, "a", (0, 1), &[]), last_piece(2, "b", (0, 1), &[])];
    world.commit(&commit_of(1, pieces(&shared)));
    world.commit(&removal(8, &[(1, "a", 1)], &[]));
    assert!(world.catalog.finished_removals().expect("finished").is_empty());
    world.commit(&commit_of(2, pieces(&shared[1..])));
    world.commit(&removal(9, &[], &[1]));
    world.delete_all_pending();
    assert_eq!(world.catalog.finished_removals().expect("finished"), [object(8), object(9)]);
    assert_eq!((world.head_numbers("a"), world.head_numbers("b")), (vec![], vec![2]));
}

#[test]
fn a_removal_of_a_version_that_was_never_seen_here_stays() {
    let mut world = World::new();
    world.commit(&removal(8, &[(1, "a", 1)], &[]));
    assert!(world.catalog.finished_removals().expect("finished").is_empty());
}

#[test]
fn a_place_that_is_being_written_to_is_not_among_the_deletes() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.catalog.move_shard(object(1), 0, backend(0), &shard(0, 4)).expect("moved");
    let entry = crate::catalog::JournalEntry {
        object: object(1),
        process: process(1),
        purpose: crate::catalog::Purpose::Move,
        name: None,
        version: None,
        shards: vec![(0, backend(0))],
    };
    world.catalog.begin(&entry).expect("begun");
    assert!(pending(&world).is_empty());
    world.catalog.end_journal(object(1)).expect("ended");
    assert_eq!(pending(&world), [PendingDelete { object: object(1), index: 0, backend: backend(0) }]);
}

#[test]
fn pending_deletes_come_by_pages() {
    let mut world = World::new();
    world.commit(&removal(8, &[], &[1, 2, 3]));
    let mut found: Vec<PendingDelete> = Vec::new();
    while let Some(next) = world.catalog.pending_deletes(found.last(), 1).expect("a page").pop() {
        found.push(next);
    }
    assert_eq!(found, pending(&world));
    assert_eq!(found.len(), 9);
    assert_eq!(world.catalog.pending_deletes_of(object(2)).expect("count"), 3);
}

#[test]
fn an_object_is_emptied_only_by_removing_all_that_it_holds() {
    let mut world = World::new();
    let shared = [last_piece(1, "a", (0, 1), &[]), last_piece(2, "b", (0, 1), &[])];
    world.commit(&commit_of(1, pieces(&shared)));
    let emptied = |world: &World, numbers: &[u8]| {
        let versions: Vec<VersionId> = numbers.iter().map(|number| version(*number)).collect();
        world.catalog.objects_emptied_by(&versions).expect("objects")
    };
    assert!(emptied(&world, &[1]).is_empty());
    assert_eq!(emptied(&world, &[1, 2]), [object(1)]);
    world.commit(&removal(8, &[(2, "b", 1)], &[]));
    assert_eq!(emptied(&world, &[1]), [object(1)]);
    assert_eq!(world.catalog.names_of_object(object(1), 10).expect("names"), [name("a")]);
    assert_eq!(world.catalog.live_bytes(object(1)).expect("bytes"), 100);
}

#[test]
fn sparse_are_the_objects_of_which_little_is_live_and_none_of_an_unfinished_version() {
    let mut world = World::new();
    let three = [1, 2, 3].map(|number| last_piece(number, &format!("f{number}"), (0, 1), &[]));
    world.commit(&commit_of(1, pieces(&three)));
    world.commit(&commit_of(2, pieces(&[piece(9, "big", 0)])));
    world.commit(&file(4, "gone", 1, &[]));
    world.commit(&removal(8, &[(1, "f1", 1), (4, "gone", 1)], &[]));
    let sparse = |world: &World| world.catalog.sparse_objects(0.5).expect("sparse");
    assert_eq!(sparse(&world).iter().map(|s| (s.object, s.live_pieces)).collect::<Vec<_>>(), [(object(4), 0)]);
    world.commit(&removal(9, &[(2, "f2", 1)], &[]));
    let found = sparse(&world).into_iter().find(|sparse| sparse.object == object(1)).expect("sparse by now");
    assert_eq!((found.file_bytes, found.live_bytes, found.live_pieces), (300, 100, 1));
}

#[test]
fn of_two_copies_of_a_piece_the_later_is_superfluous_only_while_the_earlier_is_healthy() {
    let mut world = World::new();
    let index = pieces(&[last_piece(9, "a", (0, 1), &[])]);
    world.commit(&commit_of(1, index.clone()));
    world.commit(&commit_of(2, index));
    let sparse =
        |world: &World| world.catalog.sparse_objects(0.5).expect("sparse").iter().map(|s| s.object).collect::<Vec<_>>();
    assert_eq!(sparse(&world), [object(2)]);
    world.catalog.drop_shard(object(1), 0, backend(0)).expect("dropped");
    assert!(sparse(&world).is_empty());
}

#[test]
fn forgetting_an_object_takes_away_its_unfinished_version() {
    let mut world = World::new();
    world.commit(&commit_of(1, pieces(&[piece(9, "big", 0)])));
    world.catalog.forget_object(object(1)).expect("forgotten");
    assert_eq!(world.catalog.version(version(9)).expect("read"), None);
    assert!(world.catalog.used_by_backend().expect("use").is_empty());
}
