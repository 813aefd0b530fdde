//! Certificates: how the signer that a store id pins vouches for another one.

use super::{PublicKey, Signature, Signer};
use crate::id::StoreId;
use serde::{Deserialize, Serialize};

/// What the signed bytes of a certificate begin with.
const CERTIFICATE_PREFIX: &[u8] = b"shard signer certificate v1\n";

/// What a signer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything: it signs for the owner.
    Owner,
    /// Add files, and nothing else: for machines that cannot read.
    Writer,
}

impl Role {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Owner => 0,
            Self::Writer => 1,
        }
    }
}

/// The word of a store's first signer for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The store's first signer.
    pub issuer: PublicKey,
    /// What the certified signer may do.
    pub role: Role,
    /// The issuer's signature over role, store and certified key.
    pub signature: Signature,
}

impl Certificate {
    /// Vouches for a key. The issuer has to be the signer that the store id pins.
    pub fn issue(issuer: &Signer, certified: PublicKey, role: Role) -> Self {
        let store = issuer.public_key().store_id();
        let signature = issuer.sign(CERTIFICATE_PREFIX, &statement(&store, &certified, role));
        Self { issuer: issuer.public_key(), role, signature }
    }

    /// What this certificate allows the key to do in the store; `None` where it does not hold for them.
    pub fn role_of(&self, certified: &PublicKey, store: &StoreId) -> Option<Role> {
        let statement = statement(store, certified, self.role);
        let holds =
            self.issuer.store_id() == *store && self.issuer.verifies(CERTIFICATE_PREFIX, &statement, &self.signature);
        holds.then_some(self.role)
    }
}

fn statement(store: &StoreId, certified: &PublicKey, role: Role) -> Vec<u8> {
    [&[role.code()], store.as_bytes().as_slice(), &certified.0].concat()
}

#[cfg(test)]
mod tests {
    use super::super::MasterKey;
    use super::*;

    #[test]
    fn a_certificate_holds_for_one_key_one_role_and_one_store() {
        let (owner, other) = (MasterKey::from_bytes([1; 32]).signer(), MasterKey::from_bytes([2; 32]).signer());
        let store = owner.public_key().store_id();
        let certificate = Certificate::issue(&owner, other.public_key(), Role::Writer);
        assert_eq!(certificate.role_of(&other.public_key(), &store), Some(Role::Writer));
        assert_eq!(certificate.role_of(&owner.public_key(), &store), None);
        assert_eq!(certificate.role_of(&other.public_key(), &StoreId([9; 32])), None);
        let raised = Certificate { role: Role::Owner, ..certificate };
        assert_eq!(raised.role_of(&other.public_key(), &store), None);
        let own = Certificate::issue(&other, other.public_key(), Role::Owner);
        assert_eq!(own.role_of(&other.public_key(), &store), None);
        for bit in 0..512 {
            let mut flipped = certificate;
            flipped.signature.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(flipped.role_of(&other.public_key(), &store), None, "bit {bit}");
        }
    }
}
