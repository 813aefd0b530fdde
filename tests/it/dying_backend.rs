//! A backend that dies in the middle of a long put from standard input: its shard is made again elsewhere, or the put is
//! degraded, or nothing stays.

use crate::desk::{Desk, Outcome};
use crate::s3_server::{BUCKET, KEY_ID, S3Server, SECRET};
use crate::soak;
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

/// How much is put at once in this harness.
const CHUNK_BYTES: usize = 1_000_000;

/// How long the stream is that a backend does not outlive.
const LONG_BYTES: u64 = 500_000_000;

/// How long it is where a run has no time for more than one long stream; when soaking, every one is.
fn short_bytes() -> u64 {
    if soak::is_asked_for() { LONG_BYTES } else { 64_000_000 }
}

/// A shard of a short stream at 3 of 5, with room for what is around its blocks, and not for a second one.
fn quota_bytes() -> u64 {
    short_bytes() / 3 * 11 / 10 + 1_000_000
}

/// A desk with a bare store and local backends, each in a zone of its own.
fn desk_with(backends: usize, quota: Option<u64>) -> Desk {
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    for number in 1..=backends {
        let (name, folder, zone) = (format!("b{number}"), format!("places/{number}"), format!("zone-{number}"));
        let mut words = vec!["backend", "add", &name, &folder, "--zone", &zone];
        let quota = quota.map(|quota| quota.to_string());
        words.extend(quota.iter().flat_map(|quota| ["--quota", quota]));
        desk.expect(0, &words);
    }
    desk
}

fn place(desk: &Desk, number: usize) -> PathBuf {
    desk.path("places").join(number.to_string())
}

/// What went in.
#[derive(Debug, PartialEq, Eq)]
struct Stream {
    bytes: u64,
    hash: blake3::Hash,
}

