//! Names as they are printed: what a terminal would obey, or a reader would be fooled by, is written as `\u{…}`.

use std::fmt::{self, Write};

/// A text with nothing in it that acts: control characters, line ends, escape sequences and marks that turn the
/// direction of writing are shown as `\u{…}`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if acts(character) {
                write!(f, "{}", character.escape_unicode())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Whether a character does something to the terminal or to the order of its neighbours.
pub(crate) fn acts(character: char) -> bool {
    let line_end = matches!(character, '\u{2028}' | '\u{2029}');
    let turns = matches!(character,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    character.is_control() || line_end || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_act_are_shown_instead() {
        let shown = |name: &str| Printable(name).to_string();
        assert_eq!(shown("a\nb\r\tc"), r"a\u{a}b\u{d}\u{9}c");
        assert_eq!(shown("\u{1b}[31mred\u{9b}2J"), r"\u{1b}[31mred\u{9b}2J");
        assert_eq!(shown("photo\u{202e}gpj.exe"), r"photo\u{202e}gpj.exe");
        assert_eq!(shown("a\u{2028}b\u{200f}c\u{2066}d"), r"a\u{2028}b\u{200f}c\u{2066}d");
    }

    #[test]
    fn ordinary_names_stay_as_they_are_in_every_script() {
        for name in ["thesis.pdf", "Ünïcode 名前/… 👩‍💻.txt", "back\\slash", "quote's \"here\"", ""] {
            assert_eq!(Printable(name).to_string(), name);
        }
    }
}
