//! The rules of the house that a machine can hold. Each rule gives its complaints about one file, and has a sample that
//! it must complain about.

mod source;

use source::{Source, paths, tokens};
use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;

/// Which floor each module of the library lives on; imports only point down.
const FLOORS: [(&str, u8); 16] = [
    ("id", 0),
    ("codec", 1),
    ("merkle", 1),
    ("crypto", 1),
    ("vault", 1),
    ("stripe", 2),
    ("peer", 2),
    ("backend", 3),
    ("format", 3),
    ("chamber", 3),
    ("catalog", 4),
    ("engine", 4),
    ("error", 5),
    ("store", 6),
    ("ops", 7),
    ("node", 7),
];
/// The modules of the binary: they see each other, and of the library what it shows to everyone.
const BINARY: &str = "cli";
/// Modules that neither touch the world nor wait for it: time and randomness are given to them.
const SANS_IO: [&str; 6] = ["codec", "merkle", "crypto", "stripe", "format", "peer"];
/// What of them does: the sockets and the clock below a session.
const WORLDLY: [&str; 1] = ["peer/transport"];
/// Modules of the standard library that touch the world.
const WORLD: [&str; 6] = ["env", "fs", "net", "process", "thread", "time"];
/// Crates and types that do.
const WORLD_NAMES: [&str; 9] =
    ["tokio", "rand", "rand_core", "getrandom", "jiff", "SystemRandom", "OsRng", "Instant", "SystemTime"];
/// The files that may have unsafe code, and the one that says so to the compiler.
const UNSAFE_FILES: [&str; 4] =
    ["codec/kernel/column.rs", "codec/kernel/neon.rs", "codec/kernel/prepared.rs", "codec/kernel/x86.rs"];
const UNSAFE_FACE: &str = "codec/kernel/mod.rs";
/// Names that say nothing about what a module holds.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "common", "helpers", "types", "misc", "core"];
/// What a secret must not have from the compiler.
const TELLING_TRAITS: [&str; 6] = ["PartialEq", "PartialOrd", "Ord", "Hash", "Debug", "Serialize"];
/// What stays open must not stay in the code.
const UNFINISHED_WORDS: [&str; 3] = ["TODO", "FIXME", "XXX"];

type Rule = fn(&Source) -> Vec<String>;

fn crate_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Applies a rule to every file of the folders; the complaints together are the failure.
fn hold(rule: Rule, folders: &[&str]) {
    let mut complaints = Vec::new();
    for folder in folders {
        let sources = Source::read_all(&crate_folder().join(folder));
        assert!(!sources.is_empty(), "{folder} has no source files");
        let found = sources.iter().flat_map(|source| rule(source).into_iter().map(|what| (source.path.clone(), what)));
        complaints.extend(found.map(|(path, what)| format!("{folder}/{path}: {what}")));
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn complains(rule: Rule, path: &str, text: &str) -> bool {
    !rule(&Source::new(path, text)).is_empty()
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn imports_that_do_not_point_down(source: &Source) -> Vec<String> {
    let own = source.top_module();
    if own.is_empty() {
        return Vec::new();
    }
    if own != BINARY && floor(&own).is_none() {
        return vec![format!("module {own} has no floor: give it one in DESIGN.md and in this test")];
    }
    let depth = source.module_path().split('/').count();
    let named = paths(&source.shipped).into_iter().filter_map(|path| {
        let module = from_the_root(&path.parts, depth)?;
        (module != own).then_some((path.line, module.to_owned()))
    });
    let wrong = named.filter(|(_, module)| match (floor(&own), floor(module)) {
        (Some(own), Some(other)) => other >= own,
        _ => true,
    });
    wrong.map(|(line, module)| format!("line {line}: {own} names {module}, which is not below it")).collect()
}

/// The module at the top that a path names, when it begins at the crate's root: by `crate`, or by climbing up to it.
fn from_the_root<'a>(parts: &[&'a str], depth: usize) -> Option<&'a str> {
    let parts = parts.strip_prefix(&["self"]).unwrap_or(parts);
    if let ["crate", module, ..] = parts {
        return Some(module);
    }
    let climbed = parts.iter().take_while(|part| **part == "super").count();
    // A module inside a file climbs one step more; only what is surely a module at the top counts.
    let module = parts.get(climbed).filter(|module| floor(module).is_some() || **module == BINARY)?;
    (climbed >= depth && climbed > 0).then_some(*module)
}

