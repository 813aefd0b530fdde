//! Shards in a folder, whatever they are called: every file's bytes say what it may be.

use crate::backend::heap::{self, Claim, Heap, HeapCounts, HeapFile};
use crate::backend::{self, Backend, RetryBackend, RetryOptions};
use crate::error::{Result, with_causes};
use crate::format::{Claims, Ending, HEADER_BYTES, MAX_MANIFEST_BYTES, claims, has_magic};
use crate::id::{ShardId, StoreId};
use crate::ops::Controls;
use crate::ops::reader::compute;
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of a file's end is read first: enough for the manifests of most geometries.
const FIRST_READ_BYTES: u64 = 8 * 1024;
/// What a shard is called in a backend's own folder, and its name is believed by where nothing else says what it is.
const SHARD_SUFFIX: &str = ".shard";
/// What is noted of a shard that names no store, or one too many to be told apart.
const NO_STORE: u8 = u8::MAX;

/// A folder of which every file was looked at.
#[derive(Debug)]
pub struct FoundHeap {
    heap: Heap,
    stores: Vec<StoreId>,
}

/// What was looked at in such a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeapReport {
    /// What people call the folder.
    pub place: String,
    /// Regular files in it and below.
    pub files: u64,
    /// Of these, how many are no shard of the store.
    pub passed_over: u64,
    /// Files and folders that could not be read.
    pub unreadable: u64,
    /// Symbolic links, which are not followed.
    pub links: u64,
    /// Copies of one shard that were left, because there are so many.
    pub left: u64,
    /// Why something could not be read.
    pub problem: Option<String>,
}

/// Looks at every file in a folder and below it. Names tell nothing; what is no shard is passed over.
///
/// [`crate::ErrorKind::Unavailable`] or another kind of a backend's failure when the folder itself cannot be read.
pub async fn look_through(path: PathBuf, controls: &Controls) -> Result<FoundHeap> {
    controls.begin("looking at every file", None, None);
    let listener = controls.clone();
    let found = compute(move || walk(&path, &listener)).await??;
    controls.end();
    controls.check_cancelled()?;
    Ok(found)
}

fn walk(path: &Path, controls: &Controls) -> backend::Result<FoundHeap> {
    let mut stores = Vec::new();
    let mut look = |file: &HeapFile, name: &[u8]| {
        if controls.cancel.is_cancelled() {
            return Ok(ControlFlow::Break(()));
        }
        controls.items(1);
        let failed = |source| backend::Error::io(format!("reading {}", String::from_utf8_lossy(name)), source);
        look_at(file, name, &mut stores).map(ControlFlow::Continue).map_err(failed)
    };
    let heap = Heap::walk(path, &mut look)?;
    Ok(FoundHeap { heap, stores })
}

/// What one file may be.
fn look_at(file: &HeapFile, name: &[u8], stores: &mut Vec<StoreId>) -> std::io::Result<Vec<Claim>> {
    let head = file.read(0..file.bytes().min(HEADER_BYTES as u64))?;
    let end_of = |bytes: u64| file.read(file.bytes().saturating_sub(bytes)..file.bytes());
    let mut end = end_of(FIRST_READ_BYTES)?;
    let named = shard_named(name);
    let mut ending = Ending::find(&end);
    if ending.is_none() && file.bytes() > FIRST_READ_BYTES && (has_magic(&head, &end) || named.is_some()) {
        end = end_of(MAX_MANIFEST_BYTES)?;
        ending = Ending::find(&end);
    }
    let has_header = !claims(&head, None).shards.is_empty();
    if let Some(found) = ending.take() {
        ending = Some(match found.telling_leaves(file.bytes()).filter(|_| !has_header) {
            Some(leaves) => found.with_leaves(&file.read(leaves)?),
            None => found,
        });
    }
    let tag = ending.as_ref().map_or(NO_STORE, |ending| tag_of(ending.store, stores));
    let Claims { mut shards, agree } = claims(&head, ending.as_ref());
    if shards.is_empty() {
        shards.extend(named);
    }
    // What a killed probe left is no shard of an object.
    shards.retain(|shard| !shard.object.is_probe());
    Ok(shards.into_iter().map(|shard| Claim { shard, is_sure: agree, tag }).collect())
}

/// The shard that a file is called, as backends call them.
fn shard_named(name: &[u8]) -> Option<ShardId> {
    std::str::from_utf8(name).ok()?.strip_suffix(SHARD_SUFFIX)?.parse().ok()
}

/// The number of a store, as long as there are few.
fn tag_of(store: StoreId, stores: &mut Vec<StoreId>) -> u8 {
    let place = stores.iter().position(|other| *other == store).unwrap_or(stores.len());
    if place == stores.len() && place < usize::from(NO_STORE) {
        stores.push(store);
    }
    u8::try_from(place).unwrap_or(NO_STORE)
}

impl FoundHeap {
    /// The stores that manifests in it name, none of them verified.
    pub fn stores(&self) -> &[StoreId] {
        &self.stores
    }

    /// Whether not one file looks like a shard.
    pub fn is_empty(&self) -> bool {
        self.heap.sighting_count() == 0
    }

    /// The shards of a store as backends that are only read, one for each copy of the shard that lies there most often;
    /// and what was met. An object of which every manifest names another store is passed over.
    pub async fn of_store(mut self, store: StoreId, place: &str) -> Result<(Vec<Arc<dyn Backend>>, HeapReport)> {
        let own = self.stores.iter().position(|other| *other == store).and_then(|place| u8::try_from(place).ok());
        self.heap
            .retain(|_, tags| own.is_some_and(|own| tags.contains(&own)) || tags.iter().all(|tag| *tag == NO_STORE));
        let problem = self.heap.first_problem().map(|error| with_causes(error));
        let named = place.to_owned();
        let heap = self.heap;
        let (backends, counts) = compute(move || heap.into_backends()).await?;
        let patient = |backend: heap::HeapBackend| {
            let patient = RetryBackend::new(Arc::new(backend), named.clone(), RetryOptions::default());
            Arc::new(patient) as Arc<dyn Backend>
        };
        Ok((backends.into_iter().map(patient).collect(), report(place, counts, problem)))
    }
}

fn report(place: &str, counts: HeapCounts, problem: Option<String>) -> HeapReport {
    HeapReport {
        place: place.to_owned(),
        files: counts.files,
        passed_over: counts.passed_over,
        unreadable: counts.unreadable,
        links: counts.links,
        left: counts.surplus,
        problem,
    }
}
