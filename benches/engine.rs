//! The record engine with 100,000 messages of 100 peers: saving, pages of lists, snapshots.
//!
//! Everything is relaxed: nothing waits for the disk to confirm, so that what is measured is work and not the disk.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use shard::crypto::ChamberKey;
use shard::engine::{Cursor, EngineOptions, Message, PageRequest, StorageEngine};
use shard::id::{MessageId, NodeId, PeerId};
use shard::vault::Durability;
use std::io::Cursor as Bytes;
use std::path::Path;
use std::time::Instant;

/// How many messages there are.
const MESSAGES: u64 = 100_000;
/// Whose they are.
const PEERS: u64 = 100;
/// How many one transaction saves, where it saves many.
const BATCH: u64 = 1_000;
/// How many a page has.
const PAGE: usize = 50;

fn open(folder: &Path, name: &str) -> StorageEngine {
    let key = ChamberKey::from_secret(NodeId([1; 32]), &[2; 32]);
    let options = EngineOptions { durability: Durability::Relaxed, ..EngineOptions::default() };
    StorageEngine::open(folder, name, key, options).expect("an engine")
}

fn peer(number: u64) -> PeerId {
    PeerId([(number % PEERS) as u8; 32])
}

fn message(number: u64) -> Message {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Message::new(MessageId(id), peer(number), vec![7; 100])
}

fn save_batch(engine: &StorageEngine, first: u64) {
    let save = |tx: &shard::engine::Transaction<'_>| -> shard::engine::Result<()> {
        (first..first + BATCH).try_for_each(|number| tx.save_message(message(number)).map(drop))
    };
    engine.transaction(save).expect("saved");
}

#[expect(clippy::print_stdout, reason = "it belongs to the result")]
fn filled(folder: &Path) -> StorageEngine {
    let engine = open(folder, "engine");
    let begun = Instant::now();
    (0..MESSAGES).for_each(|number| drop(engine.save_message(message(number)).expect("saved")));
    let (elapsed, told) = (begun.elapsed(), engine.statistics().expect("statistics"));
    println!("{MESSAGES} messages saved one by one in {elapsed:?}; the file has {} bytes", told.file_bytes);
    engine
}

/// The place in a list after so many of its entries.
fn place_after(engine: &StorageEngine, of: PeerId, count: usize) -> Option<Cursor> {
    engine.messages_of(of, PageRequest::newest(count)).expect("a page").next
}

fn lists(criterion: &mut Criterion, engine: &StorageEngine) {
    let mut group = criterion.benchmark_group("engine");
    let mut number = 0;
    let mut next = || {
        number = (number * 31 + 17) % MESSAGES;
        number
    };
    group.bench_function("message by id", |bencher| {
        bencher.iter(|| engine.message(message(next()).id).expect("asked").expect("it is there"));
    });
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("page of 50 by peer, the newest", |bencher| {
        bencher.iter(|| engine.messages_of(peer(next()), PageRequest::newest(PAGE)).expect("a page"));
    });
    let before = place_after(engine, peer(3), 500);
    group.bench_function("page of 50 by peer, from the middle", |bencher| {
        bencher.iter(|| engine.messages_of(peer(3), PageRequest { limit: PAGE, before }).expect("a page"));
    });
    group.bench_function("page of 50 of all", |bencher| {
        bencher.iter(|| engine.recent_messages(PageRequest::newest(PAGE)).expect("a page"));
    });
    group.finish();
}

fn snapshots(criterion: &mut Criterion, engine: &StorageEngine, folder: &Path) {
    let mut group = criterion.benchmark_group("engine snapshot of a hundred thousand");
    group.throughput(Throughput::Elements(MESSAGES)).sample_size(10);
    let mut snapshot = Vec::new();
    engine.snapshot(&mut snapshot).expect("a snapshot");
    group.bench_function("written", |bencher| {
        bencher.iter(|| engine.snapshot(&mut std::io::sink()).expect("a snapshot"));
    });
    let other = open(folder, "other");
    group.bench_function("restored", |bencher| {
        bencher.iter(|| other.restore(&mut Bytes::new(&snapshot)).expect("restored"));
    });
    group.finish();
}

fn saves(criterion: &mut Criterion, engine: &StorageEngine) {
    let mut group = criterion.benchmark_group("engine save");
    let mut number = MESSAGES;
    group.bench_function("one", |bencher| {
        bencher.iter(|| {
            number += 1;
            engine.save_message(message(number)).expect("saved")
        });
    });
    group.throughput(Throughput::Elements(BATCH)).sample_size(10);
    group.bench_function("a thousand at once", |bencher| {
        let first = || {
            number += BATCH;
            number
        };
        bencher.iter_batched(first, |first| save_batch(engine, first), BatchSize::PerIteration);
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = filled(folder.path());
    lists(criterion, &engine);
    snapshots(criterion, &engine, folder.path());
    saves(criterion, &engine);
}

criterion_group!(benches, all);
criterion_main!(benches);
