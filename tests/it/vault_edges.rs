//! Vaults, chambers and engines on a disk that fills up, and names that two processes make at once.

use crate::desk::Desk;
use crate::private_mounts::PrivateMounts;
use shard::chamber::{self, Chamber};
use shard::crypto::ChamberKey;
use shard::engine::{EngineOptions, Message, PageRequest, StorageEngine};
use shard::id::{MessageId, NodeId, PeerId};
use shard::vault::{self, Options, Vault};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

/// Names the folder in which a process that these tests start among their mounts works, and what it does.
const WORKER: &str = "SHARD_TEST_FULL_DISK";
const WORK: &str = "SHARD_TEST_FULL_DISK_WORK";

fn key() -> ChamberKey {
    ChamberKey::from_secret(NodeId([1; 32]), &[2; 32])
}

fn value(number: u64) -> String {
    format!("{number};").repeat(300)
}

fn message(number: u64) -> Message {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Message::new(MessageId(id), PeerId([1; 32]), value(number))
}

/// All three on the small disk.
struct Three(Vault, Chamber, StorageEngine);

impl Three {
    fn open(disk: &Path) -> Result<Self, shard::engine::Error> {
        let chamber = Chamber::open(disk, "c", key(), Options::default())?;
        let engine = StorageEngine::open(disk, "e", key(), EngineOptions::default())?;
        Ok(Self(Vault::open(disk, "v", Options::default())?, chamber, engine))
    }

    /// One entry in each; how many of the three acknowledged it, and why the next did not.
    fn put(&self, number: u64) -> (u8, Option<shard::engine::Error>) {
        if let Err(error) = self.0.put(&number, &value(number)) {
            return (0, Some(error.into()));
        }
        if let Err(error) = self.1.store(&number, &value(number)) {
            return (1, Some(error.into()));
        }
        match self.2.save_message(message(number)) {
            Err(error) => (2, Some(error)),
            Ok(_) => (3, None),
        }
    }

    /// Fails unless all that was acknowledged is there, in each of the three.
    fn has(&self, acknowledged: [u64; 3]) -> Result<(), shard::engine::Error> {
        for number in 0..acknowledged[0] {
            assert_eq!(self.0.get::<String>(&number)?, Some(value(number)), "entry {number}");
        }
        for number in 0..acknowledged[1] {
            assert_eq!(self.1.retrieve::<String>(&number)?, Some(value(number)), "record {number}");
        }
        let newest = self.2.recent_messages(PageRequest::newest(1000))?.records;
        assert_eq!(newest.len() as u64, acknowledged[2], "what failed is not there, what was acknowledged is");
        assert!(newest.iter().rev().map(|found| found.id).eq((0..acknowledged[2]).map(|number| message(number).id)));
        Ok(())
    }
}

fn work(folder: &Path, what: &str) {
    let disk = folder.join("disk");
    if what == "fill" {
        let three = Three::open(&disk).expect("there is room yet");
        for number in 0.. {
            let (acknowledged, failed) = three.put(number);
            if let Some(error) = failed {
                assert!(error.is_full(), "{error}");
                assert!(error.to_string().starts_with("no space left for the vault"), "{error}");
                let acknowledged: [u64; 3] = std::array::from_fn(|at| number + u64::from(at < acknowledged.into()));
                three.has(acknowledged).expect("a full disk is read");
                fs::write(folder.join("acknowledged"), acknowledged.map(|count| count.to_string()).join(" "))
                    .expect("it");
                return;
            }
        }
    }
    let told = fs::read_to_string(folder.join("acknowledged")).expect("it was written");
    let counts: Vec<u64> = told.split(' ').map(|count| count.parse().expect("a number")).collect();
    let acknowledged: [u64; 3] = counts.try_into().expect("three");
    assert!(acknowledged[2] > 5, "{acknowledged:?}");
    let checked = Three::open(&disk).and_then(|three| three.has(acknowledged).map(|()| three));
    match checked {
        Err(error) => assert!(what == "look" && error.is_full(), "nothing but room may be missing: {error}"),
        Ok(three) if what == "go on" => {
            three.0.check().expect("all is well");
            three.1.check().expect("all is well");
            three.2.check().expect("all is well");
            assert!(three.put(acknowledged[2]).1.is_none(), "with room it goes on");
        }
        Ok(_) => {}
    }
}

