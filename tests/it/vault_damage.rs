//! Vaults and chambers whose writers are killed, and chambers whose bits flip.

use crate::engine_damage::wait_for_lines;
use crate::soak::{self, Dice, seed};
use shard::chamber::Chamber;
use shard::crypto::ChamberKey;
use shard::id::NodeId;
use shard::vault::{Options, Vault, VaultName};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Kills, in a sample and in all.
const KILLS: [u64; 2] = [12, 200];
/// Flipped bits, in a sample and in all.
const FLIPS: [usize; 2] = [400, 40_000];
/// About so many entries are acknowledged between two kills.
const MOST_LINES: usize = 16;
/// Names the folder in which a process that these tests start writes until it is killed.
const WRITER: &str = "SHARD_TEST_VAULT_WRITER";
/// How long a page of the file is.
const PAGE_BYTES: usize = 4096;
/// What every value is as long as, so that a torn one would show.
const VALUE_REPEATS: usize = 200;

fn key() -> ChamberKey {
    ChamberKey::from_secret(NodeId([1; 32]), &[2; 32])
}

fn value(number: u64) -> String {
    format!("{number};").repeat(VALUE_REPEATS)
}

/// Writes numbered entries, and says of each in a file when it was acknowledged.
fn write_until_killed(folder: &Path) {
    let vault = Vault::open(folder, "killed", Options::default()).expect("a vault");
    let chamber = Chamber::open(folder, "killed", key(), Options::default()).expect("a chamber");
    let mut acknowledged = OpenOptions::new().append(true).create(true).open(folder.join("log")).expect("a log");
    let mut number: u64 = vault.get_or("next", 0).expect("asked");
    loop {
        vault
            .transaction(|tx| {
                tx.put(&number, &value(number))?;
                tx.put("next", &(number + 1))
            })
            .expect("put");
        chamber.store(&number, &value(number)).expect("stored");
        acknowledged.write_all(format!("{number}\n").as_bytes()).expect("written");
        number += 1;
    }
}

#[test]
fn every_acknowledged_write_is_there_after_a_kill_and_none_is_torn() {
    if let Some(folder) = std::env::var_os(WRITER) {
        write_until_killed(Path::new(&folder));
        return;
    }
    let (folder, mut dice) = (tempfile::tempdir().expect("a folder"), Dice::new(seed()));
    let name = "vault_damage::every_acknowledged_write_is_there_after_a_kill_and_none_is_torn";
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

fn all_acknowledged_is_there(folder: &Path, kill: u64) {
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let acknowledged: Vec<u64> = log.lines().map(|line| line.parse().expect("a whole line")).collect();
    if acknowledged.is_empty() {
        return;
    }
    let vault = Vault::open(folder, "killed", Options::default()).expect("the vault opens");
    let chamber = Chamber::open(folder, "killed", key(), Options::default()).expect("the chamber opens");
    for number in acknowledged {
        let expected = Some(value(number));
        assert_eq!(vault.get::<String>(&number).expect("asked"), expected, "entry {number} after kill {kill}");
        assert_eq!(chamber.retrieve::<String>(&number).expect("asked"), expected, "record {number} after kill {kill}");
    }
    let next: u64 = vault.get("next").expect("asked").expect("it is there");
    assert_eq!(vault.len().expect("counted"), next + 1, "entry and counter were one transaction");
    vault.check().expect("nothing is torn");
    chamber.check().expect("nothing is torn");
}

/// A chamber of several pages, some records with values beyond one page, some deleted; closed.
fn sample_chamber(folder: &Path) -> PathBuf {
    let chamber = Chamber::open(folder, "flipped", key(), Options::default()).expect("a chamber");
    for number in 0..120_u64 {
        chamber.store(&number, &value(number)[..number as usize % 90 * 5]).expect("stored");
    }
    chamber.store(&1000_u64, &value(1000).repeat(12)).expect("stored");
    for number in (0..120).step_by(5) {
        chamber.store(&(number + 1), "new").expect("stored");
        chamber.delete(&number).expect("deleted");
    }
    Chamber::file(folder, NodeId([1; 32]), &VaultName::new("flipped").expect("a name"))
}

/// What a sound chamber says of a number.
fn expected(number: u64) -> Option<String> {
    match number {
        1000 => Some(value(1000).repeat(12)),
        120.. => None,
        _ if number.is_multiple_of(5) => None,
        _ if number % 5 == 1 => Some("new".to_owned()),
        _ => Some(value(number)[..number as usize % 90 * 5].to_owned()),
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "how many flips were noticed belongs to the result")]
fn a_flipped_bit_in_a_chamber_gives_the_truth_or_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = sample_chamber(folder.path());
    let whole = fs::read(&path).expect("read");
    assert!(!path.with_extension("db-wal").exists(), "all of it is in one file");
    let inner: Vec<usize> = inner_pages(&whole);
    assert!(inner.len() >= 2, "both trees have inner pages");
    let (mut dice, mut noticed) = (Dice::new(seed()), 0);
    let flips = FLIPS[usize::from(soak::is_asked_for())];
    for flip in 0..flips {
        // The first page and the inner ones hold what the rest is read by: half of the flips are there.
        let page = match flip % 4 {
            0 => 0,
            1 => inner[dice.below(inner.len())],
            _ => dice.below(whole.len() / PAGE_BYTES),
        };
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

/// The pages through which others are found.
fn inner_pages(file: &[u8]) -> Vec<usize> {
    const INNER_PAGE_OF_AN_INDEX: u8 = 2;
    let pages = file.chunks(PAGE_BYTES).enumerate();
    pages.filter(|(_, page)| page[0] == INNER_PAGE_OF_AN_INDEX).map(|(number, _)| number).collect()
}

/// Whether the damage was noticed. Every answer is the right one or an error: no other value, and nothing absent that is
/// there.
fn tells_an_error_or_the_truth(folder: &Path, bit: usize) -> bool {
    let Ok(chamber) = Chamber::open_existing(folder, "flipped", key(), Options::default()) else { return true };
    let mut noticed = false;
    for number in (0..125).chain([1000]) {
        match chamber.retrieve::<String>(&number) {
            Ok(found) => assert_eq!(found, expected(number), "record {number}, bit {bit}"),
            Err(_) => noticed = true,
        }
        match chamber.exists(&number) {
            Ok(found) => assert_eq!(found, expected(number).is_some(), "record {number}, bit {bit}"),
            Err(_) => noticed = true,
        }
    }
    match chamber.list_keys::<u64>() {
        Ok(keys) => {
            let all = (0..=1000).filter(|number| expected(*number).is_some());
            assert!(all.eq(keys), "bit {bit}");
        }
        Err(_) => noticed = true,
    }
    noticed
}
