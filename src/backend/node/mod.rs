//! A node of the group that keeps shards.

mod refusal;
