//! Vault and chamber against `BTreeMap`: a state machine over their whole interface, and many threads and processes at once.

use crate::soak::{self, Dice, seed};
use serde::{Deserialize, Serialize};
use shard::chamber::{Chamber, Purpose};
use shard::crypto::ChamberKey;
use shard::id::NodeId;
use shard::vault::{Clock, Durability, Options, Vault, VaultName};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Steps of the state machines, in a sample and in all.
const STEPS: [usize; 2] = [2_000, 100_000];
/// How often each thread or process increments the shared counter.
const INCREMENTS: i64 = 100;
/// Names the folder in which a process that this test starts takes part.
const WORKER: &str = "SHARD_TEST_VAULT_WORKER";

/// Keys of several shapes, few enough to meet again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    Number(i64),
    Name(String),
    Pair(u8, Option<String>),
}

fn key(dice: &mut Dice) -> Key {
    let number = dice.below(12);
    let name = ["", "a", "a\0", "ab", "ä", "名", "\u{10ffff}"][number % 7].to_owned();
    match dice.below(3) {
        0 => Key::Number([-1, 0, 1, 255, 256, -256, i64::MIN, i64::MAX, 1 << 40, -65_537, 7, 8][number]),
        1 => Key::Name(name),
        _ => Key::Pair(number as u8, (number > 5).then_some(name)),
    }
}

/// What should be there: values, and when they expire.
#[derive(Default)]
struct Model {
    entries: BTreeMap<Key, (i64, Option<i64>)>,
    now: i64,
}

impl Model {
    fn get(&self, key: &Key) -> Option<i64> {
        self.entries.get(key).filter(|(_, end)| end.is_none_or(|end| end > self.now)).map(|(value, _)| *value)
    }

    fn living(&self) -> Vec<(Key, i64)> {
        self.entries.keys().filter_map(|key| Some((key.clone(), self.get(key)?))).collect()
    }

    fn clean(&mut self) -> u64 {
        let before = self.entries.len();
        self.entries.retain(|_, (_, end)| end.is_none_or(|end| end > self.now));
        (before - self.entries.len()) as u64
    }
}

fn options(now: &Arc<AtomicI64>) -> Options {
    let now = Arc::clone(now);
    Options { clock: Clock::new(move || now.load(Ordering::SeqCst)), durability: Durability::Relaxed }
}

fn steps() -> usize {
    STEPS[usize::from(soak::is_asked_for())]
}

#[test]
fn a_vault_does_what_a_map_does_step_by_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut dice, mut model, now) = (Dice::new(seed()), Model::default(), Arc::new(AtomicI64::new(0)));
    let mut vault = Vault::open(folder.path(), "model", options(&now)).expect("a vault");
    for step in 0..steps() {
        model.now += dice.below(3) as i64;
        now.store(model.now, Ordering::SeqCst);
        let (key, value) = (key(&mut dice), dice.below(1000) as i64 - 500);
        vault_step(&vault, &mut model, (&key, value), &mut dice);
        if dice.below(200) == 0 {
            drop(vault);
            vault = Vault::open_existing(folder.path(), "model", options(&now)).expect("the vault");
        }
        assert_eq!(vault.get::<i64>(&key).expect("asked"), model.get(&key), "step {step}");
        assert_eq!(vault.len().expect("counted"), model.living().len() as u64, "step {step}");
    }
}

fn vault_step(vault: &Vault, model: &mut Model, (key, value): (&Key, i64), dice: &mut Dice) {
    match dice.below(16) {
        0..3 => {
            assert_eq!(vault.insert(key, &value).expect("put"), model.get(key));
            model.entries.insert(key.clone(), (value, None));
        }
        3..5 => {
            let ttl = dice.below(40) as i64;
            vault.put_with_ttl(key, &value, Duration::from_millis(ttl as u64)).expect("put");
            model.entries.insert(key.clone(), (value, Some(model.now + ttl)));
        }
        5 => {
            let expected = model.get(key).unwrap_or(value);
            assert_eq!(vault.get_or_insert_with(key, || value).expect("asked"), expected);
            if model.get(key).is_none() {
                model.entries.insert(key.clone(), (value, None));
            }
        }
        6 => {
            assert_eq!(vault.pop::<i64>(key).expect("popped"), model.get(key));
            model.entries.remove(key);
        }
        7 => {
            assert_eq!(vault.remove(key).expect("removed"), model.get(key).is_some());
            model.entries.remove(key);
        }
        8 => {
            let first = model.living().into_iter().next();
            assert_eq!(vault.pop_first::<Key, i64>().expect("popped"), first);
            if let Some((key, _)) = first {
                model.entries.remove(&key);
            }
        }
        9 => {
            let end = model.get(key).and(model.entries.get(key)).and_then(|entry| entry.1);
            let sum = model.get(key).unwrap_or(0) + value;
            assert_eq!(vault.increment(key, value).expect("added"), sum);
            model.entries.insert(key.clone(), (sum, end));
        }
        _ => vault_step_at_large(vault, model, (key, value), dice),
    }
}

