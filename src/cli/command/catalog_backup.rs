//! `shard catalog backup`, and the backup that is made by itself after a command.

use crate::cli::args::BackupCatalog;
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::quantity::{ByteSize, Span};
use crate::cli::render::{count, facts};
use shard::ops::Controls;
use shard::ops::backup::{self, BackupExtent, BackupKind, BackupOptions, BackupReport, BackupTo};
use shard::ops::recover::Existing;
use shard::store::{Contact, Store};
use std::time::Duration;

pub(super) async fn backup(options: BackupCatalog, context: &mut Context) -> Result<ExitCode, Failure> {
    // For a file no backend is asked.
    let contact = if options.output.is_some() { Contact::Nobody } else { Contact::Backends };
    let store = context.open(contact).await?;
    let existing = if options.force { Existing::Replace } else { Existing::Keep };
    let to = options.output.map_or(BackupTo::Store, |path| BackupTo::File { path, existing });
    let extent = if options.full { BackupExtent::All } else { BackupExtent::New };
    let outcome = backup::backup(&store, BackupOptions { to, extent, controls: context.controls() }).await;
    let report = context.settle(outcome)?;
    if let Some(why) = &report.not_removed {
        context.notices.warning(&not_removed(why));
    }
    match context.output.reader() {
        Reader::Script => context.output.document("shard.catalog-backup/1", &report)?,
        Reader::Person => context.output.text(&page(&report))?,
    }
    Ok(if report.is_degraded() { ExitCode::Degraded } else { ExitCode::Done })
}

fn not_removed(why: &str) -> String {
    format!("the backup is made; older ones could not be removed, the next backup tries again: {why}")
}

fn page(report: &BackupReport) -> String {
    let what = match (&report.file, report.generation) {
        (Some(file), _) => Printable(file).to_string(),
        (None, generation) => format!("backup {} in the store", generation.unwrap_or(0)),
    };
    if report.kind == BackupKind::None {
        return format!("nothing new: {what} has all {}\n", count(report.records, "record"));
    }
    let kind = if report.kind == BackupKind::Full { "everything" } else { "what is new" };
    let took = Span(Duration::from_millis(report.elapsed_ms));
    let mut lines = vec![
        ("backup", format!("{what}, {kind}")),
        ("records", format!("{} written, {} in all", report.added, report.records)),
        ("written", format!("{} in {took}", ByteSize(report.bytes_written))),
    ];
    if report.left_out > 0 {
        lines.push(("left out", format!("{}, not read here yet", count(report.left_out, "object"))));
    }
    if report.file.is_none() {
        let removed = count(report.removed, "object");
        lines.push(("kept", format!("{}, {removed} of older ones removed", count(report.kept, "backup"))));
    }
    facts(lines)
}

/// Backs the catalog up where that is due, once what was asked for is done and told. It fails nothing: what could not be
/// backed up is tried again after the next command.
pub(super) async fn back_up_if_due(store: &Store, context: &Context) {
    let outcome = match backup::is_due(store).await {
        Ok(false) => return,
        Ok(true) => {
            let controls = Controls { progress: None, cancel: context.cancel.clone() };
            backup::backup(store, BackupOptions { controls, ..BackupOptions::default() }).await
        }
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) => context.notices.note(&format!("the catalog could not be backed up: {error}")),
        Ok(BackupReport { not_removed: Some(why), .. }) => context.notices.note(&not_removed(&why)),
        Ok(_) => {}
    }
}
