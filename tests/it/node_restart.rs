//! What a node finds on its disk when it is started again: folders that cannot be looked at, what a killed one left, and a mount
//! point without its disk.

use super::cloud_contract::{pattern, put, shard, whole};
use super::node_cli_desk::{ServedNode, group};
use super::node_storage_desk::{Keeper, SEED, access, seed_file};
use shard::backend::{Backend, ErrorKind, NodeBackend};
use shard::node::storage::StorageOptions;
use shard::peer::TransportKind;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

/// The folder of the only owner.
fn owner_below(folder: &Path) -> PathBuf {
    let mut entries = fs::read_dir(folder).expect("a folder");
    let only = entries.next().expect("an owner").expect("listed").path();
    assert!(entries.next().is_none());
    only
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_to_be_gone_of_a_folder_that_cannot_be_looked_at() {
    let dir = tempfile::tempdir().expect("a folder");
    let (seed, folder) = (seed_file(dir.path(), SEED), dir.path().join("shards"));
    let keeper = Keeper::start(1, &folder, StorageOptions::default()).await;
    let place = NodeBackend::open(keeper.address(TransportKind::Quic), access(1, &seed, None), None);
    assert_eq!(put(&place, shard(1, 0), &pattern(1000)).await, Ok(1000));
    let successor = keeper.successor(1);
    keeper.stop().await;
    let (owner, aside) = (owner_below(&folder), dir.path().join("aside"));
    fs::rename(&owner, &aside).expect("moved");
    // Whoever looks there, also as root, goes in circles.
    std::os::unix::fs::symlink(&owner, &owner).expect("a link");
    let keeper = Keeper::start_with(successor, &folder, StorageOptions::default()).await;
    let kinds = [
        place.head(shard(1, 0)).await.err().map(|error| error.kind),
        place.read(shard(1, 0), 0..1).await.err().map(|error| error.kind),
        place.delete(shard(1, 0)).await.err().map(|error| error.kind),
        place.list(None).await.err().map(|error| error.kind),
    ];
    assert_eq!(kinds, [Some(ErrorKind::Failed); 4]);
    fs::remove_file(&owner).expect("removed");
    fs::rename(&aside, &owner).expect("moved back");
    assert_eq!(whole(&place, shard(1, 0)).await.expect("there"), pattern(1000));
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_node_left_half_written_goes_when_it_starts_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (seed, folder) = (seed_file(dir.path(), SEED), dir.path().join("shards"));
    let keeper = Keeper::start(1, &folder, StorageOptions::default()).await;
    let place = NodeBackend::open(keeper.address(TransportKind::Quic), access(1, &seed, None), None);
    assert_eq!(put(&place, shard(1, 0), &pattern(1000)).await, Ok(1000));
    let mut unfinished = place.create(shard(1, 1)).await.expect("begun");
    unfinished.write(pattern(1000)).await.expect("written");
    let temporary = owner_below(&folder).join("tmp");
    let there = || {
        let entries = fs::read_dir(&temporary).expect("a folder").map(|entry| entry.expect("listed").file_name());
        entries.collect::<Vec<_>>()
    };
    let [left] = there().try_into().expect("what is written");
    let successor = keeper.successor(1);
    keeper.kill().await;
    // A process that is killed clears nothing away.
    fs::write(temporary.join(&left), [7; 1000]).expect("written");
    fs::write(temporary.join("of somebody else's"), b"").expect("written");
    let keeper = Keeper::start_with(successor, &folder, StorageOptions::default()).await;
    assert_eq!(there(), ["of somebody else's"]);
    assert_eq!(whole(&place, shard(1, 0)).await.expect("there"), pattern(1000));
    drop(unfinished);
    // What is written from now on is none of it, whoever asks meanwhile.
    let mut written = place.create(shard(1, 1)).await.expect("begun");
    written.write(pattern(1000)).await.expect("written");
    assert_eq!(keeper.service.usage().await.expect("counted")[0].shards, 1);
    assert_eq!(written.finish().await.expect("there"), 1000);
    keeper.stop().await;
}

#[test]
fn a_node_whose_disk_is_not_mounted_is_not_served() {
    let desk = group(&["a"]);
    ServedNode::start(&desk, "a", &[]).stop();
    let (shards, aside) = (desk.path("a/shards"), desk.path("aside"));
    fs::rename(&shards, &aside).expect("not mounted");
    // Where it would be served it cannot listen: it ends either way.
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("bound").to_string();
    let refused = || {
        let failure = desk.failure(1, &["node", "serve", "--data", "a", "--listen", &listen]);
        assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("mounted")), "{failure}");
    };
    refused();
    fs::create_dir(&shards).expect("a mount point");
    refused();
    assert_eq!(fs::read_dir(&shards).expect("a folder").count(), 0);
    fs::remove_dir(&shards).expect("nothing was made in it");
    fs::rename(&aside, &shards).expect("mounted");
    ServedNode::start(&desk, "a", &[]).stop();
    // One that was served before there were marks has none. Where nothing is kept yet, it may be a mount point.
    fs::remove_file(desk.path("a/shards.mark")).expect("removed");
    fs::remove_file(shards.join("node.mark")).expect("removed");
    ServedNode::start(&desk, "a", &[]).stop();
    assert!(!desk.path("a/shards.mark").exists() && !shards.join("node.mark").exists());
    fs::create_dir(shards.join("0a".repeat(32))).expect("an owner");
    ServedNode::start(&desk, "a", &[]).stop();
    assert!(desk.path("a/shards.mark").exists() && shards.join("node.mark").exists());
}
