//! What verifying moves over the wire where a node shows blocks with their paths, and what the node keeps of it.

use super::desk::{Desk, noise};
use super::node_storage_desk::{Keeper, SEED, seed_file};
use serde_json::Value;
use shard::node::storage::{AnsweredChallenge, BlockAnswer, StorageEvent, StorageOptions};
use shard::peer::TransportKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

/// Of every stripe of the file but the last.
const BLOCK_BYTES: u64 = 256 * 1024;
/// Two of three: a shard has half of it, in 24 blocks.
const FILE_BYTES: usize = 24 * 2 * BLOCK_BYTES as usize - 1000;

/// Shards that the catalog does not have: more than a place may have for want of tidiness.
const MORE_THAN_SPARE: u64 = 2100;

fn shards_below(folder: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok).map(walkdir::DirEntry::into_path);
    files.filter(|path| path.extension().is_some_and(|extension| extension == "shard")).collect()
}

/// A store with a node among its three places, and a file.
struct Scene {
    runtime: Runtime,
    desk: Desk,
    keeper: Keeper,
    shard: PathBuf,
    /// How often the node was told of damage.
    told: usize,
}

impl Scene {
    fn new(transport: TransportKind) -> Self {
        let (runtime, mut desk) = (Runtime::new().expect("threads"), Desk::in_memory());
        let folder = desk.path("at-the-friends");
        let keeper = runtime.block_on(Keeper::start(1, &folder, StorageOptions::default()));
        let seed = seed_file(desk.home(), SEED);
        desk.set("SHARD_SEED_FILE", &seed.display().to_string());
        desk.expect(0, &["init", "--bare"]);
        for (name, url) in [("friend", keeper.address(transport).to_string().as_str()), ("here", "h"), ("there", "t")] {
            desk.expect(0, &["backend", "add", name, url, "--zone", name]);
        }
        desk.file("a", &noise(FILE_BYTES, 5));
        desk.expect(0, &["put", "a", "--level", "minimal"]);
        let shard = shards_below(&folder).pop().expect("a shard");
        Self { runtime, desk, keeper, shard, told: 0 }
    }

    /// What a command came to, what the node sent for it, and which challenges it answered.
    fn verify(&mut self, code: i32, words: &[&str]) -> (Value, u64, Vec<AnsweredChallenge>) {
        let before = self.keeper.node.stats().traffic.sent_bytes;
        let document = self.desk.json(code, words);
        let sent_bytes = self.keeper.node.stats().traffic.sent_bytes - before;
        let mut challenges = Vec::new();
        for event in self.keeper.answered() {
            match event {
                StorageEvent::Challenge(answered) => challenges.push(answered),
                StorageEvent::Told(told) => self.told += told.shards.len(),
                StorageEvent::Scrub(_) | StorageEvent::Unread(_) | StorageEvent::Replaced { .. } => {}
            }
        }
        (document, sent_bytes, challenges)
    }

    fn flip(&self, at: usize) {
        let mut bytes = std::fs::read(&self.shard).expect("a shard");
        bytes[at] ^= 1;
        std::fs::write(&self.shard, bytes).expect("written");
    }

    /// Where the leaves of the node's shard begin.
    fn leaves_at(&self) -> usize {
        let bytes = std::fs::read(&self.shard).expect("a shard");
        let (before, trailer) = bytes.split_at(bytes.len() - 128);
        let sections = [0, 8, 16, 24, 32].map(|at| u64::from_le_bytes(trailer[at..at + 8].try_into().expect("8")));
        before.len() - sections.iter().sum::<u64>() as usize
    }

    fn stop(self) {
        self.runtime.block_on(self.keeper.stop());
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "how much moved belongs to the result")]
fn a_sample_over_a_node_moves_the_drawn_blocks_their_paths_and_little_else() {
    for transport in [TransportKind::Quic, TransportKind::WebSocket] {
        let mut scene = Scene::new(transport);
        let shard_bytes = std::fs::metadata(&scene.shard).expect("a shard").len();
        let (_, quick_bytes, challenges) = scene.verify(0, &["verify", "--quick"]);
        assert!(challenges.is_empty());
        let (_, sent_bytes, challenges) = scene.verify(0, &["verify", "--sample", "15"]);
        let blocks = challenges.iter().map(|answered| answered.blocks.len() as u64).sum::<u64>();
        println!(
            "{transport:?}: of a shard of {shard_bytes} bytes, quick moves {quick_bytes} and a sample {sent_bytes} for {blocks} blocks"
        );
        // Eleven of the 72 blocks are drawn, and now and then none of them is the node's. All else is what begins and ends a
        // session, the manifest at the shard's end, and what the transport adds: a few hundredths, and more where the machine
        // is so busy that it sends again.
        let expected = blocks * (BLOCK_BYTES + 5 * 32);
        assert!(sent_bytes >= blocks * BLOCK_BYTES, "{sent_bytes} for {blocks} blocks");
        assert!(sent_bytes <= expected + expected / 4 + 24 * 1024, "{sent_bytes} for {blocks} blocks");
        assert!(quick_bytes <= 24 * 1024, "{quick_bytes}");
        scene.stop();
    }
}

