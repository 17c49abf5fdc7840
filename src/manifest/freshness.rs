//! How new the newest row of a source table should be, and what says when its rows were loaded.
//! A table says it over its source, a source over the project file, and `config` over what stands beside it, field by field: a table
//! may change `count` alone.
//! `null` takes back what was said before. All as in dbt; whether the SQL means something is asked in `compile`.

use std::sync::Arc;

use super::discover::{Discovery, Names};
use super::node::{Node, NodeKind, SourceTable};
use super::resolve::Resolver;
use crate::diagnostics::{Code, Diagnostic, Span, did_you_mean};
use crate::project::yaml::Spot;
use crate::project::{AgeSpec, FreshnessSpec, LoadedSpec, Said, SourceSpec, SourceTableSpec};
use crate::template::Scope;

/// From which age of the newest row on a source table is late: at least one of both is there.
#[derive(Debug, Clone)]
pub struct Freshness {
    pub warn_after: Option<Age>,
    pub error_after: Option<Age>,
    /// Which rows are looked at: a condition in SQL.
    pub filter: Option<Spot<String>>,
}

#[derive(Debug, Clone)]
pub struct Age {
    pub count: i64,
    pub period: Period,
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    Minute,
    Hour,
    Day,
}

/// What says when the rows of a source table were loaded.
#[derive(Debug, Clone, Default)]
pub enum LoadedAt {
    /// A column, or an expression over the columns of one row; the largest value counts.
    Field(Spot<String>),
    /// A query for one time.
    Query(Spot<String>),
    /// Nothing is said: the files do, by the time at which the newest of them was written.
    #[default]
    Files,
}

impl Period {
    const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// dbt's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }
}

impl Age {
    pub fn seconds(&self) -> i64 {
        self.count.saturating_mul(self.period.seconds())
    }
}

impl std::fmt::Display for Age {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(formatter, "{} {}{plural}", self.count, self.period.word())
    }
}

impl Node {
    /// A source table whose age is judged, and by what.
    pub fn judged(&self) -> Option<(&SourceTable, &Freshness)> {
        match &self.kind {
            NodeKind::Source(table) => Some((table, table.freshness.as_ref()?)),
            _ => None,
        }
    }
}

/// Gives every source table what its YAML says about it. All names are known by now, so that templates may use them.
pub(super) fn resolve(resolver: &mut Resolver<'_>, names: &Arc<Names>) {
    let project = resolver.project;
    for source in project.properties.iter().flat_map(|file| &file.sources) {
        resolver.one_way(&source.loaded);
        for table in &source.tables {
            resolver.one_way(&table.loaded);
            resolver.add_freshness(source, table, names);
        }
    }
}

impl Resolver<'_> {
    /// One of them says when rows were loaded; both would say two things.
    fn one_way(&mut self, loaded: &LoadedSpec) {
        if let (Some(Some(field)), Some(Some(query))) = (&loaded.field, &loaded.query) {
            self.diagnostics.push(
                Diagnostic::error(
                    Code::E0106,
                    "`loaded_at_field` and `loaded_at_query` both say when rows were loaded",
                )
                .at(query.span.clone())
                .also(field.span.clone(), "and here")
                .hint("keep one of them"),
            );
        }
    }

    fn add_freshness(&mut self, source: &SourceSpec, table: &SourceTableSpec, names: &Arc<Names>) {
        let key = (source.name.value.clone(), table.name.value.clone());
        let Some(id) = names.sources.get(&key).copied() else {
            return;
        };
        // Another of that name is disabled, or was reported.
        if self.nodes[id.0].span != table.name.span {
            return;
        }
        let mut found = Vec::new();
        let whole = LoadedSpec::of(&self.of_sources_tree(source, table), &mut found);
        found.into_iter().for_each(|wrong| self.say_once(wrong));
        let discovery = Arc::new(Discovery::new(names.clone()));
        let relation = self.nodes[id.0].relation();
        let scope = Scope::new(self.surroundings.clone(), discovery, relation);
        let mut reader = Reader {
            resolver: self,
            scope: Arc::new(scope),
        };
        let layers = [&whole, &source.loaded, &table.loaded];
        let loaded_at = reader.loaded_at(layers);
        let freshness = merged(layers.into_iter().flat_map(|layer| &layer.freshness));
        let freshness = freshness.and_then(|said| reader.freshness(&said));
        if let (LoadedAt::Files, Some(filter)) = (
            &loaded_at,
            freshness.as_ref().and_then(|said| said.filter.as_ref()),
        ) {
            self.diagnostics.push(filter_of_files(filter, table));
        }
        if let NodeKind::Source(known) = &mut self.nodes[id.0].kind {
            known.loaded_at = loaded_at;
            known.freshness = freshness;
        }
    }
}

fn filter_of_files(filter: &Spot<String>, table: &SourceTableSpec) -> Diagnostic {
    let message = format!(
        "the freshness of `{}` has a `filter`, and no `loaded_at_field`",
        table.name.value
    );
    Diagnostic::error(Code::E0105, message)
        .at(filter.span.clone())
        .also(table.name.span.clone(), "of this table")
        .hint("add `loaded_at_field:` with a column; without one the files say when they were written, whatever rows they hold")
}

