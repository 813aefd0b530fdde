//! What the fuzzer calls: the same bodies as the tests that read the kept inputs.

#[path = "../../tests/it/corpus/bodies/mod.rs"]
mod bodies;

/// Gives an input to a parser.
pub fn run(name: &str, input: &[u8]) {
    let target = bodies::TARGETS.iter().find(|(other, _)| *other == name);
    let _is_read = (target.expect("a target of this name").1)(input);
}
