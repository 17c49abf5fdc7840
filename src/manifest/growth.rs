//! How a table grows and how its rows lie: `unique_key`, `incremental_strategy`, `cluster_by`.
//! In: the values of these settings. Out: [`Growth`] and [`ClusterBy`], or a diagnostic without a place. Whether the columns exist is
//! seen when the model is compiled.

use super::node::{texts, wrong};
use crate::diagnostics::{Code, Diagnostic, did_you_mean};

/// What becomes of rows that are there already when an incremental model brings new ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Growth {
    /// Columns that tell rows apart.
    pub unique_key: Vec<String>,
    pub strategy: Option<Strategy>,
    /// False never builds the table anew, even when asked to; true always does.
    pub full_refresh: Option<bool>,
}

/// dbt's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// All of them stay.
    Append,
    /// Those whose key comes again are replaced: `merge`, and `delete+insert`, which ends in the same rows.
    Replace,
}

impl Growth {
    /// As in dbt, a key alone means that rows are replaced.
    pub fn strategy(&self) -> Strategy {
        let by_key = match self.unique_key.is_empty() {
            true => Strategy::Append,
            false => Strategy::Replace,
        };
        self.strategy.unwrap_or(by_key)
    }
}

/// A fact that is stored by unit: sorted by unit, time and id, so that metrics are computed in one pass over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterBy {
    pub unit: String,
    pub time: String,
    /// Tells the rows of a unit and time apart; of two with the same id one stays, whichever came first.
    pub id: String,
    /// Parts by a hash of the unit, each read by one thread.
    pub buckets: u16,
}

/// Enough for the threads of one machine, few enough that small tables stay in few files.
const BUCKETS: u16 = 8;
const MOST_BUCKETS: u64 = 1024;

pub(super) fn unique_key(value: &serde_json::Value) -> Result<Vec<String>, Diagnostic> {
    texts(value).ok_or_else(|| wrong("unique_key", "a column or a list of columns", value))
}

pub(super) fn strategy(value: &serde_json::Value) -> Result<Strategy, Diagnostic> {
    match value.as_str() {
        Some("append") => Ok(Strategy::Append),
        Some("merge" | "delete+insert") => Ok(Strategy::Replace),
        _ => Err(Diagnostic::error(
            Code::E0106,
            format!("{value} is not an incremental strategy"),
        )
        .hint("use `append`, or `merge` or `delete+insert` with a `unique_key`")),
    }
}

pub(super) fn cluster_by(value: &serde_json::Value) -> Result<ClusterBy, Diagnostic> {
    let wanted = "a mapping with `unit`, `time` and `id`, each the name of a column";
    let fields = value
        .as_object()
        .ok_or_else(|| wrong("cluster_by", wanted, value))?;
    let known = ["unit", "time", "id", "buckets"];
    if let Some(unknown) = fields.keys().find(|key| !known.contains(&key.as_str())) {
        let text = format!("unknown key `{unknown}` in `cluster_by`");
        return Err(Diagnostic::error(Code::E0103, text).hint(did_you_mean(unknown, known)));
    }
    let column = |key: &str| {
        let name = fields.get(key).and_then(|name| name.as_str());
        name.map(str::to_owned)
            .ok_or_else(|| wrong("cluster_by", wanted, value))
    };
    let buckets = match fields.get("buckets") {
        None => BUCKETS,
        Some(number) => number
            .as_u64()
            .filter(|number| (1..=MOST_BUCKETS).contains(number))
            .ok_or_else(|| {
                wrong(
                    "cluster_by.buckets",
                    "a whole number from 1 to 1024",
                    number,
                )
            })? as u16,
    };
    Ok(ClusterBy {
        unit: column("unit")?,
        time: column("time")?,
        id: column("id")?,
        buckets,
    })
}
