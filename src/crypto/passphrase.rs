//! A passphrase, and the key that Argon2id (RFC 9106) makes of it.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use std::fmt;
use std::ops::RangeInclusive;
use zeroize::Zeroizing;

/// Random bytes that make each use of a passphrase its own.
pub const SALT_BYTES: usize = 16;
/// A passphrase is at most this many bytes: more than anyone types, and little to hash.
pub const MAX_PASSPHRASE_BYTES: usize = 4096;

/// KiB that one guess takes: below, guessing is cheap; above, a file could take all memory of the machine that opens it.
const MEMORY_KIB: RangeInclusive<u32> = 19 * 1024..=1024 * 1024;
/// How often that memory is gone through: at the top of both, a file costs whoever opens it some ten seconds.
const PASSES: RangeInclusive<u32> = 2..=16;
/// Into how many lanes the memory is divided.
const LANES: RangeInclusive<u32> = 1..=16;

/// Why bytes are no passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// Nothing at all.
    #[error("the passphrase is empty")]
    Empty,
    /// Over [`MAX_PASSPHRASE_BYTES`].
    #[error("the passphrase has {bytes} bytes, at most {MAX_PASSPHRASE_BYTES} are taken")]
    TooLong {
        /// How many.
        bytes: usize,
    },
}

/// What a person remembers; wiped when dropped.
pub struct Passphrase {
    bytes: Zeroizing<Vec<u8>>,
}

impl Passphrase {
    /// From the bytes as they were typed.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, PassphraseError> {
        match bytes.len() {
            0 => Err(PassphraseError::Empty),
            1..=MAX_PASSPHRASE_BYTES => Ok(Self { bytes }),
            bytes => Err(PassphraseError::TooLong { bytes }),
        }
    }
}

/// In constant time, where they are equally long.
impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.bytes, &other.bytes).is_ok()
    }
}

impl Eq for Passphrase {}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(secret)")
    }
}

/// Why Argon2id is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// A number is outside of its bounds.
    #[error("{what} of {value} for a passphrase is not within {} to {}", bounds.0, bounds.1)]
    OutOfBounds {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: u32,
        /// Its least and its greatest.
        bounds: (u32, u32),
    },
    /// This machine has not that much memory.
    #[error("there are no {memory_kib} KiB of memory for the passphrase")]
    Memory {
        /// How much was asked for.
        memory_kib: u32,
    },
}

/// What one guess at a passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassphraseCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Default for PassphraseCost {
    /// 40 MiB, four passes, one lane: more work for who guesses than OWASP's 46 MiB once or 19 MiB twice, and with the rest
    /// of the program still within the 64 MiB that it is to stay in.
    fn default() -> Self {
        Self { memory_kib: 40 * 1024, passes: 4, lanes: 1 }
    }
}

impl PassphraseCost {
    /// A cost that exists is neither too cheap to guess at nor too dear to open.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, CostError> {
        let numbers = [
            ("a memory in KiB", memory_kib, MEMORY_KIB),
            ("a pass count", passes, PASSES),
            ("a lane count", lanes, LANES),
        ];
        for (what, value, bounds) in numbers {
            if !bounds.contains(&value) {
                return Err(CostError::OutOfBounds { what, value, bounds: (*bounds.start(), *bounds.end()) });
            }
        }
        Ok(Self { memory_kib, passes, lanes })
    }

    /// Memory, in KiB.
    pub fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    /// How often the memory is gone through.
    pub fn passes(self) -> u32 {
        self.passes
    }

    /// Into how many lanes it is divided.
    pub fn lanes(self) -> u32 {
        self.lanes
    }

    /// The key that a passphrase and a salt give at this cost.
    pub(super) fn derive_key(
        self,
        passphrase: &Passphrase,
        salt: &[u8; SALT_BYTES],
    ) -> Result<Zeroizing<[u8; 32]>, CostError> {
        let mut key = Zeroizing::new([0; 32]);
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(key.len()));
        let hash = argon2id(params.expect("the bounds here are narrower than those of Argon2"), None);
        let hashed = hash.hash_password_into(&passphrase.bytes, salt, key.as_mut_slice());
        hashed.map_err(|_| CostError::Memory { memory_kib: self.memory_kib })?;
        Ok(key)
    }
}

