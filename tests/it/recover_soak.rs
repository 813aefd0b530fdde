//! Stores with a random past, of which nothing is left but the key and k places: what was there comes back, and nothing else.

use crate::heap::{Thrown, heap_places};
use crate::recover_desk::{MadeUp, everything, files_below, new_folder, write_object};
use crate::soak::{self, Dice};
use crate::world::{TestWorld, geometry, name, stream_of};
use shard::backend::{BackendSpec, Environment, open};
use shard::crypto::AccessKeys;
use shard::format::{FileName, Index};
use shard::id::{BackendId, Geometry, ObjectId, RedundancyLevel};
use shard::ops::put::{PutOptions, PutReport, PutSource, put};
use shard::ops::recover::{FoundPlaces, recover_from};
use shard::ops::remove::{RemoveOptions, remove};
use shard::store::{Store, keys, load_key};
use shard::stripe::Seal;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

/// How many names the files of one store share, so that they are overwritten.
const NAMES: usize = 4;
/// The lengths of files: empty, less than a block, several blocks, two stripes of most levels.
const LENGTHS: [usize; 6] = [0, 1, 999, 20_000, 100_000, 900_000];

/// A store in the making.
struct Past {
    world: TestWorld,
    geometry: Geometry,
    /// Of each name the versions that were put whole and not removed, the newest last.
    files: BTreeMap<FileName, Vec<Vec<u8>>>,
}

/// Some bytes, and then nothing, for ever.
struct Stalls {
    bytes: Vec<u8>,
    stalled: Arc<Notify>,
}

impl AsyncRead for Stalls {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.bytes.is_empty() {
            self.stalled.notify_one();
            return Poll::Pending;
        }
        let length = self.bytes.len().min(into.remaining());
        into.put_slice(&self.bytes[..length]);
        self.bytes.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl Past {
    async fn live(dice: &mut Dice) -> Self {
        let (data, total) = [(2, 3), (3, 5), (2, 5), (1, 3)][dice.below(4)];
        let world = TestWorld::new(total).await;
        let mut past = Self { world, geometry: geometry(data, total), files: BTreeMap::new() };
        let mut store = past.world.open().await;
        past.put(&store, dice).await;
        for step in 0..2 + dice.below(6) {
            match dice.below(10) {
                0..5 => past.put(&store, dice).await,
                5..7 => past.remove(&store, dice).await,
                7 => {
                    drop(store);
                    keys::rotate(&past.world.store_dir(), None).expect("a new key");
                    store = past.world.open().await;
                }
                _ => past.interrupt(&store, step, dice).await,
            }
        }
        past
    }

    async fn store_stream(&self, store: &Store, source: PutSource, dice: &mut Dice) -> PutReport {
        let seals = [Seal::None, Seal::Key, Seal::Recipient, Seal::Dispersed];
        let seal = seals[dice.below(if self.geometry.data_shards() > 1 { 4 } else { 3 })];
        let recipient = || Arc::new(store.sealing_key().expect("the key").recipient(store.id()));
        let (seal, recipient) = match seal {
            Seal::Recipient => (None, Some(recipient())),
            seal => (Some(seal), None),
        };
        let level = Some(RedundancyLevel::of(self.geometry));
        let options = PutOptions { sources: vec![source], level, seal, recipient, ..PutOptions::default() };
        put(store, options).await.expect("stored")
    }

    async fn put(&mut self, store: &Store, dice: &mut Dice) {
        let text = format!("folder/{}", dice.below(NAMES));
        let length = LENGTHS[dice.below(LENGTHS.len())];
        let bytes = dice.bytes(length);
        self.store_stream(store, stream_of(&text, &bytes), dice).await;
        self.files.entry(name(&text)).or_default().push(bytes);
    }

    async fn remove(&mut self, store: &Store, dice: &mut Dice) {
        let there: Vec<FileName> = self.files.keys().cloned().collect();
        let Some(gone) = there.get(dice.below(there.len())) else { return };
        let options = RemoveOptions { names: vec![gone.clone()], ..RemoveOptions::default() };
        remove(store, options).await.expect("removed");
        let versions = self.files.get_mut(gone).expect("it is there");
        versions.pop();
        if versions.is_empty() {
            self.files.remove(gone);
        }
    }

    /// A file that is never whole: its put stops half-way, or before its last object, or before enough shards are there.
    async fn interrupt(&self, store: &Store, step: usize, dice: &mut Dice) {
        let length = LENGTHS[3 + dice.below(3)];
        let bytes = dice.bytes(length);
        match dice.below(3) {
            0 => {
                let stalled = Arc::new(Notify::new());
                let reader = Box::new(Stalls { bytes, stalled: Arc::clone(&stalled) });
                let source = PutSource::Reader { reader, name: name("ghost/half") };
                tokio::select! {
                    _ = self.store_stream(store, source, dice) => unreachable!("it never ends"),
                    () = stalled.notified() => {}
                }
            }
            1 => {
                let ghost = MadeUp::new("ghost/unfinished", step as u8, bytes);
                let pieces = vec![ghost.piece(0, (0, ghost.content.len()), None)];
                let index = Index { pieces, ..Index::default() };
                write_object(store, self.geometry, (&ghost.content, index)).await;
            }
            _ => {
                let stored = self.store_stream(store, stream_of("ghost/thin", &bytes), dice).await;
                let objects: Vec<ObjectId> = stored.objects.iter().map(|object| object.id).collect();
                objects.into_iter().for_each(|object| self.leave_too_few(object));
            }
        }
    }

    fn leave_too_few(&self, object: ObjectId) {
        let is_its = |path: &PathBuf| path.to_string_lossy().contains(&object.to_string());
        let shards: Vec<PathBuf> = self.world.files_on_backends().into_iter().filter(is_its).collect();
        for path in &shards[self.geometry.data_shards() - 1..] {
            fs::remove_file(path).expect("removed");
        }
    }

    /// What must come back.
    fn expected(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let newest = |(name, versions): (&FileName, &Vec<Vec<u8>>)| {
            Some((PathBuf::from(name.as_str()), versions.last()?.clone()))
        };
        self.files.iter().filter_map(newest).collect()
    }

    /// Some k of the places.
    fn survivors(&self, dice: &mut Dice) -> Vec<usize> {
        let mut left: Vec<usize> = (1..=self.geometry.total_shards()).collect();
        while left.len() > self.geometry.data_shards() {
            left.remove(dice.below(left.len()));
        }
        left
    }

    fn places(&self, numbers: &[usize], keys: &Arc<AccessKeys>) -> FoundPlaces {
        let backend = |number: &usize| {
            let url = self.world.backend_dir(*number).display().to_string();
            let spec = BackendSpec::new("from", BackendId([0; 16]), url.clone());
            (url, open(&spec, &Environment::default(), Path::new("/")).expect("a backend"))
        };
        let (backends, left_out) = (numbers.iter().map(backend).collect(), Vec::new());
        FoundPlaces { backends, keys: Arc::clone(keys), left_out, scratch: self.world.desk() }
    }

    /// The files of these places in one folder, shuffled and renamed, between other things; damaged where that costs no
    /// block, and with copies that are damaged anywhere.
    fn throw_together(&self, numbers: &[usize], dice: &mut Dice) -> PathBuf {
        let mut thrown = Thrown::new(self.world.desk().join("heap"));
        let folders: Vec<PathBuf> = numbers.iter().map(|number| self.world.backend_dir(*number)).collect();
        let mut files = self.world.files_on_backends();
        files.retain(|path| folders.iter().any(|folder| path.starts_with(folder)));
        while !files.is_empty() {
            let path = files.swap_remove(dice.below(files.len()));
            let mut bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // What a put that was stopped had begun goes in its own time.
                Err(_) if path.extension().is_some_and(|extension| extension == "part") => continue,
                Err(error) => unreachable!("{} is gone: {error}", path.display()),
            };
            let length = bytes.len();
            if length > 1_000 && dice.below(4) == 0 {
                let mut copy = bytes.clone();
                let (at, bit) = (dice.below(length), dice.below(8));
                copy[at] ^= 1 << bit;
                thrown.throw(&copy, dice);
            }
            match dice.below(6) {
                0 if length > 1_000 => bytes[..64].fill(0),
                1 if length > 1_000 => bytes[length - 128 + dice.below(128)] ^= 1,
                2 => drop(thrown.throw(&dice.bytes(300), dice)),
                _ => {}
            }
            thrown.throw(&bytes, dice);
        }
        thrown.folder
    }
}

