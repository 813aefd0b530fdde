//! Histories of several processes and threads on one store, with clocks that jump: each name behaves as a register whose newest
//! version is what was put last, as far as the order can be known from outside.

use crate::desk::{PROGRAM, counts};
use crate::soak::{self, Dice};
use crate::world::{TestWorld, geometry, name, putting, stream_of};
use serde::{Deserialize, Serialize};
use shard::ErrorKind;
use shard::ops::gc::{GcOptions, gc};
use shard::ops::put::put;
use shard::ops::recover::{RecoverOptions, RecoverOutput, RecoverWhat, recover};
use shard::ops::remove::{RemoveOptions, remove};
use shard::ops::repair::{RepairOptions, repair};
use shard::ops::verify::{VerifyOptions, verify};
use shard::store::{OpenOptions, Store, WallClock};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Tells a process that this test starts what it is to do: the store, its log, its seed, how many steps.
const WORKER: &str = "SHARD_TEST_HISTORY_WORKER";
const NAMES: usize = 3;
const PROCESSES: u64 = 3;
const THREADS: u64 = 2;
const STEPS: usize = 14;

/// What was done, or only begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Event {
    /// Which operation: begin and end have the same.
    operation: String,
    what: What,
    file: String,
    /// What was put.
    value: String,
    /// In nanoseconds of a clock that does not jump.
    at_ns: u64,
    /// `None` when it begins.
    outcome: Option<Came>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    Put,
    Read,
    Remove,
    /// It removes and reads no name, but it moves what is stored.
    Tend,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Came {
    /// The version that was put.
    Stored(String),
    /// What was read.
    Got(String),
    /// The version that is gone.
    Removed(String),
    NotThere,
    Done,
    Failed(String),
}

/// A file that several threads append to, line by line.
#[derive(Clone)]
struct Log {
    file: Arc<Mutex<File>>,
    next: Arc<AtomicU64>,
    who: String,
}

/// The same in all processes, and nobody sets it.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Log {
    fn new(path: &Path, who: String) -> Self {
        let file = File::options().create(true).append(true).open(path).expect("a log");
        Self { file: Arc::new(Mutex::new(file)), next: Arc::default(), who }
    }

    fn write(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).expect("JSON");
        line.push(b'\n');
        self.file.lock().expect("not poisoned").write_all(&line).expect("written");
    }

    fn begin(&self, what: What, file: &str) -> Event {
        let operation = format!("{}-{}", self.who, self.next.fetch_add(1, Ordering::Relaxed));
        let value = format!("{operation} {file}");
        let event = Event { operation, what, file: file.to_owned(), value, at_ns: now_ns(), outcome: None };
        self.write(&event);
        event
    }

    fn end(&self, begun: Event, outcome: Came) {
        self.write(&Event { outcome: Some(outcome), at_ns: now_ns(), ..begun });
    }
}

fn failed(error: &shard::Error) -> Came {
    match error.kind {
        ErrorKind::NotFound => Came::NotThere,
        kind => Came::Failed(format!("{}: {error}: {:?}", kind.name(), error.source)),
    }
}

/// One step of a thread.
async fn step(store: &Store, log: &Log, dice: &mut Dice, output: PathBuf) {
    let file = format!("file-{}", dice.below(NAMES));
    match dice.below(20) {
        0..7 => {
            let begun = log.begin(What::Put, &file);
            let options = putting(vec![stream_of(&file, begun.value.as_bytes())], geometry(3, 5));
            let came = put(store, options).await.map(|report| Came::Stored(report.files[0].version.to_string()));
            log.end(begun, came.unwrap_or_else(|error| failed(&error)));
        }
        7..13 => {
            let begun = log.begin(What::Read, &file);
            let _ = fs::remove_file(&output);
            let what = RecoverWhat::Names(vec![name(&file)]);
            let came = recover(store, RecoverOptions::new(what, RecoverOutput::Path(output.clone()))).await;
            let read = |_| Came::Got(fs::read_to_string(&output).expect("text"));
            log.end(begun, came.map_or_else(|error| failed(&error), read));
        }
        13..16 => {
            let begun = log.begin(What::Remove, &file);
            let options = RemoveOptions { names: vec![name(&file)], ..RemoveOptions::default() };
            let came = remove(store, options).await.map(|report| Came::Removed(report.files[0].version.to_string()));
            log.end(begun, came.unwrap_or_else(|error| failed(&error)));
        }
        other => {
            let begun = log.begin(What::Tend, "");
            let came = match other {
                16 | 17 => verify(store, VerifyOptions::default()).await.map(drop),
                18 => repair(store, RepairOptions::default()).await.map(drop),
                _ => gc(store, GcOptions::default()).await.map(drop),
            };
            log.end(begun, came.map_or_else(|error| failed(&error), |()| Came::Done));
        }
    }
}

