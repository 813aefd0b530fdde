//! `shard gc`.

use super::catalog_backup::back_up_if_due;
use super::remove::{freed, waiting};
use crate::cli::args::Gc;
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::quantity::ByteSize;
use crate::cli::render::count;
use shard::ops::gc::{self, GcMode, GcOptions, GcReport};
use shard::store::Contact;
use std::fmt::Write;

pub(super) async fn gc(options: Gc, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Backends).await?;
    let mode = if options.dry_run { GcMode::DryRun } else { GcMode::Run };
    let report = context.settle(gc::gc(&store, GcOptions { mode, controls: context.controls() }).await)?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.gc/1", &report)?,
        Reader::Person => {
            let page = page(&report);
            match page.is_empty() {
                false => context.output.text(&page)?,
                true if context.notices.is_quiet() => {}
                true => context.output.text("nothing to clear\n")?,
            }
        }
    }
    if !report.dry_run {
        back_up_if_due(&store, context).await;
    }
    Ok(ExitCode::Done)
}

/// Empty where nothing was done and nothing waits.
fn page(report: &GcReport) -> String {
    let mut page = String::new();
    let mut line = |text: String| writeln!(page, "{text}").expect("a String takes it");
    let would = if report.dry_run { "would be " } else { "" };
    match (report.leftovers, report.dry_run) {
        (0, _) => {}
        (left, true) => line(format!("{} left by an interrupted run would be looked at", count(left, "object"))),
        (left, false) => line(format!("cleared {} that an interrupted run left half-written", count(left, "object"))),
    }
    for file in &report.unfinished {
        line(format!("unfinished {} {would}cleared", Printable(file.name.as_str())));
    }
    for kept in &report.unfinished_kept {
        line(format!("unfinished {} stays: {}", Printable(kept.name.as_str()), kept.why));
    }
    for copy in &report.surplus {
        let (index, object, backend) = (copy.index, copy.object, Printable(&copy.backend));
        line(format!("surplus copy of shard {index} of object {object} on {backend} {would}deleted"));
    }
    if report.recorded_again > 0 {
        let copies = count(report.recorded_again, "shard");
        let would = if report.dry_run { "would stay" } else { "stayed" };
        line(format!("{copies} that waited to be deleted {would}: no other copy is good"));
    }
    for packed in &report.repacked {
        let (live, all) = (ByteSize(packed.live_bytes), ByteSize(packed.file_bytes));
        let objects = count(packed.from.len() as u64, "object");
        line(format!("{objects} {would}packed anew: {live} of {all} live"));
    }
    if !report.emptied.is_empty() {
        line(format!("{} {would}emptied", count(report.emptied.len() as u64, "object")));
    }
    if report.removals_finished > 0 {
        line(format!("{} {would}finished", count(report.removals_finished, "removal")));
    }
    if !report.left_alone.is_empty() {
        let objects = count(report.left_alone.len() as u64, "object");
        line(format!("{objects} left alone: they cannot be read now"));
    }
    match report.dry_run {
        true if report.shards_deleted > 0 => {
            let (shards, bytes) = (count(report.shards_deleted, "shard"), ByteSize(report.bytes_freed));
            line(format!("at least {shards} would be deleted ({bytes})"));
        }
        true => {}
        false => page.push_str(&freed(report.shards_deleted, report.bytes_freed)),
    }
    page.push_str(&waiting(&report.waiting));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_is_not_deleted_is_told_and_a_dry_run_says_that_nothing_is_done_yet() {
        let told = |dry_run| page(&GcReport { dry_run, recorded_again: 2, ..GcReport::default() });
        assert_eq!(told(false), "2 shards that waited to be deleted stayed: no other copy is good\n");
        assert_eq!(told(true), "2 shards that waited to be deleted would stay: no other copy is good\n");
    }
}
