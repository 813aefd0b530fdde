//! The door for people and scripts.
//!
//! *What it is.* Arguments become typed values once; results become a page for a person or one JSON document for a
//! script; failures become three lines at most and an exit code.
//!
//! *What it knows.* The command line, the environment and the home folder, the terminal.
//!
//! *What it does not know.* How anything is done: that is the library's business, and flags are never seen there.
//!
//! # Invariants
//!
//! - Results go to standard output, everything else to standard error.
//! - With `--json` there is one document on standard output, and a failure is one line on standard error.
//! - A closed pipe is success; an output that cannot be written is a failure.
//! - Names are printed through [`printable::Printable`]: no name acts on the terminal.
//! - Only [`environment`] reads the environment.

mod args;
mod command;
mod completions;
mod context;
mod environment;
mod exit;
mod failure;
mod man;
mod metrics_file;
mod moment;
mod notices;
mod output;
mod passphrase;
mod printable;
mod progress;
mod quantity;
mod render;
mod run;
mod runtime;
mod said;
mod streams;
mod table;

pub(crate) use run::run_process;
