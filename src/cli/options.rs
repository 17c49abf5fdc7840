//! Options that all commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::diagnostics::{Checked, Code, Diagnostic};
use crate::project::Computation;
use crate::project::yaml;

#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Folder with the project file
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = ".",
        help_heading = "Project"
    )]
    pub project_dir: PathBuf,
    /// Target of the project file to use
    #[arg(long, short = 't', global = true, help_heading = "Project")]
    pub target: Option<String>,
    /// Variables, as YAML: '{start: 2026-01-05}'
    #[arg(long, global = true, value_name = "YAML", help_heading = "Project")]
    pub vars: Option<String>,
    /// What to work on: names, paths, tag:x, +upstream, downstream+, @both; space unites, comma intersects
    #[arg(long, short = 's', global = true, num_args = 1.., value_name = "SELECTOR", help_heading = "Selection")]
    pub select: Vec<String>,
    /// What to leave out
    #[arg(long, global = true, num_args = 1.., value_name = "SELECTOR", help_heading = "Selection")]
    pub exclude: Vec<String>,
    /// Folder with the `sources.json` of an earlier `source freshness`, which `source_status:fresher` compares with
    #[arg(long, global = true, value_name = "DIR", help_heading = "Selection")]
    pub state: Option<PathBuf>,
    /// Steps and partitions that run at once, at most 256
    #[arg(long, global = true, help_heading = "Execution")]
    pub threads: Option<usize>,
    /// Memory for sorts, joins and groups, such as 1GB; beyond it they spill to disk
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Execution")]
    pub memory_limit: Option<String>,
    /// How the states of metrics are computed: by the operator where it can, or all in plain SQL
    #[arg(long, global = true, value_enum, help_heading = "Execution")]
    pub engine: Option<EngineChoice>,
    /// Build again what exists
    #[arg(long, global = true, help_heading = "Execution")]
    pub full_refresh: bool,
    /// Print the plan and stop
    #[arg(long, global = true, help_heading = "Execution")]
    pub dry_run: bool,
    /// How rows are printed
    #[arg(long, short = 'o', global = true, value_enum, default_value_t = OutputFormat::Table, help_heading = "Output")]
    pub output: OutputFormat,
    /// Print results and errors only
    #[arg(long, short = 'q', global = true, help_heading = "Output")]
    pub quiet: bool,
    /// Progress and diagnostics as text or as JSON lines on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, help_heading = "Output")]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Json,
    Csv,
    /// Tables for a pull request's comment
    Markdown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    Operator,
    Sql,
}

impl From<EngineChoice> for Computation {
    fn from(choice: EngineChoice) -> Self {
        match choice {
            EngineChoice::Operator => Computation::Operator,
            EngineChoice::Sql => Computation::Sql,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl Common {
    /// The variables of `--vars`.
    pub fn variables(&self) -> Checked<serde_json::Map<String, serde_json::Value>> {
        let Some(text) = &self.vars else {
            return Checked::new(serde_json::Map::new());
        };
        let parsed = yaml::parse(&"--vars".into(), text);
        let wrong = |detail: &str| {
            Diagnostic::error(Code::E0108, format!("`--vars` cannot be read: {detail}"))
                .hint("write it like `--vars '{start: 2026-01-05}'`")
        };
        match (parsed.diagnostics.first(), parsed.value.to_json()) {
            (Some(problem), _) => {
                Checked::with(serde_json::Map::new(), vec![wrong(&problem.message)])
            }
            (None, serde_json::Value::Object(map)) => Checked::new(map),
            (None, _) => Checked::with(
                serde_json::Map::new(),
                vec![wrong("expected names and values")],
            ),
        }
    }
}
