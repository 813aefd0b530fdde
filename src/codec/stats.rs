//! What a code costs and what it survives.

use crate::id::Geometry;
use serde::Serialize;

/// What a geometry costs in space and how many losses it survives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CodecStats {
    /// k: any this many shards give everything back.
    pub data_shards: usize,
    /// n: the shards there are when nothing is lost.
    pub total_shards: usize,
    /// Bytes stored per byte of data: n/k, always over 1.
    pub overhead: f64,
    /// The part of the stored bytes that is data: k/n, between 0 and 1.
    pub storage_efficiency: f64,
    /// n−k: how many shards may be lost.
    pub failures_survived: usize,
}

impl From<Geometry> for CodecStats {
    fn from(geometry: Geometry) -> Self {
        let (data, total) = (geometry.data_shards() as f64, geometry.total_shards() as f64);
        Self {
            data_shards: geometry.data_shards(),
            total_shards: geometry.total_shards(),
            overhead: total / data,
            storage_efficiency: data / total,
            failures_survived: geometry.parity_shards(),
        }
    }
}
