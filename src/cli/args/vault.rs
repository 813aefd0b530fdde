//! `vault`: dictionaries of the store.

use crate::cli::quantity::Span;
use clap::{ArgGroup, Args, Subcommand};
use shard::vault::VaultName;
use std::path::PathBuf;

/// Keep small values under keys, sealed or not
///
/// Vaults are files in the store's folder vaults/. What is not sealed needs no key and no passphrase. A vault is sealed or
/// not from its first entry on.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum VaultCommand {
    /// List the vaults
    List,
    Set(SetEntry),
    /// Print the value under a key, and nothing else
    Get(VaultAndKey),
    /// Print the value under a key, and nothing else, and remove it
    Pop(VaultAndKey),
    /// Remove the value under a key
    Delete(VaultAndKey),
    Keys(ListKeys),
    /// List keys and values
    Items(OneVault),
    /// Remove all entries
    Clear(OneVault),
    /// Delete a vault with all that is in it
    Drop(OneVault),
    /// Print all entries, in the clear, as JSON lines
    Export(OneVault),
    Import(ImportVault),
}

/// Put a value under a key; makes the vault where there is none
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("given").required(true))]
#[command(after_help = "\
Examples:
  shard vault set settings colour blue
  shard vault set tokens github - --sealed < token
  shard vault set cache page --file page.html --ttl 12h")]
pub(crate) struct SetEntry {
    /// The vault
    pub(crate) vault: VaultName,
    /// The key
    pub(crate) key: String,
    /// The value; - reads it from standard input, which keeps a secret out of the list of processes
    #[arg(group = "given", allow_hyphen_values = true)]
    pub(crate) value: Option<String>,
    /// Read the value from a file
    #[arg(long, value_name = "FILE", group = "given")]
    pub(crate) file: Option<PathBuf>,
    /// Let it expire after this long, such as 12h or 30d
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<Span>,
    /// Seal the vault under the store's key, from its first entry on
    #[arg(long)]
    pub(crate) sealed: bool,
}

/// An entry
#[derive(Debug, Clone, Args)]
pub(crate) struct VaultAndKey {
    /// The vault
    pub(crate) vault: VaultName,
    /// The key
    pub(crate) key: String,
}

/// List the keys, or those that begin with something
#[derive(Debug, Clone, Args)]
pub(crate) struct ListKeys {
    /// The vault
    pub(crate) vault: VaultName,
    /// What the keys begin with
    pub(crate) prefix: Option<String>,
}

/// A vault
#[derive(Debug, Clone, Args)]
pub(crate) struct OneVault {
    /// The vault
    pub(crate) vault: VaultName,
}

/// Take in what `export` printed, all of it or nothing; makes the vault where there is none
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportVault {
    /// The vault
    pub(crate) vault: VaultName,
    /// The file; - is standard input
    pub(crate) file: PathBuf,
    /// Seal the vault under the store's key, from its first entry on
    #[arg(long)]
    pub(crate) sealed: bool,
}
