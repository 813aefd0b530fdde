//! An encrypted dictionary that belongs to one node: a type of its own, so that nobody forgets to encrypt.
//!
//! *What it is.* [`Chamber`]: records under keys of any type, and contents under their own hash, in one SQLite file in the
//! folder of the node. Keys and values are sealed with AES-256-GCM. Several steps at once go through a [`Transaction`];
//! what stands on a chamber keeps records of its own [`Purpose`] in the same one.
//!
//! *What it knows.* How a record is sealed and bound (`record.rs`), and how the vault's file keeps bytes.
//!
//! *What it does not know.* Where its key comes from, and what the records stand for.
//!
//! # Invariants
//!
//! - **A copy of the file tells neither keys nor values without the key**: it tells how many records there are, of which
//!   purposes, how long each is, when it expires, and which is written when. Equal keys have equal tags in one chamber alone.
//! - **A record opens in its place alone**: under its key, in its chamber, on its node, for its purpose, with its time of
//!   expiry. A file that is given the name of another chamber does not open.
//! - **No value is given out that is not what was written**, whatever bytes were changed, and what is deleted is
//!   overwritten, so that no old record is found instead of the new.
//! - **A record that is there is not said to be absent** while no more than one of the two trees is damaged in which its
//!   parts lie: one part's loss is told by the other, in each look-up and each list. No page belongs to both. (A file that
//!   is put back whole, as it was before, is not told from the present one; nor is a log that a crash left, cut short where
//!   a change to it was whole.)
//! - **A wrong key is told when the file is opened**, and by those who had it open when the key was changed.

mod error;
mod record;
#[cfg(test)]
mod tests;
mod transaction;

pub use error::{Error, Result};
pub use record::Purpose;
pub use transaction::Transaction;

use crate::crypto::ChamberKey;
use crate::id::{Digest, NodeId};
use crate::vault::{self, Database, ExportWriter, Form, Options, UntypedEntry, VaultName, read_export};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Says in the file's header what it is: `SHCH`.
const APPLICATION_ID: i32 = 0x5348_4348;
/// The tables of a vault, and one for values beside that for keys.
const SCHEMA: &str = concat!(include_str!("../vault/schema.sql"), include_str!("bodies.sql"));

/// One node's encrypted dictionary, open; share it between threads by reference. Other processes may have it open too.
#[derive(Debug)]
pub struct Chamber {
    name: VaultName,
    database: Database,
    keys: RwLock<Vec<Arc<ChamberKey>>>,
}

impl Chamber {
    /// Opens the chamber of this name of the key's node, below a folder; it is made where it is not there.
    pub fn open(root: &Path, name: &str, key: ChamberKey, options: Options) -> Result<Self> {
        let name = VaultName::new(name)?;
        let (path, key) = (Self::file(root, key.node(), &name), key.of_chamber(name.as_str()));
        let database = Database::open(&path, form(&key), options.parts())?;
        Ok(Self { name, database, keys: RwLock::new(vec![Arc::new(key)]) })
    }

    /// Opens the chamber that there is.
    pub fn open_existing(root: &Path, name: &str, key: ChamberKey, options: Options) -> Result<Self> {
        let name = VaultName::new(name)?;
        let (path, key) = (Self::file(root, key.node(), &name), key.of_chamber(name.as_str()));
        let database = Database::open_existing(&path, form(&key), options.parts())?;
        Ok(Self { name, database, keys: RwLock::new(vec![Arc::new(key)]) })
    }

    /// The folder of a node's chambers.
    pub fn folder(root: &Path, node: NodeId) -> PathBuf {
        root.join(node.to_string())
    }

    /// The file of a chamber.
    pub fn file(root: &Path, node: NodeId, name: &VaultName) -> PathBuf {
        Self::folder(root, node).join(name.file_name())
    }

    /// Deletes it with all that is in it.
    pub fn delete_chamber(self) -> Result<()> {
        Ok(self.database.delete()?)
    }

    /// Deletes it if there is neither record nor content in it, expired ones too; says whether it did.
    pub fn delete_if_empty(self) -> Result<bool> {
        Ok(self.database.delete_if_empty()?)
    }

    pub(crate) fn holds_nothing(&self) -> Result<bool> {
        Ok(self.database.holds_nothing()?)
    }

