//! What a folder does when it is full, swapped, unmounted, read-only or tampered with.

use super::super::{Backend, ErrorKind, Mark, contract, shard_name};
use super::{LocalBackend, LocalOptions};
use crate::id::{BackendId, ObjectId, ShardId, StoreId};
use bytes::Bytes;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

fn shard(index: u8) -> ShardId {
    ShardId { object: ObjectId([0xAB; ObjectId::BYTES]), index }
}

fn mark(byte: u8) -> Mark {
    Mark { store: StoreId([byte; StoreId::BYTES]), backend: BackendId([byte; BackendId::BYTES]) }
}

fn local(root: &Path) -> LocalBackend {
    LocalBackend::open(root.to_owned(), LocalOptions::default())
}

async fn put(backend: &LocalBackend, index: u8, bytes: &'static [u8]) -> super::Result<u64> {
    let mut writer = backend.create(shard(index)).await?;
    writer.write(Bytes::from_static(bytes)).await?;
    writer.finish().await
}

fn leftovers(root: &Path) -> usize {
    std::fs::read_dir(root.join("tmp")).map_or(0, |entries| entries.count())
}

fn path_of(root: &Path, index: u8) -> PathBuf {
    root.join(shard_name(shard(index)))
}

async fn conforms(quota_bytes: Option<u64>) {
    let folders = std::sync::Mutex::new(Vec::<TempDir>::new());
    contract::all(async || {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = LocalBackend::open(folder.path().to_owned(), LocalOptions { quota_bytes });
        folders.lock().expect("folders").push(folder);
        Arc::new(backend) as Arc<dyn Backend>
    })
    .await;
    for folder in folders.into_inner().expect("folders") {
        // Only clause 14 forgets a writer, and clears it.
        assert_eq!(leftovers(folder.path()), 0, "temporary files are left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_keeps_the_contract() {
    conforms(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_with_a_quota_keeps_the_contract() {
    conforms(Some(33 * 1024 * 1024)).await;
}

#[tokio::test]
async fn a_missing_root_is_unreachable_and_not_empty() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = local(&folder.path().join("absent"));
    assert_eq!(backend.read_mark().await.expect_err("absent").kind, ErrorKind::Unreachable);
    assert_eq!(backend.head(shard(0)).await.expect_err("absent").kind, ErrorKind::Unreachable);
    assert_eq!(backend.list(None).await.expect_err("absent").kind, ErrorKind::Unreachable);
    assert_eq!(backend.delete(shard(0)).await.expect_err("absent").kind, ErrorKind::Unreachable);
    assert_eq!(put(&backend, 0, b"x").await.expect_err("absent").kind, ErrorKind::Unreachable);
    assert!(!folder.path().join("absent").exists(), "it was made");
    LocalBackend::create_root(&folder.path().join("absent/deeper")).expect("made when asked to");
    put(&local(&folder.path().join("absent/deeper")), 0, b"x").await.expect("there now");
}

#[tokio::test]
async fn a_root_that_lost_its_mark_is_unreachable_and_comes_back_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = local(folder.path());
    backend.write_mark(&mark(1)).await.expect("mark");
    put(&backend, 0, b"shard").await.expect("put");
    let kept = folder.path().join("kept");
    std::fs::rename(folder.path().join("shard.mark"), &kept).expect("take the mark away");
    assert_eq!(backend.read_mark().await.expect_err("gone").kind, ErrorKind::Unreachable);
    assert_eq!(backend.head(shard(9)).await.expect_err("absent or not?").kind, ErrorKind::Unreachable);
    assert_eq!(backend.delete(shard(9)).await.expect_err("absent or not?").kind, ErrorKind::Unreachable);
    assert_eq!(put(&backend, 1, b"x").await.expect_err("no mark").kind, ErrorKind::Unreachable);
    assert_eq!(backend.head(shard(0)).await.expect("what is there is there"), 5);
    std::fs::rename(&kept, folder.path().join("shard.mark")).expect("bring it back");
    assert_eq!(backend.read_mark().await.expect("back"), Some(mark(1)));
    put(&backend, 1, b"x").await.expect("back");
}

#[tokio::test]
async fn a_disk_unmounted_or_swapped_while_writing_gets_no_shard() {
    for swapped_mark in [None, Some(mark(2))] {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        std::fs::create_dir(&root).expect("root");
        let backend = local(&root);
        backend.write_mark(&mark(1)).await.expect("mark");
        let mut writer = backend.create(shard(0)).await.expect("create");
        writer.write(Bytes::from_static(b"bytes")).await.expect("write");
        std::fs::remove_file(root.join("shard.mark")).expect("unmount");
        if let Some(mark) = swapped_mark {
            local(&root).write_mark(&mark).await.expect("another disk");
        }
        assert_eq!(writer.finish().await.expect_err("not our disk").kind, ErrorKind::Unreachable);
        assert!(!path_of(&root, 0).exists(), "a shard on another disk");
        assert_eq!(leftovers(&root), 0, "temporary files are left");
    }
}

#[tokio::test]
async fn a_folder_moved_away_is_written_through_its_handle_and_its_namesake_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, moved) = (folder.path().join("root"), folder.path().join("moved"));
    std::fs::create_dir(&root).expect("root");
    let backend = local(&root);
    backend.write_mark(&mark(1)).await.expect("mark");
    std::fs::rename(&root, &moved).expect("move");
    std::fs::create_dir(&root).expect("an empty mount point");
    put(&backend, 0, b"x").await.expect("through the handle");
    assert!(path_of(&moved, 0).exists() && !path_of(&root, 0).exists());
    assert_eq!(backend.read_mark().await.expect_err("the path is empty now").kind, ErrorKind::Unreachable);
}

