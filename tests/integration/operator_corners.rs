//! The operator and plain SQL where random projects seldom come: odd windows and periods, names, types of times, huge units, tables of
//! few rows, several passes. `EQUIPOISE_CASES=1000 EQUIPOISE_FIRST=0 cargo test corners` hunts by hand; what differs is said with its seed.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use equipoise::metrics::planned::planned_aggregates;
use equipoise::metrics::sql::{Use, aggregates};
use equipoise::metrics::{Aggregation, Covariate, Duration, Kind, Maturity, Metric, Window};

use super::operator_corner_metrics::{DAY, any_metric, elsewhere, one_of};
use super::operator_planned::{
    KEYS, Numbers, experiments, measure, metric, put_on_edges, states_of,
};
use super::operator_states::{Data, Random, data, session_within};

const VISITS: &str = "create view visits as
select user_id as visitor, occurred_at + interval '90 minutes' as visited_at, event_name as kind, amount * 2 as price, milliseconds as \"Seconds\"
from events where milliseconds > 500";

/// A project and its data, as SQL over `raw_events` and `raw_assignments`.
struct Corner {
    metrics: Vec<Metric>,
    data: Data,
    events: String,
    assignments: String,
    units: String,
    segments: BTreeMap<String, Vec<String>>,
    complete_through: Option<&'static str>,
    partitions: usize,
    memory_limit: usize,
}

/// The type that a column of times has.
fn time(random: &mut Random, column: &str) -> String {
    let kinds = [
        "Timestamp(Microsecond, None)",
        "Timestamp(Microsecond, None)",
        "Timestamp(Second, None)",
        "Timestamp(Millisecond, None)",
        "Timestamp(Nanosecond, None)",
        "Timestamp(Microsecond, Some(\"UTC\"))",
        "Timestamp(Microsecond, Some(\"+00:00\"))",
        "Date32",
    ];
    format!(
        "arrow_cast({column}, '{}') as {column}",
        one_of(random, &kinds)
    )
}

const NAME: &str = "case milliseconds % 20 when 0 then 'it''s' when 1 then '' when 2 then '1:order' when 3 then null else event_name end";

fn events(random: &mut Random) -> String {
    let name = one_of(
        random,
        &[
            "event_name",
            NAME,
            "arrow_cast(event_name, 'Dictionary(Int32, Utf8)')",
            "arrow_cast(event_name, 'Utf8View')",
        ],
    );
    let rows = one_of(
        random,
        &["true", "true", "true", "true", "false", "event_id = 'e7'"],
    );
    let unit = one_of(
        random,
        &[
            "user_id",
            "user_id",
            "case when milliseconds % 9 = 0 then null else user_id end",
        ],
    );
    let amount = one_of(
        random,
        &[
            "amount",
            "amount",
            "cast(amount as decimal(20, 4))",
            "arrow_cast(amount, 'Float32')",
        ],
    );
    let time = match random.chance(15) {
        true => "case when milliseconds % 11 = 0 then null else occurred_at end as occurred_at"
            .to_owned(),
        false => time(random, "occurred_at"),
    };
    format!(
        "select event_id, {unit} as user_id, {time}, {name} as event_name, {amount} as amount, milliseconds from raw_events where {rows}"
    )
}

fn assignments(random: &mut Random) -> String {
    let rows = one_of(
        random,
        &[
            "true",
            "true",
            "true",
            "true",
            "false",
            "assignment_id = 'a3'",
        ],
    );
    let country = one_of(
        random,
        &[
            "country",
            "coalesce(country, '(none)')",
            "case when country = 'FR' then '(none)' else country end",
            "arrow_cast(country, 'Dictionary(Int8, Utf8)')",
            "length(country)",
            "country = 'DE'",
        ],
    );
    format!(
        "select assignment_id, unit_id, {}, experiment_key, variant, {country} as country, platform from raw_assignments where {rows}",
        time(random, "assigned_at")
    )
}

