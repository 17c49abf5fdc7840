//! What a template may ask for while it is rendered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use minijinja::{Error, ErrorKind, Value};

use crate::diagnostics::{Code, Diagnostic, Span};
use crate::project::SqlFile;

/// What `ref` and `source` mean. An `Err` is a diagnostic without a place; the place is found in the template's text.
pub trait Relations: Send + Sync + std::fmt::Debug {
    fn reference(&self, name: &str) -> Result<String, Diagnostic>;
    fn source(&self, source: &str, table: &str) -> Result<String, Diagnostic>;
    /// SQL that the compiler writes from metrics and experiments, such as `metric_aggregates`.
    fn domain(
        &self,
        function: &str,
        arguments: &BTreeMap<String, String>,
    ) -> Result<String, Diagnostic>;
}

/// What is the same for all templates of one command.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    pub project_name: String,
    pub target: BTreeMap<String, serde_json::Value>,
    pub vars: serde_json::Map<String, serde_json::Value>,
    pub environment_variables: BTreeMap<String, String>,
    /// The one clock reading of the command, as ISO text.
    pub run_started_at: String,
    pub invocation_id: String,
}

/// A message of `log()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub message: String,
    /// Shown to people, not only in the log.
    pub is_info: bool,
}

/// The settings a template gave in `config(...)`.
pub type ConfigCall = serde_json::Map<String, serde_json::Value>;

/// One rendering: its surroundings, what it may ask for, and what it said.
#[derive(Debug)]
pub struct Scope {
    pub surroundings: Arc<Surroundings>,
    pub relations: Arc<dyn Relations>,
    /// What `this` prints.
    pub this: String,
    /// The `model` value.
    pub model: serde_json::Value,
    /// Settings known before the template runs, for `config.get`.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// False while names are collected, true for the final rendering.
    pub execute: bool,
    /// Whether the rows that are there already stay: what `is_incremental()` says.
    pub is_incremental: bool,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    config: ConfigCall,
    logs: Vec<Log>,
    problems: Vec<(String, Vec<String>, Diagnostic)>,
    raised: Option<Diagnostic>,
    /// Macros that are being called, each by the one before.
    calls: Vec<String>,
}

/// Macros that call each other, at most: each takes of the stack what several blocks of a template take.
const DEEPEST: usize = 60;

impl Scope {
    pub fn new(
        surroundings: Arc<Surroundings>,
        relations: Arc<dyn Relations>,
        this: impl Into<String>,
    ) -> Self {
        Self {
            surroundings,
            relations,
            this: this.into(),
            model: serde_json::Value::Null,
            config: serde_json::Map::new(),
            execute: false,
            is_incremental: false,
            heard: Mutex::default(),
        }
    }

    /// The same questions and answers, but nothing that is said is heard twice.
    pub(super) fn quiet(&self) -> Self {
        Self {
            surroundings: self.surroundings.clone(),
            relations: self.relations.clone(),
            this: self.this.clone(),
            model: self.model.clone(),
            config: self.config.clone(),
            execute: self.execute,
            is_incremental: self.is_incremental,
            heard: Mutex::default(),
        }
    }

    /// The settings given by `config(...)` while rendering.
    pub fn take_config(&self) -> ConfigCall {
        std::mem::take(&mut self.heard().config)
    }

    pub fn take_logs(&self) -> Vec<Log> {
        std::mem::take(&mut self.heard().logs)
    }

    pub(super) fn add_config(&self, settings: ConfigCall) {
        self.heard().config.extend(settings);
    }

