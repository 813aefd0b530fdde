//! What a quota has left: bytes are reserved before they are written, so that writers at the same time cannot exceed it.

use super::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The quota cannot take these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{needed_bytes} bytes more do not fit: the quota is {quota_bytes} bytes, {taken_bytes} of them taken")]
pub(super) struct QuotaReached {
    needed_bytes: u64,
    taken_bytes: u64,
    quota_bytes: u64,
}

impl QuotaReached {
    /// As the outward error of what was being done.
    pub(super) fn while_doing(self, doing: impl Into<String>) -> Error {
        Error::with_source(ErrorKind::NoSpace, doing, self)
    }
}

/// The account of one place: what is used, and what is promised to writers that have not finished.
#[derive(Debug)]
pub(super) struct Ledger {
    quota_bytes: Option<u64>,
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    used_bytes: u64,
    reserved_bytes: u64,
    /// How often a shard was finished or went.
    changes: u64,
}

impl Ledger {
    /// An account that begins with what is there already; without a quota everything fits.
    pub(super) fn new(quota_bytes: Option<u64>, used_bytes: u64) -> Arc<Self> {
        Arc::new(Self { quota_bytes, account: Mutex::new(Account { used_bytes, ..Account::default() }) })
    }

    /// The most it takes, if there is a limit.
    pub(super) fn quota_bytes(&self) -> Option<u64> {
        self.quota_bytes
    }

    /// Begins a writer's reservation. The bytes of a shard that it is going to replace come free when it finishes, so
    /// they count for it: a full place can still have its damaged shard replaced.
    pub(super) fn begin(self: &Arc<Self>, replaced_bytes: u64) -> Reservation {
        Reservation { ledger: Arc::clone(self), credit_bytes: replaced_bytes, written_bytes: 0, reserved_bytes: 0 }
    }

    /// A finished shard of this length is gone.
    pub(super) fn remove(&self, bytes: u64) {
        let mut account = self.account();
        account.used_bytes = account.used_bytes.saturating_sub(bytes);
        account.changes += 1;
    }

    /// How often a shard was finished or went: a count that began at this number may be told by [`Self::recount`].
    pub(super) fn changes(&self) -> u64 {
        self.account().changes
    }

    /// Finished shards of this many bytes were counted, among them those of other processes. A count during which something
    /// changed here is passed over: it may have seen that or not.
    pub(super) fn recount(&self, used_bytes: u64, changes: u64) {
        let mut account = self.account();
        if account.changes == changes {
            account.used_bytes = used_bytes;
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, taken_bytes: u64, needed_bytes: u64) -> Result<(), QuotaReached> {
        match self.quota_bytes {
            Some(quota_bytes) if taken_bytes.saturating_add(needed_bytes) > quota_bytes => {
                Err(QuotaReached { needed_bytes, taken_bytes, quota_bytes })
            }
            _ => Ok(()),
        }
    }
}

/// What one writer has reserved; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    ledger: Arc<Ledger>,
    credit_bytes: u64,
    written_bytes: u64,
    reserved_bytes: u64,
}

impl Reservation {
    /// Reserves the next bytes, before they are written.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), QuotaReached> {
        let written_bytes = self.written_bytes.saturating_add(bytes);
        let more = written_bytes.saturating_sub(self.credit_bytes).saturating_sub(self.reserved_bytes);
        let mut account = self.ledger.account();
        self.ledger.check(account.used_bytes + account.reserved_bytes, more)?;
        account.reserved_bytes += more;
        drop(account);
        self.reserved_bytes += more;
        self.written_bytes = written_bytes;
        Ok(())
    }

    /// Whether the finished shard still fits when what it replaces has this many bytes now, which is fewer than at the
    /// beginning where someone else deleted or replaced it meanwhile. The caller lets no other change come between this
    /// and [`Self::settle`].
    pub(super) fn check(&self, replaced_bytes: u64) -> Result<(), QuotaReached> {
        let account = self.ledger.account();
        let others = account.reserved_bytes.saturating_sub(self.reserved_bytes);
        let taken = account.used_bytes.saturating_sub(replaced_bytes).saturating_add(others);
        self.ledger.check(taken, self.written_bytes)
    }

    /// The shard is finished and has taken the place of this many bytes.
    pub(super) fn settle(mut self, replaced_bytes: u64) {
        let mut account = self.ledger.account();
        account.used_bytes = account.used_bytes.saturating_sub(replaced_bytes).saturating_add(self.written_bytes);
        account.reserved_bytes = account.reserved_bytes.saturating_sub(self.reserved_bytes);
        account.changes += 1;
        drop(account);
        self.reserved_bytes = 0;
    }

    /// How many bytes were reserved through it, credit included: what was written.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut account = self.ledger.account();
        account.reserved_bytes = account.reserved_bytes.saturating_sub(self.reserved_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_writers_cannot_take_the_same_last_bytes() {
        let ledger = Ledger::new(Some(10), 4);
        let (mut first, mut second) = (ledger.begin(0), ledger.begin(0));
        first.grow(4).expect("4 of 6");
        let full = second.grow(3).expect_err("only 2 are left");
        assert_eq!(full, QuotaReached { needed_bytes: 3, taken_bytes: 8, quota_bytes: 10 });
        drop(first);
        second.grow(6).expect("what was given back");
        second.settle(0);
        assert!(ledger.begin(0).grow(1).is_err());
        ledger.remove(1);
        assert!(ledger.begin(0).grow(1).is_ok());
    }

    #[test]
    fn a_count_takes_in_what_others_did_unless_something_changed_meanwhile() {
        let ledger = Ledger::new(Some(10), 4);
        let begun = ledger.changes();
        ledger.recount(9, begun);
        assert!(ledger.begin(0).grow(2).is_err(), "others wrote 5 bytes");
        let mut writer = ledger.begin(0);
        writer.grow(1).expect("the last byte");
        writer.settle(0);
        ledger.recount(9, begun);
        assert!(ledger.begin(0).grow(1).is_err(), "the count began before the last shard was finished");
        ledger.recount(6, ledger.changes());
        assert!(ledger.begin(0).grow(4).is_ok());
    }

    #[test]
    fn a_full_place_lets_a_shard_be_replaced_by_one_of_its_length() {
        let ledger = Ledger::new(Some(10), 10);
        let mut replacement = ledger.begin(10);
        replacement.grow(10).expect("it comes free");
        assert!(replacement.grow(1).is_err(), "one byte longer than before");
        replacement.check(10).expect("it fits");
        assert!(ledger.begin(0).grow(1).is_err());
        replacement.settle(10);
        assert!(ledger.begin(0).grow(1).is_err());
    }

    #[test]
    fn a_replacement_whose_credit_went_elsewhere_is_refused_at_the_end() {
        let ledger = Ledger::new(Some(10), 10);
        let mut replacement = ledger.begin(10);
        replacement.grow(10).expect("credit");
        ledger.remove(10);
        let mut other = ledger.begin(0);
        other.grow(8).expect("the old shard was deleted");
        assert!(replacement.check(0).is_err());
        drop(other);
        assert!(replacement.check(0).is_ok());
    }
}
