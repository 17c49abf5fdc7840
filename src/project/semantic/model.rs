//! What dbt says about a model: its entities, dimensions, time, and the aggregates that metrics are made of.

use std::collections::BTreeMap;

use super::{Reader, items, number_at, text, text_at};
use crate::project::metric::MeasureSpec;
use crate::project::properties::FactSpec;
use crate::project::yaml::{Node, Spot};

#[derive(Debug, Clone, Default)]
pub(super) struct SemanticModel {
    /// Name, type and SQL of each entity, in the order of the file.
    entities: Vec<(String, String, Spot<String>)>,
    dimensions: BTreeMap<String, String>,
    time: Option<Spot<String>>,
    /// The entity that experiments assign.
    unit: Option<String>,
}

impl SemanticModel {
    pub fn dimension(&self, name: &str) -> Option<String> {
        self.dimensions.get(name).cloned()
    }

    pub fn entity(&self, name: &str) -> Option<String> {
        let found = self.entities.iter().find(|(entity, _, _)| entity == name);
        found.map(|(_, _, sql)| sql.value.clone())
    }

    /// The unit is the entity that metrics name; without one, the first that rows belong to, and last their own.
    fn unit(&self) -> Option<&Spot<String>> {
        let of = |wanted: &dyn Fn(&str, &str) -> bool| {
            self.entities
                .iter()
                .find(|(name, kind, _)| wanted(name, kind))
                .map(|(_, _, sql)| sql)
        };
        match &self.unit {
            Some(unit) => of(&|name, _| name == unit),
            None => of(&|_, kind| kind == "foreign").or_else(|| of(&|_, _| true)),
        }
    }

    pub fn fact(&self) -> Option<FactSpec> {
        let (unit, time) = (self.unit()?.clone(), self.time.clone()?);
        Some(FactSpec {
            span: time.span.clone(),
            unit,
            time,
            event: None,
        })
    }

    pub fn unit_column(&self) -> Option<Spot<String>> {
        self.unit().cloned()
    }

    /// The first entity that was named is it; says which that is.
    pub fn set_unit(&mut self, unit: &str) -> &str {
        self.unit.get_or_insert_with(|| unit.to_string())
    }
}

/// One aggregate over a model's rows.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub model: String,
    pub aggregation: Spot<String>,
    pub expression: Option<Spot<String>>,
    pub filter: Option<Spot<String>>,
    pub percentile: Option<Spot<f64>>,
}

impl Base {
    /// As one of our measures; what has no such aggregate is `None`.
    pub fn measure(&self) -> Option<MeasureSpec> {
        let word = match self.aggregation.value.as_str() {
            "sum_boolean" => "sum",
            word @ ("sum" | "count" | "count_distinct" | "max" | "min") => word,
            _ => return None,
        };
        Some(self.as_measure(word))
    }

    pub fn as_measure(&self, word: &str) -> MeasureSpec {
        let spot = |value: String| Spot {
            value,
            span: self.aggregation.span.clone(),
        };
        let expression =
            self.expression
                .clone()
                .map(|spot| match self.aggregation.value.as_str() {
                    "sum_boolean" => Spot {
                        value: format!("case when {} then 1 else 0 end", spot.value),
                        ..spot
                    },
                    _ => spot,
                });
        // `count` of 1 counts rows.
        let expression = expression
            .filter(|spot| !(word == "count" && matches!(spot.value.as_str(), "1" | "*")));
        MeasureSpec {
            fact: Some(spot(self.model.clone())),
            aggregation: Some(spot(word.to_string())),
            expression,
            filter: self.filter.clone(),
            ..MeasureSpec::empty(self.aggregation.span.clone())
        }
    }
}

impl Reader {
    /// A model with metrics below it.
    pub(super) fn model(&mut self, node: &Node) {
        let Some(name) = text_at(node, "name") else {
            return;
        };
        let mut model = SemanticModel {
            time: text_at(node, "agg_time_dimension"),
            ..SemanticModel::default()
        };
        for column in items(node, "columns") {
            let Some(column_name) = text_at(column, "name") else {
                continue;
            };
            if let Some(entity) = column.get("entity") {
                let kind = text(entity).or(text_at(entity, "type"));
                let kind = kind.map_or(String::new(), |kind| kind.value);
                let own = text_at(entity, "name").unwrap_or(column_name.clone());
                model.entities.push((own.value, kind, column_name.clone()));
            }
            if let Some(dimension) = column.get("dimension") {
                let own = text_at(dimension, "name").unwrap_or(column_name.clone());
                model
                    .dimensions
                    .insert(own.value, column_name.value.clone());
            }
            // A column with a granularity is a time dimension.
            if column.get("granularity").is_some() {
                model
                    .dimensions
                    .insert(column_name.value.clone(), column_name.value.clone());
            }
        }
        if let Some(derived) = node.get("derived_semantics") {
            model.add(derived);
        }
        model.find_time();
        self.models.insert(name.value, model);
    }

    /// An entry of `semantic_models`.
    pub(super) fn semantic_model(&mut self, node: &Node) {
        let Some(name) = text_at(node, "model").map(|spot| referenced(&spot.value)) else {
            let span = node.span.clone();
            self.lose(
                &span,
                "a semantic model without `model` is not read".to_string(),
                "add `model: ref('...')`",
            );
            return;
        };
        let mut model = SemanticModel {
            time: node
                .get("defaults")
                .and_then(|defaults| text_at(defaults, "agg_time_dimension")),
            ..SemanticModel::default()
        };
        model.add(node);
        model.find_time();
        for measure in items(node, "measures") {
            let Some(own) = text_at(measure, "name") else {
                continue;
            };
            let base = Base {
                model: name.clone(),
                aggregation: text_at(measure, "agg").unwrap_or(own.clone()),
                expression: text_at(measure, "expr").or(Some(own.clone())),
                filter: None,
                percentile: measure
                    .get("agg_params")
                    .and_then(|parameters| number_at(parameters, "percentile")),
            };
            if let Some(unread) = measure.get("non_additive_dimension") {
                self.lose(
                    &unread.span,
                    format!("`non_additive_dimension` of `{}` is not read", own.value),
                    "rows of every time are added up",
                );
            }
            self.bases.insert(own.value, base);
        }
        self.models.insert(name, model);
    }
}

impl SemanticModel {
    /// Entities and dimensions as lists of their own.
    fn add(&mut self, node: &Node) {
        for entity in items(node, "entities") {
            if let Some(name) = text_at(entity, "name") {
                let kind = text_at(entity, "type").map_or(String::new(), |kind| kind.value);
                let sql = text_at(entity, "expr").unwrap_or(name.clone());
                self.entities.push((name.value, kind, sql));
            }
        }
        for dimension in items(node, "dimensions") {
            if let Some(name) = text_at(dimension, "name") {
                let sql = text_at(dimension, "expr").unwrap_or(name.clone());
                self.dimensions.insert(name.value, sql.value);
            }
        }
    }

    /// The time is a dimension's name; a fact wants its column.
    fn find_time(&mut self) {
        if let Some(time) = &mut self.time
            && let Some(sql) = self.dimensions.get(&time.value)
        {
            time.value.clone_from(sql);
        }
    }
}

/// The model's name in `ref('fct_orders')`.
fn referenced(text: &str) -> String {
    let inside = text.split_once('(').map_or(text, |(_, inside)| inside);
    let last = inside
        .trim_end_matches([')', '}', ' '])
        .split(',')
        .next_back();
    last.unwrap_or(inside)
        .trim()
        .trim_matches(['\'', '"'])
        .to_string()
}
