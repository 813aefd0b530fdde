//! A node beside thousands of callers that mean no good, each part in a process of its own: what it holds, and whom it keeps
//! waiting.
//!
//! A sample runs with every test; with `SHARD_SOAK` there are ten thousand half-open calls, and the waiting of an honest client is
//! printed beside what it is next to as many honest sessions that are idle.

use super::node_desk::{caller, listener, start, stop, within};
use super::node_hostile_desk::{BEGUN_RECORD, HalfOpen, address_of, call, quic_client};
use super::soak;
use shard::node::Node;
use shard::node::storage::{StorageOptions, StorageService, run};
use shard::peer::storage::{STORAGE_SERVICE, StorageAnswer, StorageRequest};
use shard::peer::transport::{GateLimits, Session};
use shard::peer::{FrameReader, HeartbeatTimes, MAX_MESSAGE_BYTES, PeerAddress, StreamPurpose};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What a process of this program is to do instead of testing.
const WORK: &str = "SHARD_LOAD_WORK";
/// So begins a line of such a process; the test program says other things besides.
const WORD: &str = "WORKER ";
/// More sockets than the system lets a process have without being asked.
const OPEN_FILES: u32 = 20_000;
/// Whoever was cut off calls again after half of this to one and a half, each after its own time: they are no wave.
const PAUSE: Duration = Duration::from_secs(4);
/// How long a caller over UDP is half open; then it calls again from another port.
const HALF_OPEN: Duration = Duration::from_secs(5);
/// From one byte of a slow caller to its next.
const SLOW: Duration = Duration::from_millis(250);
/// How often a node's tasks are counted. Each count looks at every session.
const WATCH: Duration = Duration::from_millis(100);
/// Calls that one process makes at once, so that they are not lost in the system's queue.
const AT_ONCE: usize = 200;
/// Processes that hold idle sessions, and the calls that each makes at once.
const IDLERS: usize = 2;
const IDLERS_CALLS: usize = 16;
/// Idle sessions show as often that they live as any do. To begin all of them takes longer than others are waited for.
const UNHURRIED: HeartbeatTimes = HeartbeatTimes { interval_ms: 30_000, idle_ms: 900_000 };
/// So often one who is honest calls until it is heard.
const HONEST_CALLS: usize = 3;
const MAX_NODE_MEMORY_KIB: u64 = 256 * 1024;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
struct Load {
    silent: usize,
    slow: usize,
    over_udp: usize,
    requests: usize,
}

const SAMPLE: Load = Load { silent: 240, slow: 60, over_udp: 60, requests: 100 };
const WHOLE: Load = Load { silent: 7000, slow: 1000, over_udp: 2000, requests: 3000 };

impl Load {
    fn callers(&self) -> usize {
        self.silent + self.slow + self.over_udp
    }
}

/// A process of this program that works, and ends when this is dropped.
struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    fn start(work: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {OPEN_FILES} 2>/dev/null || ulimit -n $(ulimit -Hn); exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().expect("this program"))
            .args(["--exact", "node_load::a_worker_works_when_it_is_told_to", "--nocapture", "--test-threads", "1"])
            .env(WORK, work)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, stdin, stdout: BufReader::new(stdout) }
    }

    /// The next line that it says as a worker.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.stdout.read_line(&mut line).expect("UTF-8") > 0, "a worker ended");
            if let Some((_, said)) = line.split_once(WORD) {
                return said.trim().to_owned();
            }
        }
    }

    /// Its counts, by their names.
    fn counts(&mut self) -> BTreeMap<String, u64> {
        self.stdin.write_all(b"counts\n").expect("it listens");
        let line = self.hear();
        let pairs = line.split(' ').map(|pair| pair.split_once('=').expect("a name and a number"));
        pairs.map(|(name, number)| (name.to_owned(), number.parse().expect("a number"))).collect()
    }

    /// Of the process, from a file of the system's: a number after a word.
    fn number(&self, file: &str, word: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("a process");
        let line = text.lines().find_map(|line| line.strip_prefix(word)).expect(word);
        line.split_whitespace().next().expect("a number").parse().expect("a number")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::print_stdout, reason = "how workers speak")]
