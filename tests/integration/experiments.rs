//! Small projects with experiments, built by both engines: segments of any name, units that were held out, more than two arms, and
//! folders with odd names.

use super::cli::Shop;
use equipoise::engine::{Engine, EngineOptions};
use equipoise::manifest::identifier;

/// A project with one metric, the revenue of a unit, over the log that the model `stg_assignments` makes of `log`.
fn shop(log: &str, experiment: &str) -> Shop {
    let shop = Shop::empty();
    write(&shop, log, experiment);
    shop
}

fn write(shop: &Shop, log: &str, experiment: &str) {
    shop.write("project.yml", "name: shop\n");
    shop.write("models/stg_assignments.sql", log);
    shop.write(
        "models/fact_orders.sql",
        "select unit_id as \"User\", timestamp '2026-01-06T10:00:00' as \"time\", 'order' as \"order\", unit_id * 1.0 as amount
from (values (1), (2), (3), (4), (5), (6)) as rows(unit_id)\n",
    );
    shop.write(
        "models/fact_orders.yml",
        "models:\n  - name: fact_orders\n    fact: {unit: User, time: time, event: order}\n",
    );
    shop.write(
        "metrics/orders.yml",
        "metrics:\n  - {name: revenue, kind: mean, fact: fact_orders, event: order, agg: sum, expr: amount, fill: zero, maturity: partial, direction: increase, owner: shop, window: {start: 0d, length: 14d}}\n",
    );
    shop.write(
        "experiments/all.yml",
        &format!(
            "experiments:\n  - {{key: only, hypothesis: None., owner: shop, unit: user, period: {{from: 2026-01-05, to: 2026-02-01}}, metrics: {{primary: revenue}}, alpha: 0.05, {experiment}}}\n"
        ),
    );
    let table = "{{ config(materialized='table') }}\nselect * from";
    for (model, rows) in [
        ("units", "{{ experiment_units() }}"),
        (
            "metric_aggregates",
            "{{ metric_aggregates(units=ref('units')) }} as states",
        ),
        ("metric_daily", "{{ metric_daily() }} as days"),
    ] {
        shop.write(&format!("models/{model}.sql"), &format!("{table} {rows}\n"));
    }
}

const ARMS: &str = "variants: {control: 0.5, test: 0.5}";

