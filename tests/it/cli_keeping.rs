//! Keeping and getting back, as people type it: outputs in odd places, copies too many, folders, silence, signals.

use super::desk::{Desk, counts, noise};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A desk where these files are stored, each by itself, at 3/5.
fn desk_with(files: &[(&str, usize)]) -> Desk {
    let desk = Desk::new();
    for (number, (name, length)) in files.iter().enumerate() {
        let bytes = noise(*length, number as u64);
        assert_eq!(desk.run_with(&["put", "-", "--name", name], bytes).code, 0, "{name}");
    }
    desk
}

/// The only file of this shard, and where it would be on another backend.
fn shard_file(desk: &Desk, index: u8, elsewhere: usize) -> (PathBuf, PathBuf) {
    let suffix = format!(".{index}.shard");
    let mut files = desk.shard_files();
    files.retain(|path| path.to_str().is_some_and(|path| path.ends_with(&suffix)));
    let file = files.pop().expect("a shard");
    let objects = file.ancestors().nth(3).expect("the backend");
    let other = desk.backend(elsewhere).join(file.strip_prefix(objects).expect("below"));
    (file, other)
}

fn number_of(desk: &Desk, file: &Path) -> usize {
    (1..=5).find(|number| file.starts_with(desk.backend(*number))).expect("one of them")
}

#[test]
fn a_shard_of_which_there_is_a_good_copy_is_no_damage_to_anyone() {
    let desk = desk_with(&[("a", 700_000)]);
    let (file, _) = shard_file(&desk, 0, 1);
    let home = number_of(&desk, &file);
    let (_, copy) = shard_file(&desk, 0, home % 5 + 1);
    fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
    fs::copy(&file, &copy).expect("copied");
    desk.expect(0, &["catalog", "refresh"]);
    fs::rename(desk.backend(home), desk.path("away")).expect("unmounted");
    // The shard that is there twice is on two folders; the place of one of them is gone, and nothing else.
    let verified = desk.run(&["verify"]);
    let recovered = desk.run(&["recover", "a", "-o", "back"]);
    assert_eq!((verified.code, recovered.code), (0, 0), "{}{}", verified.text(), recovered.stderr);
    assert!(!recovered.stderr.contains("other shards"), "{}", recovered.stderr);
    for words in [&["repair"][..], &["status", "--check"]] {
        let outcome = desk.run(words);
        assert_eq!(outcome.code, 0, "{words:?} says the same: {}", outcome.text());
    }
    assert_eq!(fs::read(desk.path("back")).expect("a file"), noise(700_000, 0));
}

#[test]
fn of_a_file_that_is_lost_nothing_is_said_to_have_been_made() {
    let desk = desk_with(&[("gone", 70_000), ("here", 70_000)]);
    let gone = desk.json(0, &["show", "gone"])["objects"][0]["id"].as_str().expect("an id").to_owned();
    let mut shards = desk.shard_files();
    shards.retain(|path| path.to_str().is_some_and(|path| path.contains(&gone)));
    shards.iter().take(3).for_each(|path| fs::remove_file(path).expect("lost"));
    let both = desk.expect(4, &["recover", "gone", "here", "-o", "out"]);
    assert!(!both.stderr.contains("everything was made"), "{}", both.stderr);
    let alone = desk.expect(4, &["recover", "gone", "-o", "new/sub/gone"]);
    assert!(!alone.stderr.contains("was made"), "{}", alone.stderr);
    assert!(!desk.path("new").exists(), "nothing came, and so nothing was made for it");
    assert!(desk.path("out/here").exists() && !desk.path("out/gone").exists());
}

#[test]
fn a_file_and_a_folder_of_one_name_come_back_one_at_a_time() {
    let desk = desk_with(&[("c", 1000), ("c/d", 2000), ("e", 3000)]);
    let all = desk.json(1, &["recover", "--all", "-o", "out"]);
    let failed = all["failed"].as_array().expect("failures");
    assert_eq!((failed.len(), all["files"].as_array().expect("files").len()), (1, 2), "{all}");
    assert_eq!(failed[0]["kind"], "refused");
    assert!(failed[0]["hint"].as_str().is_some_and(|hint| hint.contains("-o")), "{all}");
    let name = failed[0]["name"].as_str().expect("a name");
    desk.expect(0, &["recover", name, "-o", "alone"]);
    let again = desk.expect(1, &["recover", "--all", "-o", "out"]);
    assert_eq!(again.stderr.matches("--force replaces it").count(), 1, "{}", again.stderr);
}

#[test]
fn an_output_that_ends_in_a_slash_is_a_folder() {
    let desk = desk_with(&[("deep/m", 1000)]);
    desk.expect(0, &["recover", "deep/m", "-o", "new/"]);
    assert_eq!(fs::read(desk.path("new/m")).expect("a file"), noise(1000, 0));
    desk.file("file", b"mine");
    let failure = desk.failure(1, &["recover", "--all", "-o", "file"]);
    assert_eq!(failure["kind"], "refused");
    assert!(failure["message"].as_str().is_some_and(|why| why.contains("a folder is needed")), "{failure}");
    assert_eq!(fs::read(desk.path("file")).expect("a file"), b"mine");
}

