//! `verify`, `repair`, `status` and `proof`: what is well, and making it well again.

use super::values::{Budget, Percent, parse_name};
use crate::cli::quantity::Span;
use clap::{Args, Subcommand};
use shard::format::FileName;
use shard::id::Digest;
use std::path::PathBuf;

/// Check shards, without changing anything
///
/// With --max-age or --budget it takes the shards that were longest not verified first and stops when the budget is
/// used: made for cron.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard verify                                every block of every shard
  shard verify thesis.pdf --quick             only what can be seen without reading blocks
  shard verify --sample 5                     one block in twenty, with the confidence that gives
  shard verify --max-age 7d --budget 200GB    what is due, and not for ever")]
pub(crate) struct Verify {
    /// Which files, or folders of files [default: all]
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub(crate) names: Vec<FileName>,
    /// Look at presence, length, trailer and signature only
    #[arg(long, conflicts_with_all = ["sample", "full"])]
    quick: bool,
    /// Read this share of the blocks with their proofs, such as 5 or 0.5
    #[arg(long, value_name = "PERCENT", conflicts_with = "full")]
    sample: Option<Percent>,
    /// Read every block of every shard, parity too; this is the default
    #[arg(long)]
    full: bool,
    /// Only what was not verified for this long, such as 12h, 7d or 4w
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_age: Option<Span>,
    /// Stop after reading this much, such as 200GB, or after this long, such as 2h
    #[arg(long, value_name = "SIZE|DURATION")]
    pub(crate) budget: Option<Budget>,
    /// Write the result for Prometheus to this file, atomically
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics: Option<PathBuf>,
}

/// How deep `verify` looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Depth {
    /// Presence, length, trailer, signature.
    Quick,
    /// A share of the blocks.
    Sample(Percent),
    /// Every block.
    Full,
}

impl Verify {
    /// How deep to look.
    pub(crate) fn depth(&self) -> Depth {
        match self.sample {
            Some(share) => Depth::Sample(share),
            None if self.quick => Depth::Quick,
            None => Depth::Full,
        }
    }
}

/// Rebuild what is missing, damaged or in the wrong place
///
/// The most endangered object comes first. Each rebuilt shard is proved against the signed root before it is written.
/// A backend that cannot be reached is not a lost one, unless --assume-lost says so. Run again after an interruption,
/// it goes on where it was.
#[derive(Debug, Clone, Args)]
pub(crate) struct Repair {
    /// Which files, or folders of files [default: all]
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub(crate) names: Vec<FileName>,
    /// Say what would be read and written, per backend, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Rebuild this backend's shards elsewhere: it will not come back; give it once for each backend
    #[arg(long, value_name = "BACKEND")]
    pub(crate) assume_lost: Vec<String>,
}

/// Say on one page how things stand
///
/// Reads the catalog only. Exits 3 when the last verification is older than the level wants: 7 days at 2/3 and 3/5, 30 at
/// 5/9, 90 at 7/15.
#[derive(Debug, Clone, Args)]
pub(crate) struct Status {
    /// Ask the backends too
    #[arg(long)]
    pub(crate) check: bool,
}

/// Prove that a block belongs to an object, and check such proofs
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ProofCommand {
    Create(CreateProof),
    Check(CheckProof),
}

/// Make a proof, as JSON that needs nothing else
///
/// For a file that spans several objects, the proof is of the first.
#[derive(Debug, Clone, Args)]
pub(crate) struct CreateProof {
    /// The file's name
    pub(crate) name: FileName,
    /// Which shard, from 0
    #[arg(long, value_name = "I")]
    pub(crate) shard: u8,
    /// Which block of the shard, from 0; without it the proof is of the whole shard
    #[arg(long, value_name = "J")]
    pub(crate) block: Option<u64>,
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Check a proof; needs no store
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckProof {
    /// The proof
    pub(crate) file: PathBuf,
    /// The object root it must lead to, 64 hexadecimal digits [default: the one in the proof]
    #[arg(long, value_name = "HEX")]
    pub(crate) root: Option<Digest>,
    /// A shard file whose bytes are checked against the proof
    #[arg(long, value_name = "PATH")]
    pub(crate) shard_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser;

    fn depth(flags: &str) -> Option<Depth> {
        let line = format!("shard verify {flags}");
        match Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command) {
            Ok(Command::Verify(verify)) => Some(verify.depth()),
            _ => None,
        }
    }

    #[test]
    fn verify_looks_at_everything_unless_told_otherwise() {
        assert_eq!(depth(""), Some(Depth::Full));
        assert_eq!(depth("--full"), Some(Depth::Full));
        assert_eq!(depth("--quick"), Some(Depth::Quick));
        assert_eq!(depth("--sample 5%"), "5".parse().ok().map(Depth::Sample));
        for wrong in ["--quick --full", "--quick --sample 5", "--sample 5 --full", "--sample 0", "--sample 101"] {
            assert_eq!(depth(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_root_is_sixty_four_digits() {
        let check = |root: &str| Cli::try_parse_from(["shard", "proof", "check", "p.json", "--root", root]).is_ok();
        assert!(check(&"0a".repeat(32)));
        assert!(!check("0a"));
    }
}