/// One row per experiment and unit; what is measured may be said by each row.
fn units(random: &mut Random) -> String {
    let starts = one_of(
        random,
        &[
            "timestamp '2026-02-25 06:00:00'",
            "cast(null as timestamp)",
            "min(assigned_at) - interval '3 days'",
            "case when max(platform) = 'web' then timestamp '2026-03-10 00:00:00' else timestamp '2026-03-12 00:00:00' end",
            "timestamp '1990-01-01 00:00:00'",
        ],
    );
    let until = one_of(
        random,
        &[
            "timestamp '2026-04-05 00:00:00'",
            "timestamp '2262-01-01 00:00:00'",
            "cast(null as timestamp)",
            "min(assigned_at) + interval '36 hours'",
            "min(assigned_at) - interval '1 hour'",
            "case when min(platform) = 'web' then timestamp '2026-03-20 12:00:00' end",
        ],
    );
    let unit = one_of(
        random,
        &["unit_id", "unit_id", "nullif(unit_id, 'unit-1') as unit_id"],
    );
    let assigned = one_of(
        random,
        &[
            "min(assigned_at)",
            "min(assigned_at)",
            "case when count(*) < 3 then min(assigned_at) end",
        ],
    );
    let is_analysed = one_of(
        random,
        &[
            "min(variant) <> 'not planned'",
            "count(distinct variant) = 1 and min(variant) <> 'not planned'",
            "case when min(platform) = 'web' then min(variant) <> 'not planned' end",
        ],
    );
    format!(
        "create view units as select experiment_key, {unit}, min(variant) as variant, {assigned} as assigned_at,
            {starts} as period_starts_at, {until} as measured_until, {is_analysed} as is_analysed,
            min(country) as country, min(platform) as \"Platform used\"
        from assignments group by 1, 2"
    )
}

impl Corner {
    fn random(seed: u64) -> Corner {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9).wrapping_add(77));
        let random = &mut random;
        let mut data = data(random, KEYS.len());
        put_on_edges(random, &mut data);
        if random.chance(20) {
            at_one_instant(&mut data);
        }
        if random.chance(10) {
            busy(random, &mut data);
        }
        if random.chance(10) {
            far(random, &mut data);
        }
        let columns = ["country", "Platform used"].map(str::to_owned);
        Corner {
            metrics: (0..5).map(|index| any_metric(random, index)).collect(),
            events: events(random),
            assignments: assignments(random),
            units: units(random),
            data,
            segments: BTreeMap::from([
                (KEYS[0].to_owned(), columns.to_vec()),
                (KEYS[2].to_owned(), columns[1..].to_vec()),
            ]),
            complete_through: one_of(
                random,
                &[
                    None,
                    Some("timestamp '2026-03-28 12:00:00'"),
                    Some("cast(null as timestamp)"),
                    Some("cast('2026-04-01' as date)"),
                ],
            ),
            partitions: 1 + random.below(3) as usize,
            memory_limit: one_of(random, &[usize::MAX, usize::MAX, 48 << 20, 6 << 20]),
        }
    }

    fn uses(&self) -> Vec<Use<'_>> {
        let of = |(index, metric)| Use {
            metric,
            experiments: KEYS[..1 + index % 3]
                .iter()
                .map(|&key| key.to_owned())
                .collect(),
        };
        self.metrics.iter().enumerate().map(of).collect()
    }

    async fn session(&self, memory_limit: usize) -> Result<SessionContext, String> {
        let context = session_within(&self.data, self.partitions, memory_limit);
        equipoise::sql::functions::register(&context);
        for (name, query) in [("events", &self.events), ("assignments", &self.assignments)] {
            let raw = context.deregister_table(name).unwrap().unwrap();
            context.register_table(format!("raw_{name}"), raw).unwrap();
            let sql = format!("create table {name} as {query}");
            run(&context, &sql).await?;
        }
        for sql in [&self.units, VISITS] {
            run(&context, sql).await?;
        }
        Ok(context)
    }

    /// How many states were compared, or what differs.
    fn compare(&self) -> Result<usize, String> {
        let (uses, through) = (self.uses(), self.complete_through);
        let operator = planned_aggregates(&uses, "units", &self.segments, &experiments(), through);
        let oracle = aggregates(&uses, "units", &self.segments, through);
        super::runtime().block_on(async {
            let found = rows(&self.session(self.memory_limit).await?, &operator).await;
            let expected = rows(&self.session(usize::MAX).await?, &oracle).await;
            match (found, expected) {
                (Ok(found), Ok(expected)) => differences(&states_of(&found), &states_of(&expected)),
                (Err(found), Ok(_)) if found.contains("Resources exhausted") => Ok(0),
                (Err(found), Err(_)) => Err(format!("both fail: {found}")),
                (Err(found), _) => Err(format!("the operator fails: {found}")),
                (_, Err(expected)) => Err(format!("plain SQL fails: {expected}")),
            }
        })
    }
}

