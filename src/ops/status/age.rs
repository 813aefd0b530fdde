//! How old the oldest verification may be, and how old it is.

use crate::id::{Geometry, RedundancyLevel};
use crate::ops::Timestamp;
use serde::Serialize;

/// A day in seconds.
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// A second in nanoseconds.
const SECOND_NS: i64 = 1_000_000_000;

/// How often every block of every shard of a level is to be read: the less redundant, the more often.
pub fn wanted_age_seconds(level: RedundancyLevel) -> u64 {
    let days = match level {
        RedundancyLevel::Minimal | RedundancyLevel::Personal | RedundancyLevel::Custom(_) => 7,
        RedundancyLevel::Federation => 30,
        RedundancyLevel::Paranoid => 90,
    };
    days * DAY_SECONDS
}

/// How well the objects of one level were looked after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerificationAge {
    /// The level.
    pub level: String,
    /// How many objects have it.
    pub objects: u64,
    /// How many of them were never verified in full.
    pub never_verified: u64,
    /// When the one that was verified longest ago was; one that never was counts from when it was put.
    pub oldest: Option<Timestamp>,
    /// How long ago that is, in seconds.
    pub age_s: Option<u64>,
    /// How long ago it should be at most, in seconds.
    pub wanted_s: u64,
    /// Whether it is older.
    pub overdue: bool,
}

impl VerificationAge {
    /// For the objects of a geometry; `oldest_ns` is the oldest verification, or put of what was never verified.
    pub(super) fn new(geometry: Geometry, objects: (u64, u64), oldest_ns: Option<i64>, now_ns: i64) -> Self {
        let level = RedundancyLevel::of(geometry);
        let wanted_s = wanted_age_seconds(level);
        let age_s =
            oldest_ns.map(|oldest| now_ns.saturating_sub(oldest).max(0).unsigned_abs() / SECOND_NS.unsigned_abs());
        Self {
            level: level.to_string(),
            objects: objects.0,
            never_verified: objects.1,
            oldest: oldest_ns.map(Timestamp),
            age_s,
            wanted_s,
            overdue: objects.0 > 0 && age_s.is_none_or(|age| age > wanted_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(level: &str, days: Option<i64>) -> VerificationAge {
        let level: RedundancyLevel = level.parse().expect("a level");
        let now_ns = 1_795_232_940_000_000_000;
        let day_ns = 24 * 3600 * SECOND_NS;
        VerificationAge::new(level.geometry(), (3, 1), days.map(|days| now_ns - days * day_ns), now_ns)
    }

    #[test]
    fn each_level_is_overdue_after_its_own_time() {
        for (level, days) in
            [("minimal", 7), ("personal", 7), ("federation", 30), ("paranoid", 90), ("4/6", 7), ("1/255", 7)]
        {
            assert!(!age(level, Some(days)).overdue, "{level}");
            assert!(age(level, Some(days + 1)).overdue, "{level}");
            assert!(age(level, None).overdue, "{level}");
        }
    }

    #[test]
    fn nothing_is_overdue_where_there_is_nothing_or_the_clock_went_back() {
        let geometry = Geometry::new(3, 5).expect("a geometry");
        assert!(!VerificationAge::new(geometry, (0, 0), None, 0).overdue);
        assert_eq!(VerificationAge::new(geometry, (1, 0), Some(i64::MAX), 0).age_s, Some(0));
        assert!(VerificationAge::new(geometry, (1, 0), Some(i64::MIN), i64::MAX).overdue);
    }
}
