//! From words to an exit code: the road every command takes.

use super::args::{Cli, Command, wants_json};
use super::context::Context;
use super::environment::Environment;
use super::exit::ExitCode;
use super::failure::{Failure, FailureKind};
use super::notices::{Notices, Talk};
use super::output::{Output, Reader};
use super::{command, completions, man, runtime, said};
use clap::Parser;
use clap::error::ErrorKind;
use shard::codec::Engine;
use std::ffi::OsString;
use tracing::level_filters::LevelFilter;

/// Runs the command that the process was started with.
pub(crate) fn run_process() -> std::process::ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&words).and_then(Cli::checked) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, reader(wants_json(words.iter().map(OsString::as_os_str)))).into(),
    };
    log_to_stderr(cli.global.verbose, cli.command.is_service());
    let reader = reader(cli.global.json);
    let talk = if cli.global.quiet { Talk::Quiet } else { Talk::Normal };
    let notices = Notices::new(reader, talk);
    let output = Output::stdout(reader);
    let mut context = Context::new(Environment::capture(), cli.global, output, notices);
    let chosen = context.environment.choose_codec_engine();
    chosen
        .and_then(|()| {
            tracing::info!(engine = Engine::by_default().name(), "codec");
            run_command(cli.command, &mut context)
        })
        .unwrap_or_else(|failure| {
            notices.failure(&failure);
            failure.kind.exit()
        })
        .into()
}

fn run_command(command: Command, context: &mut Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Completions(options) => completions::run(&options, &mut context.output).map(|()| ExitCode::Done),
        Command::Man(options) => man::run(&options, &mut context.output).map(|()| ExitCode::Done),
        command => {
            let (notices, cancel, nodes) = (context.notices, context.cancel.clone(), context.nodes.clone());
            runtime::run(notices, &cancel, async {
                let outcome = command::run(command, context).await;
                // A node that is not told keeps the session for a while, and has only so many for one address.
                nodes.close().await;
                said::tell(context);
                outcome
            })
        }
    }
}

fn reader(json: bool) -> Reader {
    if json { Reader::Script } else { Reader::Person }
}

/// Says why the words make no command, or gives the help or version they asked for.
fn refuse(error: &clap::Error, reader: Reader) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || reader == Reader::Person {
        return match error.print() {
            Err(cause) if asked && cause.kind() != std::io::ErrorKind::BrokenPipe => {
                let failure = Failure::new(FailureKind::Output, "cannot write to standard output").because(cause);
                Notices::new(reader, Talk::Normal).failure(&failure);
                failure.kind.exit()
            }
            _ if asked => ExitCode::Done,
            _ => ExitCode::Usage,
        };
    }
    let failure = usage_failure(error);
    Notices::new(reader, Talk::Normal).failure(&failure);
    failure.kind.exit()
}

/// A usage error in the words of a failure: the first paragraph is the message, the tips are the causes.
fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or(&text);
    let mut paragraphs = said.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".to_owned(),
        _ => paragraphs.next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    let mut failure = Failure::new(FailureKind::Usage, message).hint("shard --help");
    if let Some(tip) = paragraphs.find(|paragraph| paragraph.starts_with("tip: ")) {
        failure.hint = Some(tip.trim_start_matches("tip: ").to_owned());
    }
    failure
}

/// What the library logs goes to standard error, when it was asked for; of a service, what is wrong goes there always, since
/// no report at its end tells it.
fn log_to_stderr(verbose: u8, is_service: bool) {
    let level = match verbose {
        0 if is_service => LevelFilter::WARN,
        0 => LevelFilter::OFF,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).with_target(false).init();
}
