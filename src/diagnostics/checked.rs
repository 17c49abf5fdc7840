//! A value together with everything found on the way to it.

use super::Diagnostic;

/// What a phase returns: its result as far as it could be made, and all diagnostics, errors and warnings.
#[derive(Debug, Clone, Default)]
pub struct Checked<T> {
    pub value: T,
    pub diagnostics: Vec<Diagnostic>,
}

impl<T> Checked<T> {
    pub fn new(value: T) -> Self {
        Self {
            value,
            diagnostics: Vec::new(),
        }
    }

    pub fn with(value: T, diagnostics: Vec<Diagnostic>) -> Self {
        Self { value, diagnostics }
    }

    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Takes over the other's diagnostics and gives its value.
    pub fn absorb<U>(&mut self, other: Checked<U>) -> U {
        self.diagnostics.extend(other.diagnostics);
        other.value
    }

    pub fn map<U>(self, function: impl FnOnce(T) -> U) -> Checked<U> {
        Checked {
            value: function(self.value),
            diagnostics: self.diagnostics,
        }
    }
}
