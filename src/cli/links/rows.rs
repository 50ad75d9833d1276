//! Rows of a file: one JSON object a line, or CSV (RFC 4180) with a line of names first.
//!
//! Either has the members `source`, `subject` and `remote_id`; others are passed over, so that what was exported can be
//! imported. One row is held at a time, and a row has a bound: a file may be larger than memory.

use std::{
    cell::Cell,
    io::{self, BufRead, Read},
    path::Path,
    rc::Rc,
};

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cli::{CommandError, UsageError},
    links::Row,
};

/// Longest row that is read: far more than a source, a subject and an id may have.
const ROW_BYTES_MAX: u64 = 64 * 1024;
const MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
const DOING: &str = "reading the rows";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Ndjson,
    Csv,
}

/// A row and the line that it begins on; in CSV, of empty lines before it the first.
pub(super) struct Numbered {
    pub(super) line: u64,
    /// What it says; `None`: it has no remote id. Else why it is no row, with nothing of what it holds.
    pub(super) row: Result<Option<Row>, String>,
}

pub(super) struct Rows {
    form: Form,
    progress: Rc<Cell<u64>>,
}

enum Form {
    Ndjson { input: Box<dyn BufRead>, line: u64, progress: Rc<Cell<u64>> },
    Csv { reader: csv::Reader<Bounded>, columns: Columns },
}

/// Where a line of CSV has what is needed.
struct Columns {
    source: usize,
    subject: usize,
    remote_id: usize,
}

/// Lets no row become longer than its bound: a quotation mark that is never closed would make one of the whole file.
struct Bounded {
    input: Box<dyn BufRead>,
    since_row: Rc<Cell<u64>>,
    progress: Rc<Cell<u64>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since_row.get() > ROW_BYTES_MAX {
            return Err(io::Error::other(format!(
                "a row is longer than {ROW_BYTES_MAX} bytes: is a quotation mark open?"
            )));
        }
        let read = self.input.read(buffer)?;
        self.since_row.set(self.since_row.get() + read as u64);
        self.progress.set(self.progress.get() + read as u64);
        Ok(read)
    }
}

impl Rows {
    /// Of `file`, whose extension tells the format; of any other, and of standard input, the first character does.
    pub(super) fn new(file: &Path, input: impl Read + 'static) -> Result<Self, CommandError> {
        let mut input: Box<dyn BufRead> = Box::new(io::BufReader::new(input));
        let begun = input.fill_buf().map_err(CommandError::io(DOING))?;
        if begun.starts_with(&MARK) {
            input.consume(MARK.len());
        }
        let extension = file.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        let format = match extension.as_deref() {
            Some("csv") => Format::Csv,
            Some("ndjson" | "jsonl" | "json") => Format::Ndjson,
            _ => {
                let begun = input.fill_buf().map_err(CommandError::io(DOING))?;
                if begun.trim_ascii_start().first() == Some(&b'{') { Format::Ndjson } else { Format::Csv }
            }
        };
        let progress = Rc::new(Cell::new(0));
        let form = match format {
            Format::Ndjson => Form::Ndjson { input, line: 0, progress: progress.clone() },
            Format::Csv => Form::csv(input, progress.clone())?,
        };
        Ok(Self { form, progress })
    }

    /// Bytes that were read.
    pub(super) fn progress(&self) -> u64 {
        self.progress.get()
    }

    /// The next row; `None`: that was all.
    pub(super) fn next(&mut self) -> Result<Option<Numbered>, CommandError> {
        match &mut self.form {
            Form::Ndjson { input, line, progress } => next_line(&mut **input, line, progress),
            Form::Csv { reader, columns } => next_record(reader, columns),
        }
    }
}

impl Form {
    fn csv(input: Box<dyn BufRead>, progress: Rc<Cell<u64>>) -> Result<Self, CommandError> {
        let bounded = Bounded { input, since_row: Rc::default(), progress };
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .trim(csv::Trim::Headers)
            // Or lines that end with both would be counted where the first ends. The other is taken off the last field.
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(bounded);
        let names = reader.headers().map_err(unreadable)?;
        let column = |name: &str| {
            let found = names.iter().position(|column| column.eq_ignore_ascii_case(name));
            found.ok_or_else(|| {
                UsageError(format!(
                    "line 1 has no column {name}: rows are CSV with the columns source, subject and remote_id, or JSON \
                     objects with these members, one a line"
                ))
            })
        };
        let columns =
            Columns { source: column("source")?, subject: column("subject")?, remote_id: column("remote_id")? };
        Ok(Self::Csv { reader, columns })
    }
}

