//! Keeps what the storage service answered to challenges and scrubs as proofs and what stores found as notices.

use super::messages::Direction;
use super::notice::{Notice, NoticeKind};
use super::records::{Records, random, read, torn, unkept, written};
use crate::backend::shard_name;
use crate::engine::{Outcome, PageRequest, Proof, ProofsOf};
use crate::error::{Result, with_causes};
use crate::id::{BackendId, NodeId, ProofId, ShardId};
use crate::node::storage::{AnsweredChallenge, AnsweredScrub, BlockAnswer, FailedRead, StorageEvent, ToldDamage};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

/// Answers that wait to be written, of at most some KiB each; while there are so many, further ones are dropped.
pub(super) const MAX_WAITING: usize = 1024;
/// Proofs that are kept, of which some more may be there for a while: many are forgotten at once.
const MAX_PROOFS: u64 = 10_000;
const SPARE_PROOFS: u64 = 2_000;
/// How many are looked at together.
const PAGE: usize = 1000;

/// What is kept of an answer beside what every proof has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerBody {
    owner: NodeId,
    asked_by: NodeId,
    by: AskedBy,
}

/// In which way was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AskedBy {
    /// For blocks, which were shown with their paths.
    Challenge,
    /// For a look at the node's own disk.
    Scrub,
    /// For bytes.
    Read,
}

/// An answer that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// About which shard.
    pub shard: ShardId,
    /// About which block; 0 after a scrub, which is about all.
    pub stripe_index: u64,
    /// What the answer was.
    pub outcome: Outcome,
    /// Whose shard it is.
    pub owner: NodeId,
    /// Who asked.
    pub asked_by: NodeId,
    /// In which way.
    pub by: AskedBy,
    /// When it was saved, in milliseconds since 1970.
    pub saved_ms: i64,
}

impl Records {
    /// Keeps an answer, block by block; of a scrub, the damaged shards; of a read, that it failed. The owner will be told of
    /// what is damaged.
    pub fn keep_answer(&self, event: &StorageEvent) -> Result<()> {
        match event {
            StorageEvent::Challenge(answered) => {
                self.keep_proofs(of_challenge(answered)?)?;
                let is_bad = |answer: &BlockAnswer| matches!(answer, BlockAnswer::Damaged | BlockAnswer::Missing);
                let is_damaged = answered.blocks.iter().any(|(_, answer)| is_bad(answer));
                if is_damaged { self.found_damaged(answered.owner, &[answered.shard]) } else { Ok(()) }
            }
            StorageEvent::Scrub(answered) => {
                self.keep_proofs(of_scrub(answered)?)?;
                self.found_whole(answered.owner, |shard| was_read_whole(answered, shard))?;
                self.found_damaged(answered.owner, &answered.page.damaged)
            }
            StorageEvent::Unread(failed) => {
                self.keep_proofs(vec![of_failed_read(failed)?])?;
                self.found_damaged(failed.owner, &[failed.shard])
            }
            StorageEvent::Told(told) => self.keep_told(told),
            StorageEvent::Replaced { owner, shard } => self.found_whole(*owner, |known| known == *shard),
        }
    }

    fn keep_proofs(&self, proofs: Vec<Proof>) -> Result<()> {
        if proofs.is_empty() {
            return Ok(());
        }
        let engine = self.engine();
        let saved = engine.transaction(|tx| proofs.into_iter().try_for_each(|proof| tx.save_proof(proof).map(drop)));
        saved.map_err(unkept)?;
        let count = engine.count_proofs(ProofsOf::All).map_err(unkept)?;
        if count > MAX_PROOFS + SPARE_PROOFS { self.forget_old_proofs() } else { Ok(()) }
    }

    /// The newest answers that were kept, at most so many, and at most 1,000.
    pub fn answers(&self, limit: usize) -> Result<Vec<KeptAnswer>> {
        let page = self.engine().proofs(ProofsOf::All, PageRequest::newest(limit)).map_err(unkept)?;
        let kept = page.records.into_iter().map(|proof| {
            let AnswerBody { owner, asked_by, by } = read(&proof.body.0)?;
            let shard = ShardId { object: proof.object, index: proof.shard_index };
            let Proof { stripe_index, outcome, saved_ms, .. } = proof;
            Ok(KeptAnswer { shard, stripe_index, outcome, owner, asked_by, by, saved_ms })
        });
        kept.collect()
    }

