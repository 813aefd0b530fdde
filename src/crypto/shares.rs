//! Shares of an object's secret (Shamir, "How to share a secret", 1979), over GF(2^8): any k of n give it, fewer tell
//! nothing.
//!
//! The secret is short and random, and what it opens is long: Krawczyk, "Secret sharing made short", 1993.

use super::{OpenError, SealContext, aead, context, part_key};
use crate::id::{Digest, Geometry, ObjectId};
use blahaj::{Share, Sharks};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A share's length, that of the secret.
pub const SHARE_BYTES: usize = 32;

/// The derive-key context of a share's digest.
const DIGEST_CONTEXT: &str = "shard v1 2026-11-21 key share digest";

/// Why shares give nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Fewer than k different ones.
    #[error("{present} key shares are there, {needed} are needed")]
    TooFew {
        /// How many different ones there are.
        present: usize,
        /// k.
        needed: usize,
    },
}

/// The share of one shard: the value, at the shard's index + 1, of the polynomial whose value at 0 is the secret.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeyShare {
    /// Which shard's it is.
    pub shard_index: u8,
    /// Its bytes.
    pub bytes: [u8; SHARE_BYTES],
}

impl KeyShare {
    /// What the manifest says of it: tells the right share from any other, and nothing of the secret.
    pub fn digest(&self, object: ObjectId) -> Digest {
        let material = Zeroizing::new([object.as_bytes().as_slice(), &[self.shard_index], &self.bytes].concat());
        Digest(blake3::derive_key(DIGEST_CONTEXT, &material))
    }
}

impl fmt::Debug for KeyShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyShare(secret, shard {})", self.shard_index)
    }
}

/// What the shares of an object hold: it opens the sealed part.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret {
    bytes: [u8; SHARE_BYTES],
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(secret)")
    }
}

impl SharedSecret {
    /// Seals the sealed part of an object's manifest.
    pub fn seal_part(&self, context: &SealContext, text: &[u8]) -> Vec<u8> {
        aead::seal_part(&part_key(context::DISPERSED_PART, &self.bytes, context.object), context, text)
    }

    /// Opens it again.
    pub fn open_part(&self, context: &SealContext, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        aead::open_part(&part_key(context::DISPERSED_PART, &self.bytes, context.object), context, sealed)
    }
}

/// The n shares of a secret, in the order of the shards, from the random values of the first k−1: with the secret, k points
/// that fix the polynomial.
///
/// `None` where `random` has not k−1 values.
pub fn split_secret(
    geometry: Geometry,
    secret: [u8; SHARE_BYTES],
    random: &[[u8; SHARE_BYTES]],
) -> Option<(SharedSecret, Vec<KeyShare>)> {
    if random.len() != geometry.data_shards() - 1 {
        return None;
    }
    let mut points = vec![(0, secret)];
    points.extend((1u8..).zip(random.iter().copied()));
    let share = |shard_index| KeyShare { shard_index, bytes: *value_at(shard_index + 1, &points) };
    let shares = geometry.shard_indexes().map(share).collect();
    points.iter_mut().for_each(|point| point.1.zeroize());
    Some((SharedSecret { bytes: secret }, shares))
}

/// The secret that k shares hold.
pub fn combine_shares(geometry: Geometry, shares: &[KeyShare]) -> Result<SharedSecret, ShareError> {
    let points = Zeroizing::new(enough(geometry, shares)?);
    Ok(SharedSecret { bytes: *value_at(0, &points) })
}

/// The share of a shard, from those of k others.
pub fn share_of(geometry: Geometry, shard_index: u8, shares: &[KeyShare]) -> Result<KeyShare, ShareError> {
    let points = Zeroizing::new(enough(geometry, shares)?);
    Ok(KeyShare { shard_index, bytes: *value_at(shard_index + 1, &points) })
}

/// k points of different shards.
fn enough(geometry: Geometry, shares: &[KeyShare]) -> Result<Vec<(u8, [u8; SHARE_BYTES])>, ShareError> {
    let mut points: Vec<_> = shares.iter().map(|share| (share.shard_index + 1, share.bytes)).collect();
    points.sort_unstable_by_key(|point| point.0);
    points.dedup_by_key(|point| point.0);
    points.truncate(geometry.data_shards());
    let (present, needed) = (points.len(), geometry.data_shards());
    if present < needed { Err(ShareError::TooFew { present, needed }) } else { Ok(points) }
}

/// The value at `x` of the polynomial through these points, whose places are all different.
fn value_at(x: u8, points: &[(u8, [u8; SHARE_BYTES])]) -> Zeroizing<[u8; SHARE_BYTES]> {
    if let Some(point) = points.iter().find(|point| point.0 == x) {
        return Zeroizing::new(point.1);
    }
    // In GF(2^8), p(z + x) is a polynomial of the same degree, and its value at 0 is p(x): each place moves by x.
    let moved: Vec<Share> = points
        .iter()
        .filter_map(|(place, value)| {
            let text = Zeroizing::new([&[place ^ x], value.as_slice()].concat());
            Share::try_from(text.as_slice()).ok()
        })
        .collect();
    let threshold = u8::try_from(points.len()).unwrap_or(u8::MAX);
    let value = Zeroizing::new(Sharks(threshold).recover(&moved).expect("there are as many points as are asked for"));
    Zeroizing::new(value.as_slice().try_into().expect("a value has as many bytes as each point"))
}