    /// Does several things as one: what `work` did is durable when this returns, or undone if it failed.
    pub fn transaction<T, E: From<Error>>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, E>) -> Result<T, E> {
        self.with_key(work, |database, work| database.write(work))
    }

    /// Asks several things of one state of the file. What `work` would change stays as it is.
    pub(crate) fn read<T, E: From<Error>>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, E>) -> Result<T, E> {
        self.with_key(work, |database, work| database.read(work))
    }

    /// Where its file is.
    pub fn path(&self) -> &Path {
        self.database.path()
    }

    /// The time in milliseconds since 1970, which never goes back.
    pub(crate) fn now_ms(&self) -> i64 {
        self.database.now_ms()
    }

    /// Stores a value under a key, over whatever was there.
    pub fn store<K: Serialize + ?Sized, V: Serialize + ?Sized>(&self, key: &K, value: &V) -> Result<()> {
        self.transaction(|tx| tx.store(Purpose::RECORD, key, value))
    }

    /// Stores a value that expires after a while.
    pub fn store_with_ttl<K, V>(&self, key: &K, value: &V, ttl: Duration) -> Result<()>
    where
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        self.transaction(|tx| tx.store_with_ttl(key, value, ttl))
    }

    /// The value under a key.
    pub fn retrieve<V: DeserializeOwned>(&self, key: &(impl Serialize + ?Sized)) -> Result<Option<V>> {
        self.read(|tx| tx.retrieve(Purpose::RECORD, key))
    }

    /// Deletes a record, and says whether there was one.
    pub fn delete<K: Serialize + ?Sized>(&self, key: &K) -> Result<bool> {
        self.transaction(|tx| tx.delete(Purpose::RECORD, key))
    }

    /// Whether there is a record under a key.
    pub fn exists<K: Serialize + ?Sized>(&self, key: &K) -> Result<bool> {
        self.read(|tx| tx.exists(Purpose::RECORD, key))
    }

    /// All keys in order. Each is opened for it: memory and time are those of all keys, not of the values.
    pub fn list_keys<K: DeserializeOwned>(&self) -> Result<Vec<K>> {
        self.read(|tx| tx.list_keys(Purpose::RECORD))
    }

    /// The keys that begin so: with this text, or as a tuple with these members.
    pub fn list_keys_beginning<K: DeserializeOwned>(&self, prefix: &(impl Serialize + ?Sized)) -> Result<Vec<K>> {
        self.read(|tx| tx.list_keys_beginning(Purpose::RECORD, prefix))
    }

    /// How many records there are. Opens every key.
    pub fn len(&self) -> Result<u64> {
        self.read(|tx| tx.len(Purpose::RECORD))
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Deletes all records, and says how many there were. Contents stay.
    pub fn clear(&self) -> Result<u64> {
        self.transaction(|tx| tx.clear(Purpose::RECORD))
    }

    /// Keeps bytes under their BLAKE3 hash, which it gives. The same bytes are kept once.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        self.transaction(|tx| tx.put(bytes))
    }

    /// The bytes of this hash, which are hashed again.
    pub fn get(&self, hash: Digest) -> Result<Option<Vec<u8>>> {
        self.read(|tx| tx.get(hash))
    }

    /// Removes the records and contents that have expired, and says how many there were.
    pub fn cleanup_expired(&self) -> Result<u64> {
        self.transaction(|tx| tx.cleanup_expired())
    }

    /// Seals everything anew under another key of the same node, in one transaction: after it the old key opens nothing.
    /// Other threads may use this chamber meanwhile; others that have the file open are told so.
    pub fn change_key(&self, new: ChamberKey) -> Result<u64> {
        let new = Arc::new(new.of_chamber(self.name.as_str()));
        let (old, count) = self.database.write(|raw| -> Result<_> {
            let old = self.key_of(raw)?;
            let count = Transaction::new(raw, &old, &self.database).seal_anew(&new)?;
            // Before the commit, so that whoever sees it at once knows the key.
            self.set_keys(vec![Arc::clone(&old), Arc::clone(&new)]);
            self.database.set_check(raw, new.check_value())?;
            Ok((old, count))
        })?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // The old key stays beside the new for those that still look at a state of before. Where another change was quicker the
        // new one is no longer the second.
        if keys.first().is_some_and(|first| Arc::ptr_eq(first, &old)) {
            keys.reverse();
        }
        Ok(count)
    }

    /// Reads the whole file and opens every record, and fails if something is not what was written.
    pub fn check(&self) -> Result<()> {
        self.database.check()?;
        self.read(|tx| tx.check())
    }

    /// The entries whose keys are texts that begin so, or all of them, in order, given to `visit` one by one.
    pub fn untyped<E: From<Error>>(
        &self,
        prefix: Option<&str>,
        mut visit: impl FnMut(UntypedEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut each = |entry: vault::KeptEntry| visit(entry.untyped().map_err(|error| E::from(error.into()))?);
        self.read(|tx| tx.each(prefix, &mut each))
    }

    /// Writes all records, in the clear, as JSON lines, and says how many there were. Contents are not among them.
    pub fn export(&self, name: &VaultName, out: &mut dyn Write) -> Result<u64> {
        let mut writer = ExportWriter::begin(out, name)?;
        self.read(|tx| tx.each(None, |entry| Ok::<_, Error>(writer.entry(&entry)?)))?;
        Ok(writer.end()?)
    }

    /// Takes all entries of an export in; if one line is wrong nothing is changed.
    pub fn import(&self, input: &mut dyn BufRead) -> Result<u64> {
        self.transaction(|tx| read_export(input, |entry| tx.put_kept(&entry)))
    }

    /// The key that it has now.
    pub(crate) fn key(&self) -> Arc<ChamberKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(keys.first().expect("there is always one"))
    }

    /// Does `work` over a state of the file with the key under which that state is sealed: another thread may change it at any
    /// moment.
    fn with_key<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
        run: impl Fn(&Database, &mut OnState<'_, T, E>) -> Result<T, Attempt<E>>,
    ) -> Result<T, E> {
        let mut work = Some(work);
        loop {
            let before = self.key();
            let done = run(&self.database, &mut |raw| {
                let key = self.key_of(raw)?;
                let work = work.take().expect("what was done is not tried again");
                work(&Transaction::new(raw, &key, &self.database)).map_err(Attempt::Failed)
            });
            match done {
                // The state was that of a key which is past by now.
                Err(Attempt::OtherKey(_)) if !Arc::ptr_eq(&before, &self.key()) => {}
                Err(Attempt::OtherKey(error)) => return Err(Error::from(error).into()),
                Err(Attempt::Failed(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// The key under which this state of the file is sealed: while another thread changes it, it may be either.
    fn key_of(&self, raw: &vault::Raw<'_>) -> vault::Result<Arc<ChamberKey>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let found = keys.iter().find(|key| key.check_value() == raw.check()).map(Arc::clone);
        found.ok_or_else(|| vault::Error::OtherKey { path: self.path().to_owned() })
    }

    fn set_keys(&self, keys: Vec<Arc<ChamberKey>>) {
        let checks = keys.iter().map(|key| key.check_value()).collect();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        self.database.accept_checks(checks);
    }
}

/// What is done over a state of the file.
type OnState<'w, T, E> = dyn FnMut(&vault::Raw<'_>) -> Result<T, Attempt<E>> + 'w;

/// Why something was not done: a key that is not known is told before anything is.
enum Attempt<E> {
    OtherKey(vault::Error),
    Failed(E),
}

impl<E: From<Error>> From<vault::Error> for Attempt<E> {
    fn from(error: vault::Error) -> Self {
        match error {
            vault::Error::OtherKey { .. } => Self::OtherKey(error),
            _ => Self::Failed(Error::from(error).into()),
        }
    }
}

/// A caller's error on its way through the database, whose own become it too.
struct Carried<E>(E);

impl<E: From<Error>> From<vault::Error> for Carried<E> {
    fn from(error: vault::Error) -> Self {
        Self(Error::from(error).into())
    }
}

impl<E: From<Error>> From<Error> for Carried<E> {
    fn from(error: Error) -> Self {
        Self(error.into())
    }
}

fn form(key: &ChamberKey) -> Form {
    Form { application_id: APPLICATION_ID, check: key.check_value(), schema: SCHEMA, wipes: true }
}
