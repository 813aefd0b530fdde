//! Finds the copies of an object's shards: where they are recorded, and under their names elsewhere when they are not
//! there.

use super::{Defect, Subject};
use crate::backend::{self, BackendRegistry, ErrorKind, Reach, RegisteredBackend};
use crate::catalog::ShardRecord;
use crate::id::{BackendId, ObjectId, ShardId};
use futures_util::{StreamExt, stream};
use std::collections::BTreeSet;

/// How many questions are asked at once.
const QUESTIONS_AT_ONCE: usize = 16;

/// A copy, or a place where one should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) index: u8,
    pub(super) backend: BackendId,
    pub(super) recorded: bool,
    pub(super) presence: Presence,
}

/// What a place said when it was asked for a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is there, this long.
    There(u64),
    /// It is not there.
    Absent,
    /// It is there and cannot be read.
    Unreadable(Defect),
    /// Nothing is known.
    Unknown(Defect),
}

impl Copy {
    pub(super) fn is_there(&self) -> bool {
        matches!(self.presence, Presence::There(_))
    }
}

/// Asks every recorded place, and for each shard that none of them has, all others. Also the shards that nobody has, and one
/// of those others did not answer: they may be there.
pub(super) async fn find_copies(subject: &Subject, registry: &BackendRegistry) -> (Vec<Copy>, BTreeSet<u8>) {
    let total_shards = subject.manifest.geometry().total_shards();
    let exists = |record: &&ShardRecord| usize::from(record.index) < total_shards;
    let recorded = subject.recorded.iter().filter(exists).map(|record| (record.index, record.backend)).collect();
    let object = subject.manifest.object();
    let mut copies = ask(object, registry, recorded, true).await;
    let found = |index: u8| copies.iter().any(|copy| copy.index == index && copy.is_there());
    let mut elsewhere = Vec::new();
    for index in subject.manifest.geometry().shard_indexes().filter(|index| !found(*index)) {
        let others = registry.iter().filter(|backend| backend.is_ready()).map(|backend| (index, backend.id));
        elsewhere.extend(others.filter(|place| !is_known(subject, *place)));
    }
    let (there, not): (Vec<_>, Vec<_>) =
        ask(object, registry, elsewhere, false).await.into_iter().partition(Copy::is_there);
    copies.extend(there);
    copies.sort_by_key(|copy| (copy.index, !copy.recorded, registry.position(copy.backend)));
    let found = |index: u8| copies.iter().any(|copy| copy.index == index && copy.is_there());
    let silent = not.iter().filter(|copy| copy.presence != Presence::Absent && !found(copy.index));
    let may_be_there = silent.map(|copy| copy.index).collect();
    (copies, may_be_there)
}

/// Asks these places alone.
pub(super) async fn ask_again(object: ObjectId, registry: &BackendRegistry, places: &[(u8, BackendId)]) -> Vec<Copy> {
    ask(object, registry, places.to_vec(), true).await
}

fn is_known(subject: &Subject, place: (u8, BackendId)) -> bool {
    let recorded = subject.recorded.iter().any(|record| (record.index, record.backend) == place);
    recorded || subject.going.contains(&place)
}

async fn ask(object: ObjectId, registry: &BackendRegistry, places: Vec<(u8, BackendId)>, recorded: bool) -> Vec<Copy> {
    let question = |(index, backend): (u8, BackendId)| async move {
        let presence = match registry.get(backend) {
            Some(registered) => presence(registered, ShardId { object, index }).await,
            None => Presence::Unknown(Defect::UnknownBackend),
        };
        Copy { index, backend, recorded, presence }
    };
    stream::iter(places).map(question).buffered(QUESTIONS_AT_ONCE).collect().await
}

async fn presence(registered: &RegisteredBackend, shard: ShardId) -> Presence {
    let unreachable = |said: String| Presence::Unknown(Defect::Unreachable { said });
    match &registered.reach {
        Reach::Ready => {}
        Reach::Unreachable(error) => return unreachable(with_cause(error)),
        Reach::WrongPlace(_) => return unreachable("another store's or backend's mark is there".to_owned()),
        Reach::Unknown => return unreachable("nobody has asked it".to_owned()),
    }
    match registered.backend.head(shard).await {
        Ok(bytes) => Presence::There(bytes),
        Err(error) if error.kind == ErrorKind::NotFound => Presence::Absent,
        Err(error) if error.kind == ErrorKind::Failed => {
            Presence::Unreadable(Defect::Unreadable { said: with_cause(&error) })
        }
        Err(error) => unreachable(with_cause(&error)),
    }
}

/// An error and what lies right underneath, which says why.
pub(super) fn with_cause(error: &backend::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
