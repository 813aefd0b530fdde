//! Sizes and durations as people write and read them, in exact arithmetic.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// At most this many digits after the point: enough for a byte of an exbibyte, and small enough not to overflow.
const MAX_FRACTION_DIGITS: usize = 18;

/// Units of time that are read, with their nanoseconds.
const TIME_UNITS: [(&str, u128); 7] = [
    ("w", 7 * 86_400 * NANOS_PER_SECOND),
    ("d", 86_400 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("min", 60 * NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ms", 1_000_000),
];
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Units of size that are printed, each 1024 of the one before.
const PRINTED_UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Why a text is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuantityError {
    /// No number where one is expected.
    #[error("{text:?} does not begin with a number: sizes are 500GB, 64KiB or 1.5GiB, durations 90s, 12h or 30d")]
    Number {
        /// What was given.
        text: String,
    },
    /// The unit of a size is unknown.
    #[error("{unit:?} is no unit of size: B, kB, MB, GB, TB, PB (powers of 1000), KiB, MiB, GiB, TiB, PiB (of 1024)")]
    SizeUnit {
        /// What stands after the number.
        unit: String,
    },
    /// The unit of a duration is unknown or missing.
    #[error("{}: ms, s, m, h, d or w, such as 30d", if unit.is_empty() { "a duration needs a unit of time".to_owned() } else { format!("{unit:?} is no unit of time") })]
    TimeUnit {
        /// What stands after the number.
        unit: String,
    },
    /// More than the type holds.
    #[error("{text:?} is too large")]
    TooLarge {
        /// What was given.
        text: String,
    },
}

/// A number of bytes; read as `500GB`, `64KiB`, `1.5GiB` or plain bytes, a fraction of a byte rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (number, unit) = Decimal::take(text)?;
        let factor = match unit.trim_start() {
            "" => 1,
            unit => match unit.parse::<bytesize::Unit>() {
                Ok(known) => u128::from(1_u64 * known),
                Err(_) => return Err(QuantityError::SizeUnit { unit: unit.to_owned() }),
            },
        };
        let bytes = number.times(factor).and_then(|bytes| u64::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| QuantityError::TooLarge { text: text.to_owned() })
    }
}

impl fmt::Display for ByteSize {
    /// One digit after the point, rounded to the nearest: `1.5 GiB`; below 1 KiB exact: `512 B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let bytes = u128::from(self.0);
        let last = PRINTED_UNITS.len() - 1;
        let tenths = |power: usize| (bytes * 10 + (1 << (10 * power)) / 2) >> (10 * power);
        let power = (1..last).find(|power| tenths(*power) < 10 * 1024).unwrap_or(last);
        write!(f, "{}.{} {}", tenths(power) / 10, tenths(power) % 10, PRINTED_UNITS[power])
    }
}

/// A length of time; read as `500ms`, `90s`, `12h`, `30d`, `2w`, or several of them: `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let too_large = || QuantityError::TooLarge { text: text.to_owned() };
        let mut nanos: u128 = 0;
        let mut rest = text;
        loop {
            let (number, after) = Decimal::take(rest)?;
            let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let unit = after[..unit_end].trim();
            let known = TIME_UNITS.iter().find(|(name, _)| *name == unit);
            let (_, factor) = known.ok_or_else(|| QuantityError::TimeUnit { unit: unit.to_owned() })?;
            let part = number.times(*factor).ok_or_else(too_large)?;
            nanos = nanos.checked_add(part).ok_or_else(too_large)?;
            rest = &after[unit_end..];
            if rest.is_empty() {
                break;
            }
        }
        let seconds = u64::try_from(nanos / NANOS_PER_SECOND).map_err(|_| too_large())?;
        Ok(Self(Duration::new(seconds, (nanos % NANOS_PER_SECOND) as u32)))
    }
}

impl fmt::Display for Span {
    /// The two largest units that say something: `30d`, `2h5m`, `12.3s`, `350ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let pair = |f: &mut fmt::Formatter<'_>, (large, large_unit): (u64, char), (small, small_unit): (u64, char)| {
            match small {
                0 => write!(f, "{large}{large_unit}"),
                _ => write!(f, "{large}{large_unit}{small}{small_unit}"),
            }
        };
        match seconds {
            0 if self.0.as_millis() == 0 => f.write_str("0s"),
            0 => write!(f, "{}ms", self.0.as_millis()),
            1..60 if self.0.subsec_millis() < 100 => write!(f, "{seconds}s"),
            1..60 => write!(f, "{seconds}.{}s", self.0.subsec_millis() / 100),
            60..3_600 => pair(f, (seconds / 60, 'm'), (seconds % 60, 's')),
            3_600..86_400 => pair(f, (seconds / 3_600, 'h'), (seconds % 3_600 / 60, 'm')),
            _ => pair(f, (seconds / 86_400, 'd'), (seconds % 86_400 / 3_600, 'h')),
        }
    }
}

