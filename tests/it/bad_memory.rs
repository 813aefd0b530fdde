//! Bits that flip in memory between the coding and the place: the next verify names the shard, and a repair mends it.

use crate::soak::{self, Dice};
use crate::world::{TestWorld, geometry, name, random_bytes, stream_of};
use async_trait::async_trait;
use bytes::Bytes;
use shard::backend::{Backend, BackendSpec, BackendStats, ListPage, Mark, Result, ShardWriter};
use shard::catalog::{ObjectState, ShardState};
use shard::format::{FileName, HEADER_BYTES, ShardFileLayout, TRAILER_BYTES, manifest_in_tail};
use shard::id::{RedundancyLevel, ShardId};
use shard::ops::put::{PutOptions, put};
use shard::ops::recover::{RecoverOptions, RecoverOutput, RecoverWhat, recover};
use shard::ops::repair::{RepairOptions, repair};
use shard::ops::verify::{VerifyOptions, VerifyReport, verify};
use shard::store::{OpenOptions, Store};
use shard::stripe::Seal;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Which bit of a shard's file flips, and of which shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flip {
    /// `None` for every shard.
    index: Option<u8>,
    byte: usize,
    bit: u8,
}

/// A place behind memory in which a bit flips: once for each shard that it is about.
#[derive(Debug)]
struct BehindBadMemory {
    inner: Arc<dyn Backend>,
    flip: Arc<Mutex<Option<Flip>>>,
}

struct BadWriter {
    inner: Box<dyn ShardWriter>,
    flip: Option<Flip>,
    bytes: Vec<u8>,
}

#[async_trait]
impl ShardWriter for BadWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<u64> {
        if let Some(flip) = self.flip {
            self.bytes[flip.byte] ^= 1 << flip.bit;
        }
        self.inner.write(self.bytes.into()).await?;
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) {
        self.inner.abort().await;
    }
}

#[async_trait]
impl Backend for BehindBadMemory {
    async fn create(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        let is_its = |flip: &Flip| flip.index.is_none_or(|index| index == shard.index);
        let flip = self.flip.lock().expect("not poisoned").filter(is_its);
        Ok(Box::new(BadWriter { inner: self.inner.create(shard).await?, flip, bytes: Vec::new() }))
    }

    async fn replace(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        self.inner.replace(shard).await
    }

    async fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
        self.inner.read(shard, range).await
    }

    async fn head(&self, shard: ShardId) -> Result<u64> {
        self.inner.head(shard).await
    }

    async fn delete(&self, shard: ShardId) -> Result<()> {
        self.inner.delete(shard).await
    }

    async fn list(&self, after: Option<ShardId>) -> Result<ListPage> {
        self.inner.list(after).await
    }

    async fn stats(&self) -> Result<BackendStats> {
        self.inner.stats().await
    }

    async fn read_mark(&self) -> Result<Option<Mark>> {
        self.inner.read_mark().await
    }

    async fn write_mark(&self, mark: &Mark) -> Result<()> {
        self.inner.write_mark(mark).await
    }

    async fn clear_unfinished(&self, shard: ShardId) -> Result<u64> {
        self.inner.clear_unfinished(shard).await
    }
}

struct Bad {
    world: TestWorld,
    store: Store,
    flip: Arc<Mutex<Option<Flip>>>,
    /// How many files were put.
    puts: AtomicU32,
}

const CONTENT_BYTES: usize = 2_000;

impl Bad {
    async fn new() -> Self {
        let (world, flip) = (TestWorld::new(5).await, Arc::new(Mutex::new(None)));
        let shared = Arc::clone(&flip);
        let wrapper = move |_: &BackendSpec, inner: Arc<dyn Backend>| -> Arc<dyn Backend> {
            Arc::new(BehindBadMemory { inner, flip: Arc::clone(&shared) })
        };
        let options = OpenOptions { wrapper: Some(Arc::new(wrapper)), ..OpenOptions::default() };
        let store = Store::open(&world.store_dir(), options).await.expect("the store opens");
        Self { world, store, flip, puts: AtomicU32::new(0) }
    }

    /// The newest file. Each has a name of its own, of one length, and no version before it: so all shards have one layout.
    fn name(&self) -> FileName {
        name(&format!("file-{:05}", self.puts.load(Ordering::Relaxed)))
    }

