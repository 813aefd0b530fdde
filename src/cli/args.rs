//! What people type: one typed value a command, its help being the documentation here.

mod backend;
mod files;
mod health;
mod key;
mod node;
mod upkeep;
mod values;
mod vault;

pub(crate) use backend::{AddBackend, BackendCommand, CheckBackends, DrainBackend, Init, RemoveBackend, ScrubBackends};
pub(crate) use files::{List, Prune, Put, PutCheck, Recover, RecoverTo, Remove, Show};
pub(crate) use health::{CheckProof, CreateProof, Depth, ProofCommand, Repair, Status, Verify};
pub(crate) use key::{ExportKey, ImportKey, KeyCommand, KeyPassphrase, NewRecipient, RecipientCommand};
pub(crate) use node::{
    AddSeed, ForgetNode, InitNode, ListAnswers, ListMessages, ListSessions, NewSeed, Node, NodeCommand, NodeLimits,
    PingNode, SeedCommand, SendNotice, ServeNode,
};
pub(crate) use upkeep::{BackupCatalog, Bench, CatalogCommand, Completions, Gc, Man, RebuildCatalog, RestoreCatalog};
pub(crate) use values::{Budget, SealName};
pub(crate) use vault::{ImportVault, ListKeys, SetEntry, VaultAndKey, VaultCommand};

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsStr;
use std::path::PathBuf;

const ABOUT: &str = "Keep data alive on storage nobody should trust alone";
const ABOUT_LONG: &str = "\
Keeps data alive on storage nobody should trust alone.

A file is cut into n shards of which any k give it back; the shards go to folders, buckets and servers that fail \
independently. Every block is checked before it is used, and what is damaged is rebuilt from the rest.";

const EXAMPLES: &str = "\
Examples:
  shard put thesis.pdf --level personal     store a file so that any two of five places may be lost
  shard verify                              read every block of every shard
  shard repair                              rebuild what is missing or damaged
  shard recover thesis.pdf -o back.pdf      get it back, bit for bit

Exit codes:
  0 healthy · 1 failed · 2 wrong usage · 3 degraded, nothing lost · 4 lost · 5 unavailable now
  10 no store · 11 busy · 12 wrong key or passphrase · 13 no such file, object, backend or key

Environment:
  SHARD_STORE names the store, SHARD_PASSPHRASE_FILE a file with the passphrase of its key,
  SHARD_SEED_FILE one with the seed of the group whose nodes keep shards.
  SHARD_CODEC chooses the instructions that blocks are coded with; the fastest are taken without it:
  gfni-avx512, avx512, gfni-avx2, avx2, ssse3, neon or portable, as far as the processor has them.";

/// A whole command line.
#[derive(Debug, Parser)]
#[command(name = "shard", version, about = ABOUT, long_about = ABOUT_LONG, after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalFlags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that stand before or after any command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct GlobalFlags {
    /// The store's folder [default: $SHARD_STORE, else $XDG_DATA_HOME/shard, else ~/.local/share/shard]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Print one JSON document on stdout; a failure is one line of JSON on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress and no notes; warnings and failures are still printed
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say more about what is done, on stderr; -vv and -vvv say more still
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The commands, in the order in which a newcomer meets them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(Init),
    #[command(subcommand)]
    Backend(BackendCommand),
    Put(Put),
    #[command(visible_alias = "get")]
    Recover(Recover),
    Verify(Verify),
    Repair(Repair),
    #[command(visible_alias = "ls")]
    List(List),
    Show(Show),
    #[command(visible_alias = "rm")]
    Remove(Remove),
    Prune(Prune),
    Gc(Gc),
    Status(Status),
    #[command(subcommand)]
    Proof(ProofCommand),
    #[command(subcommand)]
    Key(KeyCommand),
    #[command(subcommand)]
    Catalog(CatalogCommand),
    #[command(subcommand)]
    Vault(VaultCommand),
    Node(Node),
    Bench(Bench),
    Completions(Completions),
    Man(Man),
}

impl Command {
    /// Whether it goes on until it is stopped.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self, Self::Node(Node { command: NodeCommand::Serve(_), .. }))
    }
}

impl Cli {
    /// Refuses what the rules of single flags let through: one name or version for several files.
    pub(crate) fn checked(self) -> Result<Self, clap::Error> {
        let wrong = match &self.command {
            Command::Put(put) => put.contradiction(),
            Command::Recover(recover) => recover.contradiction(),
            Command::Remove(remove) => remove.contradiction(),
            _ => None,
        };
        match wrong {
            Some(why) => Err(Self::command().error(ErrorKind::ArgumentConflict, why)),
            None => Ok(self),
        }
    }
}

/// Whether JSON was asked for, by looking at the words alone: for when they make no command.
pub(crate) fn wants_json<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> bool {
    words.into_iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for line in ["shard --json -q --store /s verify", "shard verify --store /s -q --json"] {
            let cli = parse(line).expect("a command");
            assert!(cli.global.json && cli.global.quiet, "{line}");
            assert_eq!(cli.global.store, Some(PathBuf::from("/s")));
        }
    }

    #[test]
    fn aliases_are_the_commands_they_stand_for() {
        assert!(matches!(parse("shard get a").expect("recover").command, Command::Recover(_)));
        assert!(matches!(parse("shard ls").expect("list").command, Command::List(_)));
        assert!(matches!(parse("shard rm a").expect("remove").command, Command::Remove(_)));
    }

    #[test]
    fn json_is_noticed_in_words_that_make_no_command() {
        let wants = |line: &str| wants_json(line.split(' ').map(OsStr::new));
        assert!(wants("shard --json nonsense"));
        assert!(!wants("shard put -- --json"));
    }

    #[test]
    fn every_command_and_flag_has_help() {
        fn visit(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{} of {} has no help", argument.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
