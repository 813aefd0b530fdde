//! Copies that wait for deletion while their object lives: one too many, or what a write that failed left. Such a copy goes
//! once another of the same shard was read whole; where there is none, it may be the last.

use crate::backend::{self, ErrorKind as BackendErrorKind};
use crate::catalog::{self, Catalog, ShardRecord, ShardState};
use crate::error::Result;
use crate::id::{BackendId, ObjectId, ShardId};
use crate::ops::Controls;
use crate::ops::examine::{CopyFinding, Depth, Examination, Subject, is_good, look_at};
use crate::ops::verify::verify_object;
use crate::store::Store;
use std::collections::BTreeSet;

/// What is to become of a copy that waits for deletion, and how many bytes were read to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) fate: Fate,
    pub(super) bytes_read: u64,
}

/// What is to become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes: another copy is whole.
    Goes,
    /// It is not there; what is unfinished of it goes.
    IsGone,
    /// Its backend does not answer: nothing there goes now.
    OutOfReach,
    /// It waits: whether another copy is whole cannot be told now, or blocks of this one may be needed.
    Waits,
    /// It is whole, and there is no other: this is the shard.
    Stays(ShardRecord),
}

/// What came of looking at an object's copies that wait for deletion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::ops) struct Reprieved {
    /// How many are recorded again.
    pub(in crate::ops) copies: u64,
    /// How many bytes were read.
    pub(in crate::ops) bytes_read: u64,
}

/// Of these objects, those that live: the others' shards go whatever is left of them.
pub(super) async fn living(store: &Store, objects: BTreeSet<ObjectId>) -> Result<BTreeSet<ObjectId>> {
    let is_live = |catalog: &Catalog| {
        let mut living = BTreeSet::new();
        for object in objects {
            if catalog.object_is_live(object)? {
                living.insert(object);
            }
        }
        Ok(living)
    };
    store.look(is_live).await
}

/// Whether copies of an object's shards wait for deletion of which no other was good, nor may be when its backend answers.
pub(in crate::ops) async fn is_endangered(store: &Store, seen: &Examination, lost: &[BackendId]) -> Result<bool> {
    let object = seen.object();
    let lasts = |backend: BackendId| lasts(store, backend, lost);
    let may_stand_in = |copy: &CopyFinding| match copy.state {
        ShardState::Unreachable => copy.backend.is_some_and(lasts),
        state => is_good(state),
    };
    let is_safe = |index: u8| seen.copies_of(index).any(may_stand_in);
    if seen.geometry().shard_indexes().all(is_safe) {
        return Ok(false);
    }
    let going = store.look(move |catalog| catalog.waiting_places(object)).await?;
    Ok(going.iter().any(|(index, _)| !is_safe(*index)))
}

/// Calls off the deletes of an object's copies that nothing stands in for: what is recorded is gone, bad, or on a backend
/// that will not come back. For whoever holds the maintenance lease: nobody else deletes what waits of a living object.
pub(in crate::ops) async fn reprieve(
    store: &Store,
    object: ObjectId,
    lost: &[BackendId],
    controls: &Controls,
) -> Result<Reprieved> {
    let Some(subject) = Subject::load(store, object).await? else { return Ok(Reprieved::default()) };
    let (staying, bytes_read) = staying(store, &subject, lost, controls).await?;
    let copies = staying.len() as u64;
    let record =
        move |catalog: &mut Catalog| staying.iter().try_for_each(|record| record_again(catalog, object, record));
    store.catalog(record).await?;
    Ok(Reprieved { copies, bytes_read })
}

/// What of an object waits for deletion and has to stay, as it is to be recorded, and how many bytes were read to know it.
async fn staying(
    store: &Store,
    subject: &Subject,
    lost: &[BackendId],
    controls: &Controls,
) -> Result<(Vec<ShardRecord>, u64)> {
    let (mut staying, mut bytes_read) = (Vec::new(), 0);
    for place in &subject.going {
        let judged = judge(store, subject, *place, lost, controls).await?;
        bytes_read += judged.bytes_read;
        if let Fate::Stays(record) = judged.fate {
            staying.push(record);
        }
    }
    Ok((staying, bytes_read))
}

/// Records a copy that was to be deleted. Nothing of an object that is gone meanwhile.
pub(super) fn record_again(catalog: &mut Catalog, object: ObjectId, record: &ShardRecord) -> catalog::Result<()> {
    match catalog.put_shard(object, record) {
        Err(catalog::Error::UnknownObject { .. }) => Ok(()),
        other => other,
    }
}

