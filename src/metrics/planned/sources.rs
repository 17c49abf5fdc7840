//! What is asked of the events of each fact, each thing once.
//! In: the measures of metrics. Out: one [`EventSource`] per fact, and the positions of names and values among all of them.

use super::super::metric::{Measure, Metric};
use super::super::plan::EventSource;
use super::super::sql::Use;
use crate::manifest::identifier;

/// All facts of some metrics.
pub struct Sources<'a> {
    facts: Vec<Fact<'a>>,
}

/// A fact, and what is asked of it.
struct Fact<'a> {
    place: Place<'a>,
    name_column: Option<&'a str>,
    values: Vec<String>,
    codes: Vec<String>,
}

/// Fact, unit column, time column.
type Place<'a> = (&'a str, &'a str, &'a str);

/// Which rows of the events count, and what is left to ask of them.
pub struct Taken {
    pub event: Option<String>,
    pub filter: Option<String>,
}

pub fn place(measure: &Measure) -> Place<'_> {
    (&measure.fact, &measure.unit_column, &measure.time_column)
}

impl<'a> Sources<'a> {
    pub fn of(uses: &[&Use<'a>]) -> Sources<'a> {
        let mut facts: Vec<Fact> = Vec::new();
        for measure in uses.iter().flat_map(|used| measures(used.metric)) {
            let place = place(measure);
            if !facts.iter().any(|fact| fact.place == place) {
                facts.push(Fact {
                    place,
                    name_column: name_column(uses, place),
                    values: Vec::new(),
                    codes: Vec::new(),
                });
            }
        }
        facts.sort_by_key(|fact| fact.place);
        Sources { facts }
    }

    /// The name of the events that a measure counts, as the plan knows them, and what else they must fulfil.
    pub fn taken(&self, measure: &Measure) -> Taken {
        let at = self.position(measure);
        let (event, filter) = split(measure.condition.as_deref(), self.facts[at].name_column);
        Taken {
            event: event.map(|event| format!("{}{event}", prefix(at))),
            filter,
        }
    }

    /// Position of a value among those of all facts.
    pub fn value(&mut self, measure: &Measure, expression: String) -> usize {
        let at = self.position(measure);
        let before: usize = self.facts[..at].iter().map(|fact| fact.values.len()).sum();
        before + position_or_push(&mut self.facts[at].values, expression)
    }

    /// Position of a code among those of all facts.
    pub fn code(&mut self, measure: &Measure, expression: String) -> usize {
        let at = self.position(measure);
        let before: usize = self.facts[..at].iter().map(|fact| fact.codes.len()).sum();
        before + position_or_push(&mut self.facts[at].codes, expression)
    }

    /// Whether all events are of one fact.
    pub fn is_one(&self) -> bool {
        self.facts.len() == 1
    }

    pub fn events(self) -> Vec<EventSource> {
        let source = |(at, fact): (usize, Fact<'_>)| {
            let (table, unit, time) = fact.place;
            let name = fact.name_column.unwrap_or("''");
            EventSource {
                table: identifier(table),
                unit: identifier(unit),
                time: identifier(time),
                name: match prefix(at).as_str() {
                    "" => name.to_owned(),
                    prefix => format!("'{prefix}' || {name}"),
                },
                values: fact.values,
                codes: fact.codes,
            }
        };
        self.facts.into_iter().enumerate().map(source).collect()
    }

    fn position(&self, measure: &Measure) -> usize {
        let place = place(measure);
        let found = self.facts.iter().position(|fact| fact.place == place);
        found.expect("the sources are those of all measures")
    }
}

/// Events of two facts may have one name, so that of a later fact has its number before it, with a character before that which no
/// name begins with.
fn prefix(fact: usize) -> String {
    match fact {
        0 => String::new(),
        _ => format!("\u{1f}{fact}:"),
    }
}

fn measures(metric: &Metric) -> Vec<&Measure> {
    metric.kind.measures()
}

/// The column that holds event names: the left side of the first condition `column = 'name'`.
fn name_column<'a>(uses: &[&Use<'a>], place: Place<'_>) -> Option<&'a str> {
    let measures = uses.iter().flat_map(|used| measures(used.metric));
    measures
        .filter(|measure| self::place(measure) == place)
        .filter_map(|measure| named(measure.condition.as_deref()?))
        .map(|(column, _, _)| column)
        .next()
}

/// The event's name, where the condition starts with one, and what else it asks.
fn split(condition: Option<&str>, name_column: Option<&str>) -> (Option<String>, Option<String>) {
    let Some(condition) = condition else {
        return (None, None);
    };
    match named(condition) {
        Some((column, event, rest)) if Some(column) == name_column => {
            (Some(event), rest.map(str::to_owned))
        }
        _ => (None, Some(condition.to_owned())),
    }
}

/// `column = 'name'`, alone or followed by ` and ...`.
fn named(condition: &str) -> Option<(&str, String, Option<&str>)> {
    let (column, rest) = condition.split_once(" = '")?;
    let is_plain = |text: &str| {
        text.chars()
            .all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '"')
    };
    if !is_plain(column) {
        return None;
    }
    let mut end = rest.find('\'')?;
    while rest[end + 1..].starts_with('\'') {
        end = end + 2 + rest[end + 2..].find('\'')?;
    }
    let (event, after) = (rest[..end].replace("''", "'"), &rest[end + 1..]);
    match after {
        "" => Some((column, event, None)),
        _ => after
            .strip_prefix(" and ")
            .map(|filter| (column, event, Some(filter))),
    }
}

fn position_or_push(known: &mut Vec<String>, expression: String) -> usize {
    known
        .iter()
        .position(|other| *other == expression)
        .unwrap_or_else(|| {
            known.push(expression);
            known.len() - 1
        })
}
