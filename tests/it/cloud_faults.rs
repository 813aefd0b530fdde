//! Servers and wires that fail: every failure has its kind, and no wrong byte is handed on.

use crate::cloud_contract::{backend_at, open, pattern, put, settings, shard, short_patience, whole};
use crate::s3_server::{BUCKET, Completion, Fault, FaultyWire, KEY_ID, Parrot, S3Server, SECRET};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use shard::backend::cloud::{CloudBackend, CloudSettings, PART_BYTES};
use shard::backend::{Backend, Error, ErrorKind, Mark, shard_name};
use shard::id::{BackendId, StoreId};
use std::time::{Duration, Instant};
use url::Url;

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.expect_err("it must fail").kind
}

/// The error with everything under it.
fn told(error: &Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    format!("{error} | {} | {error:?}", source.unwrap_or_default())
}

#[tokio::test]
async fn a_wrong_secret_is_denied_and_never_shown() {
    let server = S3Server::start();
    for (key_id, secret) in [(KEY_ID, "HushWrongSecret"), ("AKIDNOBODY", SECRET)] {
        let backend = open(&format!("s3://{BUCKET}/x"), &settings(server.endpoint(), key_id, secret));
        let failures = [
            backend.head(shard(1, 0)).await.err(),
            backend.create(shard(1, 0)).await.err(),
            backend.read(shard(1, 0), 0..1).await.err(),
            backend.delete(shard(1, 0)).await.err(),
            backend.list(None).await.err(),
            backend.read_mark().await.err(),
            backend.clear_unfinished(shard(1, 0)).await.err(),
        ];
        for error in failures {
            let error = error.expect("refused");
            assert_eq!(error.kind, ErrorKind::Denied, "{error}");
            let told = told(&error);
            assert!(told.contains("s3://shards/x") && !told.contains(secret), "{told}");
        }
        assert!(!format!("{backend:?}").contains(secret));
    }
}

#[tokio::test]
async fn a_missing_bucket_is_named_and_is_not_a_missing_shard() {
    let server = S3Server::start();
    let missing = || open("s3://not-there/x", &settings(server.endpoint(), KEY_ID, SECRET));
    let failures = [
        missing().head(shard(1, 0)).await.err(),
        missing().create(shard(1, 0)).await.err(),
        missing().read(shard(1, 0), 0..1).await.err(),
        missing().delete(shard(1, 0)).await.err(),
        missing().list(None).await.err(),
        missing().stats().await.err(),
        missing().read_mark().await.err(),
    ];
    for error in failures {
        let error = error.expect("refused");
        assert_eq!(error.kind, ErrorKind::Settings, "{error}");
        assert!(told(&error).contains("\"not-there\" does not exist"), "{}", told(&error));
    }
}

#[tokio::test]
async fn two_accounts_are_used_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let servers = [S3Server::start_for("AKIDONE", "SecretOne"), S3Server::start_for("AKIDTWO", "SecretTwo")];
    std::fs::create_dir(folder.path().join(".aws")).expect("made");
    let text = "[one]\naws_access_key_id = AKIDONE\naws_secret_access_key = SecretOne\n\
                [two]\naws_access_key_id = AKIDTWO\naws_secret_access_key = SecretTwo\n";
    std::fs::write(folder.path().join(".aws/credentials"), text).expect("written");
    let account = |server: &S3Server, profile: &str| {
        let settings = CloudSettings {
            endpoint: Some(server.endpoint()),
            profile: Some(profile.to_owned()),
            home: Some(folder.path().to_owned()),
            patience: short_patience(),
            ..CloudSettings::default()
        };
        open(&format!("s3://{BUCKET}/x"), &settings)
    };
    let (one, two) = (account(&servers[0], "one"), account(&servers[1], "two"));
    let (first, second) = (pattern(11), pattern(12));
    let (first, second) = tokio::join!(put(&one, shard(1, 0), &first), put(&two, shard(1, 0), &second));
    assert_eq!((first, second), (Ok(11), Ok(12)));
    assert_eq!(kind(account(&servers[0], "two").head(shard(1, 0)).await), ErrorKind::Denied);
}