    /// What a store found here is a notice of it, as if it had been sent as such.
    fn keep_told(&self, told: &ToldDamage) -> Result<()> {
        let shards: Vec<String> = told.shards.iter().map(ShardId::to_string).collect();
        let more = if told.shard_count > shards.len() as u64 { " and others" } else { "" };
        let (count, named) = (told.shard_count, shards.join(" "));
        let text = format!("damaged or missing here, as the store finds: {count} shards: {named}{more}");
        let notice = Notice::new(NoticeKind::RepairNeeded, text).map_err(|error| torn().with_source(error))?;
        self.keep(told.told_by.into(), Direction::Received, &notice).map(drop)
    }

    fn forget_old_proofs(&self) -> Result<()> {
        let engine = self.engine();
        let (mut request, mut seen, mut old) = (Some(PageRequest::newest(PAGE)), 0, Vec::new());
        while let Some(asked) = request {
            let page = engine.proofs(ProofsOf::All, asked).map_err(unkept)?;
            request = PageRequest::after(PAGE, &page);
            for proof in page.records {
                seen += 1;
                if seen > MAX_PROOFS {
                    old.push(proof.id);
                }
            }
        }
        // Each transaction waits for the disk: all of them go in one.
        let forgotten = engine.transaction(|tx| old.iter().try_for_each(|id| tx.delete_proof(*id).map(drop)));
        forgotten.map_err(unkept)
    }
}

fn of_challenge(answered: &AnsweredChallenge) -> Result<Vec<Proof>> {
    let AnsweredChallenge { asked_by, owner, backend, shard, blocks } = answered;
    let body = AnswerBody { owner: *owner, asked_by: *asked_by, by: AskedBy::Challenge };
    let outcome = |answer: &BlockAnswer| match answer {
        BlockAnswer::Shown => Outcome::Answered,
        BlockAnswer::Damaged => Outcome::Wrong { why: "the block is not the one its leaf was made of".to_owned() },
        BlockAnswer::Missing => Outcome::Missing,
        BlockAnswer::Silent => Outcome::Silent { why: "this node's disk was busy or not there".to_owned() },
    };
    let proof = |(stripe, answer): &(u64, BlockAnswer)| new_proof((*shard, *stripe), *backend, outcome(answer), &body);
    blocks.iter().map(proof).collect()
}

fn of_scrub(answered: &AnsweredScrub) -> Result<Vec<Proof>> {
    let AnsweredScrub { asked_by, owner, backend, page, .. } = answered;
    let body = AnswerBody { owner: *owner, asked_by: *asked_by, by: AskedBy::Scrub };
    let outcome = || Outcome::Wrong { why: "the shard is damaged on this node's disk".to_owned() };
    page.damaged.iter().map(|shard| new_proof((*shard, 0), *backend, outcome(), &body)).collect()
}

fn of_failed_read(failed: &FailedRead) -> Result<Proof> {
    let FailedRead { asked_by, owner, backend, shard } = failed;
    let body = AnswerBody { owner: *owner, asked_by: *asked_by, by: AskedBy::Read };
    let outcome = Outcome::Wrong { why: "this node's disk could not give the shard back".to_owned() };
    new_proof((*shard, 0), *backend, outcome, &body)
}

/// Whether a scrub came by this shard, or by where it was, and found nothing wrong.
fn was_read_whole(answered: &AnsweredScrub, shard: ShardId) -> bool {
    let AnsweredScrub { after, page, .. } = answered;
    let name = shard_name(shard);
    let is_behind = after.is_none_or(|after| shard_name(after) < name);
    let is_within = page.next.is_none_or(|next| name <= shard_name(next));
    is_behind && is_within && !page.damaged.contains(&shard)
}

fn new_proof(
    (shard, stripe_index): (ShardId, u64),
    backend: Option<BackendId>,
    outcome: Outcome,
    body: &AnswerBody,
) -> Result<Proof> {
    Ok(Proof {
        id: ProofId(random()?),
        object: shard.object,
        shard_index: shard.index,
        stripe_index,
        // A place that was never marked has no name with its owner.
        backend: backend.unwrap_or(BackendId([0; BackendId::BYTES])),
        outcome,
        saved_ms: 0,
        body: crate::vault::Blob(written(body)?),
    })
}

/// Writes what comes, until `over` and all that came before was written.
pub(super) async fn keep_answers(records: Records, mut events: mpsc::Receiver<StorageEvent>, over: CancellationToken) {
    loop {
        let event = tokio::select! {
            biased;
            event = events.recv() => event,
            () = over.cancelled() => None,
        };
        let Some(event) = event else { return };
        let records = records.clone();
        let kept = spawn_blocking(move || records.keep_answer(&event)).await;
        let kept = kept.unwrap_or_else(|error| Err(torn().with_source(error)));
        if let Err(error) = kept {
            tracing::error!("an answer could not be noted: {}", with_causes(&error));
        }
    }
}