/// A number with a point, held exactly: `digits` / 10^`fraction_digits`.
struct Decimal {
    digits: u128,
    fraction_digits: u32,
}

impl Decimal {
    /// The number a text begins with, and what follows it.
    fn take(text: &str) -> Result<(Self, &str), QuantityError> {
        let wrong = || QuantityError::Number { text: text.to_owned() };
        let too_large = || QuantityError::TooLarge { text: text.to_owned() };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, rest) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let bare_point = number.contains('.') && fraction.is_empty();
        if whole.is_empty() || bare_point || fraction.contains('.') || fraction.len() > MAX_FRACTION_DIGITS {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let scale = 10_u128.pow(fraction.len() as u32);
        let fraction_value: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| wrong())? };
        let digits = u128::from(whole).checked_mul(scale).and_then(|value| value.checked_add(fraction_value));
        Ok((Self { digits: digits.ok_or_else(too_large)?, fraction_digits: fraction.len() as u32 }, rest))
    }

    /// It times a factor, rounded down; `None` when that does not fit.
    fn times(&self, factor: u128) -> Option<u128> {
        let scale = 10_u128.pow(self.fraction_digits);
        let whole = (self.digits / scale).checked_mul(factor)?;
        let fraction = (self.digits % scale).checked_mul(factor)? / scale;
        whole.checked_add(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        let exact: [(&str, u64); 14] = [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("10MB", 10_000_000),
            ("10 MB", 10_000_000),
            ("64KiB", 65_536),
            ("500GB", 500_000_000_000),
            ("1.5GiB", 1_610_612_736),
            ("1.1GB", 1_100_000_000),
            ("0.3kB", 300),
            ("1.0001kB", 1_000),
            ("9007199254740993B", 9_007_199_254_740_993),
            ("15.999999999EiB", 18_446_744_072_556_630_111),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in exact {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn sizes_that_mean_nothing_or_do_not_fit_are_refused() {
        for text in ["", "GB", "-5GB", "+5GB", ".5GB", "5.GB", "1.2.3GB", "1e3", " 5GB", "0x10"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
        assert_eq!("5 GBB".parse::<ByteSize>(), Err(QuantityError::SizeUnit { unit: "GBB".into() }));
        for text in ["16EiB", "18446744073709551616", "20000PB", "99999999999999999999999GB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(QuantityError::TooLarge { text: text.into() }));
        }
    }

    #[test]
    fn sizes_are_printed_with_one_digit_and_never_as_1024_of_a_unit() {
        let printed = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (1_048_575, "1.0 MiB"),
            (1_048_524, "1023.9 KiB"),
            (500_000_000_000, "465.7 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in printed {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn durations_are_read_exactly() {
        let exact = [
            ("500ms", 500),
            ("90s", 90_000),
            ("1.5s", 1_500),
            ("30m", 1_800_000),
            ("30min", 1_800_000),
            ("12h", 43_200_000),
            ("30d", 2_592_000_000),
            ("2w", 1_209_600_000),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ];
        for (text, millis) in exact {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
    }

    #[test]
    fn durations_that_mean_nothing_or_do_not_fit_are_refused() {
        for text in ["", "s", "-5s", "90", "5y", "1h30", "5 parsecs", "1h-2m", "12H"] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
        let text = "18446744073709551615w";
        assert_eq!(text.parse::<Span>(), Err(QuantityError::TooLarge { text: text.into() }));
    }

    #[test]
    fn durations_are_printed_with_their_two_largest_units() {
        let printed = [
            (0, "0s"),
            (350, "350ms"),
            (1_000, "1s"),
            (12_399, "12.3s"),
            (200_000, "3m20s"),
            (7_500_000, "2h5m"),
            (7_200_000, "2h"),
            (2_592_000_000, "30d"),
            (2_595_600_000, "30d1h"),
        ];
        for (millis, text) in printed {
            assert_eq!(Span(Duration::from_millis(millis)).to_string(), text);
        }
    }
}
