//! Writes the logs day by day, in the order of receipt, as many days at a time as there are threads.
//! In: a [`Population`]. Out: files and their row counts. A row that is received on a later day waits for that day.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;

use anyhow::{Context, Result};
use chrono::Days;

use super::behaviour::{DAY, DayLog, Logged, live};
use super::population::Population;
use super::table::{ASSIGNMENTS, CONVERSIONS, EVENTS, EXPOSURES, Layout, Tables, USERS, write_csv};
use super::{FileFormat, FileSplit, GenerateOptions, Generated};
use crate::engine::columns::{Column, ParquetFile};

pub fn write_logs(population: &Population) -> Result<Generated> {
    let options = population.options;
    let mut output = Output::open(population)?;
    let users = output.write_users()?;
    let mut waiting: BTreeMap<u16, DayLog> = BTreeMap::new();
    let threads = options.threads.clamp(1, 64) as u16;
    let mut written = Generated {
        users,
        ..Generated::default()
    };
    for first in (0..options.days).step_by(usize::from(threads)) {
        let days = first..(first + threads).min(options.days);
        for lived in live_days(population, days.clone()) {
            deliver(lived, options.days, &mut waiting);
        }
        let received = days
            .map(|day| (day, waiting.remove(&day).unwrap_or_default()))
            .collect();
        written.add(&output.write_days(received)?);
    }
    output.close()?;
    Ok(written)
}

impl Generated {
    fn add(&mut self, other: &Generated) {
        self.assignments += other.assignments;
        self.exposures += other.exposures;
        self.events += other.events;
        self.conversions += other.conversions;
    }

    fn count(log: &DayLog) -> Generated {
        Generated {
            users: 0,
            assignments: log.assignments.len() as u64,
            exposures: log.exposures.len() as u64,
            events: log.events.len() as u64,
            conversions: log.conversions.len() as u64,
        }
    }
}

fn live_days(population: &Population, days: Range<u16>) -> Vec<DayLog> {
    in_parallel(days.collect(), |day| {
        live(population, 0..population.options.users, day)
    })
}

/// Hands each row to the day it is received on; what is received after the last day is not in the data yet.
fn deliver(lived: DayLog, days: u16, waiting: &mut BTreeMap<u16, DayLog>) {
    fn hand_out<R: Logged>(
        rows: Vec<R>,
        days: u16,
        waiting: &mut BTreeMap<u16, DayLog>,
        of: fn(&mut DayLog) -> &mut Vec<R>,
    ) {
        for row in rows {
            let day = row.times().received.div_euclid(DAY);
            if day < i64::from(days) {
                of(waiting.entry(day as u16).or_default()).push(row);
            }
        }
    }
    hand_out(lived.assignments, days, waiting, |log| &mut log.assignments);
    hand_out(lived.exposures, days, waiting, |log| &mut log.exposures);
    hand_out(lived.events, days, waiting, |log| &mut log.events);
    hand_out(lived.conversions, days, waiting, |log| &mut log.conversions);
}

/// The open files of the logs.
struct Output<'a> {
    population: &'a Population<'a>,
    /// Empty when every day has files of its own.
    whole: Vec<(&'static Layout, LogFile)>,
}

const LOGS: [&Layout; 4] = [&ASSIGNMENTS, &EXPOSURES, &EVENTS, &CONVERSIONS];
const CHUNK: usize = 128 * 1024;

impl<'a> Output<'a> {
    fn open(population: &'a Population<'a>) -> Result<Output<'a>> {
        let options = population.options;
        let open = |layout: &'static Layout| Ok((layout, LogFile::create(options, layout, None)?));
        let whole = match options.split {
            FileSplit::Whole => LOGS.into_iter().map(open).collect::<Result<_>>()?,
            FileSplit::Daily => Vec::new(),
        };
        Ok(Output { population, whole })
    }

    fn write_users(&self) -> Result<u64> {
        let users = self.population.options.users;
        let tables = Tables {
            population: self.population,
        };
        let mut file = LogFile::create(
            &GenerateOptions {
                split: FileSplit::Whole,
                ..self.population.options.clone()
            },
            &USERS,
            None,
        )?;
        for start in (0..users).step_by(CHUNK) {
            file.write(tables.users(start..users.min(start + CHUNK as u32)))?;
        }
        file.close()?;
        Ok(u64::from(users))
    }

    fn write_days(&mut self, days: Vec<(u16, DayLog)>) -> Result<Generated> {
        let tables = Tables {
            population: self.population,
        };
        let sorted = in_parallel(days, |(day, log)| (day, in_log_order(log)));
        let mut written = Generated::default();
        sorted
            .iter()
            .for_each(|(_, log)| written.add(&Generated::count(log)));
        match self.population.options.split {
            FileSplit::Daily => {
                let results = in_parallel(sorted, |(day, log)| write_daily(&tables, day, &log));
                results.into_iter().collect::<Result<Vec<()>>>()?;
            }
            FileSplit::Whole => {
                for (_, log) in sorted {
                    self.whole
                        .iter_mut()
                        .try_for_each(|(layout, file)| write_log(&tables, layout, &log, file))?;
                }
            }
        }
        Ok(written)
    }

    fn close(self) -> Result<()> {
        self.whole
            .into_iter()
            .try_for_each(|(_, file)| file.close())
    }
}