fn next_line(
    input: &mut dyn BufRead,
    number: &mut u64,
    progress: &Cell<u64>,
) -> Result<Option<Numbered>, CommandError> {
    loop {
        let mut line = Vec::new();
        let limit = ROW_BYTES_MAX + 1;
        let read = input.take(limit).read_until(b'\n', &mut line).map_err(CommandError::io(DOING))? as u64;
        if read == 0 {
            return Ok(None);
        }
        *number += 1;
        progress.set(progress.get() + read);
        let row = if read == limit && !line.ends_with(b"\n") {
            let skipped = input.skip_until(b'\n').map_err(CommandError::io(DOING))? as u64;
            progress.set(progress.get() + skipped);
            Err(format!("it is longer than {ROW_BYTES_MAX} bytes"))
        } else if line.trim_ascii().is_empty() {
            continue;
        } else {
            row_of_json(&line)
        };
        return Ok(Some(Numbered { line: *number, row }));
    }
}

fn row_of_json(line: &[u8]) -> Result<Option<Row>, String> {
    #[derive(Deserialize)]
    struct Members {
        source: Option<Value>,
        subject: Option<Value>,
        remote_id: Option<Value>,
    }
    // Not the parser's message: it may quote what it found.
    let members: Members =
        serde_json::from_slice(line).map_err(|error| format!("it is no JSON object, see column {}", error.column()))?;
    let text = |value: Option<Value>, name: &str| match value {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        // What a CRM or a shop counts is often written without quotation marks.
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err(format!("its {name} is neither a text nor a number")),
    };
    Ok(row(text(members.source, "source")?, text(members.subject, "subject")?, text(members.remote_id, "remote_id")?))
}

fn next_record(reader: &mut csv::Reader<Bounded>, columns: &Columns) -> Result<Option<Numbered>, CommandError> {
    let mut record = csv::StringRecord::new();
    loop {
        reader.get_ref().since_row.set(0);
        let line_after = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(None),
            // An empty line that ends with both.
            Ok(true) if record.len() == 1 && record.get(0) == Some("\r") => continue,
            Ok(true) => {}
            Err(error) => match error.kind() {
                csv::ErrorKind::Utf8 { pos, .. } => {
                    let line = pos.as_ref().map_or(line_after, csv::Position::line);
                    return Ok(Some(Numbered { line, row: Err("it is not UTF-8".to_owned()) }));
                }
                _ => return Err(unreadable(error)),
            },
        }
        let line = record.position().map_or(line_after, csv::Position::line);
        let last = record.len().saturating_sub(1);
        let field = |column: usize| {
            let text = record.get(column).unwrap_or_default();
            if column == last { text.strip_suffix('\r').unwrap_or(text) } else { text }.to_owned()
        };
        let row = row(field(columns.source), field(columns.subject), field(columns.remote_id));
        return Ok(Some(Numbered { line, row: Ok(row) }));
    }
}

/// What a row says, if it says what the CRM calls somebody.
fn row(source: String, subject: String, remote_id: String) -> Option<Row> {
    (!remote_id.is_empty()).then_some(Row { source, subject, remote_id })
}

