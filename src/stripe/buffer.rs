//! Buffers for stripes, used again and again, so that memory stays what is in flight and no more.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// Lends buffers of one size and takes them back.
#[derive(Debug, Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    buffer_bytes: usize,
    max_idle: usize,
    idle: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// A pool of buffers of this many bytes; none exists before it is asked for.
    pub fn new(buffer_bytes: usize) -> Self {
        Self::keeping(buffer_bytes, usize::MAX)
    }

    /// The same, and of those that come back at most this many are kept.
    pub fn keeping(buffer_bytes: usize, max_idle: usize) -> Self {
        Self { shared: Arc::new(Shared { buffer_bytes, max_idle, idle: Mutex::default() }) }
    }

    /// An idle buffer, or a new one. What it holds is left over from its last use.
    pub fn take(&self) -> Buffer {
        let idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = idle.unwrap_or_else(|| vec![0; self.shared.buffer_bytes]);
        Buffer { bytes, used_bytes: self.shared.buffer_bytes, pool: Arc::clone(&self.shared) }
    }
}

/// A lent buffer; it goes back to its pool when it is dropped, also through [`Bytes`].
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    used_bytes: usize,
    pool: Arc<Shared>,
}

impl Buffer {
    /// All of it, to write in.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Freezes its first `used_bytes`, at most its size; the last slice of them gives the buffer back.
    pub fn freeze(mut self, used_bytes: usize) -> Bytes {
        self.used_bytes = used_bytes.min(self.bytes.len());
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.used_bytes]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.pool.max_idle {
            idle.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_last_slice_of_it_is_gone() {
        let pool = BufferPool::new(8);
        let idle = |pool: &BufferPool| pool.shared.idle.lock().expect("not poisoned").len();
        let bytes = pool.take().freeze(6);
        let slice = bytes.slice(2..4);
        drop(bytes);
        assert_eq!(idle(&pool), 0);
        drop(slice);
        assert_eq!(idle(&pool), 1);
        assert_eq!(pool.take().as_mut_slice().len(), 8);
    }

    #[test]
    fn no_more_buffers_are_kept_than_may_be() {
        let pool = BufferPool::keeping(8, 1);
        let (first, second) = (pool.take(), pool.take());
        drop((first, second));
        assert_eq!(pool.shared.idle.lock().expect("not poisoned").len(), 1);
    }
}
