//! The words and colours in which reports are put for people.

use super::printable::{Printable, acts};
use super::table::Tone;
use anstyle::Style;
use shard::catalog::{ObjectState, ShardState};
use std::fmt::Write;

/// How a shard's state strikes the eye.
pub(crate) fn shard_tone(state: ShardState) -> Tone {
    match state {
        ShardState::Ok => Tone::Plain,
        ShardState::Surplus | ShardState::Misplaced | ShardState::Unreachable => Tone::Worrying,
        ShardState::Missing | ShardState::Corrupt => Tone::Bad,
    }
}

/// How an object's state strikes the eye.
pub(crate) fn object_tone(state: ObjectState) -> Tone {
    match state {
        ObjectState::Healthy => Tone::Good,
        ObjectState::Degraded => Tone::Worrying,
        ObjectState::Unavailable | ObjectState::Lost => Tone::Bad,
    }
}

/// A word in the colour of its tone.
pub(crate) fn toned(tone: Tone, word: impl std::fmt::Display) -> String {
    let style = tone.style();
    format!("{style}{word}{style:#}")
}

/// `data` for the first k shards, `parity` for the others.
pub(crate) fn shard_kind(index: u8, data_shards: usize) -> &'static str {
    if usize::from(index) < data_shards { "data" } else { "parity" }
}

/// How much more may be lost: `1 zone, 2 backends`.
pub(crate) fn margin(zones: Option<usize>, backends: Option<usize>) -> String {
    match (zones, backends) {
        (Some(0), Some(0)) => "nothing more".to_owned(),
        (Some(zones), Some(backends)) => {
            format!("{}, {}", count(zones as u64, "zone"), count(backends as u64, "backend"))
        }
        _ => "nothing: it cannot be recovered now".to_owned(),
    }
}

/// `1 file`, `2 files`, `2 copies`, `2 keys`.
pub(crate) fn count(number: u64, what: &str) -> String {
    let stem = what.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u']));
    match (number, stem) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {what}s"),
    }
}

/// Lines of a name and a value, the values below each other.
pub(crate) fn facts<'a>(lines: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let lines: Vec<_> = lines.into_iter().collect();
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in lines {
        writeln!(text, "{name:width$}  {value}").expect("a String takes whatever is written");
    }
    text
}

/// A headline.
pub(crate) fn headline(text: &str) -> String {
    let bold = Style::new().bold();
    format!("{bold}{}{bold:#}\n", Printable(text))
}

/// A word as a shell takes it, quoted where it must be.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ':' | ',' | '@' | '%');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if word.chars().any(acts) {
        return ansi_quoted(word);
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A file's name after a command: one that begins like a flag is kept from being taken for one.
pub(crate) fn name_argument(name: &str) -> String {
    let end_of_flags = if name.starts_with('-') { "-- " } else { "" };
    format!("{end_of_flags}{}", shell_word(name))
}

/// `$'…'`, as bash, zsh and ksh read it: nothing in it acts on the terminal it is printed on.
fn ansi_quoted(word: &str) -> String {
    let mut quoted = String::from("$'");
    for character in word.chars() {
        match character {
            '\'' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            _ if acts(character) => {
                write!(quoted, "\\u{:04x}", u32::from(character)).expect("a String takes whatever is written");
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell_only_where_they_must_be() {
        assert_eq!(shell_word("a/b-c.txt"), "a/b-c.txt");
        assert_eq!(shell_word("my file"), "'my file'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word("$(x)"), "'$(x)'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("it's\u{1b}[31m\n\\"), r"$'it\'s\u001b[31m\n\\'");
        assert_eq!((name_argument("-dash"), name_argument("dash")), ("-- -dash".to_owned(), "dash".to_owned()));
    }

    #[test]
    fn numbers_and_their_words_agree() {
        assert_eq!(
            (count(1, "file"), count(0, "zone"), count(2, "copy"), count(2, "key"), count(1, "key")),
            ("1 file".into(), "0 zones".into(), "2 copies".into(), "2 keys".into(), "1 key".into())
        );
    }

    #[test]
    fn values_stand_below_each_other() {
        assert_eq!(facts([("a", "1".to_owned()), ("long", "2".to_owned())]), "a     1\nlong  2\n");
    }
}
