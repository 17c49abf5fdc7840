//! Times as clients write them.
//! In: the text of a JSON value. Out: microseconds since 1970, UTC. No clock is read here.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// Microseconds of a JSON string (RFC 3339, or the same without zone, then UTC) or a JSON number (seconds, milli-, micro- or
/// nanoseconds since 1970, told apart by size). `None` when it is none of these or outside the years 1970 to 9999.
pub fn parse_json(raw: &str) -> Option<i64> {
    let micros = match raw.strip_prefix('"') {
        Some(rest) => parse_text(rest.strip_suffix('"')?)?,
        None => parse_number(raw)?,
    };
    (0..=LAST).contains(&micros).then_some(micros)
}

/// When the event happened by the server's clock: what the client's clock was ahead or behind when it sent is taken off
/// (`received - (sent - occurred)`, Segment's `timestamp` and Snowplow's `derived_tstamp`). Never later than `received`.
pub fn corrected(received: i64, occurred: Option<i64>, sent: Option<i64>) -> i64 {
    match (occurred, sent) {
        (Some(occurred), Some(sent)) => received - (sent - occurred).max(0),
        (Some(occurred), None) => occurred.min(received),
        (None, _) => received,
    }
    .max(0)
}

/// Days since 1970 that an event is filed under: its own day, or the day it came when it claims to be more than
/// [`OLDEST_PARTITION_DAYS`] older, so that one wrong clock cannot open a folder per day of history.
pub fn partition_day(received: i64, corrected: i64) -> i32 {
    let day = |micros: i64| i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX);
    if day(received) - day(corrected) > OLDEST_PARTITION_DAYS {
        day(received)
    } else {
        day(corrected)
    }
}

/// See [`partition_day`].
pub const OLDEST_PARTITION_DAYS: i32 = 400;

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// The last microsecond of the year 9999.
const LAST: i64 = 253_402_300_799_999_999;

fn parse_text(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    let zoneless = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let time = zoneless
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let time = time.or_else(|| {
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()?
            .and_hms_opt(0, 0, 0)
    });
    time.map(|time| time.and_utc().timestamp_micros())
}

fn parse_number(raw: &str) -> Option<i64> {
    match raw.parse::<i64>() {
        Ok(number) => Some(match number.unsigned_abs() {
            0..100_000_000_000 => number * 1_000_000,
            100_000_000_000..100_000_000_000_000 => number * 1_000,
            100_000_000_000_000..100_000_000_000_000_000 => number,
            _ => number / 1_000,
        }),
        Err(_) => parse_fraction(raw),
    }
}

fn parse_fraction(raw: &str) -> Option<i64> {
    let number: f64 = raw.parse().ok().filter(|number: &f64| number.is_finite())?;
    let scale = match number.abs() {
        size if size < 1e11 => 1e6,
        size if size < 1e14 => 1e3,
        _ => 1.0,
    };
    // Saturates; the caller checks the range.
    Some((number * scale).round() as i64)
}
