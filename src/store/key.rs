//! The master key's file: made once, readable by its owner alone.

use crate::crypto::{KeyFile, KeyFileError, Keyring, MAX_KEY_FILE_BYTES, MasterKey};
use crate::error::{Error, ErrorKind, Result};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Reads the key; [`ErrorKind::Refused`] when others could read it too.
pub fn load(path: &Path) -> Result<Keyring> {
    let reading = |error| Error::local(format!("cannot read the key in {}", path.display()), error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let doing = format!("the key {} is missing", path.display());
            return Err(Error::new(ErrorKind::WrongKey, doing)
                .with_source(error)
                .with_hint("put your copy of it there"));
        }
        Err(error) => return Err(reading(error)),
    };
    let mode = file.metadata().map_err(reading)?.permissions().mode();
    if mode & 0o077 != 0 {
        let doing = format!("the key {} can be read by others (mode {:03o})", path.display(), mode & 0o777);
        return Err(Error::new(ErrorKind::Refused, doing).with_hint(format!("chmod 600 {}", path.display())));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES as usize));
    file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut text).map_err(reading)?;
    let read = KeyFile::parse(&text).and_then(|file| match file {
        KeyFile::Plain(keyring) => Ok(keyring),
        KeyFile::Sealed(_) => Err(KeyFileError::Passphrase),
    });
    read.map_err(|error| {
        let doing = format!("the key in {} cannot be used", path.display());
        Error::new(ErrorKind::WrongKey, doing).with_source(error)
    })
}

/// Writes a new key durably; a key that is there already stays and is read instead.
pub(super) fn load_or_create(path: &Path, fresh: MasterKey) -> Result<Keyring> {
    if path.symlink_metadata().is_ok() {
        return load(path);
    }
    let writing = |error| Error::local(format!("cannot write the key to {}", path.display()), error);
    let temporary = path.with_extension("key.new");
    let _ = fs::remove_file(&temporary);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary).map_err(writing)?;
    let keyring = Keyring::new(fresh);
    file.write_all(keyring.to_key_file().as_bytes()).map_err(writing)?;
    file.sync_all().map_err(writing)?;
    fs::rename(&temporary, path).map_err(writing)?;
    sync_parent(path).map_err(writing)?;
    Ok(keyring)
}

/// Makes a rename in a folder durable.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("master.key");
        let made = load_or_create(&path, MasterKey::from_bytes([1; 32])).expect("a key");
        assert_eq!(load(&path).expect("the key").current().key_id(), made.current().key_id());
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert_eq!(load(&path).expect_err("refused").kind, ErrorKind::Refused);
    }

    #[test]
    fn a_second_key_never_replaces_the_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("master.key");
        let first = load_or_create(&path, MasterKey::from_bytes([1; 32])).expect("a key");
        let second = load_or_create(&path, MasterKey::from_bytes([2; 32])).expect("a key");
        assert_eq!(first.current().key_id(), second.current().key_id());
    }
}
