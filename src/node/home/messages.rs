//! What was said with peers, as far as it is remembered.

use super::notice::{Notice, NoticeKind};
use super::owners::ForOwner;
use super::records::{Records, random, read, unkept, written};
use crate::engine::{Collection, Cursor, Message, Page, PageRequest};
use crate::error::Result;
use crate::id::{MessageId, PeerId};
use serde::{Deserialize, Serialize};

/// Messages with one peer that are remembered, of which a few more may be there for a while.
const MAX_MESSAGES: usize = 1000;
const SPARE_MESSAGES: u64 = 64;
/// Messages with all peers that are remembered.
const MAX_ALL_MESSAGES: usize = 50_000;
const SPARE_ALL_MESSAGES: usize = 1000;
/// So many are looked at, or forgotten, at once.
const PAGE: usize = 1000;

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// It came.
    Received,
    /// It went.
    Sent,
    /// It is kept until the owner asks.
    Waiting,
}

/// What is kept of a message beside its peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MessageBody {
    pub(super) direction: Direction,
    pub(super) kind: NoticeKind,
    pub(super) text: String,
    /// Where it is for an owner, who asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) for_owner: Option<ForOwner>,
}

/// A notice that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptMessage {
    /// What it is called.
    pub id: MessageId,
    /// From whom or to whom.
    pub peer: PeerId,
    /// Which way.
    pub direction: Direction,
    /// What it is about.
    pub kind: NoticeKind,
    /// What it says.
    pub text: String,
    /// When it was saved, in milliseconds since 1970.
    pub saved_ms: i64,
}

/// Messages, the newest first, and where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<KeptMessage>,
    /// `None` at the end.
    pub next: Option<Cursor>,
}

impl Records {
    /// Keeps a notice that came or went.
    pub fn keep(&self, peer: PeerId, direction: Direction, notice: &Notice) -> Result<MessageId> {
        let id = MessageId(random()?);
        let body = MessageBody { direction, kind: notice.kind(), text: notice.text().to_owned(), for_owner: None };
        self.engine().save_message(Message::new(id, peer, written(&body)?)).map_err(unkept)?;
        self.keep_to_the_bound(peer)?;
        Ok(id)
    }

    /// Forgets the oldest messages with a peer, and those of all, where there are too many.
    pub(super) fn keep_to_the_bound(&self, peer: PeerId) -> Result<()> {
        let count = self.engine().count_messages_of(peer).map_err(unkept)?;
        if count > MAX_MESSAGES as u64 + SPARE_MESSAGES {
            self.forget_messages_beyond(Some(peer), MAX_MESSAGES)?;
        }
        self.keep_all_to_the_bound()
    }

    /// The same of all messages together: there may be many peers, and some are forgotten.
    pub(super) fn keep_all_to_the_bound(&self) -> Result<()> {
        self.keep_all_to(MAX_ALL_MESSAGES, SPARE_ALL_MESSAGES)
    }

    fn keep_all_to(&self, most: usize, spare: usize) -> Result<()> {
        let statistics = self.engine().statistics().map_err(unkept)?;
        let count = statistics.collections.get(&Collection::Messages).map_or(0, |tally| tally.count);
        if count > (most + spare) as u64 { self.forget_messages_beyond(None, most) } else { Ok(()) }
    }

    /// Forgets all messages but so many of the newest: with a peer, or with all of them.
    pub(super) fn forget_messages_beyond(&self, peer: Option<PeerId>, most: usize) -> Result<()> {
        let (mut request, mut seen, mut old) = (Some(PageRequest::newest(PAGE)), 0, Vec::new());
        while let Some(asked) = request {
            let page = self.page(peer, asked)?;
            request = PageRequest::after(PAGE, &page);
            for message in page.records {
                seen += 1;
                if seen > most {
                    old.push(message.id);
                }
            }
        }
        for some in old.chunks(PAGE) {
            // Each transaction waits for the disk.
            let forgotten =
                self.engine().transaction(|tx| some.iter().try_for_each(|id| tx.delete_message(*id).map(drop)));
            forgotten.map_err(unkept)?;
        }
        Ok(())
    }