#[tokio::test]
async fn a_server_that_is_gone_is_unreachable_and_may_come_back() {
    let mut server = S3Server::start();
    let backend = backend_at(&server, "x");
    put(&backend, shard(1, 0), &pattern(1000)).await.expect("put");
    let mut writer = backend.create(shard(1, 1)).await.expect("a writer");
    writer.write(pattern(PART_BYTES + 1)).await.expect("written");

    server.stop();
    let begun = Instant::now();
    assert_eq!(kind(backend.head(shard(1, 0)).await), ErrorKind::Unreachable);
    assert_eq!(kind(backend.read(shard(1, 0), 0..1).await), ErrorKind::Unreachable);
    assert_eq!(kind(backend.delete(shard(1, 0)).await), ErrorKind::Unreachable);
    assert_eq!(kind(backend.list(None).await), ErrorKind::Unreachable);
    assert!(backend.create(shard(2, 0)).await.is_err_and(|error| error.kind == ErrorKind::Unreachable));
    let lost = async {
        writer.write(pattern(3 * PART_BYTES)).await?;
        writer.finish().await
    };
    assert!(matches!(kind(lost.await), ErrorKind::Unreachable | ErrorKind::Transient));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());

    server.start_again();
    assert_eq!(whole(&backend, shard(1, 0)).await, Ok(pattern(1000)));
    assert_eq!(kind(backend.head(shard(1, 1)).await), ErrorKind::NotFound);
    backend.clear_unfinished(shard(1, 1)).await.expect("cleared");
    assert_eq!(server.unfinished_uploads(), 0);
    assert_eq!(put(&backend, shard(1, 1), &pattern(PART_BYTES + 5)).await, Ok(PART_BYTES as u64 + 5));
}

