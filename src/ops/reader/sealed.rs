//! What opens an object: its sealed part, and the key of its stripes in it; found once, when it is first needed.
//!
//! Under the seal `dispersed` that takes the key shares of any k shards, each checked against the signed manifest.

use super::place::Place;
use super::{ObjectReader, ReadError, Shared};
use crate::crypto::{KeyShare, SharedSecret, StripeCipher, combine_shares, share_of};
use crate::format::{PartOpener, SealedPart};
use crate::stripe::Seal;
use futures_util::future;
use std::collections::BTreeMap;

/// What opens an object.
#[derive(Debug)]
pub(super) struct Opened {
    part: SealedPart,
    cipher: Option<StripeCipher>,
}

impl Opened {
    /// What opens its stripes; `None` where they are not sealed.
    pub(super) fn cipher(&self) -> Option<&StripeCipher> {
        self.cipher.as_ref()
    }
}

impl ObjectReader {
    /// Where the index is and when the object was made. [`ReadError::Manifest`] where what would open it is not here.
    pub async fn sealed_part(&self) -> Result<&SealedPart, ReadError> {
        Ok(&self.shared.opened().await?.part)
    }

    /// The key share of a shard, from its own place or from those of k others; `None` where the seal has none. One that was
    /// made of others is still to be held against the manifest.
    ///
    /// [`ReadError::Shares`] where too few are left.
    pub async fn key_share(&self, shard_index: u8) -> Result<Option<KeyShare>, ReadError> {
        let (shared, manifest) = (&self.shared, self.manifest());
        if manifest.share_digests().get(usize::from(shard_index)).is_none() {
            return Ok(None);
        }
        for place in shared.places.iter().filter(|place| place.at.index == shard_index) {
            if let Some(share) = shared.share_at(place).await {
                return Ok(Some(share));
            }
        }
        let shares = shared.enough_shares().await?;
        let made = share_of(manifest.geometry(), shard_index, &shares);
        made.map(Some).map_err(|_| shared.too_few_shares(shares.len()))
    }
}

impl Shared {
    pub(super) async fn opened(&self) -> Result<&Opened, ReadError> {
        self.opened.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<Opened, ReadError> {
        let object = self.manifest.object();
        let secret = match self.manifest.seal() {
            Seal::Dispersed => Some(self.shared_secret().await?),
            Seal::None | Seal::Key | Seal::Recipient => None,
        };
        let opener = match (&secret, self.keys.as_deref()) {
            (Some(secret), _) => PartOpener::Shared(secret),
            (None, Some(keys)) => PartOpener::Keys(keys),
            (None, None) => PartOpener::Nobody,
        };
        let part = self.manifest.sealed_part(opener).map_err(|source| ReadError::Manifest { object, source })?;
        Ok(Opened { cipher: self.manifest.stripe_cipher(&part), part })
    }

    async fn shared_secret(&self) -> Result<SharedSecret, ReadError> {
        let shares = self.enough_shares().await?;
        combine_shares(self.manifest.geometry(), &shares).map_err(|_| self.too_few_shares(shares.len()))
    }

    /// The key shares of k different shards; as many places are asked at once as shares are still wanted.
    async fn enough_shares(&self) -> Result<Vec<KeyShare>, ReadError> {
        let needed = self.data_shards();
        let mut shares: BTreeMap<u8, KeyShare> = BTreeMap::new();
        let mut places = self.places.iter();
        while shares.len() < needed {
            let asked: Vec<&Place> = places.by_ref().take(needed - shares.len()).collect();
            if asked.is_empty() {
                return Err(self.too_few_shares(shares.len()));
            }
            let found = future::join_all(asked.into_iter().map(|place| self.share_at(place))).await;
            shares.extend(found.into_iter().flatten().map(|share| (share.shard_index, share)));
        }
        Ok(shares.into_values().collect())
    }

    /// The key share in one place, if it is there and the right one.
    async fn share_at(&self, place: &Place) -> Option<KeyShare> {
        let bytes = place.section(self.file_layout.share()).await?;
        let share = self.manifest.key_share(place.at.index, &bytes);
        if share.is_none() {
            place.note_flaw();
        }
        share
    }

    fn too_few_shares(&self, good: usize) -> ReadError {
        let unreachable = self.places.iter().filter(|place| place.is_unreachable()).count();
        ReadError::Shares { object: self.manifest.object(), good, needed: self.data_shards(), unreachable }
    }
}