/// A step that is about more than one entry.
fn vault_step_at_large(vault: &Vault, model: &mut Model, (key, value): (&Key, i64), dice: &mut Dice) {
    match dice.below(6) {
        0 => assert_eq!(vault.cleanup_expired().expect("cleaned"), model.clean()),
        1 => {
            let from: Vec<(Key, i64)> =
                vault.range(key..).expect("a range").map(|entry| entry.expect("read")).collect();
            let mut expected = model.living();
            expected.retain(|(other, _)| other >= key);
            assert_eq!(from, expected);
        }
        2 => {
            let failed = vault.transaction(|tx| {
                tx.put(key, &value)?;
                tx.clear()?;
                tx.put(key, "no integer")?;
                tx.increment(key, 1)
            });
            assert!(failed.is_err(), "nothing of it stays");
        }
        3 => {
            let many: Vec<(Key, i64)> = (0..4).map(|add| (self::key(dice), value + add)).collect();
            assert_eq!(vault.extend(many.iter().map(|(key, value)| (key, value))).expect("put"), 4);
            model.entries.extend(many.into_iter().map(|(key, value)| (key, (value, None))));
        }
        4 => {
            let mut export = Vec::new();
            let name = VaultName::new("model").expect("a name");
            vault.export(&name, &mut export).expect("exported");
            vault.clear().expect("cleared");
            assert_eq!(vault.import(&mut export.as_slice()).expect("imported"), model.living().len() as u64);
            model.clean();
        }
        _ if dice.below(8) == 0 => {
            assert_eq!(vault.clear().expect("cleared"), model.living().len() as u64);
            model.entries.clear();
        }
        _ => {
            let all: Vec<(Key, i64)> = vault.iter().expect("entries").map(|entry| entry.expect("read")).collect();
            assert_eq!(all, model.living());
            assert!(
                vault
                    .keys::<Key>()
                    .expect("keys")
                    .map(|key| key.expect("read"))
                    .eq(all.into_iter().map(|(key, _)| key))
            );
        }
    }
}

fn chamber_key(secret: u8) -> ChamberKey {
    ChamberKey::from_secret(NodeId([1; 32]), &[secret; 32])
}

#[test]
fn a_chamber_does_what_a_map_does_step_by_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut dice, mut model, now) = (Dice::new(seed()), Model::default(), Arc::new(AtomicI64::new(0)));
    let open = |secret| Chamber::open(folder.path(), "model", chamber_key(secret), options(&now)).expect("a chamber");
    let (mut secret, mut contents) = (0, BTreeMap::new());
    let mut chamber = open(secret);
    for step in 0..steps() {
        model.now += dice.below(3) as i64;
        now.store(model.now, Ordering::SeqCst);
        let (key, value) = (key(&mut dice), dice.below(1000) as i64 - 500);
        match dice.below(200) {
            0 => chamber = open(secret),
            1 => {
                secret = secret.wrapping_add(1);
                chamber.change_key(chamber_key(secret)).expect("changed");
            }
            2..22 => {
                let length = dice.below(300);
                let bytes = dice.bytes(length);
                contents.insert(chamber.put(&bytes).expect("put"), bytes);
            }
            _ => chamber_step(&chamber, &mut model, (&key, value), &mut dice),
        }
        assert_eq!(chamber.retrieve::<i64>(&key).expect("asked"), model.get(&key), "step {step}");
        assert_eq!(chamber.exists(&key).expect("asked"), model.get(&key).is_some(), "step {step}");
        if let Some((hash, bytes)) = contents.iter().nth(dice.below(20)) {
            assert_eq!(chamber.get(*hash).expect("asked").as_ref(), Some(bytes));
        }
    }
    chamber.check().expect("all is well");
}

