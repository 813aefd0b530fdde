//! One stream, from its request to its end.

use super::super::ServiceStream;
use super::StorageService;
use super::acting::{Acting, denied};
use super::challenge::Showing;
use super::event::{AnsweredChallenge, AnsweredScrub, BlockAnswer, FailedRead, StorageEvent, ToldDamage};
use super::owner::{Owner, Purpose};
use super::owners::nothing_there;
use super::refusal::Refusal;
use super::scrub::{scrub, scrub_for_peer};
use super::tell::notices;
use crate::backend::{Backend, Error, ErrorKind, ListPage, Mark};
use crate::id::{BackendId, NodeId, ShardId};
use crate::merkle::BlockSpans;
use crate::peer::storage::{
    MAX_PIECE_BYTES, MAX_REQUEST_BYTES, RefusalKind, ScrubPage, StorageAnswer, StorageCall, StorageMark, StoragePage,
    StorageRequest, StorageStats,
};
use crate::peer::transport::{PeerStream, ReceiveHalf, SendHalf};
use crate::peer::{FrameReader, WireError};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a stream may be open without a request.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long the next piece of a shard may take: a store writes to all places of an object in step, so that the slowest of
/// them sets the pace. A peer that is gone is noticed by the session, much earlier.
const PIECE_DEADLINE: Duration = Duration::from_secs(3600);
/// How long a peer may take to make room for a frame.
const SEND_DEADLINE: Duration = Duration::from_secs(120);
/// How long a read may take in all, and a second more for each so many bytes of it. Whoever takes longer holds on to what may have
/// been deleted since, which takes room that counts for nobody.
const READ_DEADLINE: Duration = Duration::from_secs(120);
const READ_BYTES_PER_SECOND: u64 = 64 * 1024;

/// Why a stream ended early; nobody is told, since nobody is there.
struct Gone;

/// Both directions of the stream.
struct Talk {
    send: SendHalf,
    receive: ReceiveHalf,
    /// Whether something was refused for want of room.
    lacks_room: bool,
}

/// Answers one stream, and says to whose shard something was refused for want of room.
pub(super) async fn serve(service: &StorageService, incoming: ServiceStream) -> Option<NodeId> {
    let asking = incoming.session.peer();
    let PeerStream { send, receive } = incoming.stream;
    let mut talk = Talk { send, receive, lacks_room: false };
    let Ok(call) = talk.call().await else {
        talk.send.give_up();
        return None;
    };
    let mut owner = None;
    let served = match call {
        Ok(StorageCall { grant, request }) => {
            let acting = Acting::of(asking, grant.as_ref()).and_then(|acting| acting.check(&request).map(|()| acting));
            match acting {
                Ok(acting) => {
                    owner = Some(acting.owner);
                    answer(service, acting, request, &mut talk).await
                }
                Err(refusal) => talk.say(&refusal.to_answer()).await,
            }
        }
        Err(error) => talk.say(&StorageAnswer::refused(RefusalKind::Failed, &error.to_string())).await,
    };
    match served {
        // The peer has read it, or never will.
        Ok(()) => drop(timeout(SEND_DEADLINE, talk.send.finish()).await),
        Err(Gone) => talk.send.give_up(),
    }
    owner.filter(|_| talk.lacks_room)
}

async fn answer(
    service: &StorageService,
    acting: Acting,
    request: StorageRequest,
    talk: &mut Talk,
) -> Result<(), Gone> {
    match request {
        StorageRequest::Create(shard) => write(service, acting, (shard, Purpose::Create), talk).await,
        StorageRequest::Replace(shard) => write(service, acting, (shard, Purpose::Replace), talk).await,
        StorageRequest::Read { shard, range } => read(service, acting, (shard, range), talk).await,
        StorageRequest::Challenge { shard, spans, stripes } => {
            show(service, acting, (shard, spans, stripes), talk).await
        }
        other => {
            let outcome = simple(service, acting, other).await;
            talk.say(&outcome.unwrap_or_else(|refusal| refusal.to_answer())).await
        }
    }
}

