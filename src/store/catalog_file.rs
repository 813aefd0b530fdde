//! Opening the catalog's file, and making an empty one where it is missing or damaged.

use super::CATALOG_NAME;
use crate::catalog::{self, Catalog};
use crate::crypto::CatalogKey;
use crate::error::{Error, ErrorKind, Result};
use crate::vault::file::move_aside;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to do about a catalog that is missing or damaged.
const REBUILD_HINT: &str = "run `shard catalog rebuild`";

/// Opens the catalog of a store.
pub(super) fn open(dir: &Path, key: Arc<CatalogKey>) -> Result<Catalog> {
    let catalog = Catalog::open(&dir.join(CATALOG_NAME), key).map_err(|error| explain(dir, error))?;
    if catalog.is_unfilled().map_err(|error| explain(dir, error))? {
        let doing = format!("the catalog of the store in {} was made anew and is not filled yet", dir.display());
        return Err(Error::new(ErrorKind::Damaged, doing).with_hint(REBUILD_HINT));
    }
    Ok(catalog)
}

/// Opens it, or makes an empty one where it is missing or damaged: a damaged one is kept, and where is said. The empty one is
/// opened by nobody else until it is filled: whoever is killed while filling it leaves no store that seems to hold nothing.
pub(super) fn open_or_make(dir: &Path, key: &Arc<CatalogKey>) -> Result<(Catalog, Option<PathBuf>)> {
    let path = dir.join(CATALOG_NAME);
    match open_whole(&path, key) {
        Ok(catalog) => Ok((catalog, None)),
        Err(error) if is_useless(&path, &error) => {
            let about =
                |error| Error::local(format!("{} is damaged, and cannot be moved aside", path.display()), error);
            // Another process may be at the same: whoever comes second finds the new one. The lock is the folder's, for to
            // close the file itself would give up the locks of a connection that is open by then.
            let folder = File::open(dir).map_err(about)?;
            folder.lock().map_err(about)?;
            match open_whole(&path, key) {
                Err(error) if is_useless(&path, &error) => {
                    let kept = move_aside(&path).map_err(about)?;
                    Ok((Catalog::create_unfilled(&path, Arc::clone(key))?, Some(kept)))
                }
                opened => Ok((opened.map_err(|error| explain(dir, error))?, None)),
            }
        }
        Err(error) => Err(explain(dir, error)),
    }
}

/// Whether nothing can be lost with the file: it is damaged, or was made with another key and never filled.
fn is_useless(path: &Path, error: &catalog::Error) -> bool {
    match error {
        catalog::Error::Damaged { .. } | catalog::Error::Foreign { .. } => true,
        catalog::Error::OtherStore { .. } | catalog::Error::OtherKey { .. } => catalog::is_blank(path).unwrap_or(false),
        _ => false,
    }
}

/// Reads all of the file: damage may be anywhere. One that is missing or empty is made.
fn open_whole(path: &Path, key: &Arc<CatalogKey>) -> catalog::Result<Catalog> {
    let catalog = match Catalog::open(path, Arc::clone(key)) {
        Err(catalog::Error::Absent { .. } | catalog::Error::Foreign { .. }) => {
            match Catalog::create_unfilled(path, Arc::clone(key)) {
                // Another process was quicker.
                Err(catalog::Error::Exists { .. }) => Catalog::open(path, Arc::clone(key)),
                made => made,
            }
        }
        opened => opened,
    }?;
    catalog.check()?;
    Ok(catalog)
}

fn explain(dir: &Path, error: catalog::Error) -> Error {
    let (kind, what) = match &error {
        catalog::Error::Absent { .. } => (ErrorKind::Damaged, "is missing"),
        catalog::Error::Damaged { .. } | catalog::Error::Foreign { .. } => (ErrorKind::Damaged, "is damaged"),
        catalog::Error::OtherStore { .. } => {
            let doing = format!("key and catalog in {} are not of the same store", dir.display());
            return Error::new(ErrorKind::WrongKey, doing).with_source(error);
        }
        catalog::Error::OtherKey { .. } => {
            let doing = format!("the key in {} does not open the catalog", dir.display());
            return Error::new(ErrorKind::WrongKey, doing).with_source(error).with_hint(REBUILD_HINT);
        }
        _ => return error.into(),
    };
    let doing = format!("the catalog of the store in {} {what}", dir.display());
    Error::new(kind, doing).with_source(error).with_hint(REBUILD_HINT)
}
