//! What a node has to tell the owners of the shards that it keeps, who are mostly not there when it happens.

use super::cloud_contract::{pattern, put, shard};
use super::desk::{Desk, Outcome, PROGRAM, noise};
use super::node_cli_desk::{ServedNode, group, list, until};
use super::node_desk::{address, listener, start, within};
use super::node_storage_desk::{SEED, access, seed_file};
use super::private_mounts::PrivateMounts;
use serde_json::Value;
use shard::backend::node::heard;
use shard::backend::{Backend, ErrorKind, NodeBackend};
use shard::node::Node;
use shard::peer::storage::{MAX_NOTICES, MAX_REQUEST_BYTES, NoticeKind, OwnerNotice, StorageAnswer, StorageRequest};
use shard::peer::{FrameReader, TransportKind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Two of three: each place has one shard of the file.
const FILE_BYTES: usize = 700_000;
/// A file of the system's with a length, of which no byte can be read.
const UNREADABLE: &str = "/sys/class/net/lo/speed";

/// The shards below a folder.
fn shards_below(folder: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok).map(walkdir::DirEntry::into_path);
    files.filter(|path| path.extension().is_some_and(|extension| extension == "shard")).collect()
}

/// Makes a store in this folder, which has a file over two folders and the node at this address.
fn store_with(desk: &Desk, store: &str, url: &str) {
    desk.expect(0, &["--store", store, "init", "--bare"]);
    for (name, url) in [("friend", url), ("here", &format!("{store}-here")), ("there", &format!("{store}-there"))] {
        desk.expect(0, &["--store", store, "backend", "add", name, url, "--zone", name]);
    }
    desk.file("f", &noise(FILE_BYTES, 5));
    desk.expect(0, &["--store", store, "put", "f", "--level", "minimal"]);
}

fn flip(shard: &Path, at: usize) {
    let mut bytes = std::fs::read(shard).expect("a shard");
    bytes[at] ^= 1;
    std::fs::write(shard, bytes).expect("written");
}

/// The messages of a node with this word of how they go.
fn messages(desk: &Desk, direction: &str) -> Vec<Value> {
    let messages = list(desk, &["node", "messages", "--data", "a"], "messages");
    messages.into_iter().filter(|message| message["direction"] == direction).collect()
}

/// Waits until so many notices wait at the node: they are noted after what they are about is answered.
fn waiting(desk: &Desk, count: usize) -> Vec<Value> {
    until("notices that wait", || Some(messages(desk, "waiting")).filter(|messages| messages.len() == count))
}

/// What a store is told of by the way while it does something that takes no look at blocks.
fn quick(desk: &Desk, store: &str) -> String {
    let Outcome { stderr, .. } = desk.expect(0, &["--store", store, "verify", "--quick"]);
    stderr
}

/// What `status` has of the friend's words; they move no exit code.
fn said(desk: &Desk, store: &str, code: i32) -> Vec<Value> {
    let status = desk.json(code, &["--store", store, "status"]);
    let backends = status["backends"].as_array().expect("backends");
    let friend = backends.iter().find(|backend| backend["name"] == "friend").expect("the node");
    friend["said"].as_array().expect("a list").clone()
}

fn desk_of_one() -> Desk {
    let mut desk = group(&["a"]);
    let seed = desk.path("seed.txt").display().to_string();
    desk.set("SHARD_SEED_FILE", &seed);
    desk
}

