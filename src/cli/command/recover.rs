//! `shard recover`.

mod places;

use crate::cli::args::{Recover, RecoverTo};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::{RawStdout, Reader};
use crate::cli::printable::Printable;
use crate::cli::quantity::ByteSize;
use crate::cli::render::count;
use crate::cli::streams::BlockingOutput;
use places::{find_places, tell_places};
use shard::ErrorKind;
use shard::ops::recover::{self, Existing, Naming, RecoverOptions, RecoverOutput, RecoverReport, RecoverWhat};
use shard::store::Contact;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// This many files are named one by one; of more only the number is said.
const MAX_NAMED_FILES: usize = 20;

pub(super) async fn run(options: Recover, context: &mut Context) -> Result<ExitCode, Failure> {
    let to_stdout = options.to() == RecoverTo::Stdout;
    let (outcome, heaps) = if options.from.is_empty() {
        let store = context.open(Contact::Backends).await?;
        (recover::recover(&store, recover_options(&options, context)).await, Vec::new())
    } else {
        let (places, heaps) = find_places(&options, context).await?;
        (recover::recover_from(places, recover_options(&options, context)).await, heaps)
    };
    let report = RecoverReport { heaps, ..context.settle(outcome)? };
    match context.output.reader() {
        // The bytes have the standard output for themselves.
        Reader::Script if to_stdout => context.notices.document("shard.recover/1", &report)?,
        Reader::Person if to_stdout => {}
        Reader::Script => context.output.document("shard.recover/1", &report)?,
        Reader::Person => context.output.text(&page(&report))?,
    }
    tell(&report, context);
    tell_places(&report, context);
    Ok(exit(&report))
}

fn recover_options(options: &Recover, context: &Context) -> RecoverOptions {
    let output = match (options.to(), options.all || options.names.len() > 1) {
        (RecoverTo::Stdout, _) => RecoverOutput::Writer(Box::new(BlockingOutput::new(RawStdout::new()))),
        (RecoverTo::Path(path), false) => RecoverOutput::Path(path),
        (RecoverTo::Path(path), true) => RecoverOutput::Folder { path, naming: Naming::Whole },
        (RecoverTo::Here, _) => RecoverOutput::Folder { path: PathBuf::from("."), naming: Naming::LastPart },
    };
    RecoverOptions {
        what: if options.all { RecoverWhat::All } else { RecoverWhat::Names(options.names.clone()) },
        version: options.version,
        range: options.range.map(|range| range.inclusive()),
        output,
        existing: if options.force { Existing::Replace } else { Existing::Keep },
        controls: context.controls(),
    }
}

fn page(report: &RecoverReport) -> String {
    if report.files.len() > MAX_NAMED_FILES {
        let files = count(report.files.len() as u64, "file");
        return format!("recovered {files} ({})\n", ByteSize(report.bytes_written));
    }
    let line = |file: &recover::RecoveredFile| {
        let (name, output) = (Printable(file.name.as_str()), Printable(&file.output));
        format!("recovered {name} ({}) to {output}\n", ByteSize(file.size))
    };
    report.files.iter().map(line).collect()
}

fn tell(report: &RecoverReport, context: &Context) {
    for file in report.files.iter().filter(|file| file.heads > 1) {
        context.notices.warning(&format!(
            "{} has {} versions that do not know each other; this is the newest: `{}` shows them",
            file.name,
            file.heads,
            context.to_type("list --versions")
        ));
    }
    for damage in &report.damage {
        let object = damage.object;
        let bad =
            if damage.bad_blocks > 0 { format!(" ({} bad)", count(damage.bad_blocks, "block")) } else { String::new() };
        context.notices.warning(&format!(
            "shard {} of object {object} on {} is {}{bad}",
            damage.shard, damage.backend, damage.state
        ));
    }
    // Of what could not be recovered, nothing was made.
    if !report.damage.is_empty() && !report.files.is_empty() {
        let repair = context.to_type("repair");
        context.notices.note(&match report.failed.is_empty() {
            true => format!("everything was made from the other shards; `{repair}` makes it whole again"),
            false => format!("what was recovered was made from the other shards; `{repair}` rebuilds what it can"),
        });
    }
    for failed in &report.failed {
        context.notices.warning(&format!("not recovered: {}: {}", failed.name, failed.error));
    }
    let hints: BTreeSet<&String> = report.failed.iter().filter_map(|failed| failed.hint.as_ref()).collect();
    hints.into_iter().for_each(|hint| context.notices.note(hint));
    if !report.unread.is_empty() {
        let objects = count(report.unread.len() as u64, "object");
        context.notices.warning(&format!("not recovered: whatever files are in {objects} that cannot be read"));
    }
    // Without a store it was said when they were found.
    let some = |kind: ErrorKind| report.places.is_empty() && report.unread.iter().any(|unread| unread.kind == kind);
    let refresh = context.to_type("catalog refresh");
    if some(ErrorKind::WrongKey) {
        let import = context.to_type("key import FILE");
        context.notices.note(&format!(
            "some take a key that this machine lacks: recover them where it is, or bring it with `{import}`, then `{refresh}`"
        ));
    }
    if some(ErrorKind::Unavailable) {
        context.notices.note(&format!("some could not be read when they were found: `{refresh}` tries again"));
    }
}

fn exit(report: &RecoverReport) -> ExitCode {
    let damage = if report.damage.is_empty() { ExitCode::Done } else { ExitCode::Degraded };
    let failed: ExitCode = report.failed.iter().map(|failed| FailureKind::from(failed.kind).exit()).collect();
    let unread: ExitCode = report.unread.iter().map(|unread| FailureKind::from(unread.kind).exit()).collect();
    // What nobody believes takes nothing from the files that were asked for.
    let untrusted = if report.untrusted.is_empty() { ExitCode::Done } else { ExitCode::Degraded };
    damage.worst(failed).worst(unread).worst(untrusted)
}
