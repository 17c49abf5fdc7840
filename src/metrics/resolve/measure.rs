//! One measure: which rows of which fact, and what is made of them.

use super::Resolver;
use crate::diagnostics::{Code, Diagnostic, did_you_mean};
use crate::manifest::identifier;
use crate::metrics::metric::{Aggregation, Measure};
use crate::project::{FactSpec, MeasureSpec};
use crate::sql::without_comments;

impl Resolver<'_> {
    pub(super) fn part(&mut self, key: &str, spec: Option<MeasureSpec>) -> Option<Measure> {
        self.part_with(key, spec, None)
    }

    pub(super) fn part_with(
        &mut self,
        key: &str,
        spec: Option<MeasureSpec>,
        fallback: Option<Aggregation>,
    ) -> Option<Measure> {
        match spec {
            Some(spec) => self.measure(&spec, fallback),
            None => {
                let hint = format!("add `{key}`: which model is measured, and how");
                self.needs(key, &hint);
                None
            }
        }
    }

    pub(super) fn measure(
        &mut self,
        spec: &MeasureSpec,
        fallback: Option<Aggregation>,
    ) -> Option<Measure> {
        let aggregation = match (&spec.aggregation, fallback) {
            (Some(word), _) => self.aggregation(word),
            (None, Some(fallback)) => Some(fallback),
            (None, None) => {
                let hint = "add `agg: sum`, `count`, `count_distinct`, `max`, `min` or `any`";
                self.measure_needs(spec, &["agg", "aggregation"], hint);
                None
            }
        };
        let fact = self.fact(spec)?;
        let aggregation = aggregation?;
        let needs_expression = matches!(
            aggregation,
            Aggregation::Sum | Aggregation::CountDistinct | Aggregation::Max | Aggregation::Min
        );
        if needs_expression && spec.expression.is_none() {
            let hint = "add `expr: <SQL over the fact's columns>`";
            self.measure_needs(spec, &["expr", "expression"], hint);
            return None;
        }
        let condition = self.condition(spec, &fact)?;
        Some(Measure {
            fact: spec.fact.as_ref().expect("it was just read").value.clone(),
            unit_column: fact.unit.value.clone(),
            time_column: fact.time.value.clone(),
            aggregation,
            expression: spec
                .expression
                .as_ref()
                .map(|expression| without_comments(expression)),
            condition: Some(condition).filter(|condition| !condition.is_empty()),
            cap: spec.cap.as_ref().and_then(|cap| self.cap_at(cap)),
        })
    }

    /// Says that a measure lacks a key, given with its other names; unless one of them is there, misspelt.
    fn measure_needs(&mut self, spec: &MeasureSpec, names: &[&str], hint: &str) {
        if names.iter().any(|name| spec.misspelt.has(name)) {
            return;
        }
        let message = format!(
            "a measure of `{}` needs `{}`",
            self.spec.name.value, names[0]
        );
        self.unsound(message, &spec.span, hint);
    }

    /// What the model that is measured says about its columns.
    fn fact(&mut self, spec: &MeasureSpec) -> Option<FactSpec> {
        let Some(fact) = &spec.fact else {
            self.measure_needs(spec, &["fact"], "add `fact: <the model it is measured on>`");
            return None;
        };
        let Some(node) = self.manifest.model(fact) else {
            let hint = did_you_mean(fact, self.manifest.model_names());
            self.diagnostics.push(
                Diagnostic::error(Code::E0206, format!("unknown fact `{}`", fact.value))
                    .at(fact.span.clone())
                    .hint(hint),
            );
            return None;
        };
        if node.fact.is_none() {
            let message = format!(
                "`{}` is no fact: its YAML does not say which columns hold unit and time",
                fact.value
            );
            let hint = "add `fact: {unit: user_id, time: occurred_at}` to the model's YAML";
            self.unsound(message, &fact.span, hint);
        }
        node.fact.clone()
    }

    /// The event's name and the filter as one condition; empty when all rows count.
    fn condition(&mut self, spec: &MeasureSpec, fact: &FactSpec) -> Option<String> {
        let event = match (&spec.event, &fact.event) {
            (None, _) => None,
            (Some(event), Some(column)) => Some(format!(
                "{} = '{}'",
                identifier(column),
                event.value.replace('\'', "''")
            )),
            (Some(event), None) => {
                let model = spec.fact.as_ref().map_or("", |fact| fact.value.as_str());
                self.unsound(
                    format!("`{model}` does not say which column holds the event's name"),
                    &event.span,
                    "add `event: <column>` to its `fact:`",
                );
                return None;
            }
        };
        let filter = spec
            .filter
            .as_ref()
            .map(|filter| format!("({})", without_comments(filter)));
        let parts: Vec<String> = event.into_iter().chain(filter).collect();
        Some(parts.join(" and "))
    }
}
