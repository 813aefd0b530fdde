//! `shard node ping`: who answers at an address, and why nobody does.

use super::address;
use crate::cli::args::PingNode;
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::Reader;
use crate::cli::render::{count, facts};
use serde::Serialize;
use shard::id::NodeId;
use shard::node::home::NodeHome;
use shard::node::{Node, NodeConfig, NodeError};
use shard::peer::transport::{CallFailure, Session};
use shard::peer::{HeartbeatTimes, PeerAddress, TransportKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From one question to the next.
const INTERVAL_MS: u64 = 200;
/// How long the goodbye may take.
const LEAVE: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Serialize)]
struct Answered {
    address: String,
    node: NodeId,
    remote: SocketAddr,
    transport: &'static str,
    /// From the call to the proof.
    connect_ms: f64,
    round_trips_ms: Vec<f64>,
}

pub(super) async fn ping(home: &NodeHome, options: &PingNode, context: &mut Context) -> Result<ExitCode, Failure> {
    let address = address(&options.address)?;
    let opened = home.open()?;
    let seeds = home.seeds(context.environment.seed_file.as_deref())?;
    let mut config = NodeConfig::new(opened.identity, seeds);
    config.pins = Arc::new(opened.records.clone());
    config.handshake_deadline = options.timeout.0;
    // The peer is gone, for this, when it is silent for as long as it may take to answer.
    let idle_ms = u64::try_from(options.timeout.0.as_millis()).unwrap_or(u64::MAX).clamp(1000, 60_000);
    config.heartbeat = HeartbeatTimes { interval_ms: INTERVAL_MS, idle_ms };
    let failed = |error: NodeError| failure(&address, &error, context);
    let node = Node::start(config).await.map_err(&failed)?;
    let asked = Instant::now();
    let called = tokio::select! {
        called = node.connect(&address) => called.map_err(&failed),
        () = context.cancel.cancelled() => Err(Failure::new(FailureKind::Cancelled, "cancelled")),
    };
    let outcome = match called {
        Ok(session) => {
            let connect = asked.elapsed();
            tokio::select! {
                measured = measure(&session, options.count) => measured.map(|round_trips| (session, connect, round_trips)),
                () = context.cancel.cancelled() => Err(Failure::new(FailureKind::Cancelled, "cancelled")),
            }
        }
        Err(failure) => Err(failure),
    };
    node.stop(LEAVE).await;
    let (session, connect, round_trips) = outcome?;
    opened.records.seen(&session, 0)?;
    show(&address, &session, (connect, &round_trips), context)
}

async fn measure(session: &Session, count: u16) -> Result<Vec<Duration>, Failure> {
    let mut round_trips = Vec::new();
    while round_trips.len() < usize::from(count) {
        let Some(round_trip) = session.next_round_trip().await else {
            return Err(Failure::new(FailureKind::Unavailable, "the node answered and was gone again"));
        };
        round_trips.push(round_trip);
    }
    Ok(round_trips)
}

fn show(
    address: &PeerAddress,
    session: &Session,
    (connect, round_trips): (Duration, &[Duration]),
    context: &mut Context,
) -> Result<ExitCode, Failure> {
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    let transport = match session.transport() {
        TransportKind::Quic => "quic",
        TransportKind::WebSocket => "websocket",
    };
    if context.output.reader() == Reader::Script {
        let answered = Answered {
            address: address.to_string(),
            node: session.peer(),
            remote: session.remote(),
            transport,
            connect_ms: ms(&connect),
            round_trips_ms: round_trips.iter().map(ms).collect(),
        };
        context.output.document("shard.node-ping/1", &answered)?;
        return Ok(ExitCode::Done);
    }
    let mean = round_trips.iter().sum::<Duration>() / u32::try_from(round_trips.len()).unwrap_or(1).max(1);
    let (least, most) = (round_trips.iter().min(), round_trips.iter().max());
    let (least, most) = (least.unwrap_or(&mean), most.unwrap_or(&mean));
    context.output.text(&facts([
        ("node", session.peer().to_string()),
        ("at", format!("{address} ({}, {transport})", session.remote())),
        ("connected in", format!("{:.1} ms", ms(&connect))),
        (
            "round trip",
            format!(
                "{:.2} ms, between {:.2} and {:.2} ms in {}",
                ms(&mean),
                ms(least),
                ms(most),
                count(round_trips.len() as u64, "try")
            ),
        ),
    ]))?;
    Ok(ExitCode::Done)
}

/// Nobody there, another seed and another node each have an exit code and words of their own.
fn failure(address: &PeerAddress, error: &NodeError, context: &Context) -> Failure {
    let why = match error {
        NodeError::Peer(error) => error.call_failure(),
        _ => CallFailure::Other,
    };
    let (kind, message, hint) = match why {
        CallFailure::Nobody => (
            FailureKind::Unavailable,
            format!("nobody answers at {address}"),
            "see that `shard node serve` runs there, and that the network lets UDP pass; node+ws:// goes over TCP"
                .to_owned(),
        ),
        CallFailure::OtherSeed => (
            FailureKind::WrongKey,
            format!("a node answers at {address}, and it has another seed"),
            format!("`{}` takes the seed of its group", context.to_type("node seed add FILE")),
        ),
        CallFailure::OtherNode => (
            FailureKind::Refused,
            format!("another node answers at {address} than before"),
            format!("if that is meant to be so: `{}`", context.to_type(&format!("node forget {address}"))),
        ),
        CallFailure::Full => (
            FailureKind::Busy,
            format!("the node at {address} has no room for another session"),
            "try again later".to_owned(),
        ),
        CallFailure::Other => (
            FailureKind::Failed,
            format!("there is no session with what answers at {address}"),
            "see that the address is that of another node, and that both run releases that know each other".to_owned(),
        ),
    };
    let failure = Failure::new(kind, message).hint(hint);
    match error {
        NodeError::Peer(error) => failure.because(error).with_causes_of(error),
        error => failure.because(error).with_causes_of(error),
    }
}