#[test]
fn without_a_store_what_cannot_be_read_exits_5_and_is_listed() {
    let desk = desk_with(&[("m", 70_000)]);
    let kit = desk.store().join("master.key").display().to_string();
    let places: Vec<String> = (1..=2).map(|number| desk.backend(number).display().to_string()).collect();
    let from = ["--from", &places[0], "--from", &places[1], "--key", &kit];
    let all = desk.json(5, &[&["recover", "--all", "-o", "out"][..], &from].concat());
    assert_eq!((&all["files"], &all["unread"][0]["kind"]), (&Value::Array(Vec::new()), &"unavailable".into()));
    assert_eq!(desk.failure(5, &[&["recover", "m"][..], &from].concat())["kind"], "unavailable");
}

#[test]
fn a_folder_is_shown_and_removed_by_its_name() {
    let desk = Desk::new();
    for name in ["Photos/a", "Photos/sub/b", "Photos/c"] {
        desk.file(name, name.as_bytes());
    }
    desk.expect(0, &["put", "Photos"]);
    let shown = desk.json(0, &["show", "Photos/"]);
    assert_eq!((&shown["schema"], &shown["state"]), (&"shard.show-folder/1".into(), &"healthy".into()));
    assert_eq!(shown["files"].as_array().expect("files").len(), 3);
    assert!(desk.expect(0, &["show", "Photos"]).text().contains("Photos/sub/b"));
    desk.expect(13, &["show", "Photo"]);
    desk.expect(0, &["recover", "Photos/", "-o", "back"]);
    desk.expect(0, &["verify", "Photos/sub/"]);
    assert_eq!(desk.json(0, &["remove", "Photos/sub/"])["files"][0]["name"], "Photos/sub/b");
    assert_eq!(desk.json(0, &["remove", "Photos"])["files"].as_array().expect("files").len(), 2);
    assert!(desk.listed().is_empty());
    desk.expect(13, &["remove", "Photos/"]);
}

#[test]
fn cron_hears_nothing_while_nothing_is_wrong() {
    let desk = desk_with(&[("a", 70_000)]);
    for command in ["verify", "repair", "gc"] {
        let outcome = desk.expect(0, &[command, "-q"]);
        assert_eq!((outcome.text(), outcome.stderr.as_str()), ("", ""), "{command}");
        assert!(!desk.expect(0, &[command]).text().is_empty(), "{command} without -q");
    }
    fs::remove_file(&desk.shard_files()[0]).expect("lost");
    assert!(desk.expect(3, &["verify", "-q"]).text().contains("missing"));
    assert!(desk.expect(0, &["repair", "-q"]).text().contains("rebuilt"));
}

#[test]
fn a_folder_in_a_shards_place_is_named_as_what_it_is() {
    let desk = desk_with(&[("a", 70_000)]);
    let file = desk.shard_files().swap_remove(0);
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("a folder");
    let verified = desk.json(3, &["verify"]).to_string();
    assert!(verified.contains("director") || verified.contains("folder"), "{verified}");
}

#[test]
fn metrics_never_take_the_place_of_a_device() {
    let desk = desk_with(&[("a", 1000)]);
    let failure = desk.failure(1, &["verify", "--metrics", "/dev/null"]);
    assert_eq!(failure["kind"], "refused");
    assert!(failure["hint"].is_string());
    desk.expect(0, &["verify", "--metrics", "shard.prom"]);
    assert!(fs::read_to_string(desk.path("shard.prom")).expect("a file").contains("shard_objects"));
}

/// Begins to store standard input, says how far it is by what it says, and hangs up on it.
fn hang_up(mut command: Command, desk: &Desk) -> (Option<i32>, String) {
    command.current_dir(desk.home()).env_clear().env("HOME", desk.home()).envs(counts());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut input = child.stdin.take().expect("a pipe");
    // More than a pipe holds: when this returns it has begun to read, with its signals in order.
    input.write_all(&noise(4_000_000, 1)).expect("it reads");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("kill runs").success());
    let mut said = String::new();
    let mut errors = child.stderr.take().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(|| errors.read_to_string(&mut said).expect("UTF-8"));
        // One that goes on needs the end of its input, and one that stops needs none.
        drop(input);
    });
    (child.wait().expect("it ended").code(), said)
}

#[test]
fn a_closed_terminal_stops_a_command_unless_it_is_to_outlive_it() {
    let desk = desk_with(&[("a", 10)]);
    let mut outliving = Command::new("/bin/sh");
    let program = super::desk::PROGRAM;
    outliving.args(["-c", "trap '' HUP; exec \"$0\" put - --name outlived", program]);
    assert_eq!(hang_up(outliving, &desk).0, Some(0));
    assert_eq!(desk.listed(), ["a", "outlived"]);
    let mut stopped = Command::new(program);
    stopped.args(["put", "-", "--name", "stopped"]);
    let (code, said) = hang_up(stopped, &desk);
    assert!(code.is_some(), "it ended by itself: {said}");
    // The end of the input may come before the signal is seen: then it is stored, and that is no failure.
    assert!(code == Some(0) || said.contains("stopping"), "{said}");
}
