//! Files that appear in their folders whole, and before that nowhere: on Linux they have no name until then.

use super::folder::{Existing, Folder};
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, FileTimes, Permissions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const NAMED: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Until it is whole, a file is its owner's alone.
const UNFINISHED_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// What a file gets that is only a part of one, less what the process withholds.
const PART_MODE: Mode = Mode::from_raw_mode(0o666);

/// Of a stored mode, what a file gets: who may read, write and run it. A stored file never runs as its owner or group.
const RESTORED_MODE_BITS: u32 = 0o777;

/// What a recovered file gets beside its bytes; a part of a file gets nothing.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Attributes {
    pub(super) mode: u32,
    pub(super) mtime_ns: i64,
}

/// A file on its way; dropped before it has its name, it is gone. Where the file system can, it has none until then, so that
/// not even a process that is killed leaves anything; elsewhere it has one of its own.
#[derive(Debug)]
pub(in crate::ops) struct NewFile {
    folder: Arc<Folder>,
    name: OsString,
    temporary: Option<String>,
    file: File,
    existing: Existing,
}

impl NewFile {
    /// Begins the file that will have this name.
    pub(super) fn create(
        folder: Arc<Folder>,
        name: &OsStr,
        existing: Existing,
        attributes: Option<&Attributes>,
    ) -> Result<Self> {
        let mode = if attributes.is_some() { UNFINISHED_MODE } else { PART_MODE };
        Self::create_with(folder, name, existing, mode)
    }

    /// The same for a file that is not recovered, and is its owner's alone.
    pub(in crate::ops) fn create_private(folder: Arc<Folder>, name: &OsStr, existing: Existing) -> Result<Self> {
        Self::create_with(folder, name, existing, UNFINISHED_MODE)
    }

    fn create_with(folder: Arc<Folder>, name: &OsStr, existing: Existing, mode: Mode) -> Result<Self> {
        folder.refuse_existing(name, existing)?;
        match nameless(folder.handle(), mode) {
            Some(file) => Ok(Self { folder, name: name.to_owned(), temporary: None, file, existing }),
            None => Self::create_named(folder, name, existing, mode),
        }
    }

    fn create_named(folder: Arc<Folder>, name: &OsStr, existing: Existing, mode: Mode) -> Result<Self> {
        let failed = |error| Error::local(format!("cannot create {}", folder.path_of(name).display()), error);
        let temporary = temporary_name().map_err(failed)?;
        let handle = rustix::fs::openat(folder.handle(), temporary.as_str(), NAMED, mode);
        let file = File::from(handle.map_err(|errno| failed(errno.into()))?);
        Ok(Self { folder, name: name.to_owned(), temporary: Some(temporary), file, existing })
    }

    pub(in crate::ops) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::local(format!("cannot write {}", self.folder.path_of(&self.name).display()), error)
    }

    /// Gives the whole file its attributes and its name, once its bytes are on the disk. The folder is left to sync.
    pub(in crate::ops) fn finish(mut self, attributes: Option<&Attributes>) -> Result<()> {
        if let Some(attributes) = attributes {
            let permissions = Permissions::from_mode(attributes.mode & RESTORED_MODE_BITS);
            self.file.set_permissions(permissions).map_err(|error| self.failed(error))?;
            let times = FileTimes::new().set_modified(time(attributes.mtime_ns));
            self.file.set_times(times).map_err(|error| self.failed(error))?;
        }
        self.file.sync_all().map_err(|error| self.failed(error))?;
        match self.existing {
            Existing::Keep => self.give_new_name().map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::EXIST) => self.folder.exists(&self.name),
                _ => self.failed(error),
            })?,
            Existing::Replace => self.replace()?,
        }
        self.temporary = None;
        Ok(())
    }

    fn give_new_name(&self) -> std::io::Result<()> {
        let folder = self.folder.handle();
        Ok(match &self.temporary {
            None => link(&self.file, folder, &self.name),
            Some(temporary) => rename_to_new(folder, temporary, &self.name),
        }?)
    }

    /// Takes the place of whatever has the name, unless that was put there by this very recovering, under another name.
    fn replace(&mut self) -> Result<()> {
        let folder = Arc::clone(&self.folder);
        let path = folder.path_of(&self.name);
        let mut finished = folder.finished();
        let found = match rustix::fs::statat(folder.handle(), &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => None,
            found => Some(found.map_err(|errno| self.failed(errno.into()))?),
        };
        if let Some(other) = found.as_ref().and_then(|found| finished.under_another(found, &path)) {
            return Err(folder.meets(&self.name, other));
        }
        let own = rustix::fs::fstat(&self.file).map_err(|errno| self.failed(errno.into()))?;
        self.move_over().map_err(|error| self.failed(error))?;
        if let Some(replaced) = &found {
            finished.forget(replaced);
        }
        finished.note(&own, path);
        Ok(())
    }

    fn move_over(&mut self) -> std::io::Result<()> {
        let folder = self.folder.handle();
        let temporary = match self.temporary.take() {
            Some(temporary) => temporary,
            None => match link(&self.file, folder, &self.name) {
                // A link never replaces: it gets a name that can be moved over the old one.
                Err(Errno::EXIST) => {
                    let temporary = temporary_name()?;
                    link(&self.file, folder, OsStr::new(&temporary))?;
                    temporary
                }
                linked => return Ok(linked?),
            },
        };
        let temporary = self.temporary.insert(temporary);
        Ok(rustix::fs::renameat(folder, temporary.as_str(), folder, &self.name)?)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Should this fail too, a file that says by its name what it is stays behind.
            let _ = rustix::fs::unlinkat(self.folder.handle(), temporary.as_str(), AtFlags::empty());
        }
    }
}

