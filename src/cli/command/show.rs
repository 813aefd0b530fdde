//! `shard show`.

use super::files::{files_table, level_words};
use crate::cli::args::Show;
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::moment;
use crate::cli::output::Reader;
use crate::cli::quantity::ByteSize;
use crate::cli::render::{count, facts, headline, margin, object_tone, shard_kind, shard_tone, toned};
use crate::cli::table::{Table, Tone};
use shard::ErrorKind;
use shard::backend::{self, BackendUrl};
use shard::id::{ShardId, WriterId};
use shard::ops::Timestamp;
use shard::ops::list::ListedVersions;
use shard::ops::show::{self, ShowFolderReport, ShowOptions, ShowReport, ShownObject, ShownShard};
use shard::store::{Contact, Store};

pub(super) async fn run(options: Show, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Nobody).await?;
    let name = options.name.name().clone();
    let wanted = ShowOptions { name: name.clone(), version: options.version, controls: context.controls() };
    let shown = match options.name.is_folder() {
        true => None,
        false => match show::show(&store, wanted).await {
            Err(error) if error.kind == ErrorKind::NotFound && options.version.is_none() => None,
            shown => Some(context.settle(shown)?),
        },
    };
    let Some(report) = shown else {
        let folder = context.settle(show::show_folder(&store, name, context.controls()).await)?;
        match context.output.reader() {
            Reader::Script => context.output.document("shard.show-folder/1", &folder)?,
            Reader::Person => context.output.text(&folder_page(&folder))?,
        }
        return Ok(ExitCode::Done);
    };
    match context.output.reader() {
        Reader::Script => context.output.document("shard.show/1", &report)?,
        Reader::Person => context.output.text(&page(&report, &store))?,
    }
    Ok(ExitCode::Done)
}

fn folder_page(report: &ShowFolderReport) -> String {
    let mut page = headline(&format!("{}/", report.name));
    page.push_str(&facts([
        ("files", report.files.len().to_string()),
        ("size", format!("{} ({} bytes)", ByteSize(report.size), report.size)),
        ("state", toned(object_tone(report.state), report.state)),
    ]));
    page.push('\n');
    page + &files_table(&report.files, ListedVersions::Heads)
}

fn page(report: &ShowReport, store: &Store) -> String {
    let mut page = headline(report.name.as_str());
    let zones = |margin: Option<u32>| margin.map(|margin| margin as usize);
    page.push_str(&facts([
        ("version", report.version.to_string()),
        ("put by", put_by(report.writer)),
        ("size", format!("{} ({} bytes)", ByteSize(report.size), report.size)),
        ("modified", moment::rfc3339(report.modified.0)),
        ("blake3", report.blake3.to_string()),
        ("level", report.level.clone()),
        ("state", toned(object_tone(report.state), report.state)),
        ("margin", margin(zones(report.margin), zones(report.backend_margin))),
        ("may be lost", report.may_be_lost.join("; ")),
    ]));
    for object in &report.objects {
        page.push('\n');
        page.push_str(&object_page(object, store));
    }
    if report.versions.len() > 1 {
        page.push('\n');
        page.push_str(&versions(report));
    }
    page
}

fn object_page(object: &ShownObject, store: &Store) -> String {
    let mut page = headline(&format!("object {}", object.id));
    let stripes = count(object.stripes, "stripe");
    page.push_str(&facts([
        ("root", object.root.to_string()),
        ("code", level_words(object.data_shards, object.total_shards)),
        (
            "payload",
            format!(
                "{} in {stripes}, {} of it this file's",
                ByteSize(object.payload_bytes),
                ByteSize(object.file_bytes)
            ),
        ),
        ("blocks", format!("at most {} each", ByteSize(object.block_bytes.into()))),
        ("state", toned(object_tone(object.state), object.state)),
        ("verified", object.verified.map_or("never in full".to_owned(), |when| moment::minutes(when.0))),
    ]));
    let mut table = Table::new([">SHARD", "KIND", "BACKEND", "ZONE", ">SIZE", "STATE", "VERIFIED", "WHERE"]);
    for shard in &object.shards {
        table.row(shard_tone(shard.state), shard_cells(object, shard, store));
    }
    page + &table.render()
}

fn shard_cells(object: &ShownObject, shard: &ShownShard, store: &Store) -> [String; 8] {
    let bad = if shard.bad_blocks > 0 { format!(" ({} bad)", count(shard.bad_blocks, "block")) } else { String::new() };
    let verified = |when: Timestamp| moment::minutes(when.0);
    [
        shard.index.to_string(),
        shard_kind(shard.index, object.data_shards).to_owned(),
        shard.backend.clone(),
        shard.zone.clone().unwrap_or_else(|| "-".to_owned()),
        ByteSize(shard.bytes).to_string(),
        format!("{}{bad}", shard.state),
        shard.verified.map_or_else(|| "-".to_owned(), verified),
        whereabouts(ShardId { object: object.id, index: shard.index }, &shard.backend, store),
    ]
}

/// The file, or the object's address, that a shard is in.
fn whereabouts(shard: ShardId, backend: &str, store: &Store) -> String {
    let Some(registered) = store.registry().by_name(backend) else { return "-".to_owned() };
    let name = backend::shard_name(shard);
    match BackendUrl::parse(&registered.url, store.dir()) {
        Ok(BackendUrl::Folder(folder)) => folder.join(name).display().to_string(),
        Ok(BackendUrl::Cloud(url)) => format!("{}/{name}", url.as_str().trim_end_matches('/')),
        Ok(BackendUrl::Memory | BackendUrl::Node(_)) | Err(_) => registered.url.clone(),
    }
}

/// Whoever a version is signed for: one that a writer put was made where nobody can read.
fn put_by(writer: Option<WriterId>) -> String {
    writer.map_or_else(|| "the owner".to_owned(), |writer| format!("writer {writer}"))
}

fn versions(report: &ShowReport) -> String {
    let mut table = Table::new(["VERSION", ">SIZE", "MODIFIED", ">GENERATION", "NEWEST", "PUT BY"]);
    for version in &report.versions {
        let cells = [
            version.version.to_string(),
            ByteSize(version.size).to_string(),
            moment::minutes(version.modified.0),
            version.generation.to_string(),
            if version.head { "yes" } else { "" }.to_owned(),
            put_by(version.writer),
        ];
        table.row(Tone::Plain, cells);
    }
    table.render()
}
