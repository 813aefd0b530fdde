//! `shard proof`.

use crate::cli::args::{CheckProof, CreateProof};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::render::{count, facts};
use shard::merkle::MAX_PROOF_BYTES;
use shard::ops::proof::{self, CheckProofOptions, CheckProofReport, CreateProofOptions};
use shard::store::Contact;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// A proof's file is at most this many bytes: more is no proof, and is not read.
const MAX_FILE_BYTES: u64 = MAX_PROOF_BYTES as u64 + 64 * 1024;

pub(super) async fn create(options: CreateProof, context: &mut Context) -> Result<ExitCode, Failure> {
    let store = context.open(Contact::Backends).await?;
    let wanted = CreateProofOptions {
        name: options.name,
        version: None,
        shard: options.shard,
        block: options.block,
        controls: context.controls(),
    };
    let document = context.settle(proof::create_proof(&store, wanted).await)?;
    let broken = |error| Failure::new(FailureKind::Output, "cannot write the proof as JSON").because(error);
    let mut line = serde_json::to_vec(&document).map_err(broken)?;
    line.push(b'\n');
    match &options.output {
        None => context.output.bytes(&line)?,
        Some(path) => {
            write(path, &line).map_err(|error| {
                Failure::new(FailureKind::Output, format!("cannot write {}", path.display())).because(error)
            })?;
            context.notices.note(&format!(
                "wrote the proof to {}; its object root is {}",
                path.display(),
                document.root
            ));
        }
    }
    Ok(ExitCode::Done)
}

/// A file that is there already is somebody's. Half of a proof would be in the way of the next attempt, so it goes.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

pub(super) async fn check(options: CheckProof, context: &mut Context) -> Result<ExitCode, Failure> {
    let json = read(&options.file)?;
    let wanted = CheckProofOptions { json, root: options.root, shard_file: options.shard_file };
    let report = context.settle(proof::check_proof(wanted).await)?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.proof-check/1", &report)?,
        Reader::Person => context.output.text(&page(&report))?,
    }
    if report.valid && !report.root_given {
        context
            .notices
            .warning("the root came with the proof: compare it with one you trust, or give that with --root");
    }
    match &report.problem {
        None => Ok(ExitCode::Done),
        Some(problem) => Err(Failure::new(FailureKind::Failed, "the proof does not hold").because(problem)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| {
        let kind = if error.kind() == io::ErrorKind::NotFound { FailureKind::NotFound } else { FailureKind::Local };
        Failure::new(kind, format!("cannot read the proof {}", path.display())).because(error)
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

fn page(report: &CheckProofReport) -> String {
    let what = match report.block {
        Some(block) => format!("block {block} of shard {}", report.shard),
        None => format!("shard {}", report.shard),
    };
    let checked = match report.blocks_checked {
        0 => "no shard file was given".to_owned(),
        blocks => format!("{} of the shard file", count(blocks, "block")),
    };
    facts([
        ("proof", if report.valid { "valid" } else { "NOT valid" }.to_owned()),
        ("of", format!("{what} of object {}", report.object)),
        ("root", Printable(&report.root.to_string()).to_string()),
        ("checked", checked),
    ])
}
