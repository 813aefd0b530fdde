//! Which objects a store's catalog knows and cannot say the files of: a recovering of everything lacks them.

use super::report::UnreadObject;
use crate::catalog::{self, Catalog, ObjectKind, ObjectState};
use crate::crypto::AccessKeys;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectId;
use crate::ops::ingest::{is_unread, unread_objects};
use crate::store::{Held, Store};
use crate::stripe::Seal;
use std::sync::Arc;

/// How many objects are looked up at a time.
const PAGE_OBJECTS: usize = 1024;

/// The living objects of data whose index is not in the catalog, in the order of their ids.
pub(super) async fn unread_in(store: &Store) -> Result<Vec<UnreadObject>> {
    let keys = Arc::clone(store.access());
    if store.held() != Held::VerifyOnly {
        return store.look(move |catalog| judge(catalog, unread_objects(catalog)?, &keys)).await;
    }
    // What it cannot open is no note here, since it is well: every object is asked how it is sealed.
    let (mut unread, mut after) = (Vec::new(), None);
    loop {
        let keys = Arc::clone(&keys);
        let look = move |catalog: &Catalog| {
            let page = catalog.objects_after(after, PAGE_OBJECTS)?;
            Ok((page.last().copied(), judge(catalog, page, &keys)?))
        };
        let (last, found) = store.look(look).await?;
        unread.extend(found);
        match last {
            Some(last) => after = Some(last),
            None => return Ok(unread),
        }
    }
}

/// What is said when a name is no file that is known here, and may be one in objects that cannot be read now.
pub(super) fn not_found(name: &str, unread: &[UnreadObject]) -> Error {
    // Of several reasons the one that leaves most hope. What is lost gives nothing back, whatever name was meant.
    let order = [ErrorKind::Unavailable, ErrorKind::WrongKey];
    let may_be_in = order.into_iter().find(|kind| unread.iter().any(|object| object.kind == *kind));
    let Some(kind) = may_be_in else {
        return Error::new(ErrorKind::NotFound, format!("there is no file called {name:?}"))
            .with_hint("`shard list` shows what there is");
    };
    let doing = format!("no file called {name:?} is known, but objects that cannot be read here: {}", unread.len());
    Error::new(kind, doing).with_hint(match kind {
        ErrorKind::WrongKey => "bring their key with `shard key import FILE`, then `shard catalog refresh`",
        _ => "`shard catalog refresh` tries to read them again",
    })
}

fn judge(catalog: &Catalog, objects: Vec<ObjectId>, keys: &AccessKeys) -> catalog::Result<Vec<UnreadObject>> {
    let mut unread = Vec::new();
    for object in objects {
        unread.extend(judge_one(catalog, object, keys)?);
    }
    Ok(unread)
}

/// Why the files of an object are not known here; `None` where they are, or where it is none that lives and has some.
fn judge_one(catalog: &Catalog, object: ObjectId, keys: &AccessKeys) -> catalog::Result<Option<UnreadObject>> {
    let (Some(record), Some(health)) = (catalog.object(object)?, catalog.health(object)?) else { return Ok(None) };
    if record.kind != ObjectKind::Data {
        return Ok(None);
    }
    let opens = record.manifest(&keys.store_id()).map_or(true, |manifest| match manifest.seal() {
        Seal::None | Seal::Dispersed => true,
        Seal::Key | Seal::Recipient => keys.key(&manifest.key_id()).is_some(),
    });
    if opens && !is_unread(catalog, object)? {
        return Ok(None);
    }
    let (kind, error) = match health.state {
        // No key brings them back.
        ObjectState::Lost => (ErrorKind::Lost, "too few of its shards are left to say which files it holds"),
        _ if !opens => (ErrorKind::WrongKey, "it opens only with a key that this machine lacks"),
        _ => (
            ErrorKind::Unavailable,
            "which files it holds could not be read when it was found: `shard catalog refresh` tries again",
        ),
    };
    Ok(Some(UnreadObject { object, kind, error: error.to_owned() }))
}
