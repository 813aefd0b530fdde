//! `shard verify`.

use super::exit_of;
use crate::cli::args::{self, Depth, Verify};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::metrics_file::MetricsFile;
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::quantity::{ByteSize, Span};
use crate::cli::render::{count, headline, margin, object_tone, shard_tone, toned};
use crate::cli::table::Table;
use shard::catalog::{ObjectState, ShardState};
use shard::format::ObjectKind;
use shard::ops::prometheus;
use shard::ops::verify::{
    self, Budget, ObjectVerdict, SetBack, VerifyMode, VerifyOptions, VerifyReport, VerifySummary,
};
use shard::store::{Contact, Store};
use std::fmt::Write;
use std::time::Duration;

/// This many names of an object's files are said.
const MAX_NAMES: usize = 3;

pub(super) async fn run(options: Verify, context: &mut Context) -> Result<ExitCode, Failure> {
    // Before hours of reading, not after them.
    let metrics = options.metrics.as_deref().map(MetricsFile::at).transpose()?;
    let store = context.open(Contact::Backends).await?;
    let mode = match options.depth() {
        Depth::Quick => VerifyMode::Quick,
        Depth::Sample(percent) => VerifyMode::Sample { percent: percent.share() * 100.0 },
        Depth::Full => VerifyMode::Full,
    };
    let budget = options.budget.map(|budget| match budget {
        args::Budget::Bytes(size) => Budget::Bytes(size.0),
        args::Budget::Time(span) => Budget::Time(span.0),
    });
    let max_age = options.max_age.map(|span| span.0);
    let wanted = VerifyOptions { names: options.names, mode, max_age, budget, controls: context.controls() };
    let report = context.settle(verify::verify(&store, wanted).await)?;
    let seen = exit_of(report.worst());
    let written = match metrics {
        Some(file) => write_metrics(file, &report, &store).await,
        None => Ok(()),
    };
    // What is lost outweighs a file that could not be written, and is told all the same.
    if seen == ExitCode::Done {
        written.clone()?;
    }
    match context.output.reader() {
        Reader::Script => context.output.document("shard.verify/1", &report)?,
        Reader::Person if context.notices.is_quiet() && !report.objects.iter().any(is_worth_telling) => {}
        Reader::Person => context.output.text(&page(&report, context))?,
    }
    let Err(failure) = written else { return Ok(seen) };
    context.notices.failure(&failure);
    Ok(seen.worst(failure.kind.exit()))
}

async fn write_metrics(file: MetricsFile, report: &VerifyReport, store: &Store) -> Result<(), Failure> {
    let stats = store.look(|catalog| catalog.stats()).await?;
    file.replace(prometheus(report, &stats, store.now_ns()).as_bytes())
}

fn page(report: &VerifyReport, context: &Context) -> String {
    let mut page = String::new();
    for verdict in report.objects.iter().filter(|verdict| is_worth_telling(verdict)) {
        page.push_str(&object_page(verdict));
        page.push('\n');
    }
    page.push_str(&summary(report));
    for place in &report.set_back {
        page.push_str(&set_back(place));
    }
    match report.worst() {
        ObjectState::Healthy => {}
        ObjectState::Degraded => {
            writeln!(page, "nothing is lost; make it whole: {}", context.to_type("repair")).expect("a String takes it");
        }
        ObjectState::Unavailable => {
            let check = context.to_type("backend check");
            writeln!(page, "backends that cannot be reached may hold the rest: {check}").expect("a String takes it");
        }
        ObjectState::Lost => {
            page.push_str("too few shards are left of what is lost; a copy elsewhere is the only help\n");
        }
    }
    page
}

/// What is said of a backend that went back to an earlier state.
fn set_back(place: &SetBack) -> String {
    let (backend, missing, newest) = (Printable(&place.backend), count(place.missing, "object"), place.newest_there);
    format!(
        "{backend} went back to an earlier state: it lacks {missing}, all made after the newest that it still has \
         ({newest}); was it restored from a copy?\n"
    )
}

fn is_worth_telling(verdict: &ObjectVerdict) -> bool {
    verdict.state != ObjectState::Healthy || verdict.shards.iter().any(|shard| shard.state != ShardState::Ok)
}

fn object_page(verdict: &ObjectVerdict) -> String {
    let mut page = headline(&format!("object {}{}", verdict.id, names(verdict)));
    let state = toned(object_tone(verdict.state), verdict.state);
    let may = margin(verdict.margin, verdict.backend_margin);
    writeln!(page, "{state}; may still be lost: {may}").expect("a String takes it");
    let mut table = Table::new([">SHARD", "BACKEND", "ZONE", "STATE", "WHY"]);
    for shard in &verdict.shards {
        let bad = (shard.bad_blocks > 0).then(|| count(shard.bad_blocks, "bad block"));
        let why = [bad, shard.reason.clone()].into_iter().flatten().collect::<Vec<_>>().join(": ");
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
        let cells = [shard.index.to_string(), name(&shard.backend), name(&shard.zone), shard.state.to_string(), why];
        table.row(shard_tone(shard.state), cells);
    }
    page + &table.render()
}

/// ` (thesis.pdf, a.txt, …)`.
pub(super) fn names(verdict: &ObjectVerdict) -> String {
    let mut names: Vec<String> =
        verdict.names.iter().take(MAX_NAMES).map(|name| Printable(name.as_str()).to_string()).collect();
    if verdict.names.len() > MAX_NAMES || verdict.more_names {
        names.push("…".to_owned());
    }
    match verdict.kind {
        ObjectKind::Data if names.is_empty() => String::new(),
        ObjectKind::Data => format!(" ({})", names.join(", ")),
        ObjectKind::Removal => " (a removal)".to_owned(),
        ObjectKind::Catalog => " (a backup of the catalog)".to_owned(),
    }
}

fn summary(report: &VerifyReport) -> String {
    let summary = &report.summary;
    if summary.objects == 0 && summary.remaining == 0 {
        return "nothing to verify\n".to_owned();
    }
    let mut page = format!("{}: {}\n", count(summary.objects, "object"), states(summary));
    let (read, took) = (ByteSize(summary.bytes_read), Span(Duration::from_millis(summary.elapsed_ms)));
    let looked = match report.mode {
        "full" => "read every block of every shard",
        "sample" => "read a sample of the blocks",
        _ => "looked at presence, length, manifest and trailer",
    };
    writeln!(page, "{looked}: {read} in {took}").expect("a String takes it");
    if summary.remaining > 0 {
        let remaining = count(summary.remaining, "object");
        writeln!(page, "{remaining} left for another time: the budget is used up").expect("a String takes it");
    }
    if let Some(sample) = &summary.sample {
        writeln!(
            page,
            "{} of {} read; damage would have been found:",
            sample.blocks_checked,
            count(sample.blocks, "block")
        )
        .expect("a String takes it");
        for detection in &sample.detects {
            let (bad, percent) = (count(detection.bad_blocks, "bad block"), detection.confidence * 100.0);
            writeln!(page, "  {bad}: {percent:.1} % certain").expect("a String takes it");
        }
    }
    page
}

fn states(summary: &VerifySummary) -> String {
    let counts = [
        (summary.healthy, ObjectState::Healthy),
        (summary.degraded, ObjectState::Degraded),
        (summary.unavailable, ObjectState::Unavailable),
        (summary.lost, ObjectState::Lost),
    ];
    let seen = counts.into_iter().filter(|(number, _)| *number > 0);
    let words: Vec<String> =
        seen.map(|(number, state)| toned(object_tone(state), format!("{number} {state}"))).collect();
    words.join(", ")
}
