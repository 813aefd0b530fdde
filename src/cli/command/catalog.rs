//! `shard catalog`.

use super::backends::absolute_url;
use super::catalog_backup::back_up_if_due;
use super::exit_of;
use crate::cli::args::{RebuildCatalog, RestoreCatalog};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::quantity::{ByteSize, Span};
use crate::cli::render::{count, facts};
use crate::cli::table::{Table, Tone};
use shard::ops::adopt_places;
use shard::ops::backup::{LoadFrom, LoadedBackup};
use shard::ops::catalog_stats::{self, CatalogStatsOptions, CatalogStatsReport};
use shard::ops::ingest::NewestObject;
use shard::ops::rebuild::{self, RebuildOptions, RebuildReport, UnreadableObject};
use shard::ops::refresh::{self, RefreshOptions, RefreshReport};
use shard::store::{Contact, keys, load_key};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

pub(super) async fn rebuild(options: RebuildCatalog, context: &mut Context) -> Result<ExitCode, Failure> {
    let from: Vec<String> = options.from.iter().map(|url| absolute_url(url)).collect::<Result<_, _>>()?;
    if let Some(key) = &options.key {
        bring_key(key, &from, context).await?;
    }
    let backup = if options.without_backup { LoadFrom::Nothing } else { LoadFrom::Newest };
    make_anew("shard.catalog-rebuild/1", RebuildOptions { from, backup, controls: context.controls() }, context).await
}

pub(super) async fn restore(options: RestoreCatalog, context: &mut Context) -> Result<ExitCode, Failure> {
    let backup = options.from_file.map_or(LoadFrom::Required, LoadFrom::File);
    let options = RebuildOptions { from: Vec::new(), backup, controls: context.controls() };
    make_anew("shard.catalog-restore/1", options, context).await
}

async fn make_anew(schema: &'static str, options: RebuildOptions, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open_without_catalog().await?;
    if let Some(aside) = store.set_aside() {
        let aside = aside.display().to_string();
        context.notices.warning(&format!("the catalog was damaged: it is kept as {}", Printable(&aside)));
    }
    let report = context.settle(rebuild::rebuild(&store, options).await)?;
    match context.output.reader() {
        Reader::Script => context.output.document(schema, &report)?,
        Reader::Person => context.output.text(&rebuilt(&report))?,
    }
    for object in &report.unreadable {
        let (id, state, problem) = (object.id, object.state, &object.problem);
        context.notices.warning(&format!("object {id} is recorded as {state}, without names: {problem}"));
    }
    for object in &report.untrusted {
        context.notices.warning(&format!("object {} is left alone: {}", object.id, object.problem));
    }
    tell_behind(&report, context);
    if let Some(backup) = &report.backup {
        tell_of_backup(backup, context);
    }
    let unread = report.backends.iter().any(|backend| backend.problem.is_some());
    let partly = if unread || !report.untrusted.is_empty() { ExitCode::Degraded } else { ExitCode::Done };
    if report.unreadable.iter().any(|object| object.locked) {
        tell_to_import(context);
    }
    let exit = |object: &UnreadableObject| if object.locked { ExitCode::WrongKey } else { exit_of(object.state) };
    Ok(report.unreadable.iter().map(exit).collect::<ExitCode>().worst(partly))
}

/// Brings a key, makes a store of it where there is none, and takes the places that were named for its backends.
async fn bring_key(key: &Path, from: &[String], context: &Context) -> Result<(), Failure> {
    if matches!(key.try_exists(), Ok(false)) {
        return Err(Failure::new(FailureKind::NotFound, format!("there is no {}", key.display())));
    }
    let (folder, passphrase) = (context.store_folder()?, context.passphrase());
    let imported = keys::import(&folder, load_key(key, Some(&passphrase))?, Some(&passphrase))?;
    if imported.made_with_backends.is_some() {
        let protect = context.to_type("key passphrase");
        context
            .notices
            .note(&format!("made a store in {} of the key; `{protect}` sets a passphrase", folder.display()));
    }
    let store = context.open_without_catalog().await?;
    for place in context.settle(adopt_places(&store, from).await)? {
        context.notices.note(&format!("{} is backend {} of the store", place.id, Printable(&place.name)));
    }
    Ok(())
}

/// Which object is the newest, and which places may have been set back.
fn tell_behind(report: &RebuildReport, context: &Context) {
    let Some(newest) = report.newest else { return };
    let having = report.backends.iter().filter(|place| place.newest == Some(newest)).map(|place| place.name.as_str());
    let (created, id, having) = (newest.created, newest.id, having.collect::<Vec<_>>().join(", "));
    context.notices.note(&format!("the newest object found was made {created}: {id}, on {having}"));
    for place in report.backends.iter().filter(|place| place.lacks > 0) {
        let Some(newest) = place.newest else { continue };
        context.notices.warning(&behind(&place.name, newest, place.lacks));
    }
}

/// What could not be read of the backup, and what it knows that nobody shows.
fn tell_of_backup(backup: &LoadedBackup, context: &Context) {
    for problem in &backup.problems {
        context.notices.warning(&format!("a part of the backup could not be read, its objects were: {problem}"));
    }
    if let Some(first) = backup.not_found_first.first() {
        let objects = count(backup.not_found, "object");
        context.notices.note(&format!(
            "the backup knows {objects} that no place shows, {first} the first: removed since, lost, or on a place that \
             does not answer"
        ));
    }
}

/// What is said of a place that lacks the newest objects.
pub(super) fn behind(place: &str, newest: NewestObject, lacks: u64) -> String {
    let (lacks, created) = (count(lacks, "object"), newest.created);
    format!(
        "{place} has nothing made after {created} and lacks {lacks} that others have: it may have been set back to an \
         earlier state"
    )
}

