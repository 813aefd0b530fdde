//! `shard put`.

use super::catalog_backup::back_up_if_due;
use super::exit_of;
use super::files::level_words;
use crate::cli::args::{Put, PutCheck, SealName};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::quantity::ByteSize;
use crate::cli::render::{count, facts, name_argument, shard_kind, shard_tone};
use crate::cli::streams::BlockingInput;
use crate::cli::table::{Table, Tone};
use shard::ops::put::{self, PutOptions, PutReport, PutSource, StoredFile};
use shard::ops::writer::{ReadableZone, StoredObject, StoredShard};
use shard::store::{Store, load_recipient};
use shard::stripe::Check;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// This many files are named one by one; of more only the number is said.
const MAX_NAMED_FILES: usize = 10;

pub(super) async fn run(options: Put, context: &mut Context) -> Result<ExitCode, Failure> {
    // Whatever is not there is said before a store is made for it.
    let sources: Vec<PutSource> = options.paths.iter().map(|path| source(path, &options)).collect::<Result<_, _>>()?;
    let store = context.open_or_make().await?;
    let level = options.redundancy();
    let check = options.check.map(|check| match check {
        PutCheck::Parity => Check::Parity,
        PutCheck::Full => Check::Full,
    });
    let outcome = put::put(
        &store,
        PutOptions {
            sources,
            level,
            seal: options.seal.map(SealName::seal),
            recipient: options.recipient.as_deref().map(load_recipient).transpose()?.map(Arc::new),
            readable_zone: match options.allow_readable_zone {
                true => ReadableZone::Allow,
                false => ReadableZone::Refuse,
            },
            check,
            controls: context.controls(),
        },
    )
    .await;
    let report = context.settle(outcome)?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.put/1", &report)?,
        Reader::Person => context.output.text(&page(&report, &store, context))?,
    }
    for failed in &report.failed {
        context.notices.warning(&format!("not stored: {}: {}", failed.path, failed.error));
    }
    advise_export(&store, &report, context).await?;
    back_up_if_due(&store, context).await;
    Ok(exit(&report))
}

/// Says, once for each key, that it should be saved: what was put is worth nothing without it.
async fn advise_export(store: &Store, report: &PutReport, context: &Context) -> Result<(), Failure> {
    if !report.objects.is_empty() && context.notices.tells_notes() && store.take_export_advice().await? {
        let export = context.to_type("key export -o FILE");
        context
            .notices
            .note(&format!("nothing can be read without the key, which is on this machine alone: `{export}`"));
    }
    Ok(())
}

fn source(path: &Path, options: &Put) -> Result<PutSource, Failure> {
    match options.name.clone() {
        Some(name) if Put::is_stdin(path) => {
            Ok(PutSource::Reader { reader: Box::new(BlockingInput::new(std::io::stdin())), name })
        }
        name => Ok(PutSource::at(path, name)?),
    }
}

fn exit(report: &PutReport) -> ExitCode {
    let failed = if report.failed.is_empty() { ExitCode::Done } else { ExitCode::Failed };
    let degraded = if report.is_degraded() { ExitCode::Degraded } else { ExitCode::Done };
    failed.worst(degraded).worst(report.unchanged_state.map_or(ExitCode::Done, exit_of))
}

fn page(report: &PutReport, store: &Store, context: &Context) -> String {
    let mut page = String::new();
    files(report, &mut page);
    if report.objects.is_empty() {
        return page;
    }
    page.push('\n');
    page.push_str(&match report.objects.as_slice() {
        [object] => shards_of(object),
        objects => shards_by_backend(objects),
    });
    page.push('\n');
    let recover = context.to_type(&format!("recover{}", recover_argument(report)));
    // What a writer put opens with a key that it lacks.
    let recover = if store.writer().is_some() { format!("{recover}, on the owner's machine") } else { recover };
    page.push_str(&facts([
        ("may be lost", may_be_lost(report)),
        ("check it", context.to_type(&format!("verify{}", argument(report)))),
        ("get it back", recover),
    ]));
    page
}

