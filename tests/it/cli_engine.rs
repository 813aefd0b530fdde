//! `SHARD_CODEC`: the engine that blocks are coded with, chosen from outside.

use super::desk::{Desk, noise};
use shard::codec::Engine;
use std::fs;

#[test]
fn what_one_engine_stored_every_other_recovers() {
    let available = Engine::available();
    for (number, engine) in available.iter().enumerate() {
        let mut desk = Desk::new();
        let content = noise(300_001, number as u64);
        desk.file("a.bin", &content);
        desk.set("SHARD_CODEC", engine.name());
        desk.expect(0, &["put", "a.bin", "--level", "personal"]);
        for backend in [1, 2] {
            fs::remove_dir_all(desk.backend(backend).join("objects")).expect("it was there");
        }
        let other = available[(number + 1) % available.len()];
        desk.set("SHARD_CODEC", other.name());
        desk.expect(3, &["recover", "a.bin", "-o", "back.bin"]);
        assert!(fs::read(desk.path("back.bin")).expect("recovered") == content, "{engine}, then {other}");
        desk.expect(0, &["repair"]);
        desk.expect(0, &["verify"]);
    }
}

#[test]
fn the_engine_that_is_named_is_the_one_that_is_used() {
    let mut desk = Desk::new();
    for engine in Engine::available() {
        desk.set("SHARD_CODEC", engine.name());
        let said = desk.expect(0, &["-v", "completions", "bash"]).stderr;
        assert!(said.contains(&format!("codec engine=\"{engine}\"")), "{engine}: {said}");
    }
    // Set to nothing is not set.
    desk.set("SHARD_CODEC", "");
    let said = desk.expect(0, &["-v", "completions", "bash"]).stderr;
    assert!(said.contains(&format!("\"{}\"", Engine::by_default())), "{said}");
}

#[test]
fn an_engine_that_is_not_there_is_wrong_usage_and_the_hint_names_those_that_are() {
    let mut desk = Desk::new();
    let absent = Engine::ALL.into_iter().find(|engine| !engine.is_available()).expect("no processor has all");
    for (name, why) in [("sse9", "is no codec engine"), (absent.name(), "this processor cannot run the codec engine")] {
        desk.set("SHARD_CODEC", name);
        let failure = desk.failure(2, &["list"]);
        assert_eq!(
            (&failure["kind"], &failure["message"]),
            (&"usage".into(), &"SHARD_CODEC cannot be followed".into())
        );
        let cause = failure["causes"][0].as_str().expect("a cause");
        assert!(cause.contains(why) && cause.contains(name), "{cause}");
        let hint = failure["hint"].as_str().expect("a hint");
        assert!(Engine::available().into_iter().all(|engine| hint.contains(engine.name())), "{hint}");
    }
}
