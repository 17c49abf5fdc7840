//! The types a project can declare for a column. In: a SQL type's text. Out: a [`ColumnType`], which says how the text of a
//! value is read and which Arrow type it becomes.

use super::values;
use crate::diagnostics::did_you_mean;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

/// The type of a column that is read from text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum ColumnType {
    Boolean,
    TinyInt,
    SmallInt,
    Integer,
    BigInt,
    Real,
    Double,
    Decimal { precision: u8, scale: i8 },
    Date,
    Timestamp,
    TimestampUtc,
    Varchar,
}

const NAMES: [(&str, ColumnType); 24] = [
    ("boolean", ColumnType::Boolean),
    ("bool", ColumnType::Boolean),
    ("tinyint", ColumnType::TinyInt),
    ("smallint", ColumnType::SmallInt),
    ("int", ColumnType::Integer),
    ("integer", ColumnType::Integer),
    ("bigint", ColumnType::BigInt),
    ("int8", ColumnType::BigInt),
    ("int4", ColumnType::Integer),
    ("int2", ColumnType::SmallInt),
    ("real", ColumnType::Real),
    ("float", ColumnType::Real),
    ("float4", ColumnType::Real),
    ("double", ColumnType::Double),
    ("double precision", ColumnType::Double),
    ("float8", ColumnType::Double),
    ("date", ColumnType::Date),
    ("timestamp", ColumnType::Timestamp),
    ("datetime", ColumnType::Timestamp),
    ("timestamptz", ColumnType::TimestampUtc),
    ("timestamp with time zone", ColumnType::TimestampUtc),
    ("varchar", ColumnType::Varchar),
    ("text", ColumnType::Varchar),
    ("string", ColumnType::Varchar),
];

impl ColumnType {
    /// Reads `bigint`, `decimal(12, 2)`, `varchar(20)` and the like, in any case.
    ///
    /// # Errors
    /// A hint for the person who wrote the type.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let (name, arguments) =
            split_arguments(&text).ok_or("write a type such as `decimal(12, 2)`")?;
        match name {
            "decimal" | "numeric" => decimal(&arguments),
            "varchar" | "char" | "character varying" if arguments.len() <= 1 => {
                Ok(ColumnType::Varchar)
            }
            "timestamp without time zone" => Ok(ColumnType::Timestamp),
            _ if arguments.is_empty() => plain(name),
            _ => Err(format!("`{name}` takes no arguments")),
        }
    }

    pub(super) fn arrow(self) -> DataType {
        match self {
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::TinyInt => DataType::Int8,
            ColumnType::SmallInt => DataType::Int16,
            ColumnType::Integer => DataType::Int32,
            ColumnType::BigInt => DataType::Int64,
            ColumnType::Real => DataType::Float32,
            ColumnType::Double => DataType::Float64,
            ColumnType::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
            ColumnType::Date => DataType::Date32,
            ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnType::TimestampUtc => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
            ColumnType::Varchar => DataType::Utf8View,
        }
    }

    /// The type that is read into `data_type`.
    pub(super) fn of_arrow(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Decimal128(precision, scale) => Some(ColumnType::Decimal {
                precision: *precision,
                scale: *scale,
            }),
            other => NAMES
                .iter()
                .map(|(_, column_type)| *column_type)
                .find(|column_type| column_type.arrow() == *other),
        }
    }

    /// The type a user would write.
    pub(super) fn sql(self) -> String {
        match self {
            ColumnType::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
            named => {
                let name = NAMES.iter().find(|(_, column_type)| *column_type == named);
                name.expect("every type but decimal has a name")
                    .0
                    .to_string()
            }
        }
    }

    pub(super) fn is_numeric(self) -> bool {
        use ColumnType::*;
        matches!(
            self,
            TinyInt | SmallInt | Integer | BigInt | Real | Double | Decimal { .. }
        )
    }

    /// Whether a value with this text, trimmed, is of the type.
    pub(super) fn accepts(self, text: &str) -> bool {
        use ColumnType::*;
        match self {
            Boolean => values::boolean(text).is_some(),
            TinyInt => whole_within::<i8>(text),
            SmallInt => whole_within::<i16>(text),
            Integer => whole_within::<i32>(text),
            BigInt => whole_within::<i64>(text),
            Real => values::double(text).is_some_and(|number| (number as f32).is_finite()),
            Double => values::double(text).is_some(),
            Decimal { precision, scale } => values::decimal(text, precision, scale).is_some(),
            Date => values::date(text).is_some(),
            Timestamp | TimestampUtc => values::timestamp(text).is_some(),
            Varchar => true,
        }
    }

    /// What a value of the type looks like.
    pub(super) fn example(self) -> String {
        use ColumnType::*;
        match self {
            Boolean => "`true` or `false`".to_string(),
            TinyInt => "a whole number from -128 to 127".to_string(),
            SmallInt => "a whole number from -32768 to 32767".to_string(),
            Integer => "a whole number from -2147483648 to 2147483647".to_string(),
            BigInt => "a whole number of at most 64 bits".to_string(),
            Real | Double => "a number such as `12.5`".to_string(),
            Decimal { precision, scale } => {
                format!(
                    "a number with at most {} digits before and {scale} after the point",
                    i16::from(precision) - i16::from(scale)
                )
            }
            Date => "a day such as `2026-03-01`".to_string(),
            Timestamp | TimestampUtc => {
                "a time such as `2026-03-01 12:30:00` or `2026-03-01T12:30:00Z`".to_string()
            }
            Varchar => "any text".to_string(),
        }
    }
}

