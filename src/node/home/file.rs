//! The small files of a node's folder: read within limits, written durably, secrets for their owner alone.

use crate::error::{Error, ErrorKind, Result};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Its owner; a file that others can read is refused.
    Owner,
    /// Anyone.
    Anyone,
}

/// What a file holds, which is at most `max_bytes`; `None` where there is none.
pub(super) fn read(path: &Path, max_bytes: u64, readers: Readers) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let reading = |error| Error::local(format!("cannot read {}", path.display()), error);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(reading)?,
    };
    let metadata = file.metadata().map_err(reading)?;
    let mode = metadata.permissions().mode();
    if readers == Readers::Owner && metadata.is_file() && mode & 0o077 != 0 {
        let doing = format!("{} can be read by others (mode {:03o})", path.display(), mode & 0o777);
        return Err(Error::new(ErrorKind::Refused, doing).with_hint(format!("chmod 600 {}", path.display())));
    }
    // Room at once for all of it, so that no copy of a secret is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len().min(max_bytes) as usize + 1));
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(reading)?;
    if bytes.len() as u64 > max_bytes {
        let doing = format!("{} has more than the {max_bytes} bytes that it may have", path.display());
        return Err(Error::new(ErrorKind::Damaged, doing));
    }
    Ok(Some(bytes))
}

/// Makes a file, for its owner alone; one that is there is kept, and said to be there.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    match written(path, bytes, |temporary| fs::hard_link(temporary, path)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::new(ErrorKind::Refused, format!("{} is there already, and is kept", path.display())))
        }
        done => done.map_err(|error| Error::local(format!("cannot write {}", path.display()), error)),
    }
}

/// Puts a file in the place of the one that is there: after a crash there is the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let done = written(path, bytes, |temporary| fs::rename(temporary, path));
    done.map_err(|error| Error::local(format!("cannot write {}", path.display()), error))
}

/// Whoever writes here holds the folder's lock, so that the temporary name is its own.
fn written(path: &Path, bytes: &[u8], put: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = successor(path);
    remove(&temporary)?;
    let put = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        put(&temporary)
    };
    let done = put();
    // It may hold a secret.
    remove(&temporary)?;
    done?;
    sync_folder(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn successor(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_once_replaced_whole_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("secret");
        assert!(read(&path, 10, Readers::Owner).expect("nothing is wrong").is_none());
        // What a killed writer left.
        fs::write(successor(&path), b"half").expect("written");
        write_new(&path, b"one").expect("made");
        let error = write_new(&path, b"two").expect_err("it is there");
        assert_eq!(error.kind, ErrorKind::Refused);
        assert_eq!(read(&path, 3, Readers::Owner).expect("read").expect("there").as_slice(), b"one");
        assert_eq!(read(&path, 2, Readers::Owner).expect_err("too long").kind, ErrorKind::Damaged);
        replace(&path, b"three").expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"three");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1, "no temporary file stays");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        let error = read(&path, 10, Readers::Owner).expect_err("others can read it");
        assert!(error.kind == ErrorKind::Refused && error.hint.is_some_and(|hint| hint.starts_with("chmod 600 ")));
        assert!(read(&path, 10, Readers::Anyone).expect("read").is_some());
    }
}
