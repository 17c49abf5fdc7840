//! Rows as tables, JSON or CSV; diagnostics for people and machines.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use super::options::OutputFormat;
use crate::diagnostics::{Diagnostic, Render, Severity, render_all, to_json};
use crate::engine::Rows;

/// Writes a line to standard error, if there is one; see the macro of that name.
pub fn tell(words: std::fmt::Arguments<'_>) {
    let line = format!("{words}\n");
    let _ = anstream::stderr().lock().write_all(line.as_bytes());
}

/// Whether standard error takes colours: a terminal, and `NO_COLOR` is not set.
pub fn is_styled() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Nobody reads more of them, and one wrong line can make thousands.
const MOST_SHOWN: usize = 500;

pub fn diagnostics(diagnostics: &[Diagnostic], texts: &BTreeMap<Arc<str>, Arc<str>>) {
    if diagnostics.is_empty() {
        return;
    }
    let how = if is_styled() {
        Render::Styled
    } else {
        Render::Plain
    };
    let mut shown: Vec<Diagnostic> = diagnostics.to_vec();
    shown.sort_by(|left, right| (right.severity, &left.span).cmp(&(left.severity, &right.span)));
    shown.truncate(MOST_SHOWN);
    tell!("{}", render_all(&shown, texts, how));
    if let Some(more @ 1..) = diagnostics.len().checked_sub(MOST_SHOWN) {
        tell!("... and {more} more; `--log-format json` prints them all");
    }
    let errors = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity == Severity::Error)
        .count();
    if errors > 0 {
        tell!("{errors} error{}", if errors == 1 { "" } else { "s" });
    }
}

pub fn diagnostics_as_json(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        tell!(
            "{}",
            serde_json::json!({"event": "diagnostic", "diagnostic": to_json(diagnostic)})
        );
    }
}

/// Prints rows to standard output.
pub fn rows(rows: &Rows, format: OutputFormat) -> anyhow::Result<()> {
    print(&rows_text(rows, format)?)
}

/// Rows as they are printed.
pub fn rows_text(rows: &Rows, format: OutputFormat) -> anyhow::Result<String> {
    Ok(match format {
        OutputFormat::Table => {
            format!("{}\n{}\n", table(rows)?, counted(rows.len() as u64, "row"))
        }
        OutputFormat::Json => rows.json_lines()?,
        OutputFormat::Csv => csv(rows)?,
        OutputFormat::Markdown => {
            let cells = rows.cells()?;
            let texts = cells
                .into_iter()
                .map(|row| row.into_iter().map(Option::unwrap_or_default).collect());
            markdown_table(&rows.columns(), texts)
        }
    })
}

/// `1 row`, `2 rows`.
pub fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Writes to standard output; a reader that went away (`| head`) is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn table(rows: &Rows) -> anyhow::Result<Table> {
    let mut table = plain_table(&rows.columns());
    for cells in rows.cells()? {
        let cell = |(at, text): (usize, Option<String>)| {
            let cell = Cell::new(text.unwrap_or_default());
            if rows.is_numeric(at) {
                cell.set_alignment(CellAlignment::Right)
            } else {
                cell
            }
        };
        table.add_row(cells.into_iter().enumerate().map(cell));
    }
    Ok(table)
}

/// A table as Markdown has it; a bar inside a cell is escaped.
pub fn markdown_table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let plain = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut text = line(columns.iter().map(|name| plain(name)).collect());
    text += &line(columns.iter().map(|_| "---".to_string()).collect());
    for row in rows {
        text += &line(row.iter().map(|cell| plain(cell)).collect());
    }
    text
}

/// A table with a line under its header and no other lines.
pub fn plain_table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(columns.to_vec());
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

fn csv(rows: &Rows) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(rows.columns())?;
    for cells in rows.cells()? {
        writer.write_record(cells.into_iter().map(Option::unwrap_or_default))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
