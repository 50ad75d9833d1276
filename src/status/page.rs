//! Lines with tones, and how they come to a terminal: coloured or not, within a width or not. Pure.

/// What a piece of text is, whatever that looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tone {
    #[default]
    Plain,
    Title,
    Faint,
    Good,
    Warn,
    Bad,
}

impl Tone {
    /// Select graphic rendition (ECMA-48), in colours that every terminal has.
    const fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Title => "\u{1b}[1m",
            Self::Faint => "\u{1b}[2m",
            Self::Good => "\u{1b}[32m",
            Self::Warn => "\u{1b}[33m",
            Self::Bad => "\u{1b}[1;31m",
        }
    }
}

const RESET: &str = "\u{1b}[0m";
/// Where a note that goes on in the next line begins there.
const INDENT: usize = 2;
/// The text of a line is not broken into pieces shorter than this.
const WIDTH_MIN: usize = 20;

/// One line, or a note that may take several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    pieces: Vec<(Tone, String)>,
    /// A note, so deep: what is too long goes on in the next line. Of anything else, the end is left out.
    note: Option<usize>,
}

impl Line {
    pub(super) fn of(tone: Tone, text: impl Into<String>) -> Self {
        Self { pieces: vec![(tone, text.into())], note: None }
    }

    pub(super) fn note(depth: usize, tone: Tone, text: impl Into<String>) -> Self {
        Self { pieces: vec![(tone, text.into())], note: Some(depth) }
    }

    pub(super) fn push(&mut self, tone: Tone, text: impl Into<String>) {
        self.pieces.push((tone, text.into()));
    }

    /// As a terminal of this width shows it, or as it is.
    pub fn painted(&self, width: Option<usize>, coloured: bool) -> Vec<String> {
        match self.note {
            None => vec![painted(&cut(&self.pieces, width), coloured)],
            Some(depth) => {
                let (tone, text) = &self.pieces[0];
                let indent = " ".repeat(depth * INDENT);
                let room = width.map(|width| width.saturating_sub(indent.len()).max(WIDTH_MIN));
                let lines = wrapped(text, room);
                lines.into_iter().map(|line| format!("{indent}{}", painted(&[(*tone, line)], coloured))).collect()
            }
        }
    }
}

fn painted(pieces: &[(Tone, String)], coloured: bool) -> String {
    let paint = |(tone, text): &(Tone, String)| match tone.sgr() {
        sgr if coloured && !sgr.is_empty() && !text.is_empty() => format!("{sgr}{text}{RESET}"),
        _ => text.clone(),
    };
    let line: String = pieces.iter().map(paint).collect();
    if coloured { line } else { line.trim_end().to_owned() }
}

/// What fits.
fn cut(pieces: &[(Tone, String)], width: Option<usize>) -> Vec<(Tone, String)> {
    let mut room = width.unwrap_or(usize::MAX);
    let mut fitting = Vec::new();
    for (tone, text) in pieces {
        let kept: String = text.chars().take(room).collect();
        room -= kept.chars().count();
        fitting.push((*tone, kept));
    }
    fitting
}

/// Broken between words where a line is full; a word that is longer than a line is left as it is, and cut by the terminal.
fn wrapped(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room else { return vec![text.to_owned()] };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one from the beginning");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    tone: Tone,
    text: String,
    right: bool,
}

impl Cell {
    pub(super) fn left(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: text.into(), right: false }
    }

    pub(super) fn right(text: String) -> Self {
        Self { tone: Tone::Plain, text, right: true }
    }
}

/// Rows of one length, the first the head; each column as wide as it needs to be, and its head where its cells are.
pub(super) fn table(depth: usize, rows: Vec<Vec<Cell>>) -> Vec<Line> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].text.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let rights: Vec<bool> = (0..columns).map(|column| rows.get(1).is_some_and(|row| row[column].right)).collect();
    let line = |row: &Vec<Cell>| {
        let mut line = Line::of(Tone::Plain, " ".repeat(depth * INDENT));
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let text = match rights[column] {
                true => format!("{:>width$}", cell.text),
                false => format!("{:<width$}", cell.text),
            };
            line.push(cell.tone, text);
            line.push(Tone::Plain, if column + 1 < columns { "  " } else { "" });
        }
        line
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_and_a_note_is_broken_at_the_width() {
        let mut line = Line::of(Tone::Title, "abc");
        line.push(Tone::Bad, "defgh");
        assert_eq!(line.painted(Some(5), false), ["abcde"]);
        assert_eq!(line.painted(Some(5), true), ["\u{1b}[1mabc\u{1b}[0m\u{1b}[1;31mde\u{1b}[0m"]);
        assert_eq!(line.painted(None, false), ["abcdefgh"]);
        let note = Line::note(1, Tone::Plain, "some words that are longer than a line");
        assert_eq!(note.painted(Some(24), false), ["  some words that are", "  longer than a line"]);
        assert!(note.painted(Some(24), false).iter().all(|line| line.chars().count() <= 24));
        assert_eq!(note.painted(None, false), ["  some words that are longer than a line"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_right() {
        let head = vec![Cell::left(Tone::Faint, "CRM"), Cell::left(Tone::Faint, "N")];
        let row = |name: &str, number: &str| vec![Cell::left(Tone::Plain, name), Cell::right(number.to_owned())];
        let lines = table(0, vec![head, row("a", "1"), row("longer", "100")]);
        let text: Vec<_> = lines.iter().flat_map(|line| line.painted(None, false)).collect();
        assert_eq!(text, ["CRM       N", "a         1", "longer  100"]);
    }
}
