//! `status`: how the whole store stands, from the catalog and the settings alone.
//!
//! *What it is.* One report: backends, objects by state, the smallest margins and what may be lost in words, how old the
//! oldest verification is against what each level wants, space, unfinished puts.
//!
//! *What it knows.* The catalog's counts of objects that are alike, which backends fail together, and the time it is told it is.
//!
//! *What it does not know.* What is really on the backends: `verify` looks, and leaves what it found in the catalog.
//!
//! *Invariants.* No backend is changed, and none is asked unless that is wanted. Shards that do not outlive the process count for no margin.

mod age;
mod history;
mod said;
mod standing;
mod words;

pub use age::{VerificationAge, wanted_age_seconds};
pub use history::{ChallengeHistory, FailedChallenge};
pub use said::SaidByNode;
pub(in crate::ops) use standing::{Standing, Zones};
pub(in crate::ops) use words::Outlook;

use super::Controls;
use super::verify::{VerifyMode, VerifyOptions, verify};
use crate::backend::{BackendRegistry, Reach};
use crate::catalog::{self, Catalog, CatalogStats, ObjectClass, ObjectState, ShardRecord};
use crate::error::Result;
use crate::format::FileName;
use crate::id::{BackendId, Digest, StoreId, VersionId, WriterId};
use crate::store::{Held, Store};
use serde::Serialize;
use std::collections::BTreeMap;

/// Whether the backends are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatusCheck {
    /// What the catalog says counts.
    #[default]
    CatalogOnly,
    /// Presence, length and manifest of every shard are looked at first, and recorded.
    AskBackends,
}

/// How the status is taken.
#[derive(Debug, Clone, Default)]
pub struct StatusOptions {
    /// Whether the backends are asked.
    pub check: StatusCheck,
    /// Progress and cancelling.
    pub controls: Controls,
}

/// How the store stands.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// Which store.
    pub store: StoreId,
    /// The key, and whether it would outlive this machine.
    pub key: KeyStatus,
    /// The state of the worst object.
    pub state: ObjectState,
    /// Whether some level's verification is older than it should be.
    pub overdue: bool,
    /// The backends, in the order in which they were added.
    pub backends: Vec<BackendStatus>,
    /// Objects by state.
    pub objects: ObjectCounts,
    /// How many more zones may be lost before some object is; `None` when there is none, or one cannot be recovered now.
    pub margin: Option<u32>,
    /// The same for backends.
    pub backend_margin: Option<u32>,
    /// What may be lost, and what not, in words.
    pub may_be_lost: Vec<String>,
    /// How well the objects of each level were looked after.
    pub verification: Vec<VerificationAge>,
    /// Bytes.
    pub space: Space,
    /// Names that have a version.
    pub files: u64,
    /// Versions that were not removed.
    pub versions: u64,
    /// Large files that were begun and not ended: a put of the same file goes on, `gc` clears them.
    pub unfinished: Vec<UnfinishedPut>,
    /// Objects that dead processes left half-written: the next command that writes clears them.
    pub leftovers: u64,
}

/// The store's key, as far as this machine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KeyStatus {
    /// What this machine has of the store's keys, and so what it may do.
    pub held: Held,
    /// What it is called in the versions that it puts, where it is a write-only machine.
    pub writer: Option<WriterId>,
    /// The key in use.
    pub id: Option<Digest>,
    /// How many keys there are: one more for each change.
    pub keys: usize,
    /// A recovery kit was made since this key is in use.
    pub exported: bool,
    /// It is under a passphrase on this machine.
    pub passphrase: bool,
}

/// One backend, as far as the catalog and the settings know.
#[derive(Debug, Clone, Serialize)]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: String,
    /// What fails together with it.
    pub zone: String,
    /// `unknown` when nobody has looked in this run, else `ready`, `unreachable` or `wrong-place`.
    pub state: &'static str,
    /// How many shards it has.
    pub shards: u64,
    /// Their bytes.
    pub used: u64,
    /// The most bytes it may hold.
    pub quota: Option<u64>,
    /// Shards that are still to be deleted there.
    pub pending_deletes: u64,
    /// It takes no new shards.
    pub draining: bool,
    /// It is never written to.
    pub read_only: bool,
    /// How it met what it was asked for, as far as this machine asked.
    pub history: ChallengeHistory,
    /// What it said of what it keeps, where it is a node and the store did not look itself since.
    pub said: Vec<SaidByNode>,
}

/// Objects by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ObjectCounts {
    /// All of them.
    pub total: u64,
    /// How many of them are removals that are still needed.
    pub removals: u64,
    /// All shards are there, whole and in their places.
    pub healthy: u64,
    /// They can be recovered; something is missing, corrupt, misplaced or unreachable.
    pub degraded: u64,
    /// They cannot be recovered now; unreachable backends may hold the rest.
    pub unavailable: u64,
    /// Nothing known could bring them back.
    pub lost: u64,
    /// How many were never verified in full.
    pub never_verified: u64,
}

/// What the store takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Space {
    /// The payloads of all objects.
    pub payload: u64,
    /// The shards on all backends.
    pub shards: u64,
    /// How many shards wait to be deleted.
    pub pending_deletes: u64,
}

/// A large file of which some objects are stored and the last is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnfinishedPut {
    /// The file's name.
    pub name: FileName,
    /// The version.
    pub version: VersionId,
    /// How many of its bytes are stored.
    pub stored: u64,
}

