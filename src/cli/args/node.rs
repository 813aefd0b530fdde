//! `node`: a machine that keeps shards for those who share a seed with it.

use crate::cli::quantity::{ByteSize, Span};
use clap::{ArgGroup, Args, Subcommand};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Keep shards for friends, and have theirs keep yours
///
/// A node has a folder with a key of its own. Nodes that share a seed talk to each other, and nobody else does: whoever has
/// the seed may store at them.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard node init && shard node seed new -o seed.txt    a first node, and the seed to hand to the others
  shard node init && shard node seed add seed.txt       another one
  shard node serve --connect node://friend.example      serve, and keep in touch with that one
  shard node ping node://friend.example                 who answers there, and how fast")]
pub(crate) struct Node {
    /// The node's folder [default: node in the store's folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: NodeCommand,
}

/// What to do with a node.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum NodeCommand {
    Init(InitNode),
    Serve(ServeNode),
    #[command(subcommand)]
    Seed(SeedCommand),
    Ping(PingNode),
    /// List the nodes that were met: who they are, where, and when they were last there
    Peers,
    Forget(ForgetNode),
    Sessions(ListSessions),
    Messages(ListMessages),
    Answers(ListAnswers),
    /// Check the shards that peers keep here, on this node's own disk; owners are told of what is damaged
    ///
    /// The node that is served reads them whole, which takes as long as its disk does. Exit code 3: some are damaged. An owner
    /// hears it the next time that a command of its store uses this node.
    Scrub,
    Send(SendNotice),
    /// Say what the node that is served did and does
    Stats,
}

/// Make a node: a key of its own, and settings
///
/// What is given here is kept in node.toml, where it can be changed; flags of `serve` come before it.
#[derive(Debug, Clone, Args)]
pub(crate) struct InitNode {
    #[command(flatten)]
    pub(crate) limits: NodeLimits,
}

/// Where a node listens, and how much it takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeLimits {
    /// Where to listen over UDP: IP:PORT, or a port on all addresses [default: 7440]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<ListenAddress>,
    /// Where to listen over TCP, with WebSocket, for peers whose networks let no UDP pass
    #[arg(long, value_name = "ADDR")]
    pub(crate) ws_listen: Option<ListenAddress>,
    /// The most that each peer may keep here, such as 500GB
    #[arg(long, value_name = "SIZE")]
    pub(crate) quota: Option<ByteSize>,
    /// The most shards that each peer may keep here
    #[arg(long, value_name = "COUNT")]
    pub(crate) quota_shards: Option<u64>,
    /// How much of the disk stays free [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) reserve: Option<ByteSize>,
}

/// Serve the node until it is stopped
///
/// One line, or one document, says where it listens once it does. SIGTERM and SIGINT end it gracefully: nothing new is
/// taken, peers are told, what is under way comes to its end. A second one ends it at once. A service manager is told when
/// it is ready (NOTIFY_SOCKET).
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  shard node serve
  shard node serve --listen 0.0.0.0:7440 --ws-listen 7441 --quota 500GB
  shard node serve --connect node://friend.example --metrics-listen 9440")]
pub(crate) struct ServeNode {
    #[command(flatten)]
    pub(crate) limits: NodeLimits,
    /// A node to call, and to call again whenever it was gone; those that answered once are remembered
    #[arg(long, value_name = "URL")]
    pub(crate) connect: Vec<String>,
    /// Where to serve metrics for Prometheus: IP:PORT, or a port on this machine alone
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<ListenAddress>,
}

/// The secret that a group of nodes shares: whoever has it may talk to them
///
/// A group changes its seed in two steps: `seed new` on one node and `seed add` on all others, then `seed retire` on each.
/// In between both seeds are good. A node that is being served takes a change when it is started again.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum SeedCommand {
    New(NewSeed),
    /// Print the seed, as words with a check against typing errors
    Show,
    Add(AddSeed),
    /// End a change of seed: forget the older one
    Retire,
}