fn in_log_order(mut log: DayLog) -> DayLog {
    log.assignments.sort_unstable_by_key(Logged::log_order);
    log.exposures.sort_unstable_by_key(Logged::log_order);
    log.events.sort_unstable_by_key(Logged::log_order);
    log.conversions.sort_unstable_by_key(Logged::log_order);
    log
}

fn write_daily(tables: &Tables, day: u16, log: &DayLog) -> Result<()> {
    for layout in LOGS {
        let mut file = LogFile::create(tables.population.options, layout, Some(day))?;
        write_log(tables, layout, log, &mut file)?;
        file.close()?;
    }
    Ok(())
}

fn write_log(tables: &Tables, layout: &Layout, log: &DayLog, file: &mut LogFile) -> Result<()> {
    match layout.name {
        "assignments" => write_rows(&log.assignments, file, |rows| tables.assignments(rows)),
        "exposures" => write_rows(&log.exposures, file, |rows| tables.exposures(rows)),
        "events" => write_rows(&log.events, file, |rows| tables.events(rows)),
        _ => write_rows(&log.conversions, file, |rows| tables.conversions(rows)),
    }
}

fn write_rows<R>(
    rows: &[R],
    file: &mut LogFile,
    columns: impl Fn(&[R]) -> Vec<Column>,
) -> Result<()> {
    if rows.is_empty() {
        return file.write(columns(rows));
    }
    rows.chunks(CHUNK)
        .try_for_each(|chunk| file.write(columns(chunk)))
}

/// A CSV or Parquet file.
enum LogFile {
    Csv(BufWriter<File>),
    Parquet(Box<ParquetFile>),
}

impl LogFile {
    fn create(options: &GenerateOptions, layout: &Layout, day: Option<u16>) -> Result<LogFile> {
        let extension = match options.format {
            FileFormat::Csv => "csv",
            FileFormat::Parquet => "parquet",
        };
        let path = match day {
            None => options.out.join(format!("{}.{extension}", layout.name)),
            Some(day) => {
                let folder = options.out.join(layout.name);
                fs::create_dir_all(&folder)
                    .with_context(|| format!("creating {}", folder.display()))?;
                let date = options.first_day + Days::new(u64::from(day));
                folder.join(format!("{date}.{extension}"))
            }
        };
        match options.format {
            FileFormat::Csv => {
                let file =
                    File::create(&path).with_context(|| format!("creating {}", path.display()))?;
                let mut out = BufWriter::new(file);
                writeln!(out, "{}", layout.columns.join(","))?;
                Ok(LogFile::Csv(out))
            }
            FileFormat::Parquet => Ok(LogFile::Parquet(Box::new(ParquetFile::create(
                &path,
                layout.columns,
            )?))),
        }
    }

    fn write(&mut self, columns: Vec<Column>) -> Result<()> {
        match self {
            LogFile::Csv(out) => Ok(write_csv(out, &columns)?),
            LogFile::Parquet(file) => file.write(columns),
        }
    }

    fn close(self) -> Result<()> {
        match self {
            LogFile::Csv(mut out) => Ok(out.flush()?),
            LogFile::Parquet(file) => file.close(),
        }
    }
}

/// Applies a function to each item on a thread of its own and keeps the order.
fn in_parallel<T: Send, U: Send>(items: Vec<T>, apply: impl Fn(T) -> U + Sync) -> Vec<U> {
    let apply = &apply;
    std::thread::scope(|scope| {
        let threads: Vec<_> = items
            .into_iter()
            .map(|item| scope.spawn(move || apply(item)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a generating thread does not panic"))
            .collect()
    })
}