fn say(text: &str) {
    println!("{WORD}{text}");
}

#[test]
fn a_worker_works_when_it_is_told_to() {
    let Ok(work) = std::env::var(WORK) else { return };
    let words: Vec<&str> = work.split(' ').collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(async {
        match words[..] {
            ["node", folder, limit] => serve(Path::new(folder), limit.parse().expect("a number")).await,
            ["attack", tcp, udp, silent, slow, over_udp] => {
                let number = |text: &str| text.parse().expect("a number");
                let load = Load { silent: number(silent), slow: number(slow), over_udp: number(over_udp), requests: 0 };
                attack(tcp.parse().expect("an address"), udp.parse().expect("an address"), load).await;
            }
            ["idle", tcp, udp, count] => idle([tcp, udp], count.parse().expect("a number")).await,
            _ => unreachable!("{work}"),
        }
    });
}

/// Gives the counts whenever it is asked for them, and ends with the one who asks.
async fn tell(counts: impl Fn() -> String + Send + 'static) {
    let telling = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lines() {
            if line.is_err() {
                return;
            }
            say(&counts());
        }
    });
    telling.await.expect("it does not panic");
}

/// A node as it is served, with limits as they are unless it is told how many sessions one address may have.
async fn serve(folder: &Path, sessions: usize) {
    let mut config = listener(1, &[7]);
    config.handshake_deadline = shard::peer::transport::HANDSHAKE_DEADLINE;
    if sessions > 0 {
        config.heartbeat = UNHURRIED;
        config.limits = GateLimits {
            sessions,
            sessions_per_address: sessions,
            handshakes_per_address: sessions,
            ..GateLimits::default()
        };
    }
    let node = start(config).await;
    let service = StorageService::open(folder, StorageOptions::default()).expect("a folder");
    tokio::spawn(run(service, node.clone(), CancellationToken::new()));
    let most_tasks = Arc::new(AtomicUsize::new(0));
    let (watched, most) = (node.clone(), Arc::clone(&most_tasks));
    tokio::spawn(async move {
        loop {
            most.fetch_max(watched.stats().tasks, Ordering::Relaxed);
            tokio::time::sleep(WATCH).await;
        }
    });
    let [tcp, udp] = [node.websocket_addr(), node.local_addr()].map(|address| address.expect("it listens"));
    say(&format!("{tcp} {udp}"));
    tell(move || counts_of(&node, most_tasks.load(Ordering::Relaxed))).await;
}

fn counts_of(node: &Node, most_tasks: usize) -> String {
    let (stats, gate) = (node.stats(), node.stats().gate);
    format!(
        "handshakes={} most_handshakes={} most_handshakes_per_address={} most_sessions_per_address={} refused={} \
         displaced={} late={} unknown={} most_unknown={} most_unknown_each={} most_wire_each={} most_tasks={} \
         sessions={} sessions_total={}",
        gate.handshakes,
        gate.most_handshakes,
        gate.most_handshakes_per_address,
        gate.most_sessions_per_address,
        gate.refused,
        gate.displaced,
        gate.late,
        gate.unknown_bytes,
        gate.most_unknown_bytes,
        gate.most_unknown_bytes_each,
        gate.most_unknown_wire_bytes_each,
        most_tasks.max(stats.tasks),
        stats.sessions_active,
        stats.sessions_total,
    )
}

/// What attackers have done, and are doing.
#[derive(Debug, Default)]
struct Done {
    /// Callers of which each has called at least once.
    called: AtomicUsize,
    calls: AtomicUsize,
    /// Callers that call, are about to, or have a connection: all but those that were cut off just now.
    under_way: AtomicUsize,
    /// The least there was of them since all have called, and how many have a connection, as they see it.
    least_under_way: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    /// Over UDP, before an address was shown to be the caller's.
    asked_bytes: AtomicUsize,
    answered_bytes: AtomicUsize,
}

