//! Rust source as the rules need it: without comments and strings, without tests, as tokens and as paths.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A source file.
pub(crate) struct Source {
    /// Its path below the folder that was read, with `/`: `codec/mod.rs`.
    pub(crate) path: String,
    /// Everything in it.
    pub(crate) text: String,
    /// Strings blanked.
    pub(crate) prose: String,
    /// Strings and comments blanked.
    pub(crate) code: String,
    /// Strings, comments and what is compiled for tests only blanked.
    pub(crate) shipped: String,
}

/// A word or a mark, and its line from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) line: usize,
    pub(crate) text: &'a str,
}

impl Token<'_> {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// A path such as `crate::id::Geometry`, part by part; a group in a `use` gives one for each of its members.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CodePath<'a> {
    pub(crate) line: usize,
    pub(crate) parts: Vec<&'a str>,
}

impl Source {
    /// From a text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text, true);
        let shipped = without_tests(&code).0;
        Self { path: path.to_owned(), text: text.to_owned(), prose: blank(text, false), code, shipped }
    }

    /// All files in a folder and below, in the order of their paths. A file that is a module of tests ships nothing.
    pub(crate) fn read_all(folder: &Path) -> Vec<Self> {
        let mut sources = Vec::new();
        read_folder(folder, "", &mut sources);
        let tests: BTreeSet<String> = sources.iter().flat_map(test_modules).collect();
        for source in &mut sources {
            let module = source.module_path();
            if tests.iter().any(|test| module == *test || module.starts_with(&format!("{test}/"))) {
                source.shipped.clear();
            }
        }
        sources.sort_by(|one, other| one.path.cmp(&other.path));
        sources
    }

    /// The file's module: `codec/mod.rs` and `codec.rs` are `codec`, `lib.rs` is nothing.
    pub(crate) fn module_path(&self) -> String {
        let module = self.path.trim_end_matches(".rs");
        match module {
            "lib" | "main" => String::new(),
            _ => module.trim_end_matches("/mod").to_owned(),
        }
    }

    /// The module at the top that the file is part of.
    pub(crate) fn top_module(&self) -> String {
        self.module_path().split('/').next().unwrap_or_default().to_owned()
    }
}

fn read_folder(folder: &Path, prefix: &str, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of the crate") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("names here are UTF-8");
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            read_folder(&entry.path(), &format!("{path}/"), sources);
        } else if path.ends_with(".rs") {
            sources.push(Source::new(&path, &fs::read_to_string(entry.path()).expect("a source file")));
        }
    }
}

/// The modules in files of their own that a file declares for tests only.
fn test_modules(source: &Source) -> Vec<String> {
    let own = source.module_path();
    let below = |name: &String| if own.is_empty() { name.clone() } else { format!("{own}/{name}") };
    without_tests(&source.code).1.iter().map(below).collect()
}

/// The words and marks of blanked code; `::` is one mark.
pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            if !first.is_whitespace() {
                tokens.push(Token { line: index + 1, text: &rest[..length] });
            }
            rest = &rest[length..];
        }
    }
    tokens
}

/// Every path in blanked code.
pub(crate) fn paths(code: &str) -> Vec<CodePath<'_>> {
    let tokens = tokens(code);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = if tokens[at].is_word() { path(&tokens, at, &[], &mut paths) } else { at + 1 };
    }
    paths
}

/// Takes the path that begins at a word, and says where it ends.
fn path<'a>(tokens: &[Token<'a>], begin: usize, prefix: &[&'a str], paths: &mut Vec<CodePath<'a>>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut parts = prefix.to_vec();
    let mut at = begin;
    loop {
        parts.push(text(at));
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
        if text(at) == "{" {
            return group(tokens, at + 1, &parts, paths);
        }
        if !tokens.get(at).is_some_and(Token::is_word) {
            break;
        }
    }
    paths.push(CodePath { line: tokens[begin].line, parts });
    at
}

/// Takes the members of `{a, b::{c, d}}` up to the closing brace, and says what comes after it.
fn group<'a>(tokens: &[Token<'a>], begin: usize, prefix: &[&'a str], paths: &mut Vec<CodePath<'a>>) -> usize {
    let mut at = begin;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "}" => return at + 1,
            "as" => at += 2,
            _ if token.is_word() => at = path(tokens, at, prefix, paths),
            _ => at += 1,
        }
    }
    at
}

