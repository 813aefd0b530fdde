//! A store and a node with a link between them that dawdles, stalls, parts them and breaks at any byte, from a seed.
//!
//! The link below a stream loses nothing and keeps the order, as QUIC and TCP do: what can happen is that bytes are late, come in
//! any pieces, or come no more. Under test are both ends of the storage protocol as they are: the store's backend, the node's
//! service over a folder. Nothing wrong is stored or read, what was acknowledged is there, what was cut leaves nothing, and
//! everything comes to an end. Time is the test's own.

use super::*;
use crate::backend::{Backend, NodeAccess, NodeBackend, Result, ShardChallenge};
use crate::id::{Digest, ObjectId};
use crate::merkle::{BlockPosition, BlockSpans, VerifiedBlock, leaf, shard_root};
use crate::node::ServiceStream;
use crate::peer::transport::Session;
use crate::peer::transport::memory::Pair;
use crate::peer::{GroupSeed, NodeIdentity, PeerAddress, SeedRing, StreamPurpose};
use bytes::Bytes;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const SCHEDULES: u64 = 2000;
/// Bytes that are on their way in the link, in either direction.
const LINK_BYTES: usize = 64 * 1024;
/// Whatever takes longer is stuck: both ends have deadlines, the longest of which is an hour.
const STUCK: Duration = Duration::from_secs(3 * 3600);

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len() as u64) as usize]
    }
}

/// What becomes of the bytes of one direction.
#[derive(Clone, Copy)]
struct Weather {
    most_piece_bytes: u64,
    most_delay_ms: u64,
    /// At which byte it stalls, and for how long; for ever where there is no time.
    stall: Option<(u64, Option<Duration>)>,
    /// At which byte the link breaks, for both directions.
    breaks_at: Option<u64>,
}

impl Weather {
    fn of(dice: &mut Dice) -> Self {
        let at = |dice: &mut Dice| {
            let bound = dice.one_of(&[60, 400, 3000, 60_000, 400_000]);
            dice.below(bound)
        };
        let (stall, breaks_at) = match dice.below(8) {
            0 | 1 => (None, Some(at(dice))),
            2 => {
                let patience = Duration::from_millis(dice.below(60_000));
                (Some((at(dice), Some(patience))), None)
            }
            3 => (Some((at(dice), None)), None),
            _ => (None, None),
        };
        let most_piece_bytes = dice.one_of(&[700, 9000, 100_000]);
        Self { most_piece_bytes, most_delay_ms: dice.one_of(&[0, 1, 40, 900]), stall, breaks_at }
    }
}

/// Carries one direction until it ends or breaks.
async fn carry(
    (mut from, mut to): (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>),
    weather: Weather,
    mut dice: Dice,
    broken: CancellationToken,
) {
    let carrying = async {
        let (mut room, mut carried) = (vec![0; LINK_BYTES], 0_u64);
        loop {
            let most = 1 + dice.below(weather.most_piece_bytes) as usize;
            let Ok(read @ 1..) = from.read(&mut room[..most.min(LINK_BYTES)]).await else {
                return drop(to.shutdown().await);
            };
            sleep(Duration::from_millis(dice.below(weather.most_delay_ms + 1))).await;
            let before = carried;
            carried += read as u64;
            let is_here = |at: u64| (before..carried).contains(&at);
            match weather.stall.filter(|(at, _)| is_here(*at)) {
                Some((_, Some(wait))) => sleep(wait).await,
                Some((_, None)) => std::future::pending().await,
                None => {}
            }
            let whole = weather.breaks_at.filter(|at| is_here(*at)).map_or(read, |at| (at - before) as usize);
            if to.write_all(&room[..whole]).await.is_err() || whole < read {
                return broken.cancel();
            }
        }
    };
    tokio::select! {
        () = carrying => {}
        () = broken.cancelled() => {}
    }
}

/// A link: both ends of it, which two tasks join.
fn link(dice: &mut Dice, tracker: &TaskTracker) -> ([DuplexStream; 2], CancellationToken) {
    let ((near, near_end), (far, far_end)) = (tokio::io::duplex(LINK_BYTES), tokio::io::duplex(LINK_BYTES));
    let broken = CancellationToken::new();
    let ((near_read, near_write), (far_read, far_write)) = (tokio::io::split(near_end), tokio::io::split(far_end));
    for halves in [(near_read, far_write), (far_read, near_write)] {
        let (weather, own) = (Weather::of(dice), Dice(dice.next()));
        tracker.spawn(carry(halves, weather, own, broken.clone()));
    }
    ([near, far], broken)
}

/// A shard with leaves that are those of its blocks.
#[derive(Clone)]
struct Content {
    bytes: Bytes,
    spans: BlockSpans,
    root: Digest,
}

