//! Vault and chamber under several processes of several threads each, held against one map that one thread works on: the
//! whole interface, every answer.
//!
//! *How.* The clock that a vault is opened with is a sequence which all threads of all processes share: to ask for the time is
//! to draw its next number. A change asks once it alone may write, so that the order of the numbers is that of the commits; a
//! question asks once it sees its state of the file. The same number is the time by which entries expire. Each job is told
//! with its numbers and its answers; the jobs in the order of their numbers, done to a map, must give the same.
//!
//! *What is proven.* Every change, by itself or in a transaction, kept or undone, gave exactly what the map gives in its place:
//! there is one order of all changes, and it is the same for everybody. Every question gave what the map gives after some
//! change that was not begun after it and not before the last that had ended when it began: nobody reads what is not committed,
//! what is half done, or what was known to be past. No search is needed for it: the numbers are the order. A chamber's key is
//! changed meanwhile, by whichever process; the others are told, and go on with the new one.
//!
//! *What is not.* That a vault which is deleted is told to all (other tests do), and what a kill leaves (`vault_kills`).

mod model;
mod steps;

use crate::soak::{self, Dice, seed};
use model::{Done, Tally, replay};
use shard::chamber::{self, Chamber};
use shard::crypto::ChamberKey;
use shard::id::NodeId;
use shard::vault::{self, Clock, Durability, Options, Vault};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use steps::{Answer, Desk, How, Job, Step};

/// Steps of all workers together, in a sample and in all.
const STEPS: [usize; 2] = [3_000, 100_000];
/// Processes, of which the test's own is one, and threads in each.
const PROCESSES: usize = 3;
const THREADS: usize = 3;
/// Names the folder in which a process that this test starts takes part, and which process it is.
const WORKER: &str = "SHARD_TEST_TOGETHER_WORKER";
const PROCESS: &str = "SHARD_TEST_TOGETHER_PROCESS";
/// A thread opens the vault once more, or goes back to the one that it shares, after so many jobs.
const REOPEN_AFTER: usize = 60;
/// Keys are changed less often than this in any run.
const MAX_SECRETS: u32 = 1_000_000;

thread_local! {
    /// The numbers that were drawn in this thread and not told yet.
    static DRAWN: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
}

/// Numbers from 1 on, each given once, in order, whoever asks: the length of a file to which everybody adds a byte.
#[derive(Clone)]
struct Sequence(Arc<Mutex<File>>);

impl Sequence {
    fn open(folder: &Path) -> Self {
        let file = File::options().append(true).create(true).open(folder.join("sequence")).expect("a file");
        Self(Arc::new(Mutex::new(file)))
    }

    fn draw(&self) -> i64 {
        let mut file = self.0.lock().expect("no panic before");
        file.write_all(&[0]).expect("written");
        i64::try_from(file.stream_position().expect("a position")).expect("a small number")
    }

    fn options(&self) -> Options {
        let sequence = self.clone();
        let clock = Clock::new(move || {
            let number = sequence.draw();
            DRAWN.with_borrow_mut(|drawn| drawn.push(number));
            number
        });
        Options { clock, durability: Durability::Relaxed }
    }
}

/// One process's part in it.
struct Process {
    folder: PathBuf,
    number: usize,
    seed: u64,
    sequence: Sequence,
}

/// One thread's part: its chance, its desk and what it tells.
struct Worker<'p> {
    process: &'p Process,
    dice: Dice,
    desk: Desk,
    log: BufWriter<File>,
}

impl Process {
    fn run(&self, work: impl Fn(&mut Worker<'_>) + Sync) {
        let work = &work;
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || work(&mut self.worker(thread)));
            }
        });
    }

    fn worker(&self, thread: usize) -> Worker<'_> {
        let name = format!("{}-{thread}", self.number);
        let log = File::create_new(self.folder.join(format!("log-{name}"))).expect("a file");
        Worker {
            process: self,
            dice: Dice::new(self.seed.wrapping_add((self.number * THREADS + thread) as u64)),
            desk: Desk::new(&self.folder.join(format!("desk-{name}"))),
            log: BufWriter::new(log),
        }
    }
}

impl Worker<'_> {
    /// Does a job and tells of it.
    fn tell(&mut self, job: Job, work: impl FnOnce(&Job, &Desk) -> Vec<Answer>) {
        let begun = self.process.sequence.draw();
        let answers = work(&job, &self.desk);
        let drawn = DRAWN.take();
        let done = Done { begun, drawn, ended: self.process.sequence.draw(), job, answers };
        serde_json::to_writer(&mut self.log, &done).expect("written");
        self.log.write_all(b"\n").expect("written");
    }

    fn jobs() -> usize {
        STEPS[usize::from(soak::is_asked_for())] / (PROCESSES * THREADS)
    }
}

