//! `shard node peers`, `forget`, `messages`, and the sessions that are over: what is read from the node's records.

use super::{address, moment, peer};
use crate::cli::args::{ForgetNode, ListMessages, ListSessions};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::moment::minutes;
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::quantity::ByteSize;
use crate::cli::render::count;
use crate::cli::table::{Table, Tone};
use serde::Serialize;
use shard::engine::{Cursor, PageRequest};
use shard::id::{MessageId, PeerId, SessionId};
use shard::node::home::{
    Direction, Forgotten, KeptMessage, KnownPeer, MessagePage, NodeHome, NoticeKind, PastSession, SessionEnd,
};
use std::net::SocketAddr;

pub(super) fn peers(home: &NodeHome, context: &mut Context) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Entry {
        peer: PeerId,
        addresses: Vec<String>,
        remote: Option<SocketAddr>,
        first_seen: Option<String>,
        last_seen: Option<String>,
        sessions: u64,
    }
    let known = home.open()?.records.peers()?;
    let addresses = |peer: &KnownPeer| peer.addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    if context.output.reader() == Reader::Script {
        let entry = |peer: &KnownPeer| Entry {
            peer: peer.id,
            addresses: addresses(peer),
            remote: peer.remote,
            first_seen: peer.first_seen_ms.map(moment),
            last_seen: peer.last_seen_ms.map(moment),
            sessions: peer.session_count,
        };
        let peers: Vec<Entry> = known.iter().map(entry).collect();
        context.output.document("shard.node-peers/1", &serde_json::json!({ "peers": peers }))?;
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(["PEER", "LAST SEEN", ">SESSIONS", "FROM", "CALLED AT"]);
    for peer in &known {
        let seen = peer.last_seen_ms.map_or("never".to_owned(), shown_moment);
        let from = peer.remote.map(|remote| remote.to_string()).unwrap_or_default();
        let cells = [peer.id.to_string(), seen, peer.session_count.to_string(), from, addresses(peer).join(", ")];
        table.row(Tone::Plain, cells);
    }
    print(&table, "no node was met yet", context)
}

/// A table, or a word that it is empty.
pub(super) fn print(table: &Table, empty: &str, context: &mut Context) -> Result<ExitCode, Failure> {
    match table.len() {
        0 => context.notices.note(empty),
        _ => context.output.text(&table.render())?,
    }
    Ok(ExitCode::Done)
}

pub(super) fn shown_moment(ms: i64) -> String {
    minutes(ms.saturating_mul(1_000_000))
}

pub(super) fn forget(home: &NodeHome, options: &ForgetNode, context: &mut Context) -> Result<ExitCode, Failure> {
    let records = home.open()?.records;
    let what = match options.what.contains("://") {
        true => Forgotten::Address(address(&options.what)?),
        false => Forgotten::Peer(peer(&records, &options.what)?),
    };
    let forgotten = records.forget(&what)?;
    if forgotten == 0 && matches!(what, Forgotten::Address(_)) {
        let message = format!("nobody was met at {}", Printable(&options.what));
        return Err(Failure::new(FailureKind::NotFound, message).hint("`shard node peers` shows who was met where"));
    }
    match context.output.reader() {
        Reader::Script => {
            context.output.document("shard.node-forget/1", &serde_json::json!({ "addresses": forgotten }))?;
        }
        Reader::Person => {
            let said = format!("forgot who was there, at {}\n", count(forgotten as u64, "place"));
            context.output.text(&said)?;
        }
    }
    Ok(ExitCode::Done)
}