/// One store that is lost and comes back; how many files it had.
async fn lose_and_recover(number: u64, seed: u64) -> usize {
    // Each run follows from its own number, so that one that fails can be had alone.
    let mut dice = Dice::new(seed.wrapping_add(number.wrapping_mul(0x9E37_79B9)));
    let past = Past::live(&mut dice).await;
    let keys = load_key(&past.world.store_dir().join("master.key"), None).expect("the key").keyring;
    let keys = Arc::new(AccessKeys::to_open(keys));
    fs::remove_dir_all(past.world.store_dir()).expect("the store is lost");
    let left = past.survivors(&mut dice);
    let places = match number % 3 {
        0 => {
            let heap = past.throw_together(&left, &mut dice);
            heap_places(&heap, &keys, past.world.desk()).await.0
        }
        _ => past.places(&left, &keys),
    };
    let folder = new_folder(&past.world, "out");
    let report = recover_from(places, everything(&folder)).await.expect("recovered");
    let (expected, found) = (past.expected(), files_below(&folder));
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert!(report.failed.is_empty(), "run {number} of seed {seed}: {:?}", report.failed);
    assert_eq!(names(&found), names(&expected), "run {number} of seed {seed}: {:?}", report.unread);
    assert!(found == expected, "run {number} of seed {seed}: other bytes");
    expected.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "how much came back belongs to the result")]
async fn every_committed_file_of_a_random_past_comes_back_by_key_alone_and_no_ghost() {
    let (seed, stores) = (soak::seed(), if soak::is_asked_for() { 1_000 } else { 24 });
    let mut files = 0;
    for number in 0..stores {
        files += lose_and_recover(number, seed).await;
    }
    println!("{stores} stores lost and recovered: {files} files, all of them, and no other");
}
