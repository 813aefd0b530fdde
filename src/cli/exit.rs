//! The exit codes: what a script learns without reading a word.

/// How a command ended. The numbers are a promise to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum ExitCode {
    /// Everything looked at is healthy.
    Done = 0,
    /// It failed; the message says why.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// All can be recovered, but some shard is missing, corrupt, misplaced or unreachable.
    Degraded = 3,
    /// Some stripe has fewer than k good blocks, and nothing unreachable could bring it back.
    Lost = 4,
    /// Some stripe has fewer than k good blocks now, but unreachable backends may hold the rest.
    Unavailable = 5,
    /// There is no store here.
    NoStore = 10,
    /// A live process still holds what is needed.
    Busy = 11,
    /// The key or passphrase is wrong.
    WrongKey = 12,
    /// No such file, object, backend or key.
    NotFound = 13,
}

impl ExitCode {
    /// All of them, from the best to the worst: what is lost outweighs what failed, and a failure outweighs a
    /// degradation, because a degraded command has done its work.
    const FROM_BEST_TO_WORST: [Self; 10] = [
        Self::Done,
        Self::Degraded,
        Self::NotFound,
        Self::WrongKey,
        Self::Busy,
        Self::NoStore,
        Self::Failed,
        Self::Usage,
        Self::Unavailable,
        Self::Lost,
    ];

    /// The worse of two.
    pub(crate) fn worst(self, other: Self) -> Self {
        if self.badness() >= other.badness() { self } else { other }
    }

    /// The number.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    fn badness(self) -> usize {
        Self::FROM_BEST_TO_WORST.iter().position(|code| *code == self).unwrap_or(Self::FROM_BEST_TO_WORST.len())
    }
}

impl FromIterator<Self> for ExitCode {
    /// The worst of several; of none, [`ExitCode::Done`].
    fn from_iter<I: IntoIterator<Item = Self>>(codes: I) -> Self {
        codes.into_iter().fold(Self::Done, Self::worst)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_contract() {
        let mut codes = ExitCode::FROM_BEST_TO_WORST.map(ExitCode::code);
        codes.sort_unstable();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 10, 11, 12, 13]);
    }

    #[test]
    fn the_worst_applies_whatever_the_order() {
        use ExitCode::{Degraded, Done, Failed, Lost, NotFound, Unavailable};
        assert_eq!([Done, Degraded, Unavailable, Lost].into_iter().collect::<ExitCode>(), Lost);
        assert_eq!([Lost, Unavailable, Degraded, Done].into_iter().collect::<ExitCode>(), Lost);
        assert_eq!([Degraded, Unavailable].into_iter().collect::<ExitCode>(), Unavailable);
        assert_eq!([Failed, Degraded, Done].into_iter().collect::<ExitCode>(), Failed);
        assert_eq!(NotFound.worst(Lost), Lost);
        assert_eq!(std::iter::empty().collect::<ExitCode>(), Done);
        for one in ExitCode::FROM_BEST_TO_WORST {
            for other in ExitCode::FROM_BEST_TO_WORST {
                assert_eq!(one.worst(other), other.worst(one));
            }
        }
    }
}
