//! Rows of a JSON lines file: one object per line. In: a file. Out: rows as [`Cell`]s, a missing key being null; lines that are
//! not objects as problems. Nested values stay the text they are. Empty lines are skipped.

use super::SourceFile;
use super::files::open_text;
use super::problems::{Place, ProblemKind, Problems, SourceProblem};
use super::rows::{Cell, Contents, GoOn, Row, Visit, Wanted};
use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

/// No honest row is longer; a file without line ends must not fill the memory.
const LONGEST_LINE: u64 = 64 << 20;

pub(super) fn read(
    file: &SourceFile,
    wanted: Wanted<'_>,
    problems: &mut Problems,
    visit: &mut Visit<'_>,
) -> Contents {
    let mut rows = JsonRows::new(file, wanted, problems);
    let mut hasher = blake3::Hasher::new();
    match open_text(file) {
        Ok(text) => rows.read_all(BufReader::with_capacity(1 << 16, text), &mut hasher, visit),
        Err(problem) => rows.problems.add(problem.kind, 0, || problem),
    }
    if rows.is_blank && rows.problems.is_empty() {
        rows.problem(
            ProblemKind::Empty,
            "the file is empty",
            "write one JSON object per line, or remove the file",
            None,
        );
    }
    Contents {
        columns: rows.columns,
        rows: rows.count,
        hash: hasher.finalize().to_hex().to_string(),
    }
}

struct JsonRows<'a> {
    file: &'a SourceFile,
    problems: &'a mut Problems,
    columns: Vec<String>,
    positions: HashMap<String, usize>,
    /// New keys become columns.
    is_open: bool,
    count: u64,
    is_blank: bool,
}

impl<'a> JsonRows<'a> {
    fn new(file: &'a SourceFile, wanted: Wanted<'_>, problems: &'a mut Problems) -> Self {
        let columns = wanted.columns.map(<[String]>::to_vec).unwrap_or_default();
        let positions = columns.iter().cloned().zip(0..).collect();
        Self {
            file,
            problems,
            columns,
            positions,
            is_open: wanted.columns.is_none(),
            count: 0,
            is_blank: true,
        }
    }

