//! A thousand puts that are begun at once: each waits for its turn, none fails, and memory does not grow with their number.

use crate::world::{geometry, name, putting};
use futures_util::future::join_all;
use shard::ops::put::{PutSource, put};
use shard::ops::verify::{VerifyMode, VerifyOptions, verify};
use shard::store::{InitOptions, OpenOptions, Store};
use std::process::Command;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// Names the folder in which a process that this test starts puts everything: its memory is measured alone.
const WORKER: &str = "SHARD_TEST_MANY_WORKER";
const PUTS: u64 = 1_000;
/// So much of a stripe, that all of them at once would need far more memory than is allowed.
const FILE_BYTES: u64 = 400_000;
/// What the process may take: the program and its tests, and eight puts.
const MOST_KIB: u64 = 128 * 1024;

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("the peak");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "what it took belongs to the result")]
async fn put_all(folder: &str) {
    let store = Store::open(folder.as_ref(), OpenOptions::default()).await.expect("the store opens");
    let store = Arc::new(store);
    let before = peak_kib();
    let puts = (0..PUTS).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let reader = Box::new(tokio::io::repeat(number as u8).take(FILE_BYTES + number));
            let source = PutSource::Reader { reader, name: name(&format!("many/{number}")) };
            put(&store, putting(vec![source], geometry(3, 5))).await.map(drop)
        })
    });
    for outcome in join_all(puts).await {
        outcome.expect("it ends").expect("stored");
    }
    let peak = peak_kib();
    println!("{PUTS} puts of {FILE_BYTES} bytes: {before} KiB before, {peak} KiB at most");
    assert!(peak < MOST_KIB, "{peak} KiB");
    let files = store.catalog(|catalog| catalog.stats()).await.expect("numbers").files;
    assert_eq!(files, PUTS);
}

#[test]
#[expect(clippy::print_stdout, reason = "what it took belongs to the result")]
fn a_thousand_puts_at_once_wait_for_one_another_and_share_their_memory() {
    if let Ok(folder) = std::env::var(WORKER) {
        return put_all(&folder);
    }
    let shared = std::path::Path::new("/dev/shm");
    let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(Store::init(folder.path(), InitOptions::default())).expect("a store");
    let test = "histories_many::a_thousand_puts_at_once_wait_for_one_another_and_share_their_memory";
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let run = command.args(["--exact", test, "--nocapture"]).env(WORKER, folder.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    said.lines().filter(|line| line.contains(" puts of ")).for_each(|line| println!("{line}"));
    runtime.block_on(async {
        let store = Store::open(folder.path(), OpenOptions::default()).await.expect("the store opens");
        let options = VerifyOptions { mode: VerifyMode::Quick, ..VerifyOptions::default() };
        let report = verify(&store, options).await.expect("verified");
        assert_eq!((report.summary.objects, report.summary.healthy), (PUTS, PUTS));
    });
}
