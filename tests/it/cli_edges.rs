//! Odd names, odd outputs, and people in a hurry.

use super::desk::{Desk, has_keys, noise};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::process::{Child, Stdio};

#[test]
fn names_that_could_act_are_stored_and_shown_harmlessly() {
    let desk = Desk::new();
    desk.file("a", b"abc");
    desk.expect(0, &["put", "a", "--name", "two\nlines\u{1b}[31m"]);
    let listed = desk.expect(0, &["list"]);
    assert!(listed.text().contains("two\\u{a}lines\\u{1b}[31m"), "{}", listed.text());
    assert_eq!(desk.listed(), ["two\nlines\u{1b}[31m"]);
    desk.expect(0, &["recover", "two\nlines\u{1b}[31m", "-o", "back"]);
    assert_eq!(fs::read(desk.path("back")).expect("a file"), b"abc");
}

#[test]
fn names_that_lead_elsewhere_or_are_too_long_are_refused() {
    let desk = Desk::new();
    desk.file("a", b"abc");
    let long = "x".repeat(300);
    let elsewhere = "could lead elsewhere";
    for (name, why) in [
        ("../a", elsewhere),
        ("a/../../b", elsewhere),
        ("/etc/passwd", "is absolute; a name is relative"),
        ("", "a name cannot be empty"),
        ("a//b", elsewhere),
        (long.as_str(), "255"),
    ] {
        let failure = desk.failure(2, &["put", "a", "--name", name]);
        assert_eq!(failure["kind"], "usage", "{name}");
        assert!(failure.to_string().contains(why), "{failure}");
    }
    assert!(!desk.store().exists());
    let longest = "y".repeat(255);
    desk.expect(0, &["put", "a", "--name", &longest]);
    assert_eq!(desk.listed(), [longest]);
}

#[test]
fn an_empty_file_and_an_empty_stream_come_back_empty() {
    let desk = Desk::new();
    desk.file("empty", b"");
    desk.expect(0, &["put", "empty"]);
    desk.expect(0, &["recover", "empty", "-o", "back"]);
    assert_eq!(fs::read(desk.path("back")).expect("a file"), b"");
    assert_eq!(desk.run_with(&["put", "-", "--name", "nothing"], "").code, 0);
    let recovered = desk.expect(0, &["recover", "nothing", "-o", "-"]);
    assert!(recovered.stdout.is_empty());
    desk.expect(0, &["verify"]);
}

#[test]
fn a_stream_goes_in_and_comes_out_byte_for_byte() {
    let desk = Desk::new();
    let bytes = noise(3_000_001, 4);
    assert_eq!(desk.run_with(&["put", "-", "--name", "dump.sql", "-q"], bytes.clone()).code, 0);
    assert_eq!(desk.expect(0, &["recover", "dump.sql", "-o", "-"]).stdout, bytes);
    let part = desk.expect(0, &["recover", "dump.sql", "--range", "1048570-1048585", "-o", "-"]).stdout;
    assert_eq!(part, bytes[1_048_570..=1_048_585]);
    desk.expect(1, &["recover", "dump.sql", "--range", "0-3000001", "-o", "-"]);
    let with_json = desk.expect(0, &["recover", "dump.sql", "-o", "-", "--json"]);
    assert_eq!(with_json.stdout, bytes, "the document stands aside");
    let document: serde_json::Value = serde_json::from_str(with_json.stderr.trim_end()).expect("JSON");
    has_keys(&document, &["schema", "files", "damage"]);
}

#[test]
fn what_is_there_is_kept_unless_told_otherwise() {
    let desk = Desk::new();
    desk.file("a", b"new");
    desk.expect(0, &["put", "a"]);
    desk.file("a", b"old");
    let failure = desk.failure(1, &["recover", "a"]);
    assert_eq!(failure["kind"], "refused");
    assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("--force")), "{failure}");
    assert_eq!(fs::read(desk.path("a")).expect("a file"), b"old");
    desk.expect(0, &["recover", "a", "--force"]);
    assert_eq!(fs::read(desk.path("a")).expect("a file"), b"new");
}