fn chamber_step(chamber: &Chamber, model: &mut Model, (key, value): (&Key, i64), dice: &mut Dice) {
    match dice.below(10) {
        0..3 => {
            chamber.store(key, &value).expect("stored");
            model.entries.insert(key.clone(), (value, None));
        }
        3..5 => {
            let ttl = dice.below(40) as i64;
            chamber.store_with_ttl(key, &value, Duration::from_millis(ttl as u64)).expect("stored");
            model.entries.insert(key.clone(), (value, Some(model.now + ttl)));
        }
        5..7 => {
            assert_eq!(chamber.delete(key).expect("deleted"), model.get(key).is_some());
            model.entries.remove(key);
        }
        7 => assert_eq!(chamber.cleanup_expired().expect("cleaned"), model.clean()),
        8 => {
            let failed = chamber.transaction(|tx| -> Result<(), shard::chamber::Error> {
                tx.store(Purpose::RECORD, key, &value)?;
                tx.clear(Purpose::RECORD)?;
                Err(shard::chamber::Error::Torn)
            });
            assert!(failed.is_err(), "nothing of it stays");
        }
        _ => {
            let keys: Vec<Key> = model.living().into_iter().map(|(key, _)| key).collect();
            assert_eq!(chamber.list_keys::<Key>().expect("listed"), keys);
        }
    }
}

/// Increments, puts entries of its own and takes some away; every step must be seen by all in the end.
fn work(folder: &Path, worker: usize) {
    let options = || Options { durability: Durability::Relaxed, ..Options::default() };
    let vault = Vault::open(folder, "shared", options()).expect("a vault");
    let chamber = Chamber::open(folder, "shared", chamber_key(7), options()).expect("a chamber");
    for step in 0..INCREMENTS {
        vault.increment("counter", 1).expect("added");
        vault.put(&(worker, step), &step).expect("put");
        let add = |tx: &shard::chamber::Transaction<'_>| {
            let before: i64 = tx.retrieve(Purpose::RECORD, "counter")?.unwrap_or(0);
            tx.store(Purpose::RECORD, "counter", &(before + 1))?;
            tx.store(Purpose::RECORD, &(worker, step), &step)
        };
        chamber.transaction(add).expect("stored");
        if step % 3 == 0 {
            assert_eq!(vault.pop::<i64>(&(worker, step)).expect("popped"), Some(step));
            assert!(chamber.delete(&(worker, step)).expect("deleted"));
        }
    }
}

#[test]
fn threads_and_processes_at_once_lose_no_step() {
    if let Some(folder) = std::env::var_os(WORKER) {
        return work(Path::new(&folder), std::process::id() as usize);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let name = "vault_model::threads_and_processes_at_once_lose_no_step";
    let begin = |_| {
        let program = std::env::current_exe().expect("this program");
        Command::new(program).args(["--exact", name]).env(WORKER, folder.path()).spawn().expect("it runs")
    };
    let processes: Vec<_> = (0..3).map(begin).collect();
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let folder = folder.path();
            scope.spawn(move || work(folder, worker));
        }
    });
    for mut process in processes {
        assert!(process.wait().expect("it ended").success());
    }
    let vault = Vault::open_existing(folder.path(), "shared", Options::default()).expect("the vault");
    let chamber = Chamber::open_existing(folder.path(), "shared", chamber_key(7), Options::default()).expect("it");
    let (all, kept) = (6 * INCREMENTS, 6 * (INCREMENTS - (INCREMENTS + 2) / 3));
    assert_eq!(vault.get("counter").expect("asked"), Some(all));
    assert_eq!(chamber.retrieve("counter").expect("asked"), Some(all));
    assert_eq!((vault.len().expect("counted"), chamber.len().expect("counted")), (kept as u64 + 1, kept as u64 + 1));
    vault.check().expect("all is well");
    chamber.check().expect("all is well");
}

#[test]
fn to_open_a_vault_twice_in_a_process_does_not_take_its_log_from_under_it() {
    if let Some(folder) = std::env::var_os(WORKER) {
        let vault = Vault::open(Path::new(&folder), "shared", Options::default()).expect("a vault");
        return vault.put("theirs", &1).expect("put");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Vault::open(folder.path(), "shared", Options::default()).expect("a vault");
    let (first, second) = (open(), open());
    first.put("before", &1).expect("put");
    let program = std::env::current_exe().expect("this program");
    let name = "vault_model::to_open_a_vault_twice_in_a_process_does_not_take_its_log_from_under_it";
    let run = Command::new(program).args(["--exact", name]).env(WORKER, folder.path()).status();
    assert!(run.expect("it runs").success());
    first.put("after", &1).expect("put");
    second.put("last", &1).expect("put");
    drop((first, second));
    let keys: Vec<String> = open().keys().expect("asked").collect::<Result<_, _>>().expect("listed");
    assert_eq!(keys.len(), 4, "{keys:?}");
}
