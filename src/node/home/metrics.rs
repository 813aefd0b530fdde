//! What a served node did and does, as text for Prometheus. Pure.

use super::control::ServeStats;
use std::fmt::Write;

/// The text exposition format, version 0.0.4.
pub(super) fn prometheus(stats: &ServeStats) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, f64)]| {
        let lines = [format!("# HELP {name} {help}"), format!("# TYPE {name} {kind}")];
        let samples = samples.iter().map(|(labels, value)| format!("{name}{labels} {value}"));
        for line in lines.into_iter().chain(samples) {
            writeln!(text, "{line}").expect("a String takes whatever is written");
        }
    };
    let number = |count: u64| count as f64;
    let both = |sent: u64, received: u64| {
        [("{direction=\"sent\"}", number(sent)), ("{direction=\"received\"}", number(received))]
    };
    let info = [(format!("{{node=\"{}\"}}", stats.node), 1.0)];
    family("shard_node_info", "gauge", "Which node it is.", &[(&info[0].0, info[0].1)]);
    let uptime = [("", stats.uptime_ms as f64 / 1e3)];
    family("shard_node_uptime_seconds", "gauge", "How long it has been served.", &uptime);
    let bytes = both(stats.sent_bytes, stats.received_bytes);
    family("shard_node_traffic_bytes_total", "counter", "What went over sessions, with all that is added.", &bytes);
    let packets = both(stats.sent_packets, stats.received_packets);
    family("shard_node_traffic_packets_total", "counter", "Datagrams, and reads and writes over TCP.", &packets);
    let messages = both(stats.messages_sent, stats.messages_received);
    family("shard_node_messages_total", "counter", "Messages, once for each session.", &messages);
    family(
        "shard_node_errors_total",
        "counter",
        "Calls, messages and streams that failed.",
        &[("", number(stats.errors))],
    );
    let refused = [("", number(stats.refused))];
    family("shard_node_refused_total", "counter", "Callers turned away since a limit was reached.", &refused);
    let displaced = [("", number(stats.displaced))];
    family("shard_node_displaced_total", "counter", "Callers that made room for newer ones.", &displaced);
    let late = [("", number(stats.late))];
    family("shard_node_late_total", "counter", "Callers cut off since they did not say in time who they are.", &late);
    family("shard_node_handshakes", "gauge", "Callers whose handshake is under way.", &[("", number(stats.waiting))]);
    let total = [("", number(stats.sessions_total))];
    family("shard_node_sessions_total", "counter", "Sessions there have been.", &total);
    let active = [
        ("{transport=\"quic\"}", number(stats.sessions_active.saturating_sub(stats.websocket_sessions))),
        ("{transport=\"websocket\"}", number(stats.websocket_sessions)),
    ];
    family("shard_node_sessions", "gauge", "Sessions there are.", &active);
    if let Some(micros) = stats.round_trip_us {
        let mean = [("", micros as f64 / 1e6)];
        family("shard_node_round_trip_seconds", "gauge", "The mean of the sessions' last round trips.", &mean);
    }
    family(
        "shard_node_seeds",
        "gauge",
        "Seeds that are accepted; two while the group changes its seed.",
        &[("", number(stats.seeds))],
    );
    if let Some(kept) = stats.kept {
        family("shard_node_kept_bytes", "gauge", "Bytes of shards that peers keep here.", &[("", number(kept.bytes))]);
        family("shard_node_kept_shards", "gauge", "Shards that peers keep here.", &[("", number(kept.shards))]);
        family("shard_node_owners", "gauge", "Peers that keep something here.", &[("", number(kept.owners))]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::control::Kept;
    use super::*;
    use crate::id::NodeId;

    #[test]
    fn every_sample_stands_under_its_family_and_every_line_is_one() {
        let stats = ServeStats {
            node: NodeId([7; 32]),
            listen: None,
            ws_listen: None,
            uptime_ms: 1500,
            sent_bytes: 1,
            received_bytes: 2,
            sent_packets: 3,
            received_packets: 4,
            messages_sent: 5,
            messages_received: 6,
            errors: 7,
            refused: 8,
            waiting: 4,
            displaced: 11,
            late: 12,
            sessions_total: 9,
            sessions_active: 3,
            websocket_sessions: 1,
            round_trip_us: Some(250),
            seeds: 2,
            kept: Some(Kept { owners: 1, bytes: 77, shards: 2 }),
        };
        let text = prometheus(&stats);
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap_or_default().to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let kind = if family.ends_with("_total") { "counter" } else { "gauge" };
                assert_eq!(rest, format!("{family} {kind}"));
            } else {
                let (name, value) = line.rsplit_once(' ').expect("a name and a value");
                assert_eq!(name.split('{').next(), Some(family.as_str()), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        for expected in [
            "shard_node_uptime_seconds 1.5\n",
            "shard_node_traffic_bytes_total{direction=\"received\"} 2\n",
            "shard_node_sessions{transport=\"quic\"} 2\n",
            "shard_node_round_trip_seconds 0.00025\n",
            "shard_node_errors_total 7\n",
            "shard_node_handshakes 4\n",
            "shard_node_displaced_total 11\n",
            "shard_node_late_total 12\n",
            "shard_node_kept_bytes 77\n",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        assert!(!prometheus(&ServeStats { round_trip_us: None, ..stats }).contains("round_trip"));
    }
}
