//! What the front page of the crate says about the code is there.

use std::fs;
use std::path::Path;

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn front_page() -> String {
    fs::read_to_string(crate_folder().join("src/lib.rs")).expect("the front page")
}

/// All Rust of the library, the binary and the tests.
fn all_code() -> String {
    let files = ["src", "tests"].into_iter().flat_map(|folder| walkdir::WalkDir::new(crate_folder().join(folder)));
    let files = files.map(|entry| entry.expect("a folder that can be read").into_path());
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| fs::read_to_string(path).expect("a source file")).collect()
}

/// The rows of a table below a heading, without its head.
fn table_below(page: &str, heading: &str) -> Vec<String> {
    let below = page.lines().skip_while(|line| line.trim_start_matches("//! ") != heading);
    let rows = below.skip_while(|line| !line.starts_with("//! |")).take_while(|line| line.starts_with("//! |"));
    rows.skip(2).map(str::to_owned).collect()
}

#[test]
fn every_invariant_of_the_front_page_names_tests_that_exist() {
    let (rows, code) = (table_below(&front_page(), "# What always holds"), all_code());
    assert!(rows.len() > 10, "the table was not found");
    let mut absent = Vec::new();
    for row in rows {
        let guards = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let names: Vec<&str> = guards.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "nothing guards: {row}");
        let unknown = names.into_iter().filter(|name| !code.contains(&format!("fn {name}(")));
        absent.extend(unknown.map(str::to_owned));
    }
    assert!(absent.is_empty(), "there are no such tests: {absent:#?}");
}

#[test]
fn every_module_has_its_floor_in_the_drawing() {
    let page = front_page();
    let modules = page.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    for module in modules {
        let is_drawn = |line: &str| line.contains(&format!(" {module}/ ")) || line.contains(&format!(" {module}.rs "));
        assert!(page.lines().any(is_drawn), "{module} has no floor in the drawing");
    }
}
