//! The decoding rows of the losses met last: the stripes of an object mostly lose the same blocks.

use super::matrix::Matrix;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many patterns of loss are remembered. Rows have at most (n−k)·k ≤ 16,256 bytes: half a MiB in all at the worst.
const REMEMBERED_PATTERNS: usize = 32;

/// Remembers rows by the blocks used and the blocks wanted; the oldest is forgotten first.
#[derive(Debug, Default)]
pub(super) struct DecodeCache {
    remembered: Mutex<VecDeque<Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    used: Vec<u8>,
    wanted: Vec<u8>,
    rows: Arc<Matrix>,
}

impl DecodeCache {
    /// The rows of `generator` for this pattern, computed outside the lock if they are not remembered.
    pub(super) fn rows(&self, generator: &Matrix, used: &[u8], wanted: &[u8]) -> Arc<Matrix> {
        let same = |entry: &&Remembered| entry.used == used && entry.wanted == wanted;
        if let Some(entry) = self.lock().iter().find(same) {
            return Arc::clone(&entry.rows);
        }
        let rows = Arc::new(generator.decode_rows(used, wanted));
        let entry = Remembered { used: used.to_vec(), wanted: wanted.to_vec(), rows: Arc::clone(&rows) };
        let mut remembered = self.lock();
        remembered.truncate(REMEMBERED_PATTERNS - 1);
        remembered.push_front(entry);
        rows
    }

    /// An entry is pushed whole or not at all, so what a panicking thread leaves is still right.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
