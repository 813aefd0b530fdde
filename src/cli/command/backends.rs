//! `shard backend add`, `list`, `check` and `remove`.

use crate::cli::args::{AddBackend, CheckBackends, RemoveBackend};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::quantity::ByteSize;
use crate::cli::render::{facts, shell_word};
use crate::cli::table::{Table, Tone};
use serde::Serialize;
use shard::backend::BackendSpec;
use shard::id::BackendId;
use shard::ops::{self, AddedBackend, BackendCheck, ListedBackend, Marking, Removing};
use shard::store::Contact;
use std::path::{Path, PathBuf};

pub(super) async fn add(options: AddBackend, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open_or_make().await?;
    let url = absolute_url(&options.url)?;
    let mut spec = BackendSpec::new(options.name, BackendId(store.random_bytes()?), url);
    spec.zone = options.zone;
    spec.quota = options.quota.map(|quota| quota.0);
    spec.read_only = options.read_only;
    spec.endpoint = options.endpoint;
    spec.region = options.region;
    spec.profile = options.profile;
    spec.credentials_file = options.credentials_file.as_deref().map(absolute).transpose()?;
    let added = context.settle(ops::add_backend(&store, spec).await)?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.backend-add/1", &added)?,
        Reader::Person => context.output.text(&added_page(&added))?,
    }
    if added.volatile {
        context.notices.warning("memory: forgets everything when the process ends; no shard is placed there");
    }
    Ok(ExitCode::Done)
}

fn added_page(added: &AddedBackend) -> String {
    let how = if added.adopted { "taken back, with the shards that are there" } else { "new" };
    facts([
        ("added", Printable(&added.name).to_string()),
        ("id", added.id.to_string()),
        ("zone", Printable(&added.zone).to_string()),
        ("place", how.to_owned()),
    ])
}

/// A path that a person typed is one below the current folder; in the settings it is below none.
pub(super) fn absolute_url(url: &str) -> Result<String, Failure> {
    if url == "memory:" || url.contains("://") {
        return Ok(url.to_owned());
    }
    let path = absolute(Path::new(url))?;
    let not_text = || Failure::new(FailureKind::Invalid, format!("the path {} is not UTF-8", path.display()));
    path.to_str().map(str::to_owned).ok_or_else(not_text)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(FailureKind::Invalid, format!("{} is no path", path.display())).because(error))
}

#[derive(Serialize)]
struct Listing {
    backends: Vec<ListedBackend>,
}

pub(super) async fn list(context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Nobody).await?;
    let backends = context.settle(ops::list_backends(&store).await)?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.backend-list/1", &Listing { backends })?,
        Reader::Person if backends.is_empty() => {
            context.notices.note(&format!("no backends; add one: `{}`", context.to_type("backend add NAME URL")));
        }
        Reader::Person => context.output.text(&list_page(&backends))?,
    }
    Ok(ExitCode::Done)
}

fn list_page(backends: &[ListedBackend]) -> String {
    let mut table = Table::new(["NAME", "ZONE", ">SHARDS", ">USED", ">QUOTA", "STATE", "CREDENTIALS", "URL"]);
    for backend in backends {
        let tone = if backend.state == "active" { Tone::Plain } else { Tone::Worrying };
        let cells = [
            backend.name.clone(),
            backend.zone.clone(),
            backend.shards.to_string(),
            ByteSize(backend.used).to_string(),
            backend.quota.map_or_else(|| "-".to_owned(), |quota| ByteSize(quota).to_string()),
            backend.state.to_owned(),
            backend.credentials.clone().unwrap_or_else(|| "-".to_owned()),
            backend.url.clone(),
        ];
        table.row(tone, cells);
    }
    table.render()
}

#[derive(Serialize)]
struct Checks {
    backends: Vec<BackendCheck>,
}

pub(super) async fn check(options: CheckBackends, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Nobody).await?;
    let marking = if options.mark { Marking::Restore } else { Marking::Report };
    let backends = context.settle(ops::check_backends(&store, &options.names, marking).await)?;
    let well = backends.iter().all(is_well);
    match context.output.reader() {
        Reader::Script => context.output.document("shard.backend-check/1", &Checks { backends })?,
        Reader::Person => {
            context.output.text(&check_page(&backends))?;
            let problems = backends.iter().filter_map(|backend| Some((&backend.name, backend.problem.as_ref()?)));
            problems.for_each(|(name, problem)| context.notices.warning(&format!("backend {name}: {problem}")));
        }
    }
    Ok(if well { ExitCode::Done } else { ExitCode::Degraded })
}

fn is_well(backend: &BackendCheck) -> bool {
    backend.state == "ready" && backend.writable != Some(false)
}

fn check_page(backends: &[BackendCheck]) -> String {
    let mut table =
        Table::new(["NAME", "ZONE", "STATE", "WRITABLE", ">LATENCY", ">SHARDS", ">USED", ">FREE", ">QUOTA"]);
    for backend in backends {
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| ByteSize(bytes).to_string());
        let writable = match backend.writable {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        let state = match (backend.marked, backend.known_found, backend.known_looked_for) {
            (true, Some(found), Some(of)) => {
                format!("{}, marked again: {found} of {of} known shards are there", backend.state)
            }
            _ => backend.state.to_owned(),
        };
        let cells = [
            backend.name.clone(),
            backend.zone.clone(),
            state,
            writable.to_owned(),
            format!("{} ms", backend.latency_ms),
            backend.shards.map_or_else(|| "-".to_owned(), |shards| shards.to_string()),
            size(backend.used),
            size(backend.free),
            size(backend.quota),
        ];
        table.row(if is_well(backend) { Tone::Plain } else { Tone::Bad }, cells);
    }
    table.render()
}

#[derive(Serialize)]
struct Removed<'a> {
    name: &'a str,
}

pub(super) async fn remove(options: RemoveBackend, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Nobody).await?;
    let removing = if options.force { Removing::Forced } else { Removing::Empty };
    context.settle(ops::remove_backend(&store, &options.name, removing).await)?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.backend-remove/1", &Removed { name: &options.name })?,
        Reader::Person => context.output.text(&format!("removed {}\n", Printable(&options.name)))?,
    }
    if options.force {
        let again = context.to_type(&format!("backend add {} URL", shell_word(&options.name)));
        context.notices.note(&format!(
            "what is there is untouched, also what is removed from now on: `{again}` takes it back; `{}` makes its shards \
             anew elsewhere",
            context.to_type("repair")
        ));
    }
    Ok(ExitCode::Done)
}
