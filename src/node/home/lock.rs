//! One process serves a node's folder: a lock that ends with the process, and a file that goes with it.

use crate::error::{Error, ErrorKind, Result};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Held while a folder is served.
#[derive(Debug)]
pub(super) struct ServeLock {
    path: PathBuf,
    _file: File,
}

impl ServeLock {
    /// Takes it, or says that another process has it.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let failed = |error| Error::local(format!("cannot lock {}", path.display()), error);
        loop {
            let options = File::options().create(true).truncate(false).write(true).mode(0o600).open(path);
            let file = options.map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let folder = path.parent().unwrap_or(path).display();
                    return Err(Error::new(ErrorKind::Busy, format!("another process serves the node in {folder}"))
                        .with_hint("stop that one first, or name another folder with --data"));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // The holder before may have taken the file away between the two: then nobody else would see this lock.
            if is_there(&file, path).map_err(failed)? {
                return Ok(Self { path: path.to_owned(), _file: file });
            }
        }
    }
}

impl Drop for ServeLock {
    /// The file goes before the lock: who opened it meanwhile finds it gone, and makes another.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn is_there(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        there => there.map(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_served_once_and_nothing_stays_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("serve.lock");
        let lock = ServeLock::take(&path).expect("free");
        let error = ServeLock::take(&path).expect_err("held");
        assert!(error.kind == ErrorKind::Busy && error.hint.is_some());
        drop(lock);
        assert!(!path.exists());
        // What a process that was killed left is no lock.
        fs::write(&path, b"").expect("written");
        drop(ServeLock::take(&path).expect("free"));
        assert!(!path.exists());
    }
}
