//! What becomes of objects, their shards, the journal, leases and notes.

use super::*;
use crate::catalog::{CheckRecord, Error, JournalEntry, ObjectAge, ObjectState, PendingDelete, Purpose};
use std::collections::BTreeMap;

fn check(number: u8, state: ObjectState, when_ns: i64) -> CheckRecord {
    let shards = (0..3).map(|index| ShardRecord { verified_ns: Some(when_ns), ..shard(index, index) }).collect();
    CheckRecord { object: object(number), state, margin: Some(1), backend_margin: Some(1), shards, when_ns, full: true }
}

fn state(world: &World, number: u8) -> ObjectState {
    world.catalog.health(object(number)).expect("read").expect("known").state
}

#[test]
fn committing_an_object_again_changes_nothing_but_adds_new_places() {
    let mut world = World::new();
    let mut commit = file(1, "a", 1, &[]);
    world.commit(&commit);
    world.catalog.record_check(&check(1, ObjectState::Healthy, 50)).expect("recorded");
    let before = world.catalog.shards(object(1)).expect("shards");
    world.commit(&commit);
    assert_eq!(world.catalog.shards(object(1)).expect("shards"), before);
    commit.shards = vec![ShardRecord { state: ShardState::Surplus, ..shard(2, 9) }];
    world.commit(&commit);
    assert_eq!(world.catalog.shards(object(1)).expect("shards").len(), 4);
    commit.object.root = Digest([99; 32]);
    assert!(matches!(world.catalog.commit(&commit), Err(Error::OtherRoot { .. })));
}

#[test]
fn a_shard_recorded_as_missing_is_there_when_it_is_heard_of_again() {
    let mut world = World::new();
    let commit = file(1, "a", 1, &[]);
    world.commit(&commit);
    let lost = ShardRecord { state: ShardState::Missing, verified_ns: Some(3), ..shard(0, 0) };
    world.catalog.put_shard(object(1), &lost).expect("put");
    world.commit(&commit);
    let found = world.catalog.shards(object(1)).expect("shards")[0];
    assert_eq!((found.state, found.verified_ns), (ShardState::Ok, Some(3)));
}

#[test]
fn an_object_nobody_looked_at_has_the_state_that_its_records_say() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    assert_eq!(state(&world, 1), ObjectState::Healthy);
    let mut put = |index: u8, shard_state| {
        world.catalog.put_shard(object(1), &ShardRecord { state: shard_state, ..shard(index, index) }).expect("put");
        state(&world, 1)
    };
    assert_eq!(put(0, ShardState::Missing), ObjectState::Degraded);
    assert_eq!(put(1, ShardState::Unreachable), ObjectState::Unavailable);
    assert_eq!(put(1, ShardState::Corrupt), ObjectState::Lost);
}

#[test]
fn a_move_is_one_step_after_which_the_old_place_waits_for_deletion() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.catalog.move_shard(object(1), 0, backend(0), &shard(0, 4)).expect("moved");
    let places: Vec<_> = world.catalog.shards(object(1)).expect("shards").iter().map(|s| s.backend).collect();
    assert_eq!(places, [backend(4), backend(1), backend(2)]);
    let old = PendingDelete { object: object(1), index: 0, backend: backend(0) };
    assert_eq!(world.catalog.pending_deletes(None, 10).expect("deletes"), [old]);
    world.commit(&file(1, "a", 1, &[]));
    world.catalog.record_check(&check(1, ObjectState::Healthy, 1)).expect("recorded");
    assert_eq!(world.catalog.shards(object(1)).expect("shards").len(), 3, "the old place does not come back");
    world.catalog.move_shard(object(1), 0, backend(4), &shard(0, 0)).expect("moved back");
    let deletes = world.catalog.pending_deletes(None, 10).expect("deletes");
    assert_eq!(deletes.iter().map(|delete| delete.backend).collect::<Vec<_>>(), [backend(4)]);
}

#[test]
fn a_shard_replaced_where_it_is_does_not_wait_for_deletion() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.catalog.move_shard(object(1), 0, backend(0), &shard(0, 0)).expect("moved");
    assert!(world.catalog.pending_deletes(None, 10).expect("deletes").is_empty());
    assert_eq!(world.catalog.shards(object(1)).expect("shards").len(), 3);
}

