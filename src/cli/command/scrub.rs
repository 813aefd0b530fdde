//! `shard backend scrub`.

use crate::cli::args::ScrubBackends;
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::Reader;
use crate::cli::quantity::ByteSize;
use crate::cli::render::count;
use crate::cli::table::{Table, Tone};
use shard::ops::scrub::{ScrubOptions, ScrubReport, ScrubbedBackend, scrub};
use shard::store::Contact;

pub(super) async fn run(options: ScrubBackends, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Nobody).await?;
    let outcome = scrub(&store, ScrubOptions { names: options.names, controls: context.controls() }).await;
    let report = context.settle(outcome)?;
    let well = report.backends.iter().all(is_well);
    match context.output.reader() {
        Reader::Script => context.output.document("shard.backend-scrub/1", &report)?,
        Reader::Person if report.backends.is_empty() => {
            context.notices.note("no backend here checks its own disk: nodes do");
        }
        Reader::Person => {
            context.output.text(&page(&report))?;
            let problems =
                report.backends.iter().filter_map(|backend| Some((&backend.name, backend.problem.as_ref()?)));
            problems.for_each(|(name, problem)| context.notices.warning(&format!("backend {name}: {problem}")));
        }
    }
    let unknown: u64 = report.backends.iter().map(|backend| backend.damaged_unknown).sum();
    if unknown > 0 {
        let unknown = count(unknown, "shard");
        context.notices.note(&format!("{unknown} more damaged, which the catalog does not have there"));
    }
    if report.backends.iter().any(|backend| !backend.damaged.is_empty()) {
        let (verify, repair) = (context.to_type("verify"), context.to_type("repair"));
        context.notices.note(&format!("it is the node's word: `{verify}` finds out, `{repair}` mends it"));
    }
    Ok(if well { ExitCode::Done } else { ExitCode::Degraded })
}

fn is_well(backend: &ScrubbedBackend) -> bool {
    backend.damaged.is_empty() && backend.problem.is_none()
}

fn page(report: &ScrubReport) -> String {
    let mut table = Table::new(["NAME", "STATE", ">SHARDS", ">SIZE", ">DAMAGED"]);
    for backend in &report.backends {
        let cells = [
            backend.name.clone(),
            backend.state.to_owned(),
            backend.shards.to_string(),
            ByteSize(backend.bytes).to_string(),
            backend.damaged.len().to_string(),
        ];
        table.row(if is_well(backend) { Tone::Plain } else { Tone::Bad }, cells);
    }
    table.render()
}
