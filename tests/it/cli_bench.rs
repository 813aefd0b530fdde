//! `shard bench`: figures for every level and engine, in a time that can be chosen, and nothing left behind.

use super::desk::{Desk, has_keys};
use serde_json::Value;
use shard::codec::Engine;
use std::fs;

fn is_rate(value: &Value) -> bool {
    value.as_f64().is_some_and(|rate| rate.is_finite() && rate > 0.0)
}

fn bench(desk: &mut Desk) -> Value {
    let temporary = desk.path("temporary");
    fs::create_dir_all(&temporary).expect("a folder");
    desk.set("TMPDIR", temporary.to_str().expect("UTF-8"));
    let report = desk.json(0, &["bench", "--time", "1ms"]);
    assert_eq!(fs::read_dir(&temporary).expect("lists").count(), 0, "the folder that it made is gone");
    report
}

#[test]
fn bench_measures_every_level_with_every_engine_and_the_whole_in_the_time_it_is_given() {
    let mut desk = Desk::new();
    let report = bench(&mut desk);
    has_keys(&report, &["schema", "engine", "measure_ms", "threads", "levels"]);
    assert_eq!((&report["schema"], &report["measure_ms"]), (&"shard.bench/1".into(), &1.into()));
    let levels = report["levels"].as_array().expect("levels");
    let names: Vec<_> = levels.iter().map(|level| level["level"].as_str().expect("a name")).collect();
    assert_eq!(names, ["minimal", "personal", "federation", "paranoid"]);
    let engines: Vec<_> = Engine::available().into_iter().map(Engine::name).collect();
    for level in levels {
        has_keys(level, &["data_shards", "total_shards", "block_bytes", "engines"]);
        let parts = ["encode", "reconstruct", "check", "hash", "seal", "open", "put", "recover"];
        for part in parts {
            assert!(is_rate(&level[format!("{part}_bytes_per_s")]), "{part} in {level}");
        }
        let of_engines = level["engines"].as_array().expect("engines");
        let found: Vec<_> = of_engines.iter().map(|engine| engine["engine"].as_str().expect("a name")).collect();
        assert_eq!(found, engines);
        for engine in of_engines {
            for part in ["encode", "reconstruct", "check"] {
                assert!(is_rate(&engine[format!("{part}_bytes_per_s")]), "{part} in {engine}");
            }
            if engine["engine"] == report["engine"] {
                assert_eq!(engine["encode_bytes_per_s"], level["encode_bytes_per_s"], "the engine in use is named");
            }
        }
    }
    assert!(!desk.store().exists(), "nobody's store is made for it");
}

#[test]
fn bench_refuses_a_time_that_would_never_end() {
    let desk = Desk::new();
    let failure = desk.failure(2, &["bench", "--time", "2h"]);
    assert_eq!(failure["hint"], "shard bench --time 1s");
    let failure = desk.failure(2, &["bench", "--time", "soon"]);
    assert!(failure["message"].as_str().expect("text").contains("soon"), "{failure}");
}

#[test]
fn bench_says_where_it_could_not_make_its_folder() {
    let mut desk = Desk::new();
    desk.set("TMPDIR", desk.path("nowhere").to_str().expect("UTF-8"));
    let failure = desk.failure(13, &["bench", "--time", "1ms"]);
    let message = failure["message"].as_str().expect("text");
    assert!(message.contains("cannot make") && message.contains("nowhere"), "{message}");
}
