//! The kernels of x86-64: SSSE3, AVX2 and AVX-512 look nibbles up, GFNI multiplies by matrices of bits.
//!
//! *Preconditions* are those of [`column`](super::column): the processor has the features that stand beside the kernel.

use super::column::{
    Affine, ByBitMatrix, ByNibbles, Kernel, Lookup, Multiplier, Pass, Register, intrinsics, kernel, sweep,
};
use std::arch::x86_64::*;

const NIBBLE: i8 = 0x0F;
/// The truth table of the sum of three bits.
const SUM_OF_THREE: i32 = 0x96;

// The numbers of registers leave room for data and factors beside the sums.
kernel!(SSSE3: ByNibbles<__m128i>, "ssse3", rows 1 by 4, 2 by 2, 3 by 2, 4 by 1);
kernel!(AVX2: ByNibbles<__m256i>, "avx2", rows 1 by 4, 2 by 2, 3 by 2, 4 by 1);
kernel!(GFNI_AVX2: ByBitMatrix<__m256i>, "avx2,gfni", rows 1 by 4, 2 by 4, 3 by 2, 4 by 2);
kernel!(
    AVX512: ByNibbles<__m512i>, "avx512f,avx512bw",
    rows 1 by 4, 2 by 4, 3 by 4, 4 by 4, 5 by 2, 6 by 2, 7 by 2, 8 by 2
);
kernel!(
    GFNI_AVX512: ByBitMatrix<__m512i>, "avx512f,avx512bw,gfni",
    rows 1 by 4, 2 by 4, 3 by 4, 4 by 4, 5 by 2, 6 by 2, 7 by 2, 8 by 2
);

impl Register for __m128i {
    const BYTES: usize = 16;

    #[inline(always)]
    fn prefetch(from: *const u8) {
        fetch_ahead(from);
    }

    intrinsics! {
        fn zero() -> Self = _mm_setzero_si128();
        fn load(from: *const u8) -> Self = _mm_loadu_si128(from.cast());
        fn store(self, to: *mut u8) = _mm_storeu_si128(to.cast(), self);
        fn or(self, other: Self) -> Self = _mm_or_si128(self, other);
        fn xor(self, other: Self) -> Self = _mm_xor_si128(self, other);
        fn is_zero(self) -> bool = _mm_movemask_epi8(_mm_cmpeq_epi8(self, Self::zero())) == 0xFFFF;
    }
}

impl Lookup for __m128i {
    intrinsics! {
        fn repeat_16(from: *const u8) -> Self = Self::load(from);
        fn low_nibbles(self) -> Self = _mm_and_si128(self, _mm_set1_epi8(NIBBLE));
        fn high_nibbles(self) -> Self = _mm_srli_epi16::<4>(self).low_nibbles();
        fn look_up(self, indexes: Self) -> Self = _mm_shuffle_epi8(self, indexes);
    }
}

impl Register for __m256i {
    const BYTES: usize = 32;

    #[inline(always)]
    fn prefetch(from: *const u8) {
        fetch_ahead(from);
    }

    intrinsics! {
        fn zero() -> Self = _mm256_setzero_si256();
        fn load(from: *const u8) -> Self = _mm256_loadu_si256(from.cast());
        fn store(self, to: *mut u8) = _mm256_storeu_si256(to.cast(), self);
        fn or(self, other: Self) -> Self = _mm256_or_si256(self, other);
        fn xor(self, other: Self) -> Self = _mm256_xor_si256(self, other);
        fn is_zero(self) -> bool = _mm256_testz_si256(self, self) == 1;
    }
}

impl Lookup for __m256i {
    intrinsics! {
        fn repeat_16(from: *const u8) -> Self = _mm256_broadcastsi128_si256(_mm_loadu_si128(from.cast()));
        fn low_nibbles(self) -> Self = _mm256_and_si256(self, _mm256_set1_epi8(NIBBLE));
        fn high_nibbles(self) -> Self = _mm256_srli_epi16::<4>(self).low_nibbles();
        fn look_up(self, indexes: Self) -> Self = _mm256_shuffle_epi8(self, indexes);
    }
}

impl Affine for __m256i {
    intrinsics! {
        fn repeat_8(from: *const u8) -> Self = _mm256_set1_epi64x(from.cast::<i64>().read_unaligned());
        fn transform(self, bytes: Self) -> Self = _mm256_gf2p8affine_epi64_epi8::<0>(bytes, self);
    }
}

impl Register for __m512i {
    const BYTES: usize = 64;

    #[inline(always)]
    fn prefetch(from: *const u8) {
        fetch_ahead(from);
    }

    intrinsics! {
        fn zero() -> Self = _mm512_setzero_si512();
        fn load(from: *const u8) -> Self = _mm512_loadu_si512(from.cast());
        fn store(self, to: *mut u8) = _mm512_storeu_si512(to.cast(), self);
        fn or(self, other: Self) -> Self = _mm512_or_si512(self, other);
        fn xor(self, other: Self) -> Self = _mm512_xor_si512(self, other);
        fn is_zero(self) -> bool = _mm512_test_epi64_mask(self, self) == 0;
        fn xor3(self, two: Self, three: Self) -> Self = _mm512_ternarylogic_epi64::<SUM_OF_THREE>(self, two, three);
    }
}

impl Lookup for __m512i {
    intrinsics! {
        fn repeat_16(from: *const u8) -> Self = _mm512_broadcast_i32x4(_mm_loadu_si128(from.cast()));
        fn low_nibbles(self) -> Self = _mm512_and_si512(self, _mm512_set1_epi8(NIBBLE));
        fn high_nibbles(self) -> Self = _mm512_srli_epi16::<4>(self).low_nibbles();
        fn look_up(self, indexes: Self) -> Self = _mm512_shuffle_epi8(self, indexes);
    }
}

impl Affine for __m512i {
    intrinsics! {
        fn repeat_8(from: *const u8) -> Self = _mm512_set1_epi64(from.cast::<i64>().read_unaligned());
        fn transform(self, bytes: Self) -> Self = _mm512_gf2p8affine_epi64_epi8::<0>(bytes, self);
    }
}

#[inline(always)]
fn fetch_ahead(from: *const u8) {
    // SAFETY: every x86-64 has it, and it takes any address: what is not mapped is left alone.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
}
