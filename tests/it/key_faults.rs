//! Keys and what they seal, damaged bit by bit or not the right ones, as a person at the command line meets them.

use crate::desk::{Desk, noise};
use crate::soak::{self, Dice};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How many bits of each file are flipped, but for `just soak`.
const SAMPLED_FLIPS: usize = 24;
const CONTENT: &[u8] = b"what the keys are for";

fn desk() -> Desk {
    let desk = Desk::new();
    desk.file("a", CONTENT);
    desk.expect(0, &["put", "a", "-q"]);
    desk
}

/// The bits of a file that are flipped: all of them when `just soak` asks, else a sample.
fn bits(bytes: &[u8], dice: &mut Dice) -> Vec<usize> {
    let all = bytes.len() * 8;
    if soak::is_asked_for() { (0..all).collect() } else { (0..SAMPLED_FLIPS).map(|_| dice.below(all)).collect() }
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

/// A command that fails with this code, says why in one document, and has no panic in it.
fn refuses(desk: &Desk, code: i32, words: &[&str], what: &str) -> Value {
    let outcome = desk.run(&[words, &["--json"]].concat());
    assert_eq!(outcome.code, code, "{what}: {words:?}: {}", outcome.stderr);
    let last = outcome.stderr.lines().last().unwrap_or_default();
    let failure: Value = serde_json::from_str(last).unwrap_or_else(|_| unreachable!("{what}: {}", outcome.stderr));
    assert_eq!(failure["schema"], "shard.error/1", "{what}");
    failure
}

/// Every command that opens the store, with words that go as far as its key.
const OPENING: [&[&str]; 26] = [
    &["put", "a"],
    &["recover", "a", "-o", "-"],
    &["recover", "--all", "-o", "out"],
    &["verify"],
    &["verify", "--quick"],
    &["repair"],
    &["repair", "--dry-run"],
    &["list"],
    &["show", "a"],
    &["remove", "a"],
    &["prune", "--keep-last", "1"],
    &["gc"],
    &["status"],
    &["backend", "list"],
    &["backend", "check"],
    &["backend", "add", "more", "more"],
    &["backend", "drain", "local-1"],
    &["backend", "remove", "local-1"],
    &["proof", "create", "a", "--shard", "0"],
    &["catalog", "rebuild"],
    &["catalog", "refresh"],
    &["catalog", "stats"],
    &["key", "export"],
    &["key", "export", "--verify-only"],
    &["key", "rotate"],
    &["key", "recipient", "new"],
];

/// Whatever was refused, nothing of the store has changed.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("an entry"));
    let kept = all.filter(|entry| entry.file_type().is_file() && !entry.path().to_string_lossy().ends_with("lock"));
    kept.map(|entry| (entry.path().to_owned(), fs::read(entry.path()).expect("a file"))).collect()
}

