//! `backend scrub`: asks places that can check their own disks to do so, and remembers what they said of their shards.
//!
//! It is their word: what `verify` finds is compared with what was signed, and this is not.

use super::Controls;
use crate::backend::{RegisteredBackend, ScrubPage};
use crate::catalog::{ChallengeOutcome, ChallengeRecord};
use crate::error::{Error, ErrorKind, Result, with_causes};
use crate::id::ShardId;
use crate::store::Store;
use serde::Serialize;
use std::time::Instant;

/// A place that names more damaged shards is not listened to any longer.
const MAX_DAMAGED: usize = 100_000;

/// Which places are asked.
#[derive(Debug, Clone, Default)]
pub struct ScrubOptions {
    /// By name; all that can check themselves when there are none.
    pub names: Vec<String>,
    /// Progress and cancellation.
    pub controls: Controls,
}

/// What the places said.
#[derive(Debug, Clone, Serialize)]
pub struct ScrubReport {
    /// In the order in which they were added.
    pub backends: Vec<ScrubbedBackend>,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// What one place said.
#[derive(Debug, Clone, Serialize)]
pub struct ScrubbedBackend {
    /// Its name.
    pub name: String,
    /// `checked`, `unfinished` when it stopped answering, or `cannot` when such a place never does so.
    pub state: &'static str,
    /// How many shards it read.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that it found damaged.
    pub damaged: Vec<ShardId>,
    /// Why it is not at its end.
    pub problem: Option<String>,
}

/// Asks one place after another, and notes each damaged shard among what the places answered.
///
/// [`ErrorKind::NotFound`] for a name that there is not.
pub async fn scrub(store: &Store, options: ScrubOptions) -> Result<ScrubReport> {
    if let Some(unknown) = options.names.iter().find(|name| store.registry().by_name(name).is_none()) {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no backend {unknown}")));
    }
    let begun = Instant::now();
    let controls = &options.controls;
    controls.begin("scrub", None, None);
    let mut backends = Vec::new();
    for registered in store.registry().iter() {
        let is_named = options.names.contains(&registered.name);
        if !is_named && !options.names.is_empty() {
            continue;
        }
        let said = ask(registered, controls).await?;
        note(store, registered, &said.damaged).await?;
        // What cannot check itself is told of where it was meant.
        if said.state != "cannot" || is_named {
            backends.push(said);
        }
    }
    controls.end();
    Ok(ScrubReport { backends, elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) })
}

async fn ask(registered: &RegisteredBackend, controls: &Controls) -> Result<ScrubbedBackend> {
    let name = registered.name.clone();
    let mut said = ScrubbedBackend { name, state: "checked", shards: 0, bytes: 0, damaged: Vec::new(), problem: None };
    let mut after = None;
    loop {
        controls.check_cancelled()?;
        let page: ScrubPage = match registered.backend.scrub(after).await {
            Ok(Some(page)) => page,
            Ok(None) => {
                said.state = "cannot";
                return Ok(said);
            }
            Err(error) => {
                (said.state, said.problem) = ("unfinished", Some(with_causes(&error)));
                return Ok(said);
            }
        };
        said.shards = said.shards.saturating_add(page.checked_shards);
        said.bytes = said.bytes.saturating_add(page.checked_bytes);
        said.damaged.extend(page.damaged);
        controls.items(page.checked_shards);
        after = page.next;
        if said.damaged.len() > MAX_DAMAGED {
            said.damaged.truncate(MAX_DAMAGED);
            (said.state, said.problem) = ("unfinished", Some("it names more damage than is listened to".to_owned()));
            return Ok(said);
        }
        if after.is_none() {
            return Ok(said);
        }
    }
}

async fn note(store: &Store, registered: &RegisteredBackend, damaged: &[ShardId]) -> Result<()> {
    if damaged.is_empty() {
        return Ok(());
    }
    let (backend, when_ns) = (registered.id, store.now_ns());
    let record = |shard: &ShardId| ChallengeRecord {
        object: shard.object,
        index: shard.index,
        backend,
        outcome: ChallengeOutcome::Wrong,
        blocks: 0,
        bad_blocks: 0,
        when_ns,
    };
    let records: Vec<ChallengeRecord> = damaged.iter().map(record).collect();
    store.catalog(move |catalog| catalog.record_challenges(&records)).await
}
