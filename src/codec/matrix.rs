//! The matrix of the code, and the rows that give lost blocks back from those that are left.

use crate::id::Geometry;
use reed_solomon_erasure::galois_8::{self, ReedSolomon};
use std::iter::zip;

/// A matrix over GF(2^8), row after row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Matrix {
    columns: usize,
    cells: Vec<u8>,
}

impl Matrix {
    fn zero(rows: usize, columns: usize) -> Self {
        Self { columns, cells: vec![0; rows * columns] }
    }

    fn identity(size: usize) -> Self {
        let mut matrix = Self::zero(size, size);
        (0..size).for_each(|index| matrix.row_mut(index)[index] = 1);
        matrix
    }

    /// The n × k matrix whose product with the data blocks is all blocks: the identity above the parity rows.
    ///
    /// The parity rows are what `reed-solomon-erasure` makes of the identity, and so are its own, byte for byte.
    pub(super) fn generator(geometry: Geometry) -> Self {
        let (data_shards, parity_shards) = (geometry.data_shards(), geometry.parity_shards());
        let code = ReedSolomon::new(data_shards, parity_shards).expect("a geometry has 1 ≤ k < n ≤ 255");
        let mut generator = Self::identity(data_shards);
        generator.cells.resize(geometry.total_shards() * data_shards, 0);
        let (data, parity) = generator.cells.split_at_mut(data_shards * data_shards);
        let data: Vec<_> = data.chunks(data_shards).collect();
        let mut parity: Vec<_> = parity.chunks_mut(data_shards).collect();
        code.encode_sep(&data, &mut parity).expect("k blocks and n−k blocks, all of k bytes");
        generator
    }

    /// Row by row: what turns the blocks `used` (k of them) into the blocks `wanted`, by this generator.
    pub(super) fn decode_rows(&self, used: &[u8], wanted: &[u8]) -> Self {
        let mut survivors = Self::zero(0, self.columns);
        used.iter().for_each(|index| survivors.cells.extend_from_slice(self.row(usize::from(*index))));
        let to_data = survivors.inverse().expect("any k rows of a systematic Vandermonde matrix are independent");
        let mut rows = Self::zero(wanted.len(), self.columns);
        for (position, index) in wanted.iter().enumerate() {
            for (factor, data_row) in zip(self.row(usize::from(*index)), to_data.rows()) {
                add_row(rows.row_mut(position), *factor, data_row);
            }
        }
        rows
    }

    /// The rows that give the parity blocks, by this generator: all but the square on top.
    pub(super) fn parity_rows(&self) -> Self {
        Self { columns: self.columns, cells: self.cells[self.columns * self.columns..].to_vec() }
    }

    pub(super) fn row_count(&self) -> usize {
        self.cells.len() / self.columns
    }

    pub(super) fn column_count(&self) -> usize {
        self.columns
    }

    pub(super) fn row(&self, index: usize) -> &[u8] {
        &self.cells[index * self.columns..][..self.columns]
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.cells.chunks(self.columns)
    }

    fn row_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.cells[index * self.columns..][..self.columns]
    }

    /// The inverse of a square matrix by Gauss and Jordan's elimination; `None` if there is none.
    fn inverse(mut self) -> Option<Self> {
        let size = self.columns;
        let mut inverse = Self::identity(size);
        for column in 0..size {
            let pivot = (column..size).find(|row| self.row(*row)[column] != 0)?;
            let scale = galois_8::div(1, self.row(pivot)[column]);
            for matrix in [&mut self, &mut inverse] {
                matrix.swap_rows(pivot, column);
                matrix.row_mut(column).iter_mut().for_each(|cell| *cell = galois_8::mul(scale, *cell));
            }
            let (pivot_row, pivot_inverse) = (self.row(column).to_vec(), inverse.row(column).to_vec());
            for row in (0..size).filter(|row| *row != column) {
                let factor = self.row(row)[column];
                add_row(self.row_mut(row), factor, &pivot_row);
                add_row(inverse.row_mut(row), factor, &pivot_inverse);
            }
        }
        Some(inverse)
    }

    fn swap_rows(&mut self, one: usize, other: usize) {
        for column in 0..self.columns {
            self.cells.swap(one * self.columns + column, other * self.columns + column);
        }
    }
}

/// `sum += factor · row`; over GF(2^8) adding is also subtracting.
fn add_row(sum: &mut [u8], factor: u8, row: &[u8]) {
    if factor != 0 {
        galois_8::mul_slice_xor(factor, row, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_without_an_inverse_has_none() {
        let singular = Matrix { columns: 2, cells: vec![3, 5, 3, 5] };
        assert_eq!(singular.inverse(), None);
        let swapped = Matrix { columns: 2, cells: vec![0, 1, 1, 0] };
        assert_eq!(swapped.clone().inverse(), Some(swapped));
    }
}
