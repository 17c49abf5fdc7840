//! What is declared about base tables.
//! In: constraints of sources and contracted models, rows of seeds. Out: facts for the rules, each with the words under
//! which the lock records that a proof leaned on it.

use std::collections::{BTreeMap, BTreeSet};

use super::context::Assumptions;

/// Declared constraints by table name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    pub tables: BTreeMap<String, Table>,
}

/// What is known about one base table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub not_null: BTreeSet<String>,
    /// Each a set of columns whose values occur once; NULLs are not compared, as in SQL.
    pub unique: Vec<Vec<String>>,
    pub foreign_keys: Vec<ForeignKey>,
    /// The rows of a seed: a seed is what it contains, its name is not meaning.
    pub seed: Option<Seed>,
    /// The version of the contract at which lineage stops.
    pub contract: Option<String>,
}

/// Every value of `column` stands in `target_column` of `target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    pub column: String,
    pub target: String,
    pub target_column: String,
}

/// A seed as its CSV says it; `None` is an empty field, NULL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seed {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
}

impl Catalog {
    /// True when a constraint is still declared, in the words in which a lock records it.
    pub fn declares(&self, words: &str) -> bool {
        self.tables.iter().any(|(table, facts)| {
            let not_null = facts
                .not_null
                .iter()
                .map(|column| format!("{table}.{column} NOT NULL"));
            let unique = facts
                .unique
                .iter()
                .map(|columns| unique_words(table, columns));
            let keys = facts.foreign_keys.iter().map(|key| {
                format!(
                    "{table}.{} REFERENCES {}.{}",
                    key.column, key.target, key.target_column
                )
            });
            not_null
                .chain(unique)
                .chain(keys)
                .any(|known| known == words)
        })
    }

    /// The assumptions under which a column has no NULL; none when a seed's rows show it.
    pub(super) fn not_null(&self, table: &str, column: &str) -> Option<Assumptions> {
        let facts = self.tables.get(table)?;
        if facts
            .seed
            .as_ref()
            .is_some_and(|seed| seed.has_no_null(column))
        {
            return Some(Assumptions::new());
        }
        facts
            .not_null
            .contains(column)
            .then(|| Assumptions::from([format!("{table}.{column} NOT NULL")]))
    }

    /// Sets of columns that identify a row, with their assumptions.
    pub(super) fn unique(&self, table: &str) -> Vec<(Vec<String>, Assumptions)> {
        let Some(facts) = self.tables.get(table) else {
            return vec![];
        };
        let declared = facts.unique.iter().map(|columns| {
            (
                columns.clone(),
                Assumptions::from([unique_words(table, columns)]),
            )
        });
        let seen = facts.seed.iter().flat_map(|seed| {
            let columns = seed.columns.iter().filter(|column| seed.is_unique(column));
            columns
                .map(|column| (vec![column.clone()], Assumptions::new()))
                .collect::<Vec<_>>()
        });
        seen.chain(declared).collect()
    }

    pub(super) fn foreign_key(
        &self,
        table: &str,
        column: &str,
        target: &str,
        target_column: &str,
    ) -> Option<Assumptions> {
        let facts = self.tables.get(table)?;
        let found = facts.foreign_keys.iter().any(|key| {
            key.column == column && key.target == target && key.target_column == target_column
        });
        found.then(|| {
            Assumptions::from([format!(
                "{table}.{column} REFERENCES {target}.{target_column}"
            )])
        })
    }
}

fn unique_words(table: &str, columns: &[String]) -> String {
    match columns {
        [column] => format!("{table}.{column} UNIQUE"),
        columns => format!("{table}.({}) UNIQUE", columns.join(", ")),
    }
}

impl Seed {
    /// Reads a CSV with a header.
    pub fn parse(text: &str) -> Result<Seed, csv::Error> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let columns = reader.headers()?.iter().map(str::to_string).collect();
        let mut rows = vec![];
        for record in reader.records() {
            rows.push(
                record?
                    .iter()
                    .map(|field| (!field.is_empty()).then(|| field.to_string()))
                    .collect(),
            );
        }
        Ok(Seed { columns, rows })
    }

    fn values(&self, column: &str) -> Option<Vec<Option<&str>>> {
        let index = self.columns.iter().position(|name| name == column)?;
        Some(
            self.rows
                .iter()
                .map(|row| row.get(index).and_then(Option::as_deref))
                .collect(),
        )
    }

    fn has_no_null(&self, column: &str) -> bool {
        self.values(column)
            .is_some_and(|values| values.iter().all(Option::is_some))
    }

    /// Compares values as numbers where they are such: `1` and `01` may be one value once the column has a type.
    fn is_unique(&self, column: &str) -> bool {
        let Some(values) = self.values(column) else {
            return false;
        };
        let mut seen = BTreeSet::new();
        values.into_iter().flatten().all(|value| {
            let number = value.trim().parse::<f64>().map(|number| number.to_string());
            seen.insert(number.unwrap_or_else(|_| value.to_string()))
        })
    }

    /// A seed is a bag of rows over the columns somebody reads.
    pub(super) fn bag_text(&self, columns: &[String]) -> String {
        let indexes: Vec<Option<usize>> = columns
            .iter()
            .map(|column| self.columns.iter().position(|name| name == column))
            .collect();
        let cell = |row: &Vec<Option<String>>, index: &Option<usize>| {
            format!(
                "{:?}",
                index
                    .and_then(|index| row.get(index))
                    .and_then(Option::as_ref)
            )
        };
        let mut rows: Vec<String> = self
            .rows
            .iter()
            .map(|row| {
                indexes
                    .iter()
                    .map(|index| cell(row, index))
                    .collect::<Vec<_>>()
                    .join(",")
            })
            .collect();
        rows.sort();
        format!("{columns:?} {}", rows.join(";"))
    }
}
