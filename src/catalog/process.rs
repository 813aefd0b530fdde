//! Which process is alive: each holds an operating-system lock on a file of its own.
//!
//! The file of a process that died stays until nothing names the process any more. It says which file it is, so that a
//! copy of it, in a folder that was restored or taken to another machine, is no proof that the process died here.

use crate::id::ProcessId;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// How often a lock file is made anew when another process clears it away before it is locked.
const ATTEMPTS: u32 = 100;
/// The wait before it is made anew, so that whoever clears away is done.
const PAUSE: Duration = Duration::from_millis(2);
/// The ending of a lock file.
const LOCK_ENDING: &str = "lock";
/// The ending while it is not locked yet.
const NEW_ENDING: &str = "new";

/// The lock that says this process is alive. Held until dropped; the system lets go of it however the process ends.
#[derive(Debug)]
pub struct ProcessLock {
    /// Open as long as the lock is held.
    file: File,
    path: PathBuf,
    id: ProcessId,
    /// Whether the file is on the disk, once that was asked for.
    lasting: OnceLock<Result<(), ErrorKind>>,
}

impl ProcessLock {
    /// Makes `<run_dir>/<id>.lock` and locks it; makes the folder too.
    ///
    /// The file is locked before it gets its name: under that name it is never seen without its lock while the process
    /// lives.
    pub fn acquire(run_dir: &Path, id: ProcessId) -> io::Result<Self> {
        let about = |error: io::Error| about_path(run_dir, &error);
        fs::create_dir_all(run_dir).map_err(about)?;
        let path = lock_path(run_dir, id);
        let fresh = path.with_extension(NEW_ENDING);
        for _ in 0..ATTEMPTS {
            if let Some(file) = lock_fresh(&fresh, &path).map_err(about)? {
                return Ok(Self { file, path, id, lasting: OnceLock::new() });
            }
            std::thread::sleep(PAUSE);
        }
        Err(about(ErrorKind::ResourceBusy.into()))
    }

    /// Whose lock it is.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Puts the file and its name on the disk, so that it proves that the process died when the whole system did. The first
    /// time decides: a sync that failed is not tried again.
    pub fn make_lasting(&self) -> io::Result<()> {
        let lasting = self.lasting.get_or_init(|| self.sync().map_err(|error| error.kind()));
        lasting.map_err(|kind| about_path(&self.path, &kind.into()))
    }

