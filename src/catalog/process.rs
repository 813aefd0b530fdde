//! Which process is alive: each holds an operating-system lock on a file of its own.

use crate::id::ProcessId;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
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
    _file: File,
    path: PathBuf,
    id: ProcessId,
}

impl ProcessLock {
    /// Makes `<run_dir>/<id>.lock` and locks it; makes the folder too, and clears away what dead processes left there.
    ///
    /// The file is locked before it gets its name: under that name it is never seen without its lock while the process
    /// lives.
    pub fn acquire(run_dir: &Path, id: ProcessId) -> io::Result<Self> {
        let about = |error: io::Error| about_path(run_dir, &error);
        fs::create_dir_all(run_dir).map_err(about)?;
        clear_dead(run_dir).map_err(about)?;
        let path = lock_path(run_dir, id);
        let fresh = path.with_extension(NEW_ENDING);
        for _ in 0..ATTEMPTS {
            if let Some(file) = lock_fresh(&fresh, &path).map_err(about)? {
                return Ok(Self { _file: file, path, id });
            }
            std::thread::sleep(PAUSE);
        }
        Err(about(ErrorKind::ResourceBusy.into()))
    }

    /// Whose lock it is.
    pub fn id(&self) -> ProcessId {
        self.id
    }
}

impl Drop for ProcessLock {
    /// Takes the file away while it is still locked; what cannot be taken away is cleared by the next to look.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the process holds its lock. A process without a lock file is dead; the file of a dead one is removed. Where
/// the file cannot be looked at, the process counts as alive: nothing of it is cleared away on a guess.
pub fn is_alive(run_dir: &Path, id: ProcessId) -> bool {
    let path = lock_path(run_dir, id);
    !clear_if_dead(&path).unwrap_or(false)
}

fn lock_path(run_dir: &Path, id: ProcessId) -> PathBuf {
    run_dir.join(format!("{id}.{LOCK_ENDING}"))
}

/// One attempt; `None` if another process took the file for a dead one before it was locked.
fn lock_fresh(fresh: &Path, path: &Path) -> io::Result<Option<File>> {
    if path.try_exists()? {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let file = File::options().create(true).truncate(false).write(true).open(fresh)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    match fs::rename(fresh, path) {
        Ok(()) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the lock file if nobody holds it; says whether the process is dead.
///
/// The lock is tried as a shared one: two that look at once do not take each other for the owner.
fn clear_if_dead(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

fn clear_dead(run_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(run_dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == LOCK_ENDING || ending == NEW_ENDING) {
            // What cannot be cleared now is in nobody's way.
            let _ = clear_if_dead(&path);
        }
    }
    Ok(())
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
        assert!(!is_alive(&run, ProcessId([2; 16])));
        drop(lock);
        assert!(!is_alive(&run, RUNNING));
        assert_eq!(files(&run), 0);
    }

    #[test]
    fn the_file_of_a_dead_process_is_removed_by_whoever_proves_it_dead() {
        let folder = tempfile::tempdir().expect("a folder");
        let left = lock_path(folder.path(), RUNNING);
        fs::write(&left, "").expect("a file");
        assert!(!is_alive(folder.path(), RUNNING));
        assert!(!left.exists());
        fs::write(&left, "").expect("a file");
        fs::write(left.with_extension(NEW_ENDING), "").expect("a file");
        let _lock = ProcessLock::acquire(folder.path(), ProcessId([2; 16])).expect("a lock");
        assert_eq!(files(folder.path()), 1);
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
                        assert!(is_alive(run, lock.id()), "{thread} {round}");
                    }
                });
            }
        });
        assert_eq!(files(folder.path()), 0);
    }
}
