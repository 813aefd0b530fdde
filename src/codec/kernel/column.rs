//! The one algorithm of all vector kernels: a column of every input is read once, and all its outputs are summed up in
//! registers before they are written or compared.
//!
//! *Preconditions*, of every unsafe function here and in the kernels: the processor has the instructions of the
//! register and the multiplier, and a [`Pass`] keeps what its fields promise. Nothing is read or written outside of
//! `0..to` of a block. No pointer needs an alignment.

use crate::codec::engine::Engine;
use std::marker::PhantomData;

/// What a processor fetches at once, in bytes.
const LINE_BYTES: usize = 64;
/// How far ahead of what is read memory is asked for, in bytes: with as many streams as a stripe has blocks, processors do
/// not foresee enough by themselves. Measured: a few per cent to 1.9 times faster where caches do not help.
const PREFETCH_BYTES: usize = 1024;

/// A vector register, as wide as the instructions make it. Its functions are unsafe because the processor must have
/// them; those that take an address read or write a whole register there, at any alignment.
pub(super) trait Register: Copy {
    /// How many bytes it holds.
    const BYTES: usize;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const u8) -> Self;
    unsafe fn store(self, to: *mut u8);
    unsafe fn or(self, other: Self) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    unsafe fn is_zero(self) -> bool;

    /// Asks for the line of memory at an address, which need not be anybody's; the end of a block is not waited for.
    #[inline(always)]
    fn prefetch(_from: *const u8) {}

    /// The sum of three.
    #[inline(always)]
    unsafe fn xor3(self, two: Self, three: Self) -> Self {
        // SAFETY: what the caller promises of this register.
        unsafe { self.xor(two.xor(three)) }
    }
}

/// A register that looks bytes up in tables of sixteen.
pub(super) trait Lookup: Register {
    /// Sixteen bytes, repeated through the register.
    unsafe fn repeat_16(from: *const u8) -> Self;
    /// Every byte's lower four bits.
    unsafe fn low_nibbles(self) -> Self;
    /// Every byte's upper four bits, shifted down.
    unsafe fn high_nibbles(self) -> Self;
    /// What this table has at each of the indexes, all below sixteen.
    unsafe fn look_up(self, indexes: Self) -> Self;
}

/// A register that multiplies bytes by matrices of bits.
#[cfg(target_arch = "x86_64")]
pub(super) trait Affine: Register {
    /// Eight bytes, repeated through the register.
    unsafe fn repeat_8(from: *const u8) -> Self;
    /// Every byte as a vector of bits, multiplied by this matrix.
    unsafe fn transform(self, bytes: Self) -> Self;
}

/// A way of multiplying all bytes of a register by one element of the field.
pub(super) trait Multiplier {
    type Register: Register;
    /// An element, ready to be multiplied by.
    type Factor: Copy;
    /// Data, ready to be multiplied.
    type Data: Copy;
    /// What a factor is in memory.
    const FACTORS: Factors;
    /// Whether the sum of two products costs less than two sums.
    const PAIRS: bool;

    unsafe fn factor(from: *const u8) -> Self::Factor;
    unsafe fn data(bytes: Self::Register) -> Self::Data;
    /// `sum + factor · data`
    unsafe fn add(sum: Self::Register, factor: Self::Factor, data: Self::Data) -> Self::Register;
    /// `sum + one.0 · one.1 + two.0 · two.1`
    #[inline(always)]
    unsafe fn add_two(
        sum: Self::Register,
        one: (Self::Factor, Self::Data),
        two: (Self::Factor, Self::Data),
    ) -> Self::Register {
        // SAFETY: what the caller promises of this multiplier.
        unsafe { Self::add(Self::add(sum, one.0, one.1), two.0, two.1) }
    }
}

/// Multiplies by two look-ups, one for each nibble.
pub(super) struct ByNibbles<R>(PhantomData<R>);

impl<R: Lookup> Multiplier for ByNibbles<R> {
    type Register = R;
    type Factor = [R; 2];
    type Data = [R; 2];
    const FACTORS: Factors = Factors::Nibbles;
    const PAIRS: bool = false;

    #[inline(always)]
    unsafe fn factor(from: *const u8) -> [R; 2] {
        // SAFETY: a factor has 32 bytes there.
        unsafe { [R::repeat_16(from), R::repeat_16(from.add(16))] }
    }

    #[inline(always)]
    unsafe fn data(bytes: R) -> [R; 2] {
        // SAFETY: what the caller promises of this register.
        unsafe { [bytes.low_nibbles(), bytes.high_nibbles()] }
    }

    #[inline(always)]
    unsafe fn add(sum: R, factor: [R; 2], data: [R; 2]) -> R {
        // SAFETY: what the caller promises of this register.
        unsafe { sum.xor3(factor[0].look_up(data[0]), factor[1].look_up(data[1])) }
    }
}

/// Multiplies by one matrix of bits.
#[cfg(target_arch = "x86_64")]
pub(super) struct ByBitMatrix<R>(PhantomData<R>);

