//! The secrets of one object: drawn when it is begun, used for nothing else, gone with the attempt.

use super::ObjectOptions;
use crate::crypto::{
    DataKey, KeyShare, RECIPIENT_RANDOM_BYTES, RecipientKey, SHARE_BYTES, SharedSecret, StripeCipher, TAG_BYTES,
    combine_shares, share_of, split_secret,
};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Manifest, PartOpener, PartSealer, seal_context};
use crate::id::{Digest, Geometry, ObjectId};
use crate::store::{Held, Store};
use crate::stripe::{Check, Seal, StripeEncoder, StripeShape};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What seals one object.
#[derive(Debug)]
pub(super) struct Sealing {
    seal: Seal,
    data_key: Option<DataKey>,
    part: PartSecret,
}

/// What seals the sealed part of one object.
#[derive(Debug)]
enum PartSecret {
    Nothing,
    MasterKey,
    Shared(SharedSecret, Vec<KeyShare>),
    Recipient(Arc<RecipientKey>, Box<Zeroizing<[u8; RECIPIENT_RANDOM_BYTES]>>),
}

impl Sealing {
    /// Draws what sealing takes. With the seal `recipient` and without one it is the public half of the store's own key.
    pub(super) fn draw(store: &Store, options: &ObjectOptions) -> Result<Self> {
        let data_key = match options.seal {
            Seal::None => None,
            Seal::Key | Seal::Dispersed | Seal::Recipient => Some(DataKey::from_bytes(**draw_secret(store)?)),
        };
        let part = match options.seal {
            Seal::None => PartSecret::Nothing,
            Seal::Key => {
                // Before anything is written, where there is none.
                store.sealing_key()?;
                PartSecret::MasterKey
            }
            Seal::Dispersed => draw_shares(store, options.geometry)?,
            Seal::Recipient => {
                let recipient = match &options.recipient {
                    Some(recipient) => recipient,
                    None => store.recipient()?,
                };
                refuse_foreign(store, recipient)?;
                let recipient = Arc::clone(recipient);
                PartSecret::Recipient(recipient, draw_secret(store)?)
            }
        };
        Ok(Self { seal: options.seal, data_key, part })
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
        Ok(match &self.part {
            PartSecret::Nothing => PartSealer::Nobody,
            PartSecret::MasterKey => PartSealer::Master(store.sealing_key()?),
            PartSecret::Shared(secret, _) => PartSealer::Shared(secret),
            PartSecret::Recipient(recipient, random) => PartSealer::Recipient(recipient, random),
        })
    }

    /// Which master key the manifest names.
    pub(super) fn key_id(&self, store: &Store) -> Result<Digest> {
        match &self.part {
            PartSecret::Recipient(recipient, _) => Ok(recipient.key_id()),
            _ => store.recipient().map(|recipient| recipient.key_id()),
        }
    }

    /// Proves that the object can be opened: that the key which the manifest names opens what it sealed, and that what is in
    /// there is the key which sealed the stripes. No look at the shards would find a key that changed in memory.
    ///
    /// A machine that cannot open what it puts proves nothing of that.
    pub(super) fn prove(
        &self,
        store: &Store,
        manifest: &Manifest,
        key_fingerprint: Option<[u8; TAG_BYTES]>,
    ) -> Result<()> {
        let combined = self.combined(manifest.geometry(), manifest.object());
        let opener = match &self.part {
            PartSecret::Nothing => PartOpener::Nobody,
            PartSecret::MasterKey if store.sealing_key()?.key_id() != manifest.key_id() => return Err(key_changed()),
            PartSecret::Shared(..) => PartOpener::Shared(combined.as_ref().ok_or_else(key_changed)?),
            PartSecret::Recipient(..) if store.access().key(&manifest.key_id()).is_none() => return Ok(()),
            PartSecret::MasterKey | PartSecret::Recipient(..) => PartOpener::Keys(store.access()),
        };
        let sealed = manifest.sealed_part(opener).map_err(|error| key_changed().with_source(error))?;
        let opens = manifest.stripe_cipher(&sealed).map(|cipher| cipher.fingerprint());
        if opens == key_fingerprint { Ok(()) } else { Err(key_changed()) }
    }