fn temporary_name() -> std::io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    Ok(format!(".shard-{}.tmp", hex::encode(random)))
}

/// A file in this folder that has no name; `None` where there is no such thing, or no way to name it later.
fn nameless(folder: &OwnedFd, mode: Mode) -> Option<File> {
    #[cfg(target_os = "linux")]
    {
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(folder, ".", flags, mode).ok()?);
        rustix::fs::statat(CWD, handle_path(&file), AtFlags::empty()).ok()?;
        Some(file)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (folder, mode);
        None
    }
}

/// Names a file that has no name.
fn link(file: &File, folder: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    rustix::fs::linkat(CWD, handle_path(file), folder, name, AtFlags::SYMLINK_FOLLOW)
}

fn handle_path(file: &File) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn time(mtime_ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(mtime_ns.unsigned_abs());
    let moved = if mtime_ns < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Gives a file its name unless something has that name.
fn rename_to_new(folder: &OwnedFd, from: &str, to: &OsStr) -> Result<(), Errno> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match rustix::fs::renameat_with(folder, from, folder, to, rustix::fs::RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        outcome => return outcome,
    }
    match rustix::fs::linkat(folder, from, folder, to, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(folder, from, AtFlags::empty()).or(Ok(())),
        // Where there are no hard links either (FAT), looking first has to do.
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP) => {
            match rustix::fs::statat(folder, to, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(folder, from, folder, to),
                Err(errno) => Err(errno),
            }
        }
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    const WHOLE: Attributes = Attributes { mode: 0o640, mtime_ns: 1_500_000_000_123_456_789 };

    fn base() -> (tempfile::TempDir, Arc<Folder>) {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Arc::new(Folder::open(dir.path()).expect("opens").0);
        (dir, folder)
    }

    fn write(folder: &Arc<Folder>, name: &str, existing: Existing) -> Result<()> {
        let mut file = NewFile::create(Arc::clone(folder), OsStr::new(name), existing, Some(&WHOLE))?;
        file.write(b"new")?;
        file.finish(Some(&WHOLE))
    }

    /// The same as on a file system that has no files without a name.
    fn write_named(folder: &Arc<Folder>, existing: Existing) -> Result<()> {
        let mut file = NewFile::create_named(Arc::clone(folder), OsStr::new("a"), existing, UNFINISHED_MODE)?;
        file.write(b"newer")?;
        file.finish(Some(&WHOLE))
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_unfinished_file_has_no_name_that_a_killed_process_could_leave() {
        let (dir, folder) = base();
        let mut file = NewFile::create(folder, OsStr::new("a"), Existing::Keep, Some(&WHOLE)).expect("begins");
        file.write(b"half").expect("writes");
        let seen: Vec<_> = std::fs::read_dir(dir.path()).expect("lists").collect();
        // Not every file system can.
        assert!(seen.is_empty() || file.temporary.is_some(), "{seen:?}");
        // What a kill leaves undone is what a drop does.
        std::mem::forget(file);
    }

    #[test]
    fn without_nameless_files_a_file_appears_and_stays_and_is_replaced_all_the_same() {
        let (dir, folder) = base();
        write_named(&folder, Existing::Keep).expect("writes");
        assert_eq!(write_named(&folder, Existing::Keep).expect_err("it is there").kind, ErrorKind::Refused);
        write(&folder, "a", Existing::Replace).expect("replaces");
        write_named(&folder, Existing::Replace).expect("replaces");
        assert_eq!(std::fs::read(dir.path().join("a")).expect("reads"), b"newer");
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn a_file_appears_with_mode_and_time_and_nothing_beside_it() {
        let (dir, folder) = base();
        write(&folder, "a", Existing::Keep).expect("writes");
        let metadata = dir.path().join("a").metadata().expect("there");
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
        let modified = metadata.modified().expect("a time").duration_since(SystemTime::UNIX_EPOCH).expect("after");
        assert_eq!(modified.as_nanos(), 1_500_000_000_123_456_789);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
        folder.sync().expect("syncs");
    }

    #[test]
    fn no_stored_mode_makes_a_file_run_as_its_owner_or_group() {
        let (dir, folder) = base();
        for mode in [0o4755, 0o2755, 0o1755, 0o7755, !0o022] {
            let attributes = Attributes { mode, mtime_ns: 0 };
            let file = NewFile::create(Arc::clone(&folder), OsStr::new("a"), Existing::Replace, Some(&attributes));
            file.expect("a file").finish(Some(&attributes)).expect("finished");
            let mode = dir.path().join("a").metadata().expect("there").permissions().mode();
            assert_eq!(mode & 0o7777, 0o755);
        }
    }

    #[test]
    fn an_existing_file_stays_unless_it_is_to_be_replaced() {
        let (dir, folder) = base();
        std::fs::write(dir.path().join("a"), "old").expect("writes");
        assert_eq!(write(&folder, "a", Existing::Keep).expect_err("refused").kind, ErrorKind::Refused);
        assert_eq!(std::fs::read(dir.path().join("a")).expect("reads"), b"old");
        write(&folder, "a", Existing::Replace).expect("replaces");
        assert_eq!(std::fs::read(dir.path().join("a")).expect("reads"), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn a_file_that_appears_in_the_meantime_stays() {
        let (dir, folder) = base();
        let mut file = NewFile::create(Arc::clone(&folder), OsStr::new("a"), Existing::Keep, None).expect("begins");
        file.write(b"new").expect("writes");
        std::fs::write(dir.path().join("a"), "theirs").expect("writes");
        assert_eq!(file.finish(None).expect_err("refused").kind, ErrorKind::Refused);
        assert_eq!(std::fs::read(dir.path().join("a")).expect("reads"), b"theirs");
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let (dir, folder) = base();
        let mut file = NewFile::create(folder, OsStr::new("a"), Existing::Keep, Some(&WHOLE)).expect("begins");
        file.write(b"half").expect("writes");
        drop(file);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 0);
    }

    #[test]
    fn a_link_that_leads_out_is_not_followed_and_one_that_stays_is() {
        let (dir, folder) = base();
        let outside = tempfile::tempdir().expect("a folder");
        symlink(outside.path(), dir.path().join("out")).expect("links");
        std::fs::create_dir_all(dir.path().join("in/deep")).expect("makes");
        symlink("in/deep", dir.path().join("short")).expect("links");
        for path in ["out", "out/x", "in/deep/../../out"] {
            assert_eq!(
                folder.below(Path::new(path), &mut Vec::new()).expect_err("refused").kind,
                ErrorKind::Refused,
                "{path}"
            );
        }
        write(&folder.below(Path::new("short/er"), &mut Vec::new()).expect("stays inside"), "a", Existing::Keep)
            .expect("writes");
        assert!(dir.path().join("in/deep/er/a").exists());
        assert_eq!(std::fs::read_dir(outside.path()).expect("lists").count(), 0);
    }

    #[test]
    fn a_folder_or_a_link_in_a_files_place_is_never_written_through() {
        let (dir, folder) = base();
        let outside = tempfile::tempdir().expect("a folder");
        let target = outside.path().join("target");
        std::fs::write(&target, "theirs").expect("writes");
        symlink(&target, dir.path().join("link")).expect("links");
        std::fs::create_dir(dir.path().join("folder")).expect("makes");
        assert_eq!(write(&folder, "link", Existing::Keep).expect_err("refused").kind, ErrorKind::Refused);
        assert_eq!(write(&folder, "folder", Existing::Replace).expect_err("refused").kind, ErrorKind::Refused);
        write(&folder, "link", Existing::Replace).expect("replaces the link");
        assert_eq!(std::fs::read(&target).expect("reads"), b"theirs");
    }
}
