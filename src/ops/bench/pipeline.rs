//! A whole put and a whole recovery, on places in memory.

use super::Stopwatch;
use super::stages::noise;
use crate::backend::{Backend, BackendSpec, Mark, MemoryBackend};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::id::{BackendId, Geometry, RedundancyLevel, ShardId};
use crate::ops::Controls;
use crate::ops::put::{PutOptions, PutReport, PutSource, put};
use crate::ops::recover::{RecoverOptions, RecoverOutput, RecoverWhat, recover};
use crate::store::{CONFIG_NAME, InitOptions, OpenOptions, Store, config};
use crate::stripe::{Check, Seal};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The file that is put: so long that what the catalog takes is little of it, and n/k of it is no burden on memory.
const FILE_BYTES: usize = 32 * 1024 * 1024;
const FILE_NAME: &str = "bench";

/// A folder that goes when it is dropped.
pub(super) struct Scratch {
    path: PathBuf,
}

/// What the whole does.
pub(super) struct Whole {
    pub(super) put_bytes_per_s: f64,
    pub(super) recover_bytes_per_s: f64,
}

impl Scratch {
    /// One that was there already is somebody else's.
    pub(super) fn make(path: PathBuf) -> Result<Self> {
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Error::local(format!("cannot make {}", path.display()), error))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is in a folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Puts and recovers a file of noise, sealed, until there are enough rounds of each.
pub(super) async fn measure(
    level: RedundancyLevel,
    measure_for: Duration,
    scratch: &Scratch,
    controls: &Controls,
) -> Result<Whole> {
    let geometry = level.geometry();
    let dir = scratch.path.join(format!("{}-{}", geometry.data_shards(), geometry.total_shards()));
    let (store, memories) = store_in_memory(&dir, geometry).await?;
    let content = Bytes::from(noise(FILE_BYTES));
    let mut putting = Stopwatch::new(measure_for);
    // Once to warm up; and the last one stays, to be recovered.
    let mut stored = put_once(&store, level, &content, controls).await?;
    while putting.is_running() {
        forget(&memories, &stored).await?;
        let begun = Instant::now();
        stored = put_once(&store, level, &content, controls).await?;
        putting.add(begun, FILE_BYTES as u64);
    }
    let mut recovering = Stopwatch::new(measure_for);
    while recovering.is_running() {
        controls.check_cancelled()?;
        let begun = Instant::now();
        let what = RecoverWhat::Names(vec![FileName::new(FILE_NAME)?]);
        let output = RecoverOutput::Writer(Box::new(tokio::io::sink()));
        let report = recover(&store, RecoverOptions::new(what, output)).await?;
        recovering.add(begun, report.files.iter().map(|file| file.size).sum());
        if !report.damage.is_empty() {
            return Err(Error::new(ErrorKind::Memory, "what was put into memory is damaged"));
        }
    }
    Ok(Whole { put_bytes_per_s: putting.bytes_per_s(), recover_bytes_per_s: recovering.bytes_per_s() })
}

async fn put_once(store: &Store, level: RedundancyLevel, content: &Bytes, controls: &Controls) -> Result<PutReport> {
    controls.check_cancelled()?;
    let reader = Box::new(Cursor::new(content.clone()));
    let sources = vec![PutSource::Reader { reader, name: FileName::new(FILE_NAME)? }];
    let (level, seal, check) = (Some(level), Some(Seal::Key), Some(Check::Parity));
    put(store, PutOptions { sources, level, seal, check, ..PutOptions::default() }).await
}

/// Takes the shards of an earlier round out of memory.
async fn forget(memories: &BTreeMap<String, MemoryBackend>, stored: &PutReport) -> Result<()> {
    let failed =
        |error| Error::new(ErrorKind::Memory, "a place in memory does not let go of a shard").with_source(error);
    for object in &stored.objects {
        for index in object.shards.iter().map(|shard| shard.index) {
            for memory in memories.values() {
                memory.delete(ShardId { object: object.id, index }).await.map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// A store with a place for each shard. Their settings name folders that are never made: memory stands in for each.
async fn store_in_memory(dir: &Path, geometry: Geometry) -> Result<(Store, BTreeMap<String, MemoryBackend>)> {
    Store::init(dir, InitOptions::bare()).await?;
    let id = Store::open(dir, OpenOptions::default()).await?.id();
    let failed = |error| Error::new(ErrorKind::Memory, "a place in memory takes no mark").with_source(error);
    let (mut specs, mut memories) = (Vec::new(), BTreeMap::new());
    for index in geometry.shard_indexes() {
        let (backend, name) = (BackendId([index + 1; 16]), format!("memory-{index}"));
        let memory = MemoryBackend::new();
        memory.write_mark(&Mark { store: id, backend }).await.map_err(failed)?;
        let url = dir.join(&name).display().to_string();
        specs.push(BackendSpec { zone: Some(name.clone()), ..BackendSpec::new(name.clone(), backend, url) });
        memories.insert(name, memory);
    }
    config::edit(&dir.join(CONFIG_NAME), |config| {
        config.backends.extend(specs);
        Ok::<_, config::Error>(())
    })?;
    let places = memories.clone();
    let wrapper = move |spec: &BackendSpec, plain: Arc<dyn Backend>| -> Arc<dyn Backend> {
        places.get(&spec.name).map_or(plain, |memory| Arc::new(memory.clone()))
    };
    let options = OpenOptions { wrapper: Some(Arc::new(wrapper)), ..OpenOptions::default() };
    Ok((Store::open(dir, options).await?, memories))
}
