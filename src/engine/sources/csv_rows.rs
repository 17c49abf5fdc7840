//! Rows of a CSV file (RFC 4180, any line ending). In: a file and its options. Out: rows as [`Cell`]s; ragged rows, quotes
//! that are not closed, bytes that are not UTF-8 and bad headers as problems. Empty lines are skipped.

use super::files::{open_text, plain_text_offset};
use super::problems::{Place, ProblemKind, Problems, SourceProblem};
use super::rows::{Cell, Contents, GoOn, Row, Visit, Wanted};
use super::{CsvOptions, SourceFile};
use csv::ByteRecord;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// A quoted value longer than this is taken for a quote that nobody closed; so memory stays bounded.
const LONGEST_QUOTED: u64 = 16 << 20;

pub(super) fn read(
    file: &SourceFile,
    wanted: Wanted<'_>,
    problems: &mut Problems,
    visit: &mut Visit<'_>,
) -> Contents {
    let nothing = || Contents {
        columns: Vec::new(),
        rows: 0,
        hash: String::new(),
    };
    let text = match open_text(file) {
        Ok(text) => text,
        Err(problem) => {
            problems.add(problem.kind, 0, || problem);
            return nothing();
        }
    };
    let delimiter = delimiter_of(file, wanted.csv);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(Scanner::new(text, delimiter));
    let mut rows = CsvRows {
        file,
        delimiter,
        wanted,
        problems,
        count: 0,
    };
    let columns = rows.read_all(&mut reader, visit).unwrap_or_default();
    let count = rows.count;
    let scanner = reader.into_inner();
    let hash = scanner.hasher.finalize().to_hex().to_string();
    if let Some(problem) = scanner.quote_problem(file) {
        problems.add(ProblemKind::Quote, 0, || problem);
    }
    Contents {
        columns,
        rows: count,
        hash,
    }
}

fn delimiter_of(file: &SourceFile, options: &CsvOptions) -> u8 {
    let is_tab_separated = file
        .name
        .split('/')
        .next_back()
        .is_some_and(|name| name.to_ascii_lowercase().contains(".tsv"));
    options
        .delimiter
        .unwrap_or(if is_tab_separated { b'\t' } else { b',' })
}

struct CsvRows<'a> {
    file: &'a SourceFile,
    delimiter: u8,
    wanted: Wanted<'a>,
    problems: &'a mut Problems,
    count: u64,
}

