//! Moments as text: RFC 3339 for machines, minutes for people, always UTC.

use jiff::Timestamp;

/// A moment, given in nanoseconds since 1970-01-01T00:00:00Z, in RFC 3339: `2026-11-21T03:49:00Z`.
pub(crate) fn rfc3339(unix_ns: i64) -> String {
    timestamp(unix_ns).to_string()
}

/// The same to the minute: `2026-11-21 03:49`.
pub(crate) fn minutes(unix_ns: i64) -> String {
    timestamp(unix_ns).strftime("%Y-%m-%d %H:%M").to_string()
}

fn timestamp(unix_ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(unix_ns)).expect("64 bits of nanoseconds span 584 of the 20,000 years it has")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_utc_and_keep_their_nanoseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_795_232_940_000_000_000), "2026-11-21T03:49:00Z");
        assert_eq!(rfc3339(1_795_232_940_123_456_789), "2026-11-21T03:49:00.123456789Z");
        assert_eq!(minutes(1_795_232_940_123_456_789), "2026-11-21 03:49");
    }

    #[test]
    fn the_first_and_the_last_moment_can_be_printed() {
        assert_eq!(rfc3339(i64::MIN), "1677-09-21T00:12:43.145224192Z");
        assert_eq!(rfc3339(i64::MAX), "2262-04-11T23:47:16.854775807Z");
    }
}
