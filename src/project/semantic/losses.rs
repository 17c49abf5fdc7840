//! What was not read, said once of all metrics that it is true of.
//! In: a loss and the metric it is of, one by one. Out: one warning per kind of loss, at the first place, which counts and names the metrics.

use std::collections::BTreeMap;

use crate::diagnostics::{Code, Diagnostic, Span};
use crate::project::yaml::Spot;

/// What the blocks of many metrics lack or have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    /// A key that nobody reads.
    Unread(String),
    NoMaturity,
    NoOwner,
}

/// Losses with the metrics they are of, and where.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<Loss, Vec<(String, Span)>>);

/// So many places and names are shown of a loss.
const SHOWN: usize = 3;

impl Losses {
    pub fn add(&mut self, loss: Loss, metric: &Spot<String>, span: Span) {
        let places = self.0.entry(loss).or_default();
        places.push((metric.value.clone(), span));
    }

    pub fn warnings(self) -> impl Iterator<Item = Diagnostic> {
        self.0
            .into_iter()
            .map(|(loss, places)| warning(&loss, &places))
    }
}

fn warning(loss: &Loss, places: &[(String, Span)]) -> Diagnostic {
    let shown = &places[..places.len().min(SHOWN)];
    let (_, first) = &places[0];
    let warning = Diagnostic::warning(Code::E0110, message(loss, places))
        .at(first.clone())
        .hint(loss.hint());
    shown[1..].iter().fold(warning, |warning, (_, span)| {
        warning.also(span.clone(), "and here")
    })
}

fn message(loss: &Loss, places: &[(String, Span)]) -> String {
    if let [(name, _)] = places {
        return match loss {
            Loss::Unread(key) => format!("`{key}` of the metric `{name}` is not read"),
            Loss::NoMaturity => {
                format!("`{name}` does not say which units count before their window closed")
            }
            Loss::NoOwner => format!("the metric `{name}` has no owner"),
        };
    }
    let count = places.len();
    let what = match loss {
        Loss::Unread(key) => format!("`{key}` of {count} metrics is not read"),
        Loss::NoMaturity => {
            format!("{count} metrics do not say which units count before their window closed")
        }
        Loss::NoOwner => format!("{count} metrics have no owner"),
    };
    format!("{what}: {}", names(places))
}

fn names(places: &[(String, Span)]) -> String {
    let shown: Vec<String> = places
        .iter()
        .take(SHOWN)
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    match places.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl Loss {
    fn hint(&self) -> &'static str {
        match self {
            Loss::Unread(_) => "nothing depends on it here",
            Loss::NoMaturity => "it is read as `maturity: partial`; `full_window` waits",
            Loss::NoOwner => "add `governance: {owner: ...}` under `config.meta`",
        }
    }
}
