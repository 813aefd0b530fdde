//! `gc`, `catalog`, `bench`, `completions` and `man`: what is done now and then.

use crate::cli::quantity::Span;
use clap::{Args, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Free space: pack thin objects anew, delete what is removed, clear leftovers
#[derive(Debug, Clone, Args)]
pub(crate) struct Gc {
    /// Say what would be freed, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Look after the catalog, which says what is where
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CatalogCommand {
    Rebuild(RebuildCatalog),
    /// Bring in what other machines did on the same backends
    Refresh,
    Backup(BackupCatalog),
    Restore(RestoreCatalog),
    /// Count what is in the catalog: files, versions, objects, shards
    Stats,
}

/// Make the catalog anew from the backends alone
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard catalog rebuild
  shard catalog rebuild --from /mnt/a --from /mnt/b --from s3://bucket/shards
  shard catalog rebuild --from /mnt/a --from /mnt/b --key kit.txt")]
pub(crate) struct RebuildCatalog {
    /// Read this place beside the store's backends; give it once for each place
    ///
    /// It has to be a place of this store, with its mark: what the catalog records must be there later. From shards under
    /// other names `recover --all --from` brings the files back.
    #[arg(long, value_name = "URL")]
    pub(crate) from: Vec<String>,
    /// Bring this key first: a key file or a recovery kit
    ///
    /// Where there is no store yet, one is made of it. The places named with --from become backends of the store, as with
    /// `backend add`, named after their addresses, and only read where they cannot be written to.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Read every object, also those that a backup of the catalog tells of
    #[arg(long)]
    pub(crate) without_backup: bool,
}

/// Back up the catalog: to the backends, as objects of the store, or to a file
///
/// A rebuild begins with the newest backup and reads only objects that it does not have. The store makes one by itself, after
/// a command, when the last is an hour old and enough is new; `catalog_backup = false` in config.toml ends that. What is new is
/// added to the backup before; the last eight are kept.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard catalog backup
  shard catalog backup -o /mnt/usb/catalog.backup")]
pub(crate) struct BackupCatalog {
    /// Write it to this file instead; sealed, it opens with this store's key alone
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// Write everything, also what an earlier backup has
    #[arg(long, conflicts_with = "output")]
    pub(crate) full: bool,
}

/// Make the catalog anew from its newest backup, and from the backends what that does not have
///
/// All or nothing: until the new catalog is whole and durable the old one stays. What a backup says counts only for objects
/// that are on the backends: files that were removed since do not come back, however old it is. A catalog that is damaged
/// is kept beside the new one.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard catalog restore
  shard catalog restore --from-file /mnt/usb/catalog.backup")]
pub(crate) struct RestoreCatalog {
    /// Take the backup in this file, as `catalog backup -o` wrote it
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Option<PathBuf>,
}

/// Measure what this machine does: encoding, reconstruction, hashing, sealing, and whole files
///
/// Takes some ten seconds; from memory to memory, at each of the four levels and with each engine of the erasure code that
/// the processor can run. Disks and networks come on top. The store is left alone.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard bench
  shard bench --time 1s --json")]
pub(crate) struct Bench {
    /// Measure each figure for this long [default: 80ms]
    #[arg(long, value_name = "DURATION")]
    pub(crate) time: Option<Span>,
}

/// Print the completions of a shell
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard completions bash > ~/.local/share/bash-completion/completions/shard
  shard completions zsh > ~/.zfunc/_shard
  shard completions fish > ~/.config/fish/completions/shard.fish")]
pub(crate) struct Completions {
    /// Which shell
    pub(crate) shell: Shell,
}

/// Print the manual page, or write one page a command
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard man | man -l -
  shard man --out ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Write shard.1, shard-put.1, … to this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
