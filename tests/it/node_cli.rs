//! `shard node` before anything is served: folders, seeds, and who answers a ping.

use super::desk::{Desk, has_keys};
use super::node_cli_desk::{ServedNode, group};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_node_is_made_once_and_its_folder_is_its_owners_alone() {
    let desk = Desk::in_memory();
    for command in ["peers", "messages", "sessions", "stats", "serve"] {
        let failure = desk.failure(10, &["node", command]);
        assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("node init")), "{failure}");
    }
    let made = desk.json(0, &["node", "init", "--listen", "7441", "--ws-listen", "[::1]:7442", "--quota", "5GB"]);
    assert_eq!((&made["schema"], &made["listen"]), (&"shard.node-init/1".into(), &"0.0.0.0:7441".into()));
    has_keys(&made, &["node", "data", "ws_listen", "quota_bytes", "reserve_bytes"]);
    let folder = desk.store().join("node");
    assert_eq!(made["data"].as_str(), folder.to_str());
    assert_eq!((mode(&folder), mode(&folder.join("node.key"))), (0o700, 0o600));
    let settings = fs::read_to_string(folder.join("node.toml")).expect("settings");
    assert!(settings.contains("quota_bytes = 5000000000"), "{settings}");
    assert_eq!(desk.failure(1, &["node", "init"])["kind"], "refused");
    assert_eq!(desk.failure(13, &["node", "serve"])["kind"], "not-found", "it has no seed");
    fs::write(folder.join("node.toml"), "listen = 7").expect("written");
    let failure = desk.failure(1, &["node", "serve"]);
    assert!(failure["kind"] == "invalid" && failure["hint"].is_string(), "{failure}");
    fs::remove_file(folder.join("node.toml")).expect("removed");
    fs::set_permissions(folder.join("node.key"), fs::Permissions::from_mode(0o644)).expect("chmod");
    assert_eq!(desk.failure(1, &["node", "peers"])["kind"], "refused", "others can read the key");
    fs::set_permissions(folder.join("node.key"), fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::write(folder.join("node.key"), "SHARD-NODE-1 nonsense").expect("written");
    assert_eq!(desk.failure(1, &["node", "peers"])["kind"], "damaged");
}

#[test]
fn a_seed_is_printed_by_show_alone_and_never_in_an_error() {
    let desk = Desk::in_memory();
    desk.expect(0, &["node", "init"]);
    let made = desk.expect(0, &["-vvv", "node", "seed", "new", "-o", "seed.txt"]);
    let text = fs::read_to_string(desk.path("seed.txt")).expect("the seed");
    assert_eq!(mode(&desk.path("seed.txt")), 0o600);
    assert_eq!(mode(&desk.store().join("node/seeds")), 0o600);
    let words: Vec<&str> = text.trim().split(' ').skip(1).collect();
    assert_eq!(words.len(), 16);
    let is_silent = |said: &str| words.iter().all(|word| !said.contains(word));
    assert!(is_silent(made.text()) && is_silent(&made.stderr), "{made:?}");
    assert_eq!(desk.expect(0, &["node", "seed", "show"]).text(), text);
    assert_eq!(desk.json(0, &["node", "seed", "show"])["seeds"][0], text.trim());
    assert_eq!(desk.failure(1, &["node", "seed", "new", "-o", "seed.txt"])["kind"], "refused");
    assert_eq!(desk.failure(1, &["node", "seed", "add", "seed.txt"])["kind"], "refused", "it is there already");
    assert_eq!(desk.failure(1, &["node", "seed", "retire"])["kind"], "refused", "it is the only one");
    assert_eq!(desk.failure(13, &["node", "seed", "add", "none.txt"])["kind"], "not-found");

    // A typing error is told, and nothing of the seed with it.
    let swapped = text.replace(words[3], words[4]);
    let wrong = desk.run_with(&["-vvv", "node", "seed", "add", "-"], swapped);
    assert!(wrong.code == 12 && wrong.stderr.contains("typing error"), "{wrong:?}");
    assert!(is_silent(&wrong.stderr) && wrong.stdout.is_empty(), "{wrong:?}");

    // The other seed comes in by standard input, and the older goes.
    let other = Desk::in_memory();
    other.expect(0, &["node", "seed", "new"]);
    let newer = other.expect(0, &["node", "seed", "show"]).stdout;
    assert_eq!(desk.run_with(&["node", "seed", "add", "-"], newer.clone()).code, 0);
    assert_eq!(desk.json(0, &["node", "seed", "show"])["seeds"].as_array().map(Vec::len), Some(2));
    assert_eq!(desk.failure(1, &["node", "seed", "new"])["kind"], "refused", "two are as many as there may be");
    desk.expect(0, &["node", "seed", "retire"]);
    assert_eq!(desk.expect(0, &["node", "seed", "show"]).stdout, newer);
}