#[test]
fn damage_that_a_node_finds_is_heard_by_its_owner_once_and_again_only_when_it_comes_again() {
    for transport in ["quic", "websocket"] {
        let desk = desk_of_one();
        let node = ServedNode::start(&desk, "a", &["--ws-listen", "127.0.0.1:0"]);
        let url = if transport == "quic" { node.address() } else { node.ws_address() };
        store_with(&desk, "s", &url);
        let [shard] = shards_below(&desk.path("a/shards")).try_into().expect("one shard");
        let whole = desk.json(0, &["node", "scrub", "--data", "a"]);
        assert_eq!((&whole["schema"], &whole["shards"]), (&"shard.node-scrub/1".into(), &1.into()), "{whole}");
        flip(&shard, 200);
        let found = desk.json(3, &["node", "scrub", "--data", "a"]);
        assert_eq!(found["owners"][0]["damaged"].as_array().map(Vec::len), Some(1), "{found}");
        let notice = waiting(&desk, 1).remove(0);
        assert_eq!((&notice["kind"], &notice["peer"]), (&"repair-needed".into(), &found["owners"][0]["owner"]));
        assert_eq!(said(&desk, "s", 0), [] as [Value; 0], "{transport}: nobody asked yet");

        let told = quick(&desk, "s");
        assert!(told.contains("1 shard of yours there is damaged"), "{transport}: {told}");
        assert!(told.contains("shard --store s repair") && told.contains(&url), "{told}");
        let [word] = said(&desk, "s", 0).try_into().expect("one");
        assert_eq!((&word["kind"], &word["shards"]), (&"repair-needed".into(), &1.into()), "{word}");
        let page = desk.expect(0, &["--store", "s", "status"]).text().to_owned();
        assert!(page.contains("friend said, 20") && page.contains("1 shard of yours there is damaged"), "{page}");
        // Once: whether it is asked again, or the node looks again.
        assert_eq!(quick(&desk, "s"), "");
        until("that it is known to be heard", || messages(&desk, "waiting").is_empty().then_some(()));
        desk.expect(3, &["node", "scrub", "--data", "a"]);
        desk.expect(3, &["--store", "s", "backend", "scrub"]);
        assert_eq!(quick(&desk, "s"), "");
        assert_eq!(messages(&desk, "sent").len(), 1);

        desk.expect(0, &["--store", "s", "repair"]);
        assert_eq!(said(&desk, "s", 0), [] as [Value; 0], "{transport}: the store looked itself");
        desk.expect(0, &["node", "scrub", "--data", "a"]);
        flip(&shard, 300);
        desk.expect(3, &["node", "scrub", "--data", "a"]);
        waiting(&desk, 1);
        assert!(quick(&desk, "s").contains("1 shard of yours there is damaged"), "{transport}");
        node.stop();
    }
}

#[test]
fn a_notice_is_for_its_owner_alone_and_what_a_person_writes_waits_for_a_store_too() {
    let desk = desk_of_one();
    let node = ServedNode::start(&desk, "a", &[]);
    store_with(&desk, "s", &node.address());
    let owner = desk.json(0, &["node", "scrub", "--data", "a"])["owners"][0]["owner"].clone();
    let owner = owner.as_str().expect("an id");
    store_with(&desk, "t", &node.address());
    let text = "the disk goes on Friday\u{1b}[2J";
    let sent = desk.json(0, &["node", "send", "--data", "a", "--peer", owner, text]);
    assert_eq!((&sent["peers"][0]["waits"], &sent["peers"][0]["sent"]), (&true.into(), &true.into()), "{sent}");
    waiting(&desk, 1);
    assert_eq!(quick(&desk, "t"), "");
    let told = quick(&desk, "s");
    assert!(told.contains("the disk goes on Friday") && !told.contains('\u{1b}'), "{told}");
    assert_eq!(quick(&desk, "s"), "");
    assert_eq!((said(&desk, "s", 0).len(), said(&desk, "t", 0).len()), (1, 0));
    // Under --json it is a line of JSON beside the document, and a quiet command says it too: it is a warning.
    desk.expect(0, &["node", "send", "--data", "a", "--peer", owner, "once more"]);
    let outcome = desk.expect(0, &["--store", "s", "verify", "--quick", "--json", "-q"]);
    let warning: Value = serde_json::from_str(outcome.stderr.trim()).expect("one line");
    assert_eq!(warning["schema"], "shard.warning/1");
    // More than one command is told at once is told of.
    for number in 0..9 {
        desk.expect(0, &["node", "send", "--data", "a", "--peer", owner, &format!("number {number}")]);
    }
    let told = quick(&desk, "s");
    assert_eq!((told.matches("number ").count(), told.contains("number 8")), (4, true), "{told}");
    assert!(told.contains("5 things"), "{told}");
    // A damaged file of what was heard hides nothing, and stops nothing.
    std::fs::write(desk.path("s/notices.json"), b"{\"node").expect("written");
    assert!(quick(&desk, "s").contains("number 8"));
    node.stop();
}

