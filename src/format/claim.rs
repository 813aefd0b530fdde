//! What a file says of itself: which shard it may be, whatever it is called. Nothing of that is trusted: it only says where
//! a reader, which trusts signatures and leaves alone, is to look.

use super::header::{FORMAT_VERSION, Header, MAGIC};
use super::shard_file::leaves_of;
use super::trailer::{TRAILER_BYTES, Trailer};
use crate::id::{Digest, MAX_TOTAL_SHARDS, ObjectId, ShardId, StoreId};
use crate::merkle;
use serde::Deserialize;

/// Where the shard's root stands in the trailer, damaged or not.
const ROOT_IN_TRAILER: std::ops::Range<usize> = 40..40 + Digest::BYTES;
/// At most so many places that look like the beginning of a manifest are tried.
const MAX_OPENINGS: usize = 4;
/// The most leaves that are hashed to find out which shard a file is: those of an object of 1 GiB in blocks of 16 KiB.
const MAX_CLAIM_LEAVES: u64 = 64 * 1024;

/// The manifest in the end of a file, as far as it says which shard the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Whose object it says it is.
    pub store: StoreId,
    object: ObjectId,
    stripes: u64,
    shard_roots: Vec<Digest>,
    /// How far from the file's end the manifest begins, in bytes.
    from_end: u64,
    index: Option<u8>,
}

/// The fields of a manifest's public part that matter here.
#[derive(Deserialize)]
struct Said {
    store: StoreId,
    object: ObjectId,
    stripes: u64,
    shard_roots: Vec<Digest>,
}

/// Which shards a file may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Each once; none where nothing is said.
    pub shards: Vec<ShardId>,
    /// Header and manifest say the same.
    pub agree: bool,
}

/// Whether bytes begin, or the last ones end, as those of a shard file do.
pub fn has_magic(head: &[u8], end: &[u8]) -> bool {
    head.starts_with(&MAGIC) || end.ends_with(&MAGIC)
}

impl Ending {
    /// The manifest in the last bytes of a file: where the trailer says, else where something looks like one.
    pub fn find(end: &[u8]) -> Option<Self> {
        Self::by_trailer(end).or_else(|| Self::by_look(end))
    }

    fn by_trailer(end: &[u8]) -> Option<Self> {
        let trailer = Trailer::from_bytes(end.get(end.len().checked_sub(TRAILER_BYTES)?..)?).ok()?;
        let manifest_bytes = usize::try_from(trailer.lengths.manifest()?).ok()?;
        let start = end.len().checked_sub(manifest_bytes.checked_add(TRAILER_BYTES)?)?;
        let public_bytes = usize::try_from(trailer.lengths.public).ok()?;
        let said = serde_json::from_slice(end.get(start..start.checked_add(public_bytes)?)?).ok()?;
        Some(Self::new(said, end, start))
    }

    fn by_look(end: &[u8]) -> Option<Self> {
        let opening = format!("{{\"format\":{FORMAT_VERSION},");
        let starts = end.windows(opening.len()).enumerate().filter(|(_, window)| *window == opening.as_bytes());
        starts.take(MAX_OPENINGS).find_map(|(start, _)| {
            let said = serde_json::Deserializer::from_slice(&end[start..]).into_iter::<Said>().next()?.ok()?;
            Some(Self::new(said, end, start))
        })
    }

    fn new(said: Said, end: &[u8], start: usize) -> Self {
        let Said { store, object, stripes, mut shard_roots } = said;
        shard_roots.truncate(MAX_TOTAL_SHARDS);
        let trailer = &end[end.len().saturating_sub(TRAILER_BYTES)..];
        let root = trailer.get(ROOT_IN_TRAILER).and_then(Digest::from_slice);
        let is_its = |(_, other): &(u8, &Digest)| root.as_ref() == Some(*other);
        let index = (0..=u8::MAX).zip(&shard_roots).find(is_its).map(|(index, _)| index);
        Self { store, object, stripes, shard_roots, from_end: (end.len() - start) as u64, index }
    }

    /// Where in a file of this length the leaves are that would tell which shard it is, where nothing else does and they
    /// are not too many.
    pub fn telling_leaves(&self, file_bytes: u64) -> Option<std::ops::Range<u64>> {
        let end = file_bytes.checked_sub(self.from_end)?;
        let wanted = self.index.is_none() && self.stripes <= MAX_CLAIM_LEAVES;
        let start = end.checked_sub(self.stripes.checked_mul(Digest::BYTES as u64)?)?;
        wanted.then_some(start..end)
    }