fn long_functions(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.code);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut complaints = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "fn") {
        let name = text(at + 1);
        if name.starts_with('(') {
            continue;
        }
        let Some(last) = body_end(&tokens[at..]).and_then(|end| tokens.get(at + end)) else { continue };
        let lines = last.line - token.line + 1;
        if lines > MAX_FUNCTION_LINES {
            complaints.push(format!("line {}: fn {name} has {lines} lines, at most {MAX_FUNCTION_LINES}", token.line));
        }
    }
    complaints
}

/// Where the brace is that closes the first body; `None` for a declaration without one.
fn body_end(tokens: &[source::Token<'_>]) -> Option<usize> {
    let (mut brackets, mut braces) = (0_usize, 0_usize);
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets = brackets.saturating_sub(1),
            ";" if brackets == 0 && braces == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn long_files(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let long = lines > MAX_FILE_LINES;
    long.then(|| format!("{lines} lines, at most {MAX_FILE_LINES}")).into_iter().collect()
}

fn files_without_a_doc(source: &Source) -> Vec<String> {
    let documented = source.text.starts_with("//! ");
    (!documented).then(|| "does not begin with a //! doc".to_owned()).into_iter().collect()
}

fn empty_names(source: &Source) -> Vec<String> {
    let module = source.module_path();
    let tokens = tokens(&source.code);
    let inline = tokens.windows(2).filter(|pair| pair[0].text == "mod").map(|pair| pair[1].text);
    let names = module.split('/').chain(inline).filter(|name| EMPTY_NAMES.contains(name));
    names.map(|name| format!("a module named {name} says nothing")).collect()
}

fn touches_of_the_world(source: &Source) -> Vec<String> {
    let is_worldly = WORLDLY.iter().any(|module| source.path.starts_with(&format!("{module}/")));
    if is_worldly || !SANS_IO.contains(&source.top_module().as_str()) {
        return Vec::new();
    }
    let touching = paths(&source.shipped).into_iter().filter(|path| match path.parts.as_slice() {
        // How long something takes is a number, and no clock.
        ["std", "time", "Duration"] => false,
        ["std" | "core" | "alloc", module, ..] if WORLD.contains(module) => true,
        ["std", "io", name, ..] if matches!(*name, "stdin" | "stdout" | "stderr") => true,
        ["io", "stdin" | "stdout" | "stderr"] => true,
        parts => parts.iter().any(|part| WORLD_NAMES.contains(part)),
    });
    touching.map(|path| format!("line {}: {} touches the world", path.line, path.parts.join("::"))).collect()
}

fn prints_and_looks_around(source: &Source) -> Vec<String> {
    let in_binary = source.path == "main.rs" || source.top_module() == BINARY;
    let reads_variables = |name: &str| matches!(name, "var" | "vars" | "var_os" | "vars_os");
    let mut complaints = Vec::new();
    for path in paths(&source.shipped) {
        let wrong = match path.parts.as_slice() {
            ["std", "env", name, ..] if in_binary => reads_variables(name) && source.path != "cli/environment.rs",
            ["std", "env", ..] => true,
            ["std", "io", "stdout" | "stderr" | "stdin", ..] | ["io", "stdout" | "stderr" | "stdin"] => !in_binary,
            ["env", name] => reads_variables(name) && source.path != "cli/environment.rs",
            _ => false,
        };
        if wrong {
            complaints.push(format!("line {}: {} is the business of cli", path.line, path.parts.join("::")));
        }
    }
    let tokens = tokens(&source.shipped);
    let macros = tokens.windows(2).filter(|pair| pair[1].text == "!").map(|pair| &pair[0]);
    let prints = macros.filter(|name| matches!(name.text, "println" | "eprintln" | "print" | "eprint" | "dbg"));
    complaints.extend(prints.filter(|_| !in_binary).map(|name| format!("line {}: {}! prints", name.line, name.text)));
    complaints
}

fn unsafe_code(source: &Source) -> Vec<String> {
    let is_kernel = UNSAFE_FILES.contains(&source.path.as_str());
    let tokens = tokens(&source.code);
    let words = tokens.iter().filter(|token| token.text == "unsafe" && !is_kernel);
    let mut complaints: Vec<String> =
        words.map(|word| format!("line {}: unsafe has its place in the codec's kernels only", word.line)).collect();
    // The lint is lifted where the kernels are declared, and nowhere else.
    let lifts = tokens
        .windows(3)
        .filter(|three| matches!(three[0].text, "allow" | "expect" | "warn") && three[2].text == "unsafe_code");
    let lifts = lifts.filter(|_| source.path != UNSAFE_FACE);
    complaints.extend(lifts.map(|three| format!("line {}: unsafe code is not allowed from here", three[0].line)));
    if is_kernel && !source.text.split("\nuse ").next().is_some_and(|doc| doc.contains("//! *Preconditions*")) {
        complaints.push("a file with unsafe code does not say its preconditions".to_owned());
    }
    complaints
}

/// What is wiped is secret: compared as the compiler does it, it is told byte by byte by how long that takes, and shown or
/// written as the compiler does it, it is told at once.
fn secrets_that_are_told(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.shipped);
    let mut complaints = Vec::new();
    for (at, start) in tokens.iter().enumerate().filter(|(_, token)| token.text == "derive") {
        let derived = tokens[at..].iter().take_while(|token| token.text != "]");
        let derived: Vec<&str> = derived.map(|token| token.text).collect();
        let body = tokens[at + derived.len()..].iter().skip_while(|token| !matches!(token.text, "{" | ";"));
        let mut fields = body.take_while(|token| !matches!(token.text, "}" | ";"));
        // A field that is wiped shows nothing of itself, and a file's text has to be written.
        let told: &[&str] = match derived.contains(&"ZeroizeOnDrop") {
            true => &TELLING_TRAITS,
            false if fields.any(|token| token.text == "Zeroizing") => &TELLING_TRAITS[..4],
            false => &[],
        };
        let wrong = derived.iter().filter(|derived| told.contains(derived));
        complaints.extend(wrong.map(|wrong| format!("line {}: a secret derives {wrong}", start.line)));
    }
    complaints
}

fn unfinished_work(source: &Source) -> Vec<String> {
    let words = tokens(&source.prose).into_iter().filter(|token| UNFINISHED_WORDS.contains(&token.text));
    let mut complaints: Vec<String> = words.map(|word| format!("line {}: {}", word.line, word.text)).collect();
    let tokens = tokens(&source.code);
    let macros =
        tokens.windows(2).filter(|pair| pair[1].text == "!" && matches!(pair[0].text, "todo" | "unimplemented"));
    complaints.extend(macros.map(|pair| format!("line {}: {}!", pair[0].line, pair[0].text)));
    complaints
}

fn tests_that_are_not_run(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.code);
    let ignored = tokens.windows(3).filter(|three| three[0].text == "#" && three[2].text == "ignore");
    ignored.map(|three| format!("line {}: a test that is not run", three[0].line)).collect()
}

