//! `backend scrub`: asks places that can check their own disks to do so, and remembers what they said of their shards.
//!
//! It is their word: what `verify` finds is compared with what was signed, and this is not.

use super::Controls;
use crate::backend::{LIST_PAGE_SHARDS, RegisteredBackend, ScrubPage};
use crate::catalog::{self, Catalog, ChallengeOutcome, ChallengeRecord, ShardRecord};
use crate::error::{Error, ErrorKind, Result, with_causes};
use crate::id::{BackendId, ShardId};
use crate::store::Store;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Instant;

/// A place that names more damaged shards is not listened to any longer.
const MAX_DAMAGED: usize = 100_000;
/// A place may have read so many shards more than it said that it has, and a tenth of these: what came meanwhile.
const SPARE_SHARDS: u64 = 1_000;
/// No place is believed to have more shards than this, or than the catalog has there if that is more: one that says a shard a page
/// would go on for ever. A catalog that is yet to be made again has none of those that there are.
const MAX_BELIEVED: u64 = 10_000_000;

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
    /// Those of the shards that the catalog has there that it found damaged, each once.
    pub damaged: Vec<ShardId>,
    /// How many it found damaged beside these: shards that the catalog does not have there.
    pub damaged_unknown: u64,
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
        let said = ask(store, registered, controls).await?;
        note(store, registered, &said.damaged).await?;
        // What cannot check itself is told of where it was meant.
        if said.state != "cannot" || is_named {
            backends.push(said);
        }
    }
    controls.end();
    Ok(ScrubReport { backends, elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) })
}

async fn ask(store: &Store, registered: &RegisteredBackend, controls: &Controls) -> Result<ScrubbedBackend> {
    let (name, backend) = (registered.name.clone(), registered.id);
    let recorded = store.look(move |catalog| count_on(catalog, backend)).await?;
    let mut said = ScrubbedBackend::new(name);
    let (mut after, mut expected, mut is_asked) = (None, recorded, false);
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
        controls.items(page.checked_shards);
        after = page.next;
        if !is_asked && said.shards.saturating_add(page.checked_shards) > recorded {
            (expected, is_asked) = (recorded.max(stated(registered).await), true);
        }
        let damaged = page.damaged.iter().copied().collect();
        let damaged = store.look(move |catalog| recorded_on(catalog, backend, damaged)).await?;
        if !said.hear(&page, &damaged, expected) || after.is_none() {
            return Ok(said);
        }
    }
}

/// How many shards the place says that it has, as far as it is believed.
async fn stated(registered: &RegisteredBackend) -> u64 {
    registered.backend.stats().await.map_or(0, |stats| stats.shard_count.min(MAX_BELIEVED))
}

impl ScrubbedBackend {
    fn new(name: String) -> Self {
        let (damaged, damaged_unknown, problem) = (Vec::new(), 0, None);
        Self { name, state: "checked", shards: 0, bytes: 0, damaged, damaged_unknown, problem }
    }

    /// Takes in what a page says, with those of the damaged that are recorded there; `false` where no more is listened to, since
    /// there is no end to what the place says it has.
    fn hear(&mut self, page: &ScrubPage, damaged: &BTreeSet<ShardId>, expected: u64) -> bool {
        self.shards = self.shards.saturating_add(page.checked_shards);
        self.bytes = self.bytes.saturating_add(page.checked_bytes);
        let known: BTreeSet<ShardId> = self.damaged.iter().copied().collect();
        self.damaged.extend(damaged.difference(&known));
        let named: BTreeSet<ShardId> = page.damaged.iter().copied().collect();
        self.damaged_unknown = self.damaged_unknown.saturating_add(named.difference(damaged).count() as u64);
        let problem = if self.damaged.len() > MAX_DAMAGED {
            self.damaged.truncate(MAX_DAMAGED);
            "it names more damage than is listened to"
        } else if self.shards > expected.saturating_add(expected / 10).saturating_add(SPARE_SHARDS) {
            "it says that it read more shards than it has"
        } else {
            return true;
        };
        (self.state, self.problem) = ("unfinished", Some(problem.to_owned()));
        false
    }
}

/// How many shards the catalog has on a backend.
fn count_on(catalog: &Catalog, backend: BackendId) -> catalog::Result<u64> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = catalog.shards_on(backend, after, LIST_PAGE_SHARDS)?;
        let Some((object, last)) = page.last() else { return Ok(count) };
        count += page.len() as u64;
        after = Some(ShardId { object: *object, index: last.index });
    }
}

/// Those of the shards that the catalog has on a backend.
fn recorded_on(catalog: &Catalog, backend: BackendId, shards: BTreeSet<ShardId>) -> catalog::Result<BTreeSet<ShardId>> {
    let mut recorded = BTreeSet::new();
    for shard in shards {
        let is_it = |record: &ShardRecord| (record.index, record.backend) == (shard.index, backend);
        if catalog.shards(shard.object)?.iter().any(is_it) {
            recorded.insert(shard);
        }
    }
    Ok(recorded)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;

    #[test]
    fn a_place_that_never_comes_to_an_end_is_not_listened_to_for_ever_and_names_a_shard_once() {
        let name = "friend".to_owned();
        let mut said = ScrubbedBackend::new(name);
        let damaged = ShardId { object: ObjectId([1; 16]), index: 2 };
        let page = ScrubPage { checked_shards: 1, checked_bytes: 10, damaged: vec![damaged; 3], next: Some(damaged) };
        let heard = (0..).take_while(|_| said.hear(&page, &BTreeSet::from([damaged]), 100)).count();
        assert_eq!((heard as u64, said.state), (100 + 10 + SPARE_SHARDS, "unfinished"));
        assert_eq!((said.damaged.as_slice(), said.bytes, said.damaged_unknown), (&[damaged][..], 11_110, 0));
        assert!(said.problem.is_some_and(|problem| problem.contains("than it has")));
        // What the catalog does not have is counted, and not named.
        let mut said = ScrubbedBackend::new("friend".to_owned());
        assert!(said.hear(&page, &BTreeSet::new(), 100));
        assert_eq!((said.damaged.as_slice(), said.damaged_unknown), (&[][..], 1));
    }
}