/// All events and assignments at two instants.
fn at_one_instant(data: &mut Data) {
    let instants = [
        data.assignments[0].at,
        data.assignments[0].at + DAY * 1_000_000,
    ];
    for (number, event) in data.events.iter_mut().enumerate() {
        event.at = instants[number % 2];
    }
    for (number, assignment) in data.assignments.iter_mut().enumerate() {
        assignment.at = instants[number % 2];
    }
}

/// Long ago, or in a time to come.
fn far(random: &mut Random, data: &mut Data) {
    let years = one_of(random, &[-300, -60, 200]);
    let events = data.events.iter_mut().map(|event| &mut event.at);
    let assignments = data
        .assignments
        .iter_mut()
        .map(|assignment| &mut assignment.at);
    events
        .chain(assignments)
        .for_each(|at| *at += years * 365 * DAY * 1_000_000);
}

/// A unit with more events than are counted in the fast way.
fn busy(random: &mut Random, data: &mut Data) {
    let mut events = data.events.clone();
    while events.len() < 5_000 {
        events.extend_from_within(..);
    }
    let unit = data.assignments[0].unit.clone();
    for event in &mut events {
        event.unit.clone_from(&unit);
        event.at += random.below(600) as i64 * 1_000_000;
    }
    data.events.extend(events);
}

