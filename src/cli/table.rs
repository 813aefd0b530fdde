//! Tables: aligned columns, no borders, one line a row, whatever is in the cells.

use super::printable::Printable;
use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

/// How a row strikes the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing to notice.
    Plain,
    /// All is well.
    Good,
    /// Not well, but nothing lost.
    Worrying,
    /// Lost or failed.
    Bad,
}

impl Tone {
    /// How it looks on a terminal.
    pub(crate) fn style(self) -> Style {
        let color = match self {
            Self::Plain => return Style::new(),
            Self::Good => AnsiColor::Green,
            Self::Worrying => AnsiColor::Yellow,
            Self::Bad => AnsiColor::Red,
        };
        Style::new().fg_color(Some(color.into()))
    }
}

/// What stands between two columns.
const GAP: usize = 2;

/// Rows under a header. A list of a hundred thousand files is one too: all cells are in one text.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    text: String,
    /// Where each cell of `text` ends, row after row, the header first.
    ends: Vec<usize>,
    tones: Vec<Tone>,
}

#[derive(Debug)]
struct Column {
    /// Of the widest cell, in places of a terminal.
    width: usize,
    is_right: bool,
}

impl Table {
    /// An empty one; a column whose title begins with `>` is aligned to the right.
    pub(crate) fn new<const COLUMNS: usize>(titles: [&str; COLUMNS]) -> Self {
        let columns = titles.map(|title| Column { width: 0, is_right: title.starts_with('>') }).into();
        let mut table = Self { columns, text: String::new(), ends: Vec::new(), tones: Vec::new() };
        table.cells(titles.map(|title| title.trim_start_matches('>')));
        table
    }

    /// Adds a row.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, tone: Tone, cells: [String; COLUMNS]) {
        self.cells(cells);
        self.tones.push(tone);
    }

    fn cells<const COLUMNS: usize>(&mut self, cells: [impl AsRef<str>; COLUMNS]) {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            let start = self.text.len();
            self.text.extend([Printable(cell.as_ref()).to_string()]);
            column.width = column.width.max(self.text[start..].width());
            self.ends.push(self.text.len());
        }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.tones.len()
    }

    /// The lines without the header, for what goes on after other rows; columns are as wide as these need.
    pub(crate) fn render_rows(&self) -> String {
        self.render().split_once('\n').map_or_else(String::new, |(_, rows)| rows.to_owned())
    }

    /// The lines with their colours, the header first.
    pub(crate) fn render(&self) -> String {
        let header = Style::new().bold();
        let styles = std::iter::once(header).chain(self.tones.iter().map(|tone| tone.style()));
        let (mut page, mut line, mut start) = (String::new(), String::new(), 0);
        for (ends, style) in self.ends.chunks(self.columns.len()).zip(styles) {
            line.clear();
            for (column, end) in self.columns.iter().zip(ends) {
                let cell = &self.text[start..*end];
                let room = " ".repeat(column.width - cell.width());
                let (before, after) = if column.is_right { (&*room, "") } else { ("", &*room) };
                line.extend([before, cell, after, &" ".repeat(GAP)]);
                start = *end;
            }
            page.push_str(&format!("{style}{}{style:#}\n", line.trim_end()));
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_a_row_is_one_line() {
        let mut table = Table::new(["NAME", ">SIZE", "STATE"]);
        table.row(Tone::Plain, ["a".into(), "1.0 KiB".into(), "healthy".into()]);
        table.row(Tone::Bad, ["long\nname".into(), "12 B".into(), "lost".into()]);
        let text = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(
            text,
            "NAME              SIZE  STATE\n\
             a              1.0 KiB  healthy\n\
             long\\u{a}name     12 B  lost\n"
        );
        assert_eq!(table.len(), 2);
        assert!(table.render().ends_with(&table.render_rows()) && table.render_rows().lines().count() == 2);
    }

    #[test]
    fn letters_that_take_two_places_and_those_that_take_none_line_up_too() {
        let mut table = Table::new(["NAME", ">SIZE"]);
        table.row(Tone::Plain, ["写真".into(), "1 B".into()]);
        table.row(Tone::Plain, ["e\u{301}t\u{e9}".into(), "12 B".into()]);
        let text = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(text, "NAME  SIZE\n写真   1 B\ne\u{301}t\u{e9}   12 B\n");
    }
}
