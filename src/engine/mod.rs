//! Records of a node: messages, sessions, proofs, peers and metadata, sealed, listed newest first, backed up and restored.
//!
//! *What it is.* [`StorageEngine`] over a [`Chamber`]: each sort of record under a purpose of its own, the entries of the
//! lists in which records stand written in the same transaction; [`Backups`] of it in any [`BackupPlace`].
//!
//! *What it knows.* Which lists there are and how they are read in pages; what there is in all; how a snapshot is made of one
//! moment while others write, and put in the place of what there is.
//!
//! *What it does not know.* What is in a record's body. Networks, stores and operations: where backups go is handed in.
//!
//! # Invariants
//!
//! - **What was acknowledged is there, and nothing of what was not**: a record, its entries in lists and the sums over all
//!   are one transaction.
//! - **Lists are in the order in which their entries were saved**, whatever the clock said; the times of records are in that
//!   order too. A page follows another without repeating or skipping what stays, whatever is saved or deleted in between.
//! - **No record is given out that is not what was written, and none is left out of a list unseen.**
//! - **A restore is all or nothing**: the snapshot is checked to its end before a change, and the change is one transaction.
//!
//! ```text
//! StorageEngine ── Transaction ── list.rs: which records, in what order ── Chamber
//!       └ Backups ── snapshot/: all records as sealed bytes ── BackupPlace: a folder, or what is handed in
//! ```

mod backup;
mod error;
mod list;
mod page;
mod place;
mod record;
mod schedule;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod transaction;

pub use backup::{BackupReport, Backups};
pub use error::{Error, Result};
pub use page::{Cursor, MAX_PAGE_BYTES, MAX_PAGE_RECORDS, Page, PageRequest};
pub use place::{BackupFolder, BackupLabel, BackupPlace, NotALabel, PlaceError};
pub use record::{Collection, Message, Outcome, Peer, Proof, Session};
pub use schedule::Schedule;
pub use state::{BackupNote, Statistics, Tally};
pub use transaction::{ProofsOf, Transaction};

use crate::chamber::{self, Chamber};
use crate::crypto::ChamberKey;
use crate::id::{MessageId, NodeId, PeerId, ProofId, SessionId};
use crate::vault::file::{beside, move_aside};
use crate::vault::{Clock, Durability, Options, VaultName};
use place::private_options;
use record::ListName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use state::State;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use transaction::Reading;

/// What is written to or read from a file at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Fills what it is given with random bytes.
type Fill = dyn Fn(&mut [u8]) -> std::io::Result<()> + Send + Sync;

/// Where random bytes come from.
#[derive(Clone)]
pub struct Random(Arc<Fill>);

impl Random {
    /// From this, which fills what it is given.
    pub fn new(fill: impl Fn(&mut [u8]) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(fill))
    }
}

impl Default for Random {
    /// From the operating system.
    fn default() -> Self {
        Self::new(|room| getrandom::fill(room).map_err(std::io::Error::other))
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

/// How an engine is opened.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// What time it is.
    pub clock: Clock,
    /// What a change outlives once it is acknowledged.
    pub durability: Durability,
    /// What makes each snapshot's key another.
    pub random: Random,
}

/// A node's records, open; share it between threads by reference. Other processes may have them open too.
#[derive(Debug)]
pub struct StorageEngine {
    chamber: Chamber,
    random: Random,
}

impl StorageEngine {
    /// Opens the records of this name of the key's node, below a folder; they are made where they are not there.
    pub fn open(root: &Path, name: &str, key: ChamberKey, options: EngineOptions) -> Result<Self> {
        let EngineOptions { clock, durability, random } = options;
        let chamber = Chamber::open(root, name, key, Options { clock, durability })?;
        Ok(Self { chamber, random })
    }

    /// Opens the records and reads all of them; where they are damaged, the file is kept under another name and empty ones
    /// are made, into which a backup can be restored. Says where the damaged file is kept.
    pub fn open_or_set_aside(
        root: &Path,
        name: &str,
        key: impl Fn() -> ChamberKey,
        options: &EngineOptions,
    ) -> Result<(Self, Option<PathBuf>)> {
        let open_whole = || {
            let engine = Self::open(root, name, key(), options.clone())?;
            engine.check().map(|()| engine)
        };
        match open_whole() {
            Err(error) if error.is_damage() => {}
            opened => return opened.map(|engine| (engine, None)),
        }
        let node = key().node();
        let path = Chamber::file(root, node, &VaultName::new(name)?);
        // Another process may be at the same: whoever comes second finds the new one. The lock is on a file of its own, for to
        // close the records' file would give up the locks of a connection that is open by then.
        let beside = beside(&path, "-aside.lock");
        let lock = private_options().create(true).truncate(false).open(&beside);
        let lock = lock.and_then(|file| file.lock().map(|()| file));
        let _lock = lock.map_err(|error| Error::io(error, &beside))?;
        match open_whole() {
            Err(error) if error.is_damage() => {
                let kept = move_aside(&path).map_err(|error| Error::io(error, &path))?;
                Ok((Self::open(root, name, key(), options.clone())?, Some(kept)))
            }
            opened => opened.map(|engine| (engine, None)),
        }
    }

