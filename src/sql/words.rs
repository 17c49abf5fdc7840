//! The engine's words in the user's words: names of types, and errors about functions and groups.

use datafusion::arrow::datatypes::DataType;

/// What SQL calls a type, such as `varchar` for Arrow's `Utf8`.
pub fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::Null => "null".to_string(),
        DataType::Boolean => "boolean".to_string(),
        DataType::Int8 => "tinyint".to_string(),
        DataType::Int16 => "smallint".to_string(),
        DataType::Int32 => "integer".to_string(),
        DataType::Int64 => "bigint".to_string(),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            "bigint unsigned".to_string()
        }
        DataType::Float16 | DataType::Float32 => "real".to_string(),
        DataType::Float64 => "double".to_string(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "varchar".to_string(),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "bytea".to_string(),
        DataType::Date32 | DataType::Date64 => "date".to_string(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_string(),
        DataType::Timestamp(_, None) => "timestamp".to_string(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_string(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".to_string(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("decimal({precision}, {scale})"),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => {
            format!("a list of {}", type_name(item.data_type()))
        }
        DataType::Struct(_) => "a struct".to_string(),
        other => other.to_string(),
    }
}

/// An error of the planner that has a shape we know, said shortly.
pub(super) struct Said {
    pub message: String,
    pub hint: Option<String>,
    pub word: String,
}

/// `None` when the text has no known shape.
pub(super) fn say(text: &str) -> Option<Said> {
    unknown_function(text)
        .or_else(|| refused_by_function(text))
        .or_else(|| wrong_arguments(text))
        .or_else(|| not_grouped(text))
        .or_else(|| not_combined(text))
}

fn captures<'a>(pattern: &str, text: &'a str) -> Option<regex::Captures<'a>> {
    regex::Regex::new(pattern)
        .expect("the pattern is constant")
        .captures(text)
}

/// `Invalid function 'dateadd'. Did you mean 'datepart'?`
fn unknown_function(text: &str) -> Option<Said> {
    let found = captures(
        r"(?i)invalid function '(?P<name>[^']+)'(?:.*\bdid you mean '(?P<near>[^']+)')?",
        text,
    )?;
    let name = found["name"].to_string();
    let hint = found
        .name("near")
        .map(|near| format!("did you mean `{}`?", near.as_str()));
    Some(Said {
        message: format!("there is no function `{name}`"),
        hint,
        word: name,
    })
}

/// `Function 'welch_t' user-defined coercion failed with: Error during planning: ...`: our own functions say it themselves.
fn refused_by_function(text: &str) -> Option<Said> {
    let found = captures(
        r"Function '(?P<name>[^']+)' user-defined coercion failed with: \W*(?:Error during planning: )?(?P<said>`[^\n]+?)\.? No function matches",
        text,
    )?;
    let name = found["name"].to_string();
    Some(Said {
        message: found["said"].to_string(),
        hint: None,
        word: name,
    })
}

/// `Function 'sum' failed to match any signature, errors: ...`: one line for each way to call it.
fn wrong_arguments(text: &str) -> Option<Said> {
    let name = captures(
        r"[Ff]unction '([^']+)' (?:failed to match|expects|requires)",
        text,
    )?[1]
        .to_string();
    let (message, hint) = if let Some(counts) = captures(
        r"expects (?:at least )?(\d+) arguments? but received (\d+)",
        text,
    ) {
        (
            format!(
                "`{name}` takes {} arguments, not {}",
                &counts[1], &counts[2]
            ),
            None,
        )
    } else {
        let given = captures(r"but received \w+ \(DataType: ([^)]+)\)", text);
        let given = given
            .map(|found| arrow_name(&found[1]))
            .map_or(String::new(), |kind| format!(" of type {kind}"));
        (
            format!("`{name}` does not take an argument{given}"),
            Some("cast the argument to a type that it takes".to_string()),
        )
    };
    Some(Said {
        message,
        hint,
        word: name,
    })
}

/// `Column in SELECT must be in GROUP BY or an aggregate function: ..., column "t.amount" must appear ...`.
fn not_grouped(text: &str) -> Option<Said> {
    let column = captures(
        r#"column "([^"]+)" must appear in the GROUP BY clause"#,
        text,
    )?[1]
        .to_string();
    let word = column.rsplit('.').next().unwrap_or(&column).to_string();
    let hint = format!("add it to `group by`, or aggregate it, such as `max({word})`");
    Some(Said {
        message: format!("`{word}` is neither grouped by nor aggregated"),
        hint: Some(hint),
        word,
    })
}

/// `Cannot coerce arithmetic expression Boolean + Interval(MonthDayNano) to valid types`.
fn not_combined(text: &str) -> Option<Said> {
    let found = captures(
        r"Cannot (?:coerce arithmetic expression|infer common argument type for comparison operation) (\S+) (\S+) (\S+)",
        text,
    )?;
    let (left, operator, right) = (arrow_name(&found[1]), &found[2], arrow_name(&found[3]));
    let message = format!("`{operator}` does not work between {left} and {right}");
    Some(Said {
        message,
        hint: Some("cast one side to the type of the other".to_string()),
        word: String::new(),
    })
}

/// The SQL name of a type that stands in a message as Arrow prints it.
fn arrow_name(text: &str) -> String {
    let head = text.split('(').next().unwrap_or(text);
    let name = match head {
        "Utf8" | "LargeUtf8" | "Utf8View" => "varchar",
        "Int8" | "Int16" | "Int32" => "integer",
        "Int64" | "UInt64" => "bigint",
        "Float32" | "Float64" => "double",
        "Boolean" => "boolean",
        "Date32" | "Date64" => "date",
        "Timestamp" => "timestamp",
        "Interval" | "Duration" => "interval",
        _ => return text.to_string(),
    };
    name.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_planner_says_is_said_in_the_words_of_sql() {
        let said = |text| say(text).map(|said| said.message).unwrap_or_default();
        assert_eq!(
            said("Invalid function 'dateadd'.\nDid you mean 'datepart'?"),
            "there is no function `dateadd`"
        );
        let many = "Function 'sum' failed to match any signature, errors: Function 'sum' requires Decimal, but received String (DataType: Utf8).";
        assert_eq!(
            said(many),
            "`sum` does not take an argument of type varchar"
        );
        assert_eq!(
            said(
                "Cannot coerce arithmetic expression Boolean + Interval(MonthDayNano) to valid types"
            ),
            "`+` does not work between boolean and interval"
        );
        assert_eq!(said("something else"), "");
    }
}
