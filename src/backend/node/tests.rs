//! What needs no node: seeds and pins in files, and pages that a node should not send.

use super::pins::FilePins;
use super::*;
use crate::crypto::{Keyring, MasterKey, PublicKey};
use crate::id::ObjectId;
use crate::peer::{GroupSeed, PinError, Pins};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

fn refusal(seed_file: Option<&Path>, folder: Option<&Path>) -> String {
    let error = seeds::read(seed_file, folder).expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Denied);
    let said = error.to_string();
    format!("{said}: {}", error.source.expect("a reason"))
}

#[test]
fn seeds_are_read_from_the_file_that_was_named_and_else_from_the_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let seed = |number| GroupSeed::from_bytes([number; 32]);
    let named = dir.path().join("named");
    assert!(refusal(None, None).contains("SHARD_SEED_FILE"));
    assert!(refusal(None, Some(dir.path())).contains("SHARD_SEED_FILE"));
    // A node that runs beside the store is of the same group; what the store has of its own comes first.
    fs::create_dir(dir.path().join("node")).expect("a folder");
    write_private(&dir.path().join("node").join(SEEDS_NAME), &seed(4).to_text());
    assert_eq!(seeds::read(None, Some(dir.path())).expect("one").seeds(), [seed(4)]);
    write_private(&dir.path().join(SEEDS_NAME), &format!("{}\n{}\n", *seed(1).to_text(), *seed(2).to_text()));
    write_private(&named, &seed(3).to_text());
    assert_eq!(seeds::read(None, Some(dir.path())).expect("two").seeds(), [seed(1), seed(2)]);
    assert_eq!(seeds::read(Some(&named), Some(dir.path())).expect("one").seeds(), [seed(3)]);
    fs::set_permissions(&named, fs::Permissions::from_mode(0o640)).expect("chmod");
    assert!(refusal(Some(&named), None).contains("chmod 600"));
    for wrong in ["", "correct horse battery staple", &"x".repeat(100_000), &seed(1).to_text()[..40]] {
        write_private(&named, wrong);
        let text = refusal(Some(&named), None);
        assert!(wrong.is_empty() || !text.contains(wrong), "{text}");
    }
}

#[test]
fn pins_last_in_their_file_and_a_changed_key_or_a_damaged_file_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (one, other) = ("node://friend:1".parse().expect("an address"), "node+ws://friend:1".parse().expect("one"));
    FilePins::in_folder(dir.path()).check(&one, &PublicKey([1; 32])).expect("first met");
    let pins = FilePins::in_folder(dir.path());
    pins.check(&one, &PublicKey([1; 32])).expect("the same");
    let changed = pins.check(&one, &PublicKey([2; 32])).expect_err("another");
    assert!(matches!(changed, PinError::Changed { .. }), "{changed}");
    pins.check(&other, &PublicKey([2; 32])).expect("another address");
    let text = fs::read_to_string(dir.path().join(PINS_NAME)).expect("pins");
    assert_eq!(text.lines().count(), 2, "{text}");
    for damage in ["node://friend:1\n", "node://friend:1 00\n", "friend 1\n", &text[..text.len() - 2]] {
        fs::write(dir.path().join(PINS_NAME), damage).expect("written");
        let error = pins.check(&one, &PublicKey([1; 32])).expect_err("damaged");
        assert!(matches!(error, PinError::Kept { .. }), "{damage}: {error}");
    }
}

#[test]
fn a_process_that_holds_the_pins_and_does_not_go_on_holds_nobody_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let [met, unmet] = ["node://friend:1", "node://friend:2"].map(|text| text.parse().expect("an address"));
    let pins = FilePins::in_folder(dir.path());
    pins.check(&met, &PublicKey([1; 32])).expect("first met");
    let lock = fs::File::create(dir.path().join("pins.lock")).expect("a file");
    lock.lock().expect("locked");
    let (told, outcome) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let outcomes = [met, unmet].map(|address| pins.check(&address, &PublicKey([1; 32])));
        told.send(outcomes).expect("somebody waits");
    });
    let outcomes = outcome.recv_timeout(Duration::from_secs(60)).expect("it is not held up");
    assert!(matches!(outcomes, [Ok(()), Err(PinError::Kept { .. })]), "{outcomes:?}");
}

#[test]
fn a_page_that_would_not_come_to_an_end_is_not_believed() {
    let shard = |number: u8| ShardId { object: ObjectId([number; 16]), index: 0 };
    let page = |numbers: &[u8], next: Option<u8>| StoragePage {
        shards: numbers.iter().map(|number| (shard(*number), 7)).collect(),
        next: next.map(shard),
    };
    let whole = checked(page(&[2, 3], Some(3)), Some(shard(1))).expect("a page");
    assert_eq!((whole.shards.len(), whole.next), (2, Some(shard(3))));
    assert_eq!(checked(page(&[], None), Some(shard(1))), Some(ListPage { shards: Vec::new(), next: None }));
    for (numbers, next) in [(&[1_u8][..], None), (&[3, 2], None), (&[2, 2], None), (&[2], Some(1)), (&[], Some(1))] {
        assert_eq!(checked(page(numbers, next), Some(shard(1))), None, "{numbers:?} {next:?}");
    }
}

#[tokio::test]
async fn without_the_stores_key_a_node_is_not_called() {
    let address = "node://127.0.0.1:1".parse().expect("an address");
    let backend = NodeBackend::open(address, NodeAccess::default(), None);
    assert_eq!(backend.read_mark().await.expect_err("refused").kind, ErrorKind::Denied);
    let keyring = Keyring::new(MasterKey::from_bytes([1; 32]));
    let access = NodeAccess::default().of_store(&keyring, None);
    let backend = NodeBackend::open("node://127.0.0.1:1".parse().expect("an address"), access, None);
    let error = backend.read_mark().await.expect_err("no seed");
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.source.expect("a reason").to_string().contains("SHARD_SEED_FILE"));
}
