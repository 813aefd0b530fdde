//! Grants: an owner's signed word by which another key may act on the owner's shards at nodes.

use super::identity::{NodeIdentity, node_id};
use super::wire::{Fields, WireError};
use crate::crypto::{PublicKey, Signature};
use crate::id::NodeId;

/// The length of a grant.
pub const GRANT_BYTES: usize = SIGNED_BYTES + 64;
/// So much later than it says a grant still holds: clocks differ.
pub const GRANT_TOLERANCE_S: u64 = 15 * 60;

/// Version, owner's key, grantee, rights, expiry.
const SIGNED_BYTES: usize = 1 + 32 + 32 + 1 + 8;
const VERSION: u8 = 1;
/// Stands before the signed bytes, so that the signature is good for nothing else.
const PREFIX: &[u8] = b"shard node grant v1\n";

const READ: u8 = 1;
const REPAIR: u8 = 2;
const DELETE: u8 = 4;

/// What a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// To read, list and challenge.
    Read,
    /// To write what is missing or damaged.
    Repair,
    /// To delete, and to replace what is whole.
    Delete,
}

/// What a grant allows; reading it always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct GrantRights {
    /// Writing what is missing or damaged.
    pub repair: bool,
    /// Deleting, and replacing what is whole.
    pub delete: bool,
}

impl GrantRights {
    /// Whether this is among them.
    pub fn allow(self, right: Right) -> bool {
        match right {
            Right::Read => true,
            Right::Repair => self.repair,
            Right::Delete => self.delete,
        }
    }

    fn byte(self) -> u8 {
        READ | if self.repair { REPAIR } else { 0 } | if self.delete { DELETE } else { 0 }
    }

    fn of(byte: u8) -> Result<Self, WireError> {
        let rights = Self { repair: byte & REPAIR != 0, delete: byte & DELETE != 0 };
        let unknown = WireError::Unknown { what: "set of rights", value: u64::from(byte) };
        if rights.byte() == byte { Ok(rights) } else { Err(unknown) }
    }
}

/// Why a grant does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It was given to another.
    #[error("the grant was given to another key than the one that shows it")]
    OtherGrantee,
    /// Its time is over.
    #[error("the grant ended {0} seconds ago: its owner exports a new key with `shard key export --verify-only`")]
    Expired(u64),
    /// Its owner did not sign it.
    #[error("the grant is not signed by its owner")]
    Signature,
}

/// That one key may act for another's until some time. Whether it holds is asked with [`Self::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeGrant {
    owner: PublicKey,
    grantee: NodeId,
    rights: GrantRights,
    expires_s: u64,
    signature: Signature,
}

impl NodeGrant {
    /// The owner's word; `expires_s` are seconds since 1970.
    pub fn issue(owner: &NodeIdentity, grantee: NodeId, rights: GrantRights, expires_s: u64) -> Self {
        let key = owner.public_key();
        let mut grant = Self { owner: key, grantee, rights, expires_s, signature: Signature([0; 64]) };
        grant.signature = owner.sign(PREFIX, &grant.signed());
        grant
    }

    /// The bytes of the grant.
    pub fn to_bytes(&self) -> [u8; GRANT_BYTES] {
        let mut bytes = [0; GRANT_BYTES];
        let (signed, signature) = bytes.split_at_mut(SIGNED_BYTES);
        signed.copy_from_slice(&self.signed());
        signature.copy_from_slice(&self.signature.0);
        bytes
    }