/// What undoes a transaction.
#[derive(Debug)]
enum Stop<E> {
    Wanted,
    Failed(E),
}

impl<E> From<E> for Stop<E> {
    fn from(error: E) -> Self {
        Self::Failed(error)
    }
}

/// What came of a transaction: that it was undone is right where that was wanted.
fn unless_undone<E>(how: How, outcome: Result<(), Stop<E>>) -> Result<(), E> {
    let found = match outcome {
        Err(Stop::Failed(error)) => return Err(error),
        Err(Stop::Wanted) => How::Undone,
        Ok(()) => How::Kept,
    };
    assert_eq!(found, how);
    Ok(())
}

fn do_to_vault(vault: &Vault, desk: &Desk, job: &Job) -> vault::Result<Vec<Answer>> {
    if job.how == How::Direct {
        return job.steps.iter().map(|step| steps::on_vault(vault, desk, step)).collect();
    }
    let mut answers = Vec::new();
    let outcome: Result<(), Stop<vault::Error>> = vault.transaction(|tx| {
        for step in &job.steps {
            answers.push(steps::in_vault(tx, step)?);
        }
        if job.how == How::Kept { Ok(()) } else { Err(Stop::Wanted) }
    });
    unless_undone(job.how, outcome)?;
    Ok(answers)
}

fn do_to_chamber(chamber: &Chamber, desk: &Desk, job: &Job) -> chamber::Result<Vec<Answer>> {
    if job.how == How::Direct {
        return job.steps.iter().map(|step| steps::on_chamber(chamber, desk, step)).collect();
    }
    let mut answers = Vec::new();
    let outcome: Result<(), Stop<chamber::Error>> = chamber.transaction(|tx| {
        for step in &job.steps {
            answers.push(steps::in_chamber(tx, step)?);
        }
        if job.how == How::Kept { Ok(()) } else { Err(Stop::Wanted) }
    });
    unless_undone(job.how, outcome)?;
    Ok(answers)
}

fn work_on_vault(process: &Process) {
    let open = || Vault::open(&process.folder, "together", process.sequence.options()).expect("a vault");
    let shared = open();
    process.run(|worker| {
        let mut own = None;
        for _ in 0..Worker::jobs() {
            if worker.dice.below(REOPEN_AFTER) == 0 {
                own = if own.is_some() { None } else { Some(open()) };
            }
            let job = Job::draw(&mut worker.dice, steps::vault_step);
            let vault = own.as_ref().unwrap_or(&shared);
            worker.tell(job, |job, desk| do_to_vault(vault, desk, job).expect("it is done"));
        }
    });
}

/// The chamber that the threads of a process share, and the number of its key, as far as it is known here.
struct SharedChamber<'p> {
    process: &'p Process,
    now: Mutex<(Arc<Chamber>, u32)>,
}

fn chamber_key(secret: u32) -> ChamberKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&secret.to_le_bytes());
    ChamberKey::from_secret(NodeId([1; 32]), &bytes)
}

fn is_other_key<T>(outcome: &chamber::Result<T>) -> bool {
    matches!(outcome, Err(chamber::Error::Vault(vault::Error::OtherKey { .. })))
}

impl<'p> SharedChamber<'p> {
    fn open(process: &'p Process) -> Self {
        Self { process, now: Mutex::new(Self::opened(process, 0)) }
    }

    /// Keys follow each other: the right one is this or a later one.
    fn opened(process: &Process, first: u32) -> (Arc<Chamber>, u32) {
        for secret in first..MAX_SECRETS {
            let key = chamber_key(secret);
            let opened = Chamber::open(&process.folder, "together", key, process.sequence.options());
            if !is_other_key(&opened) {
                return (Arc::new(opened.expect("a chamber")), secret);
            }
        }
        unreachable!("no key opens it");
    }

    fn get(&self) -> Arc<Chamber> {
        Arc::clone(&self.now.lock().expect("no panic before").0)
    }

    /// One that was told that the key is another opens the file again, unless another thread did so since.
    fn instead_of(&self, told: &Arc<Chamber>) -> Arc<Chamber> {
        let mut now = self.now.lock().expect("no panic before");
        if Arc::ptr_eq(&now.0, told) {
            *now = Self::opened(self.process, now.1);
        }
        Arc::clone(&now.0)
    }

