//! What is done with a store's keys: carried away on a recovery kit, brought back, renewed, put under a passphrase.
//!
//! None of it needs the catalog: the keys can be saved when everything else is damaged. Changes hold a lock beside the key
//! file; what is at work meanwhile goes on with the keys it has, which all stay good.

use super::config::{self, Config};
use super::key::{self, BroughtKey, BroughtKeys, OpenedKey, PassphraseSource};
use super::{CATALOG_NAME, CONFIG_NAME, Held, KEY_NAME, Store, catalog_file, fill_random, init};
use crate::backend::node::SEEDS_NAME;
use crate::backend::{self, BackendUrl, NodeAccess};
use crate::catalog::{self, Catalog};
use crate::crypto::{
    CatalogKey, Keyring, KitSeed, LimitedKey, NodePass, Passphrase, RecipientKey, VerifyKey, WriteKey, write_kit,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Digest, StoreId};
use crate::peer::{GrantRights, NodeGrant, NodeIdentity, SeedRing};
use crate::stripe::Seal;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The note of the key that was in use when a kit was last made.
const EXPORTED: &str = "key exported";
/// The note of the key of which it was said that it should be exported.
const ADVISED: &str = "key export advised";

/// Which keys a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFacts {
    /// The store.
    pub store: StoreId,
    /// The key in use.
    pub key_id: Digest,
    /// How many keys there are.
    pub key_count: usize,
    /// Whether they are under a passphrase on this machine.
    pub has_passphrase: bool,
}

impl KeyFacts {
    fn of(keyring: &Keyring, passphrase: Option<&Passphrase>) -> Self {
        Self {
            store: keyring.store_id(),
            key_id: keyring.current().key_id(),
            key_count: keyring.keys().len(),
            has_passphrase: passphrase.is_some(),
        }
    }
}

/// A recovery kit, ready to be printed.
#[derive(Debug)]
pub struct ExportedKit {
    /// The keys in it.
    pub keys: KeyFacts,
    /// How many places it names.
    pub backend_count: usize,
    /// How many of them are nodes whose group's seed the kit does not have.
    pub unseeded_nodes: usize,
    /// Why it does not have the seed, where there is one that cannot be used.
    pub seed_problem: Option<backend::Error>,
    /// The page: the keys are in it, in plain.
    pub text: Zeroizing<String>,
    catalog_key: Arc<CatalogKey>,
}

/// What came of bringing keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedKeys {
    /// The keys that the store has now.
    pub keys: KeyFacts,
    /// How many of them are new here.
    pub new_key_count: usize,
    /// The backends of the store that was made for them; `None` where there was one.
    pub made_with_backends: Option<Vec<String>>,
}

/// Makes a recovery kit of the store in a folder: its keys, the seeds that `nodes` finds for it, and its settings without
/// comments. `date` is for people.
pub fn export(
    dir: &Path,
    passphrase: Option<&PassphraseSource>,
    date: &str,
    nodes: &NodeAccess,
) -> Result<ExportedKit> {
    let config = elsewhere(super::load_config(dir)?, dir);
    let opened = key::open(&dir.join(KEY_NAME), passphrase)?;
    let settings = config.to_text()?;
    // Keys are saved whatever else is damaged.
    let (ring, seed_problem) = match nodes.seeds_of(dir) {
        Ok(ring) => (ring, None),
        Err(error) => (None, Some(error)),
    };
    let seeds = ring.iter().flat_map(|ring| ring.seeds()).map(|seed| Zeroizing::new(*seed.bytes()));
    let seeds: Vec<KitSeed> = seeds.collect();
    let nodes = node_count(&config, dir);
    Ok(ExportedKit {
        keys: KeyFacts::of(&opened.keyring, opened.passphrase.as_ref()),
        backend_count: config.backends.len(),
        seed_problem,
        unseeded_nodes: if seeds.is_empty() { nodes } else { 0 },
        text: write_kit(&opened.keyring, date, &settings, &seeds),
        catalog_key: Arc::new(opened.keyring.catalog_key()),
    })
}

/// Notes in the catalog that the key in use was exported, so that nobody is reminded of it any more.
pub fn note_export(dir: &Path, kit: &ExportedKit) -> Result<()> {
    note_exported(dir, kit.keys.key_id, Arc::clone(&kit.catalog_key))
}

fn note_exported(dir: &Path, key_id: Digest, catalog_key: Arc<CatalogKey>) -> Result<()> {
    let mut catalog = Catalog::open(&dir.join(CATALOG_NAME), catalog_key)?;
    Ok(catalog.set_note(EXPORTED, &key_id.to_string())?)
}

