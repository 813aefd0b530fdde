//! Places as a person meets them: memory, a second zone, disks that are away, settings that are lost.

use super::desk::{Desk, Outcome, noise};
use serde_json::Value;
use std::fs;

fn desk_with(name: &str, length: usize) -> Desk {
    let desk = Desk::new();
    desk.file(name, &noise(length, 5));
    desk.expect(0, &["put", name]);
    desk
}

fn margins(object: &Value) -> (Option<u64>, Option<u64>) {
    (object["margin"].as_u64(), object["backend_margin"].as_u64())
}

fn says(outcome: &Outcome, wanted: &str) {
    assert!(outcome.stderr.contains(wanted), "{wanted:?} is not in {}", outcome.stderr);
}

#[test]
fn memory_takes_no_shard_from_a_lasting_place_and_stands_in_no_ones_way() {
    let desk = desk_with("a", 70_000);
    desk.expect(0, &["backend", "add", "mem1", "memory:", "--zone", "z1"]);
    desk.expect(0, &["verify"]);
    let repaired = desk.json(0, &["repair"]);
    assert_eq!(repaired["bytes_written"], 0, "{repaired}");
    desk.expect(0, &["recover", "a", "-o", "back"]);
    desk.file("b", &noise(70_000, 6));
    let put = desk.json(0, &["put", "b"]);
    let shards = put["objects"][0]["shards"].as_array().expect("shards");
    assert!(shards.iter().all(|shard| shard["backend"] != "mem1"), "{put}");
    fs::remove_dir_all(desk.backend(2)).expect("removed");
    let repaired = desk.json(0, &["repair", "--assume-lost", "local-2"]);
    assert!(!repaired.to_string().contains("mem1"), "{repaired}");
    desk.expect(0, &["remove", "b"]);
}

#[test]
fn a_second_zone_from_which_nothing_is_gained_moves_nothing_and_takes_nothing_away() {
    let desk = desk_with("a", 70_000);
    desk.expect(0, &["backend", "add", "nas", "nas", "--zone", "cellar"]);
    let seen = desk.json(0, &["verify"]);
    assert_eq!(margins(&seen["objects"][0]), (Some(0), Some(2)));
    assert_eq!(desk.json(0, &["repair"])["bytes_written"], 0);
    desk.file("b", &noise(70_000, 6));
    let put = desk.json(0, &["put", "b"]);
    assert_eq!(margins(&put["objects"][0]), (Some(0), Some(2)));
    desk.expect(0, &["backend", "add", "far", "far", "--zone", "cloud"]);
    desk.expect(3, &["verify"]);
    desk.expect(0, &["repair"]);
    let seen = desk.json(0, &["verify"]);
    for object in seen["objects"].as_array().expect("objects") {
        assert_eq!(margins(object).0, Some(1), "{object}");
    }
}