/// What takes one answer.
async fn simple(service: &StorageService, acting: Acting, request: StorageRequest) -> Result<StorageAnswer, Refusal> {
    let owners = &service.owners;
    if let StorageRequest::TellDamage { shard_count, shards } = request {
        // Of what nobody has here nothing is kept.
        if owners.find(acting.owner).await?.is_some() {
            let event = ToldDamage { told_by: acting.peer, owner: acting.owner, shard_count, shards };
            service.tell(StorageEvent::Told(event));
        }
        return Ok(StorageAnswer::Ready);
    }
    if let StorageRequest::Notices { after } = request {
        return notices(service, acting, after).await;
    }
    if let StorageRequest::WriteMark(StorageMark { store, backend }) = request {
        let owner = owners.find_or_make(acting.owner).await?;
        owner.place().write_mark(&Mark { store, backend }).await?;
        return Ok(StorageAnswer::Ready);
    }
    match owners.find(acting.owner).await? {
        Some(owner) => ask(service, acting, &owner, request).await,
        None => Ok(match request {
            StorageRequest::Head(_) => return Err(nothing_there()),
            StorageRequest::List { .. } => StorageAnswer::Page(StoragePage::default()),
            StorageRequest::Stats => {
                let quota_bytes = owners.options().quota_bytes;
                StorageAnswer::Stats(StorageStats { quota_bytes, ..StorageStats::default() })
            }
            StorageRequest::ReadMark => StorageAnswer::Mark(None),
            StorageRequest::ClearUnfinished(_) => StorageAnswer::Number(0),
            StorageRequest::Scrub { .. } => StorageAnswer::Scrubbed(ScrubPage::default()),
            _ => StorageAnswer::Ready,
        }),
    }
}

async fn ask(
    service: &StorageService,
    acting: Acting,
    owner: &Owner,
    request: StorageRequest,
) -> Result<StorageAnswer, Refusal> {
    let place = owner.place();
    Ok(match request {
        StorageRequest::Head(shard) => StorageAnswer::Number(place.head(shard).await?),
        StorageRequest::Delete(shard) => {
            owner.delete(shard).await?;
            StorageAnswer::Ready
        }
        StorageRequest::List { after } => StorageAnswer::Page(page(&place.list(after).await?)),
        StorageRequest::Stats => StorageAnswer::Stats(owner.stats().await?),
        StorageRequest::ReadMark => {
            let mark = place.read_mark().await?;
            StorageAnswer::Mark(mark.map(|Mark { store, backend }| StorageMark { store, backend }))
        }
        // Among what is unfinished may be what the owner is writing now; what a stream leaves goes with it.
        StorageRequest::ClearUnfinished(_) if !acting.is_owner() => StorageAnswer::Number(0),
        StorageRequest::ClearUnfinished(shard) => StorageAnswer::Number(place.clear_unfinished(shard).await?),
        StorageRequest::Scrub { after } => {
            StorageAnswer::Scrubbed(scrub_for(service, (acting.peer, acting.owner), owner, after).await?)
        }
        // These have their own ways.
        StorageRequest::Create(_)
        | StorageRequest::Replace(_)
        | StorageRequest::Read { .. }
        | StorageRequest::Challenge { .. }
        | StorageRequest::TellDamage { .. }
        | StorageRequest::Notices { .. }
        | StorageRequest::WriteMark(_) => {
            return Err(Refusal::new(RefusalKind::Failed, "the node does not answer this"));
        }
    })
}

/// Checks the next of an owner's shards as a peer asks for it, and tells what was found.
async fn scrub_for(
    service: &StorageService,
    (asked_by, of): (NodeId, NodeId),
    owner: &Owner,
    after: Option<ShardId>,
) -> Result<ScrubPage, Refusal> {
    let page = scrub_for_peer(owner, after, &service.scrubs).await?;
    service.tell(scrubbed((asked_by, of), owner, after, &page).await);
    Ok(page)
}

/// The same for the node itself, which waits until what was found is taken note of.
pub(super) async fn scrub_own(
    service: &StorageService,
    (asked_by, of): (NodeId, NodeId),
    owner: &Owner,
    after: Option<ShardId>,
) -> Result<ScrubPage, Refusal> {
    let page = scrub(owner, after).await?;
    service.tell_surely(scrubbed((asked_by, of), owner, after, &page).await).await;
    Ok(page)
}

async fn scrubbed(
    (asked_by, of): (NodeId, NodeId),
    owner: &Owner,
    after: Option<ShardId>,
    page: &ScrubPage,
) -> StorageEvent {
    let (backend, page) = (backend_of(owner).await, page.clone());
    StorageEvent::Scrub(AnsweredScrub { asked_by, owner: of, backend, after, page })
}

fn page(page: &ListPage) -> StoragePage {
    StoragePage { shards: page.shards.iter().map(|listed| (listed.id, listed.bytes)).collect(), next: page.next }
}

