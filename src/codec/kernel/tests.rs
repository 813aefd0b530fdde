//! Every kernel of this processor held against the portable one, byte for byte, and against writing where it must not.

use super::PreparedRows;
use crate::codec::engine::Engine;
use crate::codec::matrix::Matrix;
use crate::id::{Geometry, RedundancyLevel};
use std::iter::zip;

/// The longest block whose every length is tried where there is time for it, in bytes.
const LONGEST: usize = 4096;
/// Up to here every length is always tried: several of the widest steps, with every remainder behind them.
const LONGEST_ALWAYS: usize = 600;
/// The step between longer lengths where there is less time: odd, so that remainders differ.
const SAMPLE_STEP: usize = 331;
/// Every alignment there is to a register of 64 bytes.
const ALIGNMENTS: usize = 64;
/// What lies beside a block and must stay.
const UNTOUCHED: u8 = 0xA5;

/// Bytes that look random and depend on the seed alone.
fn noise(bytes: usize, seed: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise
}

/// The rows that give the parity of a geometry.
fn parity_rows(geometry: Geometry) -> Matrix {
    Matrix::generator(geometry).parity_rows()
}

fn kernels(rows: &Matrix) -> Vec<(Engine, PreparedRows)> {
    let vectors = Engine::available().into_iter().filter(|engine| *engine != Engine::Portable);
    vectors.map(|engine| (engine, PreparedRows::new(engine, rows.clone()))).collect()
}

/// A block at an alignment of one's choice, with room around it that must stay as it is.
struct Placed {
    memory: Vec<u8>,
    begin: usize,
    bytes: usize,
}

impl Placed {
    fn new(content: &[u8], alignment: usize) -> Self {
        let mut memory = vec![UNTOUCHED; content.len() + 3 * ALIGNMENTS];
        let begin = memory.as_ptr().align_offset(ALIGNMENTS) + alignment % ALIGNMENTS;
        memory[begin..begin + content.len()].copy_from_slice(content);
        Self { memory, begin, bytes: content.len() }
    }

    fn block(&self) -> &[u8] {
        &self.memory[self.begin..][..self.bytes]
    }

    fn block_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..][..self.bytes]
    }

    fn is_untouched_around(&self) -> bool {
        let (before, rest) = self.memory.split_at(self.begin);
        [before, &rest[self.bytes..]].into_iter().all(|beside| *beside == [UNTOUCHED; 3 * ALIGNMENTS][..beside.len()])
    }
}

/// Blocks at alignments that differ from each other, the first at the given one.
fn placed(blocks: &[Vec<u8>], bytes: usize, alignment: usize) -> Vec<Placed> {
    blocks.iter().enumerate().map(|(index, block)| Placed::new(&block[..bytes], alignment + 5 * index)).collect()
}

fn blocks(placed: &[Placed]) -> Vec<&[u8]> {
    placed.iter().map(Placed::block).collect()
}

/// The lengths to try: every one in a soak.
fn lengths() -> impl Iterator<Item = usize> {
    let soak = std::env::var_os("SHARD_SOAK").is_some_and(|asked| !asked.is_empty());
    let step = if soak { 1 } else { SAMPLE_STEP };
    (0..LONGEST_ALWAYS).chain((LONGEST_ALWAYS..LONGEST).step_by(step)).chain([LONGEST])
}

/// That a kernel writes what is expected, and nothing around it, and knows it again.
fn assert_computes(kernel: &PreparedRows, inputs: &[Placed], outputs: &mut [Placed], expected: &[&[u8]], case: &str) {
    let inputs = blocks(inputs);
    let mut places: Vec<&mut [u8]> = outputs.iter_mut().map(Placed::block_mut).collect();
    kernel.write(&inputs, &mut places);
    for (output, expected) in zip(&*outputs, expected) {
        assert!(output.block() == *expected && output.is_untouched_around(), "{case}");
    }
    assert!(kernel.compare(&inputs, &blocks(outputs)), "{case}");
}

/// An engine without a kernel would compute the same, a byte at a time: nothing but its speed would show it.
#[test]
fn every_engine_has_the_kernel_it_is_called_after_and_rows_take_what_its_factors_take() {
    let rows = parity_rows(RedundancyLevel::Personal.into());
    for engine in Engine::ALL {
        let factor_bytes = match engine {
            _ if !engine.is_available() => 0,
            Engine::Portable => 0,
            Engine::GfniAvx512 | Engine::GfniAvx2 => 8,
            Engine::Avx512 | Engine::Avx2 | Engine::Ssse3 | Engine::Neon => 32,
        };
        assert_eq!(PreparedRows::new(engine, rows.clone()).bytes(), 6 + 6 * factor_bytes, "{engine}");
    }
}