#[test]
fn a_shard_made_for_an_object_that_was_removed_meanwhile_is_to_be_deleted() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.commit(&removal(8, &[(1, "a", 1)], &[1]));
    world.catalog.put_shard(object(1), &shard(0, 6)).expect("put");
    world.catalog.move_shard(object(1), 1, backend(1), &shard(1, 7)).expect("moved");
    assert!(!world.catalog.record_check(&check(1, ObjectState::Lost, 1)).expect("recorded"));
    assert!(world.catalog.shards(object(1)).expect("shards").is_empty());
    assert_eq!(world.catalog.pending_deletes_of(object(1)).expect("count"), 5);
    assert!(matches!(world.catalog.put_shard(object(77), &shard(0, 0)), Err(Error::UnknownObject { .. })));
}

#[test]
fn a_discarded_copy_waits_for_deletion_and_one_that_is_not_there_is_refused() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.catalog.put_shard(object(1), &shard(0, 5)).expect("put");
    world.catalog.discard_shard(object(1), 0, backend(5)).expect("discarded");
    assert_eq!(world.catalog.pending_deletes(None, 10).expect("deletes")[0].backend, backend(5));
    let again = world.catalog.discard_shard(object(1), 0, backend(5));
    assert!(matches!(again, Err(Error::UnknownShard { .. })));
}

#[test]
fn the_longest_unverified_come_first_and_the_never_verified_before_them() {
    let mut world = World::new();
    for number in 1..=5 {
        world.commit(&file(number, &format!("f{number}"), 1, &[]));
    }
    for (number, when_ns) in [(1, 30), (3, 10), (4, 10)] {
        world.catalog.record_check(&check(number, ObjectState::Healthy, when_ns)).expect("recorded");
    }
    let quick = CheckRecord { full: false, ..check(5, ObjectState::Healthy, 99) };
    world.catalog.record_check(&quick).expect("recorded");
    for limit in 1..=6 {
        let mut found: Vec<ObjectAge> = Vec::new();
        loop {
            let page = world.catalog.oldest_checked(found.last(), limit).expect("a page");
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found.iter().map(|age| age.object.0[0]).collect::<Vec<_>>(), [2, 5, 3, 4, 1], "{limit}");
    }
}

#[test]
fn the_most_endangered_come_first_and_the_healthy_not_at_all() {
    let mut world = World::new();
    let checks = [
        (1, ObjectState::Degraded, Some(1)),
        (2, ObjectState::Lost, None),
        (3, ObjectState::Healthy, Some(0)),
        (4, ObjectState::Degraded, Some(0)),
    ];
    for (number, state, margin) in checks {
        world.commit(&file(number, &format!("f{number}"), 1, &[]));
        let check = CheckRecord { margin, ..check(number, state, 1) };
        assert!(world.catalog.record_check(&check).expect("recorded"));
    }
    let endangered = world.catalog.endangered(10).expect("endangered");
    assert_eq!(endangered.iter().map(|health| health.object.0[0]).collect::<Vec<_>>(), [2, 4, 1]);
}

#[test]
fn a_look_that_did_not_read_a_shard_leaves_the_time_it_was_read() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.catalog.record_check(&check(1, ObjectState::Healthy, 5)).expect("recorded");
    let mut blind = CheckRecord { full: false, ..check(1, ObjectState::Degraded, 9) };
    blind.shards = vec![ShardRecord { state: ShardState::Unreachable, ..shard(0, 0) }];
    world.catalog.record_check(&blind).expect("recorded");
    let seen = world.catalog.shards(object(1)).expect("shards")[0];
    assert_eq!((seen.state, seen.verified_ns), (ShardState::Unreachable, Some(5)));
    let health = world.catalog.health(object(1)).expect("read").expect("known");
    assert_eq!((health.checked_ns, health.verified_ns), (Some(9), Some(5)));
}

#[test]
fn shards_on_a_backend_come_by_pages() {
    let mut world = World::new();
    for number in 1..=4 {
        world.commit(&file(number, &format!("f{number}"), 1, &[]));
        world.catalog.put_shard(object(number), &shard(2, 1)).expect("put");
    }
    let mut found: Vec<crate::id::ShardId> = Vec::new();
    while let Some((object, shard)) = world.catalog.shards_on(backend(1), found.last().copied(), 1).expect("page").pop()
    {
        found.push(crate::id::ShardId { object, index: shard.index });
    }
    let expected: Vec<(u8, u8)> = (1..=4).flat_map(|number| [(number, 1), (number, 2)]).collect();
    assert_eq!(found.iter().map(|id| (id.object.0[0], id.index)).collect::<Vec<_>>(), expected);
}