#[test]
fn a_machine_with_a_grant_hears_what_its_owner_hears_and_takes_it_from_nobody() {
    let desk = desk_of_one();
    let node = ServedNode::start(&desk, "a", &["--ws-listen", "127.0.0.1:0"]);
    store_with(&desk, "s", &node.ws_address());
    let key = desk.path("helper.key").display().to_string();
    desk.expect(0, &["--store", "s", "key", "export", "--verify-only", "-o", &key]);
    desk.expect(0, &["--store", "helper", "key", "import", &key]);
    desk.expect(0, &["--store", "helper", "catalog", "rebuild"]);
    let [shard] = shards_below(&desk.path("a/shards")).try_into().expect("one shard");
    flip(&shard, 200);
    desk.expect(3, &["node", "scrub", "--data", "a"]);
    waiting(&desk, 1);
    assert!(quick(&desk, "helper").contains("1 shard of yours there is damaged"));
    assert_eq!(quick(&desk, "helper"), "");
    assert_eq!(messages(&desk, "waiting").len(), 1);
    assert!(quick(&desk, "s").contains("1 shard of yours there is damaged"));
    // It mends what it heard of, and then nothing is left to say.
    desk.expect(0, &["--store", "helper", "repair"]);
    desk.expect(0, &["node", "scrub", "--data", "a"]);
    assert_eq!((said(&desk, "helper", 0).len(), quick(&desk, "s")), (0, String::new()));
    node.stop();
}

