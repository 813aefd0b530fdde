//! `shard init`.

use crate::cli::args::{Init, SealName};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::Reader;
use crate::cli::passphrase;
use crate::cli::printable::Printable;
use crate::cli::render::facts;
use serde::Serialize;
use shard::crypto::Passphrase;
use shard::id::StoreId;
use shard::store::{CATALOG_NAME, CONFIG_NAME, Contact, FirstBackends, InitOptions, KEY_NAME, PASSPHRASE_HINT, Store};
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
    let new_passphrase = if options.passphrase { Some(new_passphrase(context, &folder)?) } else { None };
    let seal = options.seal.map(SealName::seal);
    let passphrase = Some(context.passphrase());
    Store::init(&folder, InitOptions { backends, seal, new_passphrase, passphrase }).await?;
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
                ("key", path(&made.key)),
                ("backends", backends),
            ]);
            context.output.text(&page)?;
        }
    }
    let export = context.to_type("key export -o FILE");
    context.notices.note(&format!("nothing can be read without the key: `{export}` saves it"));
    match options.bare {
        true => context.notices.note(&format!("add places for shards: `{}`", context.to_type("backend add NAME URL"))),
        false => context.tell_of_default_store(&folder),
    }
    Ok(ExitCode::Done)
}

/// The passphrase that the key is to be under. Nobody is asked for one where there is a store already.
fn new_passphrase(context: &Context, folder: &Path) -> Result<Passphrase, Failure> {
    if folder.join(CONFIG_NAME).symlink_metadata().is_ok() {
        let message = format!("there is a store in {} already", folder.display());
        return Err(Failure::new(FailureKind::Refused, message).hint(context.to_type("key passphrase")));
    }
    Ok(passphrase::new_passphrase(&context.environment.passphrase, PASSPHRASE_HINT)?)
}
