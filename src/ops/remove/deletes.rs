//! Deletes that wait: made where the backend answers, kept where it does not. A copy of an object that lives goes only once
//! another of the same shard was read whole.

use super::reprieve::{Fate, Judged, judge, living, record_again};
use crate::backend::{self, ErrorKind, RegisteredBackend};
use crate::catalog::PendingDelete;
use crate::error::{ErrorKind as Kind, Result};
use crate::id::{BackendId, ObjectId, ShardId};
use crate::ops::Controls;
use crate::ops::examine::Subject;
use crate::ops::show::backend_name;
use crate::ops::writer::{clear_begun, clear_place};
use crate::store::Store;
use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// Those of this object, of which every shard was read whole just now.
    Proved(ObjectId),
    /// Those on this backend.
    On(BackendId),
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
    /// How many are called off: no other copy of their shard is good, and they are recorded again.
    pub(in crate::ops) called_off: u64,
    /// How many bytes were read to know that nothing is lost by them.
    pub(in crate::ops) bytes_read: u64,
    waiting: BTreeMap<BackendId, Waiting>,
}

/// Shards that stay on a backend until it can be reached, and another copy read whole if their object lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitingDeletes {
    /// The backend's name; its id where the settings do not have it.
    pub backend: String,
    /// How many shards.
    pub shards: u64,
    /// How many of these the backend would delete now, and another copy of them is not proved.
    #[serde(skip_serializing_if = "is_none")]
    pub unproved: u64,
    /// The settings do not have the backend: `backend remove --force` gives up what waits there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// How many deletes of one backend wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waiting {
    shards: u64,
    /// Of these, those whose backend was not the reason.
    unproved: u64,
}

impl Deletes {
    /// What waits, by backend.
    pub(in crate::ops) fn waiting(&self, store: &Store) -> Vec<WaitingDeletes> {
        let waiting = self.waiting.iter();
        let told = |(id, waiting): (&BackendId, &Waiting)| {
            let Waiting { shards, unproved } = *waiting;
            let unknown = store.registry().get(*id).is_none();
            WaitingDeletes { backend: backend_name(store, *id), shards, unproved, unknown }
        };
        waiting.map(told).collect()
    }

    /// How many wait, over all backends.
    pub(in crate::ops) fn waiting_count(&self) -> u64 {
        self.waiting.values().map(|waiting| waiting.shards).sum()
    }

    /// Takes in a later round over all there are.
    pub(in crate::ops) fn add_last(&mut self, last: Self) {
        self.waiting.clear();
        self.add(last);
    }

    /// Takes in a round over other deletes.
    pub(in crate::ops) fn add(&mut self, other: Self) {
        self.shards += other.shards;
        self.bytes += other.bytes;
        self.confirmed += other.confirmed;
        self.called_off += other.called_off;
        self.bytes_read += other.bytes_read;
        for (backend, other) in other.waiting {
            let waiting = self.waiting.entry(backend).or_default();
            waiting.shards += other.shards;
            waiting.unproved += other.unproved;
        }
    }
}

/// Deletes the shards that wait to be deleted, wherever their backends answer, and confirms each that is gone.
pub(in crate::ops) async fn delete_pending(store: &Store, which: Which, controls: &Controls) -> Result<Deletes> {
    let (only_asked, is_proved) = (which == Which::Done, matches!(which, Which::Proved(_)));
    let round = Round { store, silent: Mutex::default(), only_asked, is_proved, controls };
    let mut deletes = Deletes::default();
    match which {
        Which::All | Which::Done => round.make(None, |_| true, &mut deletes).await?,
        Which::On(backend) => round.make(None, |delete| delete.backend == backend, &mut deletes).await?,
        Which::Proved(object) => round.make(Some(object), |_| true, &mut deletes).await?,
        Which::Of(objects) => {
            for object in objects {
                round.make(Some(object), |_| true, &mut deletes).await?;
            }
        }
    }
    Ok(deletes)
}

