//! Which file is which shard: an index that stays small, whatever lies in the folder.

use super::super::{Error, ErrorKind, Result};
use super::walk::{Folder, HeapFile, Root, Visitor};
use crate::id::{ObjectId, ShardId};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::ops::{ControlFlow, Range};
use std::path::Path;

/// So many copies of one shard are kept in reach; of more the rest is counted and left.
pub const MAX_COPIES: usize = 1024;
/// The folder of the root itself.
const ROOT: u32 = 0;

/// What a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Which shard.
    pub shard: ShardId,
    /// Whatever speaks for it agrees: such copies are tried first.
    pub is_sure: bool,
    /// What the walker notes of it, for [`Heap::retain`].
    pub tag: u8,
}

/// What a walk met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeapCounts {
    /// Regular files.
    pub files: u64,
    /// Of these, how many are nobody's shard.
    pub passed_over: u64,
    /// Files and folders that could not be read.
    pub unreadable: u64,
    /// Symbolic links, which are not followed.
    pub links: u64,
    /// Copies of one shard beyond [`MAX_COPIES`].
    pub surplus: u64,
}

/// Every regular file below a folder, and which shards they may be.
#[derive(Debug)]
pub struct Heap {
    root: Root,
    counts: HeapCounts,
    first_problem: Option<Error>,
    index: Index,
    /// For each copy, where in the index it is: of each shard that has that many.
    copies: Vec<Vec<u32>>,
}

/// Sightings in few bytes each: folders name their parents, and all names stand in one row.
#[derive(Debug, Default)]
pub(super) struct Index {
    names: Vec<u8>,
    folders: Vec<FolderEntry>,
    pub(super) sightings: Vec<Sighting>,
}

#[derive(Debug, Clone, Copy)]
struct FolderEntry {
    parent: u32,
    name: Name,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    offset: u32,
    bytes: u16,
}

/// A file that may be a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    pub(super) shard: ShardId,
    is_sure: bool,
    tag: u8,
    name_bytes: u16,
    name_offset: u32,
    folder: u32,
}

/// The order in which backends list: that of the shards' names, where index 10 stands before 2.
pub(super) fn name_order(one: ShardId, other: ShardId) -> Ordering {
    one.object.cmp(&other.object).then_with(|| digits(one.index).cmp(&digits(other.index)))
}

/// The decimal digits from the left, each one more than it is, so that nothing sorts before any digit.
fn digits(index: u8) -> [u8; 3] {
    match index {
        0..10 => [index + 1, 0, 0],
        10..100 => [index / 10 + 1, index % 10 + 1, 0],
        _ => [index / 100 + 1, index / 10 % 10 + 1, index % 10 + 1],
    }
}

impl Index {
    fn name(&mut self, bytes: &[u8]) -> Result<Name> {
        let full = || Error::new(ErrorKind::Failed, "noting a file: there are too many names for one walk");
        let offset = u32::try_from(self.names.len()).map_err(|_| full())?;
        let name = Name { offset, bytes: u16::try_from(bytes.len()).map_err(|_| full())? };
        self.names.extend_from_slice(bytes);
        Ok(name)
    }

    fn bytes(&self, name: Name) -> &[u8] {
        let start = name.offset as usize;
        &self.names[start..start + usize::from(name.bytes)]
    }

    /// The number of a folder; the one that was named last is found without looking.
    pub(super) fn folder(&mut self, below: &[Vec<u8>]) -> Result<u32> {
        if self.folders.is_empty() {
            let name = self.name(b"")?;
            self.folders.push(FolderEntry { parent: ROOT, name });
        }
        let mut last = (self.folders.len() - 1) as u32;
        let path = self.path_of(last);
        let shared = path.iter().zip(below).take_while(|(one, other)| **one == other.as_slice()).count();
        for _ in shared..path.len() {
            last = self.folders[last as usize].parent;
        }
        for part in &below[shared..] {
            let name = self.name(part)?;
            let full = |_| Error::new(ErrorKind::Failed, "noting a folder: there are too many for one walk");
            let next = u32::try_from(self.folders.len()).map_err(full)?;
            self.folders.push(FolderEntry { parent: last, name });
            last = next;
        }
        Ok(last)
    }

