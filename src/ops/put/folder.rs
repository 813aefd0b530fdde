//! Walks a folder: what is unchanged is skipped, the rest is stored, and what cannot be is listed.

use super::reading::{Fingerprint, Links, Reading};
use super::session::{Session, own_name};
use crate::backend::BackendUrl;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::store::Store;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use walkdir::{DirEntry, WalkDir};

/// Files go from the walk to the catalog in groups of this size, so that neither is asked one by one.
const BATCH_FILES: usize = 256;
/// Files of so many bytes together are read at once: to ask for each on its own takes longer than to read it.
const TOGETHER_BYTES: u64 = 512 * 1024;
/// How many groups may wait.
const BATCHES_AHEAD: usize = 4;

/// What a walk comes across.
enum Found {
    File {
        path: PathBuf,
        name: FileName,
        seen: Fingerprint,
    },
    /// Something that is passed over, and why.
    Passed(String),
    Failed {
        path: PathBuf,
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Session<'_> {
    /// Stores a folder with all that is in it.
    pub(super) async fn put_folder(&mut self, path: PathBuf, name: Option<FileName>) -> Result<()> {
        let root = match name {
            Some(name) => name,
            None => own_name(&path)?,
        };
        self.controls.begin("storing", None, None);
        let shown = path.display().to_string();
        let found = self.put_found(walk(self.store, path, root)).await;
        self.controls.end();
        if found? == 0 {
            self.controls.warn(format!("nothing to store in {shown}"));
        }
        Ok(())
    }

    /// Stores what a walk finds; says how many files that were.
    async fn put_found(&mut self, mut batches: mpsc::Receiver<Vec<Found>>) -> Result<usize> {
        let (mut large, mut count) = (Vec::new(), 0);
        while let Some(batch) = batches.recv().await {
            self.controls.check_cancelled()?;
            let mut files = Vec::new();
            for found in batch {
                match found {
                    Found::File { path, name, seen } => files.push((path, name, seen)),
                    Found::Passed(why) => self.controls.warn(why),
                    Found::Failed { path, error } => {
                        count += 1;
                        self.list_failure(&path, error.as_ref());
                    }
                }
            }
            count += files.len();
            let mut small = Vec::new();
            for (path, name, seen) in self.skip_unchanged(files, Links::Refuse).await? {
                if seen.bytes > self.small_limit() {
                    // After the small ones, so that these fill whole packs.
                    large.push((path, name));
                } else {
                    small.push((path, name, seen));
                }
            }
            self.put_small_walked(small).await?;
        }
        self.close_pack().await?;
        for (path, name) in large {
            let reading = Reading::open(path.clone(), Links::Refuse).await;
            self.put_walked(path, name, reading).await?;
        }
        Ok(count)
    }

    /// Stores small files in the order in which they were found; those that are short are read several at once.
    async fn put_small_walked(&mut self, files: Vec<(PathBuf, FileName, Fingerprint)>) -> Result<()> {
        let mut files = files.into_iter().peekable();
        while let Some((path, name, seen)) = files.next() {
            let (mut bytes, mut together) = (seen.bytes, vec![(path, name)]);
            while let Some((path, name, seen)) = files.next_if(|(_, _, seen)| bytes + seen.bytes <= TOGETHER_BYTES) {
                bytes += seen.bytes;
                together.push((path, name));
            }
            let paths = together.iter().map(|(path, _)| path.clone()).collect();
            for ((path, name), reading) in together.into_iter().zip(Reading::open_all(paths, Links::Refuse).await?) {
                self.put_walked(path, name, reading).await?;
            }
        }
        Ok(())
    }

    async fn put_walked(&mut self, path: PathBuf, name: FileName, reading: Result<Reading>) -> Result<()> {
        match reading {
            Ok(reading) => self.store_file(&path, name, reading).await,
            Err(error) => {
                self.list_failure(&path, &error);
                Ok(())
            }
        }
    }
}

/// Walks in a thread of its own, in the order of names, not following links, and not into the store itself.
fn walk(store: &Store, path: PathBuf, root: FileName) -> mpsc::Receiver<Vec<Found>> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let own = own_folders(store);
    tokio::task::spawn_blocking(move || {
        let mut batch = Vec::new();
        let mut entries = WalkDir::new(&path).follow_links(false).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            if let Ok(entry) = &entry
                && entry.file_type().is_dir()
                && is_one_of(entry.path(), &own)
            {
                entries.skip_current_dir();
                batch.push(Found::Passed(format!("{} belongs to the store; passed over", entry.path().display())));
                continue;
            }
            batch.extend(look(&path, &root, entry));
            if batch.len() >= BATCH_FILES && sender.blocking_send(std::mem::take(&mut batch)).is_err() {
                return;
            }
        }
        // Nobody is there to be told when it is not taken.
        let _ = sender.blocking_send(batch);
    });
    receiver
}

/// The store's folder and those of its local backends: to store them would never end.
fn own_folders(store: &Store) -> Vec<PathBuf> {
    let folder = |url: &str| match BackendUrl::parse(url, store.dir()) {
        Ok(BackendUrl::Folder(path)) => Some(path),
        _ => None,
    };
    let backends = store.registry().iter().filter_map(|backend| folder(&backend.url));
    std::iter::once(store.dir().to_owned()).chain(backends).collect()
}

/// By device and inode: a path has many names.
fn is_one_of(path: &Path, folders: &[PathBuf]) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let of_path = identity(path);
    of_path.is_some() && folders.iter().any(|folder| identity(folder) == of_path)
}

/// What an entry is to be: nothing for a folder, whose files come by themselves.
fn look(folder: &Path, root: &FileName, entry: walkdir::Result<DirEntry>) -> Option<Found> {
    let entry = match entry {
        Ok(entry) => entry,
        Err(error) => {
            let path = error.path().unwrap_or(folder).to_owned();
            return Some(Found::Failed { path, error: error.into() });
        }
    };
    let (path, kind) = (entry.path().to_owned(), entry.file_type());
    // A link that was named itself stands for the folder behind it.
    if kind.is_dir() || entry.depth() == 0 {
        return None;
    }
    if !kind.is_file() {
        let what = if kind.is_symlink() { "a symbolic link" } else { "no regular file" };
        return Some(Found::Passed(format!("{} is {what}; passed over", path.display())));
    }
    match (name_below(folder, root, &path), entry.metadata()) {
        (Ok(name), Ok(metadata)) => Some(Found::File { path, name, seen: Fingerprint::of(&metadata) }),
        (Err(error), _) => Some(Found::Failed { path, error: error.into() }),
        (_, Err(error)) => Some(Found::Failed { path, error: error.into() }),
    }
}

fn name_below(folder: &Path, root: &FileName, path: &Path) -> Result<FileName> {
    let below = path.strip_prefix(folder).unwrap_or(path);
    let Some(below) = below.to_str() else {
        return Err(Error::new(ErrorKind::Invalid, "its name is not UTF-8"));
    };
    Ok(FileName::new(format!("{root}/{below}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_file_is_called_after_its_folder() {
        let root = FileName::new("Photos").expect("a name");
        let name = |path: &Path| name_below(Path::new("/home/x/Photos"), &root, path);
        assert_eq!(name(Path::new("/home/x/Photos/a/b.jpg")).expect("a name").as_str(), "Photos/a/b.jpg");
        let not_utf8 = Path::new("/home/x/Photos").join(OsStr::from_bytes(b"a\xff"));
        assert!(name(&not_utf8).is_err());
    }
}
