//! The vaults of a store: in its folder `vaults/`, the sealed ones below the folder of the store's own node.
//!
//! What is not sealed needs no key, and no passphrase. What is sealed is so under a key that comes from the store's first
//! master key: a change of key leaves it readable.

pub use super::staged::StagedImport;

use super::held::Held;
use super::key::{self, HeldKey};
use super::{KEY_NAME, PassphraseSource, load_config};
use crate::chamber::{self, Chamber};
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeId;
use crate::vault::{self, Any, Blob, Options, UntypedEntry, Vault, VaultName};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of the vaults.
pub const VAULTS_NAME: &str = "vaults";
/// Whoever makes a vault holds this file locked, so that no name becomes one of both sorts.
const LOCK_NAME: &str = "making.lock";

/// A value as it comes from a person: text, or bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum GivenValue {
    /// Text.
    Text(String),
    /// Anything else.
    Bytes(Blob),
}

impl From<Vec<u8>> for GivenValue {
    /// Bytes that are text are kept as text.
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Bytes(Blob(error.into_bytes())), Self::Text)
    }
}

/// Whether a vault is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sealing {
    /// Whoever has the file reads it.
    Plain,
    /// Under the store's key.
    Sealed,
}

/// Where an opened vault came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Found,
    Made,
}

/// A vault that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVault {
    /// Its name.
    pub name: VaultName,
    /// Whether it is sealed.
    pub sealing: Sealing,
    /// How long its file is.
    pub bytes: u64,
}

/// Where a store keeps its vaults, and what opens the sealed ones.
pub struct Vaults {
    dir: PathBuf,
    passphrase: Option<PassphraseSource>,
}

/// A vault of either sort, with texts for keys.
#[derive(Debug)]
pub enum OpenedVault {
    /// Not sealed.
    Plain(Vault),
    /// Sealed.
    Sealed(Chamber),
}

impl Vaults {
    /// Of the store in a folder; [`ErrorKind::NoStore`] where there is none.
    pub fn of_store(dir: &Path, passphrase: Option<PassphraseSource>) -> Result<Self> {
        load_config(dir)?;
        Ok(Self { dir: dir.to_owned(), passphrase })
    }

