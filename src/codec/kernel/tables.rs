//! What multiplication by each of the 256 elements of GF(2^8) is to a kernel: two tables of nibbles, or a matrix of bits.

/// x^8 + x^4 + x^3 + x^2 + 1, whose x generates the field.
const POLYNOMIAL: u16 = 0x11D;

/// The product of two elements, bit by bit: for tables made when the crate is compiled.
const fn product(factor: u8, element: u8) -> u8 {
    let (mut sum, mut shifted, mut rest) = (0, factor as u16, element);
    while rest != 0 {
        if rest & 1 != 0 {
            sum ^= shifted;
        }
        shifted <<= 1;
        if shifted & 0x100 != 0 {
            shifted ^= POLYNOMIAL;
        }
        rest >>= 1;
    }
    sum as u8
}

/// By factor: its products with 0..16, then with 0, 16, … 240. A product is the sum of one of each.
pub(super) static NIBBLES: [[u8; 32]; 256] = {
    let mut all = [[0; 32]; 256];
    let mut factor = 0;
    while factor < 256 {
        let mut nibble = 0;
        while nibble < 16 {
            all[factor][nibble] = product(factor as u8, nibble as u8);
            all[factor][16 + nibble] = product(factor as u8, (nibble as u8) << 4);
            nibble += 1;
        }
        factor += 1;
    }
    all
};

/// By factor: multiplication as an 8 × 8 matrix of bits, as `gf2p8affineqb` takes it. Bit i of the result is the parity
/// of the source and byte 7 − i. That instruction knows no polynomial, unlike `gf2p8mulb`, which has that of AES.
pub(super) static BIT_MATRICES: [u64; 256] = {
    let mut all = [0; 256];
    let mut factor = 0;
    while factor < 256 {
        let mut column = 0;
        while column < 8 {
            let image = product(factor as u8, 1 << column) as u64;
            let mut row = 0;
            while row < 8 {
                all[factor] |= (image >> row & 1) << (8 * (7 - row) + column);
                row += 1;
            }
            column += 1;
        }
        factor += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;
    use reed_solomon_erasure::galois_8;

    /// `gf2p8affineqb` of one byte with nothing added, as the processor's manual gives it.
    fn affine(matrix: u64, source: u8) -> u8 {
        (0..8).fold(0, |result, bit| {
            let row = matrix.to_le_bytes()[7 - bit];
            result | ((row & source).count_ones() as u8 & 1) << bit
        })
    }

    #[test]
    fn tables_and_bit_matrices_multiply_as_the_field_does() {
        for factor in 0..=255_u8 {
            let (low, high) = NIBBLES[usize::from(factor)].split_at(16);
            for element in 0..=255_u8 {
                let expected = galois_8::mul(factor, element);
                let looked_up = low[usize::from(element & 15)] ^ high[usize::from(element >> 4)];
                assert_eq!(looked_up, expected, "{factor} · {element}");
                assert_eq!(affine(BIT_MATRICES[usize::from(factor)], element), expected, "{factor} · {element}");
            }
        }
    }
}