pub(super) fn past_sessions(
    home: &NodeHome,
    options: &ListSessions,
    context: &mut Context,
) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Entry {
        id: SessionId,
        peer: PeerId,
        remote: SocketAddr,
        transport: &'static str,
        began_here: bool,
        began: String,
        ended: Option<String>,
        end: Option<SessionEnd>,
        sent_bytes: u64,
        received_bytes: u64,
    }
    let mut sessions = home.open()?.records.past_sessions()?;
    sessions.truncate(options.limit);
    let transport = |session: &PastSession| if session.note.is_websocket { "websocket" } else { "quic" };
    if context.output.reader() == Reader::Script {
        let entry = |session: &PastSession| Entry {
            id: session.id,
            peer: session.peer,
            remote: session.note.remote,
            transport: transport(session),
            began_here: session.note.is_own,
            began: moment(session.began_ms),
            ended: session.note.ended_ms.map(moment),
            end: session.note.end,
            sent_bytes: session.note.sent_bytes,
            received_bytes: session.note.received_bytes,
        };
        let sessions: Vec<Entry> = sessions.iter().map(entry).collect();
        context.output.document("shard.node-past-sessions/1", &serde_json::json!({ "sessions": sessions }))?;
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(["BEGAN", "ENDED", "HOW", "PEER", "OVER", ">SENT", ">RECEIVED"]);
    for session in &sessions {
        let note = &session.note;
        table.row(
            Tone::Plain,
            [
                shown_moment(session.began_ms),
                note.ended_ms.map(shown_moment).unwrap_or_default(),
                note.end.map_or("not yet", end).to_owned(),
                session.peer.to_string(),
                transport(session).to_owned(),
                ByteSize(note.sent_bytes).to_string(),
                ByteSize(note.received_bytes).to_string(),
            ],
        );
    }
    print(&table, "there was no session yet", context)
}

fn end(end: SessionEnd) -> &'static str {
    match end {
        SessionEnd::Here => "closed here",
        SessionEnd::Goodbye => "goodbye",
        SessionEnd::Silent => "silence",
        SessionEnd::Broken => "nonsense",
        SessionEnd::Cut => "cut",
        SessionEnd::Killed => "killed",
    }
}

pub(super) fn messages(home: &NodeHome, options: &ListMessages, context: &mut Context) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Entry<'m> {
        id: MessageId,
        peer: PeerId,
        direction: Direction,
        kind: NoticeKind,
        text: &'m str,
        time: String,
    }
    let records = home.open()?.records;
    let of = options.peer.as_deref().map(|text| peer(&records, text)).transpose()?;
    let request = PageRequest { limit: usize::from(options.limit), before: options.before.map(cursor).transpose()? };
    let MessagePage { messages, next } = records.messages(of, request)?;
    if context.output.reader() == Reader::Script {
        let entry = |message: &'_ KeptMessage| {
            serde_json::to_value(Entry {
                id: message.id,
                peer: message.peer,
                direction: message.direction,
                kind: message.kind,
                text: &message.text,
                time: moment(message.saved_ms),
            })
        };
        let messages = messages.iter().map(entry).collect::<Result<Vec<_>, _>>();
        let messages =
            messages.map_err(|error| Failure::new(FailureKind::Output, "cannot write messages").because(error))?;
        let document = serde_json::json!({ "messages": messages, "next": next });
        context.output.document("shard.node-messages/1", &document)?;
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(["TIME", "", "PEER", "KIND", "TEXT"]);
    for KeptMessage { peer, direction, kind, text, saved_ms, .. } in messages {
        let way = match direction {
            Direction::Received => "from",
            Direction::Sent => "to",
            Direction::Waiting => "waits for",
        };
        table.row(Tone::Plain, [shown_moment(saved_ms), way.to_owned(), peer.to_string(), kind.to_string(), text]);
    }
    print(&table, "there are no messages", context)?;
    if let Some(place) = next.and_then(|next| serde_json::to_value(next).ok()) {
        context.notices.note(&format!("there are older ones: --before {place}"));
    }
    Ok(ExitCode::Done)
}

/// A place in the list, as a page named it.
fn cursor(place: u64) -> Result<Cursor, Failure> {
    let place = serde_json::from_value(place.into());
    place.map_err(|error| Failure::new(FailureKind::Usage, "--before is no place in the list").because(error))
}
