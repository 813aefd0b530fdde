//! Walks a folder: what is unchanged is skipped, the rest is stored, and what cannot be is listed.

use super::StoredFile;
use super::reading::{Fingerprint, Links, Reading};
use super::session::{Session, own_name};
use crate::backend::BackendUrl;
use crate::catalog::{self, Catalog, ObjectState};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::id::{Geometry, ObjectId};
use crate::store::Store;
use std::collections::BTreeMap;
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
            for (path, name, seen) in self.skip_unchanged(files).await? {
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

    /// Takes what is stored already, unchanged, into the report, and gives back the rest.
    pub(super) async fn skip_unchanged(
        &mut self,
        files: Vec<(PathBuf, FileName, Fingerprint)>,
    ) -> Result<Vec<(PathBuf, FileName, Fingerprint)>> {
        let asked = self.asked;
        let look = move |catalog: &Catalog| {
            let mut objects = Known::default();
            let (mut changed, mut skipped) = (Vec::new(), Vec::new());
            for (path, name, seen) in files {
                match stored_unchanged(catalog, &mut objects, (&name, seen), asked)? {
                    Some(stored) => skipped.push(stored),
                    None => changed.push((path, name, seen)),
                }
            }
            Ok((changed, skipped))
        };
        let (changed, skipped) = self.store.look(look).await?;
        for file in skipped {
            self.add_file(file);
        }
        Ok(changed)
    }
}

/// Objects that were looked up: whether they can be counted on, and their geometry.
type Known = BTreeMap<ObjectId, Option<Geometry>>;

/// The newest version of a file, if length, time and mode are the same and its objects are not lost.
fn stored_unchanged(
    catalog: &Catalog,
    known: &mut Known,
    (name, seen): (&FileName, Fingerprint),
    asked: Option<Geometry>,
) -> catalog::Result<Option<StoredFile>> {
    let Some(newest) = catalog.heads(name)?.into_iter().next() else { return Ok(None) };
    let is_same = |whole: &crate::format::Whole| {
        (whole.total_bytes, whole.mtime_ns, whole.mode) == (seen.bytes, seen.mtime_ns, seen.mode)
    };
    let Some(whole) = newest.whole.filter(is_same) else { return Ok(None) };
    // A time of last change that is not known, after a rebuild or from another machine, decides nothing.
    if catalog.change_time(newest.id)?.is_some_and(|known| Some(known) != seen.ctime_ns) {
        return Ok(None);
    }
    let objects = catalog.objects_of_version(newest.id)?;
    for object in &objects {
        let geometry = match known.get(object) {
            Some(geometry) => *geometry,
            None => *known.entry(*object).or_insert(sound_geometry(catalog, *object)?),
        };
        if geometry.is_none_or(|geometry| asked.is_some_and(|asked| asked != geometry)) {
            return Ok(None);
        }
    }
    let (version, size, blake3) = (newest.id, whole.total_bytes, whole.blake3);
    Ok(Some(StoredFile { name: name.clone(), version, objects, size, blake3, skipped: true }))
}

/// The geometry of an object that is not lost.
fn sound_geometry(catalog: &Catalog, object: ObjectId) -> catalog::Result<Option<Geometry>> {
    let is_lost = catalog.health(object)?.is_none_or(|health| health.state == ObjectState::Lost);
    Ok(if is_lost { None } else { catalog.object(object)?.map(|object| object.geometry) })
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