#[test]
fn damage_at_a_node_is_found_by_a_sample_counted_and_known_to_the_node() {
    let mut scene = Scene::new(TransportKind::Quic);
    // All of it is drawn: nothing is read twice while it is whole.
    let (_, _, challenges) = scene.verify(0, &["verify", "--sample", "100"]);
    let blocks: Vec<_> = challenges.iter().flat_map(|answered| &answered.blocks).collect();
    assert_eq!(blocks.len(), 24);
    assert!(blocks.iter().all(|(_, answer)| *answer == BlockAnswer::Shown));
    assert!(challenges.iter().all(|answered| answered.asked_by == answered.owner && answered.backend.is_some()));
    scene.flip(64 + 3 * BLOCK_BYTES as usize + 7);
    let (document, _, challenges) = scene.verify(3, &["verify", "--sample", "100"]);
    let bad: Vec<u64> = challenges
        .iter()
        .flat_map(|answered| answered.blocks.iter().filter(|(_, answer)| *answer == BlockAnswer::Damaged))
        .map(|(stripe, _)| *stripe)
        .collect();
    assert_eq!((bad.as_slice(), scene.told), (&[3][..], 1));
    let shards = document["objects"][0]["shards"].as_array().expect("shards").clone();
    let states: Vec<_> = shards.iter().map(|shard| (&shard["state"], &shard["bad_blocks"])).collect();
    assert_eq!(states.iter().filter(|found| **found == (&"corrupt".into(), &1.into())).count(), 1, "{document}");
    let friend = |document: &Value| {
        let backends = document["backends"].as_array().expect("backends");
        backends.iter().find(|backend| backend["name"] == "friend").expect("the node").clone()
    };
    let told = friend(&scene.desk.json(3, &["status"]));
    assert_eq!(told["history"]["wrong"], 1, "{told}");
    scene.desk.expect(0, &["repair"]);
    scene.verify(0, &["verify", "--sample", "100"]);
    // A damaged leaf is on the way of every path.
    scene.flip(scene.leaves_at() + 40);
    let (document, _, _) = scene.verify(3, &["verify", "--sample", "100"]);
    let shards = document["objects"][0]["shards"].as_array().expect("shards");
    assert_eq!(shards.iter().filter(|shard| shard["state"] == "corrupt").count(), 1, "{document}");
    scene.desk.expect(0, &["repair"]);
    scene.stop();
}

#[test]
fn a_damaged_leaf_of_a_node_is_found_whether_or_not_a_block_of_its_shard_was_drawn() {
    let mut scene = Scene::new(TransportKind::Quic);
    let at = scene.leaves_at() + 40;
    let mut asked = Vec::new();
    // One block of 72 is drawn, and every third time it is the node's.
    for _ in 0..12 {
        scene.flip(at);
        let (document, _, challenges) = scene.verify(3, &["verify", "--sample", "1"]);
        let shards = document["objects"][0]["shards"].as_array().expect("shards");
        let corrupt: Vec<_> = shards.iter().filter(|shard| shard["state"] == "corrupt").collect();
        assert_eq!(corrupt.len(), 1, "{document}");
        assert!(!corrupt[0]["reason"].to_string().contains("earlier"), "{document}");
        asked.push(challenges.len());
        // What was found is remembered until all of it was read again.
        scene.flip(at);
        scene.verify(0, &["verify"]);
    }
    assert!(asked.contains(&0), "{asked:?}");
    scene.stop();
}

