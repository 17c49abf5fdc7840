//! One truth: no second name for a metric, no metric that a model computes again by hand.
//! In: a compiled project and what its metrics mean. Out: diagnostics at the metric or at the model's column.

use std::collections::BTreeSet;

use super::Compiled;
use super::meanings::{Meanings, Sources, plain};
use super::parallel::in_parallel;
use crate::contracts::{
    Meaning, NearDuplicate, Rederivation, differences, duplicates, near_duplicates, rederivations,
};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::graph::Graph;
use crate::manifest::{Manifest, Node, NodeId, NodeKind, identifier};
use crate::metrics::{Aggregation, Kind, Measure as Definition};
use crate::project::SqlFile;
use crate::sql::Query;
use crate::sql::canonical::{Catalog, Measure, identifies, measures};

/// Macros that write a metric's SQL from its one definition; what reads them repeats nothing.
const WRITTEN_BY_US: [&str; 2] = ["metric_daily(", "metric_aggregates("];

/// All findings: second names first, then near ones, then copies.
pub async fn lints(sources: &Sources<'_>, meanings: &Meanings) -> Vec<Diagnostic> {
    let Sources {
        manifest,
        graph,
        compiled,
        ..
    } = sources;
    let at = |metric: &str| {
        compiled
            .metrics
            .get(metric)
            .map(|metric| metric.span.clone())
    };
    let mut found = grains(manifest, meanings);
    found.extend(second_names(meanings, &at));
    found.extend(untrue_aliases(compiled, meanings));
    let mut ways = vec![];
    // What is said of a metric need not be said of its second name.
    let originals = compiled
        .metrics
        .iter()
        .filter(|metric| metric.alias_of.is_none());
    for metric in originals {
        for sql in queries_of(&metric.kind, sources) {
            let analyzed = sources.analyzer.analyze(&sql).await;
            let query = analyzed.map(|analyzed| meanings.queries.bind(&analyzed));
            if let Ok(Ok(query)) = query {
                ways.push((metric.name.as_str(), query));
            }
        }
    }
    let metrics = measured(&ways, &meanings.catalog);
    found.extend(near(&metrics, &at));
    let models = other_models(manifest, graph, compiled, meanings);
    for copy in rederivations(&metrics, &models) {
        found.extend(by_hand(manifest, &copy));
    }
    found
}

/// A promised grain is proved by the query, or tested on every build.
fn grains(manifest: &Manifest, meanings: &Meanings) -> Vec<Diagnostic> {
    let mut found = vec![];
    for node in &manifest.nodes {
        // What is wrong with the contract itself was said when the node was compiled.
        let Ok(contract) = node.settings.contract() else {
            continue;
        };
        if contract.grain.is_empty() || is_tested(manifest, node, &contract.grain) {
            continue;
        }
        let query = meanings.queries.get(&plain(&node.relation()));
        let catalog = &meanings.catalog;
        if query.is_some_and(|query| identifies(&query.inlined(catalog), &contract.grain, catalog))
        {
            continue;
        }
        let grain = contract.grain.join(", ");
        let message = format!("nothing shows that `{}` has one row per {grain}", node.name);
        let hint = match contract.grain.as_slice() {
            [column] => format!("add the data test `unique` to `{column}`, or group by it"),
            _ => format!(
                "add the data test `unique_combination: {{columns: [{grain}]}}`, or group by them"
            ),
        };
        found.push(
            Diagnostic::error(Code::E0510, message)
                .at(node.span.clone())
                .hint(hint),
        );
    }
    found
}

/// A strict test of just these columns stands at the relation.
fn is_tested(manifest: &Manifest, node: &Node, grain: &[String]) -> bool {
    manifest.nodes.iter().any(|test| {
        let key = super::declared::key(test);
        key.is_some_and(|(owner, columns)| {
            owner == node.id
                && columns.len() == grain.len()
                && columns.iter().all(|column| grain.contains(column))
        })
    })
}

