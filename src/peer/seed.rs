//! The seed that a group of nodes shares: who has it may talk to them.

use crate::crypto::{base32, from_base32};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How many seeds a node holds at most: the one in use, and another while a group changes its seed.
pub const MAX_SEEDS: usize = 2;
/// A text that is longer than this is no seed, and is not read.
pub const MAX_SEED_TEXT_BYTES: usize = 1024;

/// A file with seeds that is longer than this is none, and is not read.
pub const MAX_SEED_FILE_BYTES: usize = (MAX_SEED_TEXT_BYTES + 1) * MAX_SEEDS;

/// What the text of a seed begins with.
const PREFIX: &str = "SHARD-SEED-1";
const SEED_BYTES: usize = 32;
/// What stands behind the seed, to find a typing error.
const CHECK_BYTES: usize = 8;
/// Characters that are written without a space between.
const WORD_CHARACTERS: usize = 4;

/// Each purpose has a key of its own.
mod context {
    pub(super) const AUTHORITY: &str = "shard v1 2026-11-21 group authority key";
    pub(super) const SESSION: &str = "shard v1 2026-11-21 group session key";
    pub(super) const CHECK: &str = "shard v1 2026-11-21 group seed check";
}

/// Why a text is no seed. Nothing of it is quoted: it is secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// It does not begin as the text of a seed does.
    #[error("this is not the seed of a group: it begins with {PREFIX}")]
    NoSeed,
    /// A character is wrong, missing or too many.
    #[error("the seed has a typing error")]
    Mistyped,
    /// More seeds than a node may hold, or none.
    #[error("a node holds one seed, or {MAX_SEEDS} while the group changes its seed, and not {0}")]
    Count(usize),
    /// The same seed twice.
    #[error("this seed is there already")]
    Twice,
}

/// 256 random bits that admit to a group of nodes. Never a passphrase: nothing here makes guessing slow.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct GroupSeed {
    bytes: [u8; SEED_BYTES],
}

impl GroupSeed {
    /// From 32 random bytes, which the caller draws and then wipes; the copy that is handed over is wiped here.
    pub fn from_bytes(mut bytes: [u8; SEED_BYTES]) -> Self {
        let seed = Self { bytes };
        bytes.zeroize();
        seed
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; SEED_BYTES] {
        &self.bytes
    }

    /// The seed and its check as words of four characters.
    pub fn to_text(&self) -> Zeroizing<String> {
        let checked = Zeroizing::new([self.bytes.as_slice(), &self.check()].concat());
        let characters = base32(&checked);
        // Grown once, so that no copy is left behind by growing.
        let room = PREFIX.len() + characters.len() + characters.len() / WORD_CHARACTERS + 1;
        let mut text = Zeroizing::new(String::with_capacity(room));
        text.push_str(PREFIX);
        for (at, character) in characters.chars().enumerate() {
            if at % WORD_CHARACTERS == 0 {
                text.push(' ');
            }
            text.push(character);
        }
        text
    }

    /// Reads the text again, however a person typed it: case, spaces and line ends do not matter.
    pub fn parse(text: &str) -> Result<Self, SeedError> {
        let text = text.trim();
        if !begins(text) || text.len() > MAX_SEED_TEXT_BYTES {
            return Err(SeedError::NoSeed);
        }
        let bytes = from_base32(&text[PREFIX.len()..]).ok_or(SeedError::Mistyped)?;
        let (seed, check) = bytes.split_first_chunk::<SEED_BYTES>().ok_or(SeedError::Mistyped)?;
        let seed = Self::from_bytes(*seed);
        verify_slices_are_equal(&seed.check(), check).map_err(|_| SeedError::Mistyped)?;
        Ok(seed)
    }

    /// Signs the certificates of the group's nodes.
    pub(super) fn authority_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context::AUTHORITY, &self.bytes))
    }

    /// Proves to a node of the group that one has the seed, in one session.
    pub(super) fn session_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context::SESSION, &self.bytes))
    }

    fn check(&self) -> [u8; CHECK_BYTES] {
        let digest = blake3::derive_key(context::CHECK, &self.bytes);
        digest[..CHECK_BYTES].try_into().expect("a digest is longer")
    }
}

fn begins(text: &str) -> bool {
    text.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// In constant time.
impl PartialEq for GroupSeed {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.bytes, &other.bytes).is_ok()
    }
}

impl Eq for GroupSeed {}

impl fmt::Debug for GroupSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupSeed(secret)")
    }
}

/// The seeds that a node accepts. The first is the group's; another is there while the group changes from one to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedRing {
    seeds: Vec<GroupSeed>,
}

impl SeedRing {
    /// One seed.
    pub fn new(seed: GroupSeed) -> Self {
        Self { seeds: vec![seed] }
    }

    /// At least one and at most [`MAX_SEEDS`], none of them twice.
    pub fn from_seeds(seeds: Vec<GroupSeed>) -> Result<Self, SeedError> {
        if seeds.is_empty() || seeds.len() > MAX_SEEDS {
            return Err(SeedError::Count(seeds.len()));
        }
        let is_twice = seeds.iter().enumerate().any(|(at, seed)| seeds[..at].contains(seed));
        if is_twice { Err(SeedError::Twice) } else { Ok(Self { seeds }) }
    }

