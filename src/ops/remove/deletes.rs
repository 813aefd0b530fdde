//! Deletes that wait: made where the backend answers, kept where it does not.

use crate::backend::{self, ErrorKind, RegisteredBackend};
use crate::catalog::PendingDelete;
use crate::error::Result;
use crate::id::{BackendId, ObjectId, ShardId};
use crate::ops::Controls;
use crate::ops::show::backend_name;
use crate::ops::writer::clear_place;
use crate::store::Store;
use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// How many deletes are asked of the catalog at a time.
const PAGE_DELETES: usize = 1000;
/// How many deletes are on their way at once, over all backends.
const DELETES_IN_FLIGHT: usize = 16;

/// Which deletes are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) enum Which {
    /// All that wait.
    All,
    /// Those of these objects.
    Of(BTreeSet<ObjectId>),
    /// None: it is only asked which are done already.
    Done,
}

/// What became of the deletes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::ops) struct Deletes {
    /// How many shards were there and are deleted.
    pub(in crate::ops) shards: u64,
    /// Their bytes.
    pub(in crate::ops) bytes: u64,
    /// How many were confirmed to be gone, there or not.
    pub(in crate::ops) confirmed: u64,
    waiting: BTreeMap<BackendId, u64>,
}

/// Shards that stay on a backend until it can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitingDeletes {
    /// The backend's name; its id where the settings do not have it.
    pub backend: String,
    /// How many shards.
    pub shards: u64,
}

impl Deletes {
    /// What waits, by backend.
    pub(in crate::ops) fn waiting(&self, store: &Store) -> Vec<WaitingDeletes> {
        let waiting = self.waiting.iter();
        waiting.map(|(id, shards)| WaitingDeletes { backend: backend_name(store, *id), shards: *shards }).collect()
    }

    /// Takes in a later round over the same deletes: what waits now is what waits.
    pub(in crate::ops) fn add_made(&mut self, later: Self) {
        self.shards += later.shards;
        self.bytes += later.bytes;
        self.confirmed += later.confirmed;
        for (backend, shards) in later.waiting {
            let waiting = self.waiting.entry(backend).or_default();
            *waiting = shards.max(*waiting);
        }
    }

    fn add(&mut self, other: Self) {
        self.shards += other.shards;
        self.bytes += other.bytes;
        self.confirmed += other.confirmed;
        for (backend, shards) in other.waiting {
            *self.waiting.entry(backend).or_default() += shards;
        }
    }
}

/// Deletes the shards that wait to be deleted, wherever their backends answer, and confirms each that is gone.
pub(in crate::ops) async fn delete_pending(store: &Store, which: Which, controls: &Controls) -> Result<Deletes> {
    let mut deletes = Deletes::default();
    let silent = Mutex::new(BTreeSet::new());
    match which {
        Which::All | Which::Done => {
            let only_asked = which == Which::Done;
            delete_from(store, (None, None), (&silent, only_asked), (controls, &mut deletes)).await?;
        }
        Which::Of(objects) => {
            for object in objects {
                let first = PendingDelete { object, index: 0, backend: BackendId([0; BackendId::BYTES]) };
                delete_from(store, (Some(first), Some(object)), (&silent, false), (controls, &mut deletes)).await?;
            }
        }
    }
    Ok(deletes)
}

/// Goes through the deletes after `after`, to the end or while they are of one object.
async fn delete_from(
    store: &Store,
    (mut after, only): (Option<PendingDelete>, Option<ObjectId>),
    (silent, only_asked): (&Mutex<BTreeSet<BackendId>>, bool),
    (controls, deletes): (&Controls, &mut Deletes),
) -> Result<()> {
    loop {
        controls.check_cancelled()?;
        let from = after.take();
        let mut page = store.look(move |catalog| catalog.pending_deletes(from.as_ref(), PAGE_DELETES)).await?;
        page.retain(|delete| only.is_none_or(|only| delete.object == only));
        after = page.last().copied();
        if after.is_none() {
            return Ok(());
        }
        let made =
            stream::iter(page).map(async |delete| (delete, delete_one(store, delete, (silent, only_asked)).await));
        let outcomes: Vec<_> = made.buffer_unordered(DELETES_IN_FLIGHT).collect().await;
        deletes.add(confirm(store, outcomes, controls).await?);
    }
}

/// How long the shard was; `None` where its backend could not say that it is gone.
async fn delete_one(
    store: &Store,
    delete: PendingDelete,
    (silent, only_asked): (&Mutex<BTreeSet<BackendId>>, bool),
) -> Option<u64> {
    let is_silent = || silent.lock().unwrap_or_else(PoisonError::into_inner).contains(&delete.backend);
    let registered = store.registry().get(delete.backend).filter(|backend| backend.is_ready() && !backend.read_only);
    let registered = registered.filter(|_| !is_silent())?;
    let shard = ShardId { object: delete.object, index: delete.index };
    match delete_from_place(registered, shard, only_asked).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::debug!(%shard, backend = %registered.name, %error, "a delete has to wait");
            if matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Denied | ErrorKind::ReadOnly) {
                silent.lock().unwrap_or_else(PoisonError::into_inner).insert(delete.backend);
            }
            None
        }
    }
}

/// How long the shard was; `None` where it is there and stays.
async fn delete_from_place(
    place: &RegisteredBackend,
    shard: ShardId,
    only_asked: bool,
) -> backend::Result<Option<u64>> {
    match place.backend.head(shard).await {
        Ok(_) if only_asked => Ok(None),
        Ok(bytes) => place.backend.delete(shard).await.map(|()| Some(bytes)),
        // It may be there unfinished: a write that its backend did not survive waits to be deleted too.
        Err(error) if error.kind == ErrorKind::NotFound => {
            clear_place(place.backend.as_ref(), shard).await.map(|_| Some(0))
        }
        Err(error) => Err(error),
    }
}

async fn confirm(store: &Store, outcomes: Vec<(PendingDelete, Option<u64>)>, controls: &Controls) -> Result<Deletes> {
    let mut deletes = Deletes::default();
    let mut gone = Vec::new();
    for (delete, outcome) in outcomes {
        match outcome {
            Some(bytes) => {
                deletes.shards += u64::from(bytes > 0);
                deletes.bytes += bytes;
                gone.push(delete);
            }
            None => *deletes.waiting.entry(delete.backend).or_default() += 1,
        }
    }
    deletes.confirmed = gone.len() as u64;
    controls.items(deletes.confirmed);
    store
        .catalog(move |catalog| {
            gone.iter().try_for_each(|delete| catalog.confirm_deleted(delete.object, delete.index, delete.backend))
        })
        .await?;
    Ok(deletes)
}
