//! Looks at one object: which of its shards are there, whole, and where they should be, and what may still be lost.
//!
//! *What it is.* [`examine`], on which verify, repair and status stand: finds every copy of every shard, reads as much of
//! it as the [`Depth`] says, and judges.
//!
//! *What it knows.* The catalog's record of an object, its signed manifest, the registry, and what a shard file must be to
//! the last bit.
//!
//! *What it does not know.* Which object to look at, what to do about what it finds. It writes nothing, anywhere.
//!
//! *Invariants.* Unreachable is never taken for missing: missing is a shard whose recorded place and every other place
//! within reach said that it is not there. A copy is good only if every byte that was read of it is the one that signed
//! manifest and verified blocks determine. State and margin are those of the worst stripe. The key
//! shares of the seal `dispersed` count as one more stripe: with fewer than k nothing opens.
//!
//! ```text
//! catalog ─▶ manifest ─▶ copies found ─▶ blocks, leaves and edges read ─▶ each copy's state ─▶ the object's state, margins
//! ```

mod challenge;
mod edges;
mod judge;
mod locate;
mod read;
#[cfg(test)]
mod tests;

use super::Controls;
use super::ingest::Sources;
use super::reader::{ObjectReader, ShardPlace, gather_manifest};
use crate::backend::BackendRegistry;
use crate::catalog::{
    ChallengeOutcome, ChallengeRecord, CheckRecord, ObjectHealth, ObjectRecord, ObjectState, ShardRecord, ShardState,
};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Manifest, ShardFileLayout};
use crate::id::{BackendId, Geometry, ObjectId};
use crate::store::Store;
pub(in crate::ops) use judge::rules;
pub use read::Sample;
pub(in crate::ops) use read::sample_bytes;
use std::collections::BTreeSet;

/// How closely an object is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// Presence, length, and the end of each copy: manifest and trailer.
    Quick,
    /// Also header, leaves, and a share of the blocks, each verified.
    Sample(Sample),
    /// Every byte of every copy.
    Full,
}

/// What is known of an object before it is looked at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What its signed manifest says.
    pub manifest: Manifest,
    /// Where its shards should be.
    pub recorded: Vec<ShardRecord>,
    /// What the last look said.
    pub health: Option<ObjectHealth>,
    /// Places of its shards that wait for deletion: what is there is no copy.
    pub going: Vec<(u8, BackendId)>,
    /// Backends whose last write failed: no shard is misplaced because of them.
    pub failed_writers: Vec<BackendId>,
    /// Backends without room for a shard of this object: none is misplaced because of them either.
    pub full_places: Vec<BackendId>,
}

/// What a look at an object gave.
#[derive(Debug, Clone)]
pub struct Examination {
    /// What was looked at.
    pub manifest: Manifest,
    /// The state of its worst stripe.
    pub state: ObjectState,
    /// How many more zones may be lost before the object is; `None` where it cannot be recovered now.
    pub margin: Option<usize>,
    /// How many more backends may be lost before the object is.
    pub backend_margin: Option<usize>,
    /// How many shards' blocks are good and within reach in the worst stripe; or their key shares, where these are fewer.
    pub worst_stripe_good: usize,
    /// What was found of each copy, by index, and for an index of which there is no copy nor record, that.
    pub copies: Vec<CopyFinding>,
    /// Recorded places where a shard is no more, while a good copy of it was found elsewhere.
    pub moved_away: Vec<(u8, BackendId)>,
    /// How many bytes were read.
    pub bytes_read: u64,
    /// How many blocks were read and checked.
    pub blocks_checked: u64,
    /// Whether every byte was looked at.
    pub full: bool,
    /// Backends to which a shard would be moved, had they room for it.
    pub full_places: Vec<BackendId>,
    /// Reads whatever is good of the object.
    pub reader: ObjectReader,
}

