//! `key`: the store's keys, and what they are kept under.

use crate::cli::quantity::Span;
use clap::{Args, Subcommand};
use std::ffi::OsStr;
use std::path::PathBuf;

/// Save, bring back, protect and renew the store's key
///
/// Without the key nothing that is sealed can be read, whatever is left of the shards.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KeyCommand {
    Export(ExportKey),
    Import(ImportKey),
    Passphrase(KeyPassphrase),
    /// Make a new key for what is put from now on
    ///
    /// What was put before stays readable: the store keeps all its keys. A new key does not lock out whoever has an old
    /// one. Export again afterwards.
    Rotate,
    /// Public keys that others can seal to, and only this store's key opens
    #[command(subcommand)]
    Recipient(RecipientCommand),
}

/// Public keys that others can seal to, and only this store's key opens
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RecipientCommand {
    New(NewRecipient),
}

/// Write the public half of the key in use
///
/// `put --recipient FILE` seals to it: hybrid, X25519 and ML-KEM-768. It opens nothing, and is no secret.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard key recipient new -o me.recipient
  shard put dump.sql --recipient me.recipient")]
pub(crate) struct NewRecipient {
    /// Where to write it; an existing file is kept [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Write a recovery kit: a page to print, with the keys and the places
///
/// The keys are on it in plain, also where the store's own are under a passphrase.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard key export -o /media/stick/kit.txt
  shard key export | lp
  shard key export --verify-only --expires 90d -o checker.key
  shard key export --write-only -o server.key")]
pub(crate) struct ExportKey {
    /// Where to write it, readable by you alone; an existing file is kept [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write a key for a machine that is to verify and repair, and can read nothing
    #[arg(long, conflicts_with = "write_only")]
    pub(crate) verify_only: bool,
    /// Let the verify-only key delete shards at nodes too, and replace whole ones; without it, it reads, and writes what is
    /// missing or damaged
    #[arg(long, requires = "verify_only", conflicts_with = "write_only")]
    pub(crate) allow_delete: bool,
    /// How long nodes honour the verify-only key
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "365d",
        requires = "verify_only",
        conflicts_with = "write_only"
    )]
    pub(crate) expires: Span,
    /// Write a key for a machine that is to store files besides, and can read and remove none
    #[arg(long)]
    pub(crate) write_only: bool,
}

/// Bring keys back from a recovery kit or a key file
///
/// Where there is no store, one is made with the places that the kit names; `shard catalog rebuild` then finds what is on
/// them. Typing errors are found and named by their line. A verify-only or write-only key makes a store that can do what
/// the key says.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard key import kit.txt && shard catalog rebuild
  shard key import - < kit.txt")]
pub(crate) struct ImportKey {
    /// The kit or key file; `-` is standard input
    pub(crate) file: PathBuf,
}

impl ImportKey {
    /// Whether standard input is meant.
    pub(crate) fn is_stdin(&self) -> bool {
        self.file.as_os_str() == OsStr::new("-")
    }
}

/// Put the key under a passphrase, change it, or take it away
///
/// The passphrase is asked for at the terminal. Without one, SHARD_PASSPHRASE_FILE names a file with it that you alone can
/// read, or SHARD_PASSPHRASE is it; the new one is in SHARD_NEW_PASSPHRASE_FILE or SHARD_NEW_PASSPHRASE. Kits that were
/// printed stay good.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyPassphrase {
    /// Take the passphrase away
    #[arg(long)]
    pub(crate) remove: bool,
}