#[test]
fn a_seed_file_that_the_environment_names_comes_before_the_folder() {
    let mut desk = group(&["a"]);
    let other = group(&["b"]);
    let named = other.path("seed.txt");
    desk.set("SHARD_SEED_FILE", named.to_str().expect("UTF-8"));
    let shown = desk.expect(0, &["node", "seed", "show", "--data", "a"]).stdout;
    assert_eq!(shown, fs::read(&named).expect("the seed"));
    let node = ServedNode::start(&desk, "a", &[]);
    other.expect(0, &["node", "ping", "--data", "b", &node.address(), "--count", "1"]);
    node.stop();
    desk.set("SHARD_SEED_FILE", "/nowhere/seed.txt");
    assert_eq!(desk.failure(13, &["node", "serve", "--data", "a"])["kind"], "not-found");
}

#[test]
fn ping_tells_who_answers_over_either_transport() {
    let desk = group(&["a", "b"]);
    let node = ServedNode::start(&desk, "b", &["--ws-listen", "127.0.0.1:0"]);
    for (address, transport) in [(node.address(), "quic"), (node.ws_address(), "websocket")] {
        let answer = desk.json(0, &["node", "ping", "--data", "a", &address, "--count", "4"]);
        assert_eq!((&answer["schema"], &answer["transport"]), (&"shard.node-ping/1".into(), &transport.into()));
        assert_eq!((answer["node"].as_str(), answer["address"].as_str()), (Some(&*node.id()), Some(&*address)));
        let round_trips = answer["round_trips_ms"].as_array().expect("a list");
        assert!(round_trips.len() == 4 && round_trips.iter().all(|time| time.as_f64() > Some(0.0)), "{answer}");
    }
    let peers = desk.json(0, &["node", "peers", "--data", "a"])["peers"].clone();
    assert_eq!((peers[0]["peer"].as_str(), peers.as_array().map(Vec::len)), (Some(&*node.id()), Some(1)));
    assert_eq!(peers[0]["addresses"].as_array().map(Vec::len), Some(2));
    let page = desk.expect(0, &["node", "ping", "--data", "a", &node.address()]);
    assert!(page.text().contains(&node.id()) && page.text().contains("in 3 tries"), "{}", page.text());
    // A node does not talk to itself.
    let failure = desk.failure(1, &["node", "ping", "--data", "b", &node.address()]);
    assert!(failure["causes"].to_string().contains("own id"), "{failure}");
    node.stop();
}

#[test]
fn nobody_there_another_seed_and_another_node_are_told_apart() {
    let desk = group(&["a", "b", "b2"]);
    let stranger = group(&["c"]);
    let node = ServedNode::start(&desk, "b", &["--ws-listen", "127.0.0.1:0"]);
    for address in [node.address(), node.ws_address()] {
        let failure = stranger.failure(12, &["node", "ping", "--data", "c", &address]);
        assert!(failure["message"].as_str().is_some_and(|said| said.contains("another seed")), "{failure}");
        assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("seed add")), "{failure}");
    }
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address");
    let refusing = TcpListener::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address");
    for address in [format!("node://{silent}"), format!("node+ws://{refusing}")] {
        let failure = desk.failure(5, &["node", "ping", "--data", "a", &address, "--timeout", "1s"]);
        assert_eq!(failure["kind"], "unavailable", "{failure}");
    }

    let address = node.address();
    desk.expect(0, &["node", "ping", "--data", "a", &address, "--count", "1"]);
    let listen = node.text("listen");
    node.stop();
    let other = ServedNode::start(&desk, "b2", &["--listen", &listen]);
    let failure = desk.failure(1, &["node", "ping", "--data", "a", &address]);
    assert!(failure["kind"] == "refused" && failure["causes"].to_string().contains("HAS CHANGED"), "{failure}");
    let forget = format!("shard node forget {address}");
    assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains(&forget)), "{failure}");
    desk.failure(1, &["node", "ping", "--data", "a", &address]);
    desk.expect(0, &["node", "forget", "--data", "a", &address]);
    desk.expect(0, &["node", "ping", "--data", "a", &address, "--count", "1"]);
    assert_eq!(desk.failure(13, &["node", "forget", "--data", "a", "node://other:1"])["kind"], "not-found");
    desk.expect(0, &["node", "forget", "--data", "a", &other.id()[..8]]);
    other.stop();
}

#[test]
fn what_asks_a_node_that_is_not_served_says_so() {
    let desk = group(&["a"]);
    for words in [["sessions"].as_slice(), &["stats"], &["send", "--all", "hello"]] {
        let failure = desk.failure(5, &[&["node", "--data", "a"][..], words].concat());
        assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("node serve")), "{failure}");
    }
    let unknown = desk.failure(13, &["node", "send", "--data", "a", "--peer", "beef", "hello"]);
    assert_eq!(unknown["kind"], "not-found");
    desk.failure(2, &["node", "messages", "--data", "a", "--peer", "friend"]);
    desk.failure(1, &["node", "send", "--data", "a", "--all", &"x".repeat(4097)]);
    assert_eq!(desk.json(0, &["node", "messages", "--data", "a"])["messages"].as_array().map(Vec::len), Some(0));
}
