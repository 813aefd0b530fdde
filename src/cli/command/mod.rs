//! The commands: flags become an operation's options, its report becomes a page or a document, and an exit code.
//!
//! *What it is.* One file for each group of commands; [`run`] chooses among them.
//!
//! *What it knows.* Which operation a command stands for, and how its report reads.
//!
//! *What it does not know.* How an operation works. Nothing here touches a shard.
//!
//! *Invariants.* One document under `--json`, whatever the outcome that is no failure. The exit code follows from the
//! report alone.

mod backends;
mod bench;
mod catalog;
mod catalog_backup;
mod files;
mod init;
mod key;
mod node;
mod proof;
mod put;
mod recover;
mod remove;
mod repair;
mod scrub;
mod show;
mod status;
mod upkeep;
mod vault;
mod verify;

use super::args::{BackendCommand, CatalogCommand, Command, KeyCommand, ProofCommand, RecipientCommand};
use super::context::Context;
use super::exit::ExitCode;
use super::failure::Failure;
use shard::catalog::ObjectState;

/// Runs a command that does something.
pub(crate) async fn run(command: Command, context: &mut Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Init(options) => init::run(&options, context).await,
        Command::Backend(BackendCommand::Add(options)) => backends::add(options, context).await,
        Command::Backend(BackendCommand::List) => backends::list(context).await,
        Command::Backend(BackendCommand::Check(options)) => backends::check(options, context).await,
        Command::Backend(BackendCommand::Scrub(options)) => scrub::run(options, context).await,
        Command::Backend(BackendCommand::Drain(options)) => repair::drain(options, context).await,
        Command::Backend(BackendCommand::Remove(options)) => backends::remove(options, context).await,
        Command::Put(options) => put::run(options, context).await,
        Command::Recover(options) => recover::run(options, context).await,
        Command::Verify(options) => verify::run(options, context).await,
        Command::Repair(options) => repair::run(options, context).await,
        Command::List(options) => files::list(options, context).await,
        Command::Show(options) => show::run(options, context).await,
        Command::Remove(options) => remove::run(options, context).await,
        Command::Prune(options) => remove::prune(options, context).await,
        Command::Gc(options) => upkeep::gc(options, context).await,
        Command::Status(options) => status::run(options, context).await,
        Command::Proof(ProofCommand::Create(options)) => proof::create(options, context).await,
        Command::Proof(ProofCommand::Check(options)) => proof::check(options, context).await,
        Command::Key(KeyCommand::Export(options)) => key::export(&options, context),
        Command::Key(KeyCommand::Import(options)) => key::import(&options, context),
        Command::Key(KeyCommand::Passphrase(options)) => key::passphrase(&options, context),
        Command::Key(KeyCommand::Rotate) => key::rotate(context),
        Command::Key(KeyCommand::Recipient(RecipientCommand::New(options))) => key::recipient(&options, context),
        Command::Catalog(CatalogCommand::Rebuild(options)) => catalog::rebuild(options, context).await,
        Command::Catalog(CatalogCommand::Refresh) => catalog::refresh(context).await,
        Command::Catalog(CatalogCommand::Backup(options)) => catalog_backup::backup(options, context).await,
        Command::Catalog(CatalogCommand::Restore(options)) => catalog::restore(options, context).await,
        Command::Catalog(CatalogCommand::Stats) => catalog::stats(context).await,
        Command::Vault(command) => vault::run(command, context),
        Command::Node(options) => node::run(options, context).await,
        Command::Bench(options) => bench::bench(options, context).await,
        // These print what is known before anything runs, and came to their end before.
        Command::Completions(_) | Command::Man(_) => Ok(ExitCode::Done),
    }
}

/// The exit code of what was found of objects.
fn exit_of(state: ObjectState) -> ExitCode {
    match state {
        ObjectState::Healthy => ExitCode::Done,
        ObjectState::Degraded => ExitCode::Degraded,
        ObjectState::Unavailable => ExitCode::Unavailable,
        ObjectState::Lost => ExitCode::Lost,
    }
}
