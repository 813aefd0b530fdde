//! What commands ask a node that is being served, and what it answers: a line of JSON each way, nothing longer than it may
//! be. Pure.

use super::notice::{MAX_NOTICE_BYTES, Notice, NoticeKind};
use crate::id::{NodeId, PeerId, ShardId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// A longer question is none: room for a notice of which every byte is escaped.
pub const MAX_QUESTION_BYTES: usize = 8 * MAX_NOTICE_BYTES;
/// A longer answer is none: room for all sessions that there may be.
pub const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How long an answer may take: a message to a slow peer is in it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// The same where shards are read: one may be long, and its disk slow, and others may have come first.
const SCRUB_DEADLINE: Duration = Duration::from_secs(300);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// Which sessions there are.
    Sessions {},
    /// What the node did and does.
    Stats {},
    /// To check the next of the shards that peers keep at the node.
    Scrub {
        /// Where the last page ended; at the first owner's first shard where there was none.
        after: Option<ScrubPlace>,
    },
    /// To send a notice to a peer, or to all that are there; a peer that keeps something here can ask for it later.
    Send {
        /// To whom; all where it is not given.
        peer: Option<PeerId>,
        /// What it says.
        text: String,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// The sessions.
    Sessions {
        /// Oldest first.
        sessions: Vec<LiveSession>,
    },
    /// What the node did and does.
    Stats {
        /// The numbers.
        stats: Box<ServeStats>,
    },
    /// What a check of some shards found.
    Scrubbed {
        /// The numbers.
        page: ScrubbedShards,
    },
    /// What became of a notice.
    Sent {
        /// For each peer.
        peers: Vec<Delivery>,
    },
    /// It could not be done.
    Failed {
        /// Why.
        why: String,
    },
}

/// Where a check of all owners' shards goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubPlace {
    /// With whose shards.
    pub owner: NodeId,
    /// After which of them; `None` where all of them were read.
    pub shard: Option<ShardId>,
}

/// What a check of some shards found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubbedShards {
    /// Whose they are; `None` where nobody keeps anything here.
    pub owner: Option<NodeId>,
    /// How many were read.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The damaged among them.
    pub damaged: Vec<ShardId>,
    /// Where it goes on; `None` when these were the last.
    pub next: Option<ScrubPlace>,
    /// Why the rest of this owner's were not read.
    pub failure: Option<String>,
}

/// A session that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveSession {
    /// Its number in the process.
    pub session: u64,
    /// With whom.
    pub peer: PeerId,
    /// Where the peer is.
    pub remote: SocketAddr,
    /// `quic` or `websocket`.
    pub transport: String,
    /// Whether it was begun here.
    pub is_own: bool,
    /// How long it lasts.
    pub age_ms: u64,
    /// The last round trip that was measured.
    pub round_trip_us: Option<u64>,
    /// What was sent over it, with what the transport adds.
    pub sent_bytes: u64,
    /// What was received over it.
    pub received_bytes: u64,
}

/// What a node that is being served did and does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeStats {
    /// Who it is.
    pub node: NodeId,
    /// Where it listens over UDP.
    pub listen: Option<SocketAddr>,
    /// Where it listens over WebSocket.
    pub ws_listen: Option<SocketAddr>,
    /// How long it has been served.
    pub uptime_ms: u64,
    /// Everything that was sent.
    pub sent_bytes: u64,
    /// Everything that was received.
    pub received_bytes: u64,
    /// Datagrams and writes.
    pub sent_packets: u64,
    /// Datagrams and reads.
    pub received_packets: u64,
    /// Messages that were sent.
    pub messages_sent: u64,
    /// Messages that came.
    pub messages_received: u64,
    /// What failed.
    pub errors: u64,
    /// Callers that were turned away.
    pub refused: u64,
    /// Callers whose handshake is under way.
    pub waiting: u64,
    /// Callers that had to make room for newer ones before they said who they are.
    pub displaced: u64,
    /// Callers that were cut off since they did not say in time who they are.
    pub late: u64,
    /// Sessions there have been.
    pub sessions_total: u64,
    /// Sessions there are.
    pub sessions_active: u64,
    /// How many of these are over WebSocket.
    pub websocket_sessions: u64,
    /// The mean of their round trips.
    pub round_trip_us: Option<u64>,
    /// Seeds that are accepted.
    pub seeds: u64,
    /// What peers keep here; `None` where it could not be found out.
    pub kept: Option<Kept>,
}

/// What peers keep at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// How many peers keep something.
    pub owners: u64,
    /// The bytes of their shards.
    pub bytes: u64,
    /// How many shards.
    pub shards: u64,
}

/// What became of a notice to one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Who.
    pub peer: PeerId,
    /// Why it does not have it; `None` where it does, as far as the transport took it, or where it will ask for it.
    pub failure: Option<String>,
    /// Whether it is kept until the peer asks.
    pub waits: bool,
}

/// Why a line is no question or answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// It is too long.
    #[error("a line has at most {limit} bytes")]
    Long {
        /// The limit.
        limit: usize,
    },
    /// It is none that is known.
    #[error("it is not understood: {why}")]
    Unknown {
        /// What gave it away.
        why: String,
    },
}