impl Done {
    fn begin(&self, round: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.called.fetch_add(usize::from(round == 0), Ordering::Relaxed);
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_open.fetch_max(open, Ordering::Relaxed);
    }

    fn end(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    async fn pause(&self, number: usize) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE / 2 + PAUSE * (number % 16) as u32 / 16).await;
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks again and again how many are under way.
    async fn watch(&self, callers: usize) {
        self.least_under_way.store(callers, Ordering::Relaxed);
        loop {
            if self.called.load(Ordering::Relaxed) == callers {
                self.least_under_way.fetch_min(self.under_way.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            tokio::time::sleep(WATCH).await;
        }
    }

    fn tell(&self) -> String {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        format!(
            "called={} calls={} least_under_way={} open={} most_open={} asked={} answered={}",
            count(&self.called),
            count(&self.calls),
            count(&self.least_under_way),
            count(&self.open),
            count(&self.most_open),
            count(&self.asked_bytes),
            count(&self.answered_bytes)
        )
    }
}

/// Calls from as many addresses as there are callers, and again whenever it is cut off.
async fn attack(tcp: SocketAddr, udp: SocketAddr, load: Load) {
    let (done, turns) = (Arc::new(Done::default()), Arc::new(Semaphore::new(AT_ONCE)));
    done.under_way.store(load.callers(), Ordering::Relaxed);
    for number in 0..load.callers() {
        let (done, turns) = (Arc::clone(&done), Arc::clone(&turns));
        tokio::spawn(async move {
            for round in 0.. {
                // Some addresses call more often than one may.
                let from = address_of(number - number % 4 * usize::from(number % 64 < 32));
                if number < load.silent + load.slow {
                    let turn = turns.acquire().await.expect("it is open");
                    let called = call(from, tcp).await;
                    drop(turn);
                    if let Ok(mut stream) = called {
                        done.begin(round);
                        hold(&mut stream, number >= load.silent).await;
                        done.end();
                    }
                } else if let Ok(half_open) = half_open(&turns, from, udp).await {
                    done.asked_bytes.fetch_add(half_open.asked_bytes, Ordering::Relaxed);
                    done.answered_bytes.fetch_add(half_open.answered_bytes, Ordering::Relaxed);
                    done.begin(round);
                    tokio::time::sleep(HALF_OPEN).await;
                    done.end();
                }
                done.pause(number).await;
            }
        });
    }
    let watched = Arc::clone(&done);
    tokio::spawn(async move { watched.watch(load.callers()).await });
    say("attacks");
    tell(move || done.tell()).await;
}

async fn half_open(turns: &Semaphore, from: Ipv4Addr, to: SocketAddr) -> std::io::Result<HalfOpen> {
    let _turn = turns.acquire().await.expect("it is open");
    HalfOpen::call(from, to, quic_client(8)).await
}

/// Holds a connection until it is cut off: silent, or with a byte now and then.
async fn hold(stream: &mut tokio::net::TcpStream, is_slow: bool) {
    let mut room = [0; 64];
    if is_slow {
        stream.write_all(&BEGUN_RECORD).await.ok();
    }
    loop {
        let read = stream.read(&mut room);
        let wait = if is_slow { SLOW } else { Duration::from_secs(3600) };
        match tokio::time::timeout(wait, read).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => {}
            Err(_) => drop(stream.write_all(&[0]).await),
        }
    }
}

/// Honest sessions that do nothing, over either transport in turns.
async fn idle([tcp, udp]: [&str; 2], count: usize) {
    let mut config = caller(9, &[7]);
    config.heartbeat = UNHURRIED;
    let node = start(config).await;
    let addresses = [format!("node://{udp}"), format!("node+ws://{tcp}")];
    let addresses = addresses.map(|text| text.parse::<PeerAddress>().expect("an address"));
    for first in (0..count).step_by(IDLERS_CALLS) {
        let numbers = first..count.min(first + IDLERS_CALLS);
        let calls = numbers.map(async |number| {
            // A machine with little to spare may be late once.
            for _ in 0..5 {
                if node.connect(&addresses[number % 2]).await.is_ok() {
                    return;
                }
            }
            unreachable!("no session with the node");
        });
        futures_util::future::join_all(calls).await;
    }
    say("idle");
    tell(move || format!("sessions={}", node.sessions().len())).await;
}

/// One request of an honest client that is served from the disk, and how long its answer took.
async fn ask(session: &Session) -> Duration {
    let begun = Instant::now();
    let mut stream = session.open(StreamPurpose::Service(STORAGE_SERVICE)).await.expect("a stream");
    stream.send.send_frame(&StorageRequest::ReadMark.to_bytes()).await.expect("sent");
    let answer = within(stream.receive.next_frame(&mut FrameReader::new(MAX_MESSAGE_BYTES))).await;
    let answer = StorageAnswer::parse(&answer.expect("read").expect("an answer")).expect("an answer");
    assert_eq!(answer, StorageAnswer::Mark(None));
    begun.elapsed()
}

/// What an honest client met.
#[derive(Default)]
struct Honest {
    /// How long each of its requests waited.
    waits: Vec<Duration>,
    /// Sessions that it wanted, those that came about at the first call, and those that came about late or never.
    wanted: usize,
    heard_at_once: usize,
    unheard: usize,
}

/// An honest client: it calls, asks again and again, and now and then begins a session anew.
async fn be_honest(addresses: [&PeerAddress; 2], requests: usize) -> Honest {
    let client = start(caller(3, &[7])).await;
    let (mut honest, mut sessions) = (Honest::default(), Vec::new());
    while honest.waits.len() < requests {
        for address in addresses {
            honest.wanted += 1;
            honest.unheard += 1;
            for number in 0..HONEST_CALLS {
                if let Ok(session) = within(client.connect(address)).await {
                    honest.heard_at_once += usize::from(number == 0);
                    honest.unheard -= 1;
                    sessions.push(session);
                    break;
                }
            }
        }
        assert!(honest.wanted < 200, "nobody honest comes in");
        for _ in 0..requests.div_ceil(10) {
            for session in sessions.iter().rev().take(2) {
                honest.waits.push(ask(session).await);
            }
        }
    }
    stop(&client).await;
    honest
}

fn percentile(waits: &mut [Duration], percent: usize) -> Duration {
    waits.sort_unstable();
    waits[(waits.len() - 1) * percent / 100]
}

/// A node in a process of its own, and where it is called.
fn node(folder: &Path, sessions: usize) -> (Worker, [String; 2]) {
    let mut worker = Worker::start(&format!("node {} {sessions}", folder.display()));
    let line = worker.hear();
    let (tcp, udp) = line.split_once(' ').expect("two addresses");
    (worker, [tcp.to_owned(), udp.to_owned()])
}

fn addresses([tcp, udp]: &[String; 2]) -> [PeerAddress; 2] {
    [format!("node://{udp}"), format!("node+ws://{tcp}")].map(|text| text.parse().expect("an address"))
}

fn hold_bounds(counts: &BTreeMap<String, u64>, limits: GateLimits) {
    let count = |name: &str| counts[name];
    let (handshakes, per_address) = (limits.handshakes as u64, limits.handshakes_per_address as u64);
    assert!(count("most_handshakes") <= handshakes, "{counts:?}");
    assert!(count("most_handshakes_per_address") <= per_address, "{counts:?}");
    assert!(count("most_sessions_per_address") <= limits.sessions_per_address as u64, "{counts:?}");
    assert!(count("most_unknown_each") <= 1024 && count("most_wire_each") <= 8192, "{counts:?}");
    assert!(count("most_unknown") <= 1024 * handshakes, "{counts:?}");
    // Each handshake has a task, and one more below it; each session a few; the node itself some.
    let sessions = count("sessions_total");
    let tasks = limits.sessions as u64 + 3 * handshakes + 8 * sessions + 64;
    assert!(count("most_tasks") <= tasks, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "what was measured belongs to the result")]
async fn a_node_beside_crowds_of_half_open_callers_stays_small_and_serves_honest_ones() {
    let load = if soak::is_asked_for() { WHOLE } else { SAMPLE };
    let dir = tempfile::tempdir().expect("a folder");
    let (mut served, at) = node(dir.path(), 0);
    let [quic, websocket] = addresses(&at);
    // Once in peace, so that what a node reads and writes for the first time is done.
    let mut peace = be_honest([&quic, &websocket], load.requests).await.waits;
    let (files, written) =
        (std::fs::read_dir(dir.path()).expect("a folder").count(), served.number("io", "write_bytes:"));
    let Load { silent, slow, over_udp, .. } = load;
    let mut attackers = Worker::start(&format!("attack {} {} {silent} {slow} {over_udp}", at[0], at[1]));
    attackers.hear();
    let begun = Instant::now();
    while attackers.counts()["called"] < load.callers() as u64 {
        assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", attackers.counts());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let Honest { mut waits, wanted, heard_at_once, unheard } = be_honest([&quic, &websocket], load.requests).await;
    let (counts, attack) = (served.counts(), attackers.counts());
    hold_bounds(&counts, GateLimits::default());
    assert!(counts["displaced"] + counts["late"] + counts["refused"] > 0, "{counts:?}");
    assert!(attack["answered"] <= attack["asked"], "{attack:?}");
    let memory = served.number("status", "VmHWM:");
    assert!(memory <= MAX_NODE_MEMORY_KIB, "{memory} KiB");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), files);
    assert_eq!(served.number("io", "write_bytes:"), written, "nothing is written for callers that are not known");
    assert!(soak::is_asked_for() || unheard == 0, "{unheard} of {wanted} were not heard in {HONEST_CALLS} calls");
    println!("node: {counts:?}\nattackers: {attack:?}\nmemory of the node at most: {memory} KiB");
    println!("honest: {heard_at_once} of {wanted} heard at the first call, {unheard} not in {HONEST_CALLS}");
    let [quiet, loud] = [percentile(&mut peace, 99), percentile(&mut waits, 99)];
    println!("p99 in peace {quiet:?}, beside {} half-open callers {loud:?}", load.callers());
    if soak::is_asked_for() {
        drop((served, attackers));
        let idle = beside_idle_sessions(load).await;
        let ratio = loud.as_secs_f64() / idle.as_secs_f64();
        println!("p99 beside {} idle sessions {idle:?}: {ratio:.2}×, of which 3 are wanted at most", load.callers());
    }
}

/// The same client beside as many honest sessions that do nothing.
#[expect(clippy::print_stdout, reason = "what was measured belongs to the result")]
async fn beside_idle_sessions(load: Load) -> Duration {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut served, at) = node(dir.path(), load.callers() + 1000);
    let begun = Instant::now();
    let work = format!("idle {} {} {}", at[0], at[1], load.callers() / IDLERS);
    let mut others: Vec<Worker> = (0..IDLERS).map(|_| Worker::start(&work)).collect();
    for worker in &mut others {
        assert_eq!(worker.hear(), "idle");
    }
    println!("{} idle sessions were begun in {:?}", load.callers(), begun.elapsed());
    let are_there =
        |served: &mut Worker| assert!(served.counts()["sessions"] >= load.callers() as u64, "some are over");
    are_there(&mut served);
    let [quic, websocket] = addresses(&at);
    let mut honest = be_honest([&quic, &websocket], load.requests).await;
    are_there(&mut served);
    percentile(&mut honest.waits, 99)
}