    /// Puts a file, with a flip on its way.
    async fn put(&self, seal: Seal, flip: Option<Flip>) {
        self.puts.fetch_add(1, Ordering::Relaxed);
        *self.flip.lock().expect("not poisoned") = flip;
        let sources = vec![stream_of(&self.name().to_string(), &random_bytes(1, CONTENT_BYTES))];
        let level = Some(RedundancyLevel::of(geometry(3, 5)));
        let options = PutOptions { sources, level, seal: Some(seal), ..PutOptions::default() };
        put(&self.store, options).await.expect("every place said that it is durable");
        *self.flip.lock().expect("not poisoned") = None;
    }

    async fn verify(&self) -> VerifyReport {
        let names = vec![self.name()];
        verify(&self.store, VerifyOptions { names, ..VerifyOptions::default() }).await.expect("verified")
    }

    async fn repair(&self) {
        let names = vec![self.name()];
        repair(&self.store, RepairOptions { names, ..RepairOptions::default() }).await.expect("repaired");
    }

    fn a_shard_file(&self) -> PathBuf {
        self.world.files_on_backends().pop().expect("a shard")
    }

    async fn comes_back(&self) -> bool {
        let path = self.world.desk().join("back");
        let _ = fs::remove_file(&path);
        let what = RecoverWhat::Names(vec![self.name()]);
        let came = recover(&self.store, RecoverOptions::new(what, RecoverOutput::Path(path.clone()))).await;
        came.is_ok() && fs::read(path).is_ok_and(|bytes| bytes == random_bytes(1, CONTENT_BYTES))
    }
}

/// The shards of the newest object that are not as they should be.
fn bad_shards(report: &VerifyReport) -> Vec<u8> {
    let bad = report.objects.iter().flat_map(|object| &object.shards).filter(|shard| shard.state != ShardState::Ok);
    bad.inspect(|shard| assert_eq!(shard.state, ShardState::Corrupt)).map(|shard| shard.index).collect()
}

/// Where each part of a shard's file begins, and where the last one ends.
fn parts(file: &[u8], store: &Store) -> Vec<(&'static str, Range<usize>)> {
    let bytes = manifest_in_tail(file, file.len() as u64).expect("a manifest");
    let manifest = shard::format::Manifest::open(bytes, &store.id()).expect("signed");
    let layout = ShardFileLayout::of(&manifest);
    let range = |range: Range<u64>| range.start as usize..range.end as usize;
    vec![
        ("header", 0..HEADER_BYTES),
        ("blocks", range(layout.blocks())),
        ("leaves", range(layout.leaves())),
        ("manifest", range(layout.leaves()).end..file.len() - TRAILER_BYTES),
        ("trailer", file.len() - TRAILER_BYTES..file.len()),
    ]
}

#[tokio::test]
async fn the_next_verify_names_the_shard_of_which_a_bit_flipped_before_it_was_written() {
    let mut dice = Dice::new(soak::seed());
    let rounds = if soak::is_asked_for() { 200 } else { 4 };
    for seal in [Seal::Key, Seal::Dispersed, Seal::None] {
        let bad = Bad::new().await;
        bad.put(seal, None).await;
        let file = fs::read(bad.a_shard_file()).expect("a shard file");
        for (part, range) in parts(&file, &bad.store) {
            for round in 0..rounds {
                // A data shard and a parity shard in turn.
                let index = [dice.below(3), 3 + dice.below(2)][round % 2] as u8;
                let byte = range.start + dice.below(range.len());
                let flip = Flip { index: Some(index), byte, bit: dice.below(8) as u8 };
                bad.put(seal, Some(flip)).await;
                assert_eq!(bad_shards(&bad.verify().await), [index], "{seal:?} {part} {flip:?}");
                assert!(bad.comes_back().await, "{part} {flip:?}");
                bad.repair().await;
                assert!(bad_shards(&bad.verify().await).is_empty(), "{part} {flip:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_bit_that_flips_in_the_manifest_of_every_shard_is_named_in_each_and_mended_from_the_catalog() {
    let mut dice = Dice::new(soak::seed());
    let bad = Bad::new().await;
    bad.put(Seal::Key, None).await;
    let file = fs::read(bad.a_shard_file()).expect("a shard file");
    let range = parts(&file, &bad.store).into_iter().find(|(part, _)| *part == "manifest").expect("a part").1;
    for _ in 0..8 {
        let flip = Flip { index: None, byte: range.start + dice.below(range.len()), bit: dice.below(8) as u8 };
        bad.put(Seal::Key, Some(flip)).await;
        let report = bad.verify().await;
        assert_eq!(bad_shards(&report), [0, 1, 2, 3, 4], "{flip:?}");
        assert!(bad.comes_back().await, "{flip:?}");
        bad.repair().await;
        let report = bad.verify().await;
        assert!(report.objects.iter().all(|object| object.state == ObjectState::Healthy), "{flip:?}");
    }
}
