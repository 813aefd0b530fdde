//! The backend contract, clause by clause, at servers that are really there.

use crate::s3_server::{BUCKET, KEY_ID, S3Server, SECRET};
use bytes::Bytes;
use shard::backend::cloud::{CloudBackend, CloudSettings, FIRST_PAUSE, PART_BYTES, Patience};
use shard::backend::{
    Backend, ErrorKind, FaultyBackend, LIST_PAGE_SHARDS, Mark, RetryBackend, RetryOptions, contract, shard_name,
};
use shard::id::{BackendId, ObjectId, ShardId, StoreId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use url::Url;

/// Short enough for tests, long enough for a loaded machine.
pub(crate) fn short_patience() -> Patience {
    Patience {
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(3),
        upload_timeout: Duration::from_secs(3),
        max_retries: 1,
        first_pause: FIRST_PAUSE,
        retry_timeout: Duration::from_secs(3),
    }
}

/// Settings for a server with this account.
pub(crate) fn settings(endpoint: String, key_id: &str, secret: &str) -> CloudSettings {
    let pairs = [("AWS_ACCESS_KEY_ID", key_id), ("AWS_SECRET_ACCESS_KEY", secret)];
    CloudSettings {
        endpoint: Some(endpoint),
        environment: pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        patience: short_patience(),
        ..CloudSettings::default()
    }
}

pub(crate) fn open(address: &str, settings: &CloudSettings) -> CloudBackend {
    CloudBackend::open(&Url::parse(address).expect("a URL"), settings).expect("a backend")
}

pub(crate) fn backend_at(server: &S3Server, prefix: &str) -> CloudBackend {
    open(&format!("s3://{BUCKET}/{prefix}"), &settings(server.endpoint(), KEY_ID, SECRET))
}

/// The same shard for the same numbers.
pub(crate) fn shard(object: u32, index: u8) -> ShardId {
    let mut bytes = [7; ObjectId::BYTES];
    bytes[..4].copy_from_slice(&object.wrapping_mul(0x9E37_79B1).to_be_bytes());
    ShardId { object: ObjectId(bytes), index }
}

/// Bytes that are the same nowhere twice in a row.
pub(crate) fn pattern(count: usize) -> Bytes {
    (0..count as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 16) as u8).collect()
}

pub(crate) async fn put(backend: &dyn Backend, shard: ShardId, bytes: &Bytes) -> Result<u64, ErrorKind> {
    let mut writer = backend.create(shard).await.map_err(|error| error.kind)?;
    for at in (0..bytes.len()).step_by(200_000) {
        let chunk = bytes.slice(at..bytes.len().min(at + 200_000));
        writer.write(chunk).await.map_err(|error| error.kind)?;
    }
    writer.finish().await.map_err(|error| error.kind)
}

pub(crate) async fn whole(backend: &dyn Backend, shard: ShardId) -> Result<Bytes, ErrorKind> {
    let length = backend.head(shard).await.map_err(|error| error.kind)?;
    backend.read(shard, 0..length).await.map_err(|error| error.kind)
}

async fn kind<T: std::fmt::Debug>(result: impl Future<Output = Result<T, shard::backend::Error>>) -> Option<ErrorKind> {
    result.await.err().map(|error| error.kind)
}

/// Every clause that can be seen from outside; `backend` must be empty.
pub(crate) async fn keeps_the_contract(backend: &dyn Backend) {
    a_shard_appears_whole_and_is_never_replaced_by_create(backend).await;
    replace_takes_the_place_of_old_bytes(backend).await;
    reads_are_exact(backend).await;
    deleting_twice_is_fine(backend).await;
    listings_are_in_order_and_pass_over_the_mark(backend).await;
    an_aborted_writer_leaves_nothing(backend).await;
}

