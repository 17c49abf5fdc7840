//! Flags in the warehouse: dimensions that keep their versions, and data tests that find every kind of wrong log row.

use chrono::{DateTime, Utc};
use equipoise::compile::load_flags;
use equipoise::flags::{FlagSet, evaluate};
use equipoise::project::{Folder, Options};
use serde_json::json;

use crate::cli::Shop;

const FLAGS: &str = "version: 1
contexts:
  user: {unit: user_id, attributes: {country: string, app_version: semver}}
holdouts:
  - key: h
    unit: user
    salt: h
    buckets: {holdout: [[0, 500]]}
layers:
  - key: page
    unit: user
    salt: layer.page
    slots:
      - {experiment: checkout, ranges: [[0, 6000]]}
flags:
  - key: new_checkout
    type: boolean
    variants: {control: false, test: true}
    default_variant: control
    rules:
      - {id: exp, when: \"country = 'DE' AND app_version >= semver('3.2.0')\", experiment: checkout}
experiments:
  - key: checkout
    layer: page
    holdout: h
    allocations:
      - {id: a1, valid_from: 2026-03-01T00:00:00Z, salt: checkout.1, weights: {control: 1, test: 1}, ramp: [20, 100], every: 2d}
";

fn project() -> Shop {
    let shop = Shop::empty();
    shop.write(
        "project.yml",
        "name: shop\ntarget: dev\ntargets: {dev: {}}\n",
    );
    shop.write("flags/shop.yml", FLAGS);
    shop
}

fn set(shop: &Shop) -> FlagSet {
    let checked = load_flags(&Folder::new(shop.folder.path()), &Options::default());
    assert!(!checked.has_errors(), "{:#?}", checked.diagnostics);
    checked.value.flags
}

/// What the server logs for users at six-hourly instants: `unit_id,experiment_key,variant,assigned_at,sdk,country`.
fn logged(set: &FlagSet) -> Vec<[String; 6]> {
    let start: DateTime<Utc> = "2026-03-01T06:00:00Z".parse().expect("an instant");
    let row = |user: i64| {
        let unit = format!("u{user}");
        let request = json!({"targetingKey": unit, "country": "DE", "app_version": "4.0.0"});
        let context = set
            .schema
            .context(request.as_object().expect("an object"))
            .expect("typed");
        let at = start + chrono::Duration::hours(6 * (user % 16));
        let answer = evaluate(set, "new_checkout", &context, at).expect("the unit is known");
        let variant = answer.assignment?.variant?.to_owned();
        let sdk = if user % 2 == 0 { "web" } else { "ios" };
        let at = at.format("%Y-%m-%d %H:%M:%S").to_string();
        let country = ["DE", "FR"][user as usize % 3 / 2];
        Some([
            unit,
            "checkout".to_owned(),
            variant,
            at,
            sdk.to_owned(),
            country.to_owned(),
        ])
    };
    (0..400).filter_map(row).collect()
}

fn csv(header: &str, rows: &[[String; 6]]) -> String {
    let lines: Vec<String> = rows.iter().map(|row| row.join(",")).collect();
    format!("{header}\n{}\n", lines.join("\n"))
}

fn write_logs(shop: &Shop, assigned: &[[String; 6]], exposed: &[[String; 6]]) {
    let columns = |at: &str| format!("unit_id,experiment_key,variant,{at},sdk,country");
    shop.write(
        "seeds/assigned.csv",
        &csv(&columns("assigned_at"), assigned),
    );
    shop.write("seeds/exposed.csv", &csv(&columns("exposed_at"), exposed));
    shop.write(
        "models/assignments.sql",
        "select * from {{ ref('assigned') }}\n",
    );
    shop.write(
        "models/exposures.sql",
        "select * from {{ ref('exposed') }}\n",
    );
    shop.write(
        "models/logs.yml",
        "models:
  - name: assignments
    data_tests:
      - assignment_mismatch: {name: rederived, sdk: sdk, segment: country}
  - name: exposures
    data_tests:
      - exposure_without_assignment: {name: assigned_before, assignments: ref('assignments'), sdk: sdk, segment: country, tolerance: '1 hour'}
",
    );
}

#[test]
fn every_kind_of_wrong_log_row_is_found_by_day_sdk_and_segment() {
    let shop = project();
    let rows = logged(&set(&shop));
    write_logs(&shop, &rows, &rows);
    let said = shop.good(&["build"]);
    assert!(said.err.contains("2 tests passed"), "{}", said.err);

    let unit = |variant: &str, nth: usize| {
        let found = rows.iter().filter(|row| row[2] == variant).nth(nth);
        found.expect("the log has enough of every variant").clone()
    };
    let with = |row: &[String; 6], place: usize, value: &str| {
        let mut row = row.clone();
        row[place] = value.to_owned();
        row
    };
    let allocated: Vec<&str> = rows.iter().map(|row| &*row[0]).collect();
    let outside = (0..400)
        .map(|user| format!("u{user}"))
        .find(|unit| !allocated.contains(&&**unit));
    let (control, held_out) = (unit("control", 0), unit("__holdout", 0));
    let planted = [
        with(&control, 2, "test"),
        with(&held_out, 2, "control"),
        with(&with(&control, 3, "2026-02-28 23:59:59"), 4, "early"),
        with(
            &with(&control, 0, &outside.expect("some units are outside")),
            4,
            "outside",
        ),
        with(&with(&control, 1, "removed"), 4, "unknown"),
    ];
    let control = unit("control", 1);
    let exposed = [
        with(&with(&control, 2, "test"), 4, "other variant"),
        with(&with(&control, 0, "nobody"), 4, "web"),
        with(&with(&control, 3, "2026-02-28 23:59:59"), 4, "early"),
    ];
    write_logs(
        &shop,
        &[&rows[..], &planted].concat(),
        &[&rows[..], &exposed].concat(),
    );
    let said = shop.run(&["build"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err.contains("the test `rederived` found 5 wrong rows"),
        "{}",
        said.err
    );
    // `seed` and `run` publish without tests, so that the wrong rows can be looked at.
    shop.good(&["seed"]);
    shop.good(&["run"]);
    let show = |test: &str| shop.run(&["show", "--select", test, "--output", "csv"]).out;
    let said: Vec<&str> = said
        .err
        .lines()
        .skip_while(|line| !line.starts_with("error"))
        .filter(|line| !line.contains("failed in"))
        .collect();
    let text = format!(
        "{}\n\n{}\n{}",
        said.join("\n"),
        show("rederived"),
        show("assigned_before")
    );
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../data/flags_cli");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("wrong_logs", text));
}

#[test]
fn dimensions_keep_the_versions_of_a_definition() {
    let shop = project();
    for table in [
        "dim_flags",
        "dim_flag_variants",
        "dim_rules",
        "dim_layers",
        "dim_holdouts",
    ] {
        shop.write(
            &format!("models/{table}.sql"),
            &format!("{{{{ config(materialized='snapshot') }}}}\nselect * from {{{{ flag_definitions('{table}') }}}} as d\n"),
        );
    }
    shop.write(
        "models/dim_allocations.sql",
        "select * from {{ flag_definitions('dim_allocations') }} as d\n",
    );
    shop.good(&["build"]);
    let versions = |table: &str, columns: &str| {
        shop.query(&format!(
            "select {columns}, valid_from = timestamp '1970-01-01T00:00:00' as is_first, valid_to is null as is_open, is_current from {table} order by valid_from, {columns}"
        ))
    };
    assert_eq!(
        versions("dim_flags", "default_variant"),
        ["control,true,true,true"]
    );
    assert_eq!(
        versions("dim_holdouts", "range_end"),
        ["500,true,true,true"]
    );
    assert_eq!(
        shop.query("select allocation_id, valid_from, valid_to, is_current, split from dim_allocations order by 1"),
        [
            "a1.1,2026-03-01T00:00:00,2026-03-03T00:00:00,false,control:0-1000;test:1000-2000",
            "a1.2,2026-03-03T00:00:00,,true,\"control:0-1000,2000-6000;test:1000-2000,6000-10000\"",
        ]
    );
    let said = shop.good(&["build"]);
    assert!(said.err.contains("nothing to do"), "{}", said.err);

    shop.write(
        "flags/shop.yml",
        &FLAGS.replace("default_variant: control", "default_variant: test"),
    );
    shop.good(&["build"]);
    assert_eq!(
        versions("dim_flags", "default_variant"),
        ["control,true,false,false", "test,false,true,true"]
    );
    assert_eq!(
        versions("dim_flag_variants", "variant, is_default"),
        [
            "control,true,true,false,false",
            "test,false,true,false,false",
            "control,false,false,true,true",
            "test,true,false,true,true",
        ]
    );
    assert_eq!(versions("dim_rules", "rule_id"), ["exp,true,true,true"]);

    shop.write("flags/shop.yml", FLAGS);
    shop.good(&["build"]);
    assert_eq!(
        versions("dim_flags", "default_variant"),
        [
            "control,true,false,false",
            "test,false,false,false",
            "control,false,true,true"
        ]
    );
    let gaps = "select count(*) from dim_flags a join dim_flags b on a.valid_to = b.valid_from";
    assert_eq!(
        shop.query(gaps),
        ["2"],
        "one version ends where the next begins"
    );
}

#[test]
fn a_snapshot_gains_columns_and_loses_rows() {
    let shop = project();
    let rows = |columns: &str, rows: &[&str]| {
        shop.write(
            "seeds/plans.csv",
            &format!("{columns}\n{}\n", rows.join("\n")),
        );
    };
    shop.write(
        "models/dim_plans.sql",
        "{{ config(materialized='snapshot') }}\nselect * from {{ ref('plans') }}\n",
    );
    rows("plan,price", &["free,0", "pro,10"]);
    shop.good(&["build"]);
    rows("plan,price,seats", &["pro,10,5"]);
    shop.good(&["build"]);
    assert_eq!(
        shop.query("select plan, price, seats, is_current from dim_plans order by plan"),
        ["free,0,,false", "pro,10,5,true"]
    );
    shop.write("models/dim_plans.sql", "{{ config(materialized='snapshot') }}\nselect plan, true as is_current from {{ ref('plans') }}\n");
    let said = shop.run(&["build"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(
        said.err
            .contains("a snapshot adds `valid_from`, `valid_to` and `is_current`"),
        "{}",
        said.err
    );
}

#[test]
fn templates_derive_assignments_and_select_by_targeting() {
    let shop = project();
    let rows = logged(&set(&shop));
    write_logs(&shop, &rows, &[]);
    shop.write("seeds/exposed.csv", "unit_id,experiment_key,variant,exposed_at,sdk,country\nu,checkout,test,2026-03-02 00:00:00,web,DE\n");
    shop.write("models/logs.yml", "models: []\n");
    shop.write(
        "models/derived.sql",
        "select variant is not distinct from {{ assignment('checkout', 'unit_id', 'assigned_at') }} as is_same from {{ ref('assigned') }}\n",
    );
    shop.write(
        "models/eligible.sql",
        "with requests as (
    select country, semver(version) as app_version from (values ('DE', '3.10.0'), ('DE', '3.1.0'), ('FR', '4.0.0')) as t (country, version)
)
select country, app_version from requests where {{ targeting('new_checkout', 'exp') }}\n",
    );
    shop.good(&["build"]);
    assert_eq!(
        shop.query("select is_same, count(*) from derived group by 1"),
        [format!("true,{}", rows.len())]
    );
    assert_eq!(shop.query("select count(*) from eligible"), ["1"]);
    for (call, expected) in [
        (
            "assignment('chekout', 'unit_id', 'assigned_at')",
            "did you mean `checkout`?",
        ),
        (
            "assignment('checkout', 'unit_id')",
            "`assignment` needs `at`",
        ),
        ("targeting('new_checkout', 'ex')", "did you mean `exp`?"),
        (
            "targeting('new_check', 'exp')",
            "did you mean `new_checkout`?",
        ),
    ] {
        shop.write(
            "models/derived.sql",
            &format!("select {{{{ {call} }}}} as x from {{{{ ref('assigned') }}}}\n"),
        );
        let said = shop.run(&["compile"]);
        assert!(
            said.code == 2 && said.err.contains(expected),
            "{call}: {}",
            said.err
        );
        assert!(
            said.err.contains("--> models/derived.sql:1:"),
            "{}",
            said.err
        );
    }
}
