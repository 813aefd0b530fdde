//! What is in the places that a journal names, and elsewhere.

use super::super::ingest::{FoundObject, FoundShard};
use crate::backend::{Backend, ErrorKind as BackendErrorKind};
use crate::catalog::JournalEntry;
use crate::format::{Manifest, ShardFileLayout};
use crate::id::{BackendId, ObjectId, ShardId};
use crate::store::Store;
use futures_util::{StreamExt, future, stream};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many questions are asked at once where nothing is expected.
const QUESTIONS_AT_ONCE: usize = 16;

/// What is in a place that a journal names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    There(u64),
    /// It is not there, or the place is none of the store's any more: nobody will ask there again.
    Absent,
    /// The place does not answer.
    Silent,
}

/// A place that a journal names, and what is there.
pub(super) type Seen = (u8, BackendId, Look);

/// Asks every place that the journal names, all at once.
pub(super) async fn look_at(store: &Store, entry: &JournalEntry) -> Vec<Seen> {
    let looks = entry.shards.iter().map(async |(index, place)| {
        let shard = ShardId { object: entry.object, index: *index };
        let look = match store.registry().get(*place) {
            None => Look::Absent,
            Some(registered) if !registered.is_ready() => Look::Silent,
            Some(registered) => match registered.backend.head(shard).await {
                Ok(bytes) => Look::There(bytes),
                Err(error) if error.kind == BackendErrorKind::NotFound => Look::Absent,
                Err(_) => Look::Silent,
            },
        };
        (*index, *place, look)
    });
    future::join_all(looks).await
}

/// Shards of this object that are in places that the journal does not name.
pub(super) async fn look_elsewhere(store: &Store, entry: &JournalEntry) -> Vec<FoundShard> {
    let indexes: BTreeSet<u8> = entry.shards.iter().map(|(index, _)| *index).collect();
    let ready = || store.registry().iter().filter(|registered| registered.is_ready());
    let everywhere = indexes.into_iter().flat_map(|index| ready().map(move |registered| (index, registered)));
    let questions = everywhere.filter(|(index, registered)| !entry.shards.contains(&(*index, registered.id)));
    let asking = questions.map(|(index, registered)| {
        let (place, backend): (BackendId, Arc<dyn Backend>) = (registered.id, Arc::clone(&registered.backend));
        let shard = ShardId { object: entry.object, index };
        async move { Some(FoundShard { index, backend: place, bytes: backend.head(shard).await.ok()? }) }
    });
    let answers = stream::iter(asking.collect::<Vec<_>>()).buffer_unordered(QUESTIONS_AT_ONCE);
    answers.filter_map(future::ready).collect().await
}

pub(super) fn found_object(object: ObjectId, seen: &[Seen]) -> FoundObject {
    let found = |(index, backend, look): &Seen| match look {
        Look::There(bytes) => Some(FoundShard { index: *index, backend: *backend, bytes: *bytes }),
        _ => None,
    };
    FoundObject { object, shards: seen.iter().filter_map(found).collect() }
}

/// How many different shards have a place of which this is so.
pub(super) fn distinct(seen: &[Seen], is_so: impl Fn(Look) -> bool) -> usize {
    seen.iter().filter(|(_, _, look)| is_so(*look)).map(|(index, ..)| *index).collect::<BTreeSet<_>>().len()
}

/// How many different shards have the right length on a backend that lasts.
pub(super) fn whole_shards(store: &Store, manifest: &Manifest, found: &FoundObject) -> usize {
    let file_bytes = ShardFileLayout::of(manifest).file_bytes();
    let lasts = |shard: &&FoundShard| store.registry().get(shard.backend).is_some_and(|backend| !backend.volatile);
    let whole = found.shards.iter().filter(lasts).filter(|shard| shard.bytes == file_bytes);
    whole.map(|shard| shard.index).collect::<BTreeSet<_>>().len()
}
