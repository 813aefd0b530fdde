//! Grants at nodes: what they let another key do on an owner's shards, and everything that they do not.

use super::cloud_contract::{pattern, put, shard, whole};
use super::node_desk::{BOTH, caller, within};
use super::node_storage_desk::{Keeper, SEED, access, backend, seed_file};
use shard::backend::{Backend, ErrorKind, Mark, NodeAccess, ShardChallenge};
use shard::crypto::{Keyring, MasterKey};
use shard::id::{BackendId, ShardId, StoreId};
use shard::merkle::BlockSpans;
use shard::node::Node;
use shard::node::storage::{PURPOSE, StorageOptions};
use shard::peer::storage::{RefusalKind, StorageAnswer, StorageCall, StorageMark, StorageRequest};
use shard::peer::transport::{PeerStream, Session};
use shard::peer::{
    FrameReader, GRANT_BYTES, GrantRights, MAX_MESSAGE_BYTES, NodeGrant, NodeIdentity, StreamPurpose, TransportKind,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const REPAIR: GrantRights = GrantRights { repair: true, delete: false };
const ALL: GrantRights = GrantRights { repair: true, delete: true };
/// From this seed the helper's identity follows.
const HELPER: u8 = 50;
const FOREVER: u64 = u64::MAX;

fn helper() -> NodeIdentity {
    NodeIdentity::from_seed(&[HELPER; 32])
}

/// The identity towards nodes of the store whose master key has this number.
fn owner(number: u8) -> NodeIdentity {
    NodeIdentity::from_seed(&Keyring::new(MasterKey::from_bytes([number; 32])).node_seed())
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// The helper's way to nodes, with this grant.
fn granted(seed: &Path, grant: NodeGrant) -> NodeAccess {
    NodeAccess::with_seed_file(Some(seed.to_owned())).of_grantee(&[HELPER; 32], grant, None)
}

/// A real shard of a store that nobody here has the key of, and the object's id.
fn golden() -> (ShardId, Vec<u8>) {
    let objects = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden/objects");
    let files = walkdir::WalkDir::new(objects).sort_by_file_name().into_iter().filter_map(Result::ok);
    let mut named = files.filter_map(|entry| {
        let id = entry.file_name().to_str()?.strip_suffix(".shard")?.parse().ok()?;
        Some((id, std::fs::read(entry.path()).ok()?))
    });
    named.next().expect("a shard")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_key_acts_on_the_owners_shards_and_under_its_quota() {
    let dir = tempfile::tempdir().expect("a folder");
    let seed = seed_file(dir.path(), SEED);
    let options = StorageOptions { quota_shards: Some(3), ..StorageOptions::default() };
    let keeper = Keeper::start(1, &dir.path().join("shards"), options).await;
    for (number, transport) in (1..).zip(BOTH) {
        let own = backend(keeper.address(transport), &access(number, &seed, None));
        assert_eq!(put(&own, shard(1, 0), &pattern(300_000)).await, Ok(300_000));
        let mark = Mark { store: StoreId([1; 32]), backend: BackendId([1; 16]) };
        own.write_mark(&mark).await.expect("marked");
        let grant = NodeGrant::issue(&owner(number), helper().id(), REPAIR, FOREVER);
        let place = backend(keeper.address(transport), &granted(&seed, grant));
        assert_eq!(whole(&place, shard(1, 0)).await.expect("the owner's"), pattern(300_000));
        assert_eq!(place.read_mark().await.expect("the owner's"), Some(mark));
        assert_eq!(place.list(None).await.expect("a page").shards.len(), 1);
        // What it writes is the owner's, and counts for it.
        assert_eq!(put(&place, shard(1, 1), &pattern(10)).await, Ok(10));
        assert_eq!(put(&own, shard(1, 2), &pattern(10)).await, Ok(10));
        assert_eq!(put(&place, shard(1, 3), &pattern(10)).await, Err(ErrorKind::NoSpace));
        assert_eq!(whole(&own, shard(1, 1)).await.expect("written by the helper"), pattern(10));
        assert_eq!(place.delete(shard(1, 0)).await.expect_err("no right").kind, ErrorKind::Denied);
        assert_eq!(place.write_mark(&mark).await.expect_err("the owner's own").kind, ErrorKind::Denied);
        // Without the grant the same key has nothing here, and with the right to delete it deletes.
        let bare = NodeGrant::issue(&helper(), helper().id(), ALL, FOREVER);
        let itself = backend(keeper.address(transport), &granted(&seed, bare));
        assert_eq!(itself.list(None).await.expect("a page").shards, []);
        let grant = NodeGrant::issue(&owner(number), helper().id(), ALL, FOREVER);
        let deleting = backend(keeper.address(transport), &granted(&seed, grant));
        deleting.delete(shard(1, 0)).await.expect("granted");
        assert_eq!(own.head(shard(1, 0)).await.expect_err("deleted").kind, ErrorKind::NotFound);
    }
    keeper.stop().await;
}

/// Where a node has a shard of an owner.
fn on_disk(folder: &Path, owner: &NodeIdentity, id: ShardId) -> PathBuf {
    folder.join(owner.id().to_string()).join(shard::backend::shard_name(id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_delete_damaged_shards_are_replaced_and_whole_ones_are_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let (seed, folder) = (seed_file(dir.path(), SEED), dir.path().join("shards"));
    let keeper = Keeper::start(1, &folder, StorageOptions::default()).await;
    let own = backend(keeper.address(TransportKind::Quic), &access(1, &seed, None));
    let (id, bytes) = golden();
    put(&own, id, &bytes.clone().into()).await.expect("put");
    let as_helper = |rights| {
        let grant = NodeGrant::issue(&owner(1), helper().id(), rights, FOREVER);
        backend(keeper.address(TransportKind::Quic), &granted(&seed, grant))
    };
    let (mending, deleting) = (as_helper(REPAIR), as_helper(ALL));
    let replaced = async |place: &dyn Backend, bytes: &[u8]| {
        let mut writer = place.replace(id).await.map_err(|error| error.kind)?;
        writer.write(bytes.to_vec().into()).await.map_err(|error| error.kind)?;
        writer.finish().await.map_err(|error| error.kind)
    };
    assert_eq!(replaced(&mending, b"garbage").await, Err(ErrorKind::Denied));
    assert_eq!(whole(&own, id).await.expect("whole"), bytes);
    // Damage anywhere in it, of whatever part, lets it be replaced.
    let path = on_disk(&folder, &owner(1), id);
    for at in [9, 64, bytes.len() - 1, bytes.len() - 130, bytes.len() - 1000] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).expect("damaged");
        assert_eq!(replaced(&mending, &bytes).await, Ok(bytes.len() as u64), "byte {at}");
    }
    // What was begun while it was damaged is not finished once the owner has mended it.
    std::fs::write(&path, b"damaged").expect("damaged");
    let mut slow = mending.replace(id).await.expect("it is damaged");
    slow.write(b"garbage".to_vec().into()).await.expect("taken");
    assert_eq!(replaced(&own, &bytes).await, Ok(bytes.len() as u64));
    assert_eq!(slow.finish().await.expect_err("it is whole").kind, ErrorKind::Denied);
    assert_eq!(whole(&own, id).await.expect("whole"), bytes);
    assert_eq!(replaced(&mending, b"garbage").await, Err(ErrorKind::Denied));
    assert_eq!(replaced(&deleting, b"garbage").await, Ok(7));
    assert_eq!(replaced(&mending, &bytes).await, Ok(bytes.len() as u64));
    // Another store's mark: what is signed for this one is not whole there.
    own.write_mark(&Mark { store: StoreId([1; 32]), backend: BackendId([1; 16]) }).await.expect("marked");
    assert_eq!(replaced(&mending, &bytes).await, Ok(bytes.len() as u64));
    keeper.stop().await;
}

/// A peer that says what it likes, in its own name.
struct Attacker {
    node: Node,
    session: Session,
}

impl Attacker {
    async fn start(keeper: &Keeper, transport: TransportKind) -> Self {
        let node = super::node_desk::start(caller(HELPER, &[SEED])).await;
        let session = within(node.connect(&keeper.address(transport))).await.expect("admitted");
        Self { node, session }
    }

    /// What is answered first.
    async fn ask(&self, call: &[u8]) -> StorageAnswer {
        let mut stream: PeerStream =
            within(self.session.open(StreamPurpose::Service(PURPOSE))).await.expect("a stream");
        stream.send.send_frame(call).await.expect("sent");
        let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
        let frame = within(stream.receive.next_frame(&mut reader)).await.expect("it answers").expect("an answer");
        stream.send.give_up();
        StorageAnswer::parse(&frame).expect("an answer")
    }
}

fn requests() -> Vec<StorageRequest> {
    let (there, new) = (shard(1, 0), shard(2, 0));
    let spans = BlockSpans::new(64, 1000, 10, 3).expect("within the limits");
    let mark = StorageMark { store: StoreId([9; 32]), backend: BackendId([9; 16]) };
    vec![
        StorageRequest::Read { shard: there, range: 0..10 },
        StorageRequest::Head(there),
        StorageRequest::List { after: None },
        StorageRequest::Stats,
        StorageRequest::ReadMark,
        StorageRequest::Challenge { shard: there, spans, stripes: vec![0, 2] },
        StorageRequest::Scrub { after: None },
        StorageRequest::TellDamage { shard_count: 1, shards: vec![there] },
        StorageRequest::Create(new),
        StorageRequest::Replace(there),
        StorageRequest::ClearUnfinished(there),
        StorageRequest::Delete(there),
        StorageRequest::WriteMark(mark),
    ]
}

/// How many of these are accepted; all others are denied, and nothing else.
async fn accepted(attacker: &Attacker, grant: &NodeGrant, requests: &[StorageRequest]) -> usize {
    let mut accepted = 0;
    for request in requests {
        let call = StorageCall { grant: Some(grant.clone()), request: request.clone() };
        let answer = attacker.ask(&call.to_bytes()).await;
        accepted += usize::from(!matches!(answer, StorageAnswer::Refused { kind: RefusalKind::Denied, .. }));
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_forged_changed_expired_or_borrowed_grant_is_accepted_for_anything() {
    let dir = tempfile::tempdir().expect("a folder");
    let (seed, folder) = (seed_file(dir.path(), SEED), dir.path().join("shards"));
    let keeper = Keeper::start(1, &folder, StorageOptions::default()).await;
    let own = backend(keeper.address(TransportKind::Quic), &access(1, &seed, None));
    assert_eq!(put(&own, shard(1, 0), &pattern(4000)).await, Ok(4000));
    for transport in BOTH {
        let attacker = Attacker::start(&keeper, transport).await;
        let genuine = NodeGrant::issue(&owner(1), helper().id(), ALL, FOREVER);
        let borrowed = NodeGrant::issue(&owner(1), owner(3).id(), ALL, FOREVER);
        let expired = NodeGrant::issue(&owner(1), helper().id(), ALL, now_s() - 3600);
        let mut forged = NodeGrant::issue(&helper(), helper().id(), ALL, FOREVER).to_bytes();
        forged[1..33].copy_from_slice(&owner(1).public_key().0);
        let forged = NodeGrant::parse(&forged).expect("it looks like one");
        for grant in [&borrowed, &expired, &forged] {
            assert_eq!(accepted(&attacker, grant, &requests()).await, 0, "{grant:?}");
        }
        // Rights that were added, and a time that was moved.
        let narrow = NodeGrant::issue(&owner(1), helper().id(), GrantRights::default(), now_s() + 3600).to_bytes();
        let (rights_at, expiry_at) = (65, 66);
        for (at, to) in [(rights_at, 3), (rights_at, 7), (rights_at, 5), (expiry_at + 7, 1)] {
            let mut changed = narrow;
            changed[at] = to;
            let changed = NodeGrant::parse(&changed).expect("it looks like one");
            assert_eq!(accepted(&attacker, &changed, &requests()).await, 0, "{changed:?}");
        }
        // No changed bit anywhere of a grant for everything deletes anything.
        for bit in (0..GRANT_BYTES * 8).step_by(7) {
            let delete = StorageCall { grant: Some(genuine.clone()), request: StorageRequest::Delete(shard(1, 0)) };
            let mut call = delete.to_bytes();
            call[2 + bit / 8] ^= 1 << (bit % 8);
            let answer = attacker.ask(&call).await;
            assert!(matches!(answer, StorageAnswer::Refused { .. }), "bit {bit}: {answer:?}");
        }
        // What is allowed is allowed and no more: of a grant to read the first eight, of one to repair three more.
        let reading = NodeGrant::issue(&owner(1), helper().id(), GrantRights::default(), FOREVER);
        assert_eq!(accepted(&attacker, &reading, &requests()[..8]).await, 8);
        assert_eq!(accepted(&attacker, &reading, &requests()[8..]).await, 0);
        let repairing = NodeGrant::issue(&owner(1), helper().id(), REPAIR, FOREVER);
        assert_eq!(accepted(&attacker, &repairing, &requests()[11..]).await, 0);
        // The grant of another owner leads to that owner's shards, of which there are none.
        let elsewhere = NodeGrant::issue(&owner(2), helper().id(), ALL, FOREVER);
        for request in [StorageRequest::Head(shard(1, 0)), requests()[0].clone()] {
            let call = StorageCall { grant: Some(elsewhere.clone()), request };
            let answer = attacker.ask(&call.to_bytes()).await;
            assert!(matches!(answer, StorageAnswer::Refused { kind: RefusalKind::NotFound, .. }), "{answer:?}");
        }
        let call = StorageCall { grant: Some(elsewhere.clone()), request: StorageRequest::List { after: None } };
        let answer = attacker.ask(&call.to_bytes()).await;
        assert!(matches!(&answer, StorageAnswer::Page(page) if page.shards.is_empty()), "{answer:?}");
        // Nor does it make that owner known, with a quota of its own.
        let making = [StorageRequest::Create(shard(1, 0)), StorageRequest::Replace(shard(1, 0))];
        assert_eq!(accepted(&attacker, &elsewhere, &making).await, 0);
        let call = StorageCall { grant: Some(elsewhere), request: StorageRequest::Delete(shard(1, 0)) };
        assert_eq!(attacker.ask(&call.to_bytes()).await, StorageAnswer::Ready);
        within(attacker.node.stop(Duration::from_secs(20))).await;
    }
    assert_eq!(whole(&own, shard(1, 0)).await.expect("as it was"), pattern(4000));
    assert_eq!(own.list(None).await.expect("a page").shards.len(), 1);
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 1, "one owner");
    assert_eq!(own.read_mark().await.expect("none"), None);
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_of_a_challenge_is_not_decided_by_where_it_says_that_blocks_lie() {
    let dir = tempfile::tempdir().expect("a folder");
    let (seed, folder) = (seed_file(dir.path(), SEED), dir.path().join("shards"));
    let mut keeper = Keeper::start(1, &folder, StorageOptions::default()).await;
    let own = backend(keeper.address(TransportKind::Quic), &access(1, &seed, None));
    let (id, bytes) = golden();
    put(&own, id, &bytes.clone().into()).await.expect("put");
    let reading = NodeGrant::issue(&owner(1), helper().id(), GrantRights::default(), FOREVER);
    let place = backend(keeper.address(TransportKind::Quic), &granted(&seed, reading));
    let spans = BlockSpans::new(64, 16, 10, 3).expect("within the limits");
    assert!(spans.leaves().end < bytes.len() as u64);
    let elsewhere = ShardChallenge { spans, stripes: vec![0, 2] };
    assert_eq!(place.challenge(id, &elsewhere).await.expect_err("elsewhere").kind, ErrorKind::OutOfRange);
    assert_eq!(keeper.answered(), []);
    // What was asked and told in the name of who has nothing here is not kept.
    let attacker = Attacker::start(&keeper, TransportKind::Quic).await;
    for request in [requests()[5].clone(), requests()[7].clone()] {
        for grant in [None, Some(NodeGrant::issue(&owner(2), helper().id(), ALL, FOREVER))] {
            attacker.ask(&StorageCall { grant, request: request.clone() }.to_bytes()).await;
        }
    }
    within(attacker.node.stop(Duration::from_secs(20))).await;
    assert_eq!(keeper.answered(), []);
    // A grant to repair clears nothing: it may be what the owner is writing now.
    let repairing = NodeGrant::issue(&owner(1), helper().id(), REPAIR, FOREVER);
    let mending = backend(keeper.address(TransportKind::Quic), &granted(&seed, repairing));
    let mut live = own.create(shard(3, 0)).await.expect("begun");
    live.write(pattern(4000)).await.expect("taken");
    assert_eq!(mending.clear_unfinished(shard(3, 0)).await.expect("nothing to do"), 0);
    assert_eq!(live.finish().await.expect("nobody cleared it"), 4000);
    keeper.stop().await;
}