impl Content {
    fn of(shard: ShardId, dice: &mut Dice) -> Self {
        let most_blocks = dice.one_of(&[1, 4, 25]);
        let (block_bytes, blocks) = (1 + dice.below(30_000), 1 + dice.below(most_blocks));
        let start = 64;
        let mut bytes: Vec<u8> = Vec::new();
        let mut whole = start + block_bytes * blocks;
        while whole > 0 {
            bytes.extend_from_slice(&dice.next().to_le_bytes()[..whole.min(8) as usize]);
            whole = whole.saturating_sub(8);
        }
        let position = |stripe_index| BlockPosition { object: shard.object, shard_index: shard.index, stripe_index };
        let chunks = bytes[start as usize..].chunks(block_bytes as usize);
        let leaves: Vec<Digest> = (0..).zip(chunks).map(|(stripe, block)| leaf(position(stripe), block)).collect();
        let root = shard_root(shard.object, shard.index, &leaves);
        bytes.extend(leaves.iter().flat_map(|leaf| leaf.0));
        let block_bytes = block_bytes as u32;
        let spans = BlockSpans::new(start, block_bytes, block_bytes, blocks).expect("within the limits");
        Self { bytes: bytes.into(), spans, root }
    }
}

/// What may be at the node, as far as the store can know; `None` is nothing.
type Possible = Vec<Option<Content>>;

/// What the store does with one shard, until something goes wrong.
struct Script<'a> {
    place: NodeBackend,
    shard: ShardId,
    dice: &'a mut Dice,
    possible: Possible,
    /// How many changes were acknowledged.
    acknowledged: u64,
}

impl Script<'_> {
    async fn run(&mut self) -> Result<()> {
        for _ in 0..2 + self.dice.below(5) {
            match self.dice.below(6) {
                0 | 1 => self.write().await?,
                2 | 3 => self.read().await?,
                4 => self.challenge().await?,
                _ => self.delete().await?,
            }
        }
        Ok(())
    }

    /// What is there; the last that was acknowledged, since a script ends with what was not.
    fn there(&self) -> Option<Content> {
        self.possible.last().cloned().flatten()
    }

    async fn write(&mut self) -> Result<()> {
        let content = Content::of(self.shard, self.dice);
        let mut writer = match self.there() {
            None => self.place.create(self.shard).await?,
            Some(_) => self.place.replace(self.shard).await?,
        };
        let mut rest = content.bytes.clone();
        let (gives_up, drops) = (self.dice.below(8) == 0, self.dice.below(8) == 0);
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(1 + self.dice.below(400_000) as usize));
            writer.write(piece).await?;
            if drops {
                drop(writer);
                return Ok(());
            }
        }
        if gives_up {
            writer.abort().await;
            return Ok(());
        }
        self.possible.push(Some(content.clone()));
        let bytes = writer.finish().await?;
        assert_eq!(bytes, content.bytes.len() as u64);
        self.acknowledge(Some(content));
        Ok(())
    }

    async fn delete(&mut self) -> Result<()> {
        self.possible.push(None);
        self.place.delete(self.shard).await?;
        self.acknowledge(None);
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        let Some(content) = self.there() else { return Ok(()) };
        let end = self.dice.below(content.bytes.len() as u64 + 1);
        let start = self.dice.below(end + 1);
        let read = self.place.read(self.shard, start..end).await?;
        assert!(read == content.bytes[start as usize..end as usize], "wrong bytes");
        assert_eq!(self.place.head(self.shard).await?, content.bytes.len() as u64);
        Ok(())
    }

    async fn challenge(&mut self) -> Result<()> {
        let Some(content) = self.there() else { return Ok(()) };
        let count = content.spans.stripe_count();
        let stripes: Vec<u64> = (0..count).filter(|_| self.dice.below(2) == 0).collect();
        let challenge = ShardChallenge { spans: content.spans, stripes: stripes.clone() };
        let shown = self.place.challenge(self.shard, &challenge).await?.expect("nodes show blocks");
        assert_eq!(shown.len(), stripes.len());
        let ShardId { object, index: shard_index } = self.shard;
        for (stripe_index, shown) in stripes.into_iter().zip(shown) {
            let position = BlockPosition { object, shard_index, stripe_index };
            let checked = VerifiedBlock::check_path(position, shown.block, &shown.path, (count, &content.root));
            assert!(checked.is_ok(), "a wrong block");
        }
        Ok(())
    }

    fn acknowledge(&mut self, content: Option<Content>) {
        self.acknowledged += 1;
        self.possible = vec![content];
    }
}

/// A node, its folder, and the store that calls it.
struct Scene {
    _folder: tempfile::TempDir,
    service: StorageService,
    pair: Pair,
    address: PeerAddress,
}

