//! `shard repair` and `shard backend drain`.

use super::exit_of;
use crate::cli::args::{DrainBackend, Repair};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::quantity::{ByteSize, Span};
use crate::cli::render::{count, object_tone, toned};
use crate::cli::table::{Table, Tone};
use shard::catalog::ObjectState;
use shard::id::ObjectId;
use shard::ops::drain::{self, DrainOptions, DrainReport};
use shard::ops::repair::{self, BackendPlan, RepairOptions, RepairReport, RepairedObject};
use shard::store::Contact;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

pub(super) async fn run(options: Repair, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Backends).await?;
    let wanted = RepairOptions {
        names: options.names,
        assume_lost: options.assume_lost,
        dry_run: options.dry_run,
        controls: context.controls(),
    };
    let report = context.settle(repair::repair(&store, wanted).await)?;
    let verb = if report.plan.is_some() { "would hold" } else { "holds" };
    for object in &report.objects {
        let zones: BTreeSet<&String> = object.rebuilt.iter().filter_map(|shard| shard.crowded_zone.as_ref()).collect();
        zones.into_iter().for_each(|zone| warn_of_crowd(context, (object.id, zone), verb));
    }
    match context.output.reader() {
        Reader::Script => context.output.document("shard.repair/1", &report)?,
        Reader::Person if context.notices.is_quiet() && !report.objects.iter().any(is_worth_telling) => {}
        Reader::Person => context.output.text(&page(&report))?,
    }
    Ok(report.objects.iter().map(|object| exit_of(object.after)).collect())
}

/// Says that a zone got more shards of an object than its seal allows, for want of another place.
fn warn_of_crowd(context: &Context, (object, zone): (ObjectId, &str), verb: &str) {
    let zone = Printable(zone);
    context.notices.warning(&format!(
        "zone {zone} {verb} more shards of object {object} than its seal allows to one zone: no other place takes them"
    ));
}

fn page(report: &RepairReport) -> String {
    let mut page = String::new();
    for object in report.objects.iter().filter(|object| is_worth_telling(object)) {
        page.push_str(&object_lines(object, report.plan.is_some()));
    }
    let healthy = report.objects.iter().filter(|object| object.after == ObjectState::Healthy).count();
    writeln!(page, "{} looked at, {healthy} healthy", count(report.objects.len() as u64, "object"))
        .expect("a String takes it");
    match &report.plan {
        Some(plan) => page.push_str(&plan_table(plan)),
        None => page.push_str(&traffic(report.bytes_read, report.bytes_written, report.elapsed_ms)),
    }
    page
}

fn is_worth_telling(object: &RepairedObject) -> bool {
    object.before != ObjectState::Healthy || !object.rebuilt.is_empty()
}

fn object_lines(object: &RepairedObject, is_plan: bool) -> String {
    let before = toned(object_tone(object.before), object.before);
    let mut lines = match is_plan {
        true => format!("object {}: {before}\n", object.id),
        false => format!("object {}: {before}, now {}\n", object.id, toned(object_tone(object.after), object.after)),
    };
    let done = if is_plan { "would be rebuilt" } else { "rebuilt" };
    for shard in &object.rebuilt {
        let to = Printable(&shard.to);
        let from = shard.from.as_ref().filter(|from| **from != shard.to);
        let from = from.map_or_else(String::new, |from| format!(" (it was on {})", Printable(from)));
        writeln!(lines, "  shard {} {done} on {to}{from}", shard.index).expect("a String takes it");
    }
    for left in &object.left {
        let place = left.backend.as_ref().map_or_else(String::new, |backend| format!(" on {}", Printable(backend)));
        let why = Printable(&left.reason);
        let line = format!("  shard {}{place} is {}: {why}", left.index, left.state);
        writeln!(lines, "{}", toned(Tone::Worrying, line)).expect("a String takes it");
    }
    lines
}

fn plan_table(plan: &[BackendPlan]) -> String {
    let mut table = Table::new(["BACKEND", ">WOULD READ", ">WOULD WRITE", ">SHARDS"]);
    for backend in plan {
        let (read, written) = (ByteSize(backend.bytes_read).to_string(), ByteSize(backend.bytes_written).to_string());
        table.row(Tone::Plain, [backend.backend.clone(), read, written, backend.shards.to_string()]);
    }
    table.render()
}

fn traffic(read: u64, written: u64, elapsed_ms: u64) -> String {
    let took = Span(Duration::from_millis(elapsed_ms));
    format!("read {}, wrote {} in {took}\n", ByteSize(read), ByteSize(written))
}

pub(super) async fn drain(options: DrainBackend, context: &mut Context) -> Result<ExitCode, Failure> {
    let mut store = context.open(Contact::Backends).await?;
    let wanted = DrainOptions { backend: options.name, controls: context.controls() };
    let report = context.settle(drain::drain(&mut store, wanted).await)?;
    let crowded = report.moved.iter().filter_map(|moved| Some((moved.object, moved.crowded_zone.as_deref()?)));
    let crowded: BTreeSet<(ObjectId, &str)> = crowded.collect();
    crowded.into_iter().for_each(|crowd| warn_of_crowd(context, crowd, "holds"));
    match context.output.reader() {
        Reader::Script => context.output.document("shard.backend-drain/1", &report)?,
        Reader::Person => context.output.text(&drained(&report, context))?,
    }
    Ok(if report.empty { ExitCode::Done } else { ExitCode::Degraded })
}

fn drained(report: &DrainReport, context: &Context) -> String {
    let name = Printable(&report.backend);
    let mut page = format!("{} moved off {name}\n", count(report.moved.len() as u64, "shard"));
    for left in &report.left {
        let (index, object, why) = (left.index, left.object, Printable(&left.reason));
        writeln!(page, "shard {index} of object {object} is still there: {why}").expect("a String takes it");
    }
    page.push_str(&traffic(report.bytes_read, report.bytes_written, report.elapsed_ms));
    match report.empty {
        true => writeln!(page, "{name} is empty: {}", context.to_type(&format!("backend remove {}", report.backend))),
        false => writeln!(page, "{name} takes no new shards; run this again to go on"),
    }
    .expect("a String takes it");
    page
}