async fn a_shard_appears_whole_and_is_never_replaced_by_create(backend: &dyn Backend) {
    let id = shard(1, 0);
    let mut writer = backend.create(id).await.expect("a writer");
    let mut rival = backend.create(id).await.expect("nothing is there yet");
    writer.write(pattern(300_000)).await.expect("written");
    rival.write(pattern(10)).await.expect("written");
    assert_eq!(kind(backend.head(id)).await, Some(ErrorKind::NotFound), "not before finish");
    assert_eq!(kind(backend.read(id, 0..1)).await, Some(ErrorKind::NotFound));
    assert_eq!(writer.finish().await.expect("finished"), 300_000);
    assert_eq!(kind(rival.finish()).await, Some(ErrorKind::AlreadyExists));
    let again = backend.create(id).await.err().map(|error| error.kind);
    assert_eq!(again, Some(ErrorKind::AlreadyExists));
    assert_eq!(whole(backend, id).await, Ok(pattern(300_000)));
    assert_eq!(put(backend, shard(1, 1), &Bytes::new()).await, Ok(0));
    assert_eq!(whole(backend, shard(1, 1)).await, Ok(Bytes::new()));
}

async fn replace_takes_the_place_of_old_bytes(backend: &dyn Backend) {
    for length in [5, PART_BYTES + 1] {
        let mut writer = backend.replace(shard(1, 0)).await.expect("a writer");
        writer.write(pattern(length)).await.expect("written");
        assert_eq!(backend.head(shard(1, 0)).await.expect("the old bytes stay"), if length == 5 { 300_000 } else { 5 });
        assert_eq!(writer.finish().await.expect("finished"), length as u64);
        assert_eq!(whole(backend, shard(1, 0)).await, Ok(pattern(length)));
    }
    let writer = backend.replace(shard(1, 2)).await.expect("it also creates");
    assert_eq!(writer.finish().await.expect("finished"), 0);
}

/// Lengths about the size of a part: one request below, two and three parts above.
async fn reads_are_exact(backend: &dyn Backend) {
    for (index, length) in
        (10..).zip([1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 7])
    {
        let (id, bytes) = (shard(2, index), pattern(length));
        assert_eq!(put(backend, id, &bytes).await, Ok(length as u64), "{length}");
        assert_eq!(whole(backend, id).await, Ok(bytes.clone()), "{length}");
        let end = length as u64;
        for range in [0..1, end - 1..end, end / 2..end, end / 3..end / 2, 0..0, end..end] {
            let expected = bytes.slice(range.start as usize..range.end as usize);
            assert_eq!(backend.read(id, range.clone()).await.expect("in range"), expected, "{length} {range:?}");
        }
        for range in [0..end + 1, end - 1..end + 1, end..end + 1, end + 5..end + 9, end + 1..end + 1] {
            assert_eq!(kind(backend.read(id, range.clone())).await, Some(ErrorKind::OutOfRange), "{length} {range:?}");
        }
    }
    for range in [0..0, 0..1, 5..9] {
        assert_eq!(kind(backend.read(shard(2, 99), range)).await, Some(ErrorKind::NotFound));
    }
}

async fn deleting_twice_is_fine(backend: &dyn Backend) {
    for index in 10..16 {
        backend.delete(shard(2, index)).await.expect("deleted");
        backend.delete(shard(2, index)).await.expect("it is absent already");
        assert_eq!(kind(backend.head(shard(2, index))).await, Some(ErrorKind::NotFound));
    }
    backend.delete(shard(3, 0)).await.expect("it never was");
}

async fn listings_are_in_order_and_pass_over_the_mark(backend: &dyn Backend) {
    assert_eq!(backend.read_mark().await.expect("an answer"), None);
    for byte in [1, 2] {
        let mark = Mark { store: StoreId([byte; 32]), backend: BackendId([byte; 16]) };
        backend.write_mark(&mark).await.expect("marked");
        assert_eq!(backend.read_mark().await.expect("an answer"), Some(mark));
    }
    let mut expected = BTreeMap::from([(shard_name(shard(1, 0)), PART_BYTES as u64 + 1)]);
    for (index, length) in [(2, 11), (10, 12), (1, 13)] {
        assert_eq!(put(backend, shard(4, index), &pattern(length)).await, Ok(length as u64));
        expected.insert(shard_name(shard(4, index)), length as u64);
    }
    expected.extend([(shard_name(shard(1, 1)), 0), (shard_name(shard(1, 2)), 0)]);
    let page = backend.list(None).await.expect("a page");
    let found: Vec<_> = page.shards.iter().map(|listed| (shard_name(listed.id), listed.bytes)).collect();
    assert_eq!(found, expected.clone().into_iter().collect::<Vec<_>>());
    assert_eq!(page.next, None);
    for skip in 0..found.len() {
        let rest = backend.list(Some(page.shards[skip].id)).await.expect("a page");
        assert_eq!(rest.shards, page.shards[skip + 1..]);
    }
    let stats = backend.stats().await.expect("stats");
    assert_eq!((stats.shard_count, stats.used_bytes), (expected.len() as u64, expected.values().sum()));
}

