//! What a project is made of.

use std::sync::Arc;

use super::freshness::{Freshness, LoadedAt};
use super::growth::{ClusterBy, Growth, cluster_by, strategy, unique_key};
use super::tests::Places;
use crate::diagnostics::{Code, Diagnostic, Span, did_you_mean};
pub use crate::flags::targeting::identifier;
use crate::project::yaml::{Node as Yaml, Spot, old_boolean};
use crate::project::{FactSpec, SqlFile};

/// Position of a node in its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// A model, seed, source table or data test.
#[derive(Debug, Clone)]
pub struct Node {
    pub id: NodeId,
    pub kind: NodeKind,
    /// Unique within its kind; models and seeds share one space of names.
    pub name: String,
    /// The file that defines it, relative to the project.
    pub path: Arc<str>,
    pub span: Span,
    /// The YAML file that describes it.
    pub described_in: Option<Arc<str>>,
    pub description: String,
    pub settings: Settings,
    pub columns: Vec<Column>,
    pub fact: Option<FactSpec>,
    /// Nodes it reads, in the order of first use.
    pub depends_on: Vec<NodeId>,
}

#[derive(Debug, Clone)]
pub enum NodeKind {
    Model(SqlFile),
    /// A CSV file of the project.
    Seed,
    Source(SourceTable),
    /// A query that selects wrong rows; the nodes it reads are what it tests.
    Test {
        template: SqlFile,
        attached_to: Option<NodeId>,
        column: Option<String>,
        /// What the YAML calls, if it is no file of its own.
        generic: Option<Generic>,
        settings: TestSettings,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Materialization {
    View,
    Table,
    /// A table that grows from build to build.
    Incremental,
    Ephemeral,
}

impl Materialization {
    /// dbt's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Table => "table",
            Self::Incremental => "incremental",
            Self::Ephemeral => "ephemeral",
        }
    }

    /// Whether rows are written.
    pub fn is_stored(self) -> bool {
        matches!(self, Self::Table | Self::Incremental)
    }
}

/// Settings of a node, from the project file, its YAML and its template, the later winning.
#[derive(Debug, Clone)]
pub struct Settings {
    pub materialized: Materialization,
    pub enabled: bool,
    pub tags: Vec<String>,
    /// What whoever looks at it is told; each place adds to it.
    pub meta: serde_json::Map<String, serde_json::Value>,
    /// Types that seed columns are read as.
    pub column_types: Vec<(String, String)>,
    pub delimiter: Option<String>,
    pub partition_by: Vec<String>,
    /// A table that keeps the versions of its rows: a slowly changing dimension.
    pub keeps_versions: bool,
    pub growth: Growth,
    /// How the rows of a fact lie, where the model says so.
    pub cluster_by: Option<ClusterBy>,
    /// All of them, for `config.get`.
    pub raw: serde_json::Map<String, serde_json::Value>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            materialized: Materialization::View,
            enabled: true,
            tags: Vec::new(),
            meta: serde_json::Map::new(),
            column_types: Vec::new(),
            delimiter: None,
            partition_by: Vec::new(),
            keeps_versions: false,
            growth: Growth::default(),
            cluster_by: None,
            raw: serde_json::Map::new(),
        }
    }
}

/// A generic test as the YAML writes it.
#[derive(Debug, Clone)]
pub struct Generic {
    /// `not_null`.
    pub name: String,
    /// The package before its name, if one is named.
    pub package: Option<String>,
    pub arguments: serde_json::Map<String, serde_json::Value>,
    /// Where they stand.
    pub places: Places,
}

/// What YAML says of a thing to those who look at it; nothing depends on it.
#[derive(Debug, Clone, Default)]
pub struct About {
    pub meta: serde_json::Map<String, serde_json::Value>,
    pub tags: Vec<String>,
}

impl About {
    /// `meta` and `tags` of a `config`; a later key wins, and adds to the tags.
    pub fn of(config: &[(Spot<String>, Yaml)]) -> Self {
        let mut about = Self::default();
        for (key, value) in config {
            match (key.as_str(), value.to_json()) {
                ("meta", serde_json::Value::Object(meta)) => about.meta.extend(meta),
                ("tags", tags) => about.tags.extend(texts(&tags).unwrap_or_default()),
                _ => {}
            }
        }
        about
    }
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub span: Span,
    pub description: String,
    pub about: About,
    pub is_quoted: bool,
    pub data_type: Option<(String, Span)>,
}

