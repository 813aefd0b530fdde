//! Nodes as processes on a desk: folders with seeds, and nodes that are served until they are told to stop, or killed.

use super::desk::Desk;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// Whatever waits longer than this is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// A desk with a node in each of these folders, all with one seed, which is in `seed.txt`.
pub(crate) fn group(names: &[&str]) -> Desk {
    let desk = Desk::in_memory();
    for (number, name) in names.iter().enumerate() {
        desk.expect(0, &["node", "init", "--data", name]);
        let seed: &[&str] = if number == 0 { &["new", "-o"] } else { &["add"] };
        desk.expect(0, &[&["node", "seed", "--data", name][..], seed, &["seed.txt"]].concat());
    }
    desk
}

/// A node that is served by a process of its own, which is killed when this is dropped.
pub(crate) struct ServedNode {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

impl ServedNode {
    /// Serves a folder at any free port of loopback, and waits until it does.
    pub(crate) fn start(desk: &Desk, name: &str, words: &[&str]) -> Self {
        let mut command = desk.command();
        command.args(["node", "serve", "--json", "--data", name]);
        let anywhere: &[&str] = if words.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        command.args(anywhere);
        Self::run(command.args(words))
    }

    /// Runs a command that serves a node, and waits until it does.
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line);
        read.expect("the program writes lines");
        let (mut stderr, mut said) = (BufReader::new(child.stderr.take().expect("a pipe")), String::new());
        if line.is_empty() {
            stderr.read_to_string(&mut said).expect("UTF-8");
        }
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        assert_eq!(ready["schema"], "shard.node-serve/1", "it is not ready: {line}{said}");
        Self { child, stderr, ready }
    }

    pub(crate) fn id(&self) -> String {
        self.text("node")
    }

    /// Where it is called over UDP.
    pub(crate) fn address(&self) -> String {
        format!("node://{}", self.text("listen"))
    }

    /// Where it is called over TCP.
    pub(crate) fn ws_address(&self) -> String {
        format!("node+ws://{}", self.text("ws_listen"))
    }

    pub(crate) fn text(&self, key: &str) -> String {
        self.ready[key].as_str().expect(key).to_owned()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until it says this on standard error.
    pub(crate) fn says(&mut self, text: &str) {
        let mut said = String::new();
        while !said.contains(text) {
            let length = self.stderr.read_line(&mut said).expect("UTF-8");
            assert!(length > 0, "it ended, and said only {said}");
        }
    }

    /// Waits for its end, and gives its exit code, if it has one, and what it said on standard error.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("UTF-8");
        (self.child.wait().expect("its end").code(), said)
    }

    /// Tells it to stop, which it must do in order.
    pub(crate) fn stop(self) -> String {
        self.signal("-TERM");
        let (code, said) = self.end();
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// Kills it as a loss of power would.
    pub(crate) fn kill(self) {
        self.signal("-KILL");
        assert_eq!(self.end().0, None);
    }
}

impl Drop for ServedNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until the answer is as it should be.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Some(answer) => return answer,
            None => assert!(begun.elapsed() < PATIENCE, "in vain: {what}"),
        }
    }
}

/// What is in the list under a key of a command's document.
pub(crate) fn list(desk: &Desk, words: &[&str], key: &str) -> Vec<Value> {
    desk.json(0, words)[key].as_array().expect("a list").clone()
}

/// Waits until a node is connected with so many others.
pub(crate) fn connected(desk: &Desk, name: &str, count: usize) {
    until("a session", || {
        let sessions = list(desk, &["node", "sessions", "--data", name], "sessions");
        (sessions.len() >= count).then_some(())
    });
}

/// Waits until a node has a message with this text, and gives it.
pub(crate) fn message(desk: &Desk, name: &str, text: &str) -> Value {
    until("a message", || {
        let messages = list(desk, &["node", "messages", "--data", name], "messages");
        messages.into_iter().find(|message| message["text"] == text)
    })
}
