//! `shard node`.

mod answers;
mod book;
mod ping;
mod scrub;
mod seed;
mod served;

use crate::cli::args::{InitNode, Node, NodeCommand, NodeLimits, SeedCommand};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::moment::rfc3339;
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::render::facts;
use serde::Serialize;
use shard::id::{NodeId, PeerId};
use shard::node::home::{NodeHome, NodeSettings, Records};
use shard::peer::PeerAddress;
use std::net::Ipv4Addr;
use std::path::Path;

/// A node's folder in that of the store.
const FOLDER: &str = "node";
/// Fewer digits of a node's id name nobody.
const LEAST_DIGITS: usize = 4;

pub(super) async fn run(options: Node, context: &mut Context) -> Result<ExitCode, Failure> {
    let home = match &options.data {
        Some(folder) => NodeHome::at(std::path::absolute(folder).map_err(|error| {
            Failure::new(FailureKind::Invalid, format!("{} is no folder for a node", folder.display())).because(error)
        })?),
        None => NodeHome::at(context.store_folder()?.join(FOLDER)),
    };
    context.node_folder = options.data;
    let outcome = run_at(&home, options.command, context).await;
    outcome.map_err(|mut failure| {
        failure.hint = failure.hint.map(|hint| context.to_type_in(&hint));
        failure
    })
}

async fn run_at(home: &NodeHome, command: NodeCommand, context: &mut Context) -> Result<ExitCode, Failure> {
    match command {
        NodeCommand::Init(options) => init(home, &options, context),
        NodeCommand::Serve(options) => served::serve(home, options, context).await,
        NodeCommand::Seed(SeedCommand::New(options)) => {
            there_already(home, context)?;
            seed::new(home, &options, context)
        }
        NodeCommand::Seed(SeedCommand::Show) => seed::show(home, context),
        NodeCommand::Seed(SeedCommand::Add(options)) => {
            there_already(home, context)?;
            seed::add(home, &options, context)
        }
        NodeCommand::Seed(SeedCommand::Retire) => {
            there_already(home, context)?;
            seed::retire(home, context)
        }
        NodeCommand::Ping(options) => ping::ping(home, &options, context).await,
        NodeCommand::Peers => book::peers(home, context),
        NodeCommand::Forget(options) => book::forget(home, &options, context),
        NodeCommand::Sessions(options) if options.past => book::past_sessions(home, &options, context),
        NodeCommand::Sessions(_) => served::sessions(home, context).await,
        NodeCommand::Messages(options) => book::messages(home, &options, context),
        NodeCommand::Answers(options) => answers::list(home, &options, context),
        NodeCommand::Scrub => scrub::run(home, context).await,
        NodeCommand::Send(options) => served::send(home, options, context).await,
        NodeCommand::Stats => served::stats(home, context).await,
    }
}

/// A folder that was named and is not there was mistyped: none is made for a seed.
fn there_already(home: &NodeHome, context: &Context) -> Result<(), Failure> {
    if context.node_folder.is_none() || home.folder().is_dir() {
        return Ok(());
    }
    let message = format!("there is no node in {}", home.folder().display());
    Err(Failure::new(FailureKind::NoStore, message).hint("`shard node init` makes one"))
}

fn init(home: &NodeHome, options: &InitNode, context: &mut Context) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Made<'a> {
        node: NodeId,
        data: &'a Path,
        #[serde(flatten)]
        settings: &'a NodeSettings,
    }
    let settings = with_flags(NodeSettings::default(), &options.limits);
    let node = home.init(&settings)?;
    match context.output.reader() {
        Reader::Script => {
            let made = Made { node, data: home.folder(), settings: &settings };
            context.output.document("shard.node-init/1", &made)?;
        }
        Reader::Person => context.output.text(&facts([
            ("node", node.to_string()),
            ("folder", Printable(&home.folder().to_string_lossy()).to_string()),
            ("listens at", settings.listen.to_string()),
        ]))?,
    }
    if home.seeds(context.environment.seed_file.as_deref()).is_err() {
        let (new, add) = (context.to_type("node seed new"), context.to_type("node seed add FILE"));
        context.notices.note(&format!("it has no seed yet: `{new}` makes one, `{add}` takes that of a group"));
    }
    Ok(ExitCode::Done)
}

/// The settings, with what flags say in their place.
fn with_flags(mut settings: NodeSettings, flags: &NodeLimits) -> NodeSettings {
    let everywhere = Ipv4Addr::UNSPECIFIED;
    if let Some(listen) = flags.listen {
        settings.listen = listen.or_at(everywhere);
    }
    settings.ws_listen = flags.ws_listen.map(|listen| listen.or_at(everywhere)).or(settings.ws_listen);
    settings.quota_bytes = flags.quota.map(|quota| quota.0).or(settings.quota_bytes);
    settings.quota_shards = flags.quota_shards.or(settings.quota_shards);
    settings.reserve_bytes = flags.reserve.map_or(settings.reserve_bytes, |reserve| reserve.0);
    settings
}

/// The address that this is. A text that is none is not repeated: it may hold a password.
fn address(text: &str) -> Result<PeerAddress, Failure> {
    text.parse::<PeerAddress>().map_err(|error| Failure::of(FailureKind::Usage, &error))
}

/// A moment of the records, as documents have it.
fn moment(ms: i64) -> String {
    rfc3339(ms.saturating_mul(1_000_000))
}

/// The peer that this is the id of, or the beginning of the id of a known one.
fn peer(records: &Records, text: &str) -> Result<PeerId, Failure> {
    let lower = text.to_ascii_lowercase();
    if let Ok(peer) = lower.parse() {
        return Ok(peer);
    }
    let is_id = lower.len() >= LEAST_DIGITS && lower.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        let message = format!("{} is no id of a node: 64 hexadecimal digits, or the first of them", Printable(text));
        return Err(Failure::new(FailureKind::Usage, message)
            .hint(format!("`shard node peers` shows the ids; at least {LEAST_DIGITS} digits name one")));
    }
    let known: Vec<PeerId> = records.peers()?.into_iter().map(|peer| peer.id).collect();
    let mut found = known.into_iter().filter(|peer| peer.to_string().starts_with(&lower));
    match (found.next(), found.next()) {
        (Some(peer), None) => Ok(peer),
        (None, _) => {
            let message = format!("no node is known whose id begins with {lower}");
            Err(Failure::new(FailureKind::NotFound, message).hint("`shard node peers` shows those that are known"))
        }
        _ => {
            let message = format!("several nodes are known whose ids begin with {lower}");
            Err(Failure::new(FailureKind::Invalid, message).hint("give more digits"))
        }
    }
}