    /// The file, its folder, and the folder's own name.
    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()?;
        self.path.ancestors().skip(1).take(2).try_for_each(|folder| File::open(folder)?.sync_all())
    }

    /// Takes the file away while it is still locked: nothing names this process. What cannot be taken away is cleared
    /// by the next to look.
    pub fn retire(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the process holds its lock. A process without a lock file is dead. Where the file cannot be looked at, the
/// process counts as alive: nothing of it is cleared away on a guess.
pub fn is_alive(run_dir: &Path, id: ProcessId) -> bool {
    !dead_file(&lock_path(run_dir, id)).is_ok_and(|file| file.is_none_or(|file| file.is_dead))
}

/// Whether the process ran here and is no more: the file that it locked is there, and nobody holds it. Without that
/// proof it may be alive on another machine, or have ended long ago: what names it is from somewhere else.
///
/// Where the system went down with the process and the file was not made to last, it may be gone or empty: then there is no
/// proof.
pub fn died_here(run_dir: &Path, id: ProcessId) -> bool {
    matches!(dead_file(&lock_path(run_dir, id)), Ok(Some(LockFile { is_dead: true, is_the_same: true })))
}

/// Clears away the files of dead processes but those that are named still.
pub fn clear_dead(run_dir: &Path, named: &BTreeSet<ProcessId>) -> io::Result<()> {
    let kept: BTreeSet<PathBuf> = named.iter().map(|id| lock_path(run_dir, *id)).collect();
    for entry in fs::read_dir(run_dir).map_err(|error| about_path(run_dir, &error))? {
        let path = entry?.path();
        let is_lock = path.extension().is_some_and(|ending| ending == LOCK_ENDING || ending == NEW_ENDING);
        if is_lock && !kept.contains(&path) {
            // What cannot be cleared now is in nobody's way.
            let _ = clear_if_dead(&path);
        }
    }
    Ok(())
}

fn lock_path(run_dir: &Path, id: ProcessId) -> PathBuf {
    run_dir.join(format!("{id}.{LOCK_ENDING}"))
}

/// One attempt; `None` if another process took the file for a dead one before it was locked.
fn lock_fresh(fresh: &Path, path: &Path) -> io::Result<Option<File>> {
    if path.try_exists()? {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let mut file = File::options().create(true).truncate(false).write(true).open(fresh)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.write_all(identity(&file)?.as_bytes())?;
    match fs::rename(fresh, path) {
        Ok(()) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a lock file says.
struct LockFile {
    is_dead: bool,
    /// It is the file that was locked, and not a copy.
    is_the_same: bool,
}

/// Looks at a lock file, if there is one.
///
/// The lock is tried as a shared one: two that look at once do not take each other for the owner.
fn dead_file(path: &Path) -> io::Result<Option<LockFile>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_dead = match file.try_lock_shared() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => return Err(error),
    };
    let is_the_same = is_dead && fs::read(path)? == identity(&file)?.as_bytes();
    Ok(Some(LockFile { is_dead, is_the_same }))
}

/// Removes the lock file if nobody holds it.
fn clear_if_dead(path: &Path) -> io::Result<()> {
    if dead_file(path)?.is_some_and(|file| file.is_dead) { fs::remove_file(path) } else { Ok(()) }
}

/// What tells a file from a copy of it.
#[cfg(unix)]
fn identity(file: &File) -> io::Result<String> {
    Ok(std::os::unix::fs::MetadataExt::ino(&file.metadata()?).to_string())
}

/// Where files have no numbers, a copy cannot be told.
#[cfg(not(unix))]
fn identity(_: &File) -> io::Result<String> {
    Ok(String::from("a process"))
}

fn about_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("a process lock in {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: ProcessId = ProcessId([1; 16]);

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).expect("a folder").count()
    }

    #[test]
    fn a_process_is_alive_as_long_as_it_holds_its_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = folder.path().join("run");
        assert!(!is_alive(&run, RUNNING));
        let lock = ProcessLock::acquire(&run, RUNNING).expect("a lock");
        assert!(is_alive(&run, RUNNING) && is_alive(&run, RUNNING));
        assert!(!is_alive(&run, ProcessId([2; 16])) && !died_here(&run, RUNNING));
        lock.retire();
        drop(lock);
        assert!(!is_alive(&run, RUNNING));
        assert_eq!(files(&run), 0);
    }

    #[test]
    fn the_file_of_a_dead_process_stays_as_long_as_something_names_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = folder.path();
        drop(ProcessLock::acquire(run, RUNNING).expect("a lock"));
        fs::write(lock_path(run, ProcessId([3; 16])).with_extension(NEW_ENDING), "").expect("a file");
        let _lock = ProcessLock::acquire(run, ProcessId([2; 16])).expect("a lock");
        clear_dead(run, &BTreeSet::from([RUNNING])).expect("cleared");
        assert!(died_here(run, RUNNING) && !is_alive(run, RUNNING));
        assert_eq!(files(run), 2);
        clear_dead(run, &BTreeSet::new()).expect("cleared");
        assert!(!died_here(run, RUNNING) && !is_alive(run, RUNNING));
        assert_eq!(files(run), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_copied_lock_file_does_not_prove_that_its_process_died_here() {
        let folder = tempfile::tempdir().expect("a folder");
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        drop(ProcessLock::acquire(&here, RUNNING).expect("a lock"));
        fs::create_dir(&there).expect("a folder");
        fs::copy(lock_path(&here, RUNNING), lock_path(&there, RUNNING)).expect("copied");
        assert!(died_here(&here, RUNNING) && !died_here(&there, RUNNING));
        assert!(!is_alive(&there, RUNNING));
    }

    #[test]
    fn an_id_is_locked_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let _lock = ProcessLock::acquire(folder.path(), RUNNING).expect("a lock");
        let again = ProcessLock::acquire(folder.path(), RUNNING).expect_err("it is taken");
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert!(is_alive(folder.path(), RUNNING));
    }

    #[test]
    fn a_lock_survives_others_that_clear_the_folder_at_the_same_time() {
        let folder = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let run = folder.path();
                scope.spawn(move || {
                    for round in 0..50_u8 {
                        let mut id = [thread; 16];
                        id[0] = round;
                        let lock = ProcessLock::acquire(run, ProcessId(id)).expect("a lock");
                        clear_dead(run, &BTreeSet::new()).expect("cleared");
                        assert!(is_alive(run, lock.id()), "{thread} {round}");
                        lock.retire();
                    }
                });
            }
        });
        assert_eq!(files(folder.path()), 0);
    }
}
