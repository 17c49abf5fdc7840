//! Calendar days of a time zone.
//! In: instants in microseconds since 1970, UTC. Out: days since 1970 there, by the zone data that SQL's `to_local_time` uses.

use chrono::{DateTime, Offset, TimeZone};
use datafusion::arrow::array::timezone::Tz;

/// The zone of a name that the project has checked; UTC for any other.
pub fn zone(name: &str) -> Tz {
    let utc = || "UTC".parse().expect("UTC is a zone");
    name.parse().unwrap_or_else(|_| utc())
}

/// The day on which an instant falls; the first or last of all for instants that no calendar has.
pub fn local_day(zone: Tz, micros: i64) -> i64 {
    let Some(instant) = DateTime::from_timestamp_micros(micros) else {
        return if micros < 0 { i64::MIN } else { i64::MAX };
    };
    let offset = zone.offset_from_utc_datetime(&instant.naive_utc()).fix();
    let local = micros.saturating_add(i64::from(offset.local_minus_utc()) * 1_000_000);
    local.div_euclid(86_400 * 1_000_000)
}
