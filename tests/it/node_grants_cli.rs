//! A machine with a verify-only key at a store's nodes: it verifies and repairs there, and deletes where it was allowed to.

use super::desk::{Desk, noise};
use super::node_storage_desk::{Keeper, SEED, seed_file};
use serde_json::Value;
use shard::node::storage::StorageOptions;
use shard::peer::TransportKind;
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

fn shards_below(folder: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok).map(walkdir::DirEntry::into_path);
    files.filter(|path| path.extension().is_some_and(|extension| extension == "shard")).collect()
}

/// An owner whose three places are nodes, the nodes, and their folders.
fn owner_with_nodes(runtime: &Runtime) -> (Desk, Vec<Keeper>) {
    let mut owner = Desk::new();
    let seed = seed_file(owner.home(), SEED);
    owner.set("SHARD_SEED_FILE", &seed.display().to_string());
    owner.expect(0, &["init", "--bare"]);
    let keepers: Vec<Keeper> = (1..=3)
        .map(|number| {
            let folder = owner.path(&format!("house-{number}"));
            runtime.block_on(Keeper::start(number, &folder, StorageOptions::default()))
        })
        .collect();
    for (number, keeper) in (1..).zip(&keepers) {
        let transport = if number == 2 { TransportKind::WebSocket } else { TransportKind::Quic };
        let (name, url) = (format!("house-{number}"), keeper.address(transport).to_string());
        owner.expect(0, &["backend", "add", &name, &url, "--zone", &name]);
    }
    owner.file("a", &noise(700_000, 5));
    owner.expect(0, &["put", "a", "--level", "minimal"]);
    (owner, keepers)
}

/// A machine that was given this verify-only key, and nothing else: no seed, no variable.
fn helper_with(owner: &Desk, export: &[&str]) -> (Desk, Value) {
    let helper = Desk::new();
    let key = helper.path("helper.key").display().to_string();
    let exported = owner.json(0, &[&["key", "export", "--verify-only", "-o", &key], export].concat());
    let imported = helper.json(0, &["key", "import", "helper.key"]);
    assert_eq!(imported["nodes"], exported["nodes"]);
    helper.expect(0, &["catalog", "rebuild"]);
    (helper, exported)
}

#[test]
fn a_verify_only_key_verifies_and_repairs_at_nodes_and_deletes_nothing_there() {
    let runtime = Runtime::new().expect("threads");
    let (owner, keepers) = owner_with_nodes(&runtime);
    let (helper, exported) = helper_with(&owner, &[]);
    assert_eq!(exported["nodes"]["rights"], serde_json::json!(["read", "repair"]));
    assert_eq!(exported["nodes"]["seeds"], 1);
    for depth in ["--full", "--quick"] {
        helper.expect(0, &["verify", depth]);
    }
    helper.expect(0, &["verify", "--sample", "100"]);
    // It could not delete what a probe leaves, and leaves none.
    let checked = helper.json(0, &["backend", "check"]);
    assert!(checked["backends"].as_array().expect("backends").iter().all(|backend| backend["state"] == "ready"));
    // One house lost its shard, another damaged it.
    let whole: Vec<(PathBuf, Vec<u8>)> = (1..=3)
        .flat_map(|number| shards_below(&owner.path(&format!("house-{number}"))))
        .map(|path| (path.clone(), std::fs::read(path).expect("a shard")))
        .collect();
    assert_eq!(whole.len(), 3);
    std::fs::remove_file(&whole[0].0).expect("removed");
    helper.expect(3, &["verify"]);
    helper.expect(0, &["repair"]);
    let mut damaged = whole[1].1.clone();
    damaged[100] ^= 1;
    std::fs::write(&whole[1].0, damaged).expect("damaged");
    helper.expect(3, &["verify"]);
    helper.expect(0, &["repair"]);
    for (path, bytes) in &whole {
        assert!(std::fs::read(path).expect("a shard") == *bytes, "{}", path.display());
    }
    owner.expect(0, &["verify"]);
    // What it cannot delete stays where it is, also when it is to be moved.
    helper.run(&["backend", "drain", "house-1"]);
    assert!(whole.iter().all(|(path, _)| path.exists()));
    let outcome = owner.run(&["recover", "a", "-o", "back"]);
    assert!([0, 3].contains(&outcome.code), "{outcome:?}");
    for keeper in keepers {
        runtime.block_on(keeper.stop());
    }
}

#[test]
fn a_key_that_may_delete_says_so_and_the_export_of_one_without_a_seed_warns() {
    let runtime = Runtime::new().expect("threads");
    let (mut owner, keepers) = owner_with_nodes(&runtime);
    let (_, exported) = helper_with(&owner, &["--allow-delete", "--expires", "30d"]);
    assert_eq!(exported["nodes"]["rights"], serde_json::json!(["read", "repair", "delete"]));
    // The flags are about a verify-only key alone.
    for words in [
        &["key", "export", "--allow-delete"][..],
        &["key", "export", "--expires", "1d"],
        &["key", "export", "--write-only", "--expires", "1d"],
        &["key", "export", "--write-only", "--allow-delete"],
    ] {
        assert_eq!(owner.run(words).code, 2, "{words:?}");
    }
    // Without the seed at hand the key does not lead to the nodes, and it is said.
    let seed = owner.variables();
    owner.set_variables(Vec::new());
    let outcome = owner.run(&["key", "export", "--verify-only", "-o", "no-seed.key"]);
    assert!(outcome.code == 0 && outcome.stderr.contains("3 nodes"), "{outcome:?}");
    owner.set_variables(seed);
    for keeper in keepers {
        runtime.block_on(keeper.stop());
    }
}
