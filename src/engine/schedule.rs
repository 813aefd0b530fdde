//! When a backup is due: a pure rule, so that whoever runs it brings the time.

use std::time::Duration;

/// How often backups are made by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// From one to the next.
    pub every: Duration,
    /// From one that failed to the next try; never longer than `every`.
    pub retry: Duration,
}

impl Default for Schedule {
    /// Every hour, and after a failure every minute.
    fn default() -> Self {
        Self { every: Duration::from_secs(3600), retry: Duration::from_secs(60) }
    }
}

impl Schedule {
    /// Whether a backup is due, by when the last was made; both in milliseconds since 1970.
    pub fn is_due(&self, now_ms: i64, last_ms: Option<i64>) -> bool {
        self.wait(now_ms, last_ms).is_zero()
    }

    /// How long it is until one is due. A last one that lies in the future tells of a clock that was wrong, and counts as
    /// none.
    pub fn wait(&self, now_ms: i64, last_ms: Option<i64>) -> Duration {
        let since = last_ms.and_then(|last| u64::try_from(now_ms.checked_sub(last)?).ok());
        since.map_or(Duration::ZERO, |since| self.every.saturating_sub(Duration::from_millis(since)))
    }

    /// How long it is until the next try after a failure.
    pub fn wait_after_failure(&self) -> Duration {
        self.retry.min(self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_due_when_there_is_none_after_an_hour_and_when_the_clock_was_wrong() {
        let hourly = Schedule::default();
        let hour = 3_600_000;
        assert!(hourly.is_due(0, None) && hourly.is_due(i64::MIN, None));
        assert!(!hourly.is_due(5, Some(5)) && !hourly.is_due(hour - 1, Some(0)) && hourly.is_due(hour, Some(0)));
        assert!(
            hourly.is_due(0, Some(1))
                && hourly.is_due(i64::MIN, Some(i64::MAX))
                && hourly.is_due(i64::MAX, Some(i64::MIN))
        );
        assert_eq!(hourly.wait(hour / 4, Some(0)), Duration::from_secs(2700));
        let often = Schedule { every: Duration::from_secs(5), ..hourly };
        assert_eq!((often.wait_after_failure(), hourly.wait_after_failure().as_secs()), (Duration::from_secs(5), 60));
    }
}
