//! `shard remove` and `shard prune`.

use super::catalog_backup::back_up_if_due;
use crate::cli::args::{Prune, Remove};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::quantity::ByteSize;
use crate::cli::render::count;
use shard::ops::prune::{self, KeepRule, PruneOptions};
use shard::ops::remove::{self, RemoveOptions, RemoveReport, RemoveVersions, WaitingDeletes};
use shard::ops::writer::StoredObject;
use shard::store::{Contact, Store};
use std::fmt::Write;

/// This many versions are named one by one; of more only the number is said.
const MAX_NAMED_VERSIONS: usize = 20;

pub(super) async fn run(options: Remove, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Backends).await?;
    if let Some(object) = options.object {
        let outcome = remove::remove_lost(&store, object, &context.controls()).await;
        let report = context.settle(outcome)?;
        return tell("shard.remove/1", (&store, &report), context).await;
    }
    let versions = match (options.version, options.all_versions) {
        (Some(version), _) => RemoveVersions::One(version),
        (None, true) => RemoveVersions::All,
        (None, false) => RemoveVersions::Newest,
    };
    let named = |is_folder: bool| {
        let named = options.names.iter().filter(|typed| typed.is_folder() == is_folder);
        named.map(|typed| typed.name().clone()).collect()
    };
    let wanted = RemoveOptions { names: named(false), folders: named(true), versions, controls: context.controls() };
    let report = context.settle(remove::remove(&store, wanted).await)?;
    tell("shard.remove/1", (&store, &report), context).await
}

pub(super) async fn prune(options: Prune, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Backends).await?;
    let keep = KeepRule { last: Some(options.keep_last), within: options.keep_within.map(|span| span.0) };
    let prefix = options.prefix.unwrap_or_default();
    let outcome = prune::prune(&store, PruneOptions { prefix, keep, controls: context.controls() }).await;
    let report = context.settle(outcome)?;
    tell("shard.prune/1", (&store, &report), context).await
}

async fn tell(
    schema: &'static str,
    (store, report): (&Store, &RemoveReport),
    context: &mut Context,
) -> Result<ExitCode, Failure> {
    match context.output.reader() {
        Reader::Script => context.output.document(schema, report)?,
        Reader::Person => context.output.text(&page(report, context))?,
    }
    back_up_if_due(store, context).await;
    let whole = report.removals.iter().all(StoredObject::is_whole);
    Ok(if whole { ExitCode::Done } else { ExitCode::Degraded })
}

fn page(report: &RemoveReport, context: &Context) -> String {
    if report.files.is_empty() && report.objects_emptied == 0 {
        return "nothing to remove\n".to_owned();
    }
    let mut page = String::new();
    match report.files.len() {
        0 => writeln!(page, "removed {} that was lost", count(report.objects_emptied, "object"))
            .expect("a String takes it"),
        1..=MAX_NAMED_VERSIONS => {
            for file in &report.files {
                let name = Printable(file.name.as_str());
                writeln!(page, "removed {name}, version {}", file.version).expect("a String takes it");
            }
        }
        many => writeln!(page, "removed {}", count(many as u64, "version")).expect("a String takes it"),
    }
    page.push_str(&freed(report.shards_deleted, report.bytes_freed));
    page.push_str(&waiting(&report.waiting));
    if report.bytes_until_repacked > 0 {
        let bytes = ByteSize(report.bytes_until_repacked);
        let gc = context.to_type("gc");
        writeln!(page, "{bytes} stay in objects that other files share, until `{gc}` packs those anew")
            .expect("a String takes it");
    }
    page
}

/// How much was deleted.
pub(super) fn freed(shards: u64, bytes: u64) -> String {
    match shards {
        0 if bytes == 0 => String::new(),
        0 => format!("freed {}\n", ByteSize(bytes)),
        _ => format!("deleted {} ({})\n", count(shards, "shard"), ByteSize(bytes)),
    }
}

/// What waits for backends that cannot be reached, or for another copy to be proved.
pub(super) fn waiting(waiting: &[WaitingDeletes]) -> String {
    let line = |waiting: &WaitingDeletes| {
        let (backend, unproved) = (Printable(&waiting.backend), waiting.unproved);
        if waiting.unknown {
            let shards = count(waiting.shards, "shard");
            return format!(
                "{shards} to delete on {backend}, no backend of this store any more: \
                 `shard backend remove --force {backend}` gives them up\n"
            );
        }
        let lines =
            [(waiting.shards - unproved, "once it can be reached"), (unproved, "once another copy is found whole")];
        let some = lines.into_iter().filter(|(shards, _)| *shards > 0);
        some.map(|(shards, when)| format!("{} to delete on {backend} {when}\n", count(shards, "shard")))
            .collect::<String>()
    };
    waiting.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_says_for_what() {
        let waiting_for = |shards, unproved| {
            let waits = WaitingDeletes { backend: "attic".to_owned(), shards, unproved, unknown: false };
            waiting(&[waits])
        };
        let unknown = WaitingDeletes { backend: "ab01".to_owned(), shards: 2, unproved: 0, unknown: true };
        assert!(waiting(&[unknown]).contains("backend remove --force ab01"));
        let (reached, proved) =
            ("to delete on attic once it can be reached\n", "to delete on attic once another copy is found whole\n");
        assert_eq!(waiting_for(3, 0), format!("3 shards {reached}"));
        assert_eq!(waiting_for(1, 1), format!("1 shard {proved}"));
        assert_eq!(waiting_for(3, 1), format!("2 shards {reached}1 shard {proved}"));
        assert_eq!(waiting(&[]), "");
    }
}