#[test]
fn a_node_reads_its_own_disk_and_says_what_is_damaged_without_moving_it() {
    let mut scene = Scene::new(TransportKind::Quic);
    let before = scene.keeper.node.stats().traffic.sent_bytes;
    let document = scene.desk.json(0, &["backend", "scrub"]);
    assert_eq!(document["schema"], "shard.backend-scrub/1");
    let shard_bytes = std::fs::metadata(&scene.shard).expect("a shard").len();
    let [friend] = document["backends"].as_array().expect("backends").as_slice() else { unreachable!("{document}") };
    assert_eq!((&friend["name"], &friend["state"]), (&"friend".into(), &"checked".into()));
    assert_eq!((&friend["shards"], &friend["bytes"]), (&1.into(), &shard_bytes.into()), "{document}");
    assert_eq!(friend["damaged"], serde_json::json!([]));
    let named = scene.desk.json(0, &["backend", "scrub", "here"]);
    assert_eq!(named["backends"][0]["state"], "cannot");
    scene.desk.failure(13, &["backend", "scrub", "nowhere"]);
    // Header, a block, the last byte: whatever it is, the node sees it.
    for at in [20, 64 + BLOCK_BYTES as usize, shard_bytes as usize - 1] {
        scene.flip(at);
        let document = scene.desk.json(3, &["backend", "scrub"]);
        assert_eq!(document["backends"][0]["damaged"].as_array().map(Vec::len), Some(1), "byte {at}: {document}");
        scene.flip(at);
    }
    let sent_bytes = scene.keeper.node.stats().traffic.sent_bytes - before;
    assert!(sent_bytes < 256 * 1024, "five scrubs moved {sent_bytes} bytes");
    let found = scene.keeper.answered().into_iter().filter(|event| match event {
        StorageEvent::Scrub(answered) => !answered.page.damaged.is_empty(),
        _ => false,
    });
    assert_eq!(found.count(), 3);
    // A shard that the catalog does not have there is read, and is nothing to note.
    let objects = scene.shard.parent().and_then(Path::parent).expect("a folder");
    let last = objects.join("ff");
    std::fs::create_dir_all(&last).expect("a folder");
    let behind = last.join(format!("{}.7.shard", "f".repeat(32)));
    std::fs::write(&behind, b"no shard").expect("written");
    let document = scene.desk.json(0, &["backend", "scrub"]);
    let friend = &document["backends"][0];
    assert_eq!((&friend["state"], &friend["shards"]), (&"checked".into(), &2.into()), "{document}");
    assert_eq!(friend["damaged"], serde_json::json!([]), "{document}");
    // What cannot even be opened is damaged, and what comes after it is read all the same.
    let allow = |mode| std::fs::set_permissions(&scene.shard, std::fs::Permissions::from_mode(mode)).expect("chmod");
    allow(0);
    let is_denied = std::fs::File::open(&scene.shard).is_err();
    // Some accounts may open everything.
    if is_denied {
        let document = scene.desk.json(3, &["backend", "scrub"]);
        let friend = &document["backends"][0];
        assert_eq!((&friend["state"], &friend["shards"]), (&"checked".into(), &2.into()), "{document}");
        assert_eq!(friend["damaged"].as_array().map(Vec::len), Some(1), "{document}");
    }
    allow(0o600);
    std::fs::remove_file(&behind).expect("removed");
    let status = scene.desk.json(0, &["status"]);
    let backends = status["backends"].as_array().expect("backends");
    let friend = backends.iter().find(|backend| backend["name"] == "friend").expect("the node");
    assert_eq!(friend["history"]["wrong"], 3 + u64::from(is_denied), "{friend}");
    scene.desk.expect(0, &["verify"]);
    scene.stop();
}

#[test]
fn a_node_is_told_of_all_that_a_command_found_damaged_there_at_once() {
    let mut scene = Scene::new(TransportKind::Quic);
    for name in ["b", "c"] {
        scene.desk.file(name, &noise(50_000, 6));
        scene.desk.expect(0, &["put", name, "--level", "minimal"]);
    }
    let shards = shards_below(&scene.desk.path("at-the-friends"));
    assert_eq!(shards.len(), 3);
    shards.iter().for_each(|shard| std::fs::remove_file(shard).expect("removed"));
    scene.keeper.answered();
    scene.desk.expect(3, &["verify"]);
    let told: Vec<_> = scene.keeper.answered().into_iter().collect();
    let [StorageEvent::Told(told)] = told.as_slice() else { unreachable!("{told:?}") };
    assert_eq!((told.shard_count, told.shards.len()), (3, 3));
    scene.stop();
}

#[test]
fn a_scrub_comes_to_its_end_though_the_catalog_knows_nothing_of_what_is_there() {
    let scene = Scene::new(TransportKind::Quic);
    let objects = scene.shard.parent().and_then(Path::parent).expect("a folder").join("00");
    std::fs::create_dir_all(&objects).expect("a folder");
    for number in 0..MORE_THAN_SPARE {
        std::fs::write(objects.join(format!("{number:032x}.0.shard")), b"no shard").expect("written");
    }
    let document = scene.desk.json(0, &["backend", "scrub"]);
    let friend = &document["backends"][0];
    assert_eq!((&friend["state"], &friend["shards"]), (&"checked".into(), &(MORE_THAN_SPARE + 1).into()), "{document}");
    assert_eq!((&friend["damaged"], &friend["damaged_unknown"]), (&serde_json::json!([]), &MORE_THAN_SPARE.into()));
    scene.stop();
}
