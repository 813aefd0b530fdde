//! What a node that does not answer costs those who ask it, and what becomes of requests when it leaves.

use super::cloud_contract::{pattern, put, shard};
use super::desk::{Desk, noise};
use super::node_cli_desk::{ServedNode, connected, group};
use super::node_desk::within;
use super::node_storage_desk::{Keeper, SEED, access, backend, seed_file};
use shard::backend::{Backend, ErrorKind, NodeBackend, RetryOptions};
use shard::node::storage::StorageOptions;
use shard::peer::TransportKind;
use shard::peer::transport::HANDSHAKE_DEADLINE;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Which call over QUIC a datagram belongs to (RFC 9000, section 17.2): the id that the caller made up. `None` where it does
/// not begin a connection.
fn call_of(datagram: &[u8]) -> Option<Vec<u8>> {
    (datagram[0] & 0x80 != 0).then(|| datagram[6..][..usize::from(datagram[5])].to_vec())
}

// The clock stands still until everyone waits: what is measured is what was waited for, and not how busy the machine is.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_there_costs_one_short_call_and_is_remembered() {
    let dir = tempfile::tempdir().expect("a folder");
    let seed = seed_file(dir.path(), SEED);
    // Both take what comes and say nothing.
    let mute = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a socket");
    mute.set_nonblocking(true).expect("set");
    deaf.set_nonblocking(true).expect("set");
    let addresses = [
        format!("node://{}", mute.local_addr().expect("bound")),
        format!("node+ws://{}", deaf.local_addr().expect("bound")),
    ];
    // Whoever is not there at all is not waited for as long as one who took the call.
    for (address, longest) in addresses.into_iter().zip([HANDSHAKE_DEADLINE / 2, HANDSHAKE_DEADLINE]) {
        let access = access(1, &seed, None);
        let place = backend(address.parse().expect("an address"), &access);
        let begun = tokio::time::Instant::now();
        assert_eq!(place.head(shard(1, 0)).await.expect_err("nobody").kind, ErrorKind::Unreachable);
        let one_call = begun.elapsed();
        assert!(one_call <= longest + Duration::from_millis(100), "{address}: {one_call:?}");
        // It is left alone after that: many requests cost no second call.
        for _ in 0..20 {
            let error = place.head(shard(1, 0)).await.expect_err("nobody");
            assert_eq!(error.kind, ErrorKind::Unreachable);
            assert!(error.source.expect("a reason").to_string().contains("backend remove --force"));
        }
        assert_eq!(begun.elapsed(), one_call, "{address}: it was waited for again");
        within(access.close()).await;
    }
    let mut room = [0; 2048];
    let datagrams = std::iter::from_fn(|| mute.recv(&mut room).ok().map(|length| call_of(&room[..length])));
    assert_eq!(datagrams.flatten().collect::<BTreeSet<_>>().len(), 1, "one call over UDP");
    assert_eq!(std::iter::from_fn(|| deaf.accept().ok()).count(), 1, "one call over TCP");
}

/// A store with three nodes and two folders, and the nodes' keepers.
fn store_with_nodes(runtime: &Runtime) -> (Desk, Vec<Keeper>) {
    let mut desk = Desk::in_memory();
    desk.expect(0, &["init", "--bare"]);
    let seed = seed_file(desk.home(), SEED);
    desk.set("SHARD_SEED_FILE", &seed.display().to_string());
    let mut keepers = Vec::new();
    for number in 1..=3_u8 {
        let (name, folder) = (format!("friend-{number}"), desk.path(&format!("at-{number}")));
        let keeper = runtime.block_on(Keeper::start(number, &folder, StorageOptions::default()));
        let address = keeper.address(TransportKind::Quic).to_string();
        desk.expect(0, &["backend", "add", &name, &address, "--zone", &name]);
        keepers.push(keeper);
    }
    for name in ["here", "there"] {
        desk.expect(0, &["backend", "add", name, name, "--zone", name]);
    }
    (desk, keepers)
}