/// What would become of the deletes that wait. Nothing is deleted and nothing recorded. What is there of dead objects is not
/// asked for; and where a backend takes no deletes now, those on it count as made, as they may be later.
pub(in crate::ops) async fn rehearse_pending(store: &Store, controls: &Controls) -> Result<Deletes> {
    let round = Round { store, silent: Mutex::default(), only_asked: true, is_proved: false, controls };
    let mut deletes = Deletes::default();
    let mut after = None;
    loop {
        controls.check_cancelled()?;
        let from = after.take();
        let page = store.look(move |catalog| catalog.pending_deletes(from.as_ref(), PAGE_DELETES)).await?;
        after = page.last().copied();
        if after.is_none() {
            return Ok(deletes);
        }
        let living = living(store, page.iter().map(|delete| delete.object).collect()).await?;
        let (of_living, others): (Vec<_>, Vec<_>) = page
            .into_iter()
            .partition(|delete| living.contains(&delete.object) && round.place(delete.backend).is_some());
        deletes.shards += others.len() as u64;
        let judged = stream::iter(of_living).map(|delete| round.judge(delete)).buffer_unordered(DELETES_IN_FLIGHT);
        for judged in judged.collect::<Vec<_>>().await {
            let Judged { fate, bytes_read } = judged?;
            deletes.bytes_read += bytes_read;
            match fate {
                Fate::Goes | Fate::OutOfReach => deletes.shards += 1,
                Fate::IsGone | Fate::Waits => {}
                Fate::Stays(_) => deletes.called_off += 1,
            }
        }
    }
}

/// One go at the deletes.
struct Round<'a> {
    store: &'a Store,
    /// Backends that take no deletes now.
    silent: Mutex<BTreeSet<BackendId>>,
    only_asked: bool,
    /// Another copy of each shard was read whole.
    is_proved: bool,
    controls: &'a Controls,
}

/// What became of one delete.
enum Made {
    /// The shard is gone, and had so many bytes.
    Gone(u64),
    /// It stays there until its backend takes deletes.
    Waits,
    /// It stays there until another copy is proved.
    Unproved,
    /// There is no other copy of it: it is recorded again.
    CalledOff,
}

