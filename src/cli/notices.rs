//! Standard error: warnings, notes and the failure, as lines for people or as JSON for scripts.

use super::failure::Failure;
use super::output::{Output, Reader};
use super::printable::Printable;
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::io::{self, Write};

/// The schema of a warning under `--json`.
const WARNING_SCHEMA: &str = "shard.warning/1";
/// The schema of a note under `--json`.
const NOTE_SCHEMA: &str = "shard.note/1";

/// How much is said beside the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Talk {
    /// Warnings and failures only.
    Quiet,
    /// Notes and progress too.
    Normal,
}

/// Says things on standard error. What cannot be written there is lost: there is nowhere left to say it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notices {
    reader: Reader,
    talk: Talk,
}

impl Notices {
    /// For this reader.
    pub(crate) fn new(reader: Reader, talk: Talk) -> Self {
        Self { reader, talk }
    }

    /// Whether a moving picture of progress has its place here.
    pub(crate) fn shows_progress(self) -> bool {
        self.reader == Reader::Person && self.talk == Talk::Normal
    }

    /// Whether a person wants to hear only of what is wrong or was done, as cron does.
    pub(crate) fn is_quiet(self) -> bool {
        self.reader == Reader::Person && self.talk == Talk::Quiet
    }

    /// Whether [`Notices::note`] says anything.
    pub(crate) fn tells_notes(self) -> bool {
        self.talk == Talk::Normal
    }

    /// Something is not as it should be, but the command goes on.
    pub(crate) fn warning(self, message: &str) {
        self.say(WARNING_SCHEMA, AnsiColor::Yellow, message);
    }

    /// Something worth knowing.
    pub(crate) fn note(self, message: &str) {
        if self.talk == Talk::Normal {
            self.say(NOTE_SCHEMA, AnsiColor::Cyan, message);
        }
    }

    /// The command's document, where the results' own place is taken by a file's bytes.
    pub(crate) fn document<T: Serialize>(self, schema: &'static str, body: &T) -> Result<(), Failure> {
        Output::to(self.reader, Box::new(io::stderr())).document(schema, body)
    }

    /// Why the command did not do what it was asked to; a pipe that was closed is no failure and needs no word.
    pub(crate) fn failure(self, failure: &Failure) {
        if failure.kind == super::failure::FailureKind::ClosedPipe {
            return;
        }
        let written = match self.reader {
            Reader::Person => failure.write_lines(&mut anstream::stderr().lock()),
            Reader::Script => failure.write_json(&mut io::stderr().lock()),
        };
        drop(written);
    }

    fn say(self, schema: &'static str, color: AnsiColor, message: &str) {
        let written = match self.reader {
            Reader::Person => {
                let style = Style::new().bold().fg_color(Some(color.into()));
                let word = schema.trim_start_matches("shard.").trim_end_matches("/1");
                writeln!(anstream::stderr().lock(), "{style}{word}:{style:#} {}", Printable(message))
            }
            Reader::Script => {
                writeln!(io::stderr().lock(), "{}", serde_json::json!({"schema": schema, "message": message}))
            }
        };
        drop(written);
    }
}
