//! `shard repair` and `shard backend drain`.

use crate::cli::args::{DrainBackend, Repair};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};

pub(super) async fn run(_options: Repair, _context: &mut Context) -> Result<ExitCode, Failure> {
    Err(Failure::new(FailureKind::Failed, "not here yet"))
}

pub(super) async fn drain(_options: DrainBackend, _context: &mut Context) -> Result<ExitCode, Failure> {
    Err(Failure::new(FailureKind::Failed, "not here yet"))
}