#[test]
fn the_numbers_add_up() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.commit(&file(2, "a", 2, &[1]));
    world.commit(&commit_of(3, pieces(&[piece(9, "big", 0)])));
    world.commit(&file(4, "gone", 1, &[]));
    world.commit(&removal(8, &[(4, "gone", 1)], &[4]));
    world.catalog.record_check(&check(1, ObjectState::Degraded, 7)).expect("recorded");
    let missing = ShardRecord { state: ShardState::Missing, ..shard(0, 0) };
    world.catalog.put_shard(object(2), &missing).expect("put");
    let stats = world.catalog.stats().expect("stats");
    assert_eq!((stats.files, stats.versions, stats.unfinished, stats.pending_deletes), (1, 2, 1, 3));
    assert_eq!((stats.data_objects, stats.removal_objects, stats.payload_bytes), (3, 1, 4000));
    assert_eq!(stats.objects, BTreeMap::from([(ObjectState::Healthy, 2), (ObjectState::Degraded, 2)]));
    assert_eq!(stats.shards, BTreeMap::from([(ShardState::Ok, 11), (ShardState::Missing, 1)]));
    let in_use = BTreeMap::from([(backend(0), (3, 1500)), (backend(1), (4, 2000)), (backend(2), (4, 2000))]);
    assert_eq!(stats.backends, in_use);
    assert_eq!(world.catalog.used_by_backend().expect("use"), in_use);
    let geometry = stats.geometries[&Geometry::new(2, 3).expect("valid")];
    assert_eq!((geometry.objects, geometry.never_verified, geometry.oldest_verified_ns), (4, 3, Some(7)));
    assert_eq!((stats.never_verified, stats.smallest_margin, stats.smallest_backend_margin), (3, Some(1), Some(1)));
}

fn entry(number: u8, purpose: Purpose) -> JournalEntry {
    JournalEntry {
        object: object(number),
        process: process(1),
        purpose,
        name: Some(name("a")),
        version: Some(version(number)),
        shards: vec![(0, backend(0)), (1, backend(1))],
    }
}

#[test]
fn the_journal_tells_what_was_about_to_be_written_until_the_commit() {
    let mut world = World::new();
    world.catalog.begin(&entry(1, Purpose::Put)).expect("begun");
    world.catalog.journal_shard(object(1), 1, backend(4)).expect("journaled");
    let mut expected = entry(1, Purpose::Put);
    expected.shards.push((1, backend(4)));
    assert_eq!(world.catalog.journals().expect("journals"), [expected]);
    assert!(matches!(world.catalog.begin(&entry(1, Purpose::Put)), Err(Error::Journaled { .. })));
    assert!(matches!(world.catalog.journal_shard(object(2), 0, backend(0)), Err(Error::NotJournaled { .. })));
    world.commit(&file(1, "a", 1, &[]));
    assert!(world.catalog.journals().expect("journals").is_empty());
}

#[test]
fn an_entry_that_ends_may_leave_deletes_that_wait_but_never_of_a_recorded_shard() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    let kept = world.catalog.shards(object(1)).expect("shards")[0];
    let left = [(kept.index, kept.backend), (9, backend(9))];
    world.catalog.end_journal_leaving(object(1), &left).expect("ended");
    world.catalog.end_journal_leaving(object(2), &[(0, backend(3))]).expect("ended");
    let pending = world.catalog.pending_deletes(None, 10).expect("deletes");
    let places: Vec<_> = pending.iter().map(|delete| (delete.object, delete.index, delete.backend)).collect();
    assert_eq!(places, [(object(1), 9, backend(9)), (object(2), 0, backend(3))]);
}

#[test]
fn a_commit_does_not_end_the_journal_of_a_repair() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.catalog.begin(&entry(1, Purpose::Repair)).expect("begun");
    world.commit(&file(1, "a", 1, &[]));
    assert_eq!(world.catalog.journals().expect("journals").len(), 1);
    world.catalog.end_journal(object(1)).expect("ended");
    world.catalog.end_journal(object(1)).expect("ended twice");
    assert!(world.catalog.journals().expect("journals").is_empty());
}

