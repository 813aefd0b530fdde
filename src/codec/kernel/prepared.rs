//! Rows of a matrix, ready for one engine.
//!
//! *Preconditions*: none; lengths are asserted, and a [`Kernel`] exists only where the processor was asked for it.

use super::column::{Factors, Kernel, Pass};
use super::portable;
use super::tables::{BIT_MATRICES, NIBBLES};
use crate::codec::engine::Engine;
use crate::codec::matrix::Matrix;
use std::iter::zip;
use std::ops::Range;

/// How many bytes of all inputs together are worked on at a time where the outputs take several passes: they are read
/// again by each, and should still be in the nearest cache.
const STRETCH_BYTES: usize = 32 * 1024;
/// A stretch of each input is a multiple of this, in bytes: more registers than any kernel takes in one step, so that
/// only the last stretch has a remainder.
const STRETCH_STEP_BYTES: usize = 512;

/// Rows of a matrix and an engine that multiplies blocks by them.
#[derive(Debug)]
pub(in crate::codec) struct PreparedRows {
    rows: Matrix,
    /// `None` is the portable engine.
    vectors: Option<Vectors>,
}

#[derive(Debug)]
struct Vectors {
    kernel: Kernel,
    /// What rows are summed up in one pass, by pass.
    groups: Vec<Range<usize>>,
    /// By group, then by input, then by row.
    factors: Vec<u8>,
}

impl PreparedRows {
    /// Rows for an engine; for the portable one if the processor cannot run it.
    pub(in crate::codec) fn new(engine: Engine, rows: Matrix) -> Self {
        let vectors = Kernel::of(engine).map(|kernel| Vectors::new(kernel, &rows));
        Self { rows, vectors }
    }

    /// Sets each of `outputs` to the sum of a row's products with `inputs`, whatever was in it before.
    ///
    /// There is an output a row and an input a column, and all have one length.
    pub(in crate::codec) fn write(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        let block_bytes = self.check(inputs, outputs.iter().map(|output| output.len()));
        match &self.vectors {
            None => portable::write(&self.rows, inputs, outputs),
            Some(vectors) if block_bytes < vectors.kernel.least_bytes => {
                for (output, block) in zip(outputs, vectors.short_blocks(inputs)) {
                    output.copy_from_slice(&block[..block_bytes]);
                }
            }
            Some(vectors) => {
                let places: Vec<*mut u8> = outputs.iter_mut().map(|output| output.as_mut_ptr()).collect();
                // SAFETY: the lengths were checked; the outputs are borrowed alone, so that they overlap with nothing.
                unsafe { vectors.run(vectors.kernel.write, inputs, &places) };
            }
        }
    }

    /// New blocks, each the sum of a row's products with `inputs`, of which there is one a column, all of one length.
    pub(in crate::codec) fn blocks(&self, inputs: &[&[u8]]) -> Vec<Vec<u8>> {
        let rows = self.rows.row_count();
        let block_bytes = self.check_inputs(inputs);
        match &self.vectors {
            Some(vectors) if block_bytes >= vectors.kernel.least_bytes => {
                let mut blocks: Vec<Vec<u8>> = (0..rows).map(|_| Vec::with_capacity(block_bytes)).collect();
                let places: Vec<*mut u8> = blocks.iter_mut().map(Vec::as_mut_ptr).collect();
                // SAFETY: the lengths were checked; the new blocks have room for as much and overlap with nothing.
                unsafe { vectors.run(vectors.kernel.write, inputs, &places) };
                // SAFETY: every byte of each was written just now.
                blocks.iter_mut().for_each(|block| unsafe { block.set_len(block_bytes) });
                blocks
            }
            _ => {
                let mut blocks = vec![vec![0; block_bytes]; rows];
                let mut outputs: Vec<&mut [u8]> = blocks.iter_mut().map(Vec::as_mut_slice).collect();
                self.write(inputs, &mut outputs);
                blocks
            }
        }
    }

    /// Whether each of `outputs` is the sum of a row's products with `inputs`; lengths and counts as for
    /// [`Self::write`]. Nothing is kept of what is computed.
    pub(in crate::codec) fn compare(&self, inputs: &[&[u8]], outputs: &[&[u8]]) -> bool {
        let block_bytes = self.check(inputs, outputs.iter().map(|output| output.len()));
        match &self.vectors {
            None => portable::compare(&self.rows, inputs, outputs),
            Some(vectors) if block_bytes < vectors.kernel.least_bytes => {
                zip(outputs, vectors.short_blocks(inputs)).all(|(output, block)| **output == block[..block_bytes])
            }
            Some(vectors) => {
                let places: Vec<*mut u8> = outputs.iter().map(|output| output.as_ptr().cast_mut()).collect();
                // SAFETY: the lengths were checked; a comparison writes nothing.
                unsafe { vectors.run(vectors.kernel.compare, inputs, &places) }
            }
        }
    }