#[test]
fn imports_only_point_down() {
    hold(imports_that_do_not_point_down, &["src"]);
}

#[test]
fn functions_and_files_stay_short() {
    hold(long_functions, &["src", "tests", "benches"]);
    hold(long_files, &["src", "tests", "benches"]);
}

#[test]
fn every_file_says_what_it_is() {
    hold(files_without_a_doc, &["src"]);
}

#[test]
fn no_module_has_an_empty_name() {
    hold(empty_names, &["src", "tests"]);
}

#[test]
fn the_pure_modules_touch_nothing() {
    hold(touches_of_the_world, &["src"]);
}

#[test]
fn only_the_command_line_prints_and_reads_the_environment() {
    hold(prints_and_looks_around, &["src"]);
}

#[test]
fn unsafe_code_has_one_place() {
    hold(unsafe_code, &["src", "tests", "benches"]);
}

#[test]
fn what_is_wiped_is_not_compared_shown_or_written_by_derived_code() {
    hold(secrets_that_are_told, &["src"]);
}

#[test]
fn nothing_is_left_unfinished_or_unrun() {
    hold(unfinished_work, &["src", "tests", "benches"]);
    hold(tests_that_are_not_run, &["src", "tests"]);
}

#[test]
fn an_import_that_does_not_point_down_is_seen() {
    let rule: Rule = imports_that_do_not_point_down;
    for wrong in [
        "use crate::ops::put;",
        "use crate::{id::Digest, merkle};",
        "fn f() { crate::store::open() }",
        "use super::super::catalog;",
        "use crate::cli;",
        "use crate::Error;",
        "pub(crate) use crate::somewhere::X;",
    ] {
        assert!(complains(rule, "codec/matrix.rs", wrong), "{wrong}");
    }
    assert!(complains(rule, "novelty.rs", ""));
    assert!(complains(rule, "cli/put.rs", "use crate::ops;"));
    for right in [
        "use crate::id::{Digest, Geometry};",
        "use crate::codec::Engine; use super::Engine; use super::super::id;",
        "// use crate::ops\nconst A: &str = \"crate::ops\";",
        "#[cfg(test)]\nmod tests { use crate::stripe; }",
        "pub(crate) fn f() {}",
    ] {
        assert!(!complains(rule, "codec/matrix.rs", right), "{right}");
    }
    assert!(!complains(rule, "cli/put.rs", "use crate::cli::exit; use shard::ops;"));
    assert!(!complains(rule, "lib.rs", "pub use crate::ops::put;"));
}

