//! One truth: metrics derived again by hand are found in models, and honest models are left alone.

use equipoise::contracts::{Meaning, Plan, duplicates, near_duplicates, rederivations};
use equipoise::sql::canonical::{self, Canonical, Measure, measures};
use serde_json::json;

use super::drift_project::Project;

fn base() -> Project {
    Project::base(&serde_json::from_str(include_str!("drift_base.json")).expect("JSON"))
}

fn canonical(sql: &str) -> Canonical {
    let project = base().overlaid(&json!({"metric": sql}));
    canonical::canonicalise(&project.queries().metric.inlined, &project.catalog())
}

fn measured(sql: &str) -> Vec<Measure> {
    measures(&canonical(sql), &base().catalog())
}

/// Name, aggregate, condition.
const METRICS: [(&str, &str, &str); 6] = [
    (
        "net_revenue",
        "SUM(amount_cents - tax_cents)",
        "status = 'paid'",
    ),
    ("paid_orders", "COUNT(order_id)", "status = 'paid'"),
    ("largest_order", "MAX(amount_cents)", "amount_cents > 0"),
    ("buyers", "COUNT(DISTINCT user_id)", "status = 'paid'"),
    ("mean_order", "AVG(amount_cents)", "status = 'paid'"),
    ("tax", "SUM(tax_cents)", "currency = 'EUR'"),
];

/// Columns of the fact, at whose grain distinct values are counted, as the lint of a project does.
const COLUMNS: [&str; 8] = [
    "order_id",
    "user_id",
    "created_at",
    "amount_cents",
    "tax_cents",
    "currency",
    "status",
    "country",
];

fn metrics() -> Vec<(String, Measure)> {
    let mut found: Vec<(String, Measure)> = vec![];
    for (name, aggregate, condition) in METRICS {
        let rows = format!("FROM fct_orders WHERE {condition}");
        let mut ways = vec![format!("SELECT {aggregate} AS value {rows}")];
        if aggregate.contains("DISTINCT") {
            ways.extend(COLUMNS.map(|column| {
                format!("SELECT {column} AS grain, {aggregate} AS value {rows} GROUP BY {column}")
            }));
        }
        let measures = ways.iter().map(|sql| measured(sql).into_iter().next());
        found.extend(measures.map(|one| (name.to_string(), one.expect("a metric is a measure"))));
    }
    found
}

/// Six ways to write each of six metrics by hand.
fn planted() -> Vec<(String, String)> {
    let mut planted = vec![];
    for (name, aggregate, condition) in METRICS {
        let ways = [
            format!(
                "SELECT plan, {aggregate} AS x FROM fct_orders WHERE {condition} GROUP BY plan"
            ),
            format!(
                "SELECT CAST(date_trunc('day', created_at) AS DATE) AS day, {aggregate} AS x FROM fct_orders WHERE {condition} GROUP BY 1"
            ),
            format!(
                "WITH kept AS (SELECT * FROM fct_orders WHERE {condition}) SELECT user_id, COALESCE({aggregate}, 0) AS x FROM kept GROUP BY user_id"
            ),
            format!(
                "SELECT country, COUNT(*) AS n, {aggregate} FILTER (WHERE {condition}) AS x FROM fct_orders GROUP BY country"
            ),
            format!(
                "SELECT t.plan, {aggregate} AS x FROM (SELECT o.*, u.plan FROM stg_orders o JOIN stg_users u ON u.user_id = o.user_id) t WHERE {condition} GROUP BY t.plan"
            ),
            format!(
                "SELECT currency, CAST({aggregate} AS DOUBLE) / 100 AS x FROM fct_orders WHERE {condition} AND plan = 'pro' GROUP BY currency"
            ),
        ];
        planted.extend(
            ways.into_iter()
                .enumerate()
                .map(|(way, sql)| (format!("{name}_{way}"), sql)),
        );
    }
    planted
}