#[cfg(target_arch = "x86_64")]
impl<R: Affine> Multiplier for ByBitMatrix<R> {
    type Register = R;
    type Factor = R;
    type Data = R;
    const FACTORS: Factors = Factors::BitMatrices;
    const PAIRS: bool = true;

    #[inline(always)]
    unsafe fn factor(from: *const u8) -> R {
        // SAFETY: a factor has 8 bytes there.
        unsafe { R::repeat_8(from) }
    }

    #[inline(always)]
    unsafe fn data(bytes: R) -> R {
        bytes
    }

    #[inline(always)]
    unsafe fn add(sum: R, factor: R, data: R) -> R {
        // SAFETY: what the caller promises of this register.
        unsafe { sum.xor(factor.transform(data)) }
    }

    #[inline(always)]
    unsafe fn add_two(sum: R, one: (R, R), two: (R, R)) -> R {
        // SAFETY: what the caller promises of this register.
        unsafe { sum.xor3(one.0.transform(one.1), two.0.transform(two.1)) }
    }
}

/// One group of outputs over one stretch of the blocks.
pub(super) struct Pass<'a> {
    /// Of each input in turn, a factor for each output; all of the multiplier's size.
    pub(super) factors: &'a [u8],
    /// All have at least `to` bytes.
    pub(super) inputs: &'a [&'a [u8]],
    /// Blocks of at least `to` bytes that overlap with no input and with none of each other. They may be without a
    /// value; where they are only compared, they have one and are not written.
    pub(super) outputs: &'a [*mut u8],
    /// The first byte that matters.
    pub(super) from: usize,
    /// Behind the last one; at least a register's bytes from the beginning of the block.
    pub(super) to: usize,
}

/// What a factor is in memory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Factors {
    /// Two tables of sixteen bytes.
    Nibbles,
    /// A matrix of 64 bits.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    BitMatrices,
}

impl Factors {
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Nibbles => 32,
            Self::BitMatrices => 8,
        }
    }
}

/// A compiled kernel. Its functions are to be called with passes of 1 to `most_rows` outputs that are at least
/// `least_bytes` long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    /// The most outputs of one pass.
    pub(super) most_rows: usize,
    /// The least bytes of a block: those of a register.
    pub(super) least_bytes: usize,
    pub(super) factors: Factors,
    /// The outputs become the sums; gives `true`.
    pub(super) write: unsafe fn(&Pass<'_>) -> bool,
    /// Whether the outputs are the sums.
    pub(super) compare: unsafe fn(&Pass<'_>) -> bool,
}

impl Kernel {
    /// The kernel of an engine; `None` for the portable one, and for those that this processor cannot run.
    pub(super) fn of(engine: Engine) -> Option<Self> {
        if !engine.is_available() {
            return None;
        }
        match engine {
            #[cfg(target_arch = "x86_64")]
            Engine::GfniAvx512 => Some(super::x86::GFNI_AVX512),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512 => Some(super::x86::AVX512),
            #[cfg(target_arch = "x86_64")]
            Engine::GfniAvx2 => Some(super::x86::GFNI_AVX2),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2 => Some(super::x86::AVX2),
            #[cfg(target_arch = "x86_64")]
            Engine::Ssse3 => Some(super::x86::SSSE3),
            #[cfg(target_arch = "aarch64")]
            Engine::Neon => Some(super::neon::NEON),
            _ => None,
        }
    }
}

/// Goes through a pass, `WIDE` registers of each block at a time, and the rest one by one. The last register overlaps
/// with the one before it, which changes nothing: what is written does not depend on what was there.
///
/// Whether all outputs were the sums, if they are to be compared; `true` if they are to be written.
#[inline(always)]
pub(super) unsafe fn sweep<M: Multiplier, const ROWS: usize, const WIDE: usize, const COMPARE: bool>(
    pass: &Pass<'_>,
) -> bool {
    let register_bytes = M::Register::BYTES;
    debug_assert!(pass.outputs.len() == ROWS && pass.inputs.iter().all(|input| input.len() >= pass.to));
    debug_assert!(pass.factors.len() == ROWS * pass.inputs.len() * M::FACTORS.bytes());
    debug_assert!(pass.from <= pass.to && register_bytes <= pass.to);
    // SAFETY: each step ends at `to` at the latest, and the last one begins at 0 or after it.
    unsafe {
        let mut difference = M::Register::zero();
        let mut at = pass.from;
        while pass.to - at >= WIDE * register_bytes {
            difference = difference.or(step::<M, ROWS, WIDE, COMPARE>(pass, at));
            at += WIDE * register_bytes;
        }
        while pass.to - at >= register_bytes {
            difference = difference.or(step::<M, ROWS, 1, COMPARE>(pass, at));
            at += register_bytes;
        }
        if at < pass.to {
            difference = difference.or(step::<M, ROWS, 1, COMPARE>(pass, pass.to - register_bytes));
        }
        difference.is_zero()
    }
}

/// The sums of the column of `WIDE` registers that begins at `at`: written, or their differences from what is there.
#[inline(always)]
unsafe fn step<M: Multiplier, const ROWS: usize, const WIDE: usize, const COMPARE: bool>(
    pass: &Pass<'_>,
    at: usize,
) -> M::Register {
    // SAFETY: the column ends within `to`, so that it is inside of every block; `factors` has as many as are taken.
    unsafe {
        let mut sums = [[M::Register::zero(); WIDE]; ROWS];
        if COMPARE {
            for (row, sums) in sums.iter_mut().enumerate() {
                *sums = column::<M, WIDE>(*pass.outputs.get_unchecked(row), at);
            }
        }
        let mut factors = pass.factors.as_ptr();
        let mut inputs = pass.inputs;
        if M::PAIRS {
            while let [one, two, rest @ ..] = inputs {
                let (one, two) = (column::<M, WIDE>(one.as_ptr(), at), column::<M, WIDE>(two.as_ptr(), at));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let factor = M::factor(factors.add(row * M::FACTORS.bytes()));
                    let second = M::factor(factors.add((ROWS + row) * M::FACTORS.bytes()));
                    for wide in 0..WIDE {
                        sums[wide] = M::add_two(sums[wide], (factor, M::data(one[wide])), (second, M::data(two[wide])));
                    }
                }
                factors = factors.add(2 * ROWS * M::FACTORS.bytes());
                inputs = rest;
            }
        }
        while let [one, rest @ ..] = inputs {
            let one = column::<M, WIDE>(one.as_ptr(), at);
            for (row, sums) in sums.iter_mut().enumerate() {
                let factor = M::factor(factors.add(row * M::FACTORS.bytes()));
                for wide in 0..WIDE {
                    sums[wide] = M::add(sums[wide], factor, M::data(one[wide]));
                }
            }
            factors = factors.add(ROWS * M::FACTORS.bytes());
            inputs = rest;
        }
        finish::<M, ROWS, WIDE, COMPARE>(pass, at, &sums)
    }
}

