//! What was done, as whoever did it knows: which bytes were put under which name, what was acknowledged, what was removed.

use shard::format::FileName;
use shard::id::{ObjectId, VersionId};
use std::collections::BTreeMap;

/// How sure it is that something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sure {
    /// It may have been, or be yet: its process died, or said that it failed.
    Perhaps,
    /// It was acknowledged.
    Yes,
}

/// Bytes that were put under a name.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) name: FileName,
    pub(super) bytes: Vec<u8>,
    /// Known from the acknowledgement on, or since it was seen.
    pub(super) id: Option<VersionId>,
    pub(super) put: Sure,
    pub(super) removed: Option<Sure>,
    /// Which machine put it.
    pub(super) by: usize,
    /// What held it when it was acknowledged.
    pub(super) objects: Vec<ObjectId>,
    /// The removals that say it is gone.
    pub(super) removals: Vec<ObjectId>,
}

/// Everything that was ever put, in this order.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) versions: Vec<Version>,
    /// Which versions each machine removed with its catalog intact since.
    pub(super) removed_by: BTreeMap<usize, Vec<usize>>,
}

impl Version {
    /// It has to be there, as long as parity can make up for what is lost.
    pub(super) fn must_be_there(&self) -> bool {
        self.put == Sure::Yes && self.removed.is_none()
    }

    /// It may be there, for all that is known.
    pub(super) fn may_be_there(&self) -> bool {
        self.removed != Some(Sure::Yes)
    }
}

impl Model {
    /// A put begins; until it is acknowledged nothing is sure.
    pub(super) fn begin_put(&mut self, name: FileName, bytes: Vec<u8>, by: usize) -> usize {
        let (id, put, removed, objects, removals) = (None, Sure::Perhaps, None, Vec::new(), Vec::new());
        self.versions.push(Version { name, bytes, id, put, removed, by, objects, removals });
        self.versions.len() - 1
    }

    pub(super) fn acknowledge_put(&mut self, at: usize, id: VersionId, objects: Vec<ObjectId>) {
        let version = &mut self.versions[at];
        (version.id, version.put, version.objects) = (Some(id), Sure::Yes, objects);
    }

    /// A version was seen: which one it is, its bytes say.
    pub(super) fn recognise(&mut self, name: &FileName, id: VersionId, hash: &[u8; 32]) {
        let is_it = |version: &&mut Version| {
            version.id.is_none() && version.name == *name && blake3::hash(&version.bytes).as_bytes() == hash
        };
        if let Some(version) = self.versions.iter_mut().find(is_it) {
            version.id = Some(id);
        }
    }

    /// A removal of a version of a name came to its end, or died: `None` where it is not known which one it was.
    pub(super) fn note_removal(&mut self, (name, id): (&FileName, Option<VersionId>), sure: Sure, by: usize) {
        let known = id.and_then(|id| self.versions.iter().position(|version| version.id == Some(id)));
        match known {
            Some(at) => {
                let version = &mut self.versions[at];
                version.removed = version.removed.max(Some(sure));
                if sure == Sure::Yes {
                    self.removed_by.entry(by).or_default().push(at);
                }
            }
            None => {
                let of_name = self.versions.iter_mut().filter(|version| version.name == *name);
                of_name.for_each(|version| version.removed = version.removed.max(Some(Sure::Perhaps)));
            }
        }
    }

    /// These removals say that a version is gone.
    pub(super) fn note_removals(&mut self, id: VersionId, removals: &[ObjectId]) {
        let is_it = |version: &&mut Version| version.id == Some(id);
        self.versions.iter_mut().filter(is_it).for_each(|version| version.removals.extend(removals));
    }

    /// Whether an object holds something that was acknowledged and never removed, or says that something was removed.
    pub(super) fn is_needed(&self, object: ObjectId) -> bool {
        let needs = |version: &Version| {
            version.must_be_there() && version.objects.contains(&object) || version.removals.contains(&object)
        };
        self.versions.iter().any(needs)
    }

    /// What is wrong with these bytes having come back under this name on this machine.
    pub(super) fn complaint(&self, name: &FileName, bytes: &[u8], machine: usize) -> Option<String> {
        let numbered = self.versions.iter().enumerate();
        let mut same = numbered.filter(|(_, version)| version.name == *name && version.bytes == bytes).peekable();
        if same.peek().is_none() {
            return Some(format!("{} bytes came back as {name}, and were never put under it", bytes.len()));
        }
        let removed_here = |at: &usize| self.removed_by.get(&machine).is_some_and(|removed| removed.contains(at));
        same.all(|(at, _)| removed_here(&at)).then(|| format!("{name} came back after its removal was acknowledged"))
    }

    /// The versions of a name that may be its newest where every put was made knowing all before it.
    pub(super) fn may_be_newest(&self, name: &FileName) -> Vec<&Version> {
        let of_name = || self.versions.iter().filter(|version| version.name == *name);
        let newest = of_name().rev().find(|version| version.must_be_there());
        let unsure = of_name().filter(|version| version.may_be_there() && !version.must_be_there());
        newest.into_iter().chain(unsure).collect()
    }
}
