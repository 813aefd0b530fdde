//! `init` and `backend`: the store and the places that keep its shards.

use super::values::SealName;
use crate::cli::quantity::ByteSize;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Make a store: settings, key, catalog and five local backends
///
/// Every other command that writes makes such a store by itself when there is none. The five backends share one disk:
/// they show how it works and survive damage to single files, not the loss of the disk. Add others with `shard backend
/// add`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Init {
    /// Make no backends; add your own with `shard backend add`
    #[arg(long)]
    pub(crate) bare: bool,
    /// How what is put is sealed where the put does not say [default: key]
    #[arg(long)]
    pub(crate) seal: Option<SealName>,
    /// Put the key under a passphrase, which is asked for; every command that opens the store then needs it
    #[arg(long)]
    pub(crate) passphrase: bool,
}

/// Add, check, empty and remove the places that keep shards
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BackendCommand {
    Add(AddBackend),
    /// List the backends: zone, space, shards and state
    #[command(visible_alias = "ls")]
    List,
    Check(CheckBackends),
    Scrub(ScrubBackends),
    Drain(DrainBackend),
    #[command(visible_alias = "rm")]
    Remove(RemoveBackend),
}

/// Add a place that keeps shards
///
/// The place is tried first: write, read of a range, list, delete, replace. Then it is marked as this store's. A place
/// that this store marked before is taken back with all its shards; one that another store marked is refused.
///
/// Secrets are never part of the URL: give a profile, a credentials file, or the provider's environment variables.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard backend add nas /mnt/nas/shards --quota 500GB
  shard backend add home s3://my-bucket/shards --endpoint https://s3.example.org --profile home
  shard backend add azure az://container/shards --credentials-file ~/.config/shard/azure")]
pub(crate) struct AddBackend {
    /// What it is called, in this store
    pub(crate) name: String,
    /// /path, file:///path, memory:, s3://bucket/prefix, gs://…, az://…, or http(s)://… (WebDAV)
    pub(crate) url: String,
    /// What fails together with it: backends in one zone count as one [default: the disk of a path, the host of a URL]
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// The most it may hold, such as 500GB or 1.5TiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) quota: Option<ByteSize>,
    /// Read what is there and write nothing
    #[arg(long)]
    pub(crate) read_only: bool,
    /// The server of an S3-compatible, Azure or Google bucket
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// The region of the bucket
    #[arg(long, value_name = "R")]
    pub(crate) region: Option<String>,
    /// The profile in the provider's own credentials file
    #[arg(long, value_name = "P", conflicts_with = "credentials_file")]
    pub(crate) profile: Option<String>,
    /// A file with the credentials that its owner alone can read; the settings keep its path
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials_file: Option<PathBuf>,
}

/// Check that backends can be reached, are the right places and can be written
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckBackends {
    /// Which ones [default: all]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Write a lost mark again, once shards of this store were found there
    #[arg(long)]
    pub(crate) mark: bool,
}

/// Let nodes read all of this store's shards on their own disks, and say which are damaged
///
/// Nothing but the answer moves over the network. It is the node's word: one that lies is found by `shard verify`. Exits 3
/// where there is damage, or a node does not answer to the end.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScrubBackends {
    /// Which ones [default: all that can]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// Move every shard off a backend and give it no new ones
///
/// Run again after an interruption, it goes on where it was.
#[derive(Debug, Clone, Args)]
pub(crate) struct DrainBackend {
    /// Which one
    pub(crate) name: String,
}

/// Forget a backend that keeps no shards any more
#[derive(Debug, Clone, Args)]
pub(crate) struct RemoveBackend {
    /// Which one; by its id, one that the settings do not have any more
    pub(crate) name: String,
    /// Even with shards on it: they then count as lost until the place is added again
    #[arg(long)]
    pub(crate) force: bool,
}