    fn read_all(
        &mut self,
        mut text: impl BufRead,
        hasher: &mut blake3::Hasher,
        visit: &mut Visit<'_>,
    ) {
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            match read_line(&mut text, &mut bytes) {
                Ok(0) => return,
                Ok(_) => hasher.update(&bytes),
                Err(error) => {
                    let message = format!("the file cannot be read: {error}");
                    let place = Some(Place::line(line));
                    self.problem(
                        ProblemKind::Unreadable,
                        message,
                        "check the file and its compression",
                        place,
                    );
                    return;
                }
            };
            if !self.line(&bytes, line, visit) {
                return;
            }
        }
    }

    fn line(&mut self, bytes: &[u8], line: u32, visit: &mut Visit<'_>) -> GoOn {
        let Ok(text) = std::str::from_utf8(bytes) else {
            let hint = "save the file as UTF-8; it may be Latin-1 or Windows-1252 now";
            self.problem(
                ProblemKind::Encoding,
                "this line holds bytes that are not UTF-8",
                hint,
                Some(Place::line(line)),
            );
            return true;
        };
        if text.trim().is_empty() {
            return true;
        }
        self.is_blank = false;
        self.count += 1;
        match object(text) {
            Ok(pairs) => self.row(&pairs, line, visit),
            Err(error) => {
                self.json_problem(text, line, &error);
                true
            }
        }
    }

    fn row(&mut self, pairs: &[(String, &RawValue)], line: u32, visit: &mut Visit<'_>) -> GoOn {
        let Ok(decoded) = pairs
            .iter()
            .map(|(_, raw)| Value::of(raw))
            .collect::<serde_json::Result<Vec<_>>>()
        else {
            let message = "a string in this object holds an escape that is no character";
            let hint = "write the character itself, or a complete pair such as `\\ud83d\\ude00`";
            self.problem(ProblemKind::Json, message, hint, Some(Place::line(line)));
            return true;
        };
        let mut cells = vec![Cell::Null; self.columns.len()];
        let mut is_seen = vec![false; self.columns.len()];
        for ((name, _), value) in pairs.iter().zip(&decoded) {
            let Some(position) = self.position(name) else {
                continue;
            };
            if position == cells.len() {
                cells.push(Cell::Null);
                is_seen.push(false);
            }
            if is_seen[position] {
                let message = format!("the key `{name}` stands twice in this object");
                self.problem(
                    ProblemKind::Json,
                    message,
                    "keep one of them",
                    Some(Place::line(line)),
                );
                return true;
            }
            is_seen[position] = true;
            cells[position] = value.cell();
        }
        visit(
            &self.columns,
            Row {
                cells: &cells,
                locate: &|_| Place::line(line),
            },
        )
    }

    fn position(&mut self, name: &str) -> Option<usize> {
        if let Some(position) = self.positions.get(name) {
            return Some(*position);
        }
        if !self.is_open {
            return None;
        }
        self.columns.push(name.to_string());
        self.positions
            .insert(name.to_string(), self.columns.len() - 1);
        Some(self.columns.len() - 1)
    }

    fn json_problem(&mut self, text: &str, line: u32, error: &serde_json::Error) {
        let place = Place {
            line,
            column: Some(u32::try_from(error.column().max(1)).unwrap_or(u32::MAX)),
            length: Some(1),
        };
        let (message, hint) = match text.trim_start().starts_with('[') {
            true => (
                "this line is a JSON array, not an object".to_string(),
                "write one object per line, without brackets around them",
            ),
            false => (
                format!("this line is not a JSON object: {}", without_place(error)),
                "write one complete object per line",
            ),
        };
        self.problem(ProblemKind::Json, message, hint, Some(place));
    }

    fn problem(
        &mut self,
        kind: ProblemKind,
        message: impl Into<String>,
        hint: &str,
        place: Option<Place>,
    ) {
        let file = &self.file.name;
        self.problems.add(kind, 0, || {
            let problem = SourceProblem::new(kind, file, message, hint);
            match place {
                Some(place) => problem.at(place),
                None => problem,
            }
        });
    }
}

/// One line with its end; the number of bytes, 0 at the end of the file.
fn read_line(text: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let count = text.take(LONGEST_LINE).read_until(b'\n', bytes)?;
    match count as u64 == LONGEST_LINE {
        true => Err(io::Error::other("a line is longer than 64 MiB")),
        false => Ok(count),
    }
}

/// The message without `at line 1 column 5`, since the line is another one in the file.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message
        .rsplit_once(" at line ")
        .map_or(message.clone(), |(words, _)| words.to_string())
}

fn object(text: &str) -> serde_json::Result<Vec<(String, &RawValue)>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let pairs = deserializer.deserialize_map(Pairs)?;
    deserializer.end()?;
    Ok(pairs)
}

/// Keeps repeated keys apart, which a map would silently merge.
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(8));
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        if pairs
            .iter()
            .any(|(name, _): &(String, &RawValue)| name.trim().is_empty())
        {
            return Err(A::Error::custom("a key is empty"));
        }
        Ok(pairs)
    }
}

enum Value<'a> {
    Null,
    Text(Cow<'a, str>),
    Literal(&'a str),
}

impl<'a> Value<'a> {
    fn of(raw: &'a RawValue) -> serde_json::Result<Self> {
        let text = raw.get();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Value::Null,
            Some(b'"') => Value::Text(string(text)?),
            _ => Value::Literal(text),
        })
    }

    fn cell(&self) -> Cell<'_> {
        match self {
            Value::Null => Cell::Null,
            Value::Text(text) => Cell::Text(text),
            Value::Literal(text) => Cell::Literal(text),
        }
    }
}

/// A raw value is checked for its shape only: half of a surrogate pair is found here.
fn string(quoted: &str) -> serde_json::Result<Cow<'_, str>> {
    match quoted.contains('\\') {
        false => Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1])),
        true => serde_json::from_str(quoted).map(Cow::Owned),
    }
}