    /// The names of a folder, from the root on.
    fn path_of(&self, folder: u32) -> Vec<&[u8]> {
        let mut path = Vec::new();
        let mut at = folder;
        while at != ROOT {
            let entry = self.folders[at as usize];
            path.push(self.bytes(entry.name));
            at = entry.parent;
        }
        path.reverse();
        path
    }

    pub(super) fn note(&mut self, folder: u32, name: &[u8], claims: &[Claim]) -> Result<()> {
        let name = self.name(name)?;
        self.sightings.extend(claims.iter().map(|claim| Sighting {
            shard: claim.shard,
            is_sure: claim.is_sure,
            tag: claim.tag,
            name_bytes: name.bytes,
            name_offset: name.offset,
            folder,
        }));
        Ok(())
    }

    pub(super) fn sort(&mut self) {
        let order = |one: &Sighting, other: &Sighting| {
            let sure_first = || other.is_sure.cmp(&one.is_sure);
            let as_walked = || (one.folder, one.name_offset).cmp(&(other.folder, other.name_offset));
            name_order(one.shard, other.shard).then_with(sure_first).then_with(as_walked)
        };
        self.sightings.sort_unstable_by(order);
    }

    /// Where a sighting is: its folder's names, and its own.
    fn place(&self, sighting: &Sighting) -> (Vec<&[u8]>, &[u8]) {
        let name = Name { offset: sighting.name_offset, bytes: sighting.name_bytes };
        (self.path_of(sighting.folder), self.bytes(name))
    }

    /// How many bytes it takes.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.names.len()
            + self.folders.len() * size_of::<FolderEntry>()
            + self.sightings.len() * (size_of::<Sighting>() + size_of::<u32>())
    }
}

/// Notes what the look says of each file.
struct Noting<'a> {
    index: Index,
    counts: HeapCounts,
    first_problem: Option<Error>,
    look: &'a mut Look<'a>,
}

/// What looks at one file, given open and with its name: what it may be, or that the walk is to end here. An error is about
/// that file alone.
pub type Look<'a> = dyn FnMut(&HeapFile, &[u8]) -> Result<ControlFlow<(), Vec<Claim>>> + 'a;

