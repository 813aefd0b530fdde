//! Making a store: folder, key, catalog, default backends, and its settings last.

use super::config::Config;
use super::{CATALOG_NAME, CONFIG_NAME, KEY_NAME, PassphraseSource, Store, key, random_bytes};
use crate::backend::{self, BackendSpec, Environment, Mark};
use crate::catalog::{self, Catalog};
use crate::crypto::{CatalogKey, Passphrase};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{BackendId, StoreId};
use crate::stripe::Seal;
use crate::vault::file::{make_private_folder, sync_folder};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// How many local backends a store has that was not told where to put things: one for each shard of the default level.
pub const DEFAULT_BACKEND_COUNT: usize = 5;

/// How a store is made.
#[derive(Default)]
pub struct InitOptions {
    /// Which backends it has from the start.
    pub backends: FirstBackends,
    /// How what is put is sealed, where the put does not say; under the key where it is not given.
    pub seal: Option<Seal>,
    /// What the key is put under; without it whoever reads the key file has the key.
    pub new_passphrase: Option<Passphrase>,
    /// What is asked for the passphrase of a key that is there already.
    pub passphrase: Option<PassphraseSource>,
}

impl fmt::Debug for InitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitOptions")
            .field("backends", &self.backends)
            .field("seal", &self.seal)
            .finish_non_exhaustive()
    }
}

impl InitOptions {
    /// A store without backends.
    pub fn bare() -> Self {
        Self { backends: FirstBackends::None, ..Self::default() }
    }
}

/// Which backends a new store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstBackends {
    /// Five folders in its own.
    #[default]
    Local,
    /// None.
    None,
}

/// Is there from the beginning of making a store to its end.
const MAKING_NAME: &str = "init.lock";
/// What to do about a store without settings.
pub(super) const RESTORE_HINT: &str =
    "restore config.toml; or `shard init --bare`, and `shard backend add` each of its places again";

/// Whether there is a key or a catalog without settings, and not because a store is only being made.
pub(super) fn is_beheaded(dir: &Path) -> bool {
    let is_there = |name: &str| dir.join(name).symlink_metadata().is_ok();
    // Settings last: they are there before the store counts as made.
    (is_there(KEY_NAME) || is_there(CATALOG_NAME)) && !is_there(MAKING_NAME) && !is_there(CONFIG_NAME)
}

impl Store {
    /// Makes a store in a folder; [`ErrorKind::Refused`] when there is one already, or was one that keeps its key or its
    /// catalog, unless it is made bare.
    ///
    /// Interrupted, it leaves no store; run again, it goes on with the key that is there.
    pub async fn init(dir: &Path, options: InitOptions) -> Result<()> {
        refuse_present(dir)?;
        if is_beheaded(dir) && options.backends != FirstBackends::None {
            let doing = format!("the store in {} has lost its {CONFIG_NAME}", dir.display());
            return Err(Error::new(ErrorKind::Damaged, doing).with_hint(RESTORE_HINT));
        }
        let _lock = lock(dir)?;
        refuse_present(dir)?;
        refuse_catalog_without_key(dir)?;
        let given = options.passphrase.as_ref();
        let key = key::open_or_create(&dir.join(KEY_NAME), options.new_passphrase.as_ref(), given)?;
        make_catalog(dir, Arc::new(key.catalog_key()))?;
        let mut config = Config::default();
        config.seal = options.seal.unwrap_or(config.seal);
        if options.backends == FirstBackends::Local {
            for number in 1..=DEFAULT_BACKEND_COUNT {
                config.backends.push(local_backend(dir, key.store_id(), number).await?);
            }
        }
        Config::create(&dir.join(CONFIG_NAME), &config)?;
        made(dir);
        Ok(())
    }
}