#[tokio::test]
async fn a_deleted_root_is_unreachable_even_without_a_mark() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = local(folder.path());
    put(&backend, 0, b"x").await.expect("put");
    std::fs::remove_dir_all(folder.path()).expect("rm -rf");
    assert_eq!(backend.head(shard(0)).await.expect_err("gone").kind, ErrorKind::Unreachable);
    assert_eq!(put(&backend, 1, b"x").await.expect_err("gone").kind, ErrorKind::Unreachable);
}

#[tokio::test]
async fn symbolic_links_below_the_root_are_never_followed() {
    let (folder, elsewhere) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("another"));
    let backend = local(folder.path());
    put(&backend, 0, b"mine").await.expect("put");
    std::fs::write(elsewhere.path().join("secret"), b"secret").expect("write");
    symlink(elsewhere.path().join("secret"), path_of(folder.path(), 1)).expect("link");
    assert_eq!(backend.head(shard(1)).await.expect_err("a link").kind, ErrorKind::Failed);
    assert_eq!(backend.read(shard(1), 0..6).await.expect_err("a link").kind, ErrorKind::Failed);
    assert_eq!(backend.list(None).await.expect("list").shards.len(), 1, "a link was listed");
    std::fs::rename(folder.path().join("objects"), elsewhere.path().join("objects")).expect("move");
    symlink(elsewhere.path().join("objects"), folder.path().join("objects")).expect("link");
    assert!(backend.head(shard(0)).await.is_err(), "followed objects/");
    assert!(put(&backend, 2, b"x").await.is_err(), "wrote through objects/");
    assert!(!path_of(elsewhere.path(), 2).exists());
    let link = elsewhere.path().join("link");
    symlink(folder.path(), &link).expect("link");
    assert_eq!(local(&link).read_mark().await.expect("the root itself may be a link"), None);
}

#[tokio::test]
async fn a_pipe_or_a_folder_in_a_shards_place_is_an_error_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = local(folder.path());
    put(&backend, 0, b"mine").await.expect("put");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path_of(folder.path(), 1),
        rustix::fs::FileType::Fifo,
        super::root::FILE_MODE,
        0,
    )
    .expect("a pipe");
    std::fs::create_dir(path_of(folder.path(), 2)).expect("a folder");
    for index in [1, 2] {
        assert_eq!(backend.head(shard(index)).await.expect_err("no file").kind, ErrorKind::Failed, "{index}");
    }
    assert_eq!(backend.stats().await.expect("stats").shard_count, 1);
}

#[tokio::test]
async fn what_is_not_named_like_a_shard_is_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = local(folder.path());
    put(&backend, 0, b"mine").await.expect("put");
    let name = format!("{}.shard", shard(1));
    for stray in ["objects/ab/notes.txt", "objects/zz/x", "objects/file", "other/x"] {
        let path = folder.path().join(stray);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
        std::fs::write(path, b"stray").expect("write");
    }
    std::fs::create_dir(folder.path().join("objects/cd")).expect("folder");
    std::fs::write(folder.path().join("objects/cd").join(name), b"in the wrong folder").expect("write");
    let page = backend.list(None).await.expect("list");
    assert_eq!(page.shards.iter().map(|listed| listed.id).collect::<Vec<_>>(), [shard(0)]);
}

#[tokio::test]
async fn clearing_removes_exactly_that_shards_leftovers() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = local(folder.path());
    for index in [1, 10, 1] {
        let mut writer = backend.create(shard(index)).await.expect("create");
        writer.write(Bytes::from_static(b"half")).await.expect("write");
        std::mem::forget(writer);
    }
    assert_eq!(leftovers(folder.path()), 3);
    backend.clear_unfinished(shard(1)).await.expect("clear");
    assert_eq!(leftovers(folder.path()), 1);
    backend.clear_unfinished(shard(10)).await.expect("clear");
    assert_eq!(leftovers(folder.path()), 0);
}

#[tokio::test]
async fn a_shard_cleared_away_while_being_written_fails_and_is_not_said_to_be_absent() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = local(folder.path());
    let writer = backend.create(shard(1)).await.expect("create");
    backend.clear_unfinished(shard(1)).await.expect("clear");
    assert_eq!(writer.finish().await.expect_err("cleared").kind, ErrorKind::Failed);
}

