//! `shard vault` killed before each system call that changes a file.

use crate::desk::Desk;
use crate::faults::can_trace;
use crate::key_kills::Before;

/// What a vault is asked for: with nothing, not to be sealed.
const SORTS: [&[&str]; 2] = [&[], &["--sealed"]];

fn desk() -> Desk {
    let desk = Desk::new();
    desk.expect(0, &["init", "--bare"]);
    desk
}

/// What is under a key; `None` where the vault or the key is not there. Nothing else may be said.
fn value(desk: &Desk, key: &str, moment: &str) -> Option<Vec<u8>> {
    let outcome = desk.run(&["vault", "get", "v", key]);
    assert!(matches!(outcome.code, 0 | 13), "{moment}: {}", outcome.stderr);
    (outcome.code == 0).then_some(outcome.stdout)
}

/// Whether the vault is sealed; there is at most one of the name.
fn sealing(desk: &Desk, moment: &str) -> Option<bool> {
    let listed = desk.json(0, &["vault", "list"])["vaults"].clone();
    let listed = listed.as_array().expect("vaults");
    assert!(listed.len() <= 1, "{moment}: {listed:?}");
    listed.first().map(|vault| vault["sealed"] == true)
}

/// Puts a value, of either sort, into what is there: that is refused only where a vault with entries is not sealed.
fn goes_on(desk: &Desk, sort: &[&str], has_entries: bool, moment: &str) {
    let is_refused = has_entries && !sort.is_empty() && sealing(desk, moment) == Some(false);
    let outcome = desk.run(&[&["vault", "set", "v", "next", "2"], sort].concat());
    assert_eq!(outcome.code, i32::from(is_refused), "{moment}: {}", outcome.stderr);
    assert_eq!(value(desk, "next", moment), (!is_refused).then(|| b"2".to_vec()), "{moment}");
    let is_sealed = sealing(desk, moment).expect("it is there");
    assert!(is_sealed || is_refused || sort.is_empty(), "{moment}");
}

#[test]
fn a_vault_whose_first_entry_is_killed_anywhere_has_it_or_leaves_its_name_free() {
    if !can_trace() {
        return;
    }
    for (sort, next) in SORTS.into_iter().flat_map(|sort| SORTS.map(|next| (sort, next))) {
        let words = [&["vault", "set", "v", "a", "1"], sort].concat();
        Before::of(desk()).kill_everywhere(&words, |desk, moment| {
            let found = value(desk, "a", moment);
            assert!(found.is_none() || found.as_deref() == Some(b"1"), "{moment}: {found:?}");
            goes_on(desk, next, found.is_some(), moment);
            assert_eq!(value(desk, "a", moment), found, "{moment}");
        });
    }
}

#[test]
fn a_vault_whose_deletion_is_killed_anywhere_is_whole_or_leaves_its_name_free() {
    if !can_trace() {
        return;
    }
    for (sort, next) in SORTS.into_iter().flat_map(|sort| SORTS.map(|next| (sort, next))) {
        let desk = desk();
        desk.expect(0, &[&["vault", "set", "v", "a", "1"], sort].concat());
        Before::of(desk).kill_everywhere(&["vault", "drop", "v"], |desk, moment| {
            let found = value(desk, "a", moment);
            assert!(found.is_none() || found.as_deref() == Some(b"1"), "{moment}: {found:?}");
            goes_on(desk, next, found.is_some(), moment);
            desk.expect(0, &["vault", "drop", "v"]);
            assert_eq!(sealing(desk, moment), None, "{moment}");
        });
    }
}

#[test]
fn an_import_that_is_killed_anywhere_is_all_there_or_nothing_of_it() {
    if !can_trace() {
        return;
    }
    for sort in SORTS {
        let desk = desk();
        let entries: String = (0..50).map(|number| format!("{{\"key\":\"{number}\",\"value\":{number}}}\n")).collect();
        let export = format!("{{\"schema\":\"shard-vault/1\",\"name\":\"v\"}}\n{entries}{{\"entries\":50}}\n");
        let file = desk.file("export.jsonl", export.as_bytes()).display().to_string();
        let words = [&["vault", "import", "v", file.as_str()], sort].concat();
        Before::of(desk).kill_everywhere(&words, |desk, moment| {
            let found = desk.run(&["vault", "keys", "v", "--json"]);
            assert!(matches!(found.code, 0 | 13), "{moment}: {}", found.stderr);
            let keys: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap_or_default();
            let count = keys["keys"].as_array().map_or(0, Vec::len);
            assert!(matches!(count, 0 | 50), "{moment}: {keys}");
            desk.expect(0, &words);
            assert_eq!(value(desk, "49", moment).as_deref(), Some(&b"49"[..]), "{moment}");
        });
    }
}