/// What several places say, each over the one before.
fn merged<'a>(layers: impl Iterator<Item = &'a Option<FreshnessSpec>>) -> Option<FreshnessSpec> {
    layers.fold(None, |below, layer| {
        let layer = layer.as_ref()?;
        let Some(below) = below else {
            return Some(layer.clone());
        };
        Some(FreshnessSpec {
            warn_after: merged_age(below.warn_after, &layer.warn_after),
            error_after: merged_age(below.error_after, &layer.error_after),
            filter: layer.filter.clone().or(below.filter),
        })
    })
}

fn merged_age(below: Said<AgeSpec>, age: &Said<AgeSpec>) -> Said<AgeSpec> {
    match (below, age) {
        (below, None) => below,
        (Some(Some(below)), Some(Some(age))) => Some(Some(AgeSpec {
            count: age.count.clone().or(below.count),
            period: age.period.clone().or(below.period),
            span: age.span.clone(),
        })),
        (_, said) => said.clone(),
    }
}

/// Reads the templates of one table.
struct Reader<'a, 'b> {
    resolver: &'a mut Resolver<'b>,
    scope: Arc<Scope>,
}

impl Reader<'_, '_> {
    /// A way that is said later takes the place of one before, whichever that is.
    fn loaded_at(&mut self, layers: [&LoadedSpec; 3]) -> LoadedAt {
        let (mut field, mut query) = (None, None);
        for layer in layers {
            let is_own = |said: &Said<Spot<String>>| matches!(said, Some(Some(_)));
            if is_own(&layer.field) || is_own(&layer.query) {
                (field, query) = (None, None);
            }
            field = layer.field.clone().unwrap_or(field);
            query = layer.query.clone().unwrap_or(query);
        }
        let field = field.and_then(|spot| self.text(&spot));
        let query = query.and_then(|spot| self.text(&spot));
        match (field, query) {
            (Some(field), _) => LoadedAt::Field(field),
            (None, Some(query)) => LoadedAt::Query(query),
            (None, None) => LoadedAt::Files,
        }
    }

    /// None where no age is said.
    fn freshness(&mut self, said: &FreshnessSpec) -> Option<Freshness> {
        let freshness = Freshness {
            warn_after: self.age("warn_after", &said.warn_after),
            error_after: self.age("error_after", &said.error_after),
            filter: said
                .filter
                .iter()
                .flatten()
                .next()
                .and_then(|spot| self.text(spot)),
        };
        let is_asked = freshness.warn_after.is_some() || freshness.error_after.is_some();
        is_asked.then_some(freshness)
    }

    fn age(&mut self, key: &str, said: &Said<AgeSpec>) -> Option<Age> {
        let age = said.as_ref()?.as_ref()?;
        let (Some(count), Some(period)) = (&age.count, &age.period) else {
            let missing = if age.count.is_none() {
                "count"
            } else {
                "period"
            };
            self.resolver.say_once(
                Diagnostic::error(Code::E0105, format!("`{key}` needs `{missing}`"))
                    .at(age.span.clone())
                    .hint("write it like `{count: 12, period: hour}`"),
            );
            return None;
        };
        let (count, period) = (self.count(count), self.period(period));
        Some(Age {
            count: count?,
            period: period?,
            span: age.span.clone(),
        })
    }

    fn count(&mut self, spot: &Spot<String>) -> Option<i64> {
        let text = self.text(spot)?;
        let count = text.trim().parse::<i64>();
        let (code, problem) = match count {
            Ok(count) if count >= 0 => return Some(count),
            Ok(_) => (Code::E0106, "is negative"),
            Err(_) => (Code::E0104, "is not a whole number"),
        };
        self.resolver.say_once(
            Diagnostic::error(code, format!("the count `{}` {problem}", text.trim()))
                .at(spot.span.clone())
                .hint("write how many minutes, hours or days old the newest row may be"),
        );
        None
    }

    fn period(&mut self, spot: &Spot<String>) -> Option<Period> {
        let text = self.text(spot)?;
        let word = text.trim();
        let found = Period::ALL.into_iter().find(|period| period.word() == word);
        if found.is_none() {
            let hint = did_you_mean(word, Period::ALL.map(Period::word));
            self.resolver.say_once(
                Diagnostic::error(Code::E0106, format!("`{word}` is not a period"))
                    .at(spot.span.clone())
                    .hint(hint),
            );
        }
        found
    }

    /// A text of the YAML, which is a template.
    fn text(&mut self, spot: &Spot<String>) -> Option<Spot<String>> {
        let templates = &self.resolver.templates;
        match templates.render_text(&spot.value, &self.scope) {
            Ok(value) => Some(Spot {
                value,
                span: spot.span.clone(),
            }),
            Err(message) => {
                self.resolver
                    .say_once(Diagnostic::error(Code::E0402, message).at(spot.span.clone()));
                None
            }
        }
    }
}