#[test]
fn a_cancelled_write_leaves_nothing() {
    // The one thread for file calls is kept busy, so that the write is still waiting when it is cancelled.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = local(folder.path());
        let mut writer = backend.create(shard(1)).await.expect("create");
        let (release, held) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || held.recv());
        let cancelled = futures_util::FutureExt::now_or_never(writer.write(Bytes::from(vec![0; 1 << 20])));
        assert!(cancelled.is_none(), "it was done already");
        drop(release);
        busy.await.expect("released").expect_err("the sender is gone");
        assert!(writer.finish().await.is_err(), "a shard of which no one knows how much was written");
        assert_eq!(backend.head(shard(1)).await.expect_err("nothing").kind, ErrorKind::NotFound);
        assert_eq!(leftovers(folder.path()), 0, "temporary files are left");
    });
}

#[tokio::test]
async fn a_damaged_mark_is_an_error_and_no_other_mark() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = local(folder.path());
    backend.write_mark(&mark(1)).await.expect("mark");
    for damaged in [&b"{"[..], b"", b"{\"store\":\"00\"}", &[b' '; 5000]] {
        std::fs::write(folder.path().join("shard.mark"), damaged).expect("write");
        assert_eq!(local(folder.path()).read_mark().await.expect_err("damaged").kind, ErrorKind::Failed);
        assert!(put(&backend, 0, b"x").await.is_err(), "wrote to a place with a damaged mark");
    }
    backend.write_mark(&mark(3)).await.expect_err("a damaged mark is not overwritten in passing");
}

#[tokio::test]
async fn a_mark_that_was_begun_and_never_finished_goes_when_one_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("tmp")).expect("folder");
    std::fs::write(folder.path().join("tmp/shard.mark.5f0c2a9e6d1b7c34.part"), b"{").expect("write");
    local(folder.path()).write_mark(&mark(1)).await.expect("mark");
    assert_eq!(leftovers(folder.path()), 0);
    assert_eq!(local(folder.path()).read_mark().await.expect("read"), Some(mark(1)));
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = local(folder.path());
    put(&backend, 0, b"x").await.expect("put");
    let set_mode = |mode| {
        for part in ["tmp", "objects/ab"] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(folder.path().join(part), permissions).expect("chmod");
        }
    };
    set_mode(0o500);
    // The superuser may write anyway; then there is nothing to see.
    if std::fs::write(folder.path().join("tmp/try"), b"").is_err() {
        assert_eq!(put(&backend, 1, b"x").await.expect_err("read-only").kind, ErrorKind::Denied);
        assert_eq!(backend.delete(shard(0)).await.expect_err("read-only").kind, ErrorKind::Denied);
    }
    set_mode(0o700);
}

#[tokio::test]
async fn a_quota_counts_what_was_there_before() {
    let folder = tempfile::tempdir().expect("a folder");
    put(&local(folder.path()), 0, b"12345").await.expect("put");
    let backend = LocalBackend::open(folder.path().to_owned(), LocalOptions { quota_bytes: Some(8) });
    let error = put(&backend, 1, b"1234").await.expect_err("9 of 8");
    assert_eq!(error.kind, ErrorKind::NoSpace);
    assert!(std::error::Error::source(&error).expect("why").to_string().contains("8 bytes, 5 of them taken"));
    backend.read_mark().await.expect("a new handle");
    assert!(put(&backend, 1, b"1234").await.is_err(), "the new handle forgot what was counted");
    backend.delete(shard(0)).await.expect("delete");
    put(&backend, 1, b"12345678").await.expect("8 of 8");
}

#[tokio::test]
async fn a_file_cut_short_is_out_of_range_and_allocates_nothing_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = local(folder.path());
    put(&backend, 0, b"12345").await.expect("put");
    let file = std::fs::OpenOptions::new().write(true).open(path_of(folder.path(), 0)).expect("open");
    file.set_len(2).expect("cut");
    for range in [0..5, 0..u64::MAX] {
        assert_eq!(backend.read(shard(0), range).await.expect_err("short").kind, ErrorKind::OutOfRange);
    }
    assert_eq!(backend.read(shard(0), 0..2).await.expect("what is left"), Bytes::from_static(b"12"));
}

#[tokio::test]
async fn stats_know_the_free_space() {
    let folder = tempfile::tempdir().expect("a folder");
    let stats = local(folder.path()).stats().await.expect("stats");
    assert!(stats.free_bytes.is_some_and(|bytes| bytes > 0) && stats.quota_bytes.is_none());
}

#[tokio::test]
async fn the_room_of_a_folder_is_what_is_free_on_its_disk_or_left_of_its_quota() {
    let folder = tempfile::tempdir().expect("a folder");
    put(&local(folder.path()), 0, b"12345").await.expect("put");
    let disk = local(folder.path()).stats().await.expect("stats").free_bytes;
    assert!(disk.is_some() && local(folder.path()).room().await.expect("room").is_some());
    let bounded = LocalBackend::open(folder.path().to_owned(), LocalOptions { quota_bytes: Some(12) });
    assert_eq!(bounded.room().await.expect("room"), Some(7));
}