/// A process: threads that share one open store, whose clock jumps.
fn work(told: &str) {
    let told: Vec<&str> = told.split('\n').collect();
    let (store, log, seed) = (Path::new(told[0]), Path::new(told[1]), told[2].parse::<u64>().expect("a seed"));
    let clock = Arc::new(Mutex::new(Dice::new(seed ^ 0xC10C)));
    let clock = WallClock::new(move || clock.lock().expect("not poisoned").next() as i64);
    let options = OpenOptions { clock, ..OpenOptions::default() };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = runtime().block_on(Store::open(store, options)).expect("the store opens");
    let log = Log::new(log, format!("process-{seed}"));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, log, output) = (&store, &log, PathBuf::from(format!("{}-{seed}-{thread}", told[1])));
            scope.spawn(move || {
                let mut dice = Dice::new(seed.wrapping_mul(31).wrapping_add(thread));
                for _ in 0..STEPS {
                    runtime().block_on(step(store, log, &mut dice, output.clone()));
                }
            });
        }
    });
}

/// What is known of one operation.
#[derive(Debug, Clone)]
struct Operation {
    what: What,
    file: String,
    value: String,
    begun: u64,
    /// `u64::MAX` for one that never ended: it may take effect at any time.
    ended: u64,
    came: Option<Came>,
}

fn read_history(log: &Path) -> Vec<Operation> {
    let mut operations: BTreeMap<String, Operation> = BTreeMap::new();
    for line in BufReader::new(File::open(log).expect("the log")).lines() {
        let event: Event = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let Event { operation, what, file, value, at_ns, outcome } = event;
        let begun = Operation { what, file, value, begun: at_ns, ended: u64::MAX, came: None };
        let known = operations.entry(operation).or_insert(begun);
        if outcome.is_some() {
            (known.ended, known.came) = (at_ns, outcome);
        }
    }
    operations.into_values().collect()
}

/// What one name may show, as far as the order of operations is known.
struct Register<'a> {
    operations: Vec<&'a Operation>,
    tending: Vec<&'a Operation>,
}

impl<'a> Register<'a> {
    fn of(history: &'a [Operation], file: &str) -> Self {
        let operations = history.iter().filter(|operation| operation.file == file).collect();
        let tending = history.iter().filter(|operation| operation.what == What::Tend).collect();
        Self { operations, tending }
    }

    fn of_kind(&self, what: What) -> impl Iterator<Item = &'a Operation> + '_ {
        self.operations.iter().copied().filter(move |operation| operation.what == what)
    }

