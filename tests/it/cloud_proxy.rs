//! A store over S3 while any one request, or any from one on, goes wrong in any way: no wrong byte, no false success,
//! nothing that one repair does not heal and one round of collecting does not clear away.

mod message;
mod scene;
mod wire;

use crate::budget::Budget;
use crate::soak::{self, Dice};
use futures_util::future::join_all;
use scene::{Clients, Operation, Run, Scene};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use wire::{Fault, Plan};

/// These cases and no others, as a complaint names them: `Repair:18:WrongRange,Put:3:Reset`.
const CASES: &str = "SHARD_TEST_WIRE";
/// So many spoilt requests of each operation are tried where not all are.
const SAMPLE: usize = 6;
/// Shards in parts are five megabytes each: fewer of them.
const SAMPLE_IN_PARTS: usize = 2;
/// So many cases are tried at once where all are.
const SCENES_AT_ONCE: usize = 8;
/// At so many faults in a hundred requests …
const FAULT_PERCENT: usize = 10;
/// … this many more requests in a hundred are the most that trying again may add.
const MOST_ADDED_PERCENT: usize = 20;
/// What passes by itself.
const PASSING: [Fault; 5] = [Fault::InternalError, Fault::SlowDown, Fault::Reset, Fault::LateReset, Fault::Truncated];

/// What the runs of a test came to.
#[derive(Debug)]
struct Figures {
    begun: Instant,
    took: BTreeMap<Operation, (usize, Duration)>,
    runs: usize,
    /// How many there are to choose from.
    of: usize,
    failed: usize,
    spoilt: BTreeMap<Fault, usize>,
    complaints: Vec<String>,
}

impl Figures {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            took: BTreeMap::new(),
            runs: 0,
            of: 0,
            failed: 0,
            spoilt: BTreeMap::new(),
            complaints: Vec::new(),
        }
    }

    fn add(&mut self, (operation, what): (Operation, &str), fault: Fault, run: Run) {
        self.runs += 1;
        let (runs, took) = self.took.entry(operation).or_default();
        (*runs, *took) = (*runs + 1, *took + run.took);
        self.failed += usize::from(!run.succeeded);
        *self.spoilt.entry(fault).or_default() += run.tally.spoilt;
        self.complaints.extend(run.complaints.into_iter().map(|complaint| format!("{what}: {complaint}")));
    }

    #[expect(clippy::print_stdout, reason = "how much was tried belongs to the result")]
    fn conclude(self) {
        let Self { runs, of, failed, spoilt, begun, took, .. } = &self;
        println!("{runs} runs of {of} in {:?}, of which {failed} failed; {took:?}", begun.elapsed());
        println!("spoilt requests: {spoilt:?}");
        let first: Vec<_> = self.complaints.iter().take(20).collect();
        assert!(first.is_empty(), "{} complaints, of which the first: {first:#?}", self.complaints.len());
    }
}

/// All of these, some, or for each operation as many as fit into the time that is given; or those that are asked for.
fn choose(all: Vec<(usize, Fault)>, operation: Operation, budget: &Budget) -> Box<dyn Iterator<Item = (usize, Fault)>> {
    if let Ok(asked) = std::env::var(CASES) {
        let is_asked = move |(at, fault): &(usize, Fault)| {
            let this = format!("{operation:?}:{at}:{fault:?}");
            asked.split(',').any(|case| case == this)
        };
        return Box::new(all.into_iter().filter(is_asked));
    }
    let count = if operation == Operation::PutInParts { SAMPLE_IN_PARTS } else { SAMPLE };
    Box::new(budget.part(1, count).choose(all))
}

/// Tries the cases, in a soak several at once: they wait most of the time. Each has a store and a server of its own then.
async fn try_each<T>(scene: Scene, cases: impl Iterator<Item = T>, tried: impl AsyncFn(&Scene, T)) {
    let cases = RefCell::new(cases);
    let next = || cases.borrow_mut().next();
    let operation = scene.operation();
    let more = if soak::is_asked_for() { SCENES_AT_ONCE - 1 } else { 0 };
    let mut scenes = vec![scene];
    for _ in 0..more {
        scenes.push(Scene::new(operation).await);
    }
    let lanes = scenes.iter().map(async |scene| {
        while let Some(case) = next() {
            tried(scene, case).await;
        }
    });
    join_all(lanes).await;
}

