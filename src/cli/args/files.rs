//! `put`, `recover`, `list`, `show`, `remove` and `prune`: files in, files out, and which there are.

use super::values::{ByteRange, LevelName, SealName, TypedName, parse_name};
use crate::cli::quantity::Span;
use clap::{Args, ValueEnum};
use shard::format::FileName;
use shard::id::{Geometry, ObjectId, RedundancyLevel, VersionId};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// Store files, folders or standard input
///
/// A file's name is its own (`put a/b.txt` stores b.txt) unless --name says another; a folder's files are FOLDER/….
/// A name already taken gets a new version; what is unchanged since the last put is skipped. Exit 0 means that all
/// shards are durable in the best places there are; 3, that enough are, but some found no place or had to go where
/// more can be lost than with every backend.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard put thesis.pdf --level personal
  shard put ~/Photos --level federation
  pg_dump mydb | shard put - --name mydb.sql --shards 4/6")]
pub(crate) struct Put {
    /// A file, a folder, or - for standard input
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// What to call it; required for standard input
    #[arg(long)]
    pub(crate) name: Option<FileName>,
    /// How much may be lost [default: default_level in config.toml, at first personal]
    #[arg(long, conflicts_with = "shards", ignore_case = true)]
    level: Option<LevelName>,
    /// A geometry of your own: any K of N shards give the file back, 1 ≤ K < N ≤ 255
    #[arg(long, value_name = "K/N", value_parser = parse_geometry)]
    shards: Option<Geometry>,
    /// How it is sealed [default: seal in config.toml, at first key]
    #[arg(long)]
    pub(crate) seal: Option<SealName>,
    /// With --seal dispersed, store even where one zone gets enough shards to read it
    #[arg(long)]
    pub(crate) allow_readable_zone: bool,
    /// Seal to this public key; only the master key that it belongs to opens it
    #[arg(long, value_name = "FILE", conflicts_with = "seal")]
    pub(crate) recipient: Option<PathBuf>,
    /// What is checked of each stripe before it counts [default: parity; full at paranoid]
    #[arg(long)]
    pub(crate) check: Option<PutCheck>,
}

impl Put {
    /// The level asked for; `None` leaves it to the store's settings.
    pub(crate) fn redundancy(&self) -> Option<RedundancyLevel> {
        self.level.map(LevelName::level).or_else(|| self.shards.map(RedundancyLevel::of))
    }

    /// Why these options cannot be taken together, if they cannot.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let stdin = self.paths.iter().any(|path| Self::is_stdin(path));
        match (self.paths.len(), &self.name) {
            (1, None) if stdin => Some("standard input has no name of its own: give it one with --name NAME"),
            (1, _) => None,
            (_, Some(_)) => Some("--name names one PATH, and several are given"),
            (_, None) if stdin => Some("standard input is stored alone: give no other PATH with -"),
            (_, None) => None,
        }
    }

    /// Whether a path stands for standard input.
    pub(crate) fn is_stdin(path: &Path) -> bool {
        path == "-"
    }
}

/// How a stripe is checked before a put counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PutCheck {
    /// The parity is computed a second time and compared; finds no bit that flipped in memory after reading
    Parity,
    /// That, and what is stored is opened again and compared with what was read
    Full,
}

/// Get files back, bit for bit
///
/// Every block is checked before it is used. The output is written beside its place and renamed: a file that is there
/// at the end is whole. Damage met on the way is reported, and exits 3. A file gets its time of change and its mode back,
/// without the setuid, setgid and sticky bits.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard recover thesis.pdf -o back.pdf
  shard recover mydb.sql -o - | psql mydb
  shard recover film.mkv --range 0-1048575 -o first-mib
  shard recover --all -o restored/ --from /mnt/a --from /mnt/b --from s3://bucket/shards
  shard recover --all -o restored/ --from ~/whatever-is-left --key kit.txt")]
#[command(group = clap::ArgGroup::new("what").args(["names", "all"]).required(true))]
pub(crate) struct Recover {
    /// The names of files, or of folders of files
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub(crate) names: Vec<FileName>,
    /// Everything; -o names the folder
    #[arg(long, requires = "output")]
    pub(crate) all: bool,
    /// A file, a folder for several, or - for standard output [default: the name's last part, here]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// This version rather than the newest
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    pub(crate) version: Option<VersionId>,
    /// Only bytes A to B, both included, counted from 0
    #[arg(long, value_name = "A-B", conflicts_with = "all")]
    pub(crate) range: Option<ByteRange>,
    /// Recover from this place with no store at all; give it once for each place
    ///
    /// A folder may be a heap: shards under any name, of several places, in nested folders, several copies of one, with other
    /// files between them. Every file is looked at, links are not followed, and nothing is changed. In a bucket or on a
    /// server only shards under their own names are found: download those that were renamed into a folder.
    #[arg(long, value_name = "URL")]
    pub(crate) from: Vec<String>,
    /// The key that opens what is there: a key file or a recovery kit
    #[arg(long, value_name = "FILE", requires = "from")]
    pub(crate) key: Option<PathBuf>,
    /// Replace an output that is there already
    #[arg(long)]
    pub(crate) force: bool,
}

/// Where recovered bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RecoverTo {
    /// Each file to its last name part, in the current folder.
    Here,
    /// To this path.
    Path(PathBuf),
    /// To standard output.
    Stdout,
}

