//! The engine that runs everywhere: table look-ups of `reed-solomon-erasure`, a cache-sized column at a time.

use super::engine::Engine;
use reed_solomon_erasure::galois_8;
use std::iter::zip;

/// How many bytes of each block are worked on at a time, so that a column of all inputs stays in the nearest cache.
const COLUMN_BYTES: usize = 4096;

/// Multiplication by table, one byte at a time.
#[derive(Debug)]
pub(super) struct Portable;

impl Engine for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn multiply(&self, rows: &[&[u8]], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        let block_bytes = inputs.first().map_or(0, |input| input.len());
        for start in (0..block_bytes).step_by(COLUMN_BYTES) {
            let column = start..block_bytes.min(start + COLUMN_BYTES);
            for (row, output) in zip(rows, outputs.iter_mut()) {
                let output = &mut output[column.clone()];
                output.fill(0);
                for (factor, input) in zip(*row, inputs) {
                    add_product(*factor, &input[column.clone()], output);
                }
            }
        }
    }
}

/// `output += factor · input`.
fn add_product(factor: u8, input: &[u8], output: &mut [u8]) {
    match factor {
        0 => {}
        1 => zip(output, input).for_each(|(sum, byte)| *sum ^= byte),
        _ => galois_8::mul_slice_xor(factor, input, output),
    }
}
