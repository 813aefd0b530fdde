//! The group's seeds in a node's folder: one, or two while the group changes its seed.

use super::file::{self, Readers};
use crate::error::{Error, ErrorKind, Result};
use crate::peer::{GroupSeed, MAX_SEED_TEXT_BYTES, MAX_SEEDS, SeedError, SeedRing};
use std::path::Path;
use zeroize::Zeroizing;

/// A longer file holds no seeds.
const MAX_BYTES: u64 = (MAX_SEEDS * MAX_SEED_TEXT_BYTES) as u64;
/// What the text of a seed begins with, of whatever version.
const BEGINNING: &str = "SHARD-SEED";

/// A seed that nobody had before.
pub(super) fn new_seed() -> Result<GroupSeed> {
    let mut bytes = Zeroizing::new([0; 32]);
    let filled = getrandom::fill(bytes.as_mut_slice());
    filled.map_err(|error| Error::local("the system gives no random bytes", std::io::Error::other(error)))?;
    Ok(GroupSeed::from_bytes(*bytes))
}

/// The seeds in a file, a line each; none where there is no file.
pub(super) fn load(path: &Path) -> Result<Vec<GroupSeed>> {
    match file::read(path, MAX_BYTES, Readers::Owner)? {
        Some(text) => parse(&text, &path.display().to_string()),
        None => Ok(Vec::new()),
    }
}

/// The ring of the seeds in a file that somebody named.
pub(super) fn load_named(path: &Path) -> Result<SeedRing> {
    let seeds = load(path)?;
    if seeds.is_empty() {
        let doing = format!("there is no seed in {}", path.display());
        return Err(Error::new(ErrorKind::NotFound, doing).with_hint("`shard node seed new -o FILE` makes one"));
    }
    ring(seeds, &path.display().to_string())
}

/// The seeds in a text; `from` says where it came from. Nothing of it is repeated: it is secret.
pub(super) fn parse(text: &[u8], from: &str) -> Result<Vec<GroupSeed>> {
    let read = || {
        let text = std::str::from_utf8(text).map_err(|_| SeedError::NoSeed)?;
        split(text).iter().map(|text| GroupSeed::parse(text)).collect::<Result<Vec<_>, _>>()
    };
    read().map_err(|error| unusable(error, from))
}

/// The texts of seeds, each beginning on a line of its own and going on over as many as a person typed.
fn split(text: &str) -> Vec<Zeroizing<String>> {
    let mut texts: Vec<Zeroizing<String>> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let begins = line.get(..BEGINNING.len()).is_some_and(|start| start.eq_ignore_ascii_case(BEGINNING));
        match texts.last_mut() {
            Some(seed) if !begins => {
                seed.push(' ');
                seed.push_str(line);
            }
            _ => {
                // Room at once for all of it, so that no copy is left behind by growing.
                let mut seed = Zeroizing::new(String::with_capacity(text.len() + 1));
                seed.push_str(line);
                texts.push(seed);
            }
        }
    }
    texts
}

/// Keeps these seeds, in this order.
pub(super) fn save(path: &Path, seeds: &[GroupSeed]) -> Result<()> {
    let mut text = Zeroizing::new(String::with_capacity(seeds.len() * MAX_SEED_TEXT_BYTES));
    for seed in seeds {
        text.push_str(&seed.to_text());
        text.push('\n');
    }
    file::replace(path, text.as_bytes())
}

/// The ring that they make.
pub(super) fn ring(seeds: Vec<GroupSeed>, from: &str) -> Result<SeedRing> {
    SeedRing::from_seeds(seeds).map_err(|error| unusable(error, from))
}

/// These and one more.
pub(super) fn with_one_more(mut seeds: Vec<GroupSeed>, seed: GroupSeed) -> Result<Vec<GroupSeed>> {
    if seeds.contains(&seed) {
        return Err(Error::new(ErrorKind::Refused, "this seed is there already"));
    }
    if seeds.len() >= MAX_SEEDS {
        let doing = format!("there are {MAX_SEEDS} seeds already: the group is changing from one to the other");
        return Err(Error::new(ErrorKind::Refused, doing)
            .with_hint("`shard node seed retire` ends that change and makes room for another"));
    }
    seeds.push(seed);
    Ok(seeds)
}

fn unusable(error: SeedError, from: &str) -> Error {
    let kind = match error {
        SeedError::NoSeed | SeedError::Mistyped => ErrorKind::WrongKey,
        SeedError::Count(_) | SeedError::Twice => ErrorKind::Invalid,
    };
    Error::new(kind, format!("the seed in {from} cannot be used"))
        .with_source(error)
        .with_hint("`shard node seed show`, where the seed is known, prints it anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_read_back_in_their_order_and_a_typing_error_is_told_without_the_seed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("seeds");
        let seeds = vec![new_seed().expect("random"), new_seed().expect("random")];
        assert!(load(&path).expect("none").is_empty());
        assert_eq!(load_named(&path).expect_err("none").kind, ErrorKind::NotFound);
        save(&path, &seeds).expect("kept");
        assert_eq!(load(&path).expect("read"), seeds);
        assert_eq!(load_named(&path).expect("two").seeds(), seeds);
        let error = with_one_more(seeds.clone(), new_seed().expect("random")).expect_err("a third");
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(with_one_more(vec![seeds[0].clone()], seeds[0].clone()).is_err());

        let text = seeds[0].to_text();
        let mistyped = text.replace(&text[14..18], "0000");
        let error = parse(mistyped.as_bytes(), "a file").expect_err("mistyped");
        let said = crate::error::with_causes(&error);
        assert_eq!(error.kind, ErrorKind::WrongKey);
        assert!(said.contains("typing error") && !said.contains(&text[18..22]), "{said}");
        let thrice = [text.as_bytes(), b"\n", seeds[1].to_text().as_bytes(), b"\n", text.as_bytes()].concat();
        assert_eq!(ring(parse(&thrice, "x").expect("three"), "x").expect_err("three").kind, ErrorKind::Invalid);
        assert!(parse(&[0xff; 10], "x").is_err());
        let typed = [text.replace(' ', "\n  ").to_lowercase(), seeds[1].to_text().to_string()].join("\n\n");
        assert_eq!(parse(typed.as_bytes(), "x").expect("two"), seeds);
    }
}
