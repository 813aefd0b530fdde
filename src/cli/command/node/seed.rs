//! `shard node seed`: the secret that a group shares. Only `show` prints it.

use crate::cli::args::{AddSeed, NewSeed};
use crate::cli::command::key::write_new;
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use shard::node::home::NodeHome;
use shard::peer::MAX_SEED_TEXT_BYTES;
use std::fs::File;
use std::io::{self, Read};
use zeroize::Zeroizing;

/// What standard input is called where a file would be named.
const STDIN: &str = "standard input";

pub(super) fn new(home: &NodeHome, options: &NewSeed, context: &mut Context) -> Result<ExitCode, Failure> {
    if let Some(path) = options.output.as_ref().filter(|path| path.symlink_metadata().is_ok()) {
        let message = format!("{} is there already, and is kept", path.display());
        return Err(Failure::new(FailureKind::Refused, message).hint("name a file that is not there yet"));
    }
    let (seed, count) = home.new_seed()?;
    if let Some(path) = &options.output {
        let mut text = Zeroizing::new(String::with_capacity(MAX_SEED_TEXT_BYTES));
        text.push_str(&seed.to_text());
        text.push('\n');
        let show = context.to_type("node seed show");
        write_new(path, text.as_bytes())
            .map_err(|failure| failure.hint(format!("the seed is made and kept all the same: `{show}` prints it")))?;
    }
    let output = options.output.as_ref().map(|path| path.to_string_lossy());
    let said = match &output {
        Some(path) => {
            format!("the seed is in {}: hand it to the others by a way that nobody else sees", Printable(path))
        }
        None => format!("`{}` prints it for the others", context.to_type("node seed show")),
    };
    tell(("shard.node-seed-new/1", count), &said, output.as_deref(), context)
}

pub(super) fn show(home: &NodeHome, context: &mut Context) -> Result<ExitCode, Failure> {
    let ring = home.seeds(context.environment.seed_file.as_deref())?;
    let texts: Vec<Zeroizing<String>> = ring.seeds().iter().map(|seed| seed.to_text()).collect();
    match context.output.reader() {
        Reader::Script => {
            let seeds: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
            context.output.document("shard.node-seed/1", &serde_json::json!({ "seeds": seeds }))?;
        }
        Reader::Person => {
            for text in &texts {
                context.output.text(text)?;
                context.output.text("\n")?;
            }
        }
    }
    if texts.len() > 1 {
        context
            .notices
            .note("the group changes its seed: the first is the older one, and both are good until it is retired");
    }
    Ok(ExitCode::Done)
}

pub(super) fn add(home: &NodeHome, options: &AddSeed, context: &mut Context) -> Result<ExitCode, Failure> {
    let is_stdin = options.file.as_os_str() == "-";
    let from = if is_stdin { STDIN.into() } else { options.file.to_string_lossy() };
    let failed = |error: io::Error| {
        let kind = if error.kind() == io::ErrorKind::NotFound { FailureKind::NotFound } else { FailureKind::Local };
        Failure::new(kind, format!("cannot read {}", Printable(&from))).because(error)
    };
    // Room at once for all of it, so that no copy is left behind by growing; one byte more tells that it is too long.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_SEED_TEXT_BYTES + 1));
    let most = MAX_SEED_TEXT_BYTES as u64 + 1;
    let read = match is_stdin {
        true => io::stdin().lock().take(most).read_to_end(&mut text),
        false => File::open(&options.file).and_then(|file| file.take(most).read_to_end(&mut text)),
    };
    read.map_err(failed)?;
    let count = home.add_seed(&text, &from)?;
    tell(("shard.node-seed-add/1", count), "the seed is taken in", None, context)
}

pub(super) fn retire(home: &NodeHome, context: &mut Context) -> Result<ExitCode, Failure> {
    home.retire_seed()?;
    tell(("shard.node-seed-retire/1", 1), "the older seed is forgotten", None, context)
}

/// Says how many seeds there are now, and what that means.
fn tell(
    (schema, count): (&'static str, usize),
    said: &str,
    output: Option<&str>,
    context: &mut Context,
) -> Result<ExitCode, Failure> {
    match context.output.reader() {
        Reader::Script => {
            context.output.document(schema, &serde_json::json!({ "seeds": count, "output": output }))?;
        }
        Reader::Person => context.output.text(&format!("{said}\n"))?,
    }
    if count > 1 {
        let (serve, retire) = (context.to_type("node serve"), context.to_type("node seed retire"));
        context.notices.note(&format!(
            "both seeds are good from the next start of `{serve}` on; `{retire}`, once all nodes have the newer"
        ));
    }
    if context.environment.seed_file.is_some() {
        context.notices.warning("SHARD_SEED_FILE is set: its seed is used, and not those of the node's folder");
    }
    Ok(ExitCode::Done)
}
