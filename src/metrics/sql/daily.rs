//! `metric_daily`: company-wide values by day, from the same definitions that experiments use.
//! Each fact is read once: its rows become one row per unit and day, then one per day, then one per day and metric.
//! Retention and distinct counts over several days compare days with each other, so they read what they need once more.

use std::collections::{BTreeMap, BTreeSet};

use super::AGGREGATES_PER_QUERY;
use super::side::{Columns, Parts, Place, Side, has_two_facts, place, row, sides};
use super::unit::{self, number};
use crate::manifest::identifier;
use crate::metrics::metric::{Aggregation, Kind, Maturity, Metric, Over};

/// One row per day and metric: `numerator` over `denominator` is the value. Of means and shares the denominator is the number
/// of units with any event of the fact on that day; of totals, quantiles and derived metrics it is 1.
pub fn daily(metrics: &[&Metric]) -> String {
    Daily::new(metrics, None).sql()
}

/// The same by whether the unit is in an experiment: one row per day, metric and `is_exposed`, for metrics that add up over
/// units. `units` is the relation of units of experiments.
pub fn daily_parts(metrics: &[&Metric], units: &str) -> String {
    let additive: Vec<&Metric> = metrics
        .iter()
        .copied()
        .filter(|metric| is_additive(metric))
        .collect();
    Daily::new(&additive, Some(units)).sql()
}

/// Whether parts of the units have parts of the total.
fn is_additive(metric: &Metric) -> bool {
    !matches!(
        metric.kind,
        Kind::Quantile { .. } | Kind::Derived { .. } | Kind::Cumulative { .. }
    )
}

struct Daily<'a> {
    metrics: &'a [&'a Metric],
    /// The relation of units to split by.
    units: Option<&'a str>,
    ctes: Vec<String>,
    /// Queries with the columns `metric_date`, `metric_name`, `numerator`, `denominator`.
    sources: Vec<String>,
}

