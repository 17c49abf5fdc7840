//! Literal values of the canonical form.
//! In: scalar values of the engine. Out: [`Literal`], ordered within one type and printed without the engine's spelling.

use std::fmt;

use datafusion::common::ScalarValue;

use super::types::Type;

/// A constant. The type stands beside it in [`Expr`](super::form::Expr): integers, dates, timestamps and decimals are all
/// whole numbers in the unit that the type names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Literal {
    Null,
    Boolean(bool),
    Integer(i128),
    /// IEEE 754 bits of the 64-bit value.
    Float(u64),
    Text(String),
    /// Anything else, as the engine prints it.
    Other(String),
}

impl Literal {
    pub fn from_scalar(value: &ScalarValue) -> Literal {
        if value.is_null() {
            return Literal::Null;
        }
        match value {
            ScalarValue::Boolean(Some(value)) => Literal::Boolean(*value),
            ScalarValue::Int8(Some(value)) => Literal::Integer(i128::from(*value)),
            ScalarValue::Int16(Some(value)) => Literal::Integer(i128::from(*value)),
            ScalarValue::Int32(Some(value)) | ScalarValue::Date32(Some(value)) => {
                Literal::Integer(i128::from(*value))
            }
            ScalarValue::Int64(Some(value)) => Literal::Integer(i128::from(*value)),
            ScalarValue::UInt8(Some(value)) => Literal::Integer(i128::from(*value)),
            ScalarValue::UInt16(Some(value)) => Literal::Integer(i128::from(*value)),
            ScalarValue::UInt32(Some(value)) => Literal::Integer(i128::from(*value)),
            ScalarValue::UInt64(Some(value)) => Literal::Integer(i128::from(*value)),
            ScalarValue::Decimal128(Some(value), _, _) => Literal::Integer(*value),
            ScalarValue::TimestampSecond(Some(value), _)
            | ScalarValue::TimestampMillisecond(Some(value), _)
            | ScalarValue::TimestampMicrosecond(Some(value), _)
            | ScalarValue::TimestampNanosecond(Some(value), _) => {
                Literal::Integer(i128::from(*value))
            }
            ScalarValue::Float32(Some(value)) => Literal::Float(f64::from(*value).to_bits()),
            ScalarValue::Float64(Some(value)) => Literal::Float(value.to_bits()),
            ScalarValue::Utf8(Some(text))
            | ScalarValue::LargeUtf8(Some(text))
            | ScalarValue::Utf8View(Some(text)) => Literal::Text(text.clone()),
            ScalarValue::Dictionary(_, value) => Literal::from_scalar(value),
            ScalarValue::IntervalYearMonth(Some(months)) => Literal::Other(interval(*months, 0, 0)),
            ScalarValue::IntervalDayTime(Some(value)) => Literal::Other(interval(
                0,
                value.days,
                i64::from(value.milliseconds) * 1_000_000,
            )),
            ScalarValue::IntervalMonthDayNano(Some(value)) => {
                Literal::Other(interval(value.months, value.days, value.nanoseconds))
            }
            other => Literal::Other(format!("{other:?}")),
        }
    }

    /// Orders two literals of one exact type; NULL and floats are not ordered.
    pub fn compare(&self, other: &Literal) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Literal::Boolean(left), Literal::Boolean(right)) => Some(left.cmp(right)),
            (Literal::Integer(left), Literal::Integer(right)) => Some(left.cmp(right)),
            (Literal::Text(left), Literal::Text(right)) => {
                Some(left.as_bytes().cmp(right.as_bytes()))
            }
            _ => None,
        }
    }

    pub fn as_float(&self) -> Option<f64> {
        match self {
            Literal::Float(bits) => Some(f64::from_bits(*bits)),
            _ => None,
        }
    }

    pub fn as_integer(&self) -> Option<i128> {
        match self {
            Literal::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// For people: as SQL would write it.
    pub fn to_sql(&self, ty: &Type) -> String {
        match (self, ty) {
            (Literal::Null, _) => "null".into(),
            (Literal::Boolean(value), _) => value.to_string(),
            (Literal::Integer(value), Type::Decimal(_, scale)) if *scale > 0 => {
                decimal(*value, *scale as usize)
            }
            (Literal::Integer(value), Type::Date) => date(*value),
            (Literal::Integer(value), Type::Timestamp(unit, _)) => timestamp(*value, *unit),
            (Literal::Integer(value), _) => value.to_string(),
            (Literal::Float(bits), _) => f64::from_bits(*bits).to_string(),
            (Literal::Text(text), _) => format!("'{}'", text.replace('\'', "''")),
            (Literal::Other(text), _) => text.clone(),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Null => out.write_str("null"),
            Literal::Boolean(value) => write!(out, "{value}"),
            Literal::Integer(value) => write!(out, "{value}"),
            Literal::Float(bits) => write!(out, "f{bits:016x}"),
            Literal::Text(text) => write!(out, "{text:?}"),
            Literal::Other(text) => write!(out, "<{text:?}>"),
        }
    }
}

fn interval(months: i32, days: i32, nanoseconds: i64) -> String {
    format!("interval {months} months {days} days {nanoseconds} ns")
}

fn decimal(value: i128, scale: usize) -> String {
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if value < 0 { "-" } else { "" })
}

fn date(days: i128) -> String {
    let date = i64::try_from(days)
        .ok()
        .and_then(|days| chrono::DateTime::from_timestamp(days * 86_400, 0));
    date.map_or_else(
        || days.to_string(),
        |date| format!("'{}'", date.format("%Y-%m-%d")),
    )
}

fn timestamp(value: i128, unit: super::types::TimestampUnit) -> String {
    use super::types::TimestampUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let per_second = match unit {
        Second => 1,
        Millisecond => 1_000,
        Microsecond => 1_000_000,
        Nanosecond => 1_000_000_000,
    };
    let nanoseconds = (value.rem_euclid(per_second) * (1_000_000_000 / per_second)) as u32;
    let seconds = i64::try_from(value.div_euclid(per_second)).ok();
    let time = seconds.and_then(|seconds| chrono::DateTime::from_timestamp(seconds, nanoseconds));
    time.map_or_else(
        || value.to_string(),
        |time| format!("'{}'", time.format("%Y-%m-%d %H:%M:%S%.f")),
    )
}
