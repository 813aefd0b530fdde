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
            Io::StaleNetworkFileHandle
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::NotConnected => ErrorKind::Unreachable,
            _ => kind_of_errno(&source),
        };
        Self::with_source(kind, doing, source)
    }
}

/// The error numbers for which the standard library has no name.
fn kind_of_errno(source: &std::io::Error) -> ErrorKind {
    use rustix::io::Errno;
    match Errno::from_io_error(source) {
        // A disk that was pulled out.
        Some(Errno::NODEV | Errno::NXIO) => ErrorKind::Unreachable,
        // Too many open files, here or on the machine.
        Some(Errno::MFILE | Errno::NFILE) => ErrorKind::Transient,
        _ => ErrorKind::Failed,
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
            // What is wrong with the settings is all in the words.
            ErrorKind::Settings => return f.write_str(&self.doing),
        };
        write!(f, "{}: {what}", self.doing)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn the_kind_follows_from_the_error_number() {
        let cases = [
            (Errno::NOENT, ErrorKind::NotFound),
            (Errno::EXIST, ErrorKind::AlreadyExists),
            (Errno::NOSPC, ErrorKind::NoSpace),
            (Errno::DQUOT, ErrorKind::NoSpace),
            (Errno::FBIG, ErrorKind::NoSpace),
            (Errno::ROFS, ErrorKind::ReadOnly),
            (Errno::ACCESS, ErrorKind::Denied),
            (Errno::PERM, ErrorKind::Denied),
            (Errno::STALE, ErrorKind::Unreachable),
            (Errno::NOTCONN, ErrorKind::Unreachable),
            (Errno::NODEV, ErrorKind::Unreachable),
            (Errno::MFILE, ErrorKind::Transient),
            (Errno::BUSY, ErrorKind::Transient),
            (Errno::IO, ErrorKind::Failed),
            (Errno::LOOP, ErrorKind::Failed),
        ];
        for (errno, kind) in cases {
            let error = Error::io("reading x in /y", errno.into());
            assert_eq!(error.kind, kind, "{errno:?}");
            assert!(error.to_string().starts_with("reading x in /y: "), "{error}");
        }
    }
}
