//! Tables: aligned columns, no borders, one line a row, whatever is in the cells.

use super::printable::Printable;
use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ContentArrangement, presets};

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

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table {
    table: comfy_table::Table,
    tones: Vec<Tone>,
}

impl Table {
    /// An empty one; a column whose title begins with `>` is aligned to the right.
    pub(crate) fn new<const COLUMNS: usize>(titles: [&str; COLUMNS]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(titles.map(|title| title.trim_start_matches('>')));
        for (column, title) in table.column_iter_mut().zip(titles) {
            column.set_padding((0, 2));
            if title.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table, tones: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, tone: Tone, cells: [String; COLUMNS]) {
        self.table.add_row(cells.map(|cell| Printable(&cell).to_string()));
        self.tones.push(tone);
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
        let lines = self.table.lines().zip(styles);
        lines.map(|(line, style)| format!("{style}{}{style:#}\n", line.trim_end())).collect()
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
}
