//! Secrets planted in contents, names, passphrase and keys, and searched for in every byte that commands leave behind.

use crate::desk::Desk;
use crate::soak::{self, Dice};
use shard::crypto::Passphrase;
use shard::store::{KEY_NAME, load_key};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How many markers there are of each sort: names of files and folders, and contents.
const MARKERS: usize = 16;
/// Several stripes at 3 of 5.
const LARGE_BYTES: usize = 2_500_000;
/// More than a pipe and the stripes in flight hold: shards are being written when all of it is taken.
const INTERRUPTED_BYTES: usize = 5_000_000;
/// What a needle is looked up by.
const HEAD_BYTES: usize = 4;

/// What is searched for: forms of secrets, in lower case, by how they begin.
#[derive(Default)]
struct Needles {
    by_head: HashMap<[u8; HEAD_BYTES], Vec<(String, Vec<u8>)>>,
    /// Whether anything begins with these two bytes: most places are done with after this.
    begins: Vec<bool>,
}

impl Needles {
    fn add(&mut self, what: &str, form: &[u8]) {
        assert!(form.len() >= 12, "{what}: what is so short is found by chance");
        let form = form.to_ascii_lowercase();
        let head = form[..HEAD_BYTES].try_into().expect("longer");
        self.begins.resize(1 << 16, false);
        self.begins[usize::from(form[0]) << 8 | usize::from(form[1])] = true;
        self.by_head.entry(head).or_default().push((what.to_owned(), form));
    }

    /// A text in every form in which it could be left: as it is, in either case, wide, in hexadecimal and base64.
    fn add_text(&mut self, what: &str, text: &str) {
        let wide = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        self.add(what, text.as_bytes());
        self.add(&format!("{what}, UTF-16"), &wide(u16::to_le_bytes));
        self.add(&format!("{what}, UTF-16 big-endian"), &wide(u16::to_be_bytes));
        self.add(&format!("{what}, hex"), hex::encode(text).as_bytes());
        self.add(&format!("{what}, backwards"), text.chars().rev().collect::<String>().as_bytes());
        self.add_base64(what, text.as_bytes());
    }

    /// 32 bytes of a key, raw and in every text that could hold them.
    fn add_key(&mut self, what: &str, key: &[u8]) {
        self.add(what, key);
        self.add(&format!("{what}, hex"), hex::encode(key).as_bytes());
        // A kit has twenty bytes a line, in groups of four characters.
        for (alphabet, name) in
            [("0123456789ABCDEFGHJKMNPQRSTVWXYZ", "Crockford"), ("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "RFC 4648")]
        {
            let characters = base32(&key[..20], alphabet.as_bytes());
            let groups: Vec<&str> =
                characters.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).expect("ASCII")).collect();
            self.add(&format!("{what}, base32 of {name}"), characters.as_bytes());
            self.add(&format!("{what}, base32 of {name} in groups"), groups.join(" ").as_bytes());
        }
        self.add_base64(what, key);
    }

    /// As it stands in base64 at each of the three alignments, without the characters that neighbours change.
    fn add_base64(&mut self, what: &str, bytes: &[u8]) {
        for (shift, alphabet) in [(0, '+'), (1, '+'), (2, '+'), (0, '-'), (1, '-'), (2, '-')] {
            let text = base64(&[&[0; 2][..shift], bytes].concat(), alphabet);
            let end = (shift + bytes.len()) * 8 / 6;
            self.add(&format!("{what}, base64"), &text.as_bytes()[[0, 2, 3][shift]..end]);
        }
    }

    /// What of it stands in these bytes.
    fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        let bytes = bytes.to_ascii_lowercase();
        let mut found = Vec::new();
        for (at, two) in bytes.windows(2).enumerate() {
            if !self.begins[usize::from(two[0]) << 8 | usize::from(two[1])] {
                continue;
            }
            let Some(head) = bytes[at..].first_chunk::<HEAD_BYTES>() else { break };
            let here = self.by_head.get(head).into_iter().flatten();
            found.extend(here.filter(|(_, form)| bytes[at..].starts_with(form)).map(|(what, _)| what.as_str()));
        }
        found
    }
}