    /// Whose records they are.
    pub fn node(&self) -> NodeId {
        self.chamber.key().node()
    }

    /// Where their file is.
    pub fn path(&self) -> &Path {
        self.chamber.path()
    }

    /// The time in milliseconds since 1970, which never goes back.
    pub fn now_ms(&self) -> i64 {
        self.chamber.now_ms()
    }

    /// Does several things as one: what `work` did is durable when this returns, or undone if it failed.
    pub fn transaction<T, E: From<Error>>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, E>) -> Result<T, E> {
        let done = self.chamber.transaction(|records| {
            let tx = Transaction::begin(records).map_err(|error| Carried(error.into()))?;
            let answer = work(&tx).map_err(Carried)?;
            tx.finish().map_err(|error| Carried(error.into()))?;
            Ok(answer)
        });
        done.map_err(|Carried(error)| error)
    }

    fn read<T>(&self, work: impl FnOnce(Reading<'_>) -> Result<T>) -> Result<T> {
        self.chamber.read(|records| work(Reading(records)))
    }

    /// Saves a message, over the one of this id, and gives it with its time. What was there keeps its time and its place in
    /// the lists in which it stays; under another peer it is the newest.
    pub fn save_message(&self, message: Message) -> Result<Message> {
        self.transaction(|tx| tx.save_message(message))
    }

    /// A message.
    pub fn message(&self, id: MessageId) -> Result<Option<Message>> {
        self.read(|records| records.get(id.as_bytes()))
    }

    /// Deletes a message, and says whether there was one.
    pub fn delete_message(&self, id: MessageId) -> Result<bool> {
        self.transaction(|tx| tx.delete_message(id))
    }

    /// Messages of all peers, the newest first.
    pub fn recent_messages(&self, request: PageRequest) -> Result<Page<Message>> {
        self.read(|records| records.page(ListName::Messages, request))
    }

    /// Messages of one peer, the newest first.
    pub fn messages_of(&self, peer: PeerId, request: PageRequest) -> Result<Page<Message>> {
        self.read(|records| records.page(ListName::MessagesOf(peer), request))
    }

    /// How many messages of one peer there are.
    pub fn count_messages_of(&self, peer: PeerId) -> Result<u64> {
        self.read(|records| records.count(ListName::MessagesOf(peer)))
    }

    /// Saves a session, over the one of this id, and gives it with its time.
    pub fn save_session(&self, session: Session) -> Result<Session> {
        self.transaction(|tx| tx.save_session(session))
    }

    /// A session.
    pub fn session(&self, id: SessionId) -> Result<Option<Session>> {
        self.read(|records| records.get(id.as_bytes()))
    }

    /// Deletes a session, and says whether there was one.
    pub fn delete_session(&self, id: SessionId) -> Result<bool> {
        self.transaction(|tx| tx.delete_session(id))
    }

    /// All sessions, in the order of their ids.
    pub fn sessions(&self) -> Result<Vec<Session>> {
        self.read(|records| records.all())
    }

    /// Saves the record of a challenge, over the one of this id, and gives it with its time.
    pub fn save_proof(&self, proof: Proof) -> Result<Proof> {
        self.transaction(|tx| tx.save_proof(proof))
    }

    /// The record of a challenge.
    pub fn proof(&self, id: ProofId) -> Result<Option<Proof>> {
        self.read(|records| records.get(id.as_bytes()))
    }

    /// Deletes the record of a challenge, and says whether there was one.
    pub fn delete_proof(&self, id: ProofId) -> Result<bool> {
        self.transaction(|tx| tx.delete_proof(id))
    }

    /// The records of challenges, the newest first: all, those of an object, or the history of a backend.
    pub fn proofs(&self, of: ProofsOf, request: PageRequest) -> Result<Page<Proof>> {
        self.read(|records| records.page(of.list(), request))
    }

    /// How many of them there are.
    pub fn count_proofs(&self, of: ProofsOf) -> Result<u64> {
        self.read(|records| records.count(of.list()))
    }

    /// Saves what is known of a peer, and gives it with its time.
    pub fn save_peer(&self, peer: Peer) -> Result<Peer> {
        self.transaction(|tx| tx.save_peer(peer))
    }

    /// What is known of a peer.
    pub fn peer(&self, id: PeerId) -> Result<Option<Peer>> {
        self.read(|records| records.get(id.as_bytes()))
    }

    /// Deletes what is known of a peer, and says whether there was something. Its messages and sessions stay.
    pub fn delete_peer(&self, id: PeerId) -> Result<bool> {
        self.transaction(|tx| tx.delete_peer(id))
    }

    /// All peers, in the order of their ids.
    pub fn peers(&self) -> Result<Vec<Peer>> {
        self.read(|records| records.all())
    }

    /// Keeps a value under a name, over whatever was there.
    pub fn set_metadata<V: Serialize + ?Sized>(&self, name: &str, value: &V) -> Result<()> {
        self.transaction(|tx| tx.set_metadata(name, value))
    }

    /// The value under a name.
    pub fn metadata<V: DeserializeOwned>(&self, name: &str) -> Result<Option<V>> {
        self.read(|records| records.metadata(name))
    }

    /// Deletes the value under a name, and says whether there was one.
    pub fn delete_metadata(&self, name: &str) -> Result<bool> {
        self.transaction(|tx| tx.delete_metadata(name))
    }

    /// Deletes all records of all sorts.
    pub fn clear_all(&self) -> Result<()> {
        self.transaction(|tx| tx.clear_all())
    }

    /// What there is, in all. Reads no record but the one that says it.
    pub fn statistics(&self) -> Result<Statistics> {
        let state = self.read(|Reading(records)| State::load(records))?;
        let length = |suffix: &str| std::fs::metadata(beside(self.path(), suffix)).map_or(0, |metadata| metadata.len());
        let tallies = Collection::ALL.map(|collection| (collection, state.tally(collection)));
        Ok(Statistics {
            collections: BTreeMap::from(tallies),
            file_bytes: length("") + length("-wal"),
            last_backup: state.last_backup,
        })
    }

    /// Reads the whole file and opens every record, and fails if something is not what was written.
    pub fn check(&self) -> Result<()> {
        Ok(self.chamber.check()?)
    }

    /// Writes all records as they are at one moment, whatever is written meanwhile, and says what it wrote; its number is 0.
    pub fn snapshot(&self, out: &mut dyn Write) -> Result<BackupNote> {
        let mut random = [0; 16];
        (self.random.0)(&mut random).map_err(|source| Error::Stream { doing: "written", source })?;
        let key = self.chamber.key();
        let (header, bytes) = self.chamber.read(|records| snapshot::write(records, &key, random, out))?;
        Ok(BackupNote { number: 0, taken_ms: header.taken_ms, records: header.records, bytes })
    }

    /// Puts the records of a snapshot in the place of all that there are. It is read twice: checked to its end before anything
    /// is changed, and then put in, in one transaction.
    pub fn restore<R: Read + Seek>(&self, input: &mut R) -> Result<BackupNote> {
        self.restore_numbered(input, 0)
    }

    fn restore_numbered<R: Read + Seek>(&self, input: &mut R, number: u64) -> Result<BackupNote> {
        let key = self.chamber.key();
        let begin = input.stream_position().map_err(not_read)?;
        let (checked, bytes) =
            snapshot::read(&mut BufReader::with_capacity(BUFFER_BYTES, &mut *input), &key, |_, _| Ok(()))?;
        self.chamber.transaction(|records| {
            // What is to be replaced may be damaged.
            let before = State::load(records)
                .or_else(|error| if error.is_damage() { Ok(State::default()) } else { Err(error) })?;
            records.clear_all()?;
            input.seek(SeekFrom::Start(begin)).map_err(not_read)?;
            let mut input = BufReader::with_capacity(BUFFER_BYTES, &mut *input);
            let (header, _) = snapshot::read(&mut input, &key, |purpose, entry| Ok(records.put_any(purpose, &entry)?))?;
            if header != checked {
                return Err(Error::damaged("it became another while it was read"));
            }
            let note = BackupNote { number, taken_ms: header.taken_ms, records: header.records, bytes };
            let mut state = State::load(records)?;
            state.go_on(&before);
            state.last_backup = Some(note);
            state.store(records)?;
            Ok(note)
        })
    }

    fn snapshot_to_file(&self, path: &Path) -> Result<BackupNote> {
        let file = private_options().create_new(true).open(path).map_err(|error| Error::io(error, path))?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let note = self.snapshot(&mut out)?;
        let finish = || out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all();
        finish().map_err(|error| Error::io(error, path))?;
        Ok(note)
    }

    fn note_backup(&self, note: BackupNote) -> Result<()> {
        self.transaction(|tx| {
            tx.note_backup(note);
            Ok(())
        })
    }
}

fn not_read(source: std::io::Error) -> Error {
    Error::Stream { doing: "read", source }
}

/// A caller's error on its way through the chamber, whose own become it too.
struct Carried<E>(E);

impl<E: From<Error>> From<chamber::Error> for Carried<E> {
    fn from(error: chamber::Error) -> Self {
        Self(Error::from(error).into())
    }
}
