//! What a refusal of a node means to whoever asked, and the other way round.

use super::super::ErrorKind;
use crate::peer::storage::RefusalKind;

impl From<RefusalKind> for ErrorKind {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::NotFound => Self::NotFound,
            RefusalKind::AlreadyExists => Self::AlreadyExists,
            RefusalKind::OutOfRange => Self::OutOfRange,
            RefusalKind::NoSpace => Self::NoSpace,
            RefusalKind::ReadOnly => Self::ReadOnly,
            RefusalKind::Denied => Self::Denied,
            RefusalKind::Unreachable => Self::Unreachable,
            RefusalKind::Transient => Self::Transient,
            RefusalKind::Failed => Self::Failed,
        }
    }
}

impl From<ErrorKind> for RefusalKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::AlreadyExists => Self::AlreadyExists,
            ErrorKind::OutOfRange => Self::OutOfRange,
            ErrorKind::NoSpace => Self::NoSpace,
            ErrorKind::ReadOnly => Self::ReadOnly,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Unreachable => Self::Unreachable,
            ErrorKind::Transient => Self::Transient,
            // The settings of a node are nothing that a peer can change.
            ErrorKind::Failed | ErrorKind::Settings => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_means_the_same_on_both_sides() {
        for kind in RefusalKind::ALL {
            assert_eq!(RefusalKind::from(ErrorKind::from(kind)), kind);
        }
        assert_eq!(RefusalKind::from(ErrorKind::Settings), RefusalKind::Failed);
    }
}
