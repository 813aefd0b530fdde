//! What a place turns out to be that a person named: a backend as it was left, or a folder whose files are asked.

use super::heap::{FoundHeap, look_through};
use crate::backend::{self, Backend, BackendSpec, BackendUrl, Environment, Mark};
use crate::error::{Error, ErrorKind, Result};
use crate::id::BackendId;
use crate::ops::Controls;
use crate::ops::reader::compute;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place that a person named.
#[derive(Debug)]
pub enum FoundPlace {
    /// Shards under their names.
    Backend {
        /// The place.
        backend: Arc<dyn Backend>,
        /// Whose it says it is.
        mark: Option<Mark>,
    },
    /// Shards under any name, in a folder.
    Heap(FoundHeap),
}

/// Looks at a place, by its address; a relative path is below `here`.
///
/// A folder is taken for a backend only when it has a mark and nothing else in it than backends keep; of any other, every
/// file is looked at. Of a bucket or a server, names alone are believed. [`ErrorKind::Invalid`] for a file.
pub async fn look_at(url: &str, environment: &Environment, here: &Path, controls: &Controls) -> Result<FoundPlace> {
    let spec = BackendSpec::new("from", BackendId([0; BackendId::BYTES]), url);
    let backend = backend::open(&spec, environment, here)?;
    let BackendUrl::Folder(path) = BackendUrl::parse(url, here)? else {
        let mark = backend.read_mark().await?;
        return Ok(FoundPlace::Backend { backend, mark });
    };
    if path.is_file() {
        let hint = "name the folder it is in: every file there is looked at, whatever it is called";
        let doing = format!("{} is a file, and a place is a folder", path.display());
        return Err(Error::new(ErrorKind::Invalid, doing).with_hint(hint));
    }
    if let Ok(Some(mark)) = backend.read_mark().await
        && is_place_alone(path.clone()).await?
    {
        return Ok(FoundPlace::Backend { backend, mark: Some(mark) });
    }
    look_through(path, controls).await.map(FoundPlace::Heap)
}

async fn is_place_alone(path: PathBuf) -> Result<bool> {
    Ok(compute(move || backend::heap::holds_only_a_place(&path)).await??)
}
