//! Engines whose writers are killed, and engines whose bits flip.

use crate::soak::{self, Dice, seed};
use shard::crypto::ChamberKey;
use shard::engine::{Collection, EngineOptions, Message, Page, PageRequest, Session, StorageEngine};
use shard::id::{MessageId, NodeId, PeerId, SessionId};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Kills, in a sample and in all.
const KILLS: [u64; 2] = [10, 200];
/// Flipped bits, in a sample and in all.
const FLIPS: [usize; 2] = [150, 10_000];
/// About so many messages are acknowledged between two kills.
const MOST_LINES: usize = 16;
/// Names the folder in which a process that these tests start writes until it is killed.
const WRITER: &str = "SHARD_TEST_ENGINE_WRITER";
/// How many messages the sample has whose bits are flipped: more than two leaves of a list.
const MESSAGES: u64 = 70;
const PAGE_BYTES: usize = 4096;

fn key() -> ChamberKey {
    ChamberKey::from_secret(NodeId([1; 32]), &[2; 32])
}

fn open(folder: &Path) -> shard::engine::Result<StorageEngine> {
    StorageEngine::open(folder, "e", key(), EngineOptions::default())
}

fn message(number: u64) -> Message {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Message::new(MessageId(id), PeerId([(number % 3) as u8; 32]), format!("{number};").repeat(40))
}

fn all_pages(
    mut ask: impl FnMut(PageRequest) -> shard::engine::Result<Page<Message>>,
) -> shard::engine::Result<Vec<Message>> {
    let (mut found, mut request) = (Vec::new(), Some(PageRequest::newest(20)));
    while let Some(asked) = request {
        let page = ask(asked)?;
        request = PageRequest::after(20, &page);
        found.extend(page.records);
    }
    Ok(found)
}

/// Saves numbered messages, says of each in a file when it was acknowledged, and takes old ones away.
fn write_until_killed(folder: &Path) {
    let engine = open(folder).expect("an engine");
    let mut acknowledged = OpenOptions::new().append(true).create(true).open(folder.join("log")).expect("a log");
    let mut number: u64 = engine.metadata("next").expect("asked").unwrap_or(0);
    loop {
        let done = engine.transaction(|tx| {
            tx.save_message(message(number))?;
            if let Some(old) = number.checked_sub(50) {
                assert!(tx.delete_message(message(old).id)?);
            }
            tx.save_session(Session::new(SessionId([7; 16]), PeerId([0; 32]), number.to_be_bytes()))?;
            tx.set_metadata("next", &(number + 1))
        });
        done.expect("saved");
        acknowledged.write_all(format!("{number}\n").as_bytes()).expect("written");
        number += 1;
    }
}

#[test]
fn every_acknowledged_record_is_there_after_a_kill_and_every_list_is_whole() {
    if let Some(folder) = std::env::var_os(WRITER) {
        write_until_killed(Path::new(&folder));
        return;
    }
    let (folder, mut dice) = (tempfile::tempdir().expect("a folder"), Dice::new(seed()));
    let name = "engine_damage::every_acknowledged_record_is_there_after_a_kill_and_every_list_is_whole";
    for kill in 0..KILLS[usize::from(soak::is_asked_for())] {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", name]).env(WRITER, folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut writer = command.spawn().expect("it runs");
        wait_for_lines(folder.path(), (kill + 1) as usize * MOST_LINES / 2 + dice.below(MOST_LINES), &mut writer);
        std::thread::sleep(Duration::from_micros(dice.below(5_000) as u64));
        writer.kill().expect("killed");
        writer.wait().expect("it ended");
        all_acknowledged_is_there(folder.path(), kill);
    }
}

