//! What a served node keeps of the challenges that it answered.

use super::desk::Desk;
use super::node_desk::within;
use super::node_storage_desk::{SEED, access, seed_file};
use shard::backend::contract::clause_15_a_challenge_shows_blocks_with_their_paths;
use shard::backend::{Backend, NodeBackend};
use shard::crypto::{Keyring, MasterKey};
use shard::engine::Outcome;
use shard::node::home::{AskedBy, NodeHome, NodeSettings, ServeOptions, serve};
use shard::peer::{NodeIdentity, PeerAddress};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_to_a_challenge_about_what_is_there_is_a_record_of_the_node() {
    let dir = tempfile::tempdir().expect("a folder");
    let (home, seed) = (NodeHome::at(dir.path().join("node")), seed_file(dir.path(), SEED));
    let settings = NodeSettings { listen: "127.0.0.1:0".parse().expect("an address"), ..NodeSettings::default() };
    home.init(&settings).expect("made");
    let options = ServeOptions::new(home.seeds(Some(&seed)).expect("a seed"), settings);
    let (stopping, (ready, served)) = (CancellationToken::new(), oneshot::channel());
    let serving = {
        let (home, stopping) = (home.clone(), stopping.clone());
        tokio::spawn(async move {
            let told = |served: &shard::node::home::Served| ready.send(served.listen).expect("somebody waits");
            serve(&home, options, stopping, told).await
        })
    };
    let listen = within(served).await.expect("it serves").expect("it listens");
    let address: PeerAddress = format!("node://{listen}").parse().expect("an address");
    let access = access(1, &seed, None);
    let place: Arc<dyn Backend> = Arc::new(NodeBackend::open(address, access.clone(), None));
    // The clause asks six times for four blocks each: before the shard is there, which nobody has to know; as it is; with a
    // damaged block that is not among them, with one that is, with a damaged leaf; and cut short.
    clause_15_a_challenge_shows_blocks_with_their_paths(&place).await;
    access.close().await;
    let owner = NodeIdentity::from_seed(&Keyring::new(MasterKey::from_bytes([1; 32])).node_seed()).id();
    stopping.cancel();
    within(serving).await.expect("it did not panic").expect("it served");
    // And a person sees them.
    let desk = Desk::new();
    let data = home.folder().display().to_string();
    let told = desk.json(0, &["node", "--data", &data, "answers", "--limit", "1000"]);
    let told = told["answers"].as_array().expect("answers").clone();
    let damaged: Vec<_> = told.iter().filter(|answer| answer["outcome"] == "wrong").collect();
    assert!(told.len() == 20 && damaged.len() == 1 && damaged[0]["block"] == 33, "{told:?}");
    assert!(desk.expect(0, &["node", "--data", &data, "answers"]).text().contains("challenge"));
    let answers = home.open().expect("opened").records.answers(1000).expect("answers");
    assert!(answers.iter().all(|answer| answer.owner == owner && answer.asked_by == owner));
    assert!(answers.iter().all(|answer| answer.by == AskedBy::Challenge && answer.saved_ms > 0));
    let count = |is_it: fn(&Outcome) -> bool| answers.iter().filter(|answer| is_it(&answer.outcome)).count();
    let answered = count(|outcome| *outcome == Outcome::Answered);
    let wrong = count(|outcome| matches!(outcome, Outcome::Wrong { .. }));
    let missing = count(|outcome| *outcome == Outcome::Missing);
    assert_eq!((answered, wrong, missing), (15, 1, 4));
    let stripes = answers.iter().filter(|answer| matches!(answer.outcome, Outcome::Wrong { .. }));
    assert_eq!(stripes.map(|answer| answer.stripe_index).collect::<Vec<_>>(), [33]);
}