/// What a verify-only key lets its machine do at nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifierOptions {
    /// Delete, and replace what is whole, beside reading and writing what is missing or damaged.
    pub may_delete: bool,
    /// Until when, in seconds since 1970.
    pub expires_s: u64,
}

/// A verify-only key.
#[derive(Debug)]
pub struct ExportedVerifier {
    /// The key.
    pub key: LimitedKey,
    /// How many nodes of the store cannot be called with it: the seed of their group was not found.
    pub unseeded_nodes: usize,
    /// Why it does not have the seed, where there is one that cannot be used.
    pub seed_problem: Option<backend::Error>,
}

/// Makes a key for a machine that is to check and repair without being able to read. Where the store has nodes, or a seed of
/// a group, the key brings a grant for them, and the seeds that `nodes` finds.
pub fn export_verifier(
    dir: &Path,
    passphrase: Option<&PassphraseSource>,
    options: VerifierOptions,
    nodes: &NodeAccess,
) -> Result<ExportedVerifier> {
    let config = elsewhere(super::load_config(dir)?, dir);
    let opened = key::open(&dir.join(KEY_NAME), passphrase)?;
    let (ring, seed_problem) = match nodes.seeds_of(dir) {
        Ok(ring) => (ring, None),
        Err(error) => (None, Some(error)),
    };
    let node_count = node_count(&config, dir);
    let mut key = VerifyKey::of(&opened.keyring, *new_secret()?, Some(config.to_text()?));
    if node_count > 0 || ring.is_some() {
        let node_seed = new_secret()?;
        let owner = NodeIdentity::from_seed(&opened.keyring.node_seed());
        let rights = GrantRights { repair: true, delete: options.may_delete };
        let grantee = NodeIdentity::from_seed(&node_seed).id();
        let grant = NodeGrant::issue(&owner, grantee, rights, options.expires_s).to_bytes().to_vec();
        let seeds = ring.iter().flat_map(|ring| ring.seeds()).map(|seed| *seed.bytes()).collect();
        key = key.with_nodes(NodePass { node_seed: *node_seed, grant, seeds });
    }
    let unseeded_nodes = if ring.is_some() { 0 } else { node_count };
    Ok(ExportedVerifier { key: LimitedKey::Verify(key), unseeded_nodes, seed_problem })
}

/// How many of the backends are nodes.
fn node_count(config: &Config, dir: &Path) -> usize {
    let is_node = |url: &str| matches!(BackendUrl::parse(url, dir), Ok(BackendUrl::Node(_)));
    config.backends.iter().filter(|spec| is_node(&spec.url)).count()
}

/// Makes a key for a machine that is to add files, besides, without being able to read any.
pub fn export_writer(dir: &Path, passphrase: Option<&PassphraseSource>) -> Result<LimitedKey> {
    let config = Config { seal: Seal::Recipient, ..super::load_config(dir)? };
    let opened = key::open(&dir.join(KEY_NAME), passphrase)?;
    let settings = elsewhere(config, dir).to_text()?;
    let (signer, catalog) = (new_secret()?, new_secret()?);
    Ok(LimitedKey::Write(Box::new(WriteKey::of(&opened.keyring, (*signer, *catalog), Some(settings)))))
}

fn new_secret() -> Result<Zeroizing<[u8; 32]>> {
    let mut secret = Zeroizing::new([0; 32]);
    fill_random(secret.as_mut_slice())?;
    Ok(secret)
}

/// The public half of the key in use, to be sealed to.
pub fn recipient(dir: &Path, passphrase: Option<&PassphraseSource>) -> Result<RecipientKey> {
    super::load_config(dir)?;
    let opened = key::open(&dir.join(KEY_NAME), passphrase)?;
    Ok(opened.keyring.current().recipient(opened.keyring.store_id()))
}

/// Reads a key of any kind from a file or a pipe, for [`import`] or [`import_limited`].
pub fn load_any(path: &Path, passphrase: Option<&PassphraseSource>) -> Result<BroughtKey> {
    key::load_any(path, passphrase)
}

/// The same from a text that is at hand; `path` says where it came from.
pub fn read_any(text: &[u8], path: &Path, passphrase: Option<&PassphraseSource>) -> Result<BroughtKey> {
    key::read_any(text, path, passphrase)
}

/// Makes a store of a verify-only or write-only key, with the backends that the key brought; gives their names.
///
/// Interrupted, it leaves no store; run again with the same key, it goes on. [`ErrorKind::Refused`] where there is a store
/// already, or another key.
pub fn import_limited(dir: &Path, key: &LimitedKey) -> Result<Vec<String>> {
    refuse_occupied(dir, key)?;
    let _lock = init::lock(dir)?;
    let made = import_locked(dir, key);
    // Whatever came of it, nobody is making a store here any more.
    init::made(dir);
    made
}

