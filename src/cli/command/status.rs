//! `shard status`.

use super::exit_of;
use crate::cli::args::Status;
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::quantity::{ByteSize, Span};
use crate::cli::render::{count, facts, margin, object_tone, toned};
use crate::cli::said::words;
use crate::cli::table::{Table, Tone};
use shard::catalog::{ChallengeOutcome, ObjectState};
use shard::ops::status::{self, BackendStatus, ObjectCounts, SaidByNode, StatusCheck, StatusOptions, StatusReport};
use shard::peer::storage::NoticeKind;
use shard::store::{Contact, Held};
use std::fmt::Write;
use std::time::Duration;

pub(super) async fn run(options: Status, context: &mut Context) -> Result<ExitCode, Failure> {
    let contact = if options.check { Contact::Backends } else { Contact::Nobody };
    let store = context.open(contact).await?;
    // What the look sees is in the catalog afterwards, and in the report with it.
    let check = if options.check { StatusCheck::AskBackends } else { StatusCheck::CatalogOnly };
    let outcome = status::status(&store, StatusOptions { check, controls: context.controls() }).await;
    let report = context.settle(outcome)?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.status/1", &report)?,
        Reader::Person => context.output.text(&page(&report, context))?,
    }
    let overdue = if report.overdue { ExitCode::Degraded } else { ExitCode::Done };
    Ok(exit_of(report.state).worst(overdue))
}

fn page(report: &StatusReport, context: &Context) -> String {
    let zones = |margin: Option<u32>| margin.map(|margin| margin as usize);
    let (files, versions) = (count(report.files, "file"), count(report.versions, "version"));
    let mut lines = vec![
        ("store", report.store.to_string()),
        ("state", toned(object_tone(report.state), report.state)),
        ("files", format!("{files}, {versions}")),
        ("objects", objects(&report.objects)),
        ("space", format!("{} of data, {} of shards", ByteSize(report.space.payload), ByteSize(report.space.shards))),
    ];
    if report.objects.total > 0 {
        lines.push(("margin", margin(zones(report.margin), zones(report.backend_margin))));
        lines.push(("may be lost", report.may_be_lost.join("; ")));
    }
    match (report.key.held, report.key.writer) {
        (Held::Owner, _) => {}
        (Held::WriteOnly, Some(writer)) => lines.push((
            "key",
            format!("write-only: this machine stores files as writer {writer}, and reads and removes none"),
        )),
        (Held::VerifyOnly | Held::WriteOnly, _) => {
            lines.push((
                "key",
                "verify-only: this machine checks and repairs, and stores and removes nothing".to_owned(),
            ));
        }
    }
    if !report.key.exported {
        let export = context.to_type("key export -o FILE");
        lines.push(("key", toned(Tone::Worrying, format!("on this machine alone, not exported: {export}"))));
    }
    let mut page = facts(lines);
    page.push('\n');
    page.push_str(&backends(&report.backends));
    page.push_str(&failures(&report.backends));
    page.push_str(&said(&report.backends, context));
    page.push_str(&verification(report, context));
    page.push_str(&chores(report, context));
    page
}

