//! What a definition says beside its SQL, as fields that a lock can compare.
//! In: a metric. Out: [`Fields`]. What its SQL means is told elsewhere.

use crate::contracts::Fields;
use crate::metrics::{Aggregation, Cap, Kind, Level, Metric};

/// What the definition says beside its SQL. Every field of a metric is named here: a new one must say what it is.
pub(super) fn fields(metric: &Metric) -> Fields {
    let Metric {
        name: _,
        span: _,
        version: _,
        label,
        description,
        area,
        owner,
        team,
        approvers,
        sla,
        tier,
        drives,
        required_for,
        margin,
        kind,
        fill,
        window,
        maturity,
        direction,
        cap,
        covariate,
        unit_of_measure,
        alias_of,
    } = metric;
    let mut fields = kind_fields(kind);
    let mut add = |name: &str, value: String| {
        fields.insert(name.to_string(), value);
    };
    if metric.is_analysed() {
        add("fill", fill.word().into());
        add("maturity", maturity.word().into());
        add("window.start", format!("{} s", window.start.seconds));
    }
    if let Some(length) = window.length {
        add("window.length", format!("{} s", length.seconds));
    }
    if let Some(zone) = &window.calendar {
        add("window.calendar", zone.clone());
    }
    let mut add_cap = |name: &str, cap: &Option<Cap>| match cap {
        Some(Cap::At(cap)) => add(name, cap.to_string()),
        Some(Cap::Quantile { share, is_pooled }) => {
            add(&format!("{name}.quantile"), share.to_string());
            add(&format!("{name}.is_pooled"), is_pooled.to_string());
        }
        None => {}
    };
    add_cap("cap", cap);
    if let Kind::Ratio {
        numerator,
        denominator,
    } = kind
    {
        add_cap("cap.numerator", &numerator.cap);
        add_cap("cap.denominator", &denominator.cap);
    }
    if let Some(covariate) = covariate {
        let before = if covariate.before_period {
            "period"
        } else {
            "exposure"
        };
        add(
            "covariate.lookback",
            format!("{} s", covariate.lookback.seconds),
        );
        add("covariate.before", before.into());
    }
    add("direction", direction.word().into());
    add("tier", tier.word().into());
    add("owner", owner.clone());
    let list = |names: &[String]| format!("[{}]", names.join(", "));
    if !drives.is_empty() {
        add("drives", list(drives));
    }
    if !approvers.is_empty() {
        add("approvers", list(approvers));
    }
    if !required_for.is_empty() {
        let mut names: Vec<String> = required_for.iter().map(ToString::to_string).collect();
        names.sort();
        add("required_for", list(&names));
    }
    if let Some(margin) = margin {
        add("margin", margin.to_string());
    }
    if let Some(freshness) = sla.freshness {
        add("sla.freshness", format!("{} s", freshness.seconds));
    }
    if let Some(completeness) = sla.completeness {
        add("sla.completeness", completeness.to_string());
    }
    for (name, value) in [
        ("area", area),
        ("team", team),
        ("unit_of_measure", unit_of_measure),
        ("alias_of", alias_of),
    ] {
        if let Some(value) = value {
            add(name, value.clone());
        }
    }
    add("label", label.clone());
    if !description.is_empty() {
        add("description", description.clone());
    }
    fields
}

/// The fields of a metric that its values by day depend on; windows, caps and maturity belong to experiments.
pub(super) fn daily_fields(metric: &Metric) -> Fields {
    let mut fields = kind_fields(&metric.kind);
    fields.insert("fill".into(), metric.fill.word().into());
    if let Kind::Retention { .. } = metric.kind {
        fields.insert("window".into(), metric.window.to_string());
        fields.insert("maturity".into(), metric.maturity.word().into());
    }
    fields
}

/// What the kind says beside the rows that it reads.
fn kind_fields(kind: &Kind) -> Fields {
    let mut fields = Fields::new();
    let mut add = |name: &str, value: String| {
        fields.insert(name.to_string(), value);
    };
    add("kind", kind.word().into());
    let parts = match kind {
        // A step happens or does not.
        Kind::Funnel { .. } => Vec::new(),
        kind => kind.measures(),
    };
    for (part, measure) in ["numerator", "denominator"].iter().zip(parts) {
        add(
            &format!("aggregation.{part}"),
            aggregation(measure.aggregation).into(),
        );
    }
    match kind {
        Kind::Mean(_)
        | Kind::Total(_)
        | Kind::Proportion(_)
        | Kind::Ratio { .. }
        | Kind::MeanOfRatios { .. } => {}
        Kind::Retention { at_least, .. } => add("at_least", at_least.to_string()),
        Kind::Quantile { q, level, .. } => {
            add("q", q.to_string());
            let level = match level {
                Level::Event => "event",
                Level::Unit => "unit",
            };
            add("level", level.into());
        }
        // What the steps are is the plan.
        Kind::Funnel { steps } => add("steps", steps.len().to_string()),
        Kind::Derived { expression, .. } => add("expression", expression.clone()),
        Kind::Cumulative { over, .. } => add("over", over.to_string()),
    }
    fields
}

fn aggregation(aggregation: Aggregation) -> &'static str {
    match aggregation {
        Aggregation::Sum => "sum",
        Aggregation::Count => "count",
        Aggregation::CountDistinct => "count_distinct",
        Aggregation::Max => "max",
        Aggregation::Min => "min",
        Aggregation::Any => "any",
    }
}