#[test]
fn a_full_device_is_a_failure_whatever_is_printed() {
    let Ok(full) = fs::metadata("/dev/full") else { return };
    assert!(full.file_type().is_char_device());
    let desk = Desk::new();
    desk.file("a", &noise(300_000, 4));
    desk.expect(0, &["put", "a"]);
    let failure = desk.failure(1, &["recover", "a", "-o", "/dev/full"]);
    assert_eq!((&failure["kind"], &failure["message"]), (&"space".into(), &"cannot write /dev/full".into()));
    assert!(failure["causes"].to_string().contains("No space left on device"), "{failure}");
    for words in [&["recover", "a", "-o", "-"][..], &["list"], &["list", "--json"], &["verify"], &["status"]] {
        let device = File::options().write(true).open("/dev/full").expect("the full device");
        let output = desk.command().args(words).stdout(device).stderr(Stdio::piped()).output().expect("a run");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(said.contains("cannot write to standard output"), "{words:?}: {said}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let desk = Desk::new();
    desk.file("a", &noise(3_000_000, 4));
    desk.expect(0, &["put", "a"]);
    for words in [&["recover", "a", "-o", "-"][..], &["list"], &["list", "--json"], &["verify"]] {
        let (reading_end, writing_end) = std::io::pipe().expect("a pipe");
        drop(reading_end);
        let output = desk.command().args(words).stdout(writing_end).stderr(Stdio::piped()).output().expect("a run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn an_interrupted_put_leaves_nothing() {
    for signal in ["-INT", "-TERM"] {
        let desk = Desk::new();
        desk.expect(0, &["init"]);
        let words = ["put", "-", "--name", "stream", "--json"];
        let mut child =
            desk.command().args(words).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a child");
        // Once all this is taken, the put is under way: a pipe holds far less.
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(&noise(8_000_000, 4)).expect("taken");
        interrupt(&child, signal);
        let output = child.wait_with_output().expect("it ends");
        drop(stdin);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.lines().last().is_some_and(|line| line.contains("\"kind\":\"cancelled\"")), "{said}");
        assert!(desk.listed().is_empty());
        assert_eq!(desk.shard_files(), [""; 0].map(std::path::PathBuf::from), "{signal}");
        assert_eq!(desk.json(0, &["status"])["leftovers"], 0);
    }
}

fn interrupt(child: &Child, signal: &str) {
    let sent = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn two_puts_of_one_name_at_once_are_two_versions() {
    let desk = Desk::new();
    desk.expect(0, &["init"]);
    let contents = [noise(2_000_000, 1), noise(1_500_000, 2)];
    let children: Vec<Child> = (0..2)
        .map(|number| {
            let path = desk.file(&format!("source-{number}"), &contents[number]);
            let mut command = desk.command();
            command.arg("put").arg(path).args(["--name", "same"]).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("a child")
        })
        .collect();
    for mut child in children {
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
    }
    let versions = desk.json(0, &["list", "--versions"]);
    let versions = versions["files"].as_array().expect("files");
    assert_eq!(versions.len(), 2);
    for version in versions {
        let id = version["version"].as_str().expect("an id");
        let back = desk.expect(0, &["recover", "same", "--version", id, "-o", "-"]).stdout;
        assert!(contents.contains(&back), "version {id} is neither");
    }
}

#[test]
fn two_first_puts_at_once_make_one_store() {
    let desk = Desk::new();
    let children: Vec<Child> = (0..2)
        .map(|number| {
            let path = desk.file(&format!("file-{number}"), &noise(10_000, number));
            desk.command().arg("put").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child")
        })
        .collect();
    for mut child in children {
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
    }
    assert_eq!(desk.listed(), ["file-0", "file-1"]);
    assert_eq!(desk.json(0, &["backend", "list"])["backends"].as_array().map(Vec::len), Some(5));
}

#[test]
fn quiet_says_less_and_json_alone_is_on_stdout() {
    let desk = Desk::new();
    desk.file("a", b"abc");
    let quiet = desk.expect(0, &["put", "a", "-q"]);
    assert!(!quiet.stderr.contains("note:"), "{}", quiet.stderr);
    desk.file("b", b"abd");
    let scripted = desk.expect(0, &["put", "b", "--json"]);
    for line in scripted.stderr.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON on stderr too");
        has_keys(&value, &["schema", "message"]);
    }
}

#[test]
fn symlinks_are_passed_over_and_unreadable_names_are_listed() {
    use std::os::unix::ffi::OsStrExt;
    let desk = Desk::new();
    desk.file("folder/good", b"abc");
    std::os::unix::fs::symlink("/etc/passwd", desk.path("folder/link")).expect("a link");
    let not_text = std::ffi::OsStr::from_bytes(b"not-\xff-text");
    fs::write(desk.path("folder").join(not_text), b"x").expect("written");
    let put = desk.expect(1, &["put", "folder"]);
    assert!(put.stderr.contains("link"), "{}", put.stderr);
    assert!(put.stderr.contains("not stored"), "{}", put.stderr);
    assert_eq!(desk.listed(), ["folder/good"], "the rest is stored");
}