    /// Messages, the newest first: of all peers or of one.
    pub fn messages(&self, peer: Option<PeerId>, request: PageRequest) -> Result<MessagePage> {
        let page = self.page(peer, request)?;
        let kept = page.records.into_iter().map(|message| {
            let MessageBody { direction, kind, text, .. } = read(&message.body.0)?;
            let Message { id, peer, saved_ms, .. } = message;
            Ok(KeptMessage { id, peer, direction, kind, text, saved_ms })
        });
        Ok(MessagePage { messages: kept.collect::<Result<_>>()?, next: page.next })
    }

    fn page(&self, peer: Option<PeerId>, request: PageRequest) -> Result<Page<Message>> {
        let page = match peer {
            Some(peer) => self.engine().messages_of(peer, request),
            None => self.engine().recent_messages(request),
        };
        page.map_err(unkept)
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::PeerBody;
    use super::*;
    use crate::crypto::ChamberKey;
    use crate::engine::{EngineOptions, Peer, StorageEngine};
    use crate::id::NodeId;
    use crate::vault::Durability;
    use std::sync::Arc;

    fn records(folder: &std::path::Path) -> Records {
        let options = EngineOptions { durability: Durability::Relaxed, ..EngineOptions::default() };
        let key = ChamberKey::from_secret(NodeId([3; 32]), &[4; 32]);
        Records::new(Arc::new(StorageEngine::open(folder, "node", key, options).expect("records")))
    }

    fn say(records: &Records, peer: PeerId, number: usize) {
        let notice = Notice::new(NoticeKind::Text, format!("{number}")).expect("a notice");
        records.keep(peer, Direction::Received, &notice).expect("kept");
    }

    fn texts(records: &Records, peer: Option<PeerId>) -> Vec<String> {
        let page = records.messages(peer, PageRequest::newest(1000)).expect("messages");
        page.messages.into_iter().map(|message| message.text).collect()
    }

    #[test]
    fn what_was_said_with_peers_that_are_forgotten_is_forgotten_too() {
        let dir = tempfile::tempdir().expect("a folder");
        let records = records(dir.path());
        for number in 0..3 {
            let peer = PeerId([number; 32]);
            let (remote, last_seen_ms) = ("127.0.0.1:1".parse().expect("an address"), i64::from(number));
            let body = PeerBody { key: hex::encode([number; 32]), remote, last_seen_ms, session_count: 1 };
            records.engine().save_peer(Peer::new(peer, written(&body).expect("written"))).expect("saved");
            (0..3).for_each(|said| say(&records, peer, said));
        }
        records.forget_peers_beyond(2).expect("forgotten");
        let known: Vec<PeerId> = records.peers().expect("peers").iter().map(|peer| peer.id).collect();
        assert_eq!(known, [PeerId([2; 32]), PeerId([1; 32])]);
        assert_eq!(texts(&records, Some(PeerId([0; 32]))), [""; 0]);
        assert_eq!(texts(&records, Some(PeerId([1; 32]))), ["2", "1", "0"]);
    }

    #[test]
    fn the_oldest_messages_of_all_go_once_there_are_too_many() {
        let dir = tempfile::tempdir().expect("a folder");
        let records = records(dir.path());
        (0..15).for_each(|number| say(&records, PeerId([number as u8 % 4; 32]), number));
        records.keep_all_to(10, 5).expect("as many as there may be");
        assert_eq!(texts(&records, None).len(), 15);
        say(&records, PeerId([9; 32]), 15);
        records.keep_all_to(10, 5).expect("bounded");
        assert_eq!(texts(&records, None), (6..16).rev().map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!(texts(&records, Some(PeerId([1; 32]))), ["13", "9"]);
    }
}
