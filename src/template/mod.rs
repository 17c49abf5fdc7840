//! Jinja templates, dbt's dialect of them.
//! In: the text of macros and of one model, and what the template may ask for ([`Scope`]). Out: [`Rendered`]: SQL, and a
//! map from each of its characters back to the file the user wrote. What `ref` means is the caller's [`Relations`].

mod functions;
mod markers;
mod scope;
mod source_map;

use std::sync::Arc;

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::diagnostics::{Checked, Code, Diagnostic, Span};
use crate::project::SqlFile;

pub use scope::{ConfigCall, Log, Relations, Scope, Surroundings};
pub use source_map::SourceMap;

/// All macros of a project, ready to render its templates.
pub struct Templates {
    /// Renders the truth.
    plain: Environment<'static>,
    /// Renders the same with a mark before each piece of template text, to find the way back.
    marked: Environment<'static>,
    chunks: Arc<markers::Chunks>,
}

/// The result of rendering one template.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    pub sql: String,
    pub map: SourceMap,
}

/// The standard library, written in the language it extends. A project's own macro of the same name wins.
const STANDARD_LIBRARY: &[(&str, &str)] = &[("equipoise/macros/generic_tests.sql", include_str!("../../macros/generic_tests.sql"))];

impl Templates {
    pub fn new(macros: &[SqlFile]) -> Checked<Self> {
        let chunks = Arc::new(markers::Chunks::default());
        let mut templates = Self { plain: environment(), marked: environment(), chunks };
        let mut diagnostics = Vec::new();
        let library = STANDARD_LIBRARY.iter().map(|(path, text)| SqlFile { path: (*path).into(), text: (*text).into() });
        for file in library.chain(macros.iter().cloned()) {
            diagnostics.extend(templates.add_macros(&file));
        }
        Checked::with(templates, diagnostics)
    }

    fn add_macros(&mut self, file: &SqlFile) -> Option<Diagnostic> {
        let text = markers::without_custom_tags(&file.text);
        if let Err(error) = self.plain.add_template_owned(file.path.to_string(), text.clone()) {
            return Some(syntax_error(&error, file));
        }
        let marked = markers::mark(&text, &file.path, &self.chunks).unwrap_or(text.clone());
        self.marked.add_template_owned(file.path.to_string(), marked).ok();
        for name in markers::macro_names(&text) {
            for environment in [&mut self.plain, &mut self.marked] {
                let proxy = functions::MacroProxy { file: file.path.clone(), name: name.clone() };
                environment.add_global(name.clone(), Value::from_object(proxy));
            }
        }
        None
    }

    /// Whether a macro exists, such as `test_not_null`.
    pub fn has_macro(&self, name: &str) -> bool {
        self.plain.globals().any(|(known, value)| known == name && value.downcast_object_ref::<functions::MacroProxy>().is_some())
    }

    /// Names of all macros, for suggestions.
    pub fn macro_names(&self) -> Vec<String> {
        let is_macro = |value: &Value| value.downcast_object_ref::<functions::MacroProxy>().is_some();
        self.plain.globals().filter(|(_, value)| is_macro(value)).map(|(name, _)| name.to_string()).collect()
    }

    /// Renders a template. Names that the scope does not know are diagnostics; rendering goes on where it can.
    pub fn render(&self, file: &SqlFile, scope: &Arc<Scope>) -> Checked<Rendered> {
        let mut diagnostics = Vec::new();
        let outcome = render_with(&self.plain, file, &file.text, scope);
        diagnostics.extend(scope.take_problems(file));
        let sql = match outcome {
            Ok(sql) => sql,
            Err(error) => {
                diagnostics.push(runtime_error(&error, file, scope));
                return Checked::with(Rendered::default(), diagnostics);
            }
        };
        let map = self.source_map(file, &sql, scope);
        Checked::with(Rendered { sql, map }, diagnostics)
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
        let problems = scope.take_problems(&SqlFile { path: "".into(), text: text.into() });
        match (outcome, problems.into_iter().next()) {
            (_, Some(problem)) => Err(problem.message),
            (Ok(text), None) => Ok(text),
            (Err(error), None) => Err(message_of(&error)),
        }
    }
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Templates").field("macros", &self.macro_names()).finish()
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_debug(true);
    functions::register(&mut environment);
    environment
}

fn render_with(environment: &Environment<'static>, file: &SqlFile, text: &str, scope: &Arc<Scope>) -> Result<String, Error> {
    environment.render_named_str(&file.path, text, scope.context())
}

fn syntax_error(error: &Error, file: &SqlFile) -> Diagnostic {
    Diagnostic::error(Code::E0401, message_of(error)).at(place(error, file))
}

fn runtime_error(error: &Error, file: &SqlFile, scope: &Scope) -> Diagnostic {
    let span = place(error, file);
    if let Some(raised) = scope.take_raised() {
        return Diagnostic { span: Some(span), ..raised };
    }
    let code = if error.kind() == ErrorKind::SyntaxError { Code::E0401 } else { Code::E0402 };
    let diagnostic = Diagnostic::error(code, message_of(error)).at(span);
    match error.kind() {
        ErrorKind::UnknownFunction => diagnostic.hint("macros live in `macros/`; `ref`, `source`, `var`, `config` and others are built in"),
        ErrorKind::UndefinedError => diagnostic.hint("set it with `{% set ... %}`, or quote it if it is meant as text"),
        _ => diagnostic,
    }
}

fn message_of(error: &Error) -> String {
    let kind = error.kind().to_string();
    let detail = error.detail().unwrap_or(&kind);
    match error.kind() {
        ErrorKind::UndefinedError if error.detail().is_none() => "a value that is not defined is printed".to_string(),
        _ => detail.to_string(),
    }
}

/// Where the innermost failing expression stands: in the template, or in the macro that it called.
fn place(error: &Error, file: &SqlFile) -> Span {
    let name = error.name().unwrap_or(&file.path);
    match (error.range(), error.line()) {
        (Some(range), _) if name == &*file.path => Span::of_bytes(file.path.clone(), &file.text, range.start, range.end),
        (_, Some(line)) => Span::new(name, line as u32, 1, 0),
        _ => Span::file(name),
    }
}