#[test]
fn three_nodes_that_are_not_there_cost_a_command_no_more_than_one() {
    let runtime = Runtime::new().expect("threads");
    let (desk, keepers) = store_with_nodes(&runtime);
    let addresses: Vec<_> = keepers.iter().map(|keeper| keeper.node.local_addr().expect("it listens")).collect();
    for keeper in keepers {
        runtime.block_on(keeper.stop());
    }
    // Where they were, something takes what comes and says nothing.
    let mute: Vec<_> = addresses.iter().map(|address| UdpSocket::bind(address).expect("free")).collect();
    desk.file("a", &noise(100_000, 5));
    let (heard, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for (number, socket) in mute.iter().enumerate() {
            let (heard, is_over) = (&heard, &is_over);
            scope.spawn(move || hear(socket, is_over, |call| heard.lock().expect("whole").push((number, call))));
        }
        desk.expect(0, &["put", "a", "--shards", "1/2"]);
        is_over.store(true, Ordering::Relaxed);
    });
    // A call that nobody answers is repeated for as long as it lasts. All three began before one of them was repeated last.
    let heard = heard.into_inner().expect("whole");
    let calls = (0..mute.len()).map(|number| {
        let (first, call) = heard.iter().enumerate().find(|(_, (node, _))| *node == number).expect("it was called");
        (first, heard.iter().rposition(|other| other == call).expect("it was called"))
    });
    let (begun, repeated): (Vec<_>, Vec<_>) = calls.unzip();
    assert!(begun.iter().max() < repeated.iter().min(), "one waited for another: {begun:?}, {repeated:?} of {heard:?}");
}

/// Tells of each datagram which call it belongs to, in the order in which they come.
fn hear(socket: &UdpSocket, is_over: &AtomicBool, tell: impl Fn(Vec<u8>)) {
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
    let mut room = [0; 2048];
    while !is_over.load(Ordering::Relaxed) {
        if let Some(call) = socket.recv(&mut room).ok().and_then(|length| call_of(&room[..length])) {
            tell(call);
        }
    }
}

#[test]
fn a_node_that_stops_answering_within_a_session_is_given_up_long_before_a_request_is() {
    let runtime = Runtime::new().expect("threads");
    let desk = group(&["a"]);
    let node = ServedNode::start(&desk, "a", &[]);
    let seed = shard::peer::SeedRing::parse(&std::fs::read_to_string(desk.path("seed.txt")).expect("a seed"));
    let keyring = shard::crypto::Keyring::new(shard::crypto::MasterKey::from_bytes([1; 32]));
    let access = shard::backend::NodeAccess::default().with_seeds(seed.expect("a seed")).of_store(&keyring, None);
    let place = backend(node.address().parse().expect("an address"), &access);
    runtime.block_on(async {
        assert_eq!(put(&place, shard(1, 0), &pattern(1000)).await, Ok(1000));
        node.signal("-STOP");
        let error = within(place.head(shard(1, 0))).await.expect_err("it is stopped");
        node.signal("-CONT");
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error:?}");
        // The session ended first, and another could not be begun: the request's own time was not over.
        let why = error.source.expect("a reason").to_string();
        assert!(why.contains("is `shard node serve` running there?") && !why.contains("no answer within"), "{why}");
        within(access.close()).await;
    });
}

