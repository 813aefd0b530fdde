//! `shard node serve`, and what is asked of a node that is being served: `sessions`, `send`, `stats`.

use super::{address, peer, with_flags};
use crate::cli::args::{SendNotice, ServeNode};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::{Output, Reader};
use crate::cli::printable::Printable;
use crate::cli::quantity::{ByteSize, Span};
use crate::cli::render::{count, facts};
use crate::cli::table::{Table, Tone};
use serde::Serialize;
use shard::id::{NodeId, PeerId};
use shard::node::home::{
    Answer, Delivery, LiveSession, NodeHome, Notice, NoticeKind, Question, ServeOptions, ServeStats, Served, ask,
    serve as serve_node,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

pub(super) async fn serve(home: &NodeHome, options: ServeNode, context: &mut Context) -> Result<ExitCode, Failure> {
    let connect = options.connect.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
    let settings = with_flags(home.settings()?, &options.limits);
    // A folder without a node is told before one without a seed.
    home.identity()?;
    let mut serving = ServeOptions::new(home.seeds(context.environment.seed_file.as_deref())?, settings);
    serving.connect = connect;
    serving.notify = context.environment.notify_socket.clone();
    serving.metrics_listen = options.metrics_listen.map(|listen| listen.or_at(Ipv4Addr::LOCALHOST));
    if let Some(listen) = serving.metrics_listen.filter(|listen| !listen.ip().is_loopback()) {
        context.notices.warning(&format!(
            "whoever reaches {listen} reads the metrics: they tell who is connected, not what is kept"
        ));
    }
    let (cancel, notices, mut told) = (context.cancel.clone(), context.notices, Ok(()));
    let output = &mut context.output;
    let ready = |served: &Served| {
        if let Some(path) = &served.set_aside {
            notices.warning(&format!("the node's records were damaged, and are kept in {}", path.display()));
        }
        told = tell_ready(served, home.folder(), output);
        if told.is_err() {
            cancel.cancel();
        }
    };
    let report = serve_node(home, serving, context.cancel.clone(), ready).await?;
    told?;
    let cut = if report.cut > 0 { format!(", {} cut off", report.cut) } else { String::new() };
    notices.note(&format!("stopped; {} ended in order{cut}", count(report.drained as u64, "session")));
    Ok(ExitCode::Done)
}

fn tell_ready(served: &Served, folder: &Path, output: &mut Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Ready<'a> {
        node: NodeId,
        data: &'a Path,
        listen: Option<SocketAddr>,
        ws_listen: Option<SocketAddr>,
        metrics_listen: Option<SocketAddr>,
        calls: Vec<String>,
    }
    let calls: Vec<String> = served.calls.iter().map(ToString::to_string).collect();
    let Served { node, listen, ws_listen, metrics_listen, .. } = *served;
    if output.reader() == Reader::Script {
        let ready = Ready { node, data: folder, listen, ws_listen, metrics_listen, calls };
        return output.document("shard.node-serve/1", &ready);
    }
    let mut lines = vec![("node", node.to_string()), ("folder", Printable(&folder.to_string_lossy()).to_string())];
    lines.extend(listen.map(|address| ("listens at", format!("UDP {address}"))));
    lines.extend(ws_listen.map(|address| ("and at", format!("TCP {address}"))));
    lines.extend(metrics_listen.map(|address| ("metrics", format!("http://{address}/metrics"))));
    lines.extend((!calls.is_empty()).then(|| ("calls", calls.join(", "))));
    output.text(&facts(lines))
}

/// What the node that is served answers, when it can.
pub(super) async fn answer(home: &NodeHome, question: &Question) -> Result<Answer, Failure> {
    // A folder without a node is told before a node that is not served.
    home.identity()?;
    match ask(home, question).await? {
        Answer::Failed { why } => {
            Err(Failure::new(FailureKind::Failed, "the node could not do what it was asked").because(why))
        }
        answer => Ok(answer),
    }
}

pub(super) fn other_answer() -> Failure {
    Failure::new(FailureKind::Failed, "the node gave an answer to another question")
        .hint("see that the program and the node that is served are of one release")
}

pub(super) async fn sessions(home: &NodeHome, context: &mut Context) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Entry<'s> {
        session: u64,
        peer: PeerId,
        remote: SocketAddr,
        transport: &'s str,
        began_here: bool,
        age_ms: u64,
        round_trip_ms: Option<f64>,
        sent_bytes: u64,
        received_bytes: u64,
    }
    let Answer::Sessions { sessions } = answer(home, &Question::Sessions {}).await? else {
        return Err(other_answer());
    };
    if context.output.reader() == Reader::Script {
        let entry = |session: &'_ LiveSession| {
            serde_json::json!(Entry {
                session: session.session,
                peer: session.peer,
                remote: session.remote,
                transport: &session.transport,
                began_here: session.is_own,
                age_ms: session.age_ms,
                round_trip_ms: session.round_trip_us.map(ms),
                sent_bytes: session.sent_bytes,
                received_bytes: session.received_bytes,
            })
        };
        let sessions: Vec<_> = sessions.iter().map(entry).collect();
        context.output.document("shard.node-sessions/1", &serde_json::json!({ "sessions": sessions }))?;
        return Ok(ExitCode::Done);
    }
    if sessions.is_empty() {
        context.notices.note("nobody is connected");
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(["PEER", "FROM", "OVER", ">AGE", ">ROUND TRIP", ">SENT", ">RECEIVED"]);
    for session in sessions {
        table.row(
            Tone::Plain,
            [
                session.peer.to_string(),
                session.remote.to_string(),
                session.transport,
                Span(Duration::from_millis(session.age_ms)).to_string(),
                session.round_trip_us.map(|micros| format!("{:.2} ms", ms(micros))).unwrap_or_default(),
                ByteSize(session.sent_bytes).to_string(),
                ByteSize(session.received_bytes).to_string(),
            ],
        );
    }
    context.output.text(&table.render())?;
    Ok(ExitCode::Done)
}

