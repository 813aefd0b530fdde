//! A model adversary: every backend at once answers every read with whatever bytes it ever saw, or a change of them.

use crate::soak::{self, Dice};
use crate::world::{TestWorld, geometry, stream_of};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use shard::backend::{Backend, BackendStats, Error, ErrorKind, ListPage, Mark, Result, ShardWriter, parse_shard_name};
use shard::crypto::AccessKeys;
use shard::id::{BackendId, ObjectId, RedundancyLevel, ShardId};
use shard::ops::put::{PutOptions, put};
use shard::ops::reader::{ObjectReader, ReadError, ShardPlace, gather_manifest};
use shard::stripe::Seal;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Everything that the adversary ever saw.
type Seen = Arc<BTreeMap<ShardId, Bytes>>;

/// All places of an adversary.
#[derive(Debug)]
struct Adversary {
    seen: Seen,
    dice: Mutex<Dice>,
    /// How many of a hundred answers are lies.
    lies: usize,
}

impl Adversary {
    fn roll(&self, limit: usize) -> usize {
        self.dice.lock().expect("not poisoned").below(limit)
    }

    /// The bytes of the shard that is asked for, or of another.
    fn some_file(&self, shard: ShardId) -> Bytes {
        let own = &self.seen[&shard];
        if self.roll(100) >= self.lies {
            return own.clone();
        }
        let others: Vec<&Bytes> = match self.roll(2) {
            0 => self.seen.iter().filter(|(other, _)| other.object == shard.object).map(|(_, file)| file).collect(),
            _ => self.seen.values().collect(),
        };
        others[self.roll(others.len())].clone()
    }

    /// Changed in one of the ways that change bytes and keep their number.
    fn changed(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.is_empty() || self.roll(100) >= self.lies {
            return bytes;
        }
        let at = self.roll(bytes.len());
        match self.roll(5) {
            0 => bytes[at] ^= 1 << self.roll(8),
            1 => bytes[at..].fill(0),
            2 => bytes.rotate_left(at),
            3 => bytes[..at].reverse(),
            _ => {
                let other = self.roll(bytes.len());
                bytes.swap(at, other);
            }
        }
        bytes
    }
}

fn refused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Failed, "an adversary is only read from"))
}

#[async_trait]
impl Backend for Adversary {
    async fn create(&self, _: ShardId) -> Result<Box<dyn ShardWriter>> {
        refused()
    }

    async fn replace(&self, _: ShardId) -> Result<Box<dyn ShardWriter>> {
        refused()
    }

    async fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
        let file = self.some_file(shard);
        let (start, end) = (range.start as usize, range.end as usize);
        if end > file.len() {
            return Err(Error::new(ErrorKind::OutOfRange, "beyond the end"));
        }
        let mut bytes = self.changed(file[start..end].to_vec());
        if self.roll(1_000) < self.lies {
            bytes.truncate(self.roll(bytes.len() + 1));
        }
        Ok(bytes.into())
    }

    async fn head(&self, shard: ShardId) -> Result<u64> {
        Ok(self.some_file(shard).len() as u64)
    }

    async fn delete(&self, _: ShardId) -> Result<()> {
        refused()
    }

    async fn list(&self, _: Option<ShardId>) -> Result<ListPage> {
        refused()
    }

    async fn stats(&self) -> Result<BackendStats> {
        refused()
    }

    async fn read_mark(&self) -> Result<Option<Mark>> {
        refused()
    }

    async fn write_mark(&self, _: &Mark) -> Result<()> {
        refused()
    }

    async fn clear_unfinished(&self, _: ShardId) -> Result<u64> {
        refused()
    }
}

/// What one store put: its shards, its keys, and what each object holds.
struct Stored {
    shards: BTreeMap<ShardId, Bytes>,
    keys: Arc<AccessKeys>,
    contents: BTreeMap<ObjectId, Vec<u8>>,
}

/// A store of small files: two versions of one name, and others, under every seal.
async fn stored(dice: &mut Dice) -> Stored {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let mut contents = BTreeMap::new();
    for seal in [Seal::Key, Seal::Key, Seal::Dispersed, Seal::None] {
        let bytes = dice.bytes(700);
        let level = Some(RedundancyLevel::of(geometry(3, 5)));
        let sources = vec![stream_of("one name", &bytes)];
        let report = put(&store, PutOptions { sources, level, seal: Some(seal), ..PutOptions::default() }).await;
        contents.insert(report.expect("stored").objects[0].id, bytes);
    }
    let shard = |path: std::path::PathBuf| {
        let name = path.strip_prefix(path.ancestors().nth(3).expect("a backend")).expect("below it").to_owned();
        (parse_shard_name(name.to_str().expect("text")).expect("a shard"), fs::read(&path).expect("a file").into())
    };
    let shards = world.files_on_backends().into_iter().map(shard).collect();
    Stored { shards, keys: Arc::clone(store.access()), contents }
}

/// Reads an object as `recover` does; what comes out, byte by byte as it comes, or why nothing does.
async fn read(
    keys: &Arc<AccessKeys>,
    object: ObjectId,
    adversary: &Arc<Adversary>,
) -> (Vec<u8>, Result<(), ReadError>) {
    let place = |index: u8| {
        let source: Arc<dyn Backend> = Arc::clone(adversary) as _;
        ShardPlace { index, backend: BackendId([index; 16]), source: Some(source) }
    };
    let places: Vec<ShardPlace> = (0..5).map(place).collect();
    let mut bytes = Vec::new();
    let outcome = async {
        let manifest = gather_manifest(&places, object, &keys.store_id()).await?;
        let reader = ObjectReader::with_keys(manifest, places.clone(), Arc::clone(keys));
        let index = reader.index().await?;
        let end = index.pieces.iter().map(|piece| piece.offset + piece.bytes).max().unwrap_or(0);
        let mut parts = reader.payload(0..end);
        while let Some(part) = parts.try_next().await? {
            bytes.extend_from_slice(&part);
        }
        Ok(())
    };
    let outcome = outcome.await;
    (bytes, outcome)
}

/// A hundred thousand runs with `just soak`.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "what was tried is told")]
async fn an_adversary_on_all_backends_at_once_is_never_believed() {
    let mut dice = Dice::new(soak::seed());
    let (ours, theirs) = (stored(&mut dice).await, stored(&mut dice).await);
    let objects: Vec<ObjectId> = ours.contents.keys().copied().collect();
    let seen: Seen = Arc::new(ours.shards.into_iter().chain(theirs.shards).collect());
    let (mut right, mut refused) = (0_usize, 0_usize);
    let runs = if soak::is_asked_for() { 100_000 } else { 1_500 };
    for run in 0..runs {
        let (object, lies) = (objects[run % objects.len()], [1, 5, 20, 60][run / 4 % 4]);
        let own_dice = Mutex::new(Dice::new(dice.next()));
        let adversary = Arc::new(Adversary { seen: Arc::clone(&seen), dice: own_dice, lies });
        let (bytes, outcome) = read(&ours.keys, object, &adversary).await;
        let expected = &ours.contents[&object];
        assert!(expected.starts_with(&bytes), "run {run}: a wrong byte was handed out");
        match outcome {
            Ok(()) => {
                assert_eq!(bytes.len(), expected.len(), "run {run}: an end was believed that is none");
                right += 1;
            }
            Err(_) => refused += 1,
        }
    }
    println!("{runs} runs: {right} came out right, {refused} were refused");
    assert!(right > runs / 20 && refused > runs / 20, "both happen: {right} right, {refused} refused");
}
