//! What verifying found, as text for Prometheus.
//!
//! Pure: the catalog's numbers and the report go in, the text comes out; whoever has a place for it writes it.

use super::verify::VerifyReport;
use crate::catalog::{CatalogStats, ObjectState, ShardState};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

const OBJECT_STATES: [ObjectState; 4] =
    [ObjectState::Healthy, ObjectState::Degraded, ObjectState::Unavailable, ObjectState::Lost];
const SHARD_STATES: [ShardState; 6] = [
    ShardState::Ok,
    ShardState::Surplus,
    ShardState::Misplaced,
    ShardState::Unreachable,
    ShardState::Missing,
    ShardState::Corrupt,
];
const NS_PER_S: f64 = 1e9;

/// The text exposition format, version 0.0.4: all objects by the catalog's numbers, this run by its report. `now_ns` is
/// when the run ended, in nanoseconds since 1970.
pub fn prometheus(report: &VerifyReport, stats: &CatalogStats, now_ns: i64) -> String {
    let mut text = Text::default();
    of_catalog(&mut text, stats);
    of_run(&mut text, report, now_ns);
    text.0
}

fn of_catalog(text: &mut Text, stats: &CatalogStats) {
    text.family("shard_objects", "Objects by their last known state.");
    for state in OBJECT_STATES {
        text.sample("shard_objects", &[("state", &state)], stats.objects.get(&state).copied().unwrap_or(0));
    }
    text.family("shard_shards", "Places of shards by their last known state.");
    for state in SHARD_STATES {
        text.sample("shard_shards", &[("state", &state)], stats.shards.get(&state).copied().unwrap_or(0));
    }
    text.family("shard_never_verified_objects", "Objects that were never verified in full.");
    text.sample("shard_never_verified_objects", &[], stats.never_verified);
    text.family("shard_pending_deletes", "Shards that wait to be deleted.");
    text.sample("shard_pending_deletes", &[], stats.pending_deletes);
    let oldest = stats.geometries.values().filter_map(|geometry| geometry.oldest_verified_ns).min();
    if let Some(oldest) = oldest {
        text.family("shard_oldest_verification_timestamp_seconds", "When the object verified longest ago was.");
        text.sample("shard_oldest_verification_timestamp_seconds", &[], seconds(oldest));
    }
    // One that is lost already has no margin, and is below all that have.
    let beyond = [ObjectState::Lost, ObjectState::Unavailable].iter().any(|state| stats.objects.get(state) > Some(&0));
    let least = |margin: Option<u32>| if beyond { Some(-1) } else { margin.map(i64::from) };
    if let Some(margin) = least(stats.smallest_margin) {
        let help = "How many zones may still be lost before some object is; -1 where one cannot be recovered now.";
        text.family("shard_smallest_margin_zones", help);
        text.sample("shard_smallest_margin_zones", &[], margin);
    }
    if let Some(margin) = stats.smallest_backend_margin {
        text.family("shard_smallest_margin_backends", "How many backends may still be lost before some object is.");
        text.sample("shard_smallest_margin_backends", &[], margin);
    }
}

fn of_run(text: &mut Text, report: &VerifyReport, now_ns: i64) {
    let summary = &report.summary;
    let run = [("mode", &report.mode as &dyn Display)];
    text.family("shard_verify_end_timestamp_seconds", "When the last verification ended.");
    text.sample("shard_verify_end_timestamp_seconds", &run, seconds(now_ns));
    text.family("shard_verify_duration_seconds", "How long it took.");
    text.sample("shard_verify_duration_seconds", &run, summary.elapsed_ms as f64 / 1e3);
    text.family("shard_verify_read_bytes", "How much it read.");
    text.sample("shard_verify_read_bytes", &run, summary.bytes_read);
    text.family("shard_verify_objects", "How many objects it looked at, by the state it found.");
    let counts = [summary.healthy, summary.degraded, summary.unavailable, summary.lost];
    for (state, count) in OBJECT_STATES.into_iter().zip(counts) {
        text.sample("shard_verify_objects", &[("mode", &report.mode), ("state", &state)], count);
    }
    text.family("shard_verify_remaining_objects", "How many were due and left for another time.");
    text.sample("shard_verify_remaining_objects", &run, summary.remaining);
    if let Some(confidence) = summary.confidence {
        text.family("shard_verify_confidence", "Probability that damage to one block in a hundred was found.");
        text.sample("shard_verify_confidence", &run, confidence);
    }
    let mut bad: BTreeMap<(&str, ShardState), (u64, u64)> = BTreeMap::new();
    for shard in report.objects.iter().flat_map(|verdict| &verdict.shards) {
        let (shards, blocks) = bad.entry((shard.backend.as_deref().unwrap_or(""), shard.state)).or_default();
        *shards += 1;
        *blocks += shard.bad_blocks;
    }
    text.family("shard_verify_shards", "What it saw on each backend.");
    for ((backend, state), (shards, _)) in &bad {
        text.sample("shard_verify_shards", &[("backend", backend), ("state", state)], shards);
    }
    text.family("shard_verify_bad_blocks", "Damaged blocks that it saw on each backend.");
    let mut blocks: BTreeMap<&str, u64> = BTreeMap::new();
    bad.iter().for_each(|((backend, _), (_, bad_blocks))| *blocks.entry(backend).or_default() += bad_blocks);
    for (backend, bad_blocks) in blocks {
        text.sample("shard_verify_bad_blocks", &[("backend", &backend)], bad_blocks);
    }
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / NS_PER_S
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} gauge"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(&value.to_string()))).collect();
        match labels.is_empty() {
            true => self.line(format_args!("{name} {value}")),
            false => self.line(format_args!("{name}{{{}}} {value}", labels.join(","))),
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a String takes whatever is written");
    }
}

/// As label values are written: backslash, quote and line end with a backslash.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::verify::{ShardVerdict, VerifyReport};

    #[test]
    fn labels_are_escaped_as_the_format_says() {
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }

    #[test]
    fn every_sample_stands_under_its_family_and_every_line_is_one() {
        let mut report = VerifyReport::sample_for_tests();
        report.objects[0].shards.push(ShardVerdict {
            index: 9,
            backend: Some("di\"sk".to_owned()),
            zone: None,
            state: ShardState::Corrupt,
            bad_blocks: 4,
            reason: None,
        });
        let stats = CatalogStats { smallest_margin: Some(1), never_verified: 3, ..CatalogStats::default() };
        let text = prometheus(&report, &stats, 1_500_000_000);
        let lost = CatalogStats { objects: BTreeMap::from([(ObjectState::Lost, 1)]), ..stats.clone() };
        assert!(prometheus(&report, &lost, 0).contains("shard_smallest_margin_zones -1\n"), "it is below all others");
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap_or_default().to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert_eq!(rest, format!("{family} gauge"));
            } else {
                let (name, value) = line.rsplit_once(' ').expect("a name and a value");
                assert_eq!(name.split('{').next(), Some(family.as_str()), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        for expected in [
            "shard_never_verified_objects 3\n",
            "shard_smallest_margin_zones 1\n",
            "shard_verify_end_timestamp_seconds{mode=\"full\"} 1.5\n",
            "shard_verify_bad_blocks{backend=\"di\\\"sk\"} 4\n",
            "shard_verify_shards{backend=\"di\\\"sk\",state=\"corrupt\"} 1\n",
            "shard_objects{state=\"lost\"} 0\n",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }
}
