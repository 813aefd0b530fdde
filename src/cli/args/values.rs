//! Values that flags take, each valid once it exists.

use crate::cli::quantity::{ByteSize, QuantityError, Span};
use clap::ValueEnum;
use shard::format::{FileName, NameError};
use shard::id::RedundancyLevel;
use shard::stripe::Seal;
use std::str::FromStr;

/// A level that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LevelName {
    /// 2 of 3: any one shard may be lost
    Minimal,
    /// 3 of 5: any two
    Personal,
    /// 5 of 9: any four
    Federation,
    /// 7 of 15: any eight
    Paranoid,
}

impl LevelName {
    /// The level.
    pub(crate) fn level(self) -> RedundancyLevel {
        match self {
            Self::Minimal => RedundancyLevel::Minimal,
            Self::Personal => RedundancyLevel::Personal,
            Self::Federation => RedundancyLevel::Federation,
            Self::Paranoid => RedundancyLevel::Paranoid,
        }
    }
}

/// How an object is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SealName {
    /// Under the store's key: whoever has only shards reads nothing
    Key,
    /// Under a secret that any K shards give: no key to lose
    Dispersed,
    /// Not at all: whoever holds the data shards can read
    None,
}

impl SealName {
    /// The seal.
    pub(crate) fn seal(self) -> Seal {
        match self {
            Self::Key => Seal::Key,
            Self::Dispersed => Seal::Dispersed,
            Self::None => Seal::None,
        }
    }
}

/// A file's name, or a folder's, which may end in a slash; with one it is a folder's for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TypedName {
    name: FileName,
    is_folder: bool,
}

impl TypedName {
    /// The name, which is a file's or a folder's.
    pub(crate) fn name(&self) -> &FileName {
        &self.name
    }

    /// Whether it is a folder's for certain.
    pub(crate) fn is_folder(&self) -> bool {
        self.is_folder
    }
}

impl FromStr for TypedName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = text.trim_end_matches('/');
        Ok(Self { name: FileName::new(name)?, is_folder: name.len() < text.len() })
    }
}

/// A name where it does not matter whether it ends in a slash.
pub(super) fn parse_name(text: &str) -> Result<FileName, NameError> {
    text.parse().map(|typed: TypedName| typed.name)
}

/// Bytes `first` to `last` of a file, both included, from 0; `first` ≤ `last` < [`u64::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteRange {
    first: u64,
    last: u64,
}

impl ByteRange {
    /// The bytes, both ends included.
    pub(crate) fn inclusive(self) -> std::ops::RangeInclusive<u64> {
        self.first..=self.last
    }
}

/// Why a text is not one of the values here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    /// Not two numbers with a hyphen between.
    #[error("a range is A-B, two byte positions counted from 0, both included: 0-1023")]
    Range,
    /// No file is that long.
    #[error("a byte position is at most {}", u64::MAX - 1)]
    TooFar,
    /// The end comes before the beginning.
    #[error("byte {last} comes before byte {first}")]
    Backwards {
        /// A.
        first: u64,
        /// B.
        last: u64,
    },
    /// Not above 0 and at most 100.
    #[error("a percentage is above 0 and at most 100: 5 or 0.5")]
    Percent,
    /// Neither a size nor a duration.
    #[error("a budget is a size with its unit, such as 200GB, or a duration, such as 2h")]
    Budget(#[source] QuantityError),
}

impl FromStr for ByteRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (first, last) = text.split_once('-').ok_or(ValueError::Range)?;
        let number = |digits: &str| match digits.bytes().all(|digit| digit.is_ascii_digit()) {
            true if digits.is_empty() => Err(ValueError::Range),
            true => digits.parse::<u64>().ok().filter(|position| *position < u64::MAX).ok_or(ValueError::TooFar),
            false => Err(ValueError::Range),
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(ValueError::Backwards { first, last });
        }
        Ok(Self { first, last })
    }
}

/// A share above 0 and at most 100 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Percent(f64);

impl Percent {
    /// The share, above 0 and at most 1.
    pub(crate) fn share(self) -> f64 {
        self.0 / 100.0
    }
}

impl FromStr for Percent {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match number.parse::<f64>() {
            Ok(percent) if plain && percent > 0.0 && percent <= 100.0 => Ok(Self(percent)),
            _ => Err(ValueError::Percent),
        }
    }
}

/// How much a run may read, or how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Budget {
    /// Bytes read.
    Bytes(ByteSize),
    /// Time.
    Time(Span),
}

impl FromStr for Budget {
    type Err = ValueError;

    /// `m` is minutes: a size in a budget ends in `B`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.ends_with(['B', 'b']) {
            return text.parse().map(Self::Bytes).map_err(ValueError::Budget);
        }
        text.parse().map(Self::Time).map_err(ValueError::Budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_folders_name_may_end_in_a_slash() {
        let typed = |text: &str| text.parse::<TypedName>().map(|typed| (typed.name().to_string(), typed.is_folder()));
        assert_eq!(typed("a/b"), Ok(("a/b".to_owned(), false)));
        assert_eq!(typed("a/b/"), Ok(("a/b".to_owned(), true)));
        assert!(typed("/").is_err() && typed("/a/").is_err() && typed("a//b").is_err() && typed("../").is_err());
    }

    #[test]
    fn a_range_includes_both_its_ends() {
        assert_eq!("0-0".parse::<ByteRange>().expect("a range").inclusive(), 0..=0);
        assert_eq!("10-1023".parse::<ByteRange>().expect("a range").inclusive(), 10..=1023);
        assert_eq!("5-4".parse::<ByteRange>(), Err(ValueError::Backwards { first: 5, last: 4 }));
        for wrong in ["", "-", "5", "5-", "-5", "+1-2", "1-2-3", "a-b"] {
            assert_eq!(wrong.parse::<ByteRange>(), Err(ValueError::Range), "{wrong}");
        }
        assert_eq!("0-18446744073709551615".parse::<ByteRange>(), Err(ValueError::TooFar));
    }

    #[test]
    fn a_percentage_is_above_nothing_and_at_most_everything() {
        for (text, share) in [("5", 0.05), ("5%", 0.05), ("0.5", 0.005), ("100", 1.0), ("12.5 %", 0.125)] {
            assert_eq!(text.parse::<Percent>().expect("a percentage").share(), share, "{text}");
        }
        for wrong in ["", "0", "-1", "100.1", "NaN", "inf", "1e1", "%"] {
            assert_eq!(wrong.parse::<Percent>(), Err(ValueError::Percent), "{wrong}");
        }
    }

    #[test]
    fn a_budget_is_a_size_or_a_duration_and_never_ambiguous() {
        assert_eq!("200GB".parse(), Ok(Budget::Bytes(ByteSize(200_000_000_000))));
        assert_eq!("30m".parse(), Ok(Budget::Time(Span(Duration::from_secs(1800)))));
        assert_eq!("2h".parse(), Ok(Budget::Time(Span(Duration::from_secs(7200)))));
        for wrong in ["", "200", "G", "-5h", "-5GB"] {
            assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
        }
    }
}
