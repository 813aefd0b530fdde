//! One holder at a time, between processes through the catalog and within this one through a set.

use crate::catalog::{self, Catalog};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ProcessId;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a lease is waited for before the answer is "busy".
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked for meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// The leases that this process holds itself: to the catalog all its tasks are one.
pub(super) type OwnLeases = Arc<Mutex<HashSet<String>>>;

/// The right to do what nobody else does at the same time; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    catalog: Arc<Mutex<Catalog>>,
    own: OwnLeases,
    resource: String,
    process: ProcessId,
}

impl Lease {
    pub(super) async fn take(
        catalog: Arc<Mutex<Catalog>>,
        own: &OwnLeases,
        resource: &str,
        (process, run_dir): (ProcessId, PathBuf),
    ) -> Result<Self> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(lease) = Self::attempt(&catalog, own, resource, (process, run_dir.clone())).await? {
                return Ok(lease);
            }
            if waited >= PATIENCE {
                let doing = format!("another process is at work on this store ({resource})");
                return Err(Error::new(ErrorKind::Busy, doing).with_hint("try again when it is done"));
            }
            tokio::time::sleep(PAUSE).await;
            waited += PAUSE;
        }
    }

    async fn attempt(
        catalog: &Arc<Mutex<Catalog>>,
        own: &OwnLeases,
        resource: &str,
        (process, run_dir): (ProcessId, PathBuf),
    ) -> Result<Option<Self>> {
        if !own.lock().unwrap_or_else(PoisonError::into_inner).insert(resource.to_owned()) {
            return Ok(None);
        }
        let lease = Self { catalog: Arc::clone(catalog), own: Arc::clone(own), resource: resource.to_owned(), process };
        let ask = move || {
            let alive = |other| catalog::is_alive(&run_dir, other);
            let mut catalog = lease.catalog.lock().unwrap_or_else(PoisonError::into_inner);
            let given = catalog.try_lease(&lease.resource, process, &alive);
            drop(catalog);
            given.map(|given| given.then_some(lease))
        };
        let asked = tokio::task::spawn_blocking(ask).await;
        let failed = |error| Error::new(ErrorKind::Damaged, "the catalog stopped in the middle").with_source(error);
        Ok(asked.map_err(failed)??)
    }
}

impl Drop for Lease {
    /// What cannot be given back is taken from this process as soon as it is no longer alive.
    fn drop(&mut self) {
        let mut catalog = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = catalog.release_lease(&self.resource, self.process);
        self.own.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.resource);
    }
}