#[test]
fn a_node_that_is_stopped_in_the_middle_of_a_put_does_not_hold_it_up_for_as_long_as_a_write_may_take() {
    let mut desk = group(&["a"]);
    let node = ServedNode::start(&desk, "a", &[]);
    desk.set("SHARD_SEED_FILE", &desk.path("seed.txt").display().to_string());
    desk.expect(0, &["init", "--bare"]);
    desk.expect(0, &["backend", "add", "friend", &node.address(), "--zone", "friend"]);
    for name in ["here", "there"] {
        desk.expect(0, &["backend", "add", name, name, "--zone", name]);
    }
    let bytes = noise(12_000_000, 5);
    let mut putting = desk
        .command()
        .args(["put", "-", "--name", "a", "--shards", "1/3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a process");
    let mut stdin = putting.stdin.take().expect("a pipe");
    stdin.write_all(&bytes[..6_000_000]).expect("it reads");
    node.signal("-STOP");
    let begun = Instant::now();
    stdin.write_all(&bytes[6_000_000..]).expect("it reads");
    drop(stdin);
    let status = putting.wait().expect("its end");
    let waited = begun.elapsed();
    node.signal("-CONT");
    let a_write = RetryOptions::default().write_timeout;
    assert!(waited < a_write, "{waited:?}");
    // What was put is there, with one shard fewer or all of them.
    assert!(matches!(status.code(), Some(0 | 3)), "{status}");
    desk.expect(0, &["recover", "a", "-o", "back"]);
    assert_eq!(std::fs::read(desk.path("back")).expect("recovered"), bytes);
    node.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_being_written_when_its_node_leaves_is_finished() {
    for transport in [TransportKind::Quic, TransportKind::WebSocket] {
        let dir = tempfile::tempdir().expect("a folder");
        let (seed, folder) = (seed_file(dir.path(), SEED), dir.path().join("shards"));
        let keeper = Keeper::start(1, &folder, StorageOptions::default()).await;
        let access = access(1, &seed, None);
        let place = NodeBackend::open(keeper.address(transport), access.clone(), None);
        let mut writer = place.create(shard(1, 0)).await.expect("begun");
        writer.write(pattern(300_000)).await.expect("written");
        let node = keeper.node.clone();
        let leaving = tokio::spawn(async move { node.stop(Duration::from_secs(20)).await });
        // It takes nothing new, and says so at once.
        within(async {
            while place.head(shard(1, 1)).await.err().is_some_and(|error| error.kind == ErrorKind::NotFound) {}
        })
        .await;
        writer.write(pattern(300_000)).await.expect("it is still heard");
        assert_eq!(within(writer.finish()).await.expect("kept"), 600_000, "{transport:?}");
        let report = within(leaving).await.expect("it ends");
        assert_eq!((report.drained, report.cut), (1, 0), "{transport:?}");
        within(access.close()).await;
        keeper.stop().await;
    }
}

/// The nodes that a served one says it calls.
fn calls(node: &ServedNode) -> Vec<String> {
    let calls = node.ready["calls"].as_array().expect("a list");
    calls.iter().map(|address| address.as_str().expect("an address").to_owned()).collect()
}

#[test]
fn a_node_calls_by_itself_those_it_was_told_to_and_not_those_it_once_asked_who_they_are() {
    let desk = group(&["a", "b"]);
    let a = ServedNode::start(&desk, "a", &[]);
    desk.expect(0, &["node", "ping", "--data", "b", &a.address(), "--count", "1"]);
    let b = ServedNode::start(&desk, "b", &[]);
    assert_eq!(calls(&b), Vec::<String>::new());
    b.stop();
    // What was told and never answered is not called again either.
    let nobody = "node://127.0.0.1:9".to_owned();
    let b = ServedNode::start(&desk, "b", &["--connect", &a.address(), "--connect", &nobody]);
    connected(&desk, "b", 1);
    b.stop();
    let b = ServedNode::start(&desk, "b", &[]);
    assert_eq!(calls(&b), [a.address()]);
    connected(&desk, "b", 1);
    b.stop();
    desk.expect(0, &["node", "forget", "--data", "b", &a.address()]);
    let b = ServedNode::start(&desk, "b", &[]);
    assert_eq!(calls(&b), Vec::<String>::new());
    b.stop();
    a.stop();
}

#[test]
fn what_a_person_can_do_is_said_where_a_nodes_address_settings_or_port_are_wrong() {
    let mut desk = group(&["a"]);
    desk.expect(0, &["init", "--bare"]);
    desk.set("SHARD_SEED_FILE", &desk.path("seed.txt").display().to_string());
    let failure = desk.failure(1, &["backend", "add", "friend", "node://friend.example:1/path"]);
    let hint = failure["hint"].as_str().expect("a hint");
    assert!(hint.contains("node://HOST:PORT") && !hint.contains("bucket"), "{failure}");
    let node = ServedNode::start(&desk, "a", &["--metrics-listen", "0", "--quota", "5GB"]);
    let other = group(&["b"]);
    let taken = ["node", "serve", "--data", "b", "--listen", "127.0.0.1:0", "--metrics-listen"];
    let failure = other.failure(1, &[&taken[..], &[&node.text("metrics_listen")]].concat());
    assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("--metrics-listen")), "{failure}");
    // The quota that a node has for each store is in what the store says of it.
    desk.expect(0, &["backend", "add", "friend", &node.address(), "--zone", "friend"]);
    let check = desk.json(0, &["backend", "check", "friend"]);
    assert_eq!(check["backends"][0]["quota"], 5_000_000_000_u64, "{check}");
    assert!(check["backends"][0]["free"].is_u64(), "{check}");
    node.stop();
    std::fs::write(desk.path("a/node.toml"), "listen = \"127.0.0.1:0\"\nqota = 7\n").expect("written");
    let failure = desk.failure(1, &["node", "serve", "--data", "a"]).to_string();
    assert!(failure.contains("line 2: ") && !failure.contains("u{a}"), "{failure}");
}
