//! A store over S3 while servers go away, come back, dawdle and hang up.

use crate::cloud_store_bucket::Bucket;
use crate::desk::{Desk, Outcome, noise};
use crate::s3_server::{BUCKET, Fault, FaultyWire, KEY_ID, S3Server, SECRET};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

/// A shard of a stream this long is three parts, at three data shards.
const STREAM_BYTES: usize = 36_000_000;
/// When so much has gone into the pipe, the first part of every shard is on its way.
const BEGUN_BYTES: usize = 24_000_000;
/// No part takes this long to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store whose backends each have a server of their own.
struct Sites {
    servers: Vec<S3Server>,
    desk: Desk,
}

impl Sites {
    fn new(count: usize) -> Self {
        Self::with(count, &[])
    }

    /// With this said of every backend.
    fn with(count: usize, more: &[&str]) -> Self {
        let servers: Vec<_> = (0..count).map(|_| S3Server::start()).collect();
        let mut desk = Desk::new();
        desk.set("AWS_ACCESS_KEY_ID", KEY_ID);
        desk.set("AWS_SECRET_ACCESS_KEY", SECRET);
        desk.expect(0, &["init", "--bare"]);
        for (number, server) in servers.iter().enumerate() {
            let (name, url, zone) = (site(number), format!("s3://{BUCKET}/shards"), format!("zone-{number}"));
            let endpoint = server.endpoint();
            let words = ["backend", "add", &name, &url, "--endpoint", &endpoint, "--zone", &zone];
            desk.expect(0, &[&words, more].concat());
        }
        Self { servers, desk }
    }

    fn stop(&mut self, numbers: impl IntoIterator<Item = usize>) {
        numbers.into_iter().for_each(|number| self.servers[number].stop());
    }

    fn start_again(&mut self, numbers: impl IntoIterator<Item = usize>) {
        numbers.into_iter().for_each(|number| self.servers[number].start_again());
    }

