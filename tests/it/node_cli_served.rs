//! `shard node serve` as a process: what it tells, what it remembers, how it ends.

use super::desk::{Desk, PROGRAM, has_keys};
use super::node_cli_desk::{ServedNode, connected, group, list, message, until};
use super::node_desk::{identity, start, stop, within};
use serde_json::Value;
use shard::id::{ObjectId, ShardId};
use shard::node::NodeConfig;
use shard::node::home::{NOTICE_STREAM, Notice, NoticeKind};
use shard::peer::storage::{MAX_ANSWER_BYTES, RefusalKind, STORAGE_SERVICE, StorageAnswer, StorageRequest};
use shard::peer::transport::Session;
use shard::peer::{FrameReader, GroupSeed, SeedRing, StreamPurpose};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

const README: &str = include_str!("../../README.md");

/// What a node that was stopped leaves nothing of.
const WHILE_SERVED: [&str; 2] = ["serve.sock", "serve.lock"];

/// What the README says of nodes.
fn section() -> &'static str {
    README.split("## A node\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section")
}

fn told(socket: &UnixDatagram) -> String {
    let mut room = [0; 128];
    let length = socket.recv(&mut room).expect("it is told");
    String::from_utf8_lossy(&room[..length]).into_owned()
}

#[test]
fn nodes_that_are_served_tell_each_other_and_remember_it() {
    let desk = group(&["a", "b"]);
    let a = ServedNode::start(&desk, "a", &["--ws-listen", "127.0.0.1:0"]);
    let b = ServedNode::start(&desk, "b", &["--connect", &a.ws_address()]);
    connected(&desk, "a", 1);
    connected(&desk, "b", 1);
    let sessions = list(&desk, &["node", "sessions", "--data", "b"], "sessions");
    has_keys(&sessions[0], &["session", "peer", "remote", "age_ms", "round_trip_ms", "sent_bytes", "received_bytes"]);
    assert_eq!((&sessions[0]["transport"], &sessions[0]["began_here"]), (&"websocket".into(), &true.into()));

    let sent = desk.json(0, &["node", "send", "--data", "b", "--all", "one"]);
    assert_eq!((&sent["schema"], &sent["peers"][0]["sent"]), (&"shard.node-send/1".into(), &true.into()));
    let came = message(&desk, "a", "one");
    has_keys(&came, &["id", "time"]);
    assert_eq!((&came["direction"], &came["kind"]), (&"received".into(), &"text".into()));
    assert_eq!(came["peer"].as_str(), Some(&*b.id()));
    // The beginning of an id is enough, and control characters act on no terminal.
    desk.expect(0, &["node", "send", "--data", "a", "--peer", &b.id()[..6], "two \u{1b}[31m"]);
    message(&desk, "b", "two \u{1b}[31m");
    assert!(desk.expect(0, &["node", "messages", "--data", "b"]).text().contains(r"two \u{1b}[31m"));

    let page = desk.json(0, &["node", "messages", "--data", "b", "--limit", "1", "--peer", &a.id()]);
    assert_eq!(
        (&page["schema"], &page["messages"][0]["text"]),
        (&"shard.node-messages/1".into(), &"two \u{1b}[31m".into())
    );
    let next = page["next"].to_string();
    let older =
        desk.json(0, &["node", "messages", "--data", "b", "--peer", &a.id(), "--limit", "1", "--before", &next]);
    assert_eq!((&older["messages"][0]["text"], &older["messages"][0]["direction"]), (&"one".into(), &"sent".into()));
    assert_eq!(older["next"], Value::Null);

    let stats = desk.json(0, &["node", "stats", "--data", "a"]);
    assert_eq!((&stats["schema"], &stats["node"]), (&"shard.node-stats/1".into(), &a.id().into()));
    assert_eq!((&stats["messages_sent"], &stats["messages_received"]), (&1.into(), &1.into()));
    assert_eq!((&stats["sessions_active"], &stats["websocket_sessions"]), (&1.into(), &1.into()));
    assert_eq!((&stats["kept"]["bytes"], &stats["seeds"]), (&0.into(), &1.into()));
    assert!(desk.expect(0, &["node", "stats", "--data", "a"]).text().contains("1 now, 1 in all"));
    let peers = list(&desk, &["node", "peers", "--data", "a"], "peers");
    assert_eq!((peers.len(), peers[0]["peer"].as_str()), (1, Some(&*b.id())));
    has_keys(&peers[0], &["addresses", "remote", "first_seen", "last_seen", "sessions"]);
    b.stop();
    // Whoever is gone does not hear it.
    let failure = until("the end of the session", || {
        let outcome = desk.run(&["--json", "node", "send", "--data", "a", "--all", "three"]);
        (outcome.code == 5).then_some(outcome.stderr)
    });
    assert!(failure.contains("nobody is connected"), "{failure}");
    a.stop();
}

