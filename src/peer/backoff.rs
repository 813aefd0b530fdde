//! How long to wait before a peer that could not be reached is tried again. Randomness is an argument.

/// The first wait, and what the waits grow to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffTimes {
    /// The longest the first wait can be.
    pub first_ms: u64,
    /// The longest any wait can be.
    pub most_ms: u64,
}

impl Default for BackoffTimes {
    fn default() -> Self {
        Self { first_ms: 500, most_ms: 60_000 }
    }
}

/// The waits between tries: each may be twice as long as the one before, and a random part of it is left out, so that peers
/// that lost a node at the same moment do not come back at the same moment.
#[derive(Debug)]
pub struct Backoff {
    times: BackoffTimes,
    failures: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new(times: BackoffTimes) -> Self {
        Self { times, failures: 0 }
    }

    /// A try failed: how many milliseconds to wait, between half of the longest and the longest.
    pub fn failed(&mut self, random: u64) -> u64 {
        let doubled = 1_u64.checked_shl(self.failures).unwrap_or(u64::MAX);
        let longest = self.times.first_ms.saturating_mul(doubled).min(self.times.most_ms);
        self.failures = self.failures.saturating_add(1);
        let half = longest / 2;
        half + random % (longest - half + 1)
    }

    /// A try succeeded: the next wait is the first again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_begin_again() {
        let mut backoff = Backoff::new(BackoffTimes { first_ms: 100, most_ms: 1000 });
        let mut other = Backoff::new(backoff.times);
        for longest in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(backoff.failed(0), longest / 2);
            assert_eq!(other.failed(longest - longest / 2), longest);
        }
        for _ in 0..200 {
            assert!((500..=1000).contains(&backoff.failed(u64::MAX)));
        }
        backoff.succeeded();
        assert!((50..=100).contains(&backoff.failed(7)));
    }
}
