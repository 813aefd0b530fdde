//! Time and randomness, the two things that a store takes from outside: arguments, so that a run can be had again.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::io;
use std::sync::Arc;

/// Says what time it is. Nothing about keeping, deleting or ordering is decided by it: people are told it.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl WallClock {
    /// One that says what time it is in nanoseconds since 1970-01-01T00:00:00Z.
    pub fn new(now_ns: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ns))
    }

    pub(super) fn now_ns(&self) -> i64 {
        (self.0)()
    }
}

impl Default for WallClock {
    /// The system's.
    fn default() -> Self {
        Self::new(|| i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX))
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// Where an open store takes its random bytes: ids, and the keys of objects.
///
/// Whoever can guess these bytes reads what was put with them: anything but the system's own source is for simulations.
#[derive(Clone)]
pub struct Randomness(Arc<Fill>);

/// Fills a buffer, or says why it cannot.
type Fill = dyn Fn(&mut [u8]) -> io::Result<()> + Send + Sync;

impl Randomness {
    /// One that fills a buffer, or says why it cannot. The same bytes must never come twice: no id is used twice.
    pub fn new(fill: impl Fn(&mut [u8]) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(fill))
    }

    pub(super) fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        let failed = |error| Error::new(ErrorKind::Local, "there are no random bytes").with_source(error);
        (self.0)(bytes).map_err(failed)
    }

    pub(super) fn bytes<const N: usize>(&self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

impl Default for Randomness {
    /// The operating system's.
    fn default() -> Self {
        Self::new(|bytes| getrandom::fill(bytes).map_err(io::Error::other))
    }
}

impl fmt::Debug for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Randomness")
    }
}