    fn put_of(&self, version: &str) -> Option<&'a Operation> {
        self.of_kind(What::Put).find(|put| put.came == Some(Came::Stored(version.to_owned())))
    }

    /// Whether a removal may have taken this away before a moment: one that says so, or one that never said what it did.
    fn may_be_removed(&self, put: &Operation, before: u64) -> bool {
        let version = match &put.came {
            Some(Came::Stored(version)) => version,
            _ => return true,
        };
        self.of_kind(What::Remove).any(|remove| match &remove.came {
            Some(Came::Removed(gone)) => gone == version && remove.begun < before,
            Some(Came::NotThere) => false,
            _ => remove.begun < before,
        })
    }

    /// Whether a removal of it was acknowledged before a moment.
    fn is_removed(&self, put: &Operation, before: u64) -> bool {
        let Some(Came::Stored(version)) = &put.came else { return false };
        let mut removes = self.of_kind(What::Remove);
        removes.any(|remove| remove.came == Some(Came::Removed(version.clone())) && remove.ended < before)
    }

    /// An acknowledged put that must be seen by whoever looks in this time, and that came after another had ended.
    fn newer(&self, than: Option<&Operation>, (begun, ended): (u64, u64)) -> Option<&'a Operation> {
        let is_acknowledged = |put: &&Operation| matches!(put.came, Some(Came::Stored(_))) && put.ended < begun;
        let is_after = |put: &&Operation| than.is_none_or(|than| than.ended < put.begun);
        self.of_kind(What::Put).filter(is_acknowledged).filter(is_after).find(|put| !self.may_be_removed(put, ended))
    }

    fn check(&self) {
        for read in self.operations.iter().copied().filter(|operation| operation.what != What::Put) {
            let (during, file) = ((read.begun, read.ended), &read.file);
            let shown = match &read.came {
                Some(Came::Got(value)) => {
                    let put = self.of_kind(What::Put).find(|put| put.value == *value);
                    Some(put.unwrap_or_else(|| unreachable!("{value:?} was never put under {file}")))
                }
                // Whose put died may be seen, and removed, all the same.
                Some(Came::Removed(version)) => match self.put_of(version) {
                    None => continue,
                    put => put,
                },
                Some(Came::NotThere) => None,
                Some(Came::Failed(why)) => {
                    self.may_fail(read, why);
                    continue;
                }
                _ => continue,
            };
            if let Some(put) = shown {
                assert!(put.begun < read.ended, "{read:?} saw what was put later: {put:?}");
                assert!(!self.is_removed(put, read.begun), "{read:?} saw what was removed: {put:?}");
            }
            let newer = self.newer(shown, during);
            assert!(newer.is_none(), "{read:?} saw {shown:?}, and there was {newer:?}");
        }
    }

    /// What is read while it is removed or moved may fail; nothing else may, but for having waited in vain.
    fn may_fail(&self, read: &Operation, why: &str) {
        let overlaps = |other: &&&Operation| other.begun < read.ended && read.begun < other.ended;
        let changes = self.operations.iter().filter(|other| other.what == What::Remove).filter(overlaps).count();
        let moves = self.tending.iter().filter(overlaps).count();
        assert!(why.starts_with("busy") || changes + moves > 0, "{read:?} failed, and nothing else was going on");
        assert!(!why.starts_with("damaged") && !why.starts_with("memory"), "{read:?}");
    }
}

/// The program, beside the others, one command after another.
fn run_commands((store, folder): (&Path, &Path), log: &Log, dice: &mut Dice, steps: usize) {
    for _ in 0..steps {
        let file = format!("file-{}", dice.below(NAMES));
        let command = |words: &[&str], stdin: &str| {
            let mut command = Command::new(PROGRAM);
            command.args(["--store", store.to_str().expect("text"), "--json"]).args(words).env_clear();
            command
                .envs(counts())
                .env("HOME", folder)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut child = command.spawn().expect("it runs");
            child.stdin.take().expect("a pipe").write_all(stdin.as_bytes()).expect("written");
            child.wait_with_output().expect("it ends")
        };
        let (what, words) = match dice.below(5) {
            0 | 1 => (What::Put, vec!["put", "-", "--name", &file]),
            2 | 3 => (What::Read, vec!["recover", &file, "-o", "from-command", "--force"]),
            _ => (What::Remove, vec!["remove", &file]),
        };
        let output = folder.join("from-command");
        let words: Vec<&str> = words
            .into_iter()
            .map(|word| if word == "from-command" { output.to_str().expect("text") } else { word })
            .collect();
        let begun = log.begin(what, &file);
        let came = command(&words, if what == What::Put { &begun.value } else { "" });
        let report: serde_json::Value = serde_json::from_slice(&came.stdout).unwrap_or_default();
        let version = report["files"][0]["version"].as_str().unwrap_or_default().to_owned();
        let outcome = match (came.status.code(), what) {
            (Some(0 | 3), What::Put) => Came::Stored(version),
            (Some(0 | 3), What::Read) => Came::Got(fs::read_to_string(&output).expect("text")),
            (Some(0 | 3), _) => Came::Removed(version),
            (Some(13), _) => Came::NotThere,
            (Some(11), _) => Came::Failed("busy".to_owned()),
            _ => Came::Failed(String::from_utf8_lossy(&came.stderr).into_owned()),
        };
        log.end(begun, outcome);
    }
}

