//! The engine's words in the user's words: names of types, and errors about functions and groups.

use datafusion::arrow::datatypes::{DataType, FieldRef};

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

/// A type as a column's declaration has it, also where [`type_name`] has words for people.
pub fn declared_type(kind: &DataType) -> String {
    match kind {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::FixedSizeList(item, _) => format!("{}[]", declared_type(item.data_type())),
        DataType::Struct(fields) => {
            let field =
                |field: &FieldRef| format!("{} {}", field.name(), declared_type(field.data_type()));
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("struct({})", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let types = fields.iter().map(|field| declared_type(field.data_type()));
                format!("map({})", types.collect::<Vec<_>>().join(", "))
            }
            other => declared_type(other),
        },
        DataType::Dictionary(_, value) => declared_type(value),
        plain => type_name(plain),
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

/// The text that is no interval.
pub(super) fn no_interval(text: &str) -> Option<String> {
    let found = captures(
        r#"(?s)(?:Invalid input syntax for type interval: "|Invalid interval type: |Unsupported Interval Expression with value ")(.*?)"?$"#,
        text,
    )?;
    Some(found[1].to_string())
}

/// A literal as SQL writes it, where the planner says its type too: `Int64(1)`.
fn literal(text: &str) -> String {
    match captures(
        r"^(?:U?Int\d+|Float\d+|(?:Large)?Utf8(?:View)?|Boolean)\((.*)\)$",
        text,
    ) {
        Some(found) if !found[1].contains(['(', ',']) => found[1].replace('"', "'"),
        _ => text.to_string(),
    }
}

/// What is wrong with a clause: the word is the one that begins it.
pub(super) fn say_of_clause(text: &str) -> Option<Said> {
    let said = |message: String, hint: Option<&str>, word: &str| {
        Some(Said {
            message,
            hint: hint.map(str::to_string),
            word: word.to_string(),
        })
    };
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_string();
    if let Some(found) = captures(r"non-boolean predicate '(.+)' returning (.+)", text) {
        let what = match literal(&found[1]) {
            plain if plain != found[1] => plain,
            _ => last(&found[1]),
        };
        let kind = arrow_name(&found[2]);
        return said(
            format!("`where` takes a boolean, and `{what}` is of type {kind}"),
            Some("compare it with something"),
            "where",
        );
    }
    if let Some(found) = captures(r"Join condition must be boolean type, but got (.+)", text) {
        return said(
            format!(
                "the condition of a join is a boolean, not of type {}",
                arrow_name(&found[1])
            ),
            Some("compare the keys of both sides"),
            "on",
        );
    }
    if let Some(found) = captures(
        r"(?s)coerce then \((.+)\) and else \((.+)\) to common types in CASE",
        text,
    ) {
        return said(
            format!(
                "the branches of `case` have types that do not fit together: {} and {}",
                arrow_name(&found[1]),
                arrow_name(&found[2])
            ),
            Some("cast them to one type"),
            "case",
        );
    }
    if let Some(found) = captures(
        r"common type to coerce (.+) and (.+) in (I?LIKE) expr",
        text,
    ) {
        let word = found[3].to_lowercase();
        return said(
            format!(
                "`{word}` compares texts, not {} with {}",
                arrow_name(&found[1]),
                arrow_name(&found[2])
            ),
            Some("cast both sides to varchar"),
            &word,
        );
    }
    if let Some(found) = captures(
        r"(?i)(?:column with position|out of bounds, specified:) (\d+)\D+(?:1 to )?(\d+)",
        text,
    ) {
        let (place, most) = (&found[1], &found[2]);
        let is_order = text.to_lowercase().starts_with("order by");
        let clause = if is_order { "order by" } else { "group by" };
        return said(
            format!("`{clause} {place}` means column {place} of the query, which has {most}"),
            None,
            clause,
        );
    }
    if let Some(found) = captures(r#"WITH query name "(.+)" specified more than once"#, text) {
        return said(
            format!("`with` defines `{}` twice", &found[1]),
            Some("rename one of them"),
            "with",
        );
    }
    if captures(r"^HAVING clause references", text).is_some() {
        return said(
            "`having` uses a column that is neither grouped by nor aggregated".to_string(),
            Some("aggregate it, or filter rows with `where`"),
            "having",
        );
    }
    let found = captures(r"(?i)Unsupported ast node (?:in sqltorel: )?(\w+)", text)?;
    let word = found[1].to_lowercase();
    said(format!("`{word}` is not supported"), None, &word)
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
        "List" | "LargeList" => "list",
        "Struct" => "struct",
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
        let clause = |text| say_of_clause(text).map(|said| (said.message, said.word));
        let of = |message: &str, word: &str| Some((message.to_string(), word.to_string()));
        assert_eq!(
            clause(
                "Cannot create filter with non-boolean predicate 'orders.amount' returning Float64"
            ),
            of(
                "`where` takes a boolean, and `amount` is of type double",
                "where"
            )
        );
        assert_eq!(
            clause("Cannot find column with position 7 in SELECT clause. Valid columns: 1 to 3"),
            of(
                "`group by 7` means column 7 of the query, which has 3",
                "group by"
            )
        );
        assert_eq!(
            clause("Order by column out of bounds, specified: 9, max: 1"),
            of(
                "`order by 9` means column 9 of the query, which has 1",
                "order by"
            )
        );
        assert_eq!(
            clause("Unsupported ast node Pivot { table: Table { name: ObjectName"),
            of("`pivot` is not supported", "pivot")
        );
        assert_eq!(
            clause("Unsupported ast node in sqltorel: RLike { negated: false"),
            of("`rlike` is not supported", "rlike")
        );
        assert_eq!(clause("something else"), None);
    }
}
