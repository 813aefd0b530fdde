//! What can be done with records, inside a transaction.

use super::error::Result;
use super::list::{self, List};
use super::page::{Cursor, MAX_PAGE_BYTES, Page, PageRequest};
use super::record::{Collection, ListName, Message, Peer, Proof, Record, Session};
use super::state::{BackupNote, State};
use crate::chamber::{self, Error};
use crate::id::{BackendId, MessageId, ObjectId, PeerId, ProofId, SessionId};
use crate::vault::Blob;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// A record as it lies in the chamber, with its ordinal in each of its lists.
#[derive(Serialize, Deserialize)]
struct Kept<R>(R, Vec<u64>);

/// The key of a record: the bytes of its id.
struct Key<'k>(&'k [u8]);

impl Serialize for Key<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// A transaction that is open: what is done through it happens together, or not at all.
pub struct Transaction<'t> {
    records: &'t chamber::Transaction<'t>,
    state: RefCell<State>,
}

impl<'t> Transaction<'t> {
    pub(super) fn begin(records: &'t chamber::Transaction<'t>) -> Result<Self> {
        Ok(Self { records, state: RefCell::new(State::load(records)?) })
    }

    /// Writes down what there is now; before the commit.
    pub(super) fn finish(self) -> Result<()> {
        self.state.into_inner().store(self.records)
    }

    /// Saves a message, over the one of this id: that keeps its time and its place in the lists in which it stays.
    pub fn save_message(&self, message: Message) -> Result<Message> {
        self.save(message)
    }

    /// Saves a session.
    pub fn save_session(&self, session: Session) -> Result<Session> {
        self.save(session)
    }

    /// Saves the record of a challenge.
    pub fn save_proof(&self, proof: Proof) -> Result<Proof> {
        self.save(proof)
    }

    /// Saves what is known of a peer.
    pub fn save_peer(&self, peer: Peer) -> Result<Peer> {
        self.save(peer)
    }

    /// Keeps a value under a name.
    pub fn set_metadata<V: Serialize + ?Sized>(&self, name: &str, value: &V) -> Result<()> {
        let purpose = Collection::Metadata.purpose();
        let before = self.records.measured(purpose, name)?;
        let after = self.records.store_measured(purpose, name, value)?;
        self.state.borrow_mut().count(Collection::Metadata, before, Some(after))
    }

    /// Deletes a message, and says whether there was one.
    pub fn delete_message(&self, id: MessageId) -> Result<bool> {
        self.delete::<Message>(id.as_bytes())
    }

    /// Deletes a session, and says whether there was one.
    pub fn delete_session(&self, id: SessionId) -> Result<bool> {
        self.delete::<Session>(id.as_bytes())
    }

    /// Deletes the record of a challenge, and says whether there was one.
    pub fn delete_proof(&self, id: ProofId) -> Result<bool> {
        self.delete::<Proof>(id.as_bytes())
    }

    /// Deletes what is known of a peer, and says whether there was something. Messages and sessions stay.
    pub fn delete_peer(&self, id: PeerId) -> Result<bool> {
        self.delete::<Peer>(id.as_bytes())
    }

    /// Deletes the value under a name, and says whether there was one.
    pub fn delete_metadata(&self, name: &str) -> Result<bool> {
        let purpose = Collection::Metadata.purpose();
        let before = self.records.measured(purpose, name)?;
        self.records.delete(purpose, name)?;
        self.state.borrow_mut().count(Collection::Metadata, before, None)?;
        Ok(before.is_some())
    }

    /// Deletes all records of all sorts. When the last backup was made stays known.
    pub fn clear_all(&self) -> Result<()> {
        let kept = Collection::ALL.map(Collection::purpose);
        kept.into_iter().chain(list::PURPOSES).try_for_each(|purpose| self.records.clear(purpose).map(drop))?;
        self.state.borrow_mut().tallies.clear();
        Ok(())
    }

    /// A message.
    pub fn message(&self, id: MessageId) -> Result<Option<Message>> {
        self.reading().get(id.as_bytes())
    }

    /// A session.
    pub fn session(&self, id: SessionId) -> Result<Option<Session>> {
        self.reading().get(id.as_bytes())
    }

    /// The record of a challenge.
    pub fn proof(&self, id: ProofId) -> Result<Option<Proof>> {
        self.reading().get(id.as_bytes())
    }

    /// What is known of a peer.
    pub fn peer(&self, id: PeerId) -> Result<Option<Peer>> {
        self.reading().get(id.as_bytes())
    }

    /// The value under a name.
    pub fn metadata<V: DeserializeOwned>(&self, name: &str) -> Result<Option<V>> {
        self.reading().metadata(name)
    }

    pub(super) fn note_backup(&self, note: BackupNote) {
        self.state.borrow_mut().last_backup = Some(note);
    }

