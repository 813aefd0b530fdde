//! The kernel of 64-bit ARM: NEON looks nibbles up.
//!
//! *Preconditions* are those of [`column`](super::column): the processor has NEON.

use super::column::{ByNibbles, Kernel, Lookup, Multiplier, Pass, Register, intrinsics, kernel, sweep};
use std::arch::aarch64::*;

kernel!(
    NEON: ByNibbles<uint8x16_t>, "neon",
    rows 1 by 4, 2 by 4, 3 by 2, 4 by 2, 5 by 2, 6 by 1, 7 by 1, 8 by 1
);

impl Register for uint8x16_t {
    const BYTES: usize = 16;

    intrinsics! {
        fn zero() -> Self = vdupq_n_u8(0);
        fn load(from: *const u8) -> Self = vld1q_u8(from);
        fn store(self, to: *mut u8) = vst1q_u8(to, self);
        fn or(self, other: Self) -> Self = vorrq_u8(self, other);
        fn xor(self, other: Self) -> Self = veorq_u8(self, other);
        fn is_zero(self) -> bool = vmaxvq_u8(self) == 0;
    }
}

impl Lookup for uint8x16_t {
    intrinsics! {
        fn repeat_16(from: *const u8) -> Self = Self::load(from);
        fn low_nibbles(self) -> Self = vandq_u8(self, vdupq_n_u8(0x0F));
        fn high_nibbles(self) -> Self = vshrq_n_u8::<4>(self);
        fn look_up(self, indexes: Self) -> Self = vqtbl1q_u8(self, indexes);
    }
}