/// The aggregate that a metric is over all its rows, to find it again in models. A ratio of two facts, and a kind whose
/// number is no plain aggregate, has none. Distinct values may be counted on either side of a join that they are the key of,
/// and what else a query reads decides which: so they are looked for at the grain of each column.
fn queries_of(kind: &Kind, sources: &Sources<'_>) -> Vec<String> {
    let parts = match kind {
        Kind::Mean(measure) => vec![measure],
        Kind::Ratio {
            numerator,
            denominator,
        } if numerator.fact == denominator.fact => vec![numerator, denominator],
        _ => return vec![],
    };
    let aggregates: Option<Vec<String>> = parts.iter().map(|part| aggregate(part)).collect();
    let (Some(aggregates), Some(fact)) = (aggregates, sources.manifest.model(&parts[0].fact))
    else {
        return vec![];
    };
    let (value, relation) = (aggregates.join(" / "), fact.relation());
    let mut queries = vec![format!("select {value} as value from {relation}")];
    let known = sources.compiled.nodes.get(&fact.id);
    if let (Kind::Mean(measure), Some(known)) = (kind, known)
        && measure.aggregation == Aggregation::CountDistinct
    {
        let columns = known
            .schema
            .fields()
            .iter()
            .map(|field| identifier(field.name()));
        queries.extend(columns.map(|column| {
            format!("select {column} as grain, {value} as value from {relation} group by {column}")
        }));
    }
    queries
}

/// The first measure of each query, by metric; those of one metric differ.
fn measured(ways: &[(&str, Query)], catalog: &Catalog) -> Vec<(String, Measure)> {
    let first = |(metric, query): &(&str, Query)| {
        let found = measures(&query.inlined(catalog), catalog);
        Some((metric.to_string(), found.into_iter().next()?))
    };
    let mut found: Vec<(String, Measure)> = vec![];
    for (metric, measure) in in_parallel(ways, first) {
        let is_known = found.iter().any(|(name, known)| {
            *name == metric
                && known.signature == measure.signature
                && known.filters == measure.filters
        });
        if !is_known {
            found.push((metric, measure));
        }
    }
    found
}

fn aggregate(measure: &Definition) -> Option<String> {
    let value = measure.expression.as_deref();
    let call = match (measure.aggregation, value) {
        (Aggregation::Count, None) => "count(*)".to_string(),
        (Aggregation::Count, Some(value)) => format!("count({value})"),
        (Aggregation::Sum, Some(value)) => format!("sum({value})"),
        (Aggregation::CountDistinct, Some(value)) => format!("count(distinct {value})"),
        (Aggregation::Max, Some(value)) => format!("max({value})"),
        (Aggregation::Min, Some(value)) => format!("min({value})"),
        _ => return None,
    };
    Some(match &measure.condition {
        Some(condition) => format!("{call} filter (where {condition})"),
        None => call,
    })
}

fn second_names(meanings: &Meanings, at: &dyn Fn(&str) -> Option<Span>) -> Vec<Diagnostic> {
    let all: Vec<&Meaning> = meanings.metrics.values().collect();
    let pairs = duplicates(&all).into_iter();
    pairs
        .map(|pair| {
            let mut diagnostic = Diagnostic::error(
                Code::E0504,
                format!(
                    "`{}` and `{}` are two names for one metric",
                    pair.first, pair.second
                ),
            )
            .at(at(&pair.second))
            .hint(format!(
                "keep one of them; if both names are needed, say `alias_of: {}` at `{}`",
                pair.first, pair.second
            ));
            if let Some(first) = at(&pair.first) {
                diagnostic = diagnostic.also(first, "the same rows, value and window here");
            }
            diagnostic
        })
        .collect()
}

/// Aliases that mean something else than what they are said to stand for.
fn untrue_aliases(compiled: &Compiled, meanings: &Meanings) -> Vec<Diagnostic> {
    let aliases = compiled.metrics.iter();
    let untrue = aliases.filter_map(|alias| {
        let of = alias.alias_of.as_ref()?;
        let (alias_means, of_means) = (
            meanings.metrics.get(&alias.name)?,
            meanings.metrics.get(of)?,
        );
        let differences = differences(of_means, alias_means);
        let (first, ..) = differences.split_first()?;
        let mut diagnostic = Diagnostic::error(
            Code::E0504,
            format!("`{}` is no alias of `{of}`: {first}", alias.name),
        )
        .at(alias.span.clone())
        .hint(format!(
            "make it what `{of}` is, or take `alias_of` out: then it is a metric of its own"
        ));
        for difference in &differences[1..] {
            diagnostic = diagnostic.note(difference.clone());
        }
        Some(diagnostic)
    });
    untrue.collect()
}

fn near(metrics: &[(String, Measure)], at: &dyn Fn(&str) -> Option<Span>) -> Vec<Diagnostic> {
    let is_close = |pair: &&NearDuplicate| {
        // Sums under disjoint conditions are parts of a whole; one that narrows the other is easily taken for it.
        pair.only_first.is_empty() != pair.only_second.is_empty()
    };
    near_duplicates(metrics)
        .iter()
        .filter(is_close)
        .map(|pair| {
            let (narrow, wide, more) = match pair.only_first.is_empty() {
                true => (&pair.second, &pair.first, &pair.only_second),
                false => (&pair.first, &pair.second, &pair.only_first),
            };
            Diagnostic::warning(
                Code::E0507,
                format!("`{narrow}` is `{wide}` with one more condition: {}", quoted(more)),
            )
            .at(at(narrow))
            .hint(format!("if both are wanted, say in their descriptions how they differ; `{wide}` may be asked for with a segment instead"))
        })
        .collect()
}

