//! Changes of key killed before each system call that changes a file: the old keys open the store or the new ones do, and the
//! same command, run again, finishes what was begun.

use crate::desk::{Desk, PROGRAM};
use crate::soak::{self, Dice};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The system calls that change a file or a folder; not every machine has all of them.
const CHANGING: [&str; 14] = [
    "openat",
    "write",
    "pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "fchmod",
];
/// How many kills of a change are tried that has more, but for `just soak`.
const SAMPLED_KILLS: usize = 24;
/// What every store here keeps.
pub(crate) const CONTENT: &[u8] = b"what the keys are for";
const OLD: &str = "an old passphrase";
const NEW: &str = "a new passphrase";

/// The moment before the nth call of one thread, by this name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    call: String,
    nth: usize,
}

/// Where `strace` is, if this machine lets it trace.
#[expect(clippy::print_stdout, reason = "that nothing was tried must be seen")]
pub(crate) fn tracer() -> Option<PathBuf> {
    let found = Command::new("sh").args(["-c", "command -v strace"]).output().expect("a shell");
    let path = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    let traces = |path: &Path| Command::new(path).args(["-o", "/dev/null", "true"]).output();
    if found.status.success() && traces(&path).is_ok_and(|output| output.status.success()) {
        return Some(path);
    }
    println!("SKIPPED: there is no strace here, or it may not trace");
    None
}

/// A store as it was before the change, on a desk where it can be had again.
pub(crate) struct Before {
    pub(crate) desk: Desk,
    tracer: PathBuf,
    kept: PathBuf,
}

impl Before {
    /// Takes the store as it is now.
    pub(crate) fn of(desk: Desk, tracer: PathBuf) -> Self {
        let kept = desk.path("kept");
        copy_tree(&desk.store(), &kept);
        Self { desk, tracer, kept }
    }

    fn restore(&self) {
        let _ = fs::remove_dir_all(self.desk.store());
        copy_tree(&self.kept, &self.desk.store());
    }

    fn traced(&self, flags: &[&str], words: &[&str]) -> std::process::ExitStatus {
        let plain = self.desk.command();
        let mut command = Command::new(&self.tracer);
        command.args(["-f", "-qq", "-y", "-o"]).arg(self.desk.path("trace")).args(flags);
        command.arg(PROGRAM).args(words).current_dir(self.desk.home()).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("strace runs")
    }

    /// Every moment before a call that changes a file of the store, in the order in which a whole run comes to them.
    fn moments(&self, words: &[&str]) -> Vec<Moment> {
        self.restore();
        let calls: Vec<String> = CHANGING.iter().map(|call| format!("?{call}")).collect();
        assert!(self.traced(&["-e", &format!("trace={}", calls.join(","))], words).success(), "{words:?}");
        let store = self.desk.store().display().to_string();
        let (mut counts, mut seen) = (BTreeMap::<(String, String), usize>::new(), BTreeSet::new());
        let trace = String::from_utf8_lossy(&fs::read(self.desk.path("trace")).expect("a trace")).into_owned();
        let moment = |line: &str| {
            let (thread, said) = line.split_once(' ')?;
            let (call, arguments) = said.trim_start().split_once('(')?;
            CHANGING.contains(&call).then_some(())?;
            let nth = counts.entry((thread.to_owned(), call.to_owned())).or_default();
            *nth += 1;
            let changes = call != "openat" || arguments.contains("O_CREAT") || arguments.contains("O_TRUNC");
            let moment = Moment { call: call.to_owned(), nth: *nth };
            (changes && arguments.contains(&store) && seen.insert(moment.clone())).then_some(moment)
        };
        trace.lines().filter_map(moment).collect()
    }

    /// Runs the change on the store as it was, and kills it at this moment; says whether it came to that.
    fn kill(&self, words: &[&str], moment: &Moment) -> bool {
        self.restore();
        let Moment { call, nth } = moment;
        let status = self.traced(
            &["-e", &format!("trace={call}"), "-e", &format!("inject={call}:signal=SIGKILL:when={nth}")],
            words,
        );
        assert!(status.success() || status.signal() == Some(9), "{moment:?}: {status}");
        status.signal() == Some(9)
    }

