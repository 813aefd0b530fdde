//! `shard man`: the manual, from the same words as the help.

use super::args::{Cli, Man};
use super::failure::{Failure, FailureKind};
use super::output::{Output, Reader};
use clap::{Command, CommandFactory};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Prints the main page, or writes a page for every command.
pub(crate) fn run(options: &Man, output: &mut Output) -> Result<(), Failure> {
    let command = manual();
    let Some(folder) = &options.out else {
        return output.bytes(&page(&command)?);
    };
    std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    let mut written = Vec::new();
    write_pages(&command, folder, &mut written)?;
    report(&written, output)
}

/// The command with all below it named as they are typed: `shard-backend-add`.
fn manual() -> Command {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

fn write_pages(command: &Command, folder: &Path, written: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = folder.join(format!("{name}.1"));
    std::fs::write(&path, page(command)?).map_err(|error| cannot_write(&path, &error))?;
    written.push(path);
    command.get_subcommands().try_for_each(|below| write_pages(below, folder, written))
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command.clone()).render(&mut page);
    rendered.map_err(|error| Failure::new(FailureKind::Output, "cannot make the manual page").because(error))?;
    Ok(page)
}

fn report(written: &[PathBuf], output: &mut Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Pages<'a> {
        pages: &'a [PathBuf],
    }
    match output.reader() {
        Reader::Script => output.document("shard.man/1", &Pages { pages: written }),
        Reader::Person => written.iter().try_for_each(|path| output.text(&format!("{}\n", path.display()))),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Output, format!("cannot write {}", path.display())).because(error)
}
