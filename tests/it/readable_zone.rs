//! What is dispersed and was put where one zone can read it: repair and drain find places for it, and say what they do.

use crate::desk::Desk;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// A store whose five places are on one disk, with a dispersed file that was put there all the same.
fn one_zone() -> Desk {
    let desk = Desk::new();
    desk.file("a", &[5; 50_000]);
    desk.run(&["put", "a", "--seal", "dispersed", "--allow-readable-zone"]);
    assert_eq!(desk.shard_files().len(), 5);
    desk
}

fn crowded(shards: &Value) -> Vec<bool> {
    shards.as_array().expect("shards").iter().map(|shard| shard["crowded_zone"].is_string()).collect()
}

#[test]
fn a_shard_of_a_readable_zone_whose_place_is_lost_goes_to_another_place_there_and_repair_says_so() {
    let desk = one_zone();
    fs::remove_dir_all(desk.backend(2)).expect("lost");
    let plan = desk.json(3, &["repair", "--dry-run", "--assume-lost", "local-2"]);
    let rebuilt = &plan["objects"][0]["rebuilt"];
    assert_eq!(crowded(rebuilt), [true]);
    let places = desk.json(0, &["backend", "list"]);
    let place = places["backends"].as_array().expect("places").iter().find(|place| place["name"] == rebuilt[0]["to"]);
    assert_eq!(rebuilt[0]["crowded_zone"], place.expect("it is listed")["zone"]);
    let outcome = desk.expect(0, &["repair", "--assume-lost", "local-2"]);
    assert!(outcome.stderr.contains("than its seal allows to one zone"), "{}", outcome.stderr);
    assert_eq!(desk.shard_files().len(), 5);
    let again = desk.json(0, &["repair", "--assume-lost", "local-2"]);
    assert_eq!((&again["objects"][0]["after"], &again["bytes_written"]), (&"healthy".into(), &0.into()));
    assert_eq!(desk.expect(0, &["recover", "a", "-o", "-"]).stdout, [5; 50_000]);
}

#[test]
fn a_place_of_a_readable_zone_can_be_drained_and_drain_says_what_that_means() {
    let desk = one_zone();
    let drained = desk.json(0, &["backend", "drain", "local-1"]);
    assert_eq!((crowded(&drained["moved"]), &drained["empty"]), (vec![true], &true.into()));
    let outcome = desk.expect(0, &["backend", "drain", "local-2"]);
    assert!(outcome.stderr.contains("holds more shards of object"), "{}", outcome.stderr);
    assert_eq!(desk.expect(0, &["recover", "a", "-o", "-"]).stdout, [5; 50_000]);
}

#[test]
fn what_no_zone_can_read_stays_so_though_a_shard_then_has_no_place() {
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    for number in 2..=7 {
        // Two places in each of three zones.
        let (name, zone) = (format!("p{number}"), format!("zone-{}", number / 2));
        fs::create_dir_all(desk.path(&name)).expect("a folder");
        desk.expect(0, &["backend", "add", &name, desk.path(&name).to_str().expect("UTF-8"), "--zone", &zone]);
    }
    desk.file("a", &[6; 50_000]);
    desk.run(&["put", "a", "--seal", "dispersed", "--shards", "2/3"]);
    let report = desk.json(0, &["verify"]);
    let places: Vec<&str> = report["objects"][0]["shards"]
        .as_array()
        .expect("shards")
        .iter()
        .filter_map(|s| s["backend"].as_str())
        .collect();
    let zone = |place: &str| place[1..].parse::<usize>().expect("a number") / 2;
    // All places of one zone are lost: the others must not get its shard, for each of them has one.
    let lost: Vec<String> = (2..=7).filter(|number| number / 2 == zone(places[0])).map(|n| format!("p{n}")).collect();
    let mut words = vec!["repair"];
    for place in &lost {
        fs::remove_dir_all(desk.path(place)).expect("lost");
        words.extend(["--assume-lost", place.as_str()]);
    }
    let report = desk.json(3, &words);
    let left = &report["objects"][0]["left"][0];
    assert_eq!((&report["bytes_written"], &left["backend"]), (&0.into(), &Value::Null));
    assert!(left["reason"].as_str().is_some_and(|reason| reason.contains("seal allows")), "{left}");
    assert_eq!(desk.expect(3, &["recover", "a", "-o", "back"]).code, 3);
    assert_eq!(fs::read(desk.path("back")).expect("a file"), [6; 50_000]);
}