impl Question {
    /// How long its answer may take.
    pub(super) fn deadline(&self) -> Duration {
        match self {
            Self::Scrub { .. } => SCRUB_DEADLINE,
            Self::Sessions {} | Self::Stats {} | Self::Send { .. } => ANSWER_DEADLINE,
        }
    }

    /// The line that asks it.
    pub fn to_line(&self) -> Vec<u8> {
        line(self)
    }

    /// Reads a line, with or without its end.
    pub fn parse(line: &[u8]) -> Result<Self, ControlError> {
        read(line, MAX_QUESTION_BYTES)
    }
}

impl Answer {
    /// The line that answers; one that would be too long says so.
    pub fn to_line(&self) -> Vec<u8> {
        let text = line(self);
        if text.len() <= MAX_ANSWER_BYTES {
            return text;
        }
        line(&Self::Failed { why: format!("the answer is longer than {MAX_ANSWER_BYTES} bytes") })
    }

    /// Reads a line, with or without its end.
    pub fn parse(line: &[u8]) -> Result<Self, ControlError> {
        read(line, MAX_ANSWER_BYTES)
    }
}

/// The notice that a person asked to send.
pub(super) fn notice(text: &str) -> Result<Notice, String> {
    Notice::new(NoticeKind::Text, text).map_err(|error| error.to_string())
}

fn line(what: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(what).expect("numbers, texts and ids are JSON");
    line.push(b'\n');
    line
}

fn read<T: serde::de::DeserializeOwned>(line: &[u8], limit: usize) -> Result<T, ControlError> {
    if line.len() > limit {
        return Err(ControlError::Long { limit });
    }
    serde_json::from_slice(line).map_err(|error| ControlError::Unknown { why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;

    fn session(number: u64) -> LiveSession {
        LiveSession {
            session: number,
            peer: PeerId([7; 32]),
            remote: "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().expect("an address"),
            transport: "websocket".to_owned(),
            is_own: true,
            age_ms: u64::MAX,
            round_trip_us: Some(u64::MAX),
            sent_bytes: u64::MAX,
            received_bytes: u64::MAX,
        }
    }

    #[test]
    fn questions_and_answers_read_back_as_one_line_each() {
        let shard = ShardId { object: ObjectId([3; 16]), index: 1 };
        let place = ScrubPlace { owner: NodeId([9; 32]), shard: Some(shard) };
        let longest = "\u{1}".repeat(MAX_NOTICE_BYTES);
        for question in [
            Question::Sessions {},
            Question::Stats {},
            Question::Send { peer: None, text: "two\nlines".to_owned() },
            Question::Scrub { after: None },
            Question::Scrub { after: Some(place) },
            Question::Send { peer: Some(PeerId([9; 32])), text: longest },
        ] {
            let line = question.to_line();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert!(line.len() <= MAX_QUESTION_BYTES, "the longest notice has room");
            assert_eq!(Question::parse(&line), Ok(question));
        }
        let delivery = Delivery { peer: PeerId([1; 32]), failure: Some("gone".to_owned()), waits: false };
        let (owner, damaged) = (Some(place.owner), vec![shard; crate::peer::storage::MAX_PAGE_SHARDS]);
        let scrubbed =
            ScrubbedShards { owner, shards: u64::MAX, bytes: u64::MAX, damaged, next: Some(place), failure: None };
        for answer in [
            Answer::Sessions { sessions: vec![session(1), session(2)] },
            Answer::Sent { peers: vec![delivery] },
            Answer::Scrubbed { page: scrubbed },
            Answer::Failed { why: "no".to_owned() },
        ] {
            assert_eq!(Answer::parse(&answer.to_line()), Ok(answer));
        }
    }

    #[test]
    fn what_is_no_question_is_refused_and_never_panics() {
        let line = Question::Send { peer: Some(PeerId([9; 32])), text: "hello".to_owned() }.to_line();
        for at in 0..line.len() - 1 {
            assert!(Question::parse(&line[..at]).is_err(), "cut at {at}");
        }
        for at in 0..line.len() {
            let mut changed = line.clone();
            changed[at] ^= 0x80;
            assert!(Question::parse(&changed).is_err(), "changed at {at}");
        }
        for wrong in ["", "{}", "{\"ask\":\"stop\"}", "{\"ask\":\"stats\",\"more\":1}", "[[[[", "\"sessions\""] {
            assert!(matches!(Question::parse(wrong.as_bytes()), Err(ControlError::Unknown { .. })), "{wrong}");
        }
        assert!(Question::parse("[".repeat(MAX_QUESTION_BYTES).as_bytes()).is_err());
        let long = vec![b' '; MAX_QUESTION_BYTES + 1];
        assert_eq!(Question::parse(&long), Err(ControlError::Long { limit: MAX_QUESTION_BYTES }));
    }

    #[test]
    fn all_sessions_there_may_be_fit_into_an_answer_and_a_longer_one_says_so() {
        let most = crate::peer::transport::GateLimits::default().sessions;
        let sessions = vec![session(u64::MAX); 4 * most];
        assert!(Answer::Sessions { sessions }.to_line().len() <= MAX_ANSWER_BYTES);
        let line = Answer::Failed { why: "x".repeat(MAX_ANSWER_BYTES) }.to_line();
        assert!(matches!(Answer::parse(&line), Ok(Answer::Failed { why }) if why.contains("longer")));
    }
}