    /// The vaults that there are, by name.
    pub fn list(&self) -> Result<Vec<ListedVault>> {
        let mut found = Vec::new();
        list_files(&self.root(), Sealing::Plain, &mut found)?;
        for folder in self.node_folders()? {
            list_files(&folder, Sealing::Sealed, &mut found)?;
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Opens the vault that there is; [`ErrorKind::NotFound`] where there is none.
    pub fn open(&self, name: &VaultName) -> Result<OpenedVault> {
        match self.sealing(name)? {
            Some(Sealing::Plain) => self.open_plain(name),
            Some(Sealing::Sealed) => self.open_sealed(name),
            None => Err(Error::new(ErrorKind::NotFound, format!("there is no vault {name}"))
                .with_hint("`shard vault list` shows those that there are")),
        }
    }

    /// Deletes the vault, a damaged one too.
    pub fn drop_vault(&self, name: &VaultName) -> Result<()> {
        match self.open(name).and_then(OpenedVault::drop_vault) {
            Err(error) if is_damage(&error) => {}
            outcome => return outcome,
        }
        // Whoever made another one since did so under this lock: it is looked at again.
        let _making = self.lock_making()?;
        match self.open(name).and_then(OpenedVault::drop_vault) {
            Err(error) if is_damage(&error) => {}
            outcome => return outcome,
        }
        let folders = std::iter::once(self.root()).chain(self.node_folders()?);
        let is_made = |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
        let found = folders.map(|folder| folder.join(name.file_name())).find(is_made);
        let Some(path) = found else { return Ok(()) };
        let deleted = vault::file::delete_damaged(&path);
        deleted.map_err(|error| Error::local(format!("cannot delete {}", path.display()), error))
    }

    /// Does something with the vault, which is made if there is none, sealed where that is wanted. One that is there stays
    /// what it is: [`ErrorKind::Refused`] where it is to be sealed and is not. Where `work` fails and leaves a vault empty that
    /// was made for it, it is taken away again: else its name would be one of that sort for nothing.
    pub fn fill<T>(
        &self,
        name: &VaultName,
        wanted: Sealing,
        work: impl FnOnce(&OpenedVault) -> Result<T>,
    ) -> Result<T> {
        // Whoever makes one puts its first entry in before another looks: what has entries stays what it is.
        if let Some(vault) = self.open_filled(name, wanted)? {
            return work(&vault);
        }
        let _making = self.lock_making()?;
        let (vault, origin) = self.open_or_make(name, wanted)?;
        let done = work(&vault);
        if done.is_err() && origin == Origin::Made {
            // What went wrong first is told.
            let _ = vault.drop_if_empty();
        }
        done
    }

    pub(super) fn lock_making(&self) -> Result<File> {
        let root = self.root();
        let making = |error| Error::local(format!("cannot make a vault in {}", root.display()), error);
        vault::file::make_private_folder(&root).map_err(making)?;
        let path = root.join(LOCK_NAME);
        let lock = File::options().write(true).create(true).truncate(false).open(path).map_err(making)?;
        lock.lock().map_err(making)?;
        super::staged::clear_abandoned(&root)?;
        Ok(lock)
    }

    /// The vault if it has entries and may be used where this sort is wanted.
    fn open_filled(&self, name: &VaultName, wanted: Sealing) -> Result<Option<OpenedVault>> {
        let Some(found) = self.open_if_there(name)? else { return Ok(None) };
        let fits = found.sealing() == Sealing::Sealed || wanted == Sealing::Plain;
        Ok(if fits && !found.holds_nothing()? { Some(found) } else { None })
    }

    /// One whose making or deletion was killed is taken away where it is opened, and is not there.
    fn open_if_there(&self, name: &VaultName) -> Result<Option<OpenedVault>> {
        match self.open(name) {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    fn open_or_make(&self, name: &VaultName, wanted: Sealing) -> Result<(OpenedVault, Origin)> {
        match (self.open_if_there(name)?, wanted) {
            (Some(OpenedVault::Plain(plain)), Sealing::Sealed) => {
                if plain.delete_if_empty()? {
                    return self.make(name, wanted);
                }
                let doing = format!("the vault {name} is not sealed, and is not sealed now by itself");
                let hint =
                    format!("shard vault export {name} > {name}.jsonl; shard vault import OTHER {name}.jsonl --sealed");
                Err(Error::new(ErrorKind::Refused, doing).with_hint(hint))
            }
            (Some(found), _) => Ok((found, Origin::Found)),
            (None, wanted) => self.make(name, wanted),
        }
    }

    fn make(&self, name: &VaultName, wanted: Sealing) -> Result<(OpenedVault, Origin)> {
        let (root, options) = (self.root(), Options::default());
        let made = match wanted {
            Sealing::Plain => OpenedVault::Plain(Vault::open(&root, name.as_str(), options)?),
            Sealing::Sealed => OpenedVault::Sealed(Chamber::open(&root, name.as_str(), self.chamber_key()?, options)?),
        };
        Ok((made, Origin::Made))
    }

    fn open_plain(&self, name: &VaultName) -> Result<OpenedVault> {
        Ok(OpenedVault::Plain(Vault::open_existing(&self.root(), name.as_str(), Options::default())?))
    }

    fn open_sealed(&self, name: &VaultName) -> Result<OpenedVault> {
        let chamber = Chamber::open_existing(&self.root(), name.as_str(), self.chamber_key()?, Options::default())?;
        Ok(OpenedVault::Sealed(chamber))
    }

    /// Whether there is a vault of this name, and of which sort, without any key.
    fn sealing(&self, name: &VaultName) -> Result<Option<Sealing>> {
        let listed = self.list()?;
        Ok(listed.into_iter().find(|vault| vault.name == *name).map(|vault| vault.sealing))
    }

    fn chamber_key(&self) -> Result<crate::crypto::ChamberKey> {
        match key::open_held(&self.dir.join(KEY_NAME), self.passphrase.as_ref())? {
            HeldKey::Owner(opened) => {
                let node = NodeId(*opened.keyring.store_id().as_bytes());
                Ok(opened.keyring.chamber_key(node))
            }
            HeldKey::Limited(key) => Err(Held::by(&key).refusal()),
        }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.join(VAULTS_NAME)
    }

    fn node_folders(&self) -> Result<Vec<PathBuf>> {
        let is_node = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.parse::<NodeId>().is_ok()) && path.is_dir()
        };
        let found = entries(&self.root())?;
        Ok(found.into_iter().filter(is_node).collect())
    }
}

pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = |error| Error::local(format!("cannot read the folder {}", folder.display()), error);
    match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found.map_err(reading)?.map(|entry| Ok(entry.map_err(reading)?.path())).collect(),
    }
}

