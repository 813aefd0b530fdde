//! `shard list`, and how files are described.

use crate::cli::args::List;
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::moment;
use crate::cli::output::Reader;
use crate::cli::quantity::ByteSize;
use crate::cli::render::object_tone;
use crate::cli::table::Table;
use shard::ops::list::{self, ListOptions, ListedFileVersion, ListedVersions};
use shard::store::Contact;

pub(super) async fn list(options: List, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Nobody).await?;
    let versions = if options.versions { ListedVersions::All } else { ListedVersions::Heads };
    let prefix = options.prefix.unwrap_or_default();
    let wanted = ListOptions { prefix, versions, controls: context.controls(), ..ListOptions::default() };
    let report = context.settle(list::list(&store, wanted).await)?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.list/1", &report)?,
        Reader::Person if report.files.is_empty() => context.notices.note("no files"),
        Reader::Person => context.output.text(&files_table(&report.files, versions))?,
    }
    for file in report.files.iter().filter(|file| file.heads > 1) {
        context.notices.warning(&format!(
            "{} has {} versions that do not know each other; {} is one",
            file.name, file.heads, file.version
        ));
    }
    Ok(ExitCode::Done)
}

/// Files, one a line.
pub(super) fn files_table(files: &[ListedFileVersion], versions: ListedVersions) -> String {
    let several_heads = files.iter().any(|file| file.heads > 1);
    let with_versions = versions == ListedVersions::All || several_heads;
    let mut table = match with_versions {
        true => Table::new(["NAME", "VERSION", ">SIZE", "MODIFIED", "LEVEL", "STATE"]),
        false => Table::new(["NAME", ">SIZE", "MODIFIED", "LEVEL", "STATE"]),
    };
    for file in files {
        let name = file.name.to_string();
        let (size, modified) = (ByteSize(file.size).to_string(), moment::minutes(file.modified.0));
        let (level, state) = (file.level.clone(), file.state.to_string());
        let tone = object_tone(file.state);
        match with_versions {
            true => table.row(tone, [name, file.version.to_string(), size, modified, level, state]),
            false => table.row(tone, [name, size, modified, level, state]),
        }
    }
    table.render()
}

/// `any 3 of 5 shards give it back`.
pub(super) fn level_words(data_shards: usize, total_shards: usize) -> String {
    match data_shards {
        1 => format!("any of {total_shards} shards gives it back"),
        _ => format!("any {data_shards} of {total_shards} shards give it back"),
    }
}
