//! Which backends failed a write: within one operation, so that nothing more is placed on them, and noted for the next
//! repair, which avoids them.

use super::journal::Places;
use super::line::Delivered;
use crate::backend;
use crate::catalog::{self, Catalog};
use crate::error::{Error, ErrorKind, Result};
use crate::id::BackendId;
use crate::store::Store;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which backends failed a write in this operation, and what each said first. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct WriteFailures {
    said: Arc<Mutex<BTreeMap<BackendId, Arc<backend::Error>>>>,
}

impl WriteFailures {
    /// The backends.
    pub fn backends(&self) -> Vec<BackendId> {
        self.said().keys().copied().collect()
    }

    /// Those of them that had no room.
    pub fn full(&self) -> Vec<BackendId> {
        let said = self.said();
        let full = said.iter().filter(|(_, error)| error.kind == backend::ErrorKind::NoSpace);
        full.map(|(backend, _)| *backend).collect()
    }

    /// Remembers that a backend failed.
    pub fn note(&self, backend: BackendId, error: backend::Error) {
        self.said().entry(backend).or_insert_with(|| Arc::new(error));
    }

    /// Remembers those of the deliveries that failed.
    pub(super) fn note_all(&self, places: &Places, delivered: Vec<Delivered>) {
        for Delivered { index, outcome } in delivered {
            if let (Err(error), Some(place)) = (outcome, places.of(index)) {
                self.note(place, error);
            }
        }
    }

    /// Puts what a backend said under an error that says only that too few are left.
    pub(super) fn explain(&self, error: Error) -> Error {
        let first = self.said().values().next().map(Arc::clone);
        match first {
            Some(said) if error.kind == ErrorKind::BelowQuorum && error.source.is_none() => error.with_source(said),
            _ => error,
        }
    }

    /// Writes down who failed, and takes away the note of who did not fail any more.
    pub(in crate::ops) fn write_down(&self, catalog: &mut Catalog, succeeded: &[BackendId]) -> catalog::Result<()> {
        let said = self.said().clone();
        for (backend, error) in &said {
            catalog.set_note(&note_key(*backend), &error.to_string())?;
        }
        for backend in succeeded.iter().filter(|backend| !said.contains_key(backend)) {
            let key = note_key(*backend);
            if catalog.note(&key)?.is_some() {
                catalog.clear_note(&key)?;
            }
        }
        Ok(())
    }

    fn said(&self) -> MutexGuard<'_, BTreeMap<BackendId, Arc<backend::Error>>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The backends whose last write failed, as far as this machine knows.
pub async fn failed_writers(store: &Store) -> Result<Vec<BackendId>> {
    let all: Vec<BackendId> = store.registry().iter().map(|backend| backend.id).collect();
    let noted = move |catalog: &Catalog| {
        let mut failed = Vec::new();
        for backend in all {
            if catalog.note(&note_key(backend))?.is_some() {
                failed.push(backend);
            }
        }
        Ok(failed)
    };
    store.look(noted).await
}

fn note_key(backend: BackendId) -> String {
    format!("failed-write/{backend}")
}