/// Says how the store stands; reads the catalog only, unless the backends are to be asked.
pub async fn status(store: &Store, options: StatusOptions) -> Result<StatusReport> {
    options.controls.check_cancelled()?;
    if options.check == StatusCheck::AskBackends {
        let controls = options.controls.clone();
        verify(store, VerifyOptions { mode: VerifyMode::Quick, controls, ..VerifyOptions::default() }).await?;
    }
    let Counts { stats, classes, unfinished, pending } = store.look(Counts::read).await?;
    let zones = Zones::of(store.registry());
    let (mut outlook, mut worst) = (Outlook::default(), ObjectState::Healthy);
    for class in &classes {
        let standing = Standing::of(class.geometry, &class.shards, &class.health, &zones);
        worst = worst.max(class.health.state).max(without_settings(store.registry(), class, &standing));
        outlook.add(&standing, class.objects);
    }
    let now_ns = store.now_ns();
    let verification: Vec<VerificationAge> = stats
        .geometries
        .iter()
        .map(|(geometry, stats)| {
            let oldest_ns = [stats.oldest_verified_ns, stats.oldest_unverified_put_ns].into_iter().flatten().min();
            VerificationAge::new(*geometry, (stats.objects, stats.never_verified), oldest_ns, now_ns)
        })
        .collect();
    Ok(StatusReport {
        store: store.id(),
        key: key(store).await?,
        state: worst,
        overdue: verification.iter().any(|age| age.overdue),
        backends: backends(store, &stats, &pending, (store.look(history::read).await?, said::read(store).await?)),
        objects: counts(&stats),
        margin: outlook.margin(),
        backend_margin: outlook.backend_margin(),
        may_be_lost: outlook.may_be_lost(),
        verification,
        space: Space {
            payload: stats.payload_bytes,
            shards: stats.backends.values().map(|(_, bytes)| bytes).sum(),
            pending_deletes: stats.pending_deletes,
        },
        files: stats.files,
        versions: stats.versions,
        unfinished,
        leftovers: leftovers(store).await?,
    })
}

/// The state that objects have at least whose shards are recorded on backends that the settings do not have: nobody asks there.
fn without_settings(registry: &BackendRegistry, class: &ObjectClass, standing: &Standing) -> ObjectState {
    let is_unknown = |shard: &ShardRecord| registry.get(shard.backend).is_none();
    match class.shards.iter().any(is_unknown) {
        false => ObjectState::Healthy,
        true if standing.margin.is_none() => ObjectState::Unavailable,
        true => ObjectState::Degraded,
    }
}

async fn key(store: &Store) -> Result<KeyStatus> {
    let exported = store.key_is_exported().await?;
    let keys = store.access().keyring().map_or(0, |keyring| keyring.keys().len());
    let (held, writer, id) = (store.held(), store.writer(), store.key_id());
    Ok(KeyStatus { held, writer, id, keys, exported, passphrase: store.key_has_passphrase() })
}

/// What the catalog says, of one moment.
struct Counts {
    stats: CatalogStats,
    classes: Vec<ObjectClass>,
    unfinished: Vec<UnfinishedPut>,
    pending: BTreeMap<BackendId, u64>,
}

impl Counts {
    fn read(catalog: &Catalog) -> catalog::Result<Self> {
        let mut unfinished = Vec::new();
        for version in catalog.unfinished()? {
            let stored = catalog.pieces(version.id)?.iter().map(|piece| piece.bytes).sum();
            unfinished.push(UnfinishedPut { name: version.name, version: version.id, stored });
        }
        let (stats, classes, pending) = (catalog.stats()?, catalog.classes()?, catalog.pending_by_backend()?);
        Ok(Self { stats, classes, unfinished, pending })
    }
}

fn counts(stats: &CatalogStats) -> ObjectCounts {
    let of = |state| stats.objects.get(&state).copied().unwrap_or(0);
    ObjectCounts {
        total: stats.data_objects + stats.removal_objects + stats.catalog_objects,
        removals: stats.removal_objects,
        healthy: of(ObjectState::Healthy),
        degraded: of(ObjectState::Degraded),
        unavailable: of(ObjectState::Unavailable),
        lost: of(ObjectState::Lost),
        never_verified: stats.never_verified,
    }
}

fn backends(
    store: &Store,
    stats: &CatalogStats,
    pending: &BTreeMap<BackendId, u64>,
    (mut histories, mut said): (BTreeMap<BackendId, ChallengeHistory>, BTreeMap<BackendId, Vec<SaidByNode>>),
) -> Vec<BackendStatus> {
    let describe = |backend: &crate::backend::RegisteredBackend| {
        let (shards, used) = stats.backends.get(&backend.id).copied().unwrap_or_default();
        BackendStatus {
            name: backend.name.clone(),
            url: backend.url.clone(),
            zone: backend.zone.to_string(),
            state: match backend.reach {
                Reach::Unknown => "unknown",
                Reach::Ready => "ready",
                Reach::Unreachable(_) => "unreachable",
                Reach::WrongPlace(_) => "wrong-place",
            },
            shards,
            used,
            quota: backend.quota_bytes,
            pending_deletes: pending.get(&backend.id).copied().unwrap_or(0),
            draining: backend.draining,
            read_only: backend.read_only,
            history: histories.remove(&backend.id).unwrap_or_default(),
            said: said.remove(&backend.id).unwrap_or_default(),
        }
    };
    store.registry().iter().map(describe).collect()
}

async fn leftovers(store: &Store) -> Result<u64> {
    let journals = store.look(|catalog| catalog.journals()).await?;
    Ok(journals.iter().filter(|entry| !store.process_is_alive(entry.process)).count() as u64)
}