fn unreadable(error: csv::Error) -> CommandError {
    let source = match error.into_kind() {
        csv::ErrorKind::Io(source) => source,
        // The rest is about forms that are not asked for.
        _ => io::Error::other("it is no CSV"),
    };
    CommandError::io(DOING)(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of a line, and what it says or what is wrong with it.
    type Read = (u64, Result<String, String>);

    fn rows(file: &str, text: impl Into<Vec<u8>>) -> Result<Vec<Read>, CommandError> {
        let text: Vec<u8> = text.into();
        let length = text.len() as u64;
        let mut rows = Rows::new(Path::new(file), io::Cursor::new(text))?;
        let mut all = Vec::new();
        while let Some(Numbered { line, row }) = rows.next()? {
            let said =
                row.map(|row| row.map_or("none".to_owned(), |row| [row.source, row.subject, row.remote_id].join("|")));
            all.push((line, said));
        }
        assert!(rows.progress() <= length);
        Ok(all)
    }

    fn good(line: u64, said: &str) -> Read {
        (line, Ok(said.to_owned()))
    }

    #[test]
    fn the_format_is_told_by_the_extension_or_the_first_character() {
        let json = "\n{\"source\":\"shop\",\"subject\":\"1\",\"remote_id\":\"r\"}\n";
        let csv = "source,subject,remote_id\nshop,1,r\n";
        for (file, text, line) in [
            ("a.ndjson", json, 2),
            ("a.JSONL", json, 2),
            ("-", json, 2),
            ("a.txt", json, 2),
            ("a.csv", csv, 2),
            ("-", csv, 2),
        ] {
            assert_eq!(rows(file, text).unwrap(), [good(line, "shop|1|r")], "{file}");
        }
        let marked = [&MARK[..], csv.as_bytes()].concat();
        assert_eq!(rows("-", marked).unwrap(), [good(2, "shop|1|r")]);
    }

    #[test]
    fn csv_has_its_columns_in_any_order_with_quotes_and_lines_in_them() {
        let text = "state,Remote_Id, subject ,source\r\nactive,\"r,1\",\"4\"\"7\",shop\r\n\r\nx,r2,\"a\nb\",shop\nx,,5,shop\nx,r3\n";
        let expected = [good(2, "shop|4\"7|r,1"), good(4, "shop|a\nb|r2"), good(6, "none"), good(7, "||r3")];
        assert_eq!(rows("a.csv", text).unwrap(), expected);
        let error = rows("a.csv", "source,subject\nshop,1\n").unwrap_err();
        assert!(error.to_string().contains("no column remote_id"), "{error}");
        let latin = b"source,subject,remote_id\nshop,\xe9,r\nshop,2,r\n".to_vec();
        assert_eq!(rows("a.csv", latin).unwrap(), [(2, Err("it is not UTF-8".to_owned())), good(3, "shop|2|r")]);
    }

    #[test]
    fn json_takes_numbers_passes_over_other_members_and_names_what_is_no_row_by_its_line() {
        let text = "{\"source\":\"shop\",\"subject\":47,\"remote_id\":8842,\"state\":\"active\"}\n\nann\n[]\n\
                    {\"source\":\"shop\",\"subject\":\"1\",\"remote_id\":null}\n{\"source\":[],\"remote_id\":\"r\"}";
        let all = rows("-", text).unwrap();
        assert_eq!((&all[0], &all[3]), (&good(1, "shop|47|8842"), &good(5, "none")));
        for (place, line) in [(1, 3), (2, 4), (4, 6)] {
            let (number, Err(why)) = &all[place] else { panic!("{all:?}") };
            assert!(*number == line && !why.contains("ann"), "{why}");
        }
    }

    #[test]
    fn a_row_has_a_bound_in_either_format() {
        let of = |length: usize| {
            let rest = "{\"source\":\"s\",\"subject\":\"\",\"remote_id\":\"r\"}\n".len();
            format!("{{\"source\":\"s\",\"subject\":\"{}\",\"remote_id\":\"r\"}}\n", "x".repeat(length - rest))
        };
        let longest = ROW_BYTES_MAX as usize + 1;
        let all = rows("a.ndjson", [of(longest), of(longest + 1), of(100)].concat()).unwrap();
        let is_good: Vec<_> = all.iter().map(|(line, row)| (*line, row.is_ok())).collect();
        assert_eq!(is_good, [(1, true), (2, false), (3, true)]);
        let open = format!("source,subject,remote_id\ns,1,\"r\n{}", "s,2,r\n".repeat(longest));
        let error = rows("a.csv", open).unwrap_err();
        let source = std::error::Error::source(&error).expect("it says why").to_string();
        assert!(source.contains("quotation mark"), "{source}");
    }
}