/// Measures of the models that could copy a metric: not those a metric is made of, and not those our macros write.
fn other_models(
    manifest: &Manifest,
    graph: &Graph,
    compiled: &Compiled,
    meanings: &Meanings,
) -> Vec<(String, Vec<Measure>)> {
    let mut ours: BTreeSet<NodeId> = BTreeSet::new();
    for id in graph.order() {
        let writes = match &manifest.node(*id).kind {
            NodeKind::Model(file) => WRITTEN_BY_US.iter().any(|word| file.text.contains(word)),
            _ => false,
        };
        if writes
            || graph
                .parents(*id)
                .iter()
                .any(|parent| ours.contains(parent))
        {
            ours.insert(*id);
        }
    }
    let facts = super::meanings::facts(manifest, compiled);
    let mut below: BTreeSet<NodeId> = BTreeSet::new();
    let mut open: Vec<NodeId> = facts.iter().map(|node| node.id).collect();
    while let Some(id) = open.pop() {
        if below.insert(id) {
            open.extend(graph.parents(id));
        }
    }
    let is_other = |node: &&Node| {
        matches!(node.kind, NodeKind::Model(_))
            && !ours.contains(&node.id)
            && !below.contains(&node.id)
    };
    let models = manifest.nodes.iter().filter(is_other);
    let of_facts: BTreeSet<String> = facts
        .iter()
        .filter_map(|fact| meanings.queries.get(&plain(&fact.relation())))
        .flat_map(|query| query.base_tables())
        .collect();
    in_parallel(&models.collect::<Vec<_>>(), |node| {
        let query = meanings.queries.get(&plain(&node.relation()))?;
        // What reads none of the metrics' tables copies none, and canonical forms of wide unions take long.
        if query.base_tables().is_disjoint(&of_facts) {
            return None;
        }
        let found = measures(&query.inlined(&meanings.catalog), &meanings.catalog);
        (!found.is_empty()).then(|| (node.name.clone(), found))
    })
}

fn by_hand(manifest: &Manifest, copy: &Rederivation) -> Option<Diagnostic> {
    let node = manifest.model(&copy.model)?;
    let NodeKind::Model(file) = &node.kind else {
        return None;
    };
    if is_wanted(node, &copy.metric) {
        return None;
    }
    let mut message = format!(
        "`{}.{}` computes the metric `{}` by hand",
        copy.model, copy.column, copy.metric
    );
    if !copy.missing.is_empty() {
        message += &format!(", without its condition {}", quoted(&copy.missing));
    }
    if !copy.extra.is_empty() {
        message += &format!(", with one more condition: {}", quoted(&copy.extra));
    }
    let diagnostic = Diagnostic::warning(Code::E0508, message)
        .at(column_span(file, &copy.column))
        .hint(format!(
            "read `{}` from a model that calls `metric_daily()`, so that both change together; if the copy is wanted, say `config: {{meta: {{derives: [{}]}}}}` at the model",
            copy.metric, copy.metric
        ));
    Some(diagnostic)
}

/// A model may say that it derives a metric on purpose.
fn is_wanted(node: &Node, metric: &str) -> bool {
    let listed = node
        .settings
        .raw
        .get("meta")
        .and_then(|meta| meta.get("derives"));
    listed
        .and_then(serde_json::Value::as_array)
        .is_some_and(|names| names.iter().any(|name| name == metric))
}

/// Where a file last names a column: its outermost select comes last.
fn column_span(file: &SqlFile, column: &str) -> Span {
    let is_part = |letter: Option<char>| {
        letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    };
    let place = file.text.rmatch_indices(column).find(|(start, word)| {
        let (before, after) = (&file.text[..*start], &file.text[start + word.len()..]);
        !is_part(before.chars().next_back()) && !is_part(after.chars().next())
    });
    match place {
        Some((start, word)) => {
            Span::of_bytes(file.path.clone(), &file.text, start, start + word.len())
        }
        None => Span::file(file.path.clone()),
    }
}

fn quoted(conditions: &BTreeSet<String>) -> String {
    let quoted: Vec<String> = conditions.iter().map(|text| format!("`{text}`")).collect();
    quoted.join(" and ")
}