    /// Reads them again; whether it holds is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let version = fields.u8()?;
        if version != VERSION {
            return Err(WireError::Unknown { what: "version of a grant", value: u64::from(version) });
        }
        let grant = Self {
            owner: PublicKey(fields.array()?),
            grantee: NodeId(fields.array()?),
            rights: GrantRights::of(fields.u8()?)?,
            expires_s: fields.u64()?,
            signature: Signature(fields.array()?),
        };
        fields.end()?;
        Ok(grant)
    }

    /// Whose shards it is about, if it holds.
    pub fn owner(&self) -> NodeId {
        node_id(&self.owner)
    }

    /// Who may show it.
    pub fn grantee(&self) -> NodeId {
        self.grantee
    }

    /// What it allows, if it holds.
    pub fn rights(&self) -> GrantRights {
        self.rights
    }

    /// Until when, in seconds since 1970.
    pub fn expires_s(&self) -> u64 {
        self.expires_s
    }

    /// That whoever showed it may act on the shards of [`Self::owner`] now, within [`Self::rights`].
    pub fn check(&self, shown_by: NodeId, now_s: u64) -> Result<GrantRights, GrantError> {
        if self.grantee != shown_by {
            return Err(GrantError::OtherGrantee);
        }
        if now_s > self.expires_s.saturating_add(GRANT_TOLERANCE_S) {
            return Err(GrantError::Expired(now_s - self.expires_s));
        }
        match self.owner.verifies(PREFIX, &self.signed(), &self.signature) {
            true => Ok(self.rights),
            false => Err(GrantError::Signature),
        }
    }

    fn signed(&self) -> [u8; SIGNED_BYTES] {
        let mut bytes = [0; SIGNED_BYTES];
        let parts: [&[u8]; 5] =
            [&[VERSION], &self.owner.0, &self.grantee.0, &[self.rights.byte()], &self.expires_s.to_le_bytes()];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(number: u8) -> NodeIdentity {
        NodeIdentity::from_seed(&[number; 32])
    }

    fn grant() -> NodeGrant {
        NodeGrant::issue(&owner(1), owner(2).id(), GrantRights { repair: true, delete: false }, 1000)
    }

    #[test]
    fn a_grant_holds_for_its_grantee_until_its_time_and_a_tolerance_are_over() {
        let grant = grant();
        assert_eq!(NodeGrant::parse(&grant.to_bytes()), Ok(grant.clone()));
        assert_eq!((grant.owner(), grant.grantee()), (owner(1).id(), owner(2).id()));
        for now_s in [0, 1000, 1000 + GRANT_TOLERANCE_S] {
            let rights = grant.check(owner(2).id(), now_s).expect("it holds");
            let allowed = [Right::Read, Right::Repair, Right::Delete].map(|right| rights.allow(right));
            assert_eq!(allowed, [true, true, false]);
        }
        let late = grant.check(owner(2).id(), 1001 + GRANT_TOLERANCE_S);
        assert_eq!(late, Err(GrantError::Expired(1 + GRANT_TOLERANCE_S)));
        for other in [1, 3] {
            assert_eq!(grant.check(owner(other).id(), 0), Err(GrantError::OtherGrantee));
        }
    }

    #[test]
    fn no_changed_bit_of_a_grant_is_accepted_from_anybody() {
        let bytes = grant().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            let Ok(changed) = NodeGrant::parse(&changed) else { continue };
            for shown_by in [owner(1).id(), owner(2).id(), changed.grantee()] {
                assert!(changed.check(shown_by, 0).is_err(), "bit {bit}");
            }
        }
        for length in 0..bytes.len() {
            assert!(NodeGrant::parse(&bytes[..length]).is_err());
        }
        assert_eq!(NodeGrant::parse(&[bytes.as_slice(), &[0]].concat()), Err(WireError::Trailing(1)));
    }

    #[test]
    fn what_another_signs_in_the_owners_name_does_not_hold() {
        let mut forged = NodeGrant::issue(&owner(3), owner(2).id(), GrantRights { repair: true, delete: true }, 1000);
        forged.owner = owner(1).public_key();
        assert_eq!(forged.check(owner(2).id(), 0), Err(GrantError::Signature));
        // What is signed for another purpose is no grant.
        let mut other = grant();
        other.signature = owner(1).sign(b"shard manifest v1\n", &other.signed());
        assert_eq!(other.check(owner(2).id(), 0), Err(GrantError::Signature));
    }
}