/// Examines an object as `verify` does, every byte, with what of it waits for deletion and has to stay; and says how many
/// bytes were read. `None` when it is gone. For whoever holds the maintenance lease.
pub(in crate::ops) async fn verify_with_waiting(
    store: &Store,
    object: ObjectId,
    lost: &[BackendId],
    controls: &Controls,
) -> Result<Option<(Examination, u64)>> {
    let Some(seen) = verify_object(store, object, Depth::Full, controls).await? else { return Ok(None) };
    let mut bytes_read = seen.bytes_read;
    if !is_endangered(store, &seen, lost).await? {
        return Ok(Some((seen, bytes_read)));
    }
    let reprieved = reprieve(store, object, lost, controls).await?;
    bytes_read += reprieved.bytes_read;
    if reprieved.copies == 0 {
        return Ok(Some((seen, bytes_read)));
    }
    let seen = verify_object(store, object, Depth::Full, controls).await?;
    Ok(seen.map(|seen| {
        let bytes_read = bytes_read + seen.bytes_read;
        (seen, bytes_read)
    }))
}

/// Examines an object, every byte, with those copies that wait for deletion and would have to stay, as `verify_with_waiting`
/// does, and changes nothing.
pub(in crate::ops) async fn examine_with_waiting(
    store: &Store,
    object: ObjectId,
    lost: &[BackendId],
    controls: &Controls,
) -> Result<Option<(Examination, u64)>> {
    let Some(mut subject) = Subject::load(store, object).await? else { return Ok(None) };
    let seen = subject.clone().examine(store.registry(), Depth::Full, controls).await?;
    let mut bytes_read = seen.bytes_read;
    if !is_endangered(store, &seen, lost).await? {
        return Ok(Some((seen, bytes_read)));
    }
    let (staying, read) = staying(store, &subject, lost, controls).await?;
    bytes_read += read;
    if staying.is_empty() {
        return Ok(Some((seen, bytes_read)));
    }
    subject.going.retain(|place| staying.iter().all(|record| (record.index, record.backend) != *place));
    subject.recorded.extend(staying);
    let seen = subject.examine(store.registry(), Depth::Full, controls).await?;
    let bytes_read = bytes_read + seen.bytes_read;
    Ok(Some((seen, bytes_read)))
}

/// Reads the other copies of a shard, if the waiting one is there, and that where none of them is whole and none may come
/// back.
pub(super) async fn judge(
    store: &Store,
    subject: &Subject,
    (index, place): (u8, BackendId),
    lost: &[BackendId],
    controls: &Controls,
) -> Result<Judged> {
    let (registry, manifest) = (store.registry(), &subject.manifest);
    let shard = ShardId { object: manifest.object(), index };
    let unread = |fate| Ok(Judged { fate, bytes_read: 0 });
    let Some(registered) = registry.get(place).filter(|place| place.is_ready()) else {
        return unread(Fate::OutOfReach);
    };
    match registered.backend.head(shard).await {
        Err(error) if error.kind == BackendErrorKind::NotFound => return unread(Fate::IsGone),
        // It is there, and cannot be read.
        Ok(_) | Err(backend::Error { kind: BackendErrorKind::Failed, .. }) => {}
        Err(_) => return unread(Fate::OutOfReach),
    }
    let others = subject.recorded.iter().filter(|other| other.index == index && other.backend != place);
    let others: Vec<_> =
        others.filter(|other| lasts(store, other.backend, lost)).map(|other| (other.index, other.backend)).collect();
    let seen = look_at(manifest, registry, &others, controls).await?;
    let is = |state: ShardState| seen.copies.iter().any(|copy| copy.state == state);
    if is(ShardState::Ok) {
        return Ok(Judged { fate: Fate::Goes, bytes_read: seen.bytes_read });
    }
    if is(ShardState::Unreachable) {
        return Ok(Judged { fate: Fate::Waits, bytes_read: seen.bytes_read });
    }
    let waiting = look_at(manifest, registry, &[(index, place)], controls).await?;
    let fate = match waiting.copies.first() {
        Some(copy) if copy.state == ShardState::Missing => Fate::IsGone,
        Some(copy) if copy.state == ShardState::Ok => {
            let (state, verified_ns) = (ShardState::Ok, Some(store.now_ns()));
            Fate::Stays(ShardRecord { index, backend: place, bytes: copy.bytes, state, bad_blocks: 0, verified_ns })
        }
        _ => Fate::Waits,
    };
    Ok(Judged { fate, bytes_read: seen.bytes_read + waiting.bytes_read })
}

/// Whether a backend is one of the store's, and may come back.
fn lasts(store: &Store, backend: BackendId, lost: &[BackendId]) -> bool {
    store.registry().get(backend).is_some() && !lost.contains(&backend)
}