#[test]
fn with_a_wrong_passphrase_every_command_that_opens_the_store_exits_12_and_changes_nothing() {
    let mut desk = desk();
    desk.set("SHARD_PASSPHRASE", "the right one");
    desk.expect(0, &["key", "passphrase"]);
    desk.set("SHARD_PASSPHRASE", "a wrong one");
    let before = files(&desk.store());
    for words in OPENING.into_iter().chain([&["key", "passphrase", "--remove"][..], &["key", "import", "kit"]]) {
        desk.file("kit", &before[&desk.store().join("master.key")]);
        fs::set_permissions(desk.path("kit"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
        let failure = refuses(&desk, 12, words, "a wrong passphrase");
        assert_eq!(failure["kind"], "wrong-key", "{words:?}");
    }
    assert!(files(&desk.store()) == before);
    desk.set("SHARD_PASSPHRASE", "");
    for words in OPENING {
        let failure = refuses(&desk, 12, words, "no passphrase");
        assert!(failure["hint"].to_string().contains("SHARD_PASSPHRASE_FILE"), "{failure}");
    }
    assert!(files(&desk.store()) == before);
}

#[test]
fn with_another_stores_key_every_command_that_needs_the_own_one_exits_12_and_changes_nothing() {
    let (desk, other) = (desk(), desk());
    let key = desk.store().join("master.key");
    fs::copy(other.store().join("master.key"), &key).expect("the wrong key");
    let before = files(&desk.store());
    // The key alone is a good key: what only reads or changes the key file has nothing to compare it with.
    let own_key = |words: &&&[&str]| words[0] != "key";
    for words in OPENING.iter().filter(own_key) {
        refuses(&desk, 12, words, "another key");
    }
    assert!(files(&desk.store()) == before);
    fs::remove_file(&key).expect("removed");
    for words in OPENING {
        let failure = refuses(&desk, 12, words, "no key");
        assert!(failure["hint"].to_string().contains("shard key import"), "{failure}");
    }
}

#[test]
fn a_flipped_bit_in_a_plain_key_file_exits_12_and_the_right_file_opens_again() {
    let (desk, mut dice) = (desk(), Dice::new(soak::seed()));
    let path = desk.store().join("master.key");
    let whole = fs::read(&path).expect("the key");
    for bit in bits(&whole, &mut dice) {
        fs::write(&path, flipped(&whole, bit)).expect("written");
        refuses(&desk, 12, &["list"], &format!("bit {bit} of the key file"));
        refuses(&desk, 12, &["recover", "a", "-o", "-"], &format!("bit {bit} of the key file"));
    }
    fs::write(&path, &whole).expect("written");
    assert_eq!(desk.expect(0, &["recover", "a", "-o", "-"]).stdout, CONTENT);
}

#[test]
fn a_flipped_bit_in_a_sealed_key_file_exits_12_and_the_right_file_opens_again() {
    let (mut desk, mut dice) = (desk(), Dice::new(soak::seed()));
    desk.set("SHARD_PASSPHRASE", "horse");
    desk.expect(0, &["key", "passphrase"]);
    let path = desk.store().join("master.key");
    let whole = fs::read(&path).expect("the key");
    for bit in bits(&whole, &mut dice) {
        fs::write(&path, flipped(&whole, bit)).expect("written");
        refuses(&desk, 12, &["list"], &format!("bit {bit} of the sealed key file"));
    }
    fs::write(&path, &whole).expect("written");
    assert_eq!(desk.expect(0, &["recover", "a", "-o", "-"]).stdout, CONTENT);
}

#[test]
fn a_flipped_bit_in_a_verify_only_key_exits_12_before_and_after_it_is_imported() {
    let (owner, helper, mut dice) = (desk(), Desk::new(), Dice::new(soak::seed()));
    let file = helper.path("helper.key");
    owner.expect(0, &["key", "export", "--verify-only", "-o", file.to_str().expect("UTF-8")]);
    let whole = fs::read(&file).expect("the key");
    for bit in bits(&whole, &mut dice) {
        fs::write(&file, flipped(&whole, bit)).expect("written");
        refuses(&helper, 12, &["key", "import", "helper.key"], &format!("bit {bit}"));
        assert!(!helper.store().join("master.key").exists(), "bit {bit}");
    }
    fs::write(&file, &whole).expect("written");
    helper.expect(0, &["key", "import", "helper.key"]);
    for bit in bits(&whole, &mut dice) {
        fs::write(helper.store().join("master.key"), flipped(&whole, bit)).expect("written");
        refuses(&helper, 12, &["verify"], &format!("bit {bit}"));
    }
}

#[test]
fn a_flipped_bit_in_a_recipient_is_refused_and_nothing_is_stored() {
    let (desk, mut dice) = (desk(), Dice::new(soak::seed()));
    let file = desk.path("me.recipient");
    desk.expect(0, &["key", "recipient", "new", "-o", "me.recipient"]);
    let whole = fs::read(&file).expect("the recipient");
    desk.file("b", b"for whom?");
    let shards = desk.shard_files().len();
    for bit in bits(&whole, &mut dice) {
        fs::write(&file, flipped(&whole, bit)).expect("written");
        let failure = refuses(&desk, 1, &["put", "b", "--recipient", "me.recipient"], &format!("bit {bit}"));
        assert_eq!(failure["kind"], "invalid", "bit {bit}");
    }
    assert_eq!(desk.shard_files().len(), shards);
    fs::write(&file, &whole).expect("written");
    desk.expect(0, &["put", "b", "--recipient", "me.recipient"]);
}

/// Most of a kit is for people: a bit there carries nothing. What comes of it is the same keys, or a clean refusal.
#[test]
fn a_flipped_bit_in_a_kit_gives_the_same_keys_or_exits_12() {
    let (desk, mut dice) = (desk(), Dice::new(soak::seed()));
    let file = desk.path("kit");
    desk.expect(0, &["key", "export", "-o", "kit"]);
    let (whole, key) =
        (fs::read(&file).expect("the kit"), fs::read(desk.store().join("master.key")).expect("the keys"));
    let text = String::from_utf8(whole.clone()).expect("UTF-8");
    let at = text.find("  1-1").expect("the key");
    let key_lines = at * 8..(at + 110) * 8;
    let mut refused = 0;
    let sample = bits(&whole, &mut dice).into_iter().chain((0..SAMPLED_FLIPS).map(|_| at * 8 + dice.below(110 * 8)));
    for bit in sample.collect::<Vec<_>>() {
        let new = Desk::new();
        let kit = new.file("kit", &flipped(&whole, bit));
        let words = ["key", "import", kit.to_str().expect("UTF-8")];
        let outcome = new.run(&words);
        if outcome.code == 0 {
            assert!(fs::read(new.store().join("master.key")).expect("the keys") == key, "bit {bit}");
        } else {
            refuses(&new, 12, &words, &format!("bit {bit}"));
            assert!(!new.store().join("master.key").exists(), "bit {bit}");
            refused += usize::from(key_lines.contains(&bit));
        }
    }
    assert!(refused * 2 > SAMPLED_FLIPS, "{refused}");
}

/// Where the sections of a shard file begin that follow its leaves, from its trailer: signature, sealed part, share, end.
pub(crate) fn sections(file: &[u8]) -> [usize; 4] {
    let end = file.len() - 128;
    let length = |field: usize| u64::from_le_bytes(file[end + 8 * field..][..8].try_into().expect("8 bytes")) as usize;
    let (share, sealed) = (end - length(4), end - length(4) - length(3));
    [sealed - length(2), sealed, share, end]
}

/// Some bits of each section are enough here: a sealed part has thousands, and each is a verification and a repair.
fn some_bits(dice: &mut Dice, bits: usize) -> Vec<usize> {
    (0..3).map(|_| dice.below(bits)).collect()
}

#[test]
fn a_flipped_bit_in_signature_sealed_part_or_share_exits_3_and_is_repaired_under_every_seal() {
    let mut dice = Dice::new(soak::seed());
    for seal in ["key", "dispersed", "recipient"] {
        let desk = Desk::new();
        desk.file("a", &noise(50_000, 3));
        desk.expect(0, &["init"]);
        desk.expect(0, &["key", "recipient", "new", "-o", "me.recipient"]);
        let how = if seal == "recipient" { ["--recipient", "me.recipient"] } else { ["--seal", seal] };
        desk.expect(0, &[&["put", "a", "--allow-readable-zone"][..], &how].concat());
        let path = desk.shard_files().remove(0);
        let whole = fs::read(&path).expect("a shard");
        let places = sections(&whole);
        assert_eq!((places[1] - places[0], places[3] - places[2]), (64, if seal == "dispersed" { 32 } else { 0 }));
        for part in places.windows(2).filter(|part| part[0] < part[1]) {
            let length = (part[1] - part[0]) * 8;
            let tried = if soak::is_asked_for() { (0..length).collect() } else { some_bits(&mut dice, length) };
            for bit in tried.into_iter().map(|bit| part[0] * 8 + bit) {
                fs::write(&path, flipped(&whole, bit)).expect("written");
                desk.expect(3, &["verify"]);
                assert_eq!(desk.run(&["recover", "a", "-o", "-"]).stdout, noise(50_000, 3), "bit {bit}");
                desk.expect(0, &["repair"]);
                assert!(fs::read(&path).expect("a shard") == whole, "{seal}, bit {bit}");
            }
        }
        // In every copy at once: nothing vouches for the object any more, and nothing of it is handed out.
        for path in desk.shard_files() {
            let shard = fs::read(&path).expect("a shard");
            fs::write(&path, flipped(&shard, sections(&shard)[0] * 8 + 5)).expect("written");
        }
        let from = desk.store().join("backends").display().to_string();
        let places: Vec<String> = (1..=5).map(|number| format!("{from}/{number}")).collect();
        let from: Vec<&str> = places.iter().flat_map(|place| ["--from", place]).collect();
        let key = desk.store().join("master.key").display().to_string();
        let refused = desk.run(&[&["recover", "--all", "-o", "out", "--key", &key][..], &from].concat());
        assert_eq!(refused.code, 5, "{seal}: another place may have a better copy\n{}", refused.stderr);
        assert!(!desk.path("out/a").exists(), "{seal}");
    }
}

/// A flip in the catalog is found, or it hit what is not in use: no command panics, no wrong byte comes out, and the places
/// alone make it again.
#[test]
fn a_flipped_bit_in_the_catalog_never_gives_a_wrong_byte_and_is_undone_by_a_rebuild() {
    let (desk, mut dice) = (desk(), Dice::new(soak::seed()));
    desk.expect(0, &["status"]);
    let path = desk.store().join("catalog.db");
    let keep_only = |bytes: &[u8]| {
        for ending in ["-wal", "-shm"] {
            let _ = fs::remove_file(desk.store().join(format!("catalog.db{ending}")));
        }
        fs::write(&path, bytes).expect("written");
    };
    let whole = fs::read(&path).expect("the catalog");
    let flips = if soak::is_asked_for() { 50 * SAMPLED_FLIPS } else { SAMPLED_FLIPS };
    for bit in (0..flips).map(|_| dice.below(whole.len() * 8)) {
        keep_only(&flipped(&whole, bit));
        for words in [&["list"][..], &["status"], &["verify"], &["show", "a"]] {
            let outcome = desk.run(words);
            assert!([0, 1, 3, 4, 12, 13].contains(&outcome.code), "bit {bit}: {words:?}: {}", outcome.code);
            assert!(!outcome.stderr.contains("panicked"), "bit {bit}: {words:?}: {}", outcome.stderr);
        }
        let recovered = desk.run(&["recover", "a", "-o", "-"]);
        assert!(recovered.stdout == CONTENT || recovered.code != 0, "bit {bit}");
        assert!(recovered.stdout == CONTENT || recovered.stdout.is_empty(), "bit {bit}");
        if recovered.code != 0 {
            let rebuilt = desk.run(&["catalog", "rebuild"]);
            if rebuilt.code != 0 {
                let _ = fs::remove_file(&path);
                desk.expect(0, &["catalog", "rebuild"]);
            }
            assert_eq!(desk.expect(0, &["recover", "a", "-o", "-"]).stdout, CONTENT, "bit {bit}");
        }
    }
}
