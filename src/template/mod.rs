//! Jinja templates, dbt's dialect of them.
//! In: the text of macros and of one model, and what the template may ask for ([`Scope`]). Out: [`Rendered`]: SQL, and a
//! map from each of its characters back to the file the user wrote. What `ref` means is the caller's [`Relations`].

mod functions;
mod macros;
mod markers;
mod scope;
mod source_map;

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::diagnostics::{Checked, Code, Diagnostic, Span, nearest};
use crate::project::SqlFile;

pub use macros::{Macro, called, is_of_standard_library};
pub use scope::{ConfigCall, Log, Relations, Scope, Surroundings};
pub use source_map::SourceMap;

/// All macros of a project, ready to render its templates.
pub struct Templates {
    /// Renders the truth.
    plain: Environment<'static>,
    /// Renders the same with a mark before each piece of template text, to find the way back.
    marked: Environment<'static>,
    chunks: Arc<markers::Chunks>,
    /// Every macro file as the user wrote it.
    texts: BTreeMap<Arc<str>, SqlFile>,
    parameters: BTreeMap<String, Vec<Parameter>>,
}

/// One parameter of a macro.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    pub has_default: bool,
}

/// The result of rendering one template.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    pub sql: String,
    pub map: SourceMap,
}

/// The standard library, written in the language it extends. A project's own macro of the same name wins.
const STANDARD_LIBRARY: &[(&str, &str)] = &[
    (
        "equipoise/macros/assignment_tests.sql",
        include_str!("../../macros/assignment_tests.sql"),
    ),
    (
        "equipoise/macros/experiments/experiment_decisions.sql",
        include_str!("../../macros/experiments/experiment_decisions.sql"),
    ),
    (
        "equipoise/macros/experiments/experiment_health.sql",
        include_str!("../../macros/experiments/experiment_health.sql"),
    ),
    (
        "equipoise/macros/experiments/experiment_results.sql",
        include_str!("../../macros/experiments/experiment_results.sql"),
    ),
    (
        "equipoise/macros/experiments/sample_ratio_checks.sql",
        include_str!("../../macros/experiments/sample_ratio_checks.sql"),
    ),
    (
        "equipoise/macros/generic_tests.sql",
        include_str!("../../macros/generic_tests.sql"),
    ),
];

impl Templates {
    pub fn new(macros: &[SqlFile]) -> Checked<Self> {
        let chunks = Arc::new(markers::Chunks::default());
        let mut templates = Self {
            plain: environment(),
            marked: environment(),
            chunks,
            texts: BTreeMap::new(),
            parameters: BTreeMap::new(),
        };
        let mut diagnostics = Vec::new();
        let library = STANDARD_LIBRARY.iter().map(|(path, text)| SqlFile {
            path: (*path).into(),
            text: (*text).into(),
        });
        for file in library.chain(macros.iter().cloned()) {
            diagnostics.extend(templates.add_macros(&file));
        }
        diagnostics.extend(repeated_macros(macros));
        Checked::with(templates, diagnostics)
    }

    fn add_macros(&mut self, file: &SqlFile) -> Option<Diagnostic> {
        let text = markers::without_custom_tags(&file.text);
        self.texts.insert(file.path.clone(), file.clone());
        self.parameters.extend(markers::macro_parameters(&text));
        if let Err(error) = self
            .plain
            .add_template_owned(file.path.to_string(), text.clone())
        {
            return Some(syntax_error(&error, file));
        }
        let marked = markers::mark(&text, &file.path, &self.chunks).unwrap_or(text.clone());
        self.marked
            .add_template_owned(file.path.to_string(), marked)
            .ok();
        for name in markers::macro_names(&text) {
            for environment in [&mut self.plain, &mut self.marked] {
                let proxy = functions::MacroProxy {
                    file: file.path.clone(),
                    name: name.clone(),
                };
                environment.add_global(name.clone(), Value::from_object(proxy));
            }
        }
        None
    }

    /// Whether a macro exists, such as `test_not_null`.
    pub fn has_macro(&self, name: &str) -> bool {
        self.plain.globals().any(|(known, value)| {
            known == name
                && value
                    .downcast_object_ref::<functions::MacroProxy>()
                    .is_some()
        })
    }

    /// What a macro takes, in its order; nothing for a macro that does not exist.
    pub fn macro_parameters(&self, name: &str) -> &[Parameter] {
        self.parameters.get(name).map_or(&[], Vec::as_slice)
    }

    /// Names of all macros, for suggestions.
    pub fn macro_names(&self) -> Vec<String> {
        let is_macro = |value: &Value| {
            value
                .downcast_object_ref::<functions::MacroProxy>()
                .is_some()
        };
        self.plain
            .globals()
            .filter(|(_, value)| is_macro(value))
            .map(|(name, _)| name.to_string())
            .collect()
    }

