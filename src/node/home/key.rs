//! The node seed: 32 random bytes from which a node's key, and that of its records, follow.

use crate::crypto::{ChamberKey, base32, from_base32};
use crate::error::{Error, ErrorKind, Result};
use crate::peer::NodeIdentity;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use std::fmt;
use std::path::Path;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A longer file holds no node seed.
pub(super) const MAX_BYTES: u64 = 1024;

/// What its text begins with.
const PREFIX: &str = "SHARD-NODE-1";
const SEED_BYTES: usize = 32;
/// What stands behind the seed, to tell damage.
const CHECK_BYTES: usize = 8;

const RECORDS: &str = "shard v1 2026-11-21 node records key";
const CHECK: &str = "shard v1 2026-11-21 node seed check";

/// The seed of one node.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct NodeSeed {
    bytes: [u8; SEED_BYTES],
}

impl NodeSeed {
    /// A new one.
    pub(super) fn new() -> Result<Self> {
        let mut seed = Self { bytes: [0; SEED_BYTES] };
        let filled = getrandom::fill(&mut seed.bytes);
        filled.map_err(|error| Error::local("the system gives no random bytes", std::io::Error::other(error)))?;
        Ok(seed)
    }

    /// The text in which it is kept.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let checked = Zeroizing::new([self.bytes.as_slice(), &self.check()].concat());
        Zeroizing::new(format!("{PREFIX} {}\n", *base32(&checked)))
    }

    /// Reads it again; `path` says where it came from.
    pub(super) fn parse(text: &[u8], path: &Path) -> Result<Self> {
        let read = || {
            let text = std::str::from_utf8(text).ok()?;
            let bytes = from_base32(text.trim().strip_prefix(PREFIX)?)?;
            let (seed, check) = bytes.split_first_chunk::<SEED_BYTES>()?;
            let seed = Self { bytes: *seed };
            verify_slices_are_equal(&seed.check(), check).ok()?;
            Some(seed)
        };
        read().ok_or_else(|| {
            let doing = format!("{} is damaged: it holds no node seed", path.display());
            Error::new(ErrorKind::Damaged, doing)
                .with_hint("bring it back from a backup; `shard node init` in another folder makes another node")
        })
    }

    /// Who the node is.
    pub(super) fn identity(&self) -> NodeIdentity {
        NodeIdentity::from_seed(&self.bytes)
    }

    /// What its records are sealed with.
    pub(super) fn records_key(&self) -> ChamberKey {
        let secret = Zeroizing::new(blake3::derive_key(RECORDS, &self.bytes));
        ChamberKey::from_secret(self.identity().id(), &secret)
    }

    fn check(&self) -> [u8; CHECK_BYTES] {
        let digest = blake3::derive_key(CHECK, &self.bytes);
        digest[..CHECK_BYTES].try_into().expect("a digest is longer")
    }
}

impl fmt::Debug for NodeSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeSeed(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_seed_reads_back_and_no_changed_character_of_it_does() {
        let seed = NodeSeed::new().expect("random bytes");
        let (text, path) = (seed.to_text(), Path::new("/x/node.key"));
        let again = NodeSeed::parse(text.as_bytes(), path).expect("it reads back");
        assert_eq!(again.identity().id(), seed.identity().id());
        for at in 0..text.trim().len() {
            let other = if &text[at..=at] == "Z" { "Y" } else { "Z" };
            let changed = [&text[..at], other, &text[at + 1..]].concat();
            let error = NodeSeed::parse(changed.as_bytes(), path).expect_err("it is changed");
            assert!(error.kind == ErrorKind::Damaged && error.hint.is_some(), "{at}");
            assert!(NodeSeed::parse(&text.as_bytes()[..at], path).is_err(), "cut at {at}");
        }
        assert_eq!(format!("{seed:?}"), "NodeSeed(secret)");
        assert_ne!(NodeSeed::new().expect("random bytes").identity().id(), seed.identity().id());
    }
}