fn ms(micros: u64) -> f64 {
    micros as f64 / 1e3
}

pub(super) async fn stats(home: &NodeHome, context: &mut Context) -> Result<ExitCode, Failure> {
    let Answer::Stats { stats } = answer(home, &Question::Stats {}).await? else { return Err(other_answer()) };
    match context.output.reader() {
        Reader::Script => context.output.document("shard.node-stats/1", &*stats)?,
        Reader::Person => context.output.text(&page(&stats))?,
    }
    Ok(ExitCode::Done)
}

fn page(stats: &ServeStats) -> String {
    let bytes = |sent: u64, received: u64| format!("{} sent, {} received", ByteSize(sent), ByteSize(received));
    let mut lines = vec![
        ("node", stats.node.to_string()),
        ("served for", Span(Duration::from_millis(stats.uptime_ms)).to_string()),
        ("sessions", format!("{} now, {} in all", stats.sessions_active, stats.sessions_total)),
        ("over TCP", count(stats.websocket_sessions, "session")),
        ("traffic", bytes(stats.sent_bytes, stats.received_bytes)),
        ("packets", format!("{} sent, {} received", stats.sent_packets, stats.received_packets)),
        ("messages", format!("{} sent, {} received", stats.messages_sent, stats.messages_received)),
        ("failed", stats.errors.to_string()),
        ("callers", callers(stats)),
        ("seeds", stats.seeds.to_string()),
    ];
    if let Some(micros) = stats.round_trip_us {
        lines.push(("round trip", format!("{:.2} ms", ms(micros))));
    }
    if let Some(kept) = stats.kept {
        let kept =
            format!("{} in {} of {}", ByteSize(kept.bytes), count(kept.shards, "shard"), count(kept.owners, "peer"));
        lines.push(("keeps", kept));
    }
    facts(lines)
}

/// Those who did not come in.
fn callers(stats: &ServeStats) -> String {
    let ServeStats { refused, displaced, late, waiting, .. } = stats;
    format!("{refused} turned away, {displaced} displaced, {late} cut off, {waiting} waiting now")
}

pub(super) async fn send(home: &NodeHome, options: SendNotice, context: &mut Context) -> Result<ExitCode, Failure> {
    if let Err(error) = Notice::new(NoticeKind::Text, options.text.as_str()) {
        return Err(Failure::of(FailureKind::Invalid, &error));
    }
    let peer = match &options.peer {
        Some(text) => Some(peer(&home.open()?.records, text)?),
        None => None,
    };
    let question = Question::Send { peer, text: options.text };
    let Answer::Sent { peers } = answer(home, &question).await? else { return Err(other_answer()) };
    let nobody = peers.is_empty();
    if let (Some(peer), [delivery]) = (peer, peers.as_slice())
        && let Some(why) = &delivery.failure
    {
        let message = format!("{peer} does not have it");
        return Err(Failure::new(FailureKind::Unavailable, message)
            .because(why)
            .hint("`shard node sessions` shows who is there"));
    }
    if nobody {
        return Err(Failure::new(FailureKind::Unavailable, "nobody is connected")
            .hint("`shard node serve --connect URL` keeps in touch with a node"));
    }
    let failed: Vec<_> = peers.iter().filter(|delivery| delivery.failure.is_some()).collect();
    match context.output.reader() {
        Reader::Script => {
            let entry = |delivery: &Delivery| {
                serde_json::json!({
                    "peer": delivery.peer,
                    "sent": delivery.failure.is_none(),
                    "waits": delivery.waits,
                    "why": delivery.failure,
                })
            };
            let peers: Vec<_> = peers.iter().map(entry).collect();
            context.output.document("shard.node-send/1", &serde_json::json!({ "peers": peers }))?;
        }
        Reader::Person => {
            let told = count((peers.len() - failed.len()) as u64, "node");
            context.output.text(&format!("told {told}\n"))?;
        }
    }
    if peers.iter().any(|delivery| delivery.waits && delivery.failure.is_none()) {
        context.notices.note("it keeps shards here: it hears it when a command of its store next uses this node");
    }
    for delivery in &failed {
        let why = delivery.failure.as_deref().unwrap_or_default();
        context.notices.warning(&format!("{} does not have it: {why}", delivery.peer));
    }
    Ok(if failed.is_empty() { ExitCode::Done } else { ExitCode::Failed })
}
