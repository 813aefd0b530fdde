//! What commands print for people where scripts have a document: whatever there is has its line.

use super::desk::{Desk, noise};
use super::node_cli_desk::{ServedNode, connected, group, message};
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

/// The lines of a page as their words.
fn rows(page: &str) -> Vec<Vec<&str>> {
    page.lines().map(|line| line.split_whitespace().collect()).collect()
}

/// What is in the row below a head that begins like this.
fn below<'a>(page: &'a str, head: &str) -> Vec<&'a str> {
    let rows = rows(page);
    let at = rows.iter().position(|row| row.first() == Some(&head)).unwrap_or_else(|| unreachable!("{head}: {page}"));
    rows.get(at + 1).cloned().unwrap_or_else(|| unreachable!("nothing below {head}: {page}"))
}

#[test]
fn bench_prints_a_line_for_every_level_in_each_of_its_tables() {
    let desk = Desk::new();
    let page = desk.expect(0, &["bench", "--time", "1ms"]).text().to_owned();
    for (level, geometry) in [("minimal", "2/3"), ("personal", "3/5"), ("federation", "5/9"), ("paranoid", "7/15")] {
        let of_level: Vec<_> = rows(&page).into_iter().filter(|row| row.first() == Some(&level)).collect();
        // Six figures of its stages, and two of whole files.
        let figures: Vec<_> =
            of_level.iter().map(|row| row.iter().filter(|word| word.ends_with("/s")).count()).collect();
        assert_eq!(figures, [6, 2], "{page}");
        assert!(of_level.iter().all(|row| row[1] == geometry), "{page}");
        let engines = rows(&page).into_iter().filter(|row| row.first() == Some(&geometry)).count();
        assert!(engines >= 1, "{page}");
    }
}

#[test]
fn a_rehearsed_repair_shows_what_each_place_would_read_and_write() {
    let desk = Desk::new();
    desk.file("a", &noise(50_000, 1));
    desk.expect(0, &["put", "a", "-q", "--level", "minimal"]);
    fs::remove_file(&desk.shard_files()[0]).expect("a shard is gone");
    let outcome = desk.expect(3, &["repair", "--dry-run"]);
    let page = outcome.text();
    assert!(page.contains("would be rebuilt on"), "{page}");
    let plan = desk.json(3, &["repair", "--dry-run"])["plan"].as_array().expect("a plan").len();
    let places = rows(page).into_iter().filter(|row| row[0].starts_with("local-")).count();
    assert!(places == plan && plan >= 3, "two are read, one is written: {page}");
    assert_eq!(below(page, "BACKEND").len(), 6, "{page}");
}

#[test]
fn a_rehearsed_collection_shows_what_it_would_delete() {
    let desk = Desk::new();
    desk.file("a", &noise(50_000, 1));
    desk.expect(0, &["put", "a", "-q", "--level", "minimal"]);
    let shard = desk.shard_files()[0].clone();
    let backends = desk.store().join("backends");
    let name = shard.strip_prefix(&backends).expect("below").iter().skip(1).collect::<std::path::PathBuf>();
    let places = fs::read_dir(&backends).expect("places").map(|place| place.expect("one").path().join(&name));
    let elsewhere = places.filter(|path| *path != shard).find(|path| !path.parent().is_some_and(|of| of.exists()));
    let elsewhere = elsewhere.expect("a place without a shard of the object");
    fs::create_dir_all(elsewhere.parent().expect("a folder")).expect("made");
    fs::copy(&shard, &elsewhere).expect("copied");
    // What is not in the catalog is looked for by the collection itself.
    desk.expect(0, &["catalog", "refresh", "-q"]);
    let outcome = desk.expect(0, &["gc", "--dry-run"]);
    assert!(outcome.text().contains("surplus copy of shard"), "{}", outcome.text());
    assert!(outcome.text().contains("at least 1 shard would be deleted"), "{}", outcome.text());
    assert!(elsewhere.exists(), "nothing is deleted");
    assert!(desk.expect(0, &["gc"]).text().contains("deleted"));
    assert!(!elsewhere.exists() && shard.exists());
}

/// Serves a node for a person until it says its name, and gives what it printed.
fn page_of_serving(desk: &Desk, name: &str) -> String {
    let mut command: Command = desk.command();
    command.args(["node", "serve", "--data", name, "--listen", "127.0.0.1:0", "--ws-listen", "127.0.0.1:0"]);
    command.args(["--metrics-listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    let mut stdout = child.stdout.take().expect("a pipe");
    let (mut page, mut room) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&page).contains("metrics") {
        let length = stdout.read(&mut room).expect("it is read");
        assert!(length > 0, "it ended: {}", String::from_utf8_lossy(&page));
        page.extend(&room[..length]);
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs").success());
    stdout.read_to_end(&mut page).expect("it is read");
    assert!(child.wait().expect("its end").success());
    String::from_utf8(page).expect("UTF-8")
}

#[test]
fn a_node_shows_people_where_it_listens_who_is_connected_who_was_and_what_was_said() {
    let desk = group(&["a", "b"]);
    let served = page_of_serving(&desk, "a");
    for (head, address) in [("listens at", "UDP 127.0.0.1:"), ("and at", "TCP 127.0.0.1:"), ("metrics", "http://127")] {
        assert!(served.lines().any(|line| line.starts_with(head) && line.contains(address)), "{head}: {served}");
    }
    let page = |words: &[&str]| desk.expect(0, &[&["node"], words].concat());
    assert!(page(&["peers", "--data", "b"]).stderr.contains("no node was met yet"));
    assert!(page(&["sessions", "--past", "--data", "b"]).stderr.contains("there was no session yet"));

    let a = ServedNode::start(&desk, "a", &["--ws-listen", "127.0.0.1:0"]);
    assert!(page(&["sessions", "--data", "a"]).stderr.contains("nobody is connected"));
    let b = ServedNode::start(&desk, "b", &["--connect", &a.ws_address()]);
    connected(&desk, "a", 1);
    connected(&desk, "b", 1);
    let now = page(&["sessions", "--data", "b"]).text().to_owned();
    assert_eq!((below(&now, "PEER")[0], below(&now, "PEER")[2]), (&*a.id(), "websocket"), "{now}");
    let peers = page(&["peers", "--data", "b"]).text().to_owned();
    assert!(below(&peers, "PEER")[0] == a.id() && peers.contains(&a.ws_address()), "{peers}");
    page(&["send", "--data", "a", "--all", "one"]);
    message(&desk, "b", "one");
    page(&["send", "--data", "a", "--all", "two"]);
    message(&desk, "b", "two");
    let newest = page(&["messages", "--data", "b", "--limit", "1"]);
    assert!(newest.text().contains("two") && newest.stderr.contains("there are older ones: --before"), "{newest:?}");
    let called = a.ws_address();
    a.stop();
    b.stop();
    let past = page(&["sessions", "--past", "--data", "b"]).text().to_owned();
    assert!(past.contains("goodbye") || past.contains("closed here"), "{past}");
    let forgotten = desk.json(0, &["node", "forget", "--data", "b", &called]);
    assert_eq!((&forgotten["schema"], &forgotten["addresses"]), (&"shard.node-forget/1".into(), &1.into()));
}