async fn read(
    service: &StorageService,
    acting: Acting,
    (shard, range): (ShardId, Range<u64>),
    talk: &mut Talk,
) -> Result<(), Gone> {
    let lost = async |error: Error| {
        if error.kind == ErrorKind::Failed {
            tell_of_failed_read(service, acting, shard).await;
        }
        Refusal::from(error)
    };
    let opening = async {
        let owner = service.owners.find(acting.owner).await?.ok_or_else(nothing_there)?;
        let opened = match owner.place().open_shard(shard).await {
            Ok(opened) => opened,
            Err(error) => return Err(lost(error).await),
        };
        if range.start > range.end || range.end > opened.bytes() {
            let reason = format!("the shard has {} bytes", opened.bytes());
            return Err(Refusal::new(RefusalKind::OutOfRange, reason));
        }
        // The first piece is read before anything is promised.
        match opened.read(piece_at(range.start, range.end)).await {
            Ok(first) => Ok((opened, first)),
            Err(error) => Err(lost(error).await),
        }
    };
    let (opened, mut piece) = match opening.await {
        Ok(opened) => opened,
        Err(refusal) => return talk.say(&refusal.to_answer()).await,
    };
    talk.say(&StorageAnswer::Number(range.end - range.start)).await?;
    let sending = async {
        let mut at = range.start;
        while at < range.end {
            talk.send(&piece).await?;
            at += piece.len() as u64;
            piece = match opened.read(piece_at(at, range.end)).await {
                Ok(piece) => piece,
                // In the place of a piece stands an empty one, and why.
                Err(error) => {
                    let refusal = lost(error).await;
                    talk.send(&[]).await?;
                    return talk.say(&refusal.to_answer()).await;
                }
            };
        }
        Ok(())
    };
    let deadline = READ_DEADLINE.saturating_add(Duration::from_secs((range.end - range.start) / READ_BYTES_PER_SECOND));
    timeout(deadline, sending).await.unwrap_or(Err(Gone))
}

/// What the disk cannot give back is damaged here.
async fn tell_of_failed_read(service: &StorageService, acting: Acting, shard: ShardId) {
    let Ok(Some(owner)) = service.owners.find(acting.owner).await else { return };
    let Acting { peer: asked_by, owner: of, .. } = acting;
    service.tell(StorageEvent::Unread(FailedRead { asked_by, owner: of, backend: backend_of(&owner).await, shard }));
}

fn piece_at(at: u64, end: u64) -> Range<u64> {
    at..end.min(at.saturating_add(MAX_PIECE_BYTES as u64))
}

/// Shows blocks with their paths, and tells how each was met. A shard that is not there is nothing that anybody lost here: else
/// whoever makes up names would fill what is kept.
async fn show(
    service: &StorageService,
    acting: Acting,
    (shard, spans, stripes): (ShardId, BlockSpans, Vec<u64>),
    talk: &mut Talk,
) -> Result<(), Gone> {
    let Acting { peer: asked_by, owner: of, .. } = acting;
    let mut event = AnsweredChallenge { asked_by, owner: of, backend: None, shard, blocks: Vec::new() };
    let mut is_kept = true;
    let opening = async {
        let owner = service.owners.find(of).await?.ok_or_else(nothing_there)?;
        event.backend = backend_of(&owner).await;
        let opened = owner.place().open_shard(shard).await?;
        let _tree = service.trees.acquire().await;
        // Of blocks that are asked for elsewhere than they are nothing is right, and nothing is damaged.
        if super::check::spans(&opened).await?.is_some_and(|own| own != spans) {
            is_kept = false;
            return Err(Refusal::new(RefusalKind::OutOfRange, "the blocks of the shard lie elsewhere"));
        }
        Showing::begin((shard, opened), spans, stripes.clone()).await
    };
    let outcome = match opening.await {
        // As with a read: what is held open counts for nobody once it is deleted.
        Ok(showing) => timeout(READ_DEADLINE, show_blocks(&showing, &mut event, talk)).await.unwrap_or(Err(Gone)),
        Err(refusal) if !is_kept || refusal.kind == RefusalKind::NotFound => {
            return talk.say(&refusal.to_answer()).await;
        }
        Err(refusal) => {
            let answer = match refusal.kind {
                RefusalKind::Transient | RefusalKind::Unreachable => BlockAnswer::Silent,
                _ => BlockAnswer::Missing,
            };
            event.blocks = stripes.iter().map(|stripe| (*stripe, answer)).collect();
            talk.say(&refusal.to_answer()).await
        }
    };
    service.tell(StorageEvent::Challenge(event));
    outcome
}