/// How many shards of its only object each zone of a desk has, where a place is called after its zone.
fn loads(desk: &Desk) -> BTreeMap<String, usize> {
    let report: Value = serde_json::from_slice(&desk.run(&["verify", "--json"]).stdout).expect("JSON");
    let mut loads = BTreeMap::new();
    for shard in report["objects"][0]["shards"].as_array().expect("shards").iter().filter(|s| s["state"] != "missing") {
        let place = shard["backend"].as_str().expect("a place");
        *loads.entry(place[..2].to_owned()).or_default() += 1;
    }
    loads
}

/// At 2/5 three shards may be lost, and two already read: the limit is what may be read, not what may be lost.
#[test]
fn neither_put_nor_drain_brings_a_zone_as_many_shards_as_open_the_object() {
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    let add = |name: &str| {
        let path = desk.path(name);
        fs::create_dir_all(&path).expect("a folder");
        desk.expect(0, &["backend", "add", name, path.to_str().expect("UTF-8"), "--zone", &name[..2]]);
    };
    ["z1a", "z1b", "z2a", "z2b", "z3a", "z3b"].into_iter().for_each(add);
    desk.file("a", &[7; 50_000]);
    let put = ["put", "a", "--seal", "dispersed", "--shards", "2/5"];
    assert_eq!(desk.failure(1, &put)["kind"], "refused", "with one shard in a zone three find a place, and four must");
    assert!(shards_anywhere(&desk).is_empty(), "nothing stays of it");
    add("z4a");
    let outcome = desk.run(&put);
    assert!(matches!(outcome.code, 0 | 3), "{}", outcome.stderr);
    assert_eq!(loads(&desk).into_values().collect::<Vec<_>>(), [1; 4]);
    // Every other place is in a zone that has its shard.
    assert_ne!(desk.run(&["backend", "drain", "z4a"]).code, 0);
    assert_eq!(loads(&desk).into_values().collect::<Vec<_>>(), [1; 4]);
    add("z5a");
    desk.expect(0, &["backend", "drain", "z4a"]);
    assert_eq!(loads(&desk).keys().collect::<Vec<_>>(), ["z1", "z2", "z3", "z5"]);
    assert_eq!(desk.run(&["recover", "a", "-o", "-"]).stdout, [7; 50_000]);
}

/// The shard files on the places of a desk, wherever these are.
fn shards_anywhere(desk: &Desk) -> Vec<std::path::PathBuf> {
    let files = walkdir::WalkDir::new(desk.home()).into_iter().filter_map(Result::ok).map(walkdir::DirEntry::into_path);
    files.filter(|path| path.extension().is_some_and(|extension| extension == "shard")).collect()
}

#[test]
fn what_one_shard_alone_opens_is_refused_whatever_is_allowed() {
    let desk = Desk::new();
    desk.file("a", b"for whoever finds it");
    let words = ["put", "a", "--seal", "dispersed", "--shards", "1/3"];
    for words in [&words[..], &[&words[..], &["--allow-readable-zone"]].concat()] {
        let refused = desk.failure(1, words);
        assert_eq!(refused["kind"], "refused");
        assert!(refused["hint"].as_str().is_some_and(|hint| !hint.contains("--allow-readable-zone")), "{refused}");
    }
    assert!(desk.shard_files().is_empty());
}