/// Version 1.3 of Argon2id, with a secret where there is one.
fn argon2id(params: Params, secret: Option<&[u8]>) -> Argon2<'_> {
    let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
    match secret {
        None => Argon2::new(algorithm, version, params),
        Some(secret) => {
            Argon2::new_with_secret(secret, algorithm, version, params).expect("a secret is far below the limit")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::{AssociatedData, ParamsBuilder};

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).expect("a passphrase")
    }

    #[test]
    fn argon2id_gives_the_vector_of_rfc_9106() {
        let mut params = ParamsBuilder::new();
        params.m_cost(32).t_cost(3).p_cost(4).output_len(32);
        params.data(AssociatedData::new(&[4; 12]).expect("12 bytes"));
        let mut tag = [0; 32];
        let hash = argon2id(params.build().expect("parameters"), Some(&[3; 8]));
        hash.hash_password_into(&[1; 32], &[2; 16], &mut tag).expect("a tag");
        assert_eq!(hex::encode(tag), "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
    }

    #[test]
    fn a_cost_outside_of_its_bounds_does_not_exist() {
        let (low, high) = ((*MEMORY_KIB.start(), *PASSES.start()), (*MEMORY_KIB.end(), *PASSES.end()));
        for (memory, passes, lanes) in [(low.0, low.1, 1), (high.0, high.1, 16), (47_104, 3, 4)] {
            let cost = PassphraseCost::new(memory, passes, lanes).expect("a cost");
            assert_eq!((cost.memory_kib(), cost.passes(), cost.lanes()), (memory, passes, lanes));
        }
        for (memory, passes, lanes) in [
            (low.0 - 1, 3, 1),
            (high.0 + 1, 3, 1),
            (u32::MAX, 3, 1),
            (47_104, low.1 - 1, 1),
            (47_104, high.1 + 1, 1),
            (47_104, 3, 0),
            (47_104, 3, 17),
        ] {
            let refused = PassphraseCost::new(memory, passes, lanes);
            assert!(matches!(refused, Err(CostError::OutOfBounds { .. })), "{memory} {passes} {lanes}");
        }
        let default = PassphraseCost::default();
        assert_eq!(PassphraseCost::new(default.memory_kib, default.passes, default.lanes), Ok(default));
    }

    #[test]
    fn another_passphrase_salt_or_cost_gives_another_key() {
        let cheap = PassphraseCost::new(*MEMORY_KIB.start(), *PASSES.start(), 1).expect("a cost");
        let other = PassphraseCost::new(*MEMORY_KIB.start(), *PASSES.start(), 2).expect("a cost");
        let key = |cost: PassphraseCost, text, salt| *cost.derive_key(&passphrase(text), &[salt; 16]).expect("a key");
        let first = key(cheap, "correct horse", 1);
        assert_eq!(key(cheap, "correct horse", 1), first);
        for different in
            [key(cheap, "correct horsf", 1), key(cheap, "correct horse", 2), key(other, "correct horse", 1)]
        {
            assert_ne!(different, first);
        }
    }

    #[test]
    fn a_passphrase_is_something_and_not_shown() {
        assert_eq!(Passphrase::new(Zeroizing::default()).err(), Some(PassphraseError::Empty));
        let long = Zeroizing::new(vec![b'a'; MAX_PASSPHRASE_BYTES + 1]);
        assert_eq!(Passphrase::new(long).err(), Some(PassphraseError::TooLong { bytes: MAX_PASSPHRASE_BYTES + 1 }));
        assert_eq!(format!("{:?}", passphrase("hush")), "Passphrase(secret)");
        assert!(passphrase("hush") == passphrase("hush"));
        assert!(passphrase("hush") != passphrase("husk") && passphrase("hush") != passphrase("hus"));
    }
}
