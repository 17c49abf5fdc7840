//! What can be wrong with a project, said so that a person can mend it.
//! In: findings of every phase. Out: [`Diagnostic`]s with a code, a place in the file the user wrote, and a next step;
//! [`Checked`] carries them beside a value, so that one bad file hides no other. Printing them is [`mod@render`]'s work.

mod checked;
mod code;
mod render;
mod span;

pub use checked::Checked;
pub use code::Code;
pub use render::{Render, render, render_all, to_json};
pub use span::{SourceText, Span};

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing fails.
    Warning,
    /// The project is wrong, or a step failed.
    Error,
}

/// One finding: what is wrong, where, and what to do next.
///
/// Messages are lower case, without a final period, with the user's own text in backticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    pub message: String,
    /// The place that the message is about, if it has one.
    pub span: Option<Span>,
    /// Words printed under the marked place.
    pub label: Option<String>,
    /// Further places that explain the first, each with its words.
    pub related: Vec<(Span, String)>,
    pub notes: Vec<String>,
    pub hint: Option<String>,
}

impl Diagnostic {
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message)
    }

    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message)
    }

    fn new(code: Code, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            message: message.into(),
            span: None,
            label: None,
            related: Vec::new(),
            notes: Vec::new(),
            hint: None,
        }
    }

    /// The place in the file the user wrote.
    pub fn at(mut self, span: impl Into<Option<Span>>) -> Self {
        self.span = span.into();
        self
    }

    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// A second place that explains the first, such as the earlier definition of a duplicate.
    pub fn also(mut self, span: Span, words: impl Into<String>) -> Self {
        self.related.push((span, words.into()));
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The next step.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The known name nearest to `wanted`, if one is near enough to be what the user meant.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .filter(|(distance, name)| *distance <= 1 + wanted.len().max(name.len()) / 4)
        .min_by(|left, right| left.cmp(right))
        .map(|(_, name)| name)
}

/// `did you mean ...` when a near name exists, else the list of what exists (at most eight names).
pub fn did_you_mean<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    if let Some(name) = nearest(wanted, known.iter().copied()) {
        return format!("did you mean `{name}`?");
    }
    known.sort_unstable();
    known.dedup();
    match known.len() {
        0 => "there is none in this project yet".to_string(),
        1..=8 => format!("known: {}", quoted(&known)),
        more => format!("known: {} and {} more", quoted(&known[..8]), more - 8),
    }
}

fn quoted(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