#[test]
fn a_node_that_is_told_to_stop_tells_its_peers_and_leaves_nothing() {
    let desk = group(&["a", "b"]);
    for (number, signal) in (1..).zip(["-TERM", "-INT"]) {
        let a = ServedNode::start(&desk, "a", &[]);
        let b = ServedNode::start(&desk, "b", &["--connect", &a.address()]);
        connected(&desk, "a", 1);
        for name in WHILE_SERVED {
            let mode = std::fs::metadata(desk.path("a").join(name)).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        a.signal(signal);
        let (code, said) = a.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("1 session ended in order"), "{said}");
        for (name, direction) in [("a", "sent"), ("b", "received")] {
            let leaving = |message: &&Value| message["kind"] == "leaving" && message["direction"] == direction;
            until("the word that it stops", || {
                let messages = list(&desk, &["node", "messages", "--data", name], "messages");
                (messages.iter().filter(leaving).count() == number).then_some(())
            });
        }
        b.stop();
        for name in ["a", "b"] {
            let left: Vec<_> = WHILE_SERVED.iter().filter(|file| desk.path(name).join(file).exists()).collect();
            assert!(left.is_empty(), "{left:?} of {name}");
            let past = list(&desk, &["node", "sessions", "--past", "--data", name], "sessions");
            assert!(past.iter().all(|session| session["ended"].is_string() && session["end"] != "killed"), "{past:?}");
        }
        desk.expect(0, &["node", "forget", "--data", "b", &went_to(&desk)]);
    }
}

/// The address at which `b` called `a`.
fn went_to(desk: &Desk) -> String {
    let peers = list(desk, &["node", "peers", "--data", "b"], "peers");
    peers[0]["addresses"][0].as_str().expect("an address").to_owned()
}

#[test]
fn a_node_that_was_killed_knows_its_peers_and_messages() {
    let desk = group(&["a", "b"]);
    let a = ServedNode::start(&desk, "a", &[]);
    let b = ServedNode::start(&desk, "b", &["--connect", &a.address()]);
    connected(&desk, "a", 1);
    desk.expect(0, &["node", "send", "--data", "a", "--all", "hold on"]);
    message(&desk, "b", "hold on");
    b.kill();
    assert!(WHILE_SERVED.iter().all(|name| desk.path("b").join(name).exists()), "it could not clear up");

    let b = ServedNode::start(&desk, "b", &[]);
    assert_eq!(b.ready["calls"], serde_json::json!([a.address()]), "it calls whom it called before");
    connected(&desk, "b", 1);
    message(&desk, "b", "hold on");
    let peers = list(&desk, &["node", "peers", "--data", "b"], "peers");
    assert_eq!(peers[0]["peer"].as_str(), Some(&*a.id()));
    let past = list(&desk, &["node", "sessions", "--past", "--data", "b"], "sessions");
    assert_eq!(past.iter().filter(|session| session["end"] == "killed").count(), 1, "{past:?}");
    b.stop();
    a.stop();
}

#[test]
fn a_second_signal_ends_a_node_that_waits_for_a_peer_and_its_folder_can_be_served_again() {
    let desk = group(&["a", "b"]);
    let mut a = ServedNode::start(&desk, "a", &[]);
    let b = ServedNode::start(&desk, "b", &["--connect", &a.address()]);
    connected(&desk, "a", 1);
    // It keeps its session, and reads nothing.
    b.signal("-STOP");
    a.signal("-TERM");
    a.says("interrupt again");
    a.signal("-TERM");
    assert_eq!(a.end().0, Some(1));
    ServedNode::start(&desk, "a", &[]).stop();
    b.kill();
}

#[test]
fn a_node_that_is_served_says_loudly_that_another_answers_where_one_was() {
    let desk = group(&["a", "a2", "b"]);
    let a = ServedNode::start(&desk, "a", &[]);
    let b = ServedNode::start(&desk, "b", &["--connect", &a.address()]);
    connected(&desk, "b", 1);
    b.stop();
    let listen = a.text("listen");
    a.stop();
    let other = ServedNode::start(&desk, "a2", &["--listen", &listen]);
    let mut b = ServedNode::start(&desk, "b", &[]);
    b.says("HAS CHANGED");
    let sessions = list(&desk, &["node", "sessions", "--data", "b"], "sessions");
    assert!(sessions.is_empty(), "{sessions:?}");
    b.stop();
    other.stop();
}

