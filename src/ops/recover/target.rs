//! Where recovered files go, and what they are called there.

use super::folder::Folder;
use super::plan::{Asked, PlannedFile};
use super::session::Request;
use super::sink::Stream;
use super::{Naming, RecoverOutput, RecoverWhat};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::ops::reader::compute;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So many folders are held open; more are opened again when they are needed.
const OPEN_FOLDERS: usize = 64;

/// Where recovered files go.
pub(super) enum Target {
    /// One file, to a stream.
    Stream(Stream),
    /// Files, below a folder.
    Files(Files),
}

/// Files below a folder.
pub(super) struct Files {
    base: Arc<Folder>,
    names: Names,
    open: BTreeMap<PathBuf, Arc<Folder>>,
    /// Which file took which path, where several were asked for, whose paths may meet.
    taken: Option<BTreeMap<PathBuf, FileName>>,
    /// The folders that were made, those above before those below.
    made: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    Whole,
    LastPart,
    /// What is left of the name below the folder that was asked for.
    Below,
    /// This, for the one file.
    Given(OsString),
}

impl Target {
    /// Opens the output, for what was asked for.
    pub(super) async fn open((output, request): (RecoverOutput, &Request), asked: &[Asked]) -> Result<Self> {
        let one_file = matches!(asked, [Asked::File(_)]);
        if !one_file && (request.range.is_some() || request.version.is_some()) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a range or a version is of one file, and several were asked for",
            ));
        }
        let mut target = Self::choose((output, request), asked).await?;
        if let Self::Files(files) = &mut target {
            files.taken = (asked.len() > 1).then(BTreeMap::new);
        }
        Ok(target)
    }

    async fn choose((output, request): (RecoverOutput, &Request), asked: &[Asked]) -> Result<Self> {
        let one_file = matches!(asked, [Asked::File(_)]);
        let everything = request.what == RecoverWhat::All;
        let one_folder = matches!(asked, [Asked::Folder { .. }]) && !everything;
        match output {
            RecoverOutput::Writer(writer) if one_file => Ok(Self::Stream(Stream::Writer(writer))),
            RecoverOutput::Writer(_) => {
                let doing = "a stream takes one file, and several were asked for";
                Err(Error::new(ErrorKind::Invalid, doing).with_hint("name a folder with -o"))
            }
            RecoverOutput::Folder { path, naming } => {
                let names = if naming == Naming::Whole || everything { Names::Whole } else { Names::LastPart };
                Files::open(path, names).await
            }
            RecoverOutput::Path(path) if one_file => Self::open_path(path).await,
            RecoverOutput::Path(path) if one_folder && !is_folder(&path).await? => {
                Files::open(path, Names::Below).await
            }
            RecoverOutput::Path(path) => {
                Files::open(path, if everything { Names::Whole } else { Names::LastPart }).await
            }
        }
    }

    /// For one file: a folder to put it in, a device or pipe to write to, or its own path.
    async fn open_path(path: PathBuf) -> Result<Self> {
        // As for cp: a path that ends in a slash is a folder's, whether it is there or not.
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Files::open(path, Names::LastPart).await;
        }
        let looked_at = path.clone();
        match compute(move || std::fs::metadata(looked_at)).await? {
            Ok(metadata) if metadata.is_dir() => Files::open(path, Names::LastPart).await,
            Ok(metadata) if !metadata.is_file() => {
                let failed = |error| Error::local(format!("cannot open {}", path.display()), error);
                let opened = path.clone();
                let file = compute(move || OpenOptions::new().write(true).open(opened)).await?.map_err(failed)?;
                Ok(Self::Stream(Stream::Device(file, path)))
            }
            // What else is there, or in the way, is found out when the file is made.
            _ => {
                let none = || Error::new(ErrorKind::Invalid, format!("{} names no file", path.display()));
                let name = path.file_name().ok_or_else(none)?.to_owned();
                Files::open(path.parent().unwrap_or(Path::new("")).to_owned(), Names::Given(name)).await
            }
        }
    }
}

async fn is_folder(path: &Path) -> Result<bool> {
    let path = path.to_owned();
    Ok(compute(move || path.is_dir()).await?)
}

impl Files {
    async fn open(path: PathBuf, names: Names) -> Result<Target> {
        let (base, made) = compute(move || Folder::open(&path)).await??;
        Ok(Target::Files(Self { base: Arc::new(base), names, open: BTreeMap::new(), taken: None, made }))
    }

    /// A file's path below the base.
    pub(super) fn relative(&self, file: &PlannedFile) -> Result<PathBuf> {
        let name = file.name.as_str();
        let below = match &self.names {
            Names::Given(given) => return Ok(PathBuf::from(given)),
            Names::Whole => name,
            Names::Below => &name[file.asked_bytes..],
            Names::LastPart if file.asked_bytes == 0 => file.name.last_part(),
            Names::LastPart => {
                let folder = &name[..file.asked_bytes - 1];
                &name[folder.rfind('/').map_or(0, |slash| slash + 1)..]
            }
        };
        // A part of a name is a name again: it stays below.
        Ok(FileName::new(below)?.to_path())
    }

