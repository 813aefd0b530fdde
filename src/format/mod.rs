//! The shard file and its manifest.

pub mod index;
pub mod name;
