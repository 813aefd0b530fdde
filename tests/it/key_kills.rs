//! Changes of key killed before each system call that changes a file: the old keys open the store or the new ones do, and the
//! same command, run again, finishes what was begun.

use crate::desk::Desk;
use crate::faults::{Budget, can_trace, copy_tree, count_changes, kill};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// How many kills of a change are tried that has more, but for `just soak`.
const SAMPLED_KILLS: usize = 24;
/// What every store here keeps.
const CONTENT: &[u8] = b"what the keys are for";
const OLD: &str = "an old passphrase";
const NEW: &str = "a new passphrase";

/// A store as it was before the change, on a desk where it can be had again.
pub(crate) struct Before {
    desk: Desk,
    kept: PathBuf,
}

impl Before {
    /// Takes the store as it is now.
    pub(crate) fn of(desk: Desk) -> Self {
        let kept = desk.path("kept");
        copy_tree(&desk.store(), &kept);
        Self { desk, kept }
    }

    fn restore(&self) {
        let _ = fs::remove_dir_all(self.desk.store());
        copy_tree(&self.kept, &self.desk.store());
    }

    /// Kills the change before each of its calls, or before a sample of them, and looks at what is left each time.
    pub(crate) fn kill_everywhere(&mut self, words: &[&str], look: impl Fn(&mut Desk, &str)) {
        self.restore();
        let all = count_changes(&self.desk, words, 0);
        assert!(all > 4, "{words:?} changes nothing");
        let variables = self.desk.variables();
        let budget = Budget::new(SAMPLED_KILLS);
        let (mut tried, mut killed) = (0, 0);
        for at in budget.choose((1..=all).collect()) {
            tried += 1;
            self.restore();
            let victim = kill(&self.desk, words, at);
            killed += usize::from(victim.is_some());
            let moment = format!("killed before call {at}, {victim:?}");
            let unfinished = self.desk.store().join("master.key.new");
            if let Ok(metadata) = fs::metadata(&unfinished) {
                assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{moment}");
            }
            look(&mut self.desk, &moment);
            assert!(!unfinished.exists(), "{moment}");
            self.desk.set_variables(variables.clone());
        }
        budget.say(&format!("kill points of {words:?}: {tried} of {all} tried, {killed} killed"));
        // The number of calls differs a little from run to run.
        assert!(killed * 10 >= tried * 9, "killed only {killed} of {tried} times");
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
fn passphrase_now(desk: &mut Desk, moment: &str) -> &'static str {
    let opens = |passphrase: &&str| {
        desk.set("SHARD_PASSPHRASE", passphrase);
        desk.run(&["list"]).code == 0
    };
    ["", OLD, NEW].into_iter().find(opens).unwrap_or_else(|| unreachable!("nothing opens the store after {moment}"))
}

fn recovers(desk: &Desk, moment: &str) {
    let outcome = desk.run(&["recover", "a", "-o", "-"]);
    assert!(outcome.code == 0 && outcome.stdout == CONTENT, "{moment}: {}", outcome.stderr);
}

/// Kills `key passphrase` on a store under `from`, and sees that it comes to be under `to`.
fn passphrase_changes(from: &'static str, to: &'static str) {
    if !can_trace() {
        return;
    }
    let mut desk = desk();
    if !from.is_empty() {
        desk.set("SHARD_NEW_PASSPHRASE", from);
        desk.expect(0, &["key", "passphrase"]);
    }
    desk.set("SHARD_PASSPHRASE", from);
    desk.set("SHARD_NEW_PASSPHRASE", to);
    let words = if to.is_empty() { &["key", "passphrase", "--remove"][..] } else { &["key", "passphrase"] };
    Before::of(desk).kill_everywhere(words, |desk, moment| {
        let now = passphrase_now(desk, moment);
        assert!(now == from || now == to, "{moment}: {now:?}");
        assert!(!desk.store().join("master.key.new").exists(), "{moment}: a command that opens the store clears it");
        recovers(desk, moment);
        desk.expect(0, words);
        assert_eq!(passphrase_now(desk, moment), to, "{moment}");
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
    if !can_trace() {
        return;
    }
    Before::of(desk()).kill_everywhere(&["key", "rotate"], |desk, moment| {
        recovers(desk, moment);
        let keys = desk.json(0, &["status"])["key"]["keys"].as_u64().expect("a count");
        assert!((1..=2).contains(&keys), "{moment}: {keys}");
        assert_eq!(desk.json(0, &["key", "rotate"])["keys"], keys + 1, "{moment}");
        recovers(desk, moment);
        desk.expect(0, &["put", "a", "--name", "again", "-q"]);
    });
}

#[test]
fn an_import_killed_anywhere_is_finished_by_the_next_with_and_without_a_store() {
    if !can_trace() {
        return;
    }
    let desk = desk();
    let before = Before::of(desk);
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
        assert_eq!(desk.json(0, &words)["keys"], 2, "{moment}");
        assert_eq!(desk.json(0, &["status"])["key"]["exported"], true, "{moment}");
        recovers(desk, moment);
    });
    // Into nothing: the store is made. Its places are where they were.
    let mut nothing = Before { kept: before.desk.path("nothing"), desk: before.desk };
    fs::create_dir(&nothing.kept).expect("an empty folder");
    nothing.kill_everywhere(&words, |desk, moment| {
        assert_eq!(desk.json(0, &words)["keys"], 2, "{moment}");
        for (number, place) in (1..).zip(&places) {
            copy_tree(place, &desk.backend(number));
        }
        desk.expect(0, &["catalog", "rebuild"]);
        recovers(desk, moment);
    });
}

#[test]
fn making_a_store_killed_anywhere_makes_none_or_all_of_it_and_goes_on_with_its_key() {
    if !can_trace() {
        return;
    }
    for passphrase in ["", NEW] {
        let mut desk = Desk::new();
        desk.file("a", CONTENT);
        desk.set("SHARD_PASSPHRASE", passphrase);
        let words = if passphrase.is_empty() { &["init"][..] } else { &["init", "--passphrase"] };
        let mut before = Before { kept: desk.path("nothing"), desk };
        fs::create_dir(&before.kept).expect("an empty folder");
        before.kill_everywhere(words, |desk, moment| {
            let made = desk.store().join("config.toml").exists();
            let key = fs::read(desk.store().join("master.key")).ok();
            let again = desk.run(words);
            assert_eq!(again.code, i32::from(made), "{moment}: {}", again.stderr);
            if let (Some(key), "") = (key, passphrase) {
                assert_eq!(fs::read(desk.store().join("master.key")).ok(), Some(key), "{moment}");
            }
            desk.expect(0, &["put", "a", "-q"]);
            recovers(desk, moment);
            desk.expect(0, &["verify", "--quick"]);
        });
    }
}