/// Waits until so much was acknowledged in all, however long a machine that has other work takes for it.
pub(crate) fn wait_for_lines(folder: &Path, lines: usize, writer: &mut Child) {
    while fs::read_to_string(folder.join("log")).unwrap_or_default().lines().count() < lines {
        assert!(writer.try_wait().expect("asked").is_none(), "the writer ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn all_acknowledged_is_there(folder: &Path, kill: u64) {
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let Some(last) = log.lines().next_back() else { return };
    let last: u64 = last.parse().expect("a whole line");
    let engine = open(folder).expect("the engine opens");
    let next: u64 = engine.metadata("next").expect("asked").expect("it is there");
    // What was being written when it was killed is there whole or not at all.
    assert!(next == last + 1 || next == last + 2, "kill {kill}: {last} was acknowledged, {next} is next");
    let expected: Vec<u64> = (next.saturating_sub(50)..next).rev().collect();
    let recent = all_pages(|request| engine.recent_messages(request)).expect("listed");
    assert!(
        recent.iter().map(|message| message.id).eq(expected.iter().map(|number| message(*number).id)),
        "kill {kill}"
    );
    for (found, number) in recent.iter().zip(&expected) {
        assert_eq!(found.body, message(*number).body, "kill {kill}");
    }
    let of_peers: usize = (0..3).map(|peer| of_peer(&engine, peer).expect("listed").len()).sum();
    let statistics = engine.statistics().expect("statistics");
    assert_eq!(
        (of_peers, statistics.collections[&Collection::Messages].count),
        (expected.len(), expected.len() as u64)
    );
    let session = engine.session(SessionId([7; 16])).expect("asked").expect("it is there");
    assert_eq!(session.body.0, (next - 1).to_be_bytes(), "kill {kill}");
    engine.check().expect("nothing is torn");
}

fn of_peer(engine: &StorageEngine, peer: u8) -> shard::engine::Result<Vec<Message>> {
    all_pages(|request| engine.messages_of(PeerId([peer; 32]), request))
}

/// An engine of several pages, closed.
fn sample(folder: &Path) -> PathBuf {
    let engine = open(folder).expect("an engine");
    let saved =
        engine.transaction(|tx| (0..MESSAGES).try_for_each(|number| tx.save_message(message(number)).map(drop)));
    saved.expect("saved");
    for number in (0..MESSAGES).step_by(7) {
        assert!(engine.delete_message(message(number).id).expect("deleted"));
    }
    engine.set_metadata("name", "value").expect("set");
    engine.path().to_owned()
}

fn left() -> Vec<u64> {
    (0..MESSAGES).filter(|number| !number.is_multiple_of(7)).rev().collect()
}

#[test]
#[expect(clippy::print_stdout, reason = "how many flips were noticed belongs to the result")]
fn a_flipped_bit_in_an_engine_gives_the_truth_or_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = sample(folder.path());
    let whole = fs::read(&path).expect("read");
    assert!(!path.with_extension("db-wal").exists(), "all of it is in one file");
    let (mut dice, mut noticed) = (Dice::new(seed()), 0);
    let flips = FLIPS[usize::from(soak::is_asked_for())];
    let inner: Vec<usize> =
        (0..whole.len() / PAGE_BYTES).filter(|page| *page == 0 || whole[page * PAGE_BYTES] == 2).collect();
    for flip in 0..flips {
        let page =
            if flip.is_multiple_of(2) { inner[dice.below(inner.len())] } else { dice.below(whole.len() / PAGE_BYTES) };
        let bit = (page * PAGE_BYTES + dice.below(PAGE_BYTES)) * 8 + dice.below(8);
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, flipped).expect("written");
        noticed += u64::from(tells_an_error_or_the_truth(folder.path(), bit));
        let _ = fs::remove_file(path.with_extension("db-wal"));
        let _ = fs::remove_file(path.with_extension("db-shm"));
    }
    println!("{noticed} of {flips} flips in {} bytes were noticed, the others changed no answer", whole.len());
    assert!(noticed > 0);
}

/// Whether the damage was noticed; a wrong answer, and a list that lacks something, is the test's failure.
fn tells_an_error_or_the_truth(folder: &Path, bit: usize) -> bool {
    let Ok(engine) = open(folder) else { return true };
    let mut noticed = false;
    let mut same = |found: shard::engine::Result<Vec<Message>>, expected: Vec<u64>| match found {
        Ok(found) => {
            let found: Vec<_> = found.into_iter().map(|message| (message.id, message.body)).collect();
            let expected: Vec<_> =
                expected.into_iter().map(message).map(|message| (message.id, message.body)).collect();
            assert_eq!(found, expected, "bit {bit}");
        }
        Err(_) => noticed = true,
    };
    same(all_pages(|request| engine.recent_messages(request)), left());
    for peer in 0..3 {
        same(of_peer(&engine, peer), left().into_iter().filter(|number| number % 3 == u64::from(peer)).collect());
    }
    for number in (0..MESSAGES).step_by(5) {
        let expected = if number.is_multiple_of(7) { Vec::new() } else { vec![number] };
        same(engine.message(message(number).id).map(|found| found.into_iter().collect()), expected);
    }
    match engine.statistics() {
        Ok(told) => assert_eq!(told.collections[&Collection::Messages].count, left().len() as u64, "bit {bit}"),
        Err(_) => noticed = true,
    }
    match engine.metadata::<String>("name") {
        Ok(found) => assert_eq!(found.as_deref(), Some("value"), "bit {bit}"),
        Err(_) => noticed = true,
    }
    noticed
}
