//! `shard node scrub`: the node that is served checks what it keeps for others.

use super::served::{answer, other_answer};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::Reader;
use crate::cli::quantity::ByteSize;
use crate::cli::render::count;
use crate::cli::table::{Table, Tone};
use serde::Serialize;
use shard::id::{NodeId, ShardId};
use shard::node::home::{Answer, NodeHome, Question, ScrubbedShards};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What was found of all owners' shards.
#[derive(Debug, Default, Serialize)]
struct Found {
    owners: Vec<FoundOf>,
    shards: u64,
    bytes: u64,
}

/// What was found of one owner's.
#[derive(Debug, Serialize)]
struct FoundOf {
    owner: NodeId,
    shards: u64,
    bytes: u64,
    damaged: Vec<ShardId>,
    /// Why not all of them were read.
    problem: Option<String>,
}

pub(super) async fn run(home: &NodeHome, context: &mut Context) -> Result<ExitCode, Failure> {
    let outcome = find(home, context).await;
    context.settle(Ok(()))?;
    let found = outcome?;
    match context.output.reader() {
        Reader::Script => context.output.document("shard.node-scrub/1", &found)?,
        Reader::Person if found.owners.is_empty() => context.notices.note("nobody keeps anything here"),
        Reader::Person => context.output.text(&page(&found))?,
    }
    for (owner, problem) in found.owners.iter().filter_map(|of| Some((of.owner, of.problem.as_ref()?))) {
        context.notices.warning(&format!("not all that {owner} keeps here was read: {problem}"));
    }
    let damaged: u64 = found.owners.iter().map(|of| of.damaged.len() as u64).sum();
    let unread = found.owners.iter().filter(|of| of.problem.is_some()).count() as u64;
    if damaged == 0 && unread > 0 {
        let failure =
            Failure::new(FailureKind::Failed, format!("the shards of {} were not all read", count(unread, "owner")));
        return Err(failure.hint("run it again when no other check of them is under way"));
    }
    if damaged == 0 {
        return Ok(ExitCode::Done);
    }
    let damaged = count(damaged, "shard");
    context.notices.note(&format!("{damaged} damaged: who owns them hears it at the next command that uses this node"));
    Ok(ExitCode::Degraded)
}

/// Asks page by page, so that a node answers soon, however much it keeps.
async fn find(home: &NodeHome, context: &Context) -> Result<Found, Failure> {
    let (mut found, mut of, mut after) = (Found::default(), BTreeMap::new(), None);
    let controls = context.controls();
    controls.begin("scrub", None, None);
    loop {
        let question = Question::Scrub { after };
        let asked = tokio::select! {
            asked = answer(home, &question) => asked?,
            () = context.cancel.cancelled() => return Err(Failure::new(FailureKind::Cancelled, "cancelled")),
        };
        let Answer::Scrubbed { page } = asked else { return Err(other_answer()) };
        controls.items(page.shards);
        after = page.next;
        take_in(&mut of, page, &mut found);
        if after.is_none() {
            controls.end();
            found.owners = of.into_values().collect();
            return Ok(found);
        }
    }
}

fn take_in(of: &mut BTreeMap<NodeId, FoundOf>, page: ScrubbedShards, found: &mut Found) {
    let ScrubbedShards { owner, shards, bytes, damaged, failure, .. } = page;
    let Some(owner) = owner else { return };
    let entry = of.entry(owner);
    let entry = entry.or_insert_with(|| FoundOf { owner, shards: 0, bytes: 0, damaged: Vec::new(), problem: None });
    entry.problem = entry.problem.take().or(failure);
    entry.shards += shards;
    entry.bytes += bytes;
    entry.damaged.extend(damaged);
    found.shards += shards;
    found.bytes += bytes;
}

fn page(found: &Found) -> String {
    let mut table = Table::new(["OWNER", ">SHARDS", ">SIZE", ">DAMAGED"]);
    for of in &found.owners {
        let tone = if of.damaged.is_empty() { Tone::Plain } else { Tone::Bad };
        let cells =
            [of.owner.to_string(), of.shards.to_string(), ByteSize(of.bytes).to_string(), of.damaged.len().to_string()];
        table.row(tone, cells);
    }
    let mut page = table.render();
    for shard in found.owners.iter().flat_map(|of| &of.damaged) {
        writeln!(page, "damaged: {shard}").expect("a String takes it");
    }
    page
}
