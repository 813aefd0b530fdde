//! An import that comes from where nobody knows when it ends: read to its end and checked before any vault is held for it.

use super::vaults::{OpenedVault, Vaults, entries};
use crate::chamber::{Chamber, Purpose};
use crate::crypto::ChamberKey;
use crate::error::{Error, Result};
use crate::id::NodeId;
use crate::vault::{Durability, KeptEntry, Options};
use std::fs::{self, File, TryLockError};
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// What the names of the folders begin with in which imports wait, and how those of their locks end.
const STAGING: &str = ".staging-";
const LOCK_SUFFIX: &str = ".lock";

/// What was read, sealed under a key that is kept nowhere; gone when dropped.
#[derive(Debug)]
pub struct StagedImport {
    chamber: Chamber,
    count: u64,
    _folder: StagingFolder,
}

impl Vaults {
    /// Reads an import to its end and checks it; [`OpenedVault::take_in`] then puts it where it belongs. Nothing is held
    /// meanwhile, and no clear text is on the disk.
    pub fn stage(&self, input: &mut dyn BufRead) -> Result<StagedImport> {
        let folder = {
            let _making = self.lock_making()?;
            StagingFolder::make(&self.root())?
        };
        let options = Options { durability: Durability::Relaxed, ..Options::default() };
        let key = ChamberKey::from_secret(NodeId([0; 32]), &super::random_bytes()?);
        let chamber = Chamber::open(&folder.path, "staged", key, options)?;
        let count = chamber.import(input)?;
        Ok(StagedImport { chamber, count, _folder: folder })
    }
}

impl OpenedVault {
    /// Takes all entries of a staged import in, or none.
    pub fn take_in(&self, staged: &StagedImport) -> Result<u64> {
        match self {
            Self::Plain(vault) => {
                vault.transaction(|tx| {
                    staged.each(|entry| Ok(tx.put_raw(&entry.key, &entry.value, entry.expires)?))
                })?;
            }
            Self::Sealed(chamber) => {
                chamber.transaction(|tx| staged.each(|entry| Ok(tx.put_any(Purpose::RECORD, &entry)?)))?;
            }
        }
        Ok(staged.count)
    }
}

impl StagedImport {
    /// Gives each entry to `put`, expired ones too: these, too, take the place of what was there.
    fn each(&self, mut put: impl FnMut(KeptEntry) -> Result<()>) -> Result<()> {
        self.chamber.read(|tx| {
            tx.each_of_all(|_, key, value, expires| {
                put(KeptEntry { key: key.to_vec(), value: value.to_vec(), expires })
            })
        })
    }
}

/// A folder beside the vaults, and the lock by which others see that it is in use.
#[derive(Debug)]
struct StagingFolder {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl StagingFolder {
    fn make(root: &Path) -> Result<Self> {
        let name = format!("{STAGING}{}", hex::encode(super::random_bytes::<16>()?));
        let (path, lock_path) = (root.join(&name), root.join(format!("{name}{LOCK_SUFFIX}")));
        let making = |error| Error::local(format!("cannot make {}", path.display()), error);
        let lock = File::create_new(&lock_path).map_err(making)?;
        lock.lock().map_err(making)?;
        let folder = Self { path: path.clone(), lock_path, _lock: lock };
        crate::vault::file::make_private_folder(&path).map_err(making)?;
        Ok(folder)
    }
}

impl Drop for StagingFolder {
    /// What cannot be removed here is removed with the next import.
    fn drop(&mut self) {
        remove(&self.path, &self.lock_path);
    }
}

fn remove(path: &Path, lock_path: &Path) {
    let _ = fs::remove_dir_all(path);
    let _ = fs::remove_file(lock_path);
}

/// Removes what killed imports left behind.
pub(super) fn clear_abandoned(root: &Path) -> Result<()> {
    for lock_path in entries(root)? {
        let name = lock_path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_suffix(LOCK_SUFFIX).filter(|name| name.starts_with(STAGING)) else { continue };
        let Ok(lock) = File::open(&lock_path) else { continue };
        match lock.try_lock() {
            Ok(()) => remove(&root.join(name), &lock_path),
            // Where locks cannot be had, what is there may be in use.
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
    Ok(())
}