/// Writes the sums of a column, or gives what is not zero in any of them.
#[inline(always)]
unsafe fn finish<M: Multiplier, const ROWS: usize, const WIDE: usize, const COMPARE: bool>(
    pass: &Pass<'_>,
    at: usize,
    sums: &[[M::Register; WIDE]; ROWS],
) -> M::Register {
    // SAFETY: as in `step`; nobody else has the outputs, which are only read where they are compared.
    unsafe {
        let mut difference = M::Register::zero();
        for (row, sums) in sums.iter().enumerate() {
            let output = pass.outputs.get_unchecked(row).add(at);
            for (wide, sum) in sums.iter().enumerate() {
                if COMPARE {
                    difference = difference.or(*sum);
                } else {
                    sum.store(output.add(wide * M::Register::BYTES));
                }
            }
        }
        difference
    }
}

/// `WIDE` registers of a block.
#[inline(always)]
unsafe fn column<M: Multiplier, const WIDE: usize>(block: *const u8, at: usize) -> [M::Register; WIDE] {
    // SAFETY: the caller has that many bytes there.
    unsafe {
        let mut registers = [M::Register::zero(); WIDE];
        for (wide, register) in registers.iter_mut().enumerate() {
            *register = M::Register::load(block.add(at + wide * M::Register::BYTES));
            if (wide * M::Register::BYTES).is_multiple_of(LINE_BYTES) {
                M::Register::prefetch(block.wrapping_add(at + wide * M::Register::BYTES + PREFETCH_BYTES));
            }
        }
        registers
    }
}

/// Functions of a register that are one expression of intrinsics each.
macro_rules! intrinsics {
    ($(fn $name:ident($($arguments:tt)*) $(-> $result:ty)? = $intrinsics:expr;)+) => {
        $(
            #[inline(always)]
            unsafe fn $name($($arguments)*) $(-> $result)? {
                // SAFETY: the caller promises the instructions and, with an address, the bytes that are there.
                unsafe { $intrinsics }
            }
        )+
    };
}
pub(super) use intrinsics;

/// The kernel of a multiplier: [`sweep`] compiled for the instructions it needs, once for each number of outputs.
macro_rules! kernel {
    ($name:ident: $multiplier:ty, $features:literal, rows $($rows:literal by $wide:literal),+) => {
        pub(super) const $name: Kernel = {
            #[target_feature(enable = $features)]
            unsafe fn compiled<const ROWS: usize, const WIDE: usize, const COMPARE: bool>(pass: &Pass<'_>) -> bool {
                // SAFETY: the caller keeps the preconditions of `column`.
                unsafe { sweep::<$multiplier, ROWS, WIDE, COMPARE>(pass) }
            }

            unsafe fn dispatch<const COMPARE: bool>(pass: &Pass<'_>) -> bool {
                match pass.outputs.len() {
                    // SAFETY: the caller keeps the preconditions of `column`.
                    $($rows => unsafe { compiled::<$rows, $wide, COMPARE>(pass) },)+
                    rows => unreachable!("a pass has as many outputs as its kernel has code for, not {rows}"),
                }
            }

            Kernel {
                most_rows: [$($rows),+].len(),
                least_bytes: <<$multiplier as Multiplier>::Register as Register>::BYTES,
                factors: <$multiplier as Multiplier>::FACTORS,
                write: dispatch::<false>,
                compare: dispatch::<true>,
            }
        };
    };
}
pub(super) use kernel;