async fn rows(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, String> {
    run(context, &format!("select * from {sql} as computed")).await
}

async fn run(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, String> {
    let said = |error: DataFusionError| error.to_string();
    context
        .sql(sql)
        .await
        .map_err(said)?
        .collect()
        .await
        .map_err(said)
}

type States = BTreeMap<Vec<String>, Numbers>;

fn differences(found: &States, expected: &States) -> Result<usize, String> {
    let missing = expected.keys().find(|place| !found.contains_key(*place));
    if let Some(place) = missing {
        return Err(format!("{place:?} is missing"));
    }
    for (place, state) in found {
        let Some(oracle) = expected.get(place) else {
            return Err(format!("{place:?} is too much"));
        };
        let is_close = |found: &[f64], expected: &[f64], relative: f64| {
            let largest = expected
                .iter()
                .fold(0.0_f64, |most, number| most.max(number.abs()));
            let pairs = found.iter().zip(expected);
            found.len() == expected.len()
                && pairs.into_iter().all(|(found, expected)| {
                    found.to_bits() == expected.to_bits()
                        || (found - expected).abs() <= relative * expected.abs().max(largest * 1e-3)
                })
        };
        if state.counts != oracle.counts
            || !is_close(&state.close, &oracle.close, 1e-15)
            || !is_close(&state.products, &oracle.products, 1e-12)
        {
            return Err(format!("{place:?}: {state:?} is not {oracle:?}"));
        }
    }
    Ok(found.len())
}

const UNITS: &str = "create view units as select experiment_key, unit_id, min(variant) as variant, min(assigned_at) as assigned_at,
        timestamp '2026-02-25 06:00:00' as period_starts_at, timestamp '2026-04-05 00:00:00' as measured_until,
        min(variant) <> 'not planned' as is_analysed, min(country) as country, min(platform) as \"Platform used\"
    from assignments group by 1, 2";

/// Who is assigned on a day is assigned when it begins, and windows end at their hour all the same.
#[test]
fn windows_of_hours_begin_with_the_day_of_an_assignment() {
    let mut corner = Corner::random(2);
    let mut random = Random(2);
    corner.metrics = (0..4)
        .map(|index| Metric {
            kind: Kind::Mean(measure(Aggregation::Count, None, None)),
            window: Window {
                start: Duration { seconds: 5_400 },
                length: Some(Duration {
                    seconds: 25 * 3_600,
                }),
                calendar: None,
            },
            covariate: Some(Covariate {
                lookback: Duration { seconds: 7 * 3_600 },
                before_period: index % 2 == 0,
            }),
            ..metric(&mut random, index)
        })
        .collect();
    corner.events = "select * from raw_events".to_owned();
    corner.assignments = "select unit_id, cast(assigned_at as date) as assigned_at, experiment_key, variant, country, platform
        from raw_assignments"
        .to_owned();
    corner.units = UNITS.replace("timestamp '2026-02-25 06:00:00'", "date '2026-03-05'");
    let compared = corner.compare();
    assert!(
        compared.as_ref().is_ok_and(|states| *states > 20),
        "{compared:?}"
    );
}

/// Facts are told apart by a number before the names of their events, and an event without a name by none.
#[test]
fn an_event_is_known_by_its_own_name_whatever_that_is() {
    let counted = |event: &str| measure(Aggregation::Count, None, Some(event));
    let mut corner = Corner::random(1);
    let mut random = Random(1);
    let kinds = [
        counted("event_name = '1:order'"),
        counted("event_name = ''"),
        elsewhere(counted("event_name = 'order'")),
        elsewhere(counted("event_name = '1:order'")),
    ];
    corner.metrics = (0..kinds.len())
        .map(|index| Metric {
            kind: Kind::Mean(kinds[index].clone()),
            ..metric(&mut random, index)
        })
        .collect();
    corner.events = format!(
        "select user_id, occurred_at, {NAME} as event_name, amount, milliseconds from raw_events"
    );
    corner.assignments = "select * from raw_assignments".to_owned();
    corner.units = UNITS.to_owned();
    let compared = corner.compare();
    assert!(
        compared.as_ref().is_ok_and(|states| *states > 20),
        "{compared:?}"
    );
}

impl Corner {
    /// The operator's rows of the metrics whose names begin so, as text, in no order.
    fn texts(&self, name: &str) -> Vec<String> {
        let sql = planned_aggregates(
            &self.uses(),
            "units",
            &self.segments,
            &experiments(),
            self.complete_through,
        );
        let found = super::runtime()
            .block_on(async { rows(&self.session(self.memory_limit).await.unwrap(), &sql).await });
        let text = pretty_format_batches(&found.unwrap()).unwrap().to_string();
        let cells = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut texts: Vec<String> = text
            .lines()
            .filter(|line| line.contains(&format!(" {name}")))
            .map(cells)
            .collect();
        texts.sort();
        texts
    }
}

/// Neither the order of rows, nor their number of partitions, nor what is asked beside changes a byte.
#[test]
fn what_does_not_matter_changes_no_byte_of_any_kind_of_metric() {
    let first = number("EQUIPOISE_FIRST", 0);
    for seed in first..first + number("EQUIPOISE_CASES", 8) {
        let mut corner = Corner::random(seed);
        corner.memory_limit = usize::MAX;
        let base = corner.texts("metric_");
        corner.data.events.reverse();
        corner.data.assignments.reverse();
        corner.partitions = 5 - corner.partitions;
        assert!(corner.texts("metric_") == base, "order, seed {seed}");
        // Full windows of another fact would end all data earlier.
        let mut random = Random(seed);
        let more = (0..4).map(|index| Metric {
            name: format!("more_{index}"),
            maturity: Maturity::Partial,
            ..any_metric(&mut random, index)
        });
        corner.metrics.extend(more);
        corner.segments = KEYS
            .iter()
            .map(|key| {
                (
                    (*key).to_owned(),
                    vec!["country".to_owned(), "Platform used".to_owned()],
                )
            })
            .collect();
        let all = corner.texts("metric_");
        let missing = base.iter().find(|text| all.binary_search(text).is_err());
        assert!(missing.is_none(), "more metrics, seed {seed}: {missing:?}");
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn corners_of_projects_and_data_have_the_states_of_plain_sql() {
    let first = number("EQUIPOISE_FIRST", 0);
    let (mut compared, mut differing) = (0, Vec::new());
    for seed in first..first + number("EQUIPOISE_CASES", 12) {
        let corner = Corner::random(seed);
        match corner.compare() {
            Ok(states) => compared += states,
            Err(difference) => {
                println!(
                    "{seed}: {difference}\n{}\n{}\n{}",
                    corner.events, corner.assignments, corner.units
                );
                for metric in &corner.metrics {
                    if difference.contains(&format!("\"{}\"", metric.name)) {
                        println!("{metric:?}");
                    }
                }
                differing.push(seed);
            }
        }
    }
    assert!(differing.is_empty(), "these cases differ: {differing:?}");
    assert!(compared > 50, "only {compared} states were compared");
}
