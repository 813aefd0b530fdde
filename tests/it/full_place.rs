//! A place with no room for a shard: what is told of it does not change from run to run.

use crate::desk::{Desk, noise};

/// Five places in zones of their own, of which the last has room for small shards alone.
fn desk() -> Desk {
    let desk = Desk::in_memory();
    desk.expect(0, &["init", "--bare"]);
    for number in 1..=5 {
        let (name, path, zone) = (format!("b{number}"), desk.path(&format!("disk-{number}")), format!("z{number}"));
        let mut words = vec!["backend", "add", &name, path.to_str().expect("UTF-8"), "--zone", &zone];
        if number == 5 {
            words.extend(["--quota", "100KB"]);
        }
        desk.expect(0, &words);
    }
    desk
}

#[test]
fn verify_and_repair_say_the_same_of_an_object_whose_better_place_is_full_whatever_was_written_there_since() {
    let desk = desk();
    desk.file("large", &noise(1_000_000, 1));
    desk.file("small", &noise(1000, 2));
    let put = desk.run(&["put", "large"]);
    assert!([0, 3].contains(&put.code), "{}", put.stderr);
    assert!(put.stderr.contains("b5 (it has no room)") && !put.stderr.contains("are back"), "{}", put.stderr);
    for round in 0..3 {
        let verified = desk.json(0, &["verify"]);
        assert_eq!(verified["summary"]["degraded"], 0, "round {round}: {verified}");
        let repaired = desk.json(0, &["repair"]);
        assert_eq!(repaired["bytes_written"], 0, "round {round}: {repaired}");
        assert_eq!(desk.json(0, &["verify", "--quick"])["summary"]["degraded"], 0, "round {round}");
        // It takes what is small: that it failed once is forgotten.
        desk.expect(0, &["put", "small", "--name", &format!("small-{round}")]);
    }
}