    /// Kills the change at each of its moments, or at a sample of them, and looks at what is left each time.
    #[expect(clippy::print_stdout, reason = "how much was tried belongs to the result")]
    pub(crate) fn kill_everywhere(&mut self, words: &[&str], look: impl Fn(&mut Desk, &Moment)) {
        let mut moments = self.moments(words);
        let all = moments.len();
        assert!(all > 4, "{words:?} changes nothing: {moments:?}");
        let mut dice = Dice::new(soak::seed());
        while moments.len() > SAMPLED_KILLS && !soak::is_asked_for() {
            moments.swap_remove(dice.below(moments.len()));
        }
        let variables = self.desk.variables();
        let mut killed = 0;
        for moment in &moments {
            killed += usize::from(self.kill(words, moment));
            let unfinished = self.desk.store().join("master.key.new");
            if let Ok(metadata) = fs::metadata(&unfinished) {
                assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{moment:?}");
            }
            look(&mut self.desk, moment);
            assert!(!unfinished.exists(), "{moment:?}");
            self.desk.set_variables(variables.clone());
        }
        println!("{words:?}: killed {killed} times, at {} of {all} moments", moments.len());
        // Threads may come to their calls in another order than in the run that was counted.
        assert!(killed * 10 >= moments.len() * 8, "killed only {killed} of {} times", moments.len());
    }
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from).into_iter().filter_map(Result::ok) {
        let target = to.join(entry.path().strip_prefix(from).expect("below it"));
        if entry.file_type().is_dir() {
            fs::create_dir_all(target).expect("a folder");
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// A desk with one stored file.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.file("a", CONTENT);
    desk.expect(0, &["put", "a", "-q"]);
    desk
}

/// The passphrase that opens the store now: none, or one of the two.
fn passphrase_now(desk: &mut Desk, moment: &Moment) -> &'static str {
    let opens = |passphrase: &&str| {
        desk.set("SHARD_PASSPHRASE", passphrase);
        desk.run(&["list"]).code == 0
    };
    ["", OLD, NEW].into_iter().find(opens).unwrap_or_else(|| unreachable!("nothing opens the store after {moment:?}"))
}

pub(crate) fn recovers(desk: &Desk, moment: &Moment) {
    let outcome = desk.run(&["recover", "a", "-o", "-"]);
    assert!(outcome.code == 0 && outcome.stdout == CONTENT, "{moment:?}: {}", outcome.stderr);
}

/// Kills `key passphrase` on a store under `from`, and sees that it comes to be under `to`.
fn passphrase_changes(from: &'static str, to: &'static str) {
    let Some(tracer) = tracer() else { return };
    let mut desk = desk();
    if !from.is_empty() {
        desk.set("SHARD_NEW_PASSPHRASE", from);
        desk.expect(0, &["key", "passphrase"]);
    }
    desk.set("SHARD_PASSPHRASE", from);
    desk.set("SHARD_NEW_PASSPHRASE", to);
    let words = if to.is_empty() { &["key", "passphrase", "--remove"][..] } else { &["key", "passphrase"] };
    Before::of(desk, tracer).kill_everywhere(words, |desk, moment| {
        let now = passphrase_now(desk, moment);
        assert!(now == from || now == to, "{moment:?}: {now:?}");
        assert!(!desk.store().join("master.key.new").exists(), "{moment:?}: a command that opens the store clears it");
        recovers(desk, moment);
        desk.expect(0, words);
        assert_eq!(passphrase_now(desk, moment), to, "{moment:?}");
        recovers(desk, moment);
    });
}

#[test]
fn setting_a_passphrase_killed_anywhere_leaves_the_key_plain_or_under_it() {
    passphrase_changes("", NEW);
}