async fn show_blocks(showing: &Showing, event: &mut AnsweredChallenge, talk: &mut Talk) -> Result<(), Gone> {
    for number in 0..showing.count() {
        match showing.block(number).await {
            Ok((stripe, path, block, is_right)) => {
                talk.say(&StorageAnswer::Path(path.to_vec())).await?;
                talk.send(&block).await?;
                event.blocks.push((stripe, if is_right { BlockAnswer::Shown } else { BlockAnswer::Damaged }));
            }
            Err(refusal) => {
                // What the disk cannot give back is lost there.
                let lost = showing.stripe(number).filter(|_| refusal.kind == RefusalKind::Failed);
                event.blocks.extend(lost.map(|stripe| (stripe, BlockAnswer::Damaged)));
                return talk.say(&refusal.to_answer()).await;
            }
        }
    }
    Ok(())
}

async fn backend_of(owner: &Owner) -> Option<BackendId> {
    owner.place().read_mark().await.ok().flatten().map(|Mark { backend, .. }| backend)
}

/// No grant makes an owner: else one peer could be as many as it likes, each with a quota.
async fn owner_to_write(service: &StorageService, acting: Acting) -> Result<Arc<Owner>, Refusal> {
    if acting.is_owner() {
        return Ok(service.owners.find_or_make(acting.owner).await?);
    }
    let unknown = || denied("the owner of the grant has nothing here");
    service.owners.find(acting.owner).await?.ok_or_else(unknown)
}

async fn write(
    service: &StorageService,
    acting: Acting,
    (shard, purpose): (ShardId, Purpose),
    talk: &mut Talk,
) -> Result<(), Gone> {
    let begun = async {
        let owner = owner_to_write(service, acting).await?;
        let purpose = if acting.may_delete() { purpose } else { purpose.sparing_what_is_whole() };
        owner.begin(shard, purpose).await
    };
    let mut write = match talk.unless_gone(begun).await? {
        Ok(write) => write,
        Err(refusal) => return talk.say(&refusal.to_answer()).await,
    };
    let mut reader = FrameReader::new(MAX_PIECE_BYTES);
    let outcome = loop {
        let heard = match talk.say(&StorageAnswer::Ready).await {
            Ok(()) => talk.piece(&mut reader).await,
            Err(Gone) => Err(Gone),
        };
        match heard {
            Ok(piece) if piece.is_empty() => break write.finish().await,
            Ok(piece) => {
                if let Err(refusal) = write.write(piece).await {
                    // What was taken is given back before the peer is told, who may try something smaller at once.
                    write.abort().await;
                    break Err(refusal);
                }
            }
            Err(Gone) => {
                write.abort().await;
                return Err(Gone);
            }
        }
    };
    if outcome.is_ok() && purpose != Purpose::Create {
        service.tell(StorageEvent::Replaced { owner: acting.owner, shard });
    }
    let answer = outcome.map_or_else(|refusal| refusal.to_answer(), StorageAnswer::Number);
    talk.say(&answer).await
}

impl Talk {
    async fn call(&mut self) -> Result<Result<StorageCall, WireError>, Gone> {
        let mut reader = FrameReader::new(MAX_REQUEST_BYTES);
        match timeout(REQUEST_DEADLINE, self.receive.next_frame(&mut reader)).await {
            Ok(Ok(Some(bytes))) => Ok(StorageCall::parse(&bytes)),
            _ => Err(Gone),
        }
    }

    /// Does this unless the peer ends the stream meanwhile. It has nothing to say before it is answered.
    async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Gone> {
        let mut reader = FrameReader::new(MAX_PIECE_BYTES);
        tokio::select! {
            biased;
            done = work => Ok(done),
            _ = self.receive.next_frame(&mut reader) => Err(Gone),
        }
    }

    async fn piece(&mut self, reader: &mut FrameReader) -> Result<Bytes, Gone> {
        match timeout(PIECE_DEADLINE, self.receive.next_frame(reader)).await {
            Ok(Ok(Some(bytes))) => Ok(bytes),
            _ => Err(Gone),
        }
    }

    async fn say(&mut self, answer: &StorageAnswer) -> Result<(), Gone> {
        self.lacks_room |= matches!(answer, StorageAnswer::Refused { kind: RefusalKind::NoSpace, .. });
        self.send(&answer.to_bytes()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        match timeout(SEND_DEADLINE, self.send.send_frame(bytes)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}