/// What was found of one copy of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFinding {
    /// Which shard.
    pub index: u8,
    /// Where; `None` for a shard that has no place.
    pub backend: Option<BackendId>,
    /// Whether the catalog has it there.
    pub recorded: bool,
    /// How it is.
    pub state: ShardState,
    /// The length of its file, where it is known.
    pub bytes: u64,
    /// How many of its blocks were read.
    pub read_blocks: u64,
    /// How many of its blocks are wrong, of those that were read.
    pub bad_blocks: u64,
    /// What exactly is wrong.
    pub defect: Option<Defect>,
}

/// What is wrong with a copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// Its backend did not answer, or refused.
    #[error("its backend cannot be used: {said}")]
    Unreachable {
        /// What the backend said.
        said: String,
    },
    /// Its backend is not among those of the store.
    #[error("its backend is not one of this store's any more")]
    UnknownBackend,
    /// It is not where it should be, nor anywhere else within reach.
    #[error("it is not there")]
    Missing,
    /// It was never written: no place took it.
    #[error("it has no place")]
    NeverPlaced,
    /// The file is there and cannot be read.
    #[error("it cannot be read: {said}")]
    Unreadable {
        /// What the backend said.
        said: String,
    },
    /// The file does not have the length it should have.
    #[error("its file has {found} bytes, not {expected}")]
    Length {
        /// Its length.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// The first 64 bytes are wrong.
    #[error("its header is damaged")]
    Header,
    /// Blocks are wrong.
    #[error("{bad} of the {read} blocks read are damaged, the first in stripe {first}")]
    Blocks {
        /// How many.
        bad: u64,
        /// Of how many.
        read: u64,
        /// The first stripe with one.
        first: u64,
    },
    /// The leaves are wrong, and what the others give says so.
    #[error("its Merkle leaves are damaged")]
    Leaves,
    /// Manifest, key share or trailer are wrong.
    #[error("its manifest, key share or trailer is damaged")]
    Manifest,
    /// An earlier, closer look found damage that this one does not see.
    #[error("an earlier, closer check found it damaged ({bad} bad blocks)")]
    KnownBefore {
        /// How many.
        bad: u64,
    },
    /// It is whole, but not where it should be.
    #[error("a better place for it exists")]
    BetterPlace,
}

impl Examination {
    /// Which object.
    pub fn object(&self) -> ObjectId {
        self.manifest.object()
    }

    /// Its k and n.
    pub fn geometry(&self) -> Geometry {
        self.manifest.geometry()
    }

    /// The findings about one index.
    pub fn copies_of(&self, index: u8) -> impl Iterator<Item = &CopyFinding> {
        self.copies.iter().filter(move |copy| copy.index == index)
    }

    /// What the catalog is to remember of it.
    pub fn check_record(&self, when_ns: i64) -> CheckRecord {
        // Nothing new is known of the length of a shard that could not be asked for: it is what it must be.
        let whole_bytes = ShardFileLayout::of(&self.manifest).file_bytes();
        let record = |copy: &CopyFinding| {
            let looked_whole = self.full && copy.state != ShardState::Unreachable && copy.state != ShardState::Missing;
            let known = copy.recorded || is_good(copy.state);
            copy.backend.filter(|_| known).map(|backend| ShardRecord {
                index: copy.index,
                backend,
                bytes: if copy.state == ShardState::Unreachable { whole_bytes } else { copy.bytes },
                state: copy.state,
                bad_blocks: copy.bad_blocks,
                verified_ns: looked_whole.then_some(when_ns),
            })
        };
        let margin = |margin: Option<usize>| margin.and_then(|margin| u32::try_from(margin).ok());
        CheckRecord {
            object: self.object(),
            state: self.state,
            margin: margin(self.margin),
            backend_margin: margin(self.backend_margin),
            shards: self.copies.iter().filter_map(record).collect(),
            when_ns,
            full: self.full,
        }
    }
}