    /// Renders a template. Names that the scope does not know are diagnostics; rendering goes on where it can.
    pub fn render(&self, file: &SqlFile, scope: &Arc<Scope>) -> Checked<Rendered> {
        let mut diagnostics = Vec::new();
        let outcome = render_with(&self.plain, file, &file.text, scope);
        diagnostics.extend(scope.take_problems(|path| self.file(path, file)));
        let sql = match outcome {
            Ok(sql) => sql,
            Err(error) => {
                diagnostics.push(self.runtime_error(&error, file, scope));
                return Checked::with(Rendered::default(), diagnostics);
            }
        };
        let map = self.source_map(file, &sql, scope);
        Checked::with(Rendered { sql, map }, diagnostics)
    }

    /// The file of a name that the template engine uses: a macro file, or the template that is rendered.
    fn file(&self, path: &str, rendered: &SqlFile) -> SqlFile {
        self.texts
            .get(path)
            .filter(|_| path != &*rendered.path)
            .unwrap_or(rendered)
            .clone()
    }

    fn runtime_error(&self, error: &Error, file: &SqlFile, scope: &Scope) -> Diagnostic {
        let file = self.file(error.name().unwrap_or_default(), file);
        let diagnostic = runtime_error(error, &file, scope);
        match (error.kind(), unknown_name(error)) {
            (ErrorKind::UnknownFunction, Some(name)) => {
                match nearest(name, self.macro_names().iter().map(String::as_str)) {
                    Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
                    None => diagnostic,
                }
            }
            _ => diagnostic,
        }
    }

    /// The map is trusted only if the marked rendering, without its marks, is the plain one: templates can look at text.
    fn source_map(&self, file: &SqlFile, sql: &str, scope: &Arc<Scope>) -> SourceMap {
        let quiet = Arc::new(scope.quiet());
        let marked = markers::mark(&file.text, &file.path, &self.chunks)
            .and_then(|text| render_with(&self.marked, file, &text, &quiet).ok())
            .map(|text| self.chunks.unmark(&text));
        match marked {
            Some((text, pieces)) if text == sql => SourceMap::new(file.clone(), pieces),
            _ => SourceMap::new(file.clone(), Vec::new()),
        }
    }

    /// Renders a short text such as a source's location or a test's argument.
    pub fn render_text(&self, text: &str, scope: &Arc<Scope>) -> Result<String, String> {
        let context = scope.context();
        let outcome = self.plain.render_str(text, context);
        let file = SqlFile {
            path: "".into(),
            text: text.into(),
        };
        let problems = scope.take_problems(|_| file.clone());
        match (outcome, problems.into_iter().next()) {
            (_, Some(problem)) => Err(problem.message),
            (Ok(text), None) => Ok(text),
            (Err(error), None) => Err(message_of(&error)),
        }
    }
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Templates")
            .field("macros", &self.macro_names())
            .finish()
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_debug(true);
    environment.set_fuel(Some(MOST_STEPS));
    functions::register(&mut environment);
    environment
}

fn render_with(
    environment: &Environment<'static>,
    file: &SqlFile,
    text: &str,
    scope: &Arc<Scope>,
) -> Result<String, Error> {
    environment.render_named_str(&file.path, text, scope.context())
}

/// Steps of one template; the templates of large projects take thousands. Text that it makes is paid with them, a step for
/// 64 bytes, so that one which doubles in a loop ends before it fills the memory.
const MOST_STEPS: u64 = 4_000_000;

/// The same in bytes of text: more than any SQL that can be planned.
const MOST_BYTES: u64 = MOST_STEPS * 64;

fn syntax_error(error: &Error, file: &SqlFile) -> Diagnostic {
    let detail = error.detail().unwrap_or_default();
    let hint = if detail.starts_with("unexpected end of input") {
        "a block such as `{% if %}`, `{% for %}` or `{% macro %}` ends with `{% endif %}`, `{% endfor %}` or `{% endmacro %}`"
    } else {
        "`{{ ... }}` holds one expression, `{% ... %}` one statement, `{# ... #}` a comment; SQL stands outside of them"
    };
    Diagnostic::error(Code::E0401, message_of(error))
        .at(place(error, file))
        .hint(hint)
}

/// Two macros of one name: which of them is called would be chance. Those of the standard library may be replaced.
fn repeated_macros(macros: &[SqlFile]) -> Vec<Diagnostic> {
    let mut first: BTreeMap<String, Span> = BTreeMap::new();
    let mut diagnostics = Vec::new();
    for file in macros {
        for (name, start) in markers::macro_definitions(&file.text) {
            let span = Span::of_bytes(file.path.clone(), &file.text, start, start + name.len());
            if let Some(earlier) = first.get(&name) {
                diagnostics.push(
                    Diagnostic::error(Code::E0201, format!("there are two macros named `{name}`"))
                        .at(span)
                        .also(earlier.clone(), "first here")
                        .hint("rename or remove one of them"),
                );
                continue;
            }
            first.insert(name, span);
        }
    }
    diagnostics
}

