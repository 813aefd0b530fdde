//! What a machine needs that checks and repairs and cannot read: which store is trusted, and a catalog key of its own.

use super::{CatalogKey, Keyring, LimitedKeyError, PublicKey, context};
use crate::id::{Digest, StoreId, read_hex};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Says what the file is.
pub const VERIFY_KEY_SCHEMA: &str = "shard.verify-key/1";

/// A key that opens nothing of the store: it names the store and its signers, and seals this machine's own catalog.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct VerifyKey {
    #[zeroize(skip)]
    store: StoreId,
    #[zeroize(skip)]
    signers: Vec<PublicKey>,
    #[zeroize(skip)]
    settings: Option<String>,
    catalog: [u8; 32],
    nodes: Option<NodePass>,
}

/// What the machine brings to the nodes that keep the store's shards.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NodePass {
    /// From which its own identity towards nodes follows.
    pub node_seed: [u8; 32],
    /// The owner's word for that identity, as nodes read it.
    #[zeroize(skip)]
    pub grant: Vec<u8>,
    /// The seeds of the group, as far as the owner's machine had them.
    pub seeds: Vec<[u8; 32]>,
}

/// The longest grant that a key brings.
const MAX_GRANT_BYTES: usize = 1024;
/// The most seeds that it brings.
const MAX_PASS_SEEDS: usize = 8;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodePassFile {
    node_seed: Zeroizing<String>,
    grant: String,
    seeds: Vec<Zeroizing<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyKeyFile {
    schema: String,
    store: StoreId,
    signers: Vec<PublicKey>,
    catalog: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nodes: Option<NodePassFile>,
    check: Digest,
}

impl VerifyKey {
    /// For a machine that is to look after the store of these keys. `catalog` are 32 random bytes; `settings` the store's
    /// settings, for a start.
    pub fn of(keyring: &Keyring, mut catalog: [u8; 32], settings: Option<String>) -> Self {
        let signers = keyring.keys().iter().map(|key| key.signer().public_key()).collect();
        let key = Self { store: keyring.store_id(), signers, settings, catalog, nodes: None };
        catalog.zeroize();
        key
    }

    /// With what leads to the store's shards at nodes.
    #[must_use]
    pub fn with_nodes(mut self, nodes: NodePass) -> Self {
        self.nodes = Some(nodes);
        self
    }

    /// What leads to the store's shards at nodes, where the owner's machine had some.
    pub fn nodes(&self) -> Option<&NodePass> {
        self.nodes.as_ref()
    }

    /// The store whose signatures are trusted.
    pub fn store_id(&self) -> StoreId {
        self.store
    }

    /// Everything that signs for the store's owner, oldest first, for whoever wants to know. What is trusted follows from the
    /// store id and the certificates in what was signed.
    pub fn signers(&self) -> &[PublicKey] {
        &self.signers
    }

    /// The store's settings as they were when the key was made.
    pub fn settings(&self) -> Option<&str> {
        self.settings.as_deref()
    }

    /// What seals this machine's catalog.
    pub fn catalog_key(&self) -> CatalogKey {
        CatalogKey::from_secret(self.store, &self.catalog)
    }

    /// The text of its file.
    pub fn to_file(&self) -> Zeroizing<String> {
        let file = VerifyKeyFile {
            schema: VERIFY_KEY_SCHEMA.to_owned(),
            store: self.store,
            signers: self.signers.clone(),
            catalog: Zeroizing::new(hex::encode(self.catalog.as_slice())),
            settings: self.settings.clone(),
            nodes: self.nodes.as_ref().map(NodePassFile::of),
            check: self.check_value(),
        };
        // Grown once, so that no copy is left behind by growing.
        let room = 16 * 1024 + 2 * self.settings.as_ref().map_or(0, String::len);
        let mut text = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer_pretty(&mut *text, &file).expect("strings always serialize");
        text.push(b'\n');
        Zeroizing::new(String::from_utf8(std::mem::take(&mut *text)).expect("JSON is UTF-8"))
    }

    /// The key in the text of a file.
    pub(super) fn from_file(text: &[u8]) -> Result<Self, LimitedKeyError> {
        let malformed = LimitedKeyError::Malformed { schema: VERIFY_KEY_SCHEMA };
        let file: VerifyKeyFile = serde_json::from_slice(text).map_err(|_| malformed)?;
        if file.schema != VERIFY_KEY_SCHEMA {
            return Err(malformed);
        }
        let mut catalog = Zeroizing::new([0; 32]);
        read_hex(&file.catalog, catalog.as_mut_slice()).map_err(|_| malformed)?;
        let nodes = file.nodes.map(|nodes| nodes.read().ok_or(malformed)).transpose()?;
        let key = Self { store: file.store, signers: file.signers, settings: file.settings, catalog: *catalog, nodes };
        verify_slices_are_equal(&key.check_value().0, &file.check.0).map_err(|_| LimitedKeyError::Check)?;
        Ok(key)
    }

    fn check_value(&self) -> Digest {
        let mut material = Zeroizing::new(self.store.as_bytes().to_vec());
        material.extend_from_slice(&(self.signers.len() as u64).to_le_bytes());
        self.signers.iter().for_each(|signer| material.extend_from_slice(&signer.0));
        material.extend_from_slice(&self.catalog);
        material.extend_from_slice(self.settings.as_deref().unwrap_or_default().as_bytes());
        if let Some(nodes) = &self.nodes {
            // What comes before has no length of its own at its end.
            material.extend_from_slice(&(self.settings.as_ref().map_or(0, String::len) as u64).to_le_bytes());
            material.extend_from_slice(&nodes.node_seed);
            material.extend_from_slice(&(nodes.grant.len() as u64).to_le_bytes());
            material.extend_from_slice(&nodes.grant);
            nodes.seeds.iter().for_each(|seed| material.extend_from_slice(seed));
        }
        Digest(blake3::derive_key(context::VERIFY_CHECK, &material))
    }
}

impl NodePassFile {
    fn of(nodes: &NodePass) -> Self {
        let hex_of = |bytes: &[u8; 32]| Zeroizing::new(hex::encode(bytes));
        Self {
            node_seed: hex_of(&nodes.node_seed),
            grant: hex::encode(&nodes.grant),
            seeds: nodes.seeds.iter().map(hex_of).collect(),
        }
    }

    fn read(&self) -> Option<NodePass> {
        if self.grant.len() > 2 * MAX_GRANT_BYTES || self.seeds.len() > MAX_PASS_SEEDS {
            return None;
        }
        let mut nodes = NodePass { node_seed: [0; 32], grant: vec![0; self.grant.len() / 2], seeds: Vec::new() };
        read_hex(&self.node_seed, &mut nodes.node_seed).ok()?;
        read_hex(&self.grant, &mut nodes.grant).ok()?;
        nodes.seeds.reserve_exact(self.seeds.len());
        for text in &self.seeds {
            let mut seed = [0; 32];
            let read = read_hex(text, &mut seed);
            nodes.seeds.push(seed);
            seed.zeroize();
            read.ok()?;
        }
        Some(nodes)
    }
}

impl fmt::Debug for NodePass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodePass").field("seeds", &self.seeds.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyKey").field("store", &self.store).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LimitedKey, MasterKey};
    use super::*;

    #[test]
    fn a_verify_only_key_comes_back_from_its_file_and_no_flipped_bit_goes_unseen() {
        let keyring = Keyring::from_keys(vec![MasterKey::from_bytes([1; 32]), MasterKey::from_bytes([2; 32])]);
        let keyring = keyring.expect("two keys");
        let plain = VerifyKey::of(&keyring, [7; 32], Some("seal = \"key\"\n".to_owned()));
        let text = plain.to_file();
        let without = VerifyKey::from_file(text.as_bytes()).expect("the key");
        assert!(without.nodes.is_none() && !text.contains("nodes"));
        let nodes = NodePass { node_seed: [8; 32], grant: vec![9; 138], seeds: vec![[10; 32], [11; 32]] };
        let key = plain.with_nodes(nodes);
        let text = key.to_file();
        assert!(matches!(LimitedKey::from_file(text.as_bytes()), Some(Ok(LimitedKey::Verify(_)))));
        let parts = |nodes: &Option<NodePass>| nodes.as_ref().map(|n| (n.node_seed, n.grant.clone(), n.seeds.clone()));
        let same = |other: &VerifyKey| {
            (other.store, &other.signers, &other.settings, other.catalog, parts(&other.nodes))
                == (key.store, &key.signers, &key.settings, key.catalog, parts(&key.nodes))
        };
        assert!(same(&VerifyKey::from_file(text.as_bytes()).expect("the key")));
        for bit in 0..text.len() * 8 {
            let mut flipped = text.as_bytes().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(VerifyKey::from_file(&flipped).is_err(), "bit {bit}");
        }
        assert!(keyring.keys().iter().all(|key| !text.contains(&hex::encode(key.bytes))));
        let owners = hex::encode(keyring.node_seed().as_slice());
        assert!(!text.contains(&owners), "the owner's own identity stays with the owner");
    }
}
