//! What a node has to tell the owners of the shards that it keeps: messages that wait until the owner asks.
//!
//! An owner is mostly a store, which is there for the length of a command: what happens meanwhile is kept for it.

use super::messages::{Direction, MessageBody};
use super::notice::{Notice, NoticeKind};
use super::records::{Carried, Records, random, read, torn, unkept, written};
use crate::backend::shard_name;
use crate::engine::{Message, Transaction};
use crate::error::Result;
use crate::id::{MessageId, NodeId, PeerId, ShardId};
use crate::node::storage::{KeepsNotices, NotKept};
use crate::peer::storage::{MAX_NAMED_SHARDS, MAX_NOTICES, OwnerNotice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Notices that are kept for one owner; of more the oldest are no longer told.
const MAX_KEPT: usize = 16;
/// Damaged shards of one owner that are known to have been told of. Of more nothing is said: these are reason enough to look.
const MAX_KNOWN_DAMAGED: usize = 1000;

/// What is kept for one owner.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    /// The number of the newest notice; greater ones were never given.
    newest: u64,
    /// The owner has all up to this number.
    heard: u64,
    /// The owner was given all up to this number: whether it has them is not known before it asks again.
    #[serde(default)]
    given: u64,
    /// The notices, the oldest first.
    kept: Vec<(u64, MessageId)>,
    /// Shards of whose damage a notice was kept, and that were not whole since.
    damaged: BTreeSet<ShardId>,
}

/// What of a notice stands in its message, beside kind and text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ForOwner {
    number: u64,
    shard_count: u64,
    shards: Vec<ShardId>,
}

/// Who asks for notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearer {
    /// The owner itself: what it has is said to it.
    Owner,
    /// A machine with its grant.
    Grantee,
}

impl Records {
    /// Keeps a notice for an owner. One of the same kind without a word of its own, which nobody heard yet, is enough.
    pub fn tell_owner(&self, owner: NodeId, notice: &Notice, direction: Direction) -> Result<()> {
        self.with_book(owner, |tx, book| {
            if notice.kind() != NoticeKind::Text && book.unheard(tx, owner, notice.kind())?.is_some() {
                return Ok(false);
            }
            let note = ForOwner { number: 0, shard_count: 0, shards: Vec::new() };
            let text = notice.text().to_owned();
            let body = MessageBody { direction, kind: notice.kind(), text, for_owner: Some(note) };
            self.keep_for(tx, book, (owner, None), body)?;
            Ok(true)
        })
    }

    /// These shards of an owner are damaged here: it is told of those that it was not told of.
    pub fn found_damaged(&self, owner: NodeId, shards: &[ShardId]) -> Result<()> {
        if shards.is_empty() {
            return Ok(());
        }
        self.with_book(owner, |tx, book| {
            let room = MAX_KNOWN_DAMAGED.saturating_sub(book.damaged.len());
            let found: BTreeSet<ShardId> =
                shards.iter().copied().filter(|shard| !book.damaged.contains(shard)).collect();
            let found: Vec<ShardId> = found.into_iter().take(room).collect();
            if found.is_empty() {
                return Ok(false);
            }
            book.damaged.extend(&found);
            let before = book.unheard(tx, owner, NoticeKind::RepairNeeded)?;
            let (id, told) = before.map_or((None, None), |(id, body)| (Some(id), body.for_owner));
            let mut note = told.unwrap_or(ForOwner { number: 0, shard_count: 0, shards: Vec::new() });
            note.shard_count = note.shard_count.saturating_add(found.len() as u64);
            note.shards.extend(&found);
            note.shards.truncate(MAX_NAMED_SHARDS);
            let (direction, kind, text) = (Direction::Waiting, NoticeKind::RepairNeeded, note.in_words());
            self.keep_for(tx, book, (owner, id), MessageBody { direction, kind, text, for_owner: Some(note) })?;
            Ok(true)
        })
    }

    /// Those shards of an owner that this says are not damaged any more: were they so again, it would be told again.
    pub fn found_whole(&self, owner: NodeId, is_whole: impl Fn(ShardId) -> bool) -> Result<()> {
        let book: Option<Book> = self.engine().metadata(&name(owner)).map_err(unkept)?;
        if !book.is_some_and(|book| book.damaged.iter().any(|shard| is_whole(*shard))) {
            return Ok(());
        }
        self.with_book(owner, |_, book| {
            book.damaged.retain(|shard| !is_whole(*shard));
            Ok(true)
        })
    }

    /// The notices for an owner behind the one with this number: the oldest first, and at most [`MAX_NOTICES`].
    pub fn notices_for(&self, owner: NodeId, after: u64, hearer: Hearer) -> Result<Vec<OwnerNotice>> {
        let Some(book) = self.engine().metadata::<Book>(&name(owner)).map_err(unkept)? else { return Ok(Vec::new()) };
        // A number that was never given is from before these records began anew.
        let after = if after > book.newest { 0 } else { after };
        if hearer == Hearer::Owner && after > book.heard {
            self.with_book(owner, |tx, book| book.note_heard(tx, after))?;
        }
        let later = book.kept.iter().filter(|(number, _)| *number > after);
        let notices = later.filter_map(|(_, id)| self.owner_notice(*id).transpose());
        let open = notices.filter(|notice| notice.as_ref().map_or(true, |notice| book.is_open(notice)));
        let notices: Vec<OwnerNotice> = open.take(MAX_NOTICES).collect::<Result<_>>()?;
        let given = notices.last().map_or(0, |notice| notice.number);
        if hearer == Hearer::Owner && given > book.given {
            self.with_book(owner, |_, book| {
                book.given = book.given.max(given);
                Ok(true)
            })?;
        }
        Ok(notices)
    }