#[test]
fn a_long_function_or_file_is_seen() {
    let function =
        |lines: usize| format!("trait T {{ fn g(x: [u8; 4]); }}\nfn f() {{\n{}}}\n", "a();\n".repeat(lines - 2));
    assert!(!complains(long_functions, "id.rs", &function(MAX_FUNCTION_LINES)));
    assert!(complains(long_functions, "id.rs", &function(MAX_FUNCTION_LINES + 1)));
    assert!(!complains(long_files, "id.rs", &"\n".repeat(MAX_FILE_LINES)));
    assert!(complains(long_files, "id.rs", &"\n".repeat(MAX_FILE_LINES + 1)));
}

#[test]
fn a_file_without_a_doc_or_with_an_empty_name_is_seen() {
    assert!(complains(files_without_a_doc, "id.rs", "use a;"));
    assert!(!complains(files_without_a_doc, "id.rs", "//! Ids."));
    assert!(complains(empty_names, "codec/util.rs", ""));
    assert!(complains(empty_names, "helpers/mod.rs", ""));
    assert!(complains(empty_names, "codec/mod.rs", "mod misc;"));
    assert!(!complains(empty_names, "codec/mod.rs", "mod matrix;"));
}

#[test]
fn a_touch_of_the_world_is_seen() {
    for wrong in [
        "use std::{fmt, fs};",
        "use std::time::Instant;",
        "fn f() { std::env::var(\"A\"); }",
        "use tokio::sync::mpsc;",
        "use aws_lc_rs::rand::SystemRandom;",
        "getrandom::fill(a);",
        "std::io::stdout();",
    ] {
        assert!(complains(touches_of_the_world, "format/mod.rs", wrong), "{wrong}");
        assert!(!complains(touches_of_the_world, "store/mod.rs", wrong), "{wrong}");
    }
    assert!(complains(touches_of_the_world, "peer/frame.rs", "use std::time::{Duration, Instant};"));
    assert!(!complains(touches_of_the_world, "peer/tls.rs", "use std::time::Duration;"));
    assert!(!complains(touches_of_the_world, "peer/transport/quic.rs", "use std::net::SocketAddr;"));
    assert!(!complains(touches_of_the_world, "format/mod.rs", "use std::io::{self, Read, Write}; use std::fmt;"));
}