impl Visitor for Noting<'_> {
    fn file(&mut self, folder: &Folder<'_>, name: &CStr) -> Result<ControlFlow<()>> {
        let opened = folder.open(name).map_err(|errno| Error::io(format!("opening {name:?}"), errno.into()));
        let file = match opened {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(ControlFlow::Continue(())),
            Err(error) => {
                self.unreadable(error);
                return Ok(ControlFlow::Continue(()));
            }
        };
        self.counts.files += 1;
        let claims = match (self.look)(&file, name.to_bytes()) {
            Ok(ControlFlow::Continue(claims)) => claims,
            Ok(ControlFlow::Break(())) => return Ok(ControlFlow::Break(())),
            Err(error) => {
                self.unreadable(error);
                return Ok(ControlFlow::Continue(()));
            }
        };
        if claims.is_empty() {
            self.counts.passed_over += 1;
        } else {
            let folder = self.index.folder(folder.below)?;
            self.index.note(folder, name.to_bytes(), &claims)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn unreadable(&mut self, error: Error) {
        self.counts.unreadable += 1;
        self.first_problem.get_or_insert(error);
    }

    fn link(&mut self) {
        self.counts.links += 1;
    }
}

impl Heap {
    /// Looks at every regular file below a folder.
    pub fn walk<'a>(path: &Path, look: &'a mut Look<'a>) -> Result<Self> {
        let root = Root::open(path)?;
        let mut noting = Noting { index: Index::default(), counts: HeapCounts::default(), first_problem: None, look };
        root.walk(&mut noting)?;
        let Noting { mut index, counts, first_problem, .. } = noting;
        index.sort();
        Ok(Self { root, counts, first_problem, index, copies: Vec::new() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// What was met.
    pub fn counts(&self) -> HeapCounts {
        self.counts
    }

    /// Why something could not be read, if anything could not.
    pub fn first_problem(&self) -> Option<&Error> {
        self.first_problem.as_ref()
    }

    /// How many sightings of shards there are.
    pub fn sighting_count(&self) -> usize {
        self.index.sightings.len()
    }

    /// Keeps only the objects of which `is_wanted` says so, by all that was noted of their shards; the files of the others
    /// count as passed over.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(ObjectId, &BTreeSet<u8>) -> bool) {
        let mut kept = Vec::with_capacity(0);
        let mut dropped = 0;
        for shards in self.index.sightings.chunk_by(|one, next| one.shard.object == next.shard.object) {
            let tags = shards.iter().map(|sighting| sighting.tag).collect();
            let is_wanted = is_wanted(shards[0].shard.object, &tags);
            kept.extend(std::iter::repeat_n(is_wanted, shards.len()));
            if !is_wanted {
                let names: BTreeSet<u32> = shards.iter().map(|sighting| sighting.name_offset).collect();
                dropped += names.len() as u64;
            }
        }
        self.counts.passed_over += dropped;
        let mut kept = kept.into_iter();
        self.index.sightings.retain(|_| kept.next().unwrap_or(true));
    }

    /// Numbers the copies of each shard; one file under several names counts once.
    pub(super) fn number_copies(&mut self) {
        let mut copies: Vec<Vec<u32>> = vec![Vec::new()];
        let mut at = 0u32;
        let runs = self.index.sightings.chunk_by(|one, next| one.shard == next.shard);
        for run in runs {
            let mut files = BTreeSet::new();
            let mut number = 0;
            for (sighting, place) in run.iter().zip(at..) {
                let identity = || self.open_sighting(sighting).ok()?.identity().ok();
                if run.len() > 1 && identity().is_some_and(|identity| !files.insert(identity)) {
                    continue;
                }
                if number >= MAX_COPIES {
                    self.counts.surplus += 1;
                    continue;
                }
                if copies.len() <= number {
                    copies.push(Vec::new());
                }
                copies[number].push(place);
                number += 1;
            }
            at += run.len() as u32;
        }
        self.copies = copies;
    }

    pub(super) fn copy_count(&self) -> usize {
        self.copies.len()
    }

    /// The shards of which there are more than `copy` copies, after this one in the order of their names.
    pub(super) fn shards_after(&self, copy: usize, after: Option<ShardId>) -> impl Iterator<Item = ShardId> + '_ {
        let there = &self.copies[copy];
        let is_before = |place: &u32| {
            let shard = self.index.sightings[*place as usize].shard;
            after.is_some_and(|after| name_order(shard, after) != Ordering::Greater)
        };
        let range: Range<usize> = there.partition_point(is_before)..there.len();
        there[range].iter().map(|place| self.index.sightings[*place as usize].shard)
    }

    fn sighting(&self, (shard, copy): (ShardId, usize)) -> Option<&Sighting> {
        let there = &self.copies[copy];
        let of = |place: &u32| name_order(self.index.sightings[*place as usize].shard, shard);
        let found = there.binary_search_by(of).ok()?;
        Some(&self.index.sightings[there[found] as usize])
    }

    fn open_sighting(&self, sighting: &Sighting) -> Result<HeapFile> {
        let (below, name) = self.index.place(sighting);
        self.root.file(&below, name)
    }

    /// A copy of a shard, open.
    pub(super) fn open(&self, which: (ShardId, usize)) -> Result<HeapFile> {
        match self.sighting(which) {
            Some(sighting) => self.open_sighting(sighting),
            None => {
                let doing = format!("looking for shard {} in {}", which.0, self.root.path().display());
                Err(Error::new(ErrorKind::NotFound, doing))
            }
        }
    }

    /// The length of a copy of a shard; `None` where there is none.
    pub(super) fn length(&self, which: (ShardId, usize)) -> Result<Option<u64>> {
        let Some(sighting) = self.sighting(which) else { return Ok(None) };
        let (below, name) = self.index.place(sighting);
        self.root.length(&below, name)
    }

    /// `reading /mnt/heap/a/b.bin`.
    pub(super) fn doing(&self, verb: &str, which: (ShardId, usize)) -> String {
        let shown = self.sighting(which).map(|sighting| {
            let (mut below, name) = self.index.place(sighting);
            below.push(name);
            self.root.shown(&below)
        });
        format!("{verb} {}", shown.unwrap_or_else(|| which.0.to_string()))
    }
}