/// Every word that the parser knows is a column like any other, and so is what no word may be.
#[test]
fn any_name_can_be_a_column() {
    let analyzer = Engine::new(EngineOptions::default())
        .and_then(|engine| engine.analyzer())
        .expect("an engine");
    let words = datafusion::sql::sqlparser::keywords::ALL_KEYWORDS
        .iter()
        .map(|word| word.to_lowercase());
    let odd = [
        "Country",
        "two words",
        "say \"hi\"",
        "it's",
        "größe",
        "1st",
        "a.b",
    ];
    let mut wrong = Vec::new();
    for name in words.chain(odd.map(str::to_string)) {
        let column = identifier(&name);
        // A type that nothing else has here, so that no function of the same name is taken for the column.
        let sql = format!(
            "with rows as (select cast(1.5 as decimal(17, 3)) as {column}, 1 as at_time)
            select {column}, cast({column} as varchar) as as_text, count({column}) filter (where {column} > 1) as n,
                first_value({column} order by at_time, {column}) as {column}_first, coalesce({column}, 0) as filled
            from rows where {column} is not null group by {column}, at_time order by {column}"
        )
        .replace(&format!("{column}_first"), "first_of_all");
        let found = super::runtime().block_on(analyzer.analyze(&sql));
        let is_column = found.is_ok_and(|analyzed| {
            let field = analyzed.schema.field(0);
            *field.name() == name && field.data_type().to_string().contains("17, 3")
        });
        if !is_column {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn segments_have_any_name_in_both_engines() {
    let log = "select 'only' as experiment_key, unit_id, case when unit_id % 2 = 0 then 'control' else 'test' end as variant,
    timestamp '2026-01-05T10:00:00' as assigned_at, 'x' as \"order\", 'DE' as \"Country\", unit_id > 4 as is_bot,
    'it''s' as \"it's\"\"it\", case when unit_id > 2 then 'web' end as \"user\"
from (values (1), (2), (3), (4), (5), (6)) as rows(unit_id)\n";
    let segments = r#"segments: [order, Country, user, is_bot, 'it''s"it']"#;
    let shop = shop(
        log,
        &format!("{ARMS}, assignments: {{model: stg_assignments, exclude: [bot]}}, {segments}"),
    );
    let states = |engine: &str| {
        shop.good(&["run", "--engine", engine]);
        shop.query(
            "select segment_dimension || '|' || segment || '|' || variant || '|' || state['n'] || '|' || state['mean'][1] as line \
             from metric_aggregates order by 1",
        )
    };
    let operator = states("operator");
    insta::assert_snapshot!(operator.join("\n"), @r#"
    Country|DE|control|2|3.0
    Country|DE|test|2|2.0
    all|all|control|2|3.0
    all|all|test|2|2.0
    is_bot|false|control|2|3.0
    is_bot|false|test|2|2.0
    "it's""it|it's|control|2|3.0"
    "it's""it|it's|test|2|2.0"
    order|x|control|2|3.0
    order|x|test|2|2.0
    user|(none)|control|1|2.0
    user|(none)|test|1|1.0
    user|web|control|1|4.0
    user|web|test|1|3.0
    "#);
    assert_eq!(states("sql"), operator);
    assert_eq!(
        shop.query("select metric_name, numerator, denominator from metric_daily"),
        ["revenue,21.0,6.0"]
    );
}

/// A server logs held-out units under a variant of its own, which is no arm and no fault.
#[test]
fn units_that_were_held_out_are_left_out_and_counted() {
    let log = "select 'only' as experiment_key, unit_id, variant, cast(at as timestamp) as assigned_at
from (values
    (1, 'control', '2026-01-05'), (2, 'test', '2026-01-05'), (3, '__holdout', '2026-01-05'), (4, '__holdout', '2026-01-05'),
    -- Out of the holdout later, and into it.
    (4, 'test', '2026-01-07'), (5, 'control', '2026-01-05'), (5, '__holdout', '2026-01-08'), (6, 'test', '2026-01-05')
) as rows(unit_id, variant, at)\n";
    let shop = shop(
        log,
        &format!("{ARMS}, assignments: {{model: stg_assignments, exclude: [crossed_over]}}"),
    );
    shop.write(
        "models/health.sql",
        "{{ config(materialized='table') }}\n{{ experiment_health(units=ref('units')) }}\n",
    );
    shop.good(&["run"]);
    assert_eq!(
        shop.query("select unit_id, n_variants, exclusion from units order by unit_id"),
        ["1,1,", "2,1,", "3,0,holdout", "4,1,holdout", "5,1,", "6,1,"]
    );
    assert_eq!(
        shop.query(
            "select step, units, units_left, crossed_over_units from health order by step_number"
        ),
        ["assigned,6,6,0", "holdout,2,4,0"]
    );
    // Nobody may plan it as an arm.
    shop.write(
        "experiments/all.yml",
        "experiments:\n  - {key: only, hypothesis: None., owner: shop, unit: user, period: {from: 2026-01-05, to: 2026-02-01}, metrics: {primary: revenue}, alpha: 0.05, variants: {control: 0.5, __holdout: 0.5}, assignments: {model: stg_assignments}}\n",
    );
    let said = shop.run(&["compile"]);
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains("`__holdout` is no variant"),
        "{}",
        said.err
    );
}

#[test]
fn a_held_out_unit_makes_no_experiment_invalid() {
    let said = decision(
        "case when unit_id % 10 = 0 then '__holdout' when unit_id % 2 = 0 then 'control' else 'test' end",
        ARMS,
    );
    assert!(
        said.starts_with("NO-SHIP   only  `revenue` did not change"),
        "{said}"
    );
}

#[test]
fn of_three_arms_each_is_named() {
    let arms = "variants: {control: 0.4, big: 0.3, small: 0.3}";
    let said = decision(
        "case unit_id % 10 when 0 then 'control' when 1 then 'control' when 2 then 'control' when 3 then 'control'
        when 4 then 'big' when 5 then 'big' when 6 then 'big' else 'small' end",
        arms,
    );
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("NO-SHIP   only  `big`: `revenue` did not"),
        "{said}"
    );
    assert!(
        lines[1]
            .trim_start()
            .starts_with("`small`: `revenue` did not"),
        "{said}"
    );
}

/// Adds the models from results to decisions; every experiment has ended.
fn judge(shop: &Shop) {
    let table = "{{ config(materialized='table') }}\n";
    for (model, call) in [
        (
            "ratios",
            "sample_ratio_checks(assignments=ref('stg_assignments'), units=ref('units'))",
        ),
        (
            "results",
            "experiment_results(aggregates=ref('metric_aggregates'))",
        ),
        (
            "experiment_decisions",
            "experiment_decisions(experiments=ref('definitions'), units=ref('units'), sample_ratios=ref('ratios'), results=ref('results'))",
        ),
    ] {
        shop.write(
            &format!("models/{model}.sql"),
            &format!("{table}{{{{ {call} }}}}\n"),
        );
    }
    shop.write(
        "models/definitions.sql",
        &format!("{table}select *, true as has_ended from {{{{ experiment_definitions() }}}} as definitions\n"),
    );
}

/// What a person reads at the end of a build with 400 units in such arms.
fn decision(variant: &str, arms: &str) -> String {
    let log = format!(
        "select 'only' as experiment_key, value as unit_id, timestamp '2026-01-05T10:00:00' as assigned_at, {variant} as variant
from (select value, value as unit_id from (select unnest(range(1, 401)) as value) as numbers) as rows\n"
    );
    let shop = shop(
        &log,
        &format!("{arms}, assignments: {{model: stg_assignments, exclude: [crossed_over]}}"),
    );
    shop.write(
        "models/fact_orders.sql",
        "select value as \"User\", timestamp '2026-03-06T10:00:00' as \"time\", 'order' as \"order\", 1.0 as amount from (select unnest(range(1, 401)) as value) as numbers
union all
select value, timestamp '2026-01-06T10:00:00', 'order', value * 7 % 13 from (select unnest(range(1, 401)) as value) as numbers\n",
    );
    judge(&shop);
    shop.good(&["build"]).out.trim().to_string()
}

const REPORTED: &str = "select metric_name, control_units, treatment_units, control_value, treatment_value, effect, status from results order by metric_name";

/// Three units in two arms, whose orders are worth 1, 2 and 3.
#[test]
fn an_arm_without_units_has_no_value_and_one_unit_has_a_ratio() {
    let log = "select 'only' as experiment_key, unit_id, variant, timestamp '2026-01-05T10:00:00' as assigned_at
from (values (1, 'control'), (2, 'test'), (3, 'test')) as rows(unit_id, variant)\n";
    let shop = shop(
        log,
        &format!("{ARMS}, assignments: {{model: stg_assignments}}"),
    );
    let metric = |name: &str, rest: &str| {
        format!(
            "  - {{name: {name}, maturity: partial, direction: increase, owner: shop, window: {{start: 0d, length: 14d}}, {rest}}}\n"
        )
    };
    let ratio = |filter: &str| {
        format!(
            "kind: ratio, numerator: {{fact: fact_orders, agg: sum, expr: amount, filter: '{filter}'}}, denominator: {{fact: fact_orders, agg: count, filter: '{filter}'}}"
        )
    };
    shop.write(
        "metrics/orders.yml",
        &format!(
            "metrics:\n{}{}{}",
            metric(
                "revenue",
                "kind: mean, fact: fact_orders, agg: sum, expr: amount, fill: exclude, filter: amount > 1"
            ),
            metric("each", &ratio("amount > 0")),
            metric("of_more_than_one", &ratio("amount > 1")),
        ),
    );
    shop.write(
        "experiments/all.yml",
        &format!("experiments:\n  - {{key: only, hypothesis: None., owner: shop, period: {{from: 2026-01-05, to: 2026-02-01}}, metrics: {{primary: revenue, secondary: [each, of_more_than_one]}}, {ARMS}, assignments: {{model: stg_assignments}}}}\n"),
    );
    judge(&shop);
    for engine in ["operator", "sql"] {
        shop.good(&["build", "--engine", engine]);
        assert_eq!(
            shop.query(REPORTED),
            [
                "each,1,2,1.0,2.5,1.5,insufficient_data",
                "of_more_than_one,1,2,,2.5,,insufficient_data",
                "revenue,0,2,,2.5,,one_arm_missing",
            ],
            "{engine}"
        );
    }
}

/// 400 units that bought before what they bought after, which leaves a covariate nothing to explain; and one price for each arm, which
/// leaves a ratio no variance.
#[test]
fn what_has_no_variance_is_not_significant() {
    let log = "select 'only' as experiment_key, value as unit_id, timestamp '2026-01-08T10:00:00' as assigned_at, case when value % 2 = 0 then 'control' else 'test' end as variant
from (select unnest(range(1, 401)) as value) as numbers\n";
    let shop = shop(
        log,
        &format!("{ARMS}, assignments: {{model: stg_assignments}}"),
    );
    shop.write(
        "models/fact_orders.sql",
        "select value as \"User\", timestamp '2026-01-06T10:00:00' as \"time\", 'order' as \"order\", value * 7 % 13 / 7.0 as amount, 1 as price
from (select unnest(range(1, 401)) as value) as numbers
union all
select value, timestamp '2026-01-09T10:00:00', 'order', value * 7 % 13 / 7.0, 9.99 + value % 2 from (select unnest(range(1, 401)) as value) as numbers
union all
select value, timestamp '2026-03-09T10:00:00', 'order', 1.0, 9.99 from (select unnest(range(1, 401)) as value) as numbers\n",
    );
    shop.write(
        "metrics/orders.yml",
        "defaults: {fact: fact_orders, maturity: partial, owner: shop, window: {start: 0d, length: 14d}}
metrics:
  - {name: revenue, kind: mean, direction: increase, agg: sum, expr: amount, fill: zero, covariate: {lookback: 7d, before: exposure}}
  - {name: price, kind: ratio, direction: increase, numerator: {agg: sum, expr: cast(price as double) * amount}, denominator: {agg: sum, expr: amount}}\n",
    );
    shop.write(
        "experiments/all.yml",
        &format!("experiments:\n  - {{key: only, hypothesis: None., owner: shop, period: {{from: 2026-01-05, to: 2026-02-01}}, metrics: {{primary: price, secondary: [revenue]}}, {ARMS}, assignments: {{model: stg_assignments}}}}\n"),
    );
    judge(&shop);
    let said = shop.good(&["build"]).out;
    assert!(
        said.contains("REVIEW    only  `price` could not be tested: zero_variance"),
        "{said}"
    );
    assert_eq!(
        shop.query("select metric_name, round(effect, 6), is_adjusted, p_value = raw_p_value, adjusted_p_value from results order by metric_name"),
        ["price,1.0,false,,", "revenue,0.021429,false,true,"]
    );
}

/// Spaces, letters of any language and what a URL escapes: all but `%20`, which Delta Lake cannot read back.
#[test]
fn a_project_lies_in_a_folder_of_any_name() {
    let log = "select 'only' as experiment_key, unit_id, 'test' as variant, timestamp '2026-01-05T10:00:00' as assigned_at
from {{ source('raw', 'units') }}\n";
    let experiment = format!("{ARMS}, assignments: {{model: stg_assignments}}");
    let shop = Shop::empty();
    let inside = |name: &str| {
        let path = shop.folder.path().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    };
    for name in ["größe #1 of? [two] & 'more' 100%", "a%20b"] {
        let project = inside(name);
        let own = Shop::empty();
        write(&own, log, &experiment);
        own.write("data/100% [a] ö#1?.csv", "unit_id\n1\n2\n");
        own.write(
            "models/sub %41 ö#/sources.yml",
            "sources:\n  - name: raw\n    tables:\n      - {name: units, location: 'data/100% *.csv'}\n",
        );
        std::fs::remove_dir(&project).expect("it is empty");
        std::fs::rename(own.folder.path(), &project).expect("on one disk");
        let path = project.to_str().expect("it is UTF-8");
        let built = shop.run(&["build", "--project-dir", path]);
        if name == "a%20b" {
            assert_ne!(built.code, 0);
            assert!(built.err.contains("whose name has a `%`"), "{}", built.err);
            continue;
        }
        assert_eq!(built.code, 0, "{}", built.err);
        let query = "select timestamp '2026-01-01' as at, unit_id from units";
        shop.good(&[
            "facts",
            "append",
            "seen",
            query,
            "--unit",
            "unit_id",
            "--time",
            "at",
            "--id",
            "unit_id",
            "--project-dir",
            path,
        ]);
        let rows = [
            "sql",
            "select count(*) as n from clustered.seen",
            "-o",
            "csv",
            "--project-dir",
            path,
        ];
        assert_eq!(shop.good(&rows).out, "n\n2\n");
    }
}
