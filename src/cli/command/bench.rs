//! `shard bench`.

use crate::cli::args::Bench;
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::Reader;
use crate::cli::quantity::ByteSize;
use crate::cli::table::{Table, Tone};
use shard::ops::{self, BenchOptions, BenchReport, LevelBench};
use std::path::PathBuf;
use std::time::Duration;

/// What a figure may take at most: beyond it nothing gets steadier.
const MAX_MEASURE_FOR: Duration = Duration::from_secs(60);

pub(super) async fn bench(options: Bench, context: &mut Context) -> Result<ExitCode, Failure> {
    let measure_for = options.time.map_or(ops::MEASURE_FOR, |span| span.0);
    if measure_for > MAX_MEASURE_FOR {
        let said = "--time is how long each of the figures takes, and there are many: at most 60s";
        return Err(Failure::new(FailureKind::Usage, said).hint("shard bench --time 1s"));
    }
    let controls = context.controls();
    let report = context.settle(ops::bench(BenchOptions { measure_for, scratch: scratch()?, controls }).await)?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.bench/1", &report)?,
        Reader::Person => context.output.text(&page(&report))?,
    }
    Ok(ExitCode::Done)
}

/// A name for a folder that nobody has.
fn scratch() -> Result<PathBuf, Failure> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::new(FailureKind::Local, format!("the system gives no random bytes: {error}")))?;
    Ok(std::env::temp_dir().join(format!("shard-bench-{}", hex::encode(random))))
}

fn page(report: &BenchReport) -> String {
    format!(
        "original data, one thread, engine {}\n{}\noriginal data, one thread, by engine\n{}\n\
         sealed files, from memory to memory, {} threads\n{}",
        report.engine,
        stages(&report.levels),
        engines(&report.levels),
        report.threads,
        whole(&report.levels)
    )
}

fn stages(levels: &[LevelBench]) -> String {
    let mut table = Table::new(["LEVEL", ">K/N", ">ENCODE", ">RECONSTRUCT", ">CHECK", ">HASH", ">SEAL", ">OPEN"]);
    for level in levels {
        let cells = [
            level.level.clone(),
            geometry(level),
            rate(level.encode_bytes_per_s),
            rate(level.reconstruct_bytes_per_s),
            rate(level.check_bytes_per_s),
            rate(level.hash_bytes_per_s),
            rate(level.seal_bytes_per_s),
            rate(level.open_bytes_per_s),
        ];
        table.row(Tone::Plain, cells);
    }
    table.render()
}

fn engines(levels: &[LevelBench]) -> String {
    let mut table = Table::new([">K/N", "ENGINE", ">ENCODE", ">RECONSTRUCT", ">CHECK"]);
    for level in levels {
        for engine in &level.engines {
            let cells = [
                geometry(level),
                engine.engine.clone(),
                rate(engine.encode_bytes_per_s),
                rate(engine.reconstruct_bytes_per_s),
                rate(engine.check_bytes_per_s),
            ];
            table.row(Tone::Plain, cells);
        }
    }
    table.render()
}

fn whole(levels: &[LevelBench]) -> String {
    let mut table = Table::new(["LEVEL", ">K/N", ">PUT", ">RECOVER"]);
    for level in levels {
        let (put, recover) = (rate(level.put_bytes_per_s), rate(level.recover_bytes_per_s));
        table.row(Tone::Plain, [level.level.clone(), geometry(level), put, recover]);
    }
    table.render()
}

fn geometry(level: &LevelBench) -> String {
    format!("{}/{}", level.data_shards, level.total_shards)
}

/// A float of bytes per second saturates when it becomes an integer.
fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", ByteSize(bytes_per_s as u64))
}
