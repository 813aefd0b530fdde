//! The outward error: what was being done, what a person can do about it, and the causes underneath.
//!
//! Nothing below this floor names it; each module there has a precise error of its own, which becomes a cause here.

use crate::{backend, catalog, format};
use std::fmt;

/// What the outcome of an operation is, when it is not a report.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error's text with those of what lies underneath.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// What kind of failure it is: what a caller or a script can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There is no store here.
    NoStore,
    /// A live process still holds what is needed.
    Busy,
    /// The key is not the one this store or these shards need.
    WrongKey,
    /// No such object, backend, key or file.
    NotFound,
    /// What was asked for makes no sense.
    Invalid,
    /// Refused, because something would be overwritten or lost.
    Refused,
    /// Fewer shards than the write quorum could be made durable; nothing was left behind.
    BelowQuorum,
    /// Some stripe has too few good blocks, and no unreachable backend could bring it back.
    Lost,
    /// Some stripe has too few good reachable blocks now.
    Unavailable,
    /// No space is left here.
    Space,
    /// A backend failed in a way that stopped the operation.
    Backend,
    /// A file or folder of this machine could not be read or written.
    Local,
    /// The store's own files are damaged.
    Damaged,
    /// This machine's memory or processor does not compute the same twice.
    Memory,
    /// The source changed while it was read.
    Changed,
    /// It was cancelled.
    Cancelled,
}

impl ErrorKind {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoStore => "no-store",
            Self::Busy => "busy",
            Self::WrongKey => "wrong-key",
            Self::NotFound => "not-found",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::BelowQuorum => "below-quorum",
            Self::Lost => "lost",
            Self::Unavailable => "unavailable",
            Self::Space => "space",
            Self::Backend => "backend",
            Self::Local => "local",
            Self::Damaged => "damaged",
            Self::Memory => "memory",
            Self::Changed => "changed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A failed operation.
#[derive(Debug)]
pub struct Error {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What went wrong, in words, with names and numbers.
    pub doing: String,
    /// What a person can do about it; a command to type where there is one.
    pub hint: Option<String>,
    /// What was underneath.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Without cause and hint.
    pub fn new(kind: ErrorKind, doing: impl Into<String>) -> Self {
        Self { kind, doing: doing.into(), hint: None, source: None }
    }

    /// With the cause underneath.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With what a person can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A file or folder of this machine failed; a full disk is told apart.
    pub fn local(doing: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::Space,
            Io::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Local,
        };
        Self::new(kind, doing).with_source(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<backend::ErrorKind> for ErrorKind {
    fn from(kind: backend::ErrorKind) -> Self {
        match kind {
            backend::ErrorKind::Unreachable => Self::Unavailable,
            backend::ErrorKind::NoSpace => Self::Space,
            backend::ErrorKind::Settings => Self::Invalid,
            _ => Self::Backend,
        }
    }
}

impl From<catalog::Error> for Error {
    fn from(error: catalog::Error) -> Self {
        let kind = match &error {
            catalog::Error::Full { .. } => ErrorKind::Space,
            catalog::Error::Busy { .. } | catalog::Error::TakenForDead { .. } => ErrorKind::Busy,
            catalog::Error::OtherStore { .. } | catalog::Error::OtherKey { .. } => ErrorKind::WrongKey,
            // Damage has a name of its own: here the file could not be reached, or not be written.
            catalog::Error::Io { .. } | catalog::Error::Database { .. } => ErrorKind::Local,
            _ => ErrorKind::Damaged,
        };
        Self::new(kind, "the catalog could not be used").with_source(error)
    }
}

impl From<backend::Error> for Error {
    fn from(error: backend::Error) -> Self {
        let doing = match error.kind {
            backend::ErrorKind::Settings => "a backend cannot be used as it is described",
            _ => "a backend failed",
        };
        Self::new(error.kind.into(), doing).with_source(error)
    }
}

impl From<format::NameError> for Error {
    fn from(error: format::NameError) -> Self {
        Self::new(ErrorKind::Invalid, "this name cannot be stored").with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_catalog_that_is_full_or_held_or_out_of_reach_is_not_called_damaged() {
        let path = || PathBuf::from("/x/catalog.db");
        let source = || rusqlite::Error::InvalidQuery;
        let io = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let damaged = catalog::Error::Damaged { path: path(), what: "a page is torn".to_owned() };
        for (error, kind) in [
            (catalog::Error::Full { path: path(), source: source() }, ErrorKind::Space),
            (catalog::Error::Busy { path: path(), source: source() }, ErrorKind::Busy),
            (catalog::Error::OtherKey { path: path() }, ErrorKind::WrongKey),
            (catalog::Error::Database { path: path(), source: source() }, ErrorKind::Local),
            (catalog::Error::Io { path: path(), source: io }, ErrorKind::Local),
            (damaged, ErrorKind::Damaged),
        ] {
            assert_eq!(Error::from(error).kind, kind);
        }
    }
}