    fn reading(&self) -> Reading<'_> {
        Reading(self.records)
    }

    fn save<R: Record>(&self, mut record: R) -> Result<R> {
        let mut state = self.state.borrow_mut();
        let purpose = R::COLLECTION.purpose();
        let before: Option<(Kept<R>, u64)> = self.records.retrieve_measured(purpose, &Key(record.key()))?;
        let lists = record.lists();
        let (mut places, known, length) = match before {
            Some((Kept(mut known, places), length)) => {
                *record.saved_ms() = *known.saved_ms();
                (places, known.lists(), Some(length))
            }
            None => {
                // The time of what was saved is in its order, whatever the clock says.
                state.newest_ms = state.newest_ms.max(self.records.now_ms());
                *record.saved_ms() = state.newest_ms;
                (vec![0; lists.len()], Vec::new(), None)
            }
        };
        if places.len() != lists.len() {
            return Err(Error::Torn.into());
        }
        for (at, (name, place)) in lists.into_iter().zip(&mut places).enumerate() {
            let old = known.get(at).copied();
            if old == Some(name) {
                continue;
            }
            if let Some(old) = old {
                List::new(self.records, old).remove(*place)?;
            }
            *place = List::new(self.records, name).append(record.key(), state.unused)?;
            state.unused += 1;
        }
        let kept = Kept(record, places);
        let after = self.records.store_measured(purpose, &Key(kept.0.key()), &kept)?;
        state.count(R::COLLECTION, length, Some(after))?;
        Ok(kept.0)
    }

    fn delete<R: Record>(&self, id: &[u8]) -> Result<bool> {
        let purpose = R::COLLECTION.purpose();
        let found: Option<(Kept<R>, u64)> = self.records.retrieve_measured(purpose, &Key(id))?;
        let Some((Kept(record, places), length)) = found else { return Ok(false) };
        for (name, place) in record.lists().into_iter().zip(places) {
            List::new(self.records, name).remove(place)?;
        }
        self.records.delete(purpose, &Key(id))?;
        self.state.borrow_mut().count(R::COLLECTION, Some(length), None)?;
        Ok(true)
    }
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

/// Questions about one state of the records.
#[derive(Clone, Copy)]
pub(super) struct Reading<'t>(pub(super) &'t chamber::Transaction<'t>);

impl Reading<'_> {
    pub(super) fn get<R: Record>(&self, id: &[u8]) -> Result<Option<R>> {
        let kept: Option<Kept<R>> = self.0.retrieve(R::COLLECTION.purpose(), &Key(id))?;
        Ok(kept.map(|Kept(record, _)| record))
    }

    pub(super) fn metadata<V: DeserializeOwned>(&self, name: &str) -> Result<Option<V>> {
        Ok(self.0.retrieve(Collection::Metadata.purpose(), name)?)
    }

    /// All records of a sort, in the order of their ids.
    pub(super) fn all<R: Record>(&self) -> Result<Vec<R>> {
        let keys: Vec<Blob> = self.0.list_keys(R::COLLECTION.purpose())?;
        keys.iter().map(|Blob(id)| self.listed(id).map(|(record, _)| record)).collect()
    }

    pub(super) fn page<R: Record>(&self, name: ListName, request: PageRequest) -> Result<Page<R>> {
        let limit = request.checked_limit()?;
        let before = request.before.map(|Cursor(ordinal)| ordinal);
        // One more, to know whether another page follows.
        let entries = List::new(self.0, name).older_than(before, limit + 1)?;
        let (mut records, mut bytes, mut last) = (Vec::new(), 0, None);
        for entry in entries.iter().take(limit) {
            let (record, length) = self.listed(&entry.id)?;
            records.push(record);
            bytes += length;
            last = Some(Cursor(entry.ordinal));
            if bytes >= MAX_PAGE_BYTES {
                break;
            }
        }
        let next = last.filter(|_| records.len() < entries.len());
        Ok(Page { records, next })
    }

    /// How many records stand in a list.
    pub(super) fn count(&self, name: ListName) -> Result<u64> {
        Ok(List::new(self.0, name).len()?)
    }

    /// A record that is there, since something names it.
    fn listed<R: Record>(&self, id: &[u8]) -> Result<(R, u64)> {
        let found: Option<(Kept<R>, u64)> = self.0.retrieve_measured(R::COLLECTION.purpose(), &Key(id))?;
        let (Kept(record, _), length) = found.ok_or(Error::Torn)?;
        Ok((record, length))
    }
}

/// Whose proofs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofsOf {
    /// All.
    All,
    /// Challenges for this object.
    Object(ObjectId),
    /// Challenges to this backend.
    Backend(BackendId),
}

impl ProofsOf {
    pub(super) fn list(self) -> ListName {
        match self {
            Self::All => ListName::Proofs,
            Self::Object(object) => ListName::ProofsOf(object),
            Self::Backend(backend) => ListName::ProofsBy(backend),
        }
    }
}
