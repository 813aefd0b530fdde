//! What becomes of a store when its program is killed, its system calls fail, or the power goes: the program as it is
//! shipped runs under a tracer, which stops it before each call and does to it what the test wants.
//!
//! ```text
//! tracer    runs the program and stops it before and after each system call
//! call      what a stopped thread is about to do, and to which file
//! stages    the operations, each on a store that it has something to do in
//! oracle    what must hold afterwards
//! disk      a disk of which only what was synced is sure
//! record    what the program did to such a disk
//! ```

mod call;
mod disk;
mod failures;
mod failures_power;
mod kills;
mod oracle;
mod power;
mod power_first;
mod record;
mod stages;
mod tracer;

pub(crate) use crate::budget::Budget;
pub(crate) use kills::{count_changes, kill};
pub(crate) use stages::copy_tree;
pub(crate) use tracer::can_trace;

use call::Call;
use tracer::{Ended, Traced, Verdict, Watcher, run};