/// Puts a stream, does something when half of it has gone in, and gives the outcome and what went in.
#[expect(clippy::print_stdout, reason = "how long it took belongs to the result")]
fn put_stream(desk: &Desk, bytes: u64, at_half: impl FnOnce()) -> (Outcome, Stream) {
    let begun = Instant::now();
    let mut command = desk.command();
    command.args(["put", "-", "--name", "stream", "--level", "personal", "--json"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a child");
    let mut stdin = child.stdin.take().expect("a pipe");
    let (mut hasher, mut chunk, mut content) = (blake3::Hasher::new(), vec![0; CHUNK_BYTES], content());
    let mut at_half = Some(at_half);
    for written in (0..bytes).step_by(CHUNK_BYTES) {
        if written >= bytes / 2
            && let Some(act) = at_half.take()
        {
            act();
        }
        content.fill(&mut chunk);
        hasher.update(&chunk);
        if stdin.write_all(&chunk).is_err() {
            break;
        }
    }
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    println!("put of {bytes} bytes: {:?}", begun.elapsed());
    let outcome = Outcome {
        code: output.status.code().expect("it ended by itself"),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    };
    (outcome, Stream { bytes, hash: hasher.finalize() })
}

fn content() -> blake3::OutputReader {
    blake3::Hasher::new_derive_key("shard tests: a long stream").finalize_xof()
}

/// Recovers the stream through a pipe: it is what went in.
fn assert_comes_back(desk: &Desk, expected: &Stream) {
    let mut command = desk.command();
    command.args(["recover", "stream", "-o", "-", "-q"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a child");
    let (mut hasher, mut bytes, mut chunk) = (blake3::Hasher::new(), 0, vec![0; CHUNK_BYTES]);
    let mut stdout = child.stdout.take().expect("a pipe");
    while let count @ 1.. = stdout.read(&mut chunk).expect("it can be read") {
        hasher.update(&chunk[..count]);
        bytes += count as u64;
    }
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(&Stream { bytes, hash: hasher.finalize() }, expected);
}

fn document(outcome: &Outcome) -> serde_json::Value {
    serde_json::from_slice(&outcome.stdout).expect("JSON")
}

/// Where the shards of the only object are, by index.
fn backends_of(put: &serde_json::Value) -> Vec<Option<String>> {
    let shards = put["objects"][0]["shards"].as_array().expect("shards");
    shards.iter().map(|shard| shard["backend"].as_str().map(ToOwned::to_owned)).collect()
}

fn die(desk: &Desk, number: usize) {
    fs::remove_dir_all(place(desk, number)).expect("it goes away");
}

/// Everything on a backend but its mark.
fn left_on(desk: &Desk, number: usize) -> Vec<PathBuf> {
    let files = crate::recover_desk::files_below(&place(desk, number));
    files.into_keys().filter(|path| !path.ends_with("shard.mark")).collect()
}

#[test]
fn a_folder_that_goes_away_in_the_middle_loses_its_shard_to_another_before_the_end() {
    let desk = desk_with(6, None);
    let (put, stream) = put_stream(&desk, LONG_BYTES, || die(&desk, 2));
    assert_eq!(put.code, 0, "{}", put.stderr);
    assert!(put.stderr.contains("backend b2 failed while a shard was written"), "{}", put.stderr);
    let backends: Vec<_> = backends_of(&document(&put)).into_iter().flatten().collect();
    assert!(backends.len() == 5 && !backends.contains(&"b2".to_owned()), "{backends:?}");
    assert!(backends.contains(&"b6".to_owned()), "{backends:?}");
    assert_eq!(document(&put)["objects"][0]["margin"], 2);
    desk.expect(0, &["verify"]);
    assert_comes_back(&desk, &stream);
}

#[test]
fn an_s3_server_that_goes_away_in_the_middle_loses_its_shard_to_another_before_the_end() {
    let mut server = S3Server::start();
    let desk = desk_with(5, None);
    let account = format!("[one]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n");
    desk.file(".aws/credentials", account.as_bytes());
    let (url, endpoint) = (format!("s3://{BUCKET}/x"), server.endpoint());
    desk.expect(0, &["backend", "add", "cloud", &url, "--endpoint", &endpoint, "--profile", "one", "--zone", "cloud"]);
    // The first object begins with the first backend; the next with the second, and so comes to the server.
    desk.file("first", b"first");
    desk.expect(0, &["put", "first"]);
    let (put, stream) = put_stream(&desk, short_bytes(), || server.stop());
    assert_eq!(put.code, 0, "{}", put.stderr);
    assert!(put.stderr.contains("backend cloud failed while a shard was written"), "{}", put.stderr);
    let backends: Vec<_> = backends_of(&document(&put)).into_iter().flatten().collect();
    assert!(backends.len() == 5 && !backends.contains(&"cloud".to_owned()), "{backends:?}");
    assert_comes_back(&desk, &stream);
}

#[test]
fn without_another_place_the_put_is_degraded_and_exits_3() {
    let desk = desk_with(5, Some(quota_bytes()));
    let (put, stream) = put_stream(&desk, short_bytes(), || die(&desk, 2));
    assert_eq!(put.code, 3, "{}", put.stderr);
    let document = document(&put);
    let shards = document["objects"][0]["shards"].as_array().expect("shards");
    let missing: Vec<_> = shards.iter().filter(|shard| shard["state"] == "missing").collect();
    assert!(missing.len() == 1 && missing[0]["backend"].is_null(), "{document}");
    assert_eq!(document["objects"][0]["margin"], 1);
    desk.expect(3, &["verify"]);
    assert_comes_back(&desk, &stream);
}

#[test]
fn below_the_quorum_the_put_exits_1_and_leaves_no_trace() {
    let desk = desk_with(5, Some(quota_bytes()));
    let (put, _) = put_stream(&desk, short_bytes(), || [2, 4].into_iter().for_each(|number| die(&desk, number)));
    assert_eq!((put.code, put.stdout.is_empty()), (1, true), "{}", put.stderr);
    let failure: serde_json::Value = serde_json::from_str(put.stderr.lines().last().expect("a failure")).expect("JSON");
    assert_eq!(failure["kind"], "below-quorum");
    assert_eq!(failure["message"], "3 of 5 shards could be made durable, and 4 must be");
    assert!(desk.listed().is_empty());
    for number in [1, 3, 5] {
        assert_eq!(left_on(&desk, number), Vec::<PathBuf>::new());
    }
    let status = desk.run(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["leftovers"], 0, "{status}");
}