#[test]
fn what_was_acknowledged_before_the_disk_was_full_stays_and_with_room_it_goes_on() {
    if let Some(folder) = std::env::var_os(WORKER) {
        return work(Path::new(&folder), &std::env::var(WORK).expect("what to do"));
    }
    let Some(mounts) = PrivateMounts::new() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    mounts.disk(&disk, "1m");
    let run = |what: &str| {
        let program = std::env::current_exe().expect("this program");
        let mut command = mounts.command(folder.path(), program.to_str().expect("UTF-8"));
        let name = "vault_edges::what_was_acknowledged_before_the_disk_was_full_stays_and_with_room_it_goes_on";
        let output =
            command.args(["--exact", name]).env(WORKER, folder.path()).env(WORK, what).output().expect("it runs");
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stdout));
    };
    let room = "head -c 250000 /dev/zero >disk/filling";
    assert!(mounts.command(folder.path(), "sh").args(["-c", room]).status().expect("it runs").success());
    run("fill");
    run("look");
    mounts.empty(&disk);
    run("go on");
}

#[test]
fn a_full_disk_under_a_vault_is_told_with_what_to_do_about_it() {
    let Some(mounts) = PrivateMounts::new() else { return };
    let desk = Desk::new();
    let store = desk.path("small");
    mounts.disk(&store, "1m");
    let at = ["--store", store.to_str().expect("UTF-8")];
    let with = |words: &[&'static str]| [words, &at].concat();
    mounts.expect(&desk, 0, &with(&["init", "--bare"]));
    mounts.expect(&desk, 0, &with(&["vault", "set", "v", "a", "1"]));
    mounts.fill(&store);
    for words in [&["vault", "set", "v", "a", "2"][..], &["vault", "set", "w", "a", "2", "--sealed"]] {
        let failure = mounts.json(&desk, 1, &with(words));
        assert_eq!(failure["kind"], "space", "{failure}");
        assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("room")), "{failure}");
    }
    mounts.empty(&store);
    assert_eq!(mounts.expect(&desk, 0, &with(&["vault", "get", "v", "a"])).stdout, b"1");
    mounts.expect(&desk, 0, &with(&["vault", "set", "v", "a", "2"]));
}

#[test]
fn a_name_that_processes_make_sealed_and_unsealed_at_once_becomes_one_of_both_and_stays_it() {
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    for name in ["one", "two", "three", "four"] {
        let begin = |number: usize| -> Child {
            let mut command = desk.command();
            command.args(["vault", "set", name, &format!("key {number}"), "a value"]);
            command.args(["--sealed"].iter().take(number % 2));
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs")
        };
        let running: Vec<Child> = (0..6).map(begin).collect();
        let ended: Vec<_> = running.into_iter().map(|child| child.wait_with_output().expect("it ended")).collect();
        let listed = desk.json(0, &["vault", "list"])["vaults"].clone();
        let of_name: Vec<_> = listed.as_array().expect("vaults").iter().filter(|vault| vault["name"] == name).collect();
        assert_eq!(of_name.len(), 1, "{listed}");
        let is_sealed = of_name[0]["sealed"] == true;
        for (number, outcome) in ended.iter().enumerate() {
            let said = String::from_utf8_lossy(&outcome.stderr);
            // What was not to be sealed goes into a sealed vault too; the other way it is refused.
            let is_refused = !is_sealed && number % 2 == 1;
            assert_eq!(outcome.status.success(), !is_refused, "{number}: {said}");
            assert!(!is_refused || said.contains("is not sealed"), "{said}");
            let found = desk.run(&["vault", "get", name, &format!("key {number}")]);
            assert_eq!(found.code == 0, !is_refused, "{number}: {}", found.stderr);
        }
    }
}

#[test]
fn errors_of_a_chamber_and_an_engine_say_whether_it_is_damage_or_room_that_is_missing() {
    let damaged = chamber::Error::from(vault::Error::Damaged { path: "v".into(), what: "a page".to_owned() });
    assert!(damaged.is_damage() && shard::engine::Error::from(damaged).is_damage());
    assert!(!shard::engine::Error::NoBackup.is_full() && !shard::engine::Error::OtherKey.is_damage());
}
