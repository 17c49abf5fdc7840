//! Our own column types: few, stable, printed into the fingerprint.
//! In: Arrow types. Out: [`Type`]. The engine's choice between `Utf8` and `Utf8View` is not meaning.

use std::fmt;

use datafusion::arrow::datatypes::{DataType, TimeUnit};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    Null,
    Boolean,
    Integer {
        bits: u8,
        is_signed: bool,
    },
    Float(u8),
    Decimal(u8, i8),
    Text,
    Binary,
    Date,
    /// Unit and zone.
    Timestamp(TimestampUnit, Option<String>),
    Other(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimestampUnit {
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
}

impl Type {
    pub const BIGINT: Type = Type::Integer {
        bits: 64,
        is_signed: true,
    };

    pub fn is_integer(&self) -> bool {
        matches!(self, Type::Integer { .. })
    }

    /// Types whose equal values are the same value and whose order is total: not floats (-0.0, NaN).
    pub fn is_exact(&self) -> bool {
        matches!(
            self,
            Type::Boolean
                | Type::Integer { .. }
                | Type::Decimal(..)
                | Type::Text
                | Type::Binary
                | Type::Date
                | Type::Timestamp(..)
        )
    }

    /// The smallest and the largest value of an integer type.
    pub fn integer_range(&self) -> Option<(i128, i128)> {
        match *self {
            Type::Integer {
                bits,
                is_signed: true,
            } => Some((-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)),
            Type::Integer {
                bits,
                is_signed: false,
            } => Some((0, (1i128 << bits) - 1)),
            _ => None,
        }
    }

    /// Reduces a value into the ring of an integer type, as the engine's wrapping arithmetic does.
    pub fn wrap(&self, value: i128) -> i128 {
        match *self {
            Type::Integer { bits, is_signed } => {
                let modulus = 1i128 << bits;
                let reduced = value.rem_euclid(modulus);
                if is_signed && reduced >= modulus / 2 {
                    reduced - modulus
                } else {
                    reduced
                }
            }
            _ => value,
        }
    }
}

impl From<&DataType> for Type {
    fn from(data_type: &DataType) -> Type {
        match data_type {
            DataType::Null => Type::Null,
            DataType::Boolean => Type::Boolean,
            DataType::Int8 => Type::Integer {
                bits: 8,
                is_signed: true,
            },
            DataType::Int16 => Type::Integer {
                bits: 16,
                is_signed: true,
            },
            DataType::Int32 => Type::Integer {
                bits: 32,
                is_signed: true,
            },
            DataType::Int64 => Type::BIGINT,
            DataType::UInt8 => Type::Integer {
                bits: 8,
                is_signed: false,
            },
            DataType::UInt16 => Type::Integer {
                bits: 16,
                is_signed: false,
            },
            DataType::UInt32 => Type::Integer {
                bits: 32,
                is_signed: false,
            },
            DataType::UInt64 => Type::Integer {
                bits: 64,
                is_signed: false,
            },
            DataType::Float16 => Type::Float(16),
            DataType::Float32 => Type::Float(32),
            DataType::Float64 => Type::Float(64),
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
                Type::Decimal(*precision, *scale)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Type::Binary,
            DataType::Date32 => Type::Date,
            DataType::Timestamp(unit, zone) => Type::Timestamp(
                TimestampUnit::from(unit),
                zone.as_ref().map(ToString::to_string),
            ),
            DataType::Dictionary(_, value) => Type::from(value.as_ref()),
            other => Type::Other(other.to_string()),
        }
    }
}

impl From<&TimeUnit> for TimestampUnit {
    fn from(unit: &TimeUnit) -> TimestampUnit {
        match unit {
            TimeUnit::Second => TimestampUnit::Second,
            TimeUnit::Millisecond => TimestampUnit::Millisecond,
            TimeUnit::Microsecond => TimestampUnit::Microsecond,
            TimeUnit::Nanosecond => TimestampUnit::Nanosecond,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Null => out.write_str("null"),
            Type::Boolean => out.write_str("bool"),
            Type::Integer { bits, is_signed } => {
                write!(out, "{}{bits}", if *is_signed { "i" } else { "u" })
            }
            Type::Float(bits) => write!(out, "f{bits}"),
            Type::Decimal(precision, scale) => write!(out, "decimal({precision},{scale})"),
            Type::Text => out.write_str("text"),
            Type::Binary => out.write_str("binary"),
            Type::Date => out.write_str("date"),
            Type::Timestamp(unit, zone) => {
                let unit = match unit {
                    TimestampUnit::Second => "s",
                    TimestampUnit::Millisecond => "ms",
                    TimestampUnit::Microsecond => "us",
                    TimestampUnit::Nanosecond => "ns",
                };
                write!(
                    out,
                    "timestamp({unit}{})",
                    zone.as_ref()
                        .map(|zone| format!(",{zone:?}"))
                        .unwrap_or_default()
                )
            }
            Type::Other(name) => write!(out, "other({name:?})"),
        }
    }
}
