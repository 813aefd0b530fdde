//! The decoding rows of the losses that were met: the stripes of an object mostly lose the same blocks.

use super::kernel::PreparedRows;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// How many patterns of loss are found again without a lock, and how many more with one.
const REMEMBERED_PATTERNS: usize = 32;
/// How many bytes of rows either part keeps; one pattern is kept even if it takes more, which is at most 530 KB.
const REMEMBERED_BYTES: usize = 1024 * 1024;

/// Remembers rows by the blocks used and the blocks wanted.
///
/// The first patterns stay, and are found without a lock: most codecs see a few, and see them with every stripe. Those
/// that come when there is no room are kept behind a lock, and the oldest is forgotten first.
#[derive(Debug)]
pub(super) struct DecodeCache {
    first: [OnceLock<Remembered>; REMEMBERED_PATTERNS],
    /// What of `first` may be filled, by the bytes that the largest rows of this code take.
    room: usize,
    later: Mutex<VecDeque<Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    used: Vec<u8>,
    wanted: Vec<u8>,
    rows: Arc<PreparedRows>,
}

impl Remembered {
    fn is_for(&self, used: &[u8], wanted: &[u8]) -> bool {
        self.used == used && self.wanted == wanted
    }
}

impl DecodeCache {
    /// For rows of at most so many bytes.
    pub(super) fn new(most_bytes: usize) -> Self {
        let room = (REMEMBERED_BYTES / most_bytes.max(1)).clamp(1, REMEMBERED_PATTERNS);
        Self { first: [const { OnceLock::new() }; REMEMBERED_PATTERNS], room, later: Mutex::default() }
    }

    /// The rows for this pattern; `compute` makes them, outside the lock, if they are not remembered.
    pub(super) fn rows(&self, used: &[u8], wanted: &[u8], compute: impl Fn() -> PreparedRows) -> Arc<PreparedRows> {
        let new = || Remembered { used: used.to_vec(), wanted: wanted.to_vec(), rows: Arc::new(compute()) };
        for place in &self.first[..self.room] {
            // An empty place is taken; of several threads one, and the others look at what it left there.
            let remembered = place.get_or_init(new);
            if remembered.is_for(used, wanted) {
                return Arc::clone(&remembered.rows);
            }
        }
        if let Some(remembered) = self.lock().iter().find(|remembered| remembered.is_for(used, wanted)) {
            return Arc::clone(&remembered.rows);
        }
        let remembered = new();
        let rows = Arc::clone(&remembered.rows);
        let mut later = self.lock();
        later.truncate(self.room - 1);
        later.push_front(remembered);
        rows
    }

    /// An entry is pushed whole or not at all, so what a panicking thread leaves is still right.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Remembered>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::Engine;
    use super::super::matrix::Matrix;
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_is_remembered_is_computed_once_and_has_bounds() {
        let generator = Matrix::generator(crate::id::Geometry::new(1, 2).expect("valid"));
        let computed = Cell::new(0);
        for (most_bytes, room) in [(0, 32), (40_000, 26), (5_000_000, 1)] {
            let cache = DecodeCache::new(most_bytes);
            let rows = |pattern: usize| {
                computed.set(0);
                cache.rows(&[pattern as u8], &[1], || {
                    computed.set(computed.get() + 1);
                    PreparedRows::new(Engine::Portable, generator.clone())
                });
                computed.get()
            };
            let twice = |pattern| (rows(pattern), rows(pattern));
            assert!((0..2 * room).all(|pattern| twice(pattern) == (1, 0)), "{room} places");
            // The first ones and the newest are there; what is one too many pushed one of the others out.
            assert!((0..room).all(|pattern| rows(pattern) == 0));
            assert_eq!((rows(2 * room - 1), rows(2 * room), rows(2 * room)), (0, 1, 0));
            assert_eq!(rows(room), 1);
            assert_eq!(cache.lock().len(), room);
        }
    }
}
