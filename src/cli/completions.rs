//! `shard completions`.

use super::args::{Cli, Completions};
use super::failure::Failure;
use super::output::Output;
use clap::CommandFactory;

/// Prints the completions of a shell.
pub(crate) fn run(options: &Completions, output: &mut Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    output.bytes(&script)
}