#[test]
fn every_kernel_computes_the_same_at_every_length() {
    for geometry in RedundancyLevel::NAMED.map(RedundancyLevel::geometry) {
        let rows = parity_rows(geometry);
        let inputs: Vec<Vec<u8>> = (0..geometry.data_shards()).map(|seed| noise(LONGEST, seed)).collect();
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        // A byte depends on those at its own place alone, so one result has those of all lengths in it.
        let expected = PreparedRows::new(Engine::Portable, rows.clone()).blocks(&slices);
        let garbage: Vec<Vec<u8>> = (0..geometry.parity_shards()).map(|seed| noise(LONGEST, 99 + seed)).collect();
        for (engine, kernel) in kernels(&rows) {
            for bytes in lengths() {
                let expected: Vec<&[u8]> = expected.iter().map(|block| &block[..bytes]).collect();
                let (inputs, mut outputs) = (placed(&inputs, bytes, bytes), placed(&garbage, bytes, 3 * bytes));
                let case = format!("{engine}, {geometry}, {bytes} bytes");
                assert_computes(&kernel, &inputs, &mut outputs, &expected, &case);
                // New blocks have nothing beside them; their lengths are right.
                if bytes % 61 == 0 {
                    assert!(kernel.blocks(&blocks(&inputs)) == expected, "{case}");
                }
            }
        }
    }
}

#[test]
fn every_kernel_computes_the_same_at_every_alignment() {
    // Steps of every width, single registers, and a remainder.
    const BYTES: usize = 256 + 64 + 32 + 16 + 5;
    let geometry = Geometry::new(3, 5).expect("valid");
    let rows = parity_rows(geometry);
    let inputs: Vec<Vec<u8>> = (0..3).map(|seed| noise(BYTES, seed)).collect();
    let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let expected = PreparedRows::new(Engine::Portable, rows.clone()).blocks(&slices);
    let expected: Vec<&[u8]> = expected.iter().map(Vec::as_slice).collect();
    let garbage = vec![noise(BYTES, 99); 2];
    for (engine, kernel) in kernels(&rows) {
        for from in 0..ALIGNMENTS {
            let inputs = placed(&inputs, BYTES, from);
            for to in 0..ALIGNMENTS {
                let mut outputs = placed(&garbage, BYTES, to);
                assert_computes(&kernel, &inputs, &mut outputs, &expected, &format!("{engine}, from {from} to {to}"));
            }
        }
    }
}

#[test]
fn every_kernel_sees_every_flipped_bit_of_a_small_stripe() {
    // A step, a single register of the widest kernel, and a remainder; and less than any register.
    for bytes in [2 * 64 + 64 + 7, 13] {
        let geometry = Geometry::new(2, 4).expect("valid");
        let rows = parity_rows(geometry);
        let inputs: Vec<Vec<u8>> = (0..2).map(|seed| noise(bytes, seed)).collect();
        for engine in Engine::available() {
            let kernel = PreparedRows::new(engine, rows.clone());
            let mut stripe = inputs.clone();
            stripe.extend(kernel.blocks(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>()));
            let agrees = |stripe: &[Vec<u8>]| {
                let blocks: Vec<&[u8]> = stripe.iter().map(Vec::as_slice).collect();
                kernel.compare(&blocks[..2], &blocks[2..])
            };
            assert!(agrees(&stripe), "{engine}");
            for bit in 0..4 * bytes * 8 {
                let (block, byte, mask) = (bit / 8 / bytes, bit / 8 % bytes, 1 << (bit % 8));
                stripe[block][byte] ^= mask;
                assert!(!agrees(&stripe), "{engine}: bit {bit} of {bytes} bytes");
                stripe[block][byte] ^= mask;
            }
        }
    }
}

#[test]
fn every_kernel_sees_a_flipped_bit_anywhere_in_a_large_stripe() {
    // Rows of several passes over several stretches, at an odd length.
    const BYTES: usize = 40_961;
    for geometry in [Geometry::new(7, 15), Geometry::new(3, 23)].map(|geometry| geometry.expect("valid")) {
        let rows = parity_rows(geometry);
        let inputs: Vec<Vec<u8>> = (0..geometry.data_shards()).map(|seed| noise(BYTES, seed)).collect();
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let mut parity = PreparedRows::new(Engine::Portable, rows.clone()).blocks(&slices);
        for (engine, kernel) in kernels(&rows) {
            assert!(kernel.blocks(&slices) == parity, "{engine}, {geometry}");
            for sample in 0..40 {
                let (block, byte) = (sample % parity.len(), (sample * 1_031) % BYTES);
                parity[block][byte] ^= 1 << (sample % 8);
                let outputs: Vec<&[u8]> = parity.iter().map(Vec::as_slice).collect();
                assert!(!kernel.compare(&slices, &outputs), "{engine}, {geometry}: block {block}, byte {byte}");
                parity[block][byte] ^= 1 << (sample % 8);
            }
        }
    }
}

#[test]
#[should_panic(expected = "all outputs have the length of the inputs")]
fn outputs_of_another_length_reach_no_kernel() {
    let rows = parity_rows(Geometry::new(2, 3).expect("valid"));
    PreparedRows::new(Engine::by_default(), rows).write(&[&[0; 100], &[0; 100]], &mut [&mut [0; 99]]);
}

#[test]
#[should_panic(expected = "all inputs have one length")]
fn inputs_of_several_lengths_reach_no_kernel() {
    let rows = parity_rows(Geometry::new(2, 3).expect("valid"));
    PreparedRows::new(Engine::by_default(), rows).blocks(&[&[0; 100], &[0; 99]]);
}

#[test]
#[should_panic(expected = "an output a row")]
fn a_missing_output_reaches_no_kernel() {
    let rows = parity_rows(Geometry::new(2, 4).expect("valid"));
    PreparedRows::new(Engine::by_default(), rows).write(&[&[0; 100], &[0; 100]], &mut [&mut [0; 100]]);
}