#[test]
fn a_lease_has_one_holder_and_a_dead_one_loses_it() {
    let mut world = World::new();
    let catalog = &mut world.catalog;
    assert!(catalog.try_lease("gc", process(1), &|_| true).expect("asked"));
    assert!(catalog.try_lease("gc", process(1), &|_| true).expect("asked"), "the holder has it");
    assert!(!catalog.try_lease("gc", process(2), &|_| true).expect("asked"));
    assert!(catalog.try_lease("put:a", process(2), &|_| true).expect("asked"), "another resource");
    assert!(catalog.try_lease("gc", process(2), &|holder| holder != process(1)).expect("asked"));
    catalog.release_lease("gc", process(1)).expect("released");
    assert_eq!(catalog.lease_holder("gc").expect("asked"), Some(process(2)), "only the holder gives it back");
    catalog.release_lease("gc", process(2)).expect("released");
    assert_eq!(catalog.lease_holder("gc").expect("asked"), None);
}

#[test]
fn notes_are_kept_by_key_and_the_rotation_moves_by_one() {
    let mut world = World::new();
    assert_eq!(world.catalog.note("key exported").expect("read"), None);
    world.catalog.set_note("key exported", "no").expect("noted");
    world.catalog.set_note("key exported", "yes").expect("noted");
    assert_eq!(world.catalog.note("key exported").expect("read").as_deref(), Some("yes"));
    world.catalog.clear_note("key exported").expect("cleared");
    assert_eq!(world.catalog.note("key exported").expect("read"), None);
    assert_eq!([(); 3].map(|()| world.catalog.next_rotation().expect("a number")), [0, 1, 2]);
}

#[test]
fn a_checked_object_has_the_state_that_its_records_say_once_other_shards_are_good() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    let checked =
        CheckRecord { shards: world.catalog.shards(object(1)).expect("shards"), ..check(1, ObjectState::Healthy, 5) };
    assert!(world.catalog.record_check(&checked).expect("recorded"));
    let total = checked.shards.len();
    for (number, shard) in checked.shards.iter().enumerate() {
        world.catalog.drop_shard(object(1), shard.index, shard.backend).expect("dropped");
        let health = world.catalog.health(object(1)).expect("read").expect("known");
        let left = total - number - 1;
        let data_shards = world.catalog.object(object(1)).expect("read").expect("known").geometry.data_shards();
        let expected = if left >= data_shards { ObjectState::Degraded } else { ObjectState::Lost };
        assert_eq!((health.state, health.margin, health.backend_margin), (expected, None, None), "{left}");
    }
    let away = ShardRecord { state: ShardState::Unreachable, ..checked.shards[0] };
    checked.shards.iter().for_each(|shard| {
        world
            .catalog
            .put_shard(object(1), &ShardRecord { backend: shard.backend, index: shard.index, ..away })
            .expect("put");
    });
    assert_eq!(state(&world, 1), ObjectState::Unavailable);
    checked.shards.iter().for_each(|shard| world.catalog.put_shard(object(1), shard).expect("put"));
    assert_eq!(state(&world, 1), ObjectState::Healthy);
}

#[test]
fn what_a_check_said_of_damage_stands_as_long_as_the_damaged_copies_are_needed() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    let damaged = |shard: &ShardRecord| ShardRecord { state: ShardState::Corrupt, bad_blocks: 1, ..*shard };
    let shards: Vec<ShardRecord> = world.catalog.shards(object(1)).expect("shards").iter().map(damaged).collect();
    let last = shards[shards.len() - 1];
    let checked = CheckRecord { shards, ..check(1, ObjectState::Degraded, 5) };
    assert!(world.catalog.record_check(&checked).expect("recorded"));
    let elsewhere = ShardRecord { backend: backend(77), state: ShardState::Missing, ..last };
    world.catalog.put_shard(object(1), &elsewhere).expect("put");
    assert_eq!(state(&world, 1), ObjectState::Degraded, "each has its bad block in another stripe");
}

