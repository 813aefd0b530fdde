//! Numbers that look random and follow from a seed alone (SplitMix64), for faults and for spreading retries.

/// A sequence of such numbers.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A sequence for these numbers, the same whenever it is asked for.
    pub(super) fn of(seed: u64, numbers: &[u64]) -> Self {
        let mix = |dice: Self, number: &u64| Self(dice.clone().next() ^ number.rotate_left(17));
        numbers.iter().fold(Self(seed), mix)
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The next number below a limit; 0 when the limit is 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_splitmix64() {
        let mut dice = Dice::new(1_234_567);
        let published = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([dice.next(), dice.next(), dice.next()], published);
        assert_eq!(Dice::of(1, &[2, 3]).next(), Dice::of(1, &[2, 3]).next());
        assert_ne!(Dice::of(1, &[2, 3]).next(), Dice::of(1, &[3, 2]).next());
    }
}