#[test]
fn changing_a_passphrase_killed_anywhere_leaves_the_old_one_or_the_new_one() {
    passphrase_changes(OLD, NEW);
}

#[test]
fn taking_a_passphrase_away_killed_anywhere_leaves_no_plain_key_beside_a_sealed_one() {
    passphrase_changes(OLD, "");
}

#[test]
fn a_rotation_killed_anywhere_leaves_the_old_keys_or_the_new_and_can_be_done_again() {
    let Some(tracer) = tracer() else { return };
    Before::of(desk(), tracer).kill_everywhere(&["key", "rotate"], |desk, moment| {
        recovers(desk, moment);
        let keys = desk.json(0, &["status"])["key"]["keys"].as_u64().expect("a count");
        assert!((1..=2).contains(&keys), "{moment:?}: {keys}");
        assert_eq!(desk.json(0, &["key", "rotate"])["keys"], keys + 1, "{moment:?}");
        recovers(desk, moment);
        desk.expect(0, &["put", "a", "--name", "again", "-q"]);
    });
}

#[test]
fn an_import_killed_anywhere_is_finished_by_the_next_with_and_without_a_store() {
    let Some(tracer) = tracer() else { return };
    let desk = desk();
    let before = Before::of(desk, tracer.clone());
    let places: Vec<PathBuf> = (1..=5).map(|number| before.desk.path(&format!("places/{number}"))).collect();
    for (number, place) in (1..).zip(&places) {
        copy_tree(&before.desk.backend(number), place);
    }
    before.desk.expect(0, &["key", "rotate"]);
    let kit = before.desk.path("kit").display().to_string();
    before.desk.expect(0, &["key", "export", "-o", &kit]);
    let words = ["key", "import", &kit];
    // Into the store as it was before the second key.
    let mut before = before;
    before.kill_everywhere(&words, |desk, moment| {
        recovers(desk, moment);
        assert_eq!(desk.json(0, &words)["keys"], 2, "{moment:?}");
        assert_eq!(desk.json(0, &["status"])["key"]["exported"], true, "{moment:?}");
        recovers(desk, moment);
    });
    // Into nothing: the store is made. Its places are where they were.
    let mut nothing = Before { kept: before.desk.path("nothing"), desk: before.desk, tracer };
    fs::create_dir(&nothing.kept).expect("an empty folder");
    nothing.kill_everywhere(&words, |desk, moment| {
        assert_eq!(desk.json(0, &words)["keys"], 2, "{moment:?}");
        for (number, place) in (1..).zip(&places) {
            copy_tree(place, &desk.backend(number));
        }
        desk.expect(0, &["catalog", "rebuild"]);
        recovers(desk, moment);
    });
}

#[test]
fn making_a_store_killed_anywhere_makes_none_or_all_of_it_and_goes_on_with_its_key() {
    let Some(tracer) = tracer() else { return };
    for passphrase in ["", NEW] {
        let mut desk = Desk::new();
        desk.file("a", CONTENT);
        desk.set("SHARD_PASSPHRASE", passphrase);
        let words = if passphrase.is_empty() { &["init"][..] } else { &["init", "--passphrase"] };
        let mut before = Before { kept: desk.path("nothing"), desk, tracer: tracer.clone() };
        fs::create_dir(&before.kept).expect("an empty folder");
        before.kill_everywhere(words, |desk, moment| {
            let made = desk.store().join("config.toml").exists();
            let key = fs::read(desk.store().join("master.key")).ok();
            let again = desk.run(words);
            assert_eq!(again.code, i32::from(made), "{moment:?}: {}", again.stderr);
            if let (Some(key), "") = (key, passphrase) {
                assert_eq!(fs::read(desk.store().join("master.key")).ok(), Some(key), "{moment:?}");
            }
            desk.expect(0, &["put", "a", "-q"]);
            recovers(desk, moment);
            desk.expect(0, &["verify", "--quick"]);
        });
    }
}