#[test]
fn objects_that_are_alike_are_one_class_and_change_it_with_what_becomes_of_them() {
    let mut world = World::new();
    for number in 1..=4 {
        world.commit(&file(number, &format!("file {number}"), 1, &[]));
    }
    let counts = |world: &World| -> Vec<(ObjectState, u64, u64)> {
        let classes = world.catalog.classes().expect("classes");
        classes.iter().map(|class| (class.health.state, class.objects, class.never_verified)).collect()
    };
    assert_eq!(counts(&world), [(ObjectState::Healthy, 4, 4)]);
    let places = |world: &World| world.catalog.classes().expect("classes")[0].shards.clone();
    let of_one = world.catalog.shards(object(1)).expect("shards");
    let alike =
        |of: &[ShardRecord]| of.iter().map(|shard| (shard.index, shard.backend, shard.state)).collect::<Vec<_>>();
    assert_eq!(alike(&places(&world)), alike(&of_one));
    world.catalog.record_check(&check(2, ObjectState::Degraded, 7)).expect("recorded");
    assert_eq!(counts(&world), [(ObjectState::Healthy, 3, 3), (ObjectState::Degraded, 1, 0)]);
    world.catalog.move_shard(object(1), 0, backend(0), &shard(0, 9)).expect("moved");
    assert_eq!(world.catalog.classes().expect("classes").len(), 3);
    world.commit(&removal(8, &[(1, "file 1", 1), (2, "file 2", 1)], &[1, 2]));
    let kinds: BTreeMap<_, _> =
        world.catalog.classes().expect("classes").iter().map(|class| (class.kind, class.objects)).collect();
    assert_eq!(kinds, BTreeMap::from([(ObjectKind::Data, 2), (ObjectKind::Removal, 1)]));
}

#[test]
fn a_put_commits_and_leaves_deletes_at_once_and_only_while_its_entry_is_there() {
    let mut world = World::new();
    world.catalog.begin(&entry(1, Purpose::Put)).expect("begun");
    let put = file(1, "a", 1, &[]);
    let recorded = put.shards[0];
    let left = [(recorded.index, recorded.backend), (9, backend(9))];
    world.catalog.commit_put(&put, &left).expect("committed");
    assert!(world.catalog.journals().expect("journals").is_empty());
    let pending = world.catalog.pending_deletes(None, 10).expect("deletes");
    assert_eq!(pending.iter().map(|delete| (delete.index, delete.backend)).collect::<Vec<_>>(), [(9, backend(9))]);
    assert_eq!(world.head_numbers("a"), [1]);
    // Its process was taken for dead, and what it wrote was taken back.
    world.catalog.begin(&entry(2, Purpose::Put)).expect("begun");
    world.catalog.end_journal_leaving(object(2), &[]).expect("ended");
    let late = world.catalog.commit_put(&file(2, "b", 1, &[]), &[(0, backend(0))]);
    assert!(matches!(late, Err(Error::TakenForDead { .. })), "{late:?}");
    assert!(world.head_numbers("b").is_empty());
    let waiting = world.catalog.pending_deletes(None, 10).expect("deletes");
    assert_eq!(waiting.len(), pending.len() + file(2, "b", 1, &[]).shards.len(), "what it wrote goes: {waiting:?}");
    // Where the other process took the object in, all is well, and what it recorded stays.
    world.commit(&file(3, "c", 1, &[]));
    world.catalog.commit_put(&file(3, "c", 1, &[]), &[]).expect("it is stored");
    world.catalog.take_back(object(3), &[(9, backend(9))]).expect("nothing to take back");
    assert_eq!(world.head_numbers("c"), [3]);
    assert_eq!(world.catalog.pending_deletes(None, 10).expect("deletes"), waiting);
}

#[test]
fn damage_stays_known_while_its_place_does_not_answer() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    let mut look = |state: ShardState, bad_blocks: u64| {
        let mut seen = check(1, ObjectState::Degraded, 5);
        seen.shards[0] = ShardRecord { state, bad_blocks, ..seen.shards[0] };
        world.catalog.record_check(&seen).expect("recorded");
        let shard = world.catalog.shards(object(1)).expect("shards")[0];
        (shard.state, shard.bad_blocks)
    };
    // Of a damaged header no block is bad.
    for (bad_blocks, kept) in [(0, 1), (7, 7)] {
        assert_eq!(look(ShardState::Corrupt, bad_blocks), (ShardState::Corrupt, bad_blocks));
        for _ in 0..2 {
            assert_eq!(look(ShardState::Unreachable, 0), (ShardState::Unreachable, kept));
        }
        assert_eq!(look(ShardState::Ok, 0), (ShardState::Ok, 0));
        assert_eq!(look(ShardState::Unreachable, 0), (ShardState::Unreachable, 0));
    }
}
