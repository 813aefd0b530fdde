//! A heap: what it finds, what it refuses, and how little it keeps in memory.

use super::index::{Index, name_order};
use super::*;
use crate::id::ObjectId;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use tempfile::TempDir;

fn shard(number: u8, index: u8) -> ShardId {
    ShardId { object: ObjectId([number; 16]), index }
}

/// In these tests a file's first two bytes say which shard it is, and `?` is nobody's.
fn heap(root: &Path) -> Heap {
    let mut look = |file: &HeapFile, _: &[u8]| {
        let head = file.read(0..file.bytes().min(2)).map_err(|source| Error::io("reading", source))?;
        let claims = match head.as_slice() {
            [b'?', _] => Vec::new(),
            [number, index] => vec![Claim { shard: shard(*number, *index), is_sure: true, tag: *number }],
            _ => Vec::new(),
        };
        Ok(ControlFlow::Continue(claims))
    };
    Heap::walk(root, &mut look).expect("a folder")
}

fn write(root: &TempDir, name: &str, bytes: &[u8]) {
    let path = root.path().join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, bytes).expect("written");
}

fn backends(root: &TempDir) -> Vec<HeapBackend> {
    heap(root.path()).into_backends().0
}

async fn listed(backend: &HeapBackend) -> Vec<ShardId> {
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let page = backend.list(after).await.expect("a page");
        assert!(page.shards.len() <= LIST_PAGE_SHARDS);
        all.extend(page.shards.into_iter().map(|shard| shard.id));
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

#[tokio::test]
async fn files_are_found_in_any_folder_and_read_by_what_they_are() {
    let root = TempDir::new().expect("a folder");
    write(&root, "photo.jpg", &[1, 2, 30, 31]);
    write(&root, "a/b c/ü", &[1, 10, 40]);
    write(&root, "a/notes", b"??");
    write(&root, "empty", b"");
    let found = heap(root.path());
    assert_eq!((found.counts().files, found.counts().passed_over), (4, 2));
    let backends = found.into_backends().0;
    assert_eq!(backends.len(), 1);
    let backend = &backends[0];
    assert_eq!(listed(backend).await, [shard(1, 10), shard(1, 2)], "in the order of the names");
    assert_eq!(backend.head(shard(1, 2)).await.expect("a length"), 4);
    assert_eq!(&backend.read(shard(1, 2), 2..4).await.expect("bytes")[..], &[30, 31]);
    assert_eq!(&backend.read(shard(1, 10), 3..3).await.expect("bytes")[..], b"");
    let kind = |outcome: Result<Bytes>| outcome.expect_err("refused").kind;
    assert_eq!(kind(backend.read(shard(1, 2), 3..5).await), ErrorKind::OutOfRange);
    assert_eq!(kind(backend.read(shard(1, 2), Range { start: 5, end: 4 }).await), ErrorKind::OutOfRange);
    assert_eq!(kind(backend.read(shard(9, 2), 0..1).await), ErrorKind::NotFound);
    assert_eq!(backend.stats().await.expect("stats").shard_count, 2);
    assert_eq!(backend.stats().await.expect("stats").used_bytes, 7);
}

#[tokio::test]
async fn every_copy_of_a_shard_is_within_reach_and_one_file_under_two_names_is_one() {
    let root = TempDir::new().expect("a folder");
    for copy in 0..3 {
        write(&root, &format!("snapshot {copy}/x"), &[1, 0, copy]);
    }
    write(&root, "snapshot 1/y", &[2, 0]);
    fs::hard_link(root.path().join("snapshot 1/y"), root.path().join("same")).expect("a link");
    let backends = backends(&root);
    assert_eq!(backends.len(), 3);
    let mut last_bytes = Vec::new();
    for backend in &backends {
        last_bytes.push(backend.read(shard(1, 0), 2..3).await.expect("a copy")[0]);
    }
    last_bytes.sort_unstable();
    assert_eq!(last_bytes, [0, 1, 2]);
    assert_eq!(listed(&backends[0]).await, [shard(1, 0), shard(2, 0)]);
    assert_eq!(listed(&backends[1]).await, [shard(1, 0)]);
}

#[tokio::test]
async fn nothing_is_written_and_the_folder_stays_as_it_is() {
    let root = TempDir::new().expect("a folder");
    write(&root, "x", &[1, 0]);
    let backend = backends(&root).remove(0);
    let mark = Mark { store: crate::id::StoreId([0; 32]), backend: crate::id::BackendId([0; 16]) };
    let refusals = [
        backend.create(shard(3, 0)).await.map(drop),
        backend.replace(shard(1, 0)).await.map(drop),
        backend.delete(shard(1, 0)).await,
        backend.write_mark(&mark).await,
        backend.clear_unfinished(shard(1, 0)).await.map(drop),
    ];
    for refusal in refusals {
        assert_eq!(refusal.expect_err("refused").kind, ErrorKind::ReadOnly);
    }
    assert_eq!(backend.read_mark().await.expect("an answer"), None);
    assert_eq!(fs::read_dir(root.path()).expect("a folder").count(), 1);
}

#[tokio::test]
async fn no_link_is_followed_and_no_pipe_waited_for() {
    let (root, outside) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    write(&outside, "x", &[7, 0]);
    write(&root, "x", &[1, 0]);
    std::os::unix::fs::symlink(outside.path(), root.path().join("folder")).expect("a link");
    std::os::unix::fs::symlink(outside.path().join("x"), root.path().join("file")).expect("a link");
    std::os::unix::fs::symlink("loop", root.path().join("loop")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("a pipe");
    let found = heap(root.path());
    assert_eq!((found.counts().files, found.counts().links), (1, 3));
    let backend = found.into_backends().0.remove(0);
    assert_eq!(listed(&backend).await, [shard(1, 0)]);
    // A link that takes a file's place later is not followed either.
    fs::remove_file(root.path().join("x")).expect("removed");
    std::os::unix::fs::symlink(outside.path().join("x"), root.path().join("x")).expect("a link");
    assert_eq!(backend.head(shard(1, 0)).await.expect_err("gone").kind, ErrorKind::NotFound);
    assert!(listed(&backend).await.is_empty());
}

#[tokio::test]
async fn a_folder_that_went_away_is_unreachable_and_not_empty() {
    let root = TempDir::new().expect("a folder");
    write(&root, "x", &[1, 0]);
    let backend = backends(&root).remove(0);
    fs::remove_dir_all(root.path()).expect("gone");
    assert_eq!(backend.head(shard(1, 0)).await.expect_err("gone").kind, ErrorKind::Unreachable);
    assert_eq!(backend.list(None).await.expect_err("gone").kind, ErrorKind::Unreachable);
    let mut look = |_: &HeapFile, _: &[u8]| Ok(ControlFlow::Continue(Vec::new()));
    assert_eq!(Heap::walk(root.path(), &mut look).expect_err("gone").kind, ErrorKind::Unreachable);
}

#[tokio::test]
async fn pages_go_on_where_the_last_ended() {
    let root = TempDir::new().expect("a folder");
    for number in 0..9u8 {
        for index in 0..=254u8 {
            write(&root, &format!("{number}/{index}"), &[number, index]);
        }
    }
    let all = listed(&backends(&root)[0]).await;
    assert_eq!(all.len(), 9 * 255);
    assert!(all.is_sorted_by(|one, next| shard_name(*one) < shard_name(*next)));
}

#[test]
fn objects_that_nobody_wants_count_as_passed_over() {
    let root = TempDir::new().expect("a folder");
    write(&root, "x", &[1, 0]);
    write(&root, "y", &[2, 0]);
    let mut heap = heap(root.path());
    heap.retain(|object, tags| object == shard(1, 0).object && tags.contains(&1));
    assert_eq!((heap.sighting_count(), heap.counts().passed_over), (1, 1));
}

#[test]
fn the_order_is_that_of_the_names() {
    let order = |one: u8, other: u8| (shard_name(shard(0, one))).cmp(&shard_name(shard(0, other)));
    for one in 0..=255u8 {
        for other in 0..=255u8 {
            assert_eq!(name_order(shard(0, one), shard(0, other)), order(one, other), "{one}, {other}");
        }
    }
}

#[test]
fn a_million_shards_take_less_than_100_megabytes() {
    let mut index = Index::default();
    for number in 0..1_000_000u32 {
        let mut object = [0; 16];
        object[..4].copy_from_slice(&(number / 5).wrapping_mul(2_654_435_761).to_be_bytes());
        let below = [format!("disk {}", number % 7).into_bytes(), format!("{:02x}", object[0]).into_bytes()];
        let folder = index.folder(&below).expect("a folder");
        let shard = ShardId { object: ObjectId(object), index: (number % 5) as u8 };
        let claim = Claim { shard, is_sure: true, tag: 0 };
        index.note(folder, format!("IMG {number:016}.bin").as_bytes(), &[claim]).expect("noted");
    }
    index.sort();
    assert!(index.sightings.is_sorted_by(|one, next| name_order(one.shard, next.shard).is_lt()));
    // Folders alternate at every file here: the worst case of their numbers.
    assert!(index.held_bytes() < 100_000_000, "{}", index.held_bytes());
}

#[test]
fn a_place_is_told_from_a_heap() {
    let root = TempDir::new().expect("a folder");
    let only = || holds_only_a_place(root.path()).expect("a folder");
    write(&root, "shard.mark", b"{}");
    write(&root, &shard_name(shard(0xab, 3)), &[1, 0]);
    write(&root, "tmp/anything.part", b"half");
    assert!(only());
    write(&root, "objects/ab/copy of it.shard", &[1, 0]);
    assert!(!only());
    fs::remove_file(root.path().join("objects/ab/copy of it.shard")).expect("removed");
    assert!(only());
    write(&root, "old/shard.mark", b"{}");
    assert!(!only(), "a place in a place");
}
