//! What nodes said to the store, as lines for a person: their word, which hints at where to look.

use super::context::Context;
use super::moment::minutes;
use super::printable::Printable;
use super::render::count;
use shard::backend::node::{HeardNotice, NodeSaid};
use shard::peer::PeerAddress;
use shard::peer::storage::NoticeKind;
use std::collections::BTreeMap;

/// Lines that one node gets at the end of one command: it may say what it likes.
const MAX_LINES: usize = 4;
/// Characters that are shown of what a person wrote.
const MAX_SHOWN: usize = 400;

/// Tells what was heard since this was last done.
pub(crate) fn tell(context: &Context) {
    let mut by_node: BTreeMap<PeerAddress, Vec<HeardNotice>> = BTreeMap::new();
    for NodeSaid { address, notice } in context.nodes.take_said() {
        by_node.entry(address).or_default().push(notice);
    }
    for (address, notices) in by_node {
        let hidden = notices.len().saturating_sub(MAX_LINES);
        for notice in &notices[hidden..] {
            let when = moment(notice.said_ms);
            let hint = match notice.kind {
                NoticeKind::RepairNeeded => format!(": `{}` mends what still is", context.to_type("repair")),
                _ => String::new(),
            };
            let what = words(notice.kind, notice.shard_count, &notice.text);
            context.notices.warning(&format!("the node at {address} said, {when}: {what}{hint}"));
        }
        if hidden > 0 {
            context
                .notices
                .note(&format!("the node at {address} said {} more before that", count(hidden as u64, "thing")));
        }
    }
}

/// What a notice says.
pub(crate) fn words(kind: NoticeKind, shards: u64, text: &str) -> String {
    match kind {
        NoticeKind::RepairNeeded => format!("{} of yours there {} damaged", count(shards, "shard"), be(shards)),
        NoticeKind::QuotaReached => "it has no room for more of your shards".to_owned(),
        NoticeKind::Leaving => "it stops".to_owned(),
        NoticeKind::Text => {
            let shown: String = text.chars().take(MAX_SHOWN).collect();
            let more = if shown.len() < text.len() { "…" } else { "" };
            format!("\"{}{more}\"", Printable(&shown))
        }
    }
}

fn be(number: u64) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

/// To the minute, by the node's clock.
fn moment(ms: u64) -> String {
    minutes(i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_moves_no_cursor_and_fills_no_screen() {
        let said = words(NoticeKind::Text, 0, &"\u{1b}[2J\n".repeat(10_000));
        assert!(said.len() < 10 * MAX_SHOWN && !said.contains('\u{1b}') && !said.contains('\n'), "{said}");
        // What stands for damage are words of ours alone, whatever the node wrote.
        let damaged = words(NoticeKind::RepairNeeded, u64::MAX, "\u{1b}");
        assert_eq!(damaged, "18446744073709551615 shards of yours there are damaged");
        assert_eq!(words(NoticeKind::RepairNeeded, 1, ""), "1 shard of yours there is damaged");
        assert_eq!(moment(u64::MAX), moment(u64::MAX - 1));
    }
}
