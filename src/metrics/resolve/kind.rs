//! What each kind of metric needs, and what it has no use for.

use super::Resolver;
use crate::diagnostics::{Code, Diagnostic, Span, did_you_mean};
use crate::metrics::Duration;
use crate::metrics::metric::{Aggregation, Kind, Level, Measure, Over};
use crate::project::choice;

#[derive(Clone, Copy, PartialEq)]
enum Word {
    Mean,
    Count,
    Total,
    Proportion,
    Retention,
    Ratio,
    MeanOfRatios,
    Quantile,
    Funnel,
    Derived,
    Cumulative,
}

const WORDS: &[(&str, Word)] = &[
    ("mean", Word::Mean),
    ("count", Word::Count),
    ("total", Word::Total),
    ("proportion", Word::Proportion),
    ("retention", Word::Retention),
    ("ratio", Word::Ratio),
    ("mean_of_ratios", Word::MeanOfRatios),
    ("quantile", Word::Quantile),
    ("funnel", Word::Funnel),
    ("derived", Word::Derived),
    ("cumulative", Word::Cumulative),
];

/// Whether there is such a kind.
pub(super) fn is_known(word: &str) -> bool {
    WORDS.iter().any(|(known, _)| *known == word)
}

impl Resolver<'_> {
    pub(super) fn kind(&mut self) -> Option<Kind> {
        let word = self.word(&self.spec.kind.clone(), "kind", WORDS)?;
        self.keys_of_other_kinds(word);
        match word {
            Word::Ratio | Word::MeanOfRatios => self.two_parts(word),
            Word::Funnel => self.funnel(),
            Word::Derived => self.derived(),
            _ => self.one_measure(word),
        }
    }

    /// A key that another kind reads would be believed and do nothing.
    fn keys_of_other_kinds(&mut self, word: Word) {
        let spec = self.spec;
        let is_ratio = matches!(word, Word::Ratio | Word::MeanOfRatios);
        let numerator = spec.numerator.as_ref().map(|part| &part.span);
        let denominator = spec.denominator.as_ref().map(|part| &part.span);
        let own = spec.value.as_ref().map(|value| &value.span);
        if let Some(span) = own.filter(|_| is_ratio) {
            self.unsound(
                format!("the ratio `{}` has a measure of its own", spec.name.value),
                span,
                "put it under `numerator:` or `denominator:`",
            );
        }
        for span in [numerator, denominator].into_iter().flatten() {
            if !is_ratio {
                self.unsound(
                    format!(
                        "`{}` is no ratio, so it has no numerator or denominator",
                        spec.name.value
                    ),
                    span,
                    "use `kind: ratio`, or put the measure beside `kind`",
                );
            }
        }
        let is_quantile = word == Word::Quantile;
        let others: [(&str, Option<&Span>, bool, &str); 6] = [
            (
                "q",
                spec.q.as_ref().map(|q| &q.span),
                is_quantile,
                "quantile",
            ),
            (
                "level",
                spec.level.as_ref().map(|level| &level.span),
                is_quantile,
                "quantile",
            ),
            (
                "cluster",
                spec.cluster.as_ref().map(|name| &name.span),
                is_quantile,
                "quantile",
            ),
            (
                "steps",
                spec.steps.first().map(|step| &step.span),
                word == Word::Funnel,
                "funnel",
            ),
            (
                "at_least",
                spec.at_least.as_ref().map(|least| &least.span),
                word == Word::Retention,
                "retention",
            ),
            (
                "over",
                spec.over.as_ref().map(|over| &over.span),
                word == Word::Cumulative,
                "cumulative",
            ),
        ];
        for (key, span, is_right, kind) in others {
            if let Some(span) = span.filter(|_| !is_right) {
                self.unsound(
                    format!(
                        "`{key}` belongs to `kind: {kind}`, not to `{}`",
                        spec.name.value
                    ),
                    span,
                    "remove it, or change the kind",
                );
            }
        }
    }

    fn two_parts(&mut self, word: Word) -> Option<Kind> {
        let numerator = self.part("numerator", self.spec.numerator.clone());
        let denominator = self.part("denominator", self.spec.denominator.clone());
        let (numerator, denominator) = (numerator?, denominator?);
        Some(match word {
            Word::MeanOfRatios => Kind::MeanOfRatios {
                numerator,
                denominator,
            },
            _ => Kind::Ratio {
                numerator,
                denominator,
            },
        })
    }

    fn one_measure(&mut self, word: Word) -> Option<Kind> {
        let fallback = match word {
            Word::Proportion => Some(Aggregation::Any),
            Word::Count | Word::Retention => Some(Aggregation::Count),
            Word::Total => Some(Aggregation::Sum),
            // Of events, a quantile takes every value and sums nothing.
            Word::Quantile if !self.is_of("unit") => Some(Aggregation::Sum),
            _ => None,
        };
        let measure = self.part_with("fact", self.spec.value.clone(), fallback)?;
        self.fits(word, measure.aggregation)?;
        match word {
            Word::Proportion => Some(Kind::Proportion(measure)),
            Word::Count | Word::Total => Some(Kind::Total(measure)),
            Word::Retention => self.retention(measure),
            Word::Quantile => self.quantile(measure),
            Word::Cumulative => self.cumulative(measure),
            _ => Some(Kind::Mean(measure)),
        }
    }

    /// Whether the kind can be made of such an aggregate.
    fn fits(&mut self, word: Word, aggregation: Aggregation) -> Option<()> {
        use Aggregation::{Any, Count, CountDistinct, Sum};
        let name = self.name().to_string();
        let (message, hint) = match word {
            Word::Proportion if aggregation != Any => (
                format!("the proportion `{name}` counts units, so its aggregation is `any`"),
                "use `agg: any`, or `kind: mean` for an average per unit",
            ),
            Word::Count if !matches!(aggregation, Count | CountDistinct) => (
                format!("`{name}` is a count, so its aggregation is `count` or `count_distinct`"),
                "use `kind: total` for a sum, or `kind: mean` for an average per unit",
            ),
            Word::Total if aggregation != Sum => (
                format!("`{name}` is a total, so its aggregation is `sum`"),
                "use `kind: count` to count, or `kind: mean` for an average per unit",
            ),
            Word::Retention if aggregation != Count => (
                format!("the retention `{name}` counts events, so its aggregation is `count`"),
                "leave `agg` out; `at_least` says how many events it takes",
            ),
            Word::Cumulative if !matches!(aggregation, Sum | Count | CountDistinct) => (
                format!("`{name}` cannot be added up over days"),
                "use `agg: sum`, `count` or `count_distinct`",
            ),
            Word::Quantile if self.is_of("event") && aggregation != Sum => (
                format!("the quantile `{name}` is of events, so nothing is aggregated first"),
                "leave `agg` out, or use `level: unit` for a quantile of a number per unit",
            ),
            _ => return Some(()),
        };
        let value = self
            .spec
            .value
            .as_ref()
            .expect("the measure was read from it");
        let span = value
            .aggregation
            .as_ref()
            .map_or(&value.span, |agg| &agg.span);
        self.unsound(message, &span.clone(), hint);
        None
    }

    fn is_of(&self, word: &str) -> bool {
        let level = self.spec.level.as_ref();
        level.is_some_and(|level| level.value == word)
    }

    fn retention(&mut self, measure: Measure) -> Option<Kind> {
        let at_least = match &self.spec.at_least {
            None => 1,
            Some(least) if least.value >= 1 => least.value,
            Some(least) => {
                self.unsound(
                    format!("`at_least: {}` holds for everybody", least.value),
                    &least.span.clone(),
                    "it takes at least 1 event to come back",
                );
                return None;
            }
        };
        Some(Kind::Retention { measure, at_least })
    }

    fn quantile(&mut self, measure: Measure) -> Option<Kind> {
        let spec = self.spec;
        let q = match &spec.q {
            Some(_) => self.share(&spec.q, "quantile"),
            None => {
                self.needs("q", "add `q: 0.95`: the share of values that lie below");
                None
            }
        };
        let levels = [("event", Level::Event), ("unit", Level::Unit)];
        let level = self.word(&spec.level, "level", &levels)?;
        match (&spec.cluster, level) {
            (None, Level::Event) => {
                let hint = format!(
                    "add `cluster: {}`: events of one unit are alike, so units are what varies",
                    measure.unit_column
                );
                self.needs("cluster", &hint);
                return None;
            }
            (Some(cluster), Level::Unit) => {
                self.unsound(
                    format!(
                        "`{}` is a quantile of units, so nothing is clustered",
                        spec.name.value
                    ),
                    &cluster.span,
                    "remove `cluster`, or use `level: event`",
                );
                return None;
            }
            (Some(cluster), Level::Event) if cluster.value != measure.unit_column => {
                self.unsound(
                    format!("events cannot be clustered by `{}`", cluster.value),
                    &cluster.span,
                    &format!(
                        "they are clustered by what is assigned to variants: `cluster: {}`",
                        measure.unit_column
                    ),
                );
                return None;
            }
            _ => {}
        }
        Some(Kind::Quantile {
            measure,
            q: q?,
            level,
        })
    }

    fn cumulative(&mut self, measure: Measure) -> Option<Kind> {
        let Some(spot) = &self.spec.over else {
            self.needs(
                "over",
                "add `over: 28d` for the days back from each day, or `month`, `quarter`, `year`, `all_time`",
            );
            return None;
        };
        let over = match spot.value.as_str() {
            "month" => Over::ToDate("month"),
            "quarter" => Over::ToDate("quarter"),
            "year" => Over::ToDate("year"),
            "all_time" => Over::AllTime,
            text => match Duration::parse(text) {
                Some(Duration { seconds }) if seconds > 0 && seconds % 86_400 == 0 => {
                    Over::Days(seconds / 86_400)
                }
                _ => {
                    self.unsound(
                        format!("nothing is added up over `{text}`"),
                        &spot.span,
                        "write whole days, such as `28d`, or `month`, `quarter`, `year`, `all_time`",
                    );
                    return None;
                }
            },
        };
        Some(Kind::Cumulative { measure, over })
    }

    fn funnel(&mut self) -> Option<Kind> {
        let spec = self.spec;
        if let Some(value) = &spec.value {
            self.unsound(
                format!("the funnel `{}` has a measure of its own", spec.name.value),
                &value.span,
                "put it under `steps:`, in its place",
            );
        }
        if !(2..=16).contains(&spec.steps.len()) {
            self.needs(
                "steps",
                "add two to 16 `steps`, in their order: `[{fact: fact_events, event: cart}, {fact: fact_events, event: order}]`",
            );
            return None;
        }
        let steps: Vec<Option<Measure>> = spec
            .steps
            .iter()
            .map(|step| self.measure(step, Some(Aggregation::Count)))
            .collect();
        let steps: Vec<Measure> = steps.into_iter().collect::<Option<_>>()?;
        for (step, typed) in steps.iter().zip(&spec.steps) {
            if step.aggregation != Aggregation::Count || step.expression.is_some() {
                self.unsound(
                    format!("a step of `{}` happens or does not", spec.name.value),
                    &typed.span,
                    "name its `fact`, `event` and `filter`, and nothing else",
                );
                return None;
            }
            if (&step.fact, &step.time_column) != (&steps[0].fact, &steps[0].time_column) {
                self.unsound(
                    format!(
                        "the steps of `{}` are rows of different facts",
                        spec.name.value
                    ),
                    &typed.span,
                    "make one model of all events and use it for every step",
                );
                return None;
            }
        }
        Some(Kind::Funnel { steps })
    }

    fn derived(&mut self) -> Option<Kind> {
        let spec = self.spec;
        let Some(expression) = spec
            .value
            .as_ref()
            .and_then(|value| value.expression.as_ref())
        else {
            self.needs("expr", "add `expr: <SQL over names of metrics>`");
            return None;
        };
        let value = spec.value.as_ref().expect("its expression was just read");
        for spot in [&value.fact, &value.event, &value.aggregation, &value.filter]
            .into_iter()
            .flatten()
        {
            self.unsound(
                format!(
                    "`{}` is derived from metrics, not from rows",
                    spec.name.value
                ),
                &spot.span,
                "remove it, or change the kind",
            );
        }
        let inputs = match crate::sql::expression_columns(expression) {
            Ok(inputs) => inputs,
            Err(message) => {
                self.diagnostics
                    .push(Diagnostic::error(Code::E0405, message).at(expression.span.clone()));
                return None;
            }
        };
        if inputs.is_empty() {
            self.unsound(
                format!("`{}` is derived from nothing", spec.name.value),
                &expression.span,
                "name metrics in `expr`, such as `revenue / orders`",
            );
            return None;
        }
        let names: Vec<&str> = self
            .manifest
            .domain
            .metrics
            .iter()
            .map(|metric| metric.name.as_str())
            .collect();
        let unknown: Vec<&String> = inputs
            .iter()
            .filter(|input| !names.contains(&input.as_str()))
            .collect();
        for input in &unknown {
            self.diagnostics.push(
                Diagnostic::error(Code::E0206, format!("unknown metric `{input}`"))
                    .at(expression.span.clone())
                    .hint(did_you_mean(input, names.iter().copied())),
            );
        }
        unknown.is_empty().then(|| Kind::Derived {
            expression: crate::sql::without_comments(expression),
            inputs,
        })
    }

    /// Reads one of a closed list of words, without asking for it.
    pub(super) fn aggregation(
        &mut self,
        word: &crate::project::yaml::Spot<String>,
    ) -> Option<Aggregation> {
        let words = [
            ("sum", Aggregation::Sum),
            ("count", Aggregation::Count),
            ("count_distinct", Aggregation::CountDistinct),
            ("max", Aggregation::Max),
            ("min", Aggregation::Min),
            ("any", Aggregation::Any),
        ];
        choice(word, "aggregation", &words, &mut self.diagnostics)
    }
}
