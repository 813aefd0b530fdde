//! The golden keys of machines that are not the owner's, and the golden public key.

use super::{bytes_of, fixtures, inputs, read};
use serde::Deserialize;
use shard::crypto::{Keyring, LimitedKey, NodePass, RecipientKey, VerifyKey};
use shard::peer::{GrantRights, NodeGrant, NodeIdentity};

#[derive(Deserialize)]
pub(super) struct VerifyKeyInput {
    catalog: String,
    settings: String,
    nodes: NodesInput,
}

#[derive(Deserialize)]
struct NodesInput {
    node_seed: String,
    seeds: Vec<String>,
    delete: bool,
    expires_s: u64,
}

#[test]
fn the_golden_recipient_and_verify_only_key_are_what_this_crate_writes_and_reads() {
    let inputs = inputs();
    let keyring = Keyring::new(inputs.key());
    let golden = read(&fixtures().join("golden/me.recipient"));
    let recipient = keyring.current().recipient(keyring.store_id());
    assert_eq!(recipient.to_file().as_bytes(), golden);
    assert_eq!(RecipientKey::from_file(&golden), Ok(recipient));
    let golden = read(&fixtures().join("golden/helper.key"));
    let VerifyKeyInput { catalog, settings, nodes } = inputs.verify_key;
    let key = VerifyKey::of(&keyring, bytes_of(&catalog), Some(settings));
    assert_eq!(key.to_file().as_bytes(), golden);
    let found = LimitedKey::from_file(&golden).expect("a key").expect("a verify-only key");
    assert_eq!(*found.to_file(), *key.to_file());
    // With a grant for nodes, which is signed by the store's identity towards them.
    let golden = read(&fixtures().join("golden/helper-nodes.key"));
    let (node_seed, owner) = (bytes_of(&nodes.node_seed), NodeIdentity::from_seed(&keyring.node_seed()));
    let rights = GrantRights { repair: true, delete: nodes.delete };
    let grant = NodeGrant::issue(&owner, NodeIdentity::from_seed(&node_seed).id(), rights, nodes.expires_s);
    let seeds = nodes.seeds.iter().map(|seed| bytes_of(seed)).collect();
    let key = key.with_nodes(NodePass { node_seed, grant: grant.to_bytes().to_vec(), seeds });
    assert_eq!(key.to_file().as_bytes(), golden);
    let Some(Ok(LimitedKey::Verify(found))) = LimitedKey::from_file(&golden) else { unreachable!("it is one") };
    // What is secret has no comparison of its own.
    let parts = |key: &VerifyKey| key.nodes().map(|pass| (pass.node_seed, pass.grant.clone(), pass.seeds.clone()));
    assert!(parts(&found).is_some() && parts(&found) == parts(&key));
}
