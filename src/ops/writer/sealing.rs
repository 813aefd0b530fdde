//! The secrets of one object: drawn when it is begun, used for nothing else, gone with the attempt.

use crate::crypto::{DataKey, KeyShare, SharedSecret, StripeCipher, split_secret};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{PartSealer, seal_context};
use crate::id::{Digest, Geometry, ObjectId};
use crate::store::Store;
use crate::stripe::{Check, Seal, StripeEncoder, StripeShape};

/// What seals one object.
#[derive(Debug)]
pub(super) struct Sealing {
    seal: Seal,
    data_key: Option<DataKey>,
    shared: Option<(SharedSecret, Vec<KeyShare>)>,
}

impl Sealing {
    /// Draws what this seal takes.
    pub(super) fn draw(store: &Store, geometry: Geometry, seal: Seal) -> Result<Self> {
        let data_key = match seal {
            Seal::None => None,
            Seal::Key | Seal::Dispersed => Some(DataKey::from_bytes(store.random_bytes()?)),
        };
        let shared = match seal {
            Seal::None | Seal::Key => None,
            Seal::Dispersed => Some(draw_shares(store, geometry)?),
        };
        Ok(Self { seal, data_key, shared })
    }

    /// Which seal it is.
    pub(super) fn seal(&self) -> Seal {
        self.seal
    }

    /// What encodes the object's stripes, sealed where they are to be.
    pub(super) fn encoder(&self, store: &Store, object: ObjectId, shape: StripeShape, check: Check) -> StripeEncoder {
        let encoder = StripeEncoder::new(shape, object, check);
        match &self.data_key {
            Some(key) => {
                let context = seal_context(store.id(), object, &shape, self.seal);
                encoder.sealing_with(StripeCipher::new(key, &context))
            }
            None => encoder,
        }
    }

    /// The key of the stripes, for the sealed part.
    pub(super) fn data_key(&self) -> Option<DataKey> {
        self.data_key.clone()
    }

    /// What seals the sealed part.
    pub(super) fn part_sealer<'a>(&'a self, store: &'a Store) -> Result<PartSealer<'a>> {
        Ok(match (&self.shared, self.seal) {
            (Some((secret, _)), _) => PartSealer::Shared(secret),
            (None, Seal::None) => PartSealer::Nobody,
            (None, _) => PartSealer::Master(store.sealing_key()?),
        })
    }

    /// The digest of each shard's key share, in the order of the shards.
    pub(super) fn share_digests(&self, object: ObjectId) -> Vec<Digest> {
        self.shares().iter().map(|share| share.digest(object)).collect()
    }

    /// The key shares, in the order of the shards; none where the seal has none.
    pub(super) fn shares(&self) -> &[KeyShare] {
        self.shared.as_ref().map_or(&[], |(_, shares)| shares)
    }
}

fn draw_shares(store: &Store, geometry: Geometry) -> Result<(SharedSecret, Vec<KeyShare>)> {
    let random: Vec<_> = (1..geometry.data_shards()).map(|_| store.random_bytes()).collect::<Result<_>>()?;
    let refused = || Error::new(ErrorKind::Invalid, "the secret of an object cannot be shared");
    split_secret(geometry, store.random_bytes()?, &random).ok_or_else(refused)
}