/// What to do about objects that another machine sealed under a new key.
fn tell_to_import(context: &Context) {
    let import = context.to_type("key import FILE");
    context.notices.note(&format!("export the key where it was renewed, bring it here with `{import}`, and try again"));
}

fn rebuilt(report: &RebuildReport) -> String {
    let mut table = Table::new(["BACKEND", ">SHARDS", ">SIZE", "PROBLEM"]);
    for backend in &report.backends {
        let tone = if backend.problem.is_some() { Tone::Bad } else { Tone::Plain };
        let problem = backend.problem.clone().unwrap_or_default();
        let cells = [backend.name.clone(), backend.shards.to_string(), ByteSize(backend.bytes).to_string(), problem];
        table.row(tone, cells);
    }
    let took = Span(Duration::from_millis(report.elapsed_ms));
    table.render()
        + "\n"
        + &facts([
            ("files", format!("{}, {}", count(report.files, "file"), count(report.versions, "version"))),
            ("objects", format!("{}, {} of them removals", report.objects, report.removals)),
            ("unfinished", count(report.unfinished, "version")),
            ("in progress", count(report.in_progress, "object")),
            (
                "from backup",
                report.backup.as_ref().map_or_else(|| "none".to_owned(), |backup| count(backup.used, "object")),
            ),
            ("read", format!("{} in {took}", ByteSize(report.bytes_read))),
        ])
}

pub(super) async fn refresh(context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Backends).await?;
    let outcome = refresh::refresh(&store, RefreshOptions { controls: context.controls() }).await;
    let report = context.settle(outcome)?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.catalog-refresh/1", &report)?,
        Reader::Person => context.output.text(&refreshed(&report))?,
    }
    for object in &report.incomplete {
        let (id, found, needed) = (object.id, object.found, object.needed);
        let message =
            format!("object {id} has {found} of the {needed} shards it needs: another machine may be writing it");
        context.notices.note(&message);
    }
    if !report.incomplete.is_empty() {
        let rebuild = context.to_type("catalog rebuild");
        context.notices.note(&format!("if no other machine is, `{rebuild}` takes in what can be read of it"));
    }
    for object in &report.locked {
        context.notices.warning(&format!("object {object} opens only with a key that this machine lacks"));
    }
    if !report.locked.is_empty() {
        tell_to_import(context);
    }
    for object in &report.unreadable {
        context
            .notices
            .warning(&format!("object {} cannot be read and is not taken in: {}", object.id, object.problem));
    }
    for object in &report.untrusted {
        context.notices.warning(&format!("object {} is left alone: {}", object.id, object.problem));
    }
    for backend in &report.unlisted {
        context.notices.warning(&format!("backend {backend} could not be listed to its end"));
    }
    for object in &report.lost {
        let message = format!(
            "object {object} is recorded as lost: no backend has a shard of it any more, by damage or by another machine's \
             removal; `shard show {object}` says which files it held"
        );
        context.notices.warning(&message);
    }
    let whole = report.unlisted.is_empty() && report.untrusted.is_empty() && report.unreadable.is_empty();
    let partly = if whole { ExitCode::Done } else { ExitCode::Degraded };
    let locked = if report.locked.is_empty() { ExitCode::Done } else { ExitCode::WrongKey };
    let lost = if report.lost.is_empty() { ExitCode::Done } else { ExitCode::Lost };
    back_up_if_due(&store, context).await;
    Ok(partly.worst(lost).worst(locked))
}

fn refreshed(report: &RefreshReport) -> String {
    let gained = match report.versions_gained {
        0 => "no change".to_owned(),
        gained => format!("{gained:+} versions"),
    };
    let took = Span(Duration::from_millis(report.elapsed_ms));
    facts([
        ("new objects", report.objects.to_string()),
        ("files", format!("{} ({gained})", report.files)),
        ("shards found elsewhere", report.shards_found.to_string()),
        ("removed shards found", report.removed_shards_found.to_string()),
        ("read", format!("{} in {took}", ByteSize(report.bytes_read))),
    ])
}

pub(super) async fn stats(context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Nobody).await?;
    let outcome = catalog_stats::catalog_stats(&store, CatalogStatsOptions { controls: context.controls() }).await;
    let report = context.settle(outcome)?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.catalog-stats/1", &report)?,
        Reader::Person => context.output.text(&counted(&report))?,
    }
    Ok(ExitCode::Done)
}

fn counted(report: &CatalogStatsReport) -> String {
    let counts = |counts: &BTreeMap<String, u64>| {
        let words: Vec<String> = counts.iter().map(|(what, number)| format!("{number} {}", Printable(what))).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    };
    let page = facts([
        ("files", report.files.to_string()),
        ("versions", format!("{}, {} unfinished", report.versions, report.unfinished)),
        (
            "objects",
            format!(
                "{} of data, {} removals, {} of backups of the catalog",
                report.data_objects, report.removal_objects, report.catalog_objects
            ),
        ),
        ("by state", counts(&report.objects_by_state)),
        ("by level", counts(&report.objects_by_level)),
        ("shards", counts(&report.shards_by_state)),
        ("payload", ByteSize(report.payload_bytes).to_string()),
        ("on backends", ByteSize(report.shard_bytes).to_string()),
        ("to delete", count(report.pending_deletes, "shard")),
        ("catalog file", ByteSize(report.file_bytes).to_string()),
    ]);
    let mut table = Table::new(["BACKEND", ">SHARDS", ">SIZE"]);
    for (name, used) in &report.backends {
        table.row(Tone::Plain, [name.clone(), used.shards.to_string(), ByteSize(used.bytes).to_string()]);
    }
    if table.len() == 0 { page } else { page + "\n" + &table.render() }
}