/// What was stored, by name while that is readable.
fn files(report: &PutReport, page: &mut String) {
    let line = |page: &mut String, file: &StoredFile| {
        let done = if file.skipped { "unchanged" } else { "stored" };
        let (name, size) = (Printable(file.name.as_str()), ByteSize(file.size));
        writeln!(page, "{done} {name} ({size}) as version {}", file.version).expect("a String takes it");
    };
    if report.files.len() <= MAX_NAMED_FILES {
        report.files.iter().for_each(|file| line(page, file));
    } else {
        let (skipped, stored): (Vec<_>, Vec<_>) = report.files.iter().partition(|file| file.skipped);
        let bytes = ByteSize(stored.iter().map(|file| file.size).sum());
        let unchanged = if skipped.is_empty() { String::new() } else { format!("; {} unchanged", skipped.len()) };
        writeln!(page, "stored {} ({bytes}){unchanged}", count(stored.len() as u64, "file"))
            .expect("a String takes it");
    }
    let Some(first) = report.objects.first() else { return };
    let objects = count(report.objects.len() as u64, "object");
    let written = ByteSize(report.bytes_written);
    let (k, n) = (first.data_shards, first.total_shards);
    writeln!(page, "{objects}, {written} of shards: {}", level_words(k, n)).expect("a String takes it");
}

fn shards_of(object: &StoredObject) -> String {
    let mut table = Table::new([">SHARD", "KIND", "BACKEND", "ZONE", ">SIZE", "STATE"]);
    for shard in &object.shards {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
        table.row(
            shard_tone(shard.state),
            [
                shard.index.to_string(),
                shard_kind(shard.index, object.data_shards).to_owned(),
                name(&shard.backend),
                name(&shard.zone),
                ByteSize(shard.bytes).to_string(),
                shard.state.to_string(),
            ],
        );
    }
    table.render()
}

fn shards_by_backend(objects: &[StoredObject]) -> String {
    let mut places: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    let placed = |shard: &'_ StoredShard| shard.backend.is_some();
    for shard in objects.iter().flat_map(|object| &object.shards).filter(|shard| placed(shard)) {
        let place = (shard.backend.as_deref().unwrap_or("-"), shard.zone.as_deref().unwrap_or("-"));
        let (shards, bytes) = places.entry(place).or_default();
        (*shards, *bytes) = (*shards + 1, *bytes + shard.bytes);
    }
    let mut table = Table::new(["BACKEND", "ZONE", ">SHARDS", ">SIZE"]);
    for ((backend, zone), (shards, bytes)) in places {
        let cells = [backend.to_owned(), zone.to_owned(), shards.to_string(), ByteSize(bytes).to_string()];
        table.row(Tone::Plain, cells);
    }
    let homeless = objects.iter().flat_map(|object| &object.shards).filter(|shard| !placed(shard)).count() as u64;
    if homeless > 0 {
        table.row(Tone::Bad, ["(no place)".to_owned(), String::new(), homeless.to_string(), String::new()]);
    }
    table.render()
}

/// What may be lost of what was written: `any 2 backends, but not zone disk-sda`.
fn may_be_lost(report: &PutReport) -> String {
    let least = |margin: fn(&StoredObject) -> Option<usize>| report.objects.iter().map(margin).min().flatten();
    let (Some(zones), Some(backends)) = (least(|object| object.margin), least(|object| object.backend_margin)) else {
        return "nothing: too few shards outlive this process".to_owned();
    };
    let mut words = Vec::new();
    words.extend((zones > 0).then(|| format!("any {}", count(zones as u64, "zone"))));
    words.extend((backends > zones).then(|| format!("any {}", count(backends as u64, "backend"))));
    let critical = critical_zones(&report.objects);
    words.extend((!critical.is_empty()).then(|| format!("but not zone {}", critical.join(" or "))));
    if words.is_empty() { "nothing more".to_owned() } else { Printable(&words.join(", ")).to_string() }
}

/// Zones whose loss alone would be too much for some object.
fn critical_zones(objects: &[StoredObject]) -> Vec<String> {
    let mut critical = BTreeSet::new();
    for object in objects {
        let mut shards: BTreeMap<&str, usize> = BTreeMap::new();
        object
            .shards
            .iter()
            .filter_map(|shard| shard.zone.as_deref())
            .for_each(|zone| *shards.entry(zone).or_default() += 1);
        let all: usize = shards.values().sum();
        critical.extend(
            shards.into_iter().filter(|(_, held)| all - held < object.data_shards).map(|(zone, _)| zone.to_owned()),
        );
    }
    critical.into_iter().collect()
}

/// The one file's name as a shell takes it, or nothing for several: then everything is checked.
fn argument(report: &PutReport) -> String {
    match report.files.as_slice() {
        [file] => format!(" {}", name_argument(file.name.as_str())),
        _ => String::new(),
    }
}

fn recover_argument(report: &PutReport) -> String {
    match report.files.as_slice() {
        [_] => argument(report),
        _ => " --all -o FOLDER".to_owned(),
    }
}
