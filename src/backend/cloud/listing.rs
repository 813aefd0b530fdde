//! Listings in the order of shard names, a page at a time, whatever order the server keeps.

use super::Remote;
use super::fault::Cause;
use super::place::Scheme;
use crate::backend::{Error, LIST_PAGE_SHARDS, ListPage, ListedShard, Result, shard_name};
use crate::id::{ObjectId, ShardId};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

/// A page of a WebDAV place has at most the shards of so many folders: each may take a second to list.
const FOLDERS_IN_PAGE: usize = 64;
/// So many of them are asked for at once.
const FOLDERS_AT_ONCE: usize = 4;

/// The shards after `after`, at most a page of them.
pub(super) async fn list(remote: &Remote, after: Option<ShardId>) -> Result<ListPage> {
    let (mut shards, mut next) = match remote.place.scheme {
        Scheme::WebDav => list_folders(remote, after).await?,
        _ => (list_sorted(remote, after).await?, None),
    };
    if shards.len() > LIST_PAGE_SHARDS {
        shards.truncate(LIST_PAGE_SHARDS);
        next = shards.last().map(|last| last.id);
    }
    Ok(ListPage { shards, next })
}

/// Object stores list in the order of names, from a name on; one shard more than a page says whether there are more.
async fn list_sorted(remote: &Remote, after: Option<ShardId>) -> Result<Vec<ListedShard>> {
    let objects = remote.place.objects_path();
    let mut names: BoxStream<'static, object_store::Result<ObjectMeta>> = match after {
        Some(shard) => remote.store.list_with_offset(Some(&objects), &remote.place.shard_path(shard)),
        None => remote.store.list(Some(&objects)),
    };
    let mut last_name = after.map(shard_name).unwrap_or_default();
    let mut shards = Vec::new();
    while let Some(meta) = names.try_next().await.map_err(|error| fault(remote, &error))? {
        let Some(id) = remote.place.shard_at(&meta.location) else { continue };
        let name = shard_name(id);
        // Some begin with the name they were given.
        if after == Some(id) {
            continue;
        }
        if name <= last_name {
            return Err(Cause::Disorder { name }.doing(doing(remote)));
        }
        last_name = name;
        shards.push(ListedShard { id, bytes: meta.size });
        if shards.len() > LIST_PAGE_SHARDS {
            break;
        }
    }
    remote.saw_container();
    if shards.is_empty() {
        remote.confirm().await?;
    }
    Ok(shards)
}

/// WebDAV lists folders in any order, and many servers refuse to list a tree: one of our 256 folders at a time, and few for
/// one page, which must come before patience ends. Says where the next page begins, if not behind its last shard.
async fn list_folders(remote: &Remote, after: Option<ShardId>) -> Result<(Vec<ListedShard>, Option<ShardId>)> {
    let after_name = after.map(shard_name).unwrap_or_default();
    let mut folders = list_folder(remote, &remote.place.objects_path()).await?.common_prefixes;
    if folders.is_empty() {
        remote.confirm().await?;
    }
    // What others put there is none of ours.
    folders.retain(|folder| first_byte(folder).is_some());
    folders.sort();
    let first = after.and_then(|shard| remote.place.shard_path(shard).parent());
    folders.retain(|folder| first.as_ref().is_none_or(|first| folder >= first));
    let last =
        folders.get(FOLDERS_IN_PAGE..).filter(|rest| !rest.is_empty()).map(|_| folders[FOLDERS_IN_PAGE - 1].clone());
    folders.truncate(FOLDERS_IN_PAGE);
    let asked: Vec<_> = folders.iter().map(|folder| list_folder(remote, folder)).collect();
    let mut listings = stream::iter(asked).buffered(FOLDERS_AT_ONCE);
    let mut shards = Vec::new();
    while let Some(files) = listings.try_next().await? {
        let files = files.objects;
        let known = files.iter().filter_map(|meta| Some((remote.place.shard_at(&meta.location)?, meta.size)));
        let mut known: Vec<_> = known.map(|(id, bytes)| (shard_name(id), ListedShard { id, bytes })).collect();
        known.retain(|(name, _)| *name > after_name);
        known.sort_by(|one, other| one.0.cmp(&other.0));
        shards.extend(known.into_iter().map(|(_, shard)| shard));
        if shards.len() > LIST_PAGE_SHARDS {
            break;
        }
    }
    Ok((shards, last.and_then(|folder| end_of(&folder))))
}

/// The last shard that may be in one of our folders.
fn end_of(folder: &Path) -> Option<ShardId> {
    let mut object = [0xFF; ObjectId::BYTES];
    object[0] = first_byte(folder)?;
    // Of the names of shards that of 99 is the greatest.
    Some(ShardId { object: ObjectId(object), index: 99 })
}

/// The first byte of the ids of the objects in one of our folders.
fn first_byte(folder: &Path) -> Option<u8> {
    let name = folder.filename().filter(|name| name.len() == 2)?;
    let mut byte = [0];
    // It is written in lower case, and there is one way to write it.
    hex::decode_to_slice(name, &mut byte).ok().filter(|()| hex::encode(byte) == name)?;
    Some(byte[0])
}

/// What is directly in a folder; one that is not there is empty.
pub(super) async fn list_folder(remote: &Remote, folder: &Path) -> Result<object_store::ListResult> {
    remote.store.list_with_delimiter(Some(folder)).await.map_err(|error| fault(remote, &error))
}

/// Fails unless the bucket or container answers.
pub(super) async fn probe_container(remote: &Remote) -> Result<()> {
    let objects = remote.place.objects_path();
    let first = remote.store.list(Some(&objects)).try_next().await;
    first.map(|_| ()).map_err(|error| fault(remote, &error))
}

fn fault(remote: &Remote, error: &object_store::Error) -> Error {
    remote.container_or(Cause::of(error)).doing(doing(remote))
}

fn doing(remote: &Remote) -> String {
    format!("listing {}", remote.place.shown)
}
