//! Files that become others, or go, while `shard put` reads them.

use crate::desk::{Desk, Outcome, noise};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Long enough that it is being read for a while after the first shard was begun.
const LONG_BYTES: u64 = 60_000_000;

/// A file of zeros that takes no space.
fn long_file(desk: &Desk, name: &str) {
    let path = desk.file(name, b"");
    File::options().write(true).open(path).expect("a file").set_len(LONG_BYTES).expect("a length");
}

/// Whether a shard is being written: then the source has been opened and is being read.
fn is_writing(desk: &Desk) -> bool {
    (1..=5).any(|number| {
        let unfinished = fs::read_dir(desk.backend(number).join("tmp"));
        unfinished.is_ok_and(|mut entries| entries.next().is_some())
    })
}

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// Puts something, and changes it while it is read: the process stands still meanwhile.
fn put_changing(desk: &Desk, words: &[&str], change: impl FnOnce()) -> Outcome {
    desk.expect(0, &["init"]);
    let mut command = desk.command();
    command.arg("put").args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a child");
    while !is_writing(desk) {
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended before it was seen");
        std::thread::yield_now();
    }
    signal(&child, "-STOP");
    change();
    signal(&child, "-CONT");
    let output = child.wait_with_output().expect("it ends");
    Outcome {
        code: output.status.code().expect("it ended by itself"),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

fn set_length(path: &Path, bytes: u64) {
    File::options().write(true).open(path).expect("a file").set_len(bytes).expect("a length");
}

fn assert_no_trace(desk: &Desk) {
    assert!(desk.listed().is_empty());
    assert!(desk.shard_files().is_empty() && !is_writing(desk), "nothing is left on the backends");
    assert_eq!(desk.json(0, &["status"])["leftovers"], 0);
}

#[test]
fn a_file_that_shrinks_or_grows_while_it_is_read_is_not_stored() {
    for length in [0, 10_000_001, LONG_BYTES + 1] {
        let desk = Desk::new();
        long_file(&desk, "a");
        let put = put_changing(&desk, &["a"], || set_length(&desk.path("a"), length));
        let expected = format!("a changed from {LONG_BYTES} to {length} bytes while it was read; it was not stored");
        assert_eq!(put.code, 1, "{length}: {}", put.stderr);
        assert!(put.stderr.contains(&expected), "{}", put.stderr);
        assert!(put.stderr.contains("hint: put it again when nothing writes to it"), "{}", put.stderr);
        assert_no_trace(&desk);
    }
}

#[test]
fn a_file_that_is_written_over_while_it_is_read_is_not_stored() {
    let desk = Desk::new();
    long_file(&desk, "a");
    let path = desk.path("a");
    let put = put_changing(&desk, &["a"], || {
        File::options().write(true).open(path).expect("a file").write_all(b"other").expect("written");
    });
    assert_eq!(put.code, 1, "{}", put.stderr);
    assert!(put.stderr.contains("a was changed while it was read; it was not stored"), "{}", put.stderr);
    assert_no_trace(&desk);
}

#[test]
fn a_file_that_vanishes_or_is_replaced_while_it_is_read_is_stored_as_it_was() {
    for replacement in [None, Some(b"another".as_slice())] {
        let desk = Desk::new();
        long_file(&desk, "a");
        let path = desk.path("a");
        let put = put_changing(&desk, &["a"], || {
            fs::remove_file(&path).expect("removed");
            replacement.iter().for_each(|bytes| fs::write(&path, bytes).expect("written"));
        });
        assert_eq!(put.code, 0, "{}", put.stderr);
        let back = desk.expect(0, &["recover", "a", "-o", "-"]).stdout;
        assert!(back.len() as u64 == LONG_BYTES && back.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_file_that_vanishes_from_a_folder_is_listed_and_the_rest_is_stored() {
    let desk = Desk::new();
    // Long files are read after each other, in the order of their names.
    for name in ["folder/a", "folder/b"] {
        long_file(&desk, name);
    }
    desk.file("folder/c", &noise(1000, 1));
    let put = put_changing(&desk, &["folder"], || fs::remove_file(desk.path("folder/b")).expect("removed"));
    assert_eq!(put.code, 1, "{}", put.stderr);
    for said in ["not stored: folder/b: cannot read folder/b", "No such file or directory"] {
        assert!(put.stderr.contains(said), "{}", put.stderr);
    }
    assert_eq!(desk.listed(), ["folder/a", "folder/c"]);
    desk.expect(0, &["verify"]);
}