/// The text with the insides of strings and characters blanked, and of comments too when asked; lines stay lines.
fn blank(text: &str, comments: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (length, keep) = piece(rest, out.chars().next_back());
        let keep = keep || (!comments && rest.starts_with('/'));
        for c in rest[..length].chars() {
            out.push(if keep || c == '\n' { c } else { ' ' });
        }
        rest = &rest[length..];
    }
    out
}

/// How long the comment, literal or character at the beginning is, and whether it is code.
fn piece(rest: &str, before: Option<char>) -> (usize, bool) {
    let first = rest.chars().next().map_or(1, char::len_utf8);
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), false);
    }
    if let Some(inside) = rest.strip_prefix('"') {
        return (1 + escaped(inside, '"'), false);
    }
    if !in_word && let Some(length) = raw_string(rest) {
        return (length, false);
    }
    match rest.strip_prefix('\'') {
        Some(after) if after.starts_with('\\') => (1 + escaped(after, '\''), false),
        Some(after) => match after.chars().next() {
            Some(c) if after[c.len_utf8()..].starts_with('\'') => (2 + c.len_utf8(), false),
            _ => (1, true),
        },
        None => (first, true),
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// How long it is to the closing quote, that one included.
fn escaped(rest: &str, quote: char) -> usize {
    let mut characters = rest.char_indices();
    while let Some((at, c)) = characters.next() {
        if c == '\\' {
            characters.next();
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// How long `r"…"`, `r#"…"#`, `br"…"` is; `None` for anything else.
fn raw_string(rest: &str) -> Option<usize> {
    let marked = rest.strip_prefix("br").or_else(|| rest.strip_prefix("cr")).or_else(|| rest.strip_prefix('r'))?;
    let hashes = marked.len() - marked.trim_start_matches('#').len();
    let inside = marked[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(rest.len() - inside.len() + length)
}

/// Blanked code without the items that are compiled for tests only, and the modules among them that have files of
/// their own.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut out = code.to_owned();
    let mut modules = Vec::new();
    while let Some(begin) = ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|mark| out.find(mark)).min() {
        let end = begin + item_length(&out[begin..]);
        let item = &out[begin..end];
        if let Some((_, declared)) = item.trim_end_matches(';').rsplit_once("mod ")
            && item.ends_with(';')
        {
            modules.push(declared.trim().to_owned());
        }
        let blanked: String = item.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(begin..end, &blanked);
    }
    (out, modules)
}

/// How long an item with its attributes is: to its `;`, or to the brace that closes its body.
fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn strings_and_comments_are_no_code() {
    let text = "let a = \"std::fs \\\" x\"; // crate::ops\nlet b = r#\"unsafe \" \"#; /* a /* b */ c */ let c = 'x';\n\
                fn f<'a>(x: &'a str) -> char { '\\'' } let bar = b\"y\";";
    let code = blank(text, true);
    for gone in ["std", "crate", "unsafe", "/*", " x", "'x'", "y"] {
        assert!(!code.contains(gone), "{gone:?} is in {code}");
    }
    for kept in ["let a = ", "let b = ", "let c = ", "fn f<'a>(x: &'a str) -> char {", "let bar = b"] {
        assert!(code.contains(kept), "{kept:?} is not in {code}");
    }
    assert_eq!(code.lines().count(), text.lines().count());
    assert!(blank(text, false).contains("// crate::ops"));
}

#[test]
fn a_group_in_a_use_gives_every_path_in_it() {
    let code = "use crate::{id::{Geometry, Digest as D}, codec};\nlet x = std::fs::read::<u8>(a);";
    let all: Vec<String> = paths(code).iter().map(|path| path.parts.join("::")).collect();
    for expected in ["crate::id::Geometry", "crate::id::Digest", "crate::codec", "std::fs::read"] {
        assert!(all.iter().any(|path| path == expected), "{expected} is not in {all:?}");
    }
}

#[test]
fn what_is_compiled_for_tests_only_is_not_shipped() {
    let code = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n use crate::ops; fn b() { { } }\n}\nfn c() {}\n\
                #[cfg(test)]\nmod far;\n#[cfg(all(test, unix))]\nuse crate::cli;\nfn d() {}";
    let (shipped, modules) = without_tests(code);
    assert!(!shipped.contains("crate") && shipped.contains("fn c") && shipped.contains("fn d"), "{shipped}");
    assert_eq!(modules, ["far"]);
}