/// A hundred models that compute other things from the same tables.
fn honest() -> Vec<(String, String)> {
    let statuses = ["refunded", "open", "late", "lost", "held"];
    let templates = [
        "SELECT plan, SUM(amount_cents - tax_cents) AS x FROM fct_orders WHERE status = '{s}' GROUP BY plan",
        "SELECT user_id, COUNT(*) AS x FROM stg_events WHERE event_name = '{s}' GROUP BY user_id",
        "SELECT user_id, MIN(created_at) AS x FROM fct_orders WHERE status = '{s}' GROUP BY user_id",
        "SELECT platform, SUM(value) AS x FROM stg_events WHERE event_name = '{s}' GROUP BY platform",
        "SELECT user_id, amount_cents, status FROM fct_orders WHERE status = '{s}'",
        "SELECT order_id, SUM(refund_cents) AS x FROM raw_refunds WHERE refund_cents > {n} GROUP BY order_id",
        "SELECT plan, COUNT(DISTINCT device_id) AS x FROM fct_orders WHERE status = '{s}' GROUP BY plan",
        "SELECT country, AVG(tax_cents) AS x FROM fct_orders WHERE tax_cents > {n} GROUP BY country",
        "SELECT plan, COUNT(*) AS x FROM stg_users WHERE country = '{s}' GROUP BY plan",
        "SELECT currency, MAX(tax_cents) AS x FROM fct_orders WHERE tax_cents < {n} GROUP BY currency",
        "SELECT variant, COUNT(*) AS x FROM raw_exposures GROUP BY variant",
        "SELECT DISTINCT user_id, plan FROM fct_orders WHERE plan = '{s}'",
        "SELECT user_id, SUM(amount_cents * tax_cents) AS x FROM fct_orders WHERE status = '{s}' GROUP BY user_id",
        "SELECT user_id, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY created_at) AS x FROM fct_orders WHERE status = '{s}'",
        "SELECT user_id, SUM(amount_cents - tax_cents) AS x FROM stg_orders WHERE status = 'paid' AND amount_cents > {n} GROUP BY user_id",
        "SELECT plan, MIN(amount_cents) AS x FROM fct_orders WHERE status = 'paid' AND amount_cents > {n} GROUP BY plan",
        "SELECT status, SUM(order_id) AS x FROM fct_orders WHERE currency = '{s}' GROUP BY status",
        "SELECT o.user_id, COUNT(r.refund_id) AS x FROM stg_orders o LEFT JOIN raw_refunds r ON r.order_id = o.order_id WHERE o.status = '{s}' GROUP BY o.user_id",
        "SELECT event_name, COUNT(DISTINCT user_id) AS x FROM stg_events WHERE value > {n} GROUP BY event_name",
        "SELECT signup_at, COUNT(*) AS x FROM stg_users WHERE plan = '{s}' GROUP BY signup_at",
    ];
    let fill = |template: &str, place: usize| {
        template
            .replace("{s}", statuses[place])
            .replace("{n}", &(place * 7).to_string())
    };
    let models = templates.iter().enumerate().flat_map(|(index, template)| {
        (0..5).map(move |place| (format!("honest_{index}_{place}"), fill(template, place)))
    });
    models.collect()
}

#[test]
fn drift_lints_find_metrics_derived_by_hand() {
    let metrics = metrics();
    let measured = |models: Vec<(String, String)>| -> Vec<(String, Vec<Measure>)> {
        models
            .into_iter()
            .map(|(name, sql)| (name, measured(&sql)))
            .collect()
    };
    let planted = measured(planted());
    let found = rederivations(&metrics, &planted);
    let missed: Vec<&String> = planted
        .iter()
        .map(|(name, _)| name)
        .filter(|name| !found.iter().any(|known| known.model == **name))
        .collect();
    let honest = measured(honest());
    let alarms: Vec<String> = rederivations(&metrics, &honest)
        .iter()
        .map(|known| format!("{} as {}", known.model, known.metric))
        .collect();
    println!(
        "hand-derived: {} of {} found, {} false of {} models",
        planted.len() - missed.len(),
        planted.len(),
        alarms.len(),
        honest.len()
    );
    // A count under one more condition counts something else.
    assert_eq!(missed, ["paid_orders_5"]);
    assert!(alarms.len() <= 1, "false alarms {alarms:?}");
}

#[test]
fn drift_lints_report_duplicates_and_the_filter_that_near_ones_differ_in() {
    let meaning = |name: &str, sql: &str| Meaning {
        name: name.into(),
        plan: Plan::of(&[canonical(sql)], vec![]),
        ..Meaning::default()
    };
    let one = meaning(
        "orders",
        "SELECT user_id AS unit, COUNT(*) AS value FROM fct_orders GROUP BY user_id",
    );
    let other = meaning(
        "purchases",
        "SELECT user_id AS unit, COUNT(order_id) AS value FROM fct_orders GROUP BY 1",
    );
    let found = duplicates(&[&one, &other]);
    assert_eq!(
        (found[0].first.as_str(), found[0].second.as_str()),
        ("orders", "purchases")
    );
    let mut aliased = other.clone();
    aliased.fields.insert("alias_of".into(), "orders".into());
    assert!(duplicates(&[&one, &aliased]).is_empty());

    let measure = |sql: &str| measured(sql).remove(0);
    let near = near_duplicates(&[
        (
            "revenue".into(),
            measure("SELECT SUM(amount_cents) AS value FROM fct_orders WHERE status = 'paid'"),
        ),
        (
            "gross".into(),
            measure("SELECT SUM(amount_cents) AS value FROM fct_orders"),
        ),
    ]);
    assert_eq!(
        near[0].only_first.iter().collect::<Vec<_>>().len(),
        1,
        "{near:?}"
    );
    assert!(
        near[0]
            .only_first
            .iter()
            .any(|filter| filter.contains("'paid'")),
        "{near:?}"
    );
}
