//! What can go wrong at a backend, sorted by what a caller does about it.

use std::fmt;

/// What a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The place answered: there is no such shard.
    NotFound,
    /// The shard is there already.
    AlreadyExists,
    /// The range ends after the shard does.
    OutOfRange,
    /// No space, or the quota is reached.
    NoSpace,
    /// The place refuses writes.
    ReadOnly,
    /// The place refuses us: wrong credentials or permissions.
    Denied,
    /// The place does not answer, is not mounted or is not the one its mark should name.
    Unreachable,
    /// It failed in a way that may pass: worth another try.
    Transient,
    /// It failed for good: an input or output error, an answer that breaks the protocol.
    Failed,
    /// The settings make no sense for this kind of place.
    Settings,
}

/// A failed backend operation.
#[derive(Debug)]
pub struct Error {
    /// What a caller can do about it.
    pub kind: ErrorKind,
    /// What was being done, with the path or address: `writing objects/ab/….3.shard in /mnt/nas`.
    pub doing: String,
    /// What was underneath, if anything.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Without a cause underneath.
    pub fn new(kind: ErrorKind, doing: impl Into<String>) -> Self {
        Self { kind, doing: doing.into(), source: None }
    }

    /// With the cause underneath.
    pub fn with_source(
        kind: ErrorKind,
        doing: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, doing: doing.into(), source: Some(source.into()) }
    }

    /// From an input or output error: the kind follows from the error number.
    pub fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::AlreadyExists,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::NoSpace,
            Io::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            Io::PermissionDenied => ErrorKind::Denied,
            Io::Interrupted | Io::TimedOut | Io::WouldBlock | Io::ResourceBusy => ErrorKind::Transient,
            Io::StaleNetworkFileHandle | Io::HostUnreachable | Io::NetworkUnreachable | Io::NetworkDown => {
                ErrorKind::Unreachable
            }
            _ => ErrorKind::Failed,
        };
        Self::with_source(kind, doing, source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::NotFound => "not there",
            ErrorKind::AlreadyExists => "there already",
            ErrorKind::OutOfRange => "the range ends after the shard does",
            ErrorKind::NoSpace => "no space left or quota reached",
            ErrorKind::ReadOnly => "read-only",
            ErrorKind::Denied => "access refused",
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::Transient => "failed for now",
            ErrorKind::Failed => "failed",
            ErrorKind::Settings => "the settings do not fit",
        };
        write!(f, "{}: {what}", self.doing)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