impl CsvRows<'_> {
    /// The column names, or none if the file cannot be read as a table.
    fn read_all<R: Read>(
        &mut self,
        reader: &mut csv::Reader<R>,
        visit: &mut Visit<'_>,
    ) -> Option<Vec<String>> {
        let mut record = ByteRecord::new();
        if !self.next(reader, &mut record)? {
            let message = "the file is empty";
            let hint = "a CSV file starts with a line of column names; remove the file if it is not needed";
            self.problem(ProblemKind::Empty, 0, message, hint, None);
            return None;
        }
        let width = record.len();
        let names = match self.wanted.csv.has_header {
            true => self.header(&record)?,
            false => self.made_up_names(width)?,
        };
        let fields = self.positions(&names)?;
        let mut has_row = match self.wanted.csv.has_header {
            true => self.next(reader, &mut record)?,
            false => true,
        };
        while has_row {
            let go_on = self.row(&record, width, &names, &fields, visit);
            if !go_on {
                break;
            }
            has_row = self.next(reader, &mut record)?;
        }
        Some(names)
    }

    fn next<R: Read>(
        &mut self,
        reader: &mut csv::Reader<R>,
        record: &mut ByteRecord,
    ) -> Option<bool> {
        match reader.read_byte_record(record) {
            Ok(has_row) => Some(has_row),
            Err(error) => {
                let line = place_number(reader.position().line());
                // The scanner stops the reading of an endless quote, and reports it itself.
                if !is_endless_quote(&error) {
                    let message = format!("the file cannot be read: {error}");
                    let hint = "check the file and its compression";
                    self.problem(
                        ProblemKind::Unreadable,
                        0,
                        message,
                        hint,
                        Some(Place::line(line)),
                    );
                }
                None
            }
        }
    }

    fn header(&mut self, record: &ByteRecord) -> Option<Vec<String>> {
        let mut names: Vec<String> = Vec::with_capacity(record.len());
        let mut is_good = true;
        for (position, name) in record.iter().enumerate() {
            let name = String::from_utf8_lossy(name).trim().to_string();
            let place = self.locate(record, position);
            if std::str::from_utf8(&record[position]).is_err() {
                self.encoding_problem(position, &name, place);
                is_good = false;
            } else if name.is_empty() {
                let message = format!("the name of column {} is empty", position + 1);
                self.problem(
                    ProblemKind::Header,
                    position,
                    message,
                    "give every column a name in the first line",
                    Some(place),
                );
                is_good = false;
            } else if let Some(earlier) = names.iter().position(|earlier| *earlier == name) {
                let message = format!(
                    "two columns are named `{name}`: columns {} and {}",
                    earlier + 1,
                    position + 1
                );
                self.problem(
                    ProblemKind::Header,
                    position,
                    message,
                    "rename one of them in the first line",
                    Some(place),
                );
                is_good = false;
            }
            names.push(name);
        }
        if let ([name], Some(other)) = (names.as_slice(), other_delimiter(&names, self.delimiter)) {
            let message = format!("the file has one column, named `{name}`");
            let hint = format!(
                "the values seem to be separated by {}; set `delimiter` to it",
                in_words(other)
            );
            self.problem(ProblemKind::Header, 0, message, hint, Some(Place::line(1)));
            is_good = false;
        }
        is_good.then_some(names)
    }

    fn made_up_names(&mut self, width: usize) -> Option<Vec<String>> {
        if self.wanted.names.is_empty() {
            return Some(
                (1..=width)
                    .map(|number| format!("column_{number}"))
                    .collect(),
            );
        }
        if self.wanted.names.len() != width {
            let message = format!(
                "the file has {width} columns, but {} are declared",
                self.wanted.names.len()
            );
            let hint = "a file without a header needs every column declared, in order";
            self.problem(ProblemKind::Header, 0, message, hint, Some(Place::line(1)));
            return None;
        }
        Some(self.wanted.names.to_vec())
    }

    /// For each wanted column its position in the file.
    fn positions(&mut self, names: &[String]) -> Option<Vec<usize>> {
        let Some(wanted) = self.wanted.columns else {
            return Some((0..names.len()).collect());
        };
        let mut positions = Vec::with_capacity(wanted.len());
        for column in wanted {
            let Some(position) = names.iter().position(|name| name == column) else {
                let message = format!("the file has no column `{column}` any more");
                self.problem(
                    ProblemKind::Mismatch,
                    0,
                    message,
                    "the file changed while it was read; run again",
                    None,
                );
                return None;
            };
            positions.push(position);
        }
        Some(positions)
    }

    fn row(
        &mut self,
        record: &ByteRecord,
        width: usize,
        names: &[String],
        fields: &[usize],
        visit: &mut Visit<'_>,
    ) -> GoOn {
        self.count += 1;
        if record.len() != width {
            self.ragged_row(record, width, names);
            return true;
        }
        let mut cells = Vec::with_capacity(fields.len());
        for field in fields {
            match std::str::from_utf8(&record[*field]) {
                Ok(text) => cells.push(self.cell(text)),
                Err(_) => {
                    let place = self.locate(record, *field);
                    self.encoding_problem(*field, &names[*field], place);
                    return true;
                }
            }
        }
        let locate = |cell: usize| self.locate(record, fields[cell]);
        visit(
            names,
            Row {
                cells: &cells,
                locate: &locate,
            },
        )
    }

    fn cell<'a>(&self, text: &'a str) -> Cell<'a> {
        let is_null =
            text.is_empty() || self.wanted.csv.null_values.iter().any(|null| null == text);
        if is_null {
            Cell::Null
        } else {
            Cell::Field(text)
        }
    }

    fn ragged_row(&mut self, record: &ByteRecord, width: usize, names: &[String]) {
        let values = record.len();
        let (message, hint) = match values < width {
            true => (
                format!(
                    "this row has {}, but the table has {width} columns",
                    counted(values, "value")
                ),
                format!(
                    "the value of `{}` is the first that is missing",
                    names[values]
                ),
            ),
            false => (
                format!(
                    "this row has {}, but the table has {}",
                    counted(values, "value"),
                    counted(width, "column")
                ),
                format!(
                    "put a value that contains {} into double quotes",
                    in_words(self.delimiter)
                ),
            ),
        };
        let place = Place::line(line_of(record));
        self.problem(ProblemKind::Ragged, 0, message, hint, Some(place));
    }

    fn encoding_problem(&mut self, position: usize, column: &str, place: Place) {
        let message = format!("column `{column}` holds bytes that are not UTF-8");
        let hint = "save the file as UTF-8; it may be Latin-1 or Windows-1252 now";
        self.problem(ProblemKind::Encoding, position, message, hint, Some(place));
    }

    fn problem(
        &mut self,
        kind: ProblemKind,
        column: usize,
        message: impl Into<String>,
        hint: impl Into<String>,
        place: Option<Place>,
    ) {
        let file = &self.file.name;
        self.problems.add(kind, column, || {
            let problem = SourceProblem::new(kind, file, message, hint);
            match place {
                Some(place) => problem.at(place),
                None => problem,
            }
        });
    }

    fn locate(&self, record: &ByteRecord, field: usize) -> Place {
        let line = line_of(record);
        let start = record.position().map_or(0, csv::Position::byte);
        find_field(self.file, start, field, self.delimiter, line).unwrap_or(Place::line(line))
    }
}