    /// Reads the texts of seeds one after another, each beginning on a line of its own.
    pub fn parse(text: &str) -> Result<Self, SeedError> {
        if text.len() > MAX_SEED_FILE_BYTES {
            return Err(SeedError::NoSeed);
        }
        let mut texts: Vec<Zeroizing<String>> = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if begins(line.trim_start()) {
                // Room at once for all of it, so that no copy is left behind by growing.
                texts.push(Zeroizing::new(String::with_capacity(text.len())));
            }
            let seed = texts.last_mut().ok_or(SeedError::NoSeed)?;
            seed.push_str(line);
            seed.push(' ');
            if texts.len() > MAX_SEEDS {
                return Err(SeedError::Count(texts.len()));
            }
        }
        Self::from_seeds(texts.iter().map(|text| GroupSeed::parse(text)).collect::<Result<_, _>>()?)
    }

    /// The texts of the seeds, each on a line of its own.
    pub fn to_text(&self) -> Zeroizing<String> {
        // Grown once, so that no copy is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(MAX_SEED_FILE_BYTES));
        for seed in &self.seeds {
            text.push_str(&seed.to_text());
            text.push('\n');
        }
        text
    }

    /// The seeds, first to last.
    pub fn seeds(&self) -> &[GroupSeed] {
        &self.seeds
    }

    /// The seed that the group uses.
    pub fn first(&self) -> &GroupSeed {
        &self.seeds[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(number: u8) -> GroupSeed {
        GroupSeed::from_bytes([number; 32])
    }

    #[test]
    fn a_seed_reads_back_however_it_was_typed() {
        let text = seed(7).to_text();
        assert_eq!(GroupSeed::parse(&text), Ok(seed(7)));
        assert_eq!(GroupSeed::parse(&format!("  {}\n", text.to_lowercase().replace(' ', "\n "))), Ok(seed(7)));
        assert_eq!(text.split(' ').count(), 17);
    }

    #[test]
    fn a_mistyped_character_of_a_seed_is_found() {
        let text = seed(7).to_text();
        for at in PREFIX.len()..text.len() {
            let other = if &text[at..=at] == "Z" { "Y" } else { "Z" };
            let mistyped = [&text[..at], other, &text[at + 1..]].concat();
            assert_eq!(GroupSeed::parse(&mistyped), Err(SeedError::Mistyped), "{at}");
            assert_eq!(GroupSeed::parse(&text[..at]), Err(SeedError::Mistyped), "cut at {at}");
        }
        for wrong in ["", "SHARD-KIT:1:00", "héllo wörld of seeds"] {
            assert_eq!(GroupSeed::parse(wrong), Err(SeedError::NoSeed), "{wrong}");
        }
    }

    #[test]
    fn a_ring_has_one_seed_or_two_different_ones() {
        assert_eq!(SeedRing::from_seeds(vec![]), Err(SeedError::Count(0)));
        assert_eq!(SeedRing::from_seeds(vec![seed(1), seed(1)]), Err(SeedError::Twice));
        assert_eq!(SeedRing::from_seeds(vec![seed(1), seed(2), seed(3)]), Err(SeedError::Count(3)));
        assert_eq!(SeedRing::from_seeds(vec![seed(1), seed(2)]).expect("two").first(), &seed(1));
    }

    #[test]
    fn a_ring_reads_seeds_that_stand_one_after_another_and_nothing_else() {
        let [one, other] = [seed(1).to_text(), seed(2).to_text()];
        let read = |text: &str| SeedRing::parse(text).map(|ring| ring.seeds().to_vec());
        assert_eq!(read(&one), Ok(vec![seed(1)]));
        let both = SeedRing::from_seeds(vec![seed(2), seed(1)]).expect("two");
        assert_eq!(SeedRing::parse(&both.to_text()), Ok(both));
        assert_eq!(
            read(&format!("\n{}\r\n\n  {}", one.replace(' ', "\n"), other.to_lowercase())),
            Ok(vec![seed(1), seed(2)])
        );
        assert_eq!(read(&format!("{}\n{}\n{}", *one, *other, *one)), Err(SeedError::Count(3)));
        assert_eq!(read(&format!("{}\n{}", *one, *one)), Err(SeedError::Twice));
        assert_eq!(read(&format!("{}\nAAAA", *one)), Err(SeedError::Mistyped));
        assert_eq!(read(&format!("seeds:\n{}", *one)), Err(SeedError::NoSeed));
        assert_eq!(read(" \n"), Err(SeedError::Count(0)));
        assert_eq!(read(&" ".repeat(MAX_SEED_FILE_BYTES + 1)), Err(SeedError::NoSeed));
    }

    #[test]
    fn a_seed_is_not_shown_and_each_purpose_has_a_key_of_its_own() {
        assert_eq!(format!("{:?}", SeedRing::new(seed(7))), "SeedRing { seeds: [GroupSeed(secret)] }");
        assert_ne!(*seed(7).authority_seed(), *seed(7).session_key());
        assert_ne!(*seed(7).session_key(), *seed(8).session_key());
    }
}