fn base32(bytes: &[u8], alphabet: &[u8]) -> String {
    let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let value = |at: usize| (at..at + 5).fold(0, |value, at| value << 1 | usize::from(bit(at)));
    (0..bytes.len() * 8 / 5).map(|at| char::from(alphabet[value(at * 5)])).collect()
}

/// The characters of whole groups of six bits; the URL form where the 63rd is `-`.
fn base64(bytes: &[u8], character_62: char) -> String {
    let character_63 = if character_62 == '+' { '/' } else { '_' };
    let alphabet: Vec<char> =
        ('A'..='Z').chain('a'..='z').chain('0'..='9').chain([character_62, character_63]).collect();
    let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let value = |at: usize| (at..at + 6).fold(0, |value, at| value << 1 | usize::from(bit(at)));
    (0..bytes.len() * 8 / 6).map(|at| alphabet[value(at * 6)]).collect()
}

/// A desk on which everything that the program may write is in view, with what is planted on it.
struct Planted {
    desk: Desk,
    names: Vec<String>,
    contents: Vec<String>,
    passphrase: String,
    /// What every command said, on both ways out, with as much of a log as there is.
    said: String,
}

impl Planted {
    fn new(seal: &str, dice: &mut Dice) -> Self {
        let mut markers = |count: usize| (0..count).map(|_| hex::encode(dice.bytes(10))).collect::<Vec<String>>();
        let (names, contents, passphrase) = (markers(MARKERS), markers(MARKERS), markers(2).concat());
        let mut desk = Desk::new();
        // The person's own: not searched.
        let file = desk.file("own/passphrase", format!("{passphrase}\n").as_bytes());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
        desk.set("SHARD_PASSPHRASE_FILE", file.to_str().expect("UTF-8"));
        for (variable, folder) in [
            ("TMPDIR", "tmp"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_RUNTIME_DIR", "runtime"),
        ] {
            fs::create_dir(desk.path(folder)).expect("a folder");
            desk.set(variable, desk.path(folder).to_str().expect("UTF-8"));
        }
        let mut planted = Self { desk, names, contents, passphrase, said: String::new() };
        planted.run(0, &["init", "--bare", "--passphrase", "--seal", seal]);
        for number in 1..=5 {
            let (name, place) = (format!("place-{number}"), planted.desk.path(&format!("places/{number}")));
            let words = ["backend", "add", &name, place.to_str().expect("UTF-8"), "--zone", &name];
            planted.run(0, &words);
        }
        planted
    }

    /// Runs a command that logs all it can; what it says is searched later.
    fn run(&mut self, code: i32, words: &[&str]) {
        let outcome = self.desk.expect(code, &[words, &["-vvv"]].concat());
        self.said.push_str(outcome.text());
        self.said.push_str(&outcome.stderr);
    }

    /// A text of these markers among noise.
    fn filled(&self, bytes: usize, dice: &mut Dice) -> Vec<u8> {
        let mut content = dice.bytes(bytes);
        for (number, marker) in self.contents.iter().enumerate() {
            let at = bytes / self.contents.len() * number;
            content[at..at + marker.len()].copy_from_slice(marker.as_bytes());
        }
        content
    }

    /// A folder whose names and contents are markers: half of them folders.
    fn write_folder(&self, round: &str) {
        for (number, (name, content)) in self.names.iter().zip(&self.contents).enumerate() {
            let name = if number % 2 == 0 { format!("{name}.txt") } else { format!("{name}/inner") };
            self.desk.file(&format!("own/folder/{name}"), format!("{round}{content}").as_bytes());
        }
    }

    /// Everything that a store goes through.
    fn live(&mut self, dice: &mut Dice) {
        let (folder, large) = (self.own("folder"), self.own("large"));
        self.write_folder("");
        self.run(0, &["put", &folder, "--name", &self.names[0].clone()]);
        self.desk.file("own/large", &self.filled(LARGE_BYTES, dice));
        self.run(0, &["put", &large, "--name", &self.names[1].clone()]);
        let streamed = self.filled(70_000, dice);
        let outcome = self.desk.run_with(&["put", "-", "--name", &self.names[2].clone(), "-vvv"], streamed.clone());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        self.said.push_str(&outcome.stderr);
        self.write_folder("again ");
        self.run(0, &["put", &folder, "--name", &self.names[0].clone()]);
        let metrics = self.desk.path("cache/metrics.prom").display().to_string();
        self.run(0, &["verify", "--metrics", &metrics]);
        self.damage();
        self.run(3, &["verify", "--metrics", &metrics]);
        self.run(0, &["repair"]);
        self.run(0, &["recover", "--all", "-o", &self.own("out")]);
        assert_eq!(fs::read(self.desk.path("own/out").join(&self.names[2])).expect("recovered"), streamed);
        self.run(0, &["remove", &self.names[2].clone()]);
        self.run(0, &["remove", &format!("{0}/{0}.txt", self.names[0])]);
        self.run(0, &["gc"]);
        self.interrupt(dice);
        self.search("after a kill");
        for words in [&["list"][..], &["status"], &["catalog", "stats"], &["backend", "list"], &["gc"]] {
            self.run(0, words);
        }
        self.run(0, &["key", "rotate"]);
        self.run(0, &["put", &large, "--name", &self.names[3].clone()]);
        self.run(0, &["catalog", "rebuild"]);
        self.run(0, &["show", &self.names[1].clone()]);
        self.run(0, &["list", "--json"]);
        self.run(0, &["status", "--json"]);
        self.run(13, &["show", "nothing", "--json"]);
    }

    fn own(&self, name: &str) -> String {
        self.desk.path(&format!("own/{name}")).display().to_string()
    }

    /// One shard goes, another has a flipped bit.
    fn damage(&self) {
        let shards = shards(&self.desk);
        fs::remove_file(&shards[0]).expect("removed");
        let (path, mut bytes) = (&shards[1], fs::read(&shards[1]).expect("a shard"));
        bytes[90] ^= 1;
        fs::write(path, bytes).expect("written");
    }

    /// A put that is killed while it writes shards; while it runs, its arguments and environment are looked at.
    fn interrupt(&self, dice: &mut Dice) {
        let mut command = self.desk.command();
        command.args(["put", "-", "--name", &self.names[4]]).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it runs");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(&self.filled(INTERRUPTED_BYTES, dice)).expect("it reads");
        let process = PathBuf::from(format!("/proc/{}", child.id()));
        for shown in ["cmdline", "environ"] {
            let bytes = fs::read(process.join(shown)).expect("what everyone can see of a process");
            assert!(bytes.len() > 20, "{shown}");
            let found = self.secrets().found_in(&bytes).join(" · ");
            assert!(found.is_empty(), "{found} in {shown}");
        }
        for thread in fs::read_dir(process.join("task")).expect("threads") {
            let children = fs::read_to_string(thread.expect("a thread").path().join("children")).unwrap_or_default();
            assert!(children.trim().is_empty(), "the program starts no other: {children}");
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    /// Passphrase and keys, and what is derived from them: in no file at all.
    fn secrets(&self) -> Needles {
        let mut needles = Needles::default();
        needles.add_text("the passphrase", &self.passphrase);
        let given = Arc::new({
            let text = self.passphrase.clone().into_bytes();
            move || Ok(Passphrase::new(Zeroizing::new(text.clone())).expect("a passphrase"))
        });
        let keyring = load_key(&self.desk.store().join(KEY_NAME), Some(&(given as _))).expect("the keys").keyring;
        let plain: serde_json::Value = serde_json::from_str(&keyring.to_key_file()).expect("JSON");
        for key in plain["keys"].as_array().expect("keys") {
            let key = hex::decode(key["key"].as_str().expect("digits")).expect("hex");
            needles.add_key("a master key", &key);
            for purpose in ["manifest signer", "recipient key", "catalog secret"] {
                needles.add_key(purpose, &blake3::derive_key(&format!("shard v1 2026-11-21 {purpose}"), &key));
            }
        }
        needles
    }

    /// Every file that is not the person's own.
    fn files(&self) -> Vec<PathBuf> {
        let all = walkdir::WalkDir::new(self.desk.home()).into_iter().map(|entry| entry.expect("an entry"));
        let own = self.desk.path("own");
        all.filter(|entry| entry.file_type().is_file() && !entry.path().starts_with(&own))
            .map(walkdir::DirEntry::into_path)
            .collect()
    }

    /// What is found in which file; names of files count as what is in them.
    fn finds(&self) -> Vec<(String, PathBuf)> {
        let mut needles = self.secrets();
        (0..).zip(&self.names).for_each(|(n, name): (usize, _)| needles.add_text(&format!("name {n}"), name));
        (0..).zip(&self.contents).for_each(|(n, text): (usize, _)| needles.add_text(&format!("content {n}"), text));
        let mut finds = Vec::new();
        for path in self.files() {
            let name = path.strip_prefix(self.desk.home()).expect("below it").as_os_str().as_encoded_bytes();
            let bytes = [fs::read(&path).expect("a file").as_slice(), b"\0", name].concat();
            finds.extend(needles.found_in(&bytes).into_iter().map(|what| (what.to_owned(), path.clone())));
        }
        finds
    }

    /// Nothing is found. What commands say may show names, to whoever may list them, and nothing else.
    fn search(&self, when: &str) {
        let finds = self.finds();
        assert!(finds.is_empty(), "{when}: {finds:?}");
        let mut needles = self.secrets();
        self.contents.iter().for_each(|content| needles.add_text("a content", content));
        let found = needles.found_in(self.said.as_bytes()).join(" · ");
        assert!(found.is_empty(), "{when}: {found} was said");
    }
}

/// Every shard file on the places of a desk.
fn shards(desk: &Desk) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(desk.path("places")).sort_by_file_name().into_iter().filter_map(Result::ok);
    let is_shard = |path: &Path| path.extension().is_some_and(|extension| extension == "shard");
    all.map(walkdir::DirEntry::into_path).filter(|path| is_shard(path)).collect()
}

fn nothing_is_found_under(seal: &str) {
    let mut dice = Dice::new(soak::seed());
    let mut planted = Planted::new(seal, &mut dice);
    planted.live(&mut dice);
    let (files, said) = (planted.files().len(), planted.said.len());
    assert!(files > 25 && said > 5_000, "{files} files, {said} bytes were said");
    planted.search("at the end");
}

#[test]
fn nothing_planted_is_found_anywhere_when_it_is_sealed_with_the_key() {
    nothing_is_found_under("key");
}

#[test]
fn nothing_planted_is_found_anywhere_when_it_is_dispersed() {
    nothing_is_found_under("dispersed");
}

/// With nothing sealed the same search finds names and contents on the places, and there alone.
#[test]
fn the_same_search_finds_names_and_contents_where_nothing_is_sealed() {
    let mut dice = Dice::new(soak::seed());
    let mut planted = Planted::new("none", &mut dice);
    planted.write_folder("");
    planted.run(0, &["put", &planted.own("folder"), "--name", &planted.names[0].clone()]);
    let finds = planted.finds();
    let places = planted.desk.path("places");
    assert!(finds.iter().all(|(_, path)| path.starts_with(&places)), "{finds:?}");
    // Where one block ends and the next begins a marker may be cut in two: the payload has two such places.
    for what in ["name", "content"] {
        let all = (0..MARKERS).map(|number| format!("{what} {number}"));
        let found = all.filter(|marker| finds.iter().any(|(found, _)| found == marker)).count();
        assert!(found >= MARKERS - 2, "{found} of each {what}: {finds:?}");
    }
    // The other sorts are found too, where they are.
    let mut dump = planted.passphrase.to_uppercase().into_bytes();
    let needles = planted.secrets();
    needles.by_head.values().flatten().for_each(|(_, form)| dump.extend_from_slice(form));
    assert!(needles.found_in(&dump).len() > needles.by_head.len());
    for (text, other) in [("Zm9vYmFyYmF6cXV4MTIz", "foobarbazqux123"), ("aGVsbG8gd29ybGQgMTIzNA==", "hello world 1234")]
    {
        let mut needles = Needles::default();
        needles.add_base64("text", other.as_bytes());
        assert!(!needles.found_in(text.as_bytes()).is_empty(), "{other}");
    }
}