impl Examination {
    /// How the backends that were asked met it: each copy is a challenge of its own.
    pub fn challenges(&self, when_ns: i64) -> Vec<ChallengeRecord> {
        let object = self.object();
        let of = |copy: &CopyFinding| {
            let (index, backend, outcome) = (copy.index, copy.backend?, copy.outcome()?);
            // Of blocks that an earlier look found bad nothing was asked now.
            let is_wrong = outcome == ChallengeOutcome::Wrong;
            let (blocks, bad_blocks) =
                (copy.read_blocks, if is_wrong { copy.bad_blocks.min(copy.read_blocks) } else { 0 });
            Some(ChallengeRecord { object, index, backend, outcome, blocks, bad_blocks, when_ns })
        };
        let moved = self.moved_away.iter().map(|(index, backend)| {
            let (outcome, blocks, bad_blocks) = (ChallengeOutcome::Missing, 0, 0);
            ChallengeRecord { object, index: *index, backend: *backend, outcome, blocks, bad_blocks, when_ns }
        });
        self.copies.iter().filter_map(of).chain(moved).collect()
    }
}

impl CopyFinding {
    /// How its backend met what was asked of it; `None` where none was asked.
    fn outcome(&self) -> Option<ChallengeOutcome> {
        match (self.state, &self.defect) {
            (_, Some(Defect::UnknownBackend | Defect::NeverPlaced)) => None,
            // What it was asked for this time it had.
            (_, Some(Defect::KnownBefore { .. })) => Some(ChallengeOutcome::Answered),
            (ShardState::Ok | ShardState::Misplaced | ShardState::Surplus, _) => Some(ChallengeOutcome::Answered),
            (ShardState::Corrupt, _) => Some(ChallengeOutcome::Wrong),
            (ShardState::Missing, _) => Some(ChallengeOutcome::Missing),
            (ShardState::Unreachable, _) => Some(ChallengeOutcome::Silent),
        }
    }
}

/// Whether a copy is whole.
pub fn is_good(state: ShardState) -> bool {
    matches!(state, ShardState::Ok | ShardState::Surplus | ShardState::Misplaced)
}

/// Looks at an object; `None` when the catalog does not have it, or has it no more.
pub async fn examine(
    store: &Store,
    object: ObjectId,
    depth: Depth,
    controls: &Controls,
) -> Result<Option<Examination>> {
    match Subject::load(store, object).await? {
        Some(subject) => subject.examine(store.registry(), depth, controls).await.map(Some),
        None => Ok(None),
    }
}

impl Subject {
    /// What the catalog knows of an object; `None` when it is unknown or dead.
    pub async fn load(store: &Store, object: ObjectId) -> Result<Option<Self>> {
        let loaded = store.look(move |catalog| {
            if !catalog.object_is_live(object)? {
                return Ok(None);
            }
            let going = catalog.waiting_places(object)?;
            let record = catalog.object(object)?;
            Ok(record.map(|record| (record, catalog.shards(object), catalog.health(object), going)))
        });
        let Some((record, recorded, health, going)) = loaded.await? else { return Ok(None) };
        let recorded = recorded?;
        Ok(Some(Self {
            manifest: open_manifest(store, &record, &recorded).await?,
            recorded,
            health: health?,
            going: going.into_iter().collect(),
            failed_writers: super::writer::failed_writers(store).await?,
            full_places: Vec::new(),
        }))
    }

    /// Looks at it.
    pub async fn examine(
        mut self,
        registry: &BackendRegistry,
        depth: Depth,
        controls: &Controls,
    ) -> Result<Examination> {
        let (copies, may_be_there) = locate::find_copies(&self, registry).await;
        let places = copies.iter().filter_map(|copy| copy.place(registry)).collect();
        let reader = ObjectReader::new(self.manifest.clone(), places);
        let reading = read::read(&reader, &copies, depth, controls).await?;
        let mut may_return = self.may_return(registry, &copies, &reading).await;
        may_return.extend(may_be_there);
        let seen = judge::Seen { copies, reading, reader, may_return };
        self.ask_for_room(registry, &seen, depth).await;
        Ok(judge::judge(self, registry, seen, depth))
    }

