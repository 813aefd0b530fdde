//! A failure as people and scripts read it: what went wrong, why, and what to type.

use super::exit::ExitCode;
use super::output::output_failure;
use super::printable::Printable;
use serde::Serialize;
use std::error::Error;
use std::fmt;
use std::io;

/// The schema of a failure under `--json`.
pub(crate) const ERROR_SCHEMA: &str = "shard.error/1";

/// What sort of failure it is; scripts tell them apart by these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FailureKind {
    /// Anything not named below.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// There is no store here.
    NoStore,
    /// A live process holds what is needed.
    Busy,
    /// The key or passphrase is wrong.
    WrongKey,
    /// No such file, object, backend or key.
    NotFound,
    /// Settings or options make no sense.
    Invalid,
    /// Something would be overwritten or lost, and is kept.
    Refused,
    /// Too few shards could be made durable.
    BelowQuorum,
    /// Some stripe cannot come back.
    Lost,
    /// Some stripe, or a backend, cannot be read now.
    Unavailable,
    /// No space left, or a quota is reached.
    Space,
    /// A backend failed.
    Backend,
    /// A file or folder of this machine could not be read or written.
    Local,
    /// The store's own files are damaged.
    Damaged,
    /// This machine does not compute the same twice.
    Memory,
    /// A source changed while it was read.
    Changed,
    /// A person or a signal stopped it.
    Cancelled,
    /// The output could not be written.
    Output,
    /// Whoever read the output has seen enough: no failure at all.
    ClosedPipe,
}

impl FailureKind {
    /// How the process ends.
    pub(crate) fn exit(self) -> ExitCode {
        match self {
            Self::ClosedPipe => ExitCode::Done,
            Self::Usage => ExitCode::Usage,
            Self::NoStore => ExitCode::NoStore,
            Self::Busy => ExitCode::Busy,
            Self::WrongKey => ExitCode::WrongKey,
            Self::NotFound => ExitCode::NotFound,
            Self::Lost => ExitCode::Lost,
            Self::Unavailable => ExitCode::Unavailable,
            Self::Failed
            | Self::Invalid
            | Self::Refused
            | Self::BelowQuorum
            | Self::Space
            | Self::Backend
            | Self::Local
            | Self::Damaged
            | Self::Memory
            | Self::Changed
            | Self::Cancelled
            | Self::Output => ExitCode::Failed,
        }
    }
}

impl From<shard::ErrorKind> for FailureKind {
    fn from(kind: shard::ErrorKind) -> Self {
        match kind {
            shard::ErrorKind::NoStore => Self::NoStore,
            shard::ErrorKind::Busy => Self::Busy,
            shard::ErrorKind::WrongKey => Self::WrongKey,
            shard::ErrorKind::NotFound => Self::NotFound,
            shard::ErrorKind::Invalid => Self::Invalid,
            shard::ErrorKind::Refused => Self::Refused,
            shard::ErrorKind::BelowQuorum => Self::BelowQuorum,
            shard::ErrorKind::Lost => Self::Lost,
            shard::ErrorKind::Unavailable => Self::Unavailable,
            shard::ErrorKind::Space => Self::Space,
            shard::ErrorKind::Backend => Self::Backend,
            shard::ErrorKind::Local => Self::Local,
            shard::ErrorKind::Damaged => Self::Damaged,
            shard::ErrorKind::Memory => Self::Memory,
            shard::ErrorKind::Changed => Self::Changed,
            shard::ErrorKind::Cancelled => Self::Cancelled,
        }
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    /// What sort of failure.
    pub(crate) kind: FailureKind,
    /// What went wrong.
    pub(crate) message: String,
    /// Why, from the nearest cause to the farthest.
    pub(crate) causes: Vec<String>,
    /// What to do about it, with a command to type where there is one.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// Without causes or hint.
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// From an error: its text is the message, what lies underneath are the causes.
    pub(crate) fn of(kind: FailureKind, error: &(dyn Error + 'static)) -> Self {
        Self::new(kind, error.to_string()).with_causes_of(error)
    }

    /// With what an error has underneath, leaving out what an outer text says already.
    pub(crate) fn with_causes_of(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            let said = self.causes.last().unwrap_or(&self.message).contains(&text);
            if !said {
                self.causes.push(text);
            }
            source = cause.source();
        }
        self
    }

    /// With a cause.
    pub(crate) fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// With what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Writes it: three lines at most for people.
    pub(crate) fn write_lines(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let red = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
        writeln!(out, "{red}error:{red:#} {}", Printable(self.message.trim_end()))?;
        if !self.causes.is_empty() {
            writeln!(out, "caused by: {}", Printable(&self.causes.join(": ")))?;
        }
        if let Some(hint) = &self.hint {
            writeln!(out, "hint: {}", Printable(hint))?;
        }
        Ok(())
    }

    /// Writes it: one line of JSON for scripts.
    pub(crate) fn write_json(&self, out: &mut dyn io::Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Document<'a> {
            schema: &'static str,
            #[serde(flatten)]
            failure: &'a Failure,
        }
        serde_json::to_writer(&mut *out, &Document { schema: ERROR_SCHEMA, failure: self })?;
        writeln!(out)
    }
}