fn begin_process(world: &TestWorld, log: &Path, seed: u64) -> Child {
    let told = format!("{}\n{}\n{seed}", world.store_dir().display(), log.display());
    let test = "histories::names_behave_as_registers_for_processes_and_threads_with_clocks_that_jump";
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]).env(WORKER, told).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("a process")
}

/// One history; how many operations it has, and how many of them were cut off.
async fn live(dice: &mut Dice) -> (usize, usize) {
    let world = TestWorld::new(5).await;
    let log = world.desk().join("log");
    let seeds: Vec<u64> = (0..PROCESSES).map(|_| dice.next()).collect();
    let mut children: Vec<Child> = seeds.iter().map(|seed| begin_process(&world, &log, *seed)).collect();
    let mut own_dice = Dice::new(dice.next());
    let (store_dir, desk, own_log) = (world.store_dir(), world.desk(), Log::new(&log, "program".to_owned()));
    run_commands((&store_dir, &desk), &own_log, &mut own_dice, STEPS / 4);
    // One of them is killed wherever it is by now.
    children[0].kill().expect("killed or ended");
    run_commands((&store_dir, &desk), &own_log, &mut own_dice, STEPS - STEPS / 4);
    for (number, child) in children.into_iter().enumerate() {
        let ended = child.wait_with_output().expect("it ends");
        assert!(number == 0 || ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    let history = read_history(&log);
    (0..NAMES).for_each(|number| Register::of(&history, &format!("file-{number}")).check());
    what_was_acknowledged_is_there(&world, &history).await;
    (history.len(), history.iter().filter(|operation| operation.came.is_none()).count())
}

/// After all of it: every acknowledged version that nothing removed, by its id, and none that was removed.
async fn what_was_acknowledged_is_there(world: &TestWorld, history: &[Operation]) {
    let store = Store::open(&world.store_dir(), OpenOptions::default()).await.expect("the store opens");
    repair(&store, RepairOptions::default()).await.expect("repaired");
    let listed = store.catalog(|catalog| catalog.list_versions("", None, 10_000)).await.expect("versions");
    let listed: BTreeSet<String> = listed.iter().map(|version| version.id.to_string()).collect();
    for put in history.iter().filter(|operation| operation.what == What::Put) {
        let Some(Came::Stored(version)) = &put.came else { continue };
        let register = Register::of(history, &put.file);
        if register.is_removed(put, u64::MAX) {
            assert!(!listed.contains(version), "{put:?} was removed, and is back");
        } else if !register.may_be_removed(put, u64::MAX) {
            let path = world.desk().join("last");
            let _ = fs::remove_file(&path);
            let what = RecoverWhat::Names(vec![name(&put.file)]);
            let id = version.parse().expect("an id");
            let options =
                RecoverOptions { version: Some(id), ..RecoverOptions::new(what, RecoverOutput::Path(path.clone())) };
            recover(&store, options).await.unwrap_or_else(|error| unreachable!("{put:?} is lost: {error}"));
            assert_eq!(fs::read_to_string(&path).expect("text"), put.value);
        }
    }
    let report = verify(&store, VerifyOptions::default()).await.expect("verified");
    assert_eq!(report.summary.objects, report.summary.healthy, "{report:?}");
}

#[test]
#[expect(clippy::print_stdout, reason = "how much was tried belongs to the result")]
fn names_behave_as_registers_for_processes_and_threads_with_clocks_that_jump() {
    if let Ok(told) = std::env::var(WORKER) {
        return work(&told);
    }
    let (mut dice, histories) = (Dice::new(soak::seed()), if soak::is_asked_for() { 200 } else { 2 });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (mut operations, mut cut_off) = (0, 0);
    for _ in 0..histories {
        let (more, of_these) = runtime.block_on(live(&mut dice));
        (operations, cut_off) = (operations + more, cut_off + of_these);
    }
    println!("{histories} histories: {operations} operations, {cut_off} of them cut off by a kill");
}