fn clients_for(fault: Fault) -> Clients {
    if fault.is_waited_for() { Clients::Hurried } else { Clients::Patient }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_spoilt_request_fails_nothing_and_leaves_nothing_that_is_not_healed() {
    let (budget, figures) = (Budget::new(SAMPLE), RefCell::new(Figures::new()));
    for operation in Operation::ALL {
        let scene = Scene::new(operation).await;
        let requests = scene.honest_requests().await;
        let all: Vec<_> = (0..requests).flat_map(|at| Fault::ALL.map(|fault| (at, fault))).collect();
        figures.borrow_mut().of += all.len();
        let cases = choose(all, operation, &budget);
        try_each(scene, cases, async |scene, (at, fault)| {
            let what = format!("one, {CASES}={operation:?}:{at}:{fault:?} of {requests} requests");
            let mut run = scene.run(Plan::Once(at, fault), clients_for(fault)).await;
            // Whoever is in a hurry may miss answers that nobody spoilt.
            if !run.succeeded && !fault.is_waited_for() {
                run.complaints.push("it failed".to_owned());
            }
            figures.borrow_mut().add((operation, &what), fault, run);
        })
        .await;
    }
    figures.into_inner().conclude();
}

/// Each shard's upload begins with one of these requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_beginning_had_no_answer_is_not_left_behind() {
    let (scene, mut figures) = (Scene::new(Operation::PutInParts).await, Figures::new());
    for at in 7..10 {
        let run = scene.run(Plan::Once(at, Fault::LostAnswer), Clients::Hurried).await;
        figures.add((Operation::PutInParts, &format!("request {at}")), Fault::LostAnswer, run);
    }
    figures.conclude();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_spoilt_from_any_request_on_gives_no_wrong_byte_and_no_false_success() {
    let (budget, figures) = (Budget::new(SAMPLE), RefCell::new(Figures::new()));
    for operation in Operation::ALL {
        let scene = Scene::new(operation).await;
        let requests = scene.honest_requests().await;
        let quick = Fault::ALL.into_iter().filter(|fault| soak::is_asked_for() || !fault.is_waited_for());
        let all: Vec<_> = quick.flat_map(|fault| (0..requests).map(move |at| (at, fault))).collect();
        figures.borrow_mut().of += all.len();
        let cases = choose(all, operation, &budget);
        try_each(scene, cases, async |scene, (at, fault)| {
            let what = format!("from it on, {CASES}={operation:?}:{at}:{fault:?} of {requests} requests");
            let run = scene.run(Plan::EverSince(at, fault), clients_for(fault)).await;
            figures.borrow_mut().add((operation, &what), fault, run);
        })
        .await;
    }
    figures.into_inner().conclude();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figure belongs to the result")]
async fn trying_again_adds_few_requests() {
    let seed = soak::seed();
    let rounds = if soak::is_asked_for() { 40 } else { 6 };
    let (mut honest, mut tried, mut spoilt, mut failed) = (0, 0, 0, 0);
    for operation in [Operation::Put, Operation::Recover, Operation::Repair, Operation::Remove] {
        let scene = Scene::new(operation).await;
        let requests = scene.honest_requests().await;
        for round in 0..rounds {
            let dice = Dice::new(seed.wrapping_add(round));
            let plan = Plan::Chance(FAULT_PERCENT, PASSING.to_vec(), dice);
            let run = scene.run(plan, Clients::AsEver).await;
            assert!(run.complaints.is_empty(), "{operation:?}, round {round} of seed {seed}: {:?}", run.complaints);
            honest += requests;
            tried += run.tally.requests;
            spoilt += run.tally.spoilt;
            failed += usize::from(!run.succeeded);
        }
    }
    let added_percent = (tried as f64 / honest as f64 - 1.0) * 100.0;
    println!(
        "{honest} requests became {tried} ({added_percent:.1} % more); {spoilt} were spoilt; {failed} runs failed"
    );
    assert!(tried * 100 <= honest * (100 + MOST_ADDED_PERCENT), "{added_percent:.1} % more");
}