#[test]
fn an_owner_for_whose_shards_there_is_no_room_hears_it_when_it_comes_again() {
    let desk = desk_of_one();
    let node = ServedNode::start(&desk, "a", &["--quota-shards", "1", "--reserve", "0"]);
    store_with(&desk, "s", &node.address());
    desk.file("g", &noise(FILE_BYTES, 6));
    desk.expect(3, &["--store", "s", "put", "g", "--level", "minimal"]);
    // It may be heard at the end of the command that lacked the room.
    let kept = until("the notice", || {
        let messages = list(&desk, &["node", "messages", "--data", "a"], "messages");
        messages.into_iter().find(|message| message["kind"] == "quota-reached")
    });
    assert!(kept["direction"] == "waiting" || kept["direction"] == "sent", "{kept}");
    desk.run(&["--store", "s", "verify", "--quick"]);
    let status = desk.run(&["--store", "s", "status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    let friend = status["backends"].as_array().expect("backends").iter().find(|backend| backend["name"] == "friend");
    assert_eq!(friend.expect("the node")["said"][0]["kind"], "quota-reached", "{status}");
    let again = desk.run(&["--store", "s", "verify", "--quick"]);
    assert!(!again.stderr.contains("no room"), "{}", again.stderr);
    node.stop();
}

#[test]
fn a_shard_that_the_nodes_disk_cannot_give_back_is_damaged_there_and_said_to_be() {
    let length = std::fs::metadata(UNREADABLE).map_or(0, |file| file.len());
    let is_unreadable = length > 0 && std::fs::read(UNREADABLE).is_err();
    let Some(mounts) = PrivateMounts::new().filter(|_| is_unreadable) else { return };
    let (desk, runtime) = (desk_of_one(), Runtime::new().expect("threads"));
    let serve = ["node", "serve", "--json", "--data", "a", "--listen", "127.0.0.1:0"];
    let node = ServedNode::run(mounts.command(desk.home(), PROGRAM).args(serve));
    let access = access(1, &desk.path("seed.txt"), None);
    let place = NodeBackend::open(node.address().parse().expect("an address"), access.clone(), None);
    let id = shard(1, 0);
    runtime.block_on(put(&place, id, &pattern(length as usize))).expect("stored");
    let [file] = shards_below(&desk.path("a/shards")).try_into().expect("one shard");
    mounts.bind(Path::new(UNREADABLE), &file);
    let error = runtime.block_on(place.read(id, 0..100)).expect_err("it cannot be read");
    assert_eq!(error.kind, ErrorKind::Failed, "{error:?}");
    assert!(error.source.is_some_and(|why| why.to_string().contains("the node's disk failed")));
    let waits = waiting(&desk, 1).remove(0);
    assert!(waits["text"].as_str().is_some_and(|text| text.contains("1 of your shards")), "{waits}");
    let answers = list(&desk, &["node", "answers", "--data", "a"], "answers");
    assert_eq!((answers.len(), &answers[0]["by"], &answers[0]["outcome"]), (1, &"read".into(), &"wrong".into()));
    // The node sees it too when it looks itself, and it is no news.
    let found = desk.json(3, &["node", "scrub", "--data", "a"]);
    assert_eq!(found["owners"][0]["damaged"], serde_json::json!([id]), "{found}");
    until("the note of it", || (list(&desk, &["node", "answers", "--data", "a"], "answers").len() == 2).then_some(()));
    assert_eq!(messages(&desk, "waiting").len(), 1);
    mounts.unmount(&file);
    assert_eq!(runtime.block_on(place.read(id, 0..length)).expect("it is there"), pattern(length as usize));
    runtime.block_on(access.close());
    node.stop();
}

/// What a node answers that does not mean well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hostile {
    /// Never.
    Silent,
    /// Something else.
    Other,
    /// Bytes that are no answer.
    Nonsense,
    /// As many notices as fit, each time new ones.
    Endless,
}

/// Answers whatever comes on streams of the storage service: notices in its own way, all else with a number.
async fn answer_as(node: Node, hostile: Hostile) {
    let mut incoming = node.services().expect("taken once");
    let (mut number, mut held) = (0, Vec::new());
    while let Some(mut asked) = incoming.next().await {
        let frame = asked.stream.receive.next_frame(&mut FrameReader::new(MAX_REQUEST_BYTES)).await;
        let Ok(Some(frame)) = frame else { continue };
        let is_notices = matches!(StorageRequest::parse(&frame), Ok(StorageRequest::Notices { .. }));
        let mut notice = || {
            number += 1;
            let (kind, text) = (NoticeKind::Text, format!("\u{1b}]0;{number}\u{7}"));
            OwnerNotice { number, said_ms: u64::MAX, kind, shard_count: u64::MAX, shards: Vec::new(), text }
        };
        let answer = match hostile {
            _ if !is_notices => StorageAnswer::Number(1).to_bytes(),
            Hostile::Silent => {
                held.push(asked);
                continue;
            }
            Hostile::Other => StorageAnswer::Number(7).to_bytes(),
            Hostile::Nonsense => vec![0xff; 100],
            Hostile::Endless => StorageAnswer::Notices((0..MAX_NOTICES).map(|_| notice()).collect()).to_bytes(),
        };
        // Whoever asked may be gone.
        let _ = asked.stream.send.send_frame(&answer).await;
        let _ = asked.stream.send.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_tells_nonsense_or_no_end_of_it_holds_nobody_up_and_fills_no_disk() {
    for hostile in [Hostile::Silent, Hostile::Other, Hostile::Nonsense, Hostile::Endless] {
        let dir = tempfile::tempdir().expect("a folder");
        let node = start(listener(1, &[SEED])).await;
        let answering = tokio::spawn(answer_as(node.clone(), hostile));
        let address = address(&node, TransportKind::Quic);
        let mut said = Vec::new();
        for _ in 0..3 {
            let access = access(1, &seed_file(dir.path(), SEED), Some(dir.path()));
            let place = NodeBackend::open(address.clone(), access.clone(), None);
            assert_eq!(within(place.head(shard(1, 0))).await.expect("a length"), 1, "{hostile:?}");
            within(access.close()).await;
            said.push(access.take_said().len());
        }
        let kept = heard(dir.path(), &address);
        if hostile == Hostile::Endless {
            assert!(said.iter().all(|count| (MAX_NOTICES..=4 * MAX_NOTICES).contains(count)), "{said:?}");
            assert!(kept.len() <= 16 && !kept.is_empty(), "{}", kept.len());
        } else {
            assert_eq!((said, kept.len()), (vec![0; 3], 0), "{hostile:?}");
        }
        node.stop(Duration::ZERO).await;
        within(answering).await.expect("it does not panic");
    }
}
