//! `shard node answers`: what this node answered to those whose shards it keeps.

use super::book::{print, shown_moment};
use super::moment;
use crate::cli::args::ListAnswers;
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::Reader;
use crate::cli::table::{Table, Tone};
use serde::Serialize;
use shard::engine::Outcome;
use shard::id::{NodeId, ShardId};
use shard::node::home::{AskedBy, KeptAnswer, NodeHome};

/// An answer for scripts.
#[derive(Serialize)]
struct Entry {
    object: shard::id::ObjectId,
    shard: u8,
    block: u64,
    outcome: &'static str,
    owner: NodeId,
    asked_by: NodeId,
    by: AskedBy,
    time: String,
}

pub(super) fn list(home: &NodeHome, options: &ListAnswers, context: &mut Context) -> Result<ExitCode, Failure> {
    let answers = home.open()?.records.answers(usize::from(options.limit))?;
    if context.output.reader() == Reader::Script {
        let answers: Vec<Entry> = answers.iter().map(entry).collect();
        context.output.document("shard.node-answers/1", &serde_json::json!({ "answers": answers }))?;
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(["TIME", "SHARD", ">BLOCK", "OUTCOME", "BY", "OWNER"]);
    for answer in &answers {
        let KeptAnswer { shard, stripe_index, outcome, owner, by, saved_ms, .. } = answer;
        let (by, block) = match by {
            AskedBy::Challenge => ("challenge", stripe_index.to_string()),
            AskedBy::Scrub => ("scrub", "-".to_owned()),
            AskedBy::Read => ("read", "-".to_owned()),
        };
        let tone = if *outcome == Outcome::Answered { Tone::Plain } else { Tone::Bad };
        let cells = [
            shown_moment(*saved_ms),
            shard.to_string(),
            block,
            name(outcome).to_owned(),
            by.to_owned(),
            owner.to_string(),
        ];
        table.row(tone, cells);
    }
    print(&table, "nothing was asked yet", context)
}

fn entry(answer: &KeptAnswer) -> Entry {
    let ShardId { object, index: shard } = answer.shard;
    Entry {
        object,
        shard,
        block: answer.stripe_index,
        outcome: name(&answer.outcome),
        owner: answer.owner,
        asked_by: answer.asked_by,
        by: answer.by,
        time: moment(answer.saved_ms),
    }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered => "answered",
        Outcome::Wrong { .. } => "wrong",
        Outcome::Missing => "missing",
        Outcome::Silent { .. } => "silent",
    }
}