/// `cent` of `cent is unknown`.
fn unknown_name(error: &Error) -> Option<&str> {
    error.detail()?.strip_suffix(" is unknown")
}

fn runtime_error(error: &Error, file: &SqlFile, scope: &Scope) -> Diagnostic {
    let span = place(error, file);
    if let Some(raised) = scope.take_raised() {
        return Diagnostic {
            span: Some(span),
            ..raised
        };
    }
    if error.kind() == ErrorKind::SyntaxError {
        return syntax_error(error, file);
    }
    let code = Code::E0402;
    let diagnostic = Diagnostic::error(code, message_of(error)).at(span);
    match error.kind() {
        _ if is_too_deep(error) => Diagnostic {
            message: "macros or blocks call each other without an end".to_string(),
            ..diagnostic
        }
        .hint("a macro that calls itself does so inside an `{% if %}` that is false some day"),
        ErrorKind::OutOfFuel => {
            diagnostic.hint("is there a loop in a loop, one over far too many values, or one that makes a text longer and longer?")
        }
        ErrorKind::UnknownFunction => diagnostic.hint(
            "macros live in `macros/`; `ref`, `source`, `var`, `config` and others are built in",
        ),
        ErrorKind::MissingArgument | ErrorKind::TooManyArguments => diagnostic.hint(
            "a macro says at its definition what it takes; built in are `ref('model')`, `source('source', 'table')`, `var('name')`, `env_var('NAME')`",
        ),
        ErrorKind::TemplateNotFound => {
            diagnostic.hint("macros of other files are called by their names, without `import` or `include`")
        }
        ErrorKind::UndefinedError => {
            diagnostic.hint("set it with `{% set ... %}`, or quote it if it is meant as text")
        }
        _ => diagnostic,
    }
}

fn message_of(error: &Error) -> String {
    let kind = error.kind().to_string();
    let detail = error.detail().unwrap_or(&kind);
    match error.kind() {
        ErrorKind::OutOfFuel => {
            format!(
                "the template takes more than {} million steps, or makes {} MB of text",
                MOST_STEPS / 1_000_000,
                MOST_BYTES / 1_000_000
            )
        }
        ErrorKind::UnknownFunction => unknown_name(error).map_or(detail.to_string(), |name| {
            format!("there is no macro or function `{name}`")
        }),
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest => {
            let what = if error.kind() == ErrorKind::UnknownFilter {
                "filter"
            } else {
                "test"
            };
            let name = detail
                .strip_prefix(what)
                .and_then(|rest| rest.strip_suffix(" is unknown"))
                .map(str::trim);
            name.map_or(detail.to_string(), |name| {
                format!("templates have no {what} `{name}`")
            })
        }
        ErrorKind::MissingArgument if error.detail().is_none() => {
            "an argument of this call is missing".to_string()
        }
        ErrorKind::TooManyArguments if error.detail().is_none() => {
            "this call has more arguments than are taken".to_string()
        }
        ErrorKind::TemplateNotFound => "there is no template of this name".to_string(),
        ErrorKind::UnknownMethod => match detail.rsplit_once(" has no method named ") {
            Some((_, name)) => format!("there is no macro or method `{name}` here"),
            None => detail.to_string(),
        },
        _ if is_too_deep(error) => {
            "blocks, brackets or calls stand inside each other too deeply".to_string()
        }
        ErrorKind::UndefinedError if error.detail().is_none() => {
            "a value that is not defined is printed".to_string()
        }
        _ => detail.to_string(),
    }
}

fn is_too_deep(error: &Error) -> bool {
    let is_said = |detail: &str| detail.contains("recursion limit");
    error.detail().is_some_and(is_said)
}

/// Where the innermost failing expression stands: in the template, or in the macro that it called.
fn place(error: &Error, file: &SqlFile) -> Span {
    let name = error.name().unwrap_or(&file.path);
    match (error.range(), error.line()) {
        (Some(range), _) if name == &*file.path => {
            // Jinja has seen dbt's own tags rewritten: columns are the same on the lines that have none.
            let seen = markers::without_custom_tags(&file.text);
            let span = Span::of_bytes(file.path.clone(), &seen, range.start, range.end);
            let line = |text: &str| {
                let line = text.split('\n').nth(span.line as usize - 1);
                line.map(ToString::to_string)
            };
            match line(&seen) == line(&file.text) {
                true => span,
                false => Span::new(name, span.line, 1, 0),
            }
        }
        (_, Some(line)) => Span::new(name, line as u32, 1, 0),
        _ => Span::file(name),
    }
}