impl<'a> Daily<'a> {
    fn new(metrics: &'a [&'a Metric], units: Option<&'a str>) -> Self {
        Self {
            metrics,
            units,
            ctes: Vec::new(),
            sources: Vec::new(),
        }
    }

    fn sql(mut self) -> String {
        let split_type = if self.units.is_some() {
            "false as is_exposed, "
        } else {
            ""
        };
        if let Some(units) = self.units {
            self.ctes.push(format!(
                "exposed as (\n        select distinct unit_id as exposed_unit_id from {units} where is_analysed\n    )"
            ));
        }
        self.by_fact();
        self.returning();
        self.distinct_over_days();
        if self.sources.is_empty() {
            return format!(
                "(select cast(null as date) as metric_date, '' as metric_name, {split_type}cast(0 as double) as numerator, cast(0 as double) as denominator where false)"
            );
        }
        self.ctes.push(format!(
            "measured as (\n{}\n    )",
            self.sources.join("\n        union all\n")
        ));
        let split = self.split(", ");
        // The two sides of a ratio may come from two facts; each brings its own, and 0 as the other. A day that another
        // metric has no number for stays one: no sum of one row may turn its NULL into 0.
        let mut last = "measured";
        if self.has_sides() {
            self.ctes.push(format!(
                "joined as (\n        select\n            metric_date, metric_name{split},\n            sum(numerator) as numerator,\n            sum(denominator) as denominator\n        from measured\n        group by metric_date, metric_name{split}\n    )"
            ));
            last = "joined";
        }
        let last = self.derived(last);
        format!(
            "(\n    with {}\n\n    select metric_date, metric_name{split}, numerator, denominator from {last} where numerator is not null\n)",
            self.ctes.join(",\n\n    ")
        )
    }

    /// `is_exposed` with something before it, when days are split by it.
    fn split(&self, before: &str) -> String {
        match self.units {
            Some(_) => format!("{before}is_exposed"),
            None => String::new(),
        }
    }

    fn has_sides(&self) -> bool {
        self.metrics.iter().any(|metric| has_two_facts(metric))
    }

    /// Everything that one day says by itself, and running totals over days.
    fn by_fact(&mut self) {
        let mut by_fact: BTreeMap<Place<'a>, Vec<Side<'a>>> = BTreeMap::new();
        for metric in self.metrics {
            for (place, side) in sides(metric) {
                by_fact.entry(place).or_default().push(side);
            }
        }
        for (place, sides) in by_fact {
            for (number, block) in sides.chunks(AGGREGATES_PER_QUERY / 2).enumerate() {
                let suffix = match number {
                    0 => String::new(),
                    number => format!("_{}", number + 1),
                };
                self.fact(place, block, &suffix);
            }
        }
    }

    fn fact(&mut self, (fact, time, unit): Place<'a>, sides: &[Side<'a>], suffix: &str) {
        let by_unit = identifier(&format!("{fact}_by_unit_and_day{suffix}"));
        let by_day = identifier(&format!("{fact}_by_day{suffix}"));
        let mut columns = Columns::default();
        let mut days = Columns::default();
        let parts: Vec<Parts> = sides
            .iter()
            .map(|side| side.parts(&mut columns, &mut days))
            .collect();
        self.add_unit_days(&by_unit, &columns, (fact, time, unit));
        let (split, groups) = (
            self.split(", "),
            if self.units.is_some() { "1, 2" } else { "1" },
        );
        self.ctes.push(format!(
            "{by_day} as (\n        select\n            metric_date{split}{}\n        from {by_unit}\n        group by {groups}\n    )",
            lines(days.list.iter().map(|(sql, name)| format!("{sql} as {name}"))),
        ));
        let running: Vec<String> = sides
            .iter()
            .zip(&parts)
            .filter_map(|(side, parts)| side.running(parts))
            .collect();
        let mut from = by_day;
        if !running.is_empty() {
            let name = identifier(&format!("{fact}_running{suffix}"));
            self.ctes.push(format!(
                "{name} as (\n        select\n            *{}\n        from {from}\n    )",
                lines(running.into_iter())
            ));
            from = name;
        }
        // A total of a part of the units is no total over 1.
        let whole = if self.units.is_some() { "null" } else { "1.0" };
        let rows: Vec<String> = sides
            .iter()
            .zip(&parts)
            .map(|(side, parts)| side.row(parts, whole))
            .collect();
        self.push_rows(&from, &rows);
    }

    /// One row per day and metric, of one row per day.
    fn push_rows(&mut self, from: &str, rows: &[String]) {
        let split = self.split(", ");
        self.sources.push(format!(
            "        select metric_date{split}, metric['metric_name'] as metric_name, metric['numerator'] as numerator, metric['denominator'] as denominator\n        from (\n            select metric_date{split}, unnest(make_array(\n                {}\n            )) as metric\n            from {from}\n        ) as days",
            rows.join(",\n                ")
        ));
    }

    /// Day, unit, and whether the unit is in an experiment where that is asked.
    fn unit_groups(&self) -> &'static str {
        match self.units {
            Some(_) => "1, 2, 3",
            None => "1, 2",
        }
    }

    /// The rows of a fact, one per unit and day, with these aggregates; a row without a time is of no day.
    fn add_unit_days(&mut self, name: &str, columns: &Columns, (fact, time, unit): Place<'a>) {
        let (join, split) = self.exposure(unit);
        let groups = self.unit_groups();
        let time = identifier(time);
        self.ctes.push(format!(
            "{name} as (\n        select\n            cast({time} as date) as metric_date,\n            {} as unit_id{split}{}\n        from {}{join}\n        where {time} is not null\n        group by {groups}\n    )",
            identifier(unit),
            lines(columns.list.iter().map(|(sql, name)| format!("{sql} as {name}"))),
            identifier(fact),
        ));
    }

    /// The join that says whether a unit is in an experiment, and its column.
    fn exposure(&self, unit: &str) -> (String, String) {
        if self.units.is_none() {
            return (String::new(), String::new());
        }
        (
            format!(
                "\n        left join exposed on exposed.exposed_unit_id = {}",
                identifier(unit)
            ),
            ",\n            exposed_unit_id is not null as is_exposed".to_string(),
        )
    }

    /// Of the units with any event on a day, those that came back in the window after it; a day counts once its window closed.
    fn returning(&mut self) {
        let mut by_fact: BTreeMap<Place<'a>, Vec<&'a Metric>> = BTreeMap::new();
        for metric in self.metrics {
            if let Kind::Retention { measure, .. } = &metric.kind {
                by_fact.entry(place(measure)).or_default().push(metric);
            }
        }
        for ((fact, time, unit), metrics) in by_fact {
            self.returning_to((fact, time, unit), &metrics);
        }
    }

    fn returning_to(&mut self, (fact, time, unit): Place<'a>, metrics: &[&'a Metric]) {
        let active = identifier(&format!("{fact}_active_days"));
        let returns = identifier(&format!("{fact}_returns"));
        let days = identifier(&format!("{fact}_returns_by_day"));
        let mut columns = Columns::default();
        let events: Vec<String> = metrics
            .iter()
            .map(|metric| {
                let measure = metric.kind.measures()[0];
                columns.name(&metric.name, "events", unit::aggregate(measure, None))
            })
            .collect();
        self.add_unit_days(&active, &columns, (fact, time, unit));
        let groups = self.unit_groups();
        let windows: Vec<(i64, i64)> = metrics.iter().map(|metric| window_days(metric)).collect();
        let first = windows.iter().map(|(start, _)| *start).min().unwrap_or(0);
        let last = windows.iter().map(|(_, end)| *end).max().unwrap_or(0);
        let counts = metrics.iter().zip(&events).zip(&windows).map(|((metric, events), (start, end))| {
            format!(
                "sum(later.{events}) filter (where later.metric_date >= days.after_{start} and later.metric_date < days.after_{end}) as {}",
                identifier(&format!("{}__value", metric.name))
            )
        });
        let split = match self.units {
            Some(_) => ", days.is_exposed",
            None => "",
        };
        // Once per day of a unit, not per pair of days.
        let after: BTreeSet<i64> = windows
            .iter()
            .flat_map(|(start, end)| [*start, *end])
            .collect();
        let after = after
            .into_iter()
            .map(|days| format!(", metric_date + interval '{days} days' as after_{days}"))
            .collect::<String>();
        self.ctes.push(format!(
            "{returns} as (\n        select\n            days.metric_date,\n            days.unit_id{split}{}\n        from (select *{after} from {active}) as days\n        left join {active} as later\n            on later.unit_id = days.unit_id\n            and later.metric_date >= days.after_{first}\n            and later.metric_date < days.after_{last}\n        where days.unit_id is not null\n        group by {groups}\n    )",
            lines(counts),
        ));
        let sums = metrics.iter().flat_map(|metric| {
            let value = identifier(&format!("{}__value", metric.name));
            [
                format!(
                    "sum({}) as {}",
                    number(metric, "value", &value),
                    identifier(&format!("{}__numerator", metric.name))
                ),
                format!(
                    "cast(count(*) as double) as {}",
                    identifier(&format!("{}__denominator", metric.name))
                ),
            ]
        });
        let (split, groups) = (
            self.split(", "),
            if self.units.is_some() { "1, 2" } else { "1" },
        );
        self.ctes.push(format!(
            "{days} as (\n        select\n            metric_date{split},\n            (select max(cast({} as date)) from {}) as last_date{}\n        from {returns}\n        group by {groups}\n    )",
            identifier(time),
            identifier(fact),
            lines(sums),
        ));
        let rows: Vec<String> = metrics
            .iter()
            .zip(&windows)
            .map(|(metric, (_, end))| {
                let column = |part: &str| identifier(&format!("{}__{part}", metric.name));
                let numerator = match metric.maturity {
                    Maturity::Partial => column("numerator"),
                    // The last day may still go on, so a window that ends with it has not closed.
                    Maturity::FullWindow => format!(
                        "case when metric_date + interval '{end} days' <= last_date then {} end",
                        column("numerator")
                    ),
                };
                row(&metric.name, &numerator, &column("denominator"))
            })
            .collect();
        self.push_rows(&days, &rows);
    }

    /// Different values over several days are not the sum of those of each day. A value counts from a day on which it is seen until the
    /// window has left it behind, or it is seen again, which begins the next span: so spans of a value never overlap, and adding up where
    /// they begin and end counts each value once.
    fn distinct_over_days(&mut self) {
        for metric in self.metrics {
            let Kind::Cumulative { measure, over } = &metric.kind else {
                continue;
            };
            if measure.aggregation != Aggregation::CountDistinct {
                continue;
            }
            let (fact, time) = (identifier(&measure.fact), identifier(&measure.time_column));
            let expression = measure.expression.as_deref().unwrap_or_default();
            let is_known = format!("({expression}) is not null and {time} is not null");
            let condition =
                unit::both(measure.condition.clone(), Some(is_known)).unwrap_or_default();
            let end = match over {
                Over::Days(days) => format!("metric_date + interval '{days} days'"),
                Over::ToDate(grain) => {
                    let length = match *grain {
                        "quarter" => "3 months".to_string(),
                        grain => format!("1 {grain}"),
                    };
                    format!("date_trunc('{grain}', metric_date) + interval '{length}'")
                }
                Over::AllTime => "null".to_string(),
            };
            let (spans, changes) = (
                identifier(&format!("{}__spans", metric.name)),
                identifier(&format!("{}__changes", metric.name)),
            );
            self.ctes.push(format!(
                "{spans} as (\n        select\n            metric_date,\n            least(lead(metric_date) over (partition by value order by metric_date), cast({end} as date)) as until\n        from (select distinct cast({time} as date) as metric_date, {expression} as value from {fact} where {condition}) as seen\n    )"
            ));
            self.ctes.push(format!(
                "{changes} as (\n        select change['date'] as change_date, sum(change['by']) as change\n        from (\n            select unnest(make_array(named_struct('date', metric_date, 'by', 1), named_struct('date', until, 'by', -1))) as change\n            from {spans}\n        ) as both_ends\n        group by 1\n    )"
            ));
            self.sources.push(format!(
                "        select days.metric_date, '{}' as metric_name, cast(coalesce(sum(changes.change), 0) as double) as numerator, 1.0 as denominator\n        from (select distinct cast({time} as date) as metric_date from {fact} where {time} is not null) as days\n        left join {changes} as changes\n            on changes.change_date <= days.metric_date\n        group by days.metric_date",
                metric.name
            ));
        }
    }

    /// Adds the metrics that are expressions over others of the same day, those first that others are made of.
    fn derived(&mut self, from: &'static str) -> &'static str {
        let derived: Vec<(&Metric, &String, &Vec<String>)> = self
            .metrics
            .iter()
            .filter_map(|metric| match &metric.kind {
                Kind::Derived { expression, inputs } => Some((*metric, expression, inputs)),
                _ => None,
            })
            .collect();
        if derived.is_empty() {
            return from;
        }
        let is_derived = |name: &String| derived.iter().any(|(metric, _, _)| metric.name == *name);
        let inputs: BTreeSet<&String> = derived
            .iter()
            .flat_map(|(_, _, inputs)| inputs.iter())
            .filter(|name| !is_derived(name))
            .collect();
        let pivot = inputs.iter().map(|name| {
            format!(
                "max(numerator / nullif(denominator, 0)) filter (where metric_name = '{name}') as {}",
                identifier(name)
            )
        });
        self.ctes.push(format!(
            "by_date as (\n        select\n            metric_date,\n            array_agg(named_struct('metric_name', metric_name, 'numerator', numerator, 'denominator', denominator)) as metrics{}\n        from {from}\n        group by metric_date\n    )",
            lines(pivot)
        ));
        let mut known: BTreeSet<String> = inputs.into_iter().cloned().collect();
        let mut rest = derived.clone();
        let mut last = "by_date".to_string();
        while !rest.is_empty() {
            let (ready, later): (Vec<_>, Vec<_>) = rest
                .into_iter()
                .partition(|(_, _, inputs)| inputs.iter().all(|input| known.contains(input)));
            if ready.is_empty() {
                break;
            }
            let name = format!("derived_{}", self.ctes.len());
            let values = ready.iter().map(|(metric, expression, _)| {
                // Division by zero is no number of a day.
                format!(
                    "case when abs({expression}) <= 1.7976931348623157e308 then {expression} end as {}",
                    identifier(&metric.name)
                )
            });
            self.ctes.push(format!(
                "{name} as (\n        select\n            *{}\n        from {last}\n    )",
                lines(values)
            ));
            known.extend(ready.iter().map(|(metric, _, _)| metric.name.clone()));
            last = name;
            rest = later;
        }
        let rows: Vec<String> = derived
            .iter()
            .map(|(metric, _, _)| row(&metric.name, &identifier(&metric.name), "1.0"))
            .collect();
        self.ctes.push(format!(
            "all_metrics as (\n        select metric_date, metric['metric_name'] as metric_name, metric['numerator'] as numerator, metric['denominator'] as denominator\n        from (\n            select metric_date, unnest(array_concat(metrics, make_array(\n                {}\n            ))) as metric\n            from {last}\n        ) as days\n    )",
            rows.join(",\n                ")
        ));
        "all_metrics"
    }
}

/// Lines of a select list after its first column.
fn lines(columns: impl Iterator<Item = String>) -> String {
    columns
        .map(|column| format!(",\n            {column}"))
        .collect()
}

/// Start and end of a window in whole days, the end rounded up.
fn window_days(metric: &Metric) -> (i64, i64) {
    let start = metric.window.start.seconds / 86_400;
    let end = metric.window.end().map_or(36_500, |end| {
        (end.seconds + 86_399).div_euclid(86_400).max(start + 1)
    });
    (start, end)
}