    /// Other threads go on with the same chamber meanwhile.
    fn change_key(&self) -> Vec<Answer> {
        let mut now = self.now.lock().expect("no panic before");
        loop {
            let changed = now.0.change_key(chamber_key(now.1 + 1));
            if is_other_key(&changed) {
                *now = Self::opened(self.process, now.1);
                continue;
            }
            now.1 += 1;
            return vec![Answer::Count(changed.expect("changed"))];
        }
    }

    fn do_job(&self, desk: &Desk, job: &Job) -> Vec<Answer> {
        if job.steps == [Step::ChangeKey] {
            return self.change_key();
        }
        let mut chamber = self.get();
        loop {
            let done = do_to_chamber(&chamber, desk, job);
            if !is_other_key(&done) {
                return done.expect("it is done");
            }
            chamber = self.instead_of(&chamber);
        }
    }
}

fn work_on_chamber(process: &Process) {
    let shared = SharedChamber::open(process);
    process.run(|worker| {
        for _ in 0..Worker::jobs() {
            let job = Job::draw(&mut worker.dice, steps::chamber_step);
            worker.tell(job, |job, desk| shared.do_job(desk, job));
        }
    });
}

/// Runs the part of a process that the test started, or starts the others, takes part itself, and gives what all of them did
/// with one last question.
fn together(name: &str, work: impl Fn(&Process), last: impl FnOnce(&Process) -> Vec<Answer>) -> Option<Tally> {
    if let Some(folder) = std::env::var_os(WORKER) {
        let number = std::env::var(PROCESS).expect("which one").parse().expect("a number");
        let folder = PathBuf::from(folder);
        work(&Process { sequence: Sequence::open(&folder), folder, number, seed: seed() });
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let own =
        Process { folder: folder.path().to_owned(), number: 0, seed: seed(), sequence: Sequence::open(folder.path()) };
    let begin = |number: usize| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", &format!("vault_together::{name}")]);
        command.env(WORKER, folder.path()).env(PROCESS, number.to_string());
        command.env("SHARD_TEST_SEED", own.seed.to_string()).spawn().expect("it runs")
    };
    let others: Vec<_> = (1..PROCESSES).map(begin).collect();
    work(&own);
    for mut other in others {
        assert!(other.wait().expect("it ended").success(), "another process failed");
    }
    let list = if name.contains("vault") { Step::Iter } else { Step::Keys };
    let last_job = Job { how: How::Direct, steps: vec![list] };
    own.worker(THREADS).tell(last_job, |_, _| last(&own));
    let replayed = replay(read_logs(folder.path()));
    assert!(replayed.is_ok(), "{}", replayed.as_ref().err().map_or("", String::as_str));
    replayed.ok()
}

fn read_logs(folder: &Path) -> Vec<Done> {
    let mut log = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("log-")) {
            let text = fs::read_to_string(path).expect("a log");
            log.extend(text.lines().map(|line| serde_json::from_str::<Done>(line).expect("a job")));
        }
    }
    log
}

#[expect(clippy::print_stdout, reason = "says how much was compared")]
fn say(what: &str, tally: Option<Tally>) {
    let Some(Tally { changes, undone, questions, widest }) = tally else { return };
    println!(
        "{what}: {PROCESSES} processes of {THREADS} threads, {changes} changes ({undone} undone) and {questions} questions, \
         each of which may have seen {widest} states at most; 0 differences"
    );
    assert_eq!(changes + questions, Worker::jobs() * PROCESSES * THREADS + 1);
}

#[test]
fn processes_and_threads_together_do_to_a_vault_what_one_does_to_a_map() {
    let name = "processes_and_threads_together_do_to_a_vault_what_one_does_to_a_map";
    let tally = together(name, work_on_vault, |process| {
        let vault = Vault::open_existing(&process.folder, "together", process.sequence.options()).expect("the vault");
        vault.check().expect("all is well");
        vec![Answer::Entries(vault.iter().expect("entries").map(|entry| entry.expect("read")).collect())]
    });
    say("vault", tally);
}

#[test]
fn processes_and_threads_together_do_to_a_chamber_what_one_does_to_a_map() {
    let name = "processes_and_threads_together_do_to_a_chamber_what_one_does_to_a_map";
    let tally = together(name, work_on_chamber, |process| {
        let (chamber, _) = SharedChamber::opened(process, 0);
        chamber.check().expect("all is well");
        vec![Answer::Keys(chamber.list_keys().expect("listed"))]
    });
    say("chamber", tally);
}
