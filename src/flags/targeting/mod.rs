//! Targeting: a deterministic subset of SQL boolean expressions over the declared context.
//! In: the text of a rule and the [`Schema`]. Out: a typed [`Predicate`] that the server evaluates with SQL's
//! three-valued logic, exactly as DataFusion evaluates the same text on history. Also: an explanation of one
//! evaluation, and what can be proved about a predicate without any context.

mod domain;
mod evaluate;
mod explain;
mod expression;
mod names;
mod parse;
mod typing;
mod version;

pub use domain::{Reach, reach};
pub use explain::Explanation;
pub use expression::{Comparison, Expression, Function, LikeToken, quoted};
pub use names::identifier;
pub use version::{version_key, version_text};

use super::context::{Context, Schema};

/// A checked boolean expression.
#[derive(Clone, Debug)]
pub struct Predicate {
    text: Box<str>,
    expression: Expression,
    number: usize,
}

impl Predicate {
    /// Reads and types an expression.
    ///
    /// # Errors
    /// Says in one line what cannot be read, typed or trusted to be deterministic, with a hint where there is one.
    pub fn compile(text: &str, schema: &Schema) -> Result<Self, TargetingError> {
        let expression = parse::parse(text, schema)?;
        Ok(Self {
            text: text.into(),
            expression,
            number: 0,
        })
    }

    /// The same with the number that all predicates of its text have in a set.
    pub fn numbered(self, number: usize) -> Self {
        Self { number, ..self }
    }

    /// Equal in two predicates of a set only when their texts are.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// True when the expression is true; unknown (`NULL`) does not match, as in a `WHERE`.
    pub fn matches(&self, context: &Context) -> bool {
        self.truth(context) == Some(true)
    }

    /// The three-valued result; `None` is unknown.
    pub fn truth(&self, context: &Context) -> Option<bool> {
        evaluate::truth(&self.expression, context)
    }

    /// How each part of the expression came out.
    pub fn explain(&self, context: &Context) -> Explanation {
        explain::explain(&self.expression, context)
    }
}

/// Why an expression cannot be used for targeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetingError {
    pub message: String,
    pub hint: Option<String>,
}

impl TargetingError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
