//! The operations: each moves bytes between people's files and the backends, one operation a file.
//!
//! *What it is.* `put`, `recover`, `verify`, `repair` and the rest, each an async function over a `Store` that takes one
//! options struct and gives one report.
//!
//! *What it knows.* The order of writes (what must be durable before what), and everything on the floors below.
//!
//! *What it does not know.* Flags, terminals, exit codes, the environment: nothing here prints.
//!
//! *Invariants.* Damage is reported as data, not as an error. Nothing is deleted because it seems absent. Progress goes out
//! through a callback; nothing calls upward.

mod adopt;
mod backends;
pub mod backup;
mod bench;
pub mod catalog_stats;
mod controls;
pub mod drain;
pub mod examine;
pub mod gc;
pub mod ingest;
pub mod leftovers;
pub mod list;
pub mod mend;
mod metrics;
pub mod proof;
pub mod prune;
pub mod put;
pub mod reader;
pub mod rebuild;
pub mod recover;
pub mod refresh;
pub mod remove;
pub mod repair;
pub mod scrub;
pub mod show;
pub mod status;
mod timestamp;
pub mod verify;
pub mod writer;

pub use adopt::adopt_places;
pub use backends::{
    AddedBackend, BackendCheck, ListedBackend, Marking, Removing, add_backend, check_backends, list_backends,
    remove_backend,
};
pub use bench::{BenchOptions, BenchReport, EngineBench, LevelBench, MEASURE_FOR, bench};
pub use controls::{Controls, ProgressEvent, ProgressSink};
pub use metrics::prometheus;
pub use timestamp::Timestamp;