    /// The sites where a multipart upload has begun and not ended.
    fn uploading(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|number| self.servers[*number].unfinished_uploads() > 0).collect()
    }

    /// Begins to put a stream, and comes back when parts of all five shards have arrived.
    fn begin_put(&self, bytes: &[u8]) -> (Child, ChildStdin) {
        let mut command = self.desk.command();
        command.args(["put", "-", "--name", "stream", "--json"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(&bytes[..BEGUN_BYTES]).expect("taken");
        let begun = Instant::now();
        while self.uploading().len() < 5 {
            assert!(begun.elapsed() < PATIENCE, "only {:?} upload", self.uploading());
            std::thread::yield_now();
        }
        (child, pipe)
    }

    /// Puts a stream, in the middle of which so many of its servers go away. Says which.
    fn put_while_servers_go(&mut self, bytes: &[u8], gone_count: usize) -> (Outcome, Vec<usize>) {
        let (child, mut pipe) = self.begin_put(bytes);
        let gone: Vec<_> = self.uploading().into_iter().take(gone_count).collect();
        self.stop(gone.iter().copied());
        // A put that has given up reads no more.
        let _may_have_ended = pipe.write_all(&bytes[BEGUN_BYTES..]);
        drop(pipe);
        let output = child.wait_with_output().expect("it ended");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        let code = output.status.code().expect("it ended by itself");
        (Outcome { code, stdout: output.stdout, stderr }, gone)
    }

    /// No upload that nobody finishes, and as many shards as the catalog knows.
    fn have_nothing_stray(&self, shard_count: usize) {
        assert_eq!(self.uploading(), Vec::<usize>::new(), "no upload is left");
        let entries = |server: &S3Server| walkdir::WalkDir::new(server.bucket_folder(BUCKET)).into_iter();
        let files: Vec<_> = self.servers.iter().flat_map(entries).map(|entry| entry.expect("an entry")).collect();
        let shards = files.iter().filter(|file| file.path().extension().is_some_and(|ending| ending == "shard"));
        assert_eq!(shards.count(), shard_count);
    }

    fn holds(&self, bytes: &[u8], code: i32) {
        let output = self.desk.expect(code, &["recover", "stream", "-o", "-"]);
        assert!(output.stdout == bytes, "the stream comes back as it was");
    }
}

fn site(number: usize) -> String {
    format!("site-{number}")
}

#[test]
fn a_server_gone_in_the_middle_of_a_put_costs_nothing_while_there_is_another() {
    let (mut sites, bytes) = (Sites::new(6), noise(STREAM_BYTES, 3));
    let (put, gone) = sites.put_while_servers_go(&bytes, 1);
    assert_eq!(put.code, 0, "{}", put.stderr);
    assert!(put.stderr.contains(&site(gone[0])), "{} is named: {}", site(gone[0]), put.stderr);
    let report: Value = serde_json::from_slice(&put.stdout).expect("JSON");
    let shards = report["objects"][0]["shards"].as_array().expect("shards");
    assert!(shards.iter().all(|shard| shard["state"] == "ok" && shard["backend"] != site(gone[0])), "{report}");
    assert_eq!(report["objects"][0]["margin"], 2);
    sites.desk.expect(0, &["verify"]);
    sites.holds(&bytes, 0);
    sites.start_again(gone.iter().copied());
    sites.desk.expect(0, &["backend", "drain", &site(gone[0])]);
    sites.have_nothing_stray(5);
}

#[test]
fn a_put_that_loses_a_server_and_finds_no_room_elsewhere_is_degraded_until_it_is_repaired() {
    // One shard has room on each site, and two have not.
    let (mut sites, bytes) = (Sites::with(5, &["--quota", "15MB"]), noise(STREAM_BYTES, 4));
    let (put, gone) = sites.put_while_servers_go(&bytes, 1);
    assert_eq!(put.code, 3, "{}", put.stderr);
    sites.desk.expect(3, &["verify"]);
    sites.holds(&bytes, 0);
    sites.start_again(gone);
    sites.desk.expect(3, &["verify"]);
    sites.desk.expect(0, &["repair"]);
    sites.desk.expect(0, &["verify"]);
    sites.have_nothing_stray(5);
}

#[test]
fn a_put_that_loses_every_server_fails_and_leaves_no_trace_once_they_are_back() {
    let (mut sites, bytes) = (Sites::new(5), noise(STREAM_BYTES, 5));
    let (put, gone) = sites.put_while_servers_go(&bytes, 5);
    assert_eq!(put.code, 1, "{}", put.stderr);
    assert_eq!(put.stdout, b"");
    assert_eq!(sites.desk.listed(), Vec::<String>::new());
    sites.start_again(gone);
    sites.desk.expect(0, &["gc"]);
    sites.have_nothing_stray(0);
    sites.desk.file("stream", &bytes);
    sites.desk.expect(0, &["put", "stream"]);
    sites.holds(&bytes, 0);
    sites.have_nothing_stray(5);
}

#[test]
fn a_put_killed_in_the_middle_leaves_no_upload_once_it_is_cleared_away() {
    let sites = Sites::new(5);
    let (mut child, pipe) = sites.begin_put(&noise(STREAM_BYTES, 10));
    child.kill().expect("killed");
    child.wait().expect("it ended");
    drop(pipe);
    assert_eq!(sites.uploading().len(), 5, "the servers keep what was begun");
    sites.desk.expect(0, &["gc"]);
    assert_eq!(sites.desk.listed(), Vec::<String>::new());
    sites.have_nothing_stray(0);
}

#[test]
fn servers_that_are_away_are_waited_for_and_lose_nothing() {
    let (mut sites, bytes) = (Sites::new(5), noise(1_000_000, 6));
    sites.desk.file("stream", &bytes);
    sites.desk.expect(0, &["put", "stream"]);
    sites.stop([0, 1]);
    sites.desk.expect(3, &["verify"]);
    assert_eq!(sites.desk.json(3, &["repair"])["bytes_written"], 0, "what is away is not lost");
    sites.holds(&bytes, 3);
    sites.stop([2]);
    sites.desk.expect(5, &["verify"]);
    sites.desk.expect(5, &["status", "--check"]);
    assert_eq!(sites.desk.failure(5, &["recover", "stream", "-o", "back"])["kind"], "unavailable");
    assert!(!sites.desk.path("back").exists());
    sites.start_again([0, 1, 2]);
    sites.desk.expect(0, &["verify"]);
    sites.holds(&bytes, 0);
}

#[test]
fn a_removal_reaches_a_server_that_was_away() {
    let (mut sites, bytes) = (Sites::new(5), noise(500_000, 7));
    sites.desk.file("stream", &bytes);
    sites.desk.expect(0, &["put", "stream"]);
    sites.stop([4]);
    let removed = sites.desk.json(0, &["remove", "stream"]);
    assert_eq!(removed["waiting"][0]["backend"], "site-4", "{removed}");
    sites.start_again([4]);
    sites.desk.expect(0, &["gc"]);
    // Those of the removal itself: other machines are to hear of it.
    sites.have_nothing_stray(5);
}

/// A server behind five wires, and a store that has a file there. The wires live as long as the runtime.
struct Wired {
    _server: S3Server,
    runtime: tokio::runtime::Runtime,
    wires: Vec<FaultyWire>,
    desk: Desk,
    bytes: Vec<u8>,
}

impl Wired {
    fn new(length: usize) -> Self {
        let server = S3Server::start();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let bucket = Bucket::of(&server);
        let (desk, bytes) = (bucket.desk(), noise(length, 9));
        desk.expect(0, &["init", "--bare"]);
        let mut wires = Vec::new();
        for number in 0..5 {
            let wire = runtime.block_on(FaultyWire::start(server.address()));
            let (name, zone) = (site(number), format!("zone-{number}"));
            let url = bucket.url(&name);
            desk.expect(0, &["backend", "add", &name, &url, "--endpoint", &wire.endpoint(), "--zone", &zone]);
            wires.push(wire);
        }
        desk.file("a", &bytes);
        desk.expect(0, &["put", "a"]);
        Self { _server: server, runtime, wires, desk, bytes }
    }

    fn set(&self, count: usize, fault: Fault) {
        let _inside = self.runtime.enter();
        self.wires.iter().take(count).for_each(|wire| wire.set(fault));
    }

    /// Recovers to a file: the bytes that were put, or a failure and no file.
    fn recover(&self, output: &str) -> i32 {
        let outcome = self.desk.run(&["recover", "a", "-o", output]);
        match fs::read(self.desk.path(output)) {
            Ok(found) => assert!(matches!(outcome.code, 0 | 3) && found == self.bytes, "{}", outcome.stderr),
            Err(_) => assert!(outcome.code == 5 && outcome.stderr.contains("error: "), "{}", outcome.stderr),
        }
        outcome.code
    }
}

#[test]
fn slow_answers_are_waited_for() {
    let wired = Wired::new(400_000);
    wired.set(5, Fault::Delay(Duration::from_millis(10)));
    assert_eq!(wired.recover("slow"), 0);
    wired.desk.expect(0, &["verify"]);
}

#[test]
fn truncated_answers_give_the_right_bytes_or_a_failure_and_never_wrong_ones() {
    let wired = Wired::new(400_000);
    for (number, cut) in [300, 5_000, 100_000].into_iter().enumerate() {
        wired.set(2, Fault::CutAfter(cut));
        let code = wired.recover(&format!("two-{number}"));
        assert!(matches!(code, 0 | 3), "three honest places are enough, whatever two do: {cut}");
    }
    wired.set(5, Fault::CutAfter(5_000));
    assert_eq!(wired.recover("five"), 5, "blocks are longer than what comes through");
    let streamed = wired.desk.run(&["recover", "a", "-o", "-"]);
    assert!(streamed.code == 5 && wired.bytes.starts_with(&streamed.stdout), "{}", streamed.stderr);
    wired.set(5, Fault::Pass);
    assert_eq!(wired.recover("whole"), 0);
}