/// What an interrupted import leaves is this very key, and no settings.
fn refuse_occupied(dir: &Path, key: &LimitedKey) -> Result<()> {
    let is_there = |name: &str| key::is_there(&dir.join(name));
    let is_this_key = || {
        let held = key::load_limited(&dir.join(KEY_NAME)).ok().flatten();
        held.is_some_and(|held| held.to_file() == key.to_file())
    };
    let what = match (is_there(CONFIG_NAME)?, is_there(KEY_NAME)?) {
        (false, false) => return Ok(()),
        (false, true) if is_this_key() => return Ok(()),
        (true, _) => "a store",
        (false, true) => "another key",
    };
    let doing = format!("there is {what} in {} already", dir.display());
    Err(Error::new(ErrorKind::Refused, doing).with_hint("name another folder with --store"))
}

fn import_locked(dir: &Path, key: &LimitedKey) -> Result<Vec<String>> {
    refuse_occupied(dir, key)?;
    let (path, config_path) = (dir.join(KEY_NAME), dir.join(CONFIG_NAME));
    let config = match key.settings() {
        Some(settings) => Config::from_text(settings, &config_path)?,
        None => Config::default(),
    };
    let seeds = match key::granted(key, &path)? {
        Some((pass, _)) => key::seeds_of(pass, &path)?,
        None => None,
    };
    key::save_text(&path, &key.to_file())?;
    bring_seeds(dir, seeds.as_ref())?;
    init::make_catalog(dir, Arc::new(key.catalog_key()))?;
    Config::create(&config_path, &config)?;
    Ok(config.backends.iter().map(|spec| spec.name.clone()).collect())
}

/// The settings as they are to be elsewhere, where nothing is relative to this folder.
fn elsewhere(mut config: Config, dir: &Path) -> Config {
    for spec in &mut config.backends {
        if let Ok(BackendUrl::Folder(path)) = BackendUrl::parse(&spec.url, dir) {
            spec.url = path.to_string_lossy().into_owned();
        }
    }
    config
}

/// Brings keys into the store in a folder, or makes a store of them where there is none.
///
/// [`ErrorKind::WrongKey`] when the folder has keys or a catalog of another store, [`ErrorKind::Refused`] when it has a
/// verify-only or write-only key: no machine becomes the owner's by the way. What is brought has been exported.
pub fn import(dir: &Path, brought: BroughtKeys, passphrase: Option<&PassphraseSource>) -> Result<ImportedKeys> {
    refuse_limited(dir)?;
    if dir.join(CONFIG_NAME).symlink_metadata().is_ok() {
        let _lock = lock(dir)?;
        return bring(dir, brought, passphrase);
    }
    let _making = init::lock(dir)?;
    // Whoever made a store there meanwhile may be changing its keys by now.
    let imported = lock(dir).and_then(|_lock| bring(dir, brought, passphrase));
    // Whatever came of it, nobody is making a store here any more.
    init::made(dir);
    imported
}

fn refuse_limited(dir: &Path) -> Result<()> {
    // A key that cannot be read says so when it is opened.
    let Some(kind) = key::load_limited(&dir.join(KEY_NAME)).ok().flatten().map(|key| Held::by(&key).key_kind()) else {
        return Ok(());
    };
    let doing = format!("{} is the store of a machine with a {kind} key, and takes no others", dir.display());
    Err(Error::new(ErrorKind::Refused, doing).with_hint("name another folder with --store"))
}

fn bring(dir: &Path, brought: BroughtKeys, passphrase: Option<&PassphraseSource>) -> Result<ImportedKeys> {
    let path = dir.join(KEY_NAME);
    let catalog_key = Arc::new(brought.keyring.catalog_key());
    refuse_catalog_of_another(dir, &catalog_key)?;
    let (keyring, known_count, passphrase) = match key::is_there(&path)? {
        false => (brought.keyring, 0, None),
        true => {
            let OpenedKey { keyring, passphrase } = key::open(&path, passphrase)?;
            let known_count = keyring.keys().len();
            let merged = keyring.merged(brought.keyring).map_err(|error| {
                let doing = format!("{} keeps its own key", dir.display());
                Error::new(ErrorKind::WrongKey, doing).with_source(error).with_hint("name another folder with --store")
            })?;
            (merged, known_count, passphrase)
        }
    };
    let new_key_count = keyring.keys().len() - known_count;
    let has_config = key::is_there(&dir.join(CONFIG_NAME))?;
    // Settings that make no sense are found before anything is written.
    let config = match (has_config, &brought.settings) {
        (true, _) => None,
        (false, Some(settings)) => Some(Config::from_text(settings, &dir.join(CONFIG_NAME))?),
        (false, None) => Some(Config::default()),
    };
    if new_key_count > 0 {
        key::save(&path, &keyring, passphrase.as_ref())?;
    }
    bring_seeds(dir, brought.seeds.as_ref())?;
    let keys = KeyFacts::of(&keyring, passphrase.as_ref());
    let made_with_backends =
        config.as_ref().map(|config| config.backends.iter().map(|spec| spec.name.clone()).collect());
    if let Some(config) = config {
        init::make_catalog(dir, Arc::clone(&catalog_key))?;
        Config::create(&dir.join(CONFIG_NAME), &config)?;
    }
    match note_exported(dir, keys.key_id, catalog_key) {
        // A catalog that is missing or damaged is made anew, and the reminder with it.
        Err(error) if error.kind == ErrorKind::Damaged => {}
        noted => noted?,
    }
    Ok(ImportedKeys { keys, new_key_count, made_with_backends })
}

