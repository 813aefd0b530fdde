//! A place with no room for a shard: what is told of it does not change from run to run.

use crate::desk::{Desk, noise};
use std::fs;
use std::path::{Path, PathBuf};

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

#[test]
fn a_damaged_shard_in_a_full_place_is_replaced_where_it_is_though_another_would_have_to_move_there() {
    let desk = Desk::in_memory();
    desk.expect(0, &["init", "--bare"]);
    for (number, quota) in [(1, Some("500KB")), (2, None), (3, Some("500KB"))] {
        let (name, path, zone) = (format!("b{number}"), desk.path(&format!("disk-{number}")), format!("z{number}"));
        let mut words = vec!["backend", "add", &name, path.to_str().expect("UTF-8"), "--zone", &zone];
        words.extend(quota.into_iter().flat_map(|quota| ["--quota", quota]));
        desk.expect(0, &words);
    }
    desk.file("large", &noise(1_000_000, 1));
    let put = desk.run(&["put", "large", "--level", "personal"]);
    assert!([0, 3].contains(&put.code), "{}", put.stderr);
    let held = |number: usize| shards_below(&desk.path(&format!("disk-{number}")));
    let (path, elsewhere) = (held(1).remove(0), (held(2).len(), held(3).len()));
    assert_eq!((held(1).len(), elsewhere), (1, (3, 1)), "one fits into a quota");
    let whole = fs::read(&path).expect("a shard");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&path, &damaged).expect("damaged");
    desk.run(&["repair"]);
    assert!(fs::read(&path).expect("it is there") == whole, "made again where it was");
    assert_eq!((held(2).len(), held(3).len()), elsewhere);
}

fn shards_below(folder: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("listed").into_path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "shard")).collect()
}