impl From<shard::Error> for Failure {
    /// What the library says, with its hint and what lies underneath; standard output that failed is told apart.
    fn from(error: shard::Error) -> Self {
        if let Some(failure) = output_failure(&error) {
            return failure;
        }
        let mut failure = Self::of(error.kind.into(), &error);
        failure.hint = error.hint;
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(failure: &Failure) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        failure.write_lines(&mut out).expect("memory takes all");
        String::from_utf8(out.into_inner()).expect("UTF-8")
    }

    #[test]
    fn a_failure_is_three_lines_at_most_whatever_is_in_it() {
        let failure = Failure::new(FailureKind::NotFound, "there is no file \"a\nb\"")
            .because("first\nline")
            .because("second")
            .hint("shard list");
        assert_eq!(
            lines(&failure),
            "error: there is no file \"a\\u{a}b\"\ncaused by: first\\u{a}line: second\nhint: shard list\n"
        );
        assert_eq!(lines(&Failure::new(FailureKind::Failed, "no")), "error: no\n");
    }

    #[test]
    fn a_failure_in_json_is_one_line_with_every_key() {
        let failure = Failure::new(FailureKind::NoStore, "no store in \"/x\ny\"").hint("shard init");
        let mut out = Vec::new();
        failure.write_json(&mut out).expect("memory takes all");
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            value,
            serde_json::json!({"schema": "shard.error/1", "kind": "no-store", "message": "no store in \"/x\ny\"",
                "causes": [], "hint": "shard init"})
        );
    }

    #[test]
    fn a_failure_of_the_library_keeps_its_kind_its_causes_and_its_hint() {
        let error = shard::Error::new(shard::ErrorKind::Busy, "the store is busy")
            .with_source(io::Error::other("held by another"))
            .with_hint("try again later");
        let failure = Failure::from(error);
        assert_eq!((failure.kind, failure.kind.exit()), (FailureKind::Busy, ExitCode::Busy));
        assert_eq!(lines(&failure), "error: the store is busy\ncaused by: held by another\nhint: try again later\n");
    }

    #[test]
    fn every_kind_is_called_what_the_library_calls_it() {
        for kind in [shard::ErrorKind::NoStore, shard::ErrorKind::BelowQuorum, shard::ErrorKind::Changed] {
            let name = serde_json::to_value(FailureKind::from(kind)).expect("JSON");
            assert_eq!(name, kind.name());
        }
    }

    #[test]
    fn causes_that_repeat_what_was_said_are_left_out() {
        #[derive(Debug, thiserror::Error)]
        #[error("reading /x: {0}")]
        struct Outer(#[source] io::Error);
        let failure = Failure::of(FailureKind::Failed, &Outer(io::Error::other("disk gone")));
        assert_eq!(failure.message, "reading /x: disk gone");
        assert!(failure.causes.is_empty());
    }
}