/// Seeds that are there are newer than a kit, or as good.
fn bring_seeds(dir: &Path, seeds: Option<&SeedRing>) -> Result<()> {
    let path = dir.join(SEEDS_NAME);
    match seeds {
        Some(seeds) if !key::is_there(&path)? => key::save_text(&path, &seeds.to_text()),
        _ => Ok(()),
    }
}

fn refuse_catalog_of_another(dir: &Path, key: &Arc<CatalogKey>) -> Result<()> {
    match catalog_file::open(dir, Arc::clone(key)) {
        Err(error) if error.kind == ErrorKind::WrongKey => Err(error),
        _ => Ok(()),
    }
}

/// Makes a new key for what is put from now on; what was put before stays readable, with the keys that sealed it.
pub fn rotate(dir: &Path, passphrase: Option<&PassphraseSource>) -> Result<KeyFacts> {
    super::load_config(dir)?;
    let _lock = lock(dir)?;
    let path = dir.join(KEY_NAME);
    let OpenedKey { keyring, passphrase } = key::open(&path, passphrase)?;
    let longer = keyring.with_key(key::new_master_key()?);
    let keyring = longer.map_err(|error| Error::new(ErrorKind::Refused, "no new key is made").with_source(error))?;
    key::save(&path, &keyring, passphrase.as_ref())?;
    Ok(KeyFacts::of(&keyring, passphrase.as_ref()))
}

/// Puts the keys under another passphrase, or under none. `wanted` is asked for once the old one has opened them.
pub fn set_passphrase<F>(dir: &Path, passphrase: Option<&PassphraseSource>, wanted: F) -> Result<KeyFacts>
where
    F: FnOnce(&KeyFacts) -> Result<Option<Passphrase>>,
{
    super::load_config(dir)?;
    let _lock = lock(dir)?;
    let path = dir.join(KEY_NAME);
    let OpenedKey { keyring, passphrase } = key::open(&path, passphrase)?;
    let wanted = wanted(&KeyFacts::of(&keyring, passphrase.as_ref()))?;
    key::save(&path, &keyring, wanted.as_ref())?;
    Ok(KeyFacts::of(&keyring, wanted.as_ref()))
}

fn lock(dir: &Path) -> Result<File> {
    let path: PathBuf = dir.join(KEY_NAME);
    config::lock(&path).map_err(|error| {
        let kind = if matches!(error, config::Error::Busy { .. }) { ErrorKind::Busy } else { ErrorKind::Local };
        Error::new(kind, format!("cannot change the key {}", path.display())).with_source(error)
    })
}

impl Store {
    /// Whether a recovery kit was made since the key in use is in use.
    pub async fn key_is_exported(&self) -> Result<bool> {
        let Some(keyring) = self.access().keyring() else { return Ok(true) };
        let key_id = keyring.current().key_id().to_string();
        self.look(move |catalog| Ok(catalog.note(EXPORTED)?.as_deref() == Some(&key_id))).await
    }

    /// Whether a person is to be told now that the key should be exported: once for each key that was not.
    pub async fn take_export_advice(&self) -> Result<bool> {
        let Some(keyring) = self.access().keyring() else { return Ok(false) };
        let key_id = keyring.current().key_id().to_string();
        self.catalog(move |catalog| take_advice(catalog, &key_id)).await
    }
}

fn take_advice(catalog: &mut Catalog, key_id: &str) -> catalog::Result<bool> {
    let is_noted = |note: Option<String>| note.as_deref() == Some(key_id);
    if is_noted(catalog.note(EXPORTED)?) || is_noted(catalog.note(ADVISED)?) {
        return Ok(false);
    }
    catalog.set_note(ADVISED, key_id)?;
    Ok(true)
}
