//! Places of specs, and the single values that every part of a definition has.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use serde_saphyr::Spanned;

use super::Resolver;
use crate::diagnostics::{Code, Span, did_you_mean};
use crate::flags::bucketing::Algorithm;
use crate::flags::context::parse_instant;
use crate::flags::set::Period;
use crate::flags::spec::PeriodSpec;

pub type Place = Span;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    pub value: T,
    pub place: Place,
}

/// The place of a spec's value.
pub fn place<T>(file: &Arc<str>, spanned: &Spanned<T>) -> Place {
    let location = spanned.referenced;
    match location.line() {
        0 => Span::file(file.clone()),
        line => Span::new(
            file.clone(),
            small(line),
            small(location.column()),
            small(location.span().len()),
        ),
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Resolver {
    /// The algorithm, by default the one that plain SQL can re-derive.
    pub fn algorithm(&mut self, file: &Arc<str>, spec: Option<&Spanned<String>>) -> Algorithm {
        let Some(id) = spec else {
            return Algorithm::Md5Mod10000;
        };
        Algorithm::parse(&id.value).unwrap_or_else(|| {
            let hint = did_you_mean(&id.value, Algorithm::all().map(Algorithm::id));
            self.error(
                Code::E0106,
                &place(file, id),
                format!("unknown algorithm `{}`", id.value),
                hint,
            );
            Algorithm::Md5Mod10000
        })
    }

    /// The number of buckets, which the algorithm must be able to cut.
    pub fn buckets(
        &mut self,
        file: &Arc<str>,
        algorithm: Algorithm,
        spec: Option<&Spanned<u32>>,
    ) -> u32 {
        let Some(buckets) = spec else {
            return algorithm.buckets();
        };
        if algorithm.can_cut(buckets.value) {
            return buckets.value;
        }
        let message = format!("`{algorithm}` cannot be cut into {} buckets", buckets.value);
        let hint = format!("leave `buckets` out for its {}", algorithm.buckets());
        self.error(Code::E0606, &place(file, buckets), message, hint);
        algorithm.buckets()
    }

    /// The index of a kind of unit.
    pub fn unit(&mut self, file: &Arc<str>, unit: &Spanned<String>) -> Option<usize> {
        let found = self.set.schema.kind(&unit.value);
        if found.is_none() {
            let hint = did_you_mean(
                &unit.value,
                self.set.schema.kinds().iter().map(|kind| &*kind.name),
            );
            self.error(
                Code::E0207,
                &place(file, unit),
                format!("unknown context `{}`", unit.value),
                hint,
            );
        }
        found
    }

    pub fn instant(&mut self, file: &Arc<str>, spec: &Spanned<String>) -> Option<DateTime<Utc>> {
        let instant = parse_instant(&spec.value);
        if instant.is_none() {
            let message = format!("`{}` is no instant", spec.value);
            self.error(
                Code::E0605,
                &place(file, spec),
                message,
                "write it like `2026-11-01T08:00:00Z`",
            );
        }
        instant
    }

    pub fn period(&mut self, file: &Arc<str>, spec: Option<&PeriodSpec>) -> Period {
        let Some(spec) = spec else {
            return Period::default();
        };
        let from = spec.from.as_ref().and_then(|from| self.instant(file, from));
        let to = spec.to.as_ref().and_then(|to| self.instant(file, to));
        if let (Some(start), Some(end), Some(at)) = (from, to, &spec.to)
            && end <= start
        {
            let message = format!("the period ends at {end}, before it starts");
            self.error(
                Code::E0605,
                &place(file, at),
                message,
                "periods are half-open: `from` must be before `to`",
            );
        }
        Period { from, to }
    }

    /// A whole number of days, hours, minutes or weeks: `3d`.
    pub fn duration(&mut self, file: &Arc<str>, spec: &Spanned<String>) -> Option<Duration> {
        let parsed = parse_duration(&spec.value);
        if parsed.is_none() {
            let message = format!("`{}` is no duration", spec.value);
            self.error(
                Code::E0605,
                &place(file, spec),
                message,
                "write it like `3d`, `12h` or `1w`",
            );
        }
        parsed
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 = digits
        .parse()
        .ok()
        .filter(|number| (1..=10_000).contains(number))?;
    match unit {
        "m" => Duration::try_minutes(number),
        "h" => Duration::try_hours(number),
        "d" => Duration::try_days(number),
        "w" => Duration::try_weeks(number),
        _ => None,
    }
}