impl Round<'_> {
    /// Makes the deletes that are wanted: all of them, or those of one object.
    async fn make(
        &self,
        object: Option<ObjectId>,
        is_wanted: impl Fn(&PendingDelete) -> bool,
        deletes: &mut Deletes,
    ) -> Result<()> {
        let mut after =
            object.map(|object| PendingDelete { object, index: 0, backend: BackendId([0; BackendId::BYTES]) });
        loop {
            self.controls.check_cancelled()?;
            let from = after.take();
            let mut page = self.store.look(move |catalog| catalog.pending_deletes(from.as_ref(), PAGE_DELETES)).await?;
            page.retain(|delete| object.is_none_or(|object| delete.object == object));
            after = page.last().copied();
            if after.is_none() {
                return Ok(());
            }
            page.retain(&is_wanted);
            let living = match self.only_asked || self.is_proved {
                true => BTreeSet::new(),
                false => living(self.store, page.iter().map(|delete| delete.object).collect()).await?,
            };
            let made = stream::iter(page).map(async |delete| {
                let (made, bytes_read) = self.make_one(delete, living.contains(&delete.object)).await?;
                Ok((delete, made, bytes_read))
            });
            let made: Vec<Result<_>> = made.buffer_unordered(DELETES_IN_FLIGHT).collect().await;
            // What is gone is confirmed, whatever became of the others.
            let (made, failed): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
            deletes.add(self.confirm(made.into_iter().flatten().collect()).await?);
            failed.into_iter().collect::<Result<Vec<_>>>()?;
        }
    }

    /// Makes one delete, and says how many bytes were read for it.
    async fn make_one(&self, delete: PendingDelete, is_live: bool) -> Result<(Made, u64)> {
        let Some(registered) = self.place(delete.backend).filter(|_| !self.silent().contains(&delete.backend)) else {
            return Ok((Made::Waits, 0));
        };
        let judged = if is_live { self.judge(delete).await? } else { Judged { fate: Fate::Goes, bytes_read: 0 } };
        match judged.fate {
            Fate::Goes => {}
            // What appears there from now on was not proved to be one too many.
            Fate::IsGone => {
                let shard = ShardId { object: delete.object, index: delete.index };
                let cleared = clear_begun(registered.backend.as_ref(), shard).await;
                return Ok((cleared.map_or(Made::Waits, |_| Made::Gone(0)), judged.bytes_read));
            }
            Fate::OutOfReach => return Ok((Made::Waits, judged.bytes_read)),
            Fate::Waits => return Ok((Made::Unproved, judged.bytes_read)),
            Fate::Stays(record) => {
                self.store.catalog(move |catalog| record_again(catalog, delete.object, &record)).await?;
                return Ok((Made::CalledOff, judged.bytes_read));
            }
        }
        let shard = ShardId { object: delete.object, index: delete.index };
        let made = match delete_from_place(registered, shard, self.only_asked).await {
            Ok(bytes) => bytes.map_or(Made::Waits, Made::Gone),
            Err(error) => {
                tracing::debug!(%shard, backend = %registered.name, %error, "a delete has to wait");
                if matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Denied | ErrorKind::ReadOnly) {
                    self.silent().insert(delete.backend);
                }
                Made::Waits
            }
        };
        Ok((made, judged.bytes_read))
    }

    /// A backend that takes deletes.
    fn place(&self, backend: BackendId) -> Option<&RegisteredBackend> {
        self.store.registry().get(backend).filter(|backend| backend.is_ready() && !backend.read_only)
    }

    /// Whether a copy of a living object may go. A backend that does not answer is asked for none of the others.
    async fn judge(&self, delete: PendingDelete) -> Result<Judged> {
        if self.silent().contains(&delete.backend) {
            return Ok(Judged { fate: Fate::OutOfReach, bytes_read: 0 });
        }
        let fate = match Subject::load(self.store, delete.object).await {
            Ok(Some(subject)) => {
                let place = (delete.index, delete.backend);
                let judged = judge(self.store, &subject, place, &[], self.controls).await?;
                if judged.fate == Fate::OutOfReach {
                    self.silent().insert(delete.backend);
                }
                return Ok(judged);
            }
            Ok(None) => Fate::Goes,
            // Without its manifest nothing can be proved of it.
            Err(error) if error.kind == Kind::Damaged => Fate::Waits,
            Err(error) => return Err(error),
        };
        Ok(Judged { fate, bytes_read: 0 })
    }

    fn silent(&self) -> MutexGuard<'_, BTreeSet<BackendId>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn confirm(&self, outcomes: Vec<(PendingDelete, Made, u64)>) -> Result<Deletes> {
        let mut deletes = Deletes::default();
        let mut gone = Vec::new();
        for (delete, made, bytes_read) in outcomes {
            deletes.bytes_read += bytes_read;
            match made {
                Made::Gone(bytes) => {
                    deletes.shards += u64::from(bytes > 0);
                    deletes.bytes += bytes;
                    gone.push(delete);
                }
                Made::Waits | Made::Unproved => {
                    let waiting = deletes.waiting.entry(delete.backend).or_default();
                    waiting.shards += 1;
                    waiting.unproved += u64::from(matches!(made, Made::Unproved));
                }
                Made::CalledOff => deletes.called_off += 1,
            }
        }
        deletes.confirmed = gone.len() as u64;
        self.controls.items(deletes.confirmed);
        self.store
            .catalog(move |catalog| {
                gone.iter().try_for_each(|delete| catalog.confirm_deleted(delete.object, delete.index, delete.backend))
            })
            .await?;
        Ok(deletes)
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
        // What appears there from now on may be all that there is of it.
        Err(error) if error.kind == ErrorKind::NotFound && only_asked => {
            clear_begun(place.backend.as_ref(), shard).await.map(|_| Some(0))
        }
        // It may be there unfinished: a write that its backend did not survive waits to be deleted too.
        Err(error) if error.kind == ErrorKind::NotFound => {
            clear_place(place.backend.as_ref(), shard).await.map(|_| Some(0))
        }
        Err(error) => Err(error),
    }
}
