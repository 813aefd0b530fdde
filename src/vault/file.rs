//! The file of a database before SQLite has it: made for its owner alone, and never opened while it may be in use.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A database is its file and two beside it; the file goes first.
pub(super) const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
/// How many damaged databases are kept beside each other: more is no accident.
const MOST_KEPT: u32 = 1000;

/// Held while a file is made; whoever finds it there afterwards opens it after that.
static MAKING: Mutex<()> = Mutex::new(());

/// Makes the file, unless it is there, so that nobody but its owner reads it; the database's log takes over its mode.
///
/// A file that is there is not opened. To close a file gives up all locks that this process has on it (POSIX `fcntl`),
/// those of the database's connections too: another process would then hold itself for the last one and delete the log
/// into which this one still writes.
pub(crate) fn make_private(path: &Path) -> Result<()> {
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Makes the folder and those above it, for their owner alone; the names of those that it makes are durable.
pub(crate) fn make_private_folder(folder: &Path) -> Result<()> {
    let folder = std::path::absolute(folder)?;
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.is_dir()).collect();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder)?;
    missing.into_iter().rev().try_for_each(sync_folder)
}

/// Makes what happened to names in the folder of this file durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Gives a damaged database's files another name, one that is free, and says which.
pub(crate) fn move_aside(path: &Path) -> Result<PathBuf> {
    for number in 1..=MOST_KEPT {
        let kept = beside(path, &format!(".damaged-{number}"));
        if kept.try_exists()? {
            continue;
        }
        for suffix in SUFFIXES {
            match fs::rename(beside(path, suffix), beside(&kept, suffix)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        return Ok(kept);
    }
    Err(std::io::Error::other(format!("there are {MOST_KEPT} damaged ones beside it already")))
}

/// Deletes a database that cannot be opened, and what is beside it. Under the lock of the folder, as whatever makes files
/// there or takes them away.
pub(crate) fn delete_damaged(path: &Path) -> Result<()> {
    let folder = File::open(path.parent().unwrap_or(path))?;
    folder.lock()?;
    for suffix in SUFFIXES {
        match fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    folder.sync_all()
}

/// The file that is called as this one is, and so on.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