/// How schedules ended.
#[derive(Debug, Default)]
struct Fates {
    whole: u64,
    cut: u64,
    acknowledged: u64,
    /// What was not acknowledged and is there.
    unknown: u64,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let service = StorageService::open(folder.path(), StorageOptions::default()).expect("a folder");
        let seeds = || SeedRing::new(GroupSeed::from_bytes([7; 32]));
        let [store, node] = [1, 2].map(|number| NodeIdentity::from_seed(&[number; 32]));
        let pair = Pair::of([&store, &node], seeds);
        Self { _folder: folder, service, pair, address: "node://friend".parse().expect("an address") }
    }

    /// One schedule; when it is over nothing of it runs any more.
    async fn run(&self, seed: u64, fates: &mut Fates) {
        let mut dice = Dice(seed);
        let (links, sessions, streams) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
        let (ends, broken) = link(&mut dice, &links);
        let [near, far] = self.pair.connect(ends, &sessions);
        let serving = tokio::spawn(serve_all(self.service.clone(), far.clone(), streams.clone()));
        let caller = (NodeIdentity::from_seed(&[1; 32]), Arc::clone(self.pair.caller()));
        let access = NodeAccess::over(&self.address, caller, near.clone());
        let place = NodeBackend::open(self.address.clone(), access, None);
        let mut object = [0; 16];
        object[..8].copy_from_slice(&seed.to_be_bytes());
        let shard = ShardId { object: ObjectId(object), index: seed as u8 };
        let mut script = Script { place, shard, dice: &mut dice, possible: vec![None], acknowledged: 0 };
        let outcome = timeout(STUCK, script.run()).await;
        assert!(outcome.is_ok(), "schedule {seed}: the store is stuck");
        let is_whole = matches!(outcome, Ok(Ok(())));
        let (possible, acknowledged) = (std::mem::take(&mut script.possible), script.acknowledged);
        // A store that is gone without a word leaves streams that end by their own deadlines; else the link ends now.
        if dice.below(2) == 0 {
            near.close();
            broken.cancel();
        }
        drop(near);
        streams.close();
        let over = timeout(STUCK, streams.wait()).await;
        assert!(over.is_ok(), "schedule {seed}: the node is stuck");
        far.close();
        broken.cancel();
        serving.await.expect("it does not panic");
        links.close();
        sessions.close();
        timeout(STUCK, sessions.wait()).await.expect("the sessions end");
        links.wait().await;
        fates.acknowledged += acknowledged;
        *if is_whole { &mut fates.whole } else { &mut fates.cut } += 1;
        self.judge(seed, shard, &possible, fates).await;
    }

    /// There is what may be, whole, and nothing beside it.
    async fn judge(&self, seed: u64, shard: ShardId, possible: &Possible, fates: &mut Fates) {
        let owner = self.service.owners.find(self.pair.caller().id()).await.expect("looked at");
        let Some(owner) = owner else {
            return assert!(possible.iter().any(Option::is_none), "schedule {seed}: what was acknowledged is gone");
        };
        let there = match owner.place().head(shard).await {
            Ok(bytes) => Some(owner.place().read(shard, 0..bytes).await.expect("read")),
            Err(error) => {
                assert_eq!(error.kind, crate::backend::ErrorKind::NotFound, "schedule {seed}");
                None
            }
        };
        let at = possible.iter().position(|content| content.as_ref().map(|content| &content.bytes) == there.as_ref());
        assert!(at.is_some(), "schedule {seed}: what is there was never stored, or was replaced");
        fates.unknown += u64::from(at > Some(0));
        let left_bytes = owner.place().clear_unfinished(shard).await.expect("looked at");
        assert_eq!(left_bytes, 0, "schedule {seed}: something was left");
        owner.place().delete(shard).await.expect("deleted");
        // A writer that was let go gives its promise back on a thread of its own, for which this clock does not wait.
        for _ in 0..5000 {
            if owner.tally().promised == 0 {
                break;
            }
            let moment = || std::thread::sleep(Duration::from_millis(1));
            tokio::task::spawn_blocking(moment).await.expect("it passes");
        }
        let mut tally = owner.tally();
        (tally.shards, tally.bytes) = match there {
            Some(bytes) => (tally.shards - 1, tally.bytes - bytes.len() as u64),
            None => (tally.shards, tally.bytes),
        };
        assert_eq!(*tally, owner::Tally::default(), "schedule {seed}: it is not counted as it is");
    }
}

async fn serve_all(service: StorageService, session: Session, streams: TaskTracker) {
    while let Some((purpose, stream)) = session.accept().await {
        let StreamPurpose::Service(number) = purpose else { continue };
        let (service, incoming) =
            (service.clone(), ServiceStream { session: session.clone(), service: number, stream });
        streams.spawn(async move { service.serve(incoming).await });
    }
}

#[tokio::test(start_paused = true)]
async fn no_link_however_it_breaks_makes_a_node_keep_what_is_wrong_or_lose_what_it_acknowledged() {
    let (scene, mut fates) = (Scene::new(), Fates::default());
    for seed in 0..SCHEDULES {
        scene.run(seed, &mut fates).await;
    }
    // Schedules that show nothing would hold every promise.
    for (count, at_least) in [
        (fates.whole, SCHEDULES / 10),
        (fates.cut, SCHEDULES / 10),
        (fates.acknowledged, SCHEDULES / 2),
        (fates.unknown, SCHEDULES / 100),
    ] {
        assert!(count >= at_least, "{fates:?}");
    }
}