fn objects(counts: &ObjectCounts) -> String {
    let states = [
        (counts.healthy, ObjectState::Healthy),
        (counts.degraded, ObjectState::Degraded),
        (counts.unavailable, ObjectState::Unavailable),
        (counts.lost, ObjectState::Lost),
    ];
    let seen = states.into_iter().filter(|(number, _)| *number > 0);
    let words: Vec<String> =
        seen.map(|(number, state)| toned(object_tone(state), format!("{number} {state}"))).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn backends(backends: &[BackendStatus]) -> String {
    if backends.is_empty() {
        return "no backends\n".to_owned();
    }
    let mut table = Table::new(["BACKEND", "ZONE", ">SHARDS", ">USED", ">QUOTA", ">ASKED", ">FAILED", "STATE"]);
    for backend in backends {
        let mut state: Vec<String> =
            (backend.state != "unknown").then(|| backend.state.to_owned()).into_iter().collect();
        state.extend(backend.draining.then(|| "draining".to_owned()));
        state.extend(backend.read_only.then(|| "read-only".to_owned()));
        state.extend(
            (backend.pending_deletes > 0).then(|| format!("{} to delete", count(backend.pending_deletes, "shard"))),
        );
        let tone = match backend.state {
            "unreachable" | "wrong-place" => Tone::Bad,
            _ => Tone::Plain,
        };
        let quota = backend.quota.map_or_else(|| "-".to_owned(), |quota| ByteSize(quota).to_string());
        let cells = [
            backend.name.clone(),
            backend.zone.clone(),
            backend.shards.to_string(),
            ByteSize(backend.used).to_string(),
            quota,
            backend.history.asked().to_string(),
            backend.history.failed().to_string(),
            if state.is_empty() { "-".to_owned() } else { state.join(", ") },
        ];
        table.row(tone, cells);
    }
    table.render()
}

/// What backends failed of what they were asked for: each shard that a verification looks at is a challenge.
fn failures(backends: &[BackendStatus]) -> String {
    let mut page = String::new();
    for backend in backends {
        let (history, name) = (&backend.history, Printable(&backend.name));
        let Some(last) = history.failures.first() else { continue };
        let kinds = [
            (history.wrong, ChallengeOutcome::Wrong),
            (history.missing, ChallengeOutcome::Missing),
            (history.silent, ChallengeOutcome::Silent),
        ];
        let seen = kinds.into_iter().filter(|(number, _)| *number > 0);
        let kinds: Vec<String> = seen.map(|(number, outcome)| format!("{number} {}", word(outcome))).collect();
        let (failed, asked) = (history.failed(), history.asked());
        let (when, outcome, shard, object) = (last.when, word(last.outcome), last.shard, last.object);
        let line = format!(
            "{name} failed {failed} of {asked} times that it was asked for a shard ({}), last at {when}: shard {shard} of \
             object {object} {outcome}",
            kinds.join(", ")
        );
        writeln!(page, "{}", toned(Tone::Worrying, line)).expect("a String takes it");
    }
    if page.is_empty() { page } else { format!("\n{page}") }
}

/// What nodes said and nobody looked at since: a hint, and no state.
fn said(backends: &[BackendStatus], context: &Context) -> String {
    let mut page = String::new();
    for backend in backends {
        for SaidByNode { kind, shards, text, heard } in &backend.said {
            let (name, what) = (Printable(&backend.name), words(*kind, *shards, text));
            let hint = match kind {
                NoticeKind::RepairNeeded => format!("; see for yourself: {}", context.to_type("verify")),
                _ => String::new(),
            };
            writeln!(page, "{}", toned(Tone::Worrying, format!("{name} said, {heard}: {what}{hint}")))
                .expect("a String takes it");
        }
    }
    if page.is_empty() { page } else { format!("\n{page}") }
}

fn word(outcome: ChallengeOutcome) -> &'static str {
    match outcome {
        ChallengeOutcome::Answered => "answered",
        ChallengeOutcome::Wrong => "wrong",
        ChallengeOutcome::Missing => "missing",
        ChallengeOutcome::Silent => "without an answer",
    }
}

fn verification(report: &StatusReport, context: &Context) -> String {
    let mut page = String::new();
    for age in &report.verification {
        let what = if age.never_verified > 0 { "put or full verification" } else { "full verification" };
        let old =
            age.age_s.map_or_else(|| "unknown".to_owned(), |age| format!("{} ago", Span(Duration::from_secs(age))));
        let (level, objects, wanted) =
            (&age.level, count(age.objects, "object"), Span(Duration::from_secs(age.wanted_s)));
        let line = format!("{level}: {objects}, oldest {what} {old}, wanted every {wanted}");
        let tone = if age.overdue { Tone::Worrying } else { Tone::Plain };
        writeln!(page, "{}", toned(tone, line)).expect("a String takes it");
    }
    if report.overdue {
        writeln!(page, "verify what is due: {}", context.to_type("verify --max-age 7d")).expect("a String takes it");
    }
    if page.is_empty() { page } else { format!("\n{page}") }
}

fn chores(report: &StatusReport, context: &Context) -> String {
    let mut page = String::new();
    for unfinished in &report.unfinished {
        let (name, stored) = (Printable(unfinished.name.as_str()), ByteSize(unfinished.stored));
        let gc = context.to_type("gc");
        writeln!(page, "unfinished: {name}, {stored} stored; put it again to go on, or clear it: {gc}")
            .expect("a String takes it");
    }
    if report.leftovers > 0 {
        let leftovers = count(report.leftovers, "object");
        writeln!(
            page,
            "{leftovers} left half-written by a process that ended; the next command that writes clears that"
        )
        .expect("a String takes it");
    }
    page
}
