//! The kernel that runs everywhere: table look-ups of `reed-solomon-erasure`, a cache-sized column at a time. It is safe
//! code and has no preconditions but those of its callers: a row an output, a cell in it an input, all of one length.

use super::super::matrix::Matrix;
use reed_solomon_erasure::galois_8;
use std::iter::zip;
use std::ops::Range;

/// How many bytes of each block are worked on at a time, so that a column of all inputs stays in the nearest cache.
pub(super) const COLUMN_BYTES: usize = 4096;

/// Sets each output to the sum of a row's products with the inputs, whatever was in it before.
pub(super) fn write(rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    for column in columns(inputs) {
        for (row, output) in zip(rows.rows(), outputs.iter_mut()) {
            sum(row, inputs, column.clone(), &mut output[column.clone()]);
        }
    }
}

/// Whether each output is the sum of a row's products with the inputs.
pub(super) fn compare(rows: &Matrix, inputs: &[&[u8]], outputs: &[&[u8]]) -> bool {
    let mut expected = [0; COLUMN_BYTES];
    columns(inputs).all(|column| {
        zip(rows.rows(), outputs).all(|(row, output)| {
            let expected = &mut expected[..column.len()];
            sum(row, inputs, column.clone(), expected);
            *expected == output[column.clone()]
        })
    })
}

/// The blocks, cut into columns.
fn columns(inputs: &[&[u8]]) -> impl Iterator<Item = Range<usize>> {
    let block_bytes = inputs.first().map_or(0, |input| input.len());
    (0..block_bytes).step_by(COLUMN_BYTES).map(move |start| start..block_bytes.min(start + COLUMN_BYTES))
}

fn sum(row: &[u8], inputs: &[&[u8]], column: Range<usize>, output: &mut [u8]) {
    output.fill(0);
    for (factor, input) in zip(row, inputs) {
        add_product(*factor, &input[column.clone()], output);
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
