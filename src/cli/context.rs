//! What every command is given beside its own options, and how it comes to its store.

use super::args::GlobalFlags;
use super::environment::Environment;
use super::failure::{Failure, FailureKind};
use super::notices::Notices;
use super::output::Output;
use super::passphrase;
use super::progress::Progress;
use super::render::shell_word;
use shard::backend::{self, NodeAccess};
use shard::ops::Controls;
use shard::store::{BroughtKeys, Contact, InitOptions, MissingCatalog, OpenOptions, PassphraseSource, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What the commands about a node begin with.
const NODE: &str = "node ";

/// What every command is given beside its own options.
pub(crate) struct Context {
    /// What the process was given.
    pub(crate) environment: Environment,
    /// The flags that every command has.
    pub(crate) global: GlobalFlags,
    /// Where results go.
    pub(crate) output: Output,
    /// Where everything else goes.
    pub(crate) notices: Notices,
    /// Cancelled when the process is interrupted.
    pub(crate) cancel: CancellationToken,
    /// The sessions with nodes, which end with the command.
    pub(crate) nodes: NodeAccess,
    /// The folder of the node that the command is about, where it was given.
    pub(crate) node_folder: Option<PathBuf>,
    progress: Arc<Progress>,
}

impl Context {
    /// For one command.
    pub(crate) fn new(environment: Environment, global: GlobalFlags, output: Output, notices: Notices) -> Self {
        let progress = Arc::new(Progress::new(notices));
        let nodes = NodeAccess::with_seed_file(environment.seed_file.clone());
        Self {
            environment,
            global,
            output,
            notices,
            cancel: CancellationToken::new(),
            nodes,
            node_folder: None,
            progress,
        }
    }

    /// What an operation is given to tell its progress and to be cancelled.
    pub(crate) fn controls(&self) -> Controls {
        let progress = Arc::clone(&self.progress);
        Controls { progress: Some(Arc::new(move |event| progress.show(event))), cancel: self.cancel.clone() }
    }

    /// What an operation gave, with the moving line taken away.
    pub(crate) fn settle<T>(&self, outcome: shard::Result<T>) -> Result<T, Failure> {
        self.progress.finish();
        outcome.map_err(Failure::from)
    }

    /// The store's folder.
    pub(crate) fn store_folder(&self) -> Result<PathBuf, Failure> {
        self.environment.store_folder(self.global.store.as_deref())
    }

    /// The store that there is, for reading the catalog only or for asking the backends too.
    pub(crate) async fn open(&self, contact: Contact) -> Result<Store, Failure> {
        self.open_with(OpenOptions { contact, ..OpenOptions::default() }).await
    }

    /// The store that there is, with an empty catalog where it has none.
    pub(crate) async fn open_without_catalog(&self) -> Result<Store, Failure> {
        self.open_with(OpenOptions { missing_catalog: MissingCatalog::Create, ..OpenOptions::default() }).await
    }

    /// The store that there is, or the default one, which is made and told of.
    pub(crate) async fn open_or_make(&self) -> Result<Store, Failure> {
        match self.open(Contact::Backends).await {
            Err(failure) if failure.kind == FailureKind::NoStore => {}
            opened => return opened,
        }
        let folder = self.store_folder()?;
        match Store::init(&folder, InitOptions::default()).await {
            Ok(()) => self.tell_of_default_store(&folder),
            // Another process was quicker; its store is as good.
            Err(error) if error.kind == shard::ErrorKind::Refused => {}
            Err(error) => return Err(error.into()),
        }
        self.open(Contact::Backends).await
    }

    /// Says that a default store was made, and what it is worth.
    pub(crate) fn tell_of_default_store(&self, folder: &Path) {
        self.notices.note(&format!("made a store with five local backends in {}", folder.display()));
        self.notices.note(
            "all five share one disk: margin 0 zones, backend margin 2; `shard backend add` adds places that fail \
             independently",
        );
    }

    /// A command as it is to be typed for this store: `shard verify`, with `--store` where that was given, and for a node with
    /// `--data` where that was.
    pub(crate) fn to_type(&self, command: &str) -> String {
        let command = match &self.node_folder {
            Some(folder) if command.starts_with(NODE) => {
                format!("{command} --data {}", shell_word(&folder.to_string_lossy()))
            }
            _ => command.to_owned(),
        };
        match &self.global.store {
            Some(folder) => format!("shard --store {} {command}", shell_word(&folder.to_string_lossy())),
            None => format!("shard {command}"),
        }
    }

    /// The same for the commands in a text that knows of no folders: those between backticks that are about a node.
    pub(crate) fn to_type_in(&self, text: &str) -> String {
        let part = |(number, part): (usize, &str)| match part.strip_prefix("shard ") {
            Some(command) if number % 2 == 1 && command.starts_with(NODE) && !command.contains("--data") => {
                self.to_type(command)
            }
            _ => part.to_owned(),
        };
        text.split('`').enumerate().map(part).collect::<Vec<_>>().join("`")
    }

    /// Where credentials are looked up.
    pub(crate) fn credentials(&self) -> backend::Environment {
        let environment = &self.environment;
        backend::Environment {
            variables: environment.cloud.clone(),
            home: environment.home.clone(),
            nodes: self.nodes.clone(),
        }
    }

    /// The same for one who brings the keys of a store, and has no store here.
    pub(crate) fn credentials_of(&self, brought: Option<&BroughtKeys>) -> backend::Environment {
        let mut credentials = self.credentials();
        if let Some(brought) = brought {
            if let Some(seeds) = &brought.seeds {
                credentials.nodes = credentials.nodes.with_seeds(seeds.clone());
            }
            credentials.nodes = credentials.nodes.of_store(&brought.keyring, None);
        }
        credentials
    }

    /// What is asked for the passphrase of the key, where it is under one.
    pub(crate) fn passphrase(&self) -> PassphraseSource {
        passphrase::source(self.environment.passphrase.clone())
    }

    async fn open_with(&self, options: OpenOptions) -> Result<Store, Failure> {
        let folder = self.store_folder()?;
        let passphrase = Some(self.passphrase());
        let options = OpenOptions { environment: self.credentials(), passphrase, ..options };
        tokio::select! {
            opened = Store::open(&folder, options) => opened.map_err(Failure::from),
            () = self.cancel.cancelled() => Err(Failure::new(FailureKind::Cancelled, "cancelled")),
        }
    }
}