impl Recover {
    /// Why these options cannot be taken together, if they cannot.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let several = self.names.len() > 1;
        match self.to() {
            _ if several && self.version.is_some() => Some("--version is of one NAME, and several are given"),
            _ if several && self.range.is_some() => Some("--range is of one NAME, and several are given"),
            RecoverTo::Stdout if several => Some("standard output takes one NAME, and several are given"),
            RecoverTo::Stdout if self.all => Some("--all needs a folder: -o DIR"),
            _ => None,
        }
    }

    /// Where the bytes go.
    pub(crate) fn to(&self) -> RecoverTo {
        match &self.output {
            None => RecoverTo::Here,
            Some(path) if path == Path::new("-") => RecoverTo::Stdout,
            Some(path) => RecoverTo::Path(path.clone()),
        }
    }
}

/// List files: name, size, level and state
#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    /// Only names that begin with this
    pub(crate) prefix: Option<String>,
    /// Every version, not only the newest
    #[arg(long)]
    pub(crate) versions: bool,
}

/// Show a file: geometry, roots, where its shards are, and what may still fail
///
/// Of a folder, the files in it and the worst state of any.
#[derive(Debug, Clone, Args)]
pub(crate) struct Show {
    /// The name of a file, or of a folder of files
    pub(crate) name: TypedName,
    /// This version rather than the newest
    #[arg(long, value_name = "ID")]
    pub(crate) version: Option<VersionId>,
}

/// Remove files
///
/// Without a version the newest goes, and the one before it is the newest again. A removal is a record on the backends:
/// one that is away now cannot bring the file back. What stays on backends, and until when, is said. A folder's name means
/// all files in it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remove {
    /// The names of files, or of folders of files
    #[arg(required_unless_present = "object", value_name = "NAME")]
    pub(crate) names: Vec<TypedName>,
    /// This version only
    #[arg(long, value_name = "ID", conflicts_with = "all_versions")]
    pub(crate) version: Option<VersionId>,
    /// Every version
    #[arg(long)]
    pub(crate) all_versions: bool,
    /// An object that is lost, for good: refused while it can be recovered, or holds a file that nothing else does
    ///
    /// What `verify` calls lost stays on its page until it is removed; where even its index is gone, no file's name leads
    /// to it. What is on backends that this store does not know counts as gone: add them all first.
    #[arg(long, value_name = "ID", conflicts_with_all = ["names", "version", "all_versions"])]
    pub(crate) object: Option<ObjectId>,
}

impl Remove {
    /// Why these options cannot be taken together, if they cannot.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let several = self.names.len() > 1;
        (several && self.version.is_some()).then_some("--version is of one NAME, and several are given")
    }
}

/// Remove old versions
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  shard prune Photos/ --keep-last 3 --keep-within 30d")]
pub(crate) struct Prune {
    /// Only names that begin with this
    pub(crate) prefix: Option<String>,
    /// Keep this many of the newest versions of each file
    #[arg(long, value_name = "N", value_parser = parse_keep_last)]
    pub(crate) keep_last: NonZeroU32,
    /// Keep also what is younger than this, such as 12h, 30d or 8w
    #[arg(long, value_name = "DURATION")]
    pub(crate) keep_within: Option<Span>,
}

fn parse_keep_last(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "it is how many versions of each file stay: 1 or more".to_owned())
}

fn parse_geometry(text: &str) -> Result<Geometry, shard::id::Error> {
    let level: RedundancyLevel = text.parse()?;
    match text.contains('/') {
        true => Ok(level.geometry()),
        false => Err(shard::id::Error::Level { text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).and_then(Cli::checked).map(|cli| cli.command)
    }

    fn put(line: &str) -> Put {
        match parse(line) {
            Ok(Command::Put(put)) => put,
            other => unreachable!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_level_or_a_geometry_but_not_both() {
        assert_eq!(put("shard put a").redundancy(), None);
        assert_eq!(put("shard put a --level paranoid").redundancy(), Some(RedundancyLevel::Paranoid));
        assert_eq!(put("shard put a --shards 3/5").redundancy(), Some(RedundancyLevel::Personal));
        let custom = put("shard put a --shards 4/6").redundancy().expect("a level");
        assert_eq!(custom.to_string(), "4/6");
        for wrong in
            ["--level personal --shards 3/5", "--shards 5/3", "--shards personal", "--level 3/5", "--shards 0/2"]
        {
            assert!(parse(&format!("shard put a {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn standard_input_needs_a_name() {
        assert!(parse("shard put -").is_err());
        assert!(parse("shard put a -").is_err());
        assert!(parse("shard put a b --name c").is_err());
        let named = put("shard put - --name a/b");
        assert!(Put::is_stdin(&named.paths[0]));
        assert!(parse("shard put - --name ../b").is_err());
    }

    #[test]
    fn recover_wants_names_or_all_of_them() {
        for wrong in [
            "",
            " a --all -o x",
            " --all",
            " a --range 5-4",
            " a --version 12",
            " --all -o x --range 0-1",
            " a b -o -",
            " a b --range 0-1",
            " --all -o -",
        ] {
            assert!(parse(&format!("shard recover{wrong}")).is_err(), "{wrong}");
        }
        let to = |line: &str| match parse(line) {
            Ok(Command::Recover(recover)) => recover.to(),
            other => unreachable!("{line}: {other:?}"),
        };
        assert_eq!(to("shard recover a"), RecoverTo::Here);
        assert_eq!(to("shard recover a -o -"), RecoverTo::Stdout);
        assert_eq!(to("shard get --all -o d --from /a --from /b"), RecoverTo::Path("d".into()));
    }

    #[test]
    fn prune_never_keeps_nothing() {
        assert!(parse("shard prune").is_err());
        assert!(parse("shard prune --keep-last 0").is_err());
        assert!(parse("shard prune a --keep-last 1 --keep-within 30d").is_ok());
    }
}
