//! What becomes of files and their versions.

use super::*;
use crate::catalog::{Error, VersionRecord};

#[test]
fn a_file_exists_from_the_commit_of_its_final_piece_on() {
    let mut world = World::new();
    world.commit(&commit_of(1, pieces(&[piece(9, "big", 0)])));
    assert!(world.head_numbers("big").is_empty());
    assert_eq!(world.catalog.unfinished().expect("unfinished")[0].id, version(9));
    world.commit(&commit_of(3, pieces(&[last_piece(9, "big", (2, 1), &[])])));
    assert!(world.head_numbers("big").is_empty(), "the piece in the middle is not known yet");
    world.commit(&commit_of(2, pieces(&[piece(9, "big", 1)])));
    assert_eq!(world.head_numbers("big"), [9]);
    assert!(world.catalog.unfinished_of(&name("big")).expect("unfinished").is_empty());
    let pieces = world.catalog.pieces(version(9)).expect("pieces");
    assert_eq!(pieces.iter().map(|piece| piece.object.0[0]).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(world.catalog.objects_of_version(version(9)).expect("objects"), [object(1), object(2), object(3)]);
}

#[test]
fn a_version_whose_pieces_do_not_add_up_is_not_complete() {
    let mut world = World::new();
    let mut short = last_piece(9, "a", (0, 1), &[]);
    short.bytes = 99;
    world.commit(&commit_of(1, pieces(&[short])));
    let version = world.catalog.version(version(9)).expect("read").expect("known");
    assert!(!version.complete && version.whole.is_some());
}

#[test]
fn an_empty_file_is_a_file() {
    let mut world = World::new();
    let mut empty = last_piece(9, "empty", (0, 1), &[]);
    empty.bytes = 0;
    empty.last.as_mut().expect("last").total_bytes = 0;
    world.commit(&commit_of(1, pieces(&[empty])));
    assert_eq!(world.head_numbers("empty"), [9]);
    assert!(world.catalog.sparse_objects(0.5).expect("sparse").is_empty());
}

#[test]
fn a_version_is_given_back_as_it_was_committed() {
    let mut world = World::new();
    let commit = file(9, "dir/ü\n", 4, &[2, 3]);
    world.commit(&commit);
    let expected = VersionRecord {
        id: version(9),
        name: name("dir/ü\n"),
        whole: commit.index.pieces[0].last.clone(),
        complete: true,
        removed: false,
    };
    assert_eq!(world.catalog.version(version(9)).expect("read"), Some(expected.clone()));
    assert_eq!(world.catalog.find_version("0909").expect("read"), Some(expected));
    assert_eq!(world.catalog.find_version("09091").expect("read"), None);
    assert_eq!(world.catalog.object(object(9)).expect("read"), Some(commit.object.clone()));
    assert_eq!(world.catalog.object_by_prefix("090").expect("read"), Some(commit.object));
}

#[test]
fn a_prefix_that_fits_two_ids_is_ambiguous_and_one_that_is_no_hex_is_refused() {
    let mut world = World::new();
    world.commit(&file(0x11, "a", 1, &[]));
    world.commit(&file(0x12, "b", 1, &[]));
    assert!(matches!(world.catalog.find_version("1"), Err(Error::Ambiguous { .. })));
    assert!(matches!(world.catalog.object_by_prefix("1"), Err(Error::Ambiguous { .. })));
    for wrong in ["", "x", "ü", &"1".repeat(33)] {
        assert!(matches!(world.catalog.find_version(wrong), Err(Error::NotPrefix { .. })), "{wrong}");
    }
}

#[test]
fn heads_that_do_not_know_each_other_are_both_shown_newest_first() {
    let mut world = World::new();
    world.commit(&file(1, "a", 1, &[]));
    world.commit(&file(3, "a", 2, &[1]));
    world.commit(&file(2, "a", 2, &[1]));
    assert_eq!(world.head_numbers("a"), [3, 2]);
    world.commit(&file(4, "a", 3, &[3, 2]));
    assert_eq!(world.head_numbers("a"), [4]);
    let listed = world.catalog.list("", None, 10).expect("listed");
    assert_eq!((listed[0].head_count, listed[0].version_count), (1, 4));
}

#[test]
fn a_head_is_what_it_is_through_removed_versions_too() {
    let mut world = World::new();
    for commit in [file(1, "a", 1, &[]), file(2, "a", 2, &[1]), file(3, "a", 3, &[2])] {
        world.commit(&commit);
    }
    world.commit(&removal(8, &[(2, "a", 2)], &[2]));
    assert_eq!(world.head_numbers("a"), [3]);
    world.delete_all_pending();
    world.catalog.forget_object(object(2)).expect("forgotten");
    assert_eq!(world.head_numbers("a"), [3]);
    world.commit(&removal(9, &[(3, "a", 3)], &[3]));
    assert_eq!(world.head_numbers("a"), [1]);
    assert_eq!(world.catalog.highest_generation(&name("a")).expect("read"), 3);
}

#[test]
fn parents_that_go_round_in_a_circle_hide_nothing() {
    let mut world = World::new();
    world.commit(&file(1, "a", 5, &[2, 1]));
    world.commit(&file(2, "a", 5, &[1]));
    assert_eq!(world.head_numbers("a"), [2, 1]);
}

#[test]
fn a_listing_by_pages_gives_every_file_once_in_the_order_of_names() {
    let mut world = World::new();
    let names = ["a", "a-b", "a/b", "a/c/d", "a0", "b", "\u{10ffff}"];
    for (number, text) in (1_u8..).zip(names) {
        world.commit(&file(number, text, 1, &[]));
    }
    let by_pages = |prefix: &str, limit: usize| {
        let mut found: Vec<FileName> = Vec::new();
        loop {
            let page = world.catalog.list(prefix, found.last(), limit).expect("a page");
            if page.is_empty() {
                return found.iter().map(ToString::to_string).collect::<Vec<_>>();
            }
            found.extend(page.into_iter().map(|file| file.newest.name));
        }
    };
    for limit in 1..=8 {
        assert_eq!(by_pages("", limit), names);
        assert_eq!(by_pages("a", limit), ["a", "a/b", "a/c/d"]);
        assert_eq!(by_pages("a/", limit), ["a/b", "a/c/d"]);
        assert_eq!(by_pages("a/c", limit), ["a/c/d"]);
        assert!(by_pages("c", limit).is_empty());
    }
}

#[test]
fn versions_are_listed_by_pages_newest_first_within_a_name() {
    let mut world = World::new();
    for commit in [file(1, "a", 1, &[]), file(2, "a", 2, &[1]), file(3, "a", 2, &[1]), file(4, "b", 1, &[])] {
        world.commit(&commit);
    }
    world.commit(&commit_of(5, pieces(&[piece(6, "a", 0)])));
    let mut found: Vec<VersionRecord> = Vec::new();
    while let Some(next) = world.catalog.list_versions("", found.last(), 1).expect("a page").pop() {
        found.push(next);
    }
    assert_eq!(found.iter().map(|version| version.id.0[0]).collect::<Vec<_>>(), [3, 2, 1, 4]);
    assert_eq!(world.catalog.list_versions("", None, 10).expect("a page"), found);
    assert_eq!(world.catalog.versions(&name("a")).expect("versions").len(), 4);
}

#[test]
fn a_piece_keeps_the_hash_that_this_machine_took() {
    let mut world = World::new();
    let mut commit = commit_of(1, pieces(&[piece(9, "big", 0)]));
    commit.piece_hashes = vec![(version(9), 0, Digest([5; 32]))];
    world.commit(&commit);
    commit.piece_hashes.clear();
    world.commit(&commit);
    assert_eq!(world.catalog.pieces(version(9)).expect("pieces")[0].blake3, Some(Digest([5; 32])));
}

#[test]
fn a_piece_in_two_objects_is_given_once_from_the_object_that_is_best_off() {
    let mut world = World::new();
    let index = pieces(&[last_piece(9, "a", (0, 1), &[])]);
    world.commit(&commit_of(1, index.clone()));
    world.commit(&commit_of(2, index));
    let chosen = |world: &World| world.catalog.pieces(version(9)).expect("pieces")[0].object;
    assert_eq!(world.head_numbers("a"), [9]);
    assert_eq!(chosen(&world), object(1));
    world.catalog.drop_shard(object(1), 0, backend(0)).expect("dropped");
    assert_eq!(chosen(&world), object(2));
    world.commit(&removal(8, &[], &[1]));
    assert_eq!(world.head_numbers("a"), [9]);
    assert_eq!(world.catalog.pieces(version(9)).expect("pieces").len(), 1);
}

#[test]
fn a_number_that_does_not_fit_is_refused_and_nothing_is_committed() {
    let mut world = World::new();
    let error = world.catalog.commit(&file(1, "a", u64::MAX, &[])).expect_err("too large");
    assert!(matches!(error, Error::TooLarge { value: u64::MAX }), "{error}");
    assert_eq!(world.catalog.object(object(1)).expect("read"), None);
}