    /// How many bytes it takes.
    pub(in crate::codec) fn bytes(&self) -> usize {
        let cells = self.rows.row_count() * self.rows.column_count();
        cells + self.vectors.as_ref().map_or(0, |vectors| vectors.factors.len())
    }

    /// The one length of all inputs. The kernels rest on what is asserted here.
    fn check_inputs(&self, inputs: &[&[u8]]) -> usize {
        assert_eq!(inputs.len(), self.rows.column_count(), "an input a column");
        let block_bytes = inputs[0].len();
        assert!(inputs.iter().all(|input| input.len() == block_bytes), "all inputs have one length");
        block_bytes
    }

    /// The one length of all inputs and outputs. The kernels rest on what is asserted here.
    fn check(&self, inputs: &[&[u8]], mut outputs: impl ExactSizeIterator<Item = usize>) -> usize {
        let block_bytes = self.check_inputs(inputs);
        assert_eq!(outputs.len(), self.rows.row_count(), "an output a row");
        assert!(outputs.all(|bytes| bytes == block_bytes), "all outputs have the length of the inputs");
        block_bytes
    }
}

impl Vectors {
    fn new(kernel: Kernel, rows: &Matrix) -> Self {
        let groups = groups(rows.row_count(), kernel.most_rows);
        let mut factors = Vec::with_capacity(rows.row_count() * rows.column_count() * kernel.factors.bytes());
        for group in &groups {
            for column in 0..rows.column_count() {
                for row in group.clone() {
                    let factor = usize::from(rows.row(row)[column]);
                    match kernel.factors {
                        Factors::Nibbles => factors.extend_from_slice(&NIBBLES[factor]),
                        Factors::BitMatrices => factors.extend_from_slice(&BIT_MATRICES[factor].to_ne_bytes()),
                    }
                }
            }
        }
        Self { kernel, groups, factors }
    }

    /// All passes over all of the blocks, until one gives `false`.
    ///
    /// # Safety
    ///
    /// The inputs are one a column, of one length, which is at least the kernel's least. The outputs are one a row and of
    /// that length too; if the passes write, they overlap with nothing, else they hold values.
    unsafe fn run(&self, pass: unsafe fn(&Pass<'_>) -> bool, inputs: &[&[u8]], outputs: &[*mut u8]) -> bool {
        let block_bytes = inputs[0].len();
        let stretch_bytes = match self.groups.len() {
            0 | 1 => block_bytes,
            _ => (STRETCH_BYTES / inputs.len()).next_multiple_of(STRETCH_STEP_BYTES),
        };
        let factor_bytes = inputs.len() * self.kernel.factors.bytes();
        (0..block_bytes).step_by(stretch_bytes).all(|from| {
            // A remainder that is shorter than a register belongs to the last stretch, where it overlaps backwards.
            let to = block_bytes.min(from + stretch_bytes);
            self.groups.iter().all(|group| {
                let factors = &self.factors[group.start * factor_bytes..group.end * factor_bytes];
                // SAFETY: the kernel exists, so the processor has its instructions. Lengths and outputs are as this
                // function demands. `to` is the length of a block, or of a stretch at least, so no less than a register.
                unsafe { pass(&Pass { factors, inputs, outputs: &outputs[group.clone()], from, to }) }
            })
        })
    }

    /// The outputs of blocks that are shorter than a register: computed at that length, with zeros behind.
    fn short_blocks(&self, inputs: &[&[u8]]) -> Vec<Vec<u8>> {
        let register_bytes = self.kernel.least_bytes;
        let mut padded = vec![0; inputs.len() * register_bytes];
        for (padded, input) in zip(padded.chunks_mut(register_bytes), inputs) {
            padded[..input.len()].copy_from_slice(input);
        }
        let padded: Vec<&[u8]> = padded.chunks(register_bytes).collect();
        let rows = self.groups.last().map_or(0, |group| group.end);
        let mut blocks = vec![vec![0; register_bytes]; rows];
        let places: Vec<*mut u8> = blocks.iter_mut().map(Vec::as_mut_ptr).collect();
        // SAFETY: inputs and outputs were made with that length just now.
        unsafe { self.run(self.kernel.write, &padded, &places) };
        blocks
    }
}

/// All rows, in as few groups as a pass allows, of about one size.
fn groups(rows: usize, most_rows: usize) -> Vec<Range<usize>> {
    let count = rows.div_ceil(most_rows);
    (0..count).map(|group| rows * group / count..rows * (group + 1) / count).collect()
}