fn whole_within<T: TryFrom<i64>>(text: &str) -> bool {
    values::whole(text).is_some_and(|number| T::try_from(number).is_ok())
}

/// `decimal(12, 2)` to its name and numbers.
fn split_arguments(text: &str) -> Option<(&str, Vec<u8>)> {
    let Some((name, rest)) = text.split_once('(') else {
        return Some((text, Vec::new()));
    };
    let numbers = rest
        .strip_suffix(')')?
        .split(',')
        .map(|number| number.trim().parse().ok());
    Some((name.trim_end(), numbers.collect::<Option<_>>()?))
}

/// Without arguments as the engine's SQL has it: decimal(38, 10).
fn decimal(arguments: &[u8]) -> Result<ColumnType, String> {
    let (precision, scale) = match arguments {
        [] => (38, 10),
        [precision] => (*precision, 0),
        [precision, scale] => (*precision, *scale),
        _ => return Err("write `decimal(digits, digits after the point)`".to_string()),
    };
    match (1..=38).contains(&precision) && scale <= precision {
        true => Ok(ColumnType::Decimal {
            precision,
            scale: scale as i8,
        }),
        false => {
            Err("a decimal has 1 to 38 digits, and no more of them after the point".to_string())
        }
    }
}

fn plain(name: &str) -> Result<ColumnType, String> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, column_type)| *column_type)
        .ok_or_else(|| did_you_mean(name, NAMES.iter().map(|(known, _)| *known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_sql_writes_them() {
        let decimal = ColumnType::Decimal {
            precision: 12,
            scale: 2,
        };
        assert_eq!(ColumnType::parse(" DECIMAL(12,2)"), Ok(decimal));
        assert_eq!(ColumnType::parse("varchar(20)"), Ok(ColumnType::Varchar));
        assert_eq!(
            ColumnType::parse("Double Precision"),
            Ok(ColumnType::Double)
        );
        assert_eq!(
            ColumnType::parse("bigin").unwrap_err(),
            "did you mean `bigint`?"
        );
        for text in [
            "decimal(40, 2)",
            "decimal(2, 4)",
            "decimal(12",
            "bigint(3)",
            "decimal(a)",
            "",
        ] {
            assert!(ColumnType::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_sql_name_of_a_type_reads_back_as_the_type() {
        for (_, column_type) in NAMES {
            assert_eq!(ColumnType::parse(&column_type.sql()), Ok(column_type));
        }
    }
}