    fn owner_notice(&self, id: MessageId) -> Result<Option<OwnerNotice>> {
        // The oldest messages with a peer are forgotten, whatever they were.
        let Some(message) = self.engine().message(id).map_err(unkept)? else { return Ok(None) };
        let body: MessageBody = read(&message.body.0)?;
        Ok(body.for_owner.map(|ForOwner { number, shard_count, shards }| OwnerNotice {
            number,
            said_ms: u64::try_from(message.saved_ms).unwrap_or(0),
            kind: body.kind,
            shard_count,
            shards,
            text: body.text,
        }))
    }

    /// Changes what is kept for an owner; `false` leaves it as it was.
    fn with_book(
        &self,
        owner: NodeId,
        change: impl FnOnce(&Transaction<'_>, &mut Book) -> Result<bool, Carried>,
    ) -> Result<()> {
        let changed = self.engine().transaction(|tx| {
            let mut book: Book = tx.metadata(&name(owner)).map_err(unkept)?.unwrap_or_default();
            let is_changed = change(tx, &mut book)?;
            if is_changed {
                tx.set_metadata(&name(owner), &book).map_err(unkept)?;
            }
            Ok::<_, Carried>(is_changed)
        });
        let is_changed = changed.map_err(|Carried(error)| error)?;
        if is_changed { self.keep_to_the_bound(owner.into()) } else { Ok(()) }
    }

    /// Keeps a message under the next number: a new one, or one that takes the place of this.
    fn keep_for(
        &self,
        tx: &Transaction<'_>,
        book: &mut Book,
        (owner, before): (NodeId, Option<MessageId>),
        mut body: MessageBody,
    ) -> Result<(), Carried> {
        // By the clock, so that records which begin anew from a backup give no number a second time.
        let now = u64::try_from(self.engine().now_ms()).unwrap_or(0);
        book.newest = now.max(book.newest.saturating_add(1));
        if let Some(note) = &mut body.for_owner {
            note.number = book.newest;
        }
        let id = before.map_or_else(|| random().map(MessageId), Ok)?;
        tx.save_message(Message::new(id, owner.into(), written(&body)?)).map_err(unkept)?;
        book.kept.retain(|(_, kept)| *kept != id);
        book.kept.push((book.newest, id));
        let surplus = book.kept.len().saturating_sub(MAX_KEPT);
        book.kept.drain(..surplus);
        Ok(())
    }
}

impl KeepsNotices for Records {
    fn after(&self, owner: NodeId, number: u64, is_owner: bool) -> Result<Vec<OwnerNotice>, NotKept> {
        let hearer = if is_owner { Hearer::Owner } else { Hearer::Grantee };
        Ok(self.notices_for(owner, number, hearer)?)
    }
}

impl Book {
    /// Whether there is still reason to tell it: damage of which all is known by name, and all is mended, is told to nobody.
    fn is_open(&self, notice: &OwnerNotice) -> bool {
        notice.kind != NoticeKind::RepairNeeded
            || notice.shard_count > notice.shards.len() as u64
            || notice.shards.iter().any(|shard| self.damaged.contains(shard))
    }

    /// The newest notice of a kind that the owner was not given yet: to one that it was given nothing is added.
    fn unheard(
        &self,
        tx: &Transaction<'_>,
        owner: NodeId,
        kind: NoticeKind,
    ) -> Result<Option<(MessageId, MessageBody)>, Carried> {
        for (_, id) in self.kept.iter().rev().take_while(|(number, _)| *number > self.heard.max(self.given)) {
            let Some(message) = tx.message(*id).map_err(unkept)? else { continue };
            if message.peer != PeerId::from(owner) {
                return Err(torn().into());
            }
            let body: MessageBody = read(&message.body.0)?;
            if body.kind == kind {
                return Ok(Some((*id, body)));
            }
        }
        Ok(None)
    }

    /// The owner has all up to this number: they went to it.
    fn note_heard(&mut self, tx: &Transaction<'_>, number: u64) -> Result<bool, Carried> {
        if number <= self.heard {
            return Ok(false);
        }
        self.heard = number;
        for (_, id) in self.kept.iter().filter(|(kept, _)| *kept <= number) {
            let Some(mut message) = tx.message(*id).map_err(unkept)? else { continue };
            let mut body: MessageBody = read(&message.body.0)?;
            if body.direction == Direction::Waiting {
                body.direction = Direction::Sent;
                message.body.0 = written(&body)?;
                tx.save_message(message).map_err(unkept)?;
            }
        }
        Ok(true)
    }
}

impl ForOwner {
    fn in_words(&self) -> String {
        let named: Vec<String> = self.shards.iter().map(|shard| shard_name(*shard)).collect();
        let more = if self.shard_count > self.shards.len() as u64 { ", and others" } else { "" };
        format!("damaged here: {} of your shards: {}{more}", self.shard_count, named.join(", "))
    }
}

/// Under which name the book of an owner is kept.
fn name(owner: NodeId) -> String {
    format!("owner {owner}")
}