    /// Keeps a path for one file: another one that would get it too in this run is refused, whatever may be replaced.
    pub(super) fn take(&mut self, path: &Path, file: &PlannedFile) -> Result<()> {
        let Some(taken) = &mut self.taken else { return Ok(()) };
        match taken.entry(path.to_owned()).or_insert_with(|| file.name.clone()) {
            owner if *owner == file.name => Ok(()),
            owner => Err(collision(path, (owner, &file.name))),
        }
    }

    /// Whether two files would get the same path.
    pub(super) fn refuse_collisions(&self, files: &[PlannedFile]) -> Result<()> {
        let mut paths = BTreeMap::new();
        for file in files {
            let path = self.relative(file)?;
            let Some(other) = paths.insert(path.clone(), &file.name) else { continue };
            if *other != file.name {
                return Err(collision(&path, (other, &file.name)));
            }
        }
        Ok(())
    }

    /// The folder that a path is in, made if there is none, and the path's last part.
    pub(super) async fn place(&mut self, relative: &Path) -> Result<(Arc<Folder>, OsString)> {
        let parent = relative.parent().unwrap_or(Path::new("")).to_owned();
        let name = relative.file_name().unwrap_or_default().to_owned();
        if let Some(folder) = self.open.get(&parent) {
            return Ok((Arc::clone(folder), name));
        }
        let (base, below, mut made) = (Arc::clone(&self.base), parent.clone(), Vec::new());
        let opening = move || {
            let opened = base.below(&below, &mut made);
            (opened, made)
        };
        let (folder, made) = compute(opening).await?;
        self.made.extend(made);
        let folder = folder?;
        self.open.insert(parent, Arc::clone(&folder));
        Ok((folder, name))
    }

    /// Every file came to its place: the folders that were made for them stay.
    pub(super) fn keep_folders(&mut self) {
        self.made.clear();
    }

    /// Whether it is time to [`Self::sync`], once nothing is on its way into the folders.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= OPEN_FOLDERS
    }

    /// Makes the names of the files that were put into the folders survive a loss of power, and closes them.
    pub(super) async fn sync(&mut self) -> Result<()> {
        let open = std::mem::take(&mut self.open);
        compute(move || open.into_values().try_for_each(|folder| folder.sync())).await?
    }
}

impl Drop for Files {
    /// Folders that were made for files that never came are nobody's. One with anything in it stays: it cannot be removed.
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

fn collision(path: &Path, (one, other): (&FileName, &FileName)) -> Error {
    let doing = format!("{:?} and {:?} would both become {}", one.as_str(), other.as_str(), path.display());
    Error::new(ErrorKind::Invalid, doing).with_hint("recover them one by one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Whole;
    use crate::id::{Digest, VersionId};

    fn file(name: &str, asked_bytes: usize) -> PlannedFile {
        let digest = Digest([0; 32]);
        let whole = Whole { total_bytes: 0, blake3: digest, mtime_ns: 0, mode: 0, generation: 1, parents: Vec::new() };
        let name = FileName::new(name).expect("a name");
        PlannedFile {
            name,
            version: VersionId([0; 16]),
            whole,
            pieces: Vec::new(),
            copies: Vec::new(),
            heads: 1,
            asked_bytes,
        }
    }

    fn files(names: Names) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().expect("a folder");
        let base = Arc::new(Folder::open(dir.path()).expect("opens").0);
        (dir, Files { base, names, open: BTreeMap::new(), taken: None, made: Vec::new() })
    }

    #[test]
    fn names_become_paths_as_they_were_asked_for() {
        let path = |names: &Names, name: &str, asked| {
            let (_dir, files) = files(names.clone());
            files.relative(&file(name, asked)).expect("a path").display().to_string()
        };
        assert_eq!(path(&Names::Whole, "a/b/c", 0), "a/b/c");
        assert_eq!(path(&Names::LastPart, "a/b/c", 0), "c");
        assert_eq!(path(&Names::LastPart, "a/b/c/d", 4), "b/c/d");
        assert_eq!(path(&Names::LastPart, "b/c/d", 2), "b/c/d");
        assert_eq!(path(&Names::Below, "a/b/c/d", 4), "c/d");
        assert_eq!(path(&Names::Given("x".into()), "a/b/c", 0), "x");
    }

    #[test]
    fn two_files_that_would_become_one_are_refused() {
        let (_dir, target) = files(Names::LastPart);
        let (one, two) = (file("a/x", 0), file("b/x", 0));
        assert!(target.refuse_collisions(&[one.clone(), two.clone()]).is_err());
        assert!(target.refuse_collisions(&[one.clone(), one.clone(), file("b/y", 0)]).is_ok());
        let (_dir, target) = files(Names::Whole);
        assert!(target.refuse_collisions(&[one, two]).is_ok());
    }
}
