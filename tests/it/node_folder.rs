//! A node in a folder that is named: what is to be typed next names it too, and a mistyped one is not made.

use crate::desk::Desk;

#[test]
fn what_is_to_be_typed_next_names_the_folder_that_was_given() {
    let desk = Desk::new();
    for words in [["node", "--data", "my node", "serve"], ["node", "serve", "--data", "my node"]] {
        let failure = desk.failure(10, &words);
        assert_eq!(failure["hint"], "`shard node init --data 'my node'` makes one");
    }
    let made = desk.expect(0, &["node", "init", "--data", "my node"]);
    assert!(made.stderr.contains("`shard node seed new --data 'my node'`"), "{}", made.stderr);
    assert!(made.stderr.contains("`shard node seed add FILE --data 'my node'`"), "{}", made.stderr);
    let failure = desk.failure(13, &["node", "--data", "my node", "serve"]);
    let hint = failure["hint"].as_str().expect("a hint");
    assert!(
        hint.contains("`shard node seed new --data 'my node'`")
            && hint.contains("`shard node seed add FILE --data 'my node'`"),
        "{hint}"
    );
    let again = desk.failure(1, &["node", "--data", "my node", "init"]);
    assert_eq!(again["hint"], "`shard node init --data DIR` makes another");
    let made = desk.expect(0, &["node", "--data", "my node", "seed", "new"]);
    assert!(made.text().contains("`shard node seed show --data 'my node'`"), "{}", made.text());
    assert_eq!(desk.failure(10, &["node", "serve"])["hint"], "`shard node init` makes one", "none was given");
}

#[test]
fn no_folder_is_made_for_a_seed_where_no_node_is() {
    let desk = Desk::new();
    desk.expect(0, &["node", "init", "--data", "right"]);
    desk.expect(0, &["node", "--data", "right", "seed", "new", "-o", "seed.txt"]);
    for words in [&["seed", "new"][..], &["seed", "add", "seed.txt"], &["seed", "retire"]] {
        let failure = desk.failure(10, &[&["node", "--data", "wrong"], words].concat());
        assert_eq!(failure["kind"], "no-store");
        assert_eq!(failure["hint"], "`shard node init --data wrong` makes one");
        assert!(!desk.path("wrong").exists(), "{words:?}");
    }
}
