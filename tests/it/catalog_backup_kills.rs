//! `shard catalog backup` and `restore` killed before each system call that changes a file.

use crate::catalog_backup_cli::{CONTENT, damage_catalog, desk};
use crate::desk::Desk;
use crate::faults::can_trace;
use crate::key_kills::Before;

fn recovers(desk: &Desk, moment: &str) {
    let outcome = desk.run(&["recover", "a", "-o", "-"]);
    assert!(outcome.code == 0 && outcome.stdout == CONTENT, "{moment}: {}", outcome.stderr);
}

#[test]
fn a_backup_killed_anywhere_costs_nothing_and_can_be_made_again() {
    if !can_trace() {
        return;
    }
    let desk = desk();
    desk.expect(0, &["catalog", "backup", "-q"]);
    desk.expect(0, &["put", "a", "--name", "b", "-q"]);
    Before::of(desk).kill_everywhere(&["catalog", "backup", "--full"], |desk, moment| {
        assert_eq!(desk.listed(), ["a", "b"], "{moment:?}");
        recovers(desk, moment);
        desk.expect(0, &["catalog", "backup", "-q"]);
        let restored = desk.json(0, &["catalog", "restore"]);
        assert_eq!(restored["backup"]["used"], 2, "{moment:?}");
        assert_eq!(desk.listed(), ["a", "b"], "{moment:?}");
        desk.expect(0, &["verify", "-q"]);
    });
}

#[test]
fn a_restore_killed_anywhere_leaves_the_old_catalog_or_the_new_and_never_an_empty_one() {
    if !can_trace() {
        return;
    }
    for is_damaged in [false, true] {
        let desk = desk();
        desk.expect(0, &["catalog", "backup", "-q"]);
        desk.expect(0, &["put", "a", "--name", "b", "-q"]);
        if is_damaged {
            damage_catalog(&desk);
        }
        Before::of(desk).kill_everywhere(&["catalog", "restore"], |desk, moment| {
            let outcome = desk.run(&["list", "--json"]);
            if outcome.code == 0 || !is_damaged {
                assert_eq!(desk.listed(), ["a", "b"], "{moment:?}: {}", outcome.stderr);
            } else {
                assert!(outcome.stderr.contains("catalog rebuild"), "{moment:?}: {}", outcome.stderr);
            }
            assert_eq!(desk.json(0, &["catalog", "restore"])["backup"]["used"], 1, "{moment:?}");
            assert_eq!(desk.listed(), ["a", "b"], "{moment:?}");
            recovers(desk, moment);
            desk.expect(0, &["verify", "-q"]);
        });
    }
}

#[test]
fn a_backup_file_killed_anywhere_is_the_old_one_or_the_new() {
    if !can_trace() {
        return;
    }
    let desk = desk();
    let path = desk.store().join("catalog.backup").display().to_string();
    desk.expect(0, &["catalog", "backup", "-q", "-o", &path]);
    desk.expect(0, &["put", "a", "--name", "b", "-q"]);
    Before::of(desk).kill_everywhere(&["catalog", "backup", "--force", "-o", &path], |desk, moment| {
        let used = desk.json(0, &["catalog", "restore", "--from-file", &path])["backup"]["used"].as_u64();
        assert!(matches!(used, Some(1 | 2)), "{moment:?}: {used:?}");
        assert_eq!(desk.listed(), ["a", "b"], "{moment:?}");
    });
}
