//! How many bytes of shards a place holds, kept so that a quota can be refused before anything is sent.

use crate::backend::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count of bytes that never passes its limit. What other processes write is seen at the next recount.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    limit_bytes: u64,
    used_bytes: Arc<AtomicU64>,
    /// Of those, what writers hold that have not finished.
    reserved_bytes: Arc<AtomicU64>,
}

impl Quota {
    /// A quota of a place that holds this much already.
    pub(super) fn new(limit_bytes: u64, used_bytes: u64) -> Self {
        let [used_bytes, reserved_bytes] = [used_bytes, 0].map(|bytes| Arc::new(AtomicU64::new(bytes)));
        Self { limit_bytes, used_bytes, reserved_bytes }
    }

    /// A listing found this many bytes of finished shards.
    pub(super) fn recount(&self, found_bytes: u64) {
        self.used_bytes.store(found_bytes + self.reserved_bytes.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Begins the share of one writer.
    pub(super) fn reserve(&self) -> Reservation {
        Reservation { quota: self.clone(), bytes: 0 }
    }

    /// This many bytes of finished shards are gone.
    pub(super) fn release(&self, bytes: u64) {
        subtract(&self.used_bytes, bytes);
    }
}

/// What one writer has taken of the quota; dropped, it is given back.
#[derive(Debug)]
pub(super) struct Reservation {
    quota: Quota,
    bytes: u64,
}

impl Reservation {
    /// Takes more, or says that there is no space for it.
    pub(super) fn grow(&mut self, bytes: u64, doing: &str) -> Result<(), Error> {
        let limit_bytes = self.quota.limit_bytes;
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit_bytes);
        if self.quota.used_bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_err() {
            let doing = format!("{doing} (quota {limit_bytes} bytes)");
            return Err(Error::new(ErrorKind::NoSpace, doing));
        }
        self.quota.reserved_bytes.fetch_add(bytes, Ordering::SeqCst);
        self.bytes += bytes;
        Ok(())
    }

    /// The shard is finished and took the place of this many older bytes.
    pub(super) fn keep(mut self, replaced_bytes: u64) {
        subtract(&self.quota.reserved_bytes, self.bytes);
        self.bytes = 0;
        self.quota.release(replaced_bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        subtract(&self.quota.reserved_bytes, self.bytes);
        subtract(&self.quota.used_bytes, self.bytes);
    }
}

fn subtract(count: &AtomicU64, bytes: u64) {
    // A recount may have run between a write and its release: the count stops at zero.
    let _always_some = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| Some(old.saturating_sub(bytes)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_holds_and_what_is_dropped_comes_back() {
        let quota = Quota::new(10, 4);
        let mut first = quota.reserve();
        first.grow(6, "writing").expect("it fits");
        let mut second = quota.reserve();
        assert_eq!(second.grow(1, "writing").expect_err("full").kind, ErrorKind::NoSpace);
        drop(first);
        second.grow(6, "writing").expect("it fits now");
        second.keep(4);
        quota.recount(6);
        quota.reserve().grow(4, "writing").expect("the old bytes are gone");
        assert!(quota.reserve().grow(u64::MAX, "writing").is_err());
    }
}
