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
    mut secret: [u8; SHARE_BYTES],
    random: &[[u8; SHARE_BYTES]],
) -> Option<(SharedSecret, Vec<KeyShare>)> {
    let shared = SharedSecret { bytes: secret };
    secret.zeroize();
    if random.len() != geometry.data_shards() - 1 {
        return None;
    }
    // Grown once, so that no copy is left behind by growing.
    let mut points = Zeroizing::new(Vec::with_capacity(geometry.data_shards()));
    points.push((0, shared.bytes));
    points.extend((1u8..).zip(random.iter().copied()));
    let share = |shard_index| KeyShare { shard_index, bytes: *value_at(shard_index + 1, &points) };
    let shares = geometry.shard_indexes().map(share).collect();
    Some((shared, shares))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{RedundancyLevel, StoreId};

    const SECRET: [u8; SHARE_BYTES] = [0xA5; SHARE_BYTES];

    /// What stands for random bytes here.
    fn noise(label: u8, number: usize) -> [u8; SHARE_BYTES] {
        *blake3::hash(&[label, number as u8]).as_bytes()
    }

    fn shares(geometry: Geometry) -> Vec<KeyShare> {
        let random: Vec<_> = (1..geometry.data_shards()).map(|number| noise(7, number)).collect();
        split_secret(geometry, SECRET, &random).expect("k−1 values").1
    }

    fn subsets(shares: &[KeyShare], count: usize) -> impl Iterator<Item = Vec<KeyShare>> + '_ {
        let sets = (0..1_usize << shares.len()).filter(move |set| set.count_ones() as usize == count);
        sets.map(move |set| {
            (0..).zip(shares).filter(|(i, _)| set >> i & 1 == 1).map(|(_, share)| share.clone()).collect()
        })
    }

    #[test]
    fn any_k_shares_give_the_secret_and_every_other_share() {
        let mut subset_count = 0;
        for level in RedundancyLevel::NAMED {
            let geometry = level.geometry();
            let all = shares(geometry);
            for some in subsets(&all, geometry.data_shards()) {
                assert_eq!(combine_shares(geometry, &some).expect("k shares").bytes, SECRET);
                let lost = all[subset_count % all.len()].clone();
                assert_eq!(share_of(geometry, lost.shard_index, &some).expect("k shares").bytes, lost.bytes);
                subset_count += 1;
            }
        }
        assert_eq!(subset_count, 3 + 10 + 126 + 6435);
    }

    /// With any k−1 shares, every value of a secret byte goes with exactly one value of each other share: whoever has only
    /// those can rule out nothing.
    #[test]
    fn fewer_than_k_shares_leave_every_secret_equally_possible() {
        let mut subset_count = 0;
        for level in RedundancyLevel::NAMED {
            let geometry = level.geometry();
            let all = shares(geometry);
            for some in subsets(&all, geometry.data_shards() - 1) {
                assert_eq!(
                    combine_shares(geometry, &some).err(),
                    Some(ShareError::TooFew { present: some.len(), needed: some.len() + 1 })
                );
                let mut points: Vec<_> = some.iter().map(|share| (share.shard_index + 1, share.bytes)).collect();
                let other = all.iter().find(|share| points.iter().all(|point| point.0 != share.shard_index + 1));
                let place = other.expect("a share that is not among them").shard_index + 1;
                // Byte b of the secret tries the values 8b to 8b + 7: all bytes together, every value once.
                let mut other_values = std::collections::BTreeSet::new();
                for value in 0..8u8 {
                    points.push((0, std::array::from_fn(|byte| byte as u8 * 8 + value)));
                    let there = value_at(place, &points);
                    points.pop();
                    for (byte, one) in there.iter().enumerate() {
                        other_values.insert((byte, *one));
                    }
                }
                assert_eq!(other_values.len(), 256, "no two secrets go with one value");
                subset_count += 1;
            }
        }
        assert_eq!(subset_count, 3 + 10 + 126 + 5005);
    }

    #[test]
    fn a_share_is_told_from_any_other_by_its_digest() {
        let share = &shares(Geometry::new(3, 5).expect("geometry"))[1];
        let object = ObjectId([1; 16]);
        let digest = share.digest(object);
        assert_ne!(digest, share.digest(ObjectId([2; 16])));
        assert_ne!(digest, KeyShare { shard_index: 2, bytes: share.bytes }.digest(object));
        for bit in 0..SHARE_BYTES * 8 {
            let mut flipped = share.clone();
            flipped.bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(flipped.digest(object), digest, "bit {bit}");
        }
        assert_eq!(format!("{share:?}"), "KeyShare(secret, shard 1)");
    }

    #[test]
    fn the_widest_geometry_shares_too_and_a_part_opens_under_its_own_secret_alone() {
        let geometry = Geometry::new(200, 255).expect("geometry");
        let random: Vec<_> = (1..200).map(|number| noise(9, number)).collect();
        let (secret, shares) = split_secret(geometry, SECRET, &random).expect("k−1 values");
        let again = combine_shares(geometry, &shares[55..]).expect("k shares");
        let context =
            SealContext { store: StoreId([1; 32]), object: ObjectId([2; 16]), geometry, block_bytes: 64, seal: 2 };
        let sealed = secret.seal_part(&context, b"text");
        assert_eq!(again.open_part(&context, &sealed).expect("it opens").as_slice(), b"text");
        let other = SharedSecret { bytes: [0; SHARE_BYTES] };
        assert_eq!(other.open_part(&context, &sealed).err(), Some(OpenError));
        assert!(split_secret(geometry, SECRET, &random[1..]).is_none());
    }
}