fn line_of(record: &ByteRecord) -> u32 {
    record
        .position()
        .map_or(1, |position| place_number(position.line()))
}

/// Lines and columns as diagnostics count them.
fn place_number(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn other_delimiter(names: &[String], delimiter: u8) -> Option<u8> {
    let is_in_name = |other: &u8| {
        *other != delimiter && names.iter().any(|name| name.as_bytes().contains(other))
    };
    [b';', b'\t', b'|', b','].into_iter().find(is_in_name)
}

fn in_words(delimiter: u8) -> String {
    match delimiter {
        b'\t' => "a tab".to_string(),
        b',' => "a comma".to_string(),
        b';' => "a semicolon".to_string(),
        other => format!("`{}`", char::from(other)),
    }
}

/// Reads the row again to find where one of its fields begins. None for compressed files, whose bytes nobody edits.
fn find_field(
    file: &SourceFile,
    start: u64,
    field: usize,
    delimiter: u8,
    line: u32,
) -> Option<Place> {
    let offset = plain_text_offset(file)?;
    let mut reader = BufReader::new(File::open(&file.path).ok()?);
    reader.seek(SeekFrom::Start(start + offset)).ok()?;
    let mut bytes = Vec::new();
    reader.take(1 << 20).read_until(b'\n', &mut bytes).ok()?;
    let row: &[u8] = bytes
        .strip_suffix(b"\n")
        .map_or(&bytes, |row| row.strip_suffix(b"\r").unwrap_or(row));
    let (mut begin, mut number, mut is_quoted) = (0, 0, false);
    for (position, byte) in row.iter().enumerate() {
        match *byte {
            b'"' => is_quoted = !is_quoted,
            byte if byte == delimiter && !is_quoted => {
                if number == field {
                    return Some(place_in(row, begin, position, line));
                }
                (number, begin) = (number + 1, position + 1);
            }
            _ => {}
        }
    }
    (number == field).then(|| place_in(row, begin, row.len(), line))
}

fn place_in(row: &[u8], begin: usize, end: usize, line: u32) -> Place {
    let characters =
        |bytes: &[u8]| place_number(String::from_utf8_lossy(bytes).chars().count() as u64);
    Place {
        line,
        column: Some(characters(&row[..begin]) + 1),
        length: Some(characters(&row[begin..end]).max(1)),
    }
}

/// Watches the bytes on their way to the CSV parser, which forgives bad quoting silently: hashes them and follows quotes.
struct Scanner<R> {
    inner: R,
    hasher: blake3::Hasher,
    delimiter: u8,
    state: Quoting,
    line: u32,
    column: u32,
    opened: Place,
    quoted_bytes: u64,
    text_after_quote: Option<Place>,
    is_endless: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Quoting {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: the end of the field, or the first half of a doubled quote.
    Closing,
}

impl<R> Scanner<R> {
    fn new(inner: R, delimiter: u8) -> Self {
        Self {
            inner,
            hasher: blake3::Hasher::new(),
            delimiter,
            state: Quoting::FieldStart,
            line: 1,
            column: 0,
            opened: Place::line(1),
            quoted_bytes: 0,
            text_after_quote: None,
            is_endless: false,
        }
    }

    fn watch(&mut self, byte: u8) {
        self.column = self.column.saturating_add(u32::from(byte & 0xC0 != 0x80));
        let is_end = byte == self.delimiter || byte == b'\n' || byte == b'\r';
        self.state = match (self.state, byte) {
            (Quoting::FieldStart, b'"') => {
                self.opened = Place {
                    line: self.line,
                    column: Some(self.column),
                    length: Some(1),
                };
                self.quoted_bytes = 0;
                Quoting::Quoted
            }
            (Quoting::Quoted, b'"') => Quoting::Closing,
            (Quoting::Quoted, _) => {
                self.quoted_bytes += 1;
                Quoting::Quoted
            }
            (Quoting::Closing, b'"') => Quoting::Quoted,
            (_, _) if is_end => Quoting::FieldStart,
            (Quoting::Closing, _) => {
                let place = Place {
                    line: self.line,
                    column: Some(self.column),
                    length: Some(1),
                };
                self.text_after_quote.get_or_insert(place);
                Quoting::Plain
            }
            _ => Quoting::Plain,
        };
        if byte == b'\n' {
            (self.line, self.column) = (self.line.saturating_add(1), 0);
        }
    }

    fn quote_problem(&self, file: &SourceFile) -> Option<SourceProblem> {
        let problem = |message: &str, hint: &str, place: Place| {
            Some(SourceProblem::new(ProblemKind::Quote, &file.name, message, hint).at(place))
        };
        if self.state == Quoting::Quoted {
            let hint = "close the quote, or write a quote inside a quoted value twice";
            return problem(
                "the quote that opens here is never closed",
                hint,
                self.opened,
            );
        }
        let hint = "put the whole value into quotes, and write a quote inside it twice";
        problem("text follows a closing quote", hint, self.text_after_quote?)
    }
}

impl<R: Read> Read for Scanner<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        for byte in &buffer[..count] {
            self.watch(*byte);
        }
        self.is_endless |= self.state == Quoting::Quoted && self.quoted_bytes > LONGEST_QUOTED;
        match self.is_endless {
            true => Err(io::Error::new(io::ErrorKind::FileTooLarge, ENDLESS_QUOTE)),
            false => Ok(count),
        }
    }
}

const ENDLESS_QUOTE: &str = "a quote is not closed";

fn is_endless_quote(error: &csv::Error) -> bool {
    matches!(error.kind(), csv::ErrorKind::Io(error) if error.to_string() == ENDLESS_QUOTE)
}
