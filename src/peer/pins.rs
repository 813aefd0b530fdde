//! Pins: the key that a node had when it was first met at an address. Another key there is another node, until a person
//! says otherwise.

use super::address::PeerAddress;
use super::identity::node_id;
use crate::crypto::PublicKey;
use crate::id::NodeId;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Why a peer at an address is not taken for the one that was there.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The key changed.
    #[error(
        "THE KEY OF {address} HAS CHANGED: it was node {pinned} and is now node {found}. Either its node seed was made \
         anew, or another member of the group answers in its place"
    )]
    Changed {
        /// Where.
        address: PeerAddress,
        /// Who was there.
        pinned: NodeId,
        /// Who is there.
        found: NodeId,
    },
    /// The pins could not be read or kept.
    #[error("keeping the key of {address}")]
    Kept {
        /// Of which node.
        address: PeerAddress,
        /// What was underneath.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where pins are kept.
pub trait Pins: fmt::Debug + Send + Sync {
    /// Pins the key if the address was never met; an error where another is pinned, which stays.
    fn check(&self, address: &PeerAddress, key: &PublicKey) -> Result<(), PinError>;
}

/// The rule: the first key stays. Gives what is to be kept, `None` where it is kept already.
pub fn compare(
    pinned: Option<PublicKey>,
    address: &PeerAddress,
    key: &PublicKey,
) -> Result<Option<PublicKey>, PinError> {
    match pinned {
        None => Ok(Some(*key)),
        Some(pinned) if pinned == *key => Ok(None),
        Some(pinned) => {
            Err(PinError::Changed { address: address.clone(), pinned: node_id(&pinned), found: node_id(key) })
        }
    }
}

/// Pins that last as long as the process.
#[derive(Debug, Default)]
pub struct MemoryPins {
    keys: Mutex<BTreeMap<PeerAddress, PublicKey>>,
}

impl Pins for MemoryPins {
    fn check(&self, address: &PeerAddress, key: &PublicKey) -> Result<(), PinError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = compare(keys.get(address).copied(), address, key)? {
            keys.insert(address.clone(), first);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_at_an_address_stays_and_another_is_refused_loudly() {
        let (pins, address) = (MemoryPins::default(), "node://friend:1".parse().expect("an address"));
        let (one, other) = (PublicKey([1; 32]), PublicKey([2; 32]));
        pins.check(&address, &one).expect("first met");
        let error = pins.check(&address, &other).expect_err("another key");
        let text = error.to_string();
        assert!(text.contains("HAS CHANGED") && text.contains(&node_id(&one).to_string()), "{text}");
        pins.check(&address, &one).expect("the first stays");
        pins.check(&"node+ws://friend:1".parse().expect("an address"), &other).expect("another address");
    }
}
