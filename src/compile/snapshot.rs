//! The versions of a slowly changing dimension (dbt's snapshot).
//! In: the query for today's rows, the columns of both, and the table of the last build. Out: one query for all versions.
//! A row is current while the query gives it: a changed row closes one version and opens the next.

/// Columns that a snapshot adds to those of its query.
const VERSION_COLUMNS: [&str; 3] = ["valid_from", "valid_to", "is_current"];

/// History begins with the first build: what it found counts as having always been.
const BEGINNING: &str = "1970-01-01T00:00:00Z";

/// What the last build left.
pub struct Previous {
    pub relation: String,
    pub columns: Vec<String>,
}

/// All versions after a build at `now`. `columns` are those of the query.
pub fn versions(query: &str, columns: &[String], previous: Option<&Previous>, now: &str) -> String {
    let is_snapshot = |previous: &&Previous| {
        let has = |column: &&str| previous.columns.iter().any(|known| known == column);
        VERSION_COLUMNS.iter().all(has)
    };
    let today = format!("select * from (\n{}\n) as today", query.trim());
    let Some(previous) = previous.filter(is_snapshot) else {
        return opened(&today, BEGINNING);
    };
    let is_shared = |column: &&String| previous.columns.contains(column);
    let shared: Vec<String> = columns
        .iter()
        .filter(is_shared)
        .map(|column| quoted(column))
        .collect();
    let same = |left: &str, right: &str| -> String {
        let pairs = shared
            .iter()
            .map(|column| format!("({left}.{column} is not distinct from {right}.{column})"));
        let pairs: Vec<String> = pairs.collect();
        if pairs.is_empty() {
            "false".to_owned()
        } else {
            pairs.join(" and ")
        }
    };
    // A column that is new is filled in for the versions that are still current, and null in closed ones.
    let filled = |from: Option<&str>| -> String {
        let column = |column: &String| {
            let name = quoted(column);
            match (from, previous.columns.contains(column)) {
                (Some(alias), _) => format!("{alias}.{name}"),
                (None, true) => format!("before.{name}"),
                (None, false) => format!("null as {name}"),
            }
        };
        columns.iter().map(column).collect::<Vec<_>>().join(", ")
    };
    let relation = &previous.relation;
    format!(
        "with today as (\n{today}\n),\n\
         before as (\nselect * from {relation}\n),\n\
         kept as (\n\
         select {kept}, before.valid_from, before.valid_to, before.is_current\n\
         from today inner join before on before.is_current and {same_kept}\n),\n\
         closed as (\n\
         select {closed}, before.valid_from,\n\
         case when before.is_current then cast('{now}' as timestamp) else before.valid_to end as valid_to,\n\
         false as is_current\n\
         from before left join (select *, true as is_today from today) as today\n\
         on before.is_current and {same_closed}\n\
         where not before.is_current or today.is_today is null\n),\n\
         opened as (\n\
         select {opened}, cast('{now}' as timestamp) as valid_from, cast(null as timestamp) as valid_to, true as is_current\n\
         from today left join (select *, true as is_before from before where is_current) as before\n\
         on {same_kept}\n\
         where before.is_before is null\n)\n\
         select * from kept union all select * from closed union all select * from opened",
        kept = filled(Some("today")),
        closed = filled(None),
        opened = filled(Some("today")),
        same_kept = same("before", "today"),
        same_closed = same("today", "before"),
    )
}

/// Today's rows as versions that are current from an instant on.
fn opened(today: &str, from: &str) -> String {
    format!(
        "select *, cast('{from}' as timestamp) as valid_from, cast(null as timestamp) as valid_to, true as is_current\n\
         from (\n{today}\n) as opened"
    )
}

fn quoted(column: &str) -> String {
    format!("\"{}\"", column.replace('"', "\"\""))
}

/// The table of a snapshot depends on the one before it: the first half of its name says the query, the second half all
/// queries so far. An unchanged query keeps its table, and one that comes back does not find its old table.
pub fn chained(query: &str, before: Option<&str>) -> String {
    let head = query.get(..16).unwrap_or(query);
    match before {
        None => query.to_owned(),
        Some(before) if before.starts_with(head) => before.to_owned(),
        Some(before) => {
            let chain = blake3::hash(format!("{query} {before}").as_bytes());
            format!("{head}{}", &chain.to_hex()[..16])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_comes_back_has_another_table() {
        let (one, other) = ("a".repeat(32), "b".repeat(32));
        let first = chained(&one, None);
        assert_eq!(chained(&one, Some(&first)), first);
        let second = chained(&other, Some(&first));
        let third = chained(&one, Some(&second));
        assert_ne!(third, first);
        assert_eq!(chained(&one, Some(&third)), third);
    }
}
