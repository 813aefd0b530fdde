//! `shard init`.

use crate::cli::args::{Init, SealName};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::render::facts;
use serde::Serialize;
use shard::id::StoreId;
use shard::store::{CATALOG_NAME, CONFIG_NAME, Contact, FirstBackends, InitOptions, KEY_NAME, Store};
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Made<'a> {
    store: StoreId,
    dir: &'a Path,
    config: PathBuf,
    key: PathBuf,
    catalog: PathBuf,
    backends: Vec<&'a str>,
}

pub(super) async fn run(options: &Init, context: &mut Context) -> Result<ExitCode, Failure> {
    let folder = context.store_folder()?;
    let backends = if options.bare { FirstBackends::None } else { FirstBackends::Local };
    Store::init(&folder, InitOptions { backends, seal: options.seal.map(SealName::seal) }).await?;
    let store = context.open(Contact::Nobody).await?;
    let made = Made {
        store: store.id(),
        dir: &folder,
        config: folder.join(CONFIG_NAME),
        key: folder.join(KEY_NAME),
        catalog: folder.join(CATALOG_NAME),
        backends: store.config().backends.iter().map(|backend| backend.name.as_str()).collect(),
    };
    match context.output.reader() {
        Reader::Script => context.output.document("shard.init/1", &made)?,
        Reader::Person => {
            let backends = if made.backends.is_empty() { "none yet".to_owned() } else { made.backends.join(", ") };
            let path = |path: &Path| Printable(&path.to_string_lossy()).to_string();
            let page = facts([
                ("store", path(made.dir)),
                ("id", made.store.to_string()),
                ("settings", path(&made.config)),
                ("key", format!("{} (keep a copy: it signs, and names, everything)", path(&made.key))),
                ("backends", backends),
            ]);
            context.output.text(&page)?;
        }
    }
    match options.bare {
        true => context.notices.note(&format!("add places for shards: `{}`", context.to_type("backend add NAME URL"))),
        false => context.tell_of_default_store(&folder),
    }
    Ok(ExitCode::Done)
}
