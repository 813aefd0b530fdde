//! Chance that can be had again, and how much of it: a sample in every run, everything when `just soak` asks for it.

/// Whether everything is tried, and not a sample.
pub(crate) fn is_asked_for() -> bool {
    std::env::var_os("SHARD_SOAK").is_some_and(|asked| !asked.is_empty())
}

/// Whether that is meant to the letter, days though it may take: `SHARD_SOAK=all`.
pub(crate) fn is_asked_for_to_the_letter() -> bool {
    std::env::var_os("SHARD_SOAK").is_some_and(|asked| asked == "all")
}

/// The seed that `SHARD_TEST_SEED` gives, else a new one; it is printed, so that a failure can be had again.
#[expect(clippy::print_stdout, reason = "the seed makes a failure repeatable")]
pub(crate) fn seed() -> u64 {
    let given = std::env::var("SHARD_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64));
    println!("SHARD_TEST_SEED={seed}");
    seed
}

/// SplitMix64: everything follows from the seed.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below a limit.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}
