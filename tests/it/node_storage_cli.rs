//! Nodes as backends on the command line: one friend, and nine houses of which four burn down.

use super::desk::{Desk, PROGRAM, counts, noise};
use super::node_storage_desk::{Keeper, SEED, seed_file};
use serde_json::Value;
use shard::node::storage::StorageOptions;
use shard::node::{Incoming, SessionEvent};
use shard::peer::TransportKind;
use shard::peer::transport::CloseReason;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::runtime::Runtime;

/// What the nodes of a store keep, as files.
fn shards_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "shard") => files.push(path),
                false => {}
            }
        }
    }
    files
}

fn check(desk: &Desk, name: &str) -> Value {
    let outcome = desk.run(&["backend", "check", name, "--json"]);
    let document: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    document["backends"][0].clone()
}

/// How the sessions of a node ended, once it is stopped.
async fn ends_of_sessions(mut events: Incoming<SessionEvent>) -> Vec<CloseReason> {
    let mut ends = Vec::new();
    while let Some(event) = events.next().await {
        if let SessionEvent::Ended(_, reason) = event {
            ends.push(reason);
        }
    }
    ends
}

#[test]
fn a_friends_node_is_a_backend_like_any_other() {
    let runtime = Runtime::new().expect("threads");
    let mut desk = Desk::new();
    let folder = desk.path("at-the-friends");
    let keeper = runtime.block_on(Keeper::start(1, &folder, StorageOptions::default()));
    let ends = runtime.spawn(ends_of_sessions(keeper.node.session_events().expect("taken once")));
    let [quic, websocket] =
        [TransportKind::Quic, TransportKind::WebSocket].map(|kind| keeper.address(kind).to_string());
    desk.expect(0, &["init", "--bare"]);
    // Without a seed it is told what is missing, and nothing is saved.
    let failure = desk.failure(1, &["backend", "add", "friend", &quic]);
    assert!(failure.to_string().contains("SHARD_SEED_FILE"), "{failure}");
    let seed = seed_file(desk.home(), SEED);
    desk.set("SHARD_SEED_FILE", &seed.display().to_string());
    desk.expect(0, &["backend", "add", "friend", &quic, "--zone", "friend"]);
    let failure = desk.failure(1, &["backend", "add", "same", &websocket]);
    assert!(failure.to_string().contains("in use already"), "{failure}");
    for name in ["here", "there"] {
        desk.expect(0, &["backend", "add", name, name, "--zone", name]);
    }
    let listed = desk.json(0, &["backend", "list"]);
    assert_eq!(listed["backends"][0]["credentials"], "seed of the group");
    let bytes = noise(3_000_000, 5);
    desk.file("a", &bytes);
    let put = desk.json(0, &["put", "a", "--level", "minimal"]);
    assert_eq!(put["objects"][0]["margin"], 1, "{put}");
    assert_eq!(shards_below(&folder).len(), 1);
    for depth in ["--full", "--quick"] {
        desk.expect(0, &["verify", depth]);
    }
    desk.expect(0, &["verify", "--sample", "20"]);
    // A shard that the friend lost is made again there.
    std::fs::remove_file(&shards_below(&folder)[0]).expect("removed");
    desk.expect(3, &["verify"]);
    desk.expect(0, &["repair"]);
    desk.expect(0, &["verify"]);
    assert_eq!(shards_below(&folder).len(), 1);
    // The friend knows the store by its first key.
    desk.expect(0, &["key", "rotate"]);
    assert_eq!(check(&desk, "friend")["state"], "ready");
    std::fs::rename(desk.path("here"), desk.path("away")).expect("renamed");
    let outcome = desk.run(&["recover", "a", "-o", "back"]);
    assert!([0, 3].contains(&outcome.code), "{outcome:?}");
    assert!(std::fs::read(desk.path("back")).expect("a file") == bytes);
    std::fs::rename(desk.path("away"), desk.path("here")).expect("renamed");
    // Another seed is not let in, and is told so.
    let other = seed_file(desk.home(), SEED + 1);
    desk.set("SHARD_SEED_FILE", &other.display().to_string());
    let seen = check(&desk, "friend");
    assert_eq!(seen["state"], "unreachable");
    assert!(seen["problem"].as_str().expect("a reason").contains("seed"), "{seen}");
    desk.set("SHARD_SEED_FILE", &seed.display().to_string());
    let kept = shards_below(&folder);
    desk.expect(0, &["remove", "a"]);
    assert!(!kept[0].exists(), "{kept:?}");
    // No command leaves its session behind until it is idle for too long: a node has only so many for one address.
    for session in keeper.node.sessions() {
        let closed = async { tokio::time::timeout(Duration::from_secs(20), session.closed()).await };
        assert!(runtime.block_on(closed).is_ok(), "{session:?}");
    }
    assert!(keeper.node.stats().sessions_total > 10);
    runtime.block_on(keeper.stop());
    let ends = runtime.block_on(ends).expect("it ends");
    assert!(ends.iter().all(|reason| *reason == CloseReason::Goodbye), "{ends:?}");
}

/// A node in a process of its own.
struct House {
    name: String,
    data: PathBuf,
    process: Child,
    document: Value,
}

impl House {
    /// A new node, with the group's seed.
    fn build(desk: &Desk, number: usize, seed: &Path) -> Self {
        let name = format!("house-{number}");
        let data = desk.path(&name);
        let text = data.display().to_string();
        desk.expect(0, &["node", "--data", &text, "init"]);
        desk.expect(0, &["node", "--data", &text, "seed", "add", &seed.display().to_string()]);
        let (process, document) = serve(&data, ["127.0.0.1:0", "127.0.0.1:0"]);
        Self { name, data, process, document }
    }

