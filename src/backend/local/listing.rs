//! Walking the folders of finished shards, one of them at a time.

use super::super::{
    BackendStats, Error, LIST_PAGE_SHARDS, ListPage, ListedShard, Result, parse_shard_name, shard_name,
};
use super::root::{OBJECTS, Root, folder_of};
use crate::id::ShardId;
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// The next page after a shard. Memory is bounded by one folder's names.
pub(super) fn page(root: &Root, after: Option<ShardId>) -> Result<ListPage> {
    let after = after.map(shard_name);
    let mut shards = Vec::new();
    for folder_name in folders(root)? {
        if after.as_deref().is_some_and(|after| folder_name.as_str() < folder_of(after)) {
            continue;
        }
        let Some(folder) = open(root, &folder_name)? else { continue };
        for (name, id) in names(root, &folder, &folder_name)? {
            if after.as_ref().is_some_and(|after| name <= *after) {
                continue;
            }
            let Some(bytes) = length(root, &folder, &name)? else { continue };
            if shards.len() == LIST_PAGE_SHARDS {
                let next = shards.last().map(|last: &ListedShard| last.id);
                return Ok(ListPage { shards, next });
            }
            shards.push(ListedShard { id, bytes });
        }
    }
    Ok(ListPage { shards, next: None })
}

/// How many finished shards there are, and their bytes.
pub(super) fn count(root: &Root) -> Result<BackendStats> {
    let mut stats = BackendStats::default();
    for folder_name in folders(root)? {
        let Some(folder) = open(root, &folder_name)? else { continue };
        for (name, _) in names(root, &folder, &folder_name)? {
            if let Some(bytes) = length(root, &folder, &name)? {
                stats.shard_count += 1;
                stats.used_bytes += bytes;
            }
        }
    }
    Ok(stats)
}

/// The names in an open folder, in no order; what is not UTF-8 is nothing of ours.
pub(super) fn entries(root: &Root, folder: &OwnedFd, folder_name: &str) -> Result<Vec<String>> {
    let failed = root.failed("listing", folder_name);
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if let Ok(name) = entry.file_name().to_str() {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The folders `00` to `ff` that there are, in order.
fn folders(root: &Root) -> Result<Vec<String>> {
    let objects = match root.folder(&[OBJECTS]) {
        Ok(objects) => objects,
        // A place without a shard yet, if it is the place.
        Err(Errno::NOENT) => return root.confirm().map(|()| Vec::new()),
        Err(errno) => return Err(root.failed("listing", OBJECTS)(errno)),
    };
    let two_digits = |name: &String| name.len() == 2 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut folders = entries(root, &objects, OBJECTS)?;
    folders.retain(two_digits);
    folders.sort_unstable();
    Ok(folders)
}

/// One of the folders; `None` for what is gone meanwhile or is no folder.
fn open(root: &Root, folder_name: &str) -> Result<Option<OwnedFd>> {
    match root.folder(&[OBJECTS, folder_name]) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(root.failed("listing", folder_name)(errno)),
    }
}

/// The shards a folder names, in the order of their names.
fn names(root: &Root, folder: &OwnedFd, folder_name: &str) -> Result<Vec<(String, ShardId)>> {
    let entries = entries(root, folder, folder_name)?;
    let full_names = entries.into_iter().map(|entry| format!("{OBJECTS}/{folder_name}/{entry}"));
    let mut names: Vec<_> = full_names.filter_map(|name| parse_shard_name(&name).map(|id| (name, id))).collect();
    names.sort_unstable();
    Ok(names)
}

/// A listed file's length; `None` for what is gone meanwhile or is not a file.
fn length(root: &Root, folder: &OwnedFd, name: &str) -> Result<Option<u64>, Error> {
    match rustix::fs::statat(folder, super::root::file_of(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            Ok(Some(u64::try_from(stat.st_size).unwrap_or(0)))
        }
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(root.failed("looking at", name)(errno)),
    }
}