#[tokio::test]
async fn a_writer_that_failed_once_never_finishes() {
    let mut server = S3Server::start();
    let backend = backend_at(&server, "x");
    let mut writer = backend.create(shard(1, 0)).await.expect("a writer");
    server.stop();
    while writer.write(pattern(PART_BYTES)).await.is_ok() {}
    server.start_again();
    assert_eq!(kind(writer.write(pattern(1)).await), ErrorKind::Failed);
    assert_eq!(kind(writer.finish().await), ErrorKind::Failed);
    assert_eq!(kind(backend.head(shard(1, 0)).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_dropped_writer_aborts_its_upload() {
    let server = S3Server::start();
    let backend = backend_at(&server, "x");
    let mut writer = backend.create(shard(1, 0)).await.expect("a writer");
    writer.write(pattern(2 * PART_BYTES + 1)).await.expect("written");
    assert_eq!(server.unfinished_uploads(), 1);
    drop(writer);
    let aborted = async {
        while server.unfinished_uploads() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), aborted).await.expect("aborted");
}

#[tokio::test]
async fn a_silent_server_is_unreachable_within_the_deadline() {
    let server = S3Server::start();
    let wire = FaultyWire::start(server.address()).await;
    let mut hurried = settings(wire.endpoint(), KEY_ID, SECRET);
    hurried.patience.request_timeout = Duration::from_millis(500);
    let backend = open(&format!("s3://{BUCKET}/x"), &hurried);
    put(&backend, shard(1, 0), &pattern(50_000)).await.expect("put");
    for fault in [Fault::Swallow, Fault::Delay(Duration::from_secs(2))] {
        wire.set(fault);
        let begun = Instant::now();
        assert_eq!(kind(backend.read(shard(1, 0), 0..50_000).await), ErrorKind::Unreachable, "{fault:?}");
        assert_eq!(kind(backend.head(shard(1, 0)).await), ErrorKind::Unreachable, "{fault:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    wire.set(Fault::Delay(Duration::from_millis(20)));
    assert_eq!(whole(&backend, shard(1, 0)).await, Ok(pattern(50_000)), "slow is not gone");
}

#[tokio::test]
async fn a_truncated_answer_is_an_error_and_never_wrong_bytes() {
    let server = S3Server::start();
    let wire = FaultyWire::start(server.address()).await;
    let backend = open(&format!("s3://{BUCKET}/x"), &settings(wire.endpoint(), KEY_ID, SECRET));
    let bytes = pattern(200_000);
    put(&backend, shard(1, 0), &bytes).await.expect("put");
    let mut failures = 0;
    for cut in [0, 1, 100, 300, 500, 1000, 5_000, 60_000, 199_000, 1_000_000] {
        wire.set(Fault::CutAfter(cut));
        match backend.read(shard(1, 0), 10..190_000).await {
            Ok(read) => assert_eq!(read, bytes.slice(10..190_000), "{cut}"),
            Err(error) => {
                assert!(matches!(error.kind, ErrorKind::Transient | ErrorKind::Unreachable), "{cut}: {error}");
                failures += 1;
            }
        }
    }
    assert!(failures >= 5, "{failures} cuts were noticed");
}

/// A server's lies about a range, and honest answers that need a second look.
#[tokio::test]
async fn an_answer_that_is_not_the_range_is_sliced_or_refused() {
    let head = "ETag: \"e\"\r\nLast-Modified: Wed, 12 Oct 2022 17:50:00 GMT\r\nConnection: close\r\n";
    let cases: [(&str, Result<&str, ErrorKind>); 8] = [
        ("206 Partial Content\r\nContent-Range: bytes 2-4/9\r\nContent-Length: 3\r\n\r\ncde", Ok("cde")),
        ("200 OK\r\nContent-Length: 9\r\n\r\nabcdefghi", Ok("cde")),
        ("200 OK\r\nContent-Length: 4\r\n\r\nabcd", Err(ErrorKind::OutOfRange)),
        (
            "206 Partial Content\r\nContent-Range: bytes 2-3/4\r\nContent-Length: 2\r\n\r\ncd",
            Err(ErrorKind::OutOfRange),
        ),
        ("206 Partial Content\r\nContent-Range: bytes 1-3/9\r\nContent-Length: 3\r\n\r\nbcd", Err(ErrorKind::Failed)),
        ("206 Partial Content\r\nContent-Range: bytes 2-4/9\r\nContent-Length: 2\r\n\r\ncd", Err(ErrorKind::Transient)),
        (
            "206 Partial Content\r\nContent-Range: bytes 2-4/9\r\nContent-Length: 4\r\n\r\ncdef",
            Err(ErrorKind::Transient),
        ),
        ("416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n", Err(ErrorKind::OutOfRange)),
    ];
    for (answer, expected) in cases {
        let (status, rest) = answer.split_once("\r\n").expect("a status line");
        let parrot = Parrot::start(format!("HTTP/1.1 {status}\r\n{head}{rest}")).await;
        let backend = open("s3://bucket/x", &settings(parrot.endpoint(), KEY_ID, SECRET));
        let read = backend.read(shard(1, 0), 2..5).await.map_err(|error| error.kind);
        assert_eq!(read, expected.map(|bytes| bytes.as_bytes().into()), "{answer}");
        let again = backend.read(shard(1, 0), 2..5).await.map_err(|error| error.kind);
        assert_eq!(again, expected.map(|bytes| bytes.as_bytes().into()), "{answer} again");
    }
}

#[tokio::test]
async fn every_status_has_its_kind_over_the_wire() {
    let cases = [
        ("401 Unauthorized", "", ErrorKind::Denied),
        ("403 Forbidden", "<Error><Code>InvalidAccessKeyId</Code></Error>", ErrorKind::Denied),
        ("400 Bad Request", "<Error><Code>ExpiredToken</Code></Error>", ErrorKind::Denied),
        ("400 Bad Request", "", ErrorKind::Failed),
        ("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>", ErrorKind::Settings),
        ("301 Moved Permanently", "", ErrorKind::Settings),
        ("429 Too Many Requests", "", ErrorKind::Transient),
        ("500 Internal Server Error", "", ErrorKind::Transient),
        ("503 Service Unavailable", "<Error><Code>SlowDown</Code></Error>", ErrorKind::Transient),
        ("507 Insufficient Storage", "", ErrorKind::NoSpace),
    ];
    for (status, body, expected) in cases {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        let parrot = Parrot::start(answer).await;
        let backend = open("s3://bucket/x", &settings(parrot.endpoint(), KEY_ID, SECRET));
        assert_eq!(kind(backend.read(shard(1, 0), 0..1).await), expected, "{status} {body}");
        assert_eq!(kind(backend.list(None).await), expected, "{status} {body}");
    }
}

/// An empty listing would say that nothing is there, and a delete that was not made that something is not.
#[tokio::test]
async fn a_success_that_holds_an_error_is_an_error_unless_it_is_an_object() {
    let body = "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>";
    let head = "ETag: \"e\"\r\nLast-Modified: Wed, 12 Oct 2022 17:50:00 GMT\r\nConnection: close\r\n";
    let parrot = Parrot::start(format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    let backend = open("s3://bucket/x", &settings(parrot.endpoint(), KEY_ID, SECRET));
    assert_eq!(kind(backend.list(None).await), ErrorKind::Transient);
    assert_eq!(kind(backend.stats().await), ErrorKind::Transient);
    assert_eq!(kind(backend.delete(shard(1, 0)).await), ErrorKind::Transient);
    assert_eq!(kind(backend.clear_unfinished(shard(1, 0)).await), ErrorKind::Transient);
    let mark = Mark { store: StoreId([1; 32]), backend: BackendId([2; 16]) };
    assert_eq!(kind(backend.write_mark(&mark).await), ErrorKind::Transient);
    let read = backend.read(shard(1, 0), 1..5).await;
    assert_eq!(read.expect("it may be an object's bytes"), body.as_bytes()[1..5]);
}

#[tokio::test]
async fn a_completion_that_lies_is_found_out() {
    let server = S3Server::start();
    let backend = backend_at(&server, "x");
    let bytes = pattern(2 * PART_BYTES + 1);
    server.complete(Completion::ErrorInside);
    assert_eq!(put(&backend, shard(1, 0), &bytes).await, Err(ErrorKind::Transient));
    assert_eq!(server.unfinished_uploads(), 0, "the upload was aborted");
    server.complete(Completion::Short);
    assert_eq!(put(&backend, shard(1, 1), &bytes).await, Err(ErrorKind::Failed));
    server.complete(Completion::LostAnswer);
    assert_eq!(put(&backend, shard(1, 2), &bytes).await, Ok(bytes.len() as u64), "what is stored decides");
    for index in [0, 1] {
        assert_eq!(kind(backend.head(shard(1, index)).await), ErrorKind::NotFound, "nothing short stays");
    }
    assert_eq!(whole(&backend, shard(1, 2)).await, Ok(bytes));
}

#[tokio::test]
async fn clearing_aborts_what_a_killed_process_left() {
    let server = S3Server::start();
    let settings = settings(server.endpoint(), KEY_ID, SECRET);
    let place = format!("s3://{BUCKET}/deep/er in");
    let backend = open(&place, &settings);
    an_upload_begun_elsewhere_is_cleared(&backend, &settings, &place).await;
    assert_eq!(server.unfinished_uploads(), 1, "the upload of another shard goes on");
}

/// As one that failed leaves it whose server took no abort either.
#[tokio::test]
async fn a_replacement_clears_away_what_one_before_it_left() {
    let server = S3Server::start();
    let settings = settings(server.endpoint(), KEY_ID, SECRET);
    let backend = open(&format!("s3://{BUCKET}/r"), &settings);
    let bytes = pattern(PART_BYTES + 10);
    put(&backend, shard(1, 0), &bytes).await.expect("put");
    let path = Path::from(format!("r/{}", shard_name(shard(1, 0))));
    let id = raw_client(&settings, BUCKET).create_multipart(&path).await.expect("begun");
    assert!(!id.is_empty() && server.unfinished_uploads() == 1);
    let mut writer = backend.replace(shard(1, 0)).await.expect("a writer");
    writer.write(bytes).await.expect("written");
    writer.finish().await.expect("replaced");
    assert_eq!(server.unfinished_uploads(), 0);
}

fn raw_client(settings: &CloudSettings, bucket: &str) -> AmazonS3 {
    let variable = |name: &str| settings.environment[name].clone();
    AmazonS3Builder::new()
        .with_endpoint(settings.endpoint.clone().expect("an endpoint"))
        .with_allow_http(true)
        .with_bucket_name(bucket)
        .with_access_key_id(variable("AWS_ACCESS_KEY_ID"))
        .with_secret_access_key(variable("AWS_SECRET_ACCESS_KEY"))
        .build()
        .expect("a client")
}

/// Two uploads of one shard and one of another are begun; those of the one are gone after it is cleared.
pub(crate) async fn an_upload_begun_elsewhere_is_cleared(
    backend: &CloudBackend,
    settings: &CloudSettings,
    place: &str,
) {
    let url = Url::parse(place).expect("a URL");
    let raw = raw_client(settings, url.host_str().expect("a bucket"));
    let prefix = Path::from_url_path(url.path()).expect("a path");
    let path = |index| Path::from(format!("{prefix}/{}", shard_name(shard(60, index))));
    let (cleared, kept) = (path(1), path(11));
    let mut ids = Vec::new();
    for path in [&cleared, &cleared, &kept] {
        let id = raw.create_multipart(path).await.expect("begun");
        raw.put_part(path, &id, 0, pattern(100).into()).await.expect("a part");
        ids.push(id);
    }
    backend.clear_unfinished(shard(60, 1)).await.expect("cleared");
    for id in &ids[..2] {
        assert!(raw.put_part(&cleared, id, 1, pattern(100).into()).await.is_err(), "the upload is gone");
    }
    raw.put_part(&kept, &ids[2], 1, pattern(100).into()).await.expect("the other goes on");
    backend.clear_unfinished(shard(60, 2)).await.expect("nothing to clear");
}
