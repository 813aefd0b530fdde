//! What a writer put, beside what the owner did.

use super::*;
use crate::id::WriterId;

const WRITER: Option<WriterId> = Some(WriterId([5; 6]));

fn writers_version(number: u8) -> VersionId {
    VersionId::given_by(WRITER, [number; 16])
}

/// A version of one piece that a writer put in an object of the same number.
fn writers_file(number: u8, text: &str, generation: u64) -> Commit {
    let piece = Piece { version: writers_version(number), ..last_piece(number, text, (0, generation), &[]) };
    of_writer(number, pieces(&[piece]))
}

fn of_writer(number: u8, index: Index) -> Commit {
    let mut commit = commit_of(number, index);
    commit.object.id = ObjectId::given_by(WRITER, [number; 16]);
    commit
}

#[test]
fn what_the_owner_put_comes_before_what_a_writer_did_in_pages_of_any_length() {
    let mut world = World::new();
    for (number, generation) in [(1, 4), (2, 9), (3, 9)] {
        world.commit(&writers_file(number, "a", generation));
    }
    world.commit(&file(4, "a", 1, &[]));
    world.commit(&file(5, "a", 2, &[4]));
    world.commit(&writers_file(6, "b", 1));
    let expected =
        [version(5), version(4), writers_version(3), writers_version(2), writers_version(1), writers_version(6)];
    assert_eq!(world.catalog.heads(&name("a")).expect("heads")[0].id, version(5));
    assert_eq!(world.catalog.list("", None, 10).expect("listed")[0].newest.id, version(5));
    for limit in 1..=7 {
        let mut found = Vec::new();
        while let Some(page) =
            Some(world.catalog.list_versions("", found.last(), limit).expect("a page")).filter(|page| !page.is_empty())
        {
            found.extend(page);
        }
        assert_eq!(found.iter().map(|version| version.id).collect::<Vec<_>>(), expected, "{limit}");
    }
}

#[test]
fn a_writers_second_word_on_a_piece_is_not_heard_and_the_owners_copy_is() {
    let mut world = World::new();
    world.commit(&writers_file(1, "a", 1));
    let pieces_of = |world: &World| world.catalog.piece_copies(writers_version(1)).expect("pieces").len();
    // Less than the first, as a thief would have it.
    let again = Piece { version: writers_version(1), bytes: 7, ..last_piece(1, "a", (0, 1), &[]) };
    world.commit(&of_writer(0, pieces(std::slice::from_ref(&again))));
    let beyond = Piece { version: writers_version(1), ..last_piece(1, "a", (1, 1), &[]) };
    world.commit(&of_writer(2, pieces(&[beyond])));
    assert_eq!(pieces_of(&world), 1);
    assert!(world.catalog.version(writers_version(1)).expect("read").expect("known").complete);
    // Packed anew by the owner, it is in both until the first is removed.
    let packed = Piece { version: writers_version(1), ..last_piece(1, "a", (0, 1), &[]) };
    world.commit(&commit_of(3, pieces(&[packed])));
    assert_eq!(pieces_of(&world), 2);
}

#[test]
fn a_rebuild_keeps_the_names_of_what_a_writer_cannot_read_again() {
    let mut world = World::new();
    for (number, text) in [(1, "data/in/a"), (2, "gone"), (3, "data/b")] {
        world.commit(&writers_file(number, text, 1));
    }
    world.commit(&file(4, "readable", 1, &[]));
    let newer = world.folder.path().join("newer.db");
    let mut rebuilt = Catalog::create(&newer, key()).expect("created");
    // The writer's objects are there again without what is in them, but for one that is gone; so is the owner's.
    for number in [1, 3] {
        rebuilt.commit(&of_writer(number, Index::default())).expect("committed");
    }
    rebuilt.commit(&commit_of(4, Index::default())).expect("committed");
    drop(rebuilt);
    for _ in 0..2 {
        assert!(world.catalog.rebuild_into(&newer).expect("rebuilt").is_empty());
        let listed = world.catalog.list("data", None, 10).expect("listed");
        let names: Vec<&str> = listed.iter().map(|listed| listed.newest.name.as_str()).collect();
        assert_eq!(names, ["data/b", "data/in/a"]);
        assert_eq!(world.catalog.list("", None, 10).expect("listed").len(), 2);
    }
    world.catalog.check().expect("whole");
}

#[test]
fn a_writers_generation_only_rises_and_never_to_where_no_room_is_left() {
    let mut world = World::new();
    let mut raised = |generation| {
        world.catalog.raise_writer_generation(generation).expect("noted");
        world.catalog.writer_generation().expect("read")
    };
    assert_eq!([0, 9, 10, 2, u64::MAX, (1 << 31) + 1, 100].map(&mut raised), [0, 9, 10, 10, 10, 10, 100]);
}
