//! A store over S3 whose servers refuse it: what is said, what to do about it, and no secret in any of it.

use crate::cloud_store_bucket::Bucket;
use crate::desk::{Desk, noise};
use crate::s3_server::{S3Server, SECRET};
use serde_json::Value;

/// A secret that opens nothing.
const WRONG_SECRET: &str = "HushThisSecretOpensNothing";

/// What is said of a place that cannot be added: why, what to do, and never a secret.
fn refusal(desk: &Desk, secret: &str, words: &[&str]) -> Value {
    let failure = desk.failure(1, words);
    let said = desk.expect(1, words);
    assert!(!failure.to_string().contains(secret) && !said.stderr.contains(secret), "{}", said.stderr);
    assert!(said.stdout.is_empty() && said.stderr.contains("hint: "), "{}", said.stderr);
    assert!(said.stderr.lines().count() <= 3, "{}", said.stderr);
    assert!(failure["message"].as_str().is_some_and(|message| message.contains("elsewhere")), "{failure}");
    failure
}

#[test]
fn a_wrong_secret_is_told_with_what_to_look_at_and_is_never_shown() {
    let server = S3Server::start();
    let bucket = Bucket::of(&server);
    let mut desk = bucket.desk();
    desk.expect(0, &["init", "--bare"]);
    for place in ["one", "two", "three"] {
        bucket.add(&desk, place, &[]);
    }
    desk.file("a", &noise(100_000, 8));
    desk.expect(0, &["put", "a", "--level", "minimal"]);
    desk.set("AWS_SECRET_ACCESS_KEY", WRONG_SECRET);
    let url = bucket.url("elsewhere");
    let failure = refusal(&desk, WRONG_SECRET, &["backend", "add", "elsewhere", &url, "--endpoint", bucket.endpoint()]);
    assert!(failure["causes"].to_string().contains("SignatureDoesNotMatch"), "{failure}");
    assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("credentials")), "{failure}");
    for (code, words) in [
        (1, &["put", "a", "--name", "b"][..]),
        (5, &["recover", "a", "-o", "back"]),
        (5, &["verify"]),
        (5, &["repair"]),
        (3, &["backend", "check"]),
        (5, &["status", "--check"]),
        (1, &["remove", "a"]),
    ] {
        let outcome = desk.expect(code, words);
        assert!(!outcome.stderr.contains(WRONG_SECRET) && !outcome.text().contains(WRONG_SECRET), "{words:?}");
    }
    assert!(!desk.path("back").exists());
    desk.set("AWS_SECRET_ACCESS_KEY", bucket.secret());
    desk.expect(0, &["verify"]);
}

#[test]
fn a_missing_bucket_or_server_is_told_with_what_to_look_at() {
    let mut server = S3Server::start();
    let desk = Bucket::of(&server).desk();
    desk.expect(0, &["init", "--bare"]);
    let add = |url| ["backend", "add", "elsewhere", url, "--endpoint"];
    let endpoint = server.endpoint();
    let failure = refusal(&desk, SECRET, &[&add("s3://not-there/x")[..], &[&endpoint]].concat());
    assert_eq!(failure["kind"], "invalid");
    assert!(failure["causes"].to_string().contains("does not exist on the server"), "{failure}");
    assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("bucket")), "{failure}");
    server.stop();
    let gone = desk.failure(5, &[&add("s3://shards/x")[..], &[&endpoint]].concat());
    assert!(gone["hint"].as_str().is_some_and(|hint| hint.contains("endpoint")), "{gone}");
    let listed = desk.json(0, &["backend", "list"]);
    assert_eq!(listed["backends"].as_array().map(Vec::len), Some(0), "nothing was added");
}