    fn listen(&self, key: &str) -> String {
        self.document[key].as_str().expect("an address").to_owned()
    }

    fn url(&self, transport: TransportKind) -> String {
        match transport {
            TransportKind::Quic => format!("node://{}", self.listen("listen")),
            TransportKind::WebSocket => format!("node+ws://{}", self.listen("ws_listen")),
        }
    }

    /// With SIGKILL.
    fn burn_down(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("it is gone");
    }

    /// The same node in the same place.
    fn start_again(&mut self) {
        let (listen, ws_listen) = (self.listen("listen"), self.listen("ws_listen"));
        (self.process, self.document) = serve(&self.data, [&listen, &ws_listen]);
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts to serve, and waits for the document that says where.
fn serve(data: &Path, [listen, ws_listen]: [&str; 2]) -> (Child, Value) {
    let words = ["--listen", listen, "--ws-listen", ws_listen, "--reserve", "1MiB", "--json"];
    let mut process = Command::new(PROGRAM)
        .env_clear()
        .envs(counts())
        .args(["node", "--data"])
        .arg(data)
        .arg("serve")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("a line");
    (process, serde_json::from_str(&line).expect("a document"))
}

fn add(desk: &Desk, house: &House, number: usize) {
    let transport = if number.is_multiple_of(2) { TransportKind::WebSocket } else { TransportKind::Quic };
    desk.expect(0, &["backend", "add", &house.name, &house.url(transport), "--zone", &house.name]);
}

#[test]
fn nine_houses_of_which_four_burn_down_lose_nothing_and_four_new_ones_make_it_whole() {
    let mut desk = Desk::new();
    let seed = seed_file(desk.home(), SEED);
    desk.set("SHARD_SEED_FILE", &seed.display().to_string());
    desk.expect(0, &["init", "--bare"]);
    let mut houses: Vec<House> = (1..=9).map(|number| House::build(&desk, number, &seed)).collect();
    for (number, house) in (1..).zip(&houses) {
        add(&desk, house, number);
    }
    let bytes = noise(6_000_000, 9);
    desk.file("photos", &bytes);
    let put = desk.json(0, &["put", "photos", "--level", "federation"]);
    assert_eq!(
        (&put["objects"][0]["margin"], put["objects"][0]["total_shards"].as_u64()),
        (&4.into(), Some(9)),
        "{put}"
    );
    // A node that was killed has its shards when it is started again.
    houses[8].burn_down();
    houses[8].start_again();
    desk.expect(0, &["verify"]);
    // Those over TCP, where nobody listening is noticed at once.
    houses.iter_mut().skip(1).step_by(2).for_each(House::burn_down);
    let recovered = desk.run(&["recover", "photos", "-o", "back"]);
    assert!([0, 3].contains(&recovered.code), "{recovered:?}");
    assert!(std::fs::read(desk.path("back")).expect("a file") == bytes);
    let seen = desk.json(3, &["verify"]);
    assert_eq!(seen["objects"][0]["state"], "degraded", "{seen}");
    let fresh: Vec<House> = (10..=13).map(|number| House::build(&desk, number, &seed)).collect();
    for (number, house) in (10..).zip(&fresh) {
        add(&desk, house, number);
    }
    let burnt = || houses.iter().skip(1).step_by(2);
    let lost: Vec<String> = burnt().flat_map(|house| ["--assume-lost".to_owned(), house.name.clone()]).collect();
    let words: Vec<&str> = ["repair"].into_iter().chain(lost.iter().map(String::as_str)).collect();
    let repaired = desk.json(0, &words);
    assert_eq!(repaired["objects"][0]["rebuilt"].as_array().map(Vec::len), Some(4), "{repaired}");
    for house in burnt() {
        desk.expect(0, &["backend", "remove", &house.name, "--force"]);
    }
    let seen = desk.json(0, &["verify"]);
    assert_eq!((&seen["objects"][0]["state"], &seen["objects"][0]["margin"]), (&"healthy".into(), &4.into()), "{seen}");
    desk.expect(0, &["recover", "photos", "-o", "again"]);
    assert!(std::fs::read(desk.path("again")).expect("a file") == bytes);
    let urls: Vec<String> = desk.json(0, &["backend", "list"])["backends"]
        .as_array()
        .expect("backends")
        .iter()
        .map(|backend| backend["url"].as_str().expect("a URL").to_owned())
        .collect();
    desk.expect(0, &["key", "export", "-o", "kit.txt"]);
    a_new_laptop_has_everything_back(&std::fs::read(desk.path("kit.txt")).expect("a kit"), &urls, &bytes);
}

/// With nothing but the kit, which has the seed too; then without a store.
fn a_new_laptop_has_everything_back(kit: &[u8], urls: &[String], bytes: &[u8]) {
    let laptop = Desk::new();
    laptop.file("kit.txt", kit);
    let mut words = vec!["recover", "--all", "-o", "out", "--key", "kit.txt"];
    words.extend(urls.iter().flat_map(|url| ["--from", url]));
    laptop.expect(0, &words);
    assert!(std::fs::read(laptop.path("out/photos")).expect("a file") == bytes);
    laptop.expect(0, &["key", "import", "kit.txt"]);
    let mode = std::fs::metadata(laptop.store().join("seeds")).expect("the seed").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    laptop.expect(0, &["catalog", "rebuild"]);
    laptop.expect(0, &["recover", "--all", "-o", "all"]);
    assert!(std::fs::read(laptop.path("all/photos")).expect("a file") == bytes);
    laptop.expect(0, &["verify"]);
}