/// Where the rows of a source table come from.
#[derive(Debug, Clone)]
pub struct SourceTable {
    pub source: String,
    pub table: String,
    pub location: String,
    pub location_span: Span,
    pub format: Option<String>,
    pub format_span: Option<Span>,
    pub delimiter: Option<char>,
    pub header: bool,
    pub null_values: Vec<String>,
    pub allow_empty: bool,
    pub about: SourceAbout,
    pub loaded_at: LoadedAt,
    /// Nothing where nobody asks how new it is.
    pub freshness: Option<Freshness>,
}

/// What YAML says of the source that a table belongs to.
#[derive(Debug, Clone, Default)]
pub struct SourceAbout {
    pub description: String,
    pub loader: String,
    pub meta: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestSeverity {
    Error,
    Warn,
}

/// dbt's settings of a data test.
#[derive(Debug, Clone)]
pub struct TestSettings {
    pub severity: TestSeverity,
    pub condition: Option<String>,
    pub limit: Option<i64>,
    /// Comparisons with the number of failing rows: `!= 0`, `> 10`.
    pub error_if: String,
    pub warn_if: String,
    /// The aggregate that counts failures.
    pub fail_calc: String,
    /// Each piece of SQL that the YAML gives as one expression, and where it stands.
    pub expressions: Vec<Spot<String>>,
}

impl Default for TestSettings {
    fn default() -> Self {
        Self {
            severity: TestSeverity::Error,
            condition: None,
            limit: None,
            error_if: "!= 0".to_string(),
            warn_if: "!= 0".to_string(),
            fail_calc: "count(*)".to_string(),
            expressions: Vec::new(),
        }
    }
}

const KNOWN: &[&str] = &[
    "materialized",
    "enabled",
    "tags",
    "meta",
    "schema",
    "column_types",
    "delimiter",
    "severity",
    "docs",
    "quote_columns",
    "alias",
    "partition_by",
    "description",
    "contract",
    "grants",
    "persist_docs",
    "full_refresh",
    "unique_key",
    "incremental_strategy",
    "on_schema_change",
    "cluster_by",
    "pre_hook",
    "post_hook",
    "group",
    "access",
];

impl Settings {
    /// Adds one setting; what cannot be is a diagnostic without a place.
    pub fn set(&mut self, key: &str, value: &serde_json::Value) -> Result<(), Diagnostic> {
        self.raw.insert(key.to_string(), value.clone());
        match key {
            "materialized" => {
                self.materialized = materialization(value)?;
                self.keeps_versions = value == "snapshot";
            }
            "enabled" => {
                self.enabled =
                    boolean(value).ok_or_else(|| wrong(key, "`true` or `false`", value))?
            }
            "tags" => self.tags.extend(
                texts(value).ok_or_else(|| wrong(key, "a text or a list of texts", value))?,
            ),
            "meta" => self
                .meta
                .extend(value.as_object().cloned().unwrap_or_default()),
            "unique_key" => self.growth.unique_key = unique_key(value)?,
            "incremental_strategy" => self.growth.strategy = Some(strategy(value)?),
            "full_refresh" if value.is_null() => self.growth.full_refresh = None,
            "full_refresh" => {
                self.growth.full_refresh =
                    Some(boolean(value).ok_or_else(|| wrong(key, "`true` or `false`", value))?)
            }
            "cluster_by" => self.cluster_by = Some(cluster_by(value)?),
            "partition_by" => {
                self.partition_by =
                    texts(value).ok_or_else(|| wrong(key, "a list of columns", value))?
            }
            "delimiter" => {
                self.delimiter = Some(
                    value
                        .as_str()
                        .ok_or_else(|| wrong(key, "one character", value))?
                        .to_string(),
                )
            }
            "column_types" => {
                let map = value
                    .as_object()
                    .ok_or_else(|| wrong(key, "a mapping of columns to types", value))?;
                self.column_types = map
                    .iter()
                    .map(|(name, kind)| (name.clone(), text(kind)))
                    .collect();
            }
            key if KNOWN.contains(&key) => {}
            unknown => {
                let hint = did_you_mean(unknown, KNOWN.iter().copied());
                return Err(
                    Diagnostic::error(Code::E0103, format!("unknown setting `{unknown}`"))
                        .hint(hint),
                );
            }
        }
        Ok(())
    }
}

fn materialization(value: &serde_json::Value) -> Result<Materialization, Diagnostic> {
    match value.as_str() {
        Some("view") => Ok(Materialization::View),
        Some("table" | "snapshot") => Ok(Materialization::Table),
        Some("incremental") => Ok(Materialization::Incremental),
        Some("ephemeral") => Ok(Materialization::Ephemeral),
        _ => Err(
            Diagnostic::error(Code::E0106, format!("{value} is not a materialization"))
                .hint("use `view`, `table`, `incremental`, `snapshot` or `ephemeral`"),
        ),
    }
}

pub(super) fn wrong(key: &str, expected: &str, value: &serde_json::Value) -> Diagnostic {
    Diagnostic::error(
        Code::E0104,
        format!("the setting `{key}` is {value}, expected {expected}"),
    )
}

pub(super) fn texts(value: &serde_json::Value) -> Option<Vec<String>> {
    match value {
        serde_json::Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(ToString::to_string))
            .collect(),
        serde_json::Value::String(text) => Some(vec![text.clone()]),
        _ => None,
    }
}