    /// Runs one macro below those that are being called.
    pub(super) fn call<T>(
        &self,
        name: &str,
        run: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        {
            let calls = &mut self.heard().calls;
            if calls.len() >= DEEPEST {
                let last = calls[DEEPEST - 4..].join("`, `");
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("macros call each other without an end: `{last}`, `{name}`"),
                ));
            }
            calls.push(name.to_string());
        }
        let outcome = run();
        self.heard().calls.pop();
        outcome
    }

    pub(super) fn add_log(&self, log: Log) {
        self.heard().logs.push(log);
    }

    /// Notes something wrong that does not stop the rendering; `arguments` are the texts in `file` whose place is meant, one after the other.
    pub(super) fn add_problem(&self, file: &str, arguments: &[&str], problem: Diagnostic) {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        self.heard()
            .problems
            .push((file.to_string(), arguments, problem));
    }

    pub(super) fn raise(&self, problem: Diagnostic) {
        self.heard().raised.get_or_insert(problem);
    }

    pub(super) fn take_raised(&self) -> Option<Diagnostic> {
        self.heard().raised.take()
    }

    pub(super) fn take_problems(&self, file: impl Fn(&str) -> SqlFile) -> Vec<Diagnostic> {
        let problems = std::mem::take(&mut self.heard().problems);
        problems
            .into_iter()
            .map(|(path, arguments, problem)| {
                let span = quoted_place(&file(&path), &arguments);
                Diagnostic {
                    span: problem.span.clone().or(Some(span)),
                    ..problem
                }
            })
            .collect()
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn context(self: &Arc<Self>) -> Value {
        let surroundings = &self.surroundings;
        minijinja::context! {
            __scope => Value::from_object(ScopeValue(self.clone())),
            this => self.this.clone(),
            model => json_value(&self.model),
            execute => self.execute,
            target => json_value(&surroundings.target),
            project_name => surroundings.project_name.clone(),
            run_started_at => surroundings.run_started_at.clone(),
            invocation_id => surroundings.invocation_id.clone(),
        }
    }
}

/// Where quoted arguments stand in the template, with commas between them; the start of the file if an expression makes them.
fn quoted_place(file: &SqlFile, arguments: &[String]) -> Span {
    let starts = file.text.match_indices(['\'', '"']).map(|(start, _)| start);
    let mut found = starts.filter_map(|start| {
        let length = quoted_length(&file.text[start..], arguments)?;
        Some((start, start + length))
    });
    match found.next() {
        Some((start, end)) => Span::of_bytes(file.path.clone(), &file.text, start, end),
        None => Span::file(file.path.clone()),
    }
}

/// How much of the front of a text is quoted arguments with commas between them, if it begins with them.
fn quoted_length(text: &str, arguments: &[String]) -> Option<usize> {
    let mut rest = text;
    for (at, argument) in arguments.iter().enumerate() {
        if at > 0 {
            rest = rest.trim_start().strip_prefix(',')?.trim_start();
        }
        let quote = rest.chars().next().filter(|quote| "'\"".contains(*quote))?;
        rest = rest[1..]
            .strip_prefix(argument.as_str())?
            .strip_prefix(quote)?;
    }
    Some(text.len() - rest.len())
}

/// Carries the scope through the template engine to the functions.
#[derive(Debug)]
pub(super) struct ScopeValue(pub Arc<Scope>);

impl minijinja::value::Object for ScopeValue {}

/// The scope of the rendering that `state` belongs to.
pub(super) fn of(state: &minijinja::State<'_, '_>) -> Result<Arc<Scope>, minijinja::Error> {
    let value = state
        .lookup("__scope")
        .and_then(|value| value.downcast_object::<ScopeValue>());
    value.map(|value| value.0.clone()).ok_or_else(|| {
        minijinja::Error::new(
            minijinja::ErrorKind::InvalidOperation,
            "this function works only while a model is rendered",
        )
    })
}

/// A raised error that stops the rendering.
pub(super) fn stop(
    scope: &Scope,
    code: Code,
    message: String,
    hint: Option<String>,
) -> minijinja::Error {
    let mut diagnostic = Diagnostic::error(code, message.clone());
    diagnostic.hint = hint;
    scope.raise(diagnostic);
    minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message)
}

/// Functions whose SQL is written from metrics and experiments; `compile` says what each means.
pub(super) const DOMAIN_FUNCTIONS: &[&str] = &[
    "experiment_definitions",
    "variant_definitions",
    "metric_definitions",
    "flag_definitions",
    "assignment",
    "targeting",
    "experiment_metrics",
    "experiment_units",
    "metric_aggregates",
    "metric_daily",
];

/// A template value of anything that serializes.
pub(super) fn json_value(value: impl serde::Serialize) -> Value {
    Value::from(minijinja::value::Serde(value))
}
