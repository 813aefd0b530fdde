//! The names of vaults: what may become a file name, and nothing else.

use super::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A name has at most this many bytes: with what the database adds to it, a file name stays within 255.
pub const MAX_NAME_BYTES: usize = 100;

/// A name that is a file name on every system: ASCII letters, digits, `-`, `_` and `.`, not beginning with a `.` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VaultName(String);

impl VaultName {
    /// The name, if it is one.
    pub fn new(name: &str) -> Result<Self> {
        let refuse = |why| Err(Error::Name { name: name.to_owned(), why });
        if name.is_empty() {
            return refuse("it is empty");
        }
        if name.len() > MAX_NAME_BYTES {
            return refuse("it is longer than 100 bytes");
        }
        if name.starts_with(['.', '-']) {
            return refuse("it begins with a dot or a hyphen");
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
            return refuse("it may have letters a to z, digits, hyphens, underscores and dots");
        }
        Ok(Self(name.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its file's name.
    pub fn file_name(&self) -> String {
        format!("{}.db", self.0)
    }

    /// The name whose file this would be.
    pub fn of_file(file_name: &str) -> Option<Self> {
        Self::new(file_name.strip_suffix(".db")?).ok()
    }
}

impl fmt::Display for VaultName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VaultName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_file_name_everywhere_is_a_name() {
        for name in ["a", "Settings-2.old", "0_1", &"x".repeat(MAX_NAME_BYTES)] {
            assert_eq!(VaultName::of_file(&VaultName::new(name).expect(name).file_name()), VaultName::new(name).ok());
        }
        for name in ["", ".", "..", ".a", "-a", "a/b", "../a", "a\\b", "a b", "a\0", "ä", "a:b", &"x".repeat(101)] {
            assert!(VaultName::new(name).is_err(), "{name:?}");
        }
        assert_eq!(VaultName::of_file("a.db-wal"), None);
    }
}