/// Make a seed, and keep it beside the one there is, if there is one
#[derive(Debug, Clone, Args)]
pub(crate) struct NewSeed {
    /// Write it to a file too, readable by you alone; an existing file is kept
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Take the seed of a group
#[derive(Debug, Clone, Args)]
pub(crate) struct AddSeed {
    /// A file with the seed; `-` is standard input
    pub(crate) file: PathBuf,
}

/// Call a node, and say who answers and how fast
///
/// Exit code 5: nobody answers there. 12: a node with another seed does. 1: it is not the node that was there before.
#[derive(Debug, Clone, Args)]
pub(crate) struct PingNode {
    /// node://HOST:PORT, or node+ws://HOST:PORT
    #[arg(value_name = "URL")]
    pub(crate) address: String,
    /// How many round trips to measure
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) count: u16,
    /// How long to wait for it to answer
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub(crate) timeout: Span,
}

/// Forget who was at an address, so that another node may be there
#[derive(Debug, Clone, Args)]
pub(crate) struct ForgetNode {
    /// The address, or the id of a node or its beginning, to forget everywhere
    #[arg(value_name = "URL|PEER")]
    pub(crate) what: String,
}

/// List the sessions that the node that is served has
#[derive(Debug, Clone, Args)]
pub(crate) struct ListSessions {
    /// Those that are remembered instead, the newest first; needs no node that is served
    #[arg(long)]
    pub(crate) past: bool,
    /// At most so many of these
    #[arg(long, value_name = "COUNT", default_value_t = 50, requires = "past")]
    pub(crate) limit: usize,
}

/// List what nodes told each other, the newest first
#[derive(Debug, Clone, Args)]
pub(crate) struct ListMessages {
    /// Only with this node: its id or the beginning of it
    #[arg(long)]
    pub(crate) peer: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// Those that follow a page: the place that it named
    #[arg(long, value_name = "PLACE")]
    pub(crate) before: Option<u64>,
}

/// List what this node answered when it was asked to show blocks, or found when it checked its disk, the newest first
#[derive(Debug, Clone, Args)]
pub(crate) struct ListAnswers {
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
}

/// Tell nodes something, through the node that is served
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("whom").required(true))]
#[command(after_help = "\
Examples:
  shard node send --all 'the disk goes on Friday'
  shard node send --peer 3f9a 'is your disk full?'

A peer that keeps shards here and is not connected hears it when it next uses this node.")]
pub(crate) struct SendNotice {
    /// To this node: its id or the beginning of it
    #[arg(long, group = "whom")]
    pub(crate) peer: Option<String>,
    /// To all that are connected
    #[arg(long, group = "whom")]
    pub(crate) all: bool,
    /// What to tell, at most 4 KiB
    pub(crate) text: String,
}

/// An address to listen at, or a port alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// Whatever address is the default.
    Port(u16),
    /// This one.
    Full(SocketAddr),
}

impl ListenAddress {
    /// The address, at this one where only a port was given.
    pub(crate) fn or_at(self, host: impl Into<IpAddr>) -> SocketAddr {
        match self {
            Self::Port(port) => SocketAddr::new(host.into(), port),
            Self::Full(address) => address,
        }
    }
}

/// A text is no address to listen at.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no address to listen at: 0.0.0.0:7440, [::]:7440, or 7440; port 0 is any that is free")]
pub(crate) struct NotAnAddress;

impl FromStr for ListenAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().map(Self::Port).map_err(|_| NotAnAddress),
            false => text.parse().map(Self::Full).map_err(|_| NotAnAddress),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_address_to_listen_at_may_be_a_port_alone() {
        let at = |text: &str| text.parse::<ListenAddress>().map(|given| given.or_at(Ipv4Addr::LOCALHOST).to_string());
        assert_eq!(at("7440"), Ok("127.0.0.1:7440".to_owned()));
        assert_eq!(at("[::]:1"), Ok("[::]:1".to_owned()));
        for wrong in ["", "65536", "localhost:1", "1.2.3.4", ":1", "+1", "-1"] {
            assert_eq!(at(wrong), Err(NotAnAddress), "{wrong}");
        }
    }
}