/// Whether a vault is not what was written. One of a later release is, and a database of something else is no vault.
fn is_damage(error: &Error) -> bool {
    let Some(source) = &error.source else { return false };
    let is_damaged = |error: &vault::Error| matches!(error, vault::Error::Damaged { .. });
    source.downcast_ref().is_some_and(is_damaged) || source.downcast_ref().is_some_and(chamber::Error::is_damage)
}

fn list_files(folder: &Path, sealing: Sealing, found: &mut Vec<ListedVault>) -> Result<()> {
    for path in entries(folder)? {
        let name = path.file_name().and_then(|name| VaultName::of_file(name.to_str()?));
        let Some(name) = name else { continue };
        // One whose making was interrupted is none yet.
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if bytes > 0 {
            found.push(ListedVault { name, sealing, bytes });
        }
    }
    Ok(())
}

impl OpenedVault {
    /// Whether it is sealed.
    pub fn sealing(&self) -> Sealing {
        match self {
            Self::Plain(_) => Sealing::Plain,
            Self::Sealed(_) => Sealing::Sealed,
        }
    }

    /// Puts a value under a key, for a while or for good.
    pub fn set(&self, key: &str, value: &GivenValue, ttl: Option<Duration>) -> Result<()> {
        match (self, ttl) {
            (Self::Plain(vault), None) => vault.put(key, value)?,
            (Self::Plain(vault), Some(ttl)) => vault.put_with_ttl(key, value, ttl)?,
            (Self::Sealed(chamber), None) => chamber.store(key, value)?,
            (Self::Sealed(chamber), Some(ttl)) => chamber.store_with_ttl(key, value, ttl)?,
        }
        Ok(())
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Result<Option<Any>> {
        Ok(match self {
            Self::Plain(vault) => vault.get(key)?,
            Self::Sealed(chamber) => chamber.retrieve(key)?,
        })
    }

    /// Removes an entry, and gives its value, once `take` has had it: where that fails the entry stays.
    pub fn pop(&self, key: &str, take: impl FnOnce(&Any) -> Result<()>) -> Result<bool> {
        let taken = |value: Option<Any>| value.as_ref().map(take).transpose().map(|taken| taken.is_some());
        match self {
            Self::Plain(vault) => vault.transaction(|tx| taken(tx.pop(key)?)),
            Self::Sealed(chamber) => chamber.transaction(|tx| {
                let value = tx.retrieve(chamber::Purpose::RECORD, key)?;
                tx.delete(chamber::Purpose::RECORD, key)?;
                taken(value)
            }),
        }
    }

    /// Removes an entry, and says whether there was one.
    pub fn delete(&self, key: &str) -> Result<bool> {
        Ok(match self {
            Self::Plain(vault) => vault.remove(key)?,
            Self::Sealed(chamber) => chamber.delete(key)?,
        })
    }

    /// Gives each entry to `visit`, in the order of the keys: those that are texts and begin so, or all.
    pub fn each(&self, prefix: Option<&str>, mut visit: impl FnMut(UntypedEntry) -> Result<()>) -> Result<()> {
        match self {
            Self::Plain(vault) => vault.untyped(prefix)?.try_for_each(|entry| visit(entry?)),
            Self::Sealed(chamber) => chamber.untyped(prefix, visit),
        }
    }

    /// Removes everything, and says how many entries there were.
    pub fn clear(&self) -> Result<u64> {
        Ok(match self {
            Self::Plain(vault) => vault.clear()?,
            Self::Sealed(chamber) => chamber.clear()?,
        })
    }

    /// Deletes the vault.
    pub fn drop_vault(self) -> Result<()> {
        match self {
            Self::Plain(vault) => vault.delete_vault()?,
            Self::Sealed(chamber) => chamber.delete_chamber()?,
        }
        Ok(())
    }

    /// Whether nothing was ever put in, or all of it was removed.
    fn holds_nothing(&self) -> Result<bool> {
        Ok(match self {
            Self::Plain(vault) => vault.holds_nothing()?,
            Self::Sealed(chamber) => chamber.holds_nothing()?,
        })
    }

    fn drop_if_empty(self) -> Result<bool> {
        Ok(match self {
            Self::Plain(vault) => vault.delete_if_empty()?,
            Self::Sealed(chamber) => chamber.delete_if_empty()?,
        })
    }

    /// Writes all entries, in the clear, as JSON lines, and says how many there were.
    pub fn export(&self, name: &VaultName, out: &mut dyn Write) -> Result<u64> {
        Ok(match self {
            Self::Plain(vault) => vault.export(name, out)?,
            Self::Sealed(chamber) => chamber.export(name, out)?,
        })
    }

    /// Takes all entries of an export in, or none.
    pub fn import(&self, input: &mut dyn BufRead) -> Result<u64> {
        Ok(match self {
            Self::Plain(vault) => vault.import(input)?,
            Self::Sealed(chamber) => chamber.import(input)?,
        })
    }
}

impl From<vault::Error> for Error {
    fn from(error: vault::Error) -> Self {
        use vault::Error as Vault;
        let kind = match &error {
            Vault::Absent { .. } | Vault::Deleted { .. } => ErrorKind::NotFound,
            Vault::OtherKey { .. } => ErrorKind::WrongKey,
            Vault::Damaged { .. } | Vault::Foreign { .. } | Vault::Newer { .. } => ErrorKind::Damaged,
            Vault::Busy { .. } => ErrorKind::Busy,
            Vault::Full { .. } => ErrorKind::Space,
            Vault::Database { .. } | Vault::Io { .. } | Vault::Transfer { .. } => ErrorKind::Local,
            _ => ErrorKind::Invalid,
        };
        let is_damaged = matches!(error, Vault::Damaged { .. });
        let told = Self::new(kind, "the vault could not be used").with_source(error);
        match kind {
            ErrorKind::Damaged if !is_damaged => {
                told.with_hint("it is no vault of this release: move its file away with those beside it, -wal and -shm")
            }
            ErrorKind::Damaged => told.with_hint(
                "`shard vault drop` deletes a damaged one, or move its file away with those beside it, -wal and -shm; an export \
                 of it can then be imported again",
            ),
            ErrorKind::Space => told.with_hint("make room on its disk and try again; what was acknowledged is there"),
            _ => told,
        }
    }
}

impl From<chamber::Error> for Error {
    fn from(error: chamber::Error) -> Self {
        match error {
            chamber::Error::Vault(error) => error.into(),
            error => Self::new(ErrorKind::Damaged, "the sealed vault is damaged")
                .with_source(error)
                .with_hint("`shard vault drop` deletes it; an export of it can then be imported again"),
        }
    }
}