    /// The shards of which no copy is good, and one that waits for deletion is where nobody can look now.
    async fn may_return(
        &self,
        registry: &BackendRegistry,
        copies: &[locate::Copy],
        reading: &read::Reading,
    ) -> BTreeSet<u8> {
        if self.going.is_empty() {
            return BTreeSet::new();
        }
        let findings = judge::findings(copies.to_vec(), reading, &self.manifest);
        let is_good = |index: u8| findings.iter().any(|finding| finding.index == index && is_good(finding.state));
        let counts = |(index, backend): &(u8, BackendId)| !is_good(*index) && registry.get(*backend).is_some();
        let places: Vec<_> = self.going.iter().copied().filter(counts).collect();
        let asked = locate::ask_again(self.manifest.object(), registry, &places).await;
        let silent = asked.into_iter().filter(|copy| matches!(copy.presence, locate::Presence::Unknown(_)));
        silent.map(|copy| copy.index).collect()
    }

    /// Finds the better places that have no room. They are asked only where a shard would move to them: a small write shows
    /// nothing, and to ask may take long.
    async fn ask_for_room(&mut self, registry: &BackendRegistry, seen: &judge::Seen, depth: Depth) {
        let shard_bytes = ShardFileLayout::of(&self.manifest).file_bytes();
        loop {
            let known = self.full_places.len();
            for place in judge::wanted_places(self, registry, seen, depth).iter().filter_map(|id| registry.get(*id)) {
                if !place.has_room_for(shard_bytes).await {
                    self.full_places.push(place.id);
                }
            }
            if self.full_places.len() == known {
                return;
            }
        }
    }
}

/// Reads every byte of these places again, as [`Depth::Full`] does, and judges what is there on its own: what the rest of
/// the object is like makes no difference, nor where a better place would be.
pub async fn look_again(
    seen: &Examination,
    registry: &BackendRegistry,
    places: &[(u8, BackendId)],
    controls: &Controls,
) -> Result<SecondLook> {
    look_at(&seen.manifest, registry, places, controls).await
}

/// The same, of the object of this manifest.
pub(in crate::ops) async fn look_at(
    manifest: &Manifest,
    registry: &BackendRegistry,
    places: &[(u8, BackendId)],
    controls: &Controls,
) -> Result<SecondLook> {
    let copies = locate::ask_again(manifest.object(), registry, places).await;
    let present = copies.iter().filter_map(|copy| copy.place(registry)).collect();
    let reader = ObjectReader::new(manifest.clone(), present);
    let reading = read::read(&reader, &copies, Depth::Full, controls).await?;
    let bytes_read = reading.bytes_read;
    Ok(SecondLook { copies: judge::findings(copies, &reading, manifest), bytes_read })
}

/// What a second look at some places gave.
#[derive(Debug, Clone)]
pub struct SecondLook {
    /// What is there, in the order of index and registration.
    pub copies: Vec<CopyFinding>,
    /// How many bytes were read.
    pub bytes_read: u64,
}

impl locate::Copy {
    /// Where the reader finds it, if there is anything to read.
    fn place(&self, registry: &BackendRegistry) -> Option<ShardPlace> {
        let backend = registry.get(self.backend).filter(|_| self.is_there())?;
        Some(ShardPlace { index: self.index, backend: self.backend, source: Some(backend.backend.clone()) })
    }
}

/// The manifest as the catalog keeps it, checked like any other; where that is damaged, as the shards do.
pub(in crate::ops) async fn open_manifest(
    store: &Store,
    record: &ObjectRecord,
    recorded: &[ShardRecord],
) -> Result<Manifest> {
    let damaged = match record.manifest(&store.id()) {
        Ok(manifest) => return Ok(manifest),
        Err(error) => error,
    };
    let places = Sources::of(store).places(recorded.iter().map(|shard| (shard.index, shard.backend)));
    gather_manifest(&places, record.id, &store.id()).await.map_err(|_| {
        let doing = format!("the catalog's copy of the manifest of object {} is damaged", record.id);
        Error::new(ErrorKind::Damaged, doing)
            .with_source(damaged)
            .with_hint("make the catalog anew with `shard catalog rebuild`")
    })
}