#[test]
fn a_folder_is_served_by_one_process() {
    let desk = group(&["a"]);
    let node = ServedNode::start(&desk, "a", &[]);
    let failure = desk.failure(11, &["node", "serve", "--data", "a", "--listen", "127.0.0.1:0"]);
    assert_eq!(failure["kind"], "busy");
    desk.expect(0, &["node", "stats", "--data", "a"]);
    // An address that another has is told, and leaves nothing.
    let other = group(&["b"]);
    let failure = other.failure(1, &["node", "serve", "--data", "b", "--listen", &node.text("listen")]);
    assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("--listen")), "{failure}");
    assert!(WHILE_SERVED.iter().all(|name| !other.path("b").join(name).exists()));
    node.stop();
}

#[test]
fn nonsense_on_the_socket_is_answered_and_the_node_goes_on() {
    let desk = group(&["a"]);
    let node = ServedNode::start(&desk, "a", &[]);
    let long = vec![b'x'; 100_000];
    for question in [&b"what?\n"[..], b"\xff\xfe\n", b"{\"ask\":\"stop\"}\n", b"\n", b"", &long] {
        let mut socket = UnixStream::connect(desk.path("a/serve.sock")).expect("it listens");
        // It need not read to the end of what is too long.
        let _ = socket.write_all(question).and_then(|()| socket.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        let read = socket.read_to_end(&mut answer);
        if question.len() < long.len() {
            read.expect("an answer");
            assert_eq!(serde_json::from_slice::<Value>(&answer).expect("JSON")["answer"], "failed");
        }
    }
    // Whoever says nothing keeps nobody from being heard.
    let idle: Vec<UnixStream> =
        (0..8).map(|_| UnixStream::connect(desk.path("a/serve.sock")).expect("it listens")).collect();
    desk.expect(0, &["node", "stats", "--data", "a"]);
    node.stop();
    drop(idle);
}

fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let mut answer = String::new();
    // What is too long need not be read to its end: a connection that is closed before ends in an error.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn metrics_are_served_as_prometheus_reads_them() {
    let desk = group(&["a", "b"]);
    let a = ServedNode::start(&desk, "a", &["--metrics-listen", "0"]);
    let b = ServedNode::start(&desk, "b", &["--connect", &a.address()]);
    connected(&desk, "a", 1);
    desk.expect(0, &["node", "send", "--data", "a", "--all", "hello"]);
    let address = a.text("metrics_listen");
    assert!(address.starts_with("127.0.0.1:"), "a port alone is this machine's: {address}");
    let answer = http(&address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    for line in body.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(name.starts_with("shard_node_") && value.parse::<f64>().is_ok(), "{line}");
        let family = name.split('{').next().expect("a name");
        assert!(body.contains(&format!("# TYPE {family} ")), "{line}");
    }
    for line in
        ["shard_node_sessions{transport=\"quic\"} 1", "shard_node_messages_total{direction=\"sent\"} 1", &a.id()]
    {
        assert!(body.contains(line), "{line} is not in\n{body}");
    }
    assert!(http(&address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404"));
    let refused = http(&address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 405") && refused.to_lowercase().contains("allow: get"), "{refused}");
    assert!(http(&address, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert!(!http(&address, &long).starts_with("HTTP/1.1 200"));
    b.stop();
    a.stop();
}

#[test]
fn a_caller_that_says_nothing_is_counted_while_it_waits_and_when_it_is_cut_off() {
    let desk = group(&["a"]);
    let node = ServedNode::start(&desk, "a", &["--ws-listen", "127.0.0.1:0", "--metrics-listen", "0"]);
    let stats = || desk.json(0, &["node", "stats", "--data", "a"]);
    let counts = |stats: &Value| ["waiting", "displaced", "late"].map(|key| stats[key].as_u64().expect(key));
    assert_eq!(counts(&stats()), [0, 0, 0]);
    let _silent = TcpStream::connect(node.text("ws_listen")).expect("it listens");
    until("the one that waits", || (counts(&stats()) == [1, 0, 0]).then_some(()));
    until("its end", || (counts(&stats()) == [0, 0, 1]).then_some(()));
    let page = http(&node.text("metrics_listen"), "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    for sample in ["shard_node_handshakes 0\n", "shard_node_displaced_total 0\n", "shard_node_late_total 1\n"] {
        assert!(page.contains(sample), "{sample} is not in\n{page}");
    }
    let page = desk.expect(0, &["node", "stats", "--data", "a"]).text().to_owned();
    assert!(page.contains("0 turned away, 0 displaced, 1 cut off, 0 waiting now"), "{page}");
    node.stop();
}

#[test]
fn the_unit_in_the_readme_serves_a_node_and_its_manager_is_told() {
    let desk = group(&["a"]);
    let unit = section().split("```ini\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a unit");
    assert!(unit.contains("Type=notify"));
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let words: Vec<&str> = line
        .split(' ')
        .map(|word| match word {
            "/var/lib/shard-node" => "a",
            "0.0.0.0:7440" => "127.0.0.1:0",
            word => word,
        })
        .collect();
    assert_eq!((words[0], words.contains(&"a")), ("/usr/local/bin/shard", true), "{line}");
    let manager = UnixDatagram::bind(desk.path("notify")).expect("a socket");
    let mut command = desk.command();
    command.args(&words[1..]).arg("--json").env("NOTIFY_SOCKET", desk.path("notify"));
    let node = ServedNode::run(&mut command);
    assert_eq!(told(&manager), "READY=1");
    node.signal("-TERM");
    assert_eq!(told(&manager), "STOPPING=1");
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn every_node_command_of_the_readme_has_the_flags_it_names() {
    let lines = section().lines().filter(|line| line.starts_with("shard node "));
    let mut count = 0;
    for line in lines {
        let command = line.split(" #").next().expect("a command").trim();
        let run = Command::new("sh")
            .args(["-c", &format!("{PROGRAM} {} --help", command.strip_prefix("shard ").expect("a command"))])
            .output()
            .expect("a shell");
        assert!(run.status.success(), "{command}: {}", String::from_utf8_lossy(&run.stderr));
        count += 1;
    }
    assert!(count >= 6, "the commands are found");
}

#[test]
fn a_group_changes_its_seed_and_nobody_is_shut_out_on_the_way() {
    let desk = group(&["a", "b"]);
    let seed = |words: &[&str]| desk.expect(0, &[&["node", "seed"][..], words].concat());
    let ping = |code: i32, name: &str| {
        let node = ServedNode::start(&desk, "a", &[]);
        desk.expect(code, &["node", "ping", "--data", name, &node.address(), "--count", "1"]);
        node.stop();
    };
    desk.expect(0, &["node", "init", "--data", "late"]);
    seed(&["add", "--data", "late", "seed.txt"]);
    seed(&["new", "--data", "a", "-o", "newer.txt"]);
    ping(0, "b");
    seed(&["add", "--data", "b", "newer.txt"]);
    ping(0, "b");
    seed(&["retire", "--data", "a"]);
    ping(0, "b");
    seed(&["retire", "--data", "b"]);
    ping(0, "b");
    ping(12, "late");
}

/// Stores a shard of 100 bytes, as far as it is taken, and gives the last answer.
async fn store(session: &Session, index: u8) -> StorageAnswer {
    let mut stream = session.open(StreamPurpose::Service(STORAGE_SERVICE)).await.expect("a stream");
    let shard = ShardId { object: ObjectId([7; 16]), index };
    stream.send.send_frame(&StorageRequest::Create(shard).to_bytes()).await.expect("asked");
    let mut reader = FrameReader::new(MAX_ANSWER_BYTES);
    for piece in [&[5_u8; 100][..], &[]] {
        let answer = stream.receive.next_frame(&mut reader).await.expect("an answer").expect("an answer");
        match StorageAnswer::parse(&answer).expect("an answer") {
            StorageAnswer::Ready => stream.send.send_frame(piece).await.expect("sent"),
            other => return other,
        }
    }
    let answer = stream.receive.next_frame(&mut reader).await.expect("an answer").expect("an answer");
    StorageAnswer::parse(&answer).expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_for_which_there_is_no_room_is_told_that_its_quota_is_reached() {
    let desk = group(&["a"]);
    let node = ServedNode::start(&desk, "a", &["--quota", "150", "--reserve", "0"]);
    let text = std::fs::read_to_string(desk.path("seed.txt")).expect("the seed");
    let seeds = SeedRing::new(GroupSeed::parse(&text).expect("a seed"));
    let peer = start(NodeConfig::new(identity(9), seeds)).await;
    let mut inbox = peer.receive().expect("once");
    let session = within(peer.connect(&node.address().parse().expect("an address"))).await.expect("a session");
    assert_eq!(within(store(&session, 0)).await, StorageAnswer::Number(100));
    let refused = within(store(&session, 1)).await;
    assert!(matches!(refused, StorageAnswer::Refused { kind: RefusalKind::NoSpace, .. }), "{refused:?}");
    let told = within(inbox.next()).await.expect("a message");
    assert_eq!(told.stream, NOTICE_STREAM);
    assert_eq!(Notice::parse(&told.data).expect("a notice").kind(), NoticeKind::QuotaReached);
    let id = peer.id().to_string();
    let words = ["node", "messages", "--data", "a", "--peer", &id];
    // It is noted once it is sent.
    let notice = until("the note of it", || list(&desk, &words, "messages").into_iter().next());
    assert_eq!((&notice["kind"], &notice["direction"]), (&"quota-reached".into(), &"sent".into()));
    let stats = desk.json(0, &["node", "stats", "--data", "a"]);
    assert_eq!(stats["kept"], serde_json::json!({ "owners": 1, "bytes": 100, "shards": 1 }));
    stop(&peer).await;
    node.stop();
}