#[test]
fn a_print_or_a_look_at_the_environment_is_seen() {
    for wrong in ["println!(\"a\");", "dbg!(a);", "use std::env;", "std::io::stderr();", "fn f() { env::var(a) }"] {
        assert!(complains(prints_and_looks_around, "store/mod.rs", wrong), "{wrong}");
    }
    assert!(complains(prints_and_looks_around, "cli/put.rs", "std::env::var(a);"));
    assert!(!complains(prints_and_looks_around, "cli/environment.rs", "std::env::var(a);"));
    assert!(!complains(prints_and_looks_around, "cli/put.rs", "std::env::args_os(); std::io::stdout();"));
    assert!(!complains(prints_and_looks_around, "store/mod.rs", "const A: &str = env!(\"B\"); // println!"));
}

#[test]
fn a_secret_that_derives_what_tells_it_is_seen() {
    let of = |derived: &str| format!("#[derive({derived})]\nstruct Key {{\n    bytes: [u8; 32],\n}}");
    for told in ["PartialEq, Eq", "Debug", "Hash", "Serialize", "PartialOrd"] {
        assert!(complains(
            secrets_that_are_told,
            "crypto/mod.rs",
            &of(&format!("Clone, {told}, Zeroize, ZeroizeOnDrop"))
        ));
        assert!(!complains(secrets_that_are_told, "crypto/mod.rs", &of(&format!("Clone, {told}"))));
    }
    assert!(!complains(secrets_that_are_told, "crypto/mod.rs", &of("Clone, Zeroize, ZeroizeOnDrop")));
    let field = |derived: &str| format!("#[derive({derived})]\nstruct Key {{\n    text: Zeroizing<String>,\n}}");
    assert!(complains(secrets_that_are_told, "crypto/mod.rs", &field("Clone, PartialEq")));
    assert!(!complains(secrets_that_are_told, "crypto/mod.rs", &field("Clone, Debug, Serialize")));
}

#[test]
fn unsafe_unfinished_and_unrun_code_is_seen() {
    assert!(complains(unsafe_code, "id.rs", "fn f() { unsafe { g() } }"));
    assert!(!complains(unsafe_code, "id.rs", "// nothing unsafe here\n#![forbid(unsafe_code)]"));
    assert!(complains(unsafe_code, "codec/mod.rs", "fn f() { unsafe { g() } }"));
    assert!(complains(unsafe_code, "codec/mod.rs", "#[allow(unsafe_code)]\nmod kernel;"));
    assert!(!complains(unsafe_code, "codec/kernel/mod.rs", "#[allow(unsafe_code)]\nmod x86;"));
    assert!(complains(unsafe_code, "codec/kernel/x86.rs", "//! Fast.\n\nuse a;\nunsafe fn f() {}"));
    assert!(!complains(unsafe_code, "codec/kernel/x86.rs", "//! *Preconditions*: b.\n\nuse a;\nunsafe fn f() {}"));
    for wrong in ["// TODO: later", "/// FIXME", "fn f() { todo!() }", "unimplemented!();", "// XXX"] {
        assert!(complains(unfinished_work, "id.rs", wrong), "{wrong}");
    }
    assert!(!complains(unfinished_work, "id.rs", "const A: &str = \"TODO\"; // mktemp XXXXXX"));
    assert!(complains(tests_that_are_not_run, "id.rs", "#[test]\n#[ignore]\nfn f() {}"));
    assert!(complains(tests_that_are_not_run, "id.rs", "#[ignore = \"slow\"]"));
}