    /// What the first k shares give back, where every other is the one that follows from these.
    fn combined(&self, geometry: Geometry, object: ObjectId) -> Option<SharedSecret> {
        let (first, rest) = self.shares().split_at_checked(geometry.data_shards())?;
        let follows = |share: &KeyShare| {
            let it = share_of(geometry, share.shard_index, first);
            it.is_ok_and(|it| it.digest(object) == share.digest(object))
        };
        rest.iter().all(follows).then(|| combine_shares(geometry, first).ok()).flatten()
    }

    /// The digest of each shard's key share, in the order of the shards.
    pub(super) fn share_digests(&self, object: ObjectId) -> Vec<Digest> {
        self.shares().iter().map(|share| share.digest(object)).collect()
    }

    /// The key shares, in the order of the shards; none where the seal has none.
    pub(super) fn shares(&self) -> &[KeyShare] {
        match &self.part {
            PartSecret::Shared(_, shares) => shares,
            _ => &[],
        }
    }
}

fn key_changed() -> Error {
    let doing = "a key changed in memory while the object was sealed: this machine's memory is at fault";
    Error::new(ErrorKind::Memory, doing)
}

/// Random bytes where they stay, so that moving them leaves no copy.
fn draw_secret<const N: usize>(store: &Store) -> Result<Box<Zeroizing<[u8; N]>>> {
    let mut secret = Box::new(Zeroizing::new([0; N]));
    store.fill_secret(secret.as_mut_slice())?;
    Ok(secret)
}

/// What another store's key opens would be signed by this one, and so trusted by nobody who could open it. A file that only
/// says it is of this store's key is no better: the key itself is compared with those that are known here.
fn refuse_foreign(store: &Store, recipient: &RecipientKey) -> Result<()> {
    let of_key = store.access().key(&recipient.key_id()).map(|key| key.recipient(store.id()));
    let own = of_key.as_ref().or(store.recipient().ok().map(Arc::as_ref));
    if own == Some(recipient) {
        return Ok(());
    }
    let (of, key_id) = (recipient.store(), recipient.key_id());
    let doing = match store.held() {
        Held::WriteOnly => format!("this machine seals to its own key alone, not to {key_id} of store {of}"),
        _ => format!("the recipient is of store {of}, and this store has no key {key_id} with that public half"),
    };
    let hint = match store.held() {
        Held::WriteOnly => "leave --recipient out, or import a new write-only key: `shard key export --write-only`",
        _ => "`shard key recipient new` makes one of this store",
    };
    Err(Error::new(ErrorKind::Invalid, doing).with_hint(hint))
}

fn draw_shares(store: &Store, geometry: Geometry) -> Result<PartSecret> {
    let mut random = Zeroizing::new(vec![[0; SHARE_BYTES]; geometry.data_shards() - 1]);
    random.iter_mut().try_for_each(|share| store.fill_secret(share))?;
    let refused = || Error::new(ErrorKind::Invalid, "the secret of an object cannot be shared");
    let (secret, shares) = split_secret(geometry, **draw_secret(store)?, &random).ok_or_else(refused)?;
    Ok(PartSecret::Shared(secret, shares))
}

#[cfg(test)]
impl Sealing {
    /// A bit of the key of the stripes flips in memory.
    pub(super) fn flip_data_key(&mut self, bit: usize) {
        let mut bytes = *self.data_key.as_ref().expect("it is sealed").as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.data_key = Some(DataKey::from_bytes(bytes));
    }

    /// A bit of a key share flips in memory.
    pub(super) fn flip_share(&mut self, index: usize, bit: usize) {
        if let PartSecret::Shared(_, shares) = &mut self.part {
            shares[index].bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
