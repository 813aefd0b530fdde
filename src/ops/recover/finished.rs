//! The files that one recovering has put in their places: with `--force` none of them replaces another.
//!
//! Names that differ can be one: through a link to a folder, or where the file system takes large letters for small ones.

use rustix::fs::Stat;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// By what a file is told from every other: device and inode.
type Identity = (u64, u64);

/// What stands where, of what this recovering put there.
#[derive(Debug, Default)]
pub(super) struct Finished(HashMap<Identity, PathBuf>);

impl Finished {
    /// The path of this file, if it was put there under another one.
    pub(super) fn under_another(&self, found: &Stat, path: &Path) -> Option<&Path> {
        self.0.get(&identity(found)).map(PathBuf::as_path).filter(|put| *put != path)
    }

    /// A file was put at a path.
    pub(super) fn note(&mut self, file: &Stat, path: PathBuf) {
        self.0.insert(identity(file), path);
    }

    /// A file was replaced: another may be given its inode.
    pub(super) fn forget(&mut self, replaced: &Stat) {
        self.0.remove(&identity(replaced));
    }
}

// The widths of these differ between systems.
#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
fn identity(stat: &Stat) -> Identity {
    (stat.st_dev as u64, stat.st_ino as u64)
}