    /// Takes the shard's leaves, which tell which one it is.
    pub fn with_leaves(mut self, leaves_section: &[u8]) -> Self {
        let leaves = leaves_of(leaves_section);
        let object = self.object;
        let shard_root = merkle::shard_root_at(object, &leaves);
        let gives = |(index, root): &(u8, &Digest)| shard_root(*index) == **root;
        self.index = (0..=u8::MAX).zip(&self.shard_roots).find(gives).map(|(index, _)| index);
        self
    }

    /// The shard it says; every shard of the object where it does not say which.
    fn shards(&self) -> Vec<ShardId> {
        let object = self.object;
        match self.index {
            Some(index) => vec![ShardId { object, index }],
            None => (0..=u8::MAX).zip(&self.shard_roots).map(|(index, _)| ShardId { object, index }).collect(),
        }
    }
}

/// What the first 64 bytes and the ending say together. Both count: either may be damaged or another's.
pub fn claims(head: &[u8], ending: Option<&Ending>) -> Claims {
    let header = Header::from_bytes(head).ok();
    let header = header.map(|header| ShardId { object: header.object, index: header.shard_index });
    let mut shards: Vec<ShardId> = header.into_iter().collect();
    let mut agree = false;
    if let Some(ending) = ending {
        let others = ending.shards();
        agree = header.is_some_and(|header| others.contains(&header));
        if !agree {
            shards.extend(others);
        }
    }
    Claims { shards, agree }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Geometry;

    const OBJECT: ObjectId = ObjectId([7; 16]);

    fn leaves(index: u8) -> Vec<Digest> {
        vec![Digest([index; 32]), Digest([index.wrapping_add(100); 32])]
    }

    fn root(index: u8) -> Digest {
        merkle::shard_root(OBJECT, index, &leaves(index))
    }

    fn shard(index: u8) -> ShardId {
        ShardId { object: OBJECT, index }
    }

    fn head(index: u8) -> [u8; 64] {
        let geometry = Geometry::new(2, 3).expect("a geometry");
        Header { object: OBJECT, shard_index: index, geometry, block_bytes: 1024 }.to_bytes()
    }

    /// Leaves, a public part with more in it than is looked at, a signature, a trailer.
    fn end(index: u8) -> Vec<u8> {
        let roots: Vec<Digest> = (0..3).map(root).collect();
        let public = serde_json::json!({"object": OBJECT, "stripes": 2, "shard_roots": roots, "store": StoreId([1; 32]),
            "unknown": "…"});
        let public = public.to_string().replacen('{', "{\"format\":1,", 1).into_bytes();
        let mut bytes: Vec<u8> = leaves(index).iter().flat_map(|leaf| leaf.0).collect();
        let lengths = super::super::SectionLengths {
            leaves: bytes.len() as u64,
            public: public.len() as u64,
            signature: 64,
            sealed: 0,
            share: 0,
        };
        bytes.extend(public);
        bytes.extend([9; 64]);
        let trailer = Trailer { lengths, shard_root: root(index), manifest_hash: Digest([0; 32]) };
        bytes.extend(trailer.to_bytes());
        bytes
    }

    #[test]
    fn header_and_trailer_each_say_which_shard_a_file_is() {
        let whole = Ending::find(&end(2));
        assert_eq!(claims(&head(2), whole.as_ref()), Claims { shards: vec![shard(2)], agree: true });
        assert_eq!(claims(&[0; 64], whole.as_ref()).shards, [shard(2)]);
        assert_eq!(claims(&head(1), None), Claims { shards: vec![shard(1)], agree: false });
        assert_eq!(claims(&[0; 64], None), Claims::default());
    }

    #[test]
    fn where_they_contradict_each_other_both_count() {
        let ending = Ending::find(&end(2));
        assert_eq!(claims(&head(0), ending.as_ref()).shards, [shard(0), shard(2)]);
    }

    #[test]
    fn a_damaged_trailer_still_has_the_root_and_without_that_the_leaves_say_it() {
        let mut damaged = end(1);
        let trailer = damaged.len() - TRAILER_BYTES;
        damaged[trailer] ^= 1;
        assert_eq!(claims(&[0; 64], Ending::find(&damaged).as_ref()).shards, [shard(1)]);
        damaged[trailer + 40] ^= 1;
        let ending = Ending::find(&damaged).expect("it looks like a manifest");
        let section = ending.telling_leaves(1000 + damaged.len() as u64).expect("leaves tell");
        assert_eq!(section, 1000..1064);
        assert_eq!(claims(&[0; 64], Some(&ending)).shards, [shard(0), shard(1), shard(2)], "it may be any");
        assert_eq!(claims(&head(2), Some(&ending)).shards, [shard(2)], "the header says which");
        let ending = ending.with_leaves(&damaged[..64]);
        assert_eq!(claims(&[0; 64], Some(&ending)).shards, [shard(1)]);
    }

    fn with_roots(roots: Vec<Digest>, stripes: u64) -> Ending {
        let said = Said { store: StoreId([1; 32]), object: OBJECT, stripes, shard_roots: roots };
        Ending::new(said, &[0; TRAILER_BYTES], 0)
    }

    #[test]
    fn as_many_roots_as_an_object_can_have_and_more_are_looked_through_to_the_last() {
        for count in [MAX_TOTAL_SHARDS, MAX_TOTAL_SHARDS + 1, 1000] {
            let ending = with_roots(vec![Digest([5; 32]); count], 2);
            assert_eq!(claims(&[0; 64], Some(&ending)).shards.len(), MAX_TOTAL_SHARDS, "{count}");
            assert_eq!(ending.with_leaves(&[0; 64]).index, None, "{count}");
        }
        let last = MAX_TOTAL_SHARDS as u8 - 1;
        let mut roots = vec![Digest([5; 32]); MAX_TOTAL_SHARDS];
        roots[usize::from(last)] = root(last);
        let section: Vec<u8> = leaves(last).iter().flat_map(|leaf| leaf.0).collect();
        assert_eq!(with_roots(roots, 2).with_leaves(&section).shards(), [shard(last)]);
    }

    #[test]
    fn lengths_that_make_no_sense_are_no_ending() {
        for length in 0..200 {
            assert_eq!(Ending::find(&vec![0x7b; length]), None);
        }
        let whole = end(0);
        let ending = Ending::find(&whole[64..]).expect("all but the leaves is there");
        let unsure = Ending { index: None, stripes: u64::MAX, ..ending };
        assert_eq!(unsure.telling_leaves(1 << 40), None);
        assert_eq!(Ending { stripes: 2, ..unsure }.telling_leaves(3), None);
    }

    #[test]
    fn either_end_of_a_file_shows_what_it_is() {
        let file = [&head(1)[..], &end(1)].concat();
        assert!(has_magic(&file[..64], &[]) && has_magic(&[], &file[64..]) && has_magic(&file[..64], &file[64..]));
        assert!(!has_magic(&file[1..64], &file[..file.len() - 1]) && !has_magic(&[], &[]));
    }

    /// What looks like the manifest of another object.
    fn another() -> Vec<u8> {
        let said = serde_json::json!({"object": ObjectId([8; 16]), "stripes": 2, "shard_roots": [root(0)],
            "store": StoreId([1; 32])});
        said.to_string().replacen('{', "{\"format\":1,", 1).into_bytes()
    }

    #[test]
    fn what_the_trailer_points_to_counts_before_what_looks_like_a_manifest() {
        let mut both = [another(), end(2)].concat();
        assert_eq!(Ending::find(&both).expect("a manifest").shards(), [shard(2)]);
        let checksum = both.len() - 12;
        both[checksum] ^= 1;
        assert_eq!(Ending::find(&both).expect("another's").object, ObjectId([8; 16]));
    }

    #[test]
    fn a_few_false_beginnings_are_passed_over_and_many_are_not() {
        let damaged = |false_beginnings: usize| {
            let mut bytes = [b"{\"format\":1,".repeat(false_beginnings), end(1)].concat();
            let checksum = bytes.len() - 12;
            bytes[checksum] ^= 1;
            Ending::find(&bytes).map(|ending| ending.shards())
        };
        assert_eq!(damaged(MAX_OPENINGS - 1), Some(vec![shard(1)]));
        assert_eq!(damaged(MAX_OPENINGS), None);
    }

    #[test]
    fn leaves_are_asked_where_nothing_else_tells_and_they_are_not_too_many() {
        let known = Ending::find(&end(1)).expect("a manifest");
        assert_eq!(known.telling_leaves(1 << 40), None, "the trailer tells");
        let unsure = |stripes| Ending { index: None, stripes, ..known.clone() };
        assert_eq!(MAX_CLAIM_LEAVES * 16 * 1024, 1 << 30, "an object of 1 GiB in blocks of 16 KiB");
        let section = unsure(MAX_CLAIM_LEAVES).telling_leaves(1 << 40).expect("leaves tell");
        assert_eq!(section.end - section.start, MAX_CLAIM_LEAVES * Digest::BYTES as u64);
        assert_eq!(section.end, (1 << 40) - known.from_end);
        assert_eq!(unsure(MAX_CLAIM_LEAVES + 1).telling_leaves(1 << 40), None, "too many");
        assert_eq!(unsure(2).telling_leaves(known.from_end + 64), Some(0..64), "they are the whole of the rest");
        assert_eq!(unsure(2).telling_leaves(known.from_end + 63), None, "there is not so much");
    }
}