/// `true`, or a word that YAML 1.1 has for it.
fn boolean(value: &serde_json::Value) -> Option<bool> {
    value.as_bool().or_else(|| old_boolean(value.as_str()?))
}

fn text(value: &serde_json::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), ToString::to_string)
}

/// What a relation promises beyond its declared columns: `contract: {enforced: true, grain: [user_id]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contract {
    /// Its columns are those declared, each with a type, and no others.
    pub is_enforced: bool,
    /// The columns that tell its rows apart.
    pub grain: Vec<String>,
}

impl Settings {
    /// The contract, if the YAML gives one; what cannot be is a diagnostic without a place.
    pub fn contract(&self) -> Result<Contract, Diagnostic> {
        let Some(value) = self.raw.get("contract") else {
            return Ok(Contract::default());
        };
        let wanted = "a mapping with `enforced` and, if rows have one, `grain`";
        let fields = value
            .as_object()
            .ok_or_else(|| wrong("contract", wanted, value))?;
        let mut contract = Contract::default();
        for (key, value) in fields {
            match key.as_str() {
                "enforced" => {
                    contract.is_enforced = boolean(value)
                        .ok_or_else(|| wrong("contract.enforced", "`true` or `false`", value))?;
                }
                "grain" => {
                    contract.grain = texts(value)
                        .ok_or_else(|| wrong("contract.grain", "a list of columns", value))?;
                }
                // dbt writes how it aliases types here; it says nothing about columns.
                "alias_types" | "checksum" => {}
                unknown => {
                    let known = ["enforced", "grain"];
                    let text = format!("unknown key `{unknown}` in `contract`");
                    let hint = did_you_mean(unknown, known);
                    return Err(Diagnostic::error(Code::E0103, text).hint(hint));
                }
            }
        }
        Ok(contract)
    }
}

impl Node {
    /// dbt's unique id: `model.shop.stg_orders`. A generic test's ends with ten digits of what it is about: a file may have its name.
    pub fn unique_id(&self, project: &str) -> String {
        match &self.kind {
            NodeKind::Test {
                generic: Some(generic),
                column,
                ..
            } => {
                let arguments = serde_json::Value::Object(generic.arguments.clone());
                let about = format!("{} {column:?} {arguments}", generic.name);
                let digits = &blake3::hash(about.as_bytes()).to_hex()[..10];
                format!("test.{project}.{}.{digits}", self.name)
            }
            NodeKind::Source(table) => format!("source.{project}.{}.{}", table.source, table.table),
            kind => format!("{}.{project}.{}", kind.word(), self.name),
        }
    }

    pub fn is_test(&self) -> bool {
        matches!(self.kind, NodeKind::Test { .. })
    }

    /// How SQL names the relation.
    pub fn relation(&self) -> String {
        match &self.kind {
            NodeKind::Source(table) => {
                format!("{}.{}", identifier(&table.source), identifier(&table.table))
            }
            _ => identifier(&self.name),
        }
    }
}

impl NodeKind {
    /// dbt's `resource_type`.
    pub fn word(&self) -> &'static str {
        match self {
            NodeKind::Model(_) => "model",
            NodeKind::Seed => "seed",
            NodeKind::Source(_) => "source",
            NodeKind::Test { .. } => "test",
        }
    }
}