async fn an_aborted_writer_leaves_nothing(backend: &dyn Backend) {
    for length in [0, 10, PART_BYTES + 1, 2 * PART_BYTES + 1] {
        let mut writer = backend.create(shard(5, 0)).await.expect("a writer");
        writer.write(pattern(length)).await.expect("written");
        writer.abort().await;
        assert_eq!(kind(backend.head(shard(5, 0))).await, Some(ErrorKind::NotFound), "{length}");
        backend.clear_unfinished(shard(5, 0)).await.expect("cleared");
        backend.clear_unfinished(shard(1, 0)).await.expect("cleared");
    }
    assert_eq!(backend.head(shard(1, 0)).await.expect("a finished shard is not cleared"), PART_BYTES as u64 + 1);
}

#[tokio::test]
async fn s3_keeps_the_contract() {
    let server = S3Server::start();
    for prefix in ["", "deep/er%20in"] {
        keeps_the_contract(&backend_at(&server, prefix)).await;
        assert_eq!(server.unfinished_uploads(), 0);
        std::fs::remove_dir_all(server.bucket_folder(BUCKET)).expect("removed");
        server.create_bucket(BUCKET);
    }
}

/// Each clause is given a prefix of its own, which is an empty backend.
async fn passes_the_suite(wrap: impl Fn(CloudBackend) -> Arc<dyn Backend>) {
    let server = S3Server::start();
    let next = AtomicU32::new(0);
    let make = async || wrap(backend_at(&server, &format!("place-{}", next.fetch_add(1, Ordering::Relaxed))));
    contract::all_with(make, contract::ContractOptions { listed_shards: 40 }).await;
    assert_eq!(server.unfinished_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_passes_the_suite_that_every_backend_passes() {
    passes_the_suite(|backend| Arc::new(backend)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_behind_each_wrapper_passes_the_suite() {
    passes_the_suite(|backend| {
        let faultless = FaultyBackend::new(Arc::new(backend), 1);
        Arc::new(RetryBackend::new(Arc::new(faultless), "wrapped", RetryOptions::default()))
    })
    .await;
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn an_external_s3_server_keeps_the_contract() {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let names = ["SHARD_TEST_S3_ENDPOINT", "SHARD_TEST_S3_BUCKET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let [Some(endpoint), Some(bucket), Some(key_id), Some(secret)] = names.map(variable) else {
        eprintln!("skipped: set {} to test an external S3 server", names.join(", "));
        return;
    };
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).expect("randomness");
    let settings = settings(endpoint, &key_id, &secret);
    let place = format!("s3://{bucket}/{}", hex::encode(unique));
    let backend = open(&place, &settings);
    keeps_the_contract(&backend).await;
    crate::cloud_faults::an_upload_begun_elsewhere_is_cleared(&backend, &settings, &place).await;
    let no_bucket = open("s3://no-such-bucket-here/x", &settings);
    assert!(matches!(kind(no_bucket.head(shard(1, 0))).await, Some(ErrorKind::Settings | ErrorKind::Denied)));
    for listed in backend.list(None).await.expect("a page").shards {
        backend.delete(listed.id).await.expect("deleted");
    }
}

#[tokio::test]
async fn a_listing_comes_in_pages_and_passes_over_strangers() {
    let server = S3Server::start();
    let folder = server.bucket_folder(BUCKET).join("p/objects");
    let count = LIST_PAGE_SHARDS * 2 + 3;
    for number in 0..count as u32 {
        let path = server.bucket_folder(BUCKET).join("p").join(shard_name(shard(number, 0)));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, b"abc").expect("written");
    }
    for stranger in ["a.txt", "00/README", "zz.shard"] {
        std::fs::create_dir_all(folder.join("00")).expect("made");
        std::fs::write(folder.join(stranger), b"x").expect("written");
    }
    let backend = backend_at(&server, "p");
    let (mut names, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = backend.list(after).await.expect("a page");
        assert!(page.shards.len() <= LIST_PAGE_SHARDS);
        names.extend(page.shards.iter().map(|listed| shard_name(listed.id)));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((names.len(), pages), (count, 3));
    assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]));
    let stats = backend.stats().await.expect("stats");
    assert_eq!((stats.shard_count, stats.used_bytes), (count as u64, 3 * count as u64));
}

#[tokio::test]
async fn a_quota_is_kept_and_counts_what_was_there() {
    let server = S3Server::start();
    put(&backend_at(&server, "q"), shard(1, 0), &pattern(600)).await.expect("put");
    let mut limited = settings(server.endpoint(), KEY_ID, SECRET);
    limited.quota_bytes = Some(1000);
    let backend = open(&format!("s3://{BUCKET}/q"), &limited);
    assert_eq!(put(&backend, shard(1, 1), &pattern(401)).await, Err(ErrorKind::NoSpace));
    assert_eq!(kind(backend.head(shard(1, 1))).await, Some(ErrorKind::NotFound));
    assert_eq!(put(&backend, shard(1, 1), &pattern(400)).await, Ok(400));
    assert_eq!(put(&backend, shard(1, 2), &pattern(1)).await, Err(ErrorKind::NoSpace));
    backend.delete(shard(1, 0)).await.expect("deleted");
    assert_eq!(put(&backend, shard(1, 2), &pattern(600)).await, Ok(600));
    let stats = backend.stats().await.expect("stats");
    assert_eq!((stats.used_bytes, stats.quota_bytes), (1000, Some(1000)));
}

#[tokio::test]
async fn a_full_bucket_lets_its_shards_be_replaced() {
    let server = S3Server::start();
    let mut limited = settings(server.endpoint(), KEY_ID, SECRET);
    limited.quota_bytes = Some(1000);
    let backend: Arc<dyn Backend> = Arc::new(open(&format!("s3://{BUCKET}/full"), &limited));
    contract::clause_10_a_quota_holds(&backend).await;
}

#[tokio::test]
async fn a_bucket_whose_mark_went_away_or_is_anothers_says_nothing_of_its_shards() {
    let server = S3Server::start();
    let backend = backend_at(&server, "m");
    let mark = Mark { store: StoreId([1; 32]), backend: BackendId([2; 16]) };
    backend.write_mark(&mark).await.expect("marked");
    put(&backend, shard(1, 0), &pattern(9)).await.expect("put");
    assert_eq!(backend.read_mark().await.expect("an answer"), Some(mark));
    std::fs::remove_dir_all(server.bucket_folder(BUCKET).join("m")).expect("emptied");
    tokio::time::sleep(Duration::from_millis(5100)).await;
    for _ in 0..2 {
        assert_eq!(kind(backend.head(shard(1, 0))).await, Some(ErrorKind::Unreachable));
        assert_eq!(kind(backend.delete(shard(1, 0))).await, Some(ErrorKind::Unreachable));
        assert_eq!(kind(backend.list(None)).await, Some(ErrorKind::Unreachable));
        let others = Mark { store: mark.store, backend: BackendId([3; 16]) };
        backend_at(&server, "m").write_mark(&others).await.expect("another disk is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_on_one_backend_do_not_hold_each_other_up() {
    // More parts than the budget holds, written in lockstep as a stripe is.
    let server = S3Server::start();
    let backend = backend_at(&server, "many");
    let chunk = pattern(PART_BYTES / 2 + 1);
    let mut writers = Vec::new();
    for index in 0..30 {
        writers.push(backend.create(shard(9, index)).await.expect("a writer"));
    }
    for _ in 0..3 {
        for writer in &mut writers {
            writer.write(chunk.clone()).await.expect("written");
        }
    }
    for writer in writers {
        assert_eq!(writer.finish().await.expect("finished"), 3 * chunk.len() as u64);
    }
    assert_eq!(backend.stats().await.expect("stats").shard_count, 30);
}
