//! The one type through which a stored name may reach a file system.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The longest name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 4096;
/// The longest part between slashes, in bytes: what common file systems take.
pub const MAX_PART_BYTES: usize = 255;

/// A relative UTF-8 path: parts joined by `/`, none of them empty, `.` or `..`, no NUL, no part over
/// [`MAX_PART_BYTES`], in all at most [`MAX_NAME_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

/// Why a text is not a [`FileName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("a name cannot be empty")]
    Empty,
    /// Over [`MAX_NAME_BYTES`].
    #[error("a name has at most {MAX_NAME_BYTES} bytes, this one {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A part over [`MAX_PART_BYTES`].
    #[error("a part of a name has at most {MAX_PART_BYTES} bytes, one here has {bytes}")]
    PartTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A leading slash.
    #[error("{name:?} is absolute; a name is relative")]
    Absolute {
        /// The name.
        name: String,
    },
    /// A part that is empty, `.` or `..`.
    #[error("{name:?} has a part {part:?}, which could lead elsewhere")]
    Part {
        /// The name.
        name: String,
        /// The part.
        part: String,
    },
    /// A NUL character.
    #[error("{name:?} has a NUL in it")]
    Nul {
        /// The name.
        name: String,
    },
}

impl FileName {
    /// Checks a text.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let name = text.into();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong { bytes: name.len() });
        }
        if name.contains('\0') {
            return Err(NameError::Nul { name });
        }
        if name.starts_with('/') {
            return Err(NameError::Absolute { name });
        }
        if let Some(part) = name.split('/').find(|part| matches!(*part, "" | "." | "..")) {
            return Err(NameError::Part { part: part.to_owned(), name });
        }
        if let Some(part) = name.split('/').find(|part| part.len() > MAX_PART_BYTES) {
            return Err(NameError::PartTooLong { bytes: part.len() });
        }
        Ok(Self(name))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last slash.
    pub fn last_part(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// As a relative path that stays below whatever folder it is joined to.
    pub fn to_path(&self) -> PathBuf {
        self.0.split('/').collect()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for FileName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_out_of_its_folder() {
        for wrong in
            ["", "/etc/passwd", "a/../b", "..", "a/./b", "a//b", "a/", "a\0b", &"x".repeat(256), &"x/".repeat(3000)]
        {
            assert!(FileName::new(wrong).is_err(), "{wrong:?}");
        }
        for right in ["a", "a/b.txt", "ünï/…", "new\nline", ".hidden", "..a", &"x".repeat(255)] {
            assert_eq!(FileName::new(right).expect("a name").as_str(), right);
        }
    }
}