fn refuse_present(dir: &Path) -> Result<()> {
    if dir.join(CONFIG_NAME).symlink_metadata().is_err() {
        return Ok(());
    }
    // Left by whoever was stopped just before its end.
    let _ = std::fs::remove_file(dir.join(MAKING_NAME));
    let doing = format!("there is a store in {} already", dir.display());
    Err(Error::new(ErrorKind::Refused, doing).with_hint("`shard status` shows it"))
}

/// A key that is made now would not open that catalog, and would stand in the way of the one that does.
fn refuse_catalog_without_key(dir: &Path) -> Result<()> {
    let path = dir.join(CATALOG_NAME);
    // One whose making was interrupted before anything was in it is nobody's.
    let has_catalog = key::is_there(&path)? && path.metadata().map_or(true, |metadata| metadata.len() > 0);
    if !has_catalog || key::is_there(&dir.join(KEY_NAME))? {
        return Ok(());
    }
    made(dir);
    let doing = format!("there is a catalog in {}, and its key {KEY_NAME} is missing", dir.display());
    Err(Error::new(ErrorKind::WrongKey, doing).with_hint(
        "`shard key import FILE` makes the key again from a recovery kit; a new store is made in another folder, with --store",
    ))
}

/// The store is made: from here on settings that are missing were lost. Somebody who came second may have seen to it.
pub(super) fn made(dir: &Path) {
    let _ = std::fs::remove_file(dir.join(MAKING_NAME));
}

/// Makes the folder, and keeps everyone else from making a store there until it is dropped.
pub(super) fn lock(dir: &Path) -> Result<File> {
    let making = |error| Error::local(format!("cannot make a store in {}", dir.display()), error);
    make_private_folder(dir).map_err(making)?;
    let path = dir.join(MAKING_NAME);
    loop {
        let lock = File::create(&path).map_err(making)?;
        // Before anything else is there: a key without it would look like a store that lost its settings.
        sync_folder(&path).map_err(making)?;
        lock.lock().map_err(making)?;
        // Whoever was at it until now has taken the file away, and somebody else may have locked another by now.
        if is_at(&lock, &path).map_err(making)? {
            return Ok(lock);
        }
    }
}

/// Whether this open file is the one of that name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|found| (found.dev(), found.ino()) == (own.dev(), own.ino())),
    }
}

pub(super) fn make_catalog(dir: &Path, key: Arc<CatalogKey>) -> Result<()> {
    let path = dir.join(CATALOG_NAME);
    match Catalog::create(&path, Arc::clone(&key)) {
        Err(catalog::Error::Exists { .. }) => Catalog::open(&path, key).map(drop)?,
        made => made.map(drop)?,
    }
    Ok(())
}

async fn local_backend(dir: &Path, store: StoreId, number: usize) -> Result<BackendSpec> {
    let url = format!("backends/{number}");
    let folder = dir.join(&url);
    let making = |error| Error::local(format!("cannot make the folder {}", folder.display()), error);
    make_private_folder(&folder).map_err(making)?;
    let mut spec = BackendSpec::new(format!("local-{number}"), BackendId(random_bytes()?), url);
    spec.zone = Some(backend::zone_of(&spec, dir)?.to_string());
    let place = backend::open(&spec, &Environment::default(), dir)?;
    match place.read_mark().await? {
        Some(mark) if mark.store == store => spec.id = mark.backend,
        _ => place.write_mark(&Mark { store, backend: spec.id }).await?,
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn whoever_waited_for_another_making_holds_the_lock_that_the_next_one_waits_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = lock(dir.path()).expect("the lock");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| lock(dir.path()).expect("the lock"));
            // Long enough that it waits by now; where it does not, nothing is tested and nothing fails.
            std::thread::sleep(Duration::from_millis(200));
            made(dir.path());
            drop(first);
            let second = second.join().expect("it has the lock");
            let third = File::open(dir.path().join(MAKING_NAME)).expect("it is there");
            assert!(third.try_lock().is_err());
            drop(second);
            assert!(third.try_lock().is_ok());
        });
    }
}
